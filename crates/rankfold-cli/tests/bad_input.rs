//! Bad input is normal input: a clear message, the right exit code, nothing written.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{command, noise, refused, run as rankfold, succeeds};

/// A resnet20 checkpoint written by the tool itself.
fn checkpoint(folder: &Path) {
    let arguments = [
        "compress",
        "zoo:resnet20",
        "--ranks",
        "ranks.toml",
        "-o",
        "small",
    ];
    fs::write(folder.join("ranks.toml"), "\"layer1.0.conv1\" = 8\n").unwrap();
    let output = rankfold(&arguments, folder);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    checkpoint(at);
    let whole = fs::read(at.join("small/model.safetensors")).unwrap();
    fs::write(at.join("cut.safetensors"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at.join("empty.pth"), b"").unwrap();
    fs::create_dir(at.join("folder")).unwrap();
    // Protocol 2: GLOBAL os system, then STOP.
    fs::write(at.join("evil.pth"), b"\x80\x02cos\nsystem\nq\x00.").unwrap();
    refused(&["inspect", "cut.safetensors"], at, 3, &["cut.safetensors"]);
    refused(&["inspect", "empty.pth"], at, 3, &["empty.pth", "empty"]);
    refused(&["inspect", "folder"], at, 3, &["folder"]);
    refused(&["inspect", "evil.pth"], at, 3, &["evil.pth"]);
    refused(&["inspect", "absent.pth"], at, 4, &["absent.pth"]);
}

#[test]
fn networks_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    refused(
        &["inspect", "zoo:resnet21"],
        at,
        2,
        &["resnet21", "hint:", "resnet"],
    );
    let cost = ["inspect", "zoo:resnet20", "--cost", "paper"];
    refused(&cost, at, 2, &["resnet20", "paper"]);
    checkpoint(at);
    let arch = ["inspect", "small", "--arch", "resnet20"];
    refused(&arch, at, 2, &["describes its own network", "--arch"]);
}

#[test]
fn data_that_are_not_there_or_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    refused(&["eval", "zoo:resnet20"], at, 2, &["--data"]);
    refused(
        &["eval", "zoo:resnet20", "--data", "cifar10:absent"],
        at,
        4,
        &["absent"],
    );
    refused(
        &["eval", "zoo:resnet20", "--data", "cifra10:x"],
        at,
        2,
        &["cifra10"],
    );
    let path = ["eval", "zoo:resnet20", "--data", "inputs.safetensors"];
    refused(
        &path,
        at,
        2,
        &["did you mean `tensors:inputs.safetensors`?"],
    );
    let none = ["eval", "zoo:resnet20", "--data", "shapes", "--batch", "0"];
    refused(&none, at, 2, &["expected a whole number from 1 up"]);
    fs::create_dir(at.join("mnist")).unwrap();
    for name in ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        fs::write(at.join("mnist").join(name), [0, 0, 8, 3]).unwrap();
    }
    refused(
        &["eval", "zoo:lenet5", "--data", "mnist:mnist"],
        at,
        3,
        &["t10k-"],
    );
    for class in ["cat", "dog"] {
        let images = at.join("images").join(class);
        fs::create_dir_all(&images).unwrap();
        fs::write(images.join("broken.png"), b"\x89PNG\r\n\x1a\nnothing").unwrap();
    }
    let images = ["eval", "zoo:resnet20", "--data", "images:images"];
    refused(&images, at, 3, &["broken.png"]);
}

#[test]
fn labels_beyond_the_classes_are_told_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    noise(&at.join("x.safetensors"), 4, &[0, 9, 10, 1]);
    let how = ["--params-removed", "50%", "--data", "tensors:x.safetensors"];
    let compress = [&["compress", "zoo:resnet20", "-o", "out"], &how[..]].concat();
    let output = rankfold(&compress, at);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("error: label 10 is beyond the model's 10 classes"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(!at.join("out").exists());
}

