//! Three convolutions run as one step.

use rankfold_graph::ops::{Activation, Arithmetic, BatchNorm, Binary, Conv, MaxPool};
use rankfold_graph::{Fact, Graph, GraphBuilder, ValueId};
use tch::Tensor;

use super::{distance, input, plain, run, weight};
use crate::plan::{Merged, Plan};
use crate::{Executor, Layout, Options, TorchError};

const ADD: Binary = Binary {
    arithmetic: Arithmetic::Add,
};

/// How a chain of convolutions is built.
#[derive(Clone, Copy)]
struct Build {
    channels: [usize; 4],
    biased: bool,
    activation: Option<Activation>,
    stride: usize,
    adds: bool,
    relu: bool,
}

const BUILD: Build = Build {
    channels: [16, 20, 20, 16],
    biased: false,
    activation: None,
    stride: 1,
    adds: false,
    relu: false,
};

fn chain(b: &mut GraphBuilder, name: &str, x: ValueId, build: Build) -> ValueId {
    let mut y = x;
    for stage in 0..3 {
        let [from, to] = [build.channels[stage], build.channels[stage + 1]];
        let size = if stage == 1 { 3 } else { 1 };
        let groups = if stage == 1 { to } else { 1 };
        let kernel = format!("{name}.{stage}.weight");
        b.weight(
            kernel.as_str(),
            weight(&[to, from / groups, size, size], 5 + stage as u64),
        );
        let bias = build.biased.then(|| format!("{name}.{stage}.bias"));
        if let Some(bias) = &bias {
            b.weight(bias.as_str(), weight(&[to], 9));
        }
        let mut op = Conv::new(kernel.as_str(), bias.as_deref().map(Into::into), 2).groups(groups);
        if stage == 1 {
            op = op.stride(build.stride).padding(1);
        }
        y = b.op(&format!("{name}.{stage}"), op, &[y]).unwrap();
        if let Some(activation) = build.activation.filter(|_| stage < 2) {
            y = b
                .op(&format!("{name}.{stage}.act"), activation, &[y])
                .unwrap();
        }
    }
    if build.adds {
        y = b.op(&format!("{name}.add"), ADD, &[x, y]).unwrap();
    }
    if build.relu {
        y = b
            .op(&format!("{name}.relu"), Activation::Relu, &[y])
            .unwrap();
    }
    y
}

fn graph(builds: &[Build]) -> Graph {
    let mut b = GraphBuilder::new("chains");
    let mut x = b
        .input("x", Fact::batch_of(&[builds[0].channels[0], 11, 10]))
        .unwrap();
    for (i, build) in builds.iter().enumerate() {
        x = chain(&mut b, &format!("c{i}"), x, *build);
    }
    b.finish(&[x]).unwrap()
}

fn chains(graph: &Graph) -> usize {
    let (plan, _) = Plan::fused(graph, true).unwrap();
    let is_chain = |step: &&crate::plan::Step| matches!(step.merged, Some(Merged::Chain(_)));
    plan.steps.iter().filter(is_chain).count()
}

/// The chained network gives the plain one's outputs and leaves its input.
fn check(graph: &Graph, expected_chains: usize) {
    assert_eq!(chains(graph), expected_chains, "{graph}");
    for images in [1, 2, 5] {
        let channels = graph.fact(graph.inputs()[0]).shape.as_ref().unwrap()[1]
            .fixed()
            .unwrap();
        let x = input(&[images, channels as i64, 11, 10], 3);
        let kept = x.copy();
        let expected = run(graph, plain(Layout::Nchw), &[x.shallow_clone()]);
        let executor = Executor::new(graph, Options::default()).unwrap();
        for _ in 0..2 {
            let output = &executor.run(&[x.shallow_clone()]).unwrap()[0];
            let error = distance(output, &expected[0]);
            assert!(error < 1e-5, "{error:e}\n{graph}");
            assert!(x.equal(&kept), "the input was written to");
        }
    }
}

#[test]
fn chains_give_what_their_convolutions_do() {
    for biased in [false, true] {
        for stride in [1, 2] {
            for activation in [None, Some(Activation::Relu), Some(Activation::Relu6)] {
                let build = Build {
                    biased,
                    stride,
                    activation,
                    ..BUILD
                };
                check(&graph(&[build]), 1);
            }
        }
    }
}

#[test]
fn residual_chains_write_over_what_nobody_needs() {
    let block = Build {
        adds: true,
        relu: true,
        biased: true,
        ..BUILD
    };
    check(&graph(&[block; 3]), 3);
    check(
        &graph(&[
            Build {
                relu: false,
                ..block
            },
            block,
            BUILD,
        ]),
        3,
    );
}

/// A chain with a pool behind it.
fn pooled(build: Build, pool: MaxPool) -> Graph {
    let mut b = GraphBuilder::new("pooled");
    let x = b
        .input("x", Fact::batch_of(&[build.channels[0], 11, 10]))
        .unwrap();
    let y = chain(&mut b, "c", x, build);
    let y = b.op("pool", pool, &[y]).unwrap();
    b.finish(&[y]).unwrap()
}

