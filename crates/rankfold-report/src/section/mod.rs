//! The sections of the page. One that has nothing to say is not there.

mod cards;
mod cells;
mod coding;
mod layers;
mod network;
mod origin;
mod pruned;
mod sensitivity;
mod steps;
mod table;
mod tradeoff;

use crate::latency::Pair;
use crate::metrics::Epoch;
use crate::plot::Plot;
use crate::plot::svg::escape;
use crate::read::Folder;
use crate::record::{Layer, Record};
use crate::sweep::Sweep;

/// A part of the page.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) body: String,
    pub(crate) plots: Vec<Plot>,
}

/// Makes a section, where there is something to say.
type Make = fn(&Sources<'_>) -> Option<Section>;

/// Every section, in the order of the page.
pub(crate) const ALL: &[Make] = &[
    tradeoff::section,
    steps::section,
    layers::section,
    table::section,
    pruned::section,
    network::section,
    cards::section,
    origin::section,
];

/// What a report is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// The folder that it is about.
    pub(crate) main: &'a Folder,
    pub(crate) others: &'a [Folder],
    pub(crate) sweep: Option<&'a Sweep>,
    pub(crate) epochs: &'a [Epoch],
}

impl<'a> Sources<'a> {
    pub(crate) fn new(folders: &'a [Folder]) -> Self {
        static NONE: std::sync::LazyLock<Folder> = std::sync::LazyLock::new(Folder::default);
        let (main, others) = folders.split_first().unwrap_or((&NONE, &[]));
        let epochs = folders.iter().find(|folder| !folder.epochs.is_empty());
        Self {
            main,
            others,
            sweep: folders.iter().find_map(|folder| folder.sweep.as_ref()),
            epochs: epochs.map_or(&[], |folder| &folder.epochs),
        }
    }

    pub(crate) fn record(&self) -> Option<&'a Record> {
        self.main.record.as_ref()
    }

    pub(crate) fn layers(&self) -> &'a [Layer] {
        self.record().map_or(&[], |record| &record.layers)
    }

    /// Measured times of the original and of the model.
    pub(crate) fn latencies(&self) -> Vec<Pair<'a>> {
        let latency = self.main.latency.as_ref();
        latency.map_or_else(Vec::new, |latency| latency.pairs(Some(&self.main.name)))
    }

    /// What the page is about.
    pub(crate) fn title(&self) -> String {
        let file = |path: &str| {
            let name = std::path::Path::new(path).file_name();
            name.map(|name| name.to_string_lossy().into_owned())
        };
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let record = self.record();
        record
            .and_then(|record| {
                named(&record.model).or_else(|| file(record.provenance.source.as_deref()?))
            })
            .or_else(|| named(&self.sweep?.model.name))
            .unwrap_or_else(|| self.main.name.clone())
    }
}

/// A plot with its title and caption.
pub(crate) fn figure(plot: &Plot) -> String {
    format!(
        "<figure id=\"{}\"><h3>{}</h3>{}<figcaption>{}</figcaption></figure>\n",
        escape(&plot.name),
        escape(&plot.title),
        plot.inline,
        escape(&plot.caption)
    )
}

/// Plots side by side where there is room.
pub(crate) fn figures(plots: &[Plot]) -> String {
    let each: String = plots.iter().map(figure).collect();
    format!("<div class=\"figures\">{each}</div>\n")
}
