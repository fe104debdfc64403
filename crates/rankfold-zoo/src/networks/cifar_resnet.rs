use rankfold_graph::ValueId;
use rankfold_graph::ops::{AdaptiveAvgPool, Pad, Slice};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::{Bias, Init, Scheme};

const CIFAR: Network = Network {
    input: [3, 32, 32],
    classes: 10,
    last: "linear",
    scheme: Scheme {
        conv: Init::HeIn,
        conv_bias: Bias::Constant(0.0),
        linear: Init::HeIn,
        linear_bias: Bias::Torch,
    },
    ..IMAGENET
};

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "resnet20",
        about: "ResNet for CIFAR of 9 blocks, shortcuts without weights",
        build: |net, x| resnet(net, x, 3),
        ..CIFAR
    },
    Network {
        name: "resnet32",
        about: "ResNet for CIFAR of 15 blocks, shortcuts without weights",
        build: |net, x| resnet(net, x, 5),
        ..CIFAR
    },
    Network {
        name: "resnet44",
        about: "ResNet for CIFAR of 21 blocks, shortcuts without weights",
        build: |net, x| resnet(net, x, 7),
        ..CIFAR
    },
    Network {
        name: "resnet56",
        about: "ResNet for CIFAR of 27 blocks, shortcuts without weights",
        build: |net, x| resnet(net, x, 9),
        ..CIFAR
    },
    Network {
        name: "resnet110",
        about: "ResNet for CIFAR of 54 blocks, shortcuts without weights",
        build: |net, x| resnet(net, x, 18),
        ..CIFAR
    },
];

/// Three stages of `count` blocks each.
fn resnet(net: &mut Net, x: ValueId, count: usize) -> Built {
    let x = net.conv("conv1", x, Conv2d::new(16, 3).padding(1).no_bias())?;
    let x = net.batch_norm("bn1", x)?;
    let mut x = net.relu("relu", x)?;
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for i in 0..count {
            let name = format!("layer{}.{i}", stage + 1);
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            x = block(net, &name, x, width, stride)?;
        }
    }
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    net.linear("linear", x, net.settings.classes)
}

fn block(net: &mut Net, name: &str, input: ValueId, width: usize, stride: usize) -> Built {
    let at = |part: &str| format!("{name}.{part}");
    let conv = Conv2d::new(width, 3).padding(1).no_bias();
    let x = net.conv(&at("conv1"), input, conv.stride(stride))?;
    let x = net.batch_norm(&at("bn1"), x)?;
    let x = net.relu(&at("relu"), x)?;
    let x = net.conv(&at("conv2"), x, conv)?;
    let x = net.batch_norm(&at("bn2"), x)?;
    let shortcut = if stride > 1 {
        option_a(net, &at("shortcut"), input, width)?
    } else {
        input
    };
    let x = net.add(&at("add"), x, shortcut)?;
    net.relu(&at("relu_1"), x)
}

/// Every second row and column, and as many channels of zeros before as behind.
fn option_a(net: &mut Net, name: &str, x: ValueId, width: usize) -> Built {
    let second = |axis| Slice {
        axis,
        start: 0,
        end: None,
        step: 2,
    };
    let zeros = (width - net.channels(x)) as i64 / 2;
    let x = net.op(&format!("{name}.rows"), second(2), &[x])?;
    let x = net.op(&format!("{name}.columns"), second(3), &[x])?;
    let pad = Pad {
        padding: vec![[0, 0], [zeros, zeros], [0, 0], [0, 0]],
        value: 0.0,
    };
    net.op(name, pad, &[x])
}
