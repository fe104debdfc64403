//! How long layers take in every form, each with what is merged into it: what budgets of time are made of.

use std::ops::ControlFlow;

use rankfold_graph::ops::{Arithmetic, Binary};
use rankfold_graph::{Graph, GraphError, Node, Op};

use super::clock::{Engine, Repeat, StepTime};
use super::{LayerTimes, Timetable, TimingGrid, outlined};
use crate::error::CompressError;
use crate::form::{Form, Rank};
use crate::layer::Layer;

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

/// Times a network and its layers in every form and rank of the grid; none where `progress`, which is told
/// every layer that is done, ends it.
///
/// A layer is timed alone, again and again. What is different among other layers, whose numbers have
/// filled the caches, is measured of the layer as it is, and is taken to be the same of its forms.
pub fn timetable<E>(
    graph: &Graph,
    grid: &TimingGrid,
    engine: &dyn Engine<Error = E>,
    memo: &mut dyn Memo,
    progress: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Option<Timetable>, E>
where
    E: From<CompressError> + From<GraphError>,
{
    let total = median(engine, graph, WHOLE)?;
    let steps = engine.steps(graph, PIECE.samples)?;
    let mut layers = Vec::with_capacity(grid.layers.len());
    for (layer, forms) in &grid.layers {
        let step = steps.iter().find(|step| step.nodes.contains(&layer.name));
        let mut piece = Piece {
            layer,
            graph: around(graph, layer, step)?,
            engine,
            memo: &mut *memo,
        };
        let alone = piece.time(Form::Keep, None)?;
        let among = step.map(|step| step.seconds * 1e9);
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
            return Ok(None);
        }
    }
    Ok(Some(Timetable {
        total,
        layers,
        step: grid.step,
    }))
}

/// A layer with what is merged into it, and with the others where three are one step.
fn around(graph: &Graph, layer: &Layer, step: Option<&StepTime>) -> Result<Graph, GraphError> {
    let add = Op::Binary(Binary {
        arithmetic: Arithmetic::Add,
    });
    let merged = |op: &Op| matches!(op, Op::BatchNorm(_) | Op::Activation(_)) || *op == add;
    let together: &[String] = match step.filter(|step| step.chain) {
        Some(step) => &step.nodes,
        None => std::slice::from_ref(&layer.name),
    };
    let first = together.first().unwrap_or(&layer.name);
    graph.around(first, |next| {
        merged(&next.op) || together.contains(&next.name)
    })
}

/// A layer among those that are timed with it.
struct Piece<'a, E> {
    layer: &'a Layer,
    graph: Graph,
    engine: &'a dyn Engine<Error = E>,
    memo: &'a mut dyn Memo,
}

impl<E: From<CompressError>> Piece<'_, E> {
    fn time(&mut self, form: Form, rank: Option<Rank>) -> Result<u64, E> {
        let nodes = self.graph.nodes();
        let place = nodes.iter().position(|node| node.name == self.layer.name);
        let name = format!(
            "{} | {} {form} {rank:?} {}",
            signature(&self.graph),
            place.unwrap_or_default(),
            self.engine.circumstances(),
        );
        if let Some(known) = self.memo.get(&name) {
            return Ok(known);
        }
        let time = match rank {
            Some(rank) => {
                let graph = outlined(&self.graph, self.layer, form, rank)?;
                median(self.engine, &graph, PIECE)?
            }
            None => median(self.engine, &self.graph, PIECE)?,
        };
        self.memo.put(name, time);
        Ok(time)
    }
}

/// What decides how long the nodes of a piece take, whatever they are called.
fn signature(graph: &Graph) -> String {
    let layers = Layer::all(graph);
    let of = |node: &Node| match layers.iter().find(|layer| layer.name == node.name) {
        Some(layer) => format!(
            "{:?} {:?} {:?} {:?}",
            layer.kind, layer.shape, layer.geometry, layer.input
        ),
        None => node.op.kind().to_owned(),
    };
    let nodes: Vec<String> = graph.nodes().iter().map(of).collect();
    nodes.join(", ")
}

/// Nanoseconds of a network in the usual layout.
fn median<E>(engine: &dyn Engine<Error = E>, graph: &Graph, repeat: Repeat) -> Result<u64, E> {
    let usual = engine.layouts().first().copied().unwrap_or_default();
    let timings = engine.time(&[(graph, usual)], repeat)?;
    let median = timings.first().map_or(0.0, |timing| timing.median());
    Ok((median * 1e9) as u64)
}
