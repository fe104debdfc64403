//! From the options that `plan` and `compress` share to a request.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use rankfold_compress::{Budget, CurveOptions, Form, LayerRank, Limit, Request, Resource, Select};
use rankfold_graph::Graph;
use serde::Deserialize;

use crate::args::at_least_one;
use crate::failure::{Failure, Kind, Outcome};
use crate::latency::LatencyArgs;
use crate::swept::{AverageRank, SweptArgs};

/// How much smaller, and how the ranks are chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct BudgetArgs {
    #[command(flatten)]
    limit: LimitArgs,

    #[command(flatten)]
    pub(crate) latency: LatencyArgs,

    /// How ranks are chosen within a budget
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    select: SelectArg,

    #[command(flatten)]
    swept: SweptArgs,

    /// Forms that layers may take; by default the first convolution and the last layer have the paper's own,
    /// and cp3, tucker2, spatial, channel and svd compete in the others
    #[arg(long, value_delimiter = ',', value_name = "FORM,FORM")]
    forms: Vec<Form>,

    /// Ranks of convolutions are multiples of this: given ones are raised, of others the multiples compete.
    /// With --latency on ONNX Runtime 16, the channels that it moves together, unless something else is given
    #[arg(long, value_parser = at_least_one, value_name = "N")]
    align: Option<NonZeroUsize>,

    /// Only layers whose names match these globs
    #[arg(long, value_delimiter = ',', value_name = "GLOB,GLOB")]
    only: Vec<String>,

    /// No layers whose names match these globs
    #[arg(long, value_delimiter = ',', value_name = "GLOB,GLOB")]
    skip: Vec<String>,

    /// Seed of every random choice
    #[arg(long, default_value = "0", value_name = "N")]
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
struct LimitArgs {
    /// Share of the parameters to remove, as 75%
    #[arg(long, value_name = "P%", allow_hyphen_values = true)]
    params_removed: Option<Percent>,

    /// How many times fewer parameters, as 4x
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    params: Option<Factor>,

    /// How many times fewer multiply-accumulates, as 3x
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    macs: Option<Factor>,

    /// How many times faster by the clock, as 3x, or how long a run may take, as 10ms; see --latency-batch
    #[arg(long, value_name = "X|TIME", allow_hyphen_values = true)]
    latency: Option<Latency>,

    /// Size of the written file, as 2MB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    size: Option<Size>,

    /// Share of the squared weights that every layer keeps, as 0.9: the mean squared error of its weights
    /// is at most a tenth of their mean square
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true)]
    energy: Option<Share>,

    /// Mean squared error that the weights of every layer may have, as 0.001 (Çallı 2017, there with
    /// --forms channel,svd): the smallest rank within it, and layers that it does not make smaller stay.
    /// Factors then fit the weights, whatever the data; --energy is the same without a scale
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    mse: Option<MeanSquare>,

    /// One rank for all convolutions and one for all linear layers, as conv=100,fc=300
    #[arg(long, value_name = "conv=R,fc=R")]
    uniform_rank: Option<UniformRank>,

    /// Averages of the ranks that --select sensitivity shares out, as conv=150,fc=300
    #[arg(long, value_name = "conv=R,fc=R")]
    average_rank: Option<AverageRank>,

    /// The points of accuracy that may be lost at most, as 0.5: the smallest model that a sweep promises it of
    #[arg(long, value_name = "POINTS", allow_hyphen_values = true)]
    max_drop: Option<Points>,

    /// A TOML file of layers and ranks, one `"layer" = rank` a line
    #[arg(long, value_name = "FILE")]
    ranks: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SelectArg {
    /// All forms compete by their effect on the output, as far as data tell
    Auto,
    /// All forms compete by relative response error
    Response,
    /// All forms compete by relative weight error
    WeightError,
    /// The paper's forms at one rank
    Uniform,
    /// The paper's forms at ranks proportional to parameters
    Proportional,
    /// The paper's forms with as much energy kept in every layer
    Energy,
    /// The paper's forms at ranks in proportion to EVBMF estimates
    Evbmf,
    /// All forms compete by what a sweep measured
    Curves,
    /// Every layer loses as much, by what a sweep measured
    Greedy,
    /// The paper's forms at ranks in proportion to what each layer alone loses
    Sensitivity,
}

