//! Data-aware CP: the reported error is the response's, and degenerate covariances are safe.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cp_support;

use cp_support::{FORMS, gaussian, options};
use ndarray::{Array2, Array4};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rankfold_decompose::cp::{
    CpForm, CpOptions, CpWeights, Refine, Target, cp, cp_weighted, cp_weighted_curve, max_rank,
    refine,
};
use rankfold_decompose::{Control, DecomposeError, InputCovariance};

/// Second moments of `samples` correlated patches.
fn moments(patch: usize, samples: usize, seed: u64) -> Array2<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = |shape: (usize, usize)| {
        Array2::<f64>::from_shape_simple_fn(shape, || StandardNormal.sample(&mut rng))
    };
    let spread = Array2::from_diag(&ndarray::Array1::from_shape_fn(patch, |i| {
        1.0 / (1.0 + i as f64)
    }));
    let x = normal((samples, patch))
        .dot(&spread)
        .dot(&normal((patch, patch)));
    x.t().dot(&x) / samples as f64
}

/// √(tr(ΔCΔᵀ)/tr(WCWᵀ)) by its definition.
fn response_error(kernel: &Array4<f64>, model: &Array4<f64>, c: &Array2<f64>) -> f64 {
    let energy = |w: &Array4<f64>| -> f64 {
        let rows = w.to_shape((w.dim().0, c.nrows())).unwrap().to_owned();
        (rows.dot(c) * &rows).sum()
    };
    (energy(&(kernel - model)) / energy(kernel)).sqrt()
}

#[test]
fn the_reported_error_is_that_of_the_response_and_below_the_plain_one() {
    let kernel = gaussian::<f64>([12, 8, 3, 3], 61);
    let c = moments(72, 500, 63);
    let covariance = InputCovariance::new(c.clone()).unwrap();
    for form in FORMS {
        let o = options(form);
        let plain = cp(kernel.view(), 8, &o, Control::default()).unwrap();
        let aware = cp_weighted(kernel.view(), 8, &covariance, &o, Control::default()).unwrap();
        let error = response_error(&kernel, &aware.weights.reconstruct(), &c);
        assert!((error - aware.relative_error).abs() < 1e-10, "{form:?}");
        let before = response_error(&kernel, &plain.weights.reconstruct(), &c);
        assert!(error < before, "{form:?}: {error} {before}");
    }
}

#[test]
fn white_inputs_give_the_plain_decomposition() {
    let kernel = gaussian::<f64>([9, 7, 3, 3], 65);
    let covariance = InputCovariance::new(Array2::eye(63)).unwrap();
    for form in FORMS {
        let plain = cp(kernel.view(), 6, &options(form), Control::default()).unwrap();
        let aware = cp_weighted(
            kernel.view(),
            6,
            &covariance,
            &options(form),
            Control::default(),
        )
        .unwrap();
        let gap = (plain.relative_error - aware.relative_error).abs();
        assert!(
            gap < 1e-6,
            "{form:?}: {} {}",
            plain.relative_error,
            aware.relative_error
        );
    }
}

#[test]
fn degenerate_covariances_give_finite_factors() {
    let kernel = gaussian::<f32>([8, 6, 3, 3], 67);
    let cases = [
        ("zero", Array2::zeros((54, 54))),
        ("one sample", moments(54, 1, 69)),
        ("rank-deficient", moments(54, 7, 71)),
        ("tiny", moments(54, 100, 73) * 1e-30),
        ("huge", moments(54, 100, 75) * 1e30),
    ];
    for (name, c) in cases {
        let covariance = InputCovariance::new(c).unwrap();
        for form in FORMS {
            let d = cp_weighted(
                kernel.view(),
                5,
                &covariance,
                &options(form),
                Control::default(),
            )
            .unwrap();
            let finite = d.weights.reconstruct().iter().all(|x| x.is_finite());
            assert!(
                finite && d.relative_error.is_finite(),
                "{name} {form:?} {}",
                d.relative_error
            );
            assert!(
                d.relative_error < 1.0,
                "{name} {form:?}: {}",
                d.relative_error
            );
        }
    }
}

