//! Every network against PyTorch's counts and its own promises.

use rankfold_graph::{CostModel, Dim, Fact, Graph};
use rankfold_zoo::{InitialWeights, Network, Options, ZooError, build, find, list};

fn zeros() -> Options {
    Options {
        weights: InitialWeights::Zeros,
        ..Options::default()
    }
}

fn batch_of(channels: usize) -> Fact {
    Fact::batch_of(&[channels])
}

/// Made by tests/interop/parameters.py: network, tensors, parameters, with buffers.
const COUNTS: &str = include_str!("data/parameters.csv");

#[test]
fn every_network_holds_what_pytorch_holds() {
    let mut counted = Vec::new();
    for line in COUNTS.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let numbers: Vec<u64> = fields[1..].iter().map(|n| n.parse().unwrap()).collect();
        let graph = build(fields[0], &zeros()).unwrap();
        let cost = graph.cost(CostModel::True).unwrap();
        let got = [
            graph.weights().len() as u64,
            cost.parameters,
            cost.parameters_with_buffers,
        ];
        assert_eq!(got, numbers[..], "{}", fields[0]);
        counted.push(fields[0]);
    }
    let mut listed: Vec<&str> = list().map(|network| network.name).collect();
    listed.sort_unstable();
    counted.sort_unstable();
    assert_eq!(listed, counted);
}

#[test]
fn every_network_keeps_the_batch_and_gives_its_classes() {
    for network in list() {
        let graph = network.build(&zeros()).unwrap();
        graph.verify().unwrap();
        assert_eq!(graph.inputs().len(), 1);
        assert_eq!(
            graph.fact(graph.inputs()[0]).shape.as_ref().unwrap()[0],
            Dim::batch()
        );
        if network.tells_classes() {
            assert_eq!(*graph.fact(graph.outputs()[0]), batch_of(network.classes));
        }
        assert_eq!(graph.meta().name, network.name);
        let normalization = graph.meta().normalization.as_ref().unwrap();
        assert_eq!(normalization.mean.len(), network.input[0]);
        assert_eq!(normalization.std.len(), network.input[0]);
        let weighted = |kind| {
            let kernels = graph
                .nodes()
                .iter()
                .filter(move |node| ["conv", "conv_transpose", "linear"].contains(&node.op.kind()));
            let mut names = kernels.map(|node| node.name.as_str());
            match kind {
                "first" => names.next(),
                _ => names.next_back(),
            }
        };
        assert_eq!(weighted("first"), Some(network.first), "{}", network.name);
        assert_eq!(weighted("last"), Some(network.last), "{}", network.name);
    }
}

#[test]
fn every_network_takes_another_number_of_classes() {
    for network in list() {
        let options = Options {
            num_classes: Some(7),
            ..zeros()
        };
        match network.build(&options) {
            Ok(graph) => assert_eq!(*graph.fact(graph.outputs()[0]), batch_of(7)),
            Err(error) => {
                assert!(!network.tells_classes(), "{}: {error}", network.name);
                assert!(matches!(error, ZooError::NoSuchOption { .. }));
            }
        }
    }
}

#[test]
fn networks_that_pool_to_a_fixed_size_take_other_inputs() {
    for network in list() {
        let side = network.input[1] + 33;
        let options = Options {
            input_side: Some(side),
            ..zeros()
        };
        match network.build(&options) {
            Ok(graph) => {
                assert!(network.takes_any_side());
                let fact = graph.fact(graph.inputs()[0]);
                assert_eq!(*fact, Fact::batch_of(&[network.input[0], side, side]));
                assert_eq!(graph.cost(CostModel::Paper), None);
            }
            Err(error) => {
                assert!(!network.takes_any_side(), "{}: {error}", network.name);
                assert!(matches!(error, ZooError::NoSuchOption { .. }));
            }
        }
    }
}

#[test]
fn resnet20_is_dumped_as_before() {
    let dump = build("resnet20", &zeros()).unwrap().to_string();
    assert_eq!(dump, include_str!("data/resnet20.txt"));
}

#[test]
fn a_seed_gives_the_same_weights_again_and_another_seed_others() {
    let with = |seed| {
        let options = Options {
            weights: InitialWeights::Seeded(seed),
            ..Options::default()
        };
        build("resnet20", &options).unwrap()
    };
    assert_eq!(with(3), with(3));
    let kernel = |graph: &Graph| graph.weights().get("layer1.0.conv1.weight").cloned();
    assert_ne!(kernel(&with(3)), kernel(&with(4)));
}

