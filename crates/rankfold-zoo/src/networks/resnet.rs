use rankfold_graph::ValueId;
use rankfold_graph::ops::{AdaptiveAvgPool, MaxPool};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::{Bias, Init, Scheme};

const RESNET: Network = Network {
    scheme: Scheme {
        conv: Init::HeOut,
        conv_bias: Bias::Constant(0.0),
        linear: Init::Torch,
        linear_bias: Bias::Torch,
    },
    ..IMAGENET
};

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "resnet18",
        about: "ResNet of 8 basic blocks",
        build: |net, x| resnet(net, x, basic, 1, [2, 2, 2, 2]),
        ..RESNET
    },
    Network {
        name: "resnet34",
        about: "ResNet of 16 basic blocks",
        build: |net, x| resnet(net, x, basic, 1, [3, 4, 6, 3]),
        ..RESNET
    },
    Network {
        name: "resnet50",
        about: "ResNet of 16 bottleneck blocks, stride in the 3×3",
        build: |net, x| resnet(net, x, bottleneck, 4, [3, 4, 6, 3]),
        ..RESNET
    },
    Network {
        name: "resnet101",
        about: "ResNet of 33 bottleneck blocks, stride in the 3×3",
        build: |net, x| resnet(net, x, bottleneck, 4, [3, 4, 23, 3]),
        ..RESNET
    },
];

/// The residual branch of a block: name, input, inner channels, stride.
type Branch = fn(&mut Net, &str, ValueId, usize, usize) -> Built;

fn resnet(
    net: &mut Net,
    x: ValueId,
    branch: Branch,
    expansion: usize,
    blocks: [usize; 4],
) -> Built {
    let conv = Conv2d::new(64, 7).stride(2).padding(3).no_bias();
    let x = net.conv("conv1", x, conv)?;
    let x = net.batch_norm("bn1", x)?;
    let x = net.relu("relu", x)?;
    let mut x = net.op("maxpool", MaxPool::square(3, 2, 1), &[x])?;
    for (stage, (count, width)) in blocks.into_iter().zip([64, 128, 256, 512]).enumerate() {
        for i in 0..count {
            let name = format!("layer{}.{i}", stage + 1);
            let at = |part: &str| format!("{name}.{part}");
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let residual = branch(net, &name, x, width, stride)?;
            if stride > 1 || net.channels(x) != width * expansion {
                let conv = Conv2d::new(width * expansion, 1).stride(stride).no_bias();
                x = net.conv(&at("downsample.0"), x, conv)?;
                x = net.batch_norm(&at("downsample.1"), x)?;
            }
            x = net.add(&at("add"), residual, x)?;
            // torchvision applies one ReLU module after each inner layer and once more here.
            let last = if expansion > 1 { "relu_2" } else { "relu_1" };
            x = net.relu(&at(last), x)?;
        }
    }
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    net.linear("fc", x, net.settings.classes)
}

fn basic(net: &mut Net, name: &str, x: ValueId, width: usize, stride: usize) -> Built {
    let at = |part: &str| format!("{name}.{part}");
    let conv = Conv2d::new(width, 3).padding(1).no_bias();
    let x = net.conv(&at("conv1"), x, conv.stride(stride))?;
    let x = net.batch_norm(&at("bn1"), x)?;
    let x = net.relu(&at("relu"), x)?;
    let x = net.conv(&at("conv2"), x, conv)?;
    net.batch_norm(&at("bn2"), x)
}

fn bottleneck(net: &mut Net, name: &str, x: ValueId, width: usize, stride: usize) -> Built {
    let at = |part: &str| format!("{name}.{part}");
    let x = net.conv(&at("conv1"), x, Conv2d::new(width, 1).no_bias())?;
    let x = net.batch_norm(&at("bn1"), x)?;
    let x = net.relu(&at("relu"), x)?;
    let conv = Conv2d::new(width, 3).padding(1).stride(stride).no_bias();
    let x = net.conv(&at("conv2"), x, conv)?;
    let x = net.batch_norm(&at("bn2"), x)?;
    let x = net.relu(&at("relu_1"), x)?;
    let x = net.conv(&at("conv3"), x, Conv2d::new(4 * width, 1).no_bias())?;
    net.batch_norm(&at("bn3"), x)
}
