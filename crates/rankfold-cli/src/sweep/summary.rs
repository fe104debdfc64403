//! What a sweep has found, layer by layer.

use rankfold_compress::{Cell, Sweep, SweptLayer};

use crate::output::{percent, table};

/// The share of a layer's parameters at which layers are compared.
const QUARTER: f64 = 0.25;

/// A row for every layer: what the network loses where that layer alone is cut to about a quarter.
pub(crate) fn summary(sweep: &Sweep, cells: &[Cell]) -> String {
    let rows: Vec<Vec<String>> = (sweep.layers.iter())
        .filter_map(|layer| Some(row(layer, compared(layer, cells)?)))
        .collect();
    let header = [
        "layer alone",
        "form",
        "rank",
        "parameters",
        "kept",
        "KL",
        "± ",
        "drop",
        "± ",
    ];
    let mut text = table(&header, &[0, 1], rows).to_string();
    if let Some(baseline) = sweep.baseline.accuracy {
        text += &format!(
            "\n\noriginal: {:.2} ± {:.2} % of {} inputs of {}; drop in points",
            100.0 * baseline.value(),
            100.0 * baseline.standard_error(),
            baseline.of,
            sweep.data.split
        );
    }
    if let Some(noise) = noise(cells) {
        text += &format!("\n{noise}");
    }
    text
}

/// The cell of least divergence among those that keep about a quarter of the layer.
fn compared<'a>(layer: &SweptLayer, cells: &'a [Cell]) -> Option<&'a Cell> {
    let own = cells.iter().filter(|cell| cell.layer == layer.name);
    let share = |cell: &&Cell| cell.layer_parameters as f64 / layer.parameters.max(1) as f64;
    let off = |cell: &&Cell| (share(cell).max(1e-9) / QUARTER).ln().abs();
    let near = |cell: &&Cell| off(cell) < std::f64::consts::LN_2;
    let best = own
        .clone()
        .filter(near)
        .min_by(|a, b| a.kl.total_cmp(&b.kl));
    best.or_else(|| own.min_by(|a, b| off(a).total_cmp(&off(b))))
}

fn row(layer: &SweptLayer, cell: &Cell) -> Vec<String> {
    let of = cell.accuracy.map_or(0, |accuracy| accuracy.of);
    let drop = cell.changed.map(|changed| changed.drop(of));
    let points = |share: f64| format!("{:.2}", 100.0 * share);
    vec![
        cell.layer.clone(),
        cell.form.to_string(),
        cell.rank.to_string(),
        cell.layer_parameters.to_string(),
        format!("{} %", percent(cell.layer_parameters, layer.parameters)),
        format!("{:.4}", cell.kl),
        format!("{:.4}", cell.kl_se),
        drop.map_or_else(String::new, |(drop, _)| points(drop)),
        drop.map_or_else(String::new, |(_, error)| points(error)),
    ]
}

/// A warning where most drops are within their sampling error.
fn noise(cells: &[Cell]) -> Option<String> {
    let labelled = cells
        .iter()
        .filter_map(|cell| Some((cell.changed?, cell.accuracy?.of)));
    let drops: Vec<(f64, f64)> = labelled.map(|(changed, of)| changed.drop(of)).collect();
    let within = drops
        .iter()
        .filter(|(drop, error)| drop.abs() <= 2.0 * error)
        .count();
    (2 * within > drops.len()).then(|| {
        format!(
            "the drops of {within} of {} cells are within twice their sampling error: the divergence \
             tells layers apart where accuracy does not; more --images make it smaller",
            drops.len()
        )
    })
}
