//! A damaged network learns from the original on real inputs, without labels.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;

use rankfold_compress::Probe;
use rankfold_data::{Dataset, ImageSize, Loader, Normalization};
use rankfold_finetune::{Event, FinetuneError, Recipe, Task, Trained, train};
use rankfold_formats::read_weights;
use rankfold_graph::{Graph, Tensor};
use rankfold_torch::{ProbeOptions, TorchProbe};
use rankfold_zoo::Options;

/// The shipped checkpoint, a network with rounded-off weights in its place, and inputs to look at both.
fn setting() -> (Graph, Graph, TorchProbe) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("models/shapes-resnet20/model.safetensors");
    let weights = read_weights(&file).unwrap().tensors.into_iter();
    let weights = weights
        .map(|(name, tensor)| (name.into(), tensor))
        .collect();
    let original = rankfold_zoo::load("resnet20", &weights, &Options::default()).unwrap();
    let mut damaged = original.clone();
    let names: Vec<_> = original
        .weights()
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    for name in names.iter().filter(|name| name.ends_with("weight")) {
        let tensor = original.weights().get(name).unwrap();
        if tensor.shape().len() != 4 {
            continue;
        }
        let values = tensor.to_f32().unwrap();
        let largest = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let rounded = values
            .iter()
            .map(|x| (x / largest * 3.0).round() * largest / 3.0);
        let rounded = Tensor::from_f32(tensor.shape().to_vec(), rounded.collect()).unwrap();
        damaged.set_weight(name, rounded).unwrap();
    }
    let own = original.meta().normalization.clone().unwrap();
    let data = Dataset::open(
        &"shapes".parse().unwrap(),
        &"train".parse().unwrap(),
        ImageSize::default(),
    );
    let inputs = data.unwrap().calibration(256, 0).unwrap();
    let normalization = Normalization::new(own.mean, own.std).unwrap();
    let probe = TorchProbe::new(&original, inputs, normalization, ProbeOptions::default());
    (original, damaged, probe.unwrap())
}

fn weights(graph: &Graph) -> Vec<Vec<f32>> {
    let values = graph.weights().iter();
    values
        .filter_map(|(_, tensor)| Some(tensor.to_f32().ok()?.into_owned()))
        .collect()
}

/// The student after learning from the original; `hear` may end it.
fn distill(
    [original, student]: [&Graph; 2],
    lessons: &Loader,
    recipe: &Recipe,
    mut hear: impl FnMut(&Event<'_>) -> ControlFlow<()>,
) -> Result<Trained, FinetuneError> {
    let task = Task {
        student,
        teacher: Some(original),
        lessons,
        exam: None,
        recipe,
        pace: &|_| Some(1.0),
    };
    train(&task, None, &mut |event| Ok(hear(&event)))
}

#[test]
fn a_damaged_network_comes_closer_to_the_original_on_inputs_it_has_not_seen() {
    let (original, damaged, mut probe) = setting();
    let recipe = Recipe {
        rate: 2e-3,
        warm_up: 5,
        ..Recipe::lessons(30, 0.1)
    };
    let loader = probe.lessons(32).unwrap();
    assert_eq!(loader.dataset().len(), 192, "a quarter is held back");
    let mut losses = Vec::new();
    let run = |losses: &mut Vec<f64>| {
        let learnt = distill([&original, &damaged], &loader, &recipe, |event| {
            if let Event::Step(now) = event {
                losses.push(now.outputs);
            }
            ControlFlow::Continue(())
        });
        learnt.unwrap().last
    };
    let learnt = run(&mut losses);
    assert_eq!(losses.len(), 30);
    let before = probe.divergence(&damaged).unwrap();
    let after = probe.divergence(&learnt).unwrap();
    assert!(after < 0.7 * before, "{before} to {after}, {losses:?}");
    // Batch-norm statistics are left alone.
    for (name, tensor) in damaged.weights().iter() {
        if name.contains("running_") {
            assert!(learnt.weights().get(name) == Some(tensor), "{name}");
        }
    }
    let again = run(&mut Vec::new());
    assert!(
        weights(&learnt) == weights(&again),
        "the same seed gives the same bits"
    );
}

#[test]
fn a_run_can_be_stopped_and_says_when_it_diverges() {
    let (original, damaged, probe) = setting();
    let loader = probe.lessons(32).unwrap();
    let recipe = Recipe::lessons(5, 0.1);
    let stopped = distill(
        [&original, &damaged],
        &loader,
        &recipe,
        |event| match event {
            Event::Step(now) if now.step == 2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        },
    );
    assert!(
        matches!(stopped, Err(FinetuneError::Stopped)),
        "{stopped:?}"
    );
    let wild = Recipe {
        rate: 1e30,
        warm_up: 1,
        ..Recipe::lessons(40, 0.1)
    };
    let mut taken_back = 0;
    let diverged = distill([&original, &damaged], &loader, &wild, |event| {
        if let Event::TakenBack { .. } = event {
            taken_back += 1;
        }
        ControlFlow::Continue(())
    });
    assert!(
        matches!(diverged, Err(FinetuneError::Diverged { .. })),
        "{diverged:?}"
    );
    assert_eq!(taken_back, 10);
}

#[test]
fn a_step_too_far_is_taken_back_and_learning_goes_on() {
    let (original, damaged, mut probe) = setting();
    let loader = probe.lessons(32).unwrap();
    // Some halvings make this rate a usable one.
    let recipe = Recipe {
        rate: 0.1,
        warm_up: 1,
        clip: None,
        ..Recipe::lessons(120, 0.1)
    };
    let mut rates = Vec::new();
    let learnt = distill([&original, &damaged], &loader, &recipe, |event| {
        if let Event::TakenBack { rate, .. } = event {
            rates.push(*rate);
        }
        ControlFlow::Continue(())
    });
    let learnt = learnt.unwrap().last;
    assert!(!rates.is_empty() && rates[0] <= 0.05, "{rates:?}");
    let (before, after) = (
        probe.divergence(&damaged).unwrap(),
        probe.divergence(&learnt).unwrap(),
    );
    assert!(after.is_finite() && after < before, "{before} to {after}");
}
