//! Ranges and samples of the values that flow through a model.

use std::collections::BTreeMap;

use rankfold_compress::{Observations, Observed};
use rankfold_data::{Batch, DataError};
use rankfold_graph::Graph;
use tch::Tensor;

use crate::batch::batch_inputs;
use crate::convert::to_vec_f32;
use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::executor::{Executor, Options};

const STEP: &str = "observing values";

/// Numbers of a value that are sampled of one batch, about.
const SAMPLED: usize = 1 << 13;

/// Numbers that are sampled of a value altogether.
const ENOUGH: usize = 1 << 16;

/// What flows at the values of those names while the model runs on all batches.
pub(crate) fn observe(
    graph: &Graph,
    values: &[String],
    device: Device,
    batches: impl IntoIterator<Item = std::result::Result<Batch, DataError>>,
) -> Result<Observations> {
    let options = Options {
        device,
        fold: false,
        join: false,
        ..Options::default()
    };
    let executor = Executor::new(graph, options)?;
    let mut makers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen: BTreeMap<&str, Sight> = BTreeMap::new();
    for name in values {
        let unknown = || TorchError::UnknownNode { node: name.clone() };
        let id = graph.value_id(name).ok_or_else(unknown)?;
        if let Some(node) = graph.producer(id) {
            makers.insert(&node.name, name);
        }
        seen.insert(name, Sight::default());
    }
    let taps = executor.taps(makers.keys().copied())?;
    for batch in batches {
        let inputs = batch_inputs(&executor, &batch?)?;
        for (name, input) in executor.input_names().zip(&inputs) {
            if let Some(sight) = seen.get_mut(name) {
                sight.add(input)?;
            }
        }
        executor.run_with(&inputs, &taps, |tapped| {
            let value = makers.get(tapped.node).copied();
            match (value.and_then(|name| seen.get_mut(name)), tapped.outputs) {
                (Some(sight), [output]) => sight.add(output),
                _ => Ok(()),
            }
        })?;
    }
    let all = seen.into_iter();
    all.map(|(name, sight)| Ok((name.to_owned(), sight.finish()?)))
        .collect()
}

/// What was seen of a value so far.
#[derive(Debug, Default)]
struct Sight {
    /// The smallest and the largest number in every channel.
    ends: Option<[Tensor; 2]>,
    sample: Vec<f32>,
}

impl Sight {
    fn add(&mut self, value: &Tensor) -> Result<()> {
        let others: Vec<i64> = (0..value.dim() as i64).filter(|&axis| axis != 1).collect();
        let low = value.f_amin(&others[..], false).at(STEP)?;
        let high = value.f_amax(&others[..], false).at(STEP)?;
        self.ends = Some(match &self.ends {
            None => [low, high],
            Some([least, most]) => [
                least.f_minimum(&low).at(STEP)?,
                most.f_maximum(&high).at(STEP)?,
            ],
        });
        if self.sample.len() < ENOUGH {
            // An odd step meets every channel and position in turn.
            let step = (value.numel() / SAMPLED) as i64 | 1;
            let flat = value.f_reshape([-1]).at(STEP)?;
            let some = flat.f_slice(0, None, None, step).at(STEP)?;
            self.sample.extend(to_vec_f32(&some)?);
        }
        Ok(())
    }

    fn finish(self) -> Result<Observed> {
        let ends = self.ends.ok_or(TorchError::Empty {
            what: "calibrate on",
        })?;
        let [low, high] = [to_vec_f32(&ends[0])?, to_vec_f32(&ends[1])?];
        let mut sample = self.sample;
        sample.sort_unstable_by(f32::total_cmp);
        Ok(Observed {
            min: low.iter().copied().fold(f32::INFINITY, f32::min),
            max: high.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            sample,
            channels: (low.iter().zip(&high))
                .map(|(low, high)| low.abs().max(high.abs()))
                .collect(),
        })
    }
}
