use std::cell::RefCell;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rankfold_compress::{Repeat, Timing, by_turns};
use rankfold_graph::Dim;
use rankfold_onnxruntime::{Library, Session};
use rankfold_torch::{
    Device, Executor, Layout, Options, bench, check_finite, memory_use, random_inputs,
};
use serde::Serialize;

use crate::args::{ArchArgs, DeviceArgs, at_least_one};
use crate::data::fixed_batch;
use crate::engine::{EngineArg, EngineArgs, warn_of_sleeping_threads};
use crate::exported::Format;
use crate::failure::{Failure, Kind, Outcome};
use crate::interrupt;
use crate::model::{Loaded, is_bare, load};
use crate::output::{bytes, say, say_json, table, write_json};
use crate::profile::{self, Roof, StepRow};
use crate::progress;
use crate::starts::{self, Start};

/// Measure how long a model takes, or two models in turn
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Another model, measured in turn with the first
    #[arg(value_name = "OTHER")]
    other: Option<PathBuf>,

    #[command(flatten)]
    arch: ArchArgs,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Batch sizes; 1 and 8 by default, and where a model was exported for one size only, that one
    #[arg(long, value_parser = at_least_one, value_delimiter = ',', value_name = "N,N")]
    batch: Vec<NonZeroUsize>,

    /// How images lie in memory; auto measures both and takes the faster for each model
    #[arg(long, value_enum, default_value = "auto")]
    layout: LayoutArg,

    /// Measurements of every model
    #[arg(long, value_parser = at_least_one, default_value = "25", value_name = "N")]
    repeat: NonZeroUsize,

    /// Also where the time goes, step by step, and what bounds each
    #[arg(long)]
    profile: bool,

    /// Also what each takes in a process of its own, at the first batch size: time to load and to the first
    /// output, and memory
    #[arg(long)]
    fresh: bool,

    /// As JSON
    #[arg(long)]
    json: bool,

    /// Also write JSON to a file; `report` shows what it finds in a model's folder as bench.json
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutArg {
    /// The faster of the two
    Auto,
    /// Channel after channel
    Nchw,
    /// Channels last
    Nhwc,
}

#[derive(Debug, Serialize)]
struct Row {
    model: String,
    engine: &'static str,
    batch: usize,
    layout: &'static str,
    median_ms: f64,
    quartiles_ms: [f64; 2],
    /// The first model's median on the same engine over this one's.
    speedup: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<StepRow>,
}

#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
    threads: usize,
    device: String,
    peak_memory_bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    starts: Vec<Start>,
    /// What the machine does at most, where steps were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    peaks: Option<Roof>,
}

impl Bench {
    pub(crate) fn run(self) -> Outcome {
        let device = self.device.resolve()?;
        let (mut models, mut arches) = (Vec::new(), Vec::new());
        for path in std::iter::once(&self.model).chain(&self.other) {
            let bare = is_bare(
                path,
                &ArchArgs {
                    arch: None,
                    ..self.arch.clone()
                },
            )?;
            let arch = match bare || models.is_empty() {
                true => self.arch.clone(),
                false => ArchArgs {
                    arch: None,
                    ..self.arch.clone()
                },
            };
            let loaded = load(path, &arch)?;
            arches.push(arch);
            check_finite(&loaded.graph)?;
            check_sizes(&loaded)?;
            models.push((path.display().to_string(), loaded));
        }
        if self.engine.engine != Some(EngineArg::Onnxruntime) {
            warn_of_sleeping_threads(device);
        }
        let roof = self.profile.then(|| Roof::measure(device)).transpose()?;
        let batches = self.batches(&models)?;
        let bar = progress::bar("timing", batches.len() as u64);
        let mut rows = Vec::new();
        let runtime = self.onnx_runtime(&models)?;
        for batch in batches {
            if self.engine.engine != Some(EngineArg::Onnxruntime) {
                rows.extend(self.at_batch(&models, batch, device, roof.as_ref())?);
            }
            if let Some(runtime) = &runtime {
                rows.extend(runtime.at_batch(batch, self.repeat.into())?);
            }
            bar.inc(1);
            interrupt::check()?;
        }
        bar.finish_and_clear();
        let memory = memory_use().map_err(|e| Failure::new(Kind::Inside, e))?;
        let report = Report {
            threads: rankfold_torch::threads(),
            device: device.to_string(),
            peak_memory_bytes: memory.peak,
            starts: match self.fresh {
                true => starts::measure(&self.starts(&rows, &arches))?,
                false => Vec::new(),
            },
            rows,
            peaks: roof,
        };
        if let Some(path) = &self.output {
            write_json(path, &report)?;
        }
        match self.json {
            true => say_json(&report),
            false => say(text(&report)),
        }
    }

