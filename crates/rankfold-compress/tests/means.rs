//! What a decomposition takes from the mean of a layer's answers comes back behind it.
#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2};
use rankfold_compress::{
    Budget, Form, LayerRank, LayerStatistics, NoStore, Rank, Request, Statistics, apply, plan,
};
use rankfold_decompose::Control;
use rankfold_graph::Graph;
use rankfold_zoo::{Options, build};

fn numbers(graph: &Graph, name: &str) -> Vec<f64> {
    let tensor = graph.weights().get(name).unwrap();
    tensor
        .to_f32()
        .unwrap()
        .iter()
        .map(|&x| f64::from(x))
        .collect()
}

#[test]
fn a_lost_mean_goes_into_the_batch_norm_behind() {
    let graph = build("resnet20", &Options::default()).unwrap();
    let (layer, outputs, patch, rank) = ("layer1.0.conv1", 16, 144, 4);
    let mean = Array1::from_shape_fn(patch, |i| 0.5 + (i % 7) as f64 / 7.0);
    let statistics = LayerStatistics {
        mean: vec![mean.clone()],
        covariance: vec![Array2::eye(patch)],
        output_metric: None,
        samples: 100_000,
    };
    let data = Statistics::from([(layer.to_owned(), statistics)]);
    let request = Request::new(Budget::Ranks(vec![LayerRank {
        layer: layer.to_owned(),
        rank: Rank::One(rank),
        form: Some(Form::Channel),
    }]));
    let control = Control::default();
    let plan = plan(&graph, &request, &data, control, &|_| ())
        .unwrap()
        .plan;
    let (smaller, _) = apply(&graph, &plan, &data, &NoStore, control, &|_| ()).unwrap();
    let matrix = |rows, columns, of: Vec<f64>| Array2::from_shape_vec((rows, columns), of).unwrap();
    let whole = matrix(outputs, patch, numbers(&graph, "layer1.0.conv1.weight"));
    let narrow = matrix(rank, patch, numbers(&smaller, "layer1.0.conv1.0.weight"));
    let wide = matrix(outputs, rank, numbers(&smaller, "layer1.0.conv1.1.weight"));
    let lost = (whole - wide.dot(&narrow)).dot(&mean);
    assert!(lost.iter().any(|lost| lost.abs() > 0.1), "{lost}");
    let running = "layer1.0.bn1.running_mean";
    let moved = numbers(&graph, running)
        .into_iter()
        .zip(numbers(&smaller, running));
    for ((before, after), lost) in moved.zip(&lost) {
        assert!(
            (before - after - lost).abs() < 1e-4,
            "{before} {after} {lost}"
        );
    }
}
