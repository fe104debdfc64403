//! The library, and models loaded into it.

use std::ffi::CStr;
use std::num::NonZeroUsize;
use std::path::Path;

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::sys::OrtApiBase;
use ort::value::{DynTensor, Tensor, TensorElementType, ValueType};
use rankfold_formats::{OnnxOptions, write_onnx};
use rankfold_graph::Graph;

use crate::error::RuntimeError;

type Result<T> = std::result::Result<T, RuntimeError>;

/// ONNX Runtime, opened.
#[derive(Debug)]
pub struct Library {
    environment: Environment,
    version: Option<String>,
}

impl Library {
    /// Opens the library. All models share its threads, so that none waits by spinning while another runs.
    ///
    /// A process opens it once.
    pub fn open(path: &Path, threads: NonZeroUsize) -> Result<Self> {
        let failed = |reason: &dyn ToString| RuntimeError::library(path, reason.to_string());
        let builder = ort::init_from(path).map_err(|e| failed(&e))?;
        let pool = GlobalThreadPoolOptions::default()
            .with_intra_threads(threads.get())
            .and_then(|pool| pool.with_inter_threads(1))
            .map_err(|e| failed(&e))?;
        let environment = builder
            .with_name("rankfold")
            .with_telemetry(false)
            .with_global_thread_pool(pool)
            .build()
            .map_err(|e| failed(&e))?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        Ok(Self {
            environment,
            version: version_of(path),
        })
    }

    /// The version that the library gives for itself.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Loads a model, with all of ONNX Runtime's optimisations.
    pub fn load(&self, path: &Path) -> Result<Session> {
        let refused = |reason: &dyn ToString| RuntimeError::model(path, reason.to_string());
        let mut builder =
            ort::session::Session::builder(&self.environment).map_err(|e| refused(&e))?;
        let session = builder.commit_from_file(path).map_err(|e| refused(&e))?;
        Ok(Session(session))
    }

    /// Loads a graph by way of a file in `scratch`, which is gone again when it has been read.
    pub fn load_graph(&self, graph: &Graph, scratch: &Path) -> Result<Session> {
        let folder = tempfile::tempdir_in(scratch)?;
        let path = folder.path().join("model.onnx");
        write_onnx(&path, graph, None, &OnnxOptions::default())?;
        self.load(&path)
    }
}

/// The version of a library that is ONNX Runtime.
fn version_of(path: &Path) -> Option<String> {
    // SAFETY: the library is open already, so no initialiser runs; the entry point is as its C header
    // declares it, and the text that it leads to lives as long as the library, which is never closed.
    unsafe {
        let library = libloading::Library::new(path).ok()?;
        let base = library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0");
        let base = base.ok()?().as_ref()?;
        let version = CStr::from_ptr((base.GetVersionString)());
        Some(version.to_str().ok()?.to_owned())
    }
}

/// A model that can be run.
#[derive(Debug)]
pub struct Session(ort::session::Session);

impl Session {
    /// Inputs without structure, mean zero and variance one; whole numbers are zero. An open first
    /// dimension is the batch, other open ones are one.
    pub fn random_inputs(&self, batch: usize) -> Result<Vec<(String, DynTensor)>> {
        let inputs = self.0.inputs().iter();
        inputs
            .map(|input| Ok((input.name().to_owned(), drawn(input, batch)?)))
            .collect()
    }

    /// Runs the model; the outputs are dropped.
    pub fn run(&mut self, inputs: &[(String, DynTensor)]) -> Result<()> {
        let inputs: Vec<_> = (inputs.iter())
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let outputs = self.0.run(inputs);
        std::hint::black_box(&outputs);
        outputs
            .map(drop)
            .map_err(|e| RuntimeError::Run(e.to_string()))
    }
}

fn drawn(input: &ort::value::Outlet, batch: usize) -> Result<DynTensor> {
    let refused = || RuntimeError::Input {
        name: input.name().to_owned(),
        found: format!("{}", input.dtype()),
    };
    let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
        return Err(refused());
    };
    let size = |(place, &size): (usize, &i64)| match size {
        0.. => size,
        _ if place == 0 => batch as i64,
        _ => 1,
    };
    let sizes: Vec<i64> = shape.iter().enumerate().map(size).collect();
    let count = usize::try_from(sizes.iter().product::<i64>()).map_err(|_| refused())?;
    let made = match ty {
        TensorElementType::Float32 => {
            let number = |i: usize| (std::f32::consts::SQRT_2) * (i as f32 * 12.9898).sin();
            let numbers: Vec<f32> = (0..count).map(number).collect();
            Tensor::from_array((sizes, numbers)).map(Tensor::upcast)
        }
        TensorElementType::Int64 => {
            Tensor::from_array((sizes, vec![0i64; count])).map(Tensor::upcast)
        }
        TensorElementType::Int32 => {
            Tensor::from_array((sizes, vec![0i32; count])).map(Tensor::upcast)
        }
        TensorElementType::Bool => {
            Tensor::from_array((sizes, vec![false; count])).map(Tensor::upcast)
        }
        _ => return Err(refused()),
    };
    made.map_err(|e| RuntimeError::Run(e.to_string()))
}
