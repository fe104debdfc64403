use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rankfold_compress::{
    Baseline, Calibrated, Form, GridRequest, Protocol, SWEEP_VERSION, Share, Sweep, SweptData,
    SweptModel, fingerprint, grid,
};
use rankfold_data::{Batch, Dataset, Loader, Split, TensorData};
use rankfold_graph::{CostModel, Graph};
use rankfold_torch::{Device, Reading, TorchProbe, Yardstick, check_finite, set_threads};
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;

use crate::args::{ArchArgs, DeviceArgs, at_least_one};
use crate::calibration::{Calibration, CalibrationArgs};
use crate::data;
use crate::failure::{Failure, Outcome};
use crate::model::{Loaded, load};
use crate::output::{note, say};
use crate::planning;
use crate::record::command_line;
use crate::sweep::{Measuring, Shard, SweepFolder, Training, measure, merge, read, summary};

/// Measure how the network answers to each layer's decomposition, so that ranks can be chosen by it
///
/// Every layer alone is replaced in every form at a few ranks. Cells are kept as they are measured: the
/// same command goes on where it was stopped.
#[derive(Debug, Args)]
pub(crate) struct SweepCommand {
    /// A .pt2 or ONNX model, one that was compressed, a checkpoint with --arch, or zoo:NAME for seeded
    /// random weights
    #[arg(value_name = "MODEL", required_unless_present = "merge")]
    model: Option<PathBuf>,

    #[command(flatten)]
    arch: ArchArgs,

    #[command(flatten)]
    calibration: CalibrationArgs,

    /// What a cell is: ranks of every form without training, or the paper's one rank with training
    #[arg(long, value_enum, default_value = "curves")]
    protocol: ProtocolArg,

    /// The rank of --protocol paper
    #[arg(long, value_parser = at_least_one, default_value = "10", value_name = "R")]
    probe_rank: NonZeroUsize,

    /// Epochs of training of --protocol paper, over --calibrate-split without what is measured on
    #[arg(long, default_value = "1", value_name = "N")]
    epochs: usize,

    /// Ranks of every form of --protocol curves
    #[arg(long, value_parser = at_least_one, default_value = "4", value_name = "N")]
    ranks_per_form: NonZeroUsize,

    /// Forms that are measured
    #[arg(long, value_delimiter = ',', value_name = "FORM,FORM")]
    forms: Vec<Form>,

    /// Only layers whose names match these globs
    #[arg(long, value_delimiter = ',', value_name = "GLOB,GLOB")]
    only: Vec<String>,

    /// No layers whose names match these globs
    #[arg(long, value_delimiter = ',', value_name = "GLOB,GLOB")]
    skip: Vec<String>,

    /// Part of the data that is measured on; what is reported on later should not be in it
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    split: Split,

    /// Inputs that are measured on, spread over the split; none that factors are fitted to
    #[arg(long, value_parser = at_least_one, default_value = "2048", value_name = "N")]
    images: NonZeroUsize,

    /// One of several parts of the sweep, each in a folder of its own, as 3/16
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,

    /// Join the folders of parts instead of measuring
    #[arg(
        long,
        value_name = "SWEEP",
        num_args = 1..,
        conflicts_with_all = ["model", "data", "shard"]
    )]
    merge: Vec<PathBuf>,

    /// Seed of every random choice
    #[arg(long, default_value = "0", value_name = "N")]
    seed: u64,

    /// Cells that are measured side by side, each on one core; as many as there are cores by default
    #[arg(long, value_parser = at_least_one, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    #[command(flatten)]
    device: DeviceArgs,

    /// The folder of the sweep
    #[arg(short, long, value_name = "SWEEP")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolArg {
    /// Several ranks of every form, batch norms estimated anew, no training
    Curves,
    /// The paper's form at --probe-rank, the whole network trained for --epochs
    Paper,
}

impl SweepCommand {
    pub(crate) fn run(self) -> Outcome {
        let Some(model) = &self.model else {
            return self.join();
        };
        if self.protocol == ProtocolArg::Paper && !self.forms.is_empty() {
            return Err(Failure::usage("--protocol paper has one form a layer")
                .hint("leave --forms out, or use --protocol curves"));
        }
        let loaded = load(model, &self.arch)?;
        check_finite(&loaded.graph)?;
        let spec = crate::data::spec(&self.calibration.data, "a sweep")?;
        let how = &self.calibration.data.how;
        let calibration =
            Calibration::open(&self.calibration, &loaded.graph, &self.device, self.seed)?
                .ok_or_else(|| Failure::usage("a sweep needs data to calibrate on"))?;
        let mut probe = calibration.probe(&loaded.graph)?;
        let split = data::open(spec, &loaded.graph, how, &self.split, None)?;
        let measured = split.without(&[calibration.inputs()])?;
        let measured = measured.limit(self.images.into())?;
        if measured.len() < self.images.into() {
            note(format!(
                "{} has {} inputs to measure on",
                self.split,
                measured.len()
            ));
        }
        let loader = data::loader(&loaded.graph, measured, how, calibration.batch_size())?;
        let mut hash = Sha256::new();
        let yardstick = Yardstick::new(&probe, loader.clone(), |batch| digest(&mut hash, batch))?;
        let hash = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let baseline = yardstick.baseline()?;
        let sweep = self.describe(&loaded, &calibration, &loader, hash, &baseline)?;
        let training = self.training(&loaded.graph, &probe, loader.dataset())?;
        let folder = SweepFolder::open(&self.output, &sweep)?;
        let measuring = Measuring {
            graph: &loaded.graph,
            sweep: &sweep,
            folder: &folder,
            shard: self.shard.unwrap_or(Shard::ALL),
            training: training.as_ref(),
        };
        let statistics = planning::statistics_at(&loaded.graph, &measuring.layers(), &mut probe)?;
        measure(&measuring, &statistics, &yardstick, self.side_by_side()?)?;
        let (sweep, cells) = read(&self.output)?;
        self.tell(&sweep, &cells)
    }

