//! Coded weights in files: what is written comes back, and what makes no code is refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use rankfold_formats::{
    METADATA_KEY, MODEL_VERSION, OnnxOptions, SaveOptions, StateDict, described_model, read_onnx,
    read_weights, write_model, write_onnx, write_safetensors,
};
use rankfold_graph::ops::{Conv, Flatten, Linear, Quantize};
use rankfold_graph::{Book, Code, DType, Fact, Graph, GraphBuilder, GraphSpec, Int8, Tensor};
use serde_json::{Map, Value, json};

fn floats(shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    let values = (0..count).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0);
    Tensor::from_f32(shape.to_vec(), values.collect()).unwrap()
}

fn int8(shape: &[usize]) -> Tensor {
    let scales = (0..shape[0]).map(|i| 0.01 * (i + 1) as f32).collect();
    let scales = Tensor::from_f32(vec![shape[0]], scales).unwrap();
    let code = Int8::nearest(shape.to_vec(), &floats(shape).to_f32().unwrap(), scales, 0);
    Tensor::coded(Code::Int8(code.unwrap())).unwrap()
}

fn book(shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    let places: Vec<usize> = (0..count).map(|i| i * 5 % 11).collect();
    let values = (0..11).map(|i| i as f32 / 7.0).collect();
    let code = Book::pack(shape.to_vec(), &places, values).unwrap();
    Tensor::coded(Code::Book(code)).unwrap()
}

/// A convolution with 8-bit weights between rounded values, and a head with a code book.
fn network() -> Graph {
    let mut builder = GraphBuilder::new("test");
    builder.weight("conv.weight", int8(&[6, 2, 3, 3]));
    builder.weight("conv.bias", floats(&[6]));
    builder.weight("fc.weight", book(&[5, 24]));
    let x = builder.input("x", Fact::batch_of(&[2, 4, 4])).unwrap();
    let rounding = |scale, zero_point| Quantize { scale, zero_point };
    let x = builder.op("x.int8", rounding(0.013, 121), &[x]).unwrap();
    let conv = Conv::new("conv.weight", Some("conv.bias".into()), 2);
    let y = builder.op("conv", conv, &[x]).unwrap();
    let y = builder.op("conv.int8", rounding(0.1, 0), &[y]).unwrap();
    let flat = Flatten { start: 1, end: -1 };
    let y = builder.op("flat", flat, &[y]).unwrap();
    let head = Linear {
        weight: "fc.weight".into(),
        bias: None,
    };
    let y = builder.op("fc", head, &[y]).unwrap();
    builder.finish(&[y]).unwrap()
}

fn described(path: &Path) -> Result<Graph, String> {
    let checkpoint = read_weights(path).map_err(|e| e.to_string())?;
    let model = described_model(path, &checkpoint).map_err(|e| e.to_string())?;
    Ok(model.unwrap().graph)
}

#[test]
fn a_described_model_keeps_its_codes_in_whatever_type_floats_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let graph = network();
    for dtype in [None, Some(DType::F32), Some(DType::F16)] {
        let path = folder.path().join("model.safetensors");
        write_model(&path, &graph, &Map::new(), dtype).unwrap();
        let read = described(&path).unwrap();
        assert_eq!(read.to_string(), graph.to_string());
        for name in ["conv.weight", "fc.weight"] {
            assert_eq!(
                read.weights().get(name),
                graph.weights().get(name),
                "{name}"
            );
        }
        let file = read_weights(&path).unwrap().tensors;
        let types: BTreeMap<&str, DType> = file.iter().map(|(n, t)| (n, t.dtype())).collect();
        let bias = dtype.unwrap_or(DType::F32);
        assert_eq!(
            types,
            BTreeMap::from([
                ("conv.bias", bias),
                ("conv.weight", DType::U8),
                ("fc.weight", DType::U8),
            ])
        );
        let bytes = |name: &str| file.get(name).unwrap().len();
        assert_eq!(bytes("conv.weight"), 6 * 4 + 6 * 2 * 9);
        assert_eq!(bytes("fc.weight"), 11 * 4 + 5 * 24 / 2);
    }
}

#[test]
fn an_onnx_model_keeps_eight_bits_and_says_books_as_floats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let graph = network();
    write_onnx(&path, &graph, None, &OnnxOptions::default()).unwrap();
    let (read, origin) = read_onnx(&path).unwrap();
    let (was, is) = (graph.weights(), read.weights());
    assert_eq!(is.get("conv.weight"), was.get("conv.weight"));
    let head = is.get("fc.weight").unwrap();
    assert!(head.code().is_none());
    assert_eq!(head.bytes(), was.get("fc.weight").unwrap().bytes());
    let kinds = |graph: &Graph| -> Vec<_> {
        let nodes = graph.nodes().iter();
        nodes.map(|node| node.op.kind()).collect()
    };
    assert_eq!(kinds(&read), kinds(&graph));
    let again = folder.path().join("again.onnx");
    write_onnx(&again, &read, Some(&origin), &OnnxOptions::default()).unwrap();
    assert_eq!(read_onnx(&again).unwrap().0, read);
}

