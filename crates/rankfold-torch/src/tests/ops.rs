//! All other ops against formulas.

use rankfold_graph::ops::{
    Activation, Arithmetic, Attention, BatchNorm, Binary, BinaryScalar, Concat, Constant, Dropout,
    Embedding, Expand, Flatten, GroupNorm, LayerNorm, Linear, LocalResponseNorm, MatMul, Mean, Pad,
    Permute, Reshape, Slice, Softmax, Split, Squeeze, Unsqueeze,
};
use rankfold_graph::{DType, Dim, Fact, GraphBuilder, Tensor as GraphTensor};
use tch::{Kind, Tensor};

use super::{check, input, plain, run, single, tensor, values, weight};
use crate::Layout;

#[test]
fn activations_equal_their_formulas() {
    let softplus = |x: f64| x.exp().ln_1p();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let relu6 = |x: f64| x.clamp(0.0, 6.0);
    type Reference = Box<dyn Fn(f64) -> f64>;
    let cases: Vec<(Activation, Reference)> = vec![
        (Activation::Relu, Box::new(|x| x.max(0.0))),
        (Activation::Relu6, Box::new(relu6)),
        (
            Activation::LeakyRelu { slope: 0.2 },
            Box::new(|x| if x > 0.0 { x } else { 0.2 * x }),
        ),
        (
            Activation::LeakyRelu { slope: 1.5 },
            Box::new(|x| if x > 0.0 { x } else { 1.5 * x }),
        ),
        (
            Activation::Elu { alpha: 1.0 },
            Box::new(|x| if x > 0.0 { x } else { x.exp_m1() }),
        ),
        (
            Activation::Elu { alpha: 0.3 },
            Box::new(|x| if x > 0.0 { x } else { 0.3 * x.exp_m1() }),
        ),
        (
            Activation::Gelu { tanh: true },
            Box::new(|x| {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }),
        ),
        (Activation::Silu, Box::new(move |x| x * sigmoid(x))),
        (Activation::Sigmoid, Box::new(sigmoid)),
        (Activation::Tanh, Box::new(f64::tanh)),
        (
            Activation::HardSwish,
            Box::new(move |x| x * relu6(x + 3.0) / 6.0),
        ),
        (
            Activation::HardSigmoid,
            Box::new(move |x| relu6(x + 3.0) / 6.0),
        ),
        (Activation::Mish, Box::new(move |x| x * softplus(x).tanh())),
        (Activation::Softplus, Box::new(softplus)),
        (
            Activation::Clamp {
                min: -1.5,
                max: 2.0,
            },
            Box::new(|x| x.clamp(-1.5, 2.0)),
        ),
        (Activation::Exp, Box::new(f64::exp)),
        (Activation::Abs, Box::new(f64::abs)),
        (Activation::Neg, Box::new(|x| -x)),
        (Activation::Pow { exponent: 3.0 }, Box::new(|x| x.powi(3))),
        (Activation::Identity, Box::new(|x| x)),
    ];
    let x = input(&[2, 3, 4, 5], 1) * 5.0;
    for (op, formula) in cases {
        let expected: Vec<f64> = values(&x).into_iter().map(formula).collect();
        check(
            &single(op, &[], &[&[3, 4, 5]]),
            &[x.shallow_clone()],
            &tensor(&expected, &[2, 3, 4, 5]),
        );
    }
    let x = x.abs();
    let expected: Vec<f64> = values(&x).into_iter().map(f64::sqrt).collect();
    check(
        &single(Activation::Sqrt, &[], &[&[3, 4, 5]]),
        &[x.shallow_clone()],
        &tensor(&expected, &[2, 3, 4, 5]),
    );
    let expected = x.gelu("none");
    check(
        &single(Activation::Gelu { tanh: false }, &[], &[&[3, 4, 5]]),
        &[x],
        &expected,
    );
}

#[test]
fn an_activation_in_place_gives_the_same() {
    for op in [
        Activation::Relu,
        Activation::Relu6,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::HardSwish,
        Activation::Clamp {
            min: -0.1,
            max: 0.2,
        },
        Activation::Mish,
    ] {
        let mut builder = GraphBuilder::new("two");
        let x = builder.input("x", Fact::batch_of(&[3, 4])).unwrap();
        let y = builder.op("neg", Activation::Neg, &[x]).unwrap();
        let z = builder.op("act", op, &[y]).unwrap();
        let graph = builder.finish(&[z]).unwrap();
        let x = input(&[2, 3, 4], 1);
        let expected = run(
            &single(op, &[], &[&[3, 4]]),
            plain(Layout::Nchw),
            &[x.neg()],
        );
        check(&graph, &[x], &expected[0]);
    }
}

