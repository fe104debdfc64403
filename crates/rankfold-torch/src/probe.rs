//! What compression asks of a running model, answered on libtorch.

use std::ops::ControlFlow;

use rankfold_compress::{Observations, PairedStatistics, Probe, Statistics};
use rankfold_data::{Augment, Batch, DataError, Dataset, Loader, LoaderOptions, Normalization};
use rankfold_graph::Graph;
use tch::Tensor;

use crate::batch::batch_inputs;
use crate::calibrate::{CalibrateOptions, watch};
use crate::compare::{Divergence, compare};
use crate::device::Device;
use crate::error::{Result, TorchError};
use crate::evaluate::log_probabilities;
use crate::executor::{Executor, Options, Taps};
use crate::observe::observe;
use crate::trainable::recalibrate;

/// How a model is asked.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Where.
    pub device: Device,
    /// Decides what is drawn: the order of the inputs, augmentation, directions of gradients.
    pub seed: u64,
    /// Inputs that run at a time.
    pub batch_size: usize,
    /// Share of the inputs that is held back to decide by.
    pub held_back: f64,
    /// Inputs at which two networks are seen side by side.
    pub paired_inputs: usize,
    /// How inputs are augmented where batch-norm statistics are taken; none for what fits their size.
    pub augment: Option<Augment>,
    /// How statistics are taken; device and seed are those above.
    pub calibrate: CalibrateOptions,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            seed: 0,
            batch_size: 128,
            held_back: 0.25,
            paired_inputs: 512,
            augment: None,
            calibrate: CalibrateOptions::default(),
        }
    }
}

/// A model and inputs without labels to ask it about.
#[derive(Debug)]
pub struct TorchProbe {
    /// All inputs in a drawn order: first those to measure on, then those held back.
    inputs: Loader,
    /// The first batch that is held back.
    held_back: usize,
    augmented: Loader,
    options: ProbeOptions,
    graph: Graph,
    original: Executor,
    /// Logarithms of the original's class probabilities on the inputs held back, batch by batch.
    answers: Option<Vec<Tensor>>,
    /// Asked after every batch of statistics.
    go_on: fn() -> ControlFlow<()>,
}

impl TorchProbe {
    /// A probe of `original`, with inputs of which one part is measured on and another decides.
    pub fn new(
        original: &Graph,
        inputs: Dataset,
        normalization: Normalization,
        options: ProbeOptions,
    ) -> Result<Self> {
        // Eight batches at least, so that the parts have the sizes asked for.
        let batch = options.batch_size.min(inputs.len() / 8).max(1);
        let augment = options.augment.unwrap_or_else(|| Augment::usual(&inputs));
        let drawn = LoaderOptions {
            shuffle: true,
            seed: options.seed,
            ..LoaderOptions::evaluate(batch, normalization.clone())
        };
        let train = LoaderOptions::train(
            options.batch_size.min(inputs.len()),
            normalization,
            augment,
            options.seed,
        );
        let augmented = Loader::new(
            inputs.clone(),
            LoaderOptions {
                drop_last: true,
                ..train
            },
        )?;
        let inputs = Loader::new(inputs, drawn)?;
        let steps = inputs.steps();
        let share = (steps as f64 * options.held_back.clamp(0.0, 1.0)).round() as usize;
        Ok(Self {
            held_back: steps - share.clamp(1, steps.saturating_sub(1).max(1)),
            inputs,
            augmented,
            original: Executor::new(original, run_options(&options))?,
            graph: original.clone(),
            options,
            answers: None,
            go_on: || ControlFlow::Continue(()),
        })
    }

    /// This probe, asking after every batch of statistics whether to go on.
    pub fn asking(self, go_on: fn() -> ControlFlow<()>) -> Self {
        Self { go_on, ..self }
    }

    /// Divergence from the original and share of equal answers, in percent, on the inputs held back.
    pub fn agreement(&mut self, graph: &Graph) -> Result<(f64, f64)> {
        let _guard = tch::no_grad_guard();
        let model = Executor::new(graph, run_options(&self.options))?;
        let answers = match self.answers.take() {
            Some(answers) => answers,
            None => {
                answers_of(&self.original, &self.inputs, self.held_back)?.collect::<Result<_>>()?
            }
        };
        let mut divergence = Divergence::default();
        for (p, q) in answers
            .iter()
            .zip(answers_of(&model, &self.inputs, self.held_back)?)
        {
            divergence.add(p, &q?)?;
        }
        self.answers = Some(answers);
        Ok((divergence.mean(), divergence.agreement()))
    }

    /// Augmented batches of the inputs that are not held back, to learn from.
    pub fn lessons(&self, batch_size: usize) -> Result<Loader> {
        let inputs = self.inputs.dataset();
        let batch = self.inputs.options().batch_size;
        let measured = (self.held_back.max(1) * batch).min(inputs.len());
        self.lessons_on(
            inputs.select(&self.inputs.order(0)[..measured])?,
            batch_size,
        )
    }

    /// Augmented batches of other inputs, prepared as the probe's are.
    pub fn lessons_on(&self, inputs: Dataset, batch_size: usize) -> Result<Loader> {
        let options = LoaderOptions {
            batch_size: batch_size.min(inputs.len()),
            ..self.augmented.options().clone()
        };
        Ok(Loader::new(inputs, options)?)
    }

    /// How the model is asked.
    pub(crate) fn options(&self) -> &ProbeOptions {
        &self.options
    }

