//! Budgets in bytes: what counts is the size of the file that is written.

use rankfold_compress::Plan;
use rankfold_graph::{DType, Graph};
use serde_json::Value;

use crate::calibration::Calibration;
use crate::failure::{Failure, Kind, Outcome};
use crate::folder::{OutFolder, Written};
use crate::model::Loaded;
use crate::output::bytes;
use crate::record::Record;

/// A limit of the written file's size, where there is one.
#[derive(Debug)]
pub(crate) struct Sized<'a> {
    out: &'a OutFolder,
    loaded: &'a Loaded,
    dtype: Option<DType>,
    limit: Option<u64>,
}

impl<'a> Sized<'a> {
    /// At most `limit` bytes for what becomes of a model in a folder.
    pub(crate) fn new(
        out: &'a OutFolder,
        loaded: &'a Loaded,
        dtype: Option<DType>,
        limit: Option<u64>,
    ) -> Self {
        Self {
            out,
            loaded,
            dtype,
            limit,
        }
    }

    /// By how many bytes the file of a graph is too large. Plans are made with an estimate of the part
    /// that is not weights.
    pub(crate) fn excess(
        &self,
        graph: &Graph,
        plan: &Plan,
        calibration: Option<&Calibration>,
    ) -> Outcome<u64> {
        let Some(limit) = self.limit else {
            return Ok(0);
        };
        let record = Record::new(self.loaded, plan, &[], Value::Null, calibration)?;
        let origin = self.loaded.origin.as_ref();
        let written = self.out.measure(graph, origin, &record, self.dtype)?;
        Ok(written.saturating_sub(limit))
    }

    /// An error where a written file is too large after all.
    pub(crate) fn check(&self, written: &Written) -> Outcome {
        match self.limit {
            Some(limit) if written.file_bytes() > limit => Err(Failure::new(
                Kind::Unmet,
                format!(
                    "the written model takes {}, {} were allowed",
                    bytes(written.file_bytes()),
                    bytes(limit)
                ),
            )
            .hint("ask for a little less, or leave --reconstruct and --recalibrate out")),
            _ => Ok(()),
        }
    }
}
