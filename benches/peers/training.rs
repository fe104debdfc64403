//! Steps of training on CIFAR-10, timed on demand: what eager PyTorch is compared with.
//!
//! `training-peer MODEL DATA DTYPE THREADS` trains a resnet20 checkpoint, or a model that describes
//! itself, in batches of 128 flipped and cropped images by stochastic gradient descent. It answers every
//! line on standard input, a number of steps, with the seconds of one.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use rankfold_data::{Augment, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split};
use rankfold_finetune::{Event, FinetuneError, Length, Method, Recipe, Task, train};
use rankfold_formats::{described_model, read_weights};
use rankfold_graph::{DType, Graph};
use rankfold_torch::{keep_freed_memory, set_threads};

fn main() -> Result<(), Box<dyn Error>> {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, dtype, threads] = arguments.as_slice() else {
        return Err("usage: training-peer MODEL DATA DTYPE THREADS".into());
    };
    let dtype = match dtype.as_str() {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        other => return Err(format!("expected f32 or bf16, found {other}").into()),
    };
    set_threads(threads.parse()?);
    let graph = model_at(Path::new(model))?;
    let spec = format!("cifar10:{data}").parse()?;
    let images = Dataset::open(&spec, &Split::TRAIN, ImageSize::default())?;
    let own = graph
        .meta()
        .normalization
        .clone()
        .ok_or("no normalisation")?;
    let normalization = Normalization::new(own.mean, own.std)?;
    let options = LoaderOptions {
        drop_last: true,
        ..LoaderOptions::train(128, normalization, Augment::CIFAR, 0)
    };
    let lessons = Loader::new(images, options)?;
    let recipe = Recipe {
        length: Length::Epochs(1000),
        method: Method::SGD,
        rate: 1e-3,
        decay: 5e-4,
        warm_up: 0,
        clip: None,
        dtype,
        ..Recipe::labels()
    };
    let task = Task {
        student: &graph,
        teacher: None,
        lessons: &lessons,
        exam: None,
        recipe: &recipe,
        pace: &|_| Some(1.0),
    };
    let mut lines = stdin().lock().lines();
    let mut wanted = next(&mut lines)?;
    let (mut done, mut begin) = (0, Instant::now());
    let trained = train(&task, None, &mut |event| {
        let Event::Step(_) = event else {
            return Ok(ControlFlow::Continue(()));
        };
        done += 1;
        if done < wanted {
            return Ok(ControlFlow::Continue(()));
        }
        println!("{}", begin.elapsed().as_secs_f64() / f64::from(done));
        let flushed = stdout().flush();
        let next = next(&mut lines).unwrap_or(0);
        if flushed.is_err() || next == 0 {
            return Ok(ControlFlow::Break(()));
        }
        (done, wanted, begin) = (0, next, Instant::now());
        Ok(ControlFlow::Continue(()))
    });
    match trained {
        Ok(_) | Err(FinetuneError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The number in the next line; 0 where there is none.
fn next(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Result<u32, Box<dyn Error>> {
    match lines.next() {
        Some(line) => Ok(line?.trim().parse()?),
        None => Ok(0),
    }
}

fn model_at(path: &Path) -> Result<Graph, Box<dyn Error>> {
    let checkpoint = read_weights(path)?;
    if let Some(model) = described_model(path, &checkpoint)? {
        return Ok(model.graph);
    }
    let weights = checkpoint.tensors.into_iter();
    let weights = weights
        .map(|(name, tensor)| (name.into(), tensor))
        .collect();
    Ok(rankfold_zoo::load(
        "resnet20",
        &weights,
        &rankfold_zoo::Options::default(),
    )?)
}
