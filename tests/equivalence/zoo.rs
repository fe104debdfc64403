//! Every network of the zoo can be compressed.

#![allow(clippy::unwrap_used)]

use rankfold_compress::{Budget, NoStore, Request, Statistics, apply, plan};
use rankfold_decompose::Control;
use rankfold_graph::CostModel;
use rankfold_zoo::Options;

#[test]
fn every_network_becomes_smaller_and_keeps_its_inputs_and_outputs() {
    let (control, quiet) = (Control::default(), |_: &str| {});
    for network in rankfold_zoo::list() {
        let graph = rankfold_zoo::build(network.name, &Options::default()).unwrap();
        // Two numbers come in, so that no matrix of this network has more than two singular values.
        let fc = if network.name == "calli-sum" { 1 } else { 8 };
        let request = Request::new(Budget::UniformRank {
            conv: Some(4),
            fc: Some(fc),
        });
        let statistics = Statistics::new();
        let planned = plan(&graph, &request, &statistics, control, &quiet).unwrap();
        let done = apply(
            &graph,
            &planned.plan,
            &statistics,
            &NoStore,
            control,
            &quiet,
        );
        let (smaller, _) = done.unwrap();
        let [before, after] = [&graph, &smaller].map(|g| g.cost(CostModel::True).unwrap());
        assert!(after.parameters < before.parameters, "{}", network.name);
        let ends = |graph: &rankfold_graph::Graph| {
            let values = graph.inputs().iter().chain(graph.outputs());
            let values = values.map(|&id| graph.value(id).clone());
            format!("{:?}", values.collect::<Vec<_>>())
        };
        assert_eq!(ends(&graph), ends(&smaller), "{}", network.name);
    }
}
