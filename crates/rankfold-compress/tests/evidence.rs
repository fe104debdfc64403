//! Ranks chosen by sweeps whose cells are known.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rankfold_compress::{
    Baseline, Budget, Calibrated, Cell, Changed, CompressError, Evidence, Form, GridRequest, Judge,
    Limit, Planned, Protocol, Request, Resource, SWEEP_VERSION, Select, Share, Statistics, Sweep,
    SweptData, SweptModel, fingerprint, grid, plan,
};
use rankfold_decompose::Control;
use rankfold_graph::{CostModel, Graph};
use rankfold_zoo::{Options, build};

const IMAGES: u64 = 10_000;

fn network() -> Graph {
    build("lenet5", &Options::default()).unwrap()
}

fn described(graph: &Graph) -> Sweep {
    let cost = graph.cost(CostModel::True).unwrap();
    let share = Share {
        correct: 9_000,
        of: IMAGES,
    };
    Sweep {
        version: SWEEP_VERSION,
        rankfold: String::new(),
        command: String::new(),
        protocol: Protocol::Curves,
        seed: 0,
        model: SweptModel {
            name: graph.meta().name.clone(),
            path: None,
            sha256: None,
            fingerprint: fingerprint(graph),
            parameters: cost.parameters,
            macs: cost.macs,
        },
        data: SweptData {
            spec: "shapes".to_owned(),
            split: "train".to_owned(),
            images: IMAGES as usize,
            labelled: true,
            classes: Some(10),
            sha256: String::new(),
            calibration: Calibrated {
                split: "train".to_owned(),
                images: 8,
            },
        },
        layers: grid(graph, &GridRequest::default()).unwrap(),
        baseline: Baseline {
            accuracy: Some(share),
            top5: Some(share),
            kl: 0.0,
        },
    }
}

/// Cells whose divergence is `scale` of the layer's name times a power of what was taken away, and that
/// lose a tenth of it in accuracy.
fn cells(sweep: &Sweep, scale: &dyn Fn(&str) -> f64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for layer in &sweep.layers {
        for form in &layer.forms {
            for (place, &rank) in form.ranks.iter().enumerate() {
                let kl = scale(&layer.name) * 0.3f64.powi(place as i32);
                let lost = ((0.1 * kl * IMAGES as f64).round() as u64).min(9_000);
                cells.push(Cell {
                    layer: layer.name.clone(),
                    form: form.form,
                    rank,
                    layer_parameters: 0,
                    layer_macs: 0,
                    weight_error: 0.5,
                    response_error: Some(0.5),
                    accuracy: Some(Share {
                        correct: 9_000 - lost,
                        of: IMAGES,
                    }),
                    top5: None,
                    changed: Some(Changed { lost, gained: 0 }),
                    kl,
                    kl_se: 0.0,
                    recalibrated: false,
                    seconds: 0.0,
                });
            }
        }
    }
    cells
}

fn planned(graph: &Graph, select: Select, budget: Budget, scale: &dyn Fn(&str) -> f64) -> Planned {
    let sweep = described(graph);
    let cells = cells(&sweep, scale);
    let evidence = Evidence::new(sweep, cells, Judge::Divergence, graph).unwrap();
    let request = Request {
        select,
        evidence: Some(Arc::new(evidence)),
        ..Request::new(budget)
    };
    plan(
        graph,
        &request,
        &Statistics::new(),
        Control::default(),
        &|_| (),
    )
    .unwrap()
}

fn half() -> Budget {
    Budget::Within {
        resource: Resource::Parameters,
        limit: Limit::Share(0.5),
    }
}

/// The share of its parameters that a layer keeps.
fn kept(planned: &Planned, name: &str) -> f64 {
    let [before, after] = planned.plan.layer(name).unwrap().parameters.unwrap();
    after as f64 / before as f64
}

/// Divergences of the chosen points.
fn divergences(planned: &Planned) -> Vec<f64> {
    let of = |curves: &rankfold_compress::LayerCurves| {
        let chosen = planned.plan.layer(&curves.layer.name).unwrap();
        let mut points = curves.points.iter();
        let point = points.find(|p| p.form == chosen.form && p.rank == chosen.rank);
        point.unwrap().answer.unwrap().divergence
    };
    planned.curves.iter().map(of).collect()
}

