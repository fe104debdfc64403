//! The main job from end to end, on the built-in data and on real checkpoints.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn rankfold(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rankfold"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {message}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str], folder: &Path) -> Value {
    serde_json::from_str(&rankfold(arguments, folder)).unwrap()
}

/// The real data and checkpoints; a line says so where they are not there.
fn real() -> Option<(String, PathBuf)> {
    let variable = |name: &str| {
        let value = std::env::var(name).ok();
        if value.is_none() {
            eprintln!("skipped: {name} is not set");
        }
        value
    };
    let data = format!("cifar10:{}", variable("RANKFOLD_DATA")?);
    Some((data, PathBuf::from(variable("RANKFOLD_PRETRAINED")?)))
}

#[test]
fn a_compressed_file_is_enough_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let compress = [
        "compress",
        "zoo:resnet20",
        "--params-removed",
        "50%",
        "-o",
        "out",
        "--seed",
        "3",
    ];
    rankfold(&compress, at);
    let report: Value =
        serde_json::from_str(&fs::read_to_string(at.join("out/report.json")).unwrap()).unwrap();
    let small = json(&["inspect", "out", "--json"], at);
    assert_eq!(report["after"]["parameters"], small["parameters"]);
    let parameters = small["parameters"].as_u64().unwrap();
    assert!((130_000..=134_861).contains(&parameters), "{parameters}");
    let again = [
        "compress",
        "out",
        "--params-removed",
        "20%",
        "-o",
        "smaller",
    ];
    rankfold(&again, at);
    let smaller = json(&["inspect", "smaller", "--json"], at);
    assert!(smaller["parameters"].as_u64().unwrap() * 10 <= parameters * 8);
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for out in ["a", "b"] {
        rankfold(&["compress", "zoo:resnet20", "--macs", "2x", "-o", out], at);
    }
    for name in ["plan.toml", "model.py"] {
        let read = |out: &str| fs::read(at.join(out).join(name)).unwrap();
        assert_eq!(read("a"), read("b"), "{name}");
    }
    let weights = |out: &str| {
        json(
            &[
                "compare", "a", out, "--data", "shapes", "--limit", "8", "--json",
            ],
            at,
        )
    };
    assert_eq!(weights("b")["outputs"][0]["relative_error"], 0.0);
}

#[test]
fn a_plan_can_be_made_edited_and_applied() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let plan = [
        "plan",
        "zoo:resnet20",
        "--uniform-rank",
        "conv=10,fc=4",
        "-o",
        "plan.toml",
    ];
    rankfold(&plan, at);
    let text = fs::read_to_string(at.join("plan.toml")).unwrap();
    let edited = text.replacen("rank = 10", "rank = 12", 1);
    assert_ne!(text, edited);
    fs::write(at.join("plan.toml"), edited).unwrap();
    rankfold(
        &[
            "compress",
            "zoo:resnet20",
            "--plan",
            "plan.toml",
            "-o",
            "out",
        ],
        at,
    );
    let layers = json(&["inspect", "out", "--json"], at)["layers"].clone();
    let shape = |name: &str| {
        let found = layers
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["name"] == name);
        found.unwrap()["shape"].clone()
    };
    assert_eq!(shape("conv1.0"), serde_json::json!([12, 3, 3, 3]));
    assert_eq!(shape("layer1.0.conv1.0"), serde_json::json!([10, 16, 1, 1]));
    assert_eq!(shape("linear.0"), serde_json::json!([4, 64]));
}

#[test]
fn published_checkpoints_score_what_they_scored() {
    let Some((data, pretrained)) = real() else {
        return;
    };
    for (file, arch, top1) in [
        ("resnet20-12fca82f.th", "resnet20", 91.73),
        ("resnet32-d509ac18.th", "resnet32", 92.63),
    ] {
        let path = pretrained.join(file);
        let path = path.to_str().unwrap();
        let scores = json(
            &["eval", path, "--arch", arch, "--data", &data, "--json"],
            &pretrained,
        );
        let got = scores["top1"].as_f64().unwrap();
        assert!((got - top1).abs() <= 0.02, "{arch}: {got}");
        assert_eq!(scores["images"], 10_000);
    }
}

#[test]
fn three_quarters_of_resnet20_can_go_without_training() {
    let Some((data, pretrained)) = real() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let model = pretrained.join("resnet20-12fca82f.th");
    let compress = [
        "compress",
        model.to_str().unwrap(),
        "--arch",
        "resnet20",
        "--data",
        &data,
        "--params-removed",
        "75%",
        "-o",
        "out",
    ];
    rankfold(&compress, at);
    let report: Value =
        serde_json::from_str(&fs::read_to_string(at.join("out/report.json")).unwrap()).unwrap();
    let after = &report["after"];
    assert!(after["parameters"].as_u64().unwrap() <= 67_430);
    assert!(after["top1"].as_f64().unwrap() >= 85.0, "{after}");
}
