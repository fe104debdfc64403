//! Measured time in place of counted cost: which ranks to time, and what a timetable says of the others.
//!
//! This crate runs nothing. It names the ranks whose time is wanted and builds the layers to be timed; an
//! [`Engine`] runs them, and a [`Timetable`] is made of what it tells.

mod clock;
mod timetable;

pub use self::clock::{Engine, Repeat, StepTime, Timing, by_turns};
pub use self::timetable::{Memo, timetable};

use std::num::NonZeroUsize;

use ndarray::Array4;
use rankfold_graph::Graph;

use crate::apply::{chain_of_kernels, rewrite};
use crate::curves::{LayerCurves, rank_scales};
use crate::error::CompressError;
use crate::form::{Form, Rank};
use crate::layer::Layer;
use crate::plan::{Plan, find};
use crate::planner::{Request, candidates, taking_part};
use crate::rules::rule;
use crate::sweep::SweptForm;

/// Ranks of a form that are timed. Between them times lie on straight lines.
const RANKS: usize = 6;

/// What timed ranks are multiples of where there are enough of them, if nothing else is asked for: vectors
/// of the processor.
const STEP: usize = 8;

/// How long a network takes, and each of its layers in every form.
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    /// Nanoseconds of the whole network.
    pub total: u64,
    /// The layers that take part.
    pub layers: Vec<LayerTimes>,
    /// What timed ranks are multiples of, where there are enough of them.
    pub step: usize,
}

/// The ranks whose time a plan needs.
#[derive(Debug, Clone)]
pub struct TimingGrid {
    /// Every layer that takes part, with its forms.
    pub layers: Vec<(Layer, Vec<SweptForm>)>,
    /// What ranks are multiples of, where there are enough of them.
    pub step: usize,
}

/// How long a layer takes, with what is merged into it.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTimes {
    /// The layer.
    pub name: String,
    /// Nanoseconds as it is.
    pub kept: u64,
    /// Nanoseconds of each form at some ranks, ascending.
    pub forms: Vec<(Form, Vec<(Rank, u64)>)>,
}

/// What is to be timed before a plan can be made for a budget of time.
pub fn timing_grid(graph: &Graph, request: &Request) -> Result<TimingGrid, CompressError> {
    let step = request.align.map_or(STEP, NonZeroUsize::get);
    let layers = Layer::all(graph);
    let chosen = taking_part(&layers, &request.only, &request.skip)?;
    let candidates = candidates(graph, &layers, &chosen, request.competition());
    let timed = candidates.into_iter().map(|(layer, forms)| {
        let timed = |&form: &Form| {
            let rule = rule(form).filter(|rule| rule.applies(&layer).is_ok())?;
            let scales = rank_scales(rule, &layer, request.curves.floor).ok()?;
            let mut ranks: Vec<Rank> = spread(&even(&scales, step))
                .into_iter()
                .map(|scale| rule.rank_at(&layer, scale))
                .collect();
            ranks.dedup();
            Some(SweptForm { form, ranks })
        };
        let forms = match layer.fixed {
            Some(_) => Vec::new(),
            None => forms.iter().filter_map(timed).collect(),
        };
        (layer, forms)
    });
    Ok(TimingGrid {
        layers: timed.collect(),
        step,
    })
}

/// The multiples of `step`; all values where they are few.
fn even(scales: &[usize], step: usize) -> Vec<usize> {
    let even: Vec<usize> = scales
        .iter()
        .copied()
        .filter(|s| s.is_multiple_of(step))
        .collect();
    match even.len() {
        0..3 => scales.to_vec(),
        _ => even,
    }
}

/// At most [`RANKS`] of the values, the ends included, closer together where they are small.
fn spread(values: &[usize]) -> Vec<usize> {
    if values.len() <= RANKS {
        return values.to_vec();
    }
    let last = values.len() - 1;
    let place = |i: usize| (i as f64 / (RANKS - 1) as f64).powf(1.5) * last as f64;
    let mut chosen: Vec<usize> = (0..RANKS)
        .map(|i| values[place(i).round() as usize])
        .collect();
    chosen.dedup();
    chosen
}

/// A graph with a layer in a form at a rank; the numbers in the kernels are of no account.
pub fn outlined(
    graph: &Graph,
    layer: &Layer,
    form: Form,
    rank: Rank,
) -> Result<Graph, CompressError> {
    let mut graph = graph.clone();
    let Some(rule) = rule(form) else {
        return Ok(graph);
    };
    let outline = rule.outline(layer, rank).into_iter();
    let stages = outline.map(|stage| (stage, Array4::from_elem(stage.kernel, 0.01)));
    rewrite(&mut graph, layer, chain_of_kernels(stages.collect()))?;
    Ok(graph)
}