    /// The original.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// All inputs, and the first batch that is held back.
    pub(crate) fn inputs(&self) -> (&Loader, usize) {
        (&self.inputs, self.held_back)
    }

    /// Augmented inputs, on which batch-norm statistics are taken.
    pub(crate) fn augmented(&self) -> &Loader {
        &self.augmented
    }

    /// Relative squared error of the outputs, on the inputs held back.
    fn distance(&self, graph: &Graph) -> Result<f64> {
        let model = Executor::new(graph, run_options(&self.options))?;
        let batches = self.inputs.epoch(0, self.held_back)?;
        let go_on = |_| ControlFlow::Continue(());
        let outputs = compare(&self.original, &model, false, batches, go_on)?.outputs;
        let squares = outputs.iter().map(|output| output.relative_error.powi(2));
        Ok(squares.sum::<f64>() / outputs.len().max(1) as f64)
    }

    /// The batches to measure on.
    fn measured(
        &self,
    ) -> Result<impl Iterator<Item = std::result::Result<Batch, DataError>> + use<>> {
        // A single batch has to serve for both.
        Ok(self.inputs.epoch(0, 0)?.take(self.held_back.max(1)))
    }

    /// An executor of a graph: the one at hand where it is the original.
    fn executor(&self, graph: &Graph) -> Result<Option<Executor>> {
        let own = self.graph.weights();
        let same = graph.nodes() == self.graph.nodes()
            && graph
                .weights()
                .iter()
                .all(|(name, tensor)| own.get(name).is_some_and(|own| own.shares_storage(tensor)));
        if same {
            Ok(None)
        } else {
            Executor::new(graph, run_options(&self.options)).map(Some)
        }
    }
}

fn run_options(options: &ProbeOptions) -> Options {
    Options {
        device: options.device,
        join: false,
        ..Options::default()
    }
}

/// Logarithms of class probabilities, batch by batch.
fn answers_of<'a>(
    model: &'a Executor,
    loader: &Loader,
    first: usize,
) -> Result<impl Iterator<Item = Result<Tensor>> + use<'a>> {
    Ok(loader.epoch(0, first)?.map(move |batch| {
        let outputs = model.run(&batch_inputs(model, &batch?)?)?;
        let scores = outputs.first().filter(|scores| scores.dim() == 2);
        let got = outputs.first().map_or_else(Vec::new, Tensor::size);
        log_probabilities(scores.ok_or(TorchError::NoScores { got })?, model.scores())
    }))
}

impl Probe for TorchProbe {
    type Error = TorchError;

    fn statistics(&mut self, graph: &Graph, layers: &[String]) -> Result<Statistics> {
        let ProbeOptions {
            device,
            seed,
            calibrate,
            ..
        } = self.options;
        let options = CalibrateOptions {
            device,
            seed,
            ..calibrate
        };
        crate::calibrate(graph, layers, &options, self.measured()?, |_| {
            (self.go_on)()
        })
    }

    fn paired(
        &mut self,
        original: &Graph,
        layer: &str,
        compressed: &Graph,
        stage: &str,
    ) -> Result<Option<PairedStatistics>> {
        let (a, b) = (self.executor(original)?, self.executor(compressed)?);
        let a = a.as_ref().unwrap_or(&self.original);
        let b = b.as_ref().unwrap_or(&self.original);
        let unknown = || TorchError::UnknownNode {
            node: layer.to_owned(),
        };
        let node = original.node(layer).ok_or_else(unknown)?;
        let Some(mut moments) = watch(original, node, &self.options.calibrate)? else {
            return Ok(None);
        };
        let (tap_a, tap_b) = (a.input_taps([layer])?, b.input_taps([stage])?);
        let mut seen = 0;
        for batch in self.measured()? {
            let batch = batch?;
            let x = input_at(a, &batch_inputs(a, &batch)?, &tap_a)?;
            let other = input_at(b, &batch_inputs(b, &batch)?, &tap_b)?;
            moments.add_pair(&x, &other)?;
            seen += batch.len();
            if seen >= self.options.paired_inputs {
                break;
            }
        }
        moments.paired().map(Some)
    }

    fn observe(&mut self, graph: &Graph, values: &[String]) -> Result<Observations> {
        observe(graph, values, self.options.device, self.measured()?)
    }

    fn divergence(&mut self, graph: &Graph) -> Result<f64> {
        match self.agreement(graph) {
            Ok((divergence, _)) => Ok(divergence),
            // Without class scores it is the outputs themselves that should stay what they are.
            Err(TorchError::NoScores { .. }) => self.distance(graph),
            Err(error) => Err(error),
        }
    }

    fn recalibrated(&mut self, graph: &Graph) -> Result<Graph> {
        let mut recalibrated = graph.clone();
        let original = &self.original;
        let batches = self
            .augmented
            .epoch(0, 0)?
            .map(|batch| batch_inputs(original, &batch?));
        recalibrate(&mut recalibrated, self.options.device, batches)?;
        Ok(recalibrated)
    }
}

/// The input of the one chosen node; what comes after it is not run.
fn input_at(model: &Executor, inputs: &[Tensor], tap: &Taps) -> Result<Tensor> {
    let mut seen = None;
    let run = model.run_with(inputs, tap, |tapped| {
        seen = tapped.inputs.first().map(|input| input.shallow_clone());
        Err(TorchError::Stopped)
    });
    match (seen, run) {
        (Some(input), _) => Ok(input),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(TorchError::Empty { what: "look at" }),
    }
}
