//! Training by the command line: what it writes, what it goes on from, what it refuses.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    command, in_own_mounts, json, json_file, listing, noise, refused, run, send, succeeds,
};

/// The network that the project ships.
fn shipped() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("models/shapes-resnet20/model.safetensors");
    file.canonicalize().unwrap().display().to_string()
}

const RANKS: &str = "\"layer1.0.conv1\" = 3\n\"layer3.2.conv2\" = 12\n";

/// A compressed network in `folder`, and the arguments that train it for some twenty steps.
fn lesson(folder: &Path) -> Vec<String> {
    fs::write(folder.join("ranks.toml"), RANKS).unwrap();
    let shipped = shipped();
    if !folder.join("small").exists() {
        let arguments = [
            "compress",
            &shipped,
            "--arch",
            "resnet20",
            "--ranks",
            "ranks.toml",
            "-o",
            "small",
        ];
        succeeds(&arguments, folder);
    }
    let arguments = format!(
        "finetune small --teacher {shipped} --teacher-arch resnet20 --data shapes --train-split train[:256] --split test[:64] \
         --epochs 3 --batch 32 --warm-up 4 --keep-every 0 --threads 1 -o out"
    );
    arguments.split(' ').map(str::to_owned).collect()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The lines of a file of metrics.
fn metrics(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_compressed_network_learns_from_its_original_and_all_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let arguments = lesson(at);
    let (said, noted) = succeeds(&borrowed(&arguments), at);
    assert!(said.contains("top-1"), "{said}");
    for text in [
        "before",
        "epoch 3",
        "divergence",
        "was the best on",
        "wrote out",
    ] {
        assert!(noted.contains(text), "expected {text:?} in {noted}");
    }
    let out = at.join("out");
    for name in [
        "model.safetensors",
        "last.safetensors",
        "model.py",
        "metrics.jsonl",
        "report.json",
    ] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let lines = metrics(&out.join("metrics.jsonl"));
    assert_eq!(lines.len(), 4);
    let divergence = |line: &Value| line["mark"]["divergence"].as_f64().unwrap();
    assert!(divergence(&lines[3]) < divergence(&lines[0]), "{lines:?}");
    let report = json_file(&out.join("report.json"));
    let training = &report["adjustments"]["training"];
    let best = training["chosen_epoch"].as_u64().unwrap() as usize;
    let least = lines
        .iter()
        .map(divergence)
        .enumerate()
        .min_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(best, least.unwrap().0);
    assert!(
        training["chosen_on"]
            .as_str()
            .unwrap()
            .contains("not learnt from")
    );
    // Steps that only do harm are told, and not used.
    let mut harmful = borrowed(&arguments);
    harmful.splice(harmful.len() - 1.., ["harmed", "--rate", "0.5"]);
    let (_, noted) = succeeds(&harmful, at);
    assert!(noted.contains("a lower --rate"), "{noted}");
    let report = json_file(&at.join("harmed/report.json"));
    assert_eq!(report["adjustments"]["training"]["chosen_epoch"], 0);
    // It is a model like any other, and still knows how it was compressed.
    succeeds(&["inspect", "out"], at);
    let again: Vec<&str> = [
        "finetune",
        "out",
        "--data",
        "shapes",
        "--train-split",
        "train[:64]",
    ]
    .into_iter()
    .chain([
        "--epochs", "1", "--batch", "16", "--freeze", "others", "-o", "again",
    ])
    .collect();
    succeeds(&again, at);
}

/// The files in a folder with what is in them, but for the report, which tells the time.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = listing(folder).into_iter();
    let weights = names.filter(|name| name.ends_with(".safetensors"));
    weights
        .map(|name| (name.clone(), fs::read(folder.join(name)).unwrap()))
        .collect()
}

/// What a run leaves, but for the report, which tells the time.
fn ended(folder: &Path) -> (Vec<(String, Vec<u8>)>, usize) {
    let out = folder.join("out");
    let epochs = metrics(&out.join("metrics.jsonl")).len();
    assert_eq!(listing(folder), ["out", "ranks.toml", "small"]);
    (contents(&out), epochs)
}

