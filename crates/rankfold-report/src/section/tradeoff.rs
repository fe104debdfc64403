//! Accuracy against what a model costs.

use rankfold_compress::Resource;

use crate::numbers::{bytes, compact, compact_bytes, grouped, significant};
use crate::plot::Format;
use crate::plot::chart::{Axis, COLUMN, Chart, Point, Rule, Series};
use crate::plot::palette::Look;
use crate::plot::scale::Spread;
use crate::record::Side;
use crate::section::{Section, Sources, cells, figures};

/// What a model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    Parameters,
    Macs,
    Bytes,
    Latency,
}

/// A model that was measured.
struct Tried {
    name: String,
    look: Look,
    side: Side,
    /// Median time of the smallest batch, in milliseconds.
    latency: Option<f64>,
    chosen: bool,
}

impl Cost {
    fn of(self, tried: &Tried) -> Option<f64> {
        let counted = |n: u64| (n > 0).then_some(n as f64);
        match self {
            Self::Parameters => counted(tried.side.parameters),
            Self::Macs => counted(tried.side.macs),
            Self::Bytes => counted(tried.side.bytes),
            Self::Latency => tried.latency,
        }
    }

    fn axis(self) -> Axis {
        let (label, format): (_, Format) = match self {
            Self::Parameters => ("parameters", compact),
            Self::Macs => ("multiply-accumulates for one input", compact),
            Self::Bytes => ("bytes of the file", compact_bytes),
            Self::Latency => ("milliseconds, median", significant),
        };
        Axis {
            label,
            spread: Spread::Linear,
            zero: true,
            format,
        }
    }

    fn words(self, value: f64) -> String {
        match self {
            Self::Parameters => format!("{} parameters", grouped(value as u64)),
            Self::Macs => format!("{} MACs", grouped(value as u64)),
            Self::Bytes => bytes(value as u64),
            Self::Latency => format!("{} ms", significant(value, 4)),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Parameters => "Accuracy against parameters",
            Self::Macs => "Accuracy against multiply-accumulates",
            Self::Bytes => "Accuracy against the file",
            Self::Latency => "Accuracy against latency",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Parameters => "accuracy-parameters",
            Self::Macs => "accuracy-macs",
            Self::Bytes => "accuracy-bytes",
            Self::Latency => "accuracy-latency",
        }
    }
}

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let tried = tried(sources);
    let goal = sources.record().and_then(|record| record.budget);
    let mut costs = vec![Cost::Parameters, Cost::Macs, Cost::Latency];
    if goal.is_some_and(|goal| goal.resource == Resource::Bytes) {
        costs.insert(0, Cost::Bytes);
    }
    let swept = sources.sweep.and_then(cells::against_size);
    let charts = costs
        .into_iter()
        .filter_map(|cost| chart(cost, &tried, sources));
    let plots: Vec<_> = charts
        .chain(swept)
        .map(|chart| chart.plot(COLUMN, true))
        .collect();
    if plots.is_empty() {
        return None;
    }
    let images = tried.iter().find_map(|tried| tried.side.images);
    let lead = match (images, tried.len() > 1) {
        (_, false) => String::new(),
        (None, true) => "<p class=\"lead\">Up and to the left is better.</p>\n".to_owned(),
        (Some(images), true) => format!(
            "<p class=\"lead\">Bars are one standard error to each side, from {} images. Up and to the left is \
             better.</p>\n",
            grouped(images)
        ),
    };
    let body = lead + &figures(&plots);
    Some(Section {
        id: "tradeoff",
        title: "Accuracy against cost",
        body,
        plots,
    })
}

fn tried(sources: &Sources<'_>) -> Vec<Tried> {
    let mut all = Vec::new();
    let Some(record) = sources.record() else {
        return all;
    };
    let smallest = sources.latencies().first().copied();
    let mut add = |name: &str, look, side: Option<Side>, latency, chosen| {
        if let Some(side) = side.filter(|side| side.top1.is_some()) {
            let name = name.to_owned();
            all.push(Tried {
                name,
                look,
                side,
                latency,
                chosen,
            });
        }
    };
    for other in &record.tried {
        add(&other.name, Look::OTHER, Some(other.side), None, false);
    }
    for folder in sources.others {
        let side = folder.record.as_ref().and_then(|record| record.after);
        let latency = folder
            .latency
            .as_ref()
            .and_then(|latency| Some(latency.pairs(Some(&folder.name)).first()?.after.median_ms));
        add(&folder.name, Look::OTHER, side, latency, false);
    }
    let before = smallest.and_then(|pair| Some(pair.before?.median_ms));
    add("original", Look::ORIGINAL, record.before, before, false);
    let after = smallest.map(|pair| pair.after.median_ms);
    add("this model", Look::CHOSEN, record.after, after, true);
    all
}

fn chart(cost: Cost, tried: &[Tried], sources: &Sources<'_>) -> Option<Chart> {
    let goal = sources.record().and_then(|record| record.budget);
    let mut series: Vec<Series> = Vec::new();
    for tried in tried {
        let (Some(x), Some(y)) = (cost.of(tried), tried.side.top1) else {
            continue;
        };
        let error = tried.side.top1_se;
        let spread = error.map_or_else(String::new, |error| format!(" ± {error:.2}"));
        let point = Point {
            x,
            y,
            error,
            tip: format!("{}: {y:.2}{spread} %, {}", tried.name, cost.words(x)),
            note: Some(tried.name.clone()),
            ringed: tried.chosen,
        };
        let name = match tried.look {
            Look::OTHER => "also tried",
            _ => &tried.name,
        };
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series {
                name: name.to_owned(),
                look: tried.look,
                joined: false,
                faint: false,
                points: vec![point],
            }),
        }
    }
    let points: usize = series.iter().map(|series| series.points.len()).sum();
    if points < 2 {
        return None;
    }
    let limited = |resource| match resource {
        Resource::Parameters => Cost::Parameters,
        Resource::Macs => Cost::Macs,
        Resource::Bytes => Cost::Bytes,
        Resource::Time => Cost::Latency,
    };
    let rules: Vec<Rule> = goal
        .filter(|goal| limited(goal.resource) == cost)
        .map(|goal| Rule {
            x: goal.limit as f64,
            label: "budget".to_owned(),
            tip: format!("budget: {}", cost.words(goal.limit as f64)),
        })
        .into_iter()
        .collect();
    let batch = sources.latencies().first().map(|pair| pair.after.batch);
    let caption = match (cost, batch, rules.is_empty()) {
        (Cost::Latency, Some(batch), _) => {
            format!("Median time of {batch} at once, on the machine named below.")
        }
        (_, _, false) => "The dashed line is the budget.".to_owned(),
        _ => "Measured on the same images.".to_owned(),
    };
    Some(Chart {
        name: cost.name().to_owned(),
        title: cost.title().to_owned(),
        caption,
        x: cost.axis(),
        y: Axis {
            label: "top-1, %",
            spread: Spread::Linear,
            zero: false,
            format: significant,
        },
        series,
        rules,
    })
}
