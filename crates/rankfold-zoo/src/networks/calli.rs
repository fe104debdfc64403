//! The networks of Çallı 2017 for CIFAR-10: the small one, and the baseline with its alternatives.
//!
//! Where the thesis leaves the baseline's widths open they follow its author's code.

use rankfold_graph::ops::{
    Activation, AdaptiveAvgPool, Arithmetic, AvgPool, Binary, MaxPool, Mean, Pad,
};
use rankfold_graph::{Normalization, ValueId};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::Scheme;

const CALLI: Network = Network {
    input: [3, 32, 32],
    classes: 10,
    last: "linear",
    normalization: || Normalization::none(3),
    scheme: Scheme::KERAS,
    ..IMAGENET
};

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "calli-small",
        about: "six pre-activation residual blocks of separable convolutions, for CIFAR-10 cut to 24×24",
        input: [3, 24, 24],
        resize: Some(32),
        build: small,
        ..CALLI
    },
    Network {
        name: "calli-baseline",
        about: "four convolutions, three of them 5×5, for CIFAR-10",
        build: |net, x| baseline(net, x, plain),
        ..CALLI
    },
    Network {
        name: "calli-baseline-composed",
        about: "its 5×5 as 1×5, batch norm, ReLU, 5×1",
        build: |net, x| baseline(net, x, composed),
        ..CALLI
    },
    Network {
        name: "calli-baseline-separable",
        about: "its 5×5 as depthwise 5×5, 1×1",
        build: |net, x| baseline(net, x, separable),
        ..CALLI
    },
    Network {
        name: "calli-baseline-nonlinear",
        about: "its 5×5 as depthwise 5×5, batch norm, ReLU, 1×1",
        build: |net, x| baseline(net, x, nonlinear),
        ..CALLI
    },
];

fn small(net: &mut Net, x: ValueId) -> Built {
    let x = standardize(net, x)?;
    let mut x = net.conv("conv1", x, Conv2d::new(32, 3).padding(1))?;
    for (i, width) in [64, 64, 64, 128, 128, 128].into_iter().enumerate() {
        x = block(net, &format!("block{}", i + 1), x, width)?;
    }
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.batch_norm("bn", x)?;
    let x = net.relu("relu", x)?;
    let x = net.flatten("flatten", x)?;
    net.linear("linear", x, net.settings.classes)
}

/// Twice normalisation, ReLU, depthwise 3×3, normalisation, ReLU, 1×1; the first of a new width
/// halves the size, and its shortcut is an average with as many zero channels before as behind.
fn block(net: &mut Net, name: &str, input: ValueId, width: usize) -> Built {
    let before = net.channels(input);
    let stride = if before == width { 1 } else { 2 };
    let mut x = input;
    for (half, stride) in [(1, stride), (2, 1)] {
        let at = |part: &str| format!("{name}.{half}.{part}");
        let channels = net.channels(x);
        let depthwise = Conv2d::new(channels, 3).groups(channels).padding(1);
        x = net.batch_norm(&at("bn1"), x)?;
        x = net.relu(&at("relu1"), x)?;
        x = net.conv(&at("depthwise"), x, depthwise.stride(stride))?;
        x = net.batch_norm(&at("bn2"), x)?;
        x = net.relu(&at("relu2"), x)?;
        x = net.conv(&at("pointwise"), x, Conv2d::new(width, 1))?;
    }
    let mut shortcut = input;
    if stride > 1 {
        let zeros = (width - before) as i64 / 2;
        let pad = Pad {
            padding: vec![[0, 0], [zeros, zeros], [0, 0], [0, 0]],
            value: 0.0,
        };
        // The last window hangs over an odd edge, as the depthwise convolution's does.
        let pool = AvgPool {
            ceil: true,
            count_include_pad: false,
            ..AvgPool::square(2, 2, 0)
        };
        shortcut = net.op(&format!("{name}.shortcut.pool"), pool, &[shortcut])?;
        shortcut = net.op(&format!("{name}.shortcut"), pad, &[shortcut])?;
    }
    net.add(&format!("{name}.add"), x, shortcut)
}

