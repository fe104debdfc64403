//! Two layers with nothing between them, run as one where that is less work.

use rankfold_graph::ops::{Activation, Conv, Linear};
use rankfold_graph::{Fact, Graph, GraphBuilder};

use super::{distance, input, plain, run, weight};
use crate::plan::Plan;
use crate::{Executor, Layout, Options, TorchError};

/// Two convolutions, of which the first has 3 × 9 numbers for every channel it makes.
#[derive(Clone)]
struct Pair {
    rank: usize,
    biased: [bool; 2],
    groups: usize,
    size: usize,
    stride: usize,
    between: bool,
}

const PAIR: Pair = Pair {
    rank: 30,
    biased: [false, true],
    groups: 1,
    size: 1,
    stride: 1,
    between: false,
};

fn graph(pair: &Pair) -> Graph {
    let mut b = GraphBuilder::new("pair");
    let channels = 3 * pair.groups;
    let x = b.input("x", Fact::batch_of(&[channels, 9, 8])).unwrap();
    b.weight("first", weight(&[pair.rank, 3, 3, 3], 1));
    b.weight("first.bias", weight(&[pair.rank], 2));
    b.weight("second", weight(&[16, pair.rank, pair.size, pair.size], 3));
    b.weight("second.bias", weight(&[16], 4));
    let bias = |i: usize, name: &str| pair.biased[i].then(|| name.into());
    let first = Conv::new("first", bias(0, "first.bias"), 2);
    let first = first.padding(1).stride(2).groups(pair.groups);
    let mut y = b.op("a", first, &[x]).unwrap();
    if pair.between {
        y = b.op("relu", Activation::Relu, &[y]).unwrap();
    }
    let second = Conv::new("second", bias(1, "second.bias"), 2).stride(pair.stride);
    let y = b.op("b", second, &[y]).unwrap();
    b.finish(&[y]).unwrap()
}

/// The steps that are left, with the outputs that the graph has.
fn steps(graph: &Graph) -> usize {
    let size: Vec<usize> = {
        let shape = graph.fact(graph.inputs()[0]).shape.clone().unwrap();
        shape[1..].iter().map(|n| n.fixed().unwrap()).collect()
    };
    let size: Vec<i64> = std::iter::once(2)
        .chain(size.iter().map(|&n| n as i64))
        .collect();
    let x = input(&size, 5);
    let expected = run(graph, plain(Layout::Nchw), &[x.shallow_clone()]);
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let options = Options {
            layout,
            ..Options::default()
        };
        let output = run(graph, options, &[x.shallow_clone()]);
        assert_eq!(output[0].size(), expected[0].size());
        let error = distance(&output[0], &expected[0]);
        assert!(error < 1e-5, "{error:e}\n{graph}");
    }
    let composed = crate::compose::compose(graph).unwrap().graph;
    Plan::new(&composed).unwrap().steps.len()
}

#[test]
fn a_rank_that_does_not_pay_is_run_as_one_layer() {
    for biased in [[false, false], [false, true], [true, false], [true, true]] {
        assert_eq!(steps(&graph(&Pair { biased, ..PAIR })), 1, "{biased:?}");
    }
    // 27 · 16 numbers of one layer, 10 · (27 + 16) of two, 11 · (27 + 16) of two.
    assert_eq!(steps(&graph(&Pair { rank: 10, ..PAIR })), 2);
    assert_eq!(steps(&graph(&Pair { rank: 11, ..PAIR })), 1);
}

#[test]
fn linear_layers_compose_too() {
    for (rank, expected) in [(7, 2), (8, 1)] {
        let mut b = GraphBuilder::new("linear");
        let x = b.input("x", Fact::batch_of(&[20])).unwrap();
        b.weight("first", weight(&[rank, 20], 1));
        b.weight("second", weight(&[12, rank], 2));
        b.weight("bias", weight(&[rank], 3));
        let linear = |name: &str, bias: Option<&str>| Linear {
            weight: name.into(),
            bias: bias.map(Into::into),
        };
        let y = b.op("a", linear("first", Some("bias")), &[x]).unwrap();
        let z = b.op("b", linear("second", None), &[y]).unwrap();
        assert_eq!(steps(&b.finish(&[z]).unwrap()), expected, "{rank}");
    }
}

#[test]
fn what_is_not_one_layer_stays_two() {
    let stays = |pair: Pair| steps(&graph(&pair));
    assert_eq!(stays(Pair { groups: 3, ..PAIR }), 2);
    assert_eq!(stays(Pair { size: 3, ..PAIR }), 2);
    assert_eq!(stays(Pair { stride: 2, ..PAIR }), 2);
    let between = Pair {
        between: true,
        ..PAIR
    };
    assert_eq!(stays(between), 3);
    // Somebody else looks at what passes between.
    let mut b = GraphBuilder::new("seen");
    let x = b.input("x", Fact::batch_of(&[20])).unwrap();
    b.weight("first", weight(&[30, 20], 1));
    b.weight("second", weight(&[12, 30], 2));
    let linear = |name: &str| Linear {
        weight: name.into(),
        bias: None,
    };
    let y = b.op("a", linear("first"), &[x]).unwrap();
    let z = b.op("b", linear("second"), &[y]).unwrap();
    assert_eq!(steps(&b.finish(&[z, y]).unwrap()), 2);
}

#[test]
fn both_can_be_looked_at_when_that_is_wanted() {
    let graph = graph(&PAIR);
    let executor = Executor::new(&graph, Options::default()).unwrap();
    let refused = executor.input_taps(["b"]).map(|_| ());
    assert!(matches!(refused, Err(TorchError::Folded { node }) if node == "b"));
    let apart = Options {
        join: false,
        ..Options::default()
    };
    assert!(
        Executor::new(&graph, apart)
            .unwrap()
            .input_taps(["b"])
            .is_ok()
    );
}
