//! How long layers take in every form, each with what is merged into it: what budgets of time are made of.

use std::ops::ControlFlow;
use std::time::Instant;

use rankfold_compress::{Form, Layer, LayerTimes, Rank, SweptForm, Timetable, outlined};
use rankfold_graph::ops::{Arithmetic, Binary};
use rankfold_graph::{Graph, Op};
use tch::Tensor;

use crate::device::Device;
use crate::error::{Result, TorchError};
use crate::executor::{Executor, Options};
use crate::timing::{Repeat, bench, random_inputs};

/// Times that were measured before, by what was timed.
pub trait Memo {
    /// Nanoseconds of this piece.
    fn get(&self, piece: &str) -> Option<u64>;

    /// Keeps the nanoseconds of a piece.
    fn put(&mut self, piece: String, nanoseconds: u64);
}

/// How a piece is timed.
const PIECE: Repeat = Repeat {
    warmup: 2,
    samples: 7,
    seconds: 0.002,
};

/// How a whole network is timed.
const WHOLE: Repeat = Repeat {
    warmup: 3,
    samples: 15,
    seconds: 0.005,
};

/// How much longer or shorter a layer may seem to take among the others than alone.
const CONTEXT: [f64; 2] = [0.7, 2.0];

/// Times a network and its layers in every form and rank of the grid, on inputs of `batch` items.
///
/// A layer is timed alone, again and again. What is different among other layers, whose numbers have
/// filled the caches, is measured of the layer as it is, and is taken to be the same of its forms.
pub fn timetable(
    graph: &Graph,
    grid: &[(Layer, Vec<SweptForm>)],
    options: Options,
    batch: usize,
    memo: &mut dyn Memo,
    progress: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Timetable> {
    let whole = Executor::new(graph, options)?;
    let inputs = random_inputs(&whole, batch, 0)?;
    let total = median(&whole, &inputs, WHOLE)?;
    let steps = match options.device {
        Device::Cpu => whole.profile(&inputs, PIECE.samples)?,
        // Steps return before a GPU has done them.
        Device::Cuda(_) => Vec::new(),
    };
    let mut layers = Vec::with_capacity(grid.len());
    for (layer, forms) in grid {
        let piece = graph.around(&layer.name, is_merged)?;
        let mut piece = Piece {
            layer,
            after: piece.nodes().iter().skip(1).map(|n| n.op.kind()).collect(),
            graph: piece,
            options,
            batch,
            memo: &mut *memo,
        };
        let alone = piece.time(Form::Keep, None)?;
        let step = steps
            .iter()
            .find(|step| step.nodes.first() == Some(&layer.name));
        let among = step
            .filter(|step| !step.chain)
            .map(|step| step.seconds * 1e9);
        let context = among.map_or(1.0, |among| among / alone.max(1) as f64);
        let context = context.clamp(CONTEXT[0], CONTEXT[1]);
        let corrected = |time: u64| (time as f64 * context) as u64;
        let mut times = Vec::with_capacity(forms.len());
        for form in forms {
            let mut ranks = Vec::with_capacity(form.ranks.len());
            for &rank in &form.ranks {
                ranks.push((rank, corrected(piece.time(form.form, Some(rank))?)));
            }
            times.push((form.form, ranks));
        }
        layers.push(LayerTimes {
            name: layer.name.clone(),
            kept: corrected(alone),
            forms: times,
        });
        if progress(&layer.name).is_break() {
            return Err(TorchError::Stopped);
        }
    }
    Ok(Timetable { total, layers })
}

/// What the executor merges into the layer before it.
fn is_merged(op: &Op) -> bool {
    let add = Op::Binary(Binary {
        arithmetic: Arithmetic::Add,
    });
    matches!(op, Op::BatchNorm(_) | Op::Activation(_)) || *op == add
}

/// A layer with what is merged into it.
struct Piece<'a> {
    layer: &'a Layer,
    graph: Graph,
    after: Vec<&'static str>,
    options: Options,
    batch: usize,
    memo: &'a mut dyn Memo,
}

impl Piece<'_> {
    fn time(&mut self, form: Form, rank: Option<Rank>) -> Result<u64> {
        let layer = self.layer;
        let name = format!(
            "{:?} {:?} {:?} {:?} {:?} {form} {rank:?} {} {:?}",
            layer.kind,
            layer.shape,
            layer.geometry,
            layer.input,
            self.after,
            self.batch,
            self.options,
        );
        if let Some(known) = self.memo.get(&name) {
            return Ok(known);
        }
        let graph = match rank {
            Some(rank) => outlined(&self.graph, layer, form, rank)?,
            None => self.graph.clone(),
        };
        let executor = Executor::new(&graph, self.options)?;
        let inputs = random_inputs(&executor, self.batch, 0)?;
        let time = median(&executor, &inputs, PIECE)?;
        self.memo.put(name, time);
        Ok(time)
    }
}

fn median(executor: &Executor, inputs: &[Tensor], repeat: Repeat) -> Result<u64> {
    let timings = bench(&[executor], inputs, repeat)?;
    Ok((timings[0].median() * 1e9) as u64)
}

/// How long one step of a network takes.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// The nodes that are done in it, in order.
    pub nodes: Vec<String>,
    /// The op of the first.
    pub op: &'static str,
    /// Whether three convolutions are one step.
    pub chain: bool,
    /// Whether it only looks at its input in another way.
    pub view: bool,
    /// The median of its times.
    pub seconds: f64,
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
            .map(|samples| crate::timing::Timing { samples }.median())
    }
}
