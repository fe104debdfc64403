//! Train, look at activations, remove channels, until nothing goes.

use std::collections::BTreeMap;

use rankfold_compress::{Activity, Channels, Criterion, LayerChannels};
use rankfold_data::Loader;
use rankfold_finetune::{Recipe, Stage, distorted};
use rankfold_graph::{CostModel, Graph};
use rankfold_torch::{Device, activity};
use serde_json::Value;

use super::account::Cycle;
use super::journal::{Journal, Stand};
use super::options::CycleArgs;
use crate::failure::{Failure, Outcome};
use crate::folder::OutFolder;
use crate::interrupt;
use crate::output::note;
use crate::progress;
use crate::training::{Choice, Material, Training, TrainingArgs, account, weights_hash};

/// Cycles that are ready to run.
pub(crate) struct Cycles<'a> {
    pub(crate) args: &'a CycleArgs,
    pub(crate) criterion: Criterion,
    /// None where nothing is learnt, and channels are removed once.
    pub(crate) school: Option<&'a School<'a>>,
    /// What activations are judged by.
    pub(crate) samples: Loader,
    pub(crate) device: Device,
    pub(crate) seed: u64,
}

/// How, from what and from whom a network learns.
pub(crate) struct School<'a> {
    pub(crate) args: &'a TrainingArgs,
    pub(crate) recipe: &'a Recipe,
    pub(crate) material: Material,
    pub(crate) teacher: Option<&'a Graph>,
    pub(crate) out: &'a OutFolder,
}

/// What cycles come to.
pub(crate) struct Pruned {
    pub(crate) graph: Graph,
    /// The network of the last epoch, where another is used.
    pub(crate) last: Option<Graph>,
    /// What the report says of its training.
    pub(crate) training: Option<Value>,
    pub(crate) cycles: Vec<Cycle>,
    /// What the last look at activations would do, with what stands in the way.
    pub(crate) layers: Vec<LayerChannels>,
}

/// A network with what is known of it after its training.
#[derive(Clone)]
pub(crate) struct Pupil {
    pub(crate) graph: Graph,
    /// The network of the last epoch, where another is used.
    pub(crate) last: Option<Graph>,
    /// What the report says of its training.
    pub(crate) training: Option<Value>,
    /// Divergence from the teacher, or the loss, on inputs that are not learnt from.
    pub(crate) error: Option<f64>,
}

/// A network with channels removed.
struct Cut {
    graph: Graph,
    layers: Vec<LayerChannels>,
}

impl Cut {
    /// Channels removed and left.
    fn counts(&self) -> [usize; 2] {
        let left: usize = self.layers.iter().map(|layer| layer.kept.len()).sum();
        let before: usize = self.layers.iter().map(|layer| layer.before).sum();
        [before - left, left]
    }
}

impl Pupil {
    pub(super) fn untaught(graph: Graph) -> Self {
        Self {
            graph,
            last: None,
            training: None,
            error: None,
        }
    }

    /// Whether this one is smaller, or as small and better.
    fn beats(&self, other: &Self) -> bool {
        let size = |pupil: &Self| {
            pupil
                .graph
                .cost(CostModel::True)
                .map(|cost| cost.parameters)
        };
        let better = self
            .error
            .zip(other.error)
            .is_none_or(|(own, other)| own < other);
        size(self) < size(other) || size(self) == size(other) && better
    }
}

