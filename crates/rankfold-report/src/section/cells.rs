//! Every cell of a sweep as a network of its own.

use rankfold_compress::Form;

use crate::numbers::{compact, grouped, signed, significant};
use crate::plot::chart::{Axis, Chart, Point, Series};
use crate::plot::palette::Look;
use crate::plot::scale::Spread;
use crate::sweep::Sweep;

/// Every cell of a sweep as a network: its size against what it loses.
pub(crate) fn against_size(sweep: &Sweep) -> Option<Chart> {
    let labelled = sweep.labelled();
    let mut series: Vec<Series> = Vec::new();
    for cell in &sweep.cells {
        let Some([parameters, _]) = sweep.network(cell) else {
            continue;
        };
        let Some(loss) = sweep.loss(cell) else {
            continue;
        };
        let y = if labelled { -loss.value } else { loss.value };
        let what = if labelled { "points" } else { "divergence" };
        let number = if labelled {
            signed(y, 2)
        } else {
            significant(y, 3)
        };
        let point = Point {
            x: parameters as f64,
            y,
            tip: format!(
                "{}, {} at rank {}: {number} {what}, {} parameters",
                cell.layer,
                cell.form,
                cell.rank,
                grouped(parameters)
            ),
            ..Point::default()
        };
        let look = Look::of(cell.form);
        match series.iter_mut().find(|series| series.look == look) {
            Some(series) => series.points.push(point),
            None => series.push(Series {
                name: cell.form.name().to_owned(),
                look,
                joined: false,
                faint: true,
                points: vec![point],
            }),
        }
    }
    series.sort_by_key(|series| Form::ALL.iter().position(|form| form.name() == series.name));
    (!series.is_empty()).then(|| Chart {
        name: "sweep-parameters".to_owned(),
        title: "Every cell of the sweep".to_owned(),
        caption: match labelled {
            true => "One layer changed at a time: what the whole network then counts, and the accuracy that it gains or \
                     loses, on an axis that is logarithmic beyond the noise.",
            false => "One layer changed at a time: what the whole network then counts, and how far its outputs \
                      move, on an axis that is logarithmic beyond the noise.",
        }
        .to_owned(),
        x: Axis {
            label: "parameters of the network",
            spread: Spread::Linear,
            zero: false,
            format: compact,
        },
        y: Axis {
            label: if labelled { "points of accuracy, against the original" } else { "divergence from the original" },
            spread: sweep.spread(),
            zero: true,
            format: significant,
        },
        series,
        rules: Vec::new(),
    })
}
