//! Other shapes, other orders, parts.

use rankfold_graph::ops::{Expand, Flatten, Pad, Slice, Split};

use super::{Done, Site};
use crate::onnx::attributes::{int, ints, signed, text};
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::write::Writer;

impl Writer<'_> {
    /// A node whose axes are an attribute before opset `since` and an input from it on.
    pub(super) fn with_axes(
        &mut self,
        site: &Site<'_>,
        op_type: &str,
        axes: &[i64],
        since: i64,
        mut attributes: Vec<AttributeProto>,
    ) -> Done {
        let mut inputs = vec![site.input()];
        if self.opset >= since {
            inputs.push(self.numbers(site, "axes", axes)?);
        } else {
            attributes.push(signed("axes", axes.iter().copied()));
        }
        self.add(site, op_type, &inputs, &site.output(), attributes);
        Ok(())
    }

    pub(super) fn split(&mut self, site: &Site<'_>, op: &Split) -> Done {
        let mut input = vec![site.input()];
        let mut attribute = vec![int("axis", op.axis)];
        if self.opset >= 13 {
            let sizes: Vec<i64> = op.sizes.iter().map(|&s| s as i64).collect();
            input.push(self.numbers(site, "sizes", &sizes)?);
        } else {
            attribute.push(ints("split", op.sizes.iter().copied()));
        }
        self.push(NodeProto {
            input,
            output: site.outputs.clone(),
            name: Some(site.node.name.clone()),
            op_type: Some("Split".to_owned()),
            attribute,
            ..NodeProto::default()
        });
        Ok(())
    }

    pub(super) fn slice(&mut self, site: &Site<'_>, op: &Slice) -> Done {
        let starts = self.numbers(site, "start", &[op.start])?;
        let ends = self.numbers(site, "end", &[op.end.unwrap_or(i64::MAX)])?;
        let axes = self.numbers(site, "axis", &[op.axis])?;
        let steps = self.numbers(site, "step", &[op.step as i64])?;
        let inputs = [site.input(), starts, ends, axes, steps];
        self.add(site, "Slice", &inputs, &site.output(), vec![]);
        Ok(())
    }

    pub(super) fn flatten(&mut self, site: &Site<'_>, op: &Flatten) -> Done {
        let fact = self.graph.fact(site.node.inputs[0]);
        let Some(shape) = fact.shape.clone() else {
            if (op.start, op.end) == (1, -1) {
                self.simple(site, "Flatten", vec![int("axis", 1)]);
                return Ok(());
            }
            return Err(self.no_form(site.node, "its input's dimensions are not known"));
        };
        let rank = shape.len() as i64;
        let place = |axis: i64| (if axis < 0 { axis + rank } else { axis }) as usize;
        let (start, end) = (place(op.start), place(op.end));
        if start == 1 && end + 1 == shape.len() {
            self.simple(site, "Flatten", vec![int("axis", 1)]);
            return Ok(());
        }
        let mut sizes = vec![0; start];
        sizes.push(-1);
        for dim in &shape[end + 1..] {
            let Some(size) = dim.fixed() else {
                return Err(self.no_form(site.node, "a size after the merged ones is not known"));
            };
            sizes.push(size as i64);
        }
        self.reshape(site, &sizes)
    }

    pub(super) fn reshape(&mut self, site: &Site<'_>, shape: &[i64]) -> Done {
        let shape = self.numbers(site, "shape", shape)?;
        self.add(
            site,
            "Reshape",
            &[site.input(), shape],
            &site.output(),
            vec![],
        );
        Ok(())
    }

    pub(super) fn expand(&mut self, site: &Site<'_>, op: &Expand) -> Done {
        // A size of one keeps the dimension as it is.
        let sizes: Vec<i64> = op
            .shape
            .iter()
            .map(|&n| if n == -1 { 1 } else { n })
            .collect();
        let shape = if op.batch_of {
            let like = site.inputs[1].clone();
            let first = self.numbers(site, "first", &[0])?;
            let all = self.step(site, "Shape", &[like], vec![]);
            let batch = self.step(site, "Gather", &[all, first], vec![int("axis", 0)]);
            let rest = self.numbers(site, "rest", &sizes[1..])?;
            self.step(site, "Concat", &[batch, rest], vec![int("axis", 0)])
        } else {
            self.numbers(site, "shape", &sizes)?
        };
        self.add(
            site,
            "Expand",
            &[site.input(), shape],
            &site.output(),
            vec![],
        );
        Ok(())
    }

    pub(super) fn pad(&mut self, site: &Site<'_>, op: &Pad) -> Done {
        let side = |i: usize| op.padding.iter().map(move |p| p[i]);
        let pads: Vec<i64> = side(0).chain(side(1)).collect();
        let pads = self.numbers(site, "pads", &pads)?;
        let value = self.filled(site, "value", op.value, None)?;
        let inputs = [site.input(), pads, value];
        self.add(
            site,
            "Pad",
            &inputs,
            &site.output(),
            vec![text("mode", "constant")],
        );
        Ok(())
    }
}
