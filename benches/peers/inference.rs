//! A zoo network's forward pass, timed on demand: what eager PyTorch is compared with.
//!
//! `inference-peer NETWORK WEIGHTS INPUTS LAYOUT THREADS` reads the weights and the inputs from
//! safetensors, then answers every line on standard input, a number of runs, with the seconds of one.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use rankfold_formats::read_weights;
use rankfold_torch::{Executor, Layout, Options, keep_freed_memory, set_threads, to_torch};

fn main() -> Result<(), Box<dyn Error>> {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, weights, inputs, layout, threads] = arguments.as_slice() else {
        return Err("usage: inference-peer NETWORK WEIGHTS INPUTS LAYOUT THREADS".into());
    };
    let layout = match layout.as_str() {
        "nchw" => Layout::Nchw,
        "nhwc" => Layout::Nhwc,
        other => return Err(format!("expected nchw or nhwc, found {other}").into()),
    };
    set_threads(threads.parse()?);
    let weights = read_weights(Path::new(weights))?
        .tensors
        .into_iter()
        .map(|(name, tensor)| (name.into(), tensor))
        .collect();
    let graph = rankfold_zoo::load(network, &weights, &rankfold_zoo::Options::default())?;
    let executor = Executor::new(
        &graph,
        Options {
            layout,
            ..Options::default()
        },
    )?;
    let inputs = read_weights(Path::new(inputs))?
        .tensors
        .into_iter()
        .map(|(_, tensor)| to_torch(&tensor))
        .collect::<Result<Vec<_>, _>>()?;
    for line in stdin().lock().lines() {
        let runs: u32 = line?.trim().parse()?;
        let begin = Instant::now();
        for _ in 0..runs {
            std::hint::black_box(executor.run(&inputs)?);
        }
        println!("{}", begin.elapsed().as_secs_f64() / f64::from(runs.max(1)));
        stdout().flush()?;
    }
    Ok(())
}
