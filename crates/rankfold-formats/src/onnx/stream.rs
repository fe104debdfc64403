//! Models on the wire: everything but the data of the tensors is encoded in memory, the data goes
//! straight from where it is to the file.

use std::io::{self, Write};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use rankfold_graph::Tensor;

use super::proto::tensor_proto::DataLocation;
use super::proto::{ModelProto, StringStringEntryProto, TensorProto};
use super::tensor::header_of;
use crate::strided::transposed;

/// Tags of length-delimited fields: `ModelProto.graph`, `GraphProto.initializer`,
/// `TensorProto.raw_data`.
const GRAPH: u8 = 7 << 3 | 2;
const INITIALIZER: u8 = 5 << 3 | 2;
const RAW_DATA: u8 = 9 << 3 | 2;

/// Tensors smaller than this stay in the model's own file.
const STAYS: usize = 1024;
/// Data in a file of its own begins at multiples of this.
const ALIGNMENT: u64 = 64;

/// A tensor that is to be written.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    /// As it is.
    Plain(Tensor),
    /// A matrix, to be written transposed.
    Transposed(Tensor),
    /// An entry of a type that is not known, to be copied.
    Foreign(Box<TensorProto>),
}

impl Stored {
    /// The entry without its data, and the number of bytes that the data takes.
    fn header(&self, name: &str) -> (TensorProto, usize) {
        match self {
            Self::Plain(tensor) => (header_of(name, tensor), tensor.bytes().len()),
            Self::Transposed(tensor) => {
                let mut header = header_of(name, tensor);
                header.dims.reverse();
                (header, tensor.bytes().len())
            }
            Self::Foreign(proto) => ((**proto).clone(), 0),
        }
    }

    fn data(&self) -> Bytes {
        match self {
            Self::Plain(tensor) => tensor.bytes().clone(),
            Self::Transposed(tensor) => {
                transposed(tensor).map_or_else(|| tensor.bytes().clone(), |t| t.bytes().clone())
            }
            Self::Foreign(_) => Bytes::new(),
        }
    }
}

/// A model and its tensors, laid out.
pub(super) struct Layout<'a> {
    model: Vec<u8>,
    graph: Vec<u8>,
    tensors: Vec<Entry<'a>>,
    graph_len: u64,
}

struct Entry<'a> {
    stored: &'a Stored,
    header: Vec<u8>,
    inline: usize,
    /// Where the data begins in the file beside the model.
    offset: Option<u64>,
}

impl Entry<'_> {
    fn len(&self) -> usize {
        let data = match self.inline {
            0 => 0,
            n => 1 + encoded_len_varint(n as u64) + n,
        };
        self.header.len() + data
    }
}

impl<'a> Layout<'a> {
    /// `model`, which has no initializers, with `tensors`; the larger ones in a file called
    /// `beside`, where that is given.
    pub(super) fn new(
        mut model: ModelProto,
        tensors: impl Iterator<Item = (&'a str, &'a Stored)>,
        beside: Option<&str>,
    ) -> Self {
        let graph = model.graph.take().unwrap_or_default().encode_to_vec();
        let mut end = 0u64;
        let entry = |(name, stored): (&str, &'a Stored)| {
            let (mut header, len) = stored.header(name);
            let mut offset = None;
            if let Some(location) = beside.filter(|_| len >= STAYS) {
                let start = end.next_multiple_of(ALIGNMENT);
                end = start + len as u64;
                offset = Some(start);
                let text = |key: &str, value: String| StringStringEntryProto {
                    key: Some(key.to_owned()),
                    value: Some(value),
                };
                header.data_location = Some(DataLocation::External as i32);
                header.external_data = vec![
                    text("location", location.to_owned()),
                    text("offset", start.to_string()),
                    text("length", len.to_string()),
                ];
            }
            Entry {
                stored,
                header: header.encode_to_vec(),
                inline: if offset.is_some() { 0 } else { len },
                offset,
            }
        };
        let tensors: Vec<Entry<'a>> = tensors.map(entry).collect();
        let fields = tensors.iter().map(|e| {
            let len = e.len() as u64;
            1 + encoded_len_varint(len) as u64 + len
        });
        let graph_len = graph.len() as u64 + fields.sum::<u64>();
        Self {
            model: model.encode_to_vec(),
            graph,
            tensors,
            graph_len,
        }
    }

    /// The size of the model's own file.
    pub(super) fn len(&self) -> u64 {
        let tag = 1 + encoded_len_varint(self.graph_len) as u64;
        self.model.len() as u64 + tag + self.graph_len
    }

    /// Writes the model's own file; `release` is told what is not needed any more.
    pub(super) fn write(&self, out: &mut impl Write, release: &dyn Fn(&[u8])) -> io::Result<()> {
        out.write_all(&self.model)?;
        field(out, GRAPH, self.graph_len)?;
        out.write_all(&self.graph)?;
        for entry in &self.tensors {
            field(out, INITIALIZER, entry.len() as u64)?;
            out.write_all(&entry.header)?;
            if entry.inline > 0 {
                field(out, RAW_DATA, entry.inline as u64)?;
                let data = entry.stored.data();
                out.write_all(&data)?;
                release(&data);
            }
        }
        Ok(())
    }

    /// Writes the file beside it.
    pub(super) fn write_beside(
        &self,
        out: &mut impl Write,
        release: &dyn Fn(&[u8]),
    ) -> io::Result<()> {
        let mut at = 0u64;
        for entry in &self.tensors {
            let Some(offset) = entry.offset else { continue };
            let data = entry.stored.data();
            out.write_all(&vec![0; (offset - at) as usize])?;
            out.write_all(&data)?;
            release(&data);
            at = offset + data.len() as u64;
        }
        Ok(())
    }
}

fn field(out: &mut impl Write, tag: u8, len: u64) -> io::Result<()> {
    let mut head = vec![tag];
    encode_varint(len, &mut head);
    out.write_all(&head)
}
