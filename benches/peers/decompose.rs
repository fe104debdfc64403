//! One decomposition, timed: what the Python peers are compared with.
//!
//! `decompose-peer ALGORITHM FILE.npy [key=value …]` decomposes an array on disk and prints one JSON
//! object: the seconds it took, the array being in memory, and the relative error that it
//! certifies. `decompose-peer vgg16` decomposes a network of VGG16's shapes at the ranks of Astrid
//! and Lee, 2018, all layers held at once, and prints seconds and the peak of resident memory.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

use ndarray::{Array2, Array4};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rankfold_decompose::cp::{
    Als, Cp, CpForm, CpMethod, CpOptions, Power, PowerMode, Start, cp, cp_curve, max_rank,
};
use rankfold_decompose::{Control, SvdOptions, Truncation, svd};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "decompose-peer svd|cp-als|cp-power|cp-power-als|cp-curve FILE.npy [key=value …], \
                     or decompose-peer vgg16";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let algorithm = args.next().ok_or(USAGE)?;
    let result = if algorithm == "vgg16" {
        vgg16()?
    } else {
        let file = args.next().ok_or(USAGE)?;
        let settings = Settings::parse(args)?;
        match algorithm.as_str() {
            "svd" => matrix(&file, &settings)?,
            "cp-curve" => curve(&file, &settings)?,
            name => kernel(name, &file, &settings)?,
        }
    };
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}

/// key=value arguments.
struct Settings(HashMap<String, String>);

impl Settings {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut settings = HashMap::new();
        for arg in args {
            let (key, value) = arg
                .split_once('=')
                .ok_or("expected settings as key=value")?;
            settings.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self(settings))
    }

    fn number(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self
            .0
            .get(key)
            .map(|v| v.parse())
            .transpose()?
            .unwrap_or(default))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

fn matrix(file: &str, settings: &Settings) -> Result<Value> {
    let matrix: Array2<f32> = ndarray_npy::read_npy(file)?;
    let truncation = Truncation::rank(settings.number("rank", 1)?)?;
    let begin = Instant::now();
    let result = svd(
        matrix.view(),
        truncation,
        &SvdOptions::default(),
        Control::default(),
    )?;
    Ok(json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "error": result.relative_error,
        "method": format!("{:?}", result.method),
    }))
}

fn kernel(algorithm: &str, file: &str, settings: &Settings) -> Result<Value> {
    let start = match settings.text("start") {
        None | Some("best") => Start::Best,
        Some("slices") => Start::Slices,
        Some("hosvd") => Start::Hosvd,
        Some("random") => Start::Random,
        Some(other) => return Err(format!("expected a known start, found {other}").into()),
    };
    let default = Als::default();
    let als = Als {
        start,
        max_sweeps: settings.number("sweeps", default.max_sweeps)?,
        ..default
    };
    let default = Power::default();
    let power = Power {
        passes: settings.number("passes", default.passes)?,
        restarts: settings.number("restarts", default.restarts)?,
        mode: match settings.text("mode") {
            Some("faithful") => PowerMode::Faithful,
            _ => PowerMode::Joint,
        },
    };
    let method = match algorithm {
        "cp-als" => CpMethod::Als(als),
        "cp-power" => CpMethod::Power(power),
        "cp-power-als" => CpMethod::PowerThenAls(power, als),
        other => return Err(format!("{USAGE}; found {other}").into()),
    };
    let form = match settings.number("ways", 3)? {
        2 => CpForm::TwoWay,
        3 => CpForm::ThreeWay,
        4 => CpForm::FourWay,
        other => return Err(format!("expected 2, 3 or 4 ways, found {other}").into()),
    };
    let options = CpOptions {
        form,
        method,
        seed: settings.number("seed", 0)? as u64,
        energy_bound: settings.text("bound").map(str::parse).transpose()?,
        ..CpOptions::default()
    };
    let kernel: Array4<f32> = ndarray_npy::read_npy(file)?;
    let rank = settings.number("rank", 1)?;
    let begin = Instant::now();
    let result = cp(kernel.view(), rank, &options, Control::default())?;
    Ok(json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "error": result.relative_error,
        "energy": result.energy,
        "iterations": result.iterations,
    }))
}

