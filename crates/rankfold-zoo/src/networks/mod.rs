//! One file a family of networks.

mod alexnet;
mod caffe;
mod calli;
mod calli_pruned;
mod cifar_resnet;
mod googlenet;
mod lenet;
mod lightlayers;
mod mobilenet;
mod resnet;
mod vgg;

use rankfold_graph::{GraphError, Normalization, ValueId};

use crate::network::Network;
use crate::scheme::Scheme;

/// All families, in the order in which they are listed.
pub(crate) const FAMILIES: &[&[Network]] = &[
    alexnet::NETWORKS,
    vgg::NETWORKS,
    googlenet::NETWORKS,
    resnet::NETWORKS,
    mobilenet::NETWORKS,
    cifar_resnet::NETWORKS,
    lenet::NETWORKS,
    caffe::NETWORKS,
    lightlayers::NETWORKS,
    calli::NETWORKS,
    calli_pruned::NETWORKS,
];

type Built = Result<ValueId, GraphError>;

/// A network for ImageNet with torchvision's habits.
const IMAGENET: Network = Network {
    name: "",
    about: "",
    input: [3, 224, 224],
    classes: 1000,
    first: "conv1",
    last: "fc",
    k: None,
    normalization: Normalization::imagenet,
    resize: None,
    training_only: &[],
    any_side: true,
    transforms_input: false,
    scheme: Scheme::TORCH,
    build: |_, x| Ok(x),
};
