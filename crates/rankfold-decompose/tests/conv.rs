//! Channel SVD, spatial SVD, Tucker-2 and linear factors against their definitions, plain.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array4, Axis, s};
use proptest::prelude::*;
use rankfold_decompose::{
    Control, ConvOptions, DecomposeError, Position, Rank, Scalar, SvdOptions, Threads, Tucker2Rank,
    channel_curve, channel_max_rank, channel_svd, linear_curve, linear_svd, spatial_curve,
    spatial_max_rank, spatial_svd, tucker2, tucker2_curve, tucker2_max_rank,
};
use support::{conv2d, distance, gaussian};

fn grouped(groups: usize) -> ConvOptions<'static> {
    ConvOptions {
        groups,
        ..ConvOptions::default()
    }
}

/// Kernels [T, S/g, Dh, Dw] with their groups: square, oblong, pointwise, one channel, grouped.
const KERNELS: [((usize, usize, usize, usize), usize); 8] = [
    ((24, 16, 3, 3), 1),
    ((10, 30, 1, 5), 1),
    ((30, 7, 3, 2), 1),
    ((12, 9, 1, 1), 1),
    ((1, 8, 3, 3), 1),
    ((8, 1, 3, 3), 1),
    ((24, 6, 3, 3), 4),
    ((6, 4, 5, 1), 2),
];

fn rank(value: usize) -> Rank {
    Rank::new(value).unwrap()
}

/// Certificate, curve and full rank of the SVD forms for one kernel.
fn svd_forms<T: Scalar>(kernel: &Array4<T>, groups: usize) {
    let options = grouped(groups);
    let control = Control::default();
    let tolerance = 100.0 * T::EPS;

    let most = channel_max_rank(kernel.dim(), groups);
    let ranks: Vec<usize> = (0..=most).step_by(groups).collect();
    let curve = channel_curve(kernel.view(), &ranks, &options).unwrap();
    assert!((curve[0] - 1.0).abs() < tolerance && curve.is_sorted_by(|a, b| *a + tolerance >= *b));
    for (&r, &expected) in ranks.iter().zip(&curve).skip(1) {
        let factors = channel_svd(kernel.view(), rank(r), &options, control).unwrap();
        let (outputs, inputs, height, width) = kernel.dim();
        assert_eq!(factors.first.dim(), (r, inputs, height, width));
        assert_eq!(factors.second.dim(), (outputs, r / groups, 1, 1));
        let measured = distance(kernel, &factors.reconstruct());
        let certified = factors.relative_error;
        let slack = 1e-3 * measured + tolerance;
        assert!(
            (measured - certified).abs() < slack,
            "{measured} {certified} at {r} of {most}"
        );
        assert!(
            (measured - expected).abs() < slack,
            "{measured} {expected} at {r} of {most}"
        );
    }
    assert!(curve[ranks.len() - 1] < 20.0 * T::EPS.sqrt());

    let most = spatial_max_rank(kernel.dim(), groups);
    let ranks: Vec<usize> = (0..=most).step_by(groups).collect();
    let curve = spatial_curve(kernel.view(), &ranks, &options, control).unwrap();
    for (&r, &expected) in ranks.iter().zip(&curve).skip(1) {
        let factors = spatial_svd(kernel.view(), rank(r), &options, control).unwrap();
        let (outputs, inputs, height, width) = kernel.dim();
        assert_eq!(factors.vertical.dim(), (r, inputs, height, 1));
        assert_eq!(factors.horizontal.dim(), (outputs, r / groups, 1, width));
        let measured = distance(kernel, &factors.reconstruct());
        let certified = factors.relative_error;
        let slack = 1e-3 * measured + tolerance;
        assert!(
            (measured - certified).abs() < slack,
            "{measured} {certified} at {r} of {most}"
        );
        assert!(
            (measured - expected).abs() < slack,
            "{measured} {expected} at {r} of {most}"
        );
        if r == most {
            assert!(measured < tolerance, "{measured:e}");
        }
    }
}