    /// The batch sizes at which all models can run.
    fn batches(&self, models: &[(String, Loaded)]) -> Outcome<Vec<usize>> {
        let mut fixed = None;
        for (name, loaded) in models {
            let Some(size) = fixed_batch(&loaded.graph) else {
                continue;
            };
            match fixed {
                Some((_, other)) if other == size => {}
                None => fixed = Some((name, size)),
                Some((first, other)) => {
                    return Err(Failure::usage(format!(
                        "{first} takes {other} inputs at a time, {name} takes {size}"
                    ))
                    .hint("export both for one batch size, or with an open one"));
                }
            }
        }
        let mut asked = self.batch.iter().map(|&size| size.get());
        match fixed {
            None if self.batch.is_empty() => Ok(vec![1, 8]),
            None => Ok(asked.collect()),
            Some((name, size)) => match asked.find(|&asked| asked != size) {
                Some(asked) => Err(Failure::usage(format!(
                    "{name} was exported for {size} inputs at a time and cannot run {asked}"
                ))
                .hint("leave --batch out, or export it with an open batch dimension")),
                None => Ok(vec![size]),
            },
        }
    }

    /// The models on ONNX Runtime: where it was asked for, and ONNX files wherever it is found.
    fn onnx_runtime(&self, models: &[(String, Loaded)]) -> Outcome<Option<OnnxModels>> {
        let wanted = match self.engine.engine {
            Some(EngineArg::Onnxruntime) => true,
            Some(EngineArg::Libtorch) => false,
            None => {
                models.iter().all(|(_, loaded)| is_onnx(loaded)) && self.engine.found().is_some()
            }
        };
        wanted
            .then(|| OnnxModels::load(&self.engine.library()?, models))
            .transpose()
    }

    /// The arguments of a process of its own for every model, in the layout that was the faster.
    fn starts(&self, rows: &[Row], arches: &[ArchArgs]) -> Vec<(String, Vec<OsString>)> {
        let paths = std::iter::once(&self.model).chain(&self.other);
        let of = |((path, arch), row): ((&PathBuf, &ArchArgs), &Row)| {
            let mut arguments: Vec<OsString> = vec![path.into()];
            arguments.extend(arch.arguments());
            let mut add = |name: &str, value: String| {
                arguments.extend([name.into(), value.into()]);
            };
            add("--batch", row.batch.to_string());
            add("--device", self.device.device.to_string());
            if let Some(threads) = self.device.threads {
                add("--threads", threads.to_string());
            }
            if row.layout == "nchw" {
                arguments.push("--nchw".into());
            }
            (path.display().to_string(), arguments)
        };
        paths.zip(arches).zip(rows).map(of).collect()
    }

    fn at_batch(
        &self,
        models: &[(String, Loaded)],
        batch: usize,
        device: Device,
        roof: Option<&Roof>,
    ) -> Outcome<Vec<Row>> {
        let executor = |loaded: &Loaded, layout| {
            Executor::new(
                &loaded.graph,
                Options {
                    device,
                    layout,
                    ..Options::default()
                },
            )
        };
        let quick = Repeat {
            warmup: 2,
            samples: 5,
            ..Repeat::default()
        };
        let mut chosen = Vec::new();
        for (_, loaded) in models {
            let layouts: &[Layout] = match self.layout {
                LayoutArg::Auto => &[Layout::Nhwc, Layout::Nchw],
                LayoutArg::Nchw => &[Layout::Nchw],
                LayoutArg::Nhwc => &[Layout::Nhwc],
            };
            let mut candidates = Vec::new();
            for &layout in layouts {
                candidates.push(executor(loaded, layout)?);
            }
            let best = match &candidates[..] {
                [_] => 0,
                _ => {
                    let inputs = random_inputs(&candidates[0], batch, 0)?;
                    let refs: Vec<&Executor> = candidates.iter().collect();
                    let timings = bench(&refs, &inputs, quick)?;
                    usize::from(timings[1].median() < timings[0].median())
                }
            };
            chosen.push(candidates.swap_remove(best));
            interrupt::check()?;
        }
        let inputs = random_inputs(&chosen[0], batch, 0)?;
        let refs: Vec<&Executor> = chosen.iter().collect();
        let repeat = Repeat {
            samples: self.repeat.into(),
            ..Repeat::default()
        };
        let timings = bench(&refs, &inputs, repeat)?;
        let first = timings[0].median();
        let row =
            |((name, loaded), (executor, timing)): (&(String, Loaded), (&Executor, &Timing))| {
                let steps = match roof {
                    Some(roof) => profile::steps(&loaded.graph, executor, batch, roof)?,
                    None => Vec::new(),
                };
                let layout = match executor.options().layout {
                    Layout::Nchw => "nchw",
                    Layout::Nhwc => "nhwc",
                };
                Ok(Row {
                    steps,
                    ..Row::new(name, ("libtorch", layout), batch, timing, first)
                })
            };
        models
            .iter()
            .zip(chosen.iter().zip(&timings))
            .map(row)
            .collect()
    }
}