#[test]
fn bounds_and_padding_that_a_narrow_type_cannot_hold_are_infinite() {
    let highest = f64::from(f32::MAX);
    let clamp = Activation::Clamp {
        min: 0.25,
        max: highest,
    };
    let mut builder = GraphBuilder::new("narrow");
    let x = builder.input("x", Fact::batch_of(&[3, 4])).unwrap();
    let own = builder.op("neg", Activation::Neg, &[x]).unwrap();
    let in_place = builder.op("in_place", clamp, &[own]).unwrap();
    let apart = builder.op("apart", clamp, &[x]).unwrap();
    let padding = vec![[0, 0], [0, 0], [0, 1]];
    let value = -highest;
    let padded = builder
        .op("padded", Pad { padding, value }, &[apart])
        .unwrap();
    let graph = builder.finish(&[in_place, padded]).unwrap();
    let x = input(&[2, 3, 4], 1).to_kind(Kind::BFloat16);
    let options = crate::Options {
        dtype: DType::BF16,
        ..plain(Layout::Nchw)
    };
    let outputs = run(&graph, options, &[x.shallow_clone()]);
    assert!(outputs[0].equal(&x.neg().clamp_min(0.25)));
    let clamped = x.clamp_min(0.25);
    assert!(outputs[1].narrow(2, 0, 4).equal(&clamped));
    let lowest = outputs[1].narrow(2, 4, 1).max().double_value(&[]);
    assert!(lowest < -3e38, "{lowest}");
}

#[test]
fn batch_norm_equals_its_formula() {
    let (scale, shift, mean) = (weight(&[3], 1), weight(&[3], 2), weight(&[3], 3));
    let var = GraphTensor::from_f32(vec![3], vec![0.5, 2.0, 1.5]).unwrap();
    let x = input(&[2, 3, 4, 5], 4);
    let column = |t: &GraphTensor| crate::to_torch(t).unwrap().reshape([1, 3, 1, 1]);
    let bare = (&x - column(&mean)) / (column(&var) + 1e-3).sqrt();
    for affine in [true, false] {
        let op = BatchNorm {
            scale: affine.then(|| "s".into()),
            shift: affine.then(|| "b".into()),
            mean: "m".into(),
            var: "v".into(),
            eps: 1e-3,
            momentum: 0.1,
        };
        let mut weights = vec![("m", mean.clone()), ("v", var.clone())];
        if affine {
            weights.extend([("s", scale.clone()), ("b", shift.clone())]);
        }
        let expected = if affine {
            &bare * column(&scale) + column(&shift)
        } else {
            bare.copy()
        };
        check(
            &single(op, &weights, &[&[3, 4, 5]]),
            &[x.shallow_clone()],
            &expected,
        );
    }
}

#[test]
fn layer_and_group_norm_normalise() {
    let x = input(&[2, 6, 4], 1) * 3.0 + 1.0;
    let normalised = |x: &Tensor| {
        let mean = x.mean_dim(-1, true, None);
        let var = (x - &mean).square().mean_dim(-1, true, None);
        (x - mean) / (var + 1e-5).sqrt()
    };
    let (scale, shift) = (weight(&[4], 1), weight(&[4], 2));
    let torch = |t: &GraphTensor| crate::to_torch(t).unwrap();
    let expected = normalised(&x) * torch(&scale) + torch(&shift);
    let op = LayerNorm {
        scale: Some("s".into()),
        shift: Some("b".into()),
        shape: vec![4],
        eps: 1e-5,
    };
    check(
        &single(op, &[("s", scale), ("b", shift)], &[&[6, 4]]),
        &[x.shallow_clone()],
        &expected,
    );
    let expected = normalised(&x.reshape([2, 3, 8])).reshape([2, 6, 4]);
    let op = GroupNorm {
        scale: None,
        shift: None,
        groups: 3,
        eps: 1e-5,
    };
    check(&single(op, &[], &[&[6, 4]]), &[x], &expected);
}

