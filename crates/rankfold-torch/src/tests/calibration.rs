//! Covariances, metrics and statistics against sums written out.

use std::ops::ControlFlow;

use ndarray::{Array1, Array2};
use rankfold_compress::Probe;
use rankfold_data::{
    Batch, DataSpec, Dataset, ImageSize, Input, Loader, LoaderOptions, Normalization, Split,
    TensorData,
};
use rankfold_graph::ops::{Conv, Flatten, Linear};
use rankfold_graph::{Fact, Graph, GraphBuilder, Op};
use tch::{Kind, Tensor};

use super::executor::image_network;
use super::{input, noise, values, weight};
use crate::moments::Moments;
use crate::{CalibrateOptions, Metric, ProbeOptions, TorchProbe, calibrate};

/// Patches of a convolution in the order of the kernel, group by group, sums written out.
fn reference_patches(x: &Tensor, op: &Conv, kernel: [i64; 2]) -> Vec<Vec<Vec<f64>>> {
    let (n, c, h, w) = x.size4().unwrap();
    let xs = values(x);
    let channels = c / op.groups as i64;
    let size = |len: i64, i: usize| {
        let [before, after] = op.padding[i].map(|p| p as i64);
        (len + before + after - op.dilation[i] as i64 * (kernel[i] - 1) - 1) / op.stride[i] as i64
            + 1
    };
    let mut groups = vec![Vec::new(); op.groups];
    for (group, all) in groups.iter_mut().enumerate() {
        for image in 0..n {
            for (row, column) in (0..size(h, 0)).flat_map(|r| (0..size(w, 1)).map(move |c| (r, c)))
            {
                let mut patch = Vec::new();
                for s in 0..channels {
                    for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
                        let y = row * op.stride[0] as i64 + i * op.dilation[0] as i64
                            - op.padding[0][0] as i64;
                        let x = column * op.stride[1] as i64 + j * op.dilation[1] as i64
                            - op.padding[1][0] as i64;
                        let inside = (0..h).contains(&y) && (0..w).contains(&x);
                        let from = group as i64 * channels + s;
                        let place = ((image * c + from) * h + y) * w + x;
                        patch.push(if inside { xs[place as usize] } else { 0.0 });
                    }
                }
                all.push(patch);
            }
        }
    }
    groups
}

fn reference_moments(rows: &[Vec<f64>]) -> (Array1<f64>, Array2<f64>) {
    let n = rows.len() as f64;
    let length = rows[0].len();
    let mean = Array1::from_shape_fn(length, |i| rows.iter().map(|r| r[i]).sum::<f64>() / n);
    let covariance = Array2::from_shape_fn((length, length), |(i, j)| {
        rows.iter()
            .map(|r| (r[i] - mean[i]) * (r[j] - mean[j]))
            .sum::<f64>()
            / n
    });
    (mean, covariance)
}

fn close(a: &Array2<f64>, b: &Array2<f64>, bound: f64) {
    assert_eq!(a.dim(), b.dim());
    let norm = |m: &Array2<f64>| m.iter().map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&(a - b)) / norm(b);
    assert!(error < bound, "relative error {error:e}");
}

#[test]
fn patch_covariances_equal_the_sums_written_out() {
    let base = Conv::new("w", None, 2);
    let cases = [
        (base.clone().padding(1), [3, 3]),
        (base.clone().stride(2).padding(1), [3, 3]),
        (
            Conv {
                padding: vec![[0, 2], [1, 0]],
                stride: vec![1, 2],
                ..base.clone()
            },
            [2, 3],
        ),
        (
            Conv {
                dilation: vec![2, 1],
                ..base.clone().padding(2).groups(2)
            },
            [3, 2],
        ),
        (base.clone().groups(4), [3, 3]),
        (base.clone(), [1, 1]),
    ];
    let x = input(&[5, 4, 9, 8], 1) + 0.3;
    for (conv, kernel) in cases {
        let shape = [8, 4 / conv.groups, kernel[0] as usize, kernel[1] as usize];
        let mut moments = Moments::new("conv", &Op::Conv(conv.clone()), &shape, 1).unwrap();
        for layout in [&x, &crate::executor::channels_last(&x).unwrap()] {
            moments.add(layout).unwrap();
        }
        let (means, covariances) = moments.finish().unwrap();
        let groups = reference_patches(&x, &conv, kernel);
        assert_eq!(means.len(), conv.groups);
        assert_eq!(moments.samples(), 2 * groups[0].len());
        for ((mean, covariance), rows) in means.iter().zip(&covariances).zip(&groups) {
            let (expected_mean, expected) = reference_moments(rows);
            close(covariance, &expected, 1e-5);
            let off = (mean - &expected_mean)
                .iter()
                .fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(off < 1e-6, "{off:e}");
        }
    }
}