impl Row {
    fn new(
        model: &str,
        (engine, layout): (&'static str, &'static str),
        batch: usize,
        timing: &Timing,
        first: f64,
    ) -> Self {
        Self {
            model: model.to_owned(),
            engine,
            batch,
            layout,
            median_ms: 1e3 * timing.median(),
            quartiles_ms: timing.quartiles().map(|s| 1e3 * s),
            speedup: first / timing.median(),
            steps: Vec::new(),
        }
    }
}

/// The models on ONNX Runtime.
struct OnnxModels {
    sessions: RefCell<Vec<(String, Session)>>,
}

impl OnnxModels {
    /// ONNX files as they are; other models are exported first.
    fn load(library: &Library, models: &[(String, Loaded)]) -> Outcome<Self> {
        let session = |(name, loaded): &(String, Loaded)| {
            let session = match &loaded.path {
                Some(path) if is_onnx(loaded) => library.load(path),
                _ => library.load_graph(&loaded.graph, &std::env::temp_dir()),
            };
            Ok((name.clone(), session?))
        };
        let sessions = models.iter().map(session).collect::<Outcome<_>>()?;
        Ok(Self {
            sessions: RefCell::new(sessions),
        })
    }

    fn at_batch(&self, batch: usize, samples: usize) -> Outcome<Vec<Row>> {
        let mut sessions = self.sessions.borrow_mut();
        let inputs = sessions.iter().map(|(_, model)| model.random_inputs(batch));
        let inputs: Vec<_> = inputs.collect::<Result<_, _>>()?;
        let repeat = Repeat {
            samples,
            ..Repeat::default()
        };
        let timings = by_turns(sessions.len(), repeat, |model| {
            sessions[model].1.run(&inputs[model])
        })?;
        let first = timings.first().map_or(f64::NAN, Timing::median);
        let rows = sessions.iter().zip(&timings);
        let row = |((name, _), timing): (&(String, Session), &Timing)| {
            Row::new(name, ("onnxruntime", "own"), batch, timing, first)
        };
        Ok(rows.map(row).collect())
    }
}

fn is_onnx(loaded: &Loaded) -> bool {
    let origin = loaded.origin.as_ref();
    origin.is_some_and(|origin| origin.format() == Format::Onnx)
}

/// Inputs are drawn, so that their sizes must be known, the batch apart.
fn check_sizes(loaded: &Loaded) -> Outcome {
    let graph = &loaded.graph;
    for &id in graph.inputs() {
        let value = graph.value(id);
        let shape = value.fact.shape.as_deref();
        let known = |dims: &[Dim]| dims.iter().skip(1).all(|dim| dim.fixed().is_some());
        if !shape.is_some_and(known) {
            return Err(Failure::usage(format!(
                "expected an input of known size, found `{}` of {}",
                value.name, value.fact
            ))
            .hint("export the model with all sizes but the batch's fixed"));
        }
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let rows = report.rows.iter().map(|row| {
        vec![
            row.model.clone(),
            row.engine.to_owned(),
            row.batch.to_string(),
            row.layout.to_owned(),
            format!("{:.3}", row.median_ms),
            format!("{:.3} – {:.3}", row.quartiles_ms[0], row.quartiles_ms[1]),
            format!("×{:.2}", row.speedup),
        ]
    });
    let header = [
        "model",
        "engine",
        "batch",
        "layout",
        "median ms",
        "quartiles ms",
        "speed",
    ];
    let steps = report.peaks.iter().flat_map(|roof| {
        let rows = report.rows.iter();
        rows.map(|row| profile::text(&row.model, row.batch, &row.steps, roof) + "\n\n")
    });
    let steps: String = steps.collect();
    let starts = match report.starts.is_empty() {
        true => String::new(),
        false => format!("\n\n{}", starts::text(&report.starts)),
    };
    format!(
        "{steps}{}{starts}\n\n{}, {} threads, peak memory {}",
        table(&header, &[0, 1, 3], rows.collect()),
        report.device,
        report.threads,
        bytes(report.peak_memory_bytes)
    )
}
