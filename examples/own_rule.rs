//! Compresses a network by a rule of one's own: which layers are touched, in which form, how far.
//!
//! The rule here is that layers near the input are precious: the first may lose a tenth of its weights'
//! norm, the last four tenths, and each takes the cheapest form and rank within what it may lose.
//!
//! `cargo run --example own_rule`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use rankfold_compress::{
    Context, Form, Layer, LayerPlan, NoStore, Plan, Rank, Statistics, apply, kept_cost, rule,
};
use rankfold_decompose::Control;
use rankfold_formats::read_weights;
use rankfold_graph::{CostModel, Graph};
use rankfold_zoo::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let original = network()?;
    let layers = Layer::all(&original);
    let mut plan = Plan::new(&original, "a rule of my own".to_owned(), 0);
    for (place, layer) in layers.iter().enumerate() {
        let depth = place as f64 / (layers.len() - 1) as f64;
        plan.layers
            .push(choose(&original, layer, 0.1 + 0.3 * depth)?);
    }

    let (smaller, outcomes) = apply(
        &original,
        &plan,
        &Statistics::new(),
        &NoStore,
        Control::default(),
        &|_| {},
    )?;
    for outcome in &outcomes {
        if let (Some(rank), Some(distance)) = (&outcome.rank, &outcome.distance) {
            println!(
                "{:16} {:8} {rank:10} loses {:4.1} % of its norm",
                outcome.name,
                outcome.form.name(),
                100.0 * distance.weight
            );
        }
    }
    let parameters = |graph: &Graph| {
        graph
            .cost(CostModel::True)
            .map_or(0, |cost| cost.parameters)
    };
    let (before, after) = (parameters(&original), parameters(&smaller));
    println!("{before} parameters, now {after}");
    assert!(after < before);
    Ok(())
}

/// The cheapest form and rank that lose at most a share of the norm, or the layer as it is.
fn choose(graph: &Graph, layer: &Layer, share: f64) -> Result<LayerPlan, Box<dyn Error>> {
    let kernel = layer.kernel(graph)?;
    let mut chosen = LayerPlan::keep(layer);
    let mut least = kept_cost(layer).parameters;
    for form in [Form::Svd, Form::Channel, Form::Spatial] {
        let Some(rule) = rule(form).filter(|rule| rule.applies(layer).is_ok()) else {
            continue;
        };
        let ranks: Vec<Rank> = (1..=rule.full_rank(layer).largest())
            .map(|scale| rule.rank_at(layer, scale))
            .collect();
        let errors = rule.weight_errors(layer, &kernel, &ranks, &Context::default())?;
        let Some(first) = errors.iter().position(|&error| error <= share) else {
            continue;
        };
        let cost = rule.cost(layer, ranks[first]).parameters;
        if cost < least {
            least = cost;
            chosen = LayerPlan {
                form,
                rank: Some(ranks[first]),
                error: Some(errors[first]),
                parameters: None,
                macs: None,
                ..chosen
            };
        }
    }
    Ok(chosen)
}

/// The shipped ResNet-20.
fn network() -> Result<Graph, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let checkpoint = read_weights(&root.join("models/shapes-resnet20/model.safetensors"))?;
    let weights = checkpoint.tensors.into_iter();
    let weights = weights
        .map(|(name, tensor)| (name.into(), tensor))
        .collect();
    Ok(rankfold_zoo::load(
        "resnet20",
        &weights,
        &Options::default(),
    )?)
}