impl From<SelectArg> for Select {
    fn from(arg: SelectArg) -> Self {
        match arg {
            SelectArg::Auto => Self::Auto,
            SelectArg::Response => Self::Response,
            SelectArg::WeightError => Self::WeightError,
            SelectArg::Uniform => Self::Uniform,
            SelectArg::Proportional => Self::Proportional,
            SelectArg::Energy => Self::Energy,
            SelectArg::Evbmf => Self::Evbmf,
            SelectArg::Curves => Self::Curves,
            SelectArg::Greedy => Self::Greedy,
            SelectArg::Sensitivity => Self::Sensitivity,
        }
    }
}

impl BudgetArgs {
    /// True where some budget was given.
    pub(crate) fn is_given(&self) -> bool {
        let limit = &self.limit;
        limit.params_removed.is_some()
            || limit.params.is_some()
            || limit.macs.is_some()
            || limit.latency.is_some()
            || limit.size.is_some()
            || limit.energy.is_some()
            || limit.mse.is_some()
            || limit.uniform_rank.is_some()
            || limit.average_rank.is_some()
            || limit.max_drop.is_some()
            || limit.ranks.is_some()
    }

    /// True where factors are to fit the weights alone.
    pub(crate) fn is_of_weights(&self) -> bool {
        self.limit.mse.is_some()
    }

    /// The size that the written model may have, where that is the budget.
    pub(crate) fn size_limit(&self) -> Option<u64> {
        self.limit.size.map(|Size(bytes)| bytes)
    }

    /// An error where no budget was given, or one that does not go with the selection.
    pub(crate) fn check(&self) -> Outcome {
        self.chosen().map(|_| ())
    }

    /// The points of accuracy that may be lost, where that is the budget.
    pub(crate) fn max_drop(&self) -> Option<f64> {
        self.limit.max_drop.map(|Points(points)| points)
    }

    /// The request for a graph, with numbers stored in so many bytes each.
    pub(crate) fn request(&self, graph: &Graph, element_bytes: u64) -> Outcome<Request> {
        let (budget, select, words) = self.chosen()?;
        let mut request = Request::new(budget);
        request.select = select;
        request.only = self.only.clone();
        request.skip = self.skip.clone();
        request.element_bytes = element_bytes;
        request.words = words;
        let timed = self.limit.latency.and_then(|_| self.latency.align());
        request.align = self.align.or(timed);
        request.curves = CurveOptions {
            seed: self.seed,
            ..CurveOptions::default()
        };
        if !self.forms.is_empty() {
            request.forms = Some(self.forms.clone());
        }
        self.swept.tell(&mut request, graph)?;
        Ok(request)
    }

    /// Budget and selection, and both in words.
    fn chosen(&self) -> Outcome<(Budget, Select, String)> {
        let (budget, words) = self.budget()?;
        let fixed = matches!(budget, Budget::Ranks(_) | Budget::UniformRank { .. });
        if fixed && self.select != SelectArg::Auto {
            return Err(
                Failure::usage("--select chooses ranks, and the ranks are given")
                    .hint("leave --select out, or give a budget instead of ranks"),
            );
        }
        let select = self.swept.select(self.select.into(), &budget)?;
        let words = match select {
            Select::Auto => words,
            select => format!("{words}, selected by {}", select.name()),
        };
        Ok((budget, select, words))
    }