#[test]
fn a_run_killed_ten_times_ends_with_the_bits_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let arguments = lesson(at);
    let began = Instant::now();
    succeeds(&borrowed(&arguments), at);
    let whole = began.elapsed();
    let expected = ended(at);
    assert_eq!(expected.0.len(), 2);
    fs::remove_dir_all(at.join("out")).unwrap();
    let mut moment = u64::from(std::process::id());
    let (mut killed, mut finished) = (0, 0);
    while killed < 10 || finished == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(400),
            "killed {killed} times"
        );
        moment = moment
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let share = (moment >> 40) as f64 / (1u64 << 24) as f64;
        let mut child = command(&borrowed(&arguments), at)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let patience = match killed < 10 {
            true => whole.mul_f64(0.1 + 0.6 * share),
            false => Duration::from_secs(200),
        };
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() && start.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_none() {
            send("-KILL", &child);
        }
        let output = child.wait_with_output().unwrap();
        let code = output.status.code();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(code, None | Some(0)),
            "it failed with {code:?} after {killed} kills: {message}"
        );
        killed += usize::from(code.is_none());
        // A kill may come after the work was done.
        let done = at.join("out").exists();
        assert!(done || code.is_none(), "nothing was written: {message}");
        if done {
            finished += 1;
            assert!(
                ended(at) == expected,
                "the weights differ after {killed} kills"
            );
            fs::remove_dir_all(at.join("out")).unwrap();
        }
    }
    eprintln!("killed {killed} times, finished {finished} times, undisturbed in {whole:.1?}");
}

/// Starts a training and waits until it has written a checkpoint.
fn interrupted(at: &Path) -> PathBuf {
    let mut child = command(&borrowed(&lesson(at)), at)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let state = at.join(".out.partial/course-model/state.safetensors");
    let start = Instant::now();
    while !state.exists() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before it could be interrupted");
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    send("-INT", &child);
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("interrupted"), "{message}");
    assert!(message.contains("goes on from it"), "{message}");
    state
}

#[test]
fn an_interrupted_run_is_gone_on_with_by_the_same_options_only() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let state = interrupted(at);
    let kept = fs::read(&state).unwrap();
    let own = lesson(at);
    let mut other = own.clone();
    other.extend(["--rate".to_owned(), "0.005".to_owned()]);
    let output = run(&borrowed(&other), at);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for text in ["recipe", "rate: 0.005", "rate: 0.002", "--restart"] {
        assert!(message.contains(text), "expected {text:?} in {message}");
    }
    assert!(
        fs::read(&state).unwrap() == kept,
        "the checkpoint was touched"
    );
    other.push("--restart".to_owned());
    let (_, said) = succeeds(&borrowed(&other), at);
    assert!(!said.contains("going on"), "{said}");
}

#[test]
fn a_disk_that_fills_up_leaves_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut arguments = lesson(at);
    arguments.pop();
    arguments.push("disk/out".to_owned());
    fs::create_dir(at.join("disk")).unwrap();
    let command = arguments.join(" ");
    // The network and one checkpoint fit, a second beside the first does not.
    let script = format!(
        r#"
        mount -t tmpfs -o size=7m none disk
        run() {{ "$0" {command} 2>&1; }}
        code=0; run > first || code=$?
        find disk -type f | sort > left
        mount -o remount,size=64m disk
        run > second
        find disk -type f | sort > done
        exit $code"#
    );
    let Some(code) = in_own_mounts(&script, at) else {
        eprintln!("skipped: nothing can be mounted here, and so no disk be filled");
        return;
    };
    let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
    assert_eq!(code, 1, "{}", read("first"));
    assert!(
        read("first").contains("No space left on device"),
        "{}",
        read("first")
    );
    let left = read("left");
    assert!(left.contains("course-model/state.safetensors"), "{left}");
    assert!(!left.contains(".part\n"), "{left}");
    assert!(
        read("second").contains("wrote disk/out"),
        "{}",
        read("second")
    );
    assert!(!read("done").contains("partial"), "{}", read("done"));
}

#[test]
fn compress_trains_stage_by_stage_and_beside_it_a_control() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("ranks.toml"), format!("{RANKS}\"linear\" = 4\n")).unwrap();
    let shipped = shipped();
    let arguments = format!(
        "compress {shipped} --arch resnet20 --ranks ranks.toml --data shapes --calibrate 64 --split test[:64] \
         --finetune hybrid --group 2 --epochs 1 --batch 32 --train-split train[:256] --control -o out"
    );
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let (_, noted) = succeeds(&arguments, at);
    for text in [
        "stage 1 of 2",
        "stage 2 of 2: linear",
        "control: the original after 2 epochs",
    ] {
        assert!(noted.contains(text), "expected {text:?} in {noted}");
    }
    let lines = metrics(&at.join("out/metrics.jsonl"));
    let count = |network: &str| {
        lines
            .iter()
            .filter(|line| line["network"] == network)
            .count()
    };
    assert_eq!((count("compressed"), count("control")), (4, 3));
    let report = json_file(&at.join("out/report.json"));
    let training = &report["adjustments"]["training"];
    assert_eq!(training["stages"].as_array().unwrap().len(), 2);
    assert!(training["control"]["top1"].is_number());
}

