//! How long networks take on libtorch, as a whole and step by step.

use std::time::Instant;

use rankfold_compress::{Engine, Repeat, StepTime, Timing};
use rankfold_graph::Graph;
use tch::Tensor;

use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::executor::{Executor, Layout, Options, channels_last};
use crate::timing::{bench, random_inputs};

/// Libtorch as an engine: networks run with these options, on random inputs of `batch` items.
#[derive(Debug, Clone, Copy)]
pub struct Libtorch {
    /// How; the layout apart.
    pub options: Options,
    /// Items of an input.
    pub batch: usize,
}

impl Libtorch {
    fn executor(&self, graph: &Graph, layout: &str) -> Result<Executor> {
        let options = Options {
            layout: match layout {
                "nchw" => Layout::Nchw,
                _ => Layout::Nhwc,
            },
            ..self.options
        };
        Executor::new(graph, options)
    }

    /// Times models on inputs that `place` puts where they are to lie.
    fn timed(
        &self,
        models: &[(&Graph, &str)],
        repeat: Repeat,
        place: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Timing>> {
        let executors = models.iter();
        let executors = executors.map(|(graph, layout)| self.executor(graph, layout));
        let executors: Vec<Executor> = executors.collect::<Result<_>>()?;
        let Some(first) = executors.first() else {
            return Ok(Vec::new());
        };
        let inputs = random_inputs(first, self.batch, 0)?;
        let inputs = inputs.iter().map(place).collect::<Result<Vec<_>>>()?;
        let executors: Vec<&Executor> = executors.iter().collect();
        bench(&executors, &inputs, repeat)
    }
}

impl Engine for Libtorch {
    type Error = TorchError;

    fn layouts(&self) -> &'static [&'static str] {
        &["nhwc", "nchw"]
    }

    fn circumstances(&self) -> String {
        format!("{} {:?}", self.batch, self.options)
    }

    fn time(&self, models: &[(&Graph, &str)], repeat: Repeat) -> Result<Vec<Timing>> {
        self.timed(models, repeat, |input| Ok(input.shallow_clone()))
    }

    fn time_parts(&self, models: &[(&Graph, &str)], repeat: Repeat) -> Result<Vec<Timing>> {
        let usual = self.layouts()[0];
        let together = models.iter().all(|&(_, layout)| layout == usual);
        self.timed(models, repeat, |input| match together && input.dim() == 4 {
            true => channels_last(input).at("placing inputs"),
            false => Ok(input.shallow_clone()),
        })
    }

    fn steps(&self, graph: &Graph, runs: usize) -> Result<Vec<StepTime>> {
        if self.options.device != Device::Cpu {
            // Steps return before a GPU has done them.
            return Ok(Vec::new());
        }
        let executor = self.executor(graph, self.layouts()[0])?;
        executor.profile(&random_inputs(&executor, self.batch, 0)?, runs)
    }
}

/// Times taken while a network runs, step by step.
pub(crate) struct Laps {
    last: Instant,
    laps: Vec<Vec<f64>>,
}

impl Laps {
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            last: Instant::now(),
            laps: vec![Vec::new(); steps],
        }
    }

    pub(crate) fn start(&mut self) {
        self.last = Instant::now();
    }

    pub(crate) fn lap(&mut self, step: usize) {
        let now = Instant::now();
        self.laps[step].push((now - self.last).as_secs_f64());
        self.last = now;
    }

    /// The median of every step.
    pub(crate) fn medians(self) -> impl Iterator<Item = f64> {
        self.laps
            .into_iter()
            .map(|samples| Timing { samples }.median())
    }
}
