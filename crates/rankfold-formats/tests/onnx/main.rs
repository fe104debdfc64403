//! ONNX models that PyTorch and others wrote: what becomes of them, and every bad one.

#![allow(clippy::unwrap_used)]

mod hostile;
mod understood;
mod written;

use std::path::{Path, PathBuf};

use rankfold_formats::{
    FormatError, OnnxFault, OnnxOptions, OnnxOrigin, read_onnx, read_weights, write_onnx,
};
use rankfold_graph::ops::{Activation, Conv, Linear};
use rankfold_graph::{Dim, Graph, Op, Patch, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/onnx")
        .join(name)
}

fn read(name: &str) -> (Graph, OnnxOrigin) {
    read_onnx(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn opaque(graph: &Graph) -> Vec<&str> {
    let target = |op: &'_ Op| matches!(op, Op::Opaque(_));
    let nodes = graph.nodes().iter().filter(|n| target(&n.op));
    nodes
        .map(|n| match &n.op {
            Op::Opaque(opaque) => opaque.target.as_str(),
            _ => "",
        })
        .collect()
}

fn linear<'g>(graph: &'g Graph, name: &str) -> &'g Linear {
    match &graph
        .node(name)
        .unwrap_or_else(|| panic!("no {name} in\n{graph}"))
        .op
    {
        Op::Linear(linear) => linear,
        other => panic!("{name} is {other:?}"),
    }
}

fn conv<'g>(graph: &'g Graph, name: &str) -> &'g Conv {
    match &graph
        .node(name)
        .unwrap_or_else(|| panic!("no {name} in\n{graph}"))
        .op
    {
        Op::Conv(conv) => conv,
        other => panic!("{name} is {other:?}"),
    }
}
