//! Accuracy and loss of a model, with a progress bar.

use rankfold_data::{Dataset, Split};
use rankfold_graph::Graph;
use rankfold_torch::{Device, Executor, Metrics, Options, check_finite, evaluate};
use serde::Serialize;

use crate::args::{DataArgs, PreparationArgs};
use crate::data;
use crate::failure::Outcome;
use crate::interrupt;
use crate::progress;

/// Accuracy as it is reported.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Scores {
    pub(crate) top1: f64,
    pub(crate) top1_se: f64,
    pub(crate) top5: f64,
    pub(crate) top5_se: f64,
    pub(crate) loss: f64,
    pub(crate) images: usize,
    pub(crate) images_per_second: f64,
}

impl From<Metrics> for Scores {
    fn from(metrics: Metrics) -> Self {
        Self {
            top1: metrics.top1,
            top1_se: metrics.top1_se,
            top5: metrics.top5,
            top5_se: metrics.top5_se,
            loss: metrics.loss,
            images: metrics.images,
            images_per_second: metrics.images_per_second,
        }
    }
}

/// Accuracy of a graph on a split; none where no data were given or they have no labels.
pub(crate) fn on(
    graph: &Graph,
    args: &DataArgs,
    split: &Split,
    device: Device,
) -> Outcome<Option<Scores>> {
    let Some(spec) = &args.data else {
        return Ok(None);
    };
    let data = data::open(spec, graph, &args.how, split, None)?;
    if !data.labelled() {
        return Ok(None);
    }
    measure(graph, data, &args.how, 250, device).map(Some)
}

/// Accuracy of a graph on labelled data, with a progress bar.
pub(crate) fn measure(
    graph: &Graph,
    data: Dataset,
    how: &PreparationArgs,
    batch: usize,
    device: Device,
) -> Outcome<Scores> {
    check_finite(graph)?;
    let images = data.len();
    let loader = data::loader(graph, data, how, batch)?;
    let options = Options {
        device,
        ..Options::default()
    };
    let executor = Executor::new(graph, options)?;
    let bar = progress::bar("evaluating", images as u64);
    let metrics = evaluate(&executor, loader.epoch(0, 0)?, |tally| {
        bar.set_position(tally.images as u64);
        let share = 100.0 * tally.first as f64 / tally.images as f64;
        bar.set_message(format!("top-1 {share:.2} %"));
        interrupt::flow()
    });
    bar.finish_and_clear();
    Ok(metrics?.into())
}
