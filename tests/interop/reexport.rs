//! Reads an exported model and writes it again, for the comparisons with PyTorch and ONNX Runtime in
//! this folder.
//!
//! `interop-reexport SOURCE TARGET MODE` prints the opaque ops of the graph; the kind of model is
//! known by its extension. MODE is `same`: every node as it was; `fresh`: all nodes anew, with nothing
//! but the graph; `external`: the weights beside the (ONNX) model; `patched`: every convolution and
//! linear layer as two, which compute the same; `described`: a safetensors file that describes its
//! network.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use rankfold_formats::{
    OnnxOptions, OnnxOrigin, Pt2Options, Pt2Origin, read_onnx, read_pt2, write_model, write_onnx,
    write_pt2,
};
use rankfold_graph::ops::{Conv, Linear};
use rankfold_graph::{Graph, Op, Patch, Tensor, TensorError, WeightName};

enum Origin {
    Onnx(Box<OnnxOrigin>),
    Pt2(Box<Pt2Origin>),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, mode] = arguments.as_slice() else {
        return Err("usage: interop-reexport SOURCE TARGET MODE".into());
    };
    let (mut graph, origin) = read(Path::new(source))?;
    for node in graph.nodes() {
        if let Op::Opaque(opaque) = &node.op {
            println!("{}", opaque.target);
        }
    }
    let target = Path::new(target);
    match mode.as_str() {
        "same" | "fresh" | "external" => {}
        "patched" => halve(&mut graph)?,
        "described" => return Ok(write_model(target, &graph, &serde_json::Map::new(), None)?),
        _ => return Err(format!("unknown mode {mode}").into()),
    }
    let fresh = mode == "fresh";
    match origin {
        Origin::Onnx(origin) => {
            let mut options = OnnxOptions {
                external_data: mode == "external",
                ..OnnxOptions::default()
            };
            if mode == "patched" {
                options.metadata.insert("rankfold".into(), "{}".into());
            }
            let origin = (!fresh).then_some(&*origin);
            write_onnx(target, &graph, origin, &options)?;
        }
        Origin::Pt2(origin) => {
            let mut options = Pt2Options::default();
            if mode == "patched" {
                options.extra.insert("rankfold".into(), "{}".into());
            }
            write_pt2(target, &graph, (!fresh).then_some(&*origin), &options)?;
        }
    }
    Ok(())
}

fn read(source: &Path) -> Result<(Graph, Origin), Box<dyn Error>> {
    if source.extension().is_some_and(|e| e == "pt2") {
        let (graph, origin) = read_pt2(source)?;
        return Ok((graph, Origin::Pt2(origin.into())));
    }
    let (graph, origin) = read_onnx(source)?;
    Ok((graph, Origin::Onnx(origin.into())))
}
/// Puts an identity after every convolution and linear layer; the bias moves there.
fn halve(graph: &mut Graph) -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = graph.nodes().iter().map(|n| n.name.clone()).collect();
    // One after the other: where layers follow each other, the next must see what became of the last.
    for name in names {
        let Some(node) = graph.node(&name).cloned() else {
            continue;
        };
        let mut patch = Patch::new("halve");
        let (first, second): (Op, Op) = match &node.op {
            Op::Conv(conv) => {
                let Some(kernel) = graph.weights().get(&conv.weight) else {
                    continue;
                };
                let (out, spatial) = (kernel.shape()[0], conv.stride.len());
                let weight: WeightName = format!("{}.identity", node.name).into();
                let mut shape = vec![1; spatial + 2];
                shape[..2].fill(out);
                patch.weight(weight.clone(), identity(shape, out, kernel)?);
                let second = Conv::new(weight, conv.bias.clone(), spatial);
                let first = Conv {
                    bias: None,
                    ..conv.clone()
                };
                (first.into(), second.into())
            }
            Op::Linear(linear) => {
                let Some(matrix) = graph.weights().get(&linear.weight) else {
                    continue;
                };
                let out = matrix.shape()[0];
                let weight: WeightName = format!("{}.identity", node.name).into();
                patch.weight(weight.clone(), identity(vec![out, out], out, matrix)?);
                let bias = linear.bias.clone();
                let first = Linear {
                    weight: linear.weight.clone(),
                    bias: None,
                };
                (first.into(), Linear { weight, bias }.into())
            }
            _ => continue,
        };
        let first = patch.node(
            format!("{}.first", node.name),
            first,
            &[node.inputs[0].into()],
        );
        let second = patch.node(format!("{}.second", node.name), second, &[first]);
        patch.redirect(node.output(), second);
        patch.apply(graph)?;
    }
    Ok(())
}

fn identity(shape: Vec<usize>, size: usize, like: &Tensor) -> Result<Tensor, TensorError> {
    let on_diagonal = |i: usize| if i.is_multiple_of(size + 1) { 1.0 } else { 0.0 };
    let values = (0..size * size).map(on_diagonal).collect();
    Tensor::from_f32(shape, values)?.to_float_dtype(like.dtype())
}
