//! What the nodes of a graph are as nodes of a program.

mod layers;
mod metadata;
mod shape;
mod sizes;

use rankfold_graph::ops::{Activation, Arithmetic, BinaryScalar, Softmax};
use rankfold_graph::{DType, Node, Op, ValueId, WeightName};
use serde_json::{Map, Value, json};

use super::Pt2Fault;
use super::arguments::tensor_arg;
use super::import::agree;
use super::schema::{FileNode, SymInt, TensorMeta};
use super::write::Writer;

pub(super) type Done = Result<(), Pt2Fault>;

/// A node of the graph with the program's names for what it takes and makes.
pub(super) struct Site<'n> {
    pub(super) node: &'n Node,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    metadata: Map<String, Value>,
}

impl Site<'_> {
    pub(super) fn input(&self) -> Value {
        tensor_arg(&self.inputs[0])
    }
}

pub(super) fn int(value: i64) -> Value {
    json!({ "as_int": value })
}

pub(super) fn ints(values: impl IntoIterator<Item = usize>) -> Value {
    json!({ "as_ints": values.into_iter().collect::<Vec<_>>() })
}

pub(super) fn signed(values: &[i64]) -> Value {
    json!({ "as_ints": values })
}

/// JSON has no infinities: the exporter writes them as text.
pub(super) fn number(value: f64) -> Value {
    if value.is_finite() {
        json!({ "as_float": value })
    } else if value.is_nan() {
        json!({ "as_float": "NaN" })
    } else if value > 0.0 {
        json!({ "as_float": "Infinity" })
    } else {
        json!({ "as_float": "-Infinity" })
    }
}

pub(super) fn flag(value: bool) -> Value {
    json!({ "as_bool": value })
}

pub(super) fn none() -> Value {
    json!({ "as_none": true })
}

