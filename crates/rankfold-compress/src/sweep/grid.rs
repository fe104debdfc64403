//! Which cells a sweep has.

use rankfold_graph::Graph;

use super::description::{SweptForm, SweptLayer};
use crate::cost::kept_cost;
use crate::curves::rank_scales;
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::Layer;
use crate::planner::{Competition, candidates, first_conv, taking_part};
use crate::rules::{Rule, rule};
use crate::select::paper_form;

/// What a sweep is to measure.
#[derive(Debug, Clone)]
pub struct GridRequest {
    /// Globs of the layers that take part; all where there are none.
    pub only: Vec<String>,
    /// Globs of the layers that do not.
    pub skip: Vec<String>,
    /// Forms that layers may take; those that compete by default where there are none.
    pub forms: Option<Vec<Form>>,
    /// Ranks of every form.
    pub ranks: usize,
    /// The one rank of the paper's form instead.
    pub probe: Option<usize>,
}

impl Default for GridRequest {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            skip: Vec::new(),
            forms: None,
            ranks: 4,
            probe: None,
        }
    }
}

/// The least and the largest rank measured, as shares of the rank at which a form costs as much as the
/// layer: below, little is left of any layer; above, keeping it is as cheap.
const ENDS: [f64; 2] = [0.04, 0.8];

/// Every layer that takes part, with its forms and their ranks. Layers without a form are in it too.
pub fn grid(graph: &Graph, request: &GridRequest) -> Result<Vec<SweptLayer>, CompressError> {
    let layers = Layer::all(graph);
    let chosen = taking_part(&layers, &request.only, &request.skip)?;
    let swept = match request.probe {
        None => {
            let competition = Competition::of(request.forms.as_deref());
            candidates(graph, &layers, &chosen, competition)
        }
        Some(_) => {
            let first = first_conv(&layers);
            let places = layers.iter().enumerate().filter(|(i, _)| chosen[*i]);
            let own = |(i, layer): (usize, &Layer)| {
                (layer.clone(), vec![paper_form(layer, Some(i) == first)])
            };
            places.map(own).collect()
        }
    };
    if swept.is_empty() {
        return Err(CompressError::NothingToDo);
    }
    let layer = |(layer, forms): &(Layer, Vec<Form>)| swept_layer(layer, forms, request);
    Ok(swept.iter().map(layer).collect())
}

fn swept_layer(layer: &Layer, forms: &[Form], request: &GridRequest) -> SweptLayer {
    let cost = kept_cost(layer);
    let mut swept = SweptLayer {
        name: layer.name.clone(),
        shape: layer.shape,
        parameters: cost.parameters,
        macs: cost.macs,
        forms: Vec::new(),
        refused: Vec::new(),
    };
    for &form in forms {
        let Some(rule) = rule(form) else { continue };
        match ranks(layer, rule, request) {
            Ok(ranks) => swept.forms.push(SweptForm { form, ranks }),
            Err(refusal) => swept.refused.push(format!("{form}: {refusal}")),
        }
    }
    swept
}

fn ranks(layer: &Layer, rule: &dyn Rule, request: &GridRequest) -> Result<Vec<Rank>, Refusal> {
    if let Some(refusal) = &layer.fixed {
        return Err(refusal.clone());
    }
    rule.applies(layer)?;
    if let Some(rank) = request.probe {
        let most = rule.full_rank(layer).largest();
        let rank = rule.rank_at(layer, rank.clamp(1, most));
        // What the probe does not make smaller would seem to lose nothing.
        return match rule.cost(layer, rank).parameters < kept_cost(layer).parameters {
            true => Ok(vec![rank]),
            false => Err(Refusal::NoGain { rank }),
        };
    }
    let scales = rank_scales(rule, layer, 0.0)?;
    let mut ranks: Vec<Rank> = (spread(&scales, request.ranks).into_iter())
        .map(|scale| rule.rank_at(layer, scale))
        .collect();
    ranks.dedup();
    Ok(ranks)
}

/// `count` of the values, evenly spaced by their logarithm between the two ends.
fn spread(values: &[usize], count: usize) -> Vec<usize> {
    let last = values.last().copied().unwrap_or(1) as f64;
    let [low, high] = ENDS.map(|share| (share * last).max(1.0).ln());
    let nearest = |wanted: f64| {
        let distance = |value: &usize| (*value as f64).ln() - wanted;
        let closer = |a: &usize, b: &usize| distance(a).abs().total_cmp(&distance(b).abs());
        values.iter().copied().min_by(closer)
    };
    let steps = count.max(2) - 1;
    let mut chosen: Vec<usize> = (0..=steps)
        .filter_map(|i| nearest(low + (high - low) * i as f64 / steps as f64))
        .collect();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_spread_by_their_logarithm() {
        let values: Vec<usize> = (1..=100).collect();
        assert_eq!(spread(&values, 4), [4, 11, 29, 80]);
        assert_eq!(spread(&[1], 4), [1]);
        assert_eq!(spread(&[1, 2, 3], 5), [1, 2]);
    }
}
