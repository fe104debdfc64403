//! The networks that Çallı 2017 prunes: both give numbers, and how few channels they need is known.

use rankfold_graph::ops::Activation;
use rankfold_graph::{Normalization, ValueId};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::Scheme;

const NUMBERS: Network = Network {
    classes: 0,
    any_side: false,
    normalization: || Normalization::none(1),
    scheme: Scheme::KERAS,
    ..IMAGENET
};

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "calli-sum",
        about: "1000 hidden nodes that learn to add two numbers",
        input: [2, 1, 1],
        first: "hidden",
        last: "sum",
        normalization: || Normalization::none(2),
        build: sum,
        ..NUMBERS
    },
    Network {
        name: "calli-autoencoder",
        about: "two convolutions and two transposed ones, for 28×28 grey images",
        input: [1, 28, 28],
        first: "conv1",
        last: "deconv2",
        build: autoencoder,
        ..NUMBERS
    },
];

fn sum(net: &mut Net, x: ValueId) -> Built {
    let x = net.flatten("flatten", x)?;
    let x = net.linear("hidden", x, 1000)?;
    let x = net.relu("relu", x)?;
    net.linear("sum", x, 1)
}

fn autoencoder(net: &mut Net, x: ValueId) -> Built {
    let mut x = x;
    for (i, width) in [(1, 32), (2, 64)] {
        let conv = Conv2d::new(width, 3).stride(2).padding(1);
        x = net.conv(&format!("conv{i}"), x, conv)?;
        x = net.batch_norm(&format!("bn{i}"), x)?;
        x = net.relu(&format!("relu{i}"), x)?;
    }
    x = net.doubling("deconv1", x, 32)?;
    x = net.batch_norm("bn3", x)?;
    x = net.relu("relu3", x)?;
    x = net.doubling("deconv2", x, 1)?;
    x = net.batch_norm("bn4", x)?;
    net.op("tanh", Activation::Tanh, &[x])
}
