//! From a graph and a budget to a plan, and from the plan to a smaller graph.
//!
//! [`plan`] measures what every layer would lose in every form and rank and spends the budget where
//! it hurts least; [`apply`] decomposes the layers and rewrites the graph. Nothing here runs a model:
//! what running tells (second moments, divergence) comes in through [`Probe`].
//!
//! ```
//! use rankfold_compress::{Budget, NoStore, Request, Statistics, apply, plan};
//! use rankfold_decompose::Control;
//! use rankfold_graph::CostModel;
//!
//! let graph = rankfold_zoo::build("lenet5", &Default::default())?;
//! let request = Request::new(Budget::UniformRank { conv: None, fc: Some(8) });
//! let (data, control) = (Statistics::new(), Control::default());
//! let planned = plan(&graph, &request, &data, control, &|_| {})?;
//! let (smaller, _) = apply(&graph, &planned.plan, &data, &NoStore, control, &|_| {})?;
//! let parameters = |graph: &rankfold_graph::Graph| graph.cost(CostModel::True).unwrap().parameters;
//! assert!(4 * parameters(&smaller) < parameters(&graph));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod align;
mod apply;
mod budget;
mod cluster;
mod cost;
mod curves;
mod error;
mod form;
mod latency;
mod layer;
mod plan;
mod planner;
mod probe;
mod prune;
mod quantize;
mod reconstruct;
mod rules;
mod select;
mod sweep;

pub use apply::{FactorStore, NoStore, Outcome, apply};
pub use budget::{Budget, LayerRank, Limit, Resource};
pub use cluster::{Clustered, Clustering, cluster, means};
pub use cost::{LayerCost, StageOutline, kept_cost};
pub use curves::{CurveOptions, LayerCurves, Point};
pub use error::{CompressError, Refusal};
pub use form::{Form, Rank, UnknownForm};
pub use latency::{
    Engine, LayerTimes, Memo, Repeat, StepTime, Timetable, Timing, TimingGrid, by_turns, outlined,
    skeleton, timetable, timing_grid,
};
pub use layer::{Geometry, Kind, Layer, is_part_of};
pub use plan::{LayerPlan, PLAN_VERSION, Plan, fingerprint};
pub use planner::{Planned, Request, plan};
pub use probe::{LayerStatistics, Observations, PairedStatistics, Probe, Statistics};
pub use prune::{
    Activity, ChannelActivity, Channels, ConnectionRule, Criterion, LayerChannels, LayerZeros,
    Obstacle, Selection, Site, Verdict, prune_connections,
};
pub use quantize::{Observed, Quantized, RangeRule, Try, quantize, quantize_weights};
pub use reconstruct::reconstruct;
pub use rules::{Context, Distance, Kernels, RULES, Rule, rule};
pub use select::Select;
pub use sweep::{
    Answer, Baseline, Calibrated, Cell, Changed, Evidence, GridRequest, Judge, Protocol,
    Replacements, SWEEP_VERSION, Share, Sweep, SweptData, SweptForm, SweptLayer, SweptModel, grid,
};
