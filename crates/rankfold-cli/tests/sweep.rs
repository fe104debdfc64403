//! Sweeps: disturbed, shared out, damaged, and what is chosen by them.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use support::{command, json, json_file, noise, refused, succeeds};

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../models/shapes-resnet20/model.safetensors"
);

/// A sweep of four layers in three forms, of few inputs.
const SMALL: [&str; 18] = [
    "sweep",
    MODEL,
    "--arch",
    "resnet20",
    "--data",
    "shapes",
    "--only",
    "layer3.[12].conv2,layer3.0.conv1,linear",
    "--forms",
    "cp3,spatial,tucker2",
    "--ranks-per-form",
    "3",
    "--images",
    "96",
    "--calibrate",
    "96",
    "--device",
    "cpu",
];

/// The cells of three layers at three ranks of three forms, and of the linear one at three.
const CELLS: usize = 30;

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], more].concat()
}

/// The small sweep, undisturbed.
fn undisturbed() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        succeeds(&small(&["-o", "all"]), folder.path());
        folder
    });
    folder.path()
}

/// A copy of the undisturbed sweep in a folder of its own.
fn copied() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let sweep = folder.path().join("sweep");
    fs::create_dir(&sweep).unwrap();
    for name in ["sweep.json", "cells.jsonl"] {
        fs::copy(undisturbed().join("all").join(name), sweep.join(name)).unwrap();
    }
    (folder, sweep)
}

/// The cells of a folder without the time that they took; every line must be whole.
fn cells(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("cells.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let cell = |line: &str| {
        let mut cell: Value = serde_json::from_str(line).unwrap();
        assert!(cell.as_object_mut().unwrap().remove("seconds").is_some());
        cell.to_string()
    };
    text.lines().map(cell).collect()
}

/// The same as a set, in which no cell may be missing or twice.
fn all_cells(folder: &Path) -> BTreeSet<String> {
    let lines = cells(folder);
    let set: BTreeSet<String> = lines.iter().cloned().collect();
    assert_eq!((lines.len(), set.len()), (CELLS, CELLS));
    set
}

/// A folder must have the cells of the undisturbed sweep, to the last digit.
fn assert_undisturbed(folder: &Path) {
    let (own, other) = (all_cells(folder), all_cells(&undisturbed().join("all")));
    let different: Vec<_> = own.symmetric_difference(&other).collect();
    assert!(different.is_empty(), "{different:#?}");
}

/// A number below `most` that is another one in every run.
fn random(most: u32) -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().subsec_nanos() / 64 % most
}

#[test]
fn a_sweep_killed_ten_times_equals_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = folder.path().join("sweep");
    let lines =
        || fs::read(sweep.join("cells.jsonl")).map_or(0, |b| b.split(|&b| b == b'\n').count());
    let mut killed = 0;
    for _ in 0..10 {
        let before = lines();
        let arguments = small(&["-o", "sweep", "--jobs", "1"]);
        let mut child = command(&arguments, folder.path())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Some are killed at the very start, most once a cell is there.
        let start = Instant::now();
        let wait = match random(4) {
            0 => Duration::from_millis(random(400).into()),
            _ => Duration::from_secs(120),
        };
        while lines() == before && start.elapsed() < wait && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(random(20).into()));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed >= 5, "{killed} of 10 runs were killed");
    succeeds(&small(&["-o", "sweep"]), folder.path());
    assert_undisturbed(&sweep);
}

