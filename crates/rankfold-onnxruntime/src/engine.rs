//! ONNX Runtime as what decides how fast a network is.

use std::path::PathBuf;

use rankfold_compress::{Engine, Repeat, StepTime, Timing, by_turns};
use rankfold_graph::Graph;

use crate::error::RuntimeError;
use crate::session::{Library, Session};

/// Networks as ONNX files on ONNX Runtime, on random inputs of `batch` items.
#[derive(Debug)]
pub struct OnnxRuntime {
    /// The library.
    pub library: Library,
    /// Items of an input.
    pub batch: usize,
    /// A folder for the files, which are gone again when they have been read.
    pub scratch: PathBuf,
}

impl Engine for OnnxRuntime {
    type Error = RuntimeError;

    fn layouts(&self) -> &'static [&'static str] {
        // It lays values out by itself, whatever the file says.
        &["own"]
    }

    fn circumstances(&self) -> String {
        format!("{} onnxruntime", self.batch)
    }

    fn time(&self, models: &[(&Graph, &str)], repeat: Repeat) -> Result<Vec<Timing>, RuntimeError> {
        let sessions = models
            .iter()
            .map(|(graph, _)| self.library.load_graph(graph, &self.scratch));
        let mut sessions: Vec<Session> = sessions.collect::<Result<_, _>>()?;
        let inputs = sessions.iter();
        let inputs: Vec<_> = inputs
            .map(|session| session.random_inputs(self.batch))
            .collect::<Result<_, _>>()?;
        by_turns(sessions.len(), repeat, |model| {
            sessions[model].run(&inputs[model])
        })
    }

    fn steps(&self, _: &Graph, _: usize) -> Result<Vec<StepTime>, RuntimeError> {
        Ok(Vec::new())
    }
}
