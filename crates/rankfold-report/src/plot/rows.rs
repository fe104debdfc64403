//! A row for every layer, over one axis.

use serde_json::{Value, json};

use crate::plot::palette::{Look, rules_by_value};
use crate::plot::scale::{Scale, Spread};
use crate::plot::svg::{Anchor, Svg};
use crate::plot::{Format, Plot, labels, shortened, text_width};

/// What stands in a row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) label: String,
    /// Before and after, as bars.
    pub(crate) bar: Option<Bar>,
    /// Points, each of its own look.
    pub(crate) dots: Vec<Dot>,
}

/// A value that was and that is.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) before: f64,
    pub(crate) after: f64,
    pub(crate) look: Look,
    pub(crate) tip: String,
}

/// A point of a row.
#[derive(Debug, Clone)]
pub(crate) struct Dot {
    pub(crate) value: f64,
    pub(crate) error: Option<f64>,
    pub(crate) look: Look,
    pub(crate) tip: String,
    pub(crate) ringed: bool,
}

/// A plot with a row for every layer.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) caption: String,
    pub(crate) label: &'static str,
    pub(crate) spread: Spread,
    pub(crate) format: Format,
    pub(crate) rows: Vec<Row>,
    /// Values within this of zero may be chance.
    pub(crate) noise: Option<f64>,
}

const ROW: f64 = 16.0;
/// From so many rows on the axis is marked above them, too.
const MANY: usize = 30;
/// The room of labels, as a share of the width.
const LABELS: f64 = 0.36;

impl Rows {
    /// The plot in all its guises.
    pub(crate) fn plot(&self, width: f64) -> Plot {
        let label = format!("{}. {}", self.title, self.caption);
        let above = if self.rows.len() > MANY { 14.0 } else { 0.0 };
        let size = |width: f64, top: f64| [width, top + ROW * self.rows.len() as f64 + 44.0];
        let file = size(640.0, 30.0 + above);
        let inline = size(width, above);
        Plot {
            name: self.name.clone(),
            title: self.title.clone(),
            caption: self.caption.clone(),
            inline: self.draw(inline, above, false).inline(inline, &label),
            file: self
                .draw(file, 30.0 + above, true)
                .file(file, &label, &rules_by_value()),
            data: self.data(),
        }
    }

    fn draw(&self, [width, height]: [f64; 2], top: f64, titled: bool) -> Svg {
        let mut svg = Svg::default();
        if titled {
            svg.text([12.0, 21.0], Anchor::Start, "title", &self.title);
        }
        let widest = self
            .rows
            .iter()
            .map(|row| text_width(&row.label))
            .fold(0.0, f64::max);
        let left = (widest + 8.0).min(LABELS * width);
        let right = width - 8.0;
        let bottom = height - 36.0;
        let scale = self.scale([left, right]);
        if let Some(noise) = self.noise {
            let (from, to) = (
                scale.at(-noise).max(left),
                scale.at(noise).clamp(left, right),
            );
            svg.tip(
                &format!(
                    "within ±{} of zero a difference may be chance",
                    (self.format)(noise, 2)
                ),
                |svg| {
                    svg.rect([from, top + 4.0], [to - from, bottom - top - 4.0], "noise");
                },
            );
        }
        let mut end = f64::NEG_INFINITY;
        let ticks = scale.ticks(4);
        for (&tick, text) in ticks.iter().zip(&labels(&ticks, self.format)) {
            let at = scale.at(tick);
            svg.line([at, top + 4.0], [at, bottom], "grid");
            let half = text_width(text) / 2.0;
            let place = at.min(right + 6.0 - half);
            if place - half > end {
                svg.text([place, bottom + 14.0], Anchor::Middle, "", text);
                if self.rows.len() > MANY {
                    svg.text([place, top], Anchor::Middle, "", text);
                }
                end = place + half + 4.0;
            }
        }
        svg.line([left, bottom], [right, bottom], "axis");
        svg.text([right, height - 4.0], Anchor::End, "", self.label);
        for (i, row) in self.rows.iter().enumerate() {
            let middle = top + 4.0 + ROW * (i as f64 + 0.5);
            row.draw(&mut svg, &scale, left, middle);
        }
        svg
    }

    fn scale(&self, range: [f64; 2]) -> Scale {
        let values = self.rows.iter().flat_map(|row| {
            let bar = row.bar.iter().flat_map(|bar| [bar.before, bar.after]);
            let dots = row.dots.iter().flat_map(|dot| {
                let error = dot.error.unwrap_or(0.0);
                [dot.value - error, dot.value + error]
            });
            bar.chain(dots)
        });
        Scale::around(values, self.spread, true, range)
    }

    fn data(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let dots = row
                .dots
                .iter()
                .map(|dot| json!({ "value": dot.value, "error": dot.error }));
            match &row.bar {
                Some(bar) => {
                    json!({ "layer": row.label, "before": bar.before, "after": bar.after })
                }
                None => json!({ "layer": row.label, "points": dots.collect::<Vec<_>>() }),
            }
        });
        json!({ "title": self.title, "x": self.label, "rows": rows.collect::<Vec<_>>() })
    }
}

impl Row {
    fn draw(&self, svg: &mut Svg, scale: &Scale, left: f64, middle: f64) {
        let label = shortened(&self.label, left - 8.0);
        let write = |svg: &mut Svg| svg.text([left - 6.0, middle + 4.0], Anchor::End, "", &label);
        match label == self.label {
            true => write(svg),
            false => svg.tip(&self.label, write),
        }
        if let Some(bar) = &self.bar {
            let start = scale.at(0.0);
            svg.tip(&bar.tip, |svg| {
                svg.rect(
                    [start, middle - ROW / 2.0],
                    [scale.at(bar.before) - start, ROW],
                    "hit",
                );
                svg.rect(
                    [start, middle - 4.5],
                    [(scale.at(bar.before) - start).max(1.0), 9.0],
                    "was",
                );
                svg.rect(
                    [start, middle - 4.5],
                    [(scale.at(bar.after) - start).max(1.0), 9.0],
                    &format!("bar {}", bar.look.colour),
                );
            });
        }
        for dot in self.dots.iter().filter(|dot| scale.has(dot.value)) {
            let at = [scale.at(dot.value), middle];
            svg.tip(&dot.tip, |svg| {
                svg.circle(at, 7.0, "hit");
                if let Some(error) = dot.error {
                    let ends =
                        [dot.value - error, dot.value + error].map(|v| scale.at(scale.within(v)));
                    let class = format!("whisker faint {}", dot.look.colour);
                    svg.line([ends[0], middle], [ends[1], middle], &class);
                }
                svg.mark(at, dot.look, 3.2);
                if dot.ringed {
                    svg.circle(at, 6.2, "ring");
                }
            });
        }
    }
}