    fn budget(&self) -> Outcome<(Budget, String)> {
        let within = |resource, limit| Budget::Within { resource, limit };
        let limit = &self.limit;
        Ok(if let Some(Percent(removed)) = limit.params_removed {
            let share = Limit::Share(1.0 - removed / 100.0);
            (
                within(Resource::Parameters, share),
                format!("params-removed {removed}%"),
            )
        } else if let Some(Factor(times)) = limit.params {
            let share = Limit::Share(1.0 / times);
            (
                within(Resource::Parameters, share),
                format!("params {times}x"),
            )
        } else if let Some(Factor(times)) = limit.macs {
            (
                within(Resource::Macs, Limit::Share(1.0 / times)),
                format!("macs {times}x"),
            )
        } else if let Some(latency) = limit.latency {
            let (limit, words) = match latency {
                Latency::Faster(times) => (Limit::Share(1.0 / times), format!("latency {times}x")),
                Latency::Within(nanoseconds) => (
                    Limit::AtMost(nanoseconds),
                    format!("latency {} ms", nanoseconds as f64 / 1e6),
                ),
            };
            (within(Resource::Time, limit), words)
        } else if let Some(Size(bytes)) = limit.size {
            (
                within(Resource::Bytes, Limit::AtMost(bytes)),
                format!("size {bytes} bytes"),
            )
        } else if let Some(Share(share)) = limit.energy {
            (Budget::Energy(share), format!("energy {share}"))
        } else if let Some(MeanSquare(most)) = limit.mse {
            (Budget::MeanSquare(most), format!("mse {most}"))
        } else if let Some(ranks) = limit.uniform_rank {
            let UniformRank { conv, fc } = ranks;
            let part = |name, rank: Option<usize>| rank.map(|r| format!("{name}={r}"));
            let words: Vec<String> = [part("conv", conv), part("fc", fc)]
                .into_iter()
                .flatten()
                .collect();
            (
                Budget::UniformRank { conv, fc },
                format!("uniform-rank {}", words.join(",")),
            )
        } else if let Some(AverageRank { conv, fc }) = limit.average_rank {
            let part = |name, rank: Option<f64>| rank.map(|r| format!("{name}={r}"));
            let words: Vec<String> = [part("conv", conv), part("fc", fc)]
                .into_iter()
                .flatten()
                .collect();
            (
                Budget::AverageRank { conv, fc },
                format!("average-rank {}", words.join(",")),
            )
        } else if let Some(Points(points)) = limit.max_drop {
            (
                Budget::MaxDrop(points / 100.0),
                format!("max-drop {points}"),
            )
        } else if let Some(file) = &limit.ranks {
            (
                Budget::Ranks(read_ranks(file)?),
                format!("ranks {}", file.display()),
            )
        } else {
            return Err(Failure::usage("no budget was given").hint(
                "give one of --params-removed, --params, --macs, --latency, --size, --energy, \
                 --mse, --uniform-rank, --average-rank, --max-drop, --ranks or --plan",
            ));
        })
    }
}

/// `"layer" = rank`, or `"layer" = { rank = …, form = … }`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RankEntry {
    Rank(rankfold_compress::Rank),
    Form {
        rank: rankfold_compress::Rank,
        form: Form,
    },
}

fn read_ranks(file: &std::path::Path) -> Outcome<Vec<LayerRank>> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::io(file, &e))?;
    let entries: std::collections::BTreeMap<String, RankEntry> =
        toml::from_str(&text).map_err(|e| {
            Failure::new(Kind::BadFile, format!("{}: {e}", file.display()))
                .hint("one line a layer: \"features.3\" = 50, or \"features.3\" = { rank = 50, form = \"cp3\" }")
        })?;
    let entry = |(layer, entry)| match entry {
        RankEntry::Rank(rank) => LayerRank {
            layer,
            rank,
            form: None,
        },
        RankEntry::Form { rank, form } => LayerRank {
            layer,
            rank,
            form: Some(form),
        },
    };
    Ok(entries.into_iter().map(entry).collect())
}

/// The number in a text, where it is one that is `allowed`.
fn number_in(text: &str, allowed: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|&number| allowed(number));
    number.ok_or_else(|| format!("expected {expected}"))
}

/// A percentage between 0 and 100.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Percent(f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, is_share) = match text.strip_suffix('%') {
            Some(number) => (number, false),
            None => (text, text.starts_with("0.")),
        };
        let percent = number_in(
            number,
            |percent| (0.0..100.0).contains(&percent),
            "a percentage from 0 to below 100, as 75%",
        )?;
        match is_share && percent > 0.0 {
            true => Err(format!(
                "{text} is less than one percent; expected {text}%, or {}%",
                (1000.0 * percent).round() / 10.0
            )),
            false => Ok(Self(percent)),
        }
    }
}

/// Points of accuracy, of a hundred.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Points(f64);

impl FromStr for Points {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        number_in(
            text.strip_suffix('%').unwrap_or(text),
            |points| (0.0..100.0).contains(&points),
            "points of accuracy from 0 to below 100, as 0.5",
        )
        .map(Self)
    }
}

/// A factor of at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Factor(f64);

impl FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.ends_with('%') {
            return Err("expected how many times less it is to be, as 2x for half".to_owned());
        }
        number_in(
            text.strip_suffix(['x', 'X', '×']).unwrap_or(text),
            |factor| factor >= 1.0 && factor.is_finite(),
            "a factor of at least 1, as 4x",
        )
        .map(Self)
    }
}

