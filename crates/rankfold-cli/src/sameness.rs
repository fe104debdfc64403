//! Whether two graphs compute the same: by running both, or by their parts where they cannot run.

use std::collections::{BTreeMap, HashMap};

use rankfold_compress::Layer;
use rankfold_graph::{DType, Dim, Fact, Graph, Op, Tensor};
use rankfold_torch::{Executor, Options, TorchError, from_torch, missing_ops, to_torch};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Kind, Outcome};

/// The largest difference, over the largest magnitude of the output, that counts as rounding.
const EQUAL: f64 = 1e-4;

/// Sizes that dimensions left open are tried with, the likely ones first.
const SIDES: [usize; 6] = [32, 64, 224, 16, 128, 8];

/// How two graphs were found to be the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sameness {
    /// Outputs on drawn inputs; the largest relative difference.
    Outputs(f64),
    /// Ops and weights alone: why they could not be run.
    Parts(String),
}

/// How `written` is the same as `graph`; an error where it is not.
pub(crate) fn check(graph: &Graph, written: &Graph) -> Outcome<Sameness> {
    check_interface(graph, written)?;
    let missing = missing_ops(graph);
    if !missing.is_empty() {
        check_parts(graph, written)?;
        let mut ops: Vec<&str> = missing.iter().map(|op| op.target.as_str()).collect();
        ops.sort_unstable();
        ops.dedup();
        return Ok(Sameness::Parts(format!("no {}", ops.join(", "))));
    }
    let (batch, side) = match runs_at(graph)? {
        Ok(sizes) => sizes,
        Err(reason) => {
            check_parts(graph, written)?;
            return Ok(Sameness::Parts(reason));
        }
    };
    let expected = outputs(graph, batch, side)?;
    let found = outputs(written, batch, side)?;
    let mut worst = 0.0f64;
    for (a, b) in expected.iter().zip(&found) {
        worst = worst.max(difference(a, b)?);
    }
    match worst <= EQUAL {
        true => Ok(Sameness::Outputs(worst)),
        false => Err(broken(&format!(
            "its outputs differ by {worst:.1e} of the largest"
        ))),
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(
        Kind::Inside,
        format!("the written model differs from the one in memory: {what}"),
    )
}

/// Inputs and outputs by name, type and number of dimensions.
fn check_interface(graph: &Graph, written: &Graph) -> Outcome {
    let side = |graph: &Graph, ids: &[rankfold_graph::ValueId]| -> Vec<(String, DType)> {
        let one = |&id| {
            let value = graph.value(id);
            (value.name.clone(), value.fact.dtype)
        };
        ids.iter().map(one).collect()
    };
    for (what, a, b) in [
        ("inputs", graph.inputs(), written.inputs()),
        ("outputs", graph.outputs(), written.outputs()),
    ] {
        if side(graph, a) != side(written, b) {
            return Err(broken(&format!("its {what}")));
        }
    }
    Ok(())
}

/// Every kernel is there with the very same numbers, and every op that is only carried through.
fn check_parts(graph: &Graph, written: &Graph) -> Outcome {
    let kernels = |graph: &Graph| -> Outcome<Vec<(Vec<usize>, Vec<u8>)>> {
        let mut all = Vec::new();
        for layer in Layer::all(graph) {
            let Some(kernel) = graph.weights().get(&layer.weight) else {
                return Err(broken(&layer.weight));
            };
            let digest = Sha256::digest(kernel.bytes()).to_vec();
            all.push((kernel.shape().to_vec(), digest));
        }
        all.sort();
        Ok(all)
    };
    if kernels(graph)? != kernels(written)? {
        return Err(broken("its kernels"));
    }
    let carried = |graph: &Graph| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for node in graph.nodes() {
            if let Op::Opaque(op) = &node.op {
                *counts.entry(op.target.clone()).or_default() += 1;
            }
        }
        counts
    };
    match carried(graph) == carried(written) {
        true => Ok(()),
        false => Err(broken("the ops that are carried through")),
    }
}

