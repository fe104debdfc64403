//! The numbers that the papers print, from the networks as the zoo builds them.
#![allow(clippy::unwrap_used)]

use rankfold_graph::ops::Conv;
use rankfold_graph::{CostModel, Graph, Op};
use rankfold_zoo::{InitialWeights, Options, build};

fn network(name: &str, k: Option<usize>) -> Graph {
    let options = Options {
        k,
        weights: InitialWeights::Zeros,
        ..Options::default()
    };
    build(name, &options).unwrap()
}

/// Astrid & Lee, Table 5: weights and multiply-accumulates of the originals, biases apart.
#[test]
fn originals_cost_what_table_5_prints() {
    for (name, weights, macs) in [
        ("alexnet-caffe", 60_954_656, 724_406_816),
        ("googlenet-caffe", 6_990_272, 1_582_671_872),
        ("vgg16", 138_344_128, 15_470_264_320),
    ] {
        let graph = network(name, None);
        let paper = graph.cost(CostModel::Paper).unwrap();
        assert_eq!((paper.weights, paper.macs), (weights, macs), "{name}");
        // Nothing is decomposed yet, so the true sizes give the same.
        let cost = graph.cost(CostModel::True).unwrap();
        assert_eq!((cost.weights, cost.macs), (weights, macs), "{name}");
    }
}

#[test]
fn table_5_is_held_by_its_three_networks_alone() {
    for network in rankfold_zoo::list() {
        let options = Options {
            weights: InitialWeights::Zeros,
            ..Options::default()
        };
        let graph = network.build(&options).unwrap();
        let held = graph.cost(CostModel::Paper).is_some();
        // Without convolutions there is nothing to print a size of.
        let expected = ["alexnet-caffe", "googlenet-caffe", "vgg16", "calli-sum"];
        let expected = expected.contains(&network.name);
        assert_eq!(held, expected, "{}", network.name);
    }
}

/// Weights and multiply-accumulates of a network after the layers named are decomposed.
///
/// A first convolution becomes D×D (S→R) and 1×1 (R→T); any other becomes 1×1 (S→R) on the printed
/// H, D×D over R channels and 1×1 (R→T); of g groups each has rank R/g. Linear layers become two.
fn decomposed(graph: &Graph, ranks: &[(&str, u64)]) -> (u64, u64) {
    let costs = graph.costs(CostModel::Paper).unwrap();
    let mut total = (0, 0);
    for (node, cost) in graph.nodes().iter().zip(costs) {
        let rank = ranks.iter().find(|(name, _)| *name == node.name);
        let (weights, macs) = match (&node.op, rank) {
            (_, None) => (cost.weights, cost.macs),
            (Op::Linear(linear), Some(&(_, rank))) => {
                let shape = graph.weights().get(&linear.weight).unwrap().shape();
                let weights = rank * (shape[0] + shape[1]) as u64;
                (weights, weights)
            }
            (Op::Conv(Conv { weight, groups, .. }), Some(&(_, rank))) => {
                let shape = graph.weights().get(weight).unwrap().shape();
                let [out, per_group, area] =
                    [shape[0], shape[1], shape[2] * shape[3]].map(|n| n as u64);
                let size = node.paper_size.unwrap();
                let [before, after] = [size.input, size.output].map(|n| (n * n) as u64);
                let last = rank * out / *groups as u64;
                if per_group == 3 {
                    let first = rank * per_group * area;
                    (first + last, (first + last) * after)
                } else {
                    let (first, middle) = (rank * per_group, rank * area);
                    (
                        first + middle + last,
                        first * before + (middle + last) * after,
                    )
                }
            }
            (op, Some(_)) => panic!("{} is a {}", node.name, op.kind()),
        };
        total = (total.0 + weights, total.1 + macs);
    }
    total
}

