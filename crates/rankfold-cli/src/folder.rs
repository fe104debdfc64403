//! The folder that `compress` writes: all at once, or not at all.
//!
//! Everything is put into a hidden folder beside the target, which takes the target's place by being
//! renamed. Finished factors are kept there too, so that a second run goes on where the first stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array4, ArrayView4};
use rankfold_compress::{FactorStore, LayerPlan, Plan};
use rankfold_formats::{
    FormatError, SaveOptions, StateDict, described_model, python_module, read_weights,
    with_module_names, write_model, write_safetensors,
};
use rankfold_graph::{DType, Graph, Tensor};
use rankfold_report::{Folder, Report as Page};
use sha2::{Digest, Sha256};

use crate::calibration::Calibration;
use crate::exported::{Origin, write_and_read_back};
use crate::failure::{Failure, Kind, Outcome};
use crate::interrupt;
use crate::model::Loaded;
use crate::output::note;
use crate::record::{Record, Report};
use crate::sameness::{self, Sameness};
use crate::training::weights_hash;

/// What every finished folder holds.
const REPORT: &str = "report.json";
/// The folder of finished factors.
const FACTORS: &str = "factors";
/// What the folders of trainings begin with.
const COURSE: &str = "course-";

/// A folder that is being made.
#[derive(Debug)]
pub(crate) struct OutFolder {
    target: PathBuf,
    partial: PathBuf,
    force: bool,
}

/// The model as it was read back from the files just written.
#[derive(Debug)]
pub(crate) struct Written {
    /// What model.safetensors holds.
    pub(crate) graph: Graph,
    /// What the file of the source's own kind holds, where the source was exported.
    pub(crate) exported: Option<Graph>,
    /// The files of the model and their sizes, that of the source's own kind first.
    pub(crate) files: Vec<(String, u64)>,
    /// What the user should know of them.
    pub(crate) notes: Vec<String>,
}

impl Written {
    /// The size of the file of the source's own kind.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.first().map_or(0, |(_, bytes)| *bytes)
    }
}