#[test]
fn factors_of_full_rank_are_exact_to_a_few_units_of_rounding() {
    for (index, shape) in [(112, 480), (480, 112), (96, 96)].into_iter().enumerate() {
        let weights = gaussian::<f32, _, _>(shape, index as u64);
        let most = rank(shape.0.min(shape.1));
        let options = ConvOptions::default();
        let factors = linear_svd(weights.view(), most, &options, Control::default()).unwrap();
        let measured = distance(&weights, &factors.reconstruct());
        assert!(
            measured < 20.0 * f64::from(f32::EPSILON),
            "{measured:e} at {shape:?}"
        );
        assert!(factors.relative_error >= measured);
    }
}

#[test]
fn svd_forms_certify_their_error_at_every_rank() {
    for (index, (shape, groups)) in KERNELS.into_iter().enumerate() {
        svd_forms(&gaussian::<f32, _, _>(shape, index as u64), groups);
        svd_forms(&gaussian::<f64, _, _>(shape, index as u64), groups);
    }
}

#[test]
fn tucker2_certifies_its_error_and_full_rank_reproduces() {
    for (index, (shape, groups)) in KERNELS.into_iter().enumerate() {
        let kernel = gaussian::<f32, _, _>(shape, index as u64);
        let (inputs, outputs) = tucker2_max_rank(shape, groups);
        let mut pairs = Vec::new();
        for i in [1, inputs / groups / 2, inputs / groups] {
            for o in [1, outputs / groups / 2, outputs / groups] {
                if i * o > 0 {
                    pairs.push(Tucker2Rank::new(i * groups, o * groups).unwrap());
                }
            }
        }
        let options = grouped(groups);
        let curve = tucker2_curve(kernel.view(), &pairs, &options, Control::default()).unwrap();
        for (pair, expected) in pairs.iter().zip(curve) {
            let factors = tucker2(kernel.view(), *pair, &options, Control::default()).unwrap();
            let (i, o) = (pair.inputs.get(), pair.outputs.get());
            assert_eq!(factors.first.dim(), (i, shape.1, 1, 1));
            assert_eq!(factors.core.dim(), (o, i / groups, shape.2, shape.3));
            assert_eq!(factors.last.dim(), (shape.0, o / groups, 1, 1));
            let measured = distance(&kernel, &factors.reconstruct());
            assert_eq!(factors.relative_error, expected);
            assert!(
                (measured - expected).abs() < 1e-3 * measured + 5e-6,
                "{measured} {expected}"
            );
            if (i, o) == (inputs, outputs) {
                assert!(measured < 5e-6);
            }
        }
    }
}

#[test]
fn hooi_improves_on_hosvd_and_recovers_a_planted_rank() {
    let kernel = gaussian::<f64, _, _>((20, 16, 3, 3), 1);
    let pair = Tucker2Rank::new(6, 5).unwrap();
    let hosvd = ConvOptions {
        max_sweeps: 0,
        ..ConvOptions::default()
    };
    let start = tucker2(kernel.view(), pair, &hosvd, Control::default()).unwrap();
    let errors = Mutex::new(vec![start.relative_error]);
    let watch = |p: rankfold_decompose::Progress| errors.lock().unwrap().extend(p.relative_error);
    let control = Control::default().on_progress(&watch);
    let end = tucker2(kernel.view(), pair, &ConvOptions::default(), control).unwrap();
    let errors = errors.into_inner().unwrap();
    assert!(end.relative_error < start.relative_error);
    assert!(
        errors.len() == end.sweeps + 1 && errors.is_sorted_by(|a, b| a >= b),
        "{errors:?}"
    );

    let planted = tucker2(kernel.view(), pair, &hosvd, Control::default())
        .unwrap()
        .reconstruct();
    let found = tucker2(
        planted.view(),
        pair,
        &ConvOptions::default(),
        Control::default(),
    )
    .unwrap();
    assert!(found.relative_error < 1e-7, "{}", found.relative_error);
}

