//! Accuracy and loss of a model, or its error, with a progress bar.

use rankfold_data::{Dataset, Split};
use rankfold_finetune::Aim;
use rankfold_graph::Graph;
use rankfold_torch::{
    Device, Executor, Metrics, Options, check_finite, evaluate, root_mean_square_error,
};
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

/// How a model did on a split.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Measured {
    /// It told classes apart.
    Classes(Scores),
    /// It gave numbers, with this root mean squared error.
    Numbers(f64),
}

/// How a graph does on a split at what it was trained for; none where no data were given, or they have
/// no labels and need some.
pub(crate) fn at(
    aim: Aim,
    graph: &Graph,
    args: &DataArgs,
    split: &Split,
    device: Device,
) -> Outcome<Option<Measured>> {
    match (aim, &args.data) {
        (Aim::Classes, _) => Ok(on(graph, args, split, device)?.map(Measured::Classes)),
        (_, None) => Ok(None),
        (_, Some(spec)) => {
            let data = data::open(spec, graph, &args.how, split, None)?;
            error(graph, data, &args.how, device).map(|error| Some(Measured::Numbers(error)))
        }
    }
}

/// The root of the mean squared error of a graph, with a progress bar.
fn error(graph: &Graph, data: Dataset, how: &PreparationArgs, device: Device) -> Outcome<f64> {
    check_finite(graph)?;
    let bar = progress::bar("evaluating", data.len() as u64);
    let loader = data::loader(graph, data, how, BATCH)?;
    let options = Options {
        device,
        ..Options::default()
    };
    let executor = Executor::new(graph, options)?;
    let error = root_mean_square_error(&executor, loader.epoch(0, 0)?, |inputs| {
        bar.set_position(inputs as u64);
        interrupt::flow()
    });
    bar.finish_and_clear();
    Ok(error?)
}

/// Inputs that run at once.
const BATCH: usize = 250;

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
    measure(graph, data, &args.how, BATCH, device).map(Some)
}

/// Refuses now what [`on`] would refuse after all the work: data that are not there, labels that the graph
/// does not tell apart.
pub(crate) fn check(graph: &Graph, args: &DataArgs, split: &Split) -> Outcome {
    let Some(spec) = &args.data else {
        return Ok(());
    };
    data::check_labels(graph, &data::open(spec, graph, &args.how, split, None)?)
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
