//! How long layers take in every form, each with what is merged into it: what budgets of time are made of.

use std::ops::ControlFlow;

use rankfold_graph::ops::{Arithmetic, Binary};
use rankfold_graph::{Graph, GraphError, Node, Op};

use super::clock::{Engine, Repeat, StepTime};
use super::{LayerTimes, Timetable, TimingGrid, outlined};
use crate::error::CompressError;
use crate::form::{Form, Rank};
use crate::layer::Layer;
use crate::sweep::SweptForm;

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
    samples: 15,
    seconds: 0.002,
};

/// How a whole network is timed.
const WHOLE: Repeat = Repeat {
    warmup: 3,
    samples: 15,
    seconds: 0.005,
};

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
    // What the steps take together is the whole, whatever looking at each of them takes.
    let together: f64 = steps.iter().map(|step| step.seconds).sum();
    let share = match together > 0.0 {
        true => total as f64 / together,
        false => 0.0,
    };
    let mut layers = Vec::with_capacity(grid.layers.len());
    for (layer, forms) in &grid.layers {
        let step = steps.iter().find(|step| step.nodes.contains(&layer.name));
        let mut piece = Piece {
            layer,
            graph: around(graph, layer, step)?,
            engine,
            memo: &mut *memo,
        };
        let mut wanted = vec![(Form::Keep, None)];
        for form in forms {
            wanted.extend(form.ranks.iter().map(|&rank| (form.form, Some(rank))));
        }
        let alone = piece.times(&wanted)?;
        let among = step.map(|step| step.seconds * share);
        let context = among.map_or(1.0, |among| among / alone[0].max(1) as f64);
        let mut corrected = alone.iter().map(|&time| (time as f64 * context) as u64);
        let kept = corrected.next().unwrap_or_default();
        let of = |form: &SweptForm| {
            (
                form.form,
                form.ranks.iter().copied().zip(&mut corrected).collect(),
            )
        };
        layers.push(LayerTimes {
            name: layer.name.clone(),
            kept,
            forms: forms.iter().map(of).collect(),
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
    /// Nanoseconds in every form, of which the first is the layer as it is. What is not known is timed by
    /// turns with that one, so that it does not matter how fast the machine just is.
    fn times(&mut self, forms: &[(Form, Option<Rank>)]) -> Result<Vec<u64>, E> {
        let names: Vec<String> = forms.iter().map(|&form| self.name(form)).collect();
        let known: Vec<Option<u64>> = names.iter().map(|name| self.memo.get(name)).collect();
        let unknown: Vec<usize> = (1..forms.len()).filter(|&i| known[i].is_none()).collect();
        let as_it_is = known.first().copied().flatten();
        if unknown.is_empty() && as_it_is.is_some() {
            return Ok(known.into_iter().flatten().collect());
        }
        let graphs = unknown.iter().map(|&i| match forms[i] {
            (form, Some(rank)) => outlined(&self.graph, self.layer, form, rank),
            (_, None) => Ok(self.graph.clone()),
        });
        let graphs = graphs.collect::<Result<Vec<_>, _>>()?;
        let usual = self.engine.layouts().first().copied().unwrap_or_default();
        let models: Vec<(&Graph, &str)> = std::iter::once(&self.graph)
            .chain(&graphs)
            .map(|graph| (graph, usual))
            .collect();
        let timings = self.engine.time_parts(&models, PIECE)?;
        let mut medians = timings.iter().map(|timing| timing.median() * 1e9);
        let own = medians.next().unwrap_or(1.0);
        let as_it_is = as_it_is.unwrap_or(own as u64);
        let mut times: Vec<u64> = known.into_iter().map(Option::unwrap_or_default).collect();
        times[0] = as_it_is;
        for (place, median) in unknown.into_iter().zip(medians) {
            times[place] = (median / own * as_it_is as f64) as u64;
        }
        for (name, &time) in names.into_iter().zip(&times) {
            self.memo.put(name, time);
        }
        Ok(times)
    }

    /// What decides how long the piece takes, in words.
    fn name(&self, (form, rank): (Form, Option<Rank>)) -> String {
        let nodes = self.graph.nodes();
        let place = nodes.iter().position(|node| node.name == self.layer.name);
        format!(
            "{} | {} {form} {rank:?} {}",
            signature(&self.graph),
            place.unwrap_or_default(),
            self.engine.circumstances(),
        )
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