#[test]
fn four_shards_merged_equal_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut parts = Vec::new();
    for number in 1..=4 {
        let (shard, part) = (format!("{number}/4"), format!("part{number}"));
        succeeds(&small(&["-o", &part, "--shard", &shard]), at);
        parts.push(cells(&at.join(&part)).len());
    }
    assert_eq!(parts.iter().sum::<usize>(), CELLS, "{parts:?}");
    assert!(parts.iter().all(|&part| part >= 3), "{parts:?}");
    let (_, said) = succeeds(&["sweep", "--merge", "part1", "part3", "-o", "half"], at);
    assert!(said.contains(&format!("of {CELLS} cells")), "{said}");
    let unfinished = [
        "plan",
        MODEL,
        "--arch",
        "resnet20",
        "--params-removed",
        "5%",
    ];
    let unfinished = [&unfinished[..], &["--sweep", "half"]].concat();
    refused(
        &unfinished,
        at,
        2,
        &["not finished", "of 30 cells", "--merge"],
    );
    let merge = [
        "sweep", "--merge", "part4", "part2", "part1", "part3", "-o", "all",
    ];
    let (_, said) = succeeds(&merge, at);
    assert!(said.contains(&format!("{CELLS} cells")), "{said}");
    assert_undisturbed(&at.join("all"));
    refused(&merge, at, 2, &["all", "exists"]);
}

#[test]
fn a_line_cut_off_is_noticed_and_measured_again() {
    let (folder, sweep) = copied();
    let path = sweep.join("cells.jsonl");
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|&b| b == b'\n')
        .unwrap();
    for cut in [whole.len() - 1, whole.len() - 40, last + 2] {
        fs::write(&path, &whole[..cut]).unwrap();
        let (_, said) = succeeds(&small(&["-o", "sweep"]), folder.path());
        assert!(
            said.contains("cut off") && said.contains("cells.jsonl"),
            "{said}"
        );
        assert_undisturbed(&sweep);
    }
    // Nothing is left to do, and nothing is said of lines.
    let (_, said) = succeeds(&small(&["-o", "sweep"]), folder.path());
    assert!(!said.contains("cut off"), "{said}");
}

#[test]
fn folders_of_something_else_are_refused() {
    let (folder, sweep) = copied();
    let at = folder.path();
    let other_images = [&small(&["-o", "sweep"])[..], &["--split", "test"]].concat();
    refused(
        &other_images,
        at,
        2,
        &["another sweep", "its data", "test", "--images"],
    );
    let other_seed = small(&["-o", "sweep", "--seed", "7"]);
    refused(&other_seed, at, 2, &["another sweep", "hint:"]);
    let mut other_model = small(&["-o", "sweep"]);
    other_model[1] = "zoo:resnet20";
    other_model.drain(2..4);
    refused(
        &other_model,
        at,
        2,
        &["another sweep", "its model", "shapes-resnet20"],
    );
    fs::create_dir(at.join("other")).unwrap();
    fs::write(at.join("other/notes.txt"), "mine").unwrap();
    refused(
        &small(&["-o", "other"]),
        at,
        2,
        &["other", "other things than a sweep"],
    );
    refused(
        &["sweep", "--merge", "sweep", "absent", "-o", "all"],
        at,
        4,
        &["absent", "no sweep"],
    );
    fs::rename(sweep.join("sweep.json"), at.join("sweep.json")).unwrap();
    let text = fs::read_to_string(at.join("sweep.json")).unwrap();
    fs::write(
        sweep.join("sweep.json"),
        text.replace("\"seed\": 0", "\"seed\": 1"),
    )
    .unwrap();
    let all = undisturbed().join("all");
    let all = all.to_str().unwrap();
    refused(
        &["sweep", "--merge", all, "sweep", "-o", "both"],
        at,
        2,
        &["its seed: 1"],
    );
    fs::write(
        sweep.join("sweep.json"),
        text.replace("\"version\": 1", "\"version\": 9"),
    )
    .unwrap();
    refused(
        &small(&["-o", "sweep"]),
        at,
        3,
        &["sweep.json", "found version 9"],
    );
    fs::write(sweep.join("sweep.json"), &text[..text.len() / 2]).unwrap();
    refused(&small(&["-o", "sweep"]), at, 3, &["sweep.json"]);
}