#[test]
fn tucker2_bases_are_orthonormal() {
    let kernel = gaussian::<f32, _, _>((20, 16, 3, 3), 1);
    let pair = Tucker2Rank::new(6, 5).unwrap();
    let factors = tucker2(
        kernel.view(),
        pair,
        &ConvOptions::default(),
        Control::default(),
    )
    .unwrap();
    assert!(support::non_orthonormality(factors.last.slice(s![.., .., 0, 0])) < 1e-5);
    assert!(support::non_orthonormality(factors.first.slice(s![.., .., 0, 0]).t()) < 1e-5);
}

#[test]
fn the_stages_together_are_the_convolution_of_the_reconstruction() {
    for groups in [1, 2] {
        let kernel = gaussian::<f64, _, _>((8, 6 / groups, 3, 2), 5);
        let image = gaussian::<f64, _, _>((6, 9, 8), 6);
        let options = grouped(groups);
        let control = Control::default();

        let f = channel_svd(kernel.view(), rank(4), &options, control).unwrap();
        let staged = conv2d(&conv2d(&image, &f.first, groups), &f.second, groups);
        assert!(distance(&conv2d(&image, &f.reconstruct(), groups), &staged) < 1e-12);

        let f = spatial_svd(kernel.view(), rank(6), &options, control).unwrap();
        let staged = conv2d(&conv2d(&image, &f.vertical, groups), &f.horizontal, groups);
        assert!(distance(&conv2d(&image, &f.reconstruct(), groups), &staged) < 1e-12);

        let pair = Tucker2Rank::new(4, 4).unwrap();
        let f = tucker2(kernel.view(), pair, &options, control).unwrap();
        let staged = conv2d(&conv2d(&image, &f.first, groups), &f.core, groups);
        let staged = conv2d(&staged, &f.last, groups);
        assert!(distance(&conv2d(&image, &f.reconstruct(), groups), &staged) < 1e-12);
    }
}

#[test]
fn linear_factors_multiply_to_the_weights() {
    let weights = gaussian::<f32, _, _>((40, 25), 3);
    let ranks: Vec<usize> = (1..=25).collect();
    let curve = linear_curve(weights.view(), &ranks, &ConvOptions::default()).unwrap();
    for (&r, &expected) in ranks.iter().zip(&curve) {
        let f = linear_svd(
            weights.view(),
            rank(r),
            &ConvOptions::default(),
            Control::default(),
        )
        .unwrap();
        assert_eq!((f.first.dim(), f.second.dim()), ((r, 25), (40, r)));
        let measured = distance(&weights, &f.reconstruct());
        assert!((measured - f.relative_error).abs() < 1e-3 * measured + 5e-6);
        assert!((measured - expected).abs() < 1e-3 * measured + 5e-6);
    }
}

#[test]
fn a_zero_kernel_has_zero_error() {
    let kernel = Array4::<f32>::zeros((6, 4, 3, 3));
    let (options, control) = (ConvOptions::default(), Control::default());
    assert_eq!(
        channel_svd(kernel.view(), rank(2), &options, control)
            .unwrap()
            .relative_error,
        0.0
    );
    assert_eq!(
        spatial_svd(kernel.view(), rank(2), &options, control)
            .unwrap()
            .relative_error,
        0.0
    );
    let pair = Tucker2Rank::new(2, 2).unwrap();
    let f = tucker2(kernel.view(), pair, &options, control).unwrap();
    assert_eq!(f.relative_error, 0.0);
    assert!(f.reconstruct().iter().all(|x| *x == 0.0));
    assert_eq!(
        channel_curve(kernel.view(), &[0, 1, 6], &options).unwrap(),
        vec![0.0; 3]
    );
    assert_eq!(
        spatial_curve(kernel.view(), &[0, 1, 6], &options, control).unwrap(),
        vec![0.0; 3]
    );
}

