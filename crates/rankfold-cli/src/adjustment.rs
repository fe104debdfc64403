//! What is done to a factored network as a whole: refitting, learning from the original, new statistics.

use clap::{Args, ValueEnum};
use rankfold_compress::{Layer, Probe, reconstruct};
use rankfold_decompose::Control;
use rankfold_finetune::{Event, FinetuneError, Recipe, Task, train};
use rankfold_graph::Graph;
use rankfold_torch::{Device, TorchProbe};
use serde_json::{Map, Value, json};

use crate::failure::Outcome;
use crate::interrupt;
use crate::output::note;
use crate::progress;
use crate::tuning::Setting;

/// How far accuracy is sought without training on data of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdjustmentArgs {
    /// How much work accuracy is worth: best adds what --reconstruct and --distill do
    #[arg(long, value_enum, default_value = "normal")]
    effort: Effort,

    /// Fit the factors anew, layer by layer, to inputs from the already compressed network
    #[arg(long)]
    reconstruct: bool,

    /// Teach the compressed network to answer as the original, without labels: the steps, of 64 inputs
    /// each, and 0 for none; 600 with --effort best
    #[arg(long, value_name = "STEPS")]
    distill: Option<usize>,

    /// Re-estimate batch-norm statistics: where it is measured to help, always, or never
    #[arg(long, value_enum, default_value = "auto")]
    recalibrate: Recalibrate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Effort {
    /// Closed forms
    Normal,
    /// Also what takes longer
    Best,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Recalibrate {
    /// Where held-back inputs say that it helps
    Auto,
    /// Whether it helps or not
    Always,
    /// Not at all
    Never,
}

/// Steps of distillation with the best effort, and inputs of each.
const LESSONS: usize = 600;
const LESSON_INPUTS: usize = 64;

impl AdjustmentArgs {
    /// What was asked for beyond what is done anyway, as it is written.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--effort best", self.effort == Effort::Best),
            ("--reconstruct", self.reconstruct),
            ("--distill", self.distill.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(what, given)| given.then_some(what))
    }

    /// What was asked for that runs the model on inputs, as it is written.
    pub(crate) fn needs_inputs(&self) -> Option<&'static str> {
        let given = [
            ("--effort best", self.effort == Effort::Best),
            ("--reconstruct", self.reconstruct),
            ("--distill", self.distill.is_some_and(|steps| steps > 0)),
            (
                "--recalibrate always",
                self.recalibrate == Recalibrate::Always,
            ),
        ];
        given
            .into_iter()
            .find_map(|(what, given)| given.then_some(what))
    }

    /// Steps of distillation.
    fn lessons(&self) -> usize {
        let usual = match self.effort {
            Effort::Normal => 0,
            Effort::Best => LESSONS,
        };
        self.distill.unwrap_or(usual)
    }

    /// What is done to the factored network as a whole. Each step stays only where inputs held back say
    /// that it brings the outputs closer to the original's, or where it was asked for.
    pub(crate) fn adjust(
        &self,
        setting: &Setting<'_>,
        factored: Graph,
        device: Device,
        probe: Option<&mut TorchProbe>,
    ) -> Outcome<(Graph, Value)> {
        let Some(probe) = probe else {
            note("no data given: factors minimise weight errors, and accuracy is not measured");
            return Ok((factored, json!({ "data": false })));
        };
        let mut adjusted = Adjusted::new(factored, probe)?;
        if self.reconstruct || self.effort == Effort::Best {
            let graph = reconstructed(setting, &adjusted.graph, probe)?;
            adjusted.offer("reconstructed", graph, self.reconstruct, probe)?;
        }
        if self.lessons() > 0 {
            let graph = self.distilled(setting, &adjusted, device, probe)?;
            adjusted.offer("distilled", graph, false, probe)?;
        }
        if self.recalibrate != Recalibrate::Never {
            let graph = probe.recalibrated(&adjusted.graph)?;
            let always = self.recalibrate == Recalibrate::Always;
            adjusted.offer("recalibrated", graph, always, probe)?;
        }
        Ok((adjusted.graph, Value::Object(adjusted.record)))
    }

    /// The network after learning from the original. What learning spoils is not taken.
    fn distilled(
        &self,
        setting: &Setting<'_>,
        adjusted: &Adjusted,
        device: Device,
        probe: &TorchProbe,
    ) -> Outcome<Graph> {
        let lessons = self.lessons();
        let recipe = Recipe {
            seed: setting.seed,
            device,
            ..Recipe::lessons(lessons, adjusted.divergence)
        };
        let loader = probe.lessons(LESSON_INPUTS)?;
        let task = Task {
            student: &adjusted.graph,
            teacher: Some(setting.original),
            lessons: &loader,
            exam: None,
            recipe: &recipe,
            pace: &|_| Some(1.0),
        };
        let bar = progress::bar("distilling", lessons as u64);
        let learnt = train(&task, None, &mut |event| {
            if let Event::Step(now) = event {
                bar.set_position(now.step as u64);
                bar.set_message(format!("loss {:.3}", now.loss));
            }
            Ok(interrupt::flow())
        });
        bar.finish_and_clear();
        interrupt::check()?;
        match learnt {
            Err(error @ FinetuneError::Diverged { .. }) => {
                note(format!("distillation is left out: {error}"));
                Ok(adjusted.graph.clone())
            }
            learnt => Ok(learnt?.last),
        }
    }
}

/// The network as it stands, its divergence from the original, and what has been tried.
struct Adjusted {
    graph: Graph,
    divergence: f64,
    record: Map<String, Value>,
}

impl Adjusted {
    fn new(graph: Graph, probe: &mut TorchProbe) -> Outcome<Self> {
        let divergence = probe.divergence(&graph)?;
        let mut record = Map::new();
        record.insert("divergence".to_owned(), json!(divergence));
        Ok(Self {
            graph,
            divergence,
            record,
        })
    }

    /// Takes a changed network where it diverges less, or in any case.
    fn offer(&mut self, step: &str, graph: Graph, always: bool, probe: &mut TorchProbe) -> Outcome {
        interrupt::check()?;
        let divergence = probe.divergence(&graph)?;
        let taken = always || divergence < self.divergence;
        let entry = json!({ "divergence": divergence, "taken": taken });
        self.record.insert(step.to_owned(), entry);
        if taken {
            self.graph = graph;
            self.divergence = divergence;
        }
        Ok(())
    }
}

fn reconstructed(
    setting: &Setting<'_>,
    factored: &Graph,
    probe: &mut TorchProbe,
) -> Outcome<Graph> {
    let &Setting {
        original,
        plan,
        statistics,
        ..
    } = setting;
    let bar = progress::bar("refitting", Layer::all(original).len() as u64);
    let finished = |name: &str| {
        bar.inc(1);
        bar.set_message(name.to_owned());
    };
    let control = Control::default().cancel_with(interrupt::flag());
    let done = reconstruct(
        original, factored, plan, statistics, probe, control, &finished,
    );
    bar.finish_and_clear();
    interrupt::check()?;
    Ok(done?)
}
