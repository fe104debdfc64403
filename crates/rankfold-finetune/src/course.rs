//! A row of stages, kept on disk so that it can be gone on with.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rankfold_data::Loader;
use rankfold_formats::{Model, described_model, read_weights, write_model};
use rankfold_graph::Graph;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{FinetuneError, Result};
use crate::recipe::Recipe;
use crate::stages::{Freeze, Stage};
use crate::state::{Epoch, State};
use crate::train::{Event, Task, Trained, train};

/// Stages, from what is learnt in them, and how.
#[derive(Debug)]
pub struct Course<'a> {
    /// The stages in order, at least one.
    pub stages: &'a [Stage],
    /// Layers that were decomposed before the first stage.
    pub decomposed: &'a [String],
    /// The network whose answers are learnt.
    pub teacher: Option<&'a Graph>,
    /// The inputs that are learnt from.
    pub lessons: &'a Loader,
    /// Inputs by which epochs are judged.
    pub exam: Option<&'a Loader>,
    /// How every stage is trained.
    pub recipe: &'a Recipe,
    /// Which layers stay as they are.
    pub freeze: Freeze,
    /// Where checkpoints are kept; the folder is made.
    pub folder: &'a Path,
    /// What tells this course from others, as names and values.
    pub identity: &'a [(&'static str, String)],
    /// A checkpoint is written when the last one is older than this, and at every epoch.
    pub keep_every: Duration,
}

/// A network at the end of its course.
#[derive(Debug)]
pub struct Graduate {
    /// As it was after the last step.
    pub last: Graph,
    /// The best epoch of the last stage, and the network after it; none without an exam.
    pub best: Option<(usize, Graph)>,
    /// What happened.
    pub stages: Vec<StageRecord>,
}

/// What happened in a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage.
    pub stage: String,
    /// Its epochs, the first before any step.
    pub epochs: Vec<Epoch>,
}

/// What a course tells while it goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// A stage begins, or is gone on with after so many steps.
    Stage {
        /// Its number, counted from 0.
        number: usize,
        /// The stage.
        stage: &'a Stage,
        /// Steps that were done before.
        steps: usize,
        /// Stages that are over, and the epochs of this one.
        records: &'a [StageRecord],
    },
    /// Something happened in it.
    Event {
        /// The stage's number.
        number: usize,
        /// What.
        event: Event<'a>,
    },
}

