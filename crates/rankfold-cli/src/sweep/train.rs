//! The training inside a cell of the paper's protocol.

use rankfold_data::{Dataset, Loader};
use rankfold_finetune::{Length, Recipe, Task, train};
use rankfold_graph::Graph;
use rankfold_torch::{Device, TorchProbe};

use crate::failure::Outcome;
use crate::interrupt;

/// Inputs of a step.
const BATCH: usize = 64;

/// How the network of a cell is trained before it is measured.
#[derive(Debug)]
pub(crate) struct Training {
    inputs: Loader,
    epochs: usize,
    seed: u64,
    device: Device,
}

impl Training {
    /// Epochs over augmented inputs, prepared as the probe's are.
    pub(crate) fn new(
        probe: &TorchProbe,
        inputs: Dataset,
        epochs: usize,
        seed: u64,
        device: Device,
    ) -> Outcome<Self> {
        Ok(Self {
            inputs: probe.lessons_on(inputs, BATCH)?,
            epochs,
            seed,
            device,
        })
    }

    /// The network after as many epochs of the paper's recipe; where there are no labels, after learning
    /// to answer as the original, which it diverges from by so much.
    pub(crate) fn train(
        &self,
        original: &Graph,
        changed: &Graph,
        divergence: f64,
    ) -> Outcome<Graph> {
        let labelled = self.inputs.dataset().labelled();
        let recipe = Recipe {
            length: Length::Epochs(self.epochs),
            seed: self.seed,
            device: self.device,
            ..match labelled {
                true => Recipe::paper(),
                false => Recipe::lessons(0, divergence),
            }
        };
        let task = Task {
            student: changed,
            teacher: (!labelled).then_some(original),
            lessons: &self.inputs,
            exam: None,
            recipe: &recipe,
            pace: &|_| Some(1.0),
        };
        let learnt = train(&task, None, &mut |_| Ok(interrupt::flow()));
        interrupt::check()?;
        Ok(learnt?.last)
    }
}
