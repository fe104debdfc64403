use rankfold_graph::ValueId;
use rankfold_graph::ops::{
    AdaptiveAvgPool, Arithmetic, BinaryScalar, Concat, Dropout, MaxPool, Slice,
};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::{Bias, Init, Scheme};

pub(super) const NETWORKS: &[Network] = &[Network {
    name: "googlenet",
    about: "GoogLeNet with batch normalisation and 3×3 for 5×5, as in torchvision, no auxiliary heads",
    first: "conv1.conv",
    training_only: &["aux1.", "aux2."],
    transforms_input: true,
    scheme: Scheme {
        conv: Init::Normal(0.01),
        conv_bias: Bias::Constant(0.0),
        linear: Init::Normal(0.01),
        linear_bias: Bias::Torch,
    },
    build: googlenet,
    ..IMAGENET
}];

/// Channels of an inception block's branches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inception {
    /// Its name after `inception`.
    pub(super) name: &'static str,
    /// The 1×1 branch.
    pub(super) one: usize,
    /// The 3×3 branch: before and after.
    pub(super) three: [usize; 2],
    /// The 5×5 branch: before and after.
    pub(super) five: [usize; 2],
    /// The pooling branch.
    pub(super) pool: usize,
    /// A pooling follows the block.
    pub(super) pooled: bool,
}

const fn block(name: &'static str, channels: [usize; 6], pooled: bool) -> Inception {
    let [one, three_in, three, five_in, five, pool] = channels;
    Inception {
        name,
        one,
        three: [three_in, three],
        five: [five_in, five],
        pool,
        pooled,
    }
}

/// The nine blocks of the original.
pub(super) const INCEPTIONS: [Inception; 9] = [
    block("3a", [64, 96, 128, 16, 32, 32], false),
    block("3b", [128, 128, 192, 32, 96, 64], true),
    block("4a", [192, 96, 208, 16, 48, 64], false),
    block("4b", [160, 112, 224, 24, 64, 64], false),
    block("4c", [128, 128, 256, 24, 64, 64], false),
    block("4d", [112, 144, 288, 32, 64, 64], false),
    block("4e", [256, 160, 320, 32, 128, 128], true),
    block("5a", [256, 160, 320, 32, 128, 128], false),
    block("5b", [384, 192, 384, 48, 128, 128], false),
];

fn googlenet(net: &mut Net, x: ValueId) -> Built {
    let x = if net.settings.transform_input {
        transform_input(net, x)?
    } else {
        x
    };
    let x = unit(net, "conv1", x, Conv2d::new(64, 7).stride(2).padding(3))?;
    let x = net.op("maxpool1", MaxPool::square(3, 2, 0).ceil(), &[x])?;
    let x = unit(net, "conv2", x, Conv2d::new(64, 1))?;
    let x = unit(net, "conv3", x, Conv2d::new(192, 3).padding(1))?;
    let mut x = net.op("maxpool2", MaxPool::square(3, 2, 0).ceil(), &[x])?;
    for shape in INCEPTIONS {
        x = inception(net, &format!("inception{}", shape.name), x, shape)?;
        x = match shape.name {
            "3b" => net.op("maxpool3", MaxPool::square(3, 2, 0).ceil(), &[x])?,
            "4e" => net.op("maxpool4", MaxPool::square(2, 2, 0).ceil(), &[x])?,
            _ => x,
        };
    }
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    let x = net.op("dropout", Dropout { p: 0.2 }, &[x])?;
    net.linear("fc", x, net.settings.classes)
}

fn inception(net: &mut Net, name: &str, x: ValueId, shape: Inception) -> Built {
    let at = |branch: &str| format!("{name}.{branch}");
    let one = unit(net, &at("branch1"), x, Conv2d::new(shape.one, 1))?;
    let three = unit(net, &at("branch2.0"), x, Conv2d::new(shape.three[0], 1))?;
    let conv = Conv2d::new(shape.three[1], 3).padding(1);
    let three = unit(net, &at("branch2.1"), three, conv)?;
    let five = unit(net, &at("branch3.0"), x, Conv2d::new(shape.five[0], 1))?;
    let conv = Conv2d::new(shape.five[1], 3).padding(1);
    let five = unit(net, &at("branch3.1"), five, conv)?;
    let pool = net.op(&at("branch4.0"), MaxPool::square(3, 1, 1).ceil(), &[x])?;
    let pool = unit(net, &at("branch4.1"), pool, Conv2d::new(shape.pool, 1))?;
    net.op(&at("cat"), Concat { axis: 1 }, &[one, three, five, pool])
}

/// Convolution, batch normalisation, ReLU.
fn unit(net: &mut Net, name: &str, x: ValueId, conv: Conv2d) -> Built {
    let x = net.conv(&format!("{name}.conv"), x, conv.no_bias())?;
    let x = net.batch_norm_with(&format!("{name}.bn"), x, 1e-3, 0.1)?;
    net.relu(&format!("{name}.relu"), x)
}

/// From ImageNet's mean and deviation to one half for both, channel by channel.
fn transform_input(net: &mut Net, x: ValueId) -> Built {
    let mut channels = Vec::with_capacity(3);
    for (i, (mean, std)) in [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]
        .into_iter()
        .enumerate()
    {
        let at = |step: &str| format!("transform_input.{i}.{step}");
        let slice = Slice {
            axis: 1,
            start: i as i64,
            end: Some(i as i64 + 1),
            step: 1,
        };
        let scalar = |arithmetic, scalar| BinaryScalar {
            arithmetic,
            scalar,
            reversed: false,
        };
        let x = net.op(&at("slice"), slice, &[x])?;
        let x = net.op(&at("mul"), scalar(Arithmetic::Mul, std / 0.5), &[x])?;
        let shift = (mean - 0.5) / 0.5;
        channels.push(net.op(&at("add"), scalar(Arithmetic::Add, shift), &[x])?);
    }
    net.op("transform_input", Concat { axis: 1 }, &channels)
}
