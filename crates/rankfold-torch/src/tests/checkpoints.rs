//! Real checkpoints on real data, where `RANKFOLD_PRETRAINED` and `RANKFOLD_DATA` say where they are.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use rankfold_compress::Probe;
use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split};
use rankfold_graph::{Graph, Op};

use crate::{Executor, Options, ProbeOptions, TorchProbe, evaluate};

fn folder(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: {variable} is not set");
    }
    folder
}

fn checkpoint(name: &str, file: &str) -> Option<(Graph, String)> {
    let (pretrained, data) = (folder("RANKFOLD_PRETRAINED")?, folder("RANKFOLD_DATA")?);
    let read = rankfold_formats::read_weights(&pretrained.join(file)).unwrap();
    let strip = |name: String| name.strip_prefix("module.").unwrap_or(&name).into();
    let weights = read
        .tensors
        .into_iter()
        .map(|(name, tensor)| (strip(name), tensor))
        .collect();
    let graph = rankfold_zoo::load(name, &weights, &rankfold_zoo::Options::default()).unwrap();
    Some((graph, format!("cifar10:{}", data.display())))
}

fn normalization(graph: &Graph) -> Normalization {
    let own = graph.meta().normalization.as_ref().unwrap();
    Normalization::new(own.mean.clone(), own.std.clone()).unwrap()
}

fn images(spec: &str, split: &str) -> Dataset {
    let spec: DataSpec = spec.parse().unwrap();
    let split: Split = split.parse().unwrap();
    Dataset::open(&spec, &split, ImageSize::default()).unwrap()
}

#[test]
fn published_accuracies_are_met() {
    for (name, file, expected) in [
        ("resnet20", "resnet20-12fca82f.th", 91.73),
        ("resnet32", "resnet32-d509ac18.th", 92.63),
    ] {
        let Some((graph, spec)) = checkpoint(name, file) else {
            return;
        };
        let options = LoaderOptions::evaluate(256, normalization(&graph));
        let loader = Loader::new(images(&spec, "test"), options).unwrap();
        let executor = Executor::new(&graph, Options::default()).unwrap();
        let batches = loader.epoch(0, 0).unwrap();
        let metrics = evaluate(&executor, batches, |_| ControlFlow::Continue(())).unwrap();
        println!("{name}: {metrics:?}");
        assert!(
            (metrics.top1 - expected).abs() < 0.02,
            "{name}: {metrics:?}"
        );
        assert_eq!(metrics.images, 10_000);
    }
}

#[test]
fn a_network_is_calibrated_in_seconds() {
    let Some((graph, spec)) = checkpoint("resnet20", "resnet20-12fca82f.th") else {
        return;
    };
    let inputs = images(&spec, "train").calibration(1024, 0).unwrap();
    let mut probe = TorchProbe::new(
        &graph,
        inputs,
        normalization(&graph),
        ProbeOptions::default(),
    )
    .unwrap();
    let layers = graph
        .nodes()
        .iter()
        .filter(|n| matches!(n.op, Op::Conv(_) | Op::Linear(_)));
    let layers: Vec<String> = layers.map(|node| node.name.clone()).collect();
    let start = Instant::now();
    let statistics = probe.statistics(&graph, &layers).unwrap();
    println!(
        "statistics of {} layers: {:.2} s",
        layers.len(),
        start.elapsed().as_secs_f64()
    );
    assert_eq!(statistics.len(), layers.len());
    for (name, layer) in &statistics {
        let metric = layer.output_metric.as_ref().unwrap();
        let finite = layer
            .covariance
            .iter()
            .flatten()
            .chain(metric)
            .all(|v| v.is_finite());
        assert!(finite, "{name}");
        let trace: f64 = (0..metric.nrows()).map(|i| metric[[i, i]]).sum();
        assert!(trace > 0.0, "{name}");
    }
    let start = Instant::now();
    assert!(probe.divergence(&graph).unwrap().abs() < 1e-6);
    println!("divergence: {:.2} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    probe.recalibrated(&graph).unwrap();
    println!("recalibration: {:.2} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    probe
        .paired(&graph, &layers[10], &graph, &layers[10])
        .unwrap()
        .unwrap();
    println!("paired: {:.2} s", start.elapsed().as_secs_f64());
}
