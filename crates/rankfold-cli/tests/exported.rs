//! ONNX models through the command: what is written beside and with them, and every bad one.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::{json, json_file, listing, onnx_fixture, refused, succeeds};

/// Copies fixtures into a folder.
fn bring(names: &[&str], folder: &Path) {
    for name in names {
        fs::copy(onnx_fixture(name), folder.join(name)).unwrap();
    }
}

/// A rank for every layer of the attention block that has one.
const RANKS: &str = "qkv = 3\nup = 2\ndown = 2\n";

#[test]
fn an_onnx_model_comes_back_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bring(&["attention.onnx"], at);
    fs::write(at.join("ranks.toml"), RANKS).unwrap();
    let compress = [
        "compress",
        "attention.onnx",
        "--ranks",
        "ranks.toml",
        "-o",
        "out",
    ];
    succeeds(&compress, at);
    assert_eq!(
        listing(&at.join("out")),
        [
            "model.onnx",
            "model.py",
            "model.safetensors",
            "plan.toml",
            "plots",
            "report.html",
            "report.json"
        ]
    );
    let report = json_file(&at.join("out/report.json"));
    let size = |name: &str| fs::metadata(at.join(name)).unwrap().len();
    assert_eq!(report["before"]["bytes"], size("attention.onnx"));
    assert_eq!(report["after"]["bytes"], size("out/model.onnx"));
    assert_eq!(
        report["files"]["model.safetensors"],
        size("out/model.safetensors")
    );
    let small = json(&["inspect", "out/model.onnx", "--json"], at);
    assert_eq!(small["parameters"], report["after"]["parameters"]);
    assert!(small["parameters"].as_u64() < report["before"]["parameters"].as_u64());
    // The folder stands for the file of its own kind, and that file knows how it was made.
    fs::write(at.join("ranks.toml"), "head = 2\n").unwrap();
    let again = ["compress", "out", "--ranks", "ranks.toml", "-o", "again"];
    succeeds(&again, at);
    let again = json_file(&at.join("again/report.json"));
    assert_eq!(again["provenance"]["source"], "out/model.onnx");
    assert_eq!(
        again["provenance"]["previous"]["source"],
        report["provenance"]["source"]
    );
    assert!(at.join("again/model.onnx").is_file());
}

#[test]
fn weights_in_a_file_of_their_own_count() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bring(&["external.onnx", "external.bin"], at);
    fs::write(at.join("ranks.toml"), "fc = 3\n").unwrap();
    let compress = [
        "compress",
        "external.onnx",
        "--ranks",
        "ranks.toml",
        "-o",
        "out",
    ];
    succeeds(&compress, at);
    let report = json_file(&at.join("out/report.json"));
    let size = |name: &str| fs::metadata(at.join(name)).unwrap().len();
    assert_eq!(
        report["before"]["bytes"],
        size("external.onnx") + size("external.bin")
    );
    fs::remove_file(at.join("external.bin")).unwrap();
    refused(
        &["inspect", "external.onnx"],
        at,
        4,
        &["external.bin", "hint:"],
    );
}

#[test]
fn ops_that_are_not_known_are_carried_along_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bring(&["handmade.onnx"], at);
    fs::write(at.join("ranks.toml"), "twice = 2\n").unwrap();
    let compress = |more: &[&'static str]| -> Vec<&'static str> {
        let start = ["compress", "handmade.onnx", "--ranks", "ranks.toml", "-o"];
        [&start[..], more].concat()
    };
    let (_, said) = succeeds(&compress(&["out"]), at);
    for text in [
        "model.onnx was not run",
        "Cast, Gemm",
        "model.py is left out",
    ] {
        assert!(said.contains(text), "expected {text:?} in {said}");
    }
    assert!(!at.join("out/model.py").exists());
    let graph = succeeds(&["inspect", "out", "--graph"], at).0;
    assert!(graph.contains("twice.1"), "{graph}");
    // Running is what cannot be done.
    fs::write(
        at.join("x.safetensors"),
        inputs(16, 3 * 9 * 10, "[16,3,9,10]"),
    )
    .unwrap();
    let with_data = compress(&["again", "--data", "tensors:x.safetensors"]);
    refused(
        &with_data,
        at,
        1,
        &["5 ops cannot run", "Gemm (at", "If (at"],
    );
    refused(&["bench", "handmade.onnx"], at, 1, &["cannot run"]);
    bring(&["conv1d.onnx"], at);
    refused(&["bench", "conv1d.onnx"], at, 2, &["in0", "known size"]);
    let export = ["export", "out/model.safetensors", "--to", "onnx"];
    refused(&export, at, 2, &["has no ONNX form"]);
}

