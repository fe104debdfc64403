//! Measuring the cells of a sweep, layer by layer.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::ProgressBar;
use rankfold_compress::{
    Cell, Changed, Distance, LayerCost, Rank, Replacements, Share, Statistics, Sweep, SweptForm,
    SweptLayer,
};
use rankfold_decompose::Control;
use rankfold_graph::Graph;
use rankfold_torch::{AtLayer, Hits, Reading, Yardstick};
use rayon::prelude::*;

use super::{Shard, SweepFolder, Training};
use crate::failure::{Failure, Kind, Outcome};
use crate::interrupt;
use crate::progress;

/// A sweep and what its cells are measured with.
pub(crate) struct Measuring<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) sweep: &'a Sweep,
    pub(crate) folder: &'a SweepFolder,
    pub(crate) shard: Shard,
    /// What every cell's network goes through before it is measured.
    pub(crate) training: Option<&'a Training>,
}

/// One form of a layer, and its ranks that are still to be measured.
struct Work<'a> {
    form: &'a SweptForm,
    ranks: Vec<Rank>,
}

/// Measures every cell of the shard that is not there yet, `jobs` of them side by side.
pub(crate) fn measure(
    measuring: &Measuring<'_>,
    statistics: &Statistics,
    yardstick: &Yardstick,
    jobs: usize,
) -> Outcome {
    let work = measuring.work();
    let all: usize = work.iter().map(|(_, _, cells)| cells).sum();
    let left = work.iter().flat_map(|(_, work, _)| work);
    let left: usize = left.map(|work| work.ranks.len()).sum();
    let bar = progress::bar("measuring", all as u64);
    bar.set_position((all - left) as u64);
    bar.reset_eta();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
    let pool = pool.map_err(|e| Failure::new(Kind::Inside, e))?;
    for (layer, work, _) in &work {
        if work.is_empty() {
            continue;
        }
        bar.set_message(layer.name.clone());
        // What is trained changes everywhere.
        let at = Mutex::new(match measuring.training {
            None => yardstick.at(&layer.name)?,
            Some(_) => yardstick.whole(),
        });
        let done = pool.install(|| {
            let form = |work: &Work<'_>| measuring.form(layer, work, statistics, &at, &bar);
            work.par_iter().with_max_len(1).try_for_each(form)
        });
        interrupt::check()?;
        done?;
    }
    bar.finish_and_clear();
    Ok(())
}

impl<'a> Measuring<'a> {
    /// The layers at which something is to be done.
    pub(crate) fn layers(&self) -> Vec<String> {
        let work = self.work().into_iter();
        let left = work.filter(|(_, work, _)| !work.is_empty());
        left.map(|(layer, ..)| layer.name.clone()).collect()
    }

    /// What is to be done at every layer, and the cells of the shard there.
    fn work(&self) -> Vec<(&'a SweptLayer, Vec<Work<'a>>, usize)> {
        let mut number = 0;
        let of_layer = |layer: &'a SweptLayer| {
            let (mut work, mut all) = (Vec::new(), 0);
            for form in &layer.forms {
                number += 1;
                if !self.shard.takes(number - 1) {
                    continue;
                }
                all += form.ranks.len();
                let missing = |rank: &&Rank| !self.folder.has(&layer.name, form.form, **rank);
                let ranks: Vec<Rank> = form.ranks.iter().filter(missing).copied().collect();
                if !ranks.is_empty() {
                    work.push(Work { form, ranks });
                }
            }
            (layer, work, all)
        };
        self.sweep.layers.iter().map(of_layer).collect()
    }

    /// Measures one form of a layer.
    fn form(
        &self,
        layer: &SweptLayer,
        work: &Work<'_>,
        statistics: &Statistics,
        at: &Mutex<AtLayer>,
        bar: &ProgressBar,
    ) -> Outcome {
        let start = Instant::now();
        let control = Control::default().cancel_with(interrupt::flag());
        let (name, seed) = (&layer.name, self.sweep.seed);
        let made = Replacements::new(self.graph, name, work.form, statistics, seed, control)?;
        // Ranks share the decomposition.
        let decomposing = start.elapsed().as_secs_f64() / work.form.ranks.len().max(1) as f64;
        let ranks: Vec<_> = made
            .ranks()
            .filter(|(rank, ..)| work.ranks.contains(rank))
            .collect();
        ranks
            .into_par_iter()
            .with_max_len(1)
            .try_for_each(|(rank, cost, distance)| {
                interrupt::check()?;
                let start = Instant::now();
                let own = at.lock().unwrap_or_else(PoisonError::into_inner).share();
                let changed = made.put_into(own.tail(), rank)?;
                let reading = match self.training {
                    None => own.measure(&changed)?,
                    Some(training) => {
                        let divergence = own.read(&changed)?.kl;
                        own.read(&training.train(self.graph, &changed, divergence)?)?
                    }
                };
                let seconds = decomposing + start.elapsed().as_secs_f64();
                let cell = cell(layer, work.form, rank, cost, distance, &reading, seconds);
                self.folder.append(&cell)?;
                bar.inc(1);
                Ok(())
            })
    }
}

fn cell(
    layer: &SweptLayer,
    form: &SweptForm,
    rank: Rank,
    cost: LayerCost,
    distance: Distance,
    reading: &Reading,
    seconds: f64,
) -> Cell {
    let of = reading.images as u64;
    let share = |count: fn(&Hits) -> usize| {
        let correct = reading.labels.as_ref().map(count)? as u64;
        Some(Share { correct, of })
    };
    let changed = |hits: Hits| Changed {
        lost: hits.lost as u64,
        gained: hits.gained as u64,
    };
    Cell {
        layer: layer.name.clone(),
        form: form.form,
        rank,
        layer_parameters: cost.parameters,
        layer_macs: cost.macs,
        weight_error: distance.weight,
        response_error: distance.response,
        accuracy: share(|hits| hits.first),
        top5: share(|hits| hits.first_five),
        changed: reading.labels.map(changed),
        kl: reading.kl,
        kl_se: reading.kl_se,
        recalibrated: reading.recalibrated,
        seconds: (seconds * 1e3).round() / 1e3,
    }
}