#[test]
fn damaged_cells_are_told_by_line() {
    let (folder, sweep) = copied();
    let at = folder.path();
    let path = sweep.join("cells.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"kl\":", "\"k\":", 1)).unwrap();
    refused(
        &small(&["-o", "sweep"]),
        at,
        3,
        &["cells.jsonl, line 1", "hint:"],
    );
    fs::write(&path, text.replacen("layer3.", "layer9.", 1)).unwrap();
    refused(
        &small(&["-o", "sweep"]),
        at,
        3,
        &["line 1", "layer9.", "no cell"],
    );
}

#[test]
fn command_lines_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    refused(
        &["sweep", MODEL, "--arch", "resnet20", "-o", "s"],
        at,
        2,
        &["data"],
    );
    refused(&["sweep", "-o", "s"], at, 2, &["MODEL"]);
    refused(
        &small(&["-o", "s", "--shard", "5/4"]),
        at,
        2,
        &["5/4", "3/16"],
    );
    refused(
        &small(&["-o", "s", "--only", "nothing"]),
        at,
        2,
        &["nothing"],
    );
    let paper = small(&["-o", "s", "--protocol", "paper"]);
    refused(&paper, at, 2, &["one form a layer", "--forms"]);
    let few = [
        "sweep",
        "zoo:resnet20",
        "--num-classes",
        "5",
        "--data",
        "shapes",
        "-o",
        "s",
    ];
    refused(&few, at, 2, &["10 classes", "5 apart"]);
    let globs = [
        "sweep", MODEL, "--arch", "resnet20", "--data", "shapes", "--only", "x*", "-o", "s",
    ];
    refused(&globs, at, 2, &["x*"]);
    let plan = |more: &[&'static str]| [&["plan", MODEL, "--arch", "resnet20"], more].concat();
    let curves = plan(&["--params-removed", "50%", "--select", "curves"]);
    refused(&curves, at, 2, &["needs a sweep", "rankfold sweep"]);
    let response = [
        "--params-removed",
        "50%",
        "--select",
        "response",
        "--sweep",
        "s",
    ];
    refused(&plan(&response), at, 2, &["response does not read a sweep"]);
    refused(
        &plan(&["--average-rank", "conv=9"]),
        at,
        2,
        &["loses", "--losses"],
    );
    refused(
        &plan(&["--average-rank", "conv=0"]),
        at,
        2,
        &["conv=R,fc=R"],
    );
    refused(
        &plan(&["--max-drop", "1", "--sweep", "s"]),
        at,
        4,
        &["s holds no sweep"],
    );
    fs::write(at.join("l.toml"), "\"layer1.0.conv9\" = 1.0\n").unwrap();
    let losses = plan(&["--average-rank", "conv=9", "--losses", "l.toml"]);
    refused(&losses, at, 2, &["layer1.0.conv9", "nearest"]);
    fs::write(at.join("l.toml"), "\"layer1.0.conv1\" = nan\n").unwrap();
    refused(&losses, at, 2, &["layer1.0.conv1", "NaN"]);
    fs::write(at.join("l.toml"), "\"layer1.0.conv1\" = \"much\"\n").unwrap();
    refused(&losses, at, 3, &["l.toml"]);
}

#[test]
fn sweeps_of_other_models_choose_no_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let all = undisturbed().join("all");
    let sweep = all.to_str().unwrap();
    let budget = ["--params-removed", "5%", "--sweep", sweep];
    let other = [&["plan", "zoo:resnet32"], &budget[..]].concat();
    refused(&other, folder.path(), 2, &["the sweep is of", "resnet32"]);
    let own = [
        "plan",
        MODEL,
        "--arch",
        "resnet20",
        "--select",
        "sensitivity",
    ];
    let own = [&own[..], &budget].concat();
    refused(&own, folder.path(), 2, &["`paper`", "`curves`"]);
}

