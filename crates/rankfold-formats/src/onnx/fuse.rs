//! Nodes of a file that are one node of the graph: a product and its bias, GELU spelled out, rounding to
//! 8 bits and back.

use std::collections::{HashMap, HashSet};

use rankfold_graph::Tensor;
use rankfold_graph::ops::{Activation, Quantize};

use super::convert::{Arg, Step};
use super::proto::NodeProto;
use super::read::Import;

/// What the nodes mean together.
#[derive(Debug, Clone)]
enum Meaning {
    Linear {
        input: String,
        matrix: String,
        bias: String,
    },
    Gelu {
        input: String,
    },
    Quantize {
        input: String,
        op: Quantize,
    },
}

/// Nodes that become one.
#[derive(Debug, Clone)]
pub(super) struct Fused {
    /// Places in the file, the last last.
    pub(super) protos: Vec<usize>,
    meaning: Meaning,
}

impl Fused {
    /// The graph's nodes for them.
    pub(super) fn steps(&self, import: &Import<'_>) -> Vec<Step> {
        match &self.meaning {
            Meaning::Linear {
                input,
                matrix,
                bias,
            } => import
                .linear_step(input, matrix, Some(bias))
                .into_iter()
                .collect(),
            Meaning::Gelu { input } => {
                let op = Activation::Gelu { tanh: false };
                vec![Step::new(op, [Arg::named(input)])]
            }
            Meaning::Quantize { input, op } => vec![Step::new(*op, [Arg::named(input)])],
        }
    }
}

/// All such groups of a file.
#[derive(Debug, Default)]
pub(super) struct Fusions {
    by_end: HashMap<usize, Fused>,
    absorbed: HashSet<usize>,
    inside: HashSet<String>,
}

impl Fusions {
    /// Those of `import`'s file.
    pub(super) fn find(import: &Import<'_>) -> Self {
        let mut found = Self::default();
        for (index, node) in import.nodes().iter().enumerate() {
            if !node.is_standard() {
                continue;
            }
            let fused = match node.op_type() {
                "MatMul" => biased(import, index),
                "Erf" => gelu(import, index),
                "QuantizeLinear" => rounding(import, index),
                _ => None,
            };
            if let Some(fused) = fused {
                found.insert(import, fused);
            }
        }
        found
    }

    fn insert(&mut self, import: &Import<'_>, fused: Fused) {
        let Some((&end, others)) = fused.protos.split_last() else {
            return;
        };
        if others.iter().any(|i| self.absorbed.contains(i)) || self.by_end.contains_key(&end) {
            return;
        }
        for &other in others {
            self.absorbed.insert(other);
            self.inside
                .extend(import.nodes()[other].output.iter().cloned());
        }
        self.by_end.insert(end, fused);
    }

    /// The group whose last node is at `index`.
    pub(super) fn ending_at(&self, index: usize) -> Option<&Fused> {
        self.by_end.get(&index)
    }

    /// True where the node at `index` is part of a group that ends later.
    pub(super) fn absorbs(&self, index: usize) -> bool {
        self.absorbed.contains(&index)
    }

    /// True where `name` only exists inside a group.
    pub(super) fn inside(&self, name: &str) -> bool {
        self.inside.contains(name)
    }
}

/// The only node that takes the only output of the node at `index`.
fn next<'a>(import: &Import<'a>, index: usize) -> Option<(usize, &'a NodeProto)> {
    let [output] = &import.nodes()[index].output[..] else {
        return None;
    };
    let &[taker] = &import.takers.get(output.as_str())?[..] else {
        return None;
    };
    let node = import.nodes().get(taker)?;
    (node.is_standard() && taker > index).then_some((taker, node))
}

/// The input of `node` that is not `name`.
fn other<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    match &node.input[..] {
        [a, b] if a == name => Some(b),
        [a, b] if b == name => Some(a),
        _ => None,
    }
}