#[test]
fn local_response_norm_equals_its_formula() {
    for (size, channels) in [(5, 7), (4, 7), (5, 3), (1, 4), (9, 3), (5, 64), (5, 17)] {
        for (beta, k) in [(0.75, 2.0), (0.5, 1.0), (0.6, 1.0)] {
            let op = LocalResponseNorm {
                size,
                alpha: 0.3,
                beta,
                k,
            };
            let x = input(&[2, channels, 3, 5], 1) * 4.0;
            let xs = values(&x);
            let at = |n: i64, c: i64, p: i64| xs[((n * channels + c) * 15 + p) as usize];
            let mut y = Vec::new();
            for (n, c) in (0..2).flat_map(|n| (0..channels).map(move |c| (n, c))) {
                for p in 0..15 {
                    let first = (c - size as i64 / 2).max(0);
                    let last = (c + (size as i64 - 1) / 2).min(channels - 1);
                    let sum: f64 = (first..=last).map(|other| at(n, other, p).powi(2)).sum();
                    y.push(at(n, c, p) / (k + 0.3 / size as f64 * sum).powf(beta));
                }
            }
            let graph = single(op, &[], &[&[channels as usize, 3, 5]]);
            check(
                &graph,
                &[x.shallow_clone()],
                &tensor(&y, &[2, channels, 3, 5]),
            );
        }
    }
}

#[test]
fn arithmetic_broadcasts_and_takes_numbers() {
    let (a, b) = (input(&[2, 3, 4], 1), input(&[2, 3, 1], 2) + 2.0);
    let cases = [
        (Arithmetic::Add, &a + &b, &a + 3.0, &a + 3.0),
        (Arithmetic::Sub, &a - &b, &a - 3.0, a.neg() + 3.0),
        (Arithmetic::Mul, &a * &b, &a * 3.0, &a * 3.0),
        (Arithmetic::Div, &a / &b, &a / 3.0, a.reciprocal() * 3.0),
    ];
    for (arithmetic, two, number, reversed) in cases {
        let inputs = [a.shallow_clone(), b.shallow_clone()];
        check(
            &single(Binary { arithmetic }, &[], &[&[3, 4], &[3, 1]]),
            &inputs,
            &two,
        );
        for (reversed, expected) in [(false, number), (true, reversed)] {
            let op = BinaryScalar {
                arithmetic,
                scalar: 3.0,
                reversed,
            };
            check(
                &single(op.clone(), &[], &[&[3, 4]]),
                &[a.shallow_clone()],
                &expected,
            );
            let mut builder = GraphBuilder::new("in place");
            let x = builder.input("x", Fact::batch_of(&[3, 4])).unwrap();
            let y = builder.op("neg", Activation::Neg, &[x]).unwrap();
            let z = builder.op("scalar", op, &[y]).unwrap();
            check(&builder.finish(&[z]).unwrap(), &[a.neg()], &expected);
        }
    }
}

#[test]
fn reuse_of_memory_changes_no_result() {
    for arithmetic in [
        Arithmetic::Add,
        Arithmetic::Sub,
        Arithmetic::Mul,
        Arithmetic::Div,
    ] {
        for (first_fresh, second_fresh) in [(true, false), (false, true), (true, true)] {
            let mut builder = GraphBuilder::new("in place");
            let x = builder.input("x", Fact::batch_of(&[3, 4])).unwrap();
            let p = builder.op("p", Activation::Exp, &[x]).unwrap();
            let q = builder.op("q", Activation::Abs, &[x]).unwrap();
            let a = if first_fresh { p } else { x };
            let b = if second_fresh { q } else { x };
            let z = builder.op("z", Binary { arithmetic }, &[a, b]).unwrap();
            let graph = builder.finish(&[z]).unwrap();
            let x = input(&[2, 3, 4], 1);
            let kept = x.copy();
            let left = if first_fresh { x.exp() } else { x.copy() };
            let right = if second_fresh { x.abs() } else { x.copy() };
            let expected = match arithmetic {
                Arithmetic::Add => left + right,
                Arithmetic::Sub => left - right,
                Arithmetic::Mul => left * right,
                Arithmetic::Div => left / right,
            };
            check(&graph, &[x.shallow_clone()], &expected);
            assert!(x.equal(&kept), "the input was written to");
        }
    }
}

