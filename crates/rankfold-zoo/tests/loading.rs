//! State dicts: which network they belong to, and what does not fit.
#![allow(clippy::unwrap_used)]

use rankfold_graph::{Tensor, WeightMismatch, Weights};
use rankfold_zoo::{
    InitialWeights, Options, ZooError, build, closest, find, infer_options, list, load,
};

fn zeros() -> Options {
    Options {
        weights: InitialWeights::Zeros,
        ..Options::default()
    }
}

fn vector(len: usize) -> Tensor {
    Tensor::from_f32(vec![len], vec![0.0; len]).unwrap()
}

#[test]
fn every_network_comes_closest_to_its_own_weights() {
    for network in list() {
        let graph = network.build(&zeros()).unwrap();
        let best = &closest(graph.weights())[0];
        assert_eq!(best.score, 1.0, "{}", network.name);
        // Networks of equal tensors exist: the first in the list is as good an answer.
        let same = |name: &str| build(name, &best.options).unwrap();
        let names: Vec<_> = graph.weights().names().cloned().collect();
        let found: Vec<_> = same(best.network.name).weights().names().cloned().collect();
        assert_eq!(names, found, "{} and {}", network.name, best.network.name);
    }
}

#[test]
fn another_number_of_classes_is_inferred() {
    for name in ["resnet20", "vgg11", "mobilenet_v2"] {
        let options = Options {
            num_classes: Some(100),
            ..zeros()
        };
        let weights = build(name, &options).unwrap().weights().clone();
        assert_eq!(
            infer_options(find(name).unwrap(), &weights).num_classes,
            Some(100)
        );
        let best = &closest(&weights)[0];
        assert_eq!((best.network.name, best.score), (name, 1.0));
        let graph = load(name, &weights, &Options::default()).unwrap();
        assert_eq!(graph.weights(), &weights);
    }
}

#[test]
fn the_inner_width_of_lightlayers_is_inferred() {
    let options = Options {
        k: Some(2),
        ..zeros()
    };
    let weights = build("lightlayers-mnist", &options)
        .unwrap()
        .weights()
        .clone();
    let graph = load("lightlayers-mnist", &weights, &Options::default()).unwrap();
    assert_eq!(graph.weights(), &weights);
}

#[test]
fn step_counters_are_passed_over() {
    let mut weights = build("resnet20", &Options::default())
        .unwrap()
        .weights()
        .clone();
    let counter = Tensor::from_i64(vec![], vec![7]).unwrap();
    weights.insert("bn1.num_batches_tracked", counter);
    assert_eq!(closest(&weights)[0].score, 1.0);
    load("resnet20", &weights, &Options::default()).unwrap();
}

#[test]
fn the_auxiliary_heads_of_torchvisions_googlenet_are_passed_over() {
    let mut weights = build("googlenet", &zeros()).unwrap().weights().clone();
    for head in ["aux1", "aux2"] {
        weights.insert(format!("{head}.conv.bn.weight"), vector(128));
        weights.insert(format!("{head}.fc2.bias"), vector(1000));
    }
    assert_eq!(closest(&weights)[0].score, 1.0);
    let graph = load("googlenet", &weights, &Options::default()).unwrap();
    assert!(!graph.weights().contains("aux1.fc2.bias"));
    let error = load("resnet18", &weights, &Options::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("surplus  aux1.fc2.bias  found [1000]")
    );
}

#[test]
fn everything_that_does_not_fit_is_named_at_once() {
    let mut weights = build("resnet20", &zeros()).unwrap().weights().clone();
    weights.remove("bn1.weight");
    weights.insert("bn1.bias", vector(3));
    weights.insert("head.bias", vector(4));
    let error = load("resnet20", &weights, &Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tensors are not those of `resnet20`:\
         \n  missing  bn1.weight  expected [16]\
         \n  shape    bn1.bias  expected [16], found [3]\
         \n  surplus  head.bias  found [4]"
    );
}

#[test]
fn the_wrong_network_brings_the_right_one() {
    let weights = build("resnet32", &zeros()).unwrap().weights().clone();
    let error = load("resnet20", &weights, &Options::default()).unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains("`resnet32` (100 % of them fit)"), "{hint}");
    let ZooError::Weights { mismatches, .. } = error else {
        panic!("{error}");
    };
    let surplus = |m: &WeightMismatch| matches!(m, WeightMismatch::Surplus { .. });
    assert!(mismatches.iter().all(surplus));
    assert_eq!(mismatches.len(), 60);
}

#[test]
fn foreign_tensors_fit_nothing() {
    let mut weights = Weights::new();
    weights.insert("encoder.attention.bias", vector(8));
    assert!(closest(&weights).iter().all(|found| found.score == 0.0));
    assert!(
        closest(&Weights::new())
            .iter()
            .all(|found| found.score == 0.0)
    );
    let error = load("lenet5", &weights, &Options::default()).unwrap_err();
    assert_eq!(
        error.hint().unwrap(),
        "an exported .pt2 or ONNX file needs no network's name"
    );
}

#[test]
fn an_absurd_last_layer_is_an_error_and_no_allocation() {
    let mut weights = Weights::new();
    let empty = Tensor::from_f32(vec![0, 64], vec![]).unwrap();
    weights.insert("linear.weight", empty);
    assert!(load("resnet20", &weights, &Options::default()).is_err());
}

#[test]
fn published_checkpoints_load() {
    let Some(folder) = std::env::var_os("RANKFOLD_PRETRAINED") else {
        println!("skipped: RANKFOLD_PRETRAINED names no folder of checkpoints");
        return;
    };
    for (name, file) in [
        ("resnet20", "resnet20-12fca82f.th"),
        ("resnet32", "resnet32-d509ac18.th"),
    ] {
        let path = std::path::Path::new(&folder).join(file);
        let checkpoint = rankfold_formats::read_weights(&path).unwrap();
        let weights: Weights = (checkpoint.tensors.into_iter())
            .map(|(name, tensor)| (name.into(), tensor))
            .collect();
        let best = &closest(&weights)[0];
        assert_eq!((best.network.name, best.score), (name, 1.0));
        let graph = load(name, &weights, &Options::default()).unwrap();
        for (name, tensor) in graph.weights().iter() {
            assert!(tensor.shares_storage(weights.get(name).unwrap()));
        }
    }
}
