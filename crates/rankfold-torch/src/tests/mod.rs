mod calibration;
mod chains;
mod checkpoints;
mod composed;
mod convs;
mod errors;
mod executor;
mod fusion;
mod metrics;
mod ops;
mod pools;
mod pruning;
mod quantized;
mod simplify;
mod training;

use rankfold_graph::{Fact, Graph, GraphBuilder, Op, Tensor as GraphTensor};
use tch::{Device as TorchDevice, Kind, Tensor};

use crate::{Executor, Layout, Options};

/// Values in (−1, 1) without structure, the same for the same seed.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn weight(shape: &[usize], seed: u64) -> GraphTensor {
    GraphTensor::from_f32(shape.to_vec(), noise(shape.iter().product(), seed)).unwrap()
}

pub(crate) fn input(shape: &[i64], seed: u64) -> Tensor {
    let count: i64 = shape.iter().product();
    Tensor::from_slice(&noise(count as usize, seed)).reshape(shape)
}

/// A graph of one node over inputs of the given item shapes.
pub(crate) fn single(
    op: impl Into<Op>,
    weights: &[(&str, GraphTensor)],
    items: &[&[usize]],
) -> Graph {
    let mut builder = GraphBuilder::new("single");
    let inputs: Vec<_> = (items.iter().enumerate())
        .map(|(i, item)| {
            builder
                .input(&format!("x{i}"), Fact::batch_of(item))
                .unwrap()
        })
        .collect();
    for (name, tensor) in weights {
        builder.weight(*name, tensor.clone());
    }
    let outputs = builder.node("node", op, &inputs).unwrap();
    builder.finish(&outputs).unwrap()
}

pub(crate) const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

pub(crate) fn plain(layout: Layout) -> Options {
    Options {
        layout,
        fold: false,
        ..Options::default()
    }
}

pub(crate) fn run(graph: &Graph, options: Options, inputs: &[Tensor]) -> Vec<Tensor> {
    Executor::new(graph, options).unwrap().run(inputs).unwrap()
}

/// ‖a − b‖ / ‖b‖ where the shapes are equal.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    let norm = |t: &Tensor| (t * t).sum(Kind::Double).double_value(&[]).sqrt();
    norm(&(&a - &b)) / norm(&b).max(1e-30)
}

/// Runs a one-node graph in both layouts and compares its first output with `expected`.
pub(crate) fn check(graph: &Graph, inputs: &[Tensor], expected: &Tensor) {
    for layout in LAYOUTS {
        let outputs = run(graph, plain(layout), inputs);
        assert_eq!(outputs[0].size(), expected.size(), "{layout:?}");
        let error = distance(&outputs[0], expected);
        assert!(error < 1e-5, "{layout:?}: {error:e}");
        let fact = graph.fact(graph.outputs()[0]);
        for (dim, n) in fact.shape.as_ref().unwrap().iter().zip(outputs[0].size()) {
            assert!(
                dim.fixed().is_none_or(|d| d as i64 == n),
                "inferred {fact}, found {n}"
            );
        }
    }
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    crate::convert::to_vec_f64(tensor).unwrap()
}

pub(crate) fn tensor(values: &[f64], shape: &[i64]) -> Tensor {
    Tensor::from_slice(values)
        .reshape(shape)
        .to_device(TorchDevice::Cpu)
}