#[test]
fn one_dimensional_and_linear_layers_too() {
    let x = input(&[6, 4, 11], 2);
    let conv = Conv::new("w", None, 1).stride(2).padding(1);
    let mut moments = Moments::new("conv", &Op::Conv(conv.clone()), &[5, 4, 3], 1).unwrap();
    moments.add(&x).unwrap();
    let flat = Conv {
        stride: vec![1, 2],
        padding: vec![[0, 0], [1, 1]],
        ..Conv::new("w", None, 2)
    };
    let rows = reference_patches(&x.unsqueeze(2), &flat, [1, 3]);
    close(
        &moments.finish().unwrap().1[0],
        &reference_moments(&rows[0]).1,
        1e-5,
    );

    let linear = Op::Linear(Linear {
        weight: "w".into(),
        bias: None,
    });
    let mut moments = Moments::new("fc", &linear, &[5, 11], 1).unwrap();
    moments.add(&x).unwrap();
    let rows: Vec<Vec<f64>> = values(&x).chunks(11).map(<[f64]>::to_vec).collect();
    close(
        &moments.finish().unwrap().1[0],
        &reference_moments(&rows).1,
        1e-5,
    );
    assert_eq!(moments.samples(), 24);
}

/// On as many groups of equal images as there are offsets every position is taken equally often.
#[test]
fn thinned_positions_take_turns() {
    let one = input(&[1, 2, 9, 7], 3);
    for thinning in [2, 3, 4] {
        let count = (16 * thinning * thinning) as i64;
        let x = one.expand([count, 2, 9, 7], false).contiguous();
        let conv = Conv::new("w", None, 2).padding(1);
        let mut moments =
            Moments::new("conv", &Op::Conv(conv.clone()), &[4, 2, 3, 3], thinning).unwrap();
        moments.add(&x).unwrap();
        assert_eq!(moments.samples(), 16 * 63);
        let rows = reference_patches(&one, &conv, [3, 3]);
        close(
            &moments.finish().unwrap().1[0],
            &reference_moments(&rows[0]).1,
            1e-5,
        );
    }
}

#[test]
fn paired_moments_blend_both_networks() {
    let (x, other) = (input(&[4, 2, 6, 6], 1), input(&[4, 2, 6, 6], 2));
    let conv = Conv::new("w", None, 2).padding(1);
    let mut moments = Moments::new("conv", &Op::Conv(conv.clone()), &[3, 2, 3, 3], 1).unwrap();
    moments.add_pair(&x, &other).unwrap();
    let paired = moments.paired().unwrap();
    let (a, b) = (
        reference_patches(&x, &conv, [3, 3]),
        reference_patches(&other, &conv, [3, 3]),
    );
    let (own_mean, own) = reference_moments(&b[0]);
    close(&paired.covariance[0], &own, 1e-5);
    let blend: Vec<Vec<f64>> = (a[0].iter().zip(&b[0]))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect())
        .collect();
    let n = blend.len() as f64;
    let (blend_mean, _) = reference_moments(&blend);
    let cross = Array2::from_shape_fn((18, 18), |(i, j)| {
        let products = blend
            .iter()
            .zip(&b[0])
            .map(|(z, y)| (z[i] - blend_mean[i]) * (y[j] - own_mean[j]));
        products.sum::<f64>() / n
    });
    close(&paired.cross[0], &cross, 1e-5);
    assert!(
        (&paired.blend_mean[0] - &blend_mean)
            .iter()
            .all(|v| v.abs() < 1e-6)
    );
    assert!((&paired.mean[0] - &own_mean).iter().all(|v| v.abs() < 1e-6));
}

fn shapes(slice: &str) -> Dataset {
    let spec: DataSpec = "shapes:3".parse().unwrap();
    let split: Split = slice.parse().unwrap();
    Dataset::open(&spec, &split, ImageSize::default()).unwrap()
}

