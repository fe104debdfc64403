//! Ranks by the simpler rules, within a budget.
#![allow(clippy::unwrap_used)]

use rankfold_compress::{
    Budget, Form, Limit, Planned, Rank, Request, Resource, Select, Statistics, plan,
};
use rankfold_decompose::Control;
use rankfold_graph::{CostModel, Graph};
use rankfold_zoo::{Options, build};

fn network() -> Graph {
    build("lenet5", &Options::default()).unwrap()
}

fn planned(graph: &Graph, select: Select, losses: Option<&[(&str, f64)]>) -> Planned {
    let budget = Budget::Within {
        resource: Resource::Parameters,
        limit: Limit::Share(0.5),
    };
    let owned = |(name, loss): &(&str, f64)| ((*name).to_owned(), *loss);
    let request = Request {
        select,
        losses: losses.map(|losses| losses.iter().map(owned).collect()),
        ..Request::new(budget)
    };
    let control = Control::default();
    plan(graph, &request, &Statistics::new(), control, &|_| ()).unwrap()
}

fn rank(planned: &Planned, layer: &str) -> usize {
    match planned.plan.layer(layer).unwrap().rank {
        Some(Rank::One(rank)) => rank,
        other => panic!("{layer}: {other:?}"),
    }
}

fn saved(planned: &Planned) -> u64 {
    let layers = planned.plan.layers.iter().filter_map(|l| l.parameters);
    layers.map(|[before, after]| before - after).sum()
}

#[test]
fn ranks_are_in_proportion_to_losses_and_what_has_none_is_kept() {
    let graph = network();
    let planned = planned(
        &graph,
        Select::Sensitivity,
        Some(&[("fc1", 2.0), ("fc2", 1.0)]),
    );
    let (first, second) = (rank(&planned, "fc1"), rank(&planned, "fc2"));
    assert!(second > 5, "{second}");
    assert!(first.abs_diff(2 * second) <= 1, "{first} and {second}");
    for kept in ["conv1", "conv2", "fc3"] {
        assert_eq!(planned.plan.layer(kept).unwrap().form, Form::Keep, "{kept}");
    }
    let total = graph.cost(CostModel::True).unwrap().parameters;
    assert!(saved(&planned) >= total / 2);
    // Two more of the first layer and one of the second would not fit.
    let more = 2 * (400 + 120) + 120 + 84;
    assert!(saved(&planned) < total / 2 + more, "{}", saved(&planned));
}

#[test]
fn estimates_of_ranks_are_made_where_they_choose() {
    let graph = network();
    for (select, made) in [(Select::Evbmf, true), (Select::Uniform, false)] {
        let planned = planned(&graph, select, None);
        for curves in &planned.curves {
            assert_eq!(
                curves.evbmf.is_some(),
                made,
                "{select:?} {}",
                curves.layer.name
            );
        }
    }
}
