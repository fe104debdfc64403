//! The graph's ops as nodes of a file.

mod layers;
mod quantize;
mod shape;

use rankfold_graph::ops::{Activation, Arithmetic, Attention, Binary, BinaryScalar, Constant};
use rankfold_graph::{DType, Dim, Node, Op, Tensor};

use super::OnnxFault;
use super::attributes::{float, int, text};
use super::proto::{AttributeProto, NodeProto};
use super::stream::Stored;
use super::write::Writer;

/// A node of the graph with the file's names of what it takes and makes.
pub(super) struct Site<'a> {
    pub(super) node: &'a Node,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
}

impl Site<'_> {
    /// The first input.
    fn input(&self) -> String {
        self.inputs.first().cloned().unwrap_or_default()
    }

    /// The first output.
    fn output(&self) -> String {
        self.outputs.first().cloned().unwrap_or_default()
    }
}

type Done = Result<(), OnnxFault>;

impl Writer<'_> {
    /// Writes a node anew.
    pub(super) fn emit(&mut self, node: &Node) -> Done {
        let name = |id: &_| self.graph.value(*id).name.clone();
        let site = &Site {
            node,
            inputs: node.inputs.iter().map(name).collect(),
            outputs: node.outputs.iter().map(name).collect(),
        };
        match &node.op {
            Op::Conv(op) => self.conv(site, op),
            Op::ConvTranspose(op) => self.conv_transpose(site, op),
            Op::Linear(op) => self.linear(site, op),
            Op::BatchNorm(op) => self.batch_norm(site, op),
            Op::LayerNorm(op) => self.layer_norm(site, op),
            Op::GroupNorm(op) => self.group_norm(site, op),
            Op::LocalResponseNorm(op) => self.local_response_norm(site, op),
            Op::Activation(op) => self.activation(site, op),
            Op::MaxPool(op) => self.max_pool(site, op),
            Op::AvgPool(op) => self.avg_pool(site, op),
            Op::AdaptiveAvgPool(op) => self.adaptive_pool(site, &op.output, false),
            Op::AdaptiveMaxPool(op) => self.adaptive_pool(site, &op.output, true),
            Op::Binary(Binary { arithmetic }) => {
                self.simple(site, operator(*arithmetic), vec![]);
                Ok(())
            }
            Op::BinaryScalar(op) => self.binary_scalar(site, op),
            Op::Concat(op) => {
                self.simple(site, "Concat", vec![int("axis", op.axis)]);
                Ok(())
            }
            Op::Split(op) => self.split(site, op),
            Op::Slice(op) => self.slice(site, op),
            Op::Flatten(op) => self.flatten(site, op),
            Op::Reshape(op) => self.reshape(site, &op.shape),
            Op::Permute(op) => {
                let perm = super::attributes::ints("perm", op.dims.iter().copied());
                self.simple(site, "Transpose", vec![perm]);
                Ok(())
            }
            Op::Squeeze(op) => self.with_axes(site, "Squeeze", &op.axes, 13, vec![]),
            Op::Unsqueeze(op) => self.with_axes(site, "Unsqueeze", &op.axes, 13, vec![]),
            Op::Expand(op) => self.expand(site, op),
            Op::Pad(op) => self.pad(site, op),
            Op::Quantize(op) => self.quantize(site, op),
            Op::Dropout(_) => {
                self.simple(site, "Identity", vec![]);
                Ok(())
            }
            Op::Softmax(op) => {
                let kind = if op.log { "LogSoftmax" } else { "Softmax" };
                self.softmax(site, kind, op.axis)
            }
            Op::MatMul(_) => {
                self.simple(site, "MatMul", vec![]);
                Ok(())
            }
            Op::Attention(op) => self.attention(site, op),
            Op::Mean(op) => {
                let keep = int("keepdims", op.keep.into());
                self.with_axes(site, "ReduceMean", &op.axes, 18, vec![keep])
            }
            Op::Embedding(op) => {
                let table = self.weight(&op.weight);
                self.add(
                    site,
                    "Gather",
                    &[table, site.input()],
                    &site.output(),
                    vec![],
                );
                Ok(())
            }
            Op::Constant(op) => self.constant_value(site, op),
            Op::Opaque(_) => Err(self.no_form(node, "its meaning is not known")),
        }
    }

    /// A node of the file, under a name like the graph's.
    fn add(
        &mut self,
        site: &Site<'_>,
        op_type: &str,
        inputs: &[String],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        let is_last = site.outputs.first().is_some_and(|o| o == output);
        let name = if is_last {
            site.node.name.clone()
        } else {
            format!("{}/{output}", site.node.name)
        };
        self.push(NodeProto {
            input: inputs.to_vec(),
            output: vec![output.to_owned()],
            name: Some(name),
            op_type: Some(op_type.to_owned()),
            attribute,
            ..NodeProto::default()
        });
    }

    /// A node of the file between others; its output.
    fn step(
        &mut self,
        site: &Site<'_>,
        op_type: &str,
        inputs: &[String],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.fresh(&format!("{}/{op_type}", site.node.name));
        self.add(site, op_type, inputs, &output, attribute);
        output
    }

    /// A node of the file that takes and makes what the graph's does.
    fn simple(&mut self, site: &Site<'_>, op_type: &str, attribute: Vec<AttributeProto>) {
        self.add(site, op_type, &site.inputs, &site.output(), attribute);
    }

    /// Integers as a tensor.
    fn numbers(
        &mut self,
        site: &Site<'_>,
        what: &str,
        values: &[i64],
    ) -> Result<String, OnnxFault> {
        let tensor = Tensor::from_i64(vec![values.len()], values.to_vec());
        let tensor = tensor.map_err(|_| self.no_form(site.node, "it has too many numbers"))?;
        let name = format!("{}/{what}", site.node.name);
        Ok(self.tensor(&name, Stored::Plain(tensor)))
    }

    /// `count` times the same number, of the type of the node's input; a scalar for none.
    fn filled(
        &mut self,
        site: &Site<'_>,
        what: &str,
        value: f64,
        count: Option<usize>,
    ) -> Result<String, OnnxFault> {
        let dtype = self.graph.fact(site.node.inputs[0]).dtype;
        let shape = count.map_or(vec![], |n| vec![n]);
        let values = vec![value; count.unwrap_or(1)];
        let tensor = match dtype {
            DType::F64 => Tensor::from_f64(shape, values),
            _ => Tensor::from_f32(shape, values.iter().map(|&v| v as f32).collect())
                .and_then(|t| t.to_float_dtype(dtype)),
        };
        let tensor =
            tensor.map_err(|_| self.no_form(site.node, "its input is not of a float type"))?;
        let name = format!("{}/{what}", site.node.name);
        Ok(self.tensor(&name, Stored::Plain(tensor)))
    }

    fn binary_scalar(&mut self, site: &Site<'_>, op: &BinaryScalar) -> Done {
        let scalar = self.filled(site, "scalar", op.scalar, None)?;
        let inputs = if op.reversed {
            [scalar, site.input()]
        } else {
            [site.input(), scalar]
        };
        self.add(
            site,
            operator(op.arithmetic),
            &inputs,
            &site.output(),
            vec![],
        );
        Ok(())
    }

    fn activation(&mut self, site: &Site<'_>, op: &Activation) -> Done {
        let x = site.input();
        match *op {
            Activation::Relu => self.simple(site, "Relu", vec![]),
            Activation::Relu6 => self.clip(site, 0.0, 6.0)?,
            Activation::Clamp { min, max } => self.clip(site, min, max)?,
            Activation::LeakyRelu { slope } => {
                self.simple(site, "LeakyRelu", vec![float("alpha", slope)]);
            }
            Activation::Elu { alpha } => self.simple(site, "Elu", vec![float("alpha", alpha)]),
            Activation::Gelu { tanh } if self.opset >= 20 => {
                let how = if tanh { "tanh" } else { "none" };
                self.simple(site, "Gelu", vec![text("approximate", how)]);
            }
            Activation::Gelu { tanh } => self.gelu(site, tanh)?,
            Activation::Silu => {
                let gate = self.step(site, "Sigmoid", std::slice::from_ref(&x), vec![]);
                self.add(site, "Mul", &[x, gate], &site.output(), vec![]);
            }
            Activation::Sigmoid => self.simple(site, "Sigmoid", vec![]),
            Activation::Tanh => self.simple(site, "Tanh", vec![]),
            Activation::HardSigmoid => self.simple(site, "HardSigmoid", hard_sigmoid()),
            Activation::HardSwish if self.opset >= 14 => self.simple(site, "HardSwish", vec![]),
            Activation::HardSwish => {
                let gate = self.step(
                    site,
                    "HardSigmoid",
                    std::slice::from_ref(&x),
                    hard_sigmoid(),
                );
                self.add(site, "Mul", &[x, gate], &site.output(), vec![]);
            }
            Activation::Mish => {
                let softplus = self.step(site, "Softplus", std::slice::from_ref(&x), vec![]);
                let gate = self.step(site, "Tanh", &[softplus], vec![]);
                self.add(site, "Mul", &[x, gate], &site.output(), vec![]);
            }
            Activation::Softplus => self.simple(site, "Softplus", vec![]),
            Activation::Exp => self.simple(site, "Exp", vec![]),
            Activation::Sqrt => self.simple(site, "Sqrt", vec![]),
            Activation::Abs => self.simple(site, "Abs", vec![]),
            Activation::Neg => self.simple(site, "Neg", vec![]),
            Activation::Pow { exponent } => {
                let exponent = self.filled(site, "exponent", exponent, None)?;
                self.add(site, "Pow", &[x, exponent], &site.output(), vec![]);
            }
            Activation::Identity => self.simple(site, "Identity", vec![]),
        }
        Ok(())
    }

    fn clip(&mut self, site: &Site<'_>, min: f64, max: f64) -> Done {
        let min = self.filled(site, "min", min, None)?;
        let max = self.filled(site, "max", max, None)?;
        self.add(
            site,
            "Clip",
            &[site.input(), min, max],
            &site.output(),
            vec![],
        );
        Ok(())
    }

    /// `x · (½ · (1 + erf(x / √2)))`, or with tanh of `√(2/π) (x + 0.044715 x³)`.
    fn gelu(&mut self, site: &Site<'_>, tanh: bool) -> Done {
        let x = site.input();
        let inner = if tanh {
            let three = self.filled(site, "three", 3.0, None)?;
            let factor = self.filled(site, "factor", 0.044_715, None)?;
            let root = self.filled(site, "root", (2.0 / std::f64::consts::PI).sqrt(), None)?;
            let cube = self.step(site, "Pow", &[x.clone(), three], vec![]);
            let scaled = self.step(site, "Mul", &[cube, factor], vec![]);
            let sum = self.step(site, "Add", &[x.clone(), scaled], vec![]);
            let product = self.step(site, "Mul", &[sum, root], vec![]);
            self.step(site, "Tanh", &[product], vec![])
        } else {
            let root = self.filled(site, "root", std::f64::consts::SQRT_2, None)?;
            let quotient = self.step(site, "Div", &[x.clone(), root], vec![]);
            self.step(site, "Erf", &[quotient], vec![])
        };
        let one = self.filled(site, "one", 1.0, None)?;
        let half = self.filled(site, "half", 0.5, None)?;
        let plus = self.step(site, "Add", &[inner, one], vec![]);
        let product = self.step(site, "Mul", &[x, plus], vec![]);
        self.add(site, "Mul", &[product, half], &site.output(), vec![]);
        Ok(())
    }

    fn softmax(&mut self, site: &Site<'_>, kind: &str, axis: i64) -> Done {
        let rank = self
            .graph
            .fact(site.node.inputs[0])
            .shape
            .as_ref()
            .map(Vec::len);
        if self.opset < 13 && axis != -1 && rank != usize::try_from(axis + 1).ok() {
            return Err(self.no_form(site.node, "before opset 13 softmax is over the last axis"));
        }
        self.simple(site, kind, vec![int("axis", axis)]);
        Ok(())
    }

    /// `softmax(q kᵀ · scale + mask) v`.
    fn attention(&mut self, site: &Site<'_>, op: &Attention) -> Done {
        let fact = |i: usize| self.graph.fact(site.node.inputs[i]).shape.as_deref();
        let open = |writer: &Self| writer.no_form(site.node, "its sizes are not known");
        let (Some(q), Some(k)) = (fact(0), fact(1)) else {
            return Err(open(self));
        };
        let rank = k.len();
        let scale = match (op.scale, q.last().and_then(Dim::fixed)) {
            (Some(scale), _) => scale,
            (None, Some(size)) => 1.0 / (size as f64).sqrt(),
            (None, None) => return Err(open(self)),
        };
        let places = |shape: &[Dim]| shape.len().checked_sub(2).and_then(|i| shape[i].fixed());
        let causal = match (op.causal, places(q), places(k)) {
            (false, ..) => None,
            (true, Some(rows), Some(columns)) => Some((rows, columns)),
            (true, ..) => return Err(open(self)),
        };
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 1, rank - 2);
        let turned = super::attributes::ints("perm", perm);
        let keys = self.step(site, "Transpose", &site.inputs[1..2], vec![turned]);
        let scores = self.step(site, "MatMul", &[site.input(), keys], vec![]);
        let scale = self.filled(site, "scale", scale, None)?;
        let mut scores = self.step(site, "Mul", &[scores, scale], vec![]);
        if let Some((rows, columns)) = causal {
            let later = |i: usize| i % columns > i / columns;
            let mask = (0..rows * columns).map(|i| if later(i) { f32::NEG_INFINITY } else { 0.0 });
            let dtype = self.graph.fact(site.node.inputs[0]).dtype;
            let mask = Tensor::from_f32(vec![rows, columns], mask.collect())
                .and_then(|t| t.to_float_dtype(dtype))
                .map_err(|_| open(self))?;
            let mask = self.tensor(&format!("{}/causal", site.node.name), Stored::Plain(mask));
            scores = self.step(site, "Add", &[scores, mask], vec![]);
        }
        if let Some(mask) = site.inputs.get(3) {
            scores = if self.graph.fact(site.node.inputs[3]).dtype == DType::Bool {
                let never = self.filled(site, "never", f64::NEG_INFINITY, None)?;
                self.step(site, "Where", &[mask.clone(), scores, never], vec![])
            } else {
                self.step(site, "Add", &[scores, mask.clone()], vec![])
            };
        }
        let shares = self.step(
            site,
            "Softmax",
            &[scores],
            vec![int("axis", rank as i64 - 1)],
        );
        let inputs = [shares, site.inputs[2].clone()];
        self.add(site, "MatMul", &inputs, &site.output(), vec![]);
        Ok(())
    }

    fn constant_value(&mut self, site: &Site<'_>, op: &Constant) -> Done {
        if let Some(tensor) = self.graph.weights().get(&op.weight) {
            self.tensor_as_value(&site.output(), tensor.clone());
        }
        Ok(())
    }
}

fn operator(arithmetic: Arithmetic) -> &'static str {
    match arithmetic {
        Arithmetic::Add => "Add",
        Arithmetic::Sub => "Sub",
        Arithmetic::Mul => "Mul",
        Arithmetic::Div => "Div",
    }
}

fn hard_sigmoid() -> Vec<AttributeProto> {
    vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]
}
