//! Batches of data as inputs of a model.

use rankfold_data::{Batch, Input, TensorData};
use tch::{Kind, Tensor};

use crate::convert::sizes;
use crate::error::{At, Result, TorchError};
use crate::executor::Executor;

/// The inputs of a batch in the order in which the model takes them: by name where all names are the
/// model's, else as they come.
pub(crate) fn batch_inputs(executor: &Executor, batch: &Batch) -> Result<Vec<Tensor>> {
    ordered_inputs(executor.input_names(), batch)
}

/// The same for a model that takes inputs of these names.
pub fn ordered_inputs<'a>(
    names: impl Iterator<Item = &'a str>,
    batch: &Batch,
) -> Result<Vec<Tensor>> {
    let names: Vec<&str> = names.collect();
    let by_name = names.iter().map(|&name| {
        batch
            .inputs
            .iter()
            .position(|input| input.name.as_deref() == Some(name))
    });
    let order = by_name
        .collect::<Option<Vec<usize>>>()
        .unwrap_or_else(|| (0..batch.inputs.len()).collect());
    if order.len() != names.len() {
        let own = |input: &Input| input.name.as_deref().unwrap_or_default().to_owned();
        return Err(TorchError::Inputs {
            model: names.into_iter().map(str::to_owned).collect(),
            data: batch.inputs.iter().map(own).collect(),
        });
    }
    order
        .into_iter()
        .map(|i| input_tensor(&batch.inputs[i]))
        .collect()
}

/// One input of a batch as a tensor with a copy of its values.
fn input_tensor(input: &Input) -> Result<Tensor> {
    let shape = sizes(&input.shape);
    let step = "copying a batch";
    match &input.data {
        TensorData::F32(values) => {
            if !values.iter().all(|value| value.is_finite()) {
                return Err(TorchError::InputNonFinite {
                    input: input.name.as_deref().map(str::to_owned),
                });
            }
            // SAFETY: any bit pattern of an f32 is four valid bytes.
            let bytes = unsafe {
                std::slice::from_raw_parts(
                    values.as_ptr().cast::<u8>(),
                    std::mem::size_of_val(&values[..]),
                )
            };
            Tensor::f_from_data_size(bytes, &shape, Kind::Float).at(step)
        }
        TensorData::I64(values) => Tensor::f_from_slice(values)
            .at(step)?
            .f_reshape(shape)
            .at(step),
    }
}

/// A batch's labels as a tensor, each checked against the number of classes.
pub fn label_tensor(batch: &Batch, classes: i64) -> Result<Tensor> {
    let labels = batch.labels.as_deref().ok_or(TorchError::NoLabels)?;
    if let Some(&label) = labels.iter().find(|&&label| !(0..classes).contains(&label)) {
        return Err(TorchError::Label { label, classes });
    }
    Tensor::f_from_slice(labels).at("copying labels")
}

/// The numbers that a network should give for a batch: its targets, or where it has none the inputs
/// themselves.
pub fn target_tensor(batch: &Batch, inputs: &[Tensor]) -> Result<Tensor> {
    match (&batch.targets, inputs.first()) {
        (Some(targets), _) => input_tensor(targets),
        (None, Some(input)) => Ok(input.shallow_clone()),
        (None, None) => Err(TorchError::Empty { what: "aim at" }),
    }
}

/// The squares of what outputs miss their targets by.
pub fn squared_errors(output: &Tensor, target: &Tensor) -> Result<Tensor> {
    if output.size() != target.size() {
        return Err(TorchError::TargetShape {
            expected: target.size(),
            got: output.size(),
        });
    }
    let step = "comparing outputs with their targets";
    let target = target.f_to(output.device()).at(step)?;
    let output = output.f_to_kind(Kind::Float).at(step)?;
    let missed = output.f_sub(&target.f_to_kind(Kind::Float).at(step)?);
    missed.at(step)?.f_square().at(step)
}

/// The number of classes of an output of class scores.
pub(crate) fn classes(scores: &Tensor) -> Result<i64> {
    match scores.size()[..] {
        [_, classes] if classes > 0 => Ok(classes),
        _ => Err(TorchError::NoScores { got: scores.size() }),
    }
}