/// A safetensors file of one input.
fn inputs(items: usize, each: usize, shape: &str) -> Vec<u8> {
    let bytes = items * each * 4;
    let header = format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..items * each).flat_map(|i| ((i % 7) as f32 - 3.0).to_le_bytes()));
    file
}

#[test]
fn a_model_of_one_batch_size_gets_full_batches() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bring(&["convs11.onnx"], at);
    fs::write(at.join("ranks.toml"), "fc = 3\n").unwrap();
    let items = |n: usize| inputs(n, 3 * 256, &format!("[{n},3,16,16]"));
    fs::write(at.join("17.safetensors"), items(17)).unwrap();
    fs::write(at.join("5.safetensors"), items(5)).unwrap();
    let compress = |data: &'static str, out: &'static str| {
        let start = ["compress", "convs11.onnx", "--ranks", "ranks.toml"];
        [&start[..], &["--data", data, "-o", out]].concat()
    };
    succeeds(&compress("tensors:17.safetensors", "out"), at);
    let report = json_file(&at.join("out/report.json"));
    let calibration = report["provenance"]["calibration"].as_str().unwrap();
    assert!(calibration.starts_with("16 inputs"), "{calibration}");
    let compare = [
        "compare",
        "convs11.onnx",
        "out",
        "--data",
        "tensors:5.safetensors",
    ];
    let (_, said) = succeeds(&compare, at);
    assert!(
        said.contains("takes 2 inputs at a time; 1 of 5 are left out"),
        "{said}"
    );
    let (table, _) = succeeds(
        &["bench", "convs11.onnx", "out", "--repeat", "1", "--json"],
        at,
    );
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let rows = table["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["batch"] == 2), "{table}");
    let one = ["bench", "convs11.onnx", "--batch", "1"];
    refused(&one, at, 2, &["exported for 2 inputs at a time", "--batch"]);
    let few = compress("tensors:5.safetensors", "few");
    refused(
        &few,
        at,
        2,
        &["takes 2 inputs at a time", "needs 16, found 5"],
    );
}

#[test]
fn zoo_networks_are_exported_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let export = ["export", "zoo:lenet5", "--to", "onnx"];
    let (_, said) = succeeds(&export, at);
    assert!(said.contains("wrote lenet5.onnx"), "{said}");
    let zoo = json(&["inspect", "zoo:lenet5", "--json"], at);
    let onnx = json(&["inspect", "lenet5.onnx", "--json"], at);
    for key in ["parameters", "weights", "macs"] {
        assert_eq!(zoo[key], onnx[key], "{key}");
    }
    refused(&export, at, 2, &["lenet5.onnx exists", "--force"]);
    succeeds(&[&export[..], &["--force"]].concat(), at);
    let back = ["export", "lenet5.onnx", "--to", "safetensors"];
    succeeds(&back, at);
    fs::write(at.join("x.safetensors"), inputs(4, 28 * 28, "[4,1,28,28]")).unwrap();
    let compare = [
        "compare",
        "lenet5.onnx",
        "lenet5.safetensors",
        "--data",
        "tensors:x.safetensors",
        "--json",
    ];
    assert_eq!(json(&compare, at)["outputs"][0]["relative_error"], 0.0);
    let (_, said) = succeeds(&compare, at);
    assert!(said.contains("taken in order: `x` as `input`"), "{said}");
    let mut broken = inputs(4, 28 * 28, "[4,1,28,28]");
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(at.join("x.safetensors"), broken).unwrap();
    refused(&compare, at, 3, &["`x`", "not finite"]);
    let elsewhere = [
        "export",
        "zoo:lenet5",
        "--to",
        "onnx",
        "-o",
        "absent/lenet5.onnx",
    ];
    let told = support::run(&elsewhere, at);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.contains("absent/lenet5.onnx") && !told.contains(".part"),
        "{told}"
    );
}

#[test]
fn simplifying_folds_batch_norms_and_changes_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bring(&["convs.onnx"], at);
    let export = [
        "export",
        "convs.onnx",
        "--to",
        "onnx",
        "--simplify",
        "-o",
        "simple.onnx",
    ];
    let (_, said) = succeeds(&export, at);
    assert!(said.contains("simplified: 1 batch norm folded"), "{said}");
    let kinds = |file: &str| {
        let layers = json(&["inspect", file, "--json"], at)["layers"].clone();
        let kind = |layer: &serde_json::Value| layer["kind"].as_str().unwrap().to_owned();
        layers
            .as_array()
            .unwrap()
            .iter()
            .map(kind)
            .collect::<Vec<_>>()
    };
    assert!(kinds("convs.onnx").contains(&"batch_norm".to_owned()));
    assert!(!kinds("simple.onnx").contains(&"batch_norm".to_owned()));
    fs::write(at.join("x.safetensors"), inputs(4, 3 * 256, "[4,3,16,16]")).unwrap();
    let compare = [
        "compare",
        "convs.onnx",
        "simple.onnx",
        "--data",
        "tensors:x.safetensors",
        "--json",
    ];
    let error = json(&compare, at)["outputs"][0]["relative_error"].clone();
    assert!(error.as_f64().unwrap() < 1e-5, "{error}");
}

