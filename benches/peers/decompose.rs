//! One decomposition of an array on disk, timed: what the Python peers are compared with.
//!
//! `decompose-peer ALGORITHM FILE.npy [key=value …]` prints one JSON object with the seconds that
//! the decomposition took, the array being in memory, and the relative error that it certifies.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

use ndarray::{Array2, Array4};
use rankfold_decompose::cp::{Als, CpMethod, CpOptions, Start, cp};
use rankfold_decompose::{Control, SvdOptions, Truncation, svd};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let algorithm = args.next().ok_or("expected an algorithm: svd, cp-als")?;
    let file = args.next().ok_or("expected an .npy file")?;
    let mut settings = HashMap::new();
    for arg in args {
        let (key, value) = arg
            .split_once('=')
            .ok_or("expected settings as key=value")?;
        settings.insert(key.to_owned(), value.to_owned());
    }
    let number = |key: &str, default: usize| -> Result<usize, Box<dyn Error>> {
        Ok(settings
            .get(key)
            .map(|v| v.parse())
            .transpose()?
            .unwrap_or(default))
    };
    let rank = number("rank", 1)?;
    let control = Control::default();
    let result = match algorithm.as_str() {
        "svd" => {
            let matrix: Array2<f32> = ndarray_npy::read_npy(&file)?;
            let begin = Instant::now();
            let truncation = Truncation::rank(rank)?;
            let result = svd(matrix.view(), truncation, &SvdOptions::default(), control)?;
            json!({ "seconds": begin.elapsed().as_secs_f64(), "error": result.relative_error })
        }
        "cp-als" => {
            let kernel: Array4<f32> = ndarray_npy::read_npy(&file)?;
            let start = match settings.get("start").map(String::as_str) {
                None | Some("best") => Start::Best,
                Some("slices") => Start::Slices,
                Some("hosvd") => Start::Hosvd,
                Some("random") => Start::Random,
                Some(other) => return Err(format!("expected a known start, found {other}").into()),
            };
            let mut als = Als {
                start,
                ..Als::default()
            };
            als.max_sweeps = number("sweeps", als.max_sweeps)?;
            let options = CpOptions {
                method: CpMethod::Als(als),
                ..CpOptions::default()
            };
            let begin = Instant::now();
            let result = cp(kernel.view(), rank, &options, control)?;
            json!({
                "seconds": begin.elapsed().as_secs_f64(),
                "error": result.relative_error,
                "energy": result.energy,
                "iterations": result.iterations,
            })
        }
        other => return Err(format!("expected svd or cp-als, found {other}").into()),
    };
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}
