//! Truncated SVD against its definition.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array2, Axis, s};
use proptest::prelude::*;
use rankfold_decompose::{
    Control, DecomposeError, Position, Rank, Scalar, Svd, SvdMethod, SvdOptions, Threads,
    Truncation, spectrum, svd,
};
use support::{column_major, decaying, distance, gaussian, non_orthonormality, planted};

const METHODS: [SvdMethod; 3] = [SvdMethod::Krylov, SvdMethod::Gram, SvdMethod::Dense];

fn with(method: SvdMethod) -> SvdOptions {
    SvdOptions {
        method,
        ..SvdOptions::default()
    }
}

fn by_rank<T: Scalar>(a: &Array2<T>, rank: usize, options: &SvdOptions) -> Svd<T> {
    svd(
        a.view(),
        Truncation::rank(rank).unwrap(),
        options,
        Control::default(),
    )
    .unwrap()
}

fn rebuilt<T: Scalar>(svd: &Svd<T>) -> Array2<T> {
    let (u, s, vt) = (
        svd.u.mapv(T::as_f64),
        svd.s.mapv(T::as_f64),
        svd.vt.mapv(T::as_f64),
    );
    (&u * &s).dot(&vt).mapv(T::from_f64)
}

/// Everything that a truncated SVD of `a` must satisfy, whatever the method.
fn check<T: Scalar>(a: &Array2<T>, result: &Svd<T>) {
    let (rows, cols) = a.dim();
    let rank = result.rank();
    assert_eq!(result.u.dim(), (rows, rank));
    assert_eq!(result.vt.dim(), (rank, cols));
    let rounding = 20.0 * T::EPS * (rows.max(cols) as f64).sqrt();
    assert!(non_orthonormality(result.u.view()) < rounding, "U");
    assert!(non_orthonormality(result.vt.t()) < rounding, "V");
    assert!(result.s.iter().all(|x| *x >= T::zero()));
    assert!(
        result
            .s
            .windows(2)
            .into_iter()
            .all(|pair| pair[0] >= pair[1]),
        "{}",
        result.s
    );
    let measured = distance(a, &rebuilt(result));
    let slack = 2e-3 * measured + 4.0 * T::EPS;
    assert!(
        (measured - result.relative_error).abs() <= slack,
        "certificate {} but measured {measured} ({:?})",
        result.relative_error,
        result.method,
    );
}

fn every_method<T: Scalar>() {
    for (rows, cols, rank) in [(300, 120, 17), (90, 400, 30), (256, 256, 1), (700, 200, 60)] {
        let a = decaying::<T>(rows, cols, 5);
        let optimum = spectrum(a.view(), Threads::Pool)
            .unwrap()
            .relative_error(rank);
        for method in METHODS {
            let result = by_rank(&a, rank, &with(method));
            check(&a, &result);
            let excess = result.relative_error / optimum - 1.0;
            let allowed = if result.method == SvdMethod::Krylov {
                1e-3
            } else {
                1e3 * T::EPS
            };
            assert!(
                (-1e3 * T::EPS..allowed).contains(&excess),
                "{method:?}: {excess:e}"
            );
        }
    }
}

#[test]
fn every_method_is_near_the_optimum_in_f32() {
    every_method::<f32>();
}

#[test]
fn every_method_is_near_the_optimum_in_f64() {
    every_method::<f64>();
}

#[test]
fn the_layout_changes_rounding_only() {
    let a = decaying::<f32>(200, 150, 8);
    for method in METHODS {
        let rows = by_rank(&a, 12, &with(method));
        let columns = by_rank(&column_major(&a), 12, &with(method));
        assert!(distance(&rows.s, &columns.s) < 1e-4);
        assert!(distance(&rebuilt(&rows), &rebuilt(&columns)) < 0.02);
        check(&a, &columns);
    }
    let every_second = a.slice(s![..;2, ..;-3]);
    let copy = every_second.to_owned();
    let strided = svd(
        every_second,
        Truncation::rank(9).unwrap(),
        &SvdOptions::default(),
        Control::default(),
    );
    check(&copy, &strided.unwrap());
}

