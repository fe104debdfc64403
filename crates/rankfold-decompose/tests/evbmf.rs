//! EVBMF against reference values (reference/evbmf.py) and what must hold of any estimate.

#![allow(clippy::unwrap_used)]

mod support;

use ndarray::Array2;
use rankfold_decompose::{Threads, evbmf, evbmf_from_spectrum, spectrum};
use serde::Deserialize;
use support::{column_major, gaussian, planted};

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    rows: usize,
    cols: usize,
    values: Vec<f64>,
    rank: usize,
    noise_variance: f64,
}

#[test]
fn reference_values_are_reproduced() {
    let reference: Reference = serde_json::from_str(include_str!("reference/evbmf.json")).unwrap();
    assert_eq!(reference.cases.len(), 7);
    for case in reference.cases {
        let a = Array2::from_shape_vec((case.rows, case.cols), case.values).unwrap();
        for a in [a.view(), a.t(), column_major(&a).view()] {
            let found = evbmf(a, Threads::Serial).unwrap();
            assert_eq!(found.rank, case.rank, "{}×{}", case.rows, case.cols);
            let ratio = found.noise_variance / case.noise_variance;
            assert!(
                (ratio - 1.0).abs() < 1e-5,
                "{}×{}: {ratio}",
                case.rows,
                case.cols
            );
        }
    }
}

#[test]
fn a_planted_rank_is_found_under_noise_and_without() {
    for noise in [0.3, 0.01, 0.0] {
        let a = planted::<f64>(200, 120, 9, noise, 3);
        let found = evbmf(a.view(), Threads::Pool).unwrap();
        assert_eq!(found.rank, 9, "noise {noise}");
        if noise > 0.0 {
            assert!((found.noise_variance.sqrt() / noise - 1.0).abs() < 0.05);
        }
    }
}

#[test]
fn noise_alone_has_no_rank() {
    let found = evbmf(gaussian::<f32, _, _>((150, 90), 4).view(), Threads::Pool).unwrap();
    assert_eq!(found.rank, 0);
    let nothing = evbmf(Array2::<f32>::zeros((5, 8)).view(), Threads::Pool).unwrap();
    assert_eq!((nothing.rank, nothing.noise_variance), (0, 0.0));
}

#[test]
fn the_scale_changes_the_noise_only() {
    let a = planted::<f64>(60, 80, 5, 0.2, 8);
    let truth = evbmf(a.view(), Threads::Pool).unwrap();
    for scale in [1e30, 1e-30] {
        let scaled = a.mapv(|x| (x * scale) as f32);
        let found = evbmf(scaled.view(), Threads::Pool).unwrap();
        assert_eq!(found.rank, truth.rank);
        let ratio = found.noise_variance / truth.noise_variance / (scale * scale);
        assert!((ratio - 1.0).abs() < 1e-3, "{ratio}");
    }
    let whole = spectrum(a.view(), Threads::Pool).unwrap();
    assert_eq!(evbmf_from_spectrum(&whole, 60, 80), truth);
}
