//! From a request to a plan.

use std::num::NonZeroUsize;
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use rankfold_decompose::Control;
use rankfold_graph::{CostModel, Graph, Op};

use crate::align::{keep_multiples, raise};
use crate::budget::{Budget, LayerRank, Limit, Resource};
use crate::cost::{LayerCost, kept_cost};
use crate::curves::{CurveOptions, LayerCurves, Point, curves};
use crate::error::CompressError;
use crate::form::{Form, Rank};
use crate::latency::Timetable;
use crate::layer::{Kind, Layer};
use crate::plan::{LayerPlan, Plan, check_rank, find};
use crate::probe::Statistics;
use crate::rules::rule;
use crate::select::{
    Allowance, Select, at_average_rank, at_energy, at_mean_square, expected, paper_form, select,
    smallest,
};
use crate::sweep::{Answer, Evidence};

/// What a user wants.
#[derive(Debug, Clone)]
pub struct Request {
    /// What decides the ranks.
    pub budget: Budget,
    /// How ranks are chosen within a limit.
    pub select: Select,
    /// Globs of the layers that take part; all where there are none.
    pub only: Vec<String>,
    /// Globs of the layers that do not.
    pub skip: Vec<String>,
    /// Forms that layers may take. Without any, inner layers have those of [`Request::FORMS`], and the first
    /// convolution and the last layer the paper's own.
    pub forms: Option<Vec<Form>>,
    /// Bytes of a stored number, for budgets in bytes.
    pub element_bytes: u64,
    /// Bytes of the written file that are not weights, for budgets in bytes; estimated by default.
    pub overhead: Option<u64>,
    /// How curves are measured.
    pub curves: CurveOptions,
    /// What ranks of convolutions are multiples of, where they can be: given ones are raised, and of others
    /// the multiples compete.
    pub align: Option<NonZeroUsize>,
    /// What a sweep tells, for the selections that need one.
    pub evidence: Option<Arc<Evidence>>,
    /// Curves that an earlier plan for the same layers, forms and statistics was made from.
    pub known: Option<Arc<[LayerCurves]>>,
    /// How long layers take, for budgets of time.
    pub times: Option<Arc<Timetable>>,
    /// Whether a limit that cannot be met gives the plan that comes nearest to it in place of an error.
    pub or_nearest: bool,
    /// What each layer alone loses, where the selection asks for it and it is not the sweep that tells.
    pub losses: Option<Vec<(String, f64)>>,
    /// The request in words, for the record.
    pub words: String,
}

impl Request {
    /// The forms that compete in inner layers by default.
    pub const FORMS: [Form; 5] = [
        Form::Cp3,
        Form::Tucker2,
        Form::Spatial,
        Form::Channel,
        Form::Svd,
    ];

    /// A request with everything but the budget at its default.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            select: Select::Auto,
            only: Vec::new(),
            skip: Vec::new(),
            forms: None,
            element_bytes: 4,
            overhead: None,
            curves: CurveOptions::default(),
            align: None,
            evidence: None,
            known: None,
            times: None,
            or_nearest: false,
            losses: None,
            words: String::new(),
        }
    }

    /// What is lost at a point of a sweep's curve.
    pub(crate) fn loss(&self, point: &Point) -> f64 {
        let judged = self.evidence.as_ref().zip(point.answer.as_ref());
        judged.map_or(f64::INFINITY, |(evidence, answer)| evidence.loss(answer))
    }

    /// The sweep whose cells are the curves, where the selection reads them.
    pub(crate) fn evidence(&self) -> Result<Option<&Evidence>, CompressError> {
        if !self.select.reads_cells() {
            return match self.budget {
                Budget::MaxDrop(_) | Budget::MaxDivergence(_) => Err(CompressError::Select {
                    select: self.select.name(),
                    needs: "a budget other than a largest drop",
                }),
                _ => Ok(None),
            };
        }
        let evidence = self.evidence.as_deref().ok_or(CompressError::Select {
            select: self.select.name(),
            needs: "a sweep",
        });
        evidence.map(Some)
    }

    /// The forms that compete.
    pub(crate) fn competition(&self) -> Competition<'_> {
        match &self.forms {
            _ if self.select.has_paper_forms() => Competition::Paper,
            forms => Competition::of(forms.as_deref()),
        }
    }

    /// How long layers take.
    fn times(&self) -> Result<&Timetable, CompressError> {
        self.times.as_deref().ok_or(CompressError::NoTimes)
    }

    /// What each layer alone loses.
    pub(crate) fn losses(&self) -> Result<&[(String, f64)], CompressError> {
        self.losses.as_deref().ok_or(CompressError::Select {
            select: Select::Sensitivity.name(),
            needs: "a sweep by the protocol `paper`, or a file of losses",
        })
    }
}