#[test]
fn a_pool_is_the_last_part_of_a_chain_where_its_windows_do_not_overlap() {
    let relu = Build {
        relu: true,
        ..BUILD
    };
    for (size, stride, padding, ceil, steps) in [
        (2, 2, 0, false, 1),
        (3, 3, 0, false, 1),
        (3, 2, 0, false, 2),
        (2, 2, 1, false, 2),
        (2, 2, 0, true, 2),
    ] {
        let mut pool = MaxPool::square(size, stride, padding);
        pool.ceil = ceil;
        let graph = pooled(relu, pool);
        check(&graph, 1);
        let (plan, _) = Plan::fused(&graph, true).unwrap();
        assert_eq!(plan.steps.len(), steps, "{size} {stride} {padding} {ceil}");
    }
    // What is added has the size of what is not pooled yet.
    let adds = Build { adds: true, ..relu };
    let graph = pooled(adds, MaxPool::square(2, 2, 0));
    check(&graph, 1);
    assert_eq!(Plan::fused(&graph, true).unwrap().0.steps.len(), 2);
    // Somebody else looks at what is pooled.
    let mut b = GraphBuilder::new("seen");
    let x = b.input("x", Fact::batch_of(&[16, 11, 10])).unwrap();
    let y = chain(&mut b, "c", x, BUILD);
    let z = b.op("pool", MaxPool::square(2, 2, 0), &[y]).unwrap();
    let graph = b.finish(&[z, y]).unwrap();
    check(&graph, 1);
    assert_eq!(Plan::fused(&graph, true).unwrap().0.steps.len(), 2);
}

#[test]
fn what_is_no_chain_stays_as_it_is() {
    // An activation that the kernel does not know.
    let build = Build {
        activation: Some(Activation::Silu),
        ..BUILD
    };
    check(&graph(&[build]), 0);
    // Somebody else looks at the middle.
    let mut b = GraphBuilder::new("seen");
    let x = b.input("x", Fact::batch_of(&[16, 11, 10])).unwrap();
    let y = chain(&mut b, "c", x, BUILD);
    let whole = b.finish(&[y]).unwrap();
    let middle = whole.node("c.1").unwrap().output();
    let mut b = GraphBuilder::new("seen");
    let x = b.input("x", Fact::batch_of(&[16, 11, 10])).unwrap();
    let y = chain(&mut b, "c", x, BUILD);
    let seen = b.finish(&[y, middle]).unwrap();
    assert_eq!(chains(&seen), 0);
}

#[test]
fn batch_norms_after_any_stage_are_folded_first() {
    let mut b = GraphBuilder::new("norms");
    let x = b.input("x", Fact::batch_of(&[16, 11, 10])).unwrap();
    let mut y = x;
    for (stage, (from, to, size)) in [(16, 24, 1), (24, 24, 3), (24, 16, 1)]
        .into_iter()
        .enumerate()
    {
        let groups = if stage == 1 { to } else { 1 };
        let kernel = format!("{stage}.weight");
        b.weight(
            kernel.as_str(),
            weight(&[to, from / groups, size, size], stage as u64),
        );
        let op = Conv::new(kernel.as_str(), None, 2)
            .groups(groups)
            .padding(size / 2);
        y = b.op(&format!("{stage}"), op, &[y]).unwrap();
        for (name, seed) in [("mean", 1), ("scale", 2), ("shift", 3)] {
            b.weight(format!("{stage}.{name}"), weight(&[to], seed));
        }
        let var: Vec<f32> = super::noise(to, 4).iter().map(|v| v * v + 0.5).collect();
        b.weight(
            format!("{stage}.var"),
            rankfold_graph::Tensor::from_f32(vec![to], var).unwrap(),
        );
        let norm = BatchNorm {
            mean: format!("{stage}.mean").into(),
            var: format!("{stage}.var").into(),
            scale: Some(format!("{stage}.scale").into()),
            shift: Some(format!("{stage}.shift").into()),
            eps: 1e-5,
            momentum: 0.1,
        };
        y = b.op(&format!("{stage}.norm"), norm, &[y]).unwrap();
    }
    let graph = b.finish(&[y]).unwrap();
    let x = input(&[2, 16, 11, 10], 3);
    let expected = run(&graph, plain(Layout::Nchw), &[x.shallow_clone()]);
    let output = run(&graph, Options::default(), &[x]);
    assert!(distance(&output[0], &expected[0]) < 1e-5);
}

#[test]
fn what_passes_between_is_hidden_unless_it_is_asked_for() {
    let graph = graph(&[BUILD]);
    let executor = Executor::new(&graph, Options::default()).unwrap();
    for node in ["c0.1", "c0.2"] {
        let refused = executor.input_taps([node]).map(|_| ());
        assert!(matches!(refused, Err(TorchError::Folded { .. })), "{node}");
    }
    assert!(executor.input_taps(["c0.0"]).is_ok());
    let seen = Options {
        join: false,
        ..Options::default()
    };
    let executor = Executor::new(&graph, seen).unwrap();
    assert!(executor.taps(["c0.1"]).is_ok());
}

#[test]
fn images_of_another_size_are_an_error() {
    let executor = Executor::new(&graph(&[BUILD]), Options::default()).unwrap();
    for size in [[1, 15, 11, 10], [1, 16, 11, 0]] {
        let output = executor.run(&[Tensor::zeros(size, tch::kind::FLOAT_CPU)]);
        assert!(output.is_err(), "{size:?}");
    }
    let graph = pooled(BUILD, MaxPool::square(4, 4, 0));
    let executor = Executor::new(&graph, Options::default()).unwrap();
    let output = executor.run(&[Tensor::zeros([1, 16, 3, 10], tch::kind::FLOAT_CPU)]);
    assert!(output.is_err());
}