impl Writer<'_> {
    /// Writes a node that is understood.
    pub(super) fn emit(&mut self, node: &Node) -> Done {
        let name = |id: &ValueId| self.emitted[id].clone();
        let site = Site {
            node,
            inputs: node.inputs.iter().map(name).collect(),
            outputs: node.outputs.iter().map(name).collect(),
            metadata: self.metadata(node),
        };
        let site = &site;
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
            Op::AdaptiveAvgPool(op) => self.adaptive_avg_pool(site, op),
            Op::AdaptiveMaxPool(op) => self.adaptive_max_pool(site, op),
            Op::Binary(op) => {
                let target = format!("{}.Tensor", operator(op.arithmetic));
                self.simple(site, &target, |json| {
                    json.arg("self", site.input())
                        .arg("other", tensor_arg(&site.inputs[1]))
                })
            }
            Op::BinaryScalar(op) => self.binary_scalar(site, op),
            Op::Concat(op) => {
                let all: Vec<Value> = (site.inputs.iter())
                    .map(|name| json!({ "name": name }))
                    .collect();
                self.simple(site, "cat.default", |json| {
                    json.arg("tensors", json!({ "as_tensors": all }))
                        .arg("dim", int(op.axis))
                })
            }
            Op::Split(op) => self.split(site, op),
            Op::Slice(op) => self.slice(site, op),
            Op::Flatten(op) => self.simple(site, "flatten.using_ints", |json| {
                json.arg("self", site.input())
                    .arg("start_dim", int(op.start))
                    .arg("end_dim", int(op.end))
            }),
            Op::Reshape(op) => self.reshape(site, op),
            Op::Permute(op) => self.simple(site, "permute.default", |json| {
                json.arg("self", site.input())
                    .arg("dims", ints(op.dims.iter().copied()))
            }),
            Op::Squeeze(op) => self.simple(site, "squeeze.dims", |json| {
                json.arg("self", site.input()).arg("dim", signed(&op.axes))
            }),
            Op::Unsqueeze(op) => self.unsqueeze(site, op),
            Op::Expand(op) => self.expand(site, op),
            Op::Pad(op) => self.pad(site, op),
            Op::Quantize(op) => {
                self.simple(site, "fake_quantize_per_tensor_affine.default", |json| {
                    json.arg("self", site.input())
                        .arg("scale", number(f64::from(op.scale)))
                        .arg("zero_point", int(op.zero_point.into()))
                        .arg("quant_min", int(0))
                        .arg("quant_max", int(255))
                })
            }
            Op::Dropout(op) => self.simple(site, "dropout.default", |json| {
                json.arg("input", site.input())
                    .arg("p", number(op.p))
                    .arg("train", flag(false))
            }),
            Op::Softmax(op) => self.softmax(site, op),
            Op::MatMul(_) => self.simple(site, "matmul.default", |json| {
                json.arg("self", site.input())
                    .arg("other", tensor_arg(&site.inputs[1]))
            }),
            Op::Attention(op) => self.attention(site, op),
            Op::Mean(op) => self.simple(site, "mean.dim", |json| {
                json.arg("self", site.input())
                    .arg("dim", signed(&op.axes))
                    .arg("keepdim", flag(op.keep))
            }),
            Op::Embedding(op) => {
                let weight = tensor_arg(&self.weight(&op.weight)?);
                self.simple(site, "embedding.default", |json| {
                    json.arg("weight", weight).arg("indices", site.input())
                })
            }
            // Its value is an input of the program.
            Op::Constant(_) => Ok(()),
            Op::Opaque(_) => Err(self.no_form(node, "it is opaque")),
        }
    }

    /// The program's name for a weight that the op may do without.
    pub(super) fn optional(&mut self, name: Option<&WeightName>) -> Result<Value, Pt2Fault> {
        Ok(match name {
            None => none(),
            Some(name) => tensor_arg(&self.weight(name)?),
        })
    }

    /// Adds a node that makes the first output of the graph's.
    pub(super) fn simple(
        &mut self,
        site: &Site<'_>,
        target: &str,
        args: impl FnOnce(FileNode) -> FileNode,
    ) -> Done {
        let meta = self.output_meta(site, 0)?;
        let name = site.outputs[0].clone();
        let mut json = args(FileNode::new(&format!("torch.ops.aten.{target}"), &name));
        json.outputs = vec![tensor_arg(&name)];
        json.metadata.clone_from(&site.metadata);
        self.metas.insert(name, meta);
        self.push(json);
        Ok(())
    }

    /// Adds a node inside of the graph's, whose output has `sizes`, and returns its output.
    pub(super) fn step(
        &mut self,
        site: &Site<'_>,
        target: &str,
        sizes: Vec<SymInt>,
        args: impl FnOnce(FileNode) -> FileNode,
    ) -> Result<String, Pt2Fault> {
        let op = target.split('.').next().unwrap_or(target);
        let name = self.fresh(&format!("{}_{op}", site.outputs[0]));
        let dtype = self.graph.fact(site.node.inputs[0]).dtype;
        let meta = TensorMeta::contiguous(dtype, sizes, self.device.clone());
        let meta = meta.ok_or_else(|| self.no_form(site.node, "it is too large"))?;
        let mut json = args(FileNode::new(&format!("torch.ops.aten.{target}"), &name));
        json.outputs = vec![tensor_arg(&name)];
        json.metadata.clone_from(&site.metadata);
        self.metas.insert(name.clone(), meta);
        self.push(json);
        Ok(name)
    }

    /// What output `index` of a node is: as the file says it where that still holds.
    fn output_meta(&self, site: &Site<'_>, index: usize) -> Result<TensorMeta, Pt2Fault> {
        let id = site.node.outputs[index];
        let fact = self.graph.fact(id);
        let told = self.file_meta(&site.outputs[index]);
        if let Some(told) = told.filter(|t| t.fact().is_some_and(|t| agree(&t, fact))) {
            return Ok(told.clone());
        }
        self.meta(id, &|axis| self.open_size(site, axis))
            .ok_or_else(|| self.no_form(site.node, "a size of its output is not known"))
    }

    fn binary_scalar(&mut self, site: &Site<'_>, op: &BinaryScalar) -> Done {
        let scalar = || number(op.scalar);
        match (op.arithmetic, op.reversed) {
            (Arithmetic::Sub, true) => self.simple(site, "rsub.Scalar", |json| {
                json.arg("self", site.input()).arg("other", scalar())
            }),
            (Arithmetic::Div, true) => {
                let sizes = self.sizes_of(site, 0)?;
                let inverse = self.step(site, "reciprocal.default", sizes, |json| {
                    json.arg("self", site.input())
                })?;
                self.simple(site, "mul.Scalar", |json| {
                    json.arg("self", tensor_arg(&inverse))
                        .arg("other", scalar())
                })
            }
            (arithmetic, _) => {
                let target = format!("{}.Scalar", operator(arithmetic));
                self.simple(site, &target, |json| {
                    json.arg("self", site.input()).arg("other", scalar())
                })
            }
        }
    }

    fn activation(&mut self, site: &Site<'_>, op: &Activation) -> Done {
        let target = match op {
            Activation::Relu => "relu.default",
            Activation::Relu6 => "relu6.default",
            Activation::LeakyRelu { .. } => "leaky_relu.default",
            Activation::Elu { .. } => "elu.default",
            Activation::Gelu { .. } => "gelu.default",
            Activation::Silu => "silu.default",
            Activation::Sigmoid => "sigmoid.default",
            Activation::Tanh => "tanh.default",
            Activation::HardSwish => "hardswish.default",
            Activation::HardSigmoid => "hardsigmoid.default",
            Activation::Mish => "mish.default",
            Activation::Softplus => "softplus.default",
            Activation::Clamp { .. } => "clamp.default",
            Activation::Exp => "exp.default",
            Activation::Sqrt => "sqrt.default",
            Activation::Abs => "abs.default",
            Activation::Neg => "neg.default",
            Activation::Pow { .. } => "pow.Tensor_Scalar",
            Activation::Identity => "clone.default",
        };
        self.simple(site, target, |json| {
            let json = json.arg("self", site.input());
            match *op {
                Activation::LeakyRelu { slope } => json.arg("negative_slope", number(slope)),
                Activation::Elu { alpha } => json.arg("alpha", number(alpha)),
                Activation::Gelu { tanh: true } => {
                    json.keyword("approximate", json!({ "as_string": "tanh" }))
                }
                Activation::Clamp { min, max } => {
                    json.arg("min", number(min)).arg("max", number(max))
                }
                Activation::Pow { exponent } => json.arg("exponent", number(exponent)),
                _ => json,
            }
        })
    }

    fn softmax(&mut self, site: &Site<'_>, op: &Softmax) -> Done {
        let target = if op.log {
            "log_softmax.int"
        } else {
            "softmax.int"
        };
        self.simple(site, target, |json| {
            json.arg("self", site.input()).arg("dim", int(op.axis))
        })
    }

    /// Adds a node with several outputs: a list of tensors, or one after the other.
    pub(super) fn several(
        &mut self,
        site: &Site<'_>,
        target: &str,
        outputs: Vec<(String, TensorMeta)>,
        as_list: bool,
        args: impl FnOnce(FileNode) -> FileNode,
    ) {
        let op = target.split('.').next().unwrap_or(target);
        let name = self.fresh(&format!("{}_{op}", site.outputs[0]));
        let mut json = args(FileNode::new(&format!("torch.ops.aten.{target}"), &name));
        json.metadata.clone_from(&site.metadata);
        json.outputs = if as_list {
            let all: Vec<Value> = (outputs.iter())
                .map(|(name, _)| json!({ "name": name }))
                .collect();
            vec![json!({ "as_tensors": all })]
        } else {
            outputs.iter().map(|(name, _)| tensor_arg(name)).collect()
        };
        self.metas.extend(outputs);
        self.push(json);
    }

    /// An index tensor of the same shape as the first output.
    pub(super) fn indices_like(
        &mut self,
        site: &Site<'_>,
        meta: &TensorMeta,
    ) -> Result<(String, TensorMeta), Pt2Fault> {
        let indices = TensorMeta::contiguous(DType::I64, meta.sizes.clone(), self.device.clone());
        let indices = indices.ok_or_else(|| self.no_form(site.node, "it is too large"))?;
        Ok((self.fresh(&format!("{}_indices", site.outputs[0])), indices))
    }
}

fn operator(arithmetic: Arithmetic) -> &'static str {
    match arithmetic {
        Arithmetic::Add => "add",
        Arithmetic::Sub => "sub",
        Arithmetic::Mul => "mul",
        Arithmetic::Div => "div",
    }
}
