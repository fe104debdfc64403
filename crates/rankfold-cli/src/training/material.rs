//! What is learnt from, and what epochs are judged by.

use rankfold_data::{Augment, DataSpec, Dataset, Loader, LoaderOptions, Split};
use rankfold_finetune::{Aim, Recipe};
use rankfold_graph::Graph;

use super::options::TrainingArgs;
use super::parse::AugmentArg;
use crate::args::{DataArgs, PreparationArgs};
use crate::data;
use crate::failure::{Failure, Outcome};

/// What is learnt from, and what epochs are judged by.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) lessons: Loader,
    pub(crate) exam: Loader,
    /// What the best epoch is chosen on, in words.
    pub(crate) chosen_on: String,
}

/// Inputs held back to choose by: a share of those that are learnt from, up to a number.
const HELD_BACK: (f64, usize) = (0.05, 2000);
/// Inputs that run at once where nothing is learnt.
const BATCH: usize = 250;

impl Material {
    /// The data of a training; what is reported on, if anything, is not to be chosen on.
    pub(crate) fn open(
        args: &TrainingArgs,
        data_args: &DataArgs,
        graph: &Graph,
        reported: Option<&Split>,
        seed: u64,
    ) -> Outcome<Self> {
        let spec = data::spec(data_args, "training")?;
        let how = &data_args.how;
        let all = data::open(spec, graph, how, &args.train_split, None)?;
        let (learnt, judged, chosen_on) = match &args.choose {
            Some(choose) => {
                check_apart(spec, graph, how, [choose, &args.train_split], "learnt from")?;
                if let Some(reported) = reported {
                    check_apart(spec, graph, how, [choose, reported], "reported on")?;
                }
                (
                    all,
                    data::open(spec, graph, how, choose, None)?,
                    choose.to_string(),
                )
            }
            None => {
                let wanted = (HELD_BACK.0 * all.len() as f64).ceil() as usize;
                let (learnt, judged) = all.hold_back(wanted.min(HELD_BACK.1), seed)?;
                let words = format!(
                    "{} of {} that are not learnt from",
                    judged.len(),
                    args.train_split
                );
                (learnt, judged, words)
            }
        };
        if args.batch > learnt.len() {
            return Err(Failure::usage(format!(
                "a step takes {} inputs, and there are {} to learn from",
                args.batch,
                learnt.len()
            ))
            .hint("give a smaller --batch, or more data"));
        }
        let augment = match args.augment {
            None | Some(AugmentArg::Usual) => Augment::usual(&learnt),
            Some(AugmentArg::Own(own)) => own,
        };
        let normalization = data::normalization(graph, how)?;
        let options = LoaderOptions {
            drop_last: true,
            ..LoaderOptions::train(args.batch, normalization, augment, seed)
        };
        Ok(Self {
            lessons: Loader::new(learnt, options)?,
            exam: data::loader(graph, judged, how, BATCH)?,
            chosen_on,
        })
    }

    /// An error where the recipe reads labels and there are none.
    pub(crate) fn check_labels(&self, recipe: &Recipe) -> Outcome {
        let reads_labels = recipe.label_weight > 0.0 && recipe.aim == Aim::Classes;
        if reads_labels && !self.lessons.dataset().labelled() {
            return Err(
                Failure::usage("this training reads labels, and the data have none")
                    .hint("learn from a teacher instead, or give labelled data"),
            );
        }
        Ok(())
    }

    /// What the data are, in words that tell them from others.
    pub(crate) fn identity(&self) -> String {
        let learnt = self.lessons.dataset();
        let options = self.lessons.options();
        format!(
            "{} of {} {} in batches of {}, {:?}, judged on {}",
            learnt.len(),
            learnt.spec(),
            learnt.split(),
            options.batch_size,
            options.augment,
            self.chosen_on
        )
    }
}

/// Some of what is learnt from, as it is and in order.
pub(crate) fn sample(
    args: &TrainingArgs,
    data_args: &DataArgs,
    graph: &Graph,
    most: usize,
) -> Outcome<Loader> {
    let how = &data_args.how;
    let inputs = data::open(
        data::spec(data_args, "training")?,
        graph,
        how,
        &args.train_split,
        Some(most),
    )?;
    data::loader(graph, inputs, how, BATCH)
}

/// An error where two splits share items.
fn check_apart(
    spec: &DataSpec,
    graph: &Graph,
    how: &PreparationArgs,
    [choose, other]: [&Split; 2],
    what: &str,
) -> Outcome {
    let whole = if choose.part() == Split::TRAIN.part() {
        Split::TRAIN
    } else {
        Split::TEST
    };
    let whole: Dataset = data::open(spec, graph, how, &whole, None)?;
    if choose.part() != other.part() && whole.has_own_parts() {
        return Ok(());
    }
    let (a, b) = (choose.range(whole.len())?, other.range(whole.len())?);
    if a.end <= b.start || b.end <= a.start {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{choose} is chosen on and {other} is {what}: they share inputs"
    ))
    .hint(format!(
        "cut them apart, as {0}[:2000] and {0}[2000:]",
        choose.part()
    )))
}
