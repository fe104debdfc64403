//! Rounding to 8 bits against its definition, and what is observed of values.

use rankfold_data::{Batch, DataError, Input, TensorData};
use rankfold_graph::ops::{Activation, Quantize};
use rankfold_graph::{DType, Fact, GraphBuilder};
use tch::{Kind, Tensor};

use super::{LAYOUTS, input, plain, run, single, values};
use crate::observe::observe;
use crate::{Device, Layout, Options, Phase, Trainable};

fn rounded(op: Quantize, x: f64) -> f64 {
    let (scale, zero) = (f64::from(op.scale), f64::from(op.zero_point));
    let place = ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0);
    (place - zero) * scale
}

#[test]
fn numbers_go_to_the_nearest_of_256_and_halves_to_the_even_one() {
    for (scale, zero_point) in [(0.0078125, 128), (0.5, 0), (0.03125, 255)] {
        let op = Quantize { scale, zero_point };
        let graph = single(op, &[], &[&[4, 5, 6]]);
        let halves = (input(&[3, 4, 5, 6], 7) * 300.0).round() * f64::from(scale) / 2.0;
        for layout in LAYOUTS {
            let found = run(&graph, plain(layout), &[halves.shallow_clone()]);
            for (x, y) in values(&halves).into_iter().zip(values(&found[0])) {
                assert_eq!(y, rounded(op, x), "{x} by {op:?}");
            }
        }
    }
}

#[test]
fn rounding_twice_is_rounding_once_and_half_precision_stays_what_it_is() {
    let op = Quantize {
        scale: 0.013,
        zero_point: 77,
    };
    let graph = single(op, &[], &[&[50]]);
    let x = input(&[8, 50], 3);
    let once = run(&graph, plain(Layout::Nchw), &[x.shallow_clone()]);
    let twice = run(&graph, plain(Layout::Nchw), &once);
    assert!(twice[0].equal(&once[0]));
    let half = Options {
        dtype: DType::BF16,
        ..plain(Layout::Nchw)
    };
    assert_eq!(run(&graph, half, &[x])[0].kind(), Kind::BFloat16);
}

#[test]
fn gradients_pass_where_nothing_is_cut_off() {
    let op = Quantize {
        scale: 0.01,
        zero_point: 0,
    };
    let graph = single(op, &[], &[&[3]]);
    let model = Trainable::new(&graph, Device::Cpu, Layout::Nchw).unwrap();
    let x = Tensor::from_slice(&[-0.5f32, 0.313, 9.0]).reshape([1, 3]);
    let x = x.set_requires_grad(true);
    let outputs = model.forward(&[x.shallow_clone()], Phase::Train).unwrap();
    outputs[0].sum(Kind::Float).backward();
    assert_eq!(values(&x.grad()), [0.0, 1.0, 0.0]);
}

fn batch(values: &[f32]) -> Result<Batch, DataError> {
    Ok(Batch {
        inputs: vec![Input {
            name: None,
            shape: vec![values.len() / 8, 2, 2, 2],
            data: TensorData::F32(values.to_vec().into()),
        }],
        labels: None,
        targets: None,
        step: 0,
    })
}

#[test]
fn ranges_are_those_of_all_inputs_channel_by_channel() {
    let mut builder = GraphBuilder::new("test");
    let x = builder.input("x", Fact::batch_of(&[2, 2, 2])).unwrap();
    let y = builder.op("y", Activation::Relu, &[x]).unwrap();
    let z = builder.op("z", Activation::Neg, &[y]).unwrap();
    let graph = builder.finish(&[z]).unwrap();
    let first: Vec<f32> = (0..16).map(|i| i as f32 / 4.0 - 3.0).collect();
    let second = [0.0, 0.0, 0.0, -9.0, 0.0, 0.0, 0.0, 0.25];
    let names = ["x", "y"].map(str::to_owned);
    let batches = [batch(&first), batch(&second)];
    let observed = observe(&graph, &names, Device::Cpu, batches).unwrap();
    assert_eq!(observed.len(), 2);
    let (x, y) = (&observed["x"], &observed["y"]);
    assert_eq!((x.min, x.max), (-9.0, 0.75));
    assert_eq!(x.channels, [9.0, 2.0]);
    assert_eq!((y.min, y.max), (0.0, 0.75));
    assert_eq!(y.channels, [0.0, 0.75]);
    assert_eq!((x.sample.len(), y.sample.len()), (24, 24));
    assert!(x.sample.is_sorted());
    let unknown = observe(&graph, &["w".to_owned()], Device::Cpu, [batch(&first)]);
    assert!(unknown.unwrap_err().to_string().contains('w'));
    assert!(observe(&graph, &names, Device::Cpu, []).is_err());
}