#[test]
fn budgets_below_nothing_and_names_that_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for budget in ["--params-removed", "--macs", "--size", "--mse"] {
        let compress = ["compress", "zoo:lenet5", budget, "-5", "-o", "out"];
        refused(&compress, at, 2, &["invalid value '-5'", "expected"]);
    }
    let best = [
        "compress",
        "zoo:lenet5",
        "--params",
        "2x",
        "--effort",
        "best",
    ];
    let best = [&best[..], &["-o", "out"]].concat();
    refused(&best, at, 2, &["--effort best", "--data"]);
    fs::write(at.join("plan.toml"), "").unwrap();
    let plan = ["plan", "zoo:lenet5", "--params", "2x", "-o", "plan.toml"];
    refused(&plan, at, 2, &["plan.toml exists", "--force"]);
    succeeds(&[&plan[..], &["--force"]].concat(), at);
    let model = [
        "export",
        "zoo:lenet5",
        "--to",
        "safetensors",
        "-o",
        "a.safetensors",
    ];
    succeeds(&model, at);
    let other = ["export", "zoo:lenet5", "--to", "onnx", "-o", "a.pt2"];
    refused(&other, at, 2, &["named as a .pt2 file"]);
    let strange = {
        use std::os::unix::ffi::OsStrExt;
        std::ffi::OsStr::from_bytes(b"a\xff.safetensors")
    };
    fs::rename(at.join("a.safetensors"), at.join(strange)).unwrap();
    let mut compress = command(&["compress", "--params", "2x", "-o", "out"], at);
    let output = compress.arg(strange).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn one_input_says_nothing_and_spoils_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    noise(&at.join("x.safetensors"), 1, &[3]);
    let data = ["--data", "tensors:x.safetensors", "--recalibrate", "never"];
    let compress = ["compress", "zoo:resnet20", "--only", "linear"];
    fs::write(at.join("linear.toml"), "linear = 3\n").unwrap();
    let how = ["--ranks", "linear.toml", "-o", "out"];
    let (_, said) = succeeds(&[&compress[..], &data, &how].concat(), at);
    for text in [
        "the inputs are all alike at `linear`",
        "accuracy is that on inputs that factors were fitted to",
    ] {
        assert!(said.contains(text), "expected {text:?} in {said}");
    }
    let report = support::json_file(&at.join("out/report.json"));
    let layers = report["layers"].as_array().unwrap();
    let linear = layers.iter().find(|row| row["name"] == "linear").unwrap();
    assert!(linear["weight_error"].as_f64().unwrap() > 0.1);
    assert!(linear["response_error"].is_null(), "{linear}");
}

#[test]
fn weights_that_are_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    checkpoint(at);
    let path = at.join("small/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(at.join("nan.safetensors"), bytes).unwrap();
    let eval = [
        "eval",
        "nan.safetensors",
        "--data",
        "shapes",
        "--limit",
        "10",
    ];
    refused(&eval, at, 3, &["not finite"]);
    let compress = [
        "compress",
        "nan.safetensors",
        "--params-removed",
        "50%",
        "-o",
        "out",
    ];
    refused(&compress, at, 3, &["not finite"]);
}

#[test]
fn budgets_and_plans_that_cannot_be_met() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let compress = |more: &[&'static str]| -> Vec<&'static str> {
        [&["compress", "zoo:resnet20", "-o", "out"], more].concat()
    };
    refused(&compress(&[]), at, 2, &["no budget"]);
    refused(
        &compress(&["--params-removed", "99.9%"]),
        at,
        5,
        &["smallest possible"],
    );
    refused(
        &compress(&["--params-removed", "101%"]),
        at,
        2,
        &["percentage"],
    );
    refused(
        &compress(&["--macs", "2x", "--params", "2x"]),
        at,
        2,
        &["cannot be used with"],
    );
    for wrong in ["--mse=-1", "--mse=x", "--mse=0", "--mse=inf"] {
        refused(&compress(&[wrong]), at, 2, &["--mse", "as 0.001"]);
    }
    let both = ["--mse", "0.001", "--energy", "0.9"];
    refused(&compress(&both), at, 2, &["cannot be used with"]);
    let swept = ["--mse", "0.001", "--select", "sensitivity"];
    refused(&compress(&swept), at, 2, &["--select sensitivity", "hint:"]);
    let only = ["--params-removed", "50%", "--only", "layer9.*"];
    refused(&compress(&only), at, 2, &["layer9"]);
    fs::write(at.join("ranks.toml"), "\"layer1.0.conv3\" = 8\n").unwrap();
    refused(
        &compress(&["--ranks", "ranks.toml"]),
        at,
        2,
        &["layer1.0.conv3", "nearest"],
    );
    fs::write(at.join("ranks.toml"), "\"layer1.0.conv1\" = 800\n").unwrap();
    refused(
        &compress(&["--ranks", "ranks.toml"]),
        at,
        2,
        &["layer1.0.conv1", "144", "800"],
    );
    fs::write(at.join("plan.toml"), "version = 1\n").unwrap();
    refused(&compress(&["--plan", "plan.toml"]), at, 3, &["plan"]);
    let plan = [
        "plan",
        "zoo:resnet32",
        "--uniform-rank",
        "conv=8",
        "-o",
        "other.toml",
    ];
    assert!(rankfold(&plan, at).status.success());
    refused(
        &compress(&["--plan", "other.toml"]),
        at,
        3,
        &["resnet32", "resnet20"],
    );
}

