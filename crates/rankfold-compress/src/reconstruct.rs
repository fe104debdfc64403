//! Fitting the factors anew, layer by layer in order, to inputs from the already compressed network.
//!
//! The factors of a layer were fitted to the inputs that it has in the original. Once the layers before
//! it are compressed it sees others, x̂ instead of x. In the network's order, every three-way layer is
//! refined towards W z, z = (x + x̂) / 2 (half of the error that has built up is corrected, the rest is
//! left alone so that noise is not), and every layer's mean response is set to that of the original.

use ndarray::{Array1, Array4};
use rankfold_decompose::cp::Target;
use rankfold_decompose::{Control, InputCovariance, Threads};
use rankfold_graph::{Graph, Tensor};

use crate::apply::{absorbing_mean, stage_names};
use crate::error::CompressError;
use crate::form::Form;
use crate::layer::Layer;
use crate::plan::Plan;
use crate::probe::{PairedStatistics, Probe, Statistics};
use crate::rules::{Context, as_matrix, group_rows, output_metric, refitted, rule};

/// Sweeps of refinement for every layer.
const SWEEPS: usize = 4;

/// The compressed graph with every layer fitted to the inputs that it really has.
///
/// `compressed` is what [`apply`](crate::apply) made of `original` by this plan with these statistics.
pub fn reconstruct<P: Probe>(
    original: &Graph,
    compressed: &Graph,
    plan: &Plan,
    statistics: &Statistics,
    probe: &mut P,
    control: Control<'_>,
    finished: &dyn Fn(&str),
) -> Result<Graph, CompressError> {
    let mut graph = compressed.clone();
    for layer in Layer::all(original) {
        let form = plan.layer(&layer.name).map_or(Form::Keep, |l| l.form);
        let stages = stage_names(&layer, &graph);
        let Some(first) = stages.first() else {
            continue;
        };
        let paired = probe
            .paired(original, &layer.name, &graph, &first.node)
            .map_err(|e| CompressError::Probe(Box::new(e)))?;
        if let Some(paired) = paired {
            let kernel = layer.kernel(original)?;
            let metric = statistics.get(&layer.name).and_then(output_metric);
            let mut kernels = Vec::with_capacity(stages.len());
            for stage in &stages {
                kernels.push(stage_kernel(&layer, &graph, &stage.weight)?);
            }
            if form == Form::Cp3 {
                let covariance = InputCovariance::grouped(paired.covariance.clone());
                let covariance = covariance.map_err(|source| CompressError::Decompose {
                    layer: layer.name.clone(),
                    source,
                })?;
                let target = Target {
                    covariance: &covariance,
                    cross: Some(&paired.cross),
                    outputs: metric.as_ref().map(|metric| metric.view()),
                };
                let context = Context {
                    refinement: SWEEPS,
                    seed: plan.seed,
                    threads: Threads::Pool,
                    control,
                    ..Context::default()
                };
                kernels = refitted(&layer, &kernel, &kernels, target, &context)?;
                for (stage, kernel) in stages.iter().zip(&kernels) {
                    set(&mut graph, &stage.weight, kernel.iter().copied().collect())?;
                }
            }
            let approximation = match rule(form) {
                Some(rule) => rule.reconstruct(&layer, &kernels),
                None => kernel.clone(),
            };
            let shift = wanted_shift(&kernel, &approximation, &paired);
            let bias = stages.last().and_then(|stage| stage.bias.as_deref());
            shift_mean(original, &mut graph, &layer, bias, &shift)?;
        }
        finished(&layer.name);
    }
    graph.verify()?;
    Ok(graph)
}

/// A stage's kernel as [out, in / groups, rows, columns].
fn stage_kernel(layer: &Layer, graph: &Graph, weight: &str) -> Result<Array4<f32>, CompressError> {
    let unknown = || CompressError::UnknownLayer {
        name: layer.name.clone(),
        nearest: None,
    };
    let tensor = graph.weights().get(weight).ok_or_else(unknown)?;
    let shape = match *tensor.shape() {
        [out, input] => [out, input, 1, 1],
        [out, input, width] => [out, input, 1, width],
        [out, input, height, width] => [out, input, height, width],
        _ => return Err(unknown()),
    };
    let values = tensor.to_f32().map_err(|_| unknown())?.into_owned();
    Array4::from_shape_vec(shape, values).map_err(|_| unknown())
}

