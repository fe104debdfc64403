//! The options of pruning.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use rankfold_compress::{ConnectionRule, Criterion};

use crate::args::at_least_one;
use crate::failure::{Failure, Outcome};
use crate::training::at_least_zero;

/// What goes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pruning")]
pub(crate) struct RuleArgs {
    /// Remove channels by what the activations behind them give
    #[arg(long, value_enum, value_name = "CRITERION")]
    nodes: Option<NodesArg>,

    /// Set small weights to zero, once channels are gone; with --nodes or --epochs the network then trains
    /// once more, and no training moves a weight that is zero
    #[arg(long)]
    connections: bool,

    /// How channels and weights are judged: scale-free, or thesis (Çallı 2017)
    #[arg(long, value_enum, default_value = "scale-free")]
    rule: RuleArg,

    /// Standard deviations below its layer's mean at which a channel goes, with the scale-free rule
    #[arg(long, default_value = "2", value_name = "Z")]
    deviations: f64,

    /// Weights go below so many times the root mean square of their layer; with the thesis' rule below
    /// their mean and so many times their variance
    #[arg(long, default_value = "0.25", value_name = "X")]
    threshold: f64,
}

/// How pruning and training take turns.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pruning")]
pub(crate) struct CycleArgs {
    /// Most times that channels are removed
    #[arg(long, value_parser = at_least_one, default_value = "10", value_name = "N")]
    pub(crate) cycles: NonZeroUsize,

    /// Inputs that activations are judged by, spread over what is learnt from
    #[arg(long, value_parser = at_least_one, default_value = "10000", value_name = "N")]
    pub(crate) samples: NonZeroUsize,

    /// Move the remaining weights at random before each training, by that share of their root mean square
    #[arg(long, value_name = "SHARE")]
    pub(crate) distort: Option<f64>,

    /// Vain cycles in a row after which to try once more, with --distort
    #[arg(long, default_value = "0", value_name = "N", requires = "distort")]
    pub(crate) patience: usize,

    /// Take a cycle back after which the divergence from the teacher, or without one the loss, on inputs
    /// that are not learnt from is larger than at first by more than this
    #[arg(long, value_name = "X")]
    pub(crate) tolerance: Option<f64>,

    /// Learn from labels instead of the answers of the model as it was
    #[arg(long)]
    pub(crate) no_teacher: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NodesArg {
    /// What is never active goes; with the scale-free rule what is seldom active too
    ActivationCount,
    /// What hardly varies goes; by the thesis what does not vary by half to one and a half of its mean
    ActivationVariance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuleArg {
    /// The scale of a layer plays no part
    ScaleFree,
    /// As Çallı (2017) has it
    Thesis,
}

impl RuleArgs {
    /// True where channels are to go.
    pub(crate) fn has_nodes(&self) -> bool {
        self.nodes.is_some()
    }

    /// True where weights are to become zero.
    pub(crate) fn has_connections(&self) -> bool {
        self.connections
    }

    /// By what channels go; none where all stay.
    pub(crate) fn criterion(&self) -> Outcome<Option<Criterion>> {
        let deviations = at_least_zero("--deviations", self.deviations)?;
        Ok(self.nodes.map(|nodes| match (nodes, self.rule) {
            (NodesArg::ActivationCount, RuleArg::Thesis) => Criterion::EverActive,
            (NodesArg::ActivationCount, RuleArg::ScaleFree) => {
                Criterion::OftenActive { deviations }
            }
            (NodesArg::ActivationVariance, RuleArg::Thesis) => Criterion::MeanVariance,
            (NodesArg::ActivationVariance, RuleArg::ScaleFree) => Criterion::Varying { deviations },
        }))
    }

    /// By what weights become zero; none where all stay.
    pub(crate) fn connections(&self) -> Outcome<Option<ConnectionRule>> {
        let threshold = at_least_zero("--threshold", self.threshold)?;
        Ok(self.connections.then_some(match self.rule {
            RuleArg::ScaleFree => ConnectionRule::RootMeanSquare(threshold),
            RuleArg::Thesis => ConnectionRule::MeanVariance(threshold),
        }))
    }
}

impl CycleArgs {
    /// An error where numbers are out of range, or ask for cycles of training that are not to be.
    pub(crate) fn check(&self, trains: bool) -> Outcome {
        let numbers = [("--distort", self.distort), ("--tolerance", self.tolerance)];
        for (option, given) in numbers {
            let Some(given) = given else { continue };
            at_least_zero(option, given)?;
            if !trains {
                let message = format!("{option} is for cycles of training, and there are none");
                return Err(Failure::usage(message)
                    .hint("leave it out, or give --nodes, and not --epochs 0"));
            }
        }
        Ok(())
    }
}
