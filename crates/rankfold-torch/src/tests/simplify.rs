//! Simplified graphs compute the same, and only what inference does not need is gone.

use rankfold_graph::ops::{
    Activation, Arithmetic, Binary, BinaryScalar, Constant, Conv, Dropout, Flatten, Linear, Pad,
    Permute, Reshape, Slice,
};
use rankfold_graph::{Fact, Graph, GraphBuilder, Op};

use super::executor::network;
use super::{distance, input, plain, run, weight};
use crate::{Layout, Simplified, simplify};

/// Both graphs on the same inputs.
fn assert_same(before: &Graph, after: &Graph, shape: &[i64]) {
    let inputs = [input(shape, 3)];
    let (a, b) = (
        run(before, plain(Layout::Nchw), &inputs),
        run(after, plain(Layout::Nchw), &inputs),
    );
    for (a, b) in a.iter().zip(&b) {
        assert!(distance(b, a) < 1e-5, "{}", distance(b, a));
    }
    let names = |graph: &Graph| -> Vec<String> {
        let ends = graph.inputs().iter().chain(graph.outputs());
        ends.map(|&id| graph.value(id).name.clone()).collect()
    };
    assert_eq!(names(before), names(after));
}

#[test]
fn batch_norms_are_folded_and_weights_keep_their_names() {
    let graph = network();
    let (simple, removed) = simplify(&graph).unwrap();
    assert_same(&graph, &simple, &[2, 3, 16, 16]);
    assert!(!removed.norms.is_empty());
    for name in &removed.norms {
        assert!(simple.node(name).is_none(), "{name}");
    }
    for (name, _) in simple.weights().iter() {
        let own = name
            .strip_suffix(".bias")
            .map(|path| format!("{path}.weight"));
        let known =
            graph.weights().contains(name) || own.is_some_and(|own| graph.weights().contains(&own));
        assert!(known, "{name} is a new name");
    }
    // Nothing is left to be done.
    assert_eq!(simplify(&simple).unwrap().1, Simplified::default());
}

#[test]
fn what_does_nothing_goes_and_what_only_seems_to_stays() {
    let mut b = GraphBuilder::new("identities");
    b.weight("fc.weight", weight(&[6, 8], 1));
    let x = b.input("x", Fact::batch_of(&[2, 4])).unwrap();
    let mut value = x;
    let steps: [(&str, Op); 12] = [
        ("identity", Activation::Identity.into()),
        ("dropout", Dropout { p: 0.5 }.into()),
        ("times_one", scalar(Arithmetic::Mul, 1.0, false)),
        ("less_zero", scalar(Arithmetic::Sub, 0.0, false)),
        ("zero_less", scalar(Arithmetic::Sub, 0.0, true)),
        (
            "in_order",
            Permute {
                dims: vec![0, 1, 2],
            }
            .into(),
        ),
        (
            "turned",
            Permute {
                dims: vec![0, 2, 1],
            }
            .into(),
        ),
        ("all", slice(0)),
        (
            "no_pad",
            Pad {
                padding: vec![[0, 0]; 3],
                value: 1.0,
            }
            .into(),
        ),
        ("flat", Flatten { start: 1, end: -1 }.into()),
        ("flat_again", Reshape { shape: vec![0, 8] }.into()),
        (
            "fc",
            Linear {
                weight: "fc.weight".into(),
                bias: None,
            }
            .into(),
        ),
    ];
    for (name, op) in steps {
        value = b.op(name, op, &[value]).unwrap();
    }
    let value = b.op("last", Activation::Identity, &[value]).unwrap();
    let graph = b.finish(&[value]).unwrap();
    let (simple, removed) = simplify(&graph).unwrap();
    assert_same(&graph, &simple, &[3, 2, 4]);
    assert_eq!(
        removed.identities,
        [
            "identity",
            "dropout",
            "times_one",
            "less_zero",
            "in_order",
            "all",
            "no_pad",
            "flat_again"
        ]
    );
    let left: Vec<&str> = simple.nodes().iter().map(|n| n.name.as_str()).collect();
    // The last one makes the output, which keeps its name.
    assert_eq!(left, ["zero_less", "turned", "flat", "fc", "last"]);
}

fn scalar(arithmetic: Arithmetic, scalar: f64, reversed: bool) -> Op {
    BinaryScalar {
        arithmetic,
        scalar,
        reversed,
    }
    .into()
}

fn slice(start: i64) -> Op {
    Slice {
        axis: 1,
        start,
        end: None,
        step: 1,
    }
    .into()
}

#[test]
fn constants_are_computed_where_they_stay_small() {
    let mut b = GraphBuilder::new("constants");
    b.weight("table", weight(&[2, 4], 2));
    b.weight("wide", weight(&[1, 4], 3));
    let x = b.input("x", Fact::batch_of(&[2, 4])).unwrap();
    let constant = |weight: &str, learnable| Constant {
        weight: weight.into(),
        learnable,
    };
    let table = b.op("table", constant("table", true), &[]).unwrap();
    let wide = b.op("wide", constant("wide", false), &[]).unwrap();
    let add = |arithmetic| Binary { arithmetic };
    let sum = b.op("sum", add(Arithmetic::Add), &[table, wide]).unwrap();
    let tanh = b.op("tanh", Activation::Tanh, &[sum]).unwrap();
    let grown = Pad {
        padding: vec![[0, 1 << 20], [0, 0]],
        value: 0.0,
    };
    let grown = b.op("grown", grown, &[wide]).unwrap();
    let back = Slice {
        axis: 0,
        start: 0,
        end: Some(2),
        step: 1,
    };
    let back = b.op("back", back, &[grown]).unwrap();
    let y = b.op("y", add(Arithmetic::Mul), &[x, tanh]).unwrap();
    let y = b.op("z", add(Arithmetic::Add), &[y, back]).unwrap();
    let graph = b.finish(&[y]).unwrap();
    let (simple, removed) = simplify(&graph).unwrap();
    assert_same(&graph, &simple, &[3, 2, 4]);
    assert_eq!(removed.constants, ["sum", "tanh"]);
    assert!(simple.node("grown").is_some());
    let Some(Op::Constant(computed)) = simple
        .producer(simple.value_id("tanh").unwrap())
        .map(|n| &n.op)
    else {
        panic!("{simple}");
    };
    assert!(computed.learnable, "it came from what is learned");
    assert!(!simple.weights().contains("table"));
}

#[test]
fn a_norm_that_makes_the_output_stays() {
    let graph = network();
    let norm = graph
        .nodes()
        .iter()
        .find(|n| matches!(n.op, Op::BatchNorm(_)))
        .unwrap();
    let mut b = GraphBuilder::new("end");
    let x = b.input("x", Fact::batch_of(&[3, 16, 16])).unwrap();
    for (name, tensor) in graph.weights().iter() {
        b.weight(name.clone(), tensor.clone());
    }
    b.weight("c", weight(&[8, 3, 3, 3], 5));
    let y = b
        .op("conv", Conv::new("c", None, 2).padding(1), &[x])
        .unwrap();
    let y = b.op("norm", norm.op.clone(), &[y]).unwrap();
    let graph = b.finish(&[y]).unwrap();
    assert!(simplify(&graph).unwrap().1.is_empty());
}