#[test]
fn full_rank_reproduces() {
    for (rows, cols) in [(40, 25), (25, 40), (30, 30), (1, 9), (9, 1), (1, 1)] {
        let a = gaussian::<f32, _, _>((rows, cols), 11);
        for method in METHODS {
            let result = by_rank(&a, rows.min(cols), &with(method));
            check(&a, &result);
            assert!(
                result.relative_error < 40.0 * f64::from(f32::EPSILON),
                "{method:?} {rows}×{cols}: {}",
                result.relative_error
            );
        }
    }
}

#[test]
fn a_planted_rank_is_recovered() {
    for method in METHODS {
        let exact = planted::<f64>(400, 300, 12, 0.0, 1);
        let result = by_rank(&exact, 12, &with(method));
        check(&exact, &result);
        assert!(
            result.relative_error < 1e-12,
            "{method:?}: {:e}",
            result.relative_error
        );

        let result = by_rank(&exact, 20, &with(method));
        check(&exact, &result);
        assert!(result.s[12] < 1e-7 * result.s[0]);

        let noisy = planted::<f32>(400, 300, 12, 1e-4, 1);
        let tolerance = Truncation::tolerance(0.01).unwrap();
        let result = svd(noisy.view(), tolerance, &with(method), Control::default()).unwrap();
        check(&noisy, &result);
        assert!(result.rank() <= 12 && result.relative_error <= 0.01);
    }
}

#[test]
fn a_tolerance_is_met_with_the_fewest_components() {
    let a = decaying::<f32>(300, 220, 2);
    let spectrum = spectrum(a.view(), Threads::Pool).unwrap();
    for method in METHODS {
        for tolerance in [0.9, 0.5, 0.3, 0.05] {
            let truncation = Truncation::tolerance(tolerance).unwrap();
            let result = svd(a.view(), truncation, &with(method), Control::default()).unwrap();
            check(&a, &result);
            assert!(result.relative_error <= tolerance * (1.0 + 1e-6));
            assert!(
                result.rank() == 1
                    || spectrum.relative_error(result.rank() - 1) > tolerance * 0.999
            );
        }
    }
}

fn extreme_scales<T: Scalar>(scales: &[f64]) {
    let a = decaying::<f64>(150, 120, 4);
    let truth = by_rank(&a, 10, &SvdOptions::default());
    for &scale in scales {
        let scaled = a.mapv(|x| T::from_f64(x * scale));
        for method in METHODS {
            let result = by_rank(&scaled, 10, &with(method));
            check(&scaled, &result);
            assert!(
                (result.relative_error - truth.relative_error).abs() < 1e-3 * truth.relative_error
            );
            let ratio = result.s[0].as_f64() / scale / truth.s[0];
            assert!(
                (ratio - 1.0).abs() < 1e-4,
                "{method:?} at {scale:e}: {ratio}"
            );
        }
    }
}

#[test]
fn huge_and_tiny_scales_keep_their_error() {
    extreme_scales::<f32>(&[1e30, 1e-30, 1e18, 1e-18]);
    extreme_scales::<f64>(&[1e30, 1e-30, 1e200, 1e-200, 1e-290]);
}

#[test]
fn a_zero_matrix_has_zero_error() {
    let a = Array2::<f32>::zeros((7, 5));
    for method in METHODS {
        let result = by_rank(&a, 3, &with(method));
        check(&a, &result);
        assert_eq!(result.relative_error, 0.0);
        let by_tolerance = svd(
            a.view(),
            Truncation::tolerance(0.1).unwrap(),
            &with(method),
            Control::default(),
        );
        assert_eq!(by_tolerance.unwrap().rank(), 1);
    }
}