#[test]
fn full_rank_reproduces_the_kernel_under_any_metric() {
    let kernel = gaussian::<f64>([5, 4, 3, 3], 77);
    let covariance = InputCovariance::new(moments(36, 200, 79)).unwrap();
    for form in FORMS {
        let rank = max_rank([5, 4, 3, 3], 1, form);
        let d = cp_weighted(
            kernel.view(),
            rank,
            &covariance,
            &options(form),
            Control::default(),
        );
        let d = d.unwrap();
        let gap = (&d.weights.reconstruct() - &kernel)
            .mapv(|x| x * x)
            .sum()
            .sqrt();
        assert!(gap < 1e-10, "{form:?}: {gap}");
        assert!(d.relative_error < 1e-10, "{form:?}");
    }
}

#[test]
fn groups_have_their_own_metric() {
    let kernel = gaussian::<f64>([8, 3, 3, 3], 81);
    let parts = vec![moments(27, 90, 83), moments(27, 90, 85)];
    let covariance = InputCovariance::grouped(parts).unwrap();
    for form in [CpForm::ThreeWay, CpForm::FourWay] {
        let o = CpOptions {
            groups: 2,
            ..options(form)
        };
        let curve = cp_weighted_curve(kernel.view(), &[4, 12], &covariance, &o, Control::default())
            .unwrap();
        assert_eq!(curve[0].weights.groups, 2);
        assert!(
            curve[1].relative_error < curve[0].relative_error,
            "{form:?}"
        );
    }
    let error = cp_weighted(
        kernel.view(),
        4,
        &covariance,
        &CpOptions::default(),
        Control::default(),
    );
    assert!(matches!(error, Err(DecomposeError::ShapeMismatch { .. })));
}

#[test]
fn refinement_ends_where_no_factor_alone_can_be_better() {
    let kernel = gaussian::<f64>([8, 6, 3, 3], 71);
    let c = moments(54, 400, 73);
    let covariance = InputCovariance::new(c.clone()).unwrap();
    let o = options(CpForm::ThreeWay);
    let start = cp(kernel.view(), 5, &o, Control::default())
        .unwrap()
        .weights;
    let target = Target {
        covariance: &covariance,
        cross: None,
        outputs: None,
    };
    let thorough = Refine {
        sweeps: 300,
        steps: 30,
        ridge: 1e-10,
        ..Refine::default()
    };
    let refined = refine(kernel.view(), &start, target, &thorough, Control::default()).unwrap();
    let error =
        |weights: &CpWeights<f64>| response_error(&kernel, &weights.reconstruct(), &c).powi(2);
    assert!(
        error(&refined) < 0.9 * error(&start),
        "{} {}",
        error(&refined),
        error(&start)
    );
    // How fast the error falls along a direction of one factor, which is drawn.
    let slope = |weights: &CpWeights<f64>, factor: usize| {
        let moved = |by: f64| {
            let mut weights = weights.clone();
            let own = match factor {
                0 => &mut weights.input,
                1 => &mut weights.spatial[0],
                _ => &mut weights.output,
            };
            let (rows, columns, height, width) = own.dim();
            let direction = gaussian::<f64>([rows, columns, height, width], 75);
            let size = (own.mapv(|x| x * x).sum() / direction.mapv(|x| x * x).sum()).sqrt();
            own.scaled_add(by * size, &direction);
            error(&weights)
        };
        ((moved(1e-5) - moved(-1e-5)) / 2e-5).abs()
    };
    for factor in 0..3 {
        let (before, after) = (slope(&start, factor), slope(&refined, factor));
        assert!(after < 0.02 * before, "{factor}: {before} {after}");
    }
}
