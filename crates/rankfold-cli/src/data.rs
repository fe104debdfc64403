//! From options to batches that fit a model.

use std::sync::atomic::{AtomicBool, Ordering};

use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization};
use rankfold_graph::Graph;
use rankfold_torch::TorchError;

use crate::args::{DataArgs, PreparationArgs, SplitArgs};
use crate::failure::{Failure, Kind, Outcome};
use crate::output::note;

/// The data that `--data` names, or an error that says which option is missing.
pub(crate) fn required(data: &DataArgs, graph: &Graph, split: &SplitArgs) -> Outcome<Dataset> {
    open(
        spec(data, "this")?,
        graph,
        &data.how,
        &split.split,
        split.limit.map(Into::into),
    )
}

/// What `--data` names, for something that needs it.
pub(crate) fn spec<'a>(data: &'a DataArgs, what: &str) -> Outcome<&'a DataSpec> {
    let missing = || {
        Failure::usage(format!("{what} needs data")).hint(
            "give --data KIND:PATH, as tensors:inputs.safetensors; for models of images of 32×32 pixels \
             --data shapes is built in",
        )
    };
    data.data.as_ref().ok_or_else(missing)
}

/// Opens a split, images sized for the graph's input.
pub(crate) fn open(
    spec: &DataSpec,
    graph: &Graph,
    how: &PreparationArgs,
    split: &rankfold_data::Split,
    limit: Option<usize>,
) -> Outcome<Dataset> {
    let data = unchecked(spec, graph, how, split)?;
    let data = match limit {
        Some(limit) => data.limit(limit)?,
        None => data,
    };
    check_classes(graph, &data)?;
    Ok(data)
}

/// The same whatever classes the graph tells apart.
pub(crate) fn unchecked(
    spec: &DataSpec,
    graph: &Graph,
    how: &PreparationArgs,
    split: &rankfold_data::Split,
) -> Outcome<Dataset> {
    let data = Dataset::open(spec, split, image_size(graph, how)?)?;
    tell_of_names(graph, &data);
    Ok(data)
}

/// Says, once, which tensors of the data are taken for which inputs of the model, where names do not tell.
fn tell_of_names(graph: &Graph, data: &Dataset) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let inputs = graph.inputs().iter();
    let wanted: Vec<&str> = inputs.map(|&id| graph.value(id).name.as_str()).collect();
    let tensors = data.inputs().into_iter();
    let found: Option<Vec<String>> = tensors.map(|(name, _)| name).collect();
    let Some(found) = found else {
        return;
    };
    let known = |name: &&str| found.iter().any(|own| own == name);
    let said = if wanted.iter().all(known) {
        let other = |name: &&String| !wanted.contains(&name.as_str());
        let others: Vec<String> = found
            .iter()
            .filter(other)
            .map(|name| format!("`{name}`"))
            .collect();
        match others.is_empty() {
            true => return,
            false => format!("the model has no input {}: left out", others.join(", ")),
        }
    } else if wanted.len() == found.len() {
        let pairs = found
            .iter()
            .zip(&wanted)
            .map(|(own, name)| format!("`{own}` as `{name}`"));
        format!(
            "the data's names are not the model's, and are taken in order: {}",
            pairs.collect::<Vec<_>>().join(", ")
        )
    } else {
        return;
    };
    if !TOLD.swap(true, Ordering::Relaxed) {
        note(said);
    }
}

/// How many items the model takes at a time, where it was exported for one number of them only.
pub(crate) fn fixed_batch(graph: &Graph) -> Option<usize> {
    let mut sizes = graph.inputs().iter().map(|&id| {
        let shape = graph.fact(id).shape.as_ref()?;
        shape.first()?.fixed()
    });
    let first = sizes.next()??;
    sizes.all(|size| size == Some(first)).then_some(first)
}

/// Every item once, in order, normalised as the model wants it. What does not fill the last batch is
/// left out for a model that takes full ones only.
pub(crate) fn loader(
    graph: &Graph,
    data: Dataset,
    how: &PreparationArgs,
    batch: usize,
) -> Outcome<Loader> {
    let (data, batch) = match fixed_batch(graph) {
        None => (data, batch),
        Some(size) => (in_full_batches(data, size)?, size),
    };
    let options = LoaderOptions::evaluate(batch, normalization(graph, how)?);
    Ok(Loader::new(data, options)?)
}

/// As many items as fill batches of `size`.
fn in_full_batches(data: Dataset, size: usize) -> Outcome<Dataset> {
    let rest = data.len() % size.max(1);
    if rest == data.len() {
        return Err(Failure::usage(format!(
            "the model takes {size} inputs at a time, the data have {rest}"
        ))
        .hint("export the model with an open batch dimension, or give more data"));
    }
    if rest == 0 {
        return Ok(data);
    }
    note(format!(
        "the model takes {size} inputs at a time; {rest} of {} are left out",
        data.len()
    ));
    Ok(data.limit(data.len() - rest)?)
}

/// The model's normalisation, or that of the command line.
pub(crate) fn normalization(graph: &Graph, how: &PreparationArgs) -> Outcome<Normalization> {
    if let (Some(mean), Some(std)) = (&how.mean, &how.std) {
        return Ok(Normalization::new(mean.clone(), std.clone())?);
    }
    Ok(match &graph.meta().normalization {
        Some(own) => Normalization::new(own.mean.clone(), own.std.clone())?,
        None => Normalization::unit(),
    })
}

fn image_size(graph: &Graph, how: &PreparationArgs) -> Outcome<ImageSize> {
    let input = graph
        .inputs()
        .first()
        .and_then(|&id| graph.fact(id).shape.as_ref());
    let side = input.and_then(|shape| (shape.len() == 4).then(|| shape[3].fixed()).flatten());
    Ok(match (side, how.resize.or(graph.meta().resize)) {
        (Some(crop), Some(resize)) => ImageSize::new(resize, crop)?,
        (Some(crop), None) => ImageSize::for_input(crop)?,
        (None, _) => ImageSize::default(),
    })
}

/// How many classes the graph tells apart.
fn scores(graph: &Graph) -> Option<usize> {
    let &first = graph.outputs().first()?;
    let shape = graph.fact(first).shape.as_ref()?;
    (shape.len() == 2).then(|| shape[1].fixed()).flatten()
}

fn check_classes(graph: &Graph, data: &Dataset) -> Outcome {
    match (scores(graph), data.classes()) {
        (Some(scores), Some(classes)) if classes > scores => Err(Failure::new(
            Kind::Usage,
            format!("the data have {classes} classes, the model tells {scores} apart"),
        )
        .hint("give the data that the model was trained for")),
        _ => Ok(()),
    }
}

/// An error where a label is beyond the graph's classes: tensor files do not say how many they have.
pub(crate) fn check_labels(graph: &Graph, data: &Dataset) -> Outcome {
    let (None, Some(scores)) = (data.classes(), scores(graph)) else {
        return Ok(());
    };
    let classes = scores as i64;
    let mut labels = (0..data.len()).filter_map(|item| data.label(item));
    match labels.find(|label| !(0..classes).contains(label)) {
        None => Ok(()),
        Some(label) => Err(TorchError::Label { label, classes }.into()),
    }
}