#[test]
fn views_and_values_used_twice_are_never_written_over() {
    let mut builder = GraphBuilder::new("views");
    let x = builder.input("x", Fact::batch_of(&[3, 4])).unwrap();
    let y = builder.op("y", Activation::Exp, &[x]).unwrap();
    let flat = builder
        .op("flat", Flatten { start: 1, end: 2 }, &[y])
        .unwrap();
    let relu = builder.op("relu", Activation::Tanh, &[flat]).unwrap();
    let same = builder.op("same", Activation::Identity, &[x]).unwrap();
    let neg = builder.op("neg", Activation::Relu, &[same]).unwrap();
    let twice = builder.op("twice", Activation::Exp, &[x]).unwrap();
    let one = builder.op("one", Activation::Tanh, &[twice]).unwrap();
    let sum = builder
        .op(
            "sum",
            Binary {
                arithmetic: Arithmetic::Add,
            },
            &[one, twice],
        )
        .unwrap();
    let graph = builder.finish(&[relu, neg, sum, y]).unwrap();
    let x = input(&[2, 3, 4], 1);
    let kept = x.copy();
    let outputs = run(&graph, plain(Layout::Nhwc), std::slice::from_ref(&x));
    assert!(x.equal(&kept));
    assert!(outputs[0].allclose(&x.exp().tanh().flatten(1, 2), 1e-6, 1e-6, false));
    assert!(outputs[1].equal(&x.relu()));
    assert!(outputs[2].allclose(&(x.exp().tanh() + x.exp()), 1e-6, 1e-6, false));
    assert!(outputs[3].equal(&x.exp()));
}

#[test]
fn shapes_change_as_said() {
    let x = input(&[2, 3, 4, 5], 1);
    let item: &[&[usize]] = &[&[3, 4, 5]];
    let one = |op: rankfold_graph::Op, expected: Tensor| {
        check(&single(op, &[], item), &[x.shallow_clone()], &expected);
    };
    one(Flatten { start: 1, end: -1 }.into(), x.reshape([2, 60]));
    one(Flatten { start: 2, end: 3 }.into(), x.reshape([2, 3, 20]));
    one(
        Reshape {
            shape: vec![0, 4, -1],
        }
        .into(),
        x.reshape([2, 4, 15]),
    );
    one(
        Permute {
            dims: vec![0, 3, 1, 2],
        }
        .into(),
        x.permute([0, 3, 1, 2]),
    );
    one(
        Unsqueeze { axes: vec![-1, 1] }.into(),
        x.unsqueeze(1).unsqueeze(-1),
    );
    one(
        Slice {
            axis: -1,
            start: -4,
            end: Some(-1),
            step: 2,
        }
        .into(),
        x.slice(3, 1, 4, 2),
    );
    one(
        Slice {
            axis: 1,
            start: 1,
            end: None,
            step: 1,
        }
        .into(),
        x.narrow(1, 1, 2),
    );
    one(
        Pad {
            padding: vec![[0, 0], [1, 2], [0, -1], [3, 0]],
            value: 0.5,
        }
        .into(),
        x.narrow(2, 0, 3).pad([3, 0, 0, 0, 1, 2], "constant", 0.5),
    );
    one(
        Mean {
            axes: vec![-1, 2],
            keep: false,
        }
        .into(),
        x.mean_dim([2, 3].as_slice(), false, None),
    );
    one(
        Mean {
            axes: vec![1],
            keep: true,
        }
        .into(),
        x.mean_dim(1, true, None),
    );
    one(
        Softmax {
            axis: 1,
            log: false,
        }
        .into(),
        x.exp() / x.exp().sum_dim_intlist(1, true, None),
    );
    one(
        Softmax {
            axis: -1,
            log: true,
        }
        .into(),
        x.softmax(-1, None).log(),
    );
    one(Dropout { p: 0.5 }.into(), x.copy());
    let narrow = input(&[2, 3, 1, 5], 1);
    let op = Squeeze { axes: vec![-2] };
    check(
        &single(op, &[], &[&[3, 1, 5]]),
        &[narrow.shallow_clone()],
        &narrow.squeeze_dim(2),
    );
    let op = Expand {
        shape: vec![-1, 3, 4, 5],
        batch_of: false,
    };
    check(
        &single(op, &[], &[&[3, 1, 5]]),
        &[narrow.shallow_clone()],
        &narrow.expand([2, 3, 4, 5], false),
    );
    let inputs = [x.shallow_clone(), x.narrow(1, 0, 2)];
    let op = Concat { axis: -3 };
    check(
        &single(op, &[], &[&[3, 4, 5], &[2, 4, 5]]),
        &inputs,
        &Tensor::cat(&inputs, 1),
    );
}

#[test]
fn split_has_an_output_for_every_piece() {
    let x = input(&[2, 6, 4, 4], 1);
    let graph = single(
        Split {
            axis: 1,
            sizes: vec![1, 3, 2],
        },
        &[],
        &[&[6, 4, 4]],
    );
    let outputs = run(&graph, plain(Layout::Nhwc), &[x.shallow_clone()]);
    let pieces = [(0, 1), (1, 3), (4, 2)];
    assert_eq!(outputs.len(), 3);
    for (output, (start, length)) in outputs.iter().zip(pieces) {
        assert!(output.equal(&x.narrow(1, start, length)));
    }
}

