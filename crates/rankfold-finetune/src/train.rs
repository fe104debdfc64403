//! Training of one network for one stage.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

use rankfold_data::{Batch, Batches, Loader};
use rankfold_graph::{Graph, Role};
use rankfold_torch::{
    Layout, Parameter, Phase, TorchError, Trainable, label_tensor, ordered_inputs, target_tensor,
};
use tch::Tensor;

use crate::blocks::shared_blocks;
use crate::error::{At, FinetuneError, Result};
use crate::exam::Exam;
use crate::loss::{Answers, Loss, Told, Watched, penalty};
use crate::mix::Mixture;
use crate::optimizer::{Learner, Optimizer};
use crate::recipe::{Aim, Length, Recipe};
use crate::schedule::Schedule;
use crate::state::{Epoch, Position, State, Sums, copies, overwrite};

/// Steps from one copy of the state to the next. To it a diverging step goes back.
const COPY_EVERY: usize = 50;
/// Times that training goes back before it gives up.
const MOST_TAKEN_BACK: usize = 10;

/// What is learnt, from what, and how.
pub struct Task<'a> {
    /// The network that learns.
    pub student: &'a Graph,
    /// The network whose answers it learns.
    pub teacher: Option<&'a Graph>,
    /// The inputs that it learns from.
    pub lessons: &'a Loader,
    /// Inputs by which epochs are judged.
    pub exam: Option<&'a Loader>,
    /// How.
    pub recipe: &'a Recipe,
    /// What the rate of a weight is multiplied by, by its name; none for one that stays as it is.
    pub pace: &'a dyn Fn(&str) -> Option<f64>,
}

/// A network that has learnt.
#[derive(Debug)]
pub struct Trained {
    /// As it was after the last step.
    pub last: Graph,
    /// The best epoch, and the network after it; none without an exam.
    pub best: Option<(usize, Graph)>,
    /// Every epoch.
    pub epochs: Vec<Epoch>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// What is minimised.
    pub loss: f64,
    /// Of this, the part of the outputs alone.
    pub outputs: f64,
    /// The learning rate.
    pub rate: f64,
}