#[test]
fn the_scale_changes_nothing_but_the_scale() {
    let kernel = gaussian::<f64, _, _>((12, 10, 3, 3), 2);
    let (options, control) = (ConvOptions::default(), Control::default());
    let pair = Tucker2Rank::new(4, 5).unwrap();
    let errors = |kernel: &Array4<f32>| {
        let channel = channel_svd(kernel.view(), rank(5), &options, control).unwrap();
        let spatial = spatial_svd(kernel.view(), rank(9), &options, control).unwrap();
        let tucker = tucker2(kernel.view(), pair, &options, control).unwrap();
        let whole = [
            channel.reconstruct(),
            spatial.reconstruct(),
            tucker.reconstruct(),
        ];
        let certified = [
            channel.relative_error,
            spatial.relative_error,
            tucker.relative_error,
        ];
        for (whole, certified) in whole.iter().zip(certified) {
            assert!((distance(kernel, whole) / certified - 1.0).abs() < 1e-3);
        }
        certified
    };
    let truth = errors(&kernel.mapv(|x| x as f32));
    for scale in [1e30, 1e-30] {
        let scaled = errors(&kernel.mapv(|x| (x * scale) as f32));
        for (a, b) in truth.iter().zip(scaled) {
            assert!((a / b - 1.0).abs() < 1e-4, "{truth:?} {scaled:?}");
        }
    }
}

#[test]
fn bad_input_is_refused_by_name() {
    let control = Control::default();
    let kernel = gaussian::<f32, _, _>((6, 4, 3, 3), 2);
    let channel = |kernel: &Array4<f32>, r, groups| {
        channel_svd(kernel.view(), rank(r), &grouped(groups), control)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(
        channel(&kernel, 7, 1),
        DecomposeError::RankTooLarge {
            form: "channel SVD",
            rank: 7,
            max: 6
        }
    );
    assert_eq!(
        channel(&kernel, 3, 2),
        DecomposeError::RankNotDivisible { rank: 3, groups: 2 }
    );
    for groups in [0, 4] {
        assert_eq!(
            channel(&kernel, 4, groups),
            DecomposeError::GroupsNotDivisible {
                groups,
                channels: 6
            }
        );
    }
    let too_large = spatial_svd(kernel.view(), rank(13), &grouped(1), control).unwrap_err();
    assert_eq!(
        too_large,
        DecomposeError::RankTooLarge {
            form: "spatial SVD",
            rank: 13,
            max: 12
        }
    );
    let pair = Tucker2Rank::new(5, 1).unwrap();
    let too_large = tucker2(kernel.view(), pair, &grouped(1), control).unwrap_err();
    assert!(matches!(
        too_large,
        DecomposeError::RankTooLarge {
            form: "Tucker-2 input",
            ..
        }
    ));

    let depthwise = gaussian::<f32, _, _>((6, 1, 3, 3), 2);
    assert!(matches!(
        channel(&depthwise, 6, 6),
        DecomposeError::Depthwise { groups: 6, .. }
    ));
    let pair = Tucker2Rank::new(6, 6).unwrap();
    let refused = tucker2(depthwise.view(), pair, &grouped(6), control).unwrap_err();
    assert!(matches!(
        refused,
        DecomposeError::Depthwise {
            form: "Tucker-2",
            ..
        }
    ));
    let spatial = spatial_svd(depthwise.view(), rank(18), &grouped(6), control).unwrap();
    assert!(spatial.relative_error < 1e-6);

    let mut bad = kernel;
    bad[[5, 3, 0, 2]] = f32::NAN;
    match channel(&bad, 2, 1) {
        DecomposeError::NonFinite { position, .. } => {
            assert_eq!(position, Position(vec![5, 3, 0, 2]))
        }
        other => panic!("{other}"),
    }
    assert!(matches!(
        channel(&Array4::zeros((0, 4, 3, 3)), 1, 1),
        DecomposeError::Empty { .. }
    ));
}

#[test]
fn bits_do_not_depend_on_the_pool_and_a_run_can_be_cancelled() {
    let kernel = gaussian::<f32, _, _>((96, 80, 3, 3), 2);
    let pair = Tucker2Rank::new(30, 40).unwrap();
    let run = |threads| {
        let svd = SvdOptions {
            threads,
            ..SvdOptions::default()
        };
        let options = ConvOptions {
            svd,
            ..ConvOptions::default()
        };
        let control = Control::default();
        (
            channel_svd(kernel.view(), rank(20), &options, control).unwrap(),
            spatial_svd(kernel.view(), rank(50), &options, control).unwrap(),
            tucker2(kernel.view(), pair, &options, control).unwrap(),
        )
    };
    let serial = run(Threads::Serial);
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert!(pool.install(|| run(Threads::Pool)) == serial);
    }
    let cancel = AtomicBool::new(false);
    cancel.store(true, Ordering::Relaxed);
    let control = Control::default().cancel_with(&cancel);
    let options = ConvOptions::default();
    let cancelled = [
        channel_svd(kernel.view(), rank(2), &options, control).map(|_| ()),
        spatial_svd(kernel.view(), rank(2), &options, control).map(|_| ()),
        tucker2(kernel.view(), pair, &options, control).map(|_| ()),
    ];
    assert!(
        cancelled
            .iter()
            .all(|x| *x == Err(DecomposeError::Cancelled))
    );
}

