//! How far changed networks are from the original, on the same inputs.

use rankfold_data::{Batch, Loader};
use rankfold_graph::{Graph, Op};
use tch::{Kind, Tensor};

use crate::batch::{classes, label_tensor, ordered_inputs};
use crate::compare::Divergence;
use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::evaluate::log_probabilities;
use crate::executor::{Executor, Options, Scores};
use crate::probe::TorchProbe;
use crate::trainable::recalibrate;

const STEP: &str = "comparing answers";

/// Bytes that the values before one layer may take: where they take more they are computed again for
/// every network that is measured.
const MEMORY: u64 = 3 << 29;

/// What a network answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Inputs looked at.
    pub images: usize,
    /// What labels tell; none without them.
    pub labels: Option<Hits>,
    /// Mean divergence of the class probabilities from the original's.
    pub kl: f64,
    /// Its standard error.
    pub kl_se: f64,
    /// Whether batch-norm statistics were estimated anew.
    pub recalibrated: bool,
}

/// Right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// Inputs whose highest score is the label's.
    pub first: usize,
    /// Inputs whose label is among the five highest scores.
    pub first_five: usize,
    /// Inputs that the original has right and this network wrong.
    pub lost: usize,
    /// Inputs that the original has wrong and this network right.
    pub gained: usize,
}

/// Inputs and what the original answers to them.
#[derive(Debug)]
pub struct Yardstick {
    original: Graph,
    device: Device,
    measured: Part,
    held_back: Part,
    augmented: Part,
    measured_answers: Vec<Answers>,
    held_back_answers: Vec<Answers>,
    scores: Scores,
}

/// Some batches of a loader.
#[derive(Debug, Clone)]
struct Part {
    loader: Loader,
    first: usize,
}

/// What the original answers to a batch.
#[derive(Debug)]
struct Answers {
    /// Logarithms of class probabilities.
    log: Tensor,
    /// Labels, and where the original has them right.
    labels: Option<(Tensor, Tensor)>,
}

/// A yardstick for networks that differ from one layer on.
#[derive(Debug)]
pub struct AtLayer {
    head: Graph,
    tail: Graph,
    device: Device,
    scores: Scores,
    measured: Inputs,
    held_back: Inputs,
    augmented: Inputs,
    measured_answers: Vec<Answers>,
    held_back_answers: Vec<Answers>,
}

/// The values before a layer.
#[derive(Debug)]
enum Inputs {
    Kept(Vec<Vec<Tensor>>),
    Read(Part),
}

impl Yardstick {
    /// The original's answers to the inputs of `data`, which are measured on, and to those that the
    /// probe holds back, which decide about batch norms. `see` is shown every batch of `data`.
    pub fn new(probe: &TorchProbe, data: Loader, mut see: impl FnMut(&Batch)) -> Result<Self> {
        let device = probe.options().device;
        let original = probe.graph().clone();
        let executor = Executor::new(&original, run_options(device))?;
        let (inputs, held_back) = probe.inputs();
        let part = |loader: &Loader, first| Part {
            loader: loader.clone(),
            first,
        };
        let (measured, held_back) = (part(&data, 0), part(inputs, held_back));
        let augmented = part(probe.augmented(), 0);
        let measured_answers = answers(&executor, &measured, &mut see)?;
        let held_back_answers = answers(&executor, &held_back, &mut |_| {})?;
        Ok(Self {
            scores: executor.scores(),
            original,
            device,
            measured,
            held_back,
            augmented,
            measured_answers,
            held_back_answers,
        })
    }

    /// The original's own reading.
    pub fn baseline(&self) -> Result<Reading> {
        let mut sums = Sums::default();
        for answers in &self.measured_answers {
            sums.add(&answers.log, answers)?;
        }
        Ok(sums.reading(false))
    }

    /// The reading of any network, as it is.
    pub fn read(&self, graph: &Graph) -> Result<Reading> {
        self.whole().read(graph)
    }

    /// A yardstick for networks that differ anywhere.
    pub fn whole(&self) -> AtLayer {
        let inputs = |part: &Part| Inputs::Read(part.clone());
        AtLayer {
            head: Graph::default(),
            tail: self.original.clone(),
            device: self.device,
            scores: self.scores,
            measured: inputs(&self.measured),
            held_back: inputs(&self.held_back),
            augmented: inputs(&self.augmented),
            measured_answers: self.measured_answers.iter().map(Answers::share).collect(),
            held_back_answers: self.held_back_answers.iter().map(Answers::share).collect(),
        }
    }

