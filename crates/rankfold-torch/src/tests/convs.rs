//! Convolutions against sums written out.

use rankfold_graph::ops::{Conv, ConvTranspose};
use tch::Tensor;

use super::{check, input, single, tensor, values, weight};

/// `y[t, p] = b[t] + Σ_{s, k} w[t, s, k] x[s, p · stride + k · dilation − padding]`, sums written out over two dimensions.
fn reference(x: &Tensor, w: &Tensor, b: &[f64], op: &Conv) -> Tensor {
    let (n, c, h, wd) = x.size4().unwrap();
    let (t, s, kh, kw) = w.size4().unwrap();
    let size = |len: i64, k: i64, i: usize| {
        let [before, after] = op.padding[i].map(|p| p as i64);
        (len + before + after - op.dilation[i] as i64 * (k - 1) - 1) / op.stride[i] as i64 + 1
    };
    let (oh, ow) = (size(h, kh, 0), size(wd, kw, 1));
    let (xs, ws) = (values(x), values(w));
    let mut y = Vec::new();
    let per_group = t / op.groups as i64;
    for image in 0..n {
        for out in 0..t {
            for row in 0..oh {
                for column in 0..ow {
                    let mut sum = b[out as usize];
                    for (channel, i, j) in (0..s)
                        .flat_map(|a| (0..kh).flat_map(move |i| (0..kw).map(move |j| (a, i, j))))
                    {
                        let y = row * op.stride[0] as i64 + i * op.dilation[0] as i64
                            - op.padding[0][0] as i64;
                        let x = column * op.stride[1] as i64 + j * op.dilation[1] as i64
                            - op.padding[1][0] as i64;
                        if (0..h).contains(&y) && (0..wd).contains(&x) {
                            let from = out / per_group * s + channel;
                            let place = ((image * c + from) * h + y) * wd + x;
                            let tap = ((out * s + channel) * kh + i) * kw + j;
                            sum += xs[place as usize] * ws[tap as usize];
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    tensor(&y, &[n, t, oh, ow])
}

#[test]
fn convolutions_equal_the_sums_written_out() {
    let base = Conv::new("w", Some("b".into()), 2);
    let uneven = Conv {
        padding: vec![[0, 2], [3, 1]],
        stride: vec![2, 1],
        ..base.clone()
    };
    let dilated = Conv {
        dilation: vec![2, 3],
        padding: vec![[2, 2], [3, 3]],
        ..base.clone()
    };
    let cases = [
        (base.clone(), [4, 6, 1, 1]),
        (base.clone(), [4, 6, 3, 3]),
        (base.clone().stride(2).padding(1), [5, 6, 3, 3]),
        (base.clone().padding(2), [4, 6, 5, 1]),
        (
            Conv {
                stride: vec![1, 3],
                padding: vec![[0, 0], [2, 2]],
                ..base.clone()
            },
            [4, 6, 2, 5],
        ),
        (uneven, [4, 6, 3, 4]),
        (dilated, [4, 6, 3, 2]),
        (base.clone().groups(2).padding(1), [4, 3, 3, 3]),
        (base.clone().groups(3), [9, 2, 2, 2]),
        (base.clone().groups(6).padding(1).stride(2), [6, 1, 3, 3]),
        (base.clone().groups(6).padding(1), [12, 1, 3, 3]),
    ];
    for (op, shape) in cases {
        let (w, b) = (weight(&shape, 1), weight(&shape[..1], 2));
        let bias: Vec<f64> = b.to_f32().unwrap().iter().map(|&v| v.into()).collect();
        let graph = single(op.clone(), &[("w", w.clone()), ("b", b)], &[&[6, 11, 9]]);
        let x = input(&[2, 6, 11, 9], 3);
        let expected = reference(&x, &crate::to_torch(&w).unwrap(), &bias, &op);
        check(&graph, &[x], &expected);
    }
}

#[test]
fn one_dimensional_convolutions_are_two_dimensional_ones_of_height_one() {
    let op = Conv::new("w", None, 1).stride(2).padding(1).groups(2);
    let w = weight(&[4, 3, 3], 1);
    let graph = single(op, &[("w", w.clone())], &[&[6, 12]]);
    let x = input(&[2, 6, 12], 3);
    let flat = Conv {
        stride: vec![1, 2],
        padding: vec![[0, 0], [1, 1]],
        ..Conv::new("w", None, 2).groups(2)
    };
    let kernel = crate::to_torch(&w).unwrap().unsqueeze(2);
    let expected = reference(&x.unsqueeze(2), &kernel, &[0.0; 4], &flat).squeeze_dim(2);
    check(&graph, &[x], &expected);
}

/// A transposed convolution is the adjoint: `⟨conv(x), y⟩ = ⟨x, transposed(y)⟩`.
#[test]
fn transposed_convolutions_are_adjoint() {
    for (groups, padding, dilation) in [
        (1, [[1, 1], [1, 1]], 1),
        (2, [[0, 0], [2, 2]], 2),
        (1, [[0, 1], [2, 0]], 1),
    ] {
        let shape = [4, 6 / groups, 3, 3];
        let w = weight(&shape, 1);
        let conv = Conv {
            stride: vec![2; 2],
            padding: padding.to_vec(),
            dilation: vec![dilation; 2],
            ..Conv::new("w", None, 2).groups(groups)
        };
        let (height, width) = (13, 12);
        let x = input(&[2, 6, height, width], 3);
        let forward = single(
            conv.clone(),
            &[("w", w.clone())],
            &[&[6, height as usize, width as usize]],
        );
        let conv_x = &super::run(
            &forward,
            super::plain(crate::Layout::Nchw),
            std::slice::from_ref(&x),
        )[0];
        let (_, _, oh, ow) = conv_x.size4().unwrap();
        let y = input(&[2, 4, oh, ow], 4);
        let extra = |size: i64, out: i64, i: usize| {
            let [before, after] = padding[i].map(|p| p as i64);
            (size + before + after - (dilation as i64 * 2 + 1) - (out - 1) * 2) as usize
        };
        let transposed = ConvTranspose {
            weight: "w".into(),
            bias: None,
            stride: conv.stride.clone(),
            padding: conv.padding.clone(),
            output_padding: vec![extra(height, oh, 0), extra(width, ow, 1)],
            dilation: conv.dilation.clone(),
            groups,
        };
        let graph = single(transposed, &[("w", w)], &[&[4, oh as usize, ow as usize]]);
        for layout in super::LAYOUTS {
            let back = &super::run(&graph, super::plain(layout), std::slice::from_ref(&y))[0];
            assert_eq!(back.size(), x.size());
            let dot = |a: &Tensor, b: &Tensor| {
                values(a)
                    .iter()
                    .zip(values(b))
                    .map(|(a, b)| a * b)
                    .sum::<f64>()
            };
            let (left, right) = (dot(conv_x, &y), dot(&x, back));
            assert!(
                (left - right).abs() < 1e-4 * left.abs().max(1.0),
                "{left} {right}"
            );
        }
    }
}
