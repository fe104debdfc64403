//! The graph as text: stable, a line a node, so that two dumps can be compared.

use std::fmt;

use crate::graph::Graph;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}", self.meta.name)?;
        for &input in &self.inputs {
            let value = self.value(input);
            writeln!(f, "  input {}: {}", value.name, value.fact)?;
        }
        for node in &self.nodes {
            write!(f, "  ")?;
            for (i, &output) in node.outputs.iter().enumerate() {
                let value = self.value(output);
                let comma = if i > 0 { ", " } else { "" };
                write!(f, "{comma}{}: {}", value.name, value.fact)?;
            }
            let attributes = serde_json::to_value(&node.op).map_err(|_| fmt::Error)?;
            write!(f, " = {}(", node.op.kind())?;
            for (i, &input) in node.inputs.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                write!(f, "{comma}{}", self.value(input).name)?;
            }
            write!(f, ")")?;
            for (name, value) in attributes.as_object().into_iter().flatten() {
                if name != "op" && name != "outputs" {
                    write!(f, " {name}={value}")?;
                }
            }
            writeln!(f)?;
        }
        for &output in &self.outputs {
            writeln!(f, "  output {}", self.value(output).name)?;
        }
        Ok(())
    }
}
