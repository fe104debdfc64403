//! Table 1 of Astrid & Lee 2018: the weights and multiply-accumulates of the compressed networks.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use rankfold_compress::{Budget, LayerRank, NoStore, Rank, Request, Statistics, apply, plan};
use rankfold_decompose::Control;
use rankfold_graph::{CostModel, Graph};
use rankfold_zoo::Options;

fn compressed(network: &str, ranks: &[(&str, usize)]) -> Graph {
    let graph = rankfold_zoo::build(network, &Options::default()).unwrap();
    let rank = |&(layer, rank): &(&str, usize)| LayerRank {
        layer: layer.to_owned(),
        rank: Rank::One(rank),
        form: None,
    };
    let request = Request::new(Budget::Ranks(ranks.iter().map(rank).collect()));
    let statistics = Statistics::new();
    let (control, quiet) = (Control::default(), |_: &str| {});
    let planned = plan(&graph, &request, &statistics, control, &quiet).unwrap();
    let done = apply(
        &graph,
        &planned.plan,
        &statistics,
        &NoStore,
        control,
        &quiet,
    );
    done.unwrap().0
}

fn assert_row(network: &str, ranks: &[(&str, usize)], weights: u64, macs: u64) {
    let graph = compressed(network, ranks);
    let cost = graph.cost(CostModel::Paper).unwrap();
    assert_eq!((cost.weights, cost.macs), (weights, macs), "{network}");
}

#[test]
fn alexnet_at_an_average_rank_of_150() {
    let ranks = [
        ("conv1", 69),
        ("conv2", 154),
        ("conv3", 153),
        ("conv4", 178),
        ("conv5", 196),
        ("fc6", 365),
        ("fc7", 275),
        ("fc8", 260),
    ];
    assert_row("alexnet-caffe", &ranks, 8_733_000, 205_214_208);
}

#[test]
fn alexnet_at_an_average_rank_of_100() {
    let ranks = [
        ("conv1", 47),
        ("conv2", 102),
        ("conv3", 103),
        ("conv4", 118),
        ("conv5", 130),
        ("fc6", 365),
        ("fc7", 275),
        ("fc8", 260),
    ];
    assert_row("alexnet-caffe", &ranks, 8_634_706, 141_010_698);
}

#[test]
fn googlenet_with_its_three_by_three_branches() {
    let ranks = [
        ("conv1", 35),
        ("conv2", 41),
        ("inception_3a.3x3", 35),
        ("inception_3b.3x3", 38),
        ("inception_4a.3x3", 33),
        ("inception_4b.3x3", 34),
        ("inception_4c.3x3", 34),
        ("inception_4d.3x3", 32),
        ("inception_4e.3x3", 32),
        ("inception_5a.3x3", 36),
        ("inception_5b.3x3", 35),
    ];
    assert_row("googlenet-caffe", &ranks, 4_021_847, 659_427_347);
}

#[test]
fn vgg16() {
    let ranks = [
        ("features.0", 59),
        ("features.2", 50),
        ("features.5", 51),
        ("features.7", 75),
        ("features.10", 115),
        ("features.12", 65),
        ("features.14", 64),
        ("features.17", 78),
        ("features.19", 80),
        ("features.21", 92),
        ("features.24", 99),
        ("features.26", 110),
        ("features.28", 102),
        ("classifier.0", 162),
        ("classifier.3", 145),
        ("classifier.6", 143),
    ];
    assert_row("vgg16", &ranks, 7_358_670, 1_599_925_044);
}
