//! The steps in which a model was made, with what each came to.

use std::fmt::Write;

use crate::numbers::{bytes, grouped};
use crate::plot::svg::escape;
use crate::record::{Done, Side};
use crate::section::{Section, Sources};

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let record = sources.record()?;
    let steps = &record.steps;
    if steps.is_empty() {
        return None;
    }
    let start = record.before.iter().map(|side| row("", "as it was", side));
    let rows: String = start.chain(steps.iter().map(step)).collect();
    let body = format!(
        "<p class=\"lead\">What was done, in this order, and the model after it.</p>\n\
         <div class=\"wide\"><table class=\"small\"><thead><tr><th scope=\"col\">step</th>\
         <th scope=\"col\">what it did</th><th scope=\"col\" class=\"n\">parameters</th>\
         <th scope=\"col\" class=\"n\">file</th><th scope=\"col\" class=\"n\">top-1</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>\n"
    );
    Some(Section {
        id: "steps",
        title: "Step by step",
        body,
        plots: Vec::new(),
    })
}

fn step(done: &Done) -> String {
    row(&done.step, &done.did, &done.side)
}

fn row(step: &str, did: &str, side: &Side) -> String {
    let mut accuracy = String::new();
    if let Some(top1) = side.top1 {
        let _ = write!(accuracy, "{top1:.2}");
        if let Some(error) = side.top1_se {
            let _ = write!(accuracy, " ± {error:.2}");
        }
        accuracy.push_str(" %");
    }
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{accuracy}</td></tr>",
        escape(step),
        escape(did),
        grouped(side.parameters),
        bytes(side.bytes),
    )
}
