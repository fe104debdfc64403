//! The layers as a table that can be sorted.

use std::fmt::Write;

use crate::numbers::{bytes, grouped, percent};
use crate::plot::svg::escape;
use crate::record::Layer;
use crate::section::layers::chip;
use crate::section::{Section, Sources};

/// A column: its head, and whether it holds numbers.
const COLUMNS: &[(&str, bool)] = &[
    ("layer", false),
    ("form", false),
    ("rank", true),
    ("kernel", true),
    ("parameters before", true),
    ("after", true),
    ("kept", true),
    ("MACs before", true),
    ("after", true),
    ("kept", true),
    ("bytes", true),
    ("error", true),
];

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let layers = sources.layers();
    if layers.is_empty() {
        return None;
    }
    let mut table = String::from("<div class=\"wide\"><table class=\"sortable\"><thead><tr>");
    for (head, number) in COLUMNS {
        let class = if *number { " class=\"n\"" } else { "" };
        let _ = write!(table, "<th scope=\"col\"{class}>{head}</th>");
    }
    table.push_str("</tr></thead><tbody>");
    for layer in layers {
        table.push_str(&row(layer));
    }
    let sum = |of: fn(&Layer) -> u64| layers.iter().map(of).fold(0, u64::saturating_add);
    let (parameters, macs) = (
        [sum(|l| l.parameters[0]), sum(|l| l.parameters[1])],
        [sum(|l| l.macs[0]), sum(|l| l.macs[1])],
    );
    let _ = writeln!(
        table,
        "</tbody><tfoot><tr><th scope=\"row\" colspan=\"4\">{} layers</th>{}{}{}<td></td></tr></tfoot></table></div>",
        layers.len(),
        change(parameters),
        change(macs),
        number(&bytes(sum(|l| l.bytes[1])), None),
    );
    let kind = match layers.iter().any(|layer| layer.response_error.is_some()) {
        true => {
            "The error is that of the layer’s response to calibration inputs, relative to the response."
        }
        false => "The error is that of the weights, relative to their norm.",
    };
    Some(Section {
        id: "table",
        title: "Layer by layer, in numbers",
        body: format!(
            "<p class=\"lead\">{kind}<span class=\"js\"> A click on a head sorts.</span></p>\n{table}"
        ),
        plots: Vec::new(),
    })
}

fn number(text: &str, value: Option<f64>) -> String {
    let value = value.map_or_else(String::new, |value| format!(" data-v=\"{value}\""));
    format!("<td class=\"n\"{value}>{}</td>", escape(text))
}

/// Before, after, and how much of it is kept.
fn change([before, after]: [u64; 2]) -> String {
    let share = after as f64 / before.max(1) as f64;
    let kept = match before {
        0 => "–".to_owned(),
        _ => format!("{} %", percent(after, before)),
    };
    [
        number(&grouped(before), Some(before as f64)),
        number(&grouped(after), Some(after as f64)),
        number(&kept, Some(share)),
    ]
    .concat()
}

fn row(layer: &Layer) -> String {
    let kernel = match layer.shape {
        [out, input, 1, 1] => format!("{out}×{input}"),
        [out, input, rows, columns] => format!("{out}×{input}×{rows}×{columns}"),
    };
    let size = layer.shape.iter().fold(1.0, |size, &n| size * n as f64);
    let rank = layer.rank.map(|rank| rank.to_string()).unwrap_or_default();
    let error = layer.error().filter(|_| layer.rank.is_some());
    format!(
        "<tr><th scope=\"row\">{name}</th><td>{chip}{form}</td>{rank}{kernel}{parameters}{macs}{bytes}{error}</tr>\n",
        name = escape(&layer.name),
        chip = chip(layer.form),
        form = layer.form,
        rank = number(
            &rank,
            Some(layer.rank.map_or(0.0, |rank| rank.largest() as f64))
        ),
        kernel = number(&kernel, Some(size)),
        parameters = change(layer.parameters),
        macs = change(layer.macs),
        bytes = number(&bytes(layer.bytes[1]), Some(layer.bytes[1] as f64)),
        error = number(
            &error.map(|error| format!("{error:.4}")).unwrap_or_default(),
            Some(error.unwrap_or(0.0))
        ),
    )
}
