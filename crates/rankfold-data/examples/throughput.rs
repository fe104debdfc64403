//! Prints how many images per second the batches of a data set deliver, without and with
//! augmentation, best of three passes.
//!
//! `cargo run --release -p rankfold-data --example throughput -- cifar10:DIR train [WORKERS]`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use rankfold_data::{
    Augment, DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (spec, split, workers) = match arguments.as_slice() {
        [spec, split] => (spec, split, 0),
        [spec, split, workers] => (spec, split, workers.parse()?),
        _ => return Err("usage: throughput KIND:PATH SPLIT [WORKERS]".into()),
    };
    let (spec, split): (DataSpec, Split) = (spec.parse()?, split.parse()?);
    let data = Dataset::open(&spec, &split, ImageSize::default())?;
    for (name, batch_size, augment) in [
        ("in order", 256, Augment::NONE),
        ("shuffled, flip, padded crop", 128, Augment::CIFAR),
        ("shuffled, flip, resized crop", 128, Augment::IMAGENET),
    ] {
        let shuffle = !augment.is_none();
        let options = LoaderOptions {
            workers,
            shuffle,
            augment,
            ..LoaderOptions::evaluate(batch_size, Normalization::unit())
        };
        let loader = Loader::new(data.clone(), options)?;
        let mut best = f64::INFINITY;
        for epoch in 0..3 {
            let began = Instant::now();
            for batch in loader.epoch(epoch, 0)? {
                std::hint::black_box(batch?);
            }
            best = best.min(began.elapsed().as_secs_f64());
        }
        println!("{name:30} {:>10.0} images/s", data.len() as f64 / best);
    }
    Ok(())
}
