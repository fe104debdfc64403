//! Options that several commands share.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use rankfold_data::{DataSpec, Split};
use rankfold_torch::DeviceChoice;

use crate::failure::Outcome;
use crate::model::Loaded;

/// A whole number from 1 up.
pub(crate) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "expected a whole number from 1 up".to_owned())
}

/// How a model is named.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArchArgs {
    /// The network whose weights a bare checkpoint holds (see `rankfold zoo`)
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,

    /// Classes of a zoo network, where it is not the checkpoint that tells
    #[arg(long, value_name = "N")]
    pub(crate) num_classes: Option<usize>,

    /// Height and width of a zoo network's input
    #[arg(long, value_name = "PIXELS")]
    pub(crate) input_side: Option<usize>,

    /// Undo ImageNet's normalisation inside googlenet, as torchvision's pretrained one does
    #[arg(long)]
    pub(crate) transform_input: bool,

    /// Inner width of the LightLayers networks
    #[arg(long, value_name = "K")]
    pub(crate) k: Option<usize>,

    /// The dictionary of a checkpoint to read, as `model_ema`
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

impl ArchArgs {
    /// The same as arguments of another process.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let number = |n: Option<usize>| n.map(|n| n.to_string());
        let named = [
            ("--arch", self.arch.clone()),
            ("--num-classes", number(self.num_classes)),
            ("--input-side", number(self.input_side)),
            ("--k", number(self.k)),
            ("--key", self.key.clone()),
        ];
        let given = named
            .into_iter()
            .filter_map(|(name, value)| Some([name.into(), value?.into()]));
        let mut arguments: Vec<OsString> = given.flatten().collect();
        arguments.extend(self.transform_input.then(|| "--transform-input".into()));
        arguments
    }
}

/// Which data, and how they are prepared.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    /// Data: mnist:DIR, fashion-mnist:DIR, cifar10:DIR, cifar100:DIR, images:DIR, tensors:FILE or shapes
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) data: Option<DataSpec>,

    #[command(flatten)]
    pub(crate) how: PreparationArgs,
}

/// How data are prepared.
#[derive(Debug, Clone, Args)]
pub(crate) struct PreparationArgs {
    /// Mean per channel, for inputs in [0, 1]; the model's own by default
    #[arg(long, value_name = "M,M,M", value_delimiter = ',', requires = "std")]
    pub(crate) mean: Option<Vec<f32>>,

    /// Standard deviation per channel
    #[arg(long, value_name = "S,S,S", value_delimiter = ',', requires = "mean")]
    pub(crate) std: Option<Vec<f32>>,

    /// Shorter side that images are resized to before the centre is cut out; without it 8/7 of the model's
    /// input for image folders, and other images keep the size that all of them have
    #[arg(long, value_name = "PIXELS")]
    pub(crate) resize: Option<usize>,
}

/// Which part of the data is looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct SplitArgs {
    /// Part of the data: train, test, or a slice of one, as test[:5000]
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    pub(crate) split: Split,

    /// At most so many inputs, spread over the split
    #[arg(long, value_parser = at_least_one, value_name = "N")]
    pub(crate) limit: Option<NonZeroUsize>,

    /// Inputs that run at once
    #[arg(long, value_parser = at_least_one, default_value = "250", value_name = "N")]
    pub(crate) batch: NonZeroUsize,
}

/// Where a model runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: DeviceChoice,

    /// Threads of one operation; all cores by default
    #[arg(long, value_parser = at_least_one, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
}

impl DeviceArgs {
    /// The device, and the number of threads set.
    pub(crate) fn resolve(&self) -> Outcome<rankfold_torch::Device> {
        if let Some(threads) = self.threads {
            rankfold_torch::set_threads(threads);
        }
        Ok(self.device.resolve()?)
    }
}

/// A model: a file, or zoo:NAME.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// A .pt2 or ONNX model, one that was compressed, a checkpoint with --arch, or zoo:NAME for seeded
    /// random weights
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    #[command(flatten)]
    pub(crate) arch: ArchArgs,
}

/// What is taken out of a model before it is changed or written.
#[derive(Debug, Clone, Args)]
pub(crate) struct SimplifyArgs {
    /// First fold batch norms into the layers before them, remove what does nothing, compute constants
    #[arg(long)]
    simplify: bool,
}

impl SimplifyArgs {
    /// The model, simplified where that was asked for.
    pub(crate) fn apply(&self, loaded: Loaded) -> Outcome<Loaded> {
        match self.simplify {
            true => loaded.simplify(),
            false => Ok(loaded),
        }
    }
}
