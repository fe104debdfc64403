//! Clustered and quantised models from end to end, on the built-in data.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{json, json_file, onnx_fixture, refused, succeeds};

fn size(folder: &Path, name: &str) -> u64 {
    fs::metadata(folder.join(name)).unwrap().len()
}

/// The relative error of a model's outputs on the built-in images.
fn apart(at: &Path, a: &str, b: &str) -> f64 {
    let compare = [
        "compare", a, b, "--data", "shapes", "--limit", "64", "--json",
    ];
    let found = json(&compare, at);
    found["outputs"][0]["relative_error"].as_f64().unwrap()
}

fn layer<'a>(inspected: &'a Value, name: &str) -> &'a Value {
    let layers = inspected["layers"].as_array().unwrap();
    layers.iter().find(|layer| layer["name"] == name).unwrap()
}

#[test]
fn a_clustered_model_takes_fewer_bytes_and_computes_nearly_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeds(&["export", "zoo:resnet20", "--to", "safetensors"], at);
    succeeds(&["cluster", "resnet20.safetensors", "-o", "book"], at);
    let whole = size(at, "resnet20.safetensors");
    let small = size(at, "book/model.safetensors");
    assert!(small * 6 < whole, "{small} of {whole}");
    let inspected = json(&["inspect", "book", "--json"], at);
    let conv = layer(&inspected, "layer1.0.conv1");
    assert_eq!(conv["stored"], "book of 16");
    assert_eq!(conv["bytes"], 16 * 16 * 9 / 2 + 16 * 4);
    assert_eq!(inspected["file_bytes"], small);
    let error = apart(at, "resnet20.safetensors", "book");
    assert!(error > 0.0 && error < 0.5, "{error}");

    let rounded = ["cluster", "book", "--decimals", "2", "-o", "rounded"];
    let (table, _) = succeeds(&rounded, at);
    assert!(table.contains("layer1.0.conv1"), "{table}");
    let report = json_file(&at.join("rounded/report.json"));
    assert_eq!(report["adjustments"]["clustered"]["decimals"], 2);
    let values = &report["adjustments"]["clustered"]["weights"][0]["values"];
    assert!(values.as_u64().unwrap() <= 16, "{values}");
}

#[test]
fn a_quantised_model_is_a_quarter_runs_and_is_the_same_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeds(&["export", "zoo:resnet20", "--to", "safetensors"], at);
    let quantize = [
        "quantize",
        "resnet20.safetensors",
        "--data",
        "shapes",
        "--calibrate",
        "128",
        "--split",
        "test[:64]",
        "-o",
        "int8",
    ];
    let (table, notes) = succeeds(&quantize, at);
    assert!(table.contains("top-1"), "{table}");
    assert!(notes.contains("values in 8 bits"), "{notes}");
    let (whole, small) = (
        size(at, "resnet20.safetensors"),
        size(at, "int8/model.safetensors"),
    );
    assert!(small * 10 < whole * 3, "{small} of {whole}");
    let inspected = json(&["inspect", "int8", "--json"], at);
    assert_eq!(layer(&inspected, "layer1.0.conv1")["stored"], "int8");
    assert!(apart(at, "resnet20.safetensors", "int8") < 0.1);
    let report = json_file(&at.join("int8/report.json"));
    let tries = report["adjustments"]["quantized"]["tries"]
        .as_array()
        .unwrap();
    let divergence = |attempt: &Value| attempt["divergence"].as_f64().unwrap();
    assert_eq!(tries.len(), 6);
    assert!(tries.iter().all(|t| divergence(t) >= divergence(&tries[0])));

    for kind in ["onnx", "pt2"] {
        let (_, told) = succeeds(&["export", "int8", "--to", kind, "-o", kind], at);
        assert!(
            told.contains("its outputs are the model's, exactly"),
            "{told}"
        );
    }
    assert!(size(at, "onnx") * 10 < whole * 3);
    succeeds(&["quantize", "onnx", "--weights-only", "-o", "again"], at);
    assert!(at.join("again/model.onnx").is_file());
}

#[test]
fn an_old_opset_without_scales_for_channels_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (fixture, floats) in [("convs11", true), ("convs", false)] {
        let model = onnx_fixture(&format!("{fixture}.onnx"));
        let quantize = [
            "quantize",
            model.to_str().unwrap(),
            "--weights-only",
            "-o",
            fixture,
        ];
        let (_, notes) = succeeds(&quantize, at);
        assert_eq!(
            notes.contains("are floats in the ONNX file"),
            floats,
            "{notes}"
        );
        assert_eq!(notes.contains("opset 11"), floats, "{notes}");
        let (_, notes) = succeeds(
            &[
                "export",
                fixture,
                "--to",
                "onnx",
                "-o",
                "again.onnx",
                "--force",
            ],
            at,
        );
        // What was read from the old file has no codes any more.
        assert!(!notes.contains("are floats in the ONNX file"), "{notes}");
        let cluster = ["cluster", model.to_str().unwrap(), "-o", "book", "--force"];
        let (_, notes) = succeeds(&cluster, at);
        assert!(notes.contains("have a code book and are floats"), "{notes}");
    }
}