#[test]
fn a_network_of_the_zoo_is_trained_from_scratch() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let arguments = "train resnet20 --data shapes --train-split train[:512] --split test[:200] --epochs 2 \
                     --batch 32 --rate 0.05 -o out";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let (_, noted) = succeeds(&arguments, at);
    assert!(noted.contains("epoch 2"), "{noted}");
    let lines = metrics(&at.join("out/metrics.jsonl"));
    let loss = |i: usize| lines[i]["loss"].as_f64().unwrap();
    assert!(loss(2) < loss(1), "{lines:?}");
    succeeds(
        &["eval", "out", "--data", "shapes", "--split", "test[:64]"],
        at,
    );
}

#[test]
fn light_layers_are_as_wide_as_their_parameters_allow() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let arguments = "train lightlayers-cifar10 --recipe lightlayers --data shapes --train-split train[:256] \
                     --split test[:64] --batch 32 --augment none --epochs 1 --num-classes 10 \
                     --k auto --parameters 13300 -o out";
    let (_, noted) = succeeds(&arguments.split_whitespace().collect::<Vec<_>>(), at);
    // Jha et al. (2020), Table 3.
    assert!(
        noted.contains("k = 3: 13247 parameters of at most 13300"),
        "{noted}"
    );
    let inspected = json(&["inspect", "out", "--json"], at);
    assert_eq!(inspected["parameters_with_buffers"], 13_247);
    let rate = &metrics(&at.join("out/metrics.jsonl"))[1]["rate"];
    assert_eq!(rate.as_f64(), Some(1e-4));
    let few = arguments
        .replace("13300", "5000")
        .replace("-o out", "-o few");
    refused(
        &few.split_whitespace().collect::<Vec<_>>(),
        at,
        5,
        &["5937 parameters", "--k 1"],
    );
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let shipped = shipped();
    let refuse = |arguments: &str, texts: &[&str]| {
        let arguments = arguments.replace("MODEL", &format!("{shipped} --arch resnet20"));
        let arguments: Vec<&str> = arguments.split(' ').collect();
        refused(&arguments, at, 2, texts);
    };
    refuse("finetune MODEL -o out", &["training needs data", "--data"]);
    refuse(
        "finetune zoo:resnet20 --num-classes 3 --data shapes -o out",
        &["classes", "3"],
    );
    refuse(
        "finetune MODEL --data shapes --train-split train[:100] --batch 128 -o out",
        &["128", "95", "--batch"],
    );
    refuse(
        "finetune MODEL --data shapes --choose test[:100] --split test[50:200] -o out",
        &["test[:100]", "test[50:200]", "reported on", "hint:"],
    );
    refuse(
        "finetune MODEL --data shapes --choose train[:100] -o out",
        &["train[:100]", "learnt from"],
    );
    refuse(
        "finetune MODEL --data shapes --momentum 0.9 -o out",
        &["--momentum", "sgd"],
    );
    refuse(
        "finetune MODEL --data shapes --epochs 0 -o out",
        &["epoch", "0"],
    );
    refuse(
        "finetune MODEL --data shapes --mix 2 -o out",
        &["--mix", "2"],
    );
    refuse(
        "finetune MODEL --data shapes --schedule steps:0:1 -o out",
        &["--schedule", "epoch"],
    );
    refuse("train resnet20 -o out", &["needs data"]);
    refuse(
        "train lightlayers-cifar10 --data shapes --k auto -o out",
        &["--k auto", "--parameters"],
    );
    refuse(
        "train lightlayers-cifar10 --data shapes --k wide -o out",
        &["--k", "a width, or auto"],
    );
    refuse(
        "train resnet21 --data shapes -o out",
        &["resnet21", "hint:"],
    );
    refuse(
        "compress MODEL --params-removed 50% --finetune oneshot -o out",
        &["training needs data"],
    );
}

#[test]
fn unlabelled_inputs_are_enough_with_a_teacher_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    noise(&at.join("noise.safetensors"), 48, &[]);
    lesson(at);
    let shipped = shipped();
    let taught = format!(
        "finetune small --teacher {shipped} --teacher-arch resnet20 --data tensors:noise.safetensors --epochs 1 --batch 8 -o out"
    );
    succeeds(&taught.split(' ').collect::<Vec<_>>(), at);
    let lines = metrics(&at.join("out/metrics.jsonl"));
    assert!(lines[1]["mark"]["divergence"].is_number() && lines[1]["mark"]["correct"].is_null());
    let alone = "finetune small --data tensors:noise.safetensors --epochs 1 --batch 8 -o other";
    refused(
        &alone.split(' ').collect::<Vec<_>>(),
        at,
        2,
        &["labels", "teacher"],
    );
}
