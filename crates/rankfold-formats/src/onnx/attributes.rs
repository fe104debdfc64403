//! Reading and making the attributes of nodes.

use bytes::Bytes;

use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, NodeProto, TensorProto};

impl NodeProto {
    fn find(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|a| a.name() == name)
    }

    /// The integer attribute of that name.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.find(name)?.i
    }

    /// The same, or what it is by default.
    pub(super) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }

    /// The attribute of that name as a list of integers.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.find(name).map(|a| a.ints.as_slice())
    }

    /// The number of that name, or what it is by default.
    pub(super) fn float_or(&self, name: &str, default: f32) -> f64 {
        let value = self.find(name).and_then(|a| a.f).unwrap_or(default);
        // The shortest decimal that means the same f32: 1e-5 and not 9.999999747378752e-6.
        value.to_string().parse().unwrap_or(f64::from(value))
    }

    /// The text of that name, empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        let text = self.find(name).and_then(|a| a.s.as_ref());
        text.and_then(|s| std::str::from_utf8(s).ok()).unwrap_or("")
    }

    /// The tensor of that name.
    pub(super) fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.find(name)?.t.as_ref()
    }

    /// The name of input `index`, where it is given.
    pub(super) fn arg(&self, index: usize) -> Option<&str> {
        self.input
            .get(index)
            .map(String::as_str)
            .filter(|n| !n.is_empty())
    }

    /// True for an operator of ONNX itself.
    pub(super) fn is_standard(&self) -> bool {
        matches!(self.domain(), "" | "ai.onnx")
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}

/// An integer attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

/// A list of integers as an attribute.
pub(super) fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    signed(name, values.into_iter().map(|v| v as i64))
}

/// A list of signed integers as an attribute.
pub(super) fn signed(name: &str, values: impl IntoIterator<Item = i64>) -> AttributeProto {
    AttributeProto {
        ints: values.into_iter().collect(),
        ..attribute(name, AttributeType::Ints)
    }
}

/// A number as an attribute.
pub(super) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto {
        f: Some(value as f32),
        ..attribute(name, AttributeType::Float)
    }
}

/// A text as an attribute.
pub(super) fn text(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto {
        s: Some(Bytes::from_static(value.as_bytes())),
        ..attribute(name, AttributeType::String)
    }
}
