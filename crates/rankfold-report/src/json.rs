//! JSON that one can read: a line for what is short or lies deep, a line each for the rest.

use serde_json::Value;

/// Values deeper than this stand on a line of their own, whatever their length.
const DEPTH: usize = 4;

/// A line that is no longer than this is not broken.
const LINE: usize = 100;

/// The text of a value.
pub(crate) fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text.push('\n');
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let line = value.to_string();
    let children = match value {
        Value::Array(values) => values.len(),
        Value::Object(object) => object.len(),
        _ => 0,
    };
    if depth >= DEPTH || children == 0 || (depth > 0 && line.len() <= LINE) {
        return text.push_str(&line);
    }
    let (open, close, parts): (_, _, Vec<(String, &Value)>) = match value {
        Value::Array(values) => {
            let parts = values.iter().map(|value| (String::new(), value));
            ('[', ']', parts.collect())
        }
        Value::Object(object) => {
            let name = |key: &str| format!("{}: ", Value::from(key));
            let parts = object.iter().map(|(key, value)| (name(key), value));
            ('{', '}', parts.collect())
        }
        _ => return,
    };
    text.push(open);
    for (i, (name, value)) in parts.into_iter().enumerate() {
        text.push_str(if i == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        text.push_str(&name);
        write(value, depth + 1, text);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
    text.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again() {
        let long: Vec<f64> = (0..60).map(|i| f64::from(i) / 7.0).collect();
        let value = json!({
            "a": { "b": { "c": { "d": { "deep": long } } } }, "none": [], "nothing": null, "it's \"\n": "\u{1}é",
            "rows": [{ "values": long, "short": [1, 2] }],
        });
        let text = text(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.contains("\n      \"short\": [1,2],\n"), "{text}");
        assert!(text.lines().count() < 100, "{text}");
    }
}
