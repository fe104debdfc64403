//! Every rule at full rank reproduces the layer that it replaces, whatever its geometry.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use rankfold_compress::{Form, Layer, LayerPlan, NoStore, Plan, Rank, Statistics, apply, rule};
use rankfold_decompose::Control;
use rankfold_graph::ops::{Conv, Linear};
use rankfold_graph::{DType, Dim, Fact, Graph, GraphBuilder, Op, Tensor};
use rankfold_torch::{Executor, Options, random_inputs};

fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i as f32 + 1.0) * 12.9898 + seed).sin() * 0.5)
        .collect()
}

fn single(op: Op, weight: &[usize], input: &[usize], bias: bool) -> Graph {
    let mut builder = GraphBuilder::new("single");
    let count = weight.iter().product();
    let kernel = Tensor::from_f32(weight.to_vec(), numbers(count, 0.3)).unwrap();
    builder.weight("layer.weight", kernel);
    if bias {
        let values = numbers(weight[0], 1.7);
        builder.weight(
            "layer.bias",
            Tensor::from_f32(vec![weight[0]], values).unwrap(),
        );
    }
    let dims = std::iter::once(Dim::batch()).chain(input.iter().map(|&n| Dim::Fixed(n)));
    let x = builder.input("x", Fact::new(DType::F32, dims)).unwrap();
    let y = builder.op("layer", op, &[x]).unwrap();
    builder.finish(&[y]).unwrap()
}

/// The largest difference of the outputs over the largest output.
fn difference(a: &Graph, b: &Graph) -> f64 {
    let options = Options {
        fold: false,
        ..Options::default()
    };
    let (a, b) = (
        Executor::new(a, options).unwrap(),
        Executor::new(b, options).unwrap(),
    );
    let inputs = random_inputs(&a, 3, 5).unwrap();
    let (x, y) = (a.run(&inputs).unwrap(), b.run(&inputs).unwrap());
    let largest = x[0].abs().max().double_value(&[]);
    (&x[0] - &y[0]).abs().max().double_value(&[]) / largest
}

fn at_full_rank(graph: &Graph, form: Form) -> Graph {
    let layer = &Layer::all(graph)[0];
    let mut plan = Plan::new(graph, String::new(), 0);
    plan.layers = vec![LayerPlan {
        form,
        rank: Some(rule(form).unwrap().full_rank(layer)),
        ..LayerPlan::keep(layer)
    }];
    let statistics = Statistics::new();
    let (rewritten, _) = apply(
        graph,
        &plan,
        &statistics,
        &NoStore,
        Control::default(),
        &|_| {},
    )
    .unwrap();
    rewritten
}

fn conv(weight: &[usize], groups: usize, stride: [usize; 2], dilation: [usize; 2]) -> Conv {
    Conv {
        weight: "layer.weight".into(),
        bias: Some("layer.bias".into()),
        stride: stride.to_vec(),
        padding: vec![[weight[2] / 2, weight[2] / 2], [1, 2]],
        dilation: dilation.to_vec(),
        groups,
    }
}

#[test]
fn convolutions_of_odd_geometry_are_reproduced_in_every_form() {
    let forms = [
        Form::Cp3,
        Form::Cp4,
        Form::Cp2,
        Form::Tucker2,
        Form::Spatial,
        Form::Channel,
    ];
    type Case = ([usize; 4], usize, [usize; 2], [usize; 2]);
    let cases: [Case; 5] = [
        ([6, 5, 3, 3], 1, [1, 1], [1, 1]),
        ([6, 5, 3, 3], 1, [2, 1], [1, 1]),
        ([6, 4, 3, 5], 1, [1, 3], [1, 1]),
        ([6, 5, 3, 3], 1, [1, 1], [2, 3]),
        ([6, 3, 3, 3], 2, [2, 2], [1, 1]),
    ];
    for (weight, groups, stride, dilation) in cases {
        let op = conv(&weight, groups, stride, dilation);
        let input = [weight[1] * groups, 13, 17];
        let graph = single(op.into(), &weight, &input, true);
        for form in forms {
            let rewritten = at_full_rank(&graph, form);
            let error = difference(&graph, &rewritten);
            assert!(
                error < 1e-4,
                "{form} of {weight:?} in {groups} groups, stride {stride:?}, dilation {dilation:?}: {error}"
            );
        }
    }
}

#[test]
fn linear_layers_pointwise_and_one_dimensional_convolutions_are_reproduced() {
    let linear = Linear {
        weight: "layer.weight".into(),
        bias: Some("layer.bias".into()),
    };
    let graph = single(linear.into(), &[7, 11], &[11], true);
    assert!(difference(&graph, &at_full_rank(&graph, Form::Svd)) < 1e-4);

    let pointwise = Conv::new("layer.weight", None, 2).stride(2);
    let graph = single(pointwise.into(), &[7, 5, 1, 1], &[5, 9, 9], false);
    assert!(difference(&graph, &at_full_rank(&graph, Form::Svd)) < 1e-4);

    let one = Conv::new("layer.weight", None, 1).padding(2).stride(2);
    let graph = single(one.into(), &[7, 5, 5], &[5, 21], false);
    for form in [Form::Cp3, Form::Channel, Form::Tucker2] {
        let error = difference(&graph, &at_full_rank(&graph, form));
        assert!(error < 1e-4, "{form}: {error}");
    }
}

#[test]
fn what_cannot_be_decomposed_says_why() {
    let depthwise = Conv::new("layer.weight", None, 2).groups(4);
    let graph = single(depthwise.into(), &[4, 1, 3, 3], &[4, 9, 9], false);
    let mut plan = Plan::new(&graph, String::new(), 0);
    plan.layers = vec![LayerPlan {
        form: Form::Cp3,
        rank: Some(Rank::One(1)),
        ..LayerPlan::keep(&Layer::all(&graph)[0])
    }];
    let error = plan.check(&graph).unwrap_err().to_string();
    assert!(
        error.contains("`layer`") && error.contains("depthwise"),
        "{error}"
    );

    let graph = single(
        Conv::new("layer.weight", None, 2).into(),
        &[4, 3, 3, 3],
        &[3, 9, 9],
        false,
    );
    let mut plan = Plan::new(&graph, String::new(), 0);
    let layer = &Layer::all(&graph)[0];
    plan.layers = vec![LayerPlan {
        form: Form::Cp3,
        rank: Some(Rank::One(28)),
        ..LayerPlan::keep(layer)
    }];
    let error = plan.check(&graph).unwrap_err().to_string();
    assert_eq!(
        error,
        "layer `layer`: `cp3` takes ranks from 1 to 27, found 28"
    );
}
