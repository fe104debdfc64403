use std::collections::BTreeMap;
use std::convert::Infallible;

use rankfold_graph::ops::{
    Activation, Arithmetic, Binary, Conv, Flatten, Linear, MaxPool, Quantize,
};
use rankfold_graph::{Code, DType, Fact, GraphBuilder, Tensor};

use super::*;
use crate::probe::{PairedStatistics, Statistics};

/// Numbers that look drawn, each multiplied by the size of its row.
fn drawn(sizes: &[f32], row: usize) -> Vec<f32> {
    let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
    (0..sizes.len() * row)
        .map(|i| number(i) * sizes[i / row])
        .collect()
}

fn tensor(shape: &[usize], values: Vec<f32>) -> Tensor {
    Tensor::from_f32(shape.to_vec(), values).unwrap()
}

/// A pointwise, a depthwise and a pointwise convolution whose inner channels differ a lot in size, an
/// addition around them, a pool and a head.
fn network() -> Graph {
    let mut builder = GraphBuilder::new("test");
    let sizes = [1.0, 100.0, 0.01, 10.0];
    for (name, shape, values) in [
        ("a.weight", vec![4, 4, 1, 1], drawn(&sizes, 4)),
        ("a.bias", vec![4], vec![0.5, 20.0, 0.0, 1.0]),
        ("b.weight", vec![4, 1, 3, 3], drawn(&[1.0; 4], 9)),
        ("c.weight", vec![4, 4, 1, 1], drawn(&[0.01; 4], 4)),
        ("fc.weight", vec![3, 16], drawn(&[1.0, 0.0, 1.0], 16)),
        ("fc.bias", vec![3], vec![0.3, 0.2, 0.1]),
    ] {
        builder.weight(name, tensor(&shape, values));
    }
    let x = builder.input("x", Fact::batch_of(&[4, 4, 4])).unwrap();
    let conv = |name: &str, bias: Option<&str>| {
        Conv::new(format!("{name}.weight"), bias.map(Into::into), 2)
    };
    let a = builder.op("a", conv("a", Some("a.bias")), &[x]).unwrap();
    let b = conv("b", None).padding(1).groups(4);
    let b = builder.op("b", b, &[a]).unwrap();
    let c = builder.op("c", conv("c", None), &[b]).unwrap();
    let add = Binary {
        arithmetic: Arithmetic::Add,
    };
    let sum = builder.op("sum", add, &[c, x]).unwrap();
    let relu = builder.op("relu", Activation::Relu, &[sum]).unwrap();
    let pool = MaxPool {
        kernel: vec![2, 2],
        stride: vec![2, 2],
        padding: vec![[0, 0]; 2],
        dilation: vec![1, 1],
        ceil: false,
    };
    let pooled = builder.op("pool", pool, &[relu]).unwrap();
    let flat = Flatten { start: 1, end: -1 };
    let flat = builder.op("flat", flat, &[pooled]).unwrap();
    let head = Linear {
        weight: "fc.weight".into(),
        bias: Some("fc.bias".into()),
    };
    let scores = builder.op("fc", head, &[flat]).unwrap();
    builder.finish(&[scores]).unwrap()
}

/// Answers with made-up ranges, and prefers what it is told to.
struct Oracle {
    observed: Vec<Vec<String>>,
    divergences: Vec<f64>,
}

impl Probe for Oracle {
    type Error = Infallible;

    fn statistics(&mut self, _: &Graph, _: &[String]) -> Result<Statistics, Infallible> {
        Ok(BTreeMap::new())
    }

    fn paired(
        &mut self,
        _: &Graph,
        _: &str,
        _: &Graph,
        _: &str,
    ) -> Result<Option<PairedStatistics>, Infallible> {
        Ok(None)
    }

    fn observe(&mut self, _: &Graph, values: &[String]) -> Result<Observations, Infallible> {
        self.observed.push(values.to_vec());
        let observed = Observed {
            min: -1.0,
            max: 3.0,
            sample: (-100..=300).map(|i| i as f32 / 100.0).collect(),
            channels: vec![2.0, 200.0, 0.02, 20.0],
        };
        let all = values.iter().map(|name| (name.clone(), observed.clone()));
        Ok(all.collect())
    }

    fn divergence(&mut self, _: &Graph) -> Result<f64, Infallible> {
        Ok(self.divergences.pop().unwrap_or(1.0))
    }

    fn recalibrated(&mut self, graph: &Graph) -> Result<Graph, Infallible> {
        Ok(graph.clone())
    }
}

fn oracle() -> Oracle {
    Oracle {
        observed: Vec::new(),
        divergences: Vec::new(),
    }
}