/// A plan and the curves that it was chosen from.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The curves of the layers that took part; empty where ranks were given.
    pub curves: Vec<LayerCurves>,
    /// What the plan is expected to do to the answers, where a sweep tells.
    pub expected: Option<Answer>,
}

/// Makes a plan; `finished` is told each layer whose curves are done.
pub fn plan(
    graph: &Graph,
    request: &Request,
    statistics: &Statistics,
    control: Control<'_>,
    finished: &(dyn Fn(&str) + Sync),
) -> Result<Planned, CompressError> {
    let layers = Layer::all(graph);
    let taking_part = taking_part(&layers, &request.only, &request.skip)?;
    let mut plan = Plan::new(graph, request.words.clone(), request.curves.seed);
    let first = first_conv(&layers);
    let fixed = match &request.budget {
        Budget::Ranks(ranks) => Some(given(&layers, first, ranks)?),
        Budget::UniformRank { conv, fc } => {
            Some(uniform(&layers, &taking_part, first, *conv, *fc)?)
        }
        Budget::AverageRank { conv, fc } => {
            let losses = request.losses()?;
            Some(at_average_rank(graph, &taking_part, losses, *conv, *fc)?)
        }
        Budget::Within { .. }
        | Budget::Energy(_)
        | Budget::MeanSquare(_)
        | Budget::MaxDrop(_)
        | Budget::MaxDivergence(_) => None,
    };
    if let Some(mut fixed) = fixed {
        if let Some(step) = request.align {
            raise(&layers, &mut fixed, step.get())?;
        }
        plan.layers = fixed;
        let curves = Vec::new();
        return Ok(Planned {
            plan,
            curves,
            expected: None,
        });
    }
    let candidates = candidates(graph, &layers, &taking_part, request.competition());
    if candidates.is_empty() {
        return Err(CompressError::NothingToDo);
    }
    if matches!(
        request.budget,
        Budget::Within {
            resource: Resource::Macs,
            ..
        }
    ) && let Some((layer, _)) = candidates.iter().find(|(layer, _)| layer.input.is_none())
    {
        return Err(CompressError::OpenSize {
            layer: layer.name.clone(),
        });
    }
    let options = CurveOptions {
        evbmf: request.select == Select::Evbmf,
        every_rank: matches!(request.budget, Budget::MeanSquare(_)),
        ..request.curves.clone()
    };
    let evidence = request.evidence()?;
    let mut curves = match (evidence, &request.known) {
        (Some(evidence), _) => evidence.curves(graph, &candidates)?,
        (None, Some(known)) => known.to_vec(),
        (None, None) => curves(graph, &candidates, statistics, &options, control, finished)?,
    };
    if let Some(step) = request.align {
        curves
            .iter_mut()
            .for_each(|c| keep_multiples(c, step.get()));
    }
    let timed;
    let offered = match request.budget {
        Budget::Within {
            resource: Resource::Time,
            ..
        } => {
            request.times()?.tell(&mut curves);
            timed = Timetable::timed(&curves);
            &timed
        }
        _ => &curves,
    };
    let points = match &request.budget {
        Budget::Energy(share) => curves.iter().map(|c| at_energy(c, *share)).collect(),
        Budget::MeanSquare(most) => curves
            .iter()
            .map(|c| at_mean_square(graph, c, *most))
            .collect::<Result<_, _>>()?,
        Budget::Within { resource, limit } => {
            let within = |limit| {
                let allowance = allowance(graph, &candidates, *resource, limit, request)?;
                select(offered, request, allowance)
            };
            let mut chosen = within(*limit);
            // First without the layers, where the rest alone is too much, then with the least of each.
            for _ in 0..2 {
                match chosen {
                    Err(CompressError::Budget { nearest, .. }) if request.or_nearest => {
                        chosen = within(Limit::AtMost(nearest));
                    }
                    _ => break,
                }
            }
            chosen?
        }
        Budget::MaxDrop(drop) => smallest(&curves, request, |answer| Some(answer.drop? <= *drop))?,
        Budget::MaxDivergence(most) => {
            smallest(&curves, request, |answer| Some(answer.divergence <= *most))?
        }
        Budget::UniformRank { .. } | Budget::AverageRank { .. } | Budget::Ranks(_) => Vec::new(),
    };
    plan.layers = (curves.iter().zip(&points))
        .map(|(curves, point)| planned(curves, point))
        .collect();
    Ok(Planned {
        expected: evidence.and_then(|evidence| expected(evidence, &points)),
        plan,
        curves,
    })
}

