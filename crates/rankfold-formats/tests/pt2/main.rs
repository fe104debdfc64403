//! Programs that PyTorch exported: what becomes of them, and every bad one.

#![allow(clippy::unwrap_used)]

mod hostile;
mod understood;
mod written;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use rankfold_formats::{
    Archive, ArchiveFault, FormatError, Pt2Fault, Pt2Options, Pt2Origin, StateDict, read_pt2,
    read_weights, write_pt2,
};
use rankfold_graph::ops::{Activation, BinaryScalar, Conv, Linear};
use rankfold_graph::{DType, Dim, Fact, Graph, GraphBuilder, Op, Patch, Tensor};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pt2");
    folder.join(format!("{name}.pt2"))
}

fn read(name: &str) -> (Graph, Pt2Origin) {
    read_pt2(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What PyTorch says the tensors of the state dict are.
fn truth(name: &str) -> StateDict {
    let path = fixture(name).with_extension("safetensors");
    read_weights(&path).unwrap().tensors
}

fn opaque(graph: &Graph) -> Vec<&str> {
    let nodes = graph.nodes().iter();
    let mut found: Vec<&str> = nodes
        .filter_map(|n| match &n.op {
            Op::Opaque(opaque) => Some(opaque.target.as_str()),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn op<'g>(graph: &'g Graph, name: &str) -> &'g Op {
    let node = graph.node(name);
    &node.unwrap_or_else(|| panic!("no {name} in\n{graph}")).op
}

fn conv<'g>(graph: &'g Graph, name: &str) -> &'g Conv {
    match op(graph, name) {
        Op::Conv(conv) => conv,
        other => panic!("{name} is {other:?}"),
    }
}

fn program(path: &Path) -> Value {
    let archive = Archive::open(path).unwrap();
    serde_json::from_slice(&archive.read("models/model.json").unwrap()).unwrap()
}

const ALL: &[&str] = &[
    "attention",
    "attention_decomposed",
    "bfloat",
    "branches",
    "branches_decomposed",
    "choice",
    "conv1d",
    "convs",
    "convs_decomposed",
    "half",
    "memory",
    "memory_decomposed",
    "spatial",
    "tied",
    "training",
    "training_decomposed",
    "views",
];
fn program_of(name: &str) -> Value {
    let archive = Archive::open(&fixture(name)).unwrap();
    serde_json::from_slice(&archive.read("models/model.json").unwrap()).unwrap()
}

fn nodes(program: &Value) -> &[Value] {
    program["graph_module"]["graph"]["nodes"]
        .as_array()
        .unwrap()
}