#[test]
fn losses_in_a_file_share_out_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let losses = "\"layer1.0.conv1\" = 1.0\n\"layer2.0.conv2\" = 3.0\n\"linear\" = 2.0\n";
    fs::write(at.join("l.toml"), losses).unwrap();
    let plan = ["plan", MODEL, "--arch", "resnet20", "--losses", "l.toml"];
    let plan = [&plan[..], &["--average-rank", "conv=8,fc=5"]].concat();
    let (text, _) = succeeds(&plan, at);
    let plan: toml::Value = toml::from_str(&text).unwrap();
    let ranks: Vec<(&str, &str, i64)> = (plan["layer"].as_array().unwrap().iter())
        .filter_map(|layer| {
            let rank = layer.get("rank")?.as_integer()?;
            Some((layer["name"].as_str()?, layer["form"].as_str()?, rank))
        })
        .collect();
    let expected = [
        ("layer1.0.conv1", "cp3", 4),
        ("layer2.0.conv2", "cp3", 12),
        ("linear", "svd", 5),
    ];
    assert_eq!(ranks, expected);
}

/// A sweep of the whole network in a form that is quickly made.
fn whole() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let sweep = ["sweep", MODEL, "--arch", "resnet20", "--data", "shapes"];
        let how = [
            "--forms",
            "spatial",
            "--images",
            "96",
            "--calibrate",
            "96",
            "-o",
            "whole",
        ];
        succeeds(&[&sweep[..], &how].concat(), folder.path());
        folder
    });
    folder.path()
}

#[test]
fn curves_of_a_sweep_meet_budgets_and_say_what_to_expect() {
    let sweep = whole().join("whole");
    let sweep = sweep.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for select in ["curves", "greedy"] {
        for by in ["kl", "accuracy"] {
            let plan = [
                "plan",
                MODEL,
                "--arch",
                "resnet20",
                "--params-removed",
                "40%",
            ];
            let how = ["--sweep", sweep, "--select", select, "--by", by];
            let (text, said) = succeeds(&[&plan[..], &how].concat(), folder.path());
            assert!(said.contains("expected by the sweep: divergence"), "{said}");
            let plan: toml::Value = toml::from_str(&text).unwrap();
            let layers = plan["layer"].as_array().unwrap();
            let sum = |place: usize| -> i64 {
                let of = |layer: &toml::Value| layer["parameters"][place].as_integer().unwrap();
                layers.iter().map(of).sum()
            };
            let removed = (sum(0) - sum(1)) as f64 / 269_722.0;
            assert!((0.40..0.43).contains(&removed), "{select} {by}: {removed}");
        }
    }
}

#[test]
fn a_largest_drop_is_verified_on_other_images() {
    let sweep = whole().join("whole");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let compress = ["compress", MODEL, "--arch", "resnet20", "--data", "shapes"];
    let how = [
        "--sweep",
        sweep.to_str().unwrap(),
        "--max-drop",
        "2",
        "--calibrate",
        "96",
    ];
    let rest = ["--split", "test[:100]", "-o", "small"];
    let (_, said) = succeeds(&[&compress[..], &how, &rest].concat(), at);
    assert!(
        said.contains("verified:") && said.contains("5000 inputs of train"),
        "{said}"
    );
    let report = json_file(&at.join("small/report.json"));
    let tries = report["adjustments"]["verified"]["tries"]
        .as_array()
        .unwrap()
        .clone();
    let drops: Vec<f64> = tries.iter().map(|t| t["drop"].as_f64().unwrap()).collect();
    let (last, before) = drops.split_last().unwrap();
    assert!(
        *last <= 2.0 && before.iter().all(|drop| *drop > 2.0),
        "{drops:?}"
    );
    let parameters = |side: &str| report[side]["parameters"].as_u64().unwrap();
    assert!(parameters("after") < parameters("before"));
    // Measured from outside, on the whole training set, it is about the same.
    let accuracy = |model: &[&str]| {
        let eval = [
            "--data", "shapes", "--split", "train", "--limit", "5000", "--json",
        ];
        json(&[&["eval"], model, &eval].concat(), at)["top1"]
            .as_f64()
            .unwrap()
    };
    let lost = accuracy(&[MODEL, "--arch", "resnet20"]) - accuracy(&["small"]);
    assert!((lost - last).abs() < 1.5, "{lost} and {last}");
}

