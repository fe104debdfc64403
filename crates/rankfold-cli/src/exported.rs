//! Exported models: what writing the same kind back needs, and whether what was written is the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rankfold_formats::{
    FileKind, METADATA_KEY, OnnxOptions, OnnxOrigin, Pt2Options, Pt2Origin, read_onnx, read_pt2,
    write_onnx, write_pt2,
};
use rankfold_graph::{Code, Graph};
use serde_json::{Map, Value};

use crate::failure::{Failure, Kind, Outcome};

/// A kind of file that a network is exported to, with its ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// ONNX.
    Onnx,
    /// An archive of `torch.export`.
    Pt2,
}

/// The file that a graph was read from, as far as the graph does not hold it.
#[derive(Debug)]
pub(crate) enum Origin {
    /// An ONNX model.
    Onnx(Box<OnnxOrigin>),
    /// An archive of `torch.export`.
    Pt2(Box<Pt2Origin>),
}

impl Format {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Onnx, Self::Pt2];

    /// The format of a kind of file; none for files of named tensors.
    pub(crate) fn of(kind: FileKind) -> Option<Self> {
        match kind {
            FileKind::Onnx => Some(Self::Onnx),
            FileKind::Pt2 => Some(Self::Pt2),
            FileKind::Safetensors
            | FileKind::SafetensorsIndex
            | FileKind::TorchZip
            | FileKind::TorchLegacy
            | FileKind::TorchNamed
            | FileKind::TorchScript => None,
        }
    }

    /// The end of the names of such files.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Pt2 => "pt2",
        }
    }

    /// The name of such a file in a folder that `compress` writes.
    pub(crate) fn file_name(self) -> String {
        format!("model.{}", self.extension())
    }

    /// Reads a file.
    pub(crate) fn read(self, path: &Path) -> Outcome<(Graph, Origin)> {
        match self {
            Self::Onnx => {
                let (graph, origin) = read_onnx(path)?;
                Ok((graph, Origin::Onnx(Box::new(origin))))
            }
            Self::Pt2 => {
                let (graph, origin) = read_pt2(path)?;
                Ok((graph, Origin::Pt2(Box::new(origin))))
            }
        }
    }

    /// Writes a graph, with all that the file had that it was read from.
    pub(crate) fn write(
        self,
        path: &Path,
        graph: &Graph,
        origin: Option<&Origin>,
        record: &Map<String, Value>,
    ) -> Outcome {
        let mut texts = BTreeMap::new();
        if !record.is_empty() {
            let json = serde_json::to_string(record);
            let json = json.map_err(|error| Failure::new(Kind::Inside, error))?;
            texts.insert(METADATA_KEY.to_owned(), json);
        }
        match self {
            Self::Onnx => {
                let origin = match origin {
                    Some(Origin::Onnx(origin)) => Some(&**origin),
                    _ => None,
                };
                let options = OnnxOptions {
                    metadata: texts,
                    ..OnnxOptions::default()
                };
                Ok(write_onnx(path, graph, origin, &options)?)
            }
            Self::Pt2 => {
                let origin = match origin {
                    Some(Origin::Pt2(origin)) => Some(&**origin),
                    _ => None,
                };
                let options = Pt2Options { extra: texts };
                Ok(write_pt2(path, graph, origin, &options)?)
            }
        }
    }
}

impl Origin {
    /// Which kind of file it was.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Onnx(_) => Format::Onnx,
            Self::Pt2(_) => Format::Pt2,
        }
    }

    /// The files beside the model's own that hold its tensors.
    pub(crate) fn files_beside(&self) -> Vec<PathBuf> {
        match self {
            Self::Onnx(origin) => origin.files_beside().map(Path::to_owned).collect(),
            Self::Pt2(_) => Vec::new(),
        }
    }

    /// Which codes of a network's weights such a file does not have, in words.
    fn lost_codes(&self, graph: &Graph) -> Vec<String> {
        let codes = || {
            graph
                .weights()
                .iter()
                .filter_map(|(_, tensor)| tensor.code())
        };
        let int8 = codes().filter(|code| matches!(code, Code::Int8(_))).count();
        let books = codes().filter(|code| matches!(code, Code::Book(_))).count();
        let mut lost = Vec::new();
        match self {
            Self::Onnx(origin) if int8 > 0 && !origin.has_channel_scales() => lost.push(format!(
                "{int8} weights have 8 bits and are floats in the ONNX file: opset {} has no scale for every \
                 channel; export the source again with opset 13 or newer",
                origin.opset()
            )),
            Self::Pt2(_) if int8 > 0 => lost.push(format!(
                "{int8} weights have 8 bits and are floats in the .pt2 file, which is no smaller for them; the \
                 safetensors beside it and ONNX files hold the 8 bits"
            )),
            Self::Onnx(_) | Self::Pt2(_) => {}
        }
        if books > 0 {
            let extension = self.format().extension();
            lost.push(format!(
                "{books} weights have a code book and are floats in the .{extension} file, which has none"
            ));
        }
        lost
    }

    /// What an earlier run of Rankfold wrote into the file.
    pub(crate) fn record(&self) -> Map<String, Value> {
        let text = match self {
            Self::Onnx(origin) => record_among(origin.metadata()),
            Self::Pt2(origin) => record_among(origin.extra()),
        };
        text.and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }
}

fn record_among<'a>(mut texts: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    texts.find_map(|(key, value)| (key == METADATA_KEY).then(|| value.to_owned()))
}

/// An exported file that was just written and read back.
#[derive(Debug)]
pub(crate) struct ReadBack {
    /// The network as the file has it.
    pub(crate) graph: Graph,
    /// Size of the file and of those beside it.
    pub(crate) file_bytes: u64,
    /// What the user should know of it.
    pub(crate) notes: Vec<String>,
}

/// Writes a file and reads it back.
pub(crate) fn write_and_read_back(
    format: Format,
    path: &Path,
    graph: &Graph,
    origin: Option<&Origin>,
    record: &Map<String, Value>,
) -> Outcome<ReadBack> {
    format.write(path, graph, origin, record)?;
    let (read, origin) = format.read(path)?;
    let mut file_bytes = 0;
    for file in std::iter::once(path.to_owned()).chain(origin.files_beside()) {
        let metadata = std::fs::metadata(&file).map_err(|e| Failure::io(&file, &e))?;
        file_bytes += metadata.len();
    }
    Ok(ReadBack {
        graph: read,
        file_bytes,
        notes: origin.lost_codes(graph),
    })
}
