use rankfold_graph::ops::MaxPool;
use rankfold_graph::{Normalization, ValueId};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;

pub(super) const NETWORKS: &[Network] = &[Network {
    name: "lenet5",
    about: "LeNet-5 with ReLU and max pooling, for 28×28 grey images",
    input: [1, 28, 28],
    classes: 10,
    last: "fc3",
    normalization: mnist,
    any_side: false,
    build: lenet,
    ..IMAGENET
}];

fn mnist() -> Normalization {
    Normalization {
        mean: vec![0.1307],
        std: vec![0.3081],
    }
}

fn lenet(net: &mut Net, x: ValueId) -> Built {
    let x = net.conv("conv1", x, Conv2d::new(6, 5).padding(2))?;
    let x = net.relu("relu1", x)?;
    let x = net.op("pool1", MaxPool::square(2, 2, 0), &[x])?;
    let x = net.conv("conv2", x, Conv2d::new(16, 5))?;
    let x = net.relu("relu2", x)?;
    let x = net.op("pool2", MaxPool::square(2, 2, 0), &[x])?;
    let x = net.flatten("flatten", x)?;
    let x = net.linear("fc1", x, 120)?;
    let x = net.relu("relu3", x)?;
    let x = net.linear("fc2", x, 84)?;
    let x = net.relu("relu4", x)?;
    net.linear("fc3", x, net.settings.classes)
}
