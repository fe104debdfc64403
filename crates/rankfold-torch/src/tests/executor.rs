//! Whole graphs: layouts, folding, memory, taps.

use rankfold_graph::ops::{
    Activation, AdaptiveAvgPool, Arithmetic, BatchNorm, Binary, Concat, Conv, ConvTranspose,
    Flatten, Linear, MaxPool,
};
use rankfold_graph::{DType, Fact, Graph, GraphBuilder, Tensor as GraphTensor, ValueId};
use tch::Kind;

use super::{LAYOUTS, distance, input, noise, plain, run, weight};
use crate::{Executor, Layout, Options};

fn batch_norm(builder: &mut GraphBuilder, name: &str, channels: usize, x: ValueId) -> ValueId {
    let part = |part: &str| -> rankfold_graph::WeightName { format!("{name}.{part}").into() };
    builder.weight(part("weight"), weight(&[channels], 11));
    builder.weight(part("bias"), weight(&[channels], 12));
    builder.weight(part("running_mean"), weight(&[channels], 13));
    let var = noise(channels, 14).iter().map(|v| 1.2 + v).collect();
    builder.weight(
        part("running_var"),
        GraphTensor::from_f32(vec![channels], var).unwrap(),
    );
    let op = BatchNorm {
        scale: Some(part("weight")),
        shift: Some(part("bias")),
        mean: part("running_mean"),
        var: part("running_var"),
        eps: 1e-5,
        momentum: 0.1,
    };
    builder.op(name, op, &[x]).unwrap()
}

pub(crate) fn conv(
    builder: &mut GraphBuilder,
    name: &str,
    shape: [usize; 4],
    op: Conv,
    x: ValueId,
) -> ValueId {
    let kernel: rankfold_graph::WeightName = format!("{name}.weight").into();
    builder.weight(kernel.clone(), weight(&shape, name.len() as u64));
    builder
        .op(
            name,
            Conv {
                weight: kernel,
                ..op
            },
            &[x],
        )
        .unwrap()
}

/// A small residual network with every kind of neighbour that batch norm can have.
pub(crate) fn network() -> Graph {
    let mut b = GraphBuilder::new("small");
    let same = Conv::new("", None, 2).padding(1);
    let x = b.input("x", Fact::batch_of(&[3, 16, 16])).unwrap();
    let x = conv(&mut b, "stem", [8, 3, 3, 3], same.clone(), x);
    let x = batch_norm(&mut b, "stem_norm", 8, x);
    let x = b.op("stem_relu", Activation::Relu, &[x]).unwrap();
    let y = conv(&mut b, "depthwise", [8, 1, 3, 3], same.clone().groups(8), x);
    let y = batch_norm(&mut b, "depthwise_norm", 8, y);
    let y = conv(&mut b, "point", [8, 8, 1, 1], Conv::new("", None, 2), y);
    let z = b
        .op(
            "sum",
            Binary {
                arithmetic: Arithmetic::Add,
            },
            &[y, x],
        )
        .unwrap();
    let z = b.op("sum_relu", Activation::Relu, &[z]).unwrap();
    let z = batch_norm(&mut b, "unfoldable_norm", 8, z);
    let z = b.op("pool", MaxPool::square(3, 2, 1).ceil(), &[z]).unwrap();
    b.weight("up.weight", weight(&[8, 6, 2, 2], 7));
    let up = ConvTranspose {
        weight: "up.weight".into(),
        bias: None,
        stride: vec![2, 2],
        padding: vec![[0, 0]; 2],
        output_padding: vec![0, 0],
        dilation: vec![1, 1],
        groups: 1,
    };
    let up = b.op("up", up, &[z]).unwrap();
    let up = batch_norm(&mut b, "up_norm", 6, up);
    let down = conv(&mut b, "shared", [4, 6, 3, 3], same.stride(2), up);
    let norm = batch_norm(&mut b, "shared_norm", 4, down);
    let both = b.op("both", Concat { axis: 1 }, &[down, norm]).unwrap();
    let x = b
        .op("mean", AdaptiveAvgPool { output: vec![2, 2] }, &[both])
        .unwrap();
    let x = b.op("flat", Flatten { start: 1, end: -1 }, &[x]).unwrap();
    b.weight("fc.weight", weight(&[10, 32], 8));
    b.weight("fc.bias", weight(&[10], 9));
    let fc = Linear {
        weight: "fc.weight".into(),
        bias: Some("fc.bias".into()),
    };
    let x = b.op("fc", fc, &[x]).unwrap();
    let x = batch_norm(&mut b, "fc_norm", 10, x);
    b.finish(&[x]).unwrap()
}

