//! The two networks of Astrid & Lee that torchvision has in another form.

use rankfold_graph::ops::{AdaptiveAvgPool, Concat, Dropout, LocalResponseNorm, MaxPool};
use rankfold_graph::{Normalization, ValueId};

use super::googlenet::{INCEPTIONS, Inception};
use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::{Bias, Init, Scheme};

const CAFFE: Network = Network {
    normalization: mean_pixel,
    any_side: false,
    ..IMAGENET
};

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "alexnet-caffe",
        about: "AlexNet with two groups and local response normalisation; holds the paper's sizes",
        input: [3, 227, 227],
        last: "fc8",
        scheme: Scheme {
            conv: Init::Normal(0.01),
            conv_bias: Bias::Constant(0.0),
            linear: Init::Normal(0.005),
            linear_bias: Bias::Constant(0.1),
        },
        build: alexnet,
        ..CAFFE
    },
    Network {
        name: "googlenet-caffe",
        about: "GoogLeNet with 5×5 and without batch normalisation; holds the paper's sizes",
        last: "classifier",
        scheme: Scheme {
            conv: Init::Caffe,
            conv_bias: Bias::Constant(0.2),
            linear: Init::Caffe,
            linear_bias: Bias::Constant(0.0),
        },
        build: googlenet,
        ..CAFFE
    },
];

/// Caffe's inputs lie in 0…255 less the mean pixel; here in the order red, green, blue.
fn mean_pixel() -> Normalization {
    Normalization {
        mean: [123.68, 116.779, 103.939].map(|v: f32| v / 255.0).to_vec(),
        std: vec![1.0 / 255.0; 3],
    }
}

fn response_norm() -> LocalResponseNorm {
    LocalResponseNorm {
        size: 5,
        alpha: 1e-4,
        beta: 0.75,
        k: 1.0,
    }
}

/// AlexNet; the input sizes are Table 5's column H, which at conv2 and conv3 is the size before
/// pooling.
fn alexnet(net: &mut Net, x: ValueId) -> Built {
    let x = net.conv("conv1", x, Conv2d::new(96, 11).stride(4))?;
    net.paper_size(227, 55);
    let x = net.relu("relu1", x)?;
    let x = net.op("norm1", response_norm(), &[x])?;
    let x = net.op("pool1", MaxPool::square(3, 2, 0), &[x])?;
    net.scheme_mut().conv_bias = Bias::Constant(0.1);
    let x = net.conv("conv2", x, Conv2d::new(256, 5).padding(2).groups(2))?;
    net.paper_size(55, 27);
    let x = net.relu("relu2", x)?;
    let x = net.op("norm2", response_norm(), &[x])?;
    let x = net.op("pool2", MaxPool::square(3, 2, 0), &[x])?;
    net.scheme_mut().conv_bias = Bias::Constant(0.0);
    let x = net.conv("conv3", x, Conv2d::new(384, 3).padding(1))?;
    net.paper_size(27, 13);
    let x = net.relu("relu3", x)?;
    net.scheme_mut().conv_bias = Bias::Constant(0.1);
    let x = net.conv("conv4", x, Conv2d::new(384, 3).padding(1).groups(2))?;
    net.paper_size(13, 13);
    let x = net.relu("relu4", x)?;
    let x = net.conv("conv5", x, Conv2d::new(256, 3).padding(1).groups(2))?;
    net.paper_size(13, 13);
    let x = net.relu("relu5", x)?;
    let x = net.op("pool5", MaxPool::square(3, 2, 0), &[x])?;
    let x = net.flatten("flatten", x)?;
    let x = net.linear("fc6", x, 4096)?;
    let x = net.relu("relu6", x)?;
    let x = net.op("drop6", Dropout { p: 0.5 }, &[x])?;
    let x = net.linear("fc7", x, 4096)?;
    let x = net.relu("relu7", x)?;
    let x = net.op("drop7", Dropout { p: 0.5 }, &[x])?;
    *net.scheme_mut() = Scheme {
        linear: Init::Normal(0.01),
        linear_bias: Bias::Constant(0.0),
        ..*net.scheme_mut()
    };
    net.linear("fc8", x, net.settings.classes)
}

fn googlenet(net: &mut Net, x: ValueId) -> Built {
    let pool = || MaxPool::square(3, 2, 0).ceil();
    let x = unit(net, "conv1", x, Conv2d::new(64, 7).stride(2).padding(3))?;
    let x = net.op("pool1", pool(), &[x])?;
    let x = net.op("norm1", response_norm(), &[x])?;
    let x = unit(net, "conv2_reduce", x, Conv2d::new(64, 1))?;
    let x = unit(net, "conv2", x, Conv2d::new(192, 3).padding(1))?;
    let x = net.op("norm2", response_norm(), &[x])?;
    let mut x = net.op("pool2", pool(), &[x])?;
    for shape in INCEPTIONS {
        x = inception(net, x, shape)?;
        if shape.pooled {
            x = net.op(&format!("pool{}", &shape.name[..1]), pool(), &[x])?;
        }
    }
    let x = net.op("pool5", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    let x = net.op("drop", Dropout { p: 0.4 }, &[x])?;
    net.linear("classifier", x, net.settings.classes)
}

fn inception(net: &mut Net, x: ValueId, shape: Inception) -> Built {
    let at = |part: &str| format!("inception_{}.{part}", shape.name);
    let one = unit(net, &at("1x1"), x, Conv2d::new(shape.one, 1))?;
    let three = unit(net, &at("3x3_reduce"), x, Conv2d::new(shape.three[0], 1))?;
    let conv = Conv2d::new(shape.three[1], 3).padding(1);
    let three = unit(net, &at("3x3"), three, conv)?;
    let five = unit(net, &at("5x5_reduce"), x, Conv2d::new(shape.five[0], 1))?;
    let conv = Conv2d::new(shape.five[1], 5).padding(2);
    let five = unit(net, &at("5x5"), five, conv)?;
    let pool = net.op(&at("pool"), MaxPool::square(3, 1, 1), &[x])?;
    let pool = unit(net, &at("pool_proj"), pool, Conv2d::new(shape.pool, 1))?;
    net.op(&at("output"), Concat { axis: 1 }, &[one, three, five, pool])
}

/// Convolution and ReLU; Table 5 counts true sizes here.
fn unit(net: &mut Net, name: &str, x: ValueId, conv: Conv2d) -> Built {
    let before = net.height(x);
    let x = net.conv(name, x, conv)?;
    net.paper_size(before, net.height(x));
    net.relu(&format!("{name}.relu"), x)
}
