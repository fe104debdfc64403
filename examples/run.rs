//! Runs a network of the zoo on libtorch, in both ways that images can lie in memory, and times both.
//!
//! `cargo run --example run [-- NETWORK]`

#![allow(clippy::print_stdout)]

use std::error::Error;

use rankfold_compress::Repeat;
use rankfold_torch::{DeviceChoice, Executor, Layout, Options, bench, random_inputs};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1);
    let name = name.as_deref().unwrap_or("resnet20");
    let graph = rankfold_zoo::build(name, &rankfold_zoo::Options::default())?;
    let device = DeviceChoice::Auto.resolve()?;
    let with = |layout| {
        let options = Options {
            device,
            layout,
            ..Options::default()
        };
        Executor::new(&graph, options)
    };
    let models = [with(Layout::Nchw)?, with(Layout::Nhwc)?];
    let inputs = random_inputs(&models[0], 1, 0)?;
    let outputs = models[0].run(&inputs)?;
    println!("{name} on {device}: output {:?}", outputs[0].size());
    let repeat = Repeat {
        samples: 5,
        ..Repeat::default()
    };
    let timings = bench(&[&models[0], &models[1]], &inputs, repeat)?;
    for (layout, timing) in ["channel after channel", "channels last"]
        .iter()
        .zip(timings)
    {
        println!("{layout}: {:.2} ms", 1e3 * timing.median());
    }
    Ok(())
}