#[test]
fn bad_input_is_refused_by_name() {
    let run = |a: &Array2<f32>, rank| {
        svd(
            a.view(),
            Truncation::rank(rank).unwrap(),
            &SvdOptions::default(),
            Control::default(),
        )
    };
    let mut a = gaussian::<f32, _, _>((6, 4), 1);
    assert_eq!(
        run(&a, 5).unwrap_err(),
        DecomposeError::RankTooLarge {
            form: "matrix",
            rank: 5,
            max: 4
        }
    );
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        a[[4, 2]] = bad;
        for a in [a.clone(), column_major(&a)] {
            match run(&a, 2).unwrap_err() {
                DecomposeError::NonFinite { position, .. } => {
                    assert_eq!(position, Position(vec![4, 2]));
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(matches!(
        run(&Array2::zeros((0, 3)), 1),
        Err(DecomposeError::Empty { .. })
    ));
    for excess in [-1.0, f64::NAN] {
        let options = SvdOptions {
            excess,
            ..SvdOptions::default()
        };
        let ones = Array2::<f32>::ones((3, 3));
        let refused = svd(
            ones.view(),
            Truncation::rank(1).unwrap(),
            &options,
            Control::default(),
        );
        assert!(matches!(refused, Err(DecomposeError::InvalidOption { .. })));
    }
    assert_eq!(Rank::new(0), Err(DecomposeError::ZeroRank));
    for tolerance in [-0.1, 1.0, f64::NAN] {
        assert!(matches!(
            Truncation::tolerance(tolerance),
            Err(DecomposeError::InvalidOption { .. })
        ));
    }
}

#[test]
fn bits_do_not_depend_on_the_pool() {
    let a = decaying::<f32>(900, 600, 6);
    for method in METHODS {
        let serial = by_rank(
            &a,
            40,
            &SvdOptions {
                threads: Threads::Serial,
                ..with(method)
            },
        );
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let pooled = pool.install(|| by_rank(&a, 40, &with(method)));
            assert!(pooled == serial, "{method:?} on {threads} threads");
        }
    }
}

#[test]
fn the_seed_decides_the_start() {
    let a = decaying::<f32>(700, 600, 6);
    let run = |seed| {
        by_rank(
            &a,
            20,
            &SvdOptions {
                seed,
                ..with(SvdMethod::Krylov)
            },
        )
    };
    assert!(run(3) == run(3));
    assert!(run(3).u != run(4).u);
}

#[test]
fn progress_is_reported_and_a_run_can_be_cancelled() {
    let a = decaying::<f32>(700, 600, 6);
    let errors = Mutex::new(Vec::new());
    let report = |progress: rankfold_decompose::Progress| {
        errors.lock().unwrap().extend(progress.relative_error);
    };
    let control = Control::default().on_progress(&report);
    let truncation = Truncation::rank(30).unwrap();
    let result = svd(a.view(), truncation, &with(SvdMethod::Krylov), control).unwrap();
    let errors = errors.into_inner().unwrap();
    assert!(
        errors.len() > 2 && errors.is_sorted_by(|a, b| a >= b),
        "{errors:?}"
    );
    assert!((errors[errors.len() - 1] - result.relative_error).abs() < 1e-4);

    let cancel = AtomicBool::new(false);
    let stop = |progress: rankfold_decompose::Progress| {
        cancel.store(progress.step == 2, Ordering::Relaxed);
    };
    let control = Control::default().on_progress(&stop).cancel_with(&cancel);
    let result = svd(a.view(), truncation, &with(SvdMethod::Krylov), control);
    assert_eq!(result.unwrap_err(), DecomposeError::Cancelled);
}

#[test]
fn balanced_factors_multiply_to_the_approximation() {
    let a = decaying::<f64>(30, 20, 9);
    let result = by_rank(&a, 5, &SvdOptions::default());
    let (left, right) = result.balanced();
    assert!(distance(&left.dot(&right), &rebuilt(&result)) < 1e-12);
    for i in 0..5 {
        let (l, r) = (left.index_axis(Axis(1), i), right.index_axis(Axis(0), i));
        assert!((l.dot(&l) / r.dot(&r) - 1.0).abs() < 1e-10);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_shape_rank_and_method(
        rows in 1usize..60, cols in 1usize..60, share in 0.0f64..1.0, seed in 0u64..1000, method in 0usize..3,
    ) {
        let rank = 1 + ((rows.min(cols) - 1) as f64 * share) as usize;
        let a = gaussian::<f32, _, _>((rows, cols), seed);
        let result = by_rank(&a, rank, &with(METHODS[method]));
        check(&a, &result);
        let optimum = spectrum(a.view(), Threads::Serial).unwrap().relative_error(rank);
        prop_assert!(result.relative_error <= optimum * 1.01 + 1e-6);
    }
}
