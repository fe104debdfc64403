//! Counting correct answers, evaluation and timing.

use std::ops::ControlFlow;

use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split};
use tch::Tensor;

use super::executor::image_network;
use super::plain;
use rankfold_compress::{Repeat, Timing};

use crate::{Executor, Layout, Scores, Tally, TorchError, bench, evaluate, random_inputs};

#[test]
fn tallies_count_by_hand() {
    // Label's place in the order of scores: 0, 1, 5, 6.
    let scores = Tensor::from_slice(&[
        7f32, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, //
        7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, //
        7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, //
        7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0,
    ])
    .reshape([4, 7]);
    let labels = Tensor::from_slice(&[0i64, 1, 5, 6]);
    let mut tally = Tally::default();
    tally.add(&scores, Scores::Logits, &labels).unwrap();
    assert_eq!((tally.first, tally.first_five, tally.images), (1, 2, 4));
    let metrics = tally.metrics(2.0);
    assert_eq!(
        (metrics.top1, metrics.top5, metrics.images_per_second),
        (25.0, 50.0, 2.0)
    );
    assert!((metrics.top1_se - 100.0 * (0.25f64 * 0.75 / 4.0).sqrt()).abs() < 1e-12);
    assert!((metrics.top5_se - 25.0).abs() < 1e-12);
    let total: f64 = (1..8).map(|s| f64::from(s).exp()).sum();
    let loss = [7.0, 6.0, 2.0, 1.0f64]
        .iter()
        .map(|s| total.ln() - s)
        .sum::<f64>()
        / 4.0;
    assert!((metrics.loss - loss).abs() < 1e-6);

    for (kind, scores) in [
        (Scores::Probabilities, scores.softmax(-1, None)),
        (Scores::LogProbabilities, scores.log_softmax(-1, None)),
    ] {
        let mut other = Tally::default();
        other.add(&scores, kind, &labels).unwrap();
        assert!((other.loss - tally.loss).abs() < 1e-5);
    }
}

fn shapes(slice: &str, batch: usize) -> Loader {
    let spec: DataSpec = "shapes:3".parse().unwrap();
    let split: Split = slice.parse().unwrap();
    let data = Dataset::open(&spec, &split, ImageSize::default()).unwrap();
    Loader::new(data, LoaderOptions::evaluate(batch, Normalization::unit())).unwrap()
}

#[test]
fn batches_do_not_change_the_result_and_progress_can_stop() {
    let executor = Executor::new(&image_network(), plain(Layout::Nhwc)).unwrap();
    let mut seen = Vec::new();
    let of = |batch: usize, seen: &mut Vec<usize>| {
        evaluate(
            &executor,
            shapes("test[:50]", batch).epoch(0, 0).unwrap(),
            |tally| {
                seen.push(tally.images);
                ControlFlow::Continue(())
            },
        )
        .unwrap()
    };
    let (a, b) = (of(16, &mut seen), of(50, &mut Vec::new()));
    assert_eq!(seen, [16, 32, 48, 50]);
    assert_eq!((a.images, a.top1, a.top5), (50, b.top1, b.top5));
    assert!((a.loss - b.loss).abs() < 1e-5);
    let stopped = evaluate(
        &executor,
        shapes("test[:50]", 16).epoch(0, 0).unwrap(),
        |_| ControlFlow::Break(()),
    );
    assert!(matches!(stopped, Err(TorchError::Stopped)));
    assert!(matches!(
        evaluate(&executor, [], |_| ControlFlow::Continue(())),
        Err(TorchError::Empty { .. })
    ));
}

#[test]
fn labels_beyond_the_classes_are_refused() {
    use rankfold_graph::ops::{Flatten, Slice};
    let mut b = rankfold_graph::GraphBuilder::new("two classes");
    let x = b
        .input("x", rankfold_graph::Fact::batch_of(&[3, 32, 32]))
        .unwrap();
    let x = b.op("flat", Flatten { start: 1, end: -1 }, &[x]).unwrap();
    let x = b
        .op(
            "first",
            Slice {
                axis: 1,
                start: 0,
                end: Some(2),
                step: 1,
            },
            &[x],
        )
        .unwrap();
    let executor = Executor::new(&b.finish(&[x]).unwrap(), plain(Layout::Nchw)).unwrap();
    let error = evaluate(
        &executor,
        shapes("test[:50]", 16).epoch(0, 0).unwrap(),
        |_| ControlFlow::Continue(()),
    );
    assert!(
        matches!(error, Err(TorchError::Label { classes: 2, .. })),
        "{error:?}"
    );
}

#[test]
fn timings_are_taken_in_turn() {
    let graph = image_network();
    let a = Executor::new(&graph, plain(Layout::Nchw)).unwrap();
    let b = Executor::new(&graph, plain(Layout::Nhwc)).unwrap();
    let inputs = random_inputs(&a, 2, 1).unwrap();
    assert_eq!(inputs[0].size(), [2, 3, 32, 32]);
    assert!(inputs[0].equal(&random_inputs(&b, 2, 1).unwrap()[0]));
    let repeat = Repeat {
        warmup: 1,
        samples: 5,
        seconds: 0.0001,
    };
    let timings = bench(&[&a, &b], &inputs, repeat).unwrap();
    for timing in timings {
        assert_eq!(timing.samples.len(), 5);
        let [low, high] = timing.quartiles();
        assert!(timing.fastest() > 0.0 && timing.fastest() <= low);
        assert!(low <= timing.median() && timing.median() <= high);
    }
}

#[test]
fn quantiles_are_interpolated() {
    let timing = Timing {
        samples: vec![4.0, 1.0, 3.0, 2.0],
    };
    assert_eq!((timing.median(), timing.fastest()), (2.5, 1.0));
    assert_eq!(timing.quartiles(), [1.75, 3.25]);
}
