//! Weights that learn, and statistics taken anew.

use rankfold_graph::ops::{Activation, AdaptiveAvgPool, Conv, Flatten};
use rankfold_graph::{DType, Fact, GraphBuilder, Role, Tensor as GraphTensor};
use tch::{Kind, Reduction, Tensor};

use super::executor::{conv, network};
use super::{LAYOUTS, distance, input, plain, run};
use crate::{Device, Layout, Phase, TorchError, Trainable, recalibrate};

fn loss(model: &Trainable, x: &Tensor, phase: Phase) -> Tensor {
    let labels = Tensor::from_slice(&[0i64, 3, 7, 9, 2]);
    let scores = &model.forward(&[x.shallow_clone()], phase).unwrap()[0];
    scores.cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)
}

#[test]
fn evaluating_equals_the_executor() {
    let graph = network();
    let x = input(&[5, 3, 16, 16], 1);
    let expected = run(&graph, plain(Layout::Nchw), &[x.shallow_clone()]);
    for layout in LAYOUTS {
        let model = Trainable::new(&graph, Device::Cpu, layout).unwrap();
        let outputs = model
            .forward(&[x.shallow_clone()], Phase::Evaluate)
            .unwrap();
        assert!(!outputs[0].requires_grad());
        assert!(distance(&outputs[0], &expected[0]) < 1e-5);
    }
}

/// Gradients by differences: the loss changes along a direction as the gradient says.
#[test]
fn gradients_predict_the_change_of_the_loss() {
    let graph = network();
    let x = input(&[5, 3, 16, 16], 1);
    for layout in LAYOUTS {
        for phase in [Phase::Train, Phase::TrainFrozenStatistics] {
            let model = Trainable::new(&graph, Device::Cpu, layout).unwrap();
            loss(&model, &x, phase).backward();
            let step = 2e-3;
            let mut predicted = 0.0;
            let before = loss(&model, &x, phase).double_value(&[]);
            let mut moves = Vec::new();
            for (i, parameter) in model.parameters().iter().enumerate() {
                if !parameter.role.is_learnable() {
                    assert!(!parameter.tensor.requires_grad(), "{}", parameter.name);
                    continue;
                }
                let gradient = parameter.tensor.grad();
                assert!(gradient.defined(), "{}", parameter.name);
                let direction = input(&parameter.tensor.size(), 50 + i as u64) * step;
                predicted += (&gradient * &direction).sum(Kind::Double).double_value(&[]);
                moves.push((parameter.tensor.shallow_clone(), direction));
            }
            // The mean of both sides cancels the curvature.
            let shift = |sign: f64| {
                tch::no_grad(|| {
                    for (tensor, direction) in &moves {
                        let _ = tensor.shallow_clone().f_add_(&(direction * sign)).unwrap();
                    }
                });
            };
            shift(1.0);
            let up = loss(&model, &x, phase).double_value(&[]);
            shift(-2.0);
            let down = loss(&model, &x, phase).double_value(&[]);
            let measured = (up - down) / 2.0;
            assert!(
                (measured - predicted).abs() < 0.05 * predicted.abs() + 2e-5 * before.abs(),
                "{layout:?} {phase:?}: {measured} {predicted}"
            );
        }
    }
}

#[test]
fn statistics_move_in_training_alone() {
    let graph = network();
    let x = input(&[5, 3, 16, 16], 1) * 2.0 + 0.5;
    let name = "stem_norm.running_mean";
    let after = |phase: Phase| {
        let model = Trainable::new(&graph, Device::Cpu, Layout::Nhwc).unwrap();
        model.forward(&[x.shallow_clone()], phase).unwrap();
        let mut graph = graph.clone();
        model.export(&mut graph).unwrap();
        graph
    };
    for phase in [Phase::Evaluate, Phase::TrainFrozenStatistics] {
        assert_eq!(after(phase).weights(), graph.weights(), "{phase:?}");
    }
    let trained = after(Phase::Train);
    assert_ne!(trained.weights().get(name), graph.weights().get(name));
    for (weight, tensor) in graph.weights().iter() {
        let statistic = weight.contains("running");
        assert_eq!(
            trained.weights().get(weight) != Some(tensor),
            statistic,
            "{weight}"
        );
    }
}

#[test]
fn recalibration_averages_the_statistics_of_batches() {
    let mut graph = network();
    let batches: Vec<Tensor> = (0..3)
        .map(|i| input(&[6, 3, 16, 16], 10 + i) * (1.0 + i as f64))
        .collect();
    let stem = crate::to_torch(graph.weights().get("stem.weight").unwrap()).unwrap();
    let count = recalibrate(
        &mut graph,
        Device::Cpu,
        batches.iter().map(|x| Ok(vec![x.shallow_clone()])),
    )
    .unwrap();
    assert_eq!(count, 3);
    let mut mean = Tensor::zeros([8], (Kind::Float, tch::Device::Cpu));
    let mut var = mean.copy();
    for x in &batches {
        let y = x
            .conv2d(&stem, None::<&Tensor>, 1, 1, 1, 1)
            .transpose(0, 1)
            .reshape([8, -1]);
        mean += y.mean_dim(1, false, None) / 3.0;
        var += y.var_dim(1, true, false) / 3.0;
    }
    let read = |name: &str| crate::to_torch(graph.weights().get(name).unwrap()).unwrap();
    assert!(distance(&read("stem_norm.running_mean"), &mean) < 1e-5);
    assert!(distance(&read("stem_norm.running_var"), &var) < 1e-5);
    let none = recalibrate(&mut graph, Device::Cpu, []);
    assert!(matches!(none, Err(TorchError::Empty { .. })));
}

