//! Every layer that could change: its spectrum, what every form would lose, and why it has the form it has.

use std::fmt::Write;

use rankfold_compress::Form;

use crate::numbers::{grouped, percent, significant};
use crate::plot::Plot;
use crate::plot::chart::{Axis, Chart, HALF, Point, Rule, Series};
use crate::plot::palette::Look;
use crate::plot::scale::Spread;
use crate::plot::svg::escape;
use crate::reason::{Rival, reason};
use crate::record::{Curve, Layer, Spectrum};
use crate::section::layers::chip;
use crate::section::{Section, Sources};

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let goal = sources.record().and_then(|record| record.budget);
    let mut plots = Vec::new();
    let mut cards = String::new();
    for (i, layer) in sources.layers().iter().enumerate() {
        let own = plots_of(i, layer);
        let reason = reason(layer, goal);
        let unremarkable = layer.form == Form::Keep && layer.refused.is_empty() && own.is_empty();
        if !unremarkable {
            cards.push_str(&card(layer, &reason.words, &reason.rivals, &own));
        }
        plots.extend(own);
    }
    if cards.is_empty() {
        return None;
    }
    let measured = sources
        .layers()
        .iter()
        .any(|layer| layer.response_error.is_some());
    let kind = if measured { "response" } else { "weights" };
    let body = format!(
        "<p class=\"lead\">Left, the singular values of the kernel as a matrix of a row per output channel, relative to \
         the largest; the dashed line is the rank, where the form is a decomposition of that matrix. Right, the relative \
         error of the {kind} in every form against the share of the layer’s parameters; the ring is what was chosen.</p>\n\
         <div class=\"cards\">{cards}</div>\n"
    );
    Some(Section {
        id: "why",
        title: "Why each form and rank",
        body,
        plots,
    })
}

fn card(layer: &Layer, words: &str, rivals: &[Rival], plots: &[Plot]) -> String {
    let rank = layer
        .rank
        .map_or_else(String::new, |rank| format!(" at rank {rank}"));
    let mut text = format!(
        "<article class=\"card\"><h3>{}</h3><p class=\"what\">{}<b>{}</b>{rank}<span class=\"n\">{} → {} parameters</span></p>",
        escape(&layer.name),
        chip(layer.form),
        layer.form,
        grouped(layer.parameters[0]),
        grouped(layer.parameters[1]),
    );
    if !plots.is_empty() {
        text.push_str("<div class=\"pair\">");
        for plot in plots {
            let _ = write!(text, "<figure>{}</figure>", plot.inline);
        }
        text.push_str("</div>");
    }
    let _ = write!(text, "<p>{}</p>", escape(words));
    if rivals.len() > 1 {
        text.push_str("<ul class=\"rivals\">");
        for rival in rivals {
            let error = rival.error.map_or_else(
                || "cannot be this small".to_owned(),
                |error| format!("error {}", significant(error, 3)),
            );
            let damage = rival.damage.map_or_else(String::new, |damage| {
                format!(", damage {}", significant(damage, 2))
            });
            let _ = write!(
                text,
                "<li>{}{}: {error}{damage}</li>",
                chip(rival.form),
                rival.form
            );
        }
        text.push_str("</ul>");
    }
    if !layer.refused.is_empty() {
        let _ = write!(
            text,
            "<p class=\"refused\">Not possible: {}.</p>",
            escape(&layer.refused.join("; "))
        );
    }
    text.push_str("</article>\n");
    text
}

fn plots_of(place: usize, layer: &Layer) -> Vec<Plot> {
    let stem: String = layer
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    let stem = format!("layer-{place:03}-{stem}");
    let spectrum = layer
        .spectrum
        .as_ref()
        .and_then(|spectrum| spectrum_chart(&stem, layer, spectrum));
    let errors = (!layer.curves.is_empty()).then(|| error_chart(&stem, layer));
    [spectrum, errors]
        .into_iter()
        .flatten()
        .map(|chart| chart.plot(HALF, false))
        .collect()
}

fn spectrum_chart(stem: &str, layer: &Layer, spectrum: &Spectrum) -> Option<Chart> {
    let points: Vec<Point> = (spectrum.index.iter().zip(&spectrum.value))
        .filter(|(_, value)| **value > 0.0 && value.is_finite())
        .map(|(&index, &value)| Point {
            x: index as f64,
            y: value,
            tip: format!(
                "singular value {index} of {}: {} of the largest",
                spectrum.count,
                significant(value, 3)
            ),
            ..Point::default()
        })
        .collect();
    if points.len() < 2 {
        return None;
    }
    let of_matrix = matches!(layer.form, Form::Svd | Form::Channel | Form::Cp2);
    let rank = layer.rank.filter(|_| of_matrix);
    Some(Chart {
        name: format!("{stem}-spectrum"),
        title: format!("{}: singular values", layer.name),
        caption: "Of the kernel as a matrix of a row per output channel, relative to the largest."
            .to_owned(),
        x: Axis {
            label: "index",
            spread: Spread::Linear,
            zero: false,
            format: significant,
        },
        y: Axis {
            label: "singular value",
            spread: Spread::Log,
            zero: false,
            format: significant,
        },
        series: vec![Series {
            name: "singular values".to_owned(),
            look: Look::OTHER,
            joined: true,
            faint: false,
            points,
        }],
        rules: rank
            .map(|rank| Rule {
                x: rank.largest() as f64,
                label: format!("rank {rank}"),
                tip: format!("chosen: {} at rank {rank}", layer.form),
            })
            .into_iter()
            .collect(),
    })
}

fn error_chart(stem: &str, layer: &Layer) -> Chart {
    let own = layer.parameters[0];
    let series = |curve: &Curve| {
        let columns = curve.rank.iter().zip(&curve.parameters).zip(&curve.error);
        let points = columns.map(|((&rank, &parameters), &error)| {
            let chosen = layer.form == curve.form && layer.rank == Some(rank);
            Point {
                x: 100.0 * parameters as f64 / own.max(1) as f64,
                y: error,
                error: None,
                tip: format!(
                    "{} at rank {rank}{}: error {}, {} parameters ({} %)",
                    curve.form,
                    if chosen { ", chosen" } else { "" },
                    significant(error, 3),
                    grouped(parameters),
                    percent(parameters, own)
                ),
                note: chosen.then(|| format!("rank {rank}")),
                ringed: chosen,
            }
        });
        Series {
            name: curve.form.name().to_owned(),
            look: Look::of(curve.form),
            joined: true,
            faint: false,
            points: points.collect(),
        }
    };
    let mut series: Vec<Series> = layer.curves.iter().map(series).collect();
    // The chosen one is drawn last, over the others.
    series.sort_by_key(|series| series.points.iter().any(|point| point.ringed));
    Chart {
        name: format!("{stem}-errors"),
        title: format!("{}: error in every form", layer.name),
        caption: "The relative error against the share of the layer's parameters; the ring is what was chosen.".to_owned(),
        x: Axis {
            label: "parameters, % of the layer",
            spread: Spread::Linear,
            zero: true,
            format: significant,
        },
        y: Axis {
            label: "relative error",
            spread: Spread::Linear,
            zero: true,
            format: significant,
        },
        series,
        rules: Vec::new(),
    }
}