/// W E[z] − Ŵ E[x̂]: what is missing from the mean of the responses.
fn wanted_shift(
    kernel: &Array4<f32>,
    approximation: &Array4<f32>,
    paired: &PairedStatistics,
) -> Array1<f64> {
    let (wanted, given) = (
        as_matrix(kernel).mapv(f64::from),
        as_matrix(approximation).mapv(f64::from),
    );
    let rows = wanted.nrows();
    let mut shift = Array1::zeros(rows);
    for (group, (blend, mean)) in paired.blend_mean.iter().zip(&paired.mean).enumerate() {
        let own = ndarray::s![group_rows(rows, paired.mean.len(), group), ..];
        let part = wanted.slice(own).dot(blend) - given.slice(own).dot(mean);
        let own = ndarray::s![group_rows(rows, paired.mean.len(), group)];
        shift.slice_mut(own).assign(&part);
    }
    shift
}

/// Puts a shift of the mean response where the original has its mean: bias, or batch norm.
fn shift_mean(
    original: &Graph,
    graph: &mut Graph,
    layer: &Layer,
    bias: Option<&str>,
    shift: &Array1<f64>,
) -> Result<(), CompressError> {
    let of_original = |name: &str| -> Option<Vec<f32>> {
        Some(original.weights().get(name)?.to_f32().ok()?.into_owned())
    };
    if let Some(bias) = bias {
        let own = layer.bias.as_deref().and_then(of_original);
        let own = own.unwrap_or_else(|| vec![0.0; shift.len()]);
        let moved = own.iter().zip(shift).map(|(b, s)| b + *s as f32);
        return set(graph, bias, moved.collect());
    }
    let Some(node) = original.node(&layer.name) else {
        return Ok(());
    };
    let Some(name) = absorbing_mean(original, node.output()) else {
        return Ok(());
    };
    let Some(own) = of_original(name) else {
        return Ok(());
    };
    let moved = own.iter().zip(shift).map(|(m, s)| m - *s as f32);
    set(graph, name, moved.collect())
}

/// Sets a weight to new numbers of its own type and shape.
fn set(graph: &mut Graph, name: &str, values: Vec<f32>) -> Result<(), CompressError> {
    let Some(own) = graph.weights().get(name) else {
        return Ok(());
    };
    let tensor = Tensor::from_f32(own.shape().to_vec(), values)
        .and_then(|tensor| tensor.to_float_dtype(own.dtype()));
    if let Ok(tensor) = tensor {
        graph.set_weight(name, tensor)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn what_is_missing_is_the_mean_answer_less_the_mean_given() {
        // Two groups of two outputs over one input of two taps.
        let kernel = Array4::from_shape_fn((4, 1, 1, 2), |(t, _, _, k)| (3 * t + k) as f32);
        let approximation = kernel.mapv(|w| 0.5 * w + 1.0);
        let paired = PairedStatistics {
            mean: vec![array![0.5, 1.0], array![2.0, -1.0]],
            covariance: Vec::new(),
            blend_mean: vec![array![1.0, 2.0], array![3.0, 0.25]],
            cross: Vec::new(),
        };
        let shift = wanted_shift(&kernel, &approximation, &paired);
        for t in 0..4 {
            let part = |of: &Array4<f32>, k| f64::from(of[[t, 0, 0, k]]);
            let missing = |k: usize| {
                let (blend, mean) = (&paired.blend_mean[t / 2], &paired.mean[t / 2]);
                part(&kernel, k) * blend[k] - part(&approximation, k) * mean[k]
            };
            assert!(
                (shift[t] - missing(0) - missing(1)).abs() < 1e-12,
                "{t}: {shift}"
            );
        }
    }
}
