//! What was done to the network as a whole: adjustments, and fine-tuning with its control.

use std::fmt::Write;

use serde_json::Value;

use crate::metrics::{Epoch, Network};
use crate::numbers::significant;
use crate::plot::chart::{Axis, COLUMN, Chart, Point, Rule, Series};
use crate::plot::palette::Look;
use crate::plot::scale::Spread;
use crate::plot::svg::escape;
use crate::plot::{Format, Plot};
use crate::section::coding::coding;
use crate::section::{Section, Sources, figures};

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let steps = sources.record().map_or_else(String::new, |record| {
        let adjustments = &record.adjustments;
        steps(adjustments) + &tries(adjustments) + &coding(adjustments)
    });
    let plots = curves(sources.epochs);
    if steps.is_empty() && plots.is_empty() {
        return None;
    }
    let mut body = steps;
    if !plots.is_empty() {
        body.push_str(&figures(&plots));
    }
    Some(Section {
        id: "network",
        title: "The network as a whole",
        body,
        plots,
    })
}

/// The steps after the layers were replaced, with how far the outputs were from the original's.
fn steps(adjustments: &serde_json::Map<String, Value>) -> String {
    let Some(first) = adjustments.get("divergence").and_then(Value::as_f64) else {
        return String::new();
    };
    let mut rows = format!(
        "<tr><th scope=\"row\">layers replaced</th><td class=\"n\">{}</td><td></td></tr>",
        significant(first, 3)
    );
    // In the order in which they are done.
    for (key, words) in [
        ("reconstructed", "factors fitted anew"),
        ("distilled", "learnt from the original"),
        ("recalibrated", "batch norms recalibrated"),
    ] {
        let Some(step) = adjustments.get(key) else {
            continue;
        };
        let Some(divergence) = step.get("divergence").and_then(Value::as_f64) else {
            continue;
        };
        let taken = step.get("taken").and_then(Value::as_bool).unwrap_or(false);
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{words}</th><td class=\"n\">{}</td><td>{}</td></tr>",
            significant(divergence, 3),
            if taken {
                "taken"
            } else {
                "left out: no closer"
            }
        );
    }
    format!(
        "<p class=\"lead\">After every step, the divergence of the outputs from the original’s, on inputs held back. \
         A step that brings them no closer is undone.</p>\n\
         <div class=\"wide\"><table class=\"small\"><thead><tr><th scope=\"col\">step</th>\
         <th scope=\"col\" class=\"n\">divergence</th><th scope=\"col\"></th></tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
}

/// The models that were measured until one lost little enough, where that was asked for.
fn tries(adjustments: &serde_json::Map<String, Value>) -> String {
    let Some(verified) = adjustments.get("verified") else {
        return String::new();
    };
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64);
    let Some(limit) = number(verified, "max_drop") else {
        return String::new();
    };
    let tries = verified.get("tries").and_then(Value::as_array);
    let mut rows = String::new();
    for (i, entry) in tries.into_iter().flatten().enumerate() {
        let Some(drop) = number(entry, "drop") else {
            continue;
        };
        let error =
            number(entry, "drop_se").map_or_else(String::new, |error| format!(" ± {error:.2}"));
        let promised =
            number(entry, "promised").map_or_else(String::new, |promised| format!("{promised:.2}"));
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{promised}</td><td class=\"n\">{drop:.2}{error}</td><td>{}</td></tr>",
            i + 1,
            if drop <= limit {
                "taken"
            } else {
                "loses too much"
            }
        );
    }
    if rows.is_empty() {
        return String::new();
    }
    let split = verified
        .get("split")
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!(
        "<p class=\"lead\">At most {} points were to be lost. Every model was measured on {} that the sweep did not use.</p>\n\
         <div class=\"wide\"><table class=\"small\"><thead><tr><th scope=\"col\">model</th><th scope=\"col\" class=\"n\">points \
         promised</th><th scope=\"col\" class=\"n\">points lost</th><th scope=\"col\"></th></tr></thead><tbody>{rows}</tbody></table></div>\n",
        significant(limit, 3),
        match split {
            "" => "inputs".to_owned(),
            split => format!("inputs of {}", escape(split)),
        },
    )
}

