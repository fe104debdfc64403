use rankfold_graph::ValueId;
use rankfold_graph::ops::{Activation, AdaptiveAvgPool, Dropout};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;
use crate::scheme::{Bias, Init, Scheme};

pub(super) const NETWORKS: &[Network] = &[Network {
    name: "mobilenet_v2",
    about: "MobileNetV2 of width one",
    first: "features.0.0",
    last: "classifier.1",
    scheme: Scheme {
        conv: Init::HeOut,
        conv_bias: Bias::Constant(0.0),
        linear: Init::Normal(0.01),
        linear_bias: Bias::Constant(0.0),
    },
    build: mobilenet,
    ..IMAGENET
}];

/// Expansion, output channels, repetitions and stride of the first.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

fn mobilenet(net: &mut Net, x: ValueId) -> Built {
    let mut x = unit(
        net,
        "features.0",
        x,
        Conv2d::new(32, 3).stride(2).padding(1),
    )?;
    let mut place = 1;
    for (expansion, out, count, stride) in STAGES {
        for i in 0..count {
            let stride = if i == 0 { stride } else { 1 };
            x = block(net, &format!("features.{place}"), x, expansion, out, stride)?;
            place += 1;
        }
    }
    let x = unit(net, "features.18", x, Conv2d::new(1280, 1))?;
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![1, 1] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    let x = net.op("classifier.0", Dropout { p: 0.2 }, &[x])?;
    net.linear("classifier.1", x, net.settings.classes)
}

/// Widen, filter each channel by itself, narrow; added to the input where the shapes allow it.
fn block(
    net: &mut Net,
    name: &str,
    input: ValueId,
    expansion: usize,
    out: usize,
    stride: usize,
) -> Built {
    let mut places = 0..;
    let mut place = || format!("{name}.conv.{}", places.next().unwrap_or_default());
    let width = expansion * net.channels(input);
    let mut x = input;
    if expansion > 1 {
        x = unit(net, &place(), x, Conv2d::new(width, 1))?;
    }
    let depthwise = Conv2d::new(width, 3)
        .groups(width)
        .stride(stride)
        .padding(1);
    x = unit(net, &place(), x, depthwise)?;
    x = net.conv(&place(), x, Conv2d::new(out, 1).no_bias())?;
    x = net.batch_norm(&place(), x)?;
    if stride == 1 && net.channels(input) == out {
        x = net.add(&format!("{name}.add"), input, x)?;
    }
    Ok(x)
}

/// Convolution, batch normalisation, ReLU up to six.
fn unit(net: &mut Net, name: &str, x: ValueId, conv: Conv2d) -> Built {
    let x = net.conv(&format!("{name}.0"), x, conv.no_bias())?;
    let x = net.batch_norm(&format!("{name}.1"), x)?;
    net.op(&format!("{name}.2"), Activation::Relu6, &[x])
}
