//! What a layer becomes in one form at several ranks.

use rankfold_decompose::{Control, Threads};
use rankfold_graph::Graph;

use super::description::SweptForm;
use crate::apply::{Decomposed, decomposed, final_context, rewrite};
use crate::cost::LayerCost;
use crate::error::CompressError;
use crate::form::Rank;
use crate::layer::Layer;
use crate::plan::{check_rank, find};
use crate::probe::Statistics;
use crate::rules::{Distance, rule};

/// One layer decomposed at several ranks, to be put into a graph that has it.
pub struct Replacements {
    layer: Layer,
    made: Vec<Made>,
}

/// What a layer becomes at one rank.
struct Made {
    rank: Rank,
    cost: LayerCost,
    distance: Distance,
    factors: Decomposed,
}

impl Replacements {
    /// Decomposes a layer at all ranks of a form: ranks share work, so that it is all or none.
    pub fn new(
        graph: &Graph,
        layer: &str,
        form: &SweptForm,
        statistics: &Statistics,
        seed: u64,
        control: Control<'_>,
    ) -> Result<Self, CompressError> {
        let layers = Layer::all(graph);
        let layer = find(&layers, layer)?;
        for &rank in &form.ranks {
            check_rank(layer, form.form, Some(rank))?;
        }
        let mut made = Vec::with_capacity(form.ranks.len());
        if let Some(rule) = rule(form.form) {
            let own = statistics.get(&layer.name);
            let context = final_context(own, seed, Threads::Serial, control);
            let kernel = layer.kernel(graph)?;
            let kernels = rule.factors(layer, &kernel, &form.ranks, &context)?;
            for (&rank, kernels) in form.ranks.iter().zip(kernels) {
                let factors = decomposed(layer, rule, rank, &kernel, kernels, own);
                made.push(Made {
                    rank,
                    cost: rule.cost(layer, rank),
                    distance: factors.distance,
                    factors,
                });
            }
        }
        Ok(Self {
            layer: layer.clone(),
            made,
        })
    }

    /// Every rank with what the layer then costs and how far it is from what it was.
    pub fn ranks(&self) -> impl Iterator<Item = (Rank, LayerCost, Distance)> {
        let made = self.made.iter();
        made.map(|made| (made.rank, made.cost, made.distance))
    }

    /// A graph that has the layer, with what it becomes at one of the ranks in its place.
    pub fn put_into(&self, graph: &Graph, rank: Rank) -> Result<Graph, CompressError> {
        let mut graph = graph.clone();
        if let Some(made) = self.made.iter().find(|made| made.rank == rank) {
            rewrite(&mut graph, &self.layer, made.factors.clone())?;
        }
        Ok(graph)
    }
}
