//! Several steps on one model: `compress --steps`.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rankfold_formats::read_weights;
use serde_json::Value;
use support::{command, json_file, listing, refused, run, send, succeeds};
use tempfile::tempdir;

fn rankfold(arguments: &str, folder: &Path) -> (String, String) {
    succeeds(&arguments.split(' ').collect::<Vec<_>>(), folder)
}

/// The weights that are in a folder's model, as they are stored.
fn stored(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let model = read_weights(&folder.join("model.safetensors")).unwrap();
    let tensors = model.tensors.iter();
    tensors
        .map(|(name, tensor)| (name.to_owned(), tensor.bytes().to_vec()))
        .collect()
}

#[test]
fn one_run_prunes_clusters_factorizes_and_quantizes() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    let options = "compress zoo:resnet20 --steps prune-connections=0.5,cluster=decimals:2,factorize,quantize \
                   --mse 0.004 --forms channel,svd --data shapes --calibrate 128 --split test[:64] -o out";
    let (table, said) = rankfold(options, at);
    for word in ["prune-connections", "what it did", "layers decomposed"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(said.contains("factorize computes new weights"), "{said}");
    let report = json_file(&at.join("out/report.json"));
    let steps = report["steps"].as_array().unwrap();
    let names: Vec<&str> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["prune-connections", "cluster", "factorize", "quantize"]
    );
    let bytes = |i: usize| steps[i]["bytes"].as_u64().unwrap();
    assert!(bytes(1) < bytes(0) && bytes(3) < bytes(2), "{steps:?}");
    assert_eq!(report["after"]["bytes"], steps[3]["bytes"]);
    assert!(steps.iter().all(|step| step["top1"].is_f64()), "{steps:?}");
    for key in ["connections", "clustered", "quantized", "divergence"] {
        assert!(!report["adjustments"][key].is_null(), "{key}");
    }
    let page = fs::read_to_string(at.join("out/report.html")).unwrap();
    assert!(page.contains("Step by step") && page.contains("prune-connections"));
    assert_eq!(listing(at), ["out"]);
    rankfold("eval out --data shapes --split test[:32]", at);
}

#[test]
fn a_step_does_what_the_command_of_its_own_does() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    rankfold("prune zoo:lenet5 --connections --threshold 0.5 -o a1", at);
    rankfold("cluster a1 --book 8 -o a2", at);
    let steps = "--steps prune-connections=0.5,cluster=8";
    rankfold(&format!("compress zoo:lenet5 {steps} -o a"), at);
    assert!(stored(&at.join("a")) == stored(&at.join("a2")));
    let report = json_file(&at.join("a/report.json"));
    let own = json_file(&at.join("a2/report.json"));
    assert_eq!(
        report["adjustments"]["clustered"],
        own["adjustments"]["clustered"]
    );
    let row = &own["steps"].as_array().unwrap()[0];
    assert_eq!(row["did"], report["steps"][1]["did"], "{row}");

    rankfold("compress zoo:lenet5 --params-removed 50% -o b1", at);
    rankfold("quantize b1 --weights-only -o b2", at);
    let steps = "--steps factorize,quantize=weights-only";
    rankfold(
        &format!("compress zoo:lenet5 --params-removed 50% {steps} -o b"),
        at,
    );
    assert!(stored(&at.join("b")) == stored(&at.join("b2")));
    let plain: Value = json_file(&at.join("b1/report.json"));
    assert!(plain["steps"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn steps_that_do_not_go_together_are_refused() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    let model = ["compress", "zoo:lenet5", "-o", "out"];
    let budget = ["--params-removed", "50%"];
    let refuse = |more: &[&str], texts: &[&str]| {
        refused(&[&model[..], more].concat(), at, 2, texts);
    };
    let order = |steps: &'static str| ["--steps", steps, budget[0], budget[1]];
    refuse(
        &order("quantize=weights-only,factorize"),
        &["lose their 8 bits", "put `quantize` last"],
    );
    refuse(
        &order("cluster,prune-connections,factorize"),
        &["code book", "before `cluster`"],
    );
    refuse(&order("factorize,factorize"), &["there already"]);
    refuse(
        &order("factorise"),
        &["factorise", "expected prune-connections"],
    );
    refuse(
        &order("prune-connections=-1,factorize"),
        &["threshold of at least 0"],
    );
    refuse(&order("cluster=1,factorize"), &["2 to 256 values"]);
    refuse(&order("factorize=2"), &["the budget says how far"]);
    refuse(&order("cluster"), &["a budget is for the step `factorize`"]);
    refuse(
        &["--steps", "cluster", "--finetune", "oneshot"],
        &["--finetune is for the step"],
    );
    refuse(&["--steps", "factorize"], &["no budget was given"]);
    refuse(
        &order("factorize,quantize"),
        &["needs data", "quantize=weights-only"],
    );
}

/// Ctrl-C in the middle of `cluster`, `quantize` and several steps: 130, and nothing is left.
#[test]
fn interrupted_steps_leave_nothing_behind() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    for arguments in [
        "cluster zoo:resnet18 --book 256 -o out",
        "quantize zoo:resnet20 --data shapes --calibrate 2048 -o out",
        "compress zoo:resnet18 --steps prune-connections,cluster=256 -o out",
        "prune zoo:resnet20 --connections --data shapes --epochs 50 -o out",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let child = command(&arguments, at)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !at.join(".out.partial").exists() {
            assert!(start.elapsed() < Duration::from_secs(120), "{arguments:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        send("-INT", &child);
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{arguments:?}: {message}");
        assert!(!at.join("out").exists(), "{arguments:?}");
        // A training leaves the checkpoint to go on from; the others leave nothing.
        if arguments[0] != "prune" {
            assert!(listing(at).is_empty(), "{arguments:?}: {:?}", listing(at));
        }
        let _ = fs::remove_dir_all(at.join(".out.partial"));
    }
    assert!(
        run(&["cluster", "zoo:lenet5", "-o", "out"], at)
            .status
            .success()
    );
}
