//! The options that let a sweep choose ranks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use rankfold_compress::{Budget, Evidence, Judge, Request, Select};
use rankfold_graph::Graph;

use crate::failure::{Failure, Kind, Outcome};
use crate::sweep::read;

/// What a sweep tells a selection.
#[derive(Debug, Clone, Args)]
pub(crate) struct SweptArgs {
    /// The folder of a sweep of this model (see `rankfold sweep`); it decides unless --select says how
    #[arg(long, value_name = "SWEEP")]
    sweep: Option<PathBuf>,

    /// What of a sweep counts
    #[arg(long, value_enum, default_value = "kl", value_name = "WHAT")]
    by: By,

    /// A TOML file of what each layer alone loses, one `"layer" = loss` a line, for --select sensitivity
    #[arg(long, value_name = "FILE", conflicts_with = "sweep")]
    losses: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// The divergence of the outputs from the original's
    Kl,
    /// The right answers that are lost
    Accuracy,
}

impl SweptArgs {
    /// The selection, where `--sweep` or the budget says which instead of `--select`.
    pub(crate) fn select(&self, chosen: Select, budget: &Budget) -> Outcome<Select> {
        let select = match (chosen, budget) {
            (Select::Auto, Budget::AverageRank { .. }) => Select::Sensitivity,
            (Select::Auto, Budget::MaxDrop(_)) => Select::Curves,
            (Select::Auto, _) if self.sweep.is_some() => Select::Curves,
            (Select::Auto, _) if self.losses.is_some() => Select::Sensitivity,
            (chosen, _) => chosen,
        };
        let usage = |message: String, hint: &str| Err(Failure::usage(message).hint(hint));
        let name = select.name();
        match (select, budget) {
            (Select::Sensitivity, _) if self.sweep.is_none() && self.losses.is_none() => usage(
                format!("--select {name} needs what each layer alone loses"),
                "give --sweep with a sweep by --protocol paper, or --losses FILE",
            ),
            (Select::Curves | Select::Greedy, _) if self.sweep.is_none() => usage(
                format!("--select {name} needs a sweep"),
                "make one with `rankfold sweep` and give it with --sweep",
            ),
            (Select::Sensitivity, Budget::MaxDrop(_)) => usage(
                "--max-drop is read off curves".to_owned(),
                "use --select curves or greedy with it",
            ),
            (
                Select::Sensitivity | Select::Curves | Select::Greedy,
                Budget::Energy(_) | Budget::MeanSquare(_),
            ) => {
                let decides = match budget {
                    Budget::Energy(_) => "--energy",
                    _ => "--mse",
                };
                usage(
                    format!("{decides} decides alone, --select {name} cannot"),
                    "leave --select out, or give another budget",
                )
            }
            (Select::Sensitivity, _) => Ok(select),
            (_, Budget::AverageRank { .. }) => usage(
                format!("--average-rank is shared by sensitivity, not by {name}"),
                "use --select sensitivity with it",
            ),
            (Select::Curves | Select::Greedy, _) if self.losses.is_none() => Ok(select),
            _ if self.sweep.is_some() => usage(
                format!("--select {name} does not read a sweep"),
                "leave --sweep out, or use --select curves, greedy or sensitivity",
            ),
            _ if self.losses.is_some() => usage(
                format!("--select {name} does not read losses"),
                "leave --losses out, or use --select sensitivity",
            ),
            _ => Ok(select),
        }
    }

    /// Puts what the sweep or the file tells into a request for a graph.
    pub(crate) fn tell(&self, request: &mut Request, graph: &Graph) -> Outcome {
        if let Some(file) = &self.losses {
            request.losses = Some(read_losses(file)?);
        }
        let Some(folder) = &self.sweep else {
            return Ok(());
        };
        let judge = match self.by {
            By::Kl => Judge::Divergence,
            By::Accuracy => Judge::Accuracy,
        };
        let (sweep, cells) = read(folder)?;
        let evidence = Evidence::new(sweep, cells, judge, graph)?;
        if request.select == Select::Sensitivity {
            request.losses = Some(evidence.sensitivities()?);
        }
        request.evidence = Some(Arc::new(evidence));
        Ok(())
    }
}

fn read_losses(file: &Path) -> Outcome<Vec<(String, f64)>> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::io(file, &e))?;
    let losses: BTreeMap<String, f64> = toml::from_str(&text).map_err(|e| {
        Failure::new(Kind::BadFile, format!("{}: {e}", file.display()))
            .hint("one line a layer: \"features.3\" = 11.89")
    })?;
    Ok(losses.into_iter().collect())
}

/// `conv=R,fc=R`, either part alone: averages of ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AverageRank {
    pub(crate) conv: Option<f64>,
    pub(crate) fc: Option<f64>,
}

impl FromStr for AverageRank {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected conv=R,fc=R with averages of at least 1".to_owned();
        let (mut conv, mut fc) = (None, None);
        for part in text.split(',') {
            let (name, rank) = part.split_once('=').ok_or_else(expected)?;
            let rank = rank.parse().ok().filter(|rank| (1.0..1e6).contains(rank));
            let place = match name {
                "conv" => &mut conv,
                "fc" => &mut fc,
                _ => return Err(expected()),
            };
            *place = Some(rank.ok_or_else(expected)?);
        }
        Ok(Self { conv, fc })
    }
}
