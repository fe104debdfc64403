//! How much memory a model takes once it is decoded, from its bytes alone.
//!
//! An empty message is two bytes on the wire and hundreds in memory, so that a file of a few megabytes
//! could ask for gigabytes.

use std::mem::size_of;

use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Messages within messages that are followed: as many as the decoder follows.
const DEPTH: usize = 100;

/// Bytes in memory for every byte of a message that is not followed: a dimension of three bytes takes
/// no more than eighty.
const LEAF: u64 = 28;

/// Bytes in memory of a message that is not followed, and of a string.
const SMALL: u64 = 128;

/// A kind of message whose fields are followed.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Training,
    Function,
}

/// What a length-delimited field holds.
enum Field {
    Message(Kind, usize),
    /// A tensor, whose data stay where they are.
    Tensor,
    /// A message that is not followed.
    Leaf,
    /// Text, or numbers.
    Text,
}

impl Kind {
    fn field(self, number: u64) -> Field {
        match (self, number) {
            (Self::Model, 7) => Field::Message(Self::Graph, size_of::<GraphProto>()),
            (Self::Model, 20) => Field::Message(Self::Training, size_of::<GraphProto>()),
            (Self::Model, 25) => Field::Message(Self::Function, size_of::<GraphProto>()),
            (Self::Training, 1 | 2) => Field::Message(Self::Graph, size_of::<GraphProto>()),
            (Self::Graph, 1) | (Self::Function, 7) => {
                Field::Message(Self::Node, size_of::<NodeProto>())
            }
            (Self::Node, 5) | (Self::Function, 11) => {
                Field::Message(Self::Attribute, size_of::<AttributeProto>())
            }
            (Self::Attribute, 6 | 11) => Field::Message(Self::Graph, size_of::<GraphProto>()),
            (Self::Graph, 5 | 15) | (Self::Attribute, 5 | 10 | 22 | 23) => Field::Tensor,
            (Self::Graph, 11..=16) | (Self::Node, 9 | 10) | (Self::Attribute, 14 | 15) => {
                Field::Leaf
            }
            (Self::Model, 8 | 14 | 26) | (Self::Function | Self::Training, _) => Field::Leaf,
            _ => Field::Text,
        }
    }
}

/// About the bytes that a model takes once it is decoded, its tensors' numbers apart.
pub(super) fn decoded(model: &[u8]) -> u64 {
    message(Kind::Model, model, 0)
}

fn message(kind: Kind, mut bytes: &[u8], depth: usize) -> u64 {
    let mut total = 0u64;
    if depth > DEPTH {
        return total;
    }
    while let Some((number, content)) = field(&mut bytes) {
        let Some(content) = content else { continue };
        let len = content.len() as u64;
        total += match kind.field(number) {
            Field::Message(inner, size) => size as u64 + message(inner, content, depth + 1),
            Field::Tensor => size_of::<TensorProto>() as u64,
            Field::Leaf => SMALL + len * LEAF,
            // Numbers are packed at best one a byte.
            Field::Text => SMALL + len * 8,
        };
    }
    total
}

/// The next field's number and its content, where that is length-delimited; none at the end and where
/// the decoder will stop.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let tag = varint(bytes)?;
    let skip = |bytes: &mut &'a [u8], count: usize| {
        let (content, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(content)
    };
    let content = match tag & 7 {
        0 => varint(bytes).map(|_| None)?,
        1 => skip(bytes, 8).map(|_| None)?,
        2 => {
            let len = usize::try_from(varint(bytes)?).ok()?;
            Some(skip(bytes, len)?)
        }
        5 => skip(bytes, 4).map(|_| None)?,
        _ => return None,
    };
    Some((tag >> 3, content))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