/// Sizes for open dimensions at which a graph runs, of the first and of all others; or why there
/// are none.
fn runs_at(graph: &Graph) -> Outcome<Result<(usize, usize), String>> {
    let facts: Vec<&Fact> = graph.inputs().iter().map(|&id| graph.fact(id)).collect();
    if facts.iter().any(|fact| fact.shape.is_none()) {
        return Ok(Err("an input has no known shape".to_owned()));
    }
    let inner = facts.iter().filter_map(|fact| fact.shape.as_ref());
    let open = inner
        .flat_map(|shape| shape.iter().skip(1))
        .any(|dim| dim.fixed().is_none());
    let sides = if open { &SIDES[..] } else { &SIDES[..1] };
    let executor = Executor::new(graph, Options::default())?;
    let mut reason = String::new();
    for &side in sides {
        for batch in [2, 1] {
            match run(&executor, graph, batch, side) {
                Ok(_) => return Ok(Ok((batch, side))),
                Err(error) => reason = error.to_string(),
            }
        }
    }
    Ok(Err(reason))
}

fn outputs(graph: &Graph, batch: usize, side: usize) -> Outcome<Vec<Tensor>> {
    let executor = Executor::new(graph, Options::default())?;
    Ok(run(&executor, graph, batch, side)?)
}

fn run(
    executor: &Executor,
    graph: &Graph,
    batch: usize,
    side: usize,
) -> Result<Vec<Tensor>, TorchError> {
    let inputs = drawn(graph, batch, side)?;
    let inputs = inputs.iter().map(to_torch).collect::<Result<Vec<_>, _>>()?;
    executor.run(&inputs)?.iter().map(from_torch).collect()
}

/// Inputs for a graph, the same every time: floats between −1 and 1, whole numbers 0 and 1.
fn drawn(graph: &Graph, batch: usize, side: usize) -> Result<Vec<Tensor>, TorchError> {
    let mut symbols: HashMap<&str, usize> = HashMap::new();
    let mut inputs = Vec::new();
    for (place, &id) in graph.inputs().iter().enumerate() {
        let fact = graph.fact(id);
        let dims = fact.shape.as_deref().unwrap_or_default();
        let size = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(n) => *n,
            Dim::Symbol(name) => {
                (symbols.get(&**name).copied()).unwrap_or(if axis == 0 { batch } else { side })
            }
            Dim::Unknown(()) => {
                if axis == 0 {
                    batch
                } else {
                    side
                }
            }
        };
        let shape: Vec<usize> = dims.iter().enumerate().map(size).collect();
        for (dim, &n) in dims.iter().zip(&shape) {
            if let Dim::Symbol(name) = dim {
                symbols.insert(name, n);
            }
        }
        let count: usize = shape.iter().product();
        let number = |i: usize| {
            let mixed = (i as u64 + 1 + ((place as u64) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let tensor = match fact.dtype.is_float() {
            true => Tensor::from_f32(shape, (0..count).map(number).collect()),
            false => Tensor::from_i64(
                shape,
                (0..count).map(|i| i64::from(number(i) > 0.0)).collect(),
            ),
        };
        inputs.push(tensor.map_err(|source| TorchError::Tensor {
            name: graph.value(id).name.clone(),
            source,
        })?);
    }
    Ok(inputs)
}

/// The largest difference over the largest expected magnitude.
fn difference(expected: &Tensor, found: &Tensor) -> Outcome<f64> {
    if expected.shape() != found.shape() || expected.dtype() != found.dtype() {
        return Err(broken("the shape of an output"));
    }
    let inside = |e: rankfold_graph::TensorError| Failure::new(Kind::Inside, e);
    if !expected.dtype().is_float() {
        return Ok(if expected == found {
            0.0
        } else {
            f64::INFINITY
        });
    }
    let (a, b) = (
        expected.to_f32().map_err(inside)?,
        found.to_f32().map_err(inside)?,
    );
    let mut largest = f64::MIN_POSITIVE;
    let mut apart = 0.0f64;
    for (&a, &b) in a.iter().zip(b.iter()) {
        // The same infinity, or no number on both sides.
        if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
            largest = largest.max(if a.is_finite() {
                f64::from(a.abs())
            } else {
                0.0
            });
            continue;
        }
        let step = (f64::from(a) - f64::from(b)).abs();
        apart = apart.max(if step.is_nan() { f64::INFINITY } else { step });
        largest = largest.max(f64::from(a.abs()));
    }
    Ok(apart / largest)
}