fn planned(curves: &LayerCurves, point: &Point) -> LayerPlan {
    let own = kept_cost(&curves.layer);
    let distance = &point.distance;
    LayerPlan {
        name: curves.layer.name.clone(),
        form: point.form,
        rank: point.rank,
        parameters: Some([own.parameters, point.cost.parameters]),
        macs: Some([own.macs, point.cost.macs]),
        error: Some(round(distance.response.unwrap_or(distance.weight))),
        refused: curves
            .refused
            .iter()
            .map(|(form, why)| format!("{form}: {why}"))
            .collect(),
    }
}

fn round(error: f64) -> f64 {
    (error * 1e5).round() / 1e5
}

/// Which layers the globs let take part.
pub(crate) fn taking_part(
    layers: &[Layer],
    only: &[String],
    skip: &[String],
) -> Result<Vec<bool>, CompressError> {
    let (only_set, skip_set) = (globs(only)?, globs(skip)?);
    for pattern in only.iter().chain(skip) {
        let alone = globs(std::slice::from_ref(pattern))?;
        if !layers.iter().any(|layer| alone.is_match(&layer.name)) {
            return Err(find(layers, pattern)
                .err()
                .unwrap_or(CompressError::NothingToDo));
        }
    }
    Ok(layers
        .iter()
        .map(|layer| {
            let chosen = only.is_empty() || only_set.is_match(&layer.name);
            chosen && !skip_set.is_match(&layer.name)
        })
        .collect())
}

fn globs(patterns: &[String]) -> Result<GlobSet, CompressError> {
    let mut set = GlobSetBuilder::new();
    let bad = |pattern: &str, error: globset::Error| CompressError::Glob {
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    };
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|e| bad(pattern, e))?);
    }
    set.build().map_err(|e| bad(&patterns.join(","), e))
}

/// The first convolution of the network, where its input has at most four channels.
pub(crate) fn first_conv(layers: &[Layer]) -> Option<usize> {
    let first = layers.iter().position(|layer| layer.kind != Kind::Linear)?;
    (layers[first].in_channels() <= 4).then_some(first)
}

/// Which forms a layer may take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Competition<'a> {
    /// The paper's own.
    Paper,
    /// Those of [`Request::FORMS`], and the paper's own for the first convolution and the last layer.
    Usual,
    /// These; the paper's own for a first convolution or a last layer that can take none of them.
    Among(&'a [Form]),
}

impl<'a> Competition<'a> {
    /// Among the forms that were asked for, if any were.
    pub(crate) fn of(forms: Option<&'a [Form]>) -> Self {
        forms.map_or(Self::Usual, Self::Among)
    }
}

/// The layers that may change and the forms that each may take.
pub(crate) fn candidates(
    graph: &Graph,
    layers: &[Layer],
    taking_part: &[bool],
    competition: Competition<'_>,
) -> Vec<(Layer, Vec<Form>)> {
    let first = first_conv(layers);
    let last = last_layer(graph, layers);
    let chosen = layers.iter().enumerate().filter(|(i, _)| taking_part[*i]);
    chosen
        .map(|(i, layer)| {
            let at_the_end = Some(i) == first || Some(i) == last;
            let applies = |form: &Form| rule(*form).is_some_and(|rule| rule.applies(layer).is_ok());
            let forms = match competition {
                Competition::Usual if !at_the_end => Request::FORMS.to_vec(),
                Competition::Among(forms) if !at_the_end || forms.iter().any(applies) => {
                    forms.to_vec()
                }
                _ => vec![paper_form(layer, Some(i) == first)],
            };
            (layer.clone(), forms)
        })
        .collect()
}

/// The layer that makes the model's first output, if nothing but reshaping comes after it.
fn last_layer(graph: &Graph, layers: &[Layer]) -> Option<usize> {
    let mut value = *graph.outputs().first()?;
    loop {
        let node = graph.producer(value)?;
        match &node.op {
            Op::Linear(_) | Op::Conv(_) => {
                return layers.iter().position(|layer| layer.name == node.name);
            }
            Op::Softmax(_) | Op::Flatten(_) | Op::Reshape(_) | Op::Squeeze(_) => {
                value = *node.inputs.first()?;
            }
            _ => return None,
        }
    }
}

