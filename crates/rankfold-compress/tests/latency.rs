//! Budgets of time, from times that are known.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rankfold_compress::{
    Budget, CompressError, CurveOptions, Form, Layer, LayerTimes, Limit, Planned, Rank, Request,
    Resource, Statistics, Timetable, outlined, plan, timing_grid,
};
use rankfold_decompose::Control;
use rankfold_graph::{CostModel, Graph};
use rankfold_zoo::{Options, build};

const REST: u64 = 1_000;

fn network() -> Graph {
    build("resnet20", &Options::default()).unwrap()
}

/// Every layer takes a thousand as it is, and what `time` says in a form at a rank.
fn timetable(graph: &Graph, time: impl Fn(&str, Form, usize) -> u64) -> Timetable {
    let grid = timing_grid(graph, &request(Budget::Energy(0.5))).unwrap();
    let layers: Vec<LayerTimes> = (grid.layers.iter())
        .map(|(layer, forms)| {
            let times = forms.iter().map(|form| {
                let at = |&rank: &Rank| (rank, time(&layer.name, form.form, rank.largest()));
                (form.form, form.ranks.iter().map(at).collect())
            });
            LayerTimes {
                name: layer.name.clone(),
                kept: 1_000,
                forms: times.collect(),
            }
        })
        .collect();
    Timetable {
        total: REST + 1_000 * layers.len() as u64,
        layers,
        step: grid.step,
    }
}

/// A request for which few curves are measured.
fn request(budget: Budget) -> Request {
    let curves = CurveOptions {
        ranks: 3,
        ..CurveOptions::default()
    };
    Request {
        only: vec!["layer[12].*".to_owned()],
        forms: Some(vec![Form::Spatial, Form::Channel]),
        curves,
        ..Request::new(budget)
    }
}

fn planned(graph: &Graph, times: Timetable, limit: Limit) -> Result<Planned, CompressError> {
    let resource = Resource::Time;
    let request = Request {
        times: Some(Arc::new(times)),
        ..request(Budget::Within { resource, limit })
    };
    let nothing = Statistics::new();
    plan(graph, &request, &nothing, Control::default(), &|_| ())
}

/// The time of the plan's points.
fn time(planned: &Planned) -> u64 {
    let of = |curves: &rankfold_compress::LayerCurves| {
        let chosen = planned.plan.layer(&curves.layer.name).unwrap();
        let mut points = curves.points.iter();
        let point = points.find(|p| p.form == chosen.form && p.rank == chosen.rank);
        point.unwrap().nanoseconds.unwrap()
    };
    planned.curves.iter().map(of).sum()
}

#[test]
fn nothing_is_replaced_by_what_is_slower() {
    let graph = network();
    let slow = |name: &str, form, rank: usize| match (name.starts_with("layer1"), form) {
        (true, _) => 1_001,
        (false, Form::Spatial) => 100 + 5 * rank as u64,
        _ => 2_000,
    };
    let times = timetable(&graph, slow);
    let total = times.total;
    let planned = planned(&graph, times, Limit::Share(0.75)).unwrap();
    for layer in &planned.plan.layers {
        match layer.form {
            Form::Keep => {}
            form => {
                assert_eq!(form, Form::Spatial, "{}", layer.name);
                assert!(!layer.name.starts_with("layer1"), "{}", layer.name);
            }
        }
    }
    assert!(REST + time(&planned) <= total * 3 / 4);
    assert!(planned.plan.layers.iter().any(|l| l.form == Form::Spatial));
}

#[test]
fn budgets_in_time_are_kept_or_the_nearest_is_named() {
    let graph = network();
    let quick = |_: &str, _, rank: usize| 100 + 10 * rank as u64;
    for limit in [Limit::Share(0.5), Limit::AtMost(8_000)] {
        let times = timetable(&graph, quick);
        let allowed = limit.of(times.total);
        let planned = planned(&graph, times, limit).unwrap();
        assert!(REST + time(&planned) <= allowed);
        let predicted = timetable(&graph, quick).predicted(&planned.plan);
        assert_eq!(predicted, Some(REST + time(&planned)));
    }
    let error = planned(&graph, timetable(&graph, quick), Limit::AtMost(2_000)).unwrap_err();
    assert!(
        matches!(error, CompressError::Budget { nearest, .. } if nearest > 2_000),
        "{error}"
    );
    assert!(error.to_string().contains("ms"), "{error}");
    let budget = Budget::Within {
        resource: Resource::Time,
        limit: Limit::Share(0.5),
    };
    let nothing = Statistics::new();
    let error = plan(
        &graph,
        &request(budget),
        &nothing,
        Control::default(),
        &|_| (),
    );
    assert!(matches!(error, Err(CompressError::NoTimes)));
}

#[test]
fn outlines_are_what_a_decomposition_would_make() {
    let graph = network();
    let grid = timing_grid(&graph, &Request::new(Budget::Energy(0.5))).unwrap();
    assert_eq!(grid.layers.len(), Layer::all(&graph).len());
    for (layer, forms) in &grid.layers {
        for form in forms {
            for &rank in &form.ranks {
                let outlined = outlined(&graph, layer, form.form, rank).unwrap();
                let before = graph.cost(CostModel::True).unwrap();
                let after = outlined.cost(CostModel::True).unwrap();
                let cheaper = after.parameters < before.parameters || after.macs < before.macs;
                assert!(cheaper, "{} {} {rank}", layer.name, form.form);
            }
        }
    }
}
