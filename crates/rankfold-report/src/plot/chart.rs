//! Points and lines over two axes.

use serde_json::{Value, json};

use crate::plot::palette::{Look, rules_by_value};
use crate::plot::scale::{Scale, Spread};
use crate::plot::svg::{Anchor, Svg};
use crate::plot::{Format, Plot, labels, text_width};

/// One of the two axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) spread: Spread,
    /// From zero on.
    pub(crate) zero: bool,
    pub(crate) format: Format,
}

/// A point with what is known of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The standard error of y.
    pub(crate) error: Option<f64>,
    /// What shows when one points at it.
    pub(crate) tip: String,
    /// What stands beside it.
    pub(crate) note: Option<String>,
    /// Whether it is the one that was taken.
    pub(crate) ringed: bool,
}

/// Points of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) look: Look,
    /// Joined by a line.
    pub(crate) joined: bool,
    /// In the background.
    pub(crate) faint: bool,
    pub(crate) points: Vec<Point>,
}

/// A line across the plot.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) x: f64,
    pub(crate) label: String,
    pub(crate) tip: String,
}

/// A plot of points over two axes.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) caption: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    pub(crate) rules: Vec<Rule>,
}

/// The size of a chart that stands by itself in a column of the page.
pub(crate) const COLUMN: [f64; 2] = [352.0, 250.0];
/// The size of one of two charts side by side in a column.
pub(crate) const HALF: [f64; 2] = [172.0, 136.0];
/// The size of a chart in a file.
const FILE: [f64; 2] = [640.0, 420.0];

impl Chart {
    /// The chart in all its guises, `size` in the page; `legend` also there.
    pub(crate) fn plot(&self, size: [f64; 2], legend: bool) -> Plot {
        let label = format!("{}. {}", self.title, self.caption);
        Plot {
            name: self.name.clone(),
            title: self.title.clone(),
            caption: self.caption.clone(),
            inline: self.draw(size, legend, false).inline(size, &label),
            file: self
                .draw(FILE, true, true)
                .file(FILE, &label, &rules_by_value()),
            data: self.data(),
        }
    }

    fn draw(&self, [width, height]: [f64; 2], legend: bool, titled: bool) -> Svg {
        let mut svg = Svg::default();
        let small = width < 200.0;
        let mut top = if titled { 30.0 } else { 4.0 };
        if titled {
            svg.text([12.0, 21.0], Anchor::Start, "title", &self.title);
        }
        let named = |series: &Series| series.points.iter().all(|point| point.note.is_some());
        if legend && self.series.len() > 1 && !self.series.iter().all(named) {
            top = self.legend(&mut svg, [12.0, top + 10.0], width - 12.0) + 8.0;
        }
        // The label of y stands above its axis, where it is read without turning one's head.
        svg.text(
            [if small { 0.0 } else { 12.0 }, top + 10.0],
            Anchor::Start,
            "",
            self.y.label,
        );
        let rule_room = if self.rules.is_empty() { 0.0 } else { 14.0 };
        let (frame_top, frame_bottom) = (top + 18.0 + rule_room, height - 36.0);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let ys = points().flat_map(|p| {
            let error = p.error.unwrap_or(0.0);
            [p.y - error, p.y + error]
        });
        let y = Scale::around(ys, self.y.spread, self.y.zero, [frame_bottom, frame_top]);
        let y_ticks = y.ticks(if small { 3 } else { 5 });
        let y_labels = labels(&y_ticks, self.y.format);
        let widest = y_labels
            .iter()
            .map(|text| text_width(text))
            .fold(0.0, f64::max);
        let (left, right) = (widest + 8.0, width - 8.0);
        let xs = points()
            .map(|p| p.x)
            .chain(self.rules.iter().map(|rule| rule.x));
        let x = Scale::around(xs, self.x.spread, self.x.zero, [left, right]);
        for (tick, text) in y_ticks.into_iter().zip(&y_labels) {
            let at = y.at(tick);
            svg.line([left, at], [right, at], "grid");
            svg.text([left - 5.0, at + 4.0], Anchor::End, "", text);
        }
        svg.line([left, frame_bottom], [right, frame_bottom], "axis");
        self.mark_x(
            &mut svg,
            &x,
            [left, right],
            frame_bottom,
            if small { 4 } else { 5 },
        );
        svg.text([right, height - 4.0], Anchor::End, "", self.x.label);
        self.draw_rules(&mut svg, &x, [left, right], [frame_top, frame_bottom]);
        for series in &self.series {
            series.draw(&mut svg, &x, &y, small);
        }
        self.notes(&mut svg, &x, &y, [left, right, frame_top, frame_bottom]);
        svg
    }

    fn mark_x(&self, svg: &mut Svg, x: &Scale, [left, right]: [f64; 2], bottom: f64, count: usize) {
        let mut end = f64::NEG_INFINITY;
        let ticks = x.ticks(count);
        for (&tick, text) in ticks.iter().zip(&labels(&ticks, self.x.format)) {
            let half = text_width(text) / 2.0;
            let at = x.at(tick);
            svg.line([at, bottom], [at, bottom + 4.0], "axis");
            let place = at.clamp(left - 4.0 + half, (right + 6.0 - half).max(left + half));
            if place - half > end {
                svg.text([place, bottom + 16.0], Anchor::Middle, "", text);
                end = place + half + 4.0;
            }
        }
    }

