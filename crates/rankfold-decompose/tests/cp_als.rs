//! The ridge-regularised ALS: exactness, certificates, recovery, refusals, determinism.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cp_support;

use cp_support::{FORMS, energy, gaussian, measured, options, planted};
use ndarray::{Array4, ShapeBuilder};
use rankfold_decompose::cp::{Als, CpForm, CpMethod, CpOptions, Start, cp, cp_curve, max_rank};
use rankfold_decompose::{Control, DecomposeError, Scalar, Threads};

fn full_rank_is_exact<T: Scalar>(tolerance: f64) {
    for shape in [
        [6, 5, 3, 3],
        [4, 9, 1, 1],
        [7, 3, 5, 3],
        [1, 4, 3, 3],
        [4, 1, 3, 3],
    ] {
        let kernel = gaussian::<T>(shape, 1);
        for form in FORMS {
            let rank = max_rank(shape, 1, form);
            let d = cp(kernel.view(), rank, &options(form), Control::default()).unwrap();
            let error = measured(kernel.view(), &d.weights);
            assert!(error < tolerance, "{form:?} {shape:?}: {error}");
            assert!(
                d.relative_error < tolerance,
                "{form:?} {shape:?}: {}",
                d.relative_error
            );
        }
    }
}

#[test]
fn full_rank_reproduces_the_kernel() {
    full_rank_is_exact::<f32>(1e-6);
    full_rank_is_exact::<f64>(1e-14);
}

#[test]
fn a_planted_rank_is_recovered() {
    for (form, split) in [(CpForm::ThreeWay, false), (CpForm::FourWay, true)] {
        let kernel = planted::<f64>([20, 16, 3, 3], 5, split, 3);
        let als = Als {
            ridge: 1e-9,
            max_sweeps: 500,
            tolerance: 1e-9,
            start: Start::Best,
        };
        let o = CpOptions {
            method: CpMethod::Als(als),
            ..options(form)
        };
        let d = cp(kernel.view(), 5, &o, Control::default()).unwrap();
        assert!(d.relative_error < 1e-6, "{form:?}: {}", d.relative_error);
        assert!(measured(kernel.view(), &d.weights) < 1e-6, "{form:?}");
    }
}

fn certificate_holds<T: Scalar>(tolerance: f64) {
    let kernel = gaussian::<T>([12, 10, 3, 3], 5);
    for form in FORMS {
        for rank in [1, 4, 9, 12] {
            let d = cp(kernel.view(), rank, &options(form), Control::default()).unwrap();
            let error = measured(kernel.view(), &d.weights);
            assert!(
                (d.relative_error - error).abs() < tolerance,
                "{form:?} {rank}: {d:?} {error}"
            );
            assert_eq!(d.weights.rank(), rank);
            if form != CpForm::TwoWay {
                let energy = energy(kernel.view(), &d.weights);
                assert!(
                    (d.energy - energy).abs() < tolerance * energy,
                    "{form:?} {rank}"
                );
            }
        }
    }
}

#[test]
fn the_certificate_is_the_measured_error() {
    certificate_holds::<f32>(2e-6);
    certificate_holds::<f64>(1e-12);
}

#[test]
fn a_zero_kernel_has_zero_factors() {
    let kernel = Array4::<f32>::zeros((5, 4, 3, 3));
    for form in FORMS {
        let d = cp(kernel.view(), 3, &options(form), Control::default()).unwrap();
        assert_eq!((d.relative_error, d.energy), (0.0, 0.0), "{form:?}");
        assert_eq!(d.weights.reconstruct(), kernel);
    }
}

#[test]
fn scale_changes_nothing_but_the_factors() {
    let kernel = gaussian::<f32>([8, 6, 3, 3], 7);
    for form in FORMS {
        let plain = cp(kernel.view(), 7, &options(form), Control::default()).unwrap();
        for scale in [1e-30f32, 1e30] {
            let scaled = cp(
                (&kernel * scale).view(),
                7,
                &options(form),
                Control::default(),
            )
            .unwrap();
            assert!(
                (scaled.relative_error - plain.relative_error).abs() < 1e-4,
                "{form:?} {scale}"
            );
            let error = measured(kernel.view(), &plain.weights);
            let model = scaled.weights.reconstruct().mapv(|x| x / scale);
            let gap = (&model - &kernel)
                .iter()
                .map(|x| x.powi(2))
                .sum::<f32>()
                .sqrt();
            let gap = gap / kernel.iter().map(|x| x.powi(2)).sum::<f32>().sqrt();
            assert!((f64::from(gap) - error).abs() < 1e-4, "{form:?} {scale}");
        }
    }
}

#[test]
fn memory_layout_changes_nothing() {
    let kernel = gaussian::<f32>([9, 7, 3, 3], 9);
    let mut other = Array4::zeros((9, 7, 3, 3).f());
    other.assign(&kernel);
    for form in FORMS {
        let one = cp(kernel.view(), 6, &options(form), Control::default()).unwrap();
        let two = cp(other.view(), 6, &options(form), Control::default()).unwrap();
        assert!(
            (one.relative_error - two.relative_error).abs() < 1e-5,
            "{form:?}"
        );
    }
}

#[test]
fn groups_are_decomposed_on_their_own() {
    let kernel = gaussian::<f64>([8, 3, 3, 3], 11);
    for form in FORMS {
        let o = CpOptions {
            groups: 2,
            ..options(form)
        };
        let d = cp(kernel.view(), 4, &o, Control::default()).unwrap();
        assert_eq!(d.weights.output.dim(), (8, 2, 1, 1), "{form:?}");
        assert_eq!(d.weights.input.dim().0, 4, "{form:?}");
        let error = measured(kernel.view(), &d.weights);
        assert!((error - d.relative_error).abs() < 1e-10, "{form:?}");
    }
}

