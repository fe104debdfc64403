//! Pruning by the command line: what goes, what is told, what is refused.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rankfold_formats::{SaveOptions, StateDict, write_safetensors};
use rankfold_graph::Tensor;
use serde_json::Value;
use support::{command, json, json_file, listing, onnx_fixture, refused, send, succeeds};
use tempfile::tempdir;

/// `rankfold` and its arguments, separated by spaces.
fn prune(arguments: &str, folder: &Path) -> (String, String) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    succeeds(&[&["prune"], &arguments[..]].concat(), folder)
}

fn report(folder: &Path) -> Value {
    json_file(&folder.join("report.json"))
}

/// What the report says of a layer.
fn layer<'a>(report: &'a Value, name: &str) -> &'a Value {
    let layers = report["adjustments"]["nodes"]["layers"].as_array().unwrap();
    layers.iter().find(|layer| layer["name"] == name).unwrap()
}

/// So many numbers from 0 to 2 without order.
fn numbers(count: usize) -> Vec<f32> {
    let number = |i: usize| ((i * 7919) % 1000) as f32 / 500.0;
    (0..count).map(number).collect()
}

/// A file of named inputs, and what else data can have.
fn tensor_file(path: &Path, tensors: &[(&str, &[usize], Vec<f32>)]) {
    let mut state = StateDict::new();
    for (name, shape, values) in tensors {
        let tensor = Tensor::from_f32(shape.to_vec(), values.clone()).unwrap();
        state.insert((*name).to_owned(), tensor).unwrap();
    }
    write_safetensors(path, &state, &SaveOptions::default()).unwrap();
}

/// Pairs of numbers and their sums, as targets.
fn sums(path: &Path) {
    let pairs = numbers(2400);
    let sums = pairs.chunks(2).map(|pair| pair[0] + pair[1]).collect();
    let tensors = [
        ("input", &[1200, 2, 1, 1][..], pairs),
        ("targets", &[1200, 1][..], sums),
    ];
    tensor_file(path, &tensors);
}

#[test]
fn channels_go_without_training_and_all_commands_read_the_result() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let options = "zoo:resnet20 --nodes activation-variance --deviations 0.5 --data shapes \
                   --epochs 0 --samples 64 --split test[:64] -o small";
    let (totals, said) = prune(options, folder);
    assert!(totals.contains("parameters") && totals.contains("% removed"));
    assert!(said.contains("cycle 1: "), "{said}");
    let report = report(&folder.join("small"));
    let [before, after] = ["before", "after"].map(|side| report[side]["parameters"].as_u64());
    assert!(after < before);
    let first = layer(&report, "layer1.0.conv1");
    let [old, new] = [0, 1].map(|side| first["channels"][side].as_u64().unwrap());
    assert!(old == 16 && new < 16, "{first}");
    assert_eq!(
        layer(&report, "linear")["stays"],
        "they are an output of the model"
    );
    // What a sum joins has as many channels.
    let width = |name: &str| layer(&report, name)["channels"].clone();
    assert_eq!(width("conv1"), width("layer1.0.conv2"));
    let inspected = json(&["inspect", "small", "--json"], folder);
    assert_eq!(inspected["parameters"].as_u64(), after, "{inspected}");
    succeeds(
        &["eval", "small", "--data", "shapes", "--split", "test[:32]"],
        folder,
    );
    let again = [
        "compress",
        "small",
        "--params-removed",
        "20%",
        "-o",
        "smaller",
    ];
    succeeds(&again, folder);
    prune("small --connections -o sparse", folder);
}

#[test]
fn cycles_train_between_and_a_seed_gives_the_same_bytes() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    sums(&folder.join("sums.safetensors"));
    let options = "zoo:calli-sum --nodes activation-count --rule thesis --loss rmse --no-teacher \
                   --data tensors:sums.safetensors --optimizer sgd --rate 0.01 --warm-up 0 --l2 0.001 \
                   --batch 100 --epochs 1 --cycles 2 --distort 1 --threads 1";
    for out in ["a", "b"] {
        prune(&format!("{options} -o {out}"), folder);
    }
    let bytes = |out: &str| fs::read(folder.join(out).join("last.safetensors"));
    assert!(bytes("a").is_err());
    let written = |out: &str| fs::read(folder.join(out).join("model.safetensors")).unwrap();
    let weights = |out: &str| {
        let bytes = written(out);
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(weights("a"), weights("b"));
    let report = report(&folder.join("a"));
    assert!(report["after"]["rmse"].as_f64() < report["before"]["rmse"].as_f64());
    let cycles = report["adjustments"]["nodes"]["cycles"].as_array().unwrap();
    assert!(cycles[0]["removed"].as_u64() > Some(100), "{cycles:?}");
    let metrics = fs::read_to_string(folder.join("a/metrics.jsonl")).unwrap();
    for stage in ["before", "cycle 1"] {
        let line = format!("\"stage\":\"{stage}\"");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert_eq!(listing(folder), ["a", "b", "sums.safetensors"]);
}

#[test]
fn the_model_as_it_was_teaches_what_is_left_of_it() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let options = "zoo:resnet20 --nodes activation-count --deviations 1 --data shapes \
                   --train-split train[:128] --batch 32 --epochs 1 --cycles 1 --split test[:32] -o out";
    let (_, said) = prune(options, folder);
    assert!(said.contains("divergence"), "{said}");
    let report = report(&folder.join("out"));
    assert!(report["adjustments"]["training"]["epochs"].as_u64() == Some(1));
    assert!(report["after"]["parameters"].as_u64() < report["before"]["parameters"].as_u64());
}