/// Astrid & Lee, Table 1, with the ranks of Tables 2 to 4.
#[test]
fn compressed_networks_cost_what_table_1_prints() {
    let alexnet = [
        "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8",
    ];
    let googlenet = [
        "conv1",
        "conv2",
        "inception_3a.3x3",
        "inception_3b.3x3",
        "inception_4a.3x3",
        "inception_4b.3x3",
        "inception_4c.3x3",
        "inception_4d.3x3",
        "inception_4e.3x3",
        "inception_5a.3x3",
        "inception_5b.3x3",
    ];
    let vgg16 = [
        "features.0",
        "features.2",
        "features.5",
        "features.7",
        "features.10",
        "features.12",
        "features.14",
        "features.17",
        "features.19",
        "features.21",
        "features.24",
        "features.26",
        "features.28",
        "classifier.0",
        "classifier.3",
        "classifier.6",
    ];
    type Row<'a> = (&'a str, &'a [&'a str], &'a [u64], (u64, u64));
    let rows: [Row; 4] = [
        (
            "alexnet-caffe",
            &alexnet,
            &[69, 154, 153, 178, 196, 365, 275, 260],
            (8_733_000, 205_214_208),
        ),
        (
            "alexnet-caffe",
            &alexnet,
            &[47, 102, 103, 118, 130, 365, 275, 260],
            (8_634_706, 141_010_698),
        ),
        (
            "googlenet-caffe",
            &googlenet,
            &[35, 41, 35, 38, 33, 34, 34, 32, 32, 36, 35],
            (4_021_847, 659_427_347),
        ),
        (
            "vgg16",
            &vgg16,
            &[
                59, 50, 51, 75, 115, 65, 64, 78, 80, 92, 99, 110, 102, 162, 145, 143,
            ],
            (7_358_670, 1_599_925_044),
        ),
    ];
    for (name, layers, ranks, expected) in rows {
        assert_eq!(layers.len(), ranks.len());
        let ranks: Vec<_> = layers.iter().copied().zip(ranks.iter().copied()).collect();
        assert_eq!(decomposed(&network(name, None), &ranks), expected, "{name}");
    }
}

/// Jha et al., Tables 1 to 4: all 28 parameter counts, Fashion-MNIST's being MNIST's.
#[test]
fn lightlayers_have_the_printed_parameters() {
    let count = |name: &str, k| {
        let cost = network(name, k).cost(CostModel::True).unwrap();
        cost.parameters_with_buffers
    };
    let tables: [(&str, [u64; 2], &[u64]); 3] = [
        (
            "mnist",
            [18_818, 3_611],
            &[2_649, 4_392, 6_135, 7_878, 9_621, 11_364],
        ),
        (
            "cifar10",
            [76_794, 14_440],
            &[5_937, 9_592, 13_247, 16_902, 20_557],
        ),
        (
            "cifar100",
            [82_644, 20_290],
            &[6_747, 10_402, 14_057, 17_712, 21_367],
        ),
    ];
    for (data, [conv2d, separable], light) in tables {
        let name = format!("lightlayers-{data}");
        assert_eq!(count(&format!("{name}-conv2d"), None), conv2d);
        assert_eq!(count(&format!("{name}-separable"), None), separable);
        for (k, &expected) in (1..).zip(light) {
            assert_eq!(count(&name, Some(k)), expected, "{name}, k = {k}");
        }
    }
}

/// Çallı: about 0.12 million parameters, and 13 to 14 million multiply-accumulates at 32×32. It is trained
/// on windows of 24×24.
#[test]
fn calli_small_is_as_small_as_the_thesis_says() {
    let trained = network("calli-small", None);
    let input = trained.fact(trained.inputs()[0]).shape.as_ref().unwrap();
    assert_eq!(input[2].fixed(), Some(24));
    assert_eq!(trained.meta().resize, Some(32));
    let options = Options {
        input_side: Some(32),
        weights: InitialWeights::Zeros,
        ..Options::default()
    };
    let graph = build("calli-small", &options).unwrap();
    let cost = graph.cost(CostModel::True).unwrap();
    assert!(
        (115_000..135_000).contains(&cost.parameters),
        "{}",
        cost.parameters
    );
    assert!(
        (13_000_000..14_000_000).contains(&cost.macs),
        "{}",
        cost.macs
    );
}
