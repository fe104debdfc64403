//! What a finished sweep tells about a network.

use rankfold_graph::Graph;

use super::cell::Cell;
use super::description::{Protocol, Sweep, SweptForm};
use super::monotone::{Cubic, falling};
use crate::apply::needs_new_bias;
use crate::cost::kept_cost;
use crate::curves::{LayerCurves, Point, rank_scales};
use crate::error::CompressError;
use crate::form::Form;
use crate::layer::Layer;
use crate::plan::fingerprint;
use crate::rules::{Distance, rule};

/// By what the answers of a network are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Judge {
    /// Their divergence from the original's.
    #[default]
    Divergence,
    /// The share of right answers that is lost.
    Accuracy,
}

/// How the network answers with one layer in one form at one rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Divergence of the outputs from the original's.
    pub divergence: f64,
    /// Share of right answers lost; none without labels.
    pub drop: Option<f64>,
}

/// A sweep with all its cells.
#[derive(Debug, Clone)]
pub struct Evidence {
    sweep: Sweep,
    cells: Vec<Cell>,
    judge: Judge,
}

/// The least divergence that is told from none.
const LEAST_DIVERGENCE: f64 = 1e-9;

/// The share of the divergence in a loss of accuracy, so that it tells apart what loses as many answers.
const TELLS_APART: f64 = 0.01;

/// Classes from which on the paper's five guesses tell more than the first one.
const MANY_CLASSES: usize = 100;

impl Evidence {
    /// The evidence of a sweep, which must be finished and of this network.
    pub fn new(
        sweep: Sweep,
        cells: Vec<Cell>,
        judge: Judge,
        graph: &Graph,
    ) -> Result<Self, CompressError> {
        let own = fingerprint(graph);
        if sweep.model.fingerprint != own {
            return Err(CompressError::SweepModel {
                sweep: sweep.model.name,
                sweep_fingerprint: sweep.model.fingerprint,
                model: graph.meta().name.clone(),
                fingerprint: own,
            });
        }
        let cells: Vec<Cell> = cells.into_iter().filter(|cell| sweep.has(cell)).collect();
        let evidence = Self {
            sweep,
            cells,
            judge,
        };
        let all = evidence.sweep.cells();
        let missing = all - evidence.places().filter(|place| place.is_some()).count();
        if missing > 0 {
            return Err(CompressError::SweepUnfinished { missing, all });
        }
        let unlabelled = evidence.cells.iter().any(|cell| cell.changed.is_none());
        if judge == Judge::Accuracy && unlabelled {
            return Err(CompressError::SweepLabels);
        }
        Ok(evidence)
    }

    /// The sweep.
    pub fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// The cell of every place of the sweep.
    fn places(&self) -> impl Iterator<Item = Option<&Cell>> {
        self.sweep.layers.iter().flat_map(move |layer| {
            let forms = layer.forms.iter();
            forms.flat_map(move |form| self.along(&layer.name, form))
        })
    }