#[test]
fn layouts_and_folding_give_the_same() {
    let graph = network();
    let x = input(&[5, 3, 16, 16], 2);
    let expected = run(&graph, plain(Layout::Nchw), &[x.shallow_clone()]);
    for layout in LAYOUTS {
        for fold in [false, true] {
            let options = Options {
                layout,
                fold,
                ..Options::default()
            };
            let error = distance(&run(&graph, options, &[x.shallow_clone()])[0], &expected[0]);
            assert!(error < 1e-5, "{layout:?} fold {fold}: {error:e}");
        }
    }
}

#[test]
fn folding_leaves_alone_what_others_see() {
    let executor = Executor::new(&network(), Options::default()).unwrap();
    for folded in [
        "stem",
        "stem_norm",
        "depthwise",
        "point",
        "sum",
        "sum_relu",
        "up_norm",
        "fc",
        "fc_norm",
    ] {
        let error = executor.taps([folded]).unwrap_err();
        assert!(matches!(error, crate::TorchError::Folded { node } if node == folded));
    }
    executor
        .taps(["shared", "shared_norm", "unfoldable_norm"])
        .unwrap();
    executor.input_taps(["stem", "fc"]).unwrap();
}

#[test]
fn a_tap_sees_every_value_as_it_is_made() {
    let graph = network();
    let x = input(&[2, 3, 16, 16], 2);
    for layout in LAYOUTS {
        let executor = Executor::new(&graph, plain(layout)).unwrap();
        let names: Vec<&str> = graph.nodes().iter().map(|n| n.name.as_str()).collect();
        let mut kept = Vec::new();
        let taps = executor.taps(names.iter().copied()).unwrap();
        let outputs = executor
            .run_with(&[x.shallow_clone()], &taps, |tapped| {
                kept.push((
                    tapped.node.to_owned(),
                    tapped.outputs[0].shallow_clone(),
                    tapped.outputs[0].copy(),
                ));
                Ok(())
            })
            .unwrap();
        assert_eq!(
            kept.iter().map(|(n, ..)| n.as_str()).collect::<Vec<_>>(),
            names
        );
        assert!(
            kept.iter().all(|(_, kept, copy)| kept.equal(copy)),
            "a kept value was written over"
        );
        assert!(outputs[0].equal(&executor.run(&[x.shallow_clone()]).unwrap()[0]));
    }
}

