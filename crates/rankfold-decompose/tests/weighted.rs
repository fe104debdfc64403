//! Data-aware forms: the certified response error is the measured one, and it is smaller than that
//! of the plain form.

#![allow(clippy::unwrap_used)]

mod support;

use ndarray::{Array2, Array3, Array4, Axis, s};
use rankfold_decompose::{
    Control, ConvOptions, DecomposeError, InputCovariance, Rank, Threads, Tucker2Rank,
    channel_curve, channel_svd, linear_curve, linear_svd, spatial_curve, spatial_svd, tucker2,
    tucker2_curve,
};
use support::{conv2d, distance, gaussian, norm};

/// Images [S, H, W] whose channels and neighbouring pixels are correlated, as those of a network are.
fn images(channels: usize, count: usize, seed: u64) -> Vec<Array3<f64>> {
    let mixing = gaussian::<f64, _, _>((channels, channels), seed);
    (0..count)
        .map(|i| {
            let raw = gaussian::<f64, _, _>((channels, 10, 9), seed + 1 + i as u64);
            let flat = raw.into_shape_with_order((channels, 90)).unwrap();
            let decay = Array2::from_shape_fn((channels, 1), |(c, _)| 0.6f64.powi(c as i32));
            let mixed = mixing
                .dot(&(flat * decay))
                .into_shape_with_order((channels, 10, 9))
                .unwrap();
            let mut smooth = mixed.clone();
            for y in 1..10 {
                let above = smooth.slice(s![.., y - 1, ..]).to_owned();
                smooth.slice_mut(s![.., y, ..]).scaled_add(0.8, &above);
            }
            smooth
        })
        .collect()
}

/// Patches of an image as rows, in the order [channel, row, column], of one group's channels.
fn patches(
    image: &Array3<f64>,
    channels: std::ops::Range<usize>,
    height: usize,
    width: usize,
) -> Array2<f64> {
    let (_, rows, cols) = image.dim();
    let mut out = Vec::new();
    let mut count = 0;
    for y in 0..=rows - height {
        for x in 0..=cols - width {
            let patch = image.slice(s![channels.clone(), y..y + height, x..x + width]);
            out.extend(patch.iter().copied());
            count += 1;
        }
    }
    Array2::from_shape_vec((count, channels.len() * height * width), out).unwrap()
}

/// Second moments of the patches of a convolution's inputs, group by group.
fn moments(
    images: &[Array3<f64>],
    inputs: usize,
    groups: usize,
    height: usize,
    width: usize,
) -> InputCovariance {
    let matrices = (0..groups)
        .map(|group| {
            let mut sum = Array2::zeros((inputs * height * width, inputs * height * width));
            let mut count = 0;
            for image in images {
                let x = patches(image, group * inputs..(group + 1) * inputs, height, width);
                sum += &x.t().dot(&x);
                count += x.nrows();
            }
            sum / count as f64
        })
        .collect();
    InputCovariance::grouped(matrices).unwrap()
}

/// ‖Σ responses − responses of the approximation‖ / ‖responses‖, by running both.
fn response_distance(
    images: &[Array3<f64>],
    kernel: &Array4<f64>,
    approximation: &Array4<f64>,
    groups: usize,
) -> f64 {
    let (mut missed, mut whole) = (0.0, 0.0);
    for image in images {
        let expected = conv2d(image, kernel, groups);
        missed += norm(&(&expected - &conv2d(image, approximation, groups))).powi(2);
        whole += norm(&expected).powi(2);
    }
    (missed / whole).sqrt()
}

fn rank(value: usize) -> Rank {
    Rank::new(value).unwrap()
}