#[test]
fn linear_matmul_and_attention() {
    let (w, b) = (weight(&[5, 4], 1), weight(&[5], 2));
    let torch = |t: &GraphTensor| crate::to_torch(t).unwrap();
    let x = input(&[2, 3, 4], 3);
    let expected = x.matmul(&torch(&w).tr()) + torch(&b);
    let op = Linear {
        weight: "w".into(),
        bias: Some("b".into()),
    };
    check(
        &single(op, &[("w", w), ("b", b)], &[&[3, 4]]),
        &[x.shallow_clone()],
        &expected,
    );

    let y = input(&[2, 4, 6], 4);
    let expected = Tensor::einsum("nij,njk->nik", &[&x, &y], None::<i64>);
    check(
        &single(MatMul {}, &[], &[&[3, 4], &[4, 6]]),
        &[x.shallow_clone(), y],
        &expected,
    );

    let (k, v) = (input(&[2, 3, 4], 5), input(&[2, 3, 4], 6));
    let hidden = Tensor::from_slice(&[
        0f32,
        f32::NEG_INFINITY,
        f32::NEG_INFINITY,
        0.0,
        0.0,
        f32::NEG_INFINITY,
        0.0,
        0.0,
        0.0,
    ]);
    let mask = hidden
        .reshape([1, 3, 3])
        .expand([2, 3, 3], false)
        .contiguous();
    let scores = x.matmul(&k.transpose(1, 2));
    let plain_scores = (&scores * 0.5).softmax(-1, None).matmul(&v);
    let masked = (&scores * 0.3 + &mask).softmax(-1, None).matmul(&v);
    let masked_default = (&scores * 0.5 + &mask).softmax(-1, None).matmul(&v);
    let items: &[&[usize]] = &[&[3, 4], &[3, 4], &[3, 4]];
    let three = [x.shallow_clone(), k.shallow_clone(), v.shallow_clone()];
    let op = Attention {
        causal: false,
        scale: None,
    };
    check(&single(op, &[], items), &three, &plain_scores);
    let op = Attention {
        causal: true,
        scale: None,
    };
    check(&single(op, &[], items), &three, &masked_default);
    let op = Attention {
        causal: false,
        scale: Some(0.3),
    };
    let four = [x, k, v, mask];
    check(
        &single(op, &[], &[&[3, 4], &[3, 4], &[3, 4], &[3, 3]]),
        &four,
        &masked,
    );
}

#[test]
fn tables_and_constants() {
    let table = weight(&[7, 3], 1);
    let mut builder = GraphBuilder::new("table");
    let fact = Fact::new(DType::I64, [Dim::batch(), Dim::Fixed(4)]);
    let indices = builder.input("i", fact).unwrap();
    builder.weight("t", table.clone());
    builder.weight("c", weight(&[1, 1, 3], 2));
    let rows = builder
        .op("rows", Embedding { weight: "t".into() }, &[indices])
        .unwrap();
    let op = Constant {
        weight: "c".into(),
        learnable: true,
    };
    let constant = builder.op("constant", op, &[]).unwrap();
    let op = Expand {
        shape: vec![-1, 1, 3],
        batch_of: true,
    };
    let token = builder.op("token", op, &[constant, rows]).unwrap();
    let all = builder
        .op("all", Concat { axis: 1 }, &[token, rows])
        .unwrap();
    let graph = builder.finish(&[all, constant]).unwrap();
    let indices = Tensor::from_slice(&[0i64, 6, 3, 3, 1, 2, 5, 4]).reshape([2, 4]);
    let executor = crate::Executor::new(&graph, plain(Layout::Nhwc)).unwrap();
    let outputs = executor.run(&[indices.shallow_clone()]).unwrap();
    let rows = crate::to_torch(&table)
        .unwrap()
        .index_select(0, &indices.reshape([-1]));
    assert_eq!(outputs[0].size(), [2, 5, 3]);
    assert!(outputs[0].narrow(1, 1, 4).equal(&rows.reshape([2, 4, 3])));
    drop(executor);
    drop(graph);
    assert_eq!(
        values(&outputs[1]),
        weight(&[3], 2)
            .to_f32()
            .unwrap()
            .iter()
            .map(|&v| f64::from(v))
            .collect::<Vec<_>>()
    );
    assert_eq!(outputs[0].kind(), Kind::Float);
}
