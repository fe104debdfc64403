//! What is refused, and how it reads.

use rankfold_data::{Batch, Input, TensorData};
use rankfold_graph::ops::{Activation, Conv, Linear, Opaque, Reshape};
use rankfold_graph::{DType, Dim, Fact, GraphBuilder, Tensor as GraphTensor};
use tch::{Kind, Tensor};

use super::{input, plain, single, weight};
use crate::{Executor, Layout, Options, TorchError, check_finite, missing_ops, ordered_inputs};

#[test]
fn every_missing_op_is_named_at_construction() {
    let mut b = GraphBuilder::new("opaque");
    let x = b.input("x", Fact::batch_of(&[3])).unwrap();
    let op = |target: &str| Opaque {
        target: target.into(),
        weights: Vec::new(),
        outputs: vec![Fact::batch_of(&[3])],
    };
    let x = b.op("block.roll", op("aten.roll.default"), &[x]).unwrap();
    let x = b.op("relu", Activation::Relu, &[x]).unwrap();
    let x = b.op("block.erf", op("aten.erf.default"), &[x]).unwrap();
    let x = b.op("block.roll_1", op("aten.roll.default"), &[x]).unwrap();
    let graph = b.finish(&[x]).unwrap();
    assert_eq!(missing_ops(&graph).len(), 3);
    let error = Executor::new(&graph, Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 ops cannot run: aten.roll.default (at block.roll, block.roll_1); aten.erf.default (at block.erf)"
    );
    assert!(error.hint().is_some());
}

#[test]
fn wrong_inputs_are_refused_by_name() {
    let graph = single(
        Conv::new("w", None, 2),
        &[("w", weight(&[4, 3, 3, 3], 1))],
        &[&[3, 8, 8]],
    );
    let executor = Executor::new(&graph, plain(Layout::Nhwc)).unwrap();
    let error = executor.run(&[input(&[2, 4, 8, 8], 1)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "input `x0`: the model takes f32[any, 3, 8, 8], found [2, 4, 8, 8]"
    );
    let error = executor.run(&[input(&[3, 8, 8], 1)]).unwrap_err();
    assert!(matches!(error, TorchError::InputShape { .. }));
    let error = executor.run(&[]).unwrap_err();
    assert_eq!(error.to_string(), "the model takes 1 inputs, found 0");
}

#[test]
fn data_with_other_inputs_are_told_by_name() {
    let named = |name: Option<&str>| Input {
        name: name.map(Into::into),
        shape: vec![1, 2],
        data: TensorData::F32(vec![0.0; 2].into()),
    };
    let refused = |names: &[Option<&str>]| {
        let batch = Batch {
            inputs: names.iter().copied().map(named).collect(),
            labels: None,
            targets: None,
            step: 0,
        };
        let error = ordered_inputs(["image", "mask"].into_iter(), &batch).unwrap_err();
        assert!(error.hint().unwrap().contains("the model's names"));
        error.to_string()
    };
    assert_eq!(
        refused(&[Some("x")]),
        "the model takes 2 inputs (`image`, `mask`), the data have 1 input (`x`)"
    );
    assert_eq!(
        refused(&[None]),
        "the model takes 2 inputs (`image`, `mask`), the data have 1 input"
    );
}

#[test]
fn a_libtorch_exception_names_the_node_and_no_stack() {
    let mut b = GraphBuilder::new("open shapes");
    let fact = Fact::new(DType::F32, [Dim::batch(), Dim::UNKNOWN]);
    let x = b.input("x", fact).unwrap();
    b.weight("w", weight(&[5, 4], 1));
    let x = b
        .op(
            "layer.fc",
            Linear {
                weight: "w".into(),
                bias: None,
            },
            &[x],
        )
        .unwrap();
    let x = b.op("shape", Reshape { shape: vec![0, 5] }, &[x]).unwrap();
    let graph = b.finish(&[x]).unwrap();
    let executor = Executor::new(&graph, Options::default()).unwrap();
    assert_eq!(
        executor.run(&[input(&[2, 4], 1)]).unwrap()[0].size(),
        [2, 5]
    );
    let error = executor.run(&[input(&[2, 3], 1)]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("node `layer.fc` (linear): mat1 and mat2 shapes"),
        "{text}"
    );
    for word in ["frame #", "Exception raised", ".cpp", ".so", "\n"] {
        assert!(!text.contains(word), "{text}");
    }
}

#[test]
fn integers_are_no_type_to_run_in() {
    let graph = single(Activation::Relu, &[], &[&[3]]);
    let options = Options {
        dtype: DType::I64,
        ..Options::default()
    };
    assert!(matches!(
        Executor::new(&graph, options),
        Err(TorchError::NotFloat { .. })
    ));
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let mut values = super::noise(12, 1);
    values[7] = f32::NAN;
    let w = GraphTensor::from_f32(vec![4, 3], values).unwrap();
    let graph = single(
        Linear {
            weight: "fc.weight".into(),
            bias: None,
        },
        &[("fc.weight", w)],
        &[&[3]],
    );
    let error = check_finite(&graph).unwrap_err();
    assert_eq!(
        error.to_string(),
        "weight `fc.weight` is not finite at element 7"
    );
}

#[test]
fn complex_numbers_have_no_name_in_the_graph() {
    let complex = Tensor::zeros([2], (Kind::ComplexFloat, tch::Device::Cpu));
    assert!(matches!(
        crate::from_torch(&complex),
        Err(TorchError::Kind { .. })
    ));
}