#[test]
fn coding_comes_after_decomposing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let compress = [
        "compress",
        "zoo:resnet20",
        "--params-removed",
        "60%",
        "-o",
        "small",
    ];
    succeeds(&compress, at);
    let weights_only = ["quantize", "small", "--weights-only", "-o", "smaller"];
    let (_, notes) = succeeds(&weights_only, at);
    assert!(notes.contains("batch norms folded"), "{notes}");
    let (small, smaller) = (
        size(at, "small/model.safetensors"),
        size(at, "smaller/model.safetensors"),
    );
    assert!(smaller * 2 < small, "{smaller} of {small}");
    assert!(apart(at, "small", "smaller") < 0.05);
    let report = json_file(&at.join("smaller/report.json"));
    let previous = &report["provenance"]["previous"]["command"];
    assert!(
        previous.as_str().unwrap().contains("compress"),
        "{previous}"
    );
    // The next step begins from floats.
    let again = [
        "compress",
        "smaller",
        "--params-removed",
        "10%",
        "-o",
        "third",
    ];
    succeeds(&again, at);
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let model = "zoo:lenet5";
    for (arguments, texts) in [
        (
            vec!["quantize", model, "-o", "x"],
            ["--data", "--weights-only"],
        ),
        (
            vec!["cluster", model, "--book", "1", "-o", "x"],
            ["--book", "2..=256"],
        ),
        (
            vec!["cluster", model, "--book", "257", "-o", "x"],
            ["--book", "2..=256"],
        ),
        (
            vec!["cluster", model, "--decimals", "8", "-o", "x"],
            ["--decimals", "0..=7"],
        ),
        (
            vec![
                "cluster",
                model,
                "--decimals",
                "2",
                "--book",
                "4",
                "-o",
                "x",
            ],
            ["--decimals", "--book"],
        ),
        (vec!["cluster", model], ["--output", "required"]),
    ] {
        refused(&arguments, at, 2, &texts);
    }
    refused(
        &["cluster", "absent.pth", "-o", "x"],
        at,
        4,
        &["absent.pth"],
    );
    let data = ["quantize", model, "--data", "cifar10:absent", "-o", "x"];
    refused(&data, at, 4, &["absent"]);
    fs::write(at.join("plain"), "").unwrap();
    for command in ["cluster", "prune"] {
        let rule = if command == "prune" {
            "--connections"
        } else {
            "--book=4"
        };
        let onto_a_file = [command, model, rule, "-o", "plain"];
        refused(&onto_a_file, at, 2, &["plain is a file", "hint:"]);
    }
    let small = ["quantize", "zoo:resnet18", "--data", "shapes", "-o", "x"];
    refused(
        &small,
        at,
        2,
        &["takes f32[any, 3, 224, 224]", ", 3, 32, 32]"],
    );
    fs::create_dir(at.join("full")).unwrap();
    fs::write(at.join("full/file"), "").unwrap();
    refused(
        &["cluster", model, "-o", "full"],
        at,
        2,
        &["full", "--force"],
    );
}

#[test]
fn a_damaged_code_is_told_with_the_weight_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeds(&["cluster", "zoo:lenet5", "--book", "5", "-o", "small"], at);
    let path = at.join("small/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    // The packed indices are at the end, behind all wider numbers.
    *bytes.last_mut().unwrap() = 0xff;
    fs::write(at.join("damaged.safetensors"), bytes).unwrap();
    let texts = [
        "damaged.safetensors",
        "weight `",
        "beyond the book's 5 values",
    ];
    refused(&["inspect", "damaged.safetensors"], at, 3, &texts);
}

#[test]
fn codes_travel_from_a_folder_of_one_kind_to_a_file_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |line: &str| succeeds(&line.split(' ').collect::<Vec<_>>(), at);
    run("export zoo:lenet5 --to pt2 -o plain.pt2");
    run("quantize plain.pt2 --weights-only -o small");
    run("export small --to onnx -o small.onnx");
    let size = |name: &str| fs::metadata(at.join(name)).unwrap().len();
    assert!(3 * size("small.onnx") < size("plain.pt2"));
}
