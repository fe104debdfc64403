//! From curves and a budget to a form and a rank for every layer.

mod baseline;
mod drop;
mod greedy;
mod hull;
mod lagrange;
mod sensitivity;

use serde::{Deserialize, Serialize};

use crate::budget::Resource;
use crate::cost::kept_cost;
use crate::curves::{LayerCurves, Point};
use crate::error::CompressError;
use crate::planner::Request;

pub(crate) use baseline::{at_energy, at_mean_square, paper_form};
pub(crate) use drop::{expected, smallest};
use greedy::equal_loss;
use lagrange::least_loss;
pub(crate) use sensitivity::at_average_rank;

/// How ranks are chosen within a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// All forms compete by what they do to the output, as far as data tell.
    #[default]
    Auto,
    /// All forms compete by relative response error, every layer alike.
    Response,
    /// All forms compete by relative weight error, every layer alike.
    WeightError,
    /// The paper's forms with one rank for all.
    Uniform,
    /// The paper's forms with ranks proportional to parameters.
    Proportional,
    /// The paper's forms with as much energy kept everywhere.
    Energy,
    /// The paper's forms with ranks in the proportions of EVBMF's estimates.
    Evbmf,
    /// All forms compete by what a sweep measured of the whole network.
    Curves,
    /// Every layer loses as much, by what a sweep measured of the whole network.
    Greedy,
    /// The paper's forms with ranks proportional to what each layer alone loses.
    Sensitivity,
}

impl Select {
    /// The name in options and plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Response => "response",
            Self::WeightError => "weight-error",
            Self::Uniform => "uniform",
            Self::Proportional => "proportional",
            Self::Energy => "energy",
            Self::Evbmf => "evbmf",
            Self::Curves => "curves",
            Self::Greedy => "greedy",
            Self::Sensitivity => "sensitivity",
        }
    }

    /// True where layers take the paper's forms and no others.
    pub(crate) fn has_paper_forms(self) -> bool {
        match self {
            Self::Uniform | Self::Proportional | Self::Energy | Self::Evbmf | Self::Sensitivity => {
                true
            }
            Self::Auto | Self::Response | Self::WeightError | Self::Curves | Self::Greedy => false,
        }
    }

    /// True where a sweep's cells are the curves.
    pub(crate) fn reads_cells(self) -> bool {
        matches!(self, Self::Curves | Self::Greedy)
    }
}

/// What a selection may spend on the layers that take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Which cost counts; bytes count as parameters.
    pub(crate) resource: Resource,
    /// How much.
    pub(crate) limit: u64,
    /// The budget of the whole network, for messages.
    pub(crate) budget: u64,
    /// What one of `limit` is of the budget: the bytes of a number.
    pub(crate) unit: u64,
    /// What the rest of the network costs.
    pub(crate) rest: i64,
}

impl Allowance {
    /// What the budget limits of a point.
    pub(crate) fn count(&self, point: &Point) -> u64 {
        match self.resource {
            Resource::Parameters | Resource::Bytes => point.cost.parameters,
            Resource::Macs => point.cost.macs,
            Resource::Time => point.nanoseconds.unwrap_or(0),
        }
    }

    /// That the layers take `nearest` at least.
    pub(crate) fn unmet(&self, nearest: u64) -> CompressError {
        CompressError::Budget {
            resource: self.resource,
            budget: self.budget,
            nearest: nearest.saturating_add_signed(self.rest) * self.unit,
        }
    }
}

/// A point for every layer within the allowance, chosen as `select` says.
pub(crate) fn select(
    curves: &[LayerCurves],
    request: &Request,
    allowance: Allowance,
) -> Result<Vec<Point>, CompressError> {
    match request.select {
        Select::Auto => least_loss(curves, allowance, auto_loss),
        Select::Response => least_loss(curves, allowance, response_loss),
        Select::WeightError => least_loss(curves, allowance, weight_loss),
        Select::Uniform => baseline::uniform(curves, allowance),
        Select::Proportional => baseline::proportional(curves, allowance),
        Select::Energy => baseline::energy(curves, allowance),
        Select::Evbmf => baseline::evbmf(curves, allowance),
        Select::Curves => least_loss(curves, allowance, |point| request.loss(point)),
        Select::Greedy => equal_loss(curves, allowance, |point| request.loss(point)),
        Select::Sensitivity => baseline::sensitivity(curves, allowance, request.losses()?),
    }
}

fn auto_loss(point: &Point) -> f64 {
    let distance = &point.distance;
    distance.damage.unwrap_or_else(|| response_loss(point))
}

fn response_loss(point: &Point) -> f64 {
    point
        .distance
        .response
        .unwrap_or(point.distance.weight)
        .powi(2)
}

fn weight_loss(point: &Point) -> f64 {
    point.distance.weight.powi(2)
}

/// The point that keeps the layer as it is.
fn kept(curves: &LayerCurves) -> Point {
    let own = kept_cost(&curves.layer);
    *curves
        .points
        .iter()
        .find(|point| point.rank.is_none() && point.cost == own)
        .expect("invariant: every layer can be kept")
}