    /// A yardstick for networks that differ in nothing before the node of that name.
    pub fn at(&self, layer: &str) -> Result<AtLayer> {
        let halves = self.original.cut_before(layer)?;
        let parts = [&self.measured, &self.held_back, &self.augmented];
        let items: usize = parts.iter().map(|part| part.items()).sum();
        let crossing = halves.tail.inputs().iter();
        let each = crossing.map(|&id| halves.tail.fact(id).item_elements());
        let numbers = each.sum::<Option<usize>>();
        let fits = numbers.is_some_and(|n| (n as u64) * 4 * items as u64 <= MEMORY);
        let head = (!halves.head.nodes().is_empty() && fits)
            .then(|| Executor::new(&halves.head, run_options(self.device)))
            .transpose()?;
        let inputs = |part: &Part| -> Result<Inputs> {
            match &head {
                None => Ok(Inputs::Read(part.clone())),
                Some(head) => {
                    let batches = part
                        .batches()?
                        .map(|batch| head.run(&ordered_inputs(head.input_names(), &batch?)?));
                    Ok(Inputs::Kept(batches.collect::<Result<_>>()?))
                }
            }
        };
        Ok(AtLayer {
            device: self.device,
            scores: self.scores,
            measured: inputs(&self.measured)?,
            held_back: inputs(&self.held_back)?,
            augmented: inputs(&self.augmented)?,
            measured_answers: self.measured_answers.iter().map(Answers::share).collect(),
            held_back_answers: self.held_back_answers.iter().map(Answers::share).collect(),
            head: halves.head,
            tail: halves.tail,
        })
    }
}

impl AtLayer {
    /// The original from the layer on: what is measured takes its inputs.
    pub fn tail(&self) -> &Graph {
        &self.tail
    }

    /// The same yardstick for another thread; values are shared.
    pub fn share(&self) -> Self {
        Self {
            head: self.head.clone(),
            tail: self.tail.clone(),
            device: self.device,
            scores: self.scores,
            measured: self.measured.share(),
            held_back: self.held_back.share(),
            augmented: self.augmented.share(),
            measured_answers: self.measured_answers.iter().map(Answers::share).collect(),
            held_back_answers: self.held_back_answers.iter().map(Answers::share).collect(),
        }
    }

    /// The reading of a network that is `changed` from the layer on, as it is.
    pub fn read(&self, changed: &Graph) -> Result<Reading> {
        let model = Executor::new(changed, run_options(self.device))?;
        let sums = self.sums(&model, &self.measured, &self.measured_answers)?;
        Ok(sums.reading(false))
    }

    /// The reading of a network that is `changed` from the layer on. Batch-norm statistics are estimated
    /// anew where that brings the answers to the inputs held back closer to the original's.
    pub fn measure(&self, changed: &Graph) -> Result<Reading> {
        let plain = Executor::new(changed, run_options(self.device))?;
        let mut chosen = (plain, false);
        if changed
            .nodes()
            .iter()
            .any(|node| matches!(node.op, Op::BatchNorm(_)))
        {
            let mut anew = changed.clone();
            self.recalibrate(&mut anew)?;
            let anew = Executor::new(&anew, run_options(self.device))?;
            let held_back = |model| self.sums(model, &self.held_back, &self.held_back_answers);
            if held_back(&anew)?.divergence.mean() < held_back(&chosen.0)?.divergence.mean() {
                chosen = (anew, true);
            }
        }
        let sums = self.sums(&chosen.0, &self.measured, &self.measured_answers)?;
        Ok(sums.reading(chosen.1))
    }

    fn recalibrate(&self, graph: &mut Graph) -> Result<()> {
        recalibrate(graph, self.device, self.values(&self.augmented)?).map(|_| ())
    }

    fn sums(&self, model: &Executor, inputs: &Inputs, answers: &[Answers]) -> Result<Sums> {
        let _guard = tch::no_grad_guard();
        let mut sums = Sums::default();
        for (values, original) in self.values(inputs)?.zip(answers) {
            let outputs = model.run(&values?)?;
            sums.add(&logarithms(&outputs, self.scores)?, original)?;
        }
        Ok(sums)
    }

    /// The values before the layer, batch by batch.
    fn values<'a>(&'a self, inputs: &'a Inputs) -> Result<Values<'a>> {
        let part = match inputs {
            Inputs::Kept(batches) => {
                let shared =
                    |batch: &Vec<Tensor>| batch.iter().map(Tensor::shallow_clone).collect();
                return Ok(Box::new(batches.iter().map(move |batch| Ok(shared(batch)))));
            }
            Inputs::Read(part) => part,
        };
        if self.head.nodes().is_empty() {
            let inputs = self.tail.inputs().iter();
            let names: Vec<&str> = inputs.map(|&id| &*self.tail.value(id).name).collect();
            let batches = part.batches()?;
            return Ok(Box::new(
                batches.map(move |batch| ordered_inputs(names.iter().copied(), &batch?)),
            ));
        }
        let head = Executor::new(&self.head, run_options(self.device))?;
        Ok(Box::new(part.batches()?.map(move |batch| {
            head.run(&ordered_inputs(head.input_names(), &batch?)?)
        })))
    }
}

