//! Networks measured from one layer on, and as a whole.
#![allow(clippy::unwrap_used)]

use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split};
use rankfold_graph::{Graph, Tensor as GraphTensor};
use rankfold_torch::{
    Device, Executor, Options, ProbeOptions, TorchProbe, Yardstick, evaluate, ordered_inputs,
    recalibrate,
};
use rankfold_zoo::{Options as ZooOptions, build};

fn shapes(split: &str) -> Dataset {
    let split: Split = split.parse().unwrap();
    Dataset::open(&DataSpec::Shapes { seed: 0 }, &split, ImageSize::default()).unwrap()
}

fn loader() -> Loader {
    let options = LoaderOptions::evaluate(16, Normalization::unit());
    Loader::new(shapes("test[:40]"), options).unwrap()
}

fn yardstick(graph: &Graph) -> Yardstick {
    let options = ProbeOptions {
        batch_size: 16,
        ..ProbeOptions::default()
    };
    let inputs = shapes("train[:64]");
    let probe = TorchProbe::new(graph, inputs, Normalization::unit(), options).unwrap();
    Yardstick::new(&probe, loader(), |_| {}).unwrap()
}

/// A network of seeded weights whose batch norms have the statistics of some images.
fn fitted() -> Graph {
    let mut graph = build("resnet20", &ZooOptions::default()).unwrap();
    let executor = Executor::new(&graph, Options::default()).unwrap();
    let options = LoaderOptions::evaluate(64, Normalization::unit());
    let loader = Loader::new(shapes("train[:64]"), options).unwrap();
    let batches = loader.epoch(0, 0).unwrap();
    let batches = batches.map(|batch| ordered_inputs(executor.input_names(), &batch?));
    recalibrate(&mut graph, Device::Cpu, batches).unwrap();
    graph
}

/// The graph with one of its kernels scaled.
fn scaled(graph: &Graph, weight: &str, by: f32) -> Graph {
    let mut graph = graph.clone();
    let own = graph.weights().get(weight).unwrap();
    let values: Vec<f32> = own.to_f32().unwrap().iter().map(|v| v * by).collect();
    let tensor = GraphTensor::from_f32(own.shape().to_vec(), values).unwrap();
    graph.set_weight(weight, tensor).unwrap();
    graph
}

#[test]
fn the_halves_of_a_network_make_the_whole() {
    let graph = build("resnet20", &ZooOptions::default()).unwrap();
    let run = |graph: &Graph| Executor::new(graph, Options::default()).unwrap();
    let batch = loader().epoch(0, 0).unwrap().next().unwrap().unwrap();
    let inputs = ordered_inputs(run(&graph).input_names(), &batch).unwrap();
    let whole = run(&graph).run(&inputs).unwrap();
    for (layer, crossing) in [
        ("conv1", 1),
        ("layer1.1.conv1", 1),
        ("layer1.1.conv2", 2),
        ("layer3.0.conv2", 2),
        ("linear", 1),
    ] {
        let halves = graph.cut_before(layer).unwrap();
        assert_eq!(halves.tail.inputs().len(), crossing, "{layer}");
        let nodes = halves.head.nodes().len() + halves.tail.nodes().len();
        assert_eq!(nodes, graph.nodes().len(), "{layer}");
        let between = run(&halves.head).run(&inputs).unwrap();
        let outputs = run(&halves.tail).run(&between).unwrap();
        let off = (&outputs[0] - &whole[0]).abs().max().double_value(&[]);
        assert!(off < 1e-4, "{layer}: {off}");
    }
    assert!(graph.cut_before("layer9").is_err());
}

#[test]
fn a_network_reads_the_same_from_a_layer_on_as_from_the_start() {
    let graph = fitted();
    let yardstick = yardstick(&graph);
    let baseline = yardstick.baseline().unwrap();
    assert_eq!((baseline.images, baseline.kl), (40, 0.0));
    let metrics = evaluate(
        &Executor::new(&graph, Options::default()).unwrap(),
        loader().epoch(0, 0).unwrap(),
        |_| std::ops::ControlFlow::Continue(()),
    )
    .unwrap();
    let hits = baseline.labels.unwrap();
    assert_eq!(100.0 * hits.first as f64 / 40.0, metrics.top1);
    assert_eq!(100.0 * hits.first_five as f64 / 40.0, metrics.top5);
    assert_eq!((hits.lost, hits.gained), (0, 0));

    let changed = scaled(&graph, "layer2.1.conv1.weight", 20.0);
    let at = yardstick.at("layer2.1.conv1").unwrap();
    let tail = scaled(at.tail(), "layer2.1.conv1.weight", 20.0);
    for (part, whole) in [
        (at.read(&tail).unwrap(), yardstick.read(&changed).unwrap()),
        (at.share().read(&tail).unwrap(), at.read(&tail).unwrap()),
    ] {
        assert!(whole.kl > 1e-4);
        assert!(
            (part.kl - whole.kl).abs() < 1e-4 * whole.kl,
            "{part:?} {whole:?}"
        );
        assert_eq!(part.labels, whole.labels);
    }
    let hits = at.read(&tail).unwrap().labels.unwrap();
    let before = baseline.labels.unwrap().first;
    assert_eq!(hits.first + hits.lost, before + hits.gained);
}

#[test]
fn batch_norms_are_estimated_anew_where_that_helps() {
    let graph = fitted();
    let yardstick = yardstick(&graph);
    let at = yardstick.at("layer1.0.conv1").unwrap();
    // Nothing is closer to the original than itself.
    let own = at.measure(at.tail()).unwrap();
    assert!(!own.recalibrated && own.kl < 1e-9, "{own:?}");
    let tail = scaled(at.tail(), "layer1.0.conv1.weight", 0.2);
    let (plain, measured) = (at.read(&tail).unwrap(), at.measure(&tail).unwrap());
    assert!(measured.recalibrated, "{measured:?}");
    assert!(measured.kl < plain.kl, "{measured:?} {plain:?}");
}
