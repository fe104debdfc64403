//! Writes the inputs that fuzzing starts from, a folder a target, from the fixtures of the tests.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use rankfold_formats::{Archive, METADATA_KEY, read_pt2, write_model};
use rankfold_formats_fuzz::entry::SEPARATOR;
use serde_json::{Map, Value};

/// Larger inputs make fuzzing slow and find nothing more.
const LARGEST: usize = 40_000;

fn main() -> Result<(), Box<dyn Error>> {
    let to = PathBuf::from(std::env::args_os().nth(1).ok_or("expected a folder")?);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    for file in files(&fixtures.join("weights"))? {
        let bytes = fs::read(&file)?;
        match file.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => put(&to, "safetensors", &file, &safetensors(&bytes)?)?,
            Some("pth" | "pt" | "pkl" | "ot") if bytes.starts_with(b"PK") => {
                put(&to, "archive", &file, &bytes)?;
                if let Ok(pickle) = Archive::open(&file).and_then(|a| a.read("data.pkl")) {
                    put(&to, "pickle", &file, &pickle)?;
                }
            }
            Some("pth" | "pt" | "pkl") => put(&to, "pickle", &file, &bytes)?,
            _ => {}
        }
    }
    for file in files(&fixtures.join("onnx"))? {
        if file.extension().is_some_and(|e| e == "onnx") {
            put(&to, "onnx", &file, &fs::read(&file)?)?;
        }
    }
    let folder = tempfile::tempdir()?;
    for file in files(&fixtures.join("pt2"))? {
        if file.extension().is_some_and(|e| e == "pt2") {
            put(&to, "archive", &file, &fs::read(&file)?)?;
            put(&to, "pt2", &file, &program(&file)?)?;
            let described = folder.path().join("model.safetensors");
            write_model(&described, &read_pt2(&file)?.0, &Map::new(), None)?;
            put(
                &to,
                "safetensors",
                &file,
                &safetensors(&fs::read(&described)?)?,
            )?;
        }
    }
    Ok(())
}

/// The parts that the target takes: tensors, description, data.
fn safetensors(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let (length, rest) = bytes.split_first_chunk().ok_or("too short")?;
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Map<String, Value> = serde_json::from_slice(header)?;
    let metadata = header.remove("__metadata__").unwrap_or_default();
    let description = metadata[METADATA_KEY].as_str().unwrap_or_default();
    let header = Value::Object(header).to_string();
    Ok([header.as_bytes(), description.as_bytes(), data].join(&SEPARATOR))
}

/// The parts that the target takes: program, weights, constants.
fn program(file: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let archive = Archive::open(file)?;
    let read = |name: &str| -> Result<Vec<u8>, Box<dyn Error>> {
        let value: Value = serde_json::from_slice(&archive.read(name)?)?;
        Ok(value.to_string().into_bytes())
    };
    let parts = [
        read("models/model.json")?,
        read("data/weights/model_weights_config.json")?,
        read("data/constants/model_constants_config.json")?,
    ];
    Ok(parts.join(&SEPARATOR))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

fn put(to: &Path, target: &str, file: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    if bytes.len() > LARGEST {
        return Ok(());
    }
    let folder = to.join(target);
    fs::create_dir_all(&folder)?;
    let name = file.file_name().ok_or("a file without a name")?;
    Ok(fs::write(folder.join(name), bytes)?)
}
