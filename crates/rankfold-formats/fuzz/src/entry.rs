//! The readers as functions of bytes, with what must hold of whatever they accept.
//!
//! An input is accepted as it is or refused by an error. Accepted, it is a graph that verifies, whose
//! costs can be counted, and which, once it could be written, is read back as the same graph.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use rankfold_formats::{
    Checkpoint, FileKind, OnnxOptions, Pt2Options, described_model, read_onnx, read_pt2,
    read_weights, write_model, write_onnx, write_pt2,
};
use rankfold_graph::{CostModel, Graph};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A reader under test.
pub type Entry = fn(&[u8]);

/// Every reader by the name of its target.
pub const ENTRIES: [(&str, Entry); 5] = [
    ("safetensors", safetensors),
    ("pickle", pickle),
    ("archive", archive),
    ("pt2", pt2),
    ("onnx", onnx),
];

/// What separates the parts of an input that has several.
pub const SEPARATOR: u8 = 0;

/// Bytes in every storage of a forged archive.
const STORAGE: usize = 4096;
/// Storages that a forged archive has at most.
const STORAGES: usize = 64;

/// A safetensors file: the header's tensors as JSON, the description of a network as JSON, and the data.
///
/// Without a separator the input is the whole file.
pub fn safetensors(input: &[u8]) {
    let Some((header, rest)) = split(input) else {
        return weights(input);
    };
    let (description, data) = split(rest).unwrap_or((rest, &[]));
    let mut bytes = Vec::new();
    match serde_json::from_slice(header) {
        Ok(Value::Object(mut header)) => {
            if !description.is_empty() {
                let text = String::from_utf8_lossy(description);
                header.insert("__metadata__".to_owned(), json!({ "rankfold": text }));
            }
            bytes.extend(Value::Object(header).to_string().bytes());
        }
        _ => bytes.extend(header),
    }
    let length = bytes.len() as u64;
    bytes.splice(..0, length.to_le_bytes());
    bytes.extend(data);
    weights(&bytes);
}

/// A pickle, as a checkpoint of the old form and as the program of a checkpoint of the new one.
pub fn pickle(input: &[u8]) {
    weights(input);
    let mut files = vec![
        ("archive/data.pkl".to_owned(), input.to_vec()),
        ("archive/byteorder".to_owned(), b"little".to_vec()),
    ];
    let storage = |i: usize| (format!("archive/data/{i}"), vec![7; STORAGE]);
    files.extend((0..4).map(storage));
    weights(&zip_of(files.iter()));
    files.push(("archive/constants.pkl".to_owned(), b"\x80\x02).".to_vec()));
    weights(&zip_of(files.iter()));
}

/// A zip archive of any kind.
pub fn archive(input: &[u8]) {
    weights(input);
    let file = File::new("model.pt2", input);
    let _ = FileKind::detect(&file.path());
    if let Ok(read) = read_pt2(&file.path()) {
        exported(&read.0);
    }
}

/// The JSON of an exported program, of its weights and of its constants; the archive around them is whole.
pub fn pt2(input: &[u8]) {
    let (program, rest) = split(input).unwrap_or((input, &[]));
    let (weights, constants) = split(rest).unwrap_or((rest, &[]));
    let mut files = vec![("m/models/model.json".to_owned(), program.to_vec())];
    for (folder, what, config) in [
        ("weights", "weights", weights),
        ("constants", "constants", constants),
    ] {
        let name = format!("m/data/{folder}/model_{what}_config.json");
        let storages = storages(config);
        let config = if config.is_empty() {
            &b"{\"config\":{}}"[..]
        } else {
            config
        };
        files.push((name, config.to_vec()));
        let full = |name: String| (format!("m/data/{folder}/{name}"), vec![1; STORAGE]);
        files.extend(storages.into_iter().map(full));
    }
    let file = File::new("model.pt2", &zip_of(files.iter()));
    let Ok((graph, origin)) = read_pt2(&file.path()) else {
        return;
    };
    exported(&graph);
    let again = file.beside("again.pt2");
    if write_pt2(&again, &graph, Some(&origin), &Pt2Options::default()).is_ok() {
        let back = read_pt2(&again).unwrap_or_else(|e| panic!("written and not readable: {e}"));
        assert_same(&graph, &back.0);
    }
    if write_pt2(&again, &graph, None, &Pt2Options::default()).is_ok() {
        let back =
            read_pt2(&again).unwrap_or_else(|e| panic!("written anew and not readable: {e}"));
        exported(&back.0);
    }
}