#[test]
fn a_bias_of_whole_steps_is_written_as_32_bit_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let mut graph = network();
    let plain = std::fs::read({
        write_onnx(&path, &graph, None, &OnnxOptions::default()).unwrap();
        &path
    });
    let Some(Code::Int8(code)) = graph.weights().get("conv.weight").unwrap().code() else {
        panic!("no code");
    };
    let bias = graph.weights().get("conv.bias").unwrap().to_f32().unwrap();
    let steps = code.bias_codes(&bias, 0.013).unwrap();
    let bias = code.bias_of(&steps, 0.013).unwrap();
    let tensor = Tensor::from_f32(vec![6], bias).unwrap();
    graph.set_weight("conv.bias", tensor.clone()).unwrap();
    write_onnx(&path, &graph, None, &OnnxOptions::default()).unwrap();
    let has = |bytes: &[u8]| {
        let name = b"conv.bias.codes";
        bytes.windows(name.len()).any(|window| window == name)
    };
    assert!(!has(&plain.unwrap()) && has(&std::fs::read(&path).unwrap()));
    let (read, _) = read_onnx(&path).unwrap();
    assert_eq!(read.weights().get("conv.bias"), Some(&tensor));
}

type Change = fn(&mut Value, &mut StateDict);

/// A file with the network's description, in which bytes or codings are other than they should be.
fn forged(change: Change) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write_model(&path, &network(), &Map::new(), None).unwrap();
    let mut tensors = read_weights(&path).unwrap().tensors;
    let codes = json!({
        "conv.weight": { "code": "int8", "shape": [6, 2, 3, 3], "axis": 0, "scales": "f32" },
        "fc.weight": { "code": "book", "shape": [5, 24], "values": 11 },
    });
    let graph = GraphSpec::of(&network());
    let mut description = json!({ "version": MODEL_VERSION, "graph": graph, "codes": codes });
    change(&mut description, &mut tensors);
    let options = SaveOptions {
        metadata: BTreeMap::from([(METADATA_KEY.to_owned(), description.to_string())]),
        ..SaveOptions::default()
    };
    write_safetensors(&path, &tensors, &options).unwrap();
    described(&path).map_or_else(|error| error, |_| "read".to_owned())
}

/// Gives a weight other bytes from `at` on.
fn overwrite(tensors: &mut StateDict, name: &str, at: usize, bytes: &[u8]) {
    let mut data = tensors.remove(name).unwrap().bytes().to_vec();
    data.splice(at..at + bytes.len(), bytes.iter().copied());
    let tensor = Tensor::new(DType::U8, vec![data.len()], data.into()).unwrap();
    tensors.insert(name, tensor).unwrap();
}

fn shorten(tensors: &mut StateDict, name: &str, to: usize) {
    let data = tensors.remove(name).unwrap().bytes().slice(..to);
    let tensor = Tensor::new(DType::U8, vec![to], data).unwrap();
    tensors.insert(name, tensor).unwrap();
}

#[test]
fn a_description_need_not_be_packed() {
    assert_eq!(forged(|_, _| {}), "read");
}

#[test]
fn bytes_that_make_no_weight_are_refused() {
    let cases: &[(Change, &str)] = &[
        (
            |_, t| overwrite(t, "fc.weight", 44, &[0xff]),
            "weight `fc.weight`: index 15 at place 0 is beyond the book's 11 values",
        ),
        (
            |_, t| overwrite(t, "fc.weight", 4, &f32::NAN.to_le_bytes()),
            "value 1 of the book is NaN",
        ),
        (
            |_, t| overwrite(t, "conv.weight", 8, &[0; 4]),
            "scale 2 is 0: expected a finite number above 0",
        ),
        (
            |_, t| shorten(t, "fc.weight", 100),
            "120 indices of 4 bits take 60 bytes, found shape [56]",
        ),
        (
            |_, t| shorten(t, "conv.weight", 131),
            "a i8 tensor of shape [6, 2, 3, 3] takes 108 bytes, found 107",
        ),
        (
            |_, t| shorten(t, "conv.weight", 7),
            "a f32 tensor of shape [6] takes 24 bytes, found 7",
        ),
        (
            |_, t| drop(t.remove("conv.weight")),
            "weight `conv.weight` is missing",
        ),
        (
            |d, _| d["codes"]["conv.bias"] = d["codes"]["conv.weight"].clone(),
            "weight `conv.bias`: expected bytes of type u8, found f32",
        ),
        (
            |d, _| d["codes"]["conv.weight"]["axis"] = json!(4),
            "axis 4 is out of range for shape [6, 2, 3, 3]",
        ),
        (
            |d, _| d["codes"]["conv.weight"]["axis"] = json!(1),
            "a i8 tensor",
        ),
        (
            |d, _| d["codes"]["conv.weight"]["scales"] = json!("i32"),
            "expected scales of type f32, found i32",
        ),
        (
            |d, _| d["codes"]["fc.weight"]["values"] = json!(u64::MAX),
            "more elements than memory can hold",
        ),
        (
            |d, _| d["codes"]["fc.weight"]["values"] = json!(0),
            "expected a book of 1 to 65536 values, found shape [0]",
        ),
        (
            |d, _| d["codes"]["fc.weight"]["shape"] = json!([u64::MAX, 2]),
            "more elements than memory can hold",
        ),
        (
            |d, _| d["codes"]["fc.weight"]["shape"] = json!([4, 30]),
            "node `fc`",
        ),
        (
            |d, _| d["codes"]["fc.weight"]["code"] = json!("huffman"),
            "unknown variant `huffman`",
        ),
        (
            |d, _| d["graph"]["nodes"][0]["scale"] = json!(-1.0),
            "attribute `scale`: expected a finite number above 0",
        ),
        (
            |d, _| d["graph"]["nodes"][0]["zero_point"] = json!(256),
            "invalid value: integer `256`",
        ),
    ];
    for (change, expected) in cases {
        let message = forged(*change);
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
}
