//! Weights that are drawn anew or moved at random.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rankfold_compress::is_part_of;
use rankfold_graph::{Graph, Op, Role, Tensor};

use crate::error::{FinetuneError, Result};

/// The same network with the factors of those layers drawn at random, as wide as they preserve the
/// variance of what passes; biases stay.
pub fn random_factors(graph: &Graph, layers: &[String], seed: u64) -> Result<Graph> {
    let mut drawn = graph.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for layer in layers {
        let parts = graph.nodes().iter();
        let parts = parts.filter(|node| node.name != *layer && is_part_of(&node.name, layer));
        for (role, name) in parts.flat_map(|node| node.op.weights()) {
            let Some(kernel) = graph.weights().get(name).filter(|_| role == Role::Kernel) else {
                continue;
            };
            let count = kernel.len();
            let inputs = count / kernel.shape().first().copied().unwrap_or(1).max(1);
            // A uniform variable on [−w, w] has the variance w²/3.
            let width = (3.0 / inputs.max(1) as f32).sqrt();
            let values = (0..count).map(|_| width * (2.0 * rng.random::<f32>() - 1.0));
            replace(&mut drawn, name, values.collect())?;
        }
    }
    Ok(drawn)
}

/// The same network with the kernels and biases of all layers moved at random: each number by a normal
/// one times `share` of the root mean square of its kernel or bias, and all together scaled so that
/// they stay as large as they were. Where `keep_zeros` says so, zeros of kernels are not moved.
pub fn distorted(graph: &Graph, share: f64, seed: u64, keep_zeros: bool) -> Result<Graph> {
    let mut moved = graph.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let layers = graph.nodes().iter();
    let layers =
        layers.filter(|node| matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_)));
    for (role, name) in layers.flat_map(|node| node.op.weights()) {
        let Some(weight) = graph.weights().get(name) else {
            continue;
        };
        let stays = |value: f32| keep_zeros && role == Role::Kernel && value == 0.0;
        let mut values = weight.to_f32().map_err(broken(name))?.into_owned();
        let squares: f64 = values.iter().map(|&w| f64::from(w).powi(2)).sum();
        let width = share * (squares / values.len().max(1) as f64).sqrt();
        let scale = (1.0 + share * share).sqrt().recip();
        for value in &mut values {
            let drawn: f64 = StandardNormal.sample(&mut rng);
            if stays(*value) {
                continue;
            }
            *value = (scale * (f64::from(*value) + width * drawn)) as f32;
        }
        replace(&mut moved, name, values)?;
    }
    Ok(moved)
}

/// Gives a weight other values in its own type.
fn replace(graph: &mut Graph, name: &str, values: Vec<f32>) -> Result<()> {
    let Some(old) = graph.weights().get(name) else {
        return Ok(());
    };
    let tensor = Tensor::from_f32(old.shape().to_vec(), values)
        .and_then(|tensor| tensor.to_float_dtype(old.dtype()))
        .map_err(broken(name))?;
    let done = graph.set_weight(name, tensor);
    done.map_err(|source| FinetuneError::Torch(source.into()))
}

fn broken(name: &str) -> impl Fn(rankfold_graph::TensorError) -> rankfold_torch::TorchError + '_ {
    |source| rankfold_torch::TorchError::Tensor {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankfold_zoo::{Options, build};

    #[test]
    fn distortion_keeps_the_size_and_follows_the_seed() {
        let graph = build("lenet5", &Options::default()).unwrap();
        let values = |graph: &Graph| {
            let weight = graph.weights().get("fc1.weight").unwrap();
            weight.to_f32().unwrap().to_vec()
        };
        let product =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        let moved = distorted(&graph, 0.5, 1, false).unwrap();
        let (old, new) = (values(&graph), values(&moved));
        let (size, after) = (product(&old, &old), product(&new, &new));
        assert!((after / size - 1.0).abs() < 0.02, "{after} {size}");
        let alike = product(&old, &new) / size;
        assert!((alike - 1.25f64.sqrt().recip()).abs() < 0.02, "{alike}");
        assert_eq!(moved, distorted(&graph, 0.5, 1, false).unwrap());
        assert_ne!(moved, distorted(&graph, 0.5, 2, false).unwrap());
        assert_eq!(graph, distorted(&graph, 0.0, 1, false).unwrap());
    }

    #[test]
    fn zeros_that_are_kept_do_not_move_and_nothing_else_is_drawn_otherwise() {
        let mut graph = build("lenet5", &Options::default()).unwrap();
        let name = "fc1.weight";
        let mut values = graph
            .weights()
            .get(name)
            .unwrap()
            .to_f32()
            .unwrap()
            .to_vec();
        values.iter_mut().step_by(2).for_each(|value| *value = 0.0);
        replace(&mut graph, name, values).unwrap();
        let moved = |keep| {
            let moved = distorted(&graph, 0.5, 1, keep).unwrap();
            moved
                .weights()
                .get(name)
                .unwrap()
                .to_f32()
                .unwrap()
                .to_vec()
        };
        let (kept, all) = (moved(true), moved(false));
        assert!(kept.iter().step_by(2).all(|&value| value == 0.0));
        assert!(all.iter().step_by(2).all(|&value| value != 0.0));
        let others = |values: &[f32]| {
            values
                .iter()
                .skip(1)
                .step_by(2)
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(others(&kept), others(&all));
    }
}
