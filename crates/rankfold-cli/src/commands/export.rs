use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rankfold_formats::{described_model, read_weights, with_module_names, write_model};
use rankfold_graph::Graph;
use rankfold_torch::check_finite;

use crate::args::{ModelArgs, SimplifyArgs};
use crate::exported::{Format, write_and_read_back};
use crate::failure::{Failure, Kind, Outcome};
use crate::model::{Loaded, file_for, load};
use crate::output::{bytes, check_free, note};
use crate::sameness::{self, Sameness};

/// Write a model, compressed or not, as a file of another kind
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    simplify: SimplifyArgs,

    /// The kind of file
    #[arg(long, value_enum, value_name = "KIND")]
    to: Target,

    /// The file that is written; by default named after the model, in this folder
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    /// For ONNX Runtime and others
    Onnx,
    /// For PyTorch: an archive that `torch.export.load` takes
    Pt2,
    /// For Rankfold: weights under readable names, and the network in the metadata
    Safetensors,
}

impl Target {
    fn format(self) -> Option<Format> {
        match self {
            Self::Onnx => Some(Format::Onnx),
            Self::Pt2 => Some(Format::Pt2),
            Self::Safetensors => None,
        }
    }

    fn extension(self) -> &'static str {
        self.format().map_or("safetensors", Format::extension)
    }
}

impl Export {
    pub(crate) fn run(self) -> Outcome {
        let path = match &self.output {
            Some(path) => path.clone(),
            None => named_after(&self.model.model, self.to.extension())?,
        };
        self.check_name(&path)?;
        check_free(&path, self.force)?;
        let source = file_for(&self.model.model, self.to.format());
        let loaded = self.simplify.apply(load(&source, &self.model.arch)?)?;
        check_finite(&loaded.graph)?;
        let (read, file_bytes) = match self.to.format() {
            Some(format) => exported(format, &path, &loaded)?,
            None => described(&path, &loaded)?,
        };
        let checked = match sameness::check(&loaded.graph, &read)? {
            Sameness::Outputs(0.0) => "its outputs are the model's, exactly".to_owned(),
            Sameness::Outputs(apart) => format!("its outputs are the model's to {apart:.0e}"),
            Sameness::Parts(reason) => {
                format!("its kernels are the model's; it was not run ({reason})")
            }
        };
        let size = bytes(file_bytes);
        note(format!(
            "wrote {} ({size}); read back, {checked}",
            path.display()
        ));
        Ok(())
    }

    /// An error where the name is that of another kind of file.
    fn check_name(&self, path: &Path) -> Outcome {
        let kinds = Target::value_variants().iter().map(|kind| kind.extension());
        let mut others = kinds.filter(|&kind| kind != self.to.extension());
        let own = path.extension().and_then(|own| own.to_str());
        match others.find(|&other| own == Some(other)) {
            None => Ok(()),
            Some(other) => Err(Failure::usage(format!(
                "{} is named as a .{other} file, and --to {} is written",
                path.display(),
                self.to.extension()
            ))
            .hint("give another name by --output, or another kind by --to")),
        }
    }
}

/// Writes a file that has ops of its own; what the source had stays where it is of the same format.
fn exported(format: Format, path: &Path, loaded: &Loaded) -> Outcome<(Graph, u64)> {
    let origin = loaded.origin.as_ref();
    let origin = origin.filter(|origin| origin.format() == format);
    let read = write_and_read_back(format, path, &loaded.graph, origin, &loaded.record)?;
    read.notes.iter().for_each(note);
    Ok((read.graph, read.file_bytes))
}

/// Writes a safetensors that describes itself.
fn described(path: &Path, loaded: &Loaded) -> Outcome<(Graph, u64)> {
    let inside = |error: &dyn std::fmt::Display| Failure::new(Kind::Inside, error);
    let named = with_module_names(&loaded.graph).map_err(|e| inside(&e))?;
    write_model(path, &named, &loaded.record, None)?;
    let read = described_model(path, &read_weights(path)?)?
        .ok_or_else(|| inside(&"the written model does not describe itself"))?;
    let metadata = std::fs::metadata(path).map_err(|e| Failure::io(path, &e))?;
    Ok((read.graph, metadata.len()))
}

/// `zoo:resnet20` and `models/resnet20.onnx` as `resnet20.EXTENSION`.
fn named_after(model: &Path, extension: &str) -> Outcome<PathBuf> {
    let text = model.to_string_lossy();
    let stem = match text.strip_prefix("zoo:") {
        Some(name) => Some(name.to_owned()),
        None => model
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned()),
    };
    let stem = stem.ok_or_else(|| {
        Failure::usage(format!("{text} names no file to name the result after"))
            .hint("give --output FILE")
    })?;
    Ok(PathBuf::from(format!("{stem}.{extension}")))
}