fn biased(import: &Import<'_>, index: usize) -> Option<Fused> {
    let node = &import.nodes()[index];
    let (input, matrix) = (node.arg(0)?, node.arg(1)?);
    let &[_, out] = import.matrix_shape(matrix)?.as_slice() else {
        return None;
    };
    let (end, add) = next(import, index)?;
    let bias = other(add, &node.output[0])?;
    let shape = import.constant(bias)?.shape();
    let is_vector = shape.last() == Some(&out) && shape.iter().product::<usize>() == out;
    (add.op_type() == "Add" && is_vector && import.constant(input).is_none()).then(|| Fused {
        protos: vec![index, end],
        meaning: Meaning::Linear {
            input: input.to_owned(),
            matrix: matrix.to_owned(),
            bias: bias.to_owned(),
        },
    })
}

/// `QuantizeLinear` and the `DequantizeLinear` that alone takes its result and undoes it.
fn rounding(import: &Import<'_>, index: usize) -> Option<Fused> {
    let node = &import.nodes()[index];
    let (end, back) = next(import, index)?;
    let input = node.arg(0)?;
    let undoes = back.op_type() == "DequantizeLinear" && back.input.get(1..) == node.input.get(1..);
    (undoes && import.constant(input).is_none()).then_some(())?;
    let op = import.rounding(node)?;
    Some(Fused {
        protos: vec![index, end],
        meaning: Meaning::Quantize {
            input: input.to_owned(),
            op,
        },
    })
}

fn is_scalar(tensor: Option<&Tensor>, expected: f32) -> bool {
    let value = tensor
        .filter(|t| t.len() == 1)
        .and_then(|t| Some(t.to_f32().ok()?[0]));
    value.is_some_and(|v| (v - expected).abs() <= 1e-3 * expected.abs())
}

/// `x · ½ · (1 + erf(x / √2))` in the orders in which exporters write it.
fn gelu(import: &Import<'_>, erf: usize) -> Option<Fused> {
    let nodes = import.nodes();
    let scalar = |name: &str, expected| is_scalar(import.constant(name), expected);
    let inner_name = nodes[erf].arg(0)?;
    let inner = import.maker(inner_name)?;
    let root = std::f32::consts::SQRT_2;
    let input = match (nodes[inner].op_type(), &nodes[inner].input[..]) {
        ("Div", [x, c]) if scalar(c, root) => x,
        ("Mul", [x, c]) if scalar(c, 1.0 / root) => x,
        ("Mul", [c, x]) if scalar(c, 1.0 / root) => x,
        _ => return None,
    };
    if next(import, inner)?.0 != erf || import.constant(input).is_some() {
        return None;
    }
    let (plus, add) = next(import, erf)?;
    let one = other(add, &nodes[erf].output[0])?;
    if add.op_type() != "Add" || !scalar(one, 1.0) {
        return None;
    }
    let (first, mul) = next(import, plus)?;
    let factor = other(mul, &add.output[0])?;
    if mul.op_type() != "Mul" {
        return None;
    }
    let mut protos = vec![inner, erf, plus];
    if factor == input {
        // (x · (1 + erf)) · ½
        let (last, half) = next(import, first)?;
        let c = other(half, &mul.output[0])?;
        if half.op_type() != "Mul" || !scalar(c, 0.5) {
            return None;
        }
        protos.extend([first, last]);
    } else if scalar(factor, 0.5) {
        // (½ · (1 + erf)) · x
        let (last, product) = next(import, first)?;
        if product.op_type() != "Mul" || other(product, &mul.output[0])? != input {
            return None;
        }
        protos.extend([first, last]);
    } else {
        // (½ · x) · (1 + erf)
        let halved = import.maker(factor)?;
        let c = other(&nodes[halved], input)?;
        if nodes[halved].op_type() != "Mul" || !scalar(c, 0.5) || next(import, halved)?.0 != first {
            return None;
        }
        protos.extend([halved, first]);
    }
    Some(Fused {
        protos,
        meaning: Meaning::Gelu {
            input: input.clone(),
        },
    })
}
