//! What was done to a network, as a page to read.
//!
//! [`Folder::read`] takes in what compression, a sweep, fine-tuning and the clock left in a folder;
//! [`Report::of`] makes of it one HTML file that needs nothing else, the same plots as SVG, and their
//! numbers as JSON. Nothing here writes a file: [`Report::files`] says what belongs where.
//!
//! ```
//! use rankfold_report::{Folder, Report};
//!
//! // `Folder::read` takes in what commands wrote; it can be filled by hand as well.
//! let folder = Folder {
//!     name: "resnet20-small".to_owned(),
//!     ..Folder::default()
//! };
//! let report = Report::of(&[folder]);
//! for (name, text) in report.files() {
//!     assert!(!text.is_empty(), "{name}");
//! }
//! ```

mod error;
mod json;
mod latency;
mod metrics;
pub mod numbers;
mod page;
mod plot;
mod read;
mod reason;
mod record;
mod section;
mod sweep;

pub use error::ReportError;
pub use latency::{Latency, Timing};
pub use metrics::{Epoch, Mark, Network};
pub use plot::Plot;
pub use read::Folder;
pub use record::{Curve, Done, Goal, Layer, Machine, Provenance, Record, Side, Spectrum, Tried};
pub use sweep::{Cell, Changed, Inputs, Measured, Sweep, Swept, SweptForm, SweptLayer, Tally};

use serde_json::{Map, Value};

use crate::section::{Section, Sources};

/// A report, ready to be written.
#[derive(Debug, Clone)]
pub struct Report {
    /// The page.
    pub html: String,
    /// The plots, in the order of the page.
    pub plots: Vec<Plot>,
    own: Map<String, Value>,
}

impl Report {
    /// The report on the first folder; the others are what else was tried, or measured on the way to it.
    pub fn of(folders: &[Folder]) -> Self {
        let sources = Sources::new(folders);
        let sections: Vec<Section> = section::ALL
            .iter()
            .filter_map(|make| make(&sources))
            .collect();
        let html = page::page(&sources, &sections);
        Self {
            html,
            plots: sections
                .into_iter()
                .flat_map(|section| section.plots)
                .collect(),
            own: folders
                .first()
                .map(|folder| folder.own.clone())
                .unwrap_or_default(),
        }
    }

    /// The folder's report.json with the numbers of every plot in it.
    pub fn json(&self) -> String {
        let mut own = self.own.clone();
        let plots = self
            .plots
            .iter()
            .map(|plot| (plot.name.clone(), plot.data.clone()));
        own.insert("plots".to_owned(), Value::Object(plots.collect()));
        json::text(&Value::Object(own))
    }

    /// Every file of the report: where it belongs, and what it holds. The plots are all in `plots/`.
    pub fn files(&self) -> Vec<(String, String)> {
        let plots = self
            .plots
            .iter()
            .map(|plot| (format!("plots/{}.svg", plot.name), plot.file.clone()));
        [
            ("report.html".to_owned(), self.html.clone()),
            ("report.json".to_owned(), self.json()),
        ]
        .into_iter()
        .chain(plots)
        .collect()
    }
}
