//! The tensor power method: Algorithm 1 as printed, and the faster mode.

mod cp_support;

use cp_support::{energy, gaussian, measured, options, planted};
use ndarray::Array3;
use rankfold_decompose::cp::{
    Als, CpForm, CpMethod, CpOptions, Power, PowerMode, Start, cp, cp_curve,
};
use rankfold_decompose::{Control, DecomposeError, Threads};

const MODES: [PowerMode; 2] = [PowerMode::Faithful, PowerMode::Joint];
const FORMS: [CpForm; 2] = [CpForm::ThreeWay, CpForm::FourWay];

fn method(mode: PowerMode, passes: usize, restarts: usize) -> CpMethod {
    CpMethod::Power(Power {
        passes,
        restarts,
        mode,
    })
}

#[test]
fn the_error_never_rises_with_the_rank() {
    let kernel = gaussian::<f32>([14, 11, 3, 3], 31);
    let ranks: Vec<usize> = (1..=40).collect();
    for mode in MODES {
        for form in FORMS {
            let o = CpOptions {
                method: method(mode, 6, 2),
                ..options(form)
            };
            let curve = cp_curve(kernel.view(), &ranks, &o, Control::default()).unwrap();
            for (pair, rank) in curve.windows(2).zip(&ranks) {
                let (before, after) = (pair[0].relative_error, pair[1].relative_error);
                assert!(
                    after <= before,
                    "{mode:?} {form:?} at {rank}: {before} {after}"
                );
            }
            for point in curve.iter().step_by(13) {
                let error = measured(kernel.view(), &point.weights);
                assert!(
                    (error - point.relative_error).abs() < 2e-6,
                    "{mode:?} {form:?}"
                );
                let energy = energy(kernel.view(), &point.weights);
                assert!((energy - point.energy).abs() < 1e-5, "{mode:?} {form:?}");
            }
        }
    }
}

#[test]
fn deflation_splits_the_norm_between_terms_and_error() {
    let kernel = gaussian::<f64>([9, 8, 3, 3], 33);
    let o = CpOptions {
        method: method(PowerMode::Faithful, 8, 1),
        ..CpOptions::default()
    };
    let d = cp(kernel.view(), 12, &o, Control::default()).unwrap();
    assert!(
        (d.energy + d.relative_error.powi(2) - 1.0).abs() < 1e-12,
        "{d:?}"
    );
}

#[test]
fn orthogonal_terms_come_out_strongest_first() {
    let weights = [5.0, 3.0, 2.0, 1.0];
    let mut kernel = ndarray::Array4::<f64>::zeros((6, 5, 2, 2));
    for (r, w) in weights.into_iter().enumerate() {
        kernel[[r, r, r / 2, r % 2]] = w;
    }
    let total: f64 = weights.iter().map(|w| w * w).sum();
    for mode in MODES {
        for form in FORMS {
            let o = CpOptions {
                method: method(mode, 60, 12),
                ..options(form)
            };
            let curve = cp_curve(kernel.view(), &[1, 2, 3, 4], &o, Control::default()).unwrap();
            for (k, point) in curve.iter().enumerate() {
                let rest: f64 = weights[k + 1..].iter().map(|w| w * w).sum();
                let expected = (rest / total).sqrt();
                let gap = (point.relative_error - expected).abs();
                assert!(
                    gap < 1e-3,
                    "{mode:?} {form:?} {k}: {} {expected}",
                    point.relative_error
                );
            }
        }
    }
}

/// One term by Algorithm 1 on an explicit array: from the result, another pass changes nothing.
#[test]
fn a_faithful_term_is_a_fixed_point_of_the_iteration() {
    let kernel = gaussian::<f64>([7, 6, 3, 3], 35);
    let o = CpOptions {
        method: method(PowerMode::Faithful, 400, 1),
        ..CpOptions::default()
    };
    let d = cp(kernel.view(), 1, &o, Control::default()).unwrap();
    let w: Array3<f64> = kernel.into_shape_with_order((7, 6, 9)).unwrap();
    let a = d.weights.output.iter().copied().collect::<Vec<_>>();
    let b = d.weights.input.iter().copied().collect::<Vec<_>>();
    let c = d.weights.spatial[0].iter().copied().collect::<Vec<_>>();
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let updated: Vec<f64> = (0..7)
        .map(|t| {
            (0..6)
                .flat_map(|s| (0..9).map(move |k| (s, k)))
                .map(|(s, k)| w[[t, s, k]] * b[s] * c[k])
                .sum()
        })
        .collect();
    let (size, old) = (norm(&updated), norm(&a));
    for (new, old_entry) in updated.iter().zip(&a) {
        assert!((new / size - old_entry / old).abs() < 1e-9);
    }
}

