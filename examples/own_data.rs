//! Trains, compresses and fine-tunes a network on data of one's own, given as a file of tensors.
//!
//! The data are small images of stripes that lie, stand or lean; the network is LeNet-5. The compressed
//! network learns from the original's answers, without labels.
//!
//! `cargo run --example own_data`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use rankfold_compress::{Budget, NoStore, Request, Statistics, apply, plan};
use rankfold_data::{
    Augment, DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split,
};
use rankfold_decompose::Control;
use rankfold_finetune::{Event, Length, Recipe, Task, train};
use rankfold_formats::{SaveOptions, StateDict, write_safetensors};
use rankfold_graph::{Graph, Tensor};
use rankfold_torch::{Executor, evaluate};
use rankfold_zoo::{Options, build};

const SIDE: usize = 28;
const CLASSES: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stripes.safetensors");
    let untrained = build(
        "lenet5",
        &Options {
            num_classes: Some(CLASSES),
            ..Options::default()
        },
    )?;
    let input = untrained.value(untrained.inputs()[0]).name.clone();
    write_stripes(&file, &input, 1200)?;
    let data = |split: &str| -> Result<Dataset> {
        let split: Split = split.parse()?;
        Ok(Dataset::open(
            &DataSpec::Tensors(file.clone()),
            &split,
            ImageSize::default(),
        )?)
    };
    let order = LoaderOptions::train(32, Normalization::unit(), Augment::NONE, 0);
    let lessons = Loader::new(data("train[:1000]")?, order)?;
    let as_stored = LoaderOptions::evaluate(100, Normalization::unit());
    let exam = Loader::new(data("train[1000:]")?, as_stored)?;

    let labels = Recipe {
        length: Length::Epochs(2),
        label_weight: 1.0,
        mixed: 0.0,
        warm_up: 10,
        ..Recipe::default()
    };
    let original = learn(&untrained, None, &lessons, &labels)?;

    let request = Request::new(Budget::UniformRank {
        conv: Some(2),
        fc: Some(3),
    });
    let planned = plan(
        &original,
        &request,
        &Statistics::new(),
        Control::default(),
        &|_| {},
    )?;
    let (compressed, _) = apply(
        &original,
        &planned.plan,
        &Statistics::new(),
        &NoStore,
        Control::default(),
        &|_| {},
    )?;

    let answers = Recipe {
        length: Length::Epochs(1),
        mixed: 0.0,
        warm_up: 10,
        ..Recipe::default()
    };
    let recovered = learn(&compressed, Some(&original), &lessons, &answers)?;

    for (name, graph) in [
        ("untrained", &untrained),
        ("trained", &original),
        ("compressed", &compressed),
        ("fine-tuned", &recovered),
    ] {
        let executor = Executor::new(graph, Default::default())?;
        let metrics = evaluate(&executor, exam.epoch(0, 0)?, |_| ControlFlow::Continue(()))?;
        let numbers: usize = graph.weights().iter().map(|(_, tensor)| tensor.len()).sum();
        println!(
            "{name:12} {numbers:6} weights, {:5.1} % right",
            metrics.top1
        );
    }
    Ok(())
}

/// A network after training; from a teacher where there is one.
fn learn(
    student: &Graph,
    teacher: Option<&Graph>,
    lessons: &Loader,
    recipe: &Recipe,
) -> Result<Graph> {
    let task = Task {
        student,
        teacher,
        lessons,
        exam: None,
        recipe,
        pace: &|_| Some(1.0),
    };
    let trained = train(&task, None, &mut |event| {
        if let Event::Epoch(epoch) = event
            && epoch.epoch > 0
        {
            println!("epoch {}: loss {:.3}", epoch.epoch, epoch.loss);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(trained.last)
}

/// Writes images named after the network's input, and their labels: all that a file of tensors needs.
fn write_stripes(path: &Path, input: &str, count: usize) -> Result<()> {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE);
    let mut labels = Vec::with_capacity(count);
    for image in 0..count {
        let class = image % CLASSES;
        let (shift, width) = (6.3 * uniform(), 0.6 + 0.6 * uniform());
        for place in 0..SIDE * SIDE {
            let (row, column) = ((place / SIDE) as f32, (place % SIDE) as f32);
            let along = [row, column, 0.7 * (row + column)][class];
            pixels.push((along * width + shift).sin() + 2.0 * (uniform() - 0.5));
        }
        labels.push(class as i64);
    }
    let mut tensors = StateDict::new();
    let images = Tensor::from_f32(vec![count, 1, SIDE, SIDE], pixels)?;
    tensors.insert(input.to_owned(), images)?;
    tensors.insert("labels".to_owned(), Tensor::from_i64(vec![count], labels)?)?;
    write_safetensors(path, &tensors, &SaveOptions::default())?;
    Ok(())
}