#[test]
fn the_certified_response_error_is_the_measured_one_and_beats_the_plain_form() {
    for (outputs, inputs, height, width, groups) in [
        (16, 12, 3, 3, 1),
        (10, 8, 3, 2, 1),
        (12, 5, 1, 3, 1),
        (14, 9, 1, 1, 1),
        (12, 6, 3, 3, 2),
    ] {
        let kernel = gaussian::<f64, _, _>((outputs, inputs, height, width), 3);
        let images = images(inputs * groups, 3, 50);
        let covariance = moments(&images, inputs, groups, height, width);
        let plain = ConvOptions {
            groups,
            ..ConvOptions::default()
        };
        let aware = ConvOptions {
            groups,
            covariance: Some(&covariance),
            ..ConvOptions::default()
        };
        let control = Control::default();
        let measured = |whole: &Array4<f64>| response_distance(&images, &kernel, whole, groups);
        let certified = |what: &str, whole: &Array4<f64>, certificate: f64| {
            let measured = measured(whole);
            assert!(
                (measured - certificate).abs() < 1e-6 * measured + 1e-9,
                "{what}: certified {certificate}, measured {measured}"
            );
            measured
        };

        let r = rank(2 * groups);
        let f = channel_svd(kernel.view(), r, &aware, control).unwrap();
        let channel = certified("channel", &f.reconstruct(), f.relative_error);
        let f = channel_svd(kernel.view(), r, &plain, control).unwrap();
        assert!(channel < measured(&f.reconstruct()));

        let f = spatial_svd(kernel.view(), r, &aware, control).unwrap();
        let spatial = certified("spatial", &f.reconstruct(), f.relative_error);
        let f = spatial_svd(kernel.view(), r, &plain, control).unwrap();
        assert!(spatial < measured(&f.reconstruct()));

        let pair = Tucker2Rank::new(2 * groups, 3 * groups).unwrap();
        let f = tucker2(kernel.view(), pair, &aware, control).unwrap();
        let tucker = certified("Tucker-2", &f.reconstruct(), f.relative_error);
        let f = tucker2(kernel.view(), pair, &plain, control).unwrap();
        assert!(tucker < measured(&f.reconstruct()));
    }
}

#[test]
fn curves_are_the_errors_of_the_forms() {
    let kernel = gaussian::<f32, _, _>((12, 10, 3, 3), 3);
    let images = images(10, 2, 7);
    let covariance = moments(&images, 10, 1, 3, 3);
    let options = ConvOptions {
        covariance: Some(&covariance),
        ..ConvOptions::default()
    };
    let control = Control::default();
    let ranks: Vec<usize> = (0..=12).collect();
    let curve = channel_curve(kernel.view(), &ranks, &options).unwrap();
    assert!((curve[0] - 1.0).abs() < 1e-12 && curve.is_sorted_by(|a, b| a >= b));
    for (&r, &expected) in ranks.iter().zip(&curve).skip(1) {
        let f = channel_svd(kernel.view(), rank(r), &options, control).unwrap();
        assert!((f.relative_error - expected).abs() < 1e-9);
    }
    let curve = spatial_curve(kernel.view(), &ranks, &options, control).unwrap();
    assert!((curve[0] - 1.0).abs() < 1e-12 && curve[12] < curve[1]);
    for (&r, &expected) in ranks.iter().zip(&curve).skip(1) {
        let f = spatial_svd(kernel.view(), rank(r), &options, control).unwrap();
        assert!((f.relative_error / expected - 1.0).abs() < 0.01, "{r}");
    }
    let pairs = [
        Tucker2Rank::new(3, 4).unwrap(),
        Tucker2Rank::new(10, 12).unwrap(),
    ];
    let curve = tucker2_curve(kernel.view(), &pairs, &options, control).unwrap();
    assert!(curve[1] < 1e-5 && curve[0] > curve[1]);
}

