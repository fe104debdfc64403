//! Reads an ONNX model and writes it again: `reexport IN OUT [same|fresh|external]`.
//!
//! `same` (the default) writes every node as it was; `fresh` forgets where the graph came from and
//! makes all nodes anew; `external` puts the weights into a file beside the model. What the graph
//! looks like goes to standard output. The interop tests run it.

#![allow(clippy::print_stdout)]

use std::path::Path;

use rankfold_formats::{FormatError, OnnxOptions, read_onnx, write_onnx};

fn main() -> Result<(), FormatError> {
    let args: Vec<String> = std::env::args().collect();
    let (source, target) = match &args[..] {
        [_, source, target, ..] => (Path::new(source), Path::new(target)),
        _ => (Path::new("in.onnx"), Path::new("out.onnx")),
    };
    let mode = args.get(3).map_or("same", String::as_str);
    let (graph, origin) = read_onnx(source)?;
    println!("{graph}");
    let origin = (mode != "fresh").then_some(&origin);
    let options = OnnxOptions {
        external_data: mode == "external",
        ..OnnxOptions::default()
    };
    write_onnx(target, &graph, origin, &options)
}
