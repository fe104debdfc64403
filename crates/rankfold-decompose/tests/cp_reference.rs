//! Errors of TensorLy's CP on small kernels (`reference/cp.py`), the best of many starts.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cp_support;

use cp_support::options;
use ndarray::Array4;
use rankfold_decompose::Control;
use rankfold_decompose::cp::{Als, CpForm, CpMethod, CpOptions, Start, cp};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    shape: [usize; 4],
    kernel: Vec<f64>,
    rank: usize,
    two_way: f64,
    three_way: f64,
    four_way: f64,
}

/// The best of a few starts: on kernels this small ALS has local optima.
fn best(kernel: &Array4<f64>, rank: usize, form: CpForm) -> f64 {
    let errors = [Start::Best, Start::Slices, Start::Hosvd, Start::Random]
        .into_iter()
        .flat_map(|start| {
            (0..4).map(move |seed| {
                let als = Als {
                    ridge: 1e-9,
                    max_sweeps: 3000,
                    tolerance: 1e-9,
                    start,
                };
                let o = CpOptions {
                    method: CpMethod::Als(als),
                    seed,
                    ..options(form)
                };
                cp(kernel.view(), rank, &o, Control::default())
                    .unwrap()
                    .relative_error
            })
        });
    errors.fold(f64::INFINITY, f64::min)
}

#[test]
fn the_errors_are_those_of_tensorly() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("reference/cp.json")).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let kernel = Array4::from_shape_vec(case.shape, case.kernel).unwrap();
        let expected = [
            (CpForm::TwoWay, case.two_way),
            (CpForm::ThreeWay, case.three_way),
            (CpForm::FourWay, case.four_way),
        ];
        for (form, reference) in expected {
            if case.rank > rankfold_decompose::cp::max_rank(case.shape, 1, form) {
                continue;
            }
            let error = best(&kernel, case.rank, form);
            let gap = (error - reference).abs();
            assert!(
                gap < 1e-4,
                "{form:?} {:?} {}: {error} {reference}",
                case.shape,
                case.rank
            );
        }
    }
}
