//! From a `torch.export` archive to a graph.

use std::path::Path;

use rankfold_graph::Graph;
use serde::Deserialize;

use super::Pt2Fault;
use super::import::import;
use super::inplace;
use super::origin::Pt2Origin;
use super::payload;
use super::schema::{MAJOR, Program, SchemaVersion};
use crate::archive::Archive;
use crate::error::FormatError;
use crate::kind::FileKind;
use crate::map::Mapping;

/// The program in the `torch.export` archive at `path` as a graph, and what writing it back needs.
///
/// Weights are views of the mapped file wherever it holds them contiguously. Nodes that are not
/// understood are opaque; arithmetic of sizes disappears into the nodes that it serves.
pub fn read_pt2(path: &Path) -> Result<(Graph, Pt2Origin), FormatError> {
    let mapping = Mapping::open(path)?;
    let bytes = mapping.bytes();
    let wrong = |got| FormatError::WrongKind {
        path: path.to_owned(),
        expected: "a torch.export archive",
        got,
    };
    if !bytes.starts_with(b"PK") {
        return Err(wrong(crate::kind::of_plain(path, &bytes)?));
    }
    let archive = Archive::new(path, bytes)?;
    match crate::kind::of_archive(&archive)? {
        FileKind::Pt2 => {}
        got => return Err(wrong(got)),
    }
    open(&archive, mapping)
}

fn open(archive: &Archive, mapping: Mapping) -> Result<(Graph, Pt2Origin), FormatError> {
    let failed = |fault| Pt2Fault::of_file(archive.path(), fault);
    let names = || {
        archive
            .names()
            .filter_map(|n| n.strip_prefix(archive.root()))
    };
    if let Some(entry) = names().find(|n| n.starts_with("data/aotinductor/")) {
        let entry = entry.to_owned();
        return Err(failed(Pt2Fault::Compiled { entry }));
    }
    let model = |name: &str| {
        Some(
            name.strip_prefix("models/")?
                .strip_suffix(".json")?
                .to_owned(),
        )
    };
    let models: Vec<String> = names().filter_map(model).collect();
    let [model] = &models[..] else {
        return Err(failed(Pt2Fault::Programs { names: models }));
    };
    if archive.find("byteorder").is_some() {
        let order = archive.read("byteorder")?;
        if order.trim_ascii() != b"little" {
            let order = String::from_utf8_lossy(&order)
                .trim()
                .chars()
                .take(20)
                .collect();
            return Err(failed(Pt2Fault::ByteOrder { order }));
        }
    }
    let entry = format!("models/{model}.json");
    let mut program = parse(&entry, &archive.read(&entry)?).map_err(failed)?;
    let tensors = payload::read(archive, model)?;
    let samples = format!("data/sample_inputs/{model}.pt");
    let of_user = |name: &&str| name.starts_with("extra/") && !name.ends_with('/');
    let extra = names().filter(|name| of_user(name) || *name == samples);
    let extra = extra
        .map(|name| Ok((name.to_owned(), archive.read(name)?)))
        .collect::<Result<_, FormatError>>()?;
    let in_place = inplace::resolve(&mut program);
    let (graph, canonical, groups) =
        import(model, &program, &tensors, &in_place).map_err(failed)?;
    let origin = Pt2Origin {
        model: model.clone(),
        program,
        tensors,
        canonical,
        groups,
        in_place,
        extra,
        mapping,
    };
    Ok((graph, origin))
}

/// The program; its version is looked at first.
fn parse(entry: &str, json: &[u8]) -> Result<Program, Pt2Fault> {
    #[derive(Deserialize)]
    struct Versioned {
        schema_version: SchemaVersion,
    }
    let invalid = |source| Pt2Fault::Json {
        entry: entry.to_owned(),
        source,
    };
    let version = serde_json::from_slice::<Versioned>(json).map_err(invalid)?;
    let SchemaVersion { major, minor } = version.schema_version;
    if major != MAJOR {
        return Err(Pt2Fault::Schema { major, minor });
    }
    serde_json::from_slice(json).map_err(invalid)
}
