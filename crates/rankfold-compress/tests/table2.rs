//! Astrid & Lee, Table 2: the ranks that the paper's own losses give.
#![allow(clippy::unwrap_used)]

use rankfold_compress::{Budget, Form, Rank, Request, Select, Statistics, plan};
use rankfold_decompose::Control;
use rankfold_zoo::{InitialWeights, Options, build};

/// A layer's name, its printed loss and its printed rank.
type Row = (&'static str, f64, usize);

const ALEXNET_CONV: [Row; 5] = [
    ("conv1", 5.38, 69),
    ("conv2", 11.89, 154),
    ("conv3", 11.86, 153),
    ("conv4", 13.68, 178),
    ("conv5", 15.17, 196),
];

const ALEXNET_CONV_100: [Row; 5] = [
    ("conv1", 5.38, 47),
    ("conv2", 11.89, 102),
    ("conv3", 11.86, 103),
    ("conv4", 13.68, 118),
    ("conv5", 15.17, 130),
];

const ALEXNET_FC: [Row; 3] = [
    ("fc6", 28.59, 365),
    ("fc7", 21.50, 275),
    ("fc8", 20.31, 260),
];

const GOOGLENET_CONV: [Row; 11] = [
    ("conv1", 7.12, 35),
    ("conv2", 8.35, 41),
    ("inception_3a.3x3", 7.18, 35),
    ("inception_3b.3x3", 7.77, 38),
    ("inception_4a.3x3", 6.78, 33),
    ("inception_4b.3x3", 6.97, 34),
    ("inception_4c.3x3", 7.08, 34),
    ("inception_4d.3x3", 6.63, 32),
    ("inception_4e.3x3", 6.59, 32),
    ("inception_5a.3x3", 7.41, 36),
    ("inception_5b.3x3", 7.10, 35),
];

const VGG16_CONV: [Row; 13] = [
    ("features.0", 4.71, 59),
    ("features.2", 4.04, 50),
    ("features.5", 4.12, 51),
    ("features.7", 6.00, 75),
    ("features.10", 9.25, 115),
    ("features.12", 5.27, 65),
    ("features.14", 5.11, 64),
    ("features.17", 6.25, 78),
    ("features.19", 6.39, 80),
    ("features.21", 7.37, 92),
    ("features.24", 7.98, 99),
    ("features.26", 8.82, 110),
    ("features.28", 8.22, 102),
];

const VGG16_FC: [Row; 3] = [
    ("classifier.0", 12.46, 162),
    ("classifier.3", 11.11, 145),
    ("classifier.6", 10.93, 143),
];

/// Plans a network by the paper's rule; every rank is the printed one to within two, and the totals of
/// convolutions and of linear layers are average times number.
fn planned_as_printed(network: &str, conv: (f64, &[Row]), fc: Option<(f64, &[Row])>) {
    let options = Options {
        weights: InitialWeights::Zeros,
        ..Options::default()
    };
    let graph = build(network, &options).unwrap();
    let fc_rows = fc.map_or(&[][..], |(_, rows)| rows);
    let rows = || conv.1.iter().chain(fc_rows);
    let request = Request {
        select: Select::Sensitivity,
        losses: Some(
            rows()
                .map(|(name, loss, _)| ((*name).to_owned(), *loss))
                .collect(),
        ),
        ..Request::new(Budget::AverageRank {
            conv: Some(conv.0),
            fc: fc.map(|(average, _)| average),
        })
    };
    let control = Control::default();
    let plan = plan(&graph, &request, &Statistics::new(), control, &|_| ())
        .unwrap()
        .plan;
    plan.check(&graph).unwrap();
    let rank = |name: &str| match plan.layer(name).unwrap().rank {
        Some(Rank::One(rank)) => rank,
        other => panic!("{network} {name}: {other:?}"),
    };
    for (name, _, printed) in rows() {
        let off = rank(name).abs_diff(*printed);
        assert!(
            off <= 2,
            "{network} {name}: {} and not {printed}",
            rank(name)
        );
    }
    for (average, rows) in [Some(conv), fc].into_iter().flatten() {
        let sum: usize = rows.iter().map(|(name, ..)| rank(name)).sum();
        assert_eq!(sum as f64, average * rows.len() as f64, "{network}");
    }
    for layer in plan.layers.iter().filter(|layer| layer.rank.is_some()) {
        assert!(
            rows().any(|(name, ..)| *name == layer.name),
            "{}",
            layer.name
        );
        let form = match layer.name.as_str() {
            "conv1" | "features.0" => Form::Cp2,
            name if fc_rows.iter().any(|(own, ..)| *own == name) => Form::Svd,
            _ => Form::Cp3,
        };
        assert_eq!(layer.form, form, "{}", layer.name);
    }
}

#[test]
fn alexnet() {
    let fc = Some((300.0, &ALEXNET_FC[..]));
    planned_as_printed("alexnet-caffe", (150.0, &ALEXNET_CONV), fc);
    planned_as_printed("alexnet-caffe", (100.0, &ALEXNET_CONV_100), fc);
}

#[test]
fn googlenet() {
    planned_as_printed("googlenet-caffe", (35.0, &GOOGLENET_CONV), None);
}

#[test]
fn vgg16() {
    let fc = Some((150.0, &VGG16_FC[..]));
    planned_as_printed("vgg16", (80.0, &VGG16_CONV), fc);
}