/// A 5×5 convolution or what stands for it: name, input, channels.
type Layer = fn(&mut Net, &str, ValueId, usize) -> Built;

fn baseline(net: &mut Net, x: ValueId, layer: Layer) -> Built {
    let x = standardize(net, x)?;
    let mut x = net.conv("conv1", x, Conv2d::new(16, 3).padding(1))?;
    x = net.batch_norm("bn1", x)?;
    x = net.relu("relu1", x)?;
    for (i, width, pooled) in [(2, 32, true), (3, 64, false), (4, 128, true)] {
        x = layer(net, &format!("conv{i}"), x, width)?;
        if pooled {
            x = net.op(&format!("pool{i}"), MaxPool::square(2, 2, 0), &[x])?;
        }
        x = net.batch_norm(&format!("bn{i}"), x)?;
        x = net.relu(&format!("relu{i}"), x)?;
    }
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    net.linear("linear", x, net.settings.classes)
}

fn plain(net: &mut Net, name: &str, x: ValueId, width: usize) -> Built {
    net.conv(name, x, Conv2d::new(width, 5).padding(2))
}

/// As wide between as behind.
fn composed(net: &mut Net, name: &str, x: ValueId, width: usize) -> Built {
    let conv = Conv2d::new(width, 5).no_bias();
    let x = net.conv(&format!("{name}.0"), x, conv.rectangle([1, 5]))?;
    let x = net.batch_norm(&format!("{name}.1"), x)?;
    let x = net.relu(&format!("{name}.2"), x)?;
    net.conv(&format!("{name}.3"), x, conv.rectangle([5, 1]))
}

fn separable(net: &mut Net, name: &str, x: ValueId, width: usize) -> Built {
    let x = depthwise(net, &format!("{name}.0"), x)?;
    net.conv(&format!("{name}.1"), x, Conv2d::new(width, 1))
}

fn nonlinear(net: &mut Net, name: &str, x: ValueId, width: usize) -> Built {
    let x = depthwise(net, &format!("{name}.0"), x)?;
    let x = net.batch_norm(&format!("{name}.1"), x)?;
    let x = net.relu(&format!("{name}.2"), x)?;
    net.conv(&format!("{name}.3"), x, Conv2d::new(width, 1))
}

fn depthwise(net: &mut Net, name: &str, x: ValueId) -> Built {
    let channels = net.channels(x);
    let conv = Conv2d::new(channels, 5).groups(channels).padding(2);
    net.conv(name, x, conv.no_bias())
}

/// Every image less its mean, over its deviation, which is kept from vanishing: in grey levels of
/// 255 it is at least 1 / √(numbers in the image).
fn standardize(net: &mut Net, x: ValueId) -> Built {
    let at = |step: &str| format!("standardize.{step}");
    let mean = || Mean {
        axes: vec![1, 2, 3],
        keep: true,
    };
    let least = 1.0 / (255.0 * (net.settings.input.iter().product::<usize>() as f64).sqrt());
    let clamp = Activation::Clamp {
        min: least,
        max: f64::from(f32::MAX),
    };
    let arithmetic = |arithmetic| Binary { arithmetic };
    let center = net.op(&at("mean"), mean(), &[x])?;
    let x = net.op(&at("center"), arithmetic(Arithmetic::Sub), &[x, center])?;
    let square = net.op(&at("square"), Activation::Pow { exponent: 2.0 }, &[x])?;
    let variance = net.op(&at("variance"), mean(), &[square])?;
    let deviation = net.op(&at("sqrt"), Activation::Sqrt, &[variance])?;
    let deviation = net.op(&at("deviation"), clamp, &[deviation])?;
    net.op("standardize", arithmetic(Arithmetic::Div), &[x, deviation])
}
