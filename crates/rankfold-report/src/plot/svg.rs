//! SVG as text, with every text escaped.

use std::fmt::Write;

use crate::plot::palette::{Look, Shape};

/// A drawing that grows.
#[derive(Debug, Default)]
pub(crate) struct Svg {
    body: String,
}

/// Where a text stands relative to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text for the inside of HTML or XML. What no document may hold becomes a replacement character.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A place, to a tenth of a pixel.
fn place(value: f64) -> String {
    let text = format!("{:.1}", value.clamp(-1e5, 1e5));
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

impl Svg {
    pub(crate) fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let class = match class {
            "" => String::new(),
            class => format!(" class=\"{class}\""),
        };
        let _ = write!(
            self.body,
            "<text x=\"{}\" y=\"{}\"{anchor}{class}>{}</text>",
            place(x),
            place(y),
            escape(text)
        );
    }

    pub(crate) fn line(&mut self, [x, y]: [f64; 2], [x2, y2]: [f64; 2], class: &str) {
        let _ = write!(
            self.body,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{class}\"/>",
            place(x),
            place(y),
            place(x2),
            place(y2)
        );
    }

    pub(crate) fn rect(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], class: &str) {
        let _ = write!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{class}\"/>",
            place(x),
            place(y),
            place(width.max(0.0)),
            place(height.max(0.0))
        );
    }

    pub(crate) fn path(&mut self, points: &[[f64; 2]], class: &str) {
        let mut data = String::new();
        for (i, [x, y]) in points.iter().enumerate() {
            let _ = write!(
                data,
                "{}{} {}",
                if i == 0 { 'M' } else { 'L' },
                place(*x),
                place(*y)
            );
        }
        let _ = write!(self.body, "<path d=\"{data}\" class=\"{class}\"/>");
    }

    /// A mark at a place.
    pub(crate) fn mark(&mut self, [x, y]: [f64; 2], look: Look, size: f64) {
        let class = match look.shape {
            Shape::Cross | Shape::Plus | Shape::Bar => format!("stroke {}", look.colour),
            _ => format!("dot {}", look.colour),
        };
        let (s, d) = (size, 1.3 * size);
        let corners: &[[f64; 2]] = match look.shape {
            Shape::Circle => {
                let _ = write!(
                    self.body,
                    "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{class}\"/>",
                    place(x),
                    place(y),
                    place(s)
                );
                return;
            }
            Shape::Square => &[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
            Shape::Diamond => &[[0.0, -1.3], [1.3, 0.0], [0.0, 1.3], [-1.3, 0.0]],
            Shape::Up => &[[0.0, -1.2], [1.15, 0.9], [-1.15, 0.9]],
            Shape::Down => &[[0.0, 1.2], [1.15, -0.9], [-1.15, -0.9]],
            Shape::Cross => {
                self.line([x - s, y - s], [x + s, y + s], &class);
                return self.line([x - s, y + s], [x + s, y - s], &class);
            }
            Shape::Plus => {
                self.line([x - d, y], [x + d, y], &class);
                return self.line([x, y - d], [x, y + d], &class);
            }
            Shape::Bar => return self.line([x, y - d], [x, y + d], &class),
        };
        let mut data = String::new();
        for (i, [dx, dy]) in corners.iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            let _ = write!(data, "{command}{} {}", place(x + s * dx), place(y + s * dy));
        }
        let _ = write!(self.body, "<path d=\"{data}Z\" class=\"{class}\"/>");
    }

    pub(crate) fn circle(&mut self, [x, y]: [f64; 2], radius: f64, class: &str) {
        let _ = write!(
            self.body,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{class}\"/>",
            place(x),
            place(y),
            place(radius)
        );
    }

    /// What `draw` adds, with a text that shows when one points at it.
    pub(crate) fn tip(&mut self, text: &str, draw: impl FnOnce(&mut Self)) {
        let _ = write!(
            self.body,
            "<g class=\"tip\"><title>{}</title>",
            escape(text)
        );
        draw(self);
        self.body.push_str("</g>");
    }

    /// The drawing for the inside of a page.
    pub(crate) fn inline(&self, [width, height]: [f64; 2], label: &str) -> String {
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            escape(label),
            self.body,
            w = place(width),
            h = place(height),
        )
    }

    /// The drawing as a sign within a text that says the same.
    pub(crate) fn chip(&self, side: f64) -> String {
        format!(
            "<svg class=\"plot chip\" viewBox=\"0 0 {0} {0}\" aria-hidden=\"true\">{1}</svg>",
            place(side),
            self.body
        )
    }

    /// The drawing as a file of its own.
    pub(crate) fn file(&self, [width, height]: [f64; 2], label: &str, style: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"{}\"><style>{style}</style><rect width=\"100%\" height=\"100%\" class=\"bar paper\"/>{}</svg>\n",
            escape(label),
            self.body,
            w = place(width),
            h = place(height),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_place() {
        assert_eq!(
            escape("<b>\"a\" & 'b'</b>"),
            "&lt;b&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/b&gt;"
        );
        assert_eq!(escape("a\u{0}b\u{1b}[1m\nc"), "a\u{fffd}b\u{fffd}[1m c");
    }

    #[test]
    fn places_are_short() {
        assert_eq!(place(1.0), "1");
        assert_eq!(place(-0.01), "0");
        assert_eq!(place(2.25), "2.2");
        assert_eq!(place(f64::INFINITY), "100000");
    }
}