/// One measure of an epoch and its standard error.
type Measure = fn(&Epoch) -> Option<(f64, Option<f64>)>;

struct Kind {
    name: &'static str,
    title: &'static str,
    label: &'static str,
    measure: Measure,
    format: Format,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "training-accuracy",
        title: "Accuracy while fine-tuning",
        label: "accuracy, %",
        measure: |epoch| {
            let tally = epoch.accuracy()?;
            Some((tally.percent()?, tally.error()))
        },
        format: significant,
    },
    Kind {
        name: "training-loss",
        title: "Training loss",
        label: "mean loss of an epoch",
        measure: |epoch| Some((epoch.loss.filter(|_| epoch.learnt())?, None)),
        format: significant,
    },
    Kind {
        name: "training-divergence",
        title: "Divergence from the original",
        label: "mean divergence of the outputs",
        measure: |epoch| Some((epoch.mark?.divergence?, None)),
        format: significant,
    },
    Kind {
        name: "training-rate",
        title: "Learning rate",
        label: "learning rate",
        measure: |epoch| Some((epoch.rate.filter(|_| epoch.learnt())?, None)),
        format: significant,
    },
];

fn curves(epochs: &[Epoch]) -> Vec<Plot> {
    KINDS
        .iter()
        .filter_map(|kind| curve(kind, epochs))
        .map(|chart| chart.plot(COLUMN, true))
        .collect()
}

fn curve(kind: &Kind, epochs: &[Epoch]) -> Option<Chart> {
    let of = |network: Network, look: Look| {
        let mut done = 0;
        let points = epochs
            .iter()
            .filter(|epoch| epoch.network == network)
            .filter_map(|epoch| {
                done += u64::from(epoch.learnt());
                let (y, error) = (kind.measure)(epoch)?;
                let stage = epoch
                    .stage
                    .as_deref()
                    .map_or_else(String::new, |s| format!(", stage {s}"));
                Some(Point {
                    x: done as f64,
                    y,
                    error,
                    tip: format!(
                        "{}, epoch {}{stage}: {}",
                        network.label(),
                        epoch.epoch,
                        (kind.format)(y, 4)
                    ),
                    ..Point::default()
                })
            });
        Series {
            name: network.label().to_owned(),
            look,
            joined: true,
            faint: false,
            points: points.collect(),
        }
    };
    let mut series = vec![
        of(Network::Compressed, Look::CHOSEN),
        of(Network::Control, Look::OTHER),
        of(Network::Model, Look::CHOSEN),
    ];
    series.retain(|series| !series.points.is_empty());
    let control = series
        .iter()
        .any(|series| series.name == Network::Control.label());
    (!series.is_empty()).then(|| Chart {
        name: kind.name.to_owned(),
        title: kind.title.to_owned(),
        caption: match control {
            true => "The dense control is the original, trained alike. Dashed lines begin a stage.",
            false => "Dashed lines begin a stage.",
        }
        .to_owned(),
        x: Axis {
            label: "epochs",
            spread: Spread::Linear,
            zero: false,
            // There are no halves of epochs.
            format: |value, digits| match value.fract() == 0.0 {
                true => significant(value, digits),
                false => String::new(),
            },
        },
        y: Axis {
            label: kind.label,
            spread: Spread::Linear,
            zero: false,
            format: kind.format,
        },
        series,
        rules: stages(epochs),
    })
}

/// Where each stage of the compressed network begins, the first apart.
fn stages(epochs: &[Epoch]) -> Vec<Rule> {
    let compressed = epochs
        .iter()
        .filter(|epoch| epoch.network == Network::Compressed);
    let mut last: Option<&str> = None;
    let mut rules = Vec::new();
    let mut done = 0;
    for epoch in compressed {
        let stage = epoch.stage.as_deref();
        if stage != last && stage.is_some() {
            let label = stage.unwrap_or_default().to_owned();
            rules.push(Rule {
                x: done as f64,
                tip: format!("stage {label} begins"),
                label,
            });
        }
        done += u64::from(epoch.learnt());
        last = stage;
    }
    match rules.len() {
        1 => Vec::new(),
        _ => rules,
    }
}