/// The values before a layer, batch by batch.
type Values<'a> = Box<dyn Iterator<Item = Result<Vec<Tensor>>> + 'a>;

impl Part {
    fn batches(
        &self,
    ) -> Result<impl Iterator<Item = std::result::Result<Batch, rankfold_data::DataError>> + use<>>
    {
        Ok(self.loader.epoch(0, self.first)?)
    }

    /// About how many items there are.
    fn items(&self) -> usize {
        let batches = self.loader.steps().saturating_sub(self.first);
        batches * self.loader.options().batch_size
    }
}

impl Inputs {
    fn share(&self) -> Self {
        match self {
            Self::Read(part) => Self::Read(part.clone()),
            Self::Kept(batches) => {
                let shared =
                    |batch: &Vec<Tensor>| batch.iter().map(Tensor::shallow_clone).collect();
                Self::Kept(batches.iter().map(shared).collect())
            }
        }
    }
}

impl Answers {
    fn share(&self) -> Self {
        let labels = self.labels.as_ref();
        Self {
            log: self.log.shallow_clone(),
            labels: labels.map(|(labels, right)| (labels.shallow_clone(), right.shallow_clone())),
        }
    }
}

/// Sums over inputs.
#[derive(Default)]
struct Sums {
    divergence: Divergence,
    hits: Option<Hits>,
}

impl Sums {
    /// Adds a batch from logarithms of class probabilities.
    fn add(&mut self, log: &Tensor, original: &Answers) -> Result<()> {
        self.divergence.add(&original.log, log)?;
        let Some((labels, right)) = &original.labels else {
            return Ok(());
        };
        let (now, five) = right_answers(log, labels)?;
        let both = now.f_logical_and(right).at(STEP)?;
        let (now, before, both) = (count(&now)?, count(right)?, count(&both)?);
        let hits = self.hits.get_or_insert_default();
        hits.first += now;
        hits.first_five += five;
        hits.lost += before - both;
        hits.gained += now - both;
        Ok(())
    }

    fn reading(&self, recalibrated: bool) -> Reading {
        Reading {
            images: self.divergence.images(),
            labels: self.hits,
            kl: self.divergence.mean().max(0.0),
            kl_se: self.divergence.standard_error(),
            recalibrated,
        }
    }
}

/// Where the highest score is the label's, and how often the label is among the five highest.
fn right_answers(log: &Tensor, labels: &Tensor) -> Result<(Tensor, usize)> {
    let (_, best) = log.f_topk(classes(log)?.min(5), 1, true, true).at(STEP)?;
    let hits = best
        .f_eq_tensor(&labels.f_unsqueeze(1).at(STEP)?)
        .at(STEP)?;
    let five = count(&hits)?;
    Ok((hits.f_select(1, 0).at(STEP)?, five))
}

fn count(hits: &Tensor) -> Result<usize> {
    let sum = hits.f_sum(Kind::Int64).at(STEP)?;
    Ok(sum.f_int64_value(&[]).at(STEP)? as usize)
}

fn logarithms(outputs: &[Tensor], kind: Scores) -> Result<Tensor> {
    let scores = outputs.first().filter(|scores| scores.dim() == 2);
    let got = outputs.first().map_or_else(Vec::new, Tensor::size);
    log_probabilities(scores.ok_or(TorchError::NoScores { got })?, kind)
}

fn answers(model: &Executor, part: &Part, see: &mut dyn FnMut(&Batch)) -> Result<Vec<Answers>> {
    let _guard = tch::no_grad_guard();
    let mut all = Vec::new();
    for batch in part.batches()? {
        let batch = batch?;
        see(&batch);
        let outputs = model.run(&ordered_inputs(model.input_names(), &batch)?)?;
        let log = logarithms(&outputs, model.scores())?;
        let labels = match batch.labels {
            None => None,
            Some(_) => {
                let labels = label_tensor(&batch, classes(&log)?)?;
                let labels = labels.f_to(log.device()).at(STEP)?;
                let (right, _) = right_answers(&log, &labels)?;
                Some((labels, right))
            }
        };
        all.push(Answers { log, labels });
    }
    match all.is_empty() {
        true => Err(TorchError::Empty { what: "measure on" }),
        false => Ok(all),
    }
}

fn run_options(device: Device) -> Options {
    Options {
        device,
        ..Options::default()
    }
}