#[test]
fn the_papers_protocol_measures_one_trained_cell_a_layer() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let sweep = [
        "sweep",
        MODEL,
        "--arch",
        "resnet20",
        "--data",
        "shapes",
        "--protocol",
        "paper",
    ];
    let how = [
        "--only",
        "layer3.2.conv2,linear",
        "--probe-rank",
        "4",
        "--images",
        "96",
    ];
    let inputs = ["--calibrate", "96", "--calibrate-split", "train[:256]"];
    let measured = |epochs: &str, folder: &str| {
        let rest = ["--epochs", epochs, "-o", folder];
        succeeds(&[&sweep[..], &how, &inputs, &rest].concat(), at);
        let text = fs::read_to_string(at.join(folder).join("cells.jsonl")).unwrap();
        let mut cells: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        cells.sort_by_key(|cell| cell["layer"].to_string());
        let at_rank: Vec<(&str, &str, u64)> = (cells.iter())
            .map(|c| {
                (
                    c["layer"].as_str().unwrap(),
                    c["form"].as_str().unwrap(),
                    c["rank"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            at_rank,
            [("layer3.2.conv2", "cp3", 4), ("linear", "svd", 4)]
        );
        cells
            .iter()
            .map(|cell| cell["kl"].as_f64().unwrap())
            .sum::<f64>()
    };
    let (untrained, trained) = (measured("0", "untrained"), measured("2", "trained"));
    assert!(trained < untrained, "{trained} and {untrained}");
    let other = [
        &sweep[..],
        &how,
        &inputs,
        &["--epochs", "1", "-o", "trained"],
    ]
    .concat();
    refused(&other, at, 2, &["another sweep", "2 epochs", "1 epochs"]);
    let plan = ["plan", MODEL, "--arch", "resnet20", "--sweep", "trained"];
    let shared = ["--select", "sensitivity", "--average-rank", "conv=8,fc=4"];
    let (text, _) = succeeds(&[&plan[..], &shared].concat(), at);
    let planned: toml::Value = toml::from_str(&text).unwrap();
    let ranks: Vec<i64> = (planned["layer"].as_array().unwrap().iter())
        .filter_map(|layer| layer.get("rank")?.as_integer())
        .collect();
    assert_eq!(ranks, [8, 4]);
    let curves = [&plan[..], &["--select", "curves", "--params-removed", "5%"]].concat();
    refused(&curves, at, 2, &["`curves`", "`paper`"]);
}

#[test]
fn without_labels_the_divergence_chooses() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    noise(&at.join("x.safetensors"), 200, &[]);
    let sweep = [
        "sweep",
        MODEL,
        "--arch",
        "resnet20",
        "--data",
        "tensors:x.safetensors",
    ];
    let how = [
        "--only",
        "layer3.2.conv2,layer3.1.conv2",
        "--forms",
        "cp3",
        "-o",
        "blind",
    ];
    let few = ["--images", "64", "--calibrate", "96"];
    let (said, _) = succeeds(&[&sweep[..], &how, &few].concat(), at);
    assert!(!said.contains("original:"), "{said}");
    for cell in cells(&at.join("blind")) {
        let cell: Value = serde_json::from_str(&cell).unwrap();
        assert!(
            cell["accuracy"].is_null() && cell["changed"].is_null(),
            "{cell}"
        );
        assert!(cell["kl"].as_f64().unwrap() > 0.0, "{cell}");
    }
    let plan = ["plan", MODEL, "--arch", "resnet20", "--sweep", "blind"];
    let with = |more: &[&'static str]| [&plan[..], more].concat();
    let (_, said) = succeeds(&with(&["--params-removed", "15%"]), at);
    assert!(
        said.contains("divergence") && !said.contains("accuracy"),
        "{said}"
    );
    let by = with(&["--params-removed", "15%", "--by", "accuracy"]);
    refused(&by, at, 2, &["without labels", "hint:"]);
    refused(&with(&["--max-drop", "1"]), at, 2, &["without labels"]);
}