#[test]
fn a_folder_that_is_taken_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    checkpoint(at);
    let before = fs::read(at.join("small/model.safetensors")).unwrap();
    let again = [
        "compress",
        "zoo:resnet20",
        "--ranks",
        "ranks.toml",
        "-o",
        "small",
    ];
    refused(&again, at, 2, &["small", "--force"]);
    assert_eq!(
        before,
        fs::read(at.join("small/model.safetensors")).unwrap()
    );
    // --force replaces what Rankfold wrote and nothing else.
    fs::create_dir(at.join("own")).unwrap();
    fs::write(at.join("own/notes.txt"), "precious").unwrap();
    let mut own = [&again[..5], &["own", "--force"]].concat();
    own[1] = "zoo:lenet5";
    refused(&own, at, 2, &["own", "did not write", "hint:"]);
    assert_eq!(fs::read(at.join("own/notes.txt")).unwrap(), b"precious");
}

#[test]
fn the_doctor_says_what_a_bare_machine_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let bare = |arguments: &[&str]| {
        let mut command = command(arguments, at);
        for name in "PATH HOME XDG_CACHE_HOME VIRTUAL_ENV CONDA_PREFIX ORT_DYLIB_PATH".split(' ') {
            command.env_remove(name);
        }
        command.output().unwrap()
    };
    let output = bare(&["doctor", "--json"]);
    assert!(output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ok"], true);
    let state = |said: &Value, name: &str| {
        let findings = said["findings"].as_array().unwrap();
        let found = findings.iter().find(|found| found["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name} in {said}"));
        // What is there may come with advice too: a disk that is almost full is still a folder to write to.
        let absent = found["state"] != "ok";
        assert!(!absent || found["hint"].is_string(), "{found}");
        found["state"].as_str().unwrap().to_owned()
    };
    for name in ["rankfold", "libtorch", "processor", "folder"] {
        assert_eq!(state(&said, name), "ok");
    }
    for name in ["onnxruntime", "pytorch", "timings"] {
        assert_eq!(state(&said, name), "missing");
    }

    fs::write(at.join("library.so"), "no library").unwrap();
    let asked = ["--engine", "onnxruntime", "--onnxruntime", "library.so"];
    let output = bare(&[&["doctor", "--json"], &asked[..]].concat());
    assert_eq!(output.status.code(), Some(4));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ok"], false);
    assert_eq!(state(&said, "onnxruntime"), "broken");

    let output = bare(&["doctor", "--device", "cuda:99"]);
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ok       libtorch"), "{text}");
    assert!(text.contains("missing  cuda"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("needed and not there: cuda"));
}

#[test]
fn versions_are_told_in_short_and_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let ours = format!("rankfold {}\n", env!("CARGO_PKG_VERSION"));
    let (short, _) = succeeds(&["-V"], folder.path());
    assert_eq!(short, ours);
    let (long, _) = succeeds(&["--version"], folder.path());
    assert!(long.starts_with(&ours), "{long}");
    for text in ["\nlibtorch 2.", "\nCUDA: "] {
        assert!(long.contains(text), "{long}");
    }
    succeeds(&["man", "pages"], folder.path());
    let page = fs::read_to_string(folder.path().join("pages/rankfold.1")).unwrap();
    assert!(!page.contains("CUDA:"), "{page}");
}