#[test]
fn curves_fall_with_the_rank_and_pass_through_the_cells() {
    let graph = network();
    let planned = planned(&graph, Select::Curves, half(), &|_| 1.0);
    let sweep = described(&graph);
    for (curves, layer) in planned.curves.iter().zip(&sweep.layers) {
        for form in &layer.forms {
            let points = || curves.points.iter().filter(|point| point.form == form.form);
            let divergences: Vec<f64> = points().map(|p| p.answer.unwrap().divergence).collect();
            assert!(!divergences.is_empty(), "{} {}", layer.name, form.form);
            assert!(divergences.is_sorted_by(|a, b| a >= b), "{divergences:?}");
            for (place, rank) in form.ranks.iter().enumerate() {
                let point = points().find(|point| point.rank == Some(*rank)).unwrap();
                let wanted = 0.3f64.powi(place as i32);
                let divergence = point.answer.unwrap().divergence;
                assert!((divergence / wanted - 1.0).abs() < 1e-9);
                assert!(point.measured);
            }
        }
    }
}

#[test]
fn what_hurts_more_keeps_more_and_budgets_are_kept() {
    let graph = network();
    let total = graph.cost(CostModel::True).unwrap().parameters;
    let name = |planned: &Planned| {
        let large = planned
            .plan
            .layers
            .iter()
            .max_by_key(|l| l.parameters.map(|p| p[0]));
        large.unwrap().name.clone()
    };
    for select in [Select::Curves, Select::Greedy] {
        let alike = planned(&graph, select, half(), &|_| 1.0);
        let largest = name(&alike);
        let scale = |layer: &str| if layer == largest { 100.0 } else { 1.0 };
        let tender = planned(&graph, select, half(), &scale);
        assert!(
            kept(&tender, &largest) > kept(&alike, &largest),
            "{select:?}"
        );
        for planned in [&alike, &tender] {
            let saved: u64 = (planned.plan.layers.iter())
                .filter_map(|layer| layer.parameters)
                .map(|[before, after]| before - after)
                .sum();
            assert!(saved >= total / 2, "{select:?}: {saved} of {total}");
        }
    }
}

#[test]
fn of_layers_that_lose_no_accuracy_the_one_that_diverges_more_keeps_more() {
    let graph = network();
    let kept_at = |diverges: &str| {
        let sweep = described(&graph);
        let scale = |layer: &str| if layer == diverges { 0.1 } else { 0.001 };
        let mut cells = cells(&sweep, &scale);
        for cell in &mut cells {
            cell.changed = Some(Changed { lost: 0, gained: 0 });
        }
        let evidence = Evidence::new(sweep, cells, Judge::Accuracy, &graph).unwrap();
        let request = Request {
            select: Select::Curves,
            evidence: Some(Arc::new(evidence)),
            ..Request::new(half())
        };
        let (statistics, control) = (Statistics::new(), Control::default());
        let planned = plan(&graph, &request, &statistics, control, &|_| ()).unwrap();
        ["fc1", "fc2"].map(|layer| kept(&planned, layer))
    };
    let (first, second) = (kept_at("fc1"), kept_at("fc2"));
    assert!(
        first[0] > second[0] && first[1] < second[1],
        "{first:?} {second:?}"
    );
}

#[test]
fn greedy_has_the_least_worst_layer_and_curves_the_least_sum() {
    let graph = network();
    let scale = |layer: &str| 0.1 + layer.len() as f64 % 3.0;
    let curves = divergences(&planned(&graph, Select::Curves, half(), &scale));
    let greedy = divergences(&planned(&graph, Select::Greedy, half(), &scale));
    let worst = |divergences: &[f64]| divergences.iter().copied().fold(0.0, f64::max);
    assert!(
        worst(&greedy) <= worst(&curves) + 1e-12,
        "{greedy:?} {curves:?}"
    );
    // The hull leaves a sliver of the budget unspent.
    assert!(curves.iter().sum::<f64>() <= 1.02 * greedy.iter().sum::<f64>());
}

