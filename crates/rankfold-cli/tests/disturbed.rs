//! Work that is disturbed: a full disk, a folder that cannot be written, Ctrl-C, a process killed.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{command, files, in_own_mounts, listing, send, succeeds};

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A compression of some seconds: layers of resnet18 at ranks that take a while.
fn slow(folder: &Path) -> Vec<&'static str> {
    let mut ranks = String::new();
    for (stage, rank) in [(1, 96), (2, 160)] {
        for block in 0..2 {
            for conv in 1..=2 {
                ranks += &format!("\"layer{stage}.{block}.conv{conv}\" = {rank}\n");
            }
        }
    }
    fs::write(folder.join("ranks.toml"), ranks).unwrap();
    vec![
        "compress",
        "zoo:resnet18",
        "--ranks",
        "ranks.toml",
        "-o",
        "out",
    ]
}

/// Starts a compression and waits until two layers are finished.
fn started(folder: &Path) -> Child {
    let mut child = command(&slow(folder), folder)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while finished(folder).len() < 2 {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before it could be disturbed");
        assert!(start.elapsed() < PATIENCE, "no layer was finished");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

/// The stored factors of finished layers.
fn finished(folder: &Path) -> Vec<PathBuf> {
    let factors = folder.join(".out.partial/factors");
    let Ok(entries) = fs::read_dir(factors) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect()
}

/// How many layers a run says that it found finished.
fn resumed(said: &str) -> usize {
    let line = said
        .lines()
        .find(|line| line.contains("finished by an earlier run"));
    let number = line.and_then(|line| line.split(' ').next()?.parse().ok());
    number.unwrap_or(0)
}

#[test]
fn interrupted_work_leaves_finished_layers_alone_and_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let child = started(at);
    send("-INT", &child);
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("interrupted"), "{message}");
    assert!(message.contains("goes on from it"), "{message}");
    assert_eq!(listing(at), [".out.partial", "ranks.toml"]);
    assert_eq!(listing(&at.join(".out.partial")), ["factors"]);
    let kept = finished(at);
    assert_eq!(
        kept.len(),
        listing(&at.join(".out.partial/factors")).len(),
        "something is half-written"
    );
    // A layer that is not decomposed again shows what was put into its stored factors.
    let marked = &kept[0];
    let mut bytes = fs::read(marked).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].fill(0);
    fs::write(marked, &bytes).unwrap();
    let (_, said) = succeeds(&slow(at), at);
    assert!(resumed(&said) >= kept.len(), "{said}");
    assert_eq!(listing(at), ["out", "ranks.toml"]);
    assert_eq!(zero_kernels(&at.join("out/model.safetensors")), 3);
}

/// The convolution kernels in a file that are nothing but zeros.
fn zero_kernels(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let is_zero = |tensor: &serde_json::Value| {
        let place = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let body = &bytes[8 + header..];
        tensor["shape"]
            .as_array()
            .is_some_and(|shape| shape.len() == 4)
            && body[place(0)..place(1)].iter().all(|&byte| byte == 0)
    };
    tensors
        .as_object()
        .unwrap()
        .values()
        .filter(|t| is_zero(t))
        .count()
}

#[test]
fn killed_work_goes_on_and_ends_as_if_nothing_had_happened() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = folder.path();
    let mut child = started(at);
    send("-KILL", &child);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "it was not killed");
    assert_eq!(listing(at), [".out.partial", "ranks.toml"]);
    let kept = finished(at).len();
    let (_, said) = succeeds(&slow(at), at);
    assert!(resumed(&said) >= kept.max(2), "{said}");
    let (_, said) = succeeds(&slow(other.path()), other.path());
    assert_eq!(resumed(&said), 0, "{said}");
    for name in files(&other.path().join("out")) {
        let read = |folder: &Path| fs::read(folder.join("out").join(&name)).unwrap();
        assert!(read(at) == read(other.path()), "{} differs", name.display());
    }
    assert_eq!(files(&at.join("out")), files(&other.path().join("out")));
}

const SMALL: &str = "\"layer1.0.conv1\" = 8\n";

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("ranks.toml"), SMALL).unwrap();
    fs::create_dir(at.join("disk")).unwrap();
    // Half of what the compressed network takes, then enough.
    let mounted = r#"
        mount -t tmpfs -o size=600k none disk
        run() { "$0" compress zoo:resnet20 --ranks ranks.toml -o disk/out 2>&1; }
        code=0; run > first || code=$?
        find disk | sort > left
        mount -o remount,size=64m disk
        run > second
        find disk | sort > done
        exit $code"#;
    // Where nothing can be mounted, files may not grow beyond that.
    let limited = r#"
        trap '' XFSZ
        run() { "$0" compress zoo:resnet20 --ranks ranks.toml -o disk/out 2>&1; }
        code=0; (ulimit -f 600; run > first) || code=$?
        find disk | sort > left
        run > second
        find disk | sort > done
        exit $code"#;
    let (code, reason) = match in_own_mounts(mounted, at) {
        Some(code) => (Some(code), "No space left on device"),
        None => {
            eprintln!("nothing can be mounted here: files are limited instead");
            let status = Command::new("sh")
                .args(["-euc", limited, env!("CARGO_BIN_EXE_rankfold")])
                .current_dir(at)
                .status()
                .unwrap();
            (status.code(), "File too large")
        }
    };
    let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
    assert_eq!(code, Some(1), "{}", read("first"));
    assert!(read("first").contains(reason), "{}", read("first"));
    let left = read("left");
    assert!(!left.contains("disk/out"), "{left}");
    let files = left.lines().filter(|line| line.contains("partial/"));
    for file in files.filter(|line| !line.ends_with("/factors")) {
        assert!(
            file.ends_with(".safetensors") && file.contains("/factors/"),
            "{left}"
        );
    }
    assert!(
        read("second").contains("wrote disk/out"),
        "{}",
        read("second")
    );
    assert!(read("done").contains("disk/out/model.safetensors"));
    assert!(!read("done").contains("partial"), "{}", read("done"));
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("ranks.toml"), SMALL).unwrap();
    fs::create_dir(at.join("closed")).unwrap();
    let script = r#"
        mount -t tmpfs -o ro none closed
        code=0; "$0" compress zoo:resnet20 --ranks ranks.toml -o closed/out 2> said || code=$?
        "$0" export zoo:lenet5 --to onnx -o closed/lenet5.onnx 2>> said && exit 99
        exit $code"#;
    let code = in_own_mounts(script, at).or_else(|| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(at.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
        let script = script.split_once("closed\n").unwrap().1;
        let shell = Command::new("sh")
            .args(["-euc", script, env!("CARGO_BIN_EXE_rankfold")])
            .current_dir(at)
            .status()
            .unwrap();
        shell.code()
    });
    let said = fs::read_to_string(at.join("said")).unwrap();
    assert_eq!(code, Some(1), "{said}");
    for text in ["closed/.out.partial", "closed/lenet5.onnx"] {
        assert!(said.contains(text), "expected {text:?} in {said}");
    }
    assert_eq!(
        said.matches("Read-only").count() + said.matches("Permission denied").count(),
        2
    );
    assert_eq!(listing(&at.join("closed")), [""; 0]);
}