#[test]
fn channels_last_stays_channels_last() {
    let graph = network();
    let executor = Executor::new(&graph, plain(Layout::Nhwc)).unwrap();
    let names = graph.nodes().iter().map(|n| n.name.as_str());
    let taps = executor.taps(names).unwrap();
    let x = input(&[2, 3, 16, 16], 2);
    executor
        .run_with(&[x], &taps, |tapped| {
            let output = &tapped.outputs[0];
            if output.dim() == 4 && output.size()[2] > 1 {
                assert_eq!(output.stride()[1], 1, "{}", tapped.node);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn repeated_runs_and_new_batch_sizes_are_deterministic() {
    let executor = Executor::new(&network(), Options::default()).unwrap();
    let x = input(&[4, 3, 16, 16], 2);
    let first = executor.run(&[x.shallow_clone()]).unwrap();
    for _ in 0..3 {
        assert!(executor.run(&[x.shallow_clone()]).unwrap()[0].equal(&first[0]));
    }
    let one = executor.run(&[x.narrow(0, 1, 1)]).unwrap();
    assert!(distance(&one[0], &first[0].narrow(0, 1, 1)) < 1e-5);
}

#[test]
fn outputs_outlive_graph_and_executor() {
    let x = input(&[2, 3, 16, 16], 2);
    let outputs = run(&network(), Options::default(), &[x.shallow_clone()]);
    let again = run(&network(), Options::default(), &[x]);
    assert!(outputs[0].equal(&again[0]));
}

#[test]
fn other_float_types_run_and_stored_ones_are_widened() {
    let graph = network();
    let x = input(&[2, 3, 16, 16], 2);
    let expected = run(&graph, plain(Layout::Nhwc), &[x.shallow_clone()]);
    for (dtype, kind, bound) in [
        (DType::F64, Kind::Double, 1e-5),
        (DType::BF16, Kind::BFloat16, 0.1),
    ] {
        let options = Options {
            dtype,
            ..plain(Layout::Nhwc)
        };
        let outputs = run(&graph, options, &[x.shallow_clone()]);
        assert_eq!(outputs[0].kind(), kind);
        assert!(distance(&outputs[0], &expected[0]) < bound, "{dtype}");
    }
    let mut half = graph.clone();
    let names: Vec<_> = half.weights().names().cloned().collect();
    for name in names {
        let tensor = half
            .weights()
            .get(&name)
            .unwrap()
            .to_float_dtype(DType::F16)
            .unwrap();
        half.set_weight(&name, tensor).unwrap();
    }
    for fold in [false, true] {
        let options = Options {
            fold,
            ..Options::default()
        };
        let outputs = run(&half, options, &[x.shallow_clone()]);
        assert_eq!(outputs[0].kind(), Kind::Float);
        assert!(distance(&outputs[0], &expected[0]) < 1e-2);
    }
}

#[test]
fn comparing_finds_nothing_between_equals_and_the_place_of_a_change() {
    use rankfold_data::{
        DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split,
    };
    use std::ops::ControlFlow;
    let graph = image_network();
    let mut changed = graph.clone();
    let name = changed.node("second").unwrap().op.weights()[0].1.clone();
    changed
        .set_weight(&name, weight(&[8, 8, 1, 1], 77))
        .unwrap();
    let spec: DataSpec = "shapes:3".parse().unwrap();
    let split: Split = "test[:48]".parse().unwrap();
    let data = Dataset::open(&spec, &split, ImageSize::default()).unwrap();
    let options = LoaderOptions::evaluate(32, Normalization::unit());
    let loader = Loader::new(data, options).unwrap();
    let [a, b, c] = [
        (&graph, Layout::Nchw),
        (&graph, Layout::Nhwc),
        (&changed, Layout::Nhwc),
    ]
    .map(|(graph, layout)| Executor::new(graph, plain(layout)).unwrap());
    let go = |_: usize| ControlFlow::Continue(());
    let same = crate::compare(&a, &b, true, loader.epoch(0, 0).unwrap(), go).unwrap();
    assert_eq!((same.images, same.agreement), (48, Some(100.0)));
    assert!(same.kl.unwrap().abs() < 1e-6);
    let names: Vec<&str> = same.values.iter().map(|v| &v.name[..]).collect();
    assert_eq!(names, ["first", "relu", "second"]);
    let alike = |v: &crate::Difference| v.relative_error < 1e-5 && v.cosine > 0.9999;
    assert!(same.values.iter().chain(&same.outputs).all(alike));
    let other = crate::compare(&a, &c, true, loader.epoch(0, 0).unwrap(), go).unwrap();
    let of = |name: &str| {
        other
            .values
            .iter()
            .find(|v| v.name == name)
            .unwrap()
            .relative_error
    };
    assert!(of("first") < 1e-5 && of("second") > 0.1, "{other:?}");
    assert!(other.kl.unwrap() > 1e-4 && other.outputs[0].relative_error > 1e-3);
    let stop = |_: usize| ControlFlow::Break(());
    let error = crate::compare(&a, &b, true, loader.epoch(0, 0).unwrap(), stop).unwrap_err();
    assert!(matches!(error, crate::TorchError::Stopped));
}

/// Four images.
fn four() -> rankfold_data::Loader {
    use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization};
    let spec: DataSpec = "shapes:3".parse().unwrap();
    let data = Dataset::open(&spec, &"test[:4]".parse().unwrap(), ImageSize::default());
    Loader::new(
        data.unwrap(),
        LoaderOptions::evaluate(4, Normalization::unit()),
    )
    .unwrap()
}

#[test]
fn close_answers_are_told_apart_and_others_than_numbers_refused() {
    let run = |graph: &Graph| Executor::new(graph, plain(Layout::Nhwc)).unwrap();
    let compare = |a: &Graph, b: &Graph| {
        let go = |_: usize| std::ops::ControlFlow::Continue(());
        crate::compare(&run(a), &run(b), true, four().epoch(0, 0).unwrap(), go)
    };
    let graph = image_network();
    let with = |weights: Vec<f32>| {
        let name = rankfold_graph::WeightName::from("fc.weight");
        let mut graph = graph.clone();
        graph
            .set_weight(&name, GraphTensor::from_f32(vec![10, 8], weights).unwrap())
            .unwrap();
        graph
    };
    let tiny = |sign: f32| with(noise(80, 5).iter().map(|w| sign * 1e-9 * w).collect());
    let opposite = compare(&tiny(1.0), &tiny(-1.0)).unwrap();
    assert_eq!(opposite.agreement, Some(0.0));
    assert_eq!(
        compare(&tiny(1.0), &tiny(1.0)).unwrap().agreement,
        Some(100.0)
    );
    let broken = with(vec![f32::INFINITY; 80]);
    let error = compare(&graph, &broken).unwrap_err();
    assert!(
        matches!(
            error,
            crate::TorchError::AnswerNonFinite {
                which: "second",
                ..
            }
        ),
        "{error}"
    );
    let error = compare(&broken, &graph).unwrap_err();
    assert!(
        matches!(
            error,
            crate::TorchError::AnswerNonFinite { which: "first", .. }
        ),
        "{error}"
    );
}

#[test]
fn values_of_other_shapes_are_not_compared() {
    let network = |width: usize| {
        let mut b = GraphBuilder::new("rows");
        let x = b.input("x", Fact::batch_of(&[3, 32, 32])).unwrap();
        let x = conv(&mut b, "inner", [width, 3, 1, 1], Conv::new("", None, 2), x);
        let mean = rankfold_graph::ops::Mean {
            axes: vec![1, 2],
            keep: false,
        };
        let x = b.op("mean", mean, &[x]).unwrap();
        b.finish(&[x]).unwrap()
    };
    let run = |width| Executor::new(&network(width), plain(Layout::Nchw)).unwrap();
    let go = |_: usize| std::ops::ControlFlow::Continue(());
    let found = crate::compare(&run(4), &run(6), true, four().epoch(0, 0).unwrap(), go).unwrap();
    assert_eq!(found.unlike, 1);
    assert!(
        found.values.iter().all(|value| value.name != "inner"),
        "{found:?}"
    );
}

/// Two convolutions for 32×32 colour images, ten classes.
pub(crate) fn image_network() -> Graph {
    let mut b = GraphBuilder::new("images");
    let x = b.input("x", Fact::batch_of(&[3, 32, 32])).unwrap();
    let x = conv(
        &mut b,
        "first",
        [8, 3, 3, 3],
        Conv::new("", None, 2).stride(2),
        x,
    );
    let x = b.op("relu", Activation::Relu, &[x]).unwrap();
    let x = conv(&mut b, "second", [8, 8, 1, 1], Conv::new("", None, 2), x);
    let x = b
        .op("mean", AdaptiveAvgPool { output: vec![1, 1] }, &[x])
        .unwrap();
    let x = b.op("flat", Flatten { start: 1, end: -1 }, &[x]).unwrap();
    b.weight("fc.weight", weight(&[10, 8], 8));
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
