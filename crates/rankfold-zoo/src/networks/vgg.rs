use rankfold_graph::ValueId;
use rankfold_graph::ops::{AdaptiveAvgPool, Dropout, MaxPool};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::{Bias, Init, Scheme};

const VGG: Network = Network {
    first: "features.0",
    last: "classifier.6",
    scheme: Scheme {
        conv: Init::HeOut,
        conv_bias: Bias::Constant(0.0),
        linear: Init::Normal(0.01),
        linear_bias: Bias::Constant(0.0),
    },
    ..IMAGENET
};

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "vgg11",
        about: "VGG with 8 convolutions",
        build: |net, x| vgg(net, x, [1, 1, 2, 2, 2], false),
        ..VGG
    },
    Network {
        name: "vgg13",
        about: "VGG with 10 convolutions",
        build: |net, x| vgg(net, x, [2, 2, 2, 2, 2], false),
        ..VGG
    },
    Network {
        name: "vgg16",
        about: "VGG with 13 convolutions; holds the paper's sizes",
        build: |net, x| vgg(net, x, [2, 2, 3, 3, 3], false),
        ..VGG
    },
    Network {
        name: "vgg19",
        about: "VGG with 16 convolutions",
        build: |net, x| vgg(net, x, [2, 2, 4, 4, 4], false),
        ..VGG
    },
    Network {
        name: "vgg11_bn",
        about: "VGG with 8 convolutions and batch normalisation",
        build: |net, x| vgg(net, x, [1, 1, 2, 2, 2], true),
        ..VGG
    },
    Network {
        name: "vgg13_bn",
        about: "VGG with 10 convolutions and batch normalisation",
        build: |net, x| vgg(net, x, [2, 2, 2, 2, 2], true),
        ..VGG
    },
    Network {
        name: "vgg16_bn",
        about: "VGG with 13 convolutions and batch normalisation",
        build: |net, x| vgg(net, x, [2, 2, 3, 3, 3], true),
        ..VGG
    },
    Network {
        name: "vgg19_bn",
        about: "VGG with 16 convolutions and batch normalisation",
        build: |net, x| vgg(net, x, [2, 2, 4, 4, 4], true),
        ..VGG
    },
];

/// `convolutions` of every stage, each stage followed by a pooling.
fn vgg(net: &mut Net, mut x: ValueId, convolutions: [usize; 5], normalised: bool) -> Built {
    // Astrid & Lee's Table 5 counts VGG16 by its true sizes at the input that the paper has.
    let in_paper = !normalised && convolutions == [2, 2, 3, 3, 3] && net.height(x) == 224;
    let mut places = 0..;
    let mut place = || format!("features.{}", places.next().unwrap_or_default());
    for (count, channels) in convolutions.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..count {
            x = net.conv(&place(), x, Conv2d::new(channels, 3).padding(1))?;
            if in_paper {
                net.paper_size(net.height(x), net.height(x));
            }
            if normalised {
                x = net.batch_norm(&place(), x)?;
            }
            x = net.relu(&place(), x)?;
        }
        x = net.op(&place(), MaxPool::square(2, 2, 0), &[x])?;
    }
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![7, 7] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    let x = net.linear("classifier.0", x, 4096)?;
    let x = net.relu("classifier.1", x)?;
    let x = net.op("classifier.2", Dropout { p: 0.5 }, &[x])?;
    let x = net.linear("classifier.3", x, 4096)?;
    let x = net.relu("classifier.4", x)?;
    let x = net.op("classifier.5", Dropout { p: 0.5 }, &[x])?;
    net.linear("classifier.6", x, net.settings.classes)
}