    /// What the paper's protocol does to every network: epochs over the training part, without what is
    /// measured on.
    fn training(
        &self,
        graph: &Graph,
        probe: &TorchProbe,
        measured: &Dataset,
    ) -> Outcome<Option<Training>> {
        let data = &self.calibration.data;
        let (ProtocolArg::Paper, 1.., Some(spec)) = (self.protocol, self.epochs, &data.data) else {
            return Ok(None);
        };
        let inputs = data::open(
            spec,
            graph,
            &data.how,
            &self.calibration.calibrate_split,
            None,
        )?;
        let inputs = inputs.without(&[measured])?;
        let device = self.device.resolve()?;
        Training::new(probe, inputs, self.epochs, self.seed, device).map(Some)
    }

    fn join(&self) -> Outcome {
        let (sweep, cells) = merge(&self.merge, &self.output)?;
        self.tell(&sweep, &cells)
    }

    fn tell(&self, sweep: &Sweep, cells: &[rankfold_compress::Cell]) -> Outcome {
        say(summary(sweep, cells))?;
        let (there, all) = (cells.len(), sweep.cells());
        let folder = self.output.display();
        note(match there == all {
            true => format!("wrote {folder}: {all} cells"),
            false => format!("wrote {folder}: {there} of {all} cells"),
        });
        Ok(())
    }

    /// How many cells are measured at once; the threads of each are set.
    fn side_by_side(&self) -> Outcome<usize> {
        if let Device::Cuda(_) = self.device.resolve()? {
            return Ok(self.jobs.map_or(1, Into::into));
        }
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let jobs: usize = self.jobs.map_or(cores, Into::into);
        // Sums depend on the number of threads in their last digits: it is the same everywhere.
        if self.device.threads.is_none() {
            set_threads(NonZeroUsize::MIN);
        }
        Ok(jobs)
    }

    fn describe(
        &self,
        loaded: &Loaded,
        calibration: &Calibration,
        loader: &Loader,
        hash: String,
        baseline: &Reading,
    ) -> Outcome<Sweep> {
        let graph = &loaded.graph;
        let mut request = GridRequest {
            only: self.only.clone(),
            skip: self.skip.clone(),
            ranks: self.ranks_per_form.into(),
            ..GridRequest::default()
        };
        if !self.forms.is_empty() {
            request.forms = Some(self.forms.clone());
        }
        let protocol = match self.protocol {
            ProtocolArg::Curves => Protocol::Curves,
            ProtocolArg::Paper => {
                request.probe = Some(self.probe_rank.into());
                Protocol::Paper {
                    rank: self.probe_rank.into(),
                    epochs: self.epochs,
                }
            }
        };
        let cost = graph.cost(CostModel::True).unwrap_or_default();
        let dataset: &Dataset = loader.dataset();
        let of = baseline.images as u64;
        let share = |correct: usize| Share {
            correct: correct as u64,
            of,
        };
        let output = graph.outputs().first().map(|&id| graph.fact(id));
        let shape = output.and_then(|fact| fact.shape.as_ref());
        Ok(Sweep {
            version: SWEEP_VERSION,
            rankfold: env!("CARGO_PKG_VERSION").to_owned(),
            command: command_line(),
            protocol,
            seed: self.seed,
            model: SweptModel {
                name: graph.meta().name.clone(),
                path: loaded.path.as_ref().map(|path| path.display().to_string()),
                sha256: loaded.sha256()?,
                fingerprint: fingerprint(graph),
                parameters: cost.parameters,
                macs: cost.macs,
            },
            data: SweptData {
                spec: dataset.spec().to_string(),
                split: self.split.to_string(),
                images: baseline.images,
                labelled: baseline.labels.is_some(),
                classes: shape.and_then(|shape| shape.last()?.fixed()),
                sha256: hash,
                calibration: Calibrated {
                    split: self.calibration.calibrate_split.to_string(),
                    images: calibration.inputs().len(),
                },
            },
            layers: grid(graph, &request)?,
            baseline: Baseline {
                accuracy: baseline.labels.map(|hits| share(hits.first)),
                top5: baseline.labels.map(|hits| share(hits.first_five)),
                kl: baseline.kl,
            },
        })
    }
}

/// Adds a batch as the network is fed it, and its labels.
fn digest(hash: &mut Sha256, batch: &Batch) {
    for input in &batch.inputs {
        for size in &input.shape {
            hash.update((*size as u64).to_le_bytes());
        }
        match &input.data {
            TensorData::F32(values) => {
                values
                    .iter()
                    .for_each(|value| hash.update(value.to_le_bytes()));
            }
            TensorData::I64(values) => {
                values
                    .iter()
                    .for_each(|value| hash.update(value.to_le_bytes()));
            }
        }
    }
    for label in batch.labels.iter().flatten() {
        hash.update(label.to_le_bytes());
    }
}
