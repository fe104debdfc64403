//! The folder that `compress` writes: all at once, or not at all.
//!
//! Everything is put into a hidden folder beside the target, which takes the target's place by being
//! renamed. Finished factors are kept there too, so that a second run goes on where the first stopped.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array4, ArrayView4};
use rankfold_compress::{FactorStore, LayerPlan, Plan};
use rankfold_formats::{
    SaveOptions, StateDict, described_model, read_weights, write_model, write_safetensors,
};
use rankfold_graph::{DType, Graph, Tensor};
use sha2::{Digest, Sha256};

use crate::calibration::Calibration;
use crate::failure::{Failure, Kind, Outcome};
use crate::model::Loaded;
use crate::record::{Record, Report};

/// A folder that is being made.
#[derive(Debug)]
pub(crate) struct OutFolder {
    target: PathBuf,
    partial: PathBuf,
    force: bool,
}

/// The model as it was read back from the file just written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) graph: Graph,
    pub(crate) file_bytes: u64,
}

impl OutFolder {
    /// Makes sure that the folder can be written before any work is done.
    pub(crate) fn claim(target: &Path, force: bool) -> Outcome<Self> {
        let taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(Failure::io(target, &error)),
        };
        if taken && !force {
            let message = format!("{} exists and is not empty", target.display());
            return Err(Failure::usage(message).hint("give --force to replace it"));
        }
        let name = target.file_name().ok_or_else(|| {
            Failure::usage(format!("{} names no folder to write", target.display()))
        })?;
        let parent = match target.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let partial = parent.join(format!(".{}.partial", name.to_string_lossy()));
        let factors = partial.join("factors");
        fs::create_dir_all(&factors).map_err(|e| Failure::io(&factors, &e))?;
        Ok(Self {
            target: target.to_owned(),
            partial,
            force,
        })
    }

    /// Where finished factors of this very work are kept.
    pub(crate) fn store(
        &self,
        loaded: &Loaded,
        plan: &Plan,
        calibration: Option<&Calibration>,
    ) -> Outcome<Store> {
        let source = loaded.sha256()?.unwrap_or_else(|| plan.model.clone());
        let data = calibration.map(Calibration::identity).unwrap_or_default();
        Ok(Store {
            folder: self.partial.join("factors"),
            work: format!(
                "{source} {data} {} {}",
                plan.seed,
                env!("CARGO_PKG_VERSION")
            ),
        })
    }

    /// Writes model, module and plan, reads the model back and checks that it is the same.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        plan: &Plan,
        record: &Record,
        dtype: DType,
    ) -> Outcome<Written> {
        let path = self.partial.join("model.safetensors");
        write_model(&path, graph, &record.stored(), Some(dtype))?;
        let checkpoint = read_weights(&path)?;
        let read = described_model(&path, &checkpoint)?.ok_or_else(|| {
            Failure::new(Kind::Inside, "the written model does not describe itself")
        })?;
        check_same(graph, &read.graph, dtype)?;
        self.text("model.py", &rankfold_formats::python_module(graph)?)?;
        self.text("plan.toml", &plan.to_toml())?;
        let file_bytes = fs::metadata(&path)
            .map_err(|e| Failure::io(&path, &e))?
            .len();
        Ok(Written {
            graph: read.graph,
            file_bytes,
        })
    }

    /// Adds the report and puts the folder in its place.
    pub(crate) fn finish(&self, report: &Report) -> Outcome {
        self.text("report.json", &report.json()?)?;
        let factors = self.partial.join("factors");
        fs::remove_dir_all(&factors).map_err(|e| Failure::io(&factors, &e))?;
        let failed = |e: std::io::Error| Failure::io(&self.target, &e);
        if self.force && self.target.exists() {
            let old = self.partial.with_extension("old");
            fs::rename(&self.target, &old).map_err(failed)?;
            fs::rename(&self.partial, &self.target).map_err(failed)?;
            return fs::remove_dir_all(&old).map_err(|e| Failure::io(&old, &e));
        }
        fs::rename(&self.partial, &self.target).map_err(failed)
    }

    fn text(&self, name: &str, text: &str) -> Outcome {
        let path = self.partial.join(name);
        fs::write(&path, text).map_err(|e| Failure::io(&path, &e))
    }
}

/// Work that ended before any factor was finished leaves nothing behind; finished factors stay.
impl Drop for OutFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.partial.join("factors"));
        let _ = fs::remove_dir(&self.partial);
    }
}

/// The file must hold the graph that is in memory: same structure, same numbers in its own type.
fn check_same(graph: &Graph, read: &Graph, dtype: DType) -> Outcome {
    let broken = |what: &str| {
        Failure::new(
            Kind::Inside,
            format!("the written model differs from the one in memory: {what}"),
        )
    };
    if graph.to_string() != read.to_string() {
        return Err(broken("its structure"));
    }
    for (name, tensor) in graph.weights().iter() {
        let stored = match tensor.dtype().is_float() {
            true => tensor
                .to_float_dtype(dtype)
                .map_err(|e| broken(&e.to_string()))?,
            false => tensor.clone(),
        };
        if read.weights().get(name) != Some(&stored) {
            return Err(broken(name));
        }
    }
    Ok(())
}

/// Finished factors, a file a layer.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    work: String,
}

impl Store {
    fn file(&self, layer: &LayerPlan) -> PathBuf {
        let rank = layer.rank.map(|rank| rank.to_string()).unwrap_or_default();
        let key = format!("{} {} {} {rank}", self.work, layer.name, layer.form);
        let digest = Sha256::digest(key.as_bytes());
        let name: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
        self.folder.join(format!("{name}.safetensors"))
    }
}

impl FactorStore for Store {
    fn load(&self, layer: &LayerPlan) -> Option<Vec<Array4<f32>>> {
        let path = self.file(layer);
        if !path.exists() {
            return None;
        }
        let checkpoint = read_weights(&path).ok()?;
        let kernel = |(_, tensor): (&str, &Tensor)| {
            let shape: [usize; 4] = tensor.shape().try_into().ok()?;
            let values = tensor.to_f32().ok()?;
            Some(ArrayView4::from_shape(shape, &values).ok()?.to_owned())
        };
        checkpoint.tensors.iter().map(kernel).collect()
    }

    /// A factor that cannot be stored is only computed again by the next run.
    fn save(&self, layer: &LayerPlan, kernels: &[Array4<f32>]) {
        let mut tensors = StateDict::new();
        for (i, kernel) in kernels.iter().enumerate() {
            let values = kernel.iter().copied().collect();
            let Ok(tensor) = Tensor::from_f32(kernel.shape().to_vec(), values) else {
                return;
            };
            if tensors.insert(i.to_string(), tensor).is_err() {
                return;
            }
        }
        let _ = write_safetensors(&self.file(layer), &tensors, &SaveOptions::default());
    }
}
