//! What the tests of the command share.

#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;

/// Runs the command in `folder`.
pub(crate) fn run(arguments: &[&str], folder: &Path) -> Output {
    command(arguments, folder).output().unwrap()
}

/// The command, to be run in `folder`.
pub(crate) fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rankfold"));
    command.args(arguments).current_dir(folder);
    command
}

/// Runs the command, which must succeed; stdout and stderr.
pub(crate) fn succeeds(arguments: &[&str], folder: &Path) -> (String, String) {
    let output = run(arguments, folder);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {message}");
    (String::from_utf8(output.stdout).unwrap(), message)
}

/// The JSON that the command writes to stdout.
pub(crate) fn json(arguments: &[&str], folder: &Path) -> Value {
    serde_json::from_str(&succeeds(arguments, folder).0).unwrap()
}

/// The JSON in a file.
pub(crate) fn json_file(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Runs the command, which must fail with `code`, say all `texts` and leave nothing behind.
pub(crate) fn refused(arguments: &[&str], folder: &Path, code: i32, texts: &[&str]) {
    let before = listing(folder);
    let output = run(arguments, folder);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    for text in texts {
        assert!(
            message.contains(text),
            "{arguments:?}: expected {text:?} in {message}"
        );
    }
    for trace in ["panicked", "Exception raised", "frame #"] {
        assert!(!message.contains(trace), "{message}");
    }
    assert!(output.stdout.is_empty());
    assert_eq!(
        before,
        listing(folder),
        "{arguments:?} left something behind"
    );
}

/// The names in a folder, sorted.
pub(crate) fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Every file under a folder, sorted by its path from there.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in listing(folder) {
        match folder.join(&name) {
            path if path.is_dir() => {
                found.extend(files(&path).iter().map(|file| Path::new(&name).join(file)));
            }
            _ => found.push(name.into()),
        }
    }
    found
}

/// A file of tensors: images of 3×32×32 that are noise, brighter from one to the next, with labels where
/// some are given.
pub(crate) fn noise(path: &Path, images: usize, labels: &[i64]) {
    let each = 3 * 32 * 32;
    let end = 4 * images * each;
    let mut header = format!(
        r#"{{"input":{{"dtype":"F32","shape":[{images},3,32,32],"data_offsets":[0,{end}]}}"#
    );
    if !labels.is_empty() {
        let (count, last) = (labels.len(), end + 8 * labels.len());
        header += &format!(
            r#","labels":{{"dtype":"I64","shape":[{count}],"data_offsets":[{end},{last}]}}"#
        );
    }
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    let mut state = 1u32;
    for i in 0..images * each {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        bytes.extend((noise + (i / each) as f32 / images as f32).to_le_bytes());
    }
    bytes.extend(labels.iter().flat_map(|label| label.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// An ONNX model that the tests of the formats have.
pub(crate) fn onnx_fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../rankfold-formats/tests/fixtures/onnx")
        .join(name)
}

/// Sends a signal, such as `-INT`, to a process that was started.
pub(crate) fn send(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(sent.success());
}

/// Runs a shell script in namespaces of its own, where it may mount; none where that is not possible.
pub(crate) fn in_own_mounts(script: &str, folder: &Path) -> Option<i32> {
    let possible = Command::new("unshare").args(["-rm", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-euc", script, env!("CARGO_BIN_EXE_rankfold")])
        .current_dir(folder)
        .status()
        .unwrap();
    status.code()
}