#[test]
fn random_weights_have_the_deviation_that_torchvision_gives_them() {
    let deviation = |network: &str, weight: &str| {
        let graph = build(network, &Options::default()).unwrap();
        let values = graph
            .weights()
            .get(weight)
            .unwrap()
            .to_f32()
            .unwrap()
            .to_vec();
        let squares: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
        (squares / values.len() as f64).sqrt()
    };
    for (network, weight, expected) in [
        (
            "resnet18",
            "layer2.0.conv1.weight",
            (2.0 / (128.0 * 9.0f64)).sqrt(),
        ),
        ("resnet18", "fc.weight", (1.0 / (3.0 * 512.0f64)).sqrt()),
        (
            "resnet20",
            "layer3.1.conv2.weight",
            (2.0 / (64.0 * 9.0f64)).sqrt(),
        ),
        ("mobilenet_v2", "classifier.1.weight", 0.01),
        ("googlenet", "inception4a.branch2.1.conv.weight", 0.01),
        (
            "googlenet-caffe",
            "inception_4a.3x3.weight",
            (1.0 / (96.0 * 9.0f64)).sqrt(),
        ),
        (
            "lightlayers-mnist-conv2d",
            "block3.conv2.weight",
            (2.0 / (64.0 * 9.0f64)).sqrt(),
        ),
    ] {
        let got = deviation(network, weight);
        assert!(
            (got / expected - 1.0).abs() < 0.03,
            "{weight}: {got}, {expected}"
        );
    }
    let graph = build("resnet18", &Options::default()).unwrap();
    for (name, value) in [
        ("weight", 1.0),
        ("bias", 0.0),
        ("running_mean", 0.0),
        ("running_var", 1.0),
    ] {
        let tensor = graph.weights().get(&format!("bn1.{name}")).unwrap();
        assert!(
            tensor.to_f32().unwrap().iter().all(|&v| v == value),
            "{name}"
        );
    }
}

#[test]
fn input_transformation_is_googlenets_option() {
    let options = Options {
        transform_input: true,
        ..zeros()
    };
    let graph = build("googlenet", &options).unwrap();
    let conv = graph.node("conv1.conv").unwrap();
    assert_eq!(
        graph.producer(conv.inputs[0]).unwrap().name,
        "transform_input"
    );
    assert_eq!(graph.cost(CostModel::True).unwrap().parameters, 6_624_904);
    let error = build("resnet18", &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`resnet18` has no option `transform_input`"
    );
    assert_eq!(
        error.hint().unwrap(),
        "only torchvision's googlenet can be given it"
    );
}

#[test]
fn an_unknown_name_brings_the_nearest() {
    for (asked, nearest) in [
        ("resnet-20", "resnet20"),
        ("VGG16", "vgg16"),
        ("mobilenetv2", "mobilenet_v2"),
        ("alexnet_caffe", "alexnet-caffe"),
        ("lightlayers-cifar", "lightlayers-cifar10"),
    ] {
        let error = find(asked).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no network `{asked}`"));
        assert_eq!(
            error.hint().unwrap(),
            format!("`{nearest}` is the nearest name; `rankfold zoo` lists them all")
        );
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let refused = |network: &str, options: Options| build(network, &options).unwrap_err();
    let classes = |n| Options {
        num_classes: Some(n),
        ..zeros()
    };
    assert_eq!(
        refused("vgg16", classes(0)).to_string(),
        "`vgg16`: expected num_classes between 1 and 100000, found 0"
    );
    refused("vgg16", classes(usize::MAX));
    let side = |n| Options {
        input_side: Some(n),
        ..zeros()
    };
    refused("resnet20", side(usize::MAX));
    let error = refused("vgg16", side(8));
    assert!(matches!(error, ZooError::Build { .. }), "{error}");
    assert_eq!(error.hint().unwrap(), "the network needs a larger input");
    let k = |n| Options {
        k: Some(n),
        ..zeros()
    };
    refused("lightlayers-mnist", k(0));
    let error = refused("lightlayers-mnist-conv2d", k(2));
    assert_eq!(
        error.hint().unwrap(),
        "only the LightLayers networks can be given it"
    );
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = list().map(|network: &Network| network.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
