//! Channels and weights that pruning took.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::numbers::{grouped, percent};
use crate::plot::svg::escape;
use crate::section::{Section, Sources};

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let adjustments = &sources.record()?.adjustments;
    let body = channels(adjustments).unwrap_or_default() + &zeros(adjustments).unwrap_or_default();
    (!body.is_empty()).then(|| Section {
        id: "pruned",
        title: "What was pruned",
        body,
        plots: Vec::new(),
    })
}

/// The rows under a key.
fn rows<'a>(of: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Vec<Value>> {
    let (first, rest) = path.split_first()?;
    let start = of.get(*first)?;
    rest.iter()
        .try_fold(start, |at, key| at.get(key))?
        .as_array()
}

fn pair(row: &Value, key: &str) -> Option<[u64; 2]> {
    let pair = row.get(key)?;
    Some([pair.get(0)?.as_u64()?, pair.get(1)?.as_u64()?])
}

fn name(row: &Value) -> String {
    escape(row.get("name").and_then(Value::as_str).unwrap_or_default())
}

fn channels(adjustments: &Map<String, Value>) -> Option<String> {
    let mut body = String::new();
    for layer in rows(adjustments, &["nodes", "layers"])? {
        let [before, after] = pair(layer, "channels")?;
        let stays = layer.get("stays").and_then(Value::as_str);
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            name(layer),
            grouped(before),
            grouped(after),
            escape(stays.unwrap_or_default()),
        );
    }
    Some(table(
        "Channels of every layer before and after, and why all of them stay where they have to.",
        ["channels", "left", "stay because"],
        &body,
    ))
}

fn zeros(adjustments: &Map<String, Value>) -> Option<String> {
    let mut body = String::new();
    for layer in rows(adjustments, &["connections"])? {
        let [_, zeros] = pair(layer, "zeros")?;
        let weights = layer.get("weights")?.as_u64()?;
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{} %</td></tr>",
            name(layer),
            grouped(weights),
            grouped(zeros),
            percent(zeros, weights),
        );
    }
    Some(table(
        "Weights of every layer, and how many of them are zero.",
        ["weights", "zeros", ""],
        &body,
    ))
}

fn table(lead: &str, [second, third, last]: [&str; 3], body: &str) -> String {
    format!(
        "<p class=\"lead\">{lead}</p>\n<div class=\"wide\"><table class=\"small\"><thead><tr>\
         <th scope=\"col\">layer</th><th scope=\"col\" class=\"n\">{second}</th>\
         <th scope=\"col\" class=\"n\">{third}</th><th scope=\"col\">{last}</th></tr></thead>\
         <tbody>{body}</tbody></table></div>\n"
    )
}