/// A convolution and a linear layer without anything between: gradients are the same for every image.
fn linear_network() -> Graph {
    let mut b = GraphBuilder::new("linear");
    let x = b.input("x", Fact::batch_of(&[3, 32, 32])).unwrap();
    b.weight("conv.weight", weight(&[4, 3, 3, 3], 1));
    let x = b
        .op("conv", Conv::new("conv.weight", None, 2).stride(8), &[x])
        .unwrap();
    let x = b.op("flat", Flatten { start: 1, end: -1 }, &[x]).unwrap();
    b.weight("fc.weight", weight(&[6, 64], 2));
    let x = b
        .op(
            "fc",
            Linear {
                weight: "fc.weight".into(),
                bias: None,
            },
            &[x],
        )
        .unwrap();
    b.finish(&[x]).unwrap()
}

#[test]
fn the_gauss_newton_metric_of_a_linear_network_is_known() {
    let graph = linear_network();
    let fc = noise(6 * 64, 2);
    // G = Σ_positions Jᵀ (I − 11ᵀ/6) J with J[class, channel] the weights at that position.
    let at = |class: usize, channel: usize, position: usize| {
        f64::from(fc[class * 64 + channel * 16 + position])
    };
    let mean = |channel: usize, position: usize| {
        (0..6).map(|k| at(k, channel, position)).sum::<f64>() / 6.0
    };
    let expected = Array2::from_shape_fn((4, 4), |(i, j)| {
        let pairs = (0..6).flat_map(|k| (0..16).map(move |p| (k, p)));
        pairs
            .map(|(k, p)| (at(k, i, p) - mean(i, p)) * (at(k, j, p) - mean(j, p)))
            .sum::<f64>()
    });
    let loader = Loader::new(
        shapes("train[:2000]"),
        LoaderOptions::evaluate(250, Normalization::unit()),
    )
    .unwrap();
    let options = CalibrateOptions {
        metric_images: 2000,
        ..CalibrateOptions::default()
    };
    let layers = ["conv".to_owned(), "fc".to_owned()];
    let run = || {
        calibrate(
            &graph,
            &layers,
            &options,
            loader.epoch(0, 0).unwrap(),
            |_| ControlFlow::Continue(()),
        )
        .unwrap()
    };
    let statistics = run();
    close(
        statistics["conv"].output_metric.as_ref().unwrap(),
        &expected,
        0.1,
    );
    let own = statistics["fc"].output_metric.as_ref().unwrap();
    close(own, &(Array2::eye(6) - 1.0 / 6.0), 0.1);
    assert_eq!(statistics["fc"].covariance[0].dim(), (64, 64));
    assert_eq!(statistics["conv"].samples, 2000 * 16);
    let again = run();
    assert_eq!(
        again["conv"].output_metric, statistics["conv"].output_metric,
        "not deterministic"
    );
    assert_eq!(again["conv"].covariance, statistics["conv"].covariance);

    let none = CalibrateOptions {
        metric: Metric::None,
        max_inputs: 30,
        ..options
    };
    let few = calibrate(&graph, &layers, &none, loader.epoch(0, 0).unwrap(), |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(few["conv"].output_metric.is_none());
    assert!(!few.contains_key("fc"), "64 features are more than 30");
}

#[test]
fn channels_of_linear_layers_over_sequences_are_the_last_dimension() {
    let (classes, channels) = (4, 5);
    for positions in [3, 7] {
        let mut b = GraphBuilder::new("sequence");
        let x = b.input("x", Fact::batch_of(&[positions, 2])).unwrap();
        let mut linear = |name: &str, shape: [usize; 2], x| {
            let own = format!("{name}.weight");
            b.weight(own.as_str(), weight(&shape, shape[0] as u64));
            let op = Linear {
                weight: own.as_str().into(),
                bias: None,
            };
            let y = b.op(name, op, &[x]).unwrap();
            match name {
                "each" => b.op("flat", Flatten { start: 1, end: -1 }, &[y]).unwrap(),
                _ => y,
            }
        };
        let y = linear("each", [channels, 2], x);
        let y = linear("all", [classes, positions * channels], y);
        let graph = b.finish(&[y]).unwrap();
        let images = 2000;
        let batch = Batch {
            inputs: vec![Input {
                name: None,
                shape: vec![images, positions, 2],
                data: TensorData::F32(noise(images * positions * 2, 1).into()),
            }],
            labels: None,
            targets: None,
            step: 0,
        };
        let options = CalibrateOptions {
            metric_images: images,
            ..CalibrateOptions::default()
        };
        let go = |_: usize| ControlFlow::Continue(());
        let statistics = calibrate(&graph, &["each".to_owned()], &options, [Ok(batch)], go);
        let found = statistics.unwrap().remove("each").unwrap();
        // Every position's channels reach the scores through weights of their own.
        let all = noise(classes * positions * channels, classes as u64);
        let at = |k: usize, c: usize, p: usize| {
            let own = |k: usize| f64::from(all[(k * positions + p) * channels + c]);
            own(k) - (0..classes).map(own).sum::<f64>() / classes as f64
        };
        let expected = Array2::from_shape_fn((channels, channels), |(i, j)| {
            let pairs = (0..classes).flat_map(|k| (0..positions).map(move |p| (k, p)));
            pairs.map(|(k, p)| at(k, i, p) * at(k, j, p)).sum::<f64>()
        });
        close(found.output_metric.as_ref().unwrap(), &expected, 0.1);
    }
}

#[test]
fn the_fisher_metric_of_scores_is_known() {
    let graph = linear_network();
    let loader = Loader::new(
        shapes("train[:2000]"),
        LoaderOptions::evaluate(250, Normalization::unit()),
    )
    .unwrap();
    let options = CalibrateOptions {
        metric: Metric::Fisher,
        metric_images: 2000,
        ..CalibrateOptions::default()
    };
    let layers = ["fc".to_owned()];
    let statistics = calibrate(
        &graph,
        &layers,
        &options,
        loader.epoch(0, 0).unwrap(),
        |_| ControlFlow::Continue(()),
    )
    .unwrap();
    let executor = crate::Executor::new(&graph, crate::Options::default()).unwrap();
    let mut expected = Array2::<f64>::zeros((6, 6));
    for batch in loader.epoch(0, 0).unwrap() {
        let inputs = crate::batch::batch_inputs(&executor, &batch.unwrap()).unwrap();
        let p = executor.run(&inputs).unwrap()[0]
            .to_kind(Kind::Double)
            .softmax(-1, None);
        let sum = Tensor::diag(&p.sum_dim_intlist(0, false, None), 0) - p.tr().matmul(&p);
        expected = expected + Array2::from_shape_vec((6, 6), values(&sum)).unwrap();
    }
    close(
        statistics["fc"].output_metric.as_ref().unwrap(),
        &(expected / 2000.0),
        0.15,
    );
}

#[test]
fn a_probe_answers_about_the_original_and_a_change() {
    let graph = image_network();
    let mut changed = graph.clone();
    let name = changed.node("second").unwrap().op.weights()[0].1.clone();
    changed
        .set_weight(&name, weight(&[8, 8, 1, 1], 77))
        .unwrap();
    let inputs = shapes("train").calibration(200, 1).unwrap();
    let options = ProbeOptions {
        batch_size: 32,
        ..ProbeOptions::default()
    };
    let mut probe = TorchProbe::new(&graph, inputs, Normalization::unit(), options).unwrap();
    assert!(probe.divergence(&graph).unwrap().abs() < 1e-6);
    assert!(probe.divergence(&changed).unwrap() > 1e-3);
    let (_, agreement) = probe.agreement(&graph).unwrap();
    assert_eq!(agreement, 100.0);

    let layers = ["first".to_owned(), "second".to_owned(), "fc".to_owned()];
    let statistics = probe.statistics(&graph, &layers).unwrap();
    assert_eq!(statistics.len(), 3);
    let paired = probe
        .paired(&graph, "second", &graph, "second")
        .unwrap()
        .unwrap();
    close(&paired.cross[0], &paired.covariance[0], 1e-6);
    close(
        &paired.covariance[0],
        &statistics["second"].covariance[0],
        1e-6,
    );
    let paired = probe.paired(&graph, "fc", &changed, "fc").unwrap().unwrap();
    assert!(
        (&paired.cross[0] - &paired.covariance[0])
            .iter()
            .any(|v| v.abs() > 1e-4)
    );
    let missing = probe
        .statistics(&graph, &["nowhere".to_owned()])
        .unwrap_err();
    assert!(matches!(missing, crate::TorchError::UnknownNode { node } if node == "nowhere"));
    let wrong = probe.statistics(&graph, &["relu".to_owned()]).unwrap_err();
    assert!(matches!(wrong, crate::TorchError::WrongOp { .. }));
}
