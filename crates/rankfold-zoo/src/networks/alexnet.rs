use rankfold_graph::ValueId;
use rankfold_graph::ops::{AdaptiveAvgPool, Dropout, MaxPool};

use super::{Built, IMAGENET};
use crate::net::{Conv2d, Net};
use crate::network::Network;

pub(super) const NETWORKS: &[Network] = &[Network {
    name: "alexnet",
    about: "AlexNet in one group and without normalisation, as in torchvision",
    first: "features.0",
    last: "classifier.6",
    build: alexnet,
    ..IMAGENET
}];

fn alexnet(net: &mut Net, x: ValueId) -> Built {
    let x = net.conv("features.0", x, Conv2d::new(64, 11).stride(4).padding(2))?;
    let x = net.relu("features.1", x)?;
    let x = net.op("features.2", MaxPool::square(3, 2, 0), &[x])?;
    let x = net.conv("features.3", x, Conv2d::new(192, 5).padding(2))?;
    let x = net.relu("features.4", x)?;
    let x = net.op("features.5", MaxPool::square(3, 2, 0), &[x])?;
    let x = net.conv("features.6", x, Conv2d::new(384, 3).padding(1))?;
    let x = net.relu("features.7", x)?;
    let x = net.conv("features.8", x, Conv2d::new(256, 3).padding(1))?;
    let x = net.relu("features.9", x)?;
    let x = net.conv("features.10", x, Conv2d::new(256, 3).padding(1))?;
    let x = net.relu("features.11", x)?;
    let x = net.op("features.12", MaxPool::square(3, 2, 0), &[x])?;
    let x = net.op("avgpool", AdaptiveAvgPool { output: vec![6, 6] }, &[x])?;
    let x = net.flatten("flatten", x)?;
    let x = net.op("classifier.0", Dropout { p: 0.5 }, &[x])?;
    let x = net.linear("classifier.1", x, 4096)?;
    let x = net.relu("classifier.2", x)?;
    let x = net.op("classifier.3", Dropout { p: 0.5 }, &[x])?;
    let x = net.linear("classifier.4", x, 4096)?;
    let x = net.relu("classifier.5", x)?;
    net.linear("classifier.6", x, net.settings.classes)
}
