//! The real MNIST and CIFAR-10 in the folder that RANKFOLD_DATA names.

mod common;

use common::open;
use rankfold_data::{Loader, LoaderOptions, Normalization};

/// The folder, or a line that says that the test is skipped.
#[allow(clippy::print_stdout)]
fn folder(test: &str) -> Option<String> {
    let folder = std::env::var("RANKFOLD_DATA").ok();
    if folder.is_none() {
        println!("skipped: {test} needs RANKFOLD_DATA");
    }
    folder
}

/// Mean and standard deviation of every channel, by the batches themselves.
fn statistics(spec: &str, split: &str) -> (Vec<f64>, Vec<f64>) {
    let data = open(spec, split).expect("opened");
    let len = data.len();
    let options = LoaderOptions::evaluate(500, Normalization::unit());
    let loader = Loader::new(data, options).expect("a loader");
    let (mut sums, mut squares, mut count) = (Vec::new(), Vec::new(), 0);
    let mut pixels = 0;
    for batch in loader.epoch(0, 0).expect("started") {
        let batch = batch.expect("a batch");
        let shape = &batch.inputs[0].shape;
        let (channels, plane) = (shape[1], shape[2] * shape[3]);
        sums.resize(channels, 0.0);
        squares.resize(channels, 0.0);
        let values = batch.inputs[0].data.as_f32().expect("images");
        for (i, plane) in values.chunks(plane).enumerate() {
            sums[i % channels] += plane.iter().map(|v| f64::from(*v)).sum::<f64>();
            squares[i % channels] += plane.iter().map(|v| f64::from(v * v)).sum::<f64>();
        }
        count += batch.len();
        pixels += batch.len() * plane;
    }
    assert_eq!(count, len);
    let mean: Vec<f64> = sums.iter().map(|s| s / pixels as f64).collect();
    let std = squares
        .iter()
        .zip(&mean)
        .map(|(s, m)| (s / pixels as f64 - m * m).sqrt())
        .collect();
    (mean, std)
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 6e-5, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn mnist_has_its_known_statistics() {
    let Some(folder) = folder("mnist_has_its_known_statistics") else {
        return;
    };
    let spec = format!("mnist:{folder}");
    let (mean, std) = statistics(&spec, "train");
    close(&mean, &[0.1307]);
    close(&std, &[0.3081]);
    assert_eq!(open(&spec, "train").expect("opened").len(), 60_000);
    assert_eq!(open(&spec, "test").expect("opened").len(), 10_000);
}

#[test]
fn cifar10_has_its_known_statistics() {
    let Some(folder) = folder("cifar10_has_its_known_statistics") else {
        return;
    };
    let spec = format!("cifar10:{folder}");
    let (mean, _) = statistics(&spec, "train");
    close(&mean, &[0.4914, 0.4822, 0.4465]);
    for (split, each) in [("train", 5_000), ("test", 1_000)] {
        let data = open(&spec, split).expect("opened");
        let mut counts = vec![0; 10];
        (0..data.len()).for_each(|i| counts[data.label(i).expect("a label") as usize] += 1);
        assert_eq!(counts, [each; 10]);
    }
    let data = open(&spec, "test").expect("opened");
    assert_eq!(data.class_names().expect("names")[3], "cat");
}