impl Course<'_> {
    /// Goes through all stages, on from where an earlier run stopped. `decompose` rewrites the layers
    /// of a stage in the network as it then is; `hear` is told what happens and may end the course.
    pub fn run<E: From<FinetuneError>>(
        &self,
        start: &Graph,
        mut decompose: impl FnMut(&Graph, &Stage) -> std::result::Result<Graph, E>,
        hear: &mut dyn FnMut(News<'_>) -> Result<ControlFlow<()>>,
    ) -> std::result::Result<Graduate, E> {
        fs::create_dir_all(self.folder).map_err(|e| self.io(self.folder, e))?;
        let mut place = match self.place()? {
            Some(place) => place,
            None => {
                let place = Place {
                    number: 0,
                    graph: decompose(start, &self.stages[0])?,
                    best: None,
                    state: None,
                    records: Vec::new(),
                };
                self.begin(&place)?;
                place
            }
        };
        while place.number < self.stages.len() {
            let trained = self.stage(&mut place, hear)?;
            let next = self.stages.get(place.number + 1);
            let next = next.map(|stage| decompose(&trained.last, stage));
            place.records.push(StageRecord {
                stage: self.stages[place.number].name.clone(),
                epochs: trained.epochs,
            });
            place.number += 1;
            place.graph = next.transpose()?.unwrap_or(trained.last);
            place.best = trained.best;
            self.begin(&place)?;
        }
        Ok(Graduate {
            last: place.graph,
            best: place.best,
            stages: place.records,
        })
    }

    fn stage(
        &self,
        place: &mut Place,
        hear: &mut dyn FnMut(News<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<Trained> {
        let (number, graph) = (place.number, &place.graph);
        let stage = &self.stages[number];
        let state = place.state.take();
        let factor_rate = self.recipe.factor_rate;
        let pace = self
            .freeze
            .pace(graph, self.decomposed, self.stages, number, factor_rate);
        let task = Task {
            student: graph,
            teacher: self.teacher,
            lessons: self.lessons,
            exam: self.exam,
            recipe: self.recipe,
            pace: &pace,
        };
        let mut told = place.records.clone();
        if let Some(state) = &state {
            told.push(StageRecord {
                stage: stage.name.clone(),
                epochs: state.position.epochs.clone(),
            });
        }
        let steps = state.as_ref().map_or(0, |state| {
            state.position.epoch * self.lessons.steps() + state.position.step
        });
        let news = News::Stage {
            number,
            stage,
            steps,
            records: &told,
        };
        if hear(news)?.is_break() {
            return Err(FinetuneError::Stopped);
        }
        let path = self.state_file();
        let of = number.to_string();
        let mut kept = Instant::now();
        train(&task, state, &mut |event| {
            match &event {
                Event::State { state, epoch_start }
                    if *epoch_start || kept.elapsed() >= self.keep_every =>
                {
                    state.write(&path, &of)?;
                    kept = Instant::now();
                }
                Event::Stopping(state) => state.write(&path, &of)?,
                _ => {}
            }
            hear(News::Event { number, event })
        })
    }

    fn state_file(&self) -> PathBuf {
        self.folder.join("state.safetensors")
    }

    fn stage_file(&self, number: usize) -> PathBuf {
        self.folder.join(format!("stage-{number}.safetensors"))
    }

    fn io(&self, path: &Path, source: std::io::Error) -> FinetuneError {
        rankfold_formats::FormatError::Io {
            path: path.to_owned(),
            source,
        }
        .into()
    }

    /// Writes down with what a stage begins, or the course ends; what belongs to the one before goes.
    fn begin(&self, place: &Place) -> Result<()> {
        let path = self.stage_file(place.number);
        let identity = self.identity.iter();
        let identity: Map<String, Value> = identity
            .map(|(name, of)| ((*name).to_owned(), Value::String(of.clone())))
            .collect();
        let records = serde_json::to_value(&place.records);
        let records = records.map_err(|e| FinetuneError::Checkpoint {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        let mut record = Map::from_iter([
            ("course".to_owned(), Value::Object(identity)),
            ("stages".to_owned(), records),
        ]);
        if let Some((epoch, best)) = &place.best {
            record.insert("best_epoch".to_owned(), Value::from(*epoch));
            write_model(&self.best_file(), best, &Map::new(), None)?;
        }
        write_model(&path, &place.graph, &record, None)?;
        if let Some(before) = place.number.checked_sub(1) {
            let old = self.stage_file(before);
            fs::remove_file(&old).map_err(|e| self.io(&old, e))?;
            let _ = fs::remove_file(self.state_file());
        }
        Ok(())
    }

    /// Where an earlier run of this course stopped.
    fn place(&self) -> Result<Option<Place>> {
        let numbers = 0..=self.stages.len();
        let Some(number) = numbers.rev().find(|&n| self.stage_file(n).exists()) else {
            return Ok(None);
        };
        let path = self.stage_file(number);
        let mut model = described(&path)?;
        let broken = |reason: &str| FinetuneError::Checkpoint {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let stored = model.record.get("course").and_then(Value::as_object);
        let stored = stored.ok_or_else(|| broken("it does not say of what"))?;
        for (name, of) in self.identity {
            let found = stored.get(*name).and_then(Value::as_str);
            if found != Some(of) {
                return Err(FinetuneError::OtherTraining {
                    path,
                    what: name,
                    expected: of.clone(),
                    found: found.unwrap_or("nothing").to_owned(),
                });
            }
        }
        let records = model.record.remove("stages").unwrap_or_default();
        let records = serde_json::from_value(records).map_err(|e| broken(&e.to_string()))?;
        let best = model.record.get("best_epoch").and_then(Value::as_u64);
        let best = match best.filter(|_| number == self.stages.len()) {
            Some(epoch) => Some((epoch as usize, described(&self.best_file())?.graph)),
            None => None,
        };
        let state_file = self.state_file();
        let state = match state_file.exists() {
            true => Some(State::read(&state_file)?),
            false => None,
        };
        // A state of the stage before is one that its successor had no time to remove.
        let state = state.filter(|(_, of)| *of == number.to_string());
        Ok(Some(Place {
            number,
            graph: model.graph,
            best,
            state: state.map(|(state, _)| state),
            records,
        }))
    }

    fn best_file(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }
}

/// How far a course has come: a stage that has begun, or its end.
struct Place {
    number: usize,
    graph: Graph,
    /// The best epoch of the stage before, and the network after it.
    best: Option<(usize, Graph)>,
    state: Option<State>,
    records: Vec<StageRecord>,
}

fn described(path: &Path) -> Result<Model> {
    let model = described_model(path, &read_weights(path)?)?;
    model.ok_or_else(|| FinetuneError::Checkpoint {
        path: path.to_owned(),
        reason: "it describes no network".to_owned(),
    })
}