#[test]
fn frozen_weights_get_no_gradient() {
    let model = Trainable::new(&network(), Device::Cpu, Layout::Nhwc).unwrap();
    model
        .choose(|p| p.name.starts_with("fc") && p.role == Role::Kernel)
        .unwrap();
    loss(&model, &input(&[5, 3, 16, 16], 1), Phase::Train).backward();
    for parameter in model.parameters() {
        let learns = &*parameter.name == "fc.weight";
        assert_eq!(
            parameter.tensor.grad().defined(),
            learns,
            "{}",
            parameter.name
        );
    }
}

#[test]
fn tied_weights_are_one_parameter_and_stored_types_are_kept() {
    use rankfold_graph::ops::Linear;
    use rankfold_graph::{DType, Fact, GraphBuilder};
    let mut b = GraphBuilder::new("tied");
    let x = b.input("x", Fact::batch_of(&[4])).unwrap();
    let half = GraphTensor::from_f32(vec![4, 4], super::noise(16, 1)).unwrap();
    b.weight("w", half.to_float_dtype(DType::F16).unwrap());
    let op = Linear {
        weight: "w".into(),
        bias: None,
    };
    let y = b.op("one", op.clone(), &[x]).unwrap();
    let y = b.op("two", op, &[y]).unwrap();
    let mut graph = b.finish(&[y]).unwrap();
    let model = Trainable::new(&graph, Device::Cpu, Layout::Nchw).unwrap();
    assert_eq!(model.parameters().len(), 1);
    let before = graph.clone();
    model.export(&mut graph).unwrap();
    assert_eq!(graph, before);
    let x = input(&[3, 4], 2);
    let output = &model.forward(&[x.shallow_clone()], Phase::Train).unwrap()[0];
    output.sum(Kind::Float).backward();
    let w = model.parameters()[0]
        .tensor
        .detach()
        .set_requires_grad(true);
    x.matmul(&w.tr())
        .matmul(&w.tr())
        .sum(Kind::Float)
        .backward();
    assert!(distance(&model.parameters()[0].tensor.grad(), &w.grad()) < 1e-6);
}

/// Gradients of all learnable weights after one loss.
fn gradients(model: &Trainable, x: &Tensor) -> Vec<(String, Tensor)> {
    loss(model, x, Phase::TrainFrozenStatistics).backward();
    let learnt = model.parameters().iter();
    let learnt = learnt.filter(|parameter| parameter.role.is_learnable());
    learnt
        .map(|parameter| (parameter.name.to_string(), parameter.tensor.grad()))
        .collect()
}

/// Pointwise convolutions of many channels, and depthwise ones between them, one strided and one wide.
fn separable() -> rankfold_graph::Graph {
    let mut b = GraphBuilder::new("pointwise");
    let x = b.input("x", Fact::batch_of(&[48, 5, 5])).unwrap();
    let x = conv(&mut b, "a", [64, 48, 1, 1], Conv::new("", None, 2), x);
    let x = b.op("relu", Activation::Relu, &[x]).unwrap();
    let strided = Conv::new("", None, 2).padding(1).stride(2).groups(64);
    let x = conv(&mut b, "depthwise", [64, 1, 3, 3], strided, x);
    let wide = Conv::new("", None, 2).padding(2).groups(64);
    let x = conv(&mut b, "wide", [64, 1, 5, 5], wide, x);
    let x = conv(&mut b, "b", [50, 64, 1, 1], Conv::new("", None, 2), x);
    let x = b
        .op("mean", AdaptiveAvgPool { output: vec![1, 1] }, &[x])
        .unwrap();
    let x = b.op("flat", Flatten { start: 1, end: -1 }, &[x]).unwrap();
    b.finish(&[x]).unwrap()
}

#[test]
fn wide_pointwise_convolutions_learn_alike_in_both_layouts() {
    let graph = separable();
    let x = input(&[5, 48, 5, 5], 1);
    let [separate, product] =
        LAYOUTS.map(|layout| Trainable::new(&graph, Device::Cpu, layout).unwrap());
    let (expected, got) = (gradients(&separate, &x), gradients(&product, &x));
    for ((name, expected), (_, got)) in expected.iter().zip(&got) {
        assert!(distance(got, expected) < 1e-5, "{name}");
    }
}

#[test]
fn computing_in_bf16_keeps_weights_and_outputs_in_f32_and_comes_close() {
    let both = [(network(), [5, 3, 16, 16]), (separable(), [5, 48, 5, 5])];
    for (graph, shape) in both {
        let x = input(&shape, 1);
        let exact = Trainable::new(&graph, Device::Cpu, Layout::Nhwc).unwrap();
        let rounded = Trainable::new(&graph, Device::Cpu, Layout::Nhwc)
            .unwrap()
            .computing_in(DType::BF16);
        let [a, b] = [&exact, &rounded].map(|model| {
            let outputs = model.forward(&[x.shallow_clone()], Phase::Evaluate);
            outputs.unwrap().remove(0)
        });
        assert_eq!(b.kind(), Kind::Float);
        let missed = distance(&b, &a);
        assert!(missed > 0.0 && missed < 0.02, "{missed}");
        let pairs = gradients(&exact, &x)
            .into_iter()
            .zip(gradients(&rounded, &x));
        for ((name, expected), (_, got)) in pairs {
            assert_eq!(got.kind(), Kind::Float, "{name}");
            let missed = distance(&got, &expected);
            assert!(missed < 0.1, "{name}: {missed}");
        }
        let mut kinds = rounded.parameters().iter().map(|p| p.tensor.kind());
        assert!(kinds.all(|kind| kind != Kind::BFloat16));
    }
}
