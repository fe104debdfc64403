//! Other shapes, other orders, parts.

use rankfold_graph::ops::{Expand, Pad, Reshape, Slice, Split, Unsqueeze};
use serde_json::{Value, json};

use super::{Done, Site, int, ints, number, signed};
use crate::pt2::Pt2Fault;
use crate::pt2::arguments::tensor_arg;
use crate::pt2::schema::{FileNode, SymInt};
use crate::pt2::write::Writer;

impl Writer<'_> {
    pub(super) fn split(&mut self, site: &Site<'_>, op: &Split) -> Done {
        let metas = (0..site.outputs.len()).map(|i| self.output_meta(site, i));
        let metas = metas.collect::<Result<Vec<_>, Pt2Fault>>()?;
        let outputs = site.outputs.iter().cloned().zip(metas).collect();
        self.several(site, "split_with_sizes.default", outputs, true, |json| {
            json.arg("self", site.input())
                .arg("split_sizes", ints(op.sizes.iter().copied()))
                .arg("dim", int(op.axis))
        });
        Ok(())
    }

    pub(super) fn slice(&mut self, site: &Site<'_>, op: &Slice) -> Done {
        self.simple(site, "slice.Tensor", |json| {
            json.arg("self", site.input())
                .arg("dim", int(op.axis))
                .arg("start", int(op.start))
                .arg("end", int(op.end.unwrap_or(i64::MAX)))
                .arg("step", int(op.step as i64))
        })
    }

    /// The size of an input's dimension: a number, or the name of a symbolic one.
    fn measured(&mut self, site: &Site<'_>, input: usize, axis: usize) -> Result<Value, Pt2Fault> {
        let sizes = self.sizes_of(site, input)?;
        let size = sizes.get(axis).cloned();
        let size =
            size.ok_or_else(|| self.no_form(site.node, "a size of its input is not known"))?;
        let SymInt::AsExpr(expr) = &size else {
            return Ok(json!({ "as_int": size.int() }));
        };
        if let Some(name) = self.sizes.get(&expr.expr_str) {
            return Ok(json!({ "as_name": name }));
        }
        let name = self.fresh(&format!("{}_size_{axis}", site.inputs[input]));
        let mut json = FileNode::new("torch.ops.aten.sym_size.int", &name)
            .arg("self", tensor_arg(&site.inputs[input]))
            .arg("dim", int(axis as i64));
        json.outputs = vec![json!({ "as_sym_int": { "as_name": name } })];
        json.metadata.clone_from(&site.metadata);
        self.sizes.insert(expr.expr_str.clone(), name.clone());
        self.sym_values.insert(name.clone(), size);
        self.push(json);
        Ok(json!({ "as_name": name }))
    }

    pub(super) fn reshape(&mut self, site: &Site<'_>, op: &Reshape) -> Done {
        let mut sizes = Vec::with_capacity(op.shape.len());
        for (axis, &size) in op.shape.iter().enumerate() {
            sizes.push(match size {
                0 => self.measured(site, 0, axis)?,
                n => json!({ "as_int": n }),
            });
        }
        let shape = listed(sizes);
        self.simple(site, "reshape.default", |json| {
            json.arg("self", site.input()).arg("shape", shape)
        })
    }

    pub(super) fn unsqueeze(&mut self, site: &Site<'_>, op: &Unsqueeze) -> Done {
        let mut sizes = self.sizes_of(site, 0)?;
        let rank = (sizes.len() + op.axes.len()) as i64;
        let from_start = |&axis: &i64| if axis < 0 { axis + rank } else { axis };
        let mut axes: Vec<i64> = op.axes.iter().map(from_start).collect();
        axes.sort_unstable();
        let mut input = site.input();
        let Some((&last, before)) = axes.split_last() else {
            return self.simple(site, "clone.default", |json| json.arg("self", input));
        };
        for &axis in before {
            sizes.insert(axis as usize, SymInt::AsInt(1));
            let name = self.step(site, "unsqueeze.default", sizes.clone(), |json| {
                json.arg("self", input).arg("dim", int(axis))
            })?;
            input = tensor_arg(&name);
        }
        self.simple(site, "unsqueeze.default", |json| {
            json.arg("self", input).arg("dim", int(last))
        })
    }

    pub(super) fn expand(&mut self, site: &Site<'_>, op: &Expand) -> Done {
        let mut sizes: Vec<Value> = op.shape.iter().map(|n| json!({ "as_int": n })).collect();
        if let Some(first) = sizes.first_mut().filter(|_| op.batch_of) {
            *first = self.measured(site, 1, 0)?;
        }
        let size = listed(sizes);
        self.simple(site, "expand.default", |json| {
            json.arg("self", site.input()).arg("size", size)
        })
    }

    pub(super) fn pad(&mut self, site: &Site<'_>, op: &Pad) -> Done {
        let amounts: Vec<i64> = op.padding.iter().rev().flatten().copied().collect();
        self.simple(site, "constant_pad_nd.default", |json| {
            json.arg("self", site.input())
                .arg("pad", signed(&amounts))
                .arg("value", number(op.value))
        })
    }
}

/// Sizes as an argument: plain numbers where all are.
fn listed(sizes: Vec<Value>) -> Value {
    let numbers: Option<Vec<&Value>> = sizes.iter().map(|size| size.get("as_int")).collect();
    match numbers {
        Some(numbers) => json!({ "as_ints": numbers }),
        None => json!({ "as_sym_ints": sizes }),
    }
}