#[test]
fn a_planted_rank_is_recovered_by_power_then_als() {
    for (form, split) in [(CpForm::ThreeWay, false), (CpForm::FourWay, true)] {
        let kernel = planted::<f64>([18, 15, 3, 3], 4, split, 37);
        let als = Als {
            ridge: 1e-9,
            max_sweeps: 800,
            tolerance: 1e-10,
            start: Start::Best,
        };
        let power = Power {
            passes: 20,
            restarts: 8,
            mode: PowerMode::Joint,
        };
        let o = CpOptions {
            method: CpMethod::PowerThenAls(power, als),
            ..options(form)
        };
        let d = cp(kernel.view(), 4, &o, Control::default()).unwrap();
        assert!(
            measured(kernel.view(), &d.weights) < 1e-6,
            "{form:?} {}",
            d.relative_error
        );
    }
}

#[test]
fn als_improves_on_the_power_method() {
    let kernel = gaussian::<f32>([16, 16, 3, 3], 39);
    let power = Power::default();
    let ask = |method| {
        let o = CpOptions {
            method,
            ..CpOptions::default()
        };
        cp(kernel.view(), 20, &o, Control::default())
            .unwrap()
            .relative_error
    };
    let greedy = ask(CpMethod::Power(power));
    assert!(ask(CpMethod::PowerThenAls(power, Als::default())) < greedy);
    let faithful = ask(method(PowerMode::Faithful, 10, 1));
    assert!(greedy < faithful, "{greedy} {faithful}");
}

#[test]
fn a_zero_kernel_and_single_channels_are_safe() {
    for mode in MODES {
        for form in FORMS {
            let o = CpOptions {
                method: method(mode, 5, 2),
                ..options(form)
            };
            let zero = ndarray::Array4::<f32>::zeros((4, 3, 3, 3));
            let d = cp(zero.view(), 5, &o, Control::default()).unwrap();
            assert_eq!((d.relative_error, d.energy), (0.0, 0.0));
            for shape in [[1, 6, 3, 3], [6, 1, 3, 3], [6, 5, 1, 1], [2, 2, 5, 1]] {
                let kernel = gaussian::<f32>(shape, 41);
                let d = cp(
                    kernel.view(),
                    2.min(shape[2] * shape[3]),
                    &o,
                    Control::default(),
                )
                .unwrap();
                let error = measured(kernel.view(), &d.weights);
                assert!(
                    (error - d.relative_error).abs() < 1e-5,
                    "{mode:?} {form:?} {shape:?}"
                );
            }
        }
    }
}

#[test]
fn terms_beyond_the_rank_of_the_kernel_add_nothing() {
    let kernel = planted::<f64>([6, 6, 3, 3], 1, true, 43);
    for mode in MODES {
        for form in FORMS {
            let o = CpOptions {
                method: method(mode, 30, 2),
                ..options(form)
            };
            let d = cp(kernel.view(), 5, &o, Control::default()).unwrap();
            assert!(
                measured(kernel.view(), &d.weights) < 1e-7,
                "{mode:?} {form:?}"
            );
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let kernel = gaussian::<f32>([96, 70, 3, 3], 45);
    for mode in MODES {
        let run = |threads| {
            let o = CpOptions {
                threads,
                method: method(mode, 5, 3),
                ..CpOptions::default()
            };
            cp(kernel.view(), 6, &o, Control::default()).unwrap()
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
                "{mode:?} {count} threads"
            );
        }
    }
}

#[test]
fn seeds_decide_and_bad_settings_are_refused() {
    let kernel = gaussian::<f32>([8, 8, 3, 3], 47);
    let ask = |seed, passes, restarts| {
        let o = CpOptions {
            seed,
            method: method(PowerMode::Faithful, passes, restarts),
            ..CpOptions::default()
        };
        cp(kernel.view(), 3, &o, Control::default())
    };
    assert_eq!(ask(1, 4, 2), ask(1, 4, 2));
    assert_ne!(ask(1, 4, 2), ask(2, 4, 2));
    for result in [ask(1, 0, 1), ask(1, 1, 0)] {
        assert!(matches!(result, Err(DecomposeError::InvalidOption { .. })));
    }
}

#[test]
fn cancelling_ends_the_run() {
    let kernel = gaussian::<f32>([12, 12, 3, 3], 49);
    let stop = std::sync::atomic::AtomicBool::new(true);
    let o = CpOptions {
        method: method(PowerMode::Joint, 5, 1),
        ..CpOptions::default()
    };
    let result = cp(kernel.view(), 3, &o, Control::default().cancel_with(&stop));
    assert_eq!(result.unwrap_err(), DecomposeError::Cancelled);
}