/// How fast a run is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Latency {
    /// So many times as fast as the original.
    Faster(f64),
    /// Within so many nanoseconds.
    Within(u64),
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "a factor of at least 1, as 3x, or a time, as 10ms";
        let units = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
        ];
        for (unit, nanoseconds) in units {
            if let Some(time) = text.strip_suffix(unit) {
                let allowed = |time: f64| time * nanoseconds >= 1.0 && time.is_finite();
                let time = number_in(time, allowed, expected)?;
                return Ok(Self::Within((time * nanoseconds) as u64));
            }
        }
        let Factor(times) = text.parse().map_err(|_| format!("expected {expected}"))?;
        Ok(Self::Faster(times))
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let expected = "a size, as 900kB or 2MB";
        let unit = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" | "k" => 1e3,
            "mb" | "m" => 1e6,
            "gb" | "g" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(format!("expected {expected}")),
        };
        let allowed = |number: f64| number > 0.0 && number.is_finite();
        let number = number_in(number, allowed, expected)?;
        Ok(Self((number * unit) as u64))
    }
}

/// A share between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share(f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        number_in(
            text,
            |share| share > 0.0 && share <= 1.0,
            "a share above 0 and at most 1, as 0.9",
        )
        .map(Self)
    }
}

/// A mean squared error.
#[derive(Debug, Clone, Copy, PartialEq)]
struct MeanSquare(f64);

impl FromStr for MeanSquare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        number_in(
            text,
            |error| error > 0.0 && error.is_finite(),
            "a mean squared error above 0, as 0.001",
        )
        .map(Self)
    }
}

/// `conv=R,fc=R`, either part alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UniformRank {
    conv: Option<usize>,
    fc: Option<usize>,
}

impl FromStr for UniformRank {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected conv=R,fc=R with ranks of at least 1".to_owned();
        let mut ranks = Self {
            conv: None,
            fc: None,
        };
        for part in text.split(',') {
            let (name, rank) = part.split_once('=').ok_or_else(expected)?;
            let rank = rank.parse().ok().filter(|&r: &usize| r > 0);
            let place = match name {
                "conv" => &mut ranks.conv,
                "fc" => &mut ranks.fc,
                _ => return Err(expected()),
            };
            *place = Some(rank.ok_or_else(expected)?);
        }
        Ok(ranks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_parse_as_people_write_them() {
        assert_eq!("75%".parse(), Ok(Percent(75.0)));
        assert_eq!("12.5".parse(), Ok(Percent(12.5)));
        assert!("100%".parse::<Percent>().is_err());
        assert_eq!("0.5%".parse(), Ok(Percent(0.5)));
        let error = "0.5".parse::<Percent>().unwrap_err();
        assert!(error.contains("0.5%, or 50%"), "{error}");
        let error = "0.29".parse::<Percent>().unwrap_err();
        assert!(error.ends_with("or 29%"), "{error}");
        assert_eq!("0.5".parse(), Ok(Points(0.5)));
        assert_eq!("1%".parse(), Ok(Points(1.0)));
        assert!("-1".parse::<Points>().is_err());
        assert_eq!("4x".parse(), Ok(Factor(4.0)));
        assert!("0.5x".parse::<Factor>().is_err());
        let error = "50%".parse::<Factor>().unwrap_err();
        assert!(error.contains("2x for half"), "{error}");
        assert_eq!("2MB".parse(), Ok(Size(2_000_000)));
        assert_eq!("1.5KiB".parse(), Ok(Size(1536)));
        assert!("two".parse::<Size>().is_err());
        assert_eq!("3x".parse(), Ok(Latency::Faster(3.0)));
        assert_eq!("10ms".parse(), Ok(Latency::Within(10_000_000)));
        assert_eq!("0.5 s".parse(), Ok(Latency::Within(500_000_000)));
        assert_eq!("70us".parse(), Ok(Latency::Within(70_000)));
        for wrong in ["0.5x", "0ms", "fast", "-1ms", "infs"] {
            assert!(wrong.parse::<Latency>().is_err(), "{wrong}");
        }
        let ranks = UniformRank {
            conv: Some(100),
            fc: None,
        };
        assert_eq!("conv=100".parse(), Ok(ranks));
        assert!("conv=0".parse::<UniformRank>().is_err());
        assert!("pool=3".parse::<UniformRank>().is_err());
    }
}