    /// The cells of one form of a layer, by rank.
    fn along<'a>(
        &'a self,
        layer: &'a str,
        form: &'a SweptForm,
    ) -> impl Iterator<Item = Option<&'a Cell>> {
        form.ranks.iter().map(move |&rank| {
            let mut cells = self.cells.iter();
            cells.find(|cell| cell.is_at(layer, form.form, rank))
        })
    }

    /// What is lost at a point, as it is judged.
    pub(crate) fn loss(&self, answer: &Answer) -> f64 {
        match self.judge {
            Judge::Divergence => answer.divergence,
            Judge::Accuracy => {
                let drop = answer.drop.unwrap_or(answer.divergence);
                drop + TELLS_APART * answer.divergence
            }
        }
    }

    /// The curves of layers, read off the cells; forms that were not measured are left out.
    pub(crate) fn curves(
        &self,
        graph: &Graph,
        layers: &[(Layer, Vec<Form>)],
    ) -> Result<Vec<LayerCurves>, CompressError> {
        if self.sweep.protocol != Protocol::Curves {
            return Err(CompressError::SweepProtocol {
                expected: "curves",
                found: "paper",
            });
        }
        let of = |(layer, forms): &(Layer, Vec<Form>)| self.layer_curves(graph, layer, forms);
        Ok(layers.iter().map(of).collect())
    }

    fn layer_curves(&self, graph: &Graph, layer: &Layer, forms: &[Form]) -> LayerCurves {
        let kept = Point {
            form: Form::Keep,
            rank: None,
            cost: kept_cost(layer),
            distance: Distance {
                weight: 0.0,
                response: Some(0.0),
                damage: Some(0.0),
            },
            measured: true,
            answer: Some(Answer {
                divergence: 0.0,
                drop: Some(0.0),
            }),
            nanoseconds: None,
        };
        let mut curves = LayerCurves {
            layer: layer.clone(),
            points: vec![kept],
            refused: Vec::new(),
            evbmf: None,
        };
        let new_bias = match needs_new_bias(graph, layer) {
            true => layer.out_channels() as u64,
            false => 0,
        };
        let mut swept = self.sweep.layers.iter();
        let swept = swept.find(|swept| swept.name == layer.name);
        for form in swept.iter().flat_map(|swept| &swept.forms) {
            if forms.contains(&form.form) {
                let points = self.form_points(layer, form).into_iter();
                curves.points.extend(points.map(|mut point| {
                    point.cost.parameters += new_bias;
                    point
                }));
            }
        }
        curves
    }

    /// A point for every rank from the smallest that was measured on.
    fn form_points(&self, layer: &Layer, form: &SweptForm) -> Vec<Point> {
        let Some(rule) = rule(form.form) else {
            return Vec::new();
        };
        let scales = rank_scales(rule, layer, 0.0).unwrap_or_default();
        let mut measured: Vec<(usize, &Cell)> = Vec::new();
        for cell in self.along(&layer.name, form).flatten() {
            let at = |&&scale: &&usize| rule.rank_at(layer, scale) == cell.rank;
            if let Some(&scale) = scales.iter().find(at) {
                measured.push((scale, cell));
            }
        }
        measured.sort_by_key(|(scale, _)| *scale);
        measured.dedup_by_key(|(scale, _)| *scale);
        let of = |value: fn(&Cell) -> f64| -> Vec<f64> {
            measured.iter().map(|(_, cell)| value(cell)).collect()
        };
        let x: Vec<f64> = measured
            .iter()
            .map(|(scale, _)| (*scale as f64).ln())
            .collect();
        let curve = |values: &[f64]| Cubic::new(x.clone(), falling(values));
        let logs: Vec<f64> = of(|cell| cell.kl.max(LEAST_DIVERGENCE).ln());
        let labelled = measured.iter().all(|(_, cell)| cell.changed.is_some());
        let drops = of(|cell| {
            cell.changed
                .map_or(0.0, |changed| changed.drop(share_of(cell)).0)
        });
        let (Some(divergence), Some(drop), Some(weight)) = (
            curve(&logs),
            curve(&drops),
            curve(&of(|cell| cell.weight_error)),
        ) else {
            return Vec::new();
        };
        let response = of(|cell| cell.response_error.unwrap_or(f64::NAN));
        let response = response
            .iter()
            .all(|e| e.is_finite())
            .then(|| curve(&response));
        let first = measured.first().map_or(0, |(scale, _)| *scale);
        let point = |&scale: &usize| {
            let at = (scale as f64).ln();
            let rank = rule.rank_at(layer, scale);
            Point {
                form: form.form,
                rank: Some(rank),
                cost: rule.cost(layer, rank),
                distance: Distance {
                    weight: weight.at(at).max(0.0),
                    response: response
                        .as_ref()
                        .and_then(|r| Some(r.as_ref()?.at(at).max(0.0))),
                    damage: None,
                },
                measured: form.ranks.contains(&rank),
                answer: Some(Answer {
                    divergence: divergence.at(at).exp(),
                    drop: labelled.then(|| drop.at(at).max(0.0)),
                }),
                nanoseconds: None,
            }
        };
        scales
            .iter()
            .filter(|&&scale| scale >= first)
            .map(point)
            .collect()
    }

    /// Share of right answers lost by every layer alone, in order: the paper's sensitivities. Five
    /// guesses count where there are many classes, else one.
    pub fn sensitivities(&self) -> Result<Vec<(String, f64)>, CompressError> {
        if self.sweep.protocol == Protocol::Curves {
            return Err(CompressError::SweepProtocol {
                expected: "paper",
                found: "curves",
            });
        }
        let before = &self.sweep.baseline;
        let many = self.sweep.data.classes >= Some(MANY_CLASSES);
        let mut losses = Vec::new();
        for cell in &self.cells {
            let pair = match many {
                true => before.top5.zip(cell.top5),
                false => before.accuracy.zip(cell.accuracy),
            };
            let (before, after) = pair.ok_or(CompressError::SweepLabels)?;
            losses.push((cell.layer.clone(), before.value() - after.value()));
        }
        Ok(losses)
    }

    /// The share of right answers that a network of this divergence is expected to lose: read off all
    /// cells, as the closest curve that rises with the divergence.
    pub(crate) fn drop_at(&self, divergence: f64) -> Option<f64> {
        let drop = |cell: &Cell| Some((cell.kl, cell.changed?.drop(share_of(cell)).0));
        let mut pairs: Vec<(f64, f64)> = self.cells.iter().filter_map(drop).collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let drops = falling(&pairs.iter().map(|(_, drop)| *drop).collect::<Vec<_>>());
        let curve: Vec<(f64, f64)> = pairs
            .iter()
            .zip(&drops)
            .rev()
            .map(|((kl, _), d)| (*kl, *d))
            .collect();
        let right = curve.partition_point(|(kl, _)| *kl < divergence);
        match (right.checked_sub(1).map(|i| curve[i]), curve.get(right)) {
            (_, None) => curve.last().map(|(_, drop)| drop.max(0.0)),
            (None, Some(&(kl, drop))) => Some((drop * divergence / kl).max(0.0)),
            (Some((low, before)), Some(&(high, after))) => {
                let share = (divergence - low) / (high - low);
                Some((before + (after - before) * share).max(0.0))
            }
        }
    }
}

fn share_of(cell: &Cell) -> u64 {
    cell.accuracy.map_or(0, |accuracy| accuracy.of)
}