#[test]
fn a_size_is_that_of_the_written_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Nine tenths of this one are descriptions of its ops, which nobody could guess.
    bring(&["attention_dynamo.onnx"], at);
    for (model, size, file) in [
        ("zoo:lenet5", 60_000, "model.safetensors"),
        ("attention_dynamo.onnx", 43_000, "model.onnx"),
        ("attention_dynamo.onnx", 40_000, "model.onnx"),
    ] {
        let limit = size.to_string();
        let compress = ["compress", model, "--size", &limit, "--force", "-o", "out"];
        succeeds(&compress, at);
        let written = fs::metadata(at.join("out").join(file)).unwrap().len();
        assert!(written <= size, "{model}: {written} bytes of {size}");
        assert!(
            written * 10 > size * 8,
            "{model}: {written} bytes of {size}"
        );
    }
    let compress = ["compress", "zoo:lenet5", "--size", "2kB", "-o", "small"];
    refused(&compress, at, 5, &["2000 bytes", "smallest possible"]);
}

#[test]
fn layers_that_share_a_kernel_are_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bring(&["tied.onnx", "handmade.onnx"], at);
    for model in ["tied.onnx", "handmade.onnx"] {
        let plan = ["plan", model, "--params-removed", "5%"];
        let output = support::run(&plan, at);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!message.contains("panicked"), "{message}");
        assert_eq!(output.status.code(), Some(0), "{message}");
    }
}

#[test]
fn requests_that_contradict_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bring(&["attention.onnx"], at);
    let arch = ["inspect", "attention.onnx", "--arch", "resnet20"];
    refused(&arch, at, 2, &["describes its own network", "--arch"]);
    let dtype = [
        "compress",
        "attention.onnx",
        "--params",
        "2x",
        "--dtype",
        "f16",
        "-o",
        "out",
    ];
    refused(&dtype, at, 2, &["--dtype"]);
}

/// A length-delimited field of a protocol buffer.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128 * 128);
    let (low, high) = (content.len() & 0x7f, content.len() >> 7);
    let length = match high {
        0 => vec![low as u8],
        _ => vec![low as u8 | 0x80, high as u8],
    };
    [vec![tag << 3 | 2], length, content.to_vec()].concat()
}

/// A model of opset 17 around a graph.
fn model(graph: &[u8]) -> Vec<u8> {
    [vec![0x08, 8], field(7, graph), field(8, &[0x10, 17])].concat()
}

fn relu(input: &str, output: &str) -> Vec<u8> {
    let body = [
        field(1, input.as_bytes()),
        field(2, output.as_bytes()),
        field(4, b"Relu"),
    ];
    field(1, &body.concat())
}

fn graph_output(name: &str) -> Vec<u8> {
    field(12, &field(1, name.as_bytes()))
}

#[test]
fn damaged_and_hostile_models() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let whole = fs::read(onnx_fixture("attention.onnx")).unwrap();
    fs::write(at.join("cut.onnx"), &whole[..whole.len() / 2]).unwrap();
    let circle = [relu("b", "a"), relu("a", "b"), graph_output("b")].concat();
    fs::write(at.join("circle.onnx"), model(&circle)).unwrap();
    let entry = |key: &str, value: &str| {
        field(
            13,
            &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
        )
    };
    let outside = [
        field(1, &[3]),
        vec![0x10, 1],
        field(8, b"w"),
        entry("location", "../secret"),
        vec![0x70, 1],
    ];
    let graph = [
        field(5, &outside.concat()),
        relu("w", "y"),
        graph_output("y"),
    ]
    .concat();
    fs::write(at.join("outside.onnx"), model(&graph)).unwrap();
    for (file, text) in [
        ("cut.onnx", "not a valid ONNX model"),
        ("circle.onnx", "takes `b`, which nothing before it makes"),
        ("outside.onnx", "outside of the model's folder"),
    ] {
        let commands: [&[&str]; 5] = [
            &["inspect", file],
            &["plan", file, "--params", "2x"],
            &["compress", file, "--params", "2x", "-o", "out"],
            &["bench", file],
            &[
                "export",
                file,
                "--to",
                "safetensors",
                "-o",
                "out.safetensors",
            ],
        ];
        for command in commands {
            refused(command, at, 3, &[file, text]);
        }
    }
}
