//! Progress of a course, and its file of metrics.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use indicatif::ProgressBar;
use rankfold_finetune::{Epoch, Event, FinetuneError, Length, News, StageRecord};
use rankfold_formats::{FormatError, write_atomically};
use serde::Serialize;
use serde_json::Value;

use super::Training;
use crate::interrupt;
use crate::output::note;
use crate::progress;

/// Progress and metrics of a course.
pub(super) struct Telling<'a> {
    training: &'a Training<'a>,
    pub(super) bar: ProgressBar,
    /// Lines of the metrics that others wrote: other networks, or other trainings of this one.
    others: Vec<String>,
    pub(super) records: Vec<StageRecord>,
    /// The loss, smoothed.
    loss: Option<f64>,
}

/// A line of the metrics.
#[derive(Serialize)]
struct Line<'a> {
    network: &'a str,
    stage: &'a str,
    #[serde(flatten)]
    epoch: &'a Epoch,
}

impl<'a> Telling<'a> {
    pub(super) fn new(training: &'a Training<'a>) -> Self {
        let text = std::fs::read_to_string(&training.metrics).unwrap_or_default();
        let others = text.lines().filter(|line| !is_own(training, line));
        let epoch = training.material.lessons.steps();
        let steps = match training.recipe.length {
            Length::Epochs(epochs) => epochs * epoch,
            Length::Steps(steps) => steps,
        };
        Self {
            training,
            bar: progress::bar(training.doing, steps as u64),
            others: others.map(str::to_owned).collect(),
            records: Vec::new(),
            loss: None,
        }
    }

    pub(super) fn hear(&mut self, news: &News<'_>) -> Result<ControlFlow<()>, FinetuneError> {
        match news {
            News::Stage {
                number,
                stage,
                steps,
                records,
            } => {
                self.records = records.to_vec();
                if self.records.len() == *number {
                    self.records.push(StageRecord {
                        stage: stage.name.clone(),
                        epochs: Vec::new(),
                    });
                }
                let stages = self.training.stages.len();
                if stages > 1 {
                    self.say(format!("stage {} of {stages}: {}", number + 1, stage.name));
                }
                if *steps > 0 {
                    self.say(format!("going on after step {steps}"));
                }
                self.bar.reset();
                self.bar.set_position(*steps as u64);
            }
            News::Event { event, .. } => match event {
                Event::Step(now) => {
                    self.bar.set_position(now.step as u64);
                    let loss = self.loss.get_or_insert(now.loss);
                    *loss += 0.05 * (now.loss - *loss);
                    self.bar.set_message(format!(
                        "epoch {}  loss {loss:.3}  rate {:.1e}",
                        now.epoch + 1,
                        now.rate
                    ));
                }
                Event::Epoch(epoch) => {
                    if let Some(record) = self.records.last_mut() {
                        record.epochs.push((*epoch).clone());
                    }
                    self.write()?;
                    self.say(epoch_line(epoch));
                }
                Event::TakenBack { step, loss, rate } => self.say(format!(
                    "step {step} diverged (loss {loss:.3}): taken back, and the rate is {rate:.1e} now"
                )),
                Event::State { .. } | Event::Stopping(_) => {}
            },
        }
        Ok(interrupt::flow())
    }

    /// Writes the metrics, all or nothing.
    pub(super) fn write(&self) -> Result<(), FinetuneError> {
        let path: &Path = &self.training.metrics;
        let failed = |source| FormatError::Io {
            path: path.to_owned(),
            source,
        };
        let own = self.records.iter().flat_map(|record| {
            record.epochs.iter().map(|epoch| Line {
                network: self.training.network,
                stage: &record.stage,
                epoch,
            })
        });
        write_atomically(path, |file| {
            for line in &self.others {
                writeln!(file, "{line}").map_err(failed)?;
            }
            for line in own {
                serde_json::to_writer(&mut *file, &line).map_err(|e| failed(e.into()))?;
                writeln!(file).map_err(failed)?;
            }
            Ok::<_, FinetuneError>(())
        })
    }

    fn say(&self, text: String) {
        self.bar.suspend(|| note(text));
    }
}

/// Whether a line of the metrics is of a stage of this training.
fn is_own(training: &Training<'_>, line: &str) -> bool {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    line["network"] == training.network
        && training
            .stages
            .iter()
            .any(|stage| line["stage"] == *stage.name)
}

fn epoch_line(epoch: &Epoch) -> String {
    let mut parts = vec![match epoch.epoch {
        0 => "before".to_owned(),
        number => format!("epoch {number}"),
    }];
    if epoch.epoch > 0 {
        parts.push(format!("loss {:.4}", epoch.loss));
    }
    if let Some(mark) = epoch.mark {
        if let Some((accuracy, error)) = mark.accuracy() {
            parts.push(format!("accuracy {accuracy:.2} ± {error:.2} %"));
        }
        if let (None, Some(error)) = (mark.correct, mark.loss) {
            parts.push(format!("error {error:.4}"));
        }
        if let Some(divergence) = mark.divergence {
            parts.push(format!("divergence {divergence:.4}"));
        }
        if let Some(agreement) = mark.agreement {
            parts.push(format!("agreement {agreement:.2} %"));
        }
    }
    if epoch.epoch > 0 {
        parts.push(format!("{:.0} inputs/s", epoch.inputs_per_second));
        parts.push(format!("{:.1} s", epoch.seconds));
    }
    parts.join("  ")
}
