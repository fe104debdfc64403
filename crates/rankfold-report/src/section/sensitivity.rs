//! What changing a layer costs: measured by a sweep, or as the planner estimates.

use crate::numbers::{grouped, percent, signed, significant};
use crate::plot::palette::Look;
use crate::plot::rows::{Dot, Row, Rows};
use crate::plot::scale::Spread;
use crate::record::Layer;
use crate::sweep::{Cell, Drop, Sweep};

/// What each cell of a sweep loses, a row a layer.
pub(crate) fn measured(sweep: &Sweep, layers: &[Layer]) -> Rows {
    let labelled = sweep.labelled();
    let chosen = |cell: &Cell| {
        layers.iter().any(|layer| {
            layer.name == cell.layer && layer.form == cell.form && layer.rank == Some(cell.rank)
        })
    };
    let dot = |cell: &Cell| {
        let Drop { value, error } = sweep.loss(cell)?;
        let spread = |text: String| {
            error.map_or(text.clone(), |error| {
                format!("{text} ± {}", significant(error, 2))
            })
        };
        let mut tip = format!("{}, {} at rank {}: ", cell.layer, cell.form, cell.rank);
        tip += &match labelled {
            true => format!("{} points of accuracy", spread(signed(-value, 2))),
            false => format!("divergence {}", spread(significant(value, 3))),
        };
        if let Some(response) = cell.response_error {
            tip += &format!(", response error {}", significant(response, 3));
        }
        Some(Dot {
            value,
            error,
            look: Look::of(cell.form),
            tip,
            ringed: chosen(cell),
        })
    };
    let mut names: Vec<&str> = sweep.layers.iter().map(|layer| &*layer.name).collect();
    for cell in &sweep.cells {
        if !names.contains(&&*cell.layer) {
            names.push(&cell.layer);
        }
    }
    let rows = names.into_iter().map(|name| Row {
        label: name.to_owned(),
        bar: None,
        dots: sweep
            .cells
            .iter()
            .filter(|cell| cell.layer == name)
            .filter_map(dot)
            .collect(),
    });
    let images = sweep
        .data
        .images
        .map_or_else(String::new, |n| format!(" on {} inputs", grouped(n)));
    let caption = match labelled {
        true => format!(
            "Each mark is the network with this layer alone in one form at one rank, measured{images}; right is worse. \
             Whiskers are one standard error; within the grey band a difference may be chance, and beyond it the axis is \
             logarithmic."
        ),
        false => format!(
            "Each mark is the network with this layer alone in one form at one rank: how far its outputs are from the \
             original's{images}; right is worse. Whiskers are one standard error; beyond the grey band the axis is logarithmic."
        ),
    };
    Rows {
        name: "sensitivity".to_owned(),
        title: "Sensitivity, layer by layer".to_owned(),
        caption,
        label: if labelled {
            "points of accuracy lost"
        } else {
            "divergence from the original"
        },
        spread: sweep.spread(),
        format: significant,
        rows: rows.collect(),
        noise: sweep.noise(),
    }
}

/// What each form would lose at half a layer's parameters, from the curves of the planner.
pub(crate) fn estimated(layers: &[Layer]) -> Option<Rows> {
    let damage = layers
        .iter()
        .all(|layer| layer.curves.iter().all(|curve| !curve.damage.is_empty()));
    let row = |layer: &Layer| {
        let own = layer.parameters[0];
        let dots = layer.curves.iter().filter_map(|curve| {
            let place = curve.parameters.iter().rposition(|&n| n <= own / 2)?;
            let values = if damage { &curve.damage } else { &curve.error };
            let value = *values.get(place)?;
            (value > 0.0).then(|| Dot {
                value,
                error: None,
                look: Look::of(curve.form),
                tip: format!(
                    "{}, {} at rank {} ({} % of its parameters): {}",
                    layer.name,
                    curve.form,
                    curve.rank[place],
                    percent(curve.parameters[place], own),
                    significant(value, 3)
                ),
                ringed: false,
            })
        });
        Row {
            label: layer.name.clone(),
            bar: None,
            dots: dots.collect(),
        }
    };
    let rows: Vec<Row> = layers.iter().map(row).collect();
    if rows.iter().all(|row| row.dots.is_empty()) {
        return None;
    }
    Some(Rows {
        name: "sensitivity".to_owned(),
        title: "Sensitivity, as estimated".to_owned(),
        caption: match damage {
            true => "What each form would do to the output with at most half of the layer's parameters, estimated from \
                     calibration inputs; only its proportions mean anything. Right is worse.",
            false => "The relative error of each form with at most half of the layer's parameters. Right is worse.",
        }
        .to_owned(),
        label: if damage { "damage to the output" } else { "relative error" },
        spread: if damage { Spread::Log } else { Spread::Linear },
        format: significant,
        rows,
        noise: None,
    })
}
