//! What a record tells of how its plan came about: the curves, the spectra, the budget, the machine.

use std::fs;

use ndarray::Array2;
use rankfold_compress::{Budget, Layer, LayerCurves, Plan, Request, Resource};
use rankfold_decompose::{Threads, spectrum};
use rankfold_graph::{CostModel, Graph};
use rankfold_report::{Curve, Goal, Machine, Spectrum};
use rankfold_torch::Device;
use rayon::prelude::*;

use crate::record::Done;

/// What stands behind a plan.
#[derive(Debug)]
pub(crate) struct Background {
    /// The curves that it was chosen from; none where ranks were given.
    pub(crate) curves: Vec<LayerCurves>,
    /// The limit that it was made for.
    pub(crate) goal: Option<Goal>,
    /// The steps that the model was made in, where there are any to tell.
    pub(crate) steps: Vec<Done>,
    /// What it was made on.
    pub(crate) machine: Machine,
}

/// Multiplications that a spectrum may take: about a second on one core.
const WORK: f64 = 3e10;

/// Singular values that are recorded of a layer.
const VALUES: usize = 48;

impl Background {
    /// What every form of a layer loses at the ranks that were measured, and at the one that was taken.
    pub(crate) fn curves(&self, layer: &str, plan: &Plan) -> Vec<Curve> {
        let Some(own) = self.curves.iter().find(|curves| curves.layer.name == layer) else {
            return Vec::new();
        };
        let taken = plan
            .layer(layer)
            .and_then(|planned| planned.rank.map(|rank| (planned.form, rank)));
        let mut curves: Vec<Curve> = Vec::new();
        for point in &own.points {
            let Some(rank) = point.rank else { continue };
            if !point.measured && taken != Some((point.form, rank)) {
                continue;
            }
            if curves.last().is_none_or(|curve| curve.form != point.form) {
                curves.push(Curve {
                    form: point.form,
                    rank: Vec::new(),
                    parameters: Vec::new(),
                    macs: Vec::new(),
                    error: Vec::new(),
                    damage: Vec::new(),
                });
            }
            let error = point.distance.response.unwrap_or(point.distance.weight);
            if let Some(curve) = curves.last_mut().filter(|_| error.is_finite()) {
                curve.rank.push(rank);
                curve.parameters.push(point.cost.parameters);
                curve.macs.push(point.cost.macs);
                curve.error.push(short(error));
                let answered = point.answer.map(|answer| answer.divergence);
                let damage = answered.or(point.distance.damage);
                let damage = damage.filter(|damage| damage.is_finite());
                curve.damage.extend(damage.map(short));
            }
        }
        for curve in &mut curves {
            if curve.damage.len() < curve.rank.len() {
                curve.damage.clear();
            }
        }
        curves
    }
}

/// The limit of the whole network that a request sets.
pub(crate) fn goal(request: &Request, graph: &Graph) -> Option<Goal> {
    let Budget::Within { resource, limit } = request.budget else {
        return None;
    };
    let total = graph.cost(CostModel::True).unwrap_or_default();
    let whole = match resource {
        Resource::Parameters => total.parameters,
        Resource::Macs => total.macs,
        Resource::Bytes => total.parameters_with_buffers * request.element_bytes,
        // Its unit is not that of the counted costs; the report shows what was measured.
        Resource::Time => return None,
    };
    let limit = limit.of(whole);
    Some(Goal { resource, limit })
}

/// A number to five digits: more is noise in a record.
fn short(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// The singular values of every layer that has a plan, as matrices of a row per output channel; none
/// of those that would take long.
pub(crate) fn spectra(graph: &Graph, plan: &Plan) -> Vec<(String, Spectrum)> {
    let layers = Layer::all(graph);
    let planned = layers
        .par_iter()
        .filter(|layer| plan.layer(&layer.name).is_some());
    planned
        .filter_map(|layer| Some((layer.name.clone(), of_layer(graph, layer)?)))
        .collect()
}

fn of_layer(graph: &Graph, layer: &Layer) -> Option<Spectrum> {
    let [rows, columns] = [layer.shape[0], layer.shape[1..].iter().product()];
    let work = rows as f64 * columns as f64 * rows.min(columns) as f64;
    if layer.fixed.is_some() || work > WORK {
        return None;
    }
    let kernel = layer.kernel(graph).ok()?;
    let matrix = Array2::from_shape_vec((rows, columns), kernel.iter().copied().collect()).ok()?;
    let spectrum = spectrum(matrix.view(), Threads::Serial).ok()?;
    let values: Vec<f64> = spectrum.singular_values().collect();
    let largest = values.first().copied().filter(|value| *value > 0.0)?;
    let mut index: Vec<usize> = match values.len() {
        few if few <= VALUES => (1..=few).collect(),
        many => (0..VALUES)
            .map(|i| {
                1 + ((i as f64 / (VALUES - 1) as f64).powf(1.4) * (many - 1) as f64).round()
                    as usize
            })
            .collect(),
    };
    index.dedup();
    Some(Spectrum {
        count: values.len(),
        value: index
            .iter()
            .map(|&i| short(values[i - 1] / largest))
            .collect(),
        index,
    })
}

/// What this program runs on, as far as the system tells.
pub(crate) fn machine(device: Device) -> Machine {
    let field = |text: String, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = fs::read_to_string("/proc/cpuinfo").ok();
    Machine {
        processor: processor.and_then(|text| field(text, "model name")),
        threads: Some(rankfold_torch::threads()),
        system: Some(format!(
            "{} {}",
            std::env::consts::OS,
            std::env::consts::ARCH
        )),
        device: Some(device.to_string()),
        libtorch: rankfold_torch::libtorch_version(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_numbers_are_short_and_near() {
        for value in [0.0, 1.0, 0.123_456_789, 1.234_567e-9, 98_765.432_1] {
            let near = short(value);
            assert!((near - value).abs() <= 1e-4 * value.abs(), "{value}");
            let written = serde_json::to_string(&near).unwrap();
            assert!(written.len() <= 10, "{written}");
        }
    }
}
