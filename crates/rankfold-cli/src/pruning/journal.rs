//! Where cycles of pruning stand, on disk: the networks that the next cycle needs, and no others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rankfold_finetune::FinetuneError;
use rankfold_formats::{described_model, read_weights, write_model};
use rankfold_graph::Graph;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::account::Cycle;
use super::cycles::Pupil;
use crate::failure::{Failure, Kind, Outcome};
use crate::folder::OutFolder;
use crate::output::{write_json, write_text};

/// The cycles that are over, and the networks that they came to.
pub(super) struct Stand {
    /// The network that the next cycle begins with.
    pub(super) now: Pupil,
    /// The one that would be written.
    pub(super) best: Pupil,
    /// The largest error after a cycle that is not taken back; none for any.
    pub(super) allowed: Option<f64>,
    pub(super) cycles: Vec<Cycle>,
    /// Cycles that came to nothing since one came to something.
    pub(super) vain: usize,
}

/// The folder that a stand is kept in.
pub(super) struct Journal<'a> {
    out: &'a OutFolder,
    /// What tells these cycles from others, as names and values.
    of: BTreeMap<&'static str, String>,
}

/// `journal.json`.
#[derive(Serialize, Deserialize)]
struct Saved {
    of: BTreeMap<String, String>,
    now: SavedPupil,
    best: SavedPupil,
    allowed: Option<f64>,
    cycles: Vec<Cycle>,
    vain: usize,
    metrics: String,
}

/// A network, by the names of its files.
#[derive(Serialize, Deserialize)]
struct SavedPupil {
    graph: String,
    last: Option<String>,
    training: Option<Value>,
    error: Option<f64>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(out: &'a OutFolder, of: BTreeMap<&'static str, String>) -> Self {
        Self { out, of }
    }

    fn folder(&self) -> PathBuf {
        self.out.course("cycles")
    }

    fn file(&self) -> PathBuf {
        self.folder().join("journal.json")
    }

    /// Where an earlier run stopped; none where there was none.
    pub(super) fn read(&self) -> Outcome<Option<Stand>> {
        let path = self.file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io(&path, &error)),
        };
        let saved: Saved = serde_json::from_str(&text)
            .map_err(|error| Failure::new(Kind::BadFile, format!("{}: {error}", path.display())))?;
        for (&what, expected) in &self.of {
            let found = saved.of.get(what);
            if found != Some(expected) {
                return Err(FinetuneError::OtherTraining {
                    path,
                    what,
                    expected: expected.clone(),
                    found: found.cloned().unwrap_or_else(|| "nothing".to_owned()),
                }
                .into());
            }
        }
        write_text(&self.out.file("metrics.jsonl"), &saved.metrics)?;
        Ok(Some(Stand {
            now: self.pupil(saved.now)?,
            best: self.pupil(saved.best)?,
            allowed: saved.allowed,
            cycles: saved.cycles,
            vain: saved.vain,
        }))
    }

    fn pupil(&self, saved: SavedPupil) -> Outcome<Pupil> {
        let graph = |name: String| network(&self.folder().join(name));
        Ok(Pupil {
            graph: graph(saved.graph)?,
            last: saved.last.map(graph).transpose()?,
            training: saved.training,
            error: saved.error,
        })
    }

    /// Writes down where cycles stand; what earlier ones left to go on from goes.
    pub(super) fn write(&self, stand: &Stand) -> Outcome {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(|e| Failure::io(&folder, &e))?;
        let number = stand.cycles.len();
        let metrics = self.out.file("metrics.jsonl");
        let saved = Saved {
            of: (self.of.iter())
                .map(|(name, of)| ((*name).to_owned(), of.clone()))
                .collect(),
            now: self.save(&stand.now, "now", number)?,
            best: self.save(&stand.best, "best", number)?,
            allowed: stand.allowed,
            cycles: stand.cycles.clone(),
            vain: stand.vain,
            metrics: fs::read_to_string(metrics).unwrap_or_default(),
        };
        write_json(&self.file(), &saved)?;
        let needed: Vec<&str> = [&saved.now, &saved.best]
            .into_iter()
            .flat_map(|pupil| [Some(pupil.graph.as_str()), pupil.last.as_deref()])
            .flatten()
            .chain(["journal.json"])
            .collect();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| needed.contains(&name))
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        let trainings = (1..=number).map(|number| format!("cycle-{number}"));
        for training in trainings.chain(["before".to_owned()]) {
            let _ = fs::remove_dir_all(self.out.course(&training));
        }
        Ok(())
    }

    fn save(&self, pupil: &Pupil, kind: &str, number: usize) -> Outcome<SavedPupil> {
        let write = |graph: &Graph, name: String| -> Outcome<String> {
            write_model(&self.folder().join(&name), graph, &Map::new(), None)?;
            Ok(name)
        };
        let last = pupil.last.as_ref();
        let last = last.map(|last| write(last, format!("{kind}-last-{number}.safetensors")));
        Ok(SavedPupil {
            graph: write(&pupil.graph, format!("{kind}-{number}.safetensors"))?,
            last: last.transpose()?,
            training: pupil.training.clone(),
            error: pupil.error,
        })
    }
}

/// The network that a file describes.
fn network(path: &Path) -> Outcome<Graph> {
    let model = described_model(path, &read_weights(path)?)?;
    let model = model.ok_or_else(|| {
        Failure::new(
            Kind::BadFile,
            format!("{} describes no network", path.display()),
        )
    })?;
    Ok(model.graph)
}