    fn draw_rules(
        &self,
        svg: &mut Svg,
        x: &Scale,
        [left, right]: [f64; 2],
        [top, bottom]: [f64; 2],
    ) {
        let mut end = f64::NEG_INFINITY;
        for rule in &self.rules {
            let at = x.at(rule.x);
            svg.tip(&rule.tip, |svg| {
                svg.line([at, top - 4.0], [at, bottom], "budget");
                svg.rect([at - 5.0, top - 16.0], [10.0, bottom - top + 16.0], "hit");
            });
            let width = text_width(&rule.label);
            let start = (at - width / 2.0).clamp(left, (right - width).max(left));
            if start > end {
                svg.text([start, top - 7.0], Anchor::Start, "", &rule.label);
                end = start + width + 6.0;
            }
        }
    }

    /// Draws the legend and returns where it ends.
    fn legend(&self, svg: &mut Svg, [left, top]: [f64; 2], right: f64) -> f64 {
        let (mut x, mut y) = (left + 4.0, top);
        for series in &self.series {
            let width = 26.0 + text_width(&series.name);
            if x + width > right + 12.0 && x > left + 4.0 {
                (x, y) = (left + 4.0, y + 17.0);
            }
            svg.mark([x, y - 4.0], series.look, 3.5);
            svg.text([x + 9.0, y], Anchor::Start, "", &series.name);
            x += width;
        }
        y
    }

    /// Writes the notes beside their points where they cover neither a point nor another note.
    fn notes(&self, svg: &mut Svg, x: &Scale, y: &Scale, frame: [f64; 4]) {
        let [left, right, top, bottom] = frame;
        let noted = || {
            self.series
                .iter()
                .flat_map(|series| &series.points)
                .filter(|point| point.note.is_some())
        };
        let mut taken: Vec<[f64; 4]> = Vec::new();
        for point in self
            .series
            .iter()
            .filter(|series| !series.faint)
            .flat_map(|s| &s.points)
        {
            let (px, py) = (x.at(point.x), y.at(point.y));
            let r = if point.ringed { 9.0 } else { 4.0 };
            taken.push([px - r, px + r, py - r, py + r]);
            if let Some(error) = point.error {
                let (low, high) = (y.at(point.y - error), y.at(point.y + error));
                taken.push([px - 1.0, px + 1.0, low.min(high), low.max(high)]);
            }
        }
        for point in noted() {
            let Some(note) = &point.note else { continue };
            let (px, py) = (x.at(point.x), y.at(point.y));
            let width = text_width(note);
            let gap = if point.ringed { 12.0 } else { 8.0 };
            let (right_of, left_of, middle) = (px + gap, px - gap - width, px - width / 2.0);
            let places = [
                [right_of, py + 4.0],
                [left_of, py + 4.0],
                [middle, py - gap - 3.0],
                [middle, py + gap + 10.0],
                [right_of, py + 18.0],
                [left_of, py + 18.0],
                [right_of, py - 10.0],
                [left_of, py - 10.0],
                [middle, py - gap - 17.0],
                [middle, py - gap - 31.0],
                [right_of, py - 31.0],
            ];
            let room = |[x, y]: &[f64; 2]| [*x, x + width, y - 10.0, y + 3.0];
            let free = places.iter().find(|place| {
                let own_room = room(place);
                let inside = own_room[0] >= left - 2.0
                    && own_room[1] <= right + 8.0
                    && own_room[2] >= top - 14.0
                    && own_room[3] <= bottom;
                inside && taken.iter().all(|other| !overlap(&own_room, other))
            });
            if let Some(place) = free {
                taken.push(room(place));
                svg.text(*place, Anchor::Start, "strong", note);
            }
        }
    }

    fn data(&self) -> Value {
        let series = self.series.iter().map(|series| {
            let points = series.points.iter().map(|point| {
                let mut value = json!({ "x": point.x, "y": point.y });
                if let (Some(error), Some(object)) = (point.error, value.as_object_mut()) {
                    object.insert("error".to_owned(), json!(error));
                }
                value
            });
            json!({ "name": series.name, "points": points.collect::<Vec<_>>() })
        });
        json!({
            "title": self.title,
            "x": self.x.label,
            "y": self.y.label,
            "series": series.collect::<Vec<_>>(),
        })
    }
}

fn overlap(a: &[f64; 4], b: &[f64; 4]) -> bool {
    a[0] < b[1] && b[0] < a[1] && a[2] < b[3] && b[2] < a[3]
}

impl Series {
    fn draw(&self, svg: &mut Svg, x: &Scale, y: &Scale, small: bool) {
        let shown = || {
            self.points
                .iter()
                .filter(|point| x.has(point.x) && y.has(point.y))
        };
        if self.joined {
            let line: Vec<[f64; 2]> = shown().map(|p| [x.at(p.x), y.at(p.y)]).collect();
            if line.len() > 1 {
                svg.path(&line, &format!("line {}", self.look.colour));
            }
        }
        let size = match (small, self.faint || self.joined) {
            (true, _) => 2.0,
            (false, true) => 2.6,
            (false, false) => 4.0,
        };
        for point in shown() {
            let at = [x.at(point.x), y.at(point.y)];
            svg.tip(&point.tip, |svg| {
                svg.circle(at, if small { 6.0 } else { 9.0 }, "hit");
                if let Some(error) = point.error {
                    let (low, high) = (y.at(point.y - error), y.at(point.y + error));
                    let class = match self.faint {
                        true => format!("whisker faint {}", self.look.colour),
                        false => format!("whisker {}", self.look.colour),
                    };
                    svg.line([at[0], low], [at[0], high], &class);
                }
                let size = if point.ringed { size + 1.0 } else { size };
                svg.mark(at, self.look, size);
                if point.ringed {
                    svg.circle(at, size + 3.0, "ring");
                }
            });
        }
    }
}
