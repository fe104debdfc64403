//! The networks of Jha et al. 2020 and their twins of ordinary convolutions, up to the logits.
//!
//! Where the paper's text leaves the layers open they follow the authors' code.

use rankfold_graph::ops::{AdaptiveAvgPool, Arithmetic, BinaryScalar, MaxPool};
use rankfold_graph::{Normalization, ValueId};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::{Bias, Scheme};

/// Keras' initialisation.
const PLAIN: Network = Network {
    first: "block1.conv1",
    last: "classifier",
    scheme: Scheme::KERAS,
    any_side: false,
    ..IMAGENET
};

const SEPARABLE: Network = Network {
    first: "block1.conv1.0",
    ..PLAIN
};

/// The authors' layer draws its biases like its kernels.
const LIGHT: Network = Network {
    first: "block1.conv1.0",
    last: "classifier.1",
    scheme: Scheme {
        conv_bias: Bias::Glorot,
        ..PLAIN.scheme
    },
    ..PLAIN
};

const fn mnist(network: Network) -> Network {
    Network {
        input: [1, 28, 28],
        classes: 10,
        normalization: || Normalization::none(1),
        ..network
    }
}

const fn cifar(classes: usize, network: Network) -> Network {
    Network {
        input: [3, 32, 32],
        classes,
        normalization: || Normalization::none(3),
        ..network
    }
}

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "lightlayers-mnist",
        about: "LightLayers of three blocks for 28×28 grey images",
        k: Some(3),
        build: |net, x| chain(net, x, light),
        ..mnist(LIGHT)
    },
    Network {
        name: "lightlayers-mnist-conv2d",
        about: "its twin of ordinary convolutions",
        build: |net, x| chain(net, x, plain),
        ..mnist(PLAIN)
    },
    Network {
        name: "lightlayers-mnist-separable",
        about: "its twin of separable convolutions",
        build: |net, x| chain(net, x, separable),
        ..mnist(SEPARABLE)
    },
    Network {
        name: "lightlayers-cifar10",
        about: "LightLayers of three residual blocks for CIFAR-10",
        k: Some(5),
        build: |net, x| residual(net, x, light),
        ..cifar(10, LIGHT)
    },
    Network {
        name: "lightlayers-cifar10-conv2d",
        about: "its twin of ordinary convolutions",
        build: |net, x| residual(net, x, plain),
        ..cifar(10, PLAIN)
    },
    Network {
        name: "lightlayers-cifar10-separable",
        about: "its twin of separable convolutions",
        build: |net, x| residual(net, x, separable),
        ..cifar(10, SEPARABLE)
    },
    Network {
        name: "lightlayers-cifar100",
        about: "LightLayers of three residual blocks for CIFAR-100",
        k: Some(5),
        build: |net, x| residual(net, x, light),
        ..cifar(100, LIGHT)
    },
    Network {
        name: "lightlayers-cifar100-conv2d",
        about: "its twin of ordinary convolutions",
        build: |net, x| residual(net, x, plain),
        ..cifar(100, PLAIN)
    },
    Network {
        name: "lightlayers-cifar100-separable",
        about: "its twin of separable convolutions",
        build: |net, x| residual(net, x, separable),
        ..cifar(100, SEPARABLE)
    },
];

/// A convolution of any of the three kinds that keeps the size: name, input, channels, kernel.
type Layer = fn(&mut Net, &str, ValueId, usize, usize) -> Built;

/// D×D to k channels with a bias, ReLU, D×D to `out` channels with a bias.
fn light(net: &mut Net, name: &str, x: ValueId, out: usize, kernel: usize) -> Built {
    let narrow = Conv2d::new(net.settings.k.unwrap_or(1), kernel).padding(kernel / 2);
    let x = net.conv(&format!("{name}.0"), x, narrow)?;
    let x = net.relu(&format!("{name}.1"), x)?;
    let wide = Conv2d::new(out, kernel).padding(kernel / 2);
    net.conv(&format!("{name}.2"), x, wide)
}

fn plain(net: &mut Net, name: &str, x: ValueId, out: usize, kernel: usize) -> Built {
    net.conv(name, x, Conv2d::new(out, kernel).padding(kernel / 2))
}

/// D×D channel by channel, then 1×1 with a bias.
fn separable(net: &mut Net, name: &str, x: ValueId, out: usize, kernel: usize) -> Built {
    let channels = net.channels(x);
    let depthwise = Conv2d::new(channels, kernel)
        .groups(channels)
        .padding(kernel / 2)
        .no_bias();
    let x = net.conv(&format!("{name}.0"), x, depthwise)?;
    net.conv(&format!("{name}.1"), x, Conv2d::new(out, 1))
}

/// Blocks of two convolutions and a pooling.
fn chain(net: &mut Net, mut x: ValueId, layer: Layer) -> Built {
    for (block, width) in (1..).zip([8, 16, 32]) {
        for i in 1..=2 {
            let at = |part: &str| format!("block{block}.{part}{i}");
            x = layer(net, &at("conv"), x, width, 3)?;
            x = batch_norm(net, &at("bn"), x)?;
            x = net.relu(&at("relu"), x)?;
        }
        x = net.op(
            &format!("block{block}.pool"),
            MaxPool::square(2, 2, 0),
            &[x],
        )?;
    }
    head(net, x)
}

/// Residual blocks of two convolutions beside a third of 1×1, and a pooling.
fn residual(net: &mut Net, mut x: ValueId, layer: Layer) -> Built {
    for (block, width) in (1..).zip([16, 32, 64]) {
        let at = |part: &str| format!("block{block}.{part}");
        let inner = layer(net, &at("conv1"), x, width, 3)?;
        let inner = batch_norm(net, &at("bn1"), inner)?;
        let inner = net.relu(&at("relu1"), inner)?;
        let inner = layer(net, &at("conv2"), inner, width, 3)?;
        let inner = batch_norm(net, &at("bn2"), inner)?;
        let shortcut = layer(net, &at("shortcut"), x, width, 1)?;
        let shortcut = batch_norm(net, &at("shortcut_bn"), shortcut)?;
        x = net.add(&at("add"), inner, shortcut)?;
        x = net.relu(&at("relu2"), x)?;
        x = net.op(&at("pool"), MaxPool::square(2, 2, 0), &[x])?;
    }
    head(net, x)
}

/// Global average, then the LightDense layer where the convolutions are light ones.
fn head(net: &mut Net, x: ValueId) -> Built {
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    let classes = net.settings.classes;
    if net.settings.k.is_none() {
        return net.linear("classifier", x, classes);
    }
    // Each of the two factors is scaled by √(2 / classes); one product does for both.
    let scale = BinaryScalar {
        arithmetic: Arithmetic::Mul,
        scalar: 2.0 / classes as f64,
        reversed: false,
    };
    let x = net.linear_without_bias("classifier.0", x, 8)?;
    let x = net.op("classifier.scale", scale, &[x])?;
    net.linear("classifier.1", x, classes)
}

/// Batch normalisation with Keras' constants.
fn batch_norm(net: &mut Net, name: &str, x: ValueId) -> Built {
    net.batch_norm_with(name, x, 1e-3, 0.01)
}