impl Cycles<'_> {
    /// An error where no channel of a network can go.
    pub(crate) fn check(graph: &Graph) -> Outcome {
        if !Channels::of(graph).sites().is_empty() {
            return Ok(());
        }
        let failure = Failure::usage("no channel of this model can be removed");
        let channels = Channels::of(graph);
        let outcome = channels.outcome(&Default::default());
        Err(
            match outcome.iter().find_map(|l| Some((l, l.obstacle.as_ref()?))) {
                Some((layer, why)) => failure.hint(format!(
                    "channels go where an activation follows a layer; those of `{}` stay: {why}",
                    layer.name
                )),
                None => failure.hint("it has no convolution and no linear layer"),
            },
        )
    }

    /// Goes through all cycles, on from where an earlier run stopped.
    pub(crate) fn run(&self, start: &Graph) -> Outcome<Pruned> {
        let journal = self.school.map(|school| self.journal(school, start));
        let known = journal.as_ref().map(Journal::read).transpose()?.flatten();
        let mut stand = match known {
            Some(stand) => {
                note(format!("going on after cycle {}", stand.cycles.len()));
                stand
            }
            None => self.begin(start)?,
        };
        let mut layers = None;
        while stand.cycles.len() < self.args.cycles.get() && stand.vain <= self.args.patience {
            let number = stand.cycles.len() + 1;
            let cut = self.cut(&stand.now.graph)?;
            let [removed, left] = cut.counts();
            layers = Some(cut.layers);
            if removed == 0 && self.args.distort.is_none() {
                note(format!("cycle {number}: nothing goes"));
                break;
            }
            let next = self.after(cut.graph, number)?;
            let within = |error: f64| stand.allowed.is_none_or(|allowed| error <= allowed);
            let cycle = Cycle {
                number,
                removed,
                left,
                error: next.error,
                taken: next.error.is_none_or(within),
            };
            note(&cycle);
            if cycle.taken {
                stand.now = next;
            }
            if stand.now.beats(&stand.best) {
                stand.best = stand.now.clone();
            }
            stand.vain = if cycle.is_vain() { stand.vain + 1 } else { 0 };
            stand.cycles.push(cycle);
            match &journal {
                Some(journal) => journal.write(&stand)?,
                None => break,
            }
        }
        let layers = match layers {
            Some(layers) => layers,
            None => self.cut(&stand.now.graph)?.layers,
        };
        Ok(Pruned {
            graph: stand.best.graph,
            last: stand.best.last,
            training: stand.best.training,
            cycles: stand.cycles,
            layers,
        })
    }

    fn begin(&self, start: &Graph) -> Outcome<Stand> {
        let now = self.first(start)?;
        let allowed = now.error.zip(self.args.tolerance);
        Ok(Stand {
            best: now.clone(),
            now,
            allowed: allowed.map(|(error, more)| error + more),
            cycles: Vec::new(),
            vain: 0,
        })
    }

    fn journal<'s>(&self, school: &'s School<'_>, start: &Graph) -> Journal<'s> {
        let everywhere = Recipe {
            device: Device::Cpu,
            ..school.recipe.clone()
        };
        let CycleArgs {
            distort, tolerance, ..
        } = self.args;
        let samples = self.samples.dataset().len();
        Journal::new(
            school.out,
            BTreeMap::from([
                ("model", weights_hash(start)),
                ("data", school.material.identity()),
                ("recipe", format!("{everywhere:?}")),
                (
                    "criterion",
                    format!("{:?} of {samples} inputs", self.criterion),
                ),
                (
                    "cycles",
                    format!("distortion {distort:?}, tolerance {tolerance:?}"),
                ),
                ("teacher", format!("{}", school.teacher.is_some())),
            ]),
        )
    }

    /// The network that is looked at first. A model that is its own teacher has nothing to learn yet.
    fn first(&self, start: &Graph) -> Outcome<Pupil> {
        match self.school {
            None => Ok(Pupil::untaught(start.clone())),
            Some(school) if school.teacher.is_some() && school.recipe.penalty.is_none() => {
                Ok(Pupil {
                    error: Some(0.0),
                    ..Pupil::untaught(start.clone())
                })
            }
            Some(school) => school.taught(start, "before"),
        }
    }

    /// The network without the channels that go.
    fn cut(&self, graph: &Graph) -> Outcome<Cut> {
        let channels = Channels::of(graph);
        let seen = self.look(graph, &channels)?;
        let selection = channels.select(self.criterion, &seen);
        Ok(Cut {
            graph: channels.without(&selection)?,
            layers: channels.outcome(&selection),
        })
    }

    fn look(&self, graph: &Graph, channels: &Channels<'_>) -> Outcome<Activity> {
        let inputs = self.samples.dataset().len();
        let bar = progress::bar("looking", inputs as u64);
        let batches = self.samples.epoch(0, 0)?;
        let seen = activity(graph, &channels.sites(), self.device, batches, |done| {
            bar.set_position(done as u64);
            interrupt::flow()
        });
        bar.finish_and_clear();
        Ok(seen?)
    }

    /// A network after its distortion and training.
    fn after(&self, graph: Graph, number: usize) -> Outcome<Pupil> {
        let Some(school) = self.school else {
            return Ok(Pupil::untaught(graph));
        };
        let graph = match self.args.distort {
            None => graph,
            Some(share) => {
                let seed = self.seed.wrapping_add(number as u64);
                distorted(&graph, share, seed, school.recipe.keep_zeros)?
            }
        };
        school.taught(&graph, &format!("cycle {number}"))
    }
}

impl School<'_> {
    /// A network after a training of that name, on from where an earlier run stopped.
    pub(crate) fn taught(&self, graph: &Graph, name: &str) -> Outcome<Pupil> {
        let mut identity = vec![("model", weights_hash(graph))];
        if let Some(teacher) = self.teacher {
            identity.push(("teacher", weights_hash(teacher)));
        }
        let stage = Stage {
            name: name.to_owned(),
            layers: Vec::new(),
        };
        let training = Training {
            args: self.args,
            network: "model",
            doing: "training",
            stages: &[stage],
            decomposed: &[],
            teacher: self.teacher,
            material: &self.material,
            recipe: self.recipe,
            folder: self.out.course(&name.replace(' ', "-")),
            metrics: self.out.file("metrics.jsonl"),
            identity,
        };
        let graduate = training.go_through(graph, |graph, _| Ok(graph.clone()))?;
        let choice = Choice::of(self.args, self.teacher.is_some());
        let (graph, epoch) = choice.take(&graduate);
        let epochs = graduate.stages.last().map(|stage| &stage.epochs[..]);
        let epochs = epochs.unwrap_or_default();
        let chosen = epoch.map_or(epochs.last(), |epoch| epochs.get(epoch));
        let mark = chosen.and_then(|epoch| epoch.mark);
        Ok(Pupil {
            graph,
            last: epoch.map(|_| graduate.last.clone()),
            training: Some(account(&graduate, self.recipe, &self.material, epoch)),
            error: mark.and_then(|mark| mark.reading()),
        })
    }
}