#[test]
fn a_largest_drop_takes_as_much_away_as_it_allows() {
    let graph = network();
    let size = |drop: f64| {
        let planned = planned(&graph, Select::Curves, Budget::MaxDrop(drop), &|_| 1.0);
        let answer = planned.expected.unwrap();
        // Cells lose a tenth of their divergence, up to the rounding of counts.
        let promised = answer.drop.unwrap();
        assert!(promised <= drop, "{promised} of {drop}");
        assert!(
            (promised - 0.1 * answer.divergence).abs() < 2e-4,
            "{answer:?}"
        );
        let sizes = planned
            .plan
            .layers
            .iter()
            .filter_map(|layer| layer.parameters);
        sizes.map(|[_, after]| after).sum::<u64>()
    };
    let sizes = [0.001, 0.01, 0.05].map(size);
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

#[test]
fn what_the_cells_cannot_tell_is_refused() {
    let graph = network();
    let sweep = described(&graph);
    let all = cells(&sweep, &|_| 1.0);
    let mut fewer = all.clone();
    let last = fewer.pop().unwrap();
    // A cell that is there twice does not make up for one that is not.
    fewer.push(fewer[0].clone());
    let missing = Evidence::new(sweep.clone(), fewer, Judge::Divergence, &graph).unwrap_err();
    assert!(
        matches!(missing, CompressError::SweepUnfinished { missing: 1, all: n } if n == all.len()),
        "{missing} without {}",
        last.layer
    );
    let mut blind = all.clone();
    blind[3].changed = None;
    let labels = Evidence::new(sweep.clone(), blind, Judge::Accuracy, &graph).unwrap_err();
    assert!(matches!(labels, CompressError::SweepLabels));
    let other = build("resnet20", &Options::default()).unwrap();
    let model = Evidence::new(sweep.clone(), all.clone(), Judge::Divergence, &other).unwrap_err();
    assert!(matches!(model, CompressError::SweepModel { .. }));
    let paper = Sweep {
        protocol: Protocol::Paper { rank: 1, epochs: 1 },
        ..sweep.clone()
    };
    let evidence = Evidence::new(sweep, all.clone(), Judge::Divergence, &graph).unwrap();
    assert!(matches!(
        evidence.sensitivities(),
        Err(CompressError::SweepProtocol { .. })
    ));
    let request = Request {
        select: Select::Curves,
        evidence: Some(Arc::new(
            Evidence::new(paper, all, Judge::Divergence, &graph).unwrap(),
        )),
        ..Request::new(half())
    };
    let statistics = Statistics::new();
    let error = plan(&graph, &request, &statistics, Control::default(), &|_| ()).unwrap_err();
    assert!(
        matches!(error, CompressError::SweepProtocol { .. }),
        "{error}"
    );
    let none = Request {
        evidence: None,
        ..request
    };
    let error = plan(&graph, &none, &statistics, Control::default(), &|_| ()).unwrap_err();
    assert!(matches!(error, CompressError::Select { .. }), "{error}");
}

#[test]
fn the_papers_protocol_has_one_cell_for_each_layer_that_it_makes_smaller() {
    let graph = network();
    let forms = |probe: usize| {
        let request = GridRequest {
            probe: Some(probe),
            ..GridRequest::default()
        };
        grid(&graph, &request).unwrap()
    };
    for layer in forms(2) {
        assert_eq!(layer.forms.len(), 1, "{}", layer.name);
        assert_eq!(layer.forms[0].ranks.len(), 1);
        let linear = layer.shape[2..] == [1, 1];
        assert_eq!(linear, layer.forms[0].form == Form::Svd, "{}", layer.name);
    }
    let large = forms(40);
    for layer in &large {
        let small = layer.parameters < 2_000;
        assert_eq!(small, layer.forms.is_empty(), "{}", layer.name);
        assert_eq!(
            small,
            layer
                .refused
                .iter()
                .any(|why| why.contains("costs as much"))
        );
    }
    assert!(large.iter().any(|layer| layer.forms.is_empty()));
    assert!(large.iter().any(|layer| !layer.forms.is_empty()));
}
