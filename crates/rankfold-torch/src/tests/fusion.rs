//! Convolutions merged with what follows them.

use rankfold_graph::ops::{Activation, Arithmetic, Binary, Conv, Pad, Slice};
use rankfold_graph::{Fact, Graph, GraphBuilder, ValueId};

use super::{distance, input, plain, run, weight};
use crate::{Executor, Layout, Options, TorchError};

const ADD: Binary = Binary {
    arithmetic: Arithmetic::Add,
};

fn conv(b: &mut GraphBuilder, name: &str, channels: usize, groups: usize, x: ValueId) -> ValueId {
    let (kernel, bias) = (format!("{name}.weight"), format!("{name}.bias"));
    b.weight(
        kernel.as_str(),
        weight(&[channels, channels / groups, 3, 3], name.len() as u64),
    );
    b.weight(bias.as_str(), weight(&[channels], 9));
    let op = Conv::new(kernel.as_str(), Some(bias.as_str().into()), 2)
        .padding(1)
        .groups(groups);
    b.op(name, op, &[x]).unwrap()
}

/// The merged network gives the plain one's outputs, for one and several images, and leaves its input.
fn check(graph: &Graph) {
    for images in [1, 5] {
        let x = input(&[images, 16, 9, 7], 3);
        let kept = x.copy();
        let expected = run(graph, plain(Layout::Nchw), &[x.shallow_clone()]);
        let executor = Executor::new(graph, Options::default()).unwrap();
        for _ in 0..2 {
            let outputs = executor.run(&[x.shallow_clone()]).unwrap();
            for (output, expected) in outputs.iter().zip(&expected) {
                let error = distance(output, expected);
                assert!(error < 1e-5, "{error:e}\n{graph}");
            }
            assert!(x.equal(&kept), "the input was written to");
        }
    }
}

fn builder() -> (GraphBuilder, ValueId) {
    let mut b = GraphBuilder::new("merged");
    let x = b.input("x", Fact::batch_of(&[16, 9, 7])).unwrap();
    (b, x)
}

#[test]
fn packed_convolutions_are_to_be_had() {
    assert!(crate::ops::packed::available());
}

#[test]
fn every_activation_merges_to_the_same() {
    for op in [
        Activation::Relu,
        Activation::Relu6,
        Activation::Clamp {
            min: -0.3,
            max: 0.4,
        },
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Silu,
        Activation::HardSwish,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Mish,
    ] {
        for groups in [1, 4, 16] {
            let (mut b, x) = builder();
            let y = conv(&mut b, "conv", 16, groups, x);
            let y = b.op("act", op, &[y]).unwrap();
            check(&b.finish(&[y]).unwrap());
        }
    }
}

#[test]
fn residual_blocks_merge_to_the_same() {
    for swapped in [false, true] {
        let (mut b, x) = builder();
        let block = |b: &mut GraphBuilder, name: &str, x: ValueId| {
            let y = conv(b, &format!("{name}.conv1"), 16, 1, x);
            let y = b
                .op(&format!("{name}.relu1"), Activation::Relu, &[y])
                .unwrap();
            let y = conv(b, &format!("{name}.conv2"), 16, 1, y);
            let pair = if swapped { [x, y] } else { [y, x] };
            let y = b.op(&format!("{name}.add"), ADD, &pair).unwrap();
            b.op(&format!("{name}.relu2"), Activation::Relu, &[y])
                .unwrap()
        };
        let y = block(&mut b, "a", x);
        let y = block(&mut b, "b", y);
        let y = block(&mut b, "c", y);
        check(&b.finish(&[y]).unwrap());
    }
}

#[test]
fn a_shortcut_of_padded_channels_and_two_summed_convolutions() {
    let (mut b, x) = builder();
    let few = b
        .op(
            "few",
            Slice {
                axis: 1,
                start: 0,
                end: Some(8),
                step: 1,
            },
            &[x],
        )
        .unwrap();
    let padding = vec![[0, 0], [4, 4], [0, 0], [0, 0]];
    let shortcut = b
        .op(
            "pad",
            Pad {
                padding,
                value: 0.0,
            },
            &[few],
        )
        .unwrap();
    let y = conv(&mut b, "conv", 16, 1, x);
    let y = b.op("add", ADD, &[y, shortcut]).unwrap();
    let y = b.op("relu", Activation::Relu, &[y]).unwrap();
    let (one, other) = (
        conv(&mut b, "one", 16, 2, y),
        conv(&mut b, "other", 16, 1, y),
    );
    let sum = b.op("sum", ADD, &[one, other]).unwrap();
    let y = b.op("silu", Activation::Silu, &[sum]).unwrap();
    check(&b.finish(&[y]).unwrap());
}

#[test]
fn values_that_others_see_are_not_merged() {
    let (mut b, x) = builder();
    let shown = conv(&mut b, "shown", 16, 1, x);
    let relu = b.op("relu", Activation::Relu, &[shown]).unwrap();
    let twice = conv(&mut b, "twice", 16, 1, relu);
    let tanh = b.op("tanh", Activation::Tanh, &[twice]).unwrap();
    let doubled = b.op("sum", ADD, &[tanh, twice]).unwrap();
    let same = conv(&mut b, "same", 16, 1, doubled);
    let same = b.op("itself", ADD, &[same, same]).unwrap();
    let kept = conv(&mut b, "kept", 16, 1, same);
    let kept = b.op("kept_sum", ADD, &[kept, relu]).unwrap();
    let graph = b.finish(&[shown, kept, relu]).unwrap();
    check(&graph);
    let executor = Executor::new(&graph, Options::default()).unwrap();
    executor
        .taps(["shown", "relu", "twice", "tanh", "itself"])
        .unwrap();
    for merged in ["kept", "kept_sum"] {
        let error = executor.taps([merged]).unwrap_err();
        assert!(matches!(error, TorchError::Folded { node } if node == merged));
    }
}

#[test]
fn a_summand_of_another_shape_is_not_merged() {
    let (mut b, x) = builder();
    let narrow = b
        .op(
            "one",
            Slice {
                axis: 2,
                start: 0,
                end: Some(1),
                step: 1,
            },
            &[x],
        )
        .unwrap();
    let y = conv(&mut b, "conv", 16, 1, x);
    let y = b.op("add", ADD, &[y, narrow]).unwrap();
    check(&b.finish(&[y]).unwrap());
}

#[test]
fn a_window_larger_than_its_input_is_an_error_with_the_node() {
    use rankfold_graph::{DType, Dim};
    let mut b = GraphBuilder::new("open");
    let fact = Fact::new(
        DType::F32,
        [Dim::batch(), Dim::Fixed(2), Dim::UNKNOWN, Dim::UNKNOWN],
    );
    let x = b.input("x", fact).unwrap();
    b.weight("w", weight(&[4, 2, 3, 3], 1));
    let y = b.op("layer", Conv::new("w", None, 2), &[x]).unwrap();
    let graph = b.finish(&[y]).unwrap();
    let executor = Executor::new(&graph, Options::default()).unwrap();
    assert_eq!(
        executor.run(&[input(&[1, 2, 5, 4], 1)]).unwrap()[0].size(),
        [1, 4, 3, 2]
    );
    let error = executor
        .run(&[input(&[1, 2, 2, 5], 1)])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "node `layer` (conv): the window is larger than its padded input"
    );
}