#[test]
fn small_weights_become_zeros_without_data() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let (_, said) = prune("zoo:lenet5 --connections --threshold 0.5 -o out", folder);
    assert!(said.contains("weights are zero"), "{said}");
    let report = report(&folder.join("out"));
    assert_eq!(
        report["after"]["parameters"],
        report["before"]["parameters"]
    );
    for layer in report["adjustments"]["connections"].as_array().unwrap() {
        let weights = layer["weights"].as_f64().unwrap();
        let zeros = layer["zeros"][1].as_f64().unwrap();
        // Weights that are evenly spread lie below half their root mean square in √3 / 6 of all cases.
        assert!((zeros / weights - 0.289).abs() < 0.1, "{layer}");
    }
}

/// Cycles that are over leave the network to go on from, and the run ends as if nothing had happened.
#[test]
fn cycles_that_were_stopped_go_on_and_keep_no_more_than_that_takes() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    sums(&folder.join("sums.safetensors"));
    let options = "zoo:calli-sum --nodes activation-count --rule thesis --loss rmse --no-teacher \
                   --data tensors:sums.safetensors --optimizer sgd --rate 0.01 --warm-up 0 --l2 0.001 \
                   --batch 20 --epochs 4 --cycles 4 --distort 1 --patience 4 --threads 1";
    prune(&format!("{options} -o a"), folder);
    let journal = folder.join(".b.partial/course-cycles/journal.json");
    let arguments = format!("prune {options} -o b");
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let mut child = command(&arguments, folder)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !journal.exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be disturbed"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    send("-INT", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let partial = folder.join(".b.partial");
    let kept = listing(&partial);
    assert!(
        !kept
            .iter()
            .any(|name| name == "course-before" || name == "course-cycle-1"),
        "{kept:?}"
    );
    assert!(listing(&partial.join("course-cycles")).len() <= 5);
    let other = format!("{options} -o b").replace("--distort 1", "--distort 2");
    let other = format!("prune {other}");
    refused(
        &other.split(' ').collect::<Vec<_>>(),
        folder,
        2,
        &["cycles", "--restart"],
    );
    let (_, said) = prune(&format!("{options} -o b"), folder);
    assert!(said.contains("going on after cycle"), "{said}");
    let written = |out: &str| {
        let model = rankfold_formats::read_weights(&folder.join(out).join("model.safetensors"));
        let tensors = model.unwrap().tensors;
        tensors
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.bytes().to_vec()))
            .collect::<Vec<_>>()
    };
    assert!(written("a") == written("b"));
    let cycles = |out: &str| report(&folder.join(out))["adjustments"]["nodes"].clone();
    assert_eq!(cycles("a"), cycles("b"));
    let stages = |out: &str| -> Vec<Value> {
        let text = fs::read_to_string(folder.join(out).join("metrics.jsonl")).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["stage"].clone()).collect()
    };
    assert_eq!(stages("a"), stages("b"));
    assert_eq!(listing(folder), ["a", "b", "sums.safetensors"]);
}

/// The places of zeros in the kernels of a folder's model.
fn zeros(folder: &Path) -> Vec<(String, Vec<bool>)> {
    let model = rankfold_formats::read_weights(&folder.join("model.safetensors")).unwrap();
    let kernels = model.tensors.iter();
    let kernels = kernels.filter(|(name, _)| name.contains("conv") || name.contains("fc"));
    let kernels = kernels.filter(|(name, _)| name.ends_with("weight"));
    let zeros = kernels.map(|(name, tensor)| {
        let values = tensor.to_f32().unwrap();
        (name.to_owned(), values.iter().map(|&w| w == 0.0).collect())
    });
    zeros.collect()
}

