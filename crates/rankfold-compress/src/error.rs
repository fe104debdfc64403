//! What compression refuses.

use rankfold_decompose::DecomposeError;
use rankfold_graph::{CodeError, GraphError};

use crate::budget::Resource;
use crate::form::{Form, Rank};

/// Why a layer cannot take a form. Not a failure: the report shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The form is for linear layers (or for 1×1 convolutions).
    #[error("needs a linear layer or a 1×1 convolution")]
    NotLinear,
    /// The form is for convolutions with a spatial extent.
    #[error("needs a convolution kernel larger than 1×1")]
    NotSpatial,
    /// The form splits the two spatial dimensions.
    #[error("needs a kernel larger than 1 in both dimensions, found {height}×{width}")]
    OneSided {
        /// Kernel height.
        height: usize,
        /// Kernel width.
        width: usize,
    },
    /// Every filter of the convolution sees one channel: nothing is left to factor.
    #[error("depthwise: every filter sees a single channel")]
    Depthwise,
    /// The form has no grouped version.
    #[error("a convolution in {groups} groups has no such form")]
    Grouped {
        /// Number of groups.
        groups: usize,
    },
    /// Several layers share the weight.
    #[error("the weight is shared with another layer")]
    Tied,
    /// The weights are not floating-point numbers.
    #[error("the weights are no floating-point numbers")]
    NotFloat,
    /// No rank makes the layer cheaper.
    #[error("even rank {rank} costs as much as the layer")]
    NoGain {
        /// The smallest rank allowed.
        rank: Rank,
    },
}

/// What compression refuses.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// A layer that the graph does not have, or that cannot be decomposed.
    #[error("there is no layer `{name}` to decompose{}", suggestion(.nearest))]
    UnknownLayer {
        /// The name asked for.
        name: String,
        /// The layer that comes closest.
        nearest: Option<String>,
    },
    /// A form that a layer cannot take.
    #[error("layer `{layer}` cannot be `{form}`: {refusal}")]
    Refused {
        /// The layer.
        layer: String,
        /// The form asked for.
        form: Form,
        /// Why not.
        refusal: Refusal,
    },
    /// A rank out of range.
    #[error("layer `{layer}`: `{form}` takes ranks from 1 to {max}, found {rank}")]
    Rank {
        /// The layer.
        layer: String,
        /// Its form.
        form: Form,
        /// The rank asked for.
        rank: Rank,
        /// The largest possible.
        max: Rank,
    },
    /// A rank that the groups of a convolution cannot share.
    #[error("layer `{layer}`: rank {rank} cannot be divided among {groups} groups")]
    RankGroups {
        /// The layer.
        layer: String,
        /// The rank asked for.
        rank: Rank,
        /// Groups.
        groups: usize,
    },
    /// A budget below what any choice of ranks reaches.
    #[error(
        "the budget of {} cannot be met: the smallest possible is {}",
        resource.amount(*budget),
        resource.amount(*nearest)
    )]
    Budget {
        /// What is limited.
        resource: Resource,
        /// The limit.
        budget: u64,
        /// The least that the layers taking part can come down to.
        nearest: u64,
    },
    /// A budget in multiply-accumulates of a model whose sizes are open.
    #[error(
        "layer `{layer}`: its input size is open, so its multiply-accumulates cannot be counted"
    )]
    OpenSize {
        /// The layer.
        layer: String,
    },
    /// Nothing takes part.
    #[error("no layer is left to decompose")]
    NothingToDo,
    /// There is no layer.
    #[error("the network has no convolution and no linear layer")]
    NoLayer,
    /// Nothing flows between layers.
    #[error("the network has no layer whose inputs could be quantised")]
    NothingToQuantize,
    /// A glob that cannot be read.
    #[error("`{pattern}` is no glob: {reason}")]
    Glob {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A plan that is not a plan.
    #[error("the plan cannot be read: {reason}")]
    PlanSyntax {
        /// The parser's complaint, with line and column.
        reason: String,
    },
    /// A plan made for another model.
    #[error(
        "the plan was made for `{plan}` ({plan_fingerprint}), this model is `{model}` ({fingerprint})"
    )]
    PlanModel {
        /// The model's name in the plan.
        plan: String,
        /// The layers' fingerprint in the plan.
        plan_fingerprint: String,
        /// This model's name.
        model: String,
        /// This model's fingerprint.
        fingerprint: String,
    },
    /// A selection that needs what was not given.
    #[error("selection `{select}` needs {needs}")]
    Select {
        /// The selection.
        select: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// A budget of time without a timetable.
    #[error("a budget of time needs measured times")]
    NoTimes,
    /// A sweep of another model.
    #[error(
        "the sweep is of `{sweep}` ({sweep_fingerprint}), this model is `{model}` ({fingerprint})"
    )]
    SweepModel {
        /// The swept model's name.
        sweep: String,
        /// Its layers' fingerprint.
        sweep_fingerprint: String,
        /// This model's name.
        model: String,
        /// This model's fingerprint.
        fingerprint: String,
    },
    /// A sweep that lacks cells.
    #[error("the sweep is not finished: {missing} of {all} cells are missing")]
    SweepUnfinished {
        /// Cells that are not there.
        missing: usize,
        /// Cells in all.
        all: usize,
    },
    /// Accuracy is asked of a sweep on data without labels.
    #[error("the sweep was made on data without labels and tells nothing of accuracy")]
    SweepLabels,
    /// A sweep made by another protocol than the selection needs.
    #[error("expected a sweep by the protocol `{expected}`, found one by `{found}`")]
    SweepProtocol {
        /// The protocol that is needed.
        expected: &'static str,
        /// That of the sweep.
        found: &'static str,
    },
    /// A sensitivity that is no number.
    #[error("layer `{layer}`: expected a loss that is a number, found {loss}")]
    Loss {
        /// The layer.
        layer: String,
        /// What was given.
        loss: f64,
    },
    /// Weights that are not finite.
    #[error("layer `{layer}`: weight `{weight}` holds NaN or infinity at index {index}")]
    NonFinite {
        /// The layer.
        layer: String,
        /// Its weight.
        weight: String,
        /// The first such place.
        index: usize,
    },
    /// A decomposition that failed.
    #[error("layer `{layer}`: {source}")]
    Decompose {
        /// The layer.
        layer: String,
        /// What went wrong.
        source: DecomposeError,
    },
    /// A rewrite that broke the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Weights that cannot be coded.
    #[error("weight `{weight}`: {source}")]
    Code {
        /// The weight.
        weight: String,
        /// What does not fit.
        source: CodeError,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// The caller's own failure while running the model.
    #[error("running the model: {0}")]
    Probe(Box<dyn std::error::Error + Send + Sync>),
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; the nearest is `{name}`"))
        .unwrap_or_default()
}