/// What the candidates may use of the resource once the rest of the network has its share.
fn allowance(
    graph: &Graph,
    candidates: &[(Layer, Vec<Form>)],
    resource: Resource,
    limit: Limit,
    request: &Request,
) -> Result<Allowance, CompressError> {
    let total = graph.cost(CostModel::True).unwrap_or_default();
    let mut own = LayerCost::default();
    for (layer, _) in candidates {
        let cost = kept_cost(layer);
        own.parameters += cost.parameters;
        own.macs += cost.macs;
    }
    let (unit, budget, total, own) = match resource {
        Resource::Parameters => {
            let limit = limit.of(total.parameters);
            (1, limit, total.parameters, own.parameters)
        }
        Resource::Macs => (1, limit.of(total.macs), total.macs, own.macs),
        Resource::Bytes => {
            let unit = request.element_bytes;
            let numbers = total.parameters_with_buffers;
            let overhead = request.overhead.unwrap_or_else(|| header_bytes(graph));
            let total = numbers + overhead.div_ceil(unit);
            (unit, limit.of(numbers * unit), total, own.parameters)
        }
        Resource::Time => {
            let times = request.times()?;
            let rest = times.rest();
            let own = times.total.saturating_add_signed(-rest);
            (1, limit.of(times.total), times.total, own)
        }
    };
    let allowance = Allowance {
        resource,
        limit: 0,
        budget,
        unit,
        rest: total as i64 - own as i64,
    };
    // Layers that share a kernel count it each, so that the rest may be less than nothing.
    let numbers = i64::try_from(budget / unit).unwrap_or(i64::MAX);
    match u64::try_from(numbers.saturating_sub(allowance.rest)) {
        Ok(limit) => Ok(Allowance { limit, ..allowance }),
        Err(_) => Err(allowance.unmet(0)),
    }
}

/// About the bytes that are not weights in the written file.
fn header_bytes(graph: &Graph) -> u64 {
    const BYTES_PER_NODE: u64 = 700;
    const BYTES_PER_TENSOR: u64 = 120;
    graph.nodes().len() as u64 * BYTES_PER_NODE + graph.weights().len() as u64 * BYTES_PER_TENSOR
}

/// A plan from a list of ranks, the paper's form where none is given.
fn given(
    layers: &[Layer],
    first: Option<usize>,
    ranks: &[LayerRank],
) -> Result<Vec<LayerPlan>, CompressError> {
    for rank in ranks {
        find(layers, &rank.layer)?;
    }
    let plan = |(i, layer): (usize, &Layer)| {
        let Some(wanted) = ranks.iter().find(|rank| rank.layer == layer.name) else {
            return Ok(LayerPlan::keep(layer));
        };
        let form = wanted
            .form
            .unwrap_or_else(|| paper_form(layer, Some(i) == first));
        at_rank(layer, form, wanted.rank)
    };
    layers.iter().enumerate().map(plan).collect()
}

/// A plan of one rank for convolutions and one for linear layers; what would grow is kept.
fn uniform(
    layers: &[Layer],
    taking_part: &[bool],
    first: Option<usize>,
    conv: Option<usize>,
    fc: Option<usize>,
) -> Result<Vec<LayerPlan>, CompressError> {
    let plan = |(i, layer): (usize, &Layer)| {
        let rank = match layer.kind {
            Kind::Linear => fc,
            Kind::Conv1d | Kind::Conv2d => conv,
        };
        let form = paper_form(layer, Some(i) == first);
        let (Some(rank), true, Some(rule)) = (rank, taking_part[i], rule(form)) else {
            return Ok(LayerPlan::keep(layer));
        };
        if layer.fixed.is_some() || rule.applies(layer).is_err() {
            return Ok(LayerPlan::keep(layer));
        }
        let planned = at_rank(layer, form, rule.rank_at(layer, rank))?;
        let grows = planned.parameters.is_some_and(|[own, new]| new >= own);
        Ok(if grows {
            LayerPlan::keep(layer)
        } else {
            planned
        })
    };
    layers.iter().enumerate().map(plan).collect()
}

pub(crate) fn at_rank(layer: &Layer, form: Form, rank: Rank) -> Result<LayerPlan, CompressError> {
    check_rank(layer, form, Some(rank))?;
    let own = kept_cost(layer);
    let cost = rule(form).map_or(own, |rule| rule.cost(layer, rank));
    Ok(LayerPlan {
        name: layer.name.clone(),
        form,
        rank: Some(rank),
        parameters: Some([own.parameters, cost.parameters]),
        macs: Some([own.macs, cost.macs]),
        error: None,
        refused: Vec::new(),
    })
}
