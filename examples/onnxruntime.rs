//! Times a network of the zoo on ONNX Runtime, opened from where it lies.
//!
//! `cargo run --example onnxruntime -- LIBRARY [NETWORK]`, where LIBRARY is a libonnxruntime.so, as in the
//! folder onnxruntime/capi of the Python package.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use rankfold_compress::{Engine, Repeat};
use rankfold_onnxruntime::{Library, OnnxRuntime};
use rankfold_zoo::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let library = arguments.next().map(PathBuf::from);
    let library = library.ok_or("usage: onnxruntime LIBRARY [NETWORK]")?;
    let name = arguments.next().unwrap_or_else(|| "resnet20".into());
    let name = name.to_string_lossy();
    let graph = rankfold_zoo::build(&name, &Options::default())?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let library = Library::open(&library, threads)?;
    println!(
        "ONNX Runtime {}",
        library.version().unwrap_or("of unknown version")
    );
    let engine = OnnxRuntime {
        library,
        batch: 1,
        scratch: std::env::temp_dir(),
    };
    let timings = engine.time(&[(&graph, "own")], Repeat::default())?;
    for timing in timings {
        println!("{name}: {:.2} ms", 1e3 * timing.median());
    }
    Ok(())
}
