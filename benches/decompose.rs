//! The main decompositions at the sizes of trained layers: `cargo bench -p rankfold-benches`.

use divan::{Bencher, black_box};
use ndarray::{Array2, Array4};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rankfold_decompose::cp::{CpForm, CpMethod, CpOptions, Power, PowerMode, cp, cp_curve};
use rankfold_decompose::{Control, SvdOptions, Truncation, svd};

fn main() {
    divan::main();
}

/// Output and input channels and rank: a layer of ResNet-20, one of ResNet-18, two of VGG16.
const KERNELS: [(usize, usize, usize); 4] = [
    (64, 64, 64),
    (128, 128, 96),
    (256, 256, 65),
    (512, 512, 110),
];

/// Gaussian weights whose spectra decay along every axis.
fn kernel(outputs: usize, inputs: usize) -> Array4<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let decay = |i: usize| (i as f32 + 1.0).powf(-0.5);
    Array4::from_shape_fn((outputs, inputs, 3, 3), |(t, s, _, _)| {
        let x: f32 = StandardNormal.sample(&mut rng);
        x * decay(t) * decay(s)
    })
}

fn run(
    bencher: Bencher<'_, '_>,
    (outputs, inputs, rank): (usize, usize, usize),
    options: CpOptions,
) {
    let kernel = kernel(outputs, inputs);
    bencher.bench_local(|| cp(black_box(kernel.view()), rank, &options, Control::default()));
}

#[divan::bench(args = KERNELS, max_time = 3)]
fn cp_ridge_als(bencher: Bencher<'_, '_>, case: (usize, usize, usize)) {
    run(bencher, case, CpOptions::default());
}

#[divan::bench(args = KERNELS, max_time = 3)]
fn cp_four_way(bencher: Bencher<'_, '_>, case: (usize, usize, usize)) {
    run(
        bencher,
        case,
        CpOptions {
            form: CpForm::FourWay,
            ..CpOptions::default()
        },
    );
}

#[divan::bench(args = KERNELS, max_time = 3)]
fn cp_power_joint(bencher: Bencher<'_, '_>, case: (usize, usize, usize)) {
    let power = Power {
        restarts: 1,
        ..Power::default()
    };
    run(
        bencher,
        case,
        CpOptions {
            method: CpMethod::Power(power),
            ..CpOptions::default()
        },
    );
}

#[divan::bench(args = KERNELS, max_time = 3)]
fn cp_power_faithful(bencher: Bencher<'_, '_>, case: (usize, usize, usize)) {
    let power = Power {
        passes: 10,
        restarts: 1,
        mode: PowerMode::Faithful,
    };
    run(
        bencher,
        case,
        CpOptions {
            method: CpMethod::Power(power),
            ..CpOptions::default()
        },
    );
}

#[divan::bench(args = [64, 128, 256], max_time = 3)]
fn cp_curve_of_eleven_ranks(bencher: Bencher<'_, '_>, channels: usize) {
    let kernel = kernel(channels, channels);
    let ranks: Vec<usize> = (1..=11).map(|i| i * channels / 8).collect();
    let options = CpOptions::default();
    bencher.bench_local(|| {
        cp_curve(
            black_box(kernel.view()),
            &ranks,
            &options,
            Control::default(),
        )
    });
}

#[divan::bench(args = [(1000, 4096, 143), (4096, 4096, 145)], max_time = 3)]
fn truncated_svd(bencher: Bencher<'_, '_>, (rows, columns, rank): (usize, usize, usize)) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let matrix = Array2::from_shape_fn((rows, columns), |(_, j)| {
        let x: f32 = StandardNormal.sample(&mut rng);
        x * (j as f32 + 1.0).powf(-0.6)
    });
    bencher.bench_local(|| {
        let truncation = Truncation::rank(rank)?;
        svd(
            black_box(matrix.view()),
            truncation,
            &SvdOptions::default(),
            Control::default(),
        )
    });
}