fn numbers(graph: &Graph, name: &str) -> Vec<f32> {
    let tensor = graph.weights().get(name).unwrap();
    tensor.to_f32().unwrap().into_owned()
}

#[test]
fn every_value_that_a_layer_takes_or_a_convolution_makes_is_rounded() {
    let graph = network();
    let mut oracle = oracle();
    let quantized = quantize(&graph, &mut oracle, &mut |_| ControlFlow::Continue(())).unwrap();
    let rounded: Vec<&str> = (quantized.graph.nodes().iter())
        .filter(|node| matches!(node.op, Op::Quantize(_)))
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(
        rounded,
        ["x.int8", "a.int8", "b.int8", "c.int8", "flat.int8"]
    );
    assert_eq!(quantized.values, 5);
    // What is flattened comes from the activation, whose range it has.
    assert_eq!(oracle.observed[0], ["a", "b", "c", "relu", "x"]);
    let names = |graph: &Graph| -> Vec<String> {
        let ends = graph.inputs().iter().chain(graph.outputs());
        ends.map(|&id| graph.value(id).name.clone()).collect()
    };
    assert_eq!(names(&quantized.graph), names(&graph));
    let sum = quantized.graph.node("sum").unwrap();
    let taken = sum.inputs.iter();
    let taken: Vec<&str> = taken
        .map(|&id| quantized.graph.value(id).name.as_str())
        .collect();
    assert_eq!(taken, ["c.int8", "x.int8"]);
}