/// An error curve in one warm-started pass, and each of its ranks on its own.
fn curve(file: &str, settings: &Settings) -> Result<Value> {
    let kernel: Array4<f32> = ndarray_npy::read_npy(file)?;
    let ranks = settings.text("ranks").ok_or("expected ranks=R,R,…")?;
    let ranks = ranks
        .split(',')
        .map(str::parse)
        .collect::<std::result::Result<Vec<usize>, _>>()?;
    let options = CpOptions::default();
    let begin = Instant::now();
    let warm = cp_curve(kernel.view(), &ranks, &options, Control::default())?;
    let warm_seconds = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let alone = ranks
        .iter()
        .map(|&rank| cp(kernel.view(), rank, &options, Control::default()))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let alone_seconds = begin.elapsed().as_secs_f64();
    let errors = |points: &[Cp<f32>]| points.iter().map(|p| p.relative_error).collect::<Vec<_>>();
    let sweeps = |points: &[Cp<f32>]| points.iter().map(|p| p.iterations).sum::<usize>();
    Ok(json!({
        "ranks": ranks,
        "curve": { "seconds": warm_seconds, "sweeps": sweeps(&warm), "errors": errors(&warm) },
        "alone": { "seconds": alone_seconds, "sweeps": sweeps(&alone), "errors": errors(&alone) },
    }))
}

/// Output channels, input channels and rank of VGG16's convolutions.
const CONVOLUTIONS: [(usize, usize, usize); 13] = [
    (64, 3, 59),
    (64, 64, 50),
    (128, 64, 51),
    (128, 128, 75),
    (256, 128, 115),
    (256, 256, 65),
    (256, 256, 64),
    (512, 256, 78),
    (512, 512, 80),
    (512, 512, 92),
    (512, 512, 99),
    (512, 512, 110),
    (512, 512, 102),
];

/// Outputs, inputs and rank of its fully connected layers.
const LINEAR: [(usize, usize, usize); 3] =
    [(4096, 25088, 162), (4096, 4096, 145), (1000, 4096, 143)];

/// All layers of VGG16's shapes: Gaussian weights whose spectra decay along every axis.
fn vgg16() -> Result<Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(16);
    let mut normal = || -> f32 { StandardNormal.sample(&mut rng) };
    let decay = |i: usize, power: f32| (i as f32 + 1.0).powf(-power);
    let kernels: Vec<Array4<f32>> = CONVOLUTIONS
        .iter()
        .map(|&(outputs, inputs, _)| {
            Array4::from_shape_fn((outputs, inputs, 3, 3), |(t, s, i, j)| {
                normal() * decay(t, 0.5) * decay(s, 0.5) * decay(3 * i + j, 0.25)
            })
        })
        .collect();
    let matrices: Vec<Array2<f32>> = LINEAR
        .iter()
        .map(|&(outputs, inputs, _)| {
            Array2::from_shape_fn((outputs, inputs), |(i, _)| normal() * decay(i, 0.6))
        })
        .collect();
    let sizes = || {
        kernels
            .iter()
            .map(Array4::len)
            .chain(matrices.iter().map(Array2::len))
    };
    let bytes = |elements: usize| elements * size_of::<f32>();
    let (model, largest) = (bytes(sizes().sum()), bytes(sizes().max().unwrap_or(0)));

    let control = Control::default();
    let begin = Instant::now();
    let mut layers = Vec::new();
    let (mut factors, mut pairs) = (Vec::new(), Vec::new());
    for (kernel, (outputs, inputs, rank)) in kernels.iter().zip(CONVOLUTIONS) {
        let form = if inputs == 3 {
            CpForm::TwoWay
        } else {
            CpForm::ThreeWay
        };
        // The paper gives the first layer rank 59, of which a 64×27 matrix has 27.
        let rank = rank.min(max_rank([outputs, inputs, 3, 3], 1, form));
        let begin = Instant::now();
        let options = CpOptions {
            form,
            ..CpOptions::default()
        };
        let found = cp(kernel.view(), rank, &options, control)?;
        let seconds = begin.elapsed().as_secs_f64();
        layers.push(json!({ "shape": [outputs, inputs, 3, 3], "rank": rank, "seconds": seconds, "error": found.relative_error }));
        factors.push(found.weights);
    }
    for (matrix, (outputs, inputs, rank)) in matrices.iter().zip(LINEAR) {
        let begin = Instant::now();
        let found = svd(
            matrix.view(),
            Truncation::rank(rank)?,
            &SvdOptions::default(),
            control,
        )?;
        let seconds = begin.elapsed().as_secs_f64();
        layers.push(json!({ "shape": [outputs, inputs], "rank": rank, "seconds": seconds, "error": found.relative_error }));
        pairs.push(found.balanced());
    }
    Ok(json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "model_bytes": model,
        "largest_layer_bytes": largest,
        "allowed_bytes": model + 3 * largest,
        "peak_bytes": peak_resident_bytes(),
        "layers": layers,
    }))
}

/// The peak of this process' resident memory, where the system tells.
fn peak_resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