/// A graph with every layer in the form and at the rank of a plan; the numbers in the kernels are of
/// no account. It takes as long to run as the network that the plan makes.
pub fn skeleton(graph: &Graph, plan: &Plan) -> Result<Graph, CompressError> {
    let layers = Layer::all(graph);
    let mut whole = graph.clone();
    for planned in &plan.layers {
        if let Some(rank) = planned.rank {
            let layer = find(&layers, &planned.name)?;
            whole = outlined(&whole, layer, planned.form, rank)?;
        }
    }
    Ok(whole)
}

impl Timetable {
    /// Writes the time of every point of the curves down, where it is known.
    pub(crate) fn tell(&self, curves: &mut [LayerCurves]) {
        for curves in curves {
            let own = self.layers.iter().find(|own| own.name == curves.layer.name);
            for point in &mut curves.points {
                point.nanoseconds = own.and_then(|own| own.time(point.form, point.rank, self.step));
            }
        }
    }

    /// Nanoseconds that the network of a plan should take; none where a layer's time is not known.
    pub fn predicted(&self, plan: &Plan) -> Option<u64> {
        let mut total = self.total as i64;
        for planned in plan.layers.iter().filter(|planned| planned.rank.is_some()) {
            let layer = self
                .layers
                .iter()
                .find(|layer| layer.name == planned.name)?;
            let time = layer.time(planned.form, planned.rank, self.step)?;
            total += time as i64 - layer.kept as i64;
        }
        u64::try_from(total).ok()
    }

    /// The curves without the points whose time is not known.
    pub(crate) fn timed(curves: &[LayerCurves]) -> Vec<LayerCurves> {
        let timed = |curves: &LayerCurves| {
            let mut curves = curves.clone();
            let points = &mut curves.points;
            points.retain(|point| point.nanoseconds.is_some() || point.rank.is_none());
            curves
        };
        curves.iter().map(timed).collect()
    }

    /// Nanoseconds of what none of the layers does.
    pub(crate) fn rest(&self) -> i64 {
        let layers: u64 = self.layers.iter().map(|layer| layer.kept).sum();
        self.total as i64 - layers as i64
    }
}

impl LayerTimes {
    fn time(&self, form: Form, rank: Option<Rank>, step: usize) -> Option<u64> {
        let Some(rank) = rank else {
            return Some(self.kept);
        };
        let (_, times) = self.forms.iter().find(|(own, _)| *own == form)?;
        let wanted = rank.largest();
        let above = times
            .iter()
            .position(|(rank, _)| rank.largest() >= wanted)?;
        let (high, most) = times[above];
        if high.largest() == wanted {
            return Some(most);
        }
        // Ranks between two that are timed take part where they are as even as those.
        let (low, least) = times[..above].last().copied()?;
        let is_even = wanted.is_multiple_of(step) || !high.largest().is_multiple_of(step);
        let share = (wanted - low.largest()) as f64 / (high.largest() - low.largest()) as f64;
        is_even.then_some((least as f64 + share * (most as f64 - least as f64)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_ranks_are_all_taken_and_many_are_even() {
        assert_eq!(even(&[1, 2, 3, 4], 8), [1, 2, 3, 4]);
        let many: Vec<usize> = (2..=40).collect();
        assert_eq!(even(&many, 8), [8, 16, 24, 32, 40]);
        assert_eq!(spread(&even(&many, 8)), [8, 16, 24, 32, 40]);
        let many: Vec<usize> = (1..=400).collect();
        let chosen = spread(&even(&many, 8));
        assert_eq!((chosen.len(), chosen[0], chosen[5]), (6, 8, 400));
    }

    #[test]
    fn times_lie_on_straight_lines_between_even_ranks() {
        let times = LayerTimes {
            name: "layer".to_owned(),
            kept: 900,
            forms: vec![(Form::Svd, vec![(Rank::One(8), 100), (Rank::One(24), 300)])],
        };
        let at = |form, rank| times.time(form, rank, 8);
        assert_eq!(at(Form::Keep, None), Some(900));
        assert_eq!(at(Form::Svd, Some(Rank::One(8))), Some(100));
        assert_eq!(at(Form::Svd, Some(Rank::One(16))), Some(200));
        assert_eq!(at(Form::Svd, Some(Rank::One(17))), None);
        assert_eq!(at(Form::Svd, Some(Rank::One(32))), None);
        assert_eq!(at(Form::Svd, Some(Rank::One(4))), None);
        assert_eq!(at(Form::Cp3, Some(Rank::One(8))), None);
    }
}
