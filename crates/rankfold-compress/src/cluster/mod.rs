//! Weights with few distinct values: rounded to decimals, or each layer's own by k-means.

mod means;

use std::ops::ControlFlow;

use rankfold_graph::{Book, Code, Graph, Op, Role, Tensor, WeightName};
use rayon::prelude::*;

pub use self::means::means;
use crate::error::CompressError;

/// How the weights of a layer get few distinct values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clustering {
    /// Rounded to so many decimals.
    Decimals(u32),
    /// So many values for each layer, where the sum of squared errors is least.
    Book(usize),
}

impl Clustering {
    /// The most decimals that change an f32 near one.
    pub const MOST_DECIMALS: u32 = 7;
    /// The most values of a book: more indices than a byte has do not pay.
    pub const MOST_VALUES: usize = 256;
}

/// What became of one weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustered {
    /// Its name.
    pub weight: WeightName,
    /// Its distinct values.
    pub values: usize,
    /// ‖clustered − original‖ / ‖original‖.
    pub error: f64,
}

/// The graph with the kernels of its layers clustered, and what became of each. `finished` is told each
/// kernel that is done and may end the work.
///
/// A kernel is stored as a code book where that takes fewer bytes than its numbers.
pub fn cluster(
    graph: &Graph,
    clustering: Clustering,
    finished: &(dyn Fn(&str) -> ControlFlow<()> + Sync),
) -> Result<(Graph, Vec<Clustered>), CompressError> {
    let kernels = kernels(graph);
    if kernels.is_empty() {
        return Err(CompressError::NoLayer);
    }
    let one = |(name, tensor): &(WeightName, Tensor)| {
        let done = clustered(name, tensor, clustering)?;
        match finished(name) {
            ControlFlow::Continue(()) => Ok(done),
            ControlFlow::Break(()) => Err(CompressError::Stopped),
        }
    };
    let clustered: Vec<_> = kernels.par_iter().map(one).collect::<Result<_, _>>()?;
    let mut graph = graph.clone();
    let mut outcomes = Vec::with_capacity(clustered.len());
    for (tensor, outcome) in clustered {
        graph.set_weight(&outcome.weight, tensor)?;
        outcomes.push(outcome);
    }
    Ok((graph, outcomes))
}

/// The kernels of convolutions and linear layers, each once.
fn kernels(graph: &Graph) -> Vec<(WeightName, Tensor)> {
    let mut kernels: Vec<(WeightName, Tensor)> = Vec::new();
    for node in graph.nodes() {
        if !matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_)) {
            continue;
        }
        for (role, name) in node.op.weights() {
            let Some(tensor) = graph.weights().get(name) else {
                continue;
            };
            let known = kernels.iter().any(|(known, _)| known == name);
            if role == Role::Kernel && tensor.dtype().is_float() && !known {
                kernels.push((name.clone(), tensor.clone()));
            }
        }
    }
    kernels
}

fn clustered(
    name: &WeightName,
    tensor: &Tensor,
    clustering: Clustering,
) -> Result<(Tensor, Clustered), CompressError> {
    let bad = |source| CompressError::Code {
        weight: name.to_string(),
        source,
    };
    let numbers = tensor.to_f32().map_err(|e| bad(e.into()))?;
    let values = match clustering {
        Clustering::Decimals(decimals) => rounded(&numbers, decimals),
        Clustering::Book(count) => means(&numbers, count),
    };
    let places: Vec<usize> = numbers.iter().map(|&n| nearest(&values, n)).collect();
    let outcome = Clustered {
        weight: name.clone(),
        values: values.len(),
        error: distance(&numbers, &places, &values),
    };
    let shape = tensor.shape().to_vec();
    let pays = values.len() <= Book::MOST
        && Book::bytes_for(numbers.len(), values.len()) < tensor.bytes().len();
    let tensor = match pays && !values.is_empty() {
        true => {
            Book::pack(shape, &places, values).and_then(|book| Ok(Tensor::coded(Code::Book(book))?))
        }
        false => Tensor::from_f32(shape, places.iter().map(|&place| values[place]).collect())
            .map_err(Into::into),
    };
    Ok((tensor.map_err(bad)?, outcome))
}

/// The distinct values of the numbers rounded, in order.
fn rounded(numbers: &[f32], decimals: u32) -> Vec<f32> {
    let unit = 10f64.powi(decimals as i32);
    // Adding zero makes minus zero zero.
    let round = |&n: &f32| ((f64::from(n) * unit).round() / unit) as f32 + 0.0;
    let mut values: Vec<f32> = numbers.iter().map(round).collect();
    values.sort_unstable_by(f32::total_cmp);
    values.dedup();
    values
}

/// The place of the value nearest to `number`; of two as near, that of the one further from zero.
fn nearest(values: &[f32], number: f32) -> usize {
    let above = values.partition_point(|&value| value < number);
    let Some(below) = above.checked_sub(1) else {
        return 0;
    };
    let Some(&upper) = values.get(above) else {
        return below;
    };
    let (down, up) = (
        f64::from(number) - f64::from(values[below]),
        f64::from(upper) - f64::from(number),
    );
    match down.total_cmp(&up) {
        std::cmp::Ordering::Less => below,
        std::cmp::Ordering::Greater => above,
        std::cmp::Ordering::Equal if number < 0.0 => below,
        std::cmp::Ordering::Equal => above,
    }
}

fn distance(numbers: &[f32], places: &[usize], values: &[f32]) -> f64 {
    let (mut apart, mut whole) = (0.0, 0.0);
    for (&number, &place) in numbers.iter().zip(places) {
        apart += (f64::from(number) - f64::from(values[place])).powi(2);
        whole += f64::from(number).powi(2);
    }
    if apart == 0.0 {
        return 0.0;
    }
    (apart / whole).sqrt()
}

#[cfg(test)]
mod tests;
