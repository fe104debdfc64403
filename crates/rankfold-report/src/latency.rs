//! What `rankfold bench --json` measured: `bench.json`.

use serde::Deserialize;

/// Measured times of one model, or of two in turn.
#[derive(Debug, Clone, Deserialize)]
pub struct Latency {
    /// A row for every model and batch size.
    pub rows: Vec<Timing>,
    /// Threads that it ran on.
    #[serde(default)]
    pub threads: Option<usize>,
    /// The device that it ran on.
    #[serde(default)]
    pub device: Option<String>,
}

/// The time of one model at one batch size.
#[derive(Debug, Clone, Deserialize)]
pub struct Timing {
    /// The model's path.
    pub model: String,
    /// Inputs at once.
    pub batch: u64,
    /// How images lie in memory.
    #[serde(default)]
    pub layout: Option<String>,
    /// The median of the measurements.
    pub median_ms: f64,
    /// Their quartiles.
    #[serde(default)]
    pub quartiles_ms: Option<[f64; 2]>,
}

/// The times of the original and of the compressed model at one batch size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) before: Option<&'a Timing>,
    pub(crate) after: &'a Timing,
}

impl Latency {
    /// Original and compressed model at every batch size; `folder` is the name of the compressed one's
    /// folder, which is the last model otherwise.
    pub(crate) fn pairs(&self, folder: Option<&str>) -> Vec<Pair<'_>> {
        let named = |row: &&Timing| {
            let name = std::path::Path::new(&row.model).file_name();
            folder.is_some() && name.and_then(|name| name.to_str()) == folder
        };
        let mut batches: Vec<u64> = self.rows.iter().map(|row| row.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        let pair = |batch| {
            let rows: Vec<&Timing> = self.rows.iter().filter(|row| row.batch == batch).collect();
            let after = rows.iter().copied().rfind(named).or(rows.last().copied())?;
            let before = rows.iter().copied().find(|row| row.model != after.model);
            Some(Pair { before, after })
        };
        batches.into_iter().filter_map(pair).collect()
    }
}