/// An ONNX model, with a file of data beside it.
pub fn onnx(input: &[u8]) {
    let file = File::new("model.onnx", input);
    let Ok((graph, origin)) = read_onnx(&file.path()) else {
        return;
    };
    exported(&graph);
    let again = file.beside("again.onnx");
    if write_onnx(&again, &graph, Some(&origin), &OnnxOptions::default()).is_ok() {
        let back = read_onnx(&again).unwrap_or_else(|e| panic!("written and not readable: {e}"));
        assert_same(&graph, &back.0);
    }
    if write_onnx(&again, &graph, None, &OnnxOptions::default()).is_ok() {
        let back =
            read_onnx(&again).unwrap_or_else(|e| panic!("written anew and not readable: {e}"));
        exported(&back.0);
    }
}

/// A file of named tensors, and the network that it may describe.
fn weights(bytes: &[u8]) {
    let file = File::new("model.pth", bytes);
    let Ok(checkpoint) = read_weights(&file.path()) else {
        return;
    };
    for (name, tensor) in checkpoint.tensors.iter() {
        let size = tensor.len() * tensor.dtype().size();
        assert_eq!(tensor.bytes().len(), size, "{name}");
    }
    let _ = checkpoint.tensors.first_non_finite();
    if let Some(model) = described(&file.path(), &checkpoint) {
        exported(&model);
        let again = file.beside("again.safetensors");
        write_model(&again, &model, &Map::new(), None)
            .unwrap_or_else(|e| panic!("described and not writable: {e}"));
        let checkpoint = read_weights(&again).unwrap_or_else(|e| panic!("{e}"));
        let back = described(&again, &checkpoint);
        assert_same(&model, &back.unwrap_or_else(|| panic!("described no more")));
    }
}

fn described(path: &Path, checkpoint: &Checkpoint) -> Option<Graph> {
    described_model(path, checkpoint)
        .ok()?
        .map(|model| model.graph)
}

/// What must hold of every graph that a reader gives.
fn exported(graph: &Graph) {
    graph.verify().unwrap_or_else(|e| panic!("read, but {e}"));
    let _ = graph.cost(CostModel::True);
    let _ = graph.to_string();
}

/// The same inputs, outputs and nodes. Whether a constant that an opaque node takes is a node of its own
/// is no part of what a file says.
fn assert_same(graph: &Graph, back: &Graph) {
    let (was, is) = (outline(graph), outline(back));
    for (was, is) in was.iter().zip(&is) {
        assert_eq!(was, is);
    }
    assert_eq!(was.len(), is.len(), "lines");
}

fn outline(graph: &Graph) -> Vec<String> {
    let text = graph.to_string();
    let lines = text.lines().filter(|line| !line.contains(" = constant("));
    let known = lines.map(|line| line.split_once(" = opaque(").map_or(line, |(made, _)| made));
    known.map(str::to_owned).collect()
}

/// The part before the first separator, and what follows.
fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = input.iter().position(|&byte| byte == SEPARATOR)?;
    Some((&input[..at], &input[at + 1..]))
}

/// The storages that a configuration names.
fn storages(config: &[u8]) -> BTreeSet<String> {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let tensors = config["config"].as_object().into_iter().flatten();
    let named = tensors.filter_map(|(_, payload)| payload["path_name"].as_str());
    let plain = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    named
        .filter(plain)
        .map(str::to_owned)
        .take(STORAGES)
        .collect()
}

fn zip_of<'a>(files: impl Iterator<Item = &'a (String, Vec<u8>)>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, data) in files {
        zip.start_file(name, options)
            .unwrap_or_else(|e| panic!("{e}"));
        zip.write_all(data).unwrap_or_else(|e| panic!("{e}"));
    }
    let zip = zip.finish().unwrap_or_else(|e| panic!("{e}"));
    zip.into_inner()
}

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A file in a folder of this thread's own, gone at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let folder = FOLDER.with_borrow_mut(|folder| {
            let folder = folder.get_or_insert_with(|| {
                let made = TempDir::new().unwrap_or_else(|e| panic!("{e}"));
                let data = made.path().join("external.bin");
                std::fs::write(data, [3; STORAGE]).unwrap_or_else(|e| panic!("{e}"));
                made
            });
            folder.path().to_owned()
        });
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap_or_else(|e| panic!("{e}"));
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.clone()
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.0.with_file_name(name)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