#[test]
fn linear_factors_minimise_the_response_error() {
    let weights = gaussian::<f64, _, _>((20, 15), 3);
    let inputs = gaussian::<f64, _, _>((200, 15), 4).dot(&gaussian::<f64, _, _>((15, 15), 5));
    let covariance = InputCovariance::new(inputs.t().dot(&inputs) / 200.0).unwrap();
    let covariance = covariance.with_ridge(0.0).unwrap();
    let options = ConvOptions {
        covariance: Some(&covariance),
        ..ConvOptions::default()
    };
    let expected = weights.dot(&inputs.t());
    let curve = linear_curve(weights.view(), &[4, 8, 15], &options).unwrap();
    for (&r, &on_curve) in [4, 8, 15].iter().zip(&curve) {
        let f = linear_svd(weights.view(), rank(r), &options, Control::default()).unwrap();
        let measured = distance(&expected, &f.reconstruct().dot(&inputs.t()));
        assert!((measured - f.relative_error).abs() < 1e-7 && (measured - on_curve).abs() < 1e-7);
        // The optimum is the truncation of the responses themselves.
        let whole = rankfold_decompose::spectrum(expected.view(), Threads::Serial).unwrap();
        assert!((measured - whole.relative_error(r)).abs() < 1e-7);
    }
}

/// Wide layers take the iterative path where the ranks are low, and the exact one where they are not.
#[test]
fn curves_of_wide_layers_do_not_depend_on_the_path() {
    let weights = support::decaying::<f32>(1100, 1050, 3);
    let inputs = support::decaying::<f64>(1050, 1050, 9);
    let covariance = InputCovariance::new(inputs.t().dot(&inputs)).unwrap();
    for covariance in [None, Some(&covariance)] {
        let options = ConvOptions {
            covariance,
            ..ConvOptions::default()
        };
        let low = linear_curve(weights.view(), &[5, 20, 60], &options).unwrap();
        let all = linear_curve(weights.view(), &[5, 20, 60, 1050], &options).unwrap();
        for (low, all) in low.iter().zip(&all) {
            assert!((0.9999..1.001).contains(&(low / all)), "{low} {all}");
        }
        let control = Control::default();
        let f = linear_svd(weights.view(), rank(60), &options, control).unwrap();
        assert!((f.relative_error / all[2] - 1.0).abs() < 1e-3);
        let measured = match covariance {
            None => distance(&weights, &f.reconstruct()),
            Some(covariance) => {
                let whole = f.reconstruct().insert_axis(Axis(2)).insert_axis(Axis(3));
                let weights = weights.view().insert_axis(Axis(2)).insert_axis(Axis(3));
                covariance
                    .response_error(weights, whole.view(), Threads::Pool)
                    .unwrap()
            }
        };
        assert!((f.relative_error / measured - 1.0).abs() < 1e-4);
    }
}

#[test]
fn isotropic_inputs_give_the_plain_form() {
    let kernel = gaussian::<f64, _, _>((10, 6, 3, 3), 1);
    let covariance = InputCovariance::new(Array2::eye(54) * 7.0).unwrap();
    let plain = ConvOptions::default();
    let aware = ConvOptions {
        covariance: Some(&covariance),
        ..ConvOptions::default()
    };
    let control = Control::default();
    let (a, b) = (
        channel_svd(kernel.view(), rank(4), &plain, control).unwrap(),
        channel_svd(kernel.view(), rank(4), &aware, control).unwrap(),
    );
    assert!((a.relative_error - b.relative_error).abs() < 1e-9);
    let (a, b) = (
        spatial_svd(kernel.view(), rank(4), &plain, control).unwrap(),
        spatial_svd(kernel.view(), rank(4), &aware, control).unwrap(),
    );
    assert!(distance(&a.reconstruct(), &b.reconstruct()) < 1e-6);
    let pair = Tucker2Rank::new(3, 4).unwrap();
    let (a, b) = (
        tucker2(kernel.view(), pair, &plain, control).unwrap(),
        tucker2(kernel.view(), pair, &aware, control).unwrap(),
    );
    assert!(distance(&a.reconstruct(), &b.reconstruct()) < 1e-2);
    assert!((a.relative_error - b.relative_error).abs() < 1e-6);
}

