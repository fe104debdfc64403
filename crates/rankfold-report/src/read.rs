//! From folders to what they hold.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ReportError;
use crate::latency::Latency;
use crate::metrics::Epoch;
use crate::record::Record;
use crate::sweep::{Cell, Sweep, Tally};

/// What one folder holds.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// The folder's name.
    pub name: String,
    /// Its report.json as it stands.
    pub own: Map<String, Value>,
    /// What a compression did.
    pub record: Option<Record>,
    /// What a sweep measured.
    pub sweep: Option<Sweep>,
    /// What fine-tuning wrote.
    pub epochs: Vec<Epoch>,
    /// Measured times.
    pub latency: Option<Latency>,
    /// Lines that were cut off: work that was stopped, or that still goes on.
    pub cut: Vec<String>,
}

impl Folder {
    /// All that is known in a folder; an error where that is nothing.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let io = |source| ReportError::Io {
            path: folder.to_owned(),
            source,
        };
        if !fs::metadata(folder).map_err(io)?.is_dir() {
            let path = folder.to_owned();
            return Err(ReportError::NotFolder { path });
        }
        let full = fs::canonicalize(folder).map_err(io)?;
        let mut found = Self {
            name: full.file_name().map_or_else(
                || folder.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
            ..Self::default()
        };
        let path = folder.join("report.json");
        found.own = json(&path)?.unwrap_or_default();
        found.record = record(&path)?;
        found.latency = json(&folder.join("bench.json"))?;
        let path = folder.join("sweep.json");
        if let Some(sweep) = json::<Sweep>(&path)? {
            check_tally(&path, "baseline.accuracy", sweep.baseline.accuracy)?;
            let path = folder.join("cells.jsonl");
            let cells: Vec<Cell> = lines(&path, &mut found.cut)?;
            for cell in &cells {
                let field = format!("{} {} {}: accuracy", cell.layer, cell.form, cell.rank);
                check_tally(&path, &field, cell.measured.accuracy)?;
            }
            found.sweep = Some(Sweep { cells, ..sweep });
        }
        let path = folder.join("metrics.jsonl");
        found.epochs = lines(&path, &mut found.cut)?;
        for epoch in &found.epochs {
            check_tally(&path, "mark", epoch.accuracy())?;
        }
        match found.is_empty() {
            true => Err(ReportError::Nothing {
                path: folder.to_owned(),
            }),
            false => Ok(found),
        }
    }

    fn is_empty(&self) -> bool {
        self.record.is_none() && self.sweep.is_none() && self.epochs.is_empty()
    }
}

/// The record in a report.json; none where the file holds only what an earlier report drew.
fn record(path: &Path) -> Result<Option<Record>, ReportError> {
    let Some(record) = json::<Record>(path)? else {
        return Ok(None);
    };
    for layer in &record.layers {
        for curve in &layer.curves {
            let rows = curve.rank.len();
            let columns = [
                curve.parameters.len(),
                curve.macs.len(),
                curve.error.len(),
                if curve.damage.is_empty() {
                    rows
                } else {
                    curve.damage.len()
                },
            ];
            if let Some(other) = columns.into_iter().find(|&length| length != rows) {
                return Err(ReportError::Value {
                    path: path.to_owned(),
                    field: format!("layer `{}`, curve of {}", layer.name, curve.form),
                    expected: "columns of one length",
                    found: format!("{rows} and {other} entries"),
                });
            }
        }
    }
    Ok((record.before.is_some() || record.after.is_some()).then_some(record))
}

fn check_tally(path: &Path, field: &str, tally: Option<Tally>) -> Result<(), ReportError> {
    match tally {
        Some(tally) if tally.correct > tally.of => Err(ReportError::Value {
            path: path.to_owned(),
            field: field.to_owned(),
            expected: "at most as many right answers as inputs",
            found: format!("{} of {}", tally.correct, tally.of),
        }),
        _ => Ok(()),
    }
}

/// The text of a file; none where there is none.
fn text(path: &Path) -> Result<Option<Vec<u8>>, ReportError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The value that a file of JSON holds; none where there is no file.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let Some(bytes) = text(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).map_err(|e| syntax(path, e.line(), &e))?;
    Ok(Some(value))
}

/// The values of a file of a value a line. A last line without an end is left out and told in `cut`.
fn lines<T: DeserializeOwned>(path: &Path, cut: &mut Vec<String>) -> Result<Vec<T>, ReportError> {
    let Some(bytes) = text(path)? else {
        return Ok(Vec::new());
    };
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    if whole < bytes.len() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        cut.push(format!("the last line of {name} is cut off and left out"));
    }
    let mut values = Vec::new();
    for (number, line) in bytes[..whole].split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        values.push(serde_json::from_slice(line).map_err(|e| syntax(path, number + 1, &e))?);
    }
    Ok(values)
}

fn syntax(path: &Path, line: usize, error: &serde_json::Error) -> ReportError {
    let text = error.to_string();
    // The place within a line of a longer file is not that within the file.
    let reason = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(reason, _)| reason);
    ReportError::Syntax {
        path: PathBuf::from(path),
        line,
        reason: reason.to_owned(),
    }
}