#[test]
fn a_curve_is_ordered_and_certified() {
    let kernel = gaussian::<f32>([16, 12, 3, 3], 13);
    let ranks = [20, 2, 8, 40, 108];
    for form in [CpForm::ThreeWay, CpForm::FourWay] {
        let curve = cp_curve(kernel.view(), &ranks, &options(form), Control::default()).unwrap();
        for (point, rank) in curve.iter().zip(ranks) {
            assert_eq!(point.weights.rank(), rank);
            assert!((measured(kernel.view(), &point.weights) - point.relative_error).abs() < 1e-5);
        }
        let error = |i: usize| curve[i].relative_error;
        assert!(
            error(1) > error(2) && error(2) > error(0) && error(0) > error(3),
            "{form:?}"
        );
        assert!(error(4) < 1e-6, "{form:?}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let kernel = gaussian::<f32>([96, 80, 3, 3], 15);
    let run = |threads| {
        let als = Als {
            max_sweeps: 12,
            ..Als::default()
        };
        let o = CpOptions {
            threads,
            method: CpMethod::Als(als),
            ..CpOptions::default()
        };
        cp(kernel.view(), 24, &o, Control::default()).unwrap()
    };
    let serial = run(Threads::Serial);
    for count in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .build()
            .unwrap();
        assert_eq!(
            pool.install(|| run(Threads::Pool)),
            serial,
            "{count} threads"
        );
    }
}

#[test]
fn cancelling_ends_the_run() {
    let kernel = gaussian::<f32>([24, 24, 3, 3], 17);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let steps = std::sync::atomic::AtomicUsize::new(0);
    let watch = |_| {
        if steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let control = Control::default().on_progress(&watch).cancel_with(&stop);
    let result = cp(kernel.view(), 20, &CpOptions::default(), control);
    assert_eq!(result.unwrap_err(), DecomposeError::Cancelled);
    assert_eq!(steps.into_inner(), 3);
}

#[test]
fn bad_input_is_refused_with_its_position() {
    let mut kernel = gaussian::<f32>([4, 4, 3, 3], 19);
    kernel[[2, 1, 0, 2]] = f32::NAN;
    let error = cp(kernel.view(), 2, &CpOptions::default(), Control::default()).unwrap_err();
    assert!(error.to_string().contains("[2, 1, 0, 2]"), "{error}");
    kernel[[2, 1, 0, 2]] = f32::INFINITY;
    let error = cp(kernel.view(), 2, &CpOptions::default(), Control::default()).unwrap_err();
    assert!(error.to_string().contains("[2, 1, 0, 2]"), "{error}");
}

#[test]
fn impossible_requests_are_refused() {
    let kernel = gaussian::<f32>([4, 4, 3, 3], 21);
    let ask = |rank, groups| {
        let o = CpOptions {
            groups,
            ..CpOptions::default()
        };
        cp(kernel.view(), rank, &o, Control::default()).unwrap_err()
    };
    assert_eq!(ask(0, 1), DecomposeError::ZeroRank);
    assert!(matches!(
        ask(37, 1),
        DecomposeError::RankTooLarge {
            rank: 37,
            max: 36,
            ..
        }
    ));
    assert!(matches!(
        ask(3, 2),
        DecomposeError::RankNotDivisible { rank: 3, groups: 2 }
    ));
    assert!(matches!(
        ask(3, 3),
        DecomposeError::GroupsNotDivisible {
            groups: 3,
            channels: 4
        }
    ));
    let depthwise = gaussian::<f32>([4, 1, 3, 3], 23);
    let o = CpOptions {
        groups: 4,
        ..CpOptions::default()
    };
    let error = cp(depthwise.view(), 4, &o, Control::default()).unwrap_err();
    assert!(
        matches!(error, DecomposeError::Depthwise { groups: 4, .. }),
        "{error}"
    );
    let als = Als {
        ridge: f64::NAN,
        ..Als::default()
    };
    let o = CpOptions {
        method: CpMethod::Als(als),
        ..CpOptions::default()
    };
    let error = cp(kernel.view(), 2, &o, Control::default()).unwrap_err();
    assert!(
        matches!(error, DecomposeError::InvalidOption { .. }),
        "{error}"
    );
}

#[test]
fn the_energy_bound_holds_at_no_more_error_where_that_is_possible() {
    let kernel = gaussian::<f64>([10, 9, 3, 3], 25);
    for form in [CpForm::ThreeWay, CpForm::FourWay] {
        let als = Als {
            ridge: 1e-4,
            tolerance: 1e-9,
            max_sweeps: 400,
            ..Als::default()
        };
        let free = CpOptions {
            method: CpMethod::Als(als),
            ..options(form)
        };
        let plain = cp(kernel.view(), 14, &free, Control::default()).unwrap();
        for share in [0.98, 0.8, 0.3] {
            let bound = share * plain.energy;
            let o = CpOptions {
                energy_bound: Some(bound),
                ..free
            };
            let d = cp(kernel.view(), 14, &o, Control::default()).unwrap();
            assert!(
                energy(kernel.view(), &d.weights) <= bound * (1.0 + 1e-6),
                "{form:?} {share}"
            );
            let error = measured(kernel.view(), &d.weights);
            assert!((error - d.relative_error).abs() < 1e-9, "{form:?} {share}");
            if share > 0.9 {
                assert!(
                    error <= plain.relative_error * (1.0 + 1e-9),
                    "{form:?}: {error} {plain:?}"
                );
            }
        }
        let loose = CpOptions {
            energy_bound: Some(2.0 * plain.energy),
            ..free
        };
        assert_eq!(
            cp(kernel.view(), 14, &loose, Control::default()).unwrap(),
            plain
        );
    }
}
