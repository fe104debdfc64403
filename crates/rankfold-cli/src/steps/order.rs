//! The steps of `compress --steps`, and in which order they make sense.

use std::str::FromStr;

use rankfold_compress::{Clustering, ConnectionRule};

use crate::failure::{Failure, Outcome};

/// A step of `compress`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// Small weights become zeros.
    PruneConnections(ConnectionRule),
    /// Weights get few distinct values.
    Cluster(Clustering),
    /// Layers become smaller ones, as the budget says.
    Factorize,
    /// Weights get 8 bits, and what flows too unless it is for the weights only.
    Quantize {
        /// What flows stays as it is.
        weights_only: bool,
    },
}

/// The values that `prune --threshold` and `cluster --book` have by default.
const THRESHOLD: f64 = 0.25;
const BOOK: usize = 16;

impl Step {
    /// Its name in the option.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PruneConnections(_) => "prune-connections",
            Self::Cluster(_) => "cluster",
            Self::Factorize => "factorize",
            Self::Quantize { .. } => "quantize",
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match (name, value) {
            ("prune-connections", value) => threshold(value).map(Self::PruneConnections),
            ("cluster", value) => clustering(value).map(Self::Cluster),
            ("factorize", None) => Ok(Self::Factorize),
            ("factorize", Some(_)) => {
                Err("`factorize` takes no value: the budget says how far it goes".to_owned())
            }
            ("quantize", None) => Ok(Self::Quantize {
                weights_only: false,
            }),
            ("quantize", Some("weights-only")) => Ok(Self::Quantize { weights_only: true }),
            ("quantize", Some(_)) => {
                Err("expected `quantize` or `quantize=weights-only`".to_owned())
            }
            _ => Err(
                "expected prune-connections, cluster, factorize or quantize, separated by commas"
                    .to_owned(),
            ),
        }
    }
}

/// `X`, or `thesis:X`.
fn threshold(value: Option<&str>) -> Result<ConnectionRule, String> {
    let (thesis, number) = match value.map(|value| (value.strip_prefix("thesis:"), value)) {
        None => (false, None),
        Some((Some(number), _)) => (true, Some(number)),
        Some((None, "thesis")) => (true, None),
        Some((None, number)) => (false, Some(number)),
    };
    let times = match number {
        None => THRESHOLD,
        Some(number) => number
            .parse()
            .ok()
            .filter(|times: &f64| times.is_finite() && *times >= 0.0)
            .ok_or("expected a threshold of at least 0, as prune-connections=0.5 or =thesis:1")?,
    };
    Ok(match thesis {
        true => ConnectionRule::MeanVariance(times),
        false => ConnectionRule::RootMeanSquare(times),
    })
}

/// `K`, or `decimals:N`.
fn clustering(value: Option<&str>) -> Result<Clustering, String> {
    let Some(value) = value else {
        return Ok(Clustering::Book(BOOK));
    };
    if let Some(decimals) = value.strip_prefix("decimals:") {
        let decimals = decimals.parse().ok();
        return decimals
            .filter(|decimals| *decimals <= Clustering::MOST_DECIMALS)
            .map(Clustering::Decimals)
            .ok_or_else(|| {
                let most = Clustering::MOST_DECIMALS;
                format!("expected 0 to {most} decimals, as cluster=decimals:2")
            });
    }
    let values = value.parse().ok();
    values
        .filter(|values| (2..=Clustering::MOST_VALUES).contains(values))
        .map(Clustering::Book)
        .ok_or_else(|| {
            let most = Clustering::MOST_VALUES;
            format!("expected 2 to {most} values a layer, as cluster=16, or cluster=decimals:2")
        })
}

/// An error where a step would take away what one before it did.
pub(crate) fn check_order(steps: &[Step]) -> Outcome {
    for (place, step) in steps.iter().enumerate() {
        let name = step.name();
        let Some(earlier) = steps[..place]
            .iter()
            .find_map(|earlier| clash(*earlier, *step))
        else {
            continue;
        };
        let (reason, hint) = earlier;
        return Err(
            Failure::usage(format!("--steps: `{name}` cannot come here: {reason}")).hint(hint),
        );
    }
    Ok(())
}

/// Why a step cannot come after another, and what to do instead.
fn clash(earlier: Step, later: Step) -> Option<(&'static str, &'static str)> {
    match (earlier, later) {
        _ if earlier.name() == later.name() => {
            Some(("it is there already", "name every step once"))
        }
        (Step::Quantize { .. }, _) => Some((
            "weights that change after `quantize` lose their 8 bits",
            "put `quantize` last",
        )),
        (Step::Cluster(_), Step::PruneConnections(_)) => Some((
            "a layer that gets zeros after `cluster` loses its code book",
            "put `prune-connections` before `cluster`, which then makes zero one of its values",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_parse_as_people_write_them() {
        let parse = |text: &str| text.parse::<Step>();
        let rms = ConnectionRule::RootMeanSquare;
        assert_eq!(
            parse("prune-connections"),
            Ok(Step::PruneConnections(rms(0.25)))
        );
        assert_eq!(
            parse("prune-connections=0.5"),
            Ok(Step::PruneConnections(rms(0.5)))
        );
        assert_eq!(
            parse("prune-connections=thesis:1"),
            Ok(Step::PruneConnections(ConnectionRule::MeanVariance(1.0)))
        );
        assert_eq!(parse("cluster"), Ok(Step::Cluster(Clustering::Book(16))));
        assert_eq!(
            parse("cluster=decimals:2"),
            Ok(Step::Cluster(Clustering::Decimals(2)))
        );
        assert_eq!(
            parse("quantize=weights-only"),
            Ok(Step::Quantize { weights_only: true })
        );
        for wrong in [
            "prune",
            "prune-connections=-1",
            "prune-connections=thesis:x",
            "cluster=1",
            "cluster=257",
            "cluster=decimals:8",
            "factorize=2",
            "quantize=4",
            "",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn orders_that_undo_a_step_are_refused() {
        let order = |text: &str| {
            let steps: Vec<Step> = text.split(',').map(|step| step.parse().unwrap()).collect();
            check_order(&steps).is_ok()
        };
        for fine in [
            "factorize",
            "prune-connections,cluster,factorize,quantize",
            "prune-connections,factorize,cluster",
            "factorize,prune-connections,cluster,quantize",
            "cluster,quantize",
        ] {
            assert!(order(fine), "{fine}");
        }
        for wrong in [
            "quantize,factorize",
            "quantize,cluster",
            "cluster,prune-connections",
            "cluster,factorize,prune-connections",
            "factorize,factorize",
        ] {
            assert!(!order(wrong), "{wrong}");
        }
    }
}
