//! Plots, drawn for the page and as files of their own.

pub(crate) mod chart;
pub(crate) mod palette;
pub(crate) mod rows;
pub(crate) mod scale;
pub(crate) mod svg;

use serde_json::Value;

/// A plot in all its guises.
#[derive(Debug, Clone)]
pub struct Plot {
    /// The name of its file, without an ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// How one reads it.
    pub caption: String,
    /// For the inside of a page.
    pub inline: String,
    /// As a file.
    pub file: String,
    /// The numbers that it shows.
    pub data: Value,
}

/// How a number on an axis is written with so many digits.
pub(crate) type Format = fn(f64, usize) -> String;

/// The labels of marks on an axis: as few digits as tell them apart.
pub(crate) fn labels(values: &[f64], format: Format) -> Vec<String> {
    let with = |digits| {
        values
            .iter()
            .map(|&value| format(value, digits).replace('-', "−"))
            .collect::<Vec<_>>()
    };
    let apart = |labels: &Vec<String>| labels.windows(2).all(|pair| pair[0] != pair[1]);
    (2..9).map(with).find(apart).unwrap_or_else(|| with(9))
}

/// About the width of a text of the plots' size, in pixels.
pub(crate) fn text_width(text: &str) -> f64 {
    6.0 * text.chars().count() as f64
}

/// A text cut to a width, its end kept: the ends of layers' names tell them apart.
pub(crate) fn shortened(text: &str, width: f64) -> String {
    let count = text.chars().count();
    let fits = (width / 6.0).max(2.0) as usize;
    match count > fits {
        true => {
            let end: String = text.chars().skip(count + 1 - fits).collect();
            format!("…{end}")
        }
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::{compact, significant};

    #[test]
    fn labels_differ_and_are_short() {
        assert_eq!(labels(&[0.0, 0.25, 0.5], significant), ["0", "0.25", "0.5"]);
        assert_eq!(
            labels(&[268_000.0, 268_250.0, 268_500.0], compact),
            ["268k", "268.2k", "268.5k"]
        );
        assert_eq!(
            labels(&[90.0, 90.5, 91.0], significant),
            ["90", "90.5", "91"]
        );
    }

    #[test]
    fn long_names_keep_their_ends() {
        assert_eq!(shortened("layer1.0.conv1", 200.0), "layer1.0.conv1");
        assert_eq!(
            shortened("features.denseblock4.conv1", 72.0),
            "…lock4.conv1"
        );
        assert_eq!(shortened("größe.größe.größe", 36.0), "…größe");
    }
}