#[test]
fn degenerate_covariances_are_safe_and_full_rank_reproduces() {
    let kernel = gaussian::<f32, _, _>((10, 6, 3, 3), 1);
    let patch = gaussian::<f64, _, _>((1, 54), 2);
    let few = gaussian::<f64, _, _>((5, 54), 2);
    let mut dead = few.t().dot(&few);
    dead.slice_mut(s![..18, ..]).fill(0.0);
    dead.slice_mut(s![.., ..18]).fill(0.0);
    let control = Control::default();
    for (name, moments) in [
        ("zero", Array2::zeros((54, 54))),
        ("one sample", patch.t().dot(&patch)),
        ("rank five", few.t().dot(&few)),
        ("dead channels", dead),
        ("huge", few.t().dot(&few) * 1e30),
        ("tiny", few.t().dot(&few) * 1e-30),
    ] {
        let covariance = InputCovariance::new(moments).unwrap();
        let options = ConvOptions {
            covariance: Some(&covariance),
            ..ConvOptions::default()
        };
        for r in [1, 4, 10] {
            let f = channel_svd(kernel.view(), rank(r), &options, control).unwrap();
            let whole = f.reconstruct();
            assert!(whole.iter().all(|x| x.is_finite()), "{name}");
            let measured = covariance
                .response_error(kernel.view(), whole.view(), Threads::Serial)
                .unwrap();
            assert!(
                (measured - f.relative_error).abs() < 1e-4 * measured + 2e-6,
                "{name} {r}: {measured} {}",
                f.relative_error
            );
            if r == 10 {
                assert!(
                    distance(&kernel, &whole) < 1e-5,
                    "{name}: {}",
                    distance(&kernel, &whole)
                );
            }
        }
        for r in [1, 8, 18] {
            let f = spatial_svd(kernel.view(), rank(r), &options, control).unwrap();
            let whole = f.reconstruct();
            assert!(
                whole.iter().all(|x| x.is_finite()) && f.relative_error.is_finite(),
                "{name}"
            );
            if r == 18 {
                assert!(
                    distance(&kernel, &whole) < 1e-4,
                    "{name}: {}",
                    distance(&kernel, &whole)
                );
            }
        }
        for (i, o) in [(1, 1), (3, 5), (6, 10)] {
            let pair = Tucker2Rank::new(i, o).unwrap();
            let f = tucker2(kernel.view(), pair, &options, control).unwrap();
            let whole = f.reconstruct();
            assert!(
                whole.iter().all(|x| x.is_finite()) && f.relative_error.is_finite(),
                "{name}"
            );
            if (i, o) == (6, 10) {
                assert!(
                    distance(&kernel, &whole) < 1e-4,
                    "{name}: {}",
                    distance(&kernel, &whole)
                );
            }
        }
    }
}

#[test]
fn covariances_that_do_not_fit_are_refused() {
    let kernel = gaussian::<f32, _, _>((10, 6, 3, 3), 1);
    let refuse = |covariance: InputCovariance, groups| {
        let options = ConvOptions {
            groups,
            covariance: Some(&covariance),
            ..ConvOptions::default()
        };
        channel_svd(kernel.view(), rank(2), &options, Control::default()).unwrap_err()
    };
    let eye = |n| InputCovariance::new(Array2::eye(n)).unwrap();
    assert!(matches!(
        refuse(eye(53), 1),
        DecomposeError::ShapeMismatch {
            array: "input covariance",
            ..
        }
    ));
    assert!(matches!(
        refuse(eye(54), 2),
        DecomposeError::ShapeMismatch { .. }
    ));
    assert!(matches!(
        InputCovariance::new(Array2::zeros((3, 4))),
        Err(DecomposeError::ShapeMismatch { .. })
    ));
    let mut bad = Array2::eye(3);
    bad[[1, 2]] = f64::NAN;
    assert!(matches!(
        InputCovariance::new(bad),
        Err(DecomposeError::NonFinite { .. })
    ));
    assert!(matches!(
        InputCovariance::grouped(vec![]),
        Err(DecomposeError::Empty { .. })
    ));
    assert!(matches!(
        eye(3).with_ridge(-1.0),
        Err(DecomposeError::InvalidOption { .. })
    ));
}