#[test]
fn the_try_that_diverges_least_is_taken_and_all_are_told() {
    let mut told = Vec::new();
    let mut oracle = Oracle {
        divergences: vec![0.5, 0.4, 0.1, 0.3, 0.2, 0.6],
        ..oracle()
    };
    let quantized = quantize(&network(), &mut oracle, &mut |t| {
        told.push(t.divergence);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(told, [0.6, 0.2, 0.3, 0.1, 0.4, 0.5]);
    let best = &quantized.tries[0];
    assert_eq!((best.equalized, best.rule), (true, RangeRule::Full));
    assert_eq!(quantized.tries.len(), 6);
}

#[test]
fn weights_have_a_scale_for_every_output_channel() {
    let graph = network();
    let quantized = quantize_weights(&graph).unwrap().graph;
    for name in ["a.weight", "b.weight", "c.weight", "fc.weight"] {
        let tensor = quantized.weights().get(name).unwrap();
        let Some(Code::Int8(code)) = tensor.code() else {
            panic!("{name} is not coded");
        };
        assert_eq!((code.axis(), code.scales().len()), (0, tensor.shape()[0]));
        let (was, is) = (numbers(&graph, name), numbers(&quantized, name));
        let row = was.len() / tensor.shape()[0];
        let scales = code.scales().to_f32().unwrap().into_owned();
        for (i, (was, is)) in was.iter().zip(&is).enumerate() {
            assert!((was - is).abs() <= 0.501 * scales[i / row], "{name} {i}");
        }
    }
    assert_eq!(numbers(&quantized, "fc.bias"), numbers(&graph, "fc.bias"));
    assert!(
        (quantized.nodes().iter()).all(|node| !matches!(node.op, Op::Quantize(_))),
        "values are left as they are"
    );
}

#[test]
fn biases_are_multiples_of_what_products_are_multiples_of() {
    let quantized = quantize(
        &network(),
        &mut oracle(),
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap();
    let graph = &quantized.graph;
    let Op::Quantize(input) = graph.node("flat.int8").unwrap().op else {
        panic!("no rounding");
    };
    let Some(Code::Int8(code)) = graph.weights().get("fc.weight").unwrap().code() else {
        panic!("no code");
    };
    let bias = numbers(graph, "fc.bias");
    let codes = code.bias_codes(&bias, input.scale).unwrap();
    assert_eq!(code.bias_of(&codes, input.scale).unwrap(), bias);
    for (is, was) in bias.iter().zip(numbers(&network(), "fc.bias")) {
        assert!((is - was).abs() < 1e-3, "{is} {was}");
    }
}

#[test]
fn equalising_makes_ranges_alike_and_leaves_what_is_computed() {
    let graph = network();
    let names: Vec<String> = ["a", "b", "c", "relu", "x"].map(str::to_owned).to_vec();
    let Ok(observations) = oracle().observe(&graph, &names);
    let level = equalized(&graph, &observations).unwrap().unwrap();
    let (a, b, c) = ("a.weight", "b.weight", "c.weight");
    // The product of the three weights along a channel is what it was.
    for channel in 0..4 {
        let product = |graph: &Graph| {
            numbers(graph, a)[4 * channel]
                * numbers(graph, b)[9 * channel]
                * numbers(graph, c)[channel]
        };
        let (was, is) = (product(&graph), product(&level));
        assert!((was - is).abs() <= 1e-5 * was.abs(), "{was} {is}");
    }
    let largest = |name: &str, row: usize| -> Vec<f32> {
        let level = numbers(&level, name);
        let rows = level.chunks(row);
        rows.map(|row| row.iter().fold(0.0f32, |most, n| most.max(n.abs())))
            .collect()
    };
    let rows = largest(a, 4);
    let (low, high) = rows.iter().fold((f32::MAX, 0.0f32), |(low, high), &n| {
        (low.min(n), high.max(n))
    });
    assert!(high / low < 3.0, "{rows:?}");
    let bias = numbers(&level, "a.bias");
    assert!((bias[1] - 20.0).abs() < 1e-4 && (bias[0] - 50.0).abs() < 1e-3);
}

#[test]
fn quantising_again_begins_from_the_floats() {
    let once = quantize(
        &network(),
        &mut oracle(),
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap();
    let twice = quantize(&once.graph, &mut oracle(), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(once.graph.to_string(), twice.graph.to_string());
    let plain = quantize_weights(&once.graph).unwrap().graph;
    assert_eq!(plain.to_string(), network().to_string());
}

#[test]
fn ranges_hold_zero_and_leave_out_what_is_rare() {
    let observed = Observed {
        min: 2.0,
        max: 1000.0,
        sample: (0..20_000).map(|i| 2.0 + i as f32 / 10_000.0).collect(),
        channels: Vec::new(),
    };
    let full = RangeRule::Full.rounding(&observed);
    assert_eq!((full.zero_point, full.scale), (0, 1000.0 / 255.0));
    for rule in [RangeRule::Percentile, RangeRule::LeastSquares] {
        let rounding = rule.rounding(&observed);
        assert_eq!(rounding.zero_point, 0);
        assert!(rounding.scale < full.scale, "{rule}");
    }
    let percentile = RangeRule::Percentile.rounding(&observed);
    assert!((percentile.scale * 255.0 - 4.0).abs() < 0.01);
    for ends in [
        [0.0, 0.0],
        [f32::NAN, f32::NAN],
        [0.0, 1e-44],
        [f32::MIN, f32::MAX],
    ] {
        let observed = Observed {
            min: ends[0],
            max: ends[1],
            ..Observed::default()
        };
        for rule in RangeRule::ALL {
            let scale = rule.rounding(&observed).scale;
            assert!(scale.is_finite() && scale > 0.0, "{rule} {ends:?}");
        }
    }
}

#[test]
fn the_least_squares_range_has_the_least_error_that_was_tried() {
    // Numbers from −0.5 to 1.5 and some further out; the ends are not among them.
    let mut sample: Vec<f32> = drawn(&[1.0; 40], 50).iter().map(|x| x + 0.5).collect();
    sample.extend([-0.8, 1.9, 2.0]);
    sample.sort_by(f32::total_cmp);
    let observed = Observed {
        min: -3.0,
        max: 7.0,
        sample: sample.clone(),
        channels: Vec::new(),
    };
    // The nearest of the 256 numbers, by trying them all.
    let error = |rounding: &Quantize| -> f64 {
        let numbers: Vec<f64> = (0..=255)
            .map(|i| f64::from(i - i32::from(rounding.zero_point)) * f64::from(rounding.scale))
            .collect();
        let nearest = |x: f64| {
            numbers
                .iter()
                .map(|n| (n - x).abs())
                .fold(f64::MAX, f64::min)
        };
        sample.iter().map(|&x| nearest(f64::from(x)).powi(2)).sum()
    };
    let chosen = error(&RangeRule::LeastSquares.rounding(&observed));
    let full = error(&RangeRule::Full.rounding(&observed));
    assert!(chosen < 0.8 * full, "{chosen:e} of {full:e}");
    for step in 0..=40 {
        let share = 1.0 - 0.75 * step as f32 / 40.0;
        let shorter = Observed {
            min: observed.min * share,
            max: observed.max * share,
            ..Observed::default()
        };
        let other = error(&RangeRule::Full.rounding(&shorter));
        assert!(
            chosen <= other * (1.0 + 1e-4),
            "{step}: {chosen:e} > {other:e}"
        );
    }
}

#[test]
fn a_graph_without_layers_is_refused() {
    let mut builder = GraphBuilder::new("test");
    let x = builder.input("x", Fact::new(DType::F32, [])).unwrap();
    let y = builder.op("y", Activation::Relu, &[x]).unwrap();
    let graph = builder.finish(&[y]).unwrap();
    assert!(matches!(
        quantize(&graph, &mut oracle(), &mut |_| ControlFlow::Continue(())),
        Err(CompressError::NothingToQuantize)
    ));
}