#[test]
fn pruned_connections_stay_zero_where_the_network_trains_on() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let data = "--data shapes --train-split train[:256] --batch 64 --split test[:32] --threads 1";
    let rule = "--connections --threshold 0.5";
    prune(&format!("zoo:resnet20 {rule} -o sparse"), folder);
    let before = zeros(&folder.join("sparse"));
    let count = |zeros: &[(String, Vec<bool>)]| -> usize {
        let all = zeros.iter().flat_map(|(_, zeros)| zeros);
        all.map(|&zero| usize::from(zero)).sum()
    };
    assert!(count(&before) > 10_000);
    let finetune = |options: &str| {
        let arguments = format!("finetune sparse {data} --epochs 1 --rate 0.01 {options}");
        succeeds(&arguments.split(' ').collect::<Vec<_>>(), folder);
    };
    finetune("-o free");
    assert!(count(&zeros(&folder.join("free"))) < 100);
    finetune("--keep-zeros -o kept");
    assert!(zeros(&folder.join("kept")) == before);
    // Pruning trains behind its zeros, and between its cycles.
    let trained = format!("zoo:resnet20 {rule} {data} --epochs 1 -o trained");
    let (_, said) = prune(&trained, folder);
    assert!(said.contains("error after training"), "{said}");
    assert!(zeros(&folder.join("trained")) == before);
    let report = report(&folder.join("trained"));
    assert_eq!(
        report["adjustments"]["training"]["epochs"].as_u64(),
        Some(1)
    );
    let cycle = format!(
        "sparse {rule} {data} --nodes activation-count --deviations 1 --epochs 1 --cycles 1 \
         --distort 0.1 -o cycle"
    );
    prune(&cycle, folder);
    assert!(count(&zeros(&folder.join("cycle"))) > 5000);
}

#[test]
fn an_exported_model_comes_back_as_one() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    for (name, side) in [("convs", 16), ("attention", 8)] {
        let count = 4 * 3 * side * side;
        let inputs = [("x", &[4, 3, side, side][..], numbers(count))];
        tensor_file(&folder.join("x.safetensors"), &inputs);
        let options = format!(
            "{} --nodes activation-variance --deviations 0 --data tensors:x.safetensors --epochs 0 -o {name}",
            onnx_fixture(&format!("{name}.onnx")).display(),
        );
        prune(&options, folder);
        let report = report(&folder.join(name));
        assert!(report["after"]["parameters"].as_u64() < report["before"]["parameters"].as_u64());
        assert!(folder.join(name).join("model.onnx").exists());
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let refuse = |arguments: &str, code, texts: &[&str]| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        refused(&[&["prune"], &arguments[..]].concat(), folder, code, texts);
    };
    refuse(
        "zoo:lenet5 -o out",
        2,
        &["nothing to prune was named", "hint: give --nodes"],
    );
    let nodes = "zoo:lenet5 --nodes activation-count -o out";
    refuse(nodes, 2, &["training needs data", "--data KIND:PATH"]);
    refuse(&format!("{nodes} --data mnist:nowhere"), 4, &["nowhere"]);
    refuse(&format!("{nodes} --patience 2"), 2, &["--distort"]);
    refuse(&format!("{nodes} --distort=-1"), 2, &["--distort"]);
    let untrained = format!("{nodes} --data mnist:nowhere --epochs 0 --tolerance 0.1");
    refuse(
        &untrained,
        2,
        &["--tolerance is for cycles of training", "hint: leave it"],
    );
    let alone = "zoo:lenet5 --connections --distort 0.1 -o out";
    refuse(
        alone,
        2,
        &["--distort is for cycles of training", "give --nodes"],
    );
    let nothing_learnt_from = "zoo:lenet5 --connections --epochs 2 -o out";
    refuse(
        nothing_learnt_from,
        2,
        &["training needs data", "--data KIND:PATH"],
    );
    refuse(
        &format!("{nodes} --deviations=-1"),
        2,
        &["--deviations to be at least 0"],
    );
    refuse(
        "zoo:lenet5 --connections --threshold=nan -o out",
        2,
        &["--threshold"],
    );
    refuse("zoo:lenet6 --connections -o out", 2, &["lenet5"]);
    let branches = onnx_fixture("branches.onnx");
    let nothing = format!(
        "{} --nodes activation-count --epochs 0 --data shapes -o out",
        branches.display()
    );
    refuse(&nothing, 2, &["no channel of this model can be removed"]);
}
