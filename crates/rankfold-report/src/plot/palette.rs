//! Colours and shapes: one of each for every form, told apart by eyes of every kind.

use std::fmt::Write;

use rankfold_compress::Form;

/// A colour by name, on light and on dark paper.
struct Token {
    name: &'static str,
    light: &'static str,
    dark: &'static str,
}

const fn token(name: &'static str, light: &'static str, dark: &'static str) -> Token {
    Token { name, light, dark }
}

/// Every colour of the report. Texts are `ink`, `soft` and `accent`; forms keep at least 3:1 to the paper.
const TOKENS: &[Token] = &[
    token("paper", "#fbfaf7", "#16171a"),
    token("panel", "#ffffff", "#1d1f23"),
    token("ink", "#1b1c1f", "#ececee"),
    token("soft", "#5c5d63", "#a9aab2"),
    token("rule", "#d9d7d0", "#36383f"),
    token("grid", "#ebe9e3", "#2a2c32"),
    token("accent", "#1f4fa3", "#86b2f5"),
    token("noise", "#eeece4", "#26282e"),
    token("keep", "#8a8a90", "#84848b"),
    token("svd", "#b08400", "#f0cd5a"),
    token("channel", "#b85fae", "#e59ad6"),
    token("spatial", "#0b7d68", "#2aa583"),
    token("tucker2", "#b5330c", "#ef6f3c"),
    token("cp3", "#1f4fa3", "#5f97ea"),
    token("cp4", "#3f93cf", "#a4d8fa"),
    token("cp2", "#35353a", "#e6e6ea"),
];

/// What marks a point, so that colour is not all that tells forms apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Circle,
    Square,
    Diamond,
    Up,
    Down,
    Cross,
    Plus,
    Bar,
}

/// How a series looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// The name of its colour.
    pub(crate) colour: &'static str,
    pub(crate) shape: Shape,
}

impl Look {
    pub(crate) const CHOSEN: Self = Self {
        colour: "accent",
        shape: Shape::Circle,
    };
    pub(crate) const ORIGINAL: Self = Self {
        colour: "ink",
        shape: Shape::Square,
    };
    pub(crate) const OTHER: Self = Self {
        colour: "soft",
        shape: Shape::Circle,
    };

    /// That of a form.
    pub(crate) fn of(form: Form) -> Self {
        let shape = match form {
            Form::Keep => Shape::Bar,
            Form::Svd => Shape::Down,
            Form::Channel => Shape::Diamond,
            Form::Spatial => Shape::Up,
            Form::Tucker2 => Shape::Square,
            Form::Cp3 => Shape::Circle,
            Form::Cp4 => Shape::Plus,
            Form::Cp2 => Shape::Cross,
        };
        Self {
            colour: form.name(),
            shape,
        }
    }
}

/// The colours as properties, for light and, on screens, for dark.
pub(crate) fn properties() -> String {
    let declare = |pick: fn(&Token) -> &'static str| {
        TOKENS.iter().fold(String::new(), |mut text, token| {
            let _ = write!(text, "--{}:{};", token.name, pick(token));
            text
        })
    };
    format!(
        ":root{{color-scheme:light dark;{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n",
        declare(|token| token.light),
        declare(|token| token.dark)
    )
}

/// How plots are styled, in terms of the properties.
pub(crate) fn rules() -> String {
    let mut text = include_str!("../assets/plot.css").to_owned();
    for Token { name, .. } in TOKENS {
        let _ = writeln!(
            text,
            ".dot.{name},.bar.{name}{{fill:var(--{name})}}.line.{name},.whisker.{name},.stroke.{name}{{stroke:var(--{name})}}"
        );
    }
    text
}

/// The same with the colours written out: not every program that shows SVG knows properties.
pub(crate) fn rules_by_value() -> String {
    let rules = rules();
    let with = |pick: fn(&Token) -> &'static str| {
        TOKENS.iter().fold(rules.clone(), |text, token| {
            text.replace(&format!("var(--{})", token.name), pick(token))
        })
    };
    format!(
        "{}\n@media screen and (prefers-color-scheme:dark){{{}}}\n",
        with(|token| token.light),
        with(|token| token.dark)
    )
}
