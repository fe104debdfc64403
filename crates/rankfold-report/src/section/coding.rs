//! Weights and values in fewer bits: how they were chosen.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::numbers::significant;
use crate::plot::svg::escape;

/// What a clustering and a quantisation tell of themselves.
pub(crate) fn coding(adjustments: &Map<String, Value>) -> String {
    let clustered = adjustments.get("clustered").and_then(clustering);
    let quantized = adjustments.get("quantized").and_then(quantisation);
    [clustered, quantized].into_iter().flatten().collect()
}

fn clustering(clustered: &Value) -> Option<String> {
    let how = match (
        clustered.get("book").and_then(Value::as_u64),
        clustered.get("decimals").and_then(Value::as_u64),
    ) {
        (Some(values), _) => format!("Every layer has at most {values} values of its own"),
        (None, Some(decimals)) => format!("Weights are rounded to {decimals} decimals"),
        (None, None) => return None,
    };
    let weights = clustered.get("weights")?.as_array()?;
    let errors = weights
        .iter()
        .filter_map(|weight| weight.get("error")?.as_f64());
    let largest = errors.fold(0.0, f64::max);
    Some(format!(
        "<p class=\"lead\">{how}; the largest relative error of a layer’s weights is {}.</p>\n",
        significant(largest, 3)
    ))
}

fn quantisation(quantized: &Value) -> Option<String> {
    let values = quantized.get("values")?.as_u64()?;
    let mut rows = String::new();
    for (place, attempt) in quantized.get("tries")?.as_array()?.iter().enumerate() {
        let (Some(ranges), Some(equalized), Some(divergence)) = (
            attempt.get("ranges").and_then(Value::as_str),
            attempt.get("equalized").and_then(Value::as_bool),
            attempt.get("divergence").and_then(Value::as_f64),
        ) else {
            continue;
        };
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(ranges),
            if equalized {
                "equalised"
            } else {
                "as they were"
            },
            significant(divergence, 3),
            if place == 0 { "taken" } else { "" }
        );
    }
    if rows.is_empty() {
        return Some("<p class=\"lead\">Weights have 8 bits; values are floats.</p>\n".to_owned());
    }
    Some(format!(
        "<p class=\"lead\">Weights and {values} values have 8 bits. For every way to find ranges, the divergence \
         of the outputs from the original’s, on inputs held back.</p>\n\
         <div class=\"wide\"><table class=\"small\"><thead><tr><th scope=\"col\">ranges</th>\
         <th scope=\"col\">channels</th><th scope=\"col\" class=\"n\">divergence</th><th scope=\"col\"></th></tr>\
         </thead><tbody>{rows}</tbody></table></div>\n"
    ))
}