impl OutFolder {
    /// Makes sure that the folder can be written before any work is done.
    pub(crate) fn claim(target: &Path, force: bool) -> Outcome<Self> {
        let linked = target
            .is_symlink()
            .then(|| target.canonicalize().ok())
            .flatten();
        let target = linked.as_deref().unwrap_or(target);
        let taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                let message = format!(
                    "{} is a file, and a folder is to be written",
                    target.display()
                );
                return Err(Failure::usage(message).hint("give another name by --output"));
            }
            Err(error) => return Err(Failure::io(target, &error)),
        };
        if taken && !force {
            let message = format!("{} exists and is not empty", target.display());
            return Err(Failure::usage(message).hint("give --force to replace it"));
        }
        if taken && !target.join(REPORT).is_file() {
            let message = format!(
                "{} holds files that Rankfold did not write",
                target.display()
            );
            return Err(Failure::usage(message).hint(
                "--force replaces whole folders; give another name by --output, or empty this one",
            ));
        }
        let name = target.file_name().ok_or_else(|| {
            Failure::usage(format!("{} names no folder to write", target.display()))
        })?;
        let parent = match target.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let partial = parent.join(format!(".{}.partial", name.to_string_lossy()));
        let folder = Self {
            target: target.to_owned(),
            partial,
            force,
        };
        let factors = folder.factors();
        fs::create_dir_all(&factors).map_err(|e| Failure::io(&factors, &e))?;
        folder.clear();
        Ok(folder)
    }

    /// The folder's own name.
    pub(crate) fn name(&self) -> String {
        let name = self.target.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn factors(&self) -> PathBuf {
        self.partial.join(FACTORS)
    }

    /// Where the checkpoints of a training are kept until the folder is finished.
    pub(crate) fn course(&self, name: &str) -> PathBuf {
        self.partial.join(format!("{COURSE}{name}"))
    }

    /// A file that will be in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Forgets all that an earlier run left to go on from.
    pub(crate) fn restart(&self) -> Outcome {
        for path in kept(&self.partial) {
            fs::remove_dir_all(&path).map_err(|e| Failure::io(&path, &e))?;
        }
        let factors = self.factors();
        fs::create_dir_all(&factors).map_err(|e| Failure::io(&factors, &e))
    }

    /// Removes all files but those that an earlier run left to go on from.
    fn clear(&self) {
        let kept = kept(&self.partial);
        let entries = fs::read_dir(&self.partial).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        for path in paths.filter(|path| !kept.contains(path)) {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }

    /// Where finished factors of this very work are kept; `changed` is the network where it is no longer
    /// the model's own.
    pub(crate) fn store(
        &self,
        loaded: &Loaded,
        changed: Option<&Graph>,
        plan: &Plan,
        calibration: Option<&Calibration>,
    ) -> Outcome<Store> {
        let source = match changed {
            Some(graph) => weights_hash(graph),
            None => loaded.sha256()?.unwrap_or_else(|| plan.model.clone()),
        };
        let data = calibration.map(Calibration::identity).unwrap_or_default();
        Ok(Store {
            folder: self.factors(),
            work: format!(
                "{source} {} {data} {} {}",
                loaded.simplified.is_some(),
                plan.seed,
                env!("CARGO_PKG_VERSION")
            ),
            loaded: AtomicUsize::new(0),
        })
    }

    /// The size of the file of the source's own kind, by writing it.
    pub(crate) fn measure(
        &self,
        graph: &Graph,
        origin: Option<&Origin>,
        record: &Record,
        dtype: Option<DType>,
    ) -> Outcome<u64> {
        let stored = record.stored();
        if let Some(origin) = origin {
            let format = origin.format();
            let path = self.partial.join(format.file_name());
            let read = write_and_read_back(format, &path, graph, Some(origin), &stored)?;
            return Ok(read.file_bytes);
        }
        let named = with_module_names(graph).map_err(|e| Failure::new(Kind::Inside, e))?;
        let path = self.partial.join("model.safetensors");
        write_model(&path, &named, &stored, dtype)?;
        let metadata = fs::metadata(&path).map_err(|e| Failure::io(&path, &e))?;
        Ok(metadata.len())
    }

    /// Writes model, module and plan, reads the model back and checks that it is the same. Weights
    /// keep their types where `dtype` names none.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        origin: Option<&Origin>,
        plan: &Plan,
        record: &Record,
        dtype: Option<DType>,
    ) -> Outcome<Written> {
        let mut notes = Vec::new();
        let mut files = Vec::new();
        let mut exported = None;
        if let Some(origin) = origin {
            let format = origin.format();
            let name = format.file_name();
            let path = self.partial.join(&name);
            let read = write_and_read_back(format, &path, graph, Some(origin), &record.stored())?;
            if let Sameness::Parts(reason) = sameness::check(graph, &read.graph)? {
                notes.push(format!(
                    "{name} was not run to compare it ({reason}); its kernels are those in memory"
                ));
            }
            notes.extend(read.notes);
            files.push((name, read.file_bytes));
            exported = Some(read.graph);
        }
        let named = with_module_names(graph).map_err(|e| Failure::new(Kind::Inside, e))?;
        let path = self.partial.join("model.safetensors");
        write_model(&path, &named, &record.stored(), dtype)?;
        let checkpoint = read_weights(&path)?;
        let read = described_model(&path, &checkpoint)?.ok_or_else(|| {
            Failure::new(Kind::Inside, "the written model does not describe itself")
        })?;
        check_same(&named, &read.graph, dtype)?;
        let metadata = fs::metadata(&path).map_err(|e| Failure::io(&path, &e))?;
        files.push(("model.safetensors".to_owned(), metadata.len()));
        match python_module(&named) {
            Ok(module) => self.text("model.py", &module)?,
            Err(error @ (FormatError::PythonOp { .. } | FormatError::PythonName { .. })) => {
                notes.push(format!("model.py is left out: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        self.text("plan.toml", &plan.to_toml())?;
        Ok(Written {
            graph: read.graph,
            exported,
            files,
            notes,
        })
    }

    /// Adds the weights of another network of the same making.
    pub(crate) fn also(
        &self,
        name: &str,
        graph: &Graph,
        record: &Record,
        dtype: Option<DType>,
    ) -> Outcome {
        let named = with_module_names(graph).map_err(|e| Failure::new(Kind::Inside, e))?;
        Ok(write_model(
            &self.file(name),
            &named,
            &record.stored(),
            dtype,
        )?)
    }

    /// Adds the report and puts the folder in its place. What one could go on from goes last, so that
    /// no moment loses the work.
    pub(crate) fn finish(&self, report: &Report) -> Outcome {
        interrupt::check()?;
        self.text("report.json", &report.json()?)?;
        self.page()?;
        let failed = |e: std::io::Error| Failure::io(&self.target, &e);
        let old = self.partial.with_extension("old");
        let replaced = self.force && self.target.exists();
        if replaced {
            // What an earlier run could not remove.
            let _ = fs::remove_dir_all(&old);
            fs::rename(&self.target, &old).map_err(failed)?;
        }
        fs::rename(&self.partial, &self.target).map_err(failed)?;
        let finished = kept(&self.target).into_iter();
        for path in finished.chain(replaced.then_some(old)) {
            if let Err(error) = fs::remove_dir_all(&path) {
                note(format!("{} stays: {error}", path.display()));
            }
        }
        Ok(())
    }

    /// Says where the folder and its report are.
    pub(crate) fn tell(&self) {
        note(format!("wrote {}", self.target.display()));
        note(format!(
            "report: {}",
            self.target.join("report.html").display()
        ));
    }

    /// Adds report.html, its plots, and their numbers to report.json.
    fn page(&self) -> Outcome {
        let folder = Folder {
            name: self.name(),
            ..Folder::read(&self.partial)?
        };
        let plots = self.partial.join("plots");
        fs::create_dir_all(&plots).map_err(|e| Failure::io(&plots, &e))?;
        for (name, text) in Page::of(&[folder]).files() {
            self.text(&name, &text)?;
        }
        Ok(())
    }

    fn text(&self, name: &str, text: &str) -> Outcome {
        let path = self.partial.join(name);
        fs::write(&path, text).map_err(|e| Failure::io(&path, &e))
    }
}

/// What a run leaves in its folder to go on from.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name == FACTORS || name.starts_with(COURSE))
    };
    paths.filter(is_kept).collect()
}

/// Work that ended before there was anything to go on from leaves nothing behind.
impl Drop for OutFolder {
    fn drop(&mut self) {
        self.clear();
        for path in kept(&self.partial) {
            let _ = fs::remove_dir(path);
        }
        let kept = fs::remove_dir(&self.partial).is_err() && self.partial.exists();
        if kept && interrupt::requested() {
            let place = self.partial.display();
            note(format!(
                "what was finished is in {place}: the same command goes on from it"
            ));
        }
    }
}

/// The file must hold the graph that is in memory: same structure, same numbers in its own type.
fn check_same(graph: &Graph, read: &Graph, dtype: Option<DType>) -> Outcome {
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
        let plain = tensor.dtype().is_float() && tensor.code().is_none();
        let stored = match dtype.filter(|_| plain) {
            Some(dtype) => tensor
                .to_float_dtype(dtype)
                .map_err(|e| broken(&e.to_string()))?,
            None => tensor.clone(),
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
    loaded: AtomicUsize,
}

impl Store {
    /// How many layers an earlier run had finished.
    pub(crate) fn resumed(&self) -> usize {
        self.loaded.load(Ordering::Relaxed)
    }

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
        let kernels: Option<Vec<_>> = checkpoint.tensors.iter().map(kernel).collect();
        if kernels.is_some() {
            self.loaded.fetch_add(1, Ordering::Relaxed);
        }
        kernels
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