/// What training tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was done.
    Step(&'a Progress),
    /// An epoch is over.
    Epoch(&'a Epoch),
    /// A diverging step was taken back, and the rate is smaller from here on.
    TakenBack {
        /// The step.
        step: usize,
        /// Its loss.
        loss: f64,
        /// The rate that comes next.
        rate: f64,
    },
    /// A state from which training could go on; always at the start of an epoch.
    State {
        /// The state.
        state: &'a State,
        /// Whether an epoch starts here.
        epoch_start: bool,
    },
    /// The state to go on from after being asked to stop.
    Stopping(&'a State),
}

/// Trains a network, from a state or from the start. `hear` is told what happens and may end it.
pub fn train(
    task: &Task<'_>,
    from: Option<State>,
    hear: &mut dyn FnMut(Event<'_>) -> Result<ControlFlow<()>>,
) -> Result<Trained> {
    Training::new(task, from)?.run(hear)
}

struct Training<'a> {
    task: &'a Task<'a>,
    student: Watched,
    teacher: Option<Watched>,
    exam: Option<Exam<'a>>,
    optimizer: Optimizer,
    schedule: Schedule,
    position: Position,
    best: Option<Rc<Vec<Tensor>>>,
    kept: Option<State>,
    /// When this epoch began, or was gone on with.
    started: Instant,
}

impl<'a> Training<'a> {
    fn new(task: &'a Task<'a>, from: Option<State>) -> Result<Self> {
        let recipe = task.recipe;
        let compares_blocks = recipe.teaching.block_weight > 0.0;
        let blocks = match task.teacher {
            Some(teacher) if compares_blocks => shared_blocks(teacher, task.student),
            _ => Vec::new(),
        };
        let watched = |graph: &Graph| {
            let model = Trainable::new(graph, recipe.device, Layout::default())?;
            Watched::new(model.computing_in(recipe.dtype), &blocks, recipe.aim)
        };
        let student = watched(task.student)?;
        let teacher = task.teacher.map(watched).transpose()?;
        let learners = learners(&student.model, task)?;
        let optimizer = Optimizer::new(recipe.method, learners)?;
        let epoch = task.lessons.steps();
        let steps = match recipe.length {
            Length::Epochs(epochs) => epochs * epoch,
            Length::Steps(steps) => steps,
        };
        let exam = task
            .exam
            .map(|loader| Exam::new(loader, teacher.as_ref(), recipe.aim));
        let mut training = Self {
            task,
            exam: exam.transpose()?,
            student,
            teacher,
            optimizer,
            schedule: Schedule {
                peak: recipe.rate,
                warm_up: recipe.warm_up,
                fall: recipe.fall,
                steps,
                epoch,
            },
            position: Position {
                scale: 1.0,
                ..Position::default()
            },
            best: None,
            kept: None,
            started: Instant::now(),
        };
        if let Some(state) = from {
            state.check(training.parameters())?;
            training.restore(&state)?;
            training.position = state.position.clone();
            training.best = state.best.clone();
            training.kept = Some(state);
        }
        Ok(training)
    }

    fn parameters(&self) -> &[Parameter] {
        self.student.model.parameters()
    }

    /// Takes weights and running means from a state.
    fn restore(&mut self, state: &State) -> Result<()> {
        let weights = self.parameters().iter().map(|p| &p.tensor);
        overwrite(weights, &state.weights)?;
        let steps = state.position.optimizer_steps;
        self.optimizer.restore(&state.means, steps)
    }

    /// Steps done.
    fn step(&self) -> usize {
        self.position.epoch * self.schedule.epoch + self.position.step
    }

    fn run(
        mut self,
        hear: &mut dyn FnMut(Event<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<Trained> {
        if self.position.epochs.is_empty() && self.end_epoch(0.0, hear)?.is_break() {
            return self.stop(hear);
        }
        self.started = Instant::now();
        let mut batches = self.batches()?;
        while self.step() < self.schedule.steps {
            let batch = match batches.next() {
                Some(batch) => batch?,
                None => return Err(TorchError::Empty { what: "learn from" }.into()),
            };
            let told = self.learn(&batch, hear)?;
            if told.is_break() {
                return self.stop(hear);
            }
            self.position.step += 1;
            if self.position.step == self.schedule.epoch || self.step() == self.schedule.steps {
                self.position.sums.seconds = self.seconds();
                if self.position.step == self.schedule.epoch {
                    self.position.epoch += 1;
                    self.position.step = 0;
                }
                let rate = self.rate(self.step() - 1);
                if self.end_epoch(rate, hear)?.is_break() {
                    return self.stop(hear);
                }
                self.started = Instant::now();
                if self.step() < self.schedule.steps {
                    batches = self.batches()?;
                }
            }
        }
        self.finish()
    }

    fn stop(&self, hear: &mut dyn FnMut(Event<'_>) -> Result<ControlFlow<()>>) -> Result<Trained> {
        if let Some(kept) = &self.kept {
            let _ = hear(Event::Stopping(kept))?;
        }
        Err(FinetuneError::Stopped)
    }

    fn batches(&self) -> Result<Batches> {
        let (epoch, step) = (self.position.epoch as u64, self.position.step);
        Ok(self.task.lessons.epoch(epoch, step)?)
    }

    fn rate(&self, step: usize) -> f64 {
        // The first mark was given before anything was learnt.
        let marks = self.position.epochs.iter().skip(1);
        let losses = marks.filter_map(|epoch| epoch.mark?.reading());
        self.position.scale * self.schedule.rate(step) * self.schedule.fall.on(losses)
    }

    /// One step. A loss that has run away takes the network back instead.
    fn learn(
        &mut self,
        batch: &Batch,
        hear: &mut dyn FnMut(Event<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let recipe = self.task.recipe;
        let (step, epoch_start) = (self.step(), self.position.step == 0);
        let due = epoch_start || self.position.step.is_multiple_of(COPY_EVERY);
        let copy = match due {
            true => Some(self.copy()?),
            false => None,
        };
        tch::manual_seed(
            (recipe.seed as i64)
                .wrapping_mul(0x9e37_79b9)
                .wrapping_add(step as i64),
        );
        let inputs = self.inputs(batch)?;
        let draw = (recipe.seed, step as u64);
        let mixture = match self.task.lessons.dataset().is_images() {
            true => Mixture::draw(recipe.mixed, batch.len(), draw, recipe.device.into())?,
            false => Mixture::none(),
        };
        let inputs = inputs.iter().map(|input| mixture.apply(input));
        let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
        let phase = match recipe.frozen_statistics {
            true => Phase::TrainFrozenStatistics,
            false => Phase::Train,
        };
        let wanted = self
            .teacher
            .as_ref()
            .map(|teacher| teacher.answer(&inputs, Phase::Evaluate));
        let given = self.student.answer(&inputs, phase)?;
        let labels = self.labels(batch, &given)?;
        let told = match (recipe.label_weight > 0.0, recipe.aim) {
            (false, _) => None,
            (true, Aim::Classes) => {
                let labels = labels.as_ref().ok_or_else(|| no_scores(&given))?;
                Some(Told::Labels(labels, &mixture))
            }
            (true, _) => Some(Told::Target(target_tensor(batch, &inputs)?)),
        };
        let loss = Loss::of(&given, wanted.transpose()?.as_ref(), told, recipe)?;
        let loss = self.penalized(loss)?;
        let number = |tensor: &Tensor| tensor.f_double_value(&[]).at("reading the loss");
        let (total, outputs) = (number(&loss.total)?, number(&loss.outputs)?);
        if !self.position.level.holds(total) {
            return self.take_back(step, total, hear);
        }
        if let Some(state) = copy {
            // Only now is it known that the state is a sound one.
            let told = hear(Event::State {
                state: &state,
                epoch_start,
            })?;
            self.kept = Some(state);
            if told.is_break() {
                return Ok(told);
            }
        }
        self.optimizer.zero_gradients();
        loss.total.f_backward().at("taking gradients")?;
        self.optimizer.mask_gradients()?;
        if let Some(most) = recipe.clip {
            let norm = self.optimizer.clip(most)?;
            if !norm.is_finite() {
                return self.take_back(step, norm, hear);
            }
        }
        let rate = self.rate(step);
        self.optimizer.step(rate)?;
        let sums = &mut self.position.sums;
        sums.loss += total;
        sums.outputs += outputs;
        sums.steps += 1;
        sums.inputs += batch.len();
        if let (Some(labels), Some(scores)) = (&labels, given.class_scores()) {
            sums.correct += correct(scores, labels)?;
        }
        hear(Event::Step(&Progress {
            step: step + 1,
            steps: self.schedule.steps,
            epoch: self.position.epoch,
            loss: total,
            outputs,
            rate,
        }))
    }

    /// The loss with what the kernels that learn cost by themselves.
    fn penalized(&self, loss: Loss) -> Result<Loss> {
        let cost = self.task.recipe.penalty;
        if cost.is_none() {
            return Ok(loss);
        }
        let learning = self
            .parameters()
            .iter()
            .filter(|p| p.tensor.requires_grad());
        let kernels = learning
            .filter(|p| p.role == Role::Kernel)
            .map(|p| &p.tensor);
        let total = loss.total.f_add(&penalty(kernels, cost)?);
        Ok(Loss {
            total: total.at("computing the loss")?,
            ..loss
        })
    }

    /// How long this epoch has taken.
    fn seconds(&self) -> f64 {
        self.position.sums.seconds + self.started.elapsed().as_secs_f64()
    }

    fn copy(&self) -> Result<State> {
        let mut position = self.position.clone();
        position.optimizer_steps = self.optimizer.steps();
        position.sums.seconds = self.seconds();
        State::of(
            &position,
            self.parameters(),
            &self.optimizer,
            self.best.as_ref(),
        )
    }

    fn inputs(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let device = self.task.recipe.device;
        let inputs = ordered_inputs(self.student.model.input_names(), batch)?;
        let inputs = inputs.into_iter();
        inputs
            .map(|input| input.f_to(device.into()).at("copying a batch"))
            .collect()
    }

    /// The labels of a batch on the device, where there are any and the network tells classes apart.
    fn labels(&self, batch: &Batch, given: &Answers) -> Result<Option<Tensor>> {
        let recipe = self.task.recipe;
        let needed = recipe.label_weight > 0.0 && recipe.aim == Aim::Classes;
        let (Some(scores), true) = (given.class_scores(), needed || batch.labels.is_some()) else {
            return Ok(None);
        };
        let labels = label_tensor(batch, scores.size()[1])?;
        let labels = labels.f_to(scores.device()).at("copying labels")?;
        Ok(Some(labels))
    }

    /// Goes back to the last sound state, goes on with the next batch at half the rate.
    fn take_back(
        &mut self,
        step: usize,
        loss: f64,
        hear: &mut dyn FnMut(Event<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let diverged = FinetuneError::Diverged {
            step,
            rate: self.rate(step),
        };
        let Some(kept) = self.kept.take() else {
            return Err(diverged);
        };
        if self.position.taken_back == MOST_TAKEN_BACK {
            return Err(diverged);
        }
        self.restore(&kept)?;
        self.position.level = kept.position.level;
        self.kept = Some(kept);
        self.position.scale /= 2.0;
        self.position.taken_back += 1;
        let rate = self.rate(step + 1);
        hear(Event::TakenBack { step, loss, rate })
    }

    /// Judges the network and writes the epoch down.
    fn end_epoch(
        &mut self,
        rate: f64,
        hear: &mut dyn FnMut(Event<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let sums = std::mem::take(&mut self.position.sums);
        let exam = self.exam.as_ref();
        let mark = exam
            .map(|exam| exam.mark(&self.student.model))
            .transpose()?;
        let number = self.position.epochs.len();
        let best = self.position.best;
        if let Some(mark) = mark.filter(|mark| best.is_none_or(|(_, best)| mark.beats(&best))) {
            self.position.best = Some((number, mark));
            let weights = copies(self.parameters().iter().map(|p| &p.tensor))?;
            self.best = Some(Rc::new(weights));
        }
        let epoch = self.epoch(number, &sums, rate, mark);
        let told = hear(Event::Epoch(&epoch))?;
        self.position.epochs.push(epoch);
        Ok(told)
    }

    fn epoch(&self, epoch: usize, sums: &Sums, rate: f64, mark: Option<crate::Mark>) -> Epoch {
        let steps = sums.steps.max(1) as f64;
        let classes = self.task.recipe.aim == Aim::Classes;
        let labelled = classes && self.task.lessons.dataset().labelled() && sums.inputs > 0;
        Epoch {
            epoch,
            steps: self.step(),
            loss: sums.loss / steps,
            outputs: sums.outputs / steps,
            learning_accuracy: labelled.then(|| 100.0 * sums.correct as f64 / sums.inputs as f64),
            rate,
            taken_back: self.position.taken_back,
            mark,
            seconds: sums.seconds,
            inputs_per_second: match sums.seconds > 0.0 {
                true => sums.inputs as f64 / sums.seconds,
                false => 0.0,
            },
        }
    }

    fn finish(self) -> Result<Trained> {
        let written = || {
            let mut graph = self.task.student.clone();
            self.student.model.export(&mut graph)?;
            Ok::<_, FinetuneError>(graph)
        };
        let last = written()?;
        let best = match (&self.best, self.position.best) {
            (Some(weights), Some((epoch, _))) => {
                overwrite(self.parameters().iter().map(|p| &p.tensor), weights)?;
                Some((epoch, written()?))
            }
            _ => None,
        };
        Ok(Trained {
            last,
            best,
            epochs: self.position.epochs,
        })
    }
}

/// The weights that learn, all others being told that they do not.
fn learners(model: &Trainable, task: &Task<'_>) -> Result<Vec<Learner>> {
    model.choose(|parameter| (task.pace)(&parameter.name).is_some())?;
    let learner = |parameter: &Parameter| {
        let learns = parameter.tensor.requires_grad();
        let kernel = parameter.role == Role::Kernel;
        let mask = match learns && kernel && task.recipe.keep_zeros {
            true => mask(&parameter.tensor)?,
            false => None,
        };
        Ok(Learner {
            mask,
            weight: parameter.tensor.shallow_clone(),
            rate: (task.pace)(&parameter.name).unwrap_or(0.0),
            decay: if learns && kernel {
                task.recipe.decay
            } else {
                0.0
            },
        })
    };
    model.parameters().iter().map(learner).collect()
}

/// Zero where a weight is zero and one elsewhere; none where no weight is zero.
fn mask(weight: &Tensor) -> Result<Option<Tensor>> {
    let _guard = tch::no_grad_guard();
    let mask = || {
        let differs = weight.f_ne(0.0)?;
        let all = differs.f_all()?.f_int64_value(&[])? != 0;
        Ok::<_, tch::TchError>(match all {
            true => None,
            false => Some(differs.f_to_kind(weight.kind())?),
        })
    };
    mask().at("looking for zeros")
}

fn no_scores(given: &Answers) -> TorchError {
    TorchError::NoScores {
        got: given.outputs.first().map_or_else(Vec::new, Tensor::size),
    }
}

fn correct(scores: &Tensor, labels: &Tensor) -> Result<usize> {
    let count = || {
        let right = scores.f_argmax(1, false)?.f_eq_tensor(labels)?;
        right.f_sum(tch::Kind::Int64)?.f_int64_value(&[])
    };
    Ok(count().at("counting right answers")? as usize)
}