#[test]
fn any_layout_is_read() {
    let kernel = gaussian::<f64, _, _>((3, 8, 12, 3), 2);
    let view = kernel.view().permuted_axes([2, 1, 3, 0]);
    let view = view.slice(s![..;-1, .., .., ..]);
    let copy = view.to_owned().as_standard_layout().into_owned();
    assert_ne!(view.strides(), copy.strides());
    let (options, control) = (ConvOptions::default(), Control::default());
    let pair = Tucker2Rank::new(4, 5).unwrap();
    let channel = channel_svd(view, rank(5), &options, control).unwrap();
    assert!((distance(&copy, &channel.reconstruct()) / channel.relative_error - 1.0).abs() < 1e-6);
    let spatial = spatial_svd(view, rank(5), &options, control).unwrap();
    assert!((distance(&copy, &spatial.reconstruct()) / spatial.relative_error - 1.0).abs() < 1e-6);
    let tucker = tucker2(view, pair, &options, control).unwrap();
    assert!((distance(&copy, &tucker.reconstruct()) / tucker.relative_error - 1.0).abs() < 1e-6);
    assert_eq!(copy.len_of(Axis(0)), 12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn errors_fall_with_the_rank(
        outputs in 1usize..12, inputs in 1usize..12, height in 1usize..4, width in 1usize..4, seed in 0u64..99,
    ) {
        let kernel = gaussian::<f32, _, _>((outputs, inputs, height, width), seed);
        let (options, control) = (ConvOptions::default(), Control::default());
        let ranks: Vec<usize> = (0..=spatial_max_rank(kernel.dim(), 1)).collect();
        let curve = spatial_curve(kernel.view(), &ranks, &options, control).unwrap();
        prop_assert!(curve.is_sorted_by(|a, b| a >= b));
        prop_assert!((curve[0] - 1.0).abs() < 1e-6 && curve[curve.len() - 1] < 1e-6);
        let (i, o) = tucker2_max_rank(kernel.dim(), 1);
        let mut last = 1.0;
        for share in 1..=3 {
            let pair = Tucker2Rank::new((i * share).div_ceil(3), (o * share).div_ceil(3)).unwrap();
            let error = tucker2(kernel.view(), pair, &options, control).unwrap().relative_error;
            prop_assert!(error <= last + 1e-3);
            last = error;
        }
        prop_assert!(last < 5e-6);
    }
}
