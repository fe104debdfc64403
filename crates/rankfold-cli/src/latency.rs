//! Budgets of time: layers are timed, a plan is made of it, and what comes out is timed against the original.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rankfold_compress::{
    Budget, Engine, Limit, Memo, Plan, Repeat, Request, Resource, Timetable, Timing, skeleton,
    timetable, timing_grid,
};
use rankfold_graph::Graph;
use rankfold_torch::Device;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::args::at_least_one;
use crate::background;
use crate::engine::{Clock, EngineArg, EngineArgs};
use crate::failure::{Failure, Kind, Outcome};
use crate::folder::OutFolder;
use crate::interrupt;
use crate::output::{note, write_json};
use crate::progress;

/// How a budget of time is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct LatencyArgs {
    /// Inputs that run at once where --latency is measured
    #[arg(long, value_parser = at_least_one, default_value = "1", value_name = "N")]
    latency_batch: NonZeroUsize,

    /// Where measured times of layers are kept; a file of this machine in the cache by default
    #[arg(long, value_name = "FILE")]
    timings: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,
}

impl LatencyArgs {
    /// What the engine likes ranks to be multiples of, beyond what is timed anyway.
    pub(crate) fn align(&self) -> Option<NonZeroUsize> {
        match self.engine.engine {
            Some(EngineArg::Onnxruntime) => NonZeroUsize::new(16),
            Some(EngineArg::Libtorch) | None => None,
        }
    }
}

/// Which way of timing layers the kept times are of: another number forgets them.
const METHOD: u32 = 2;

/// Models that are tried.
const TRIES: usize = 8;

/// The share of the time asked for that is aimed at, so that another measurement keeps it too.
const ROOM: f64 = 0.96;

/// Aims nearer to each other than this make no other plan worth measuring.
const CLOSE: f64 = 1.03;

/// How far a measured time may be from what was predicted until it is measured again: something else may
/// have been running.
const DOUBTFUL: f64 = 0.25;

/// How original and compressed model are timed, by turns.
const REPEAT: Repeat = Repeat {
    warmup: 3,
    samples: 31,
    seconds: 0.01,
};

/// The search for a model that is as fast as was asked, on this machine.
#[derive(Debug)]
pub(crate) struct Race {
    original: Graph,
    clock: Clock,
    device: Device,
    batch: usize,
    times: Arc<Timetable>,
    limit: Limit,
    /// The share of the limit that the next plan is made for.
    aim: f64,
    tries: Vec<Value>,
    nearest: Option<f64>,
    /// The largest plan so far that kept the budget with room, and what it was made for.
    kept: Option<(f64, Tried)>,
    /// The least that was aimed at and gave a network that is too slow.
    too_slow: Option<f64>,
    /// The time of the fastest plan that kept the budget without the room, and the plan.
    within: Option<(f64, Tried)>,
}

/// A plan whose network was measured.
#[derive(Debug)]
struct Tried {
    plan: Plan,
    /// Its place among the tries.
    place: usize,
}

/// Both models by the clock.
struct Measured {
    /// The original in its better layout, and which that is.
    before: (Timing, &'static str),
    /// The other in its usual one.
    after: Timing,
}

impl Measured {
    /// The share of the original's time.
    fn share(&self) -> f64 {
        self.after.median() / self.before.0.median()
    }
}

impl Race {
    /// Times the layers that a request lets take part; none where time is not the budget.
    pub(crate) fn open(
        request: &Request,
        args: &LatencyArgs,
        graph: &Graph,
        device: Device,
    ) -> Outcome<Option<Self>> {
        let Budget::Within {
            resource: Resource::Time,
            limit,
        } = request.budget
        else {
            return match args.engine.engine {
                None => Ok(None),
                Some(_) => Err(Failure::usage("--engine is where --latency is measured")
                    .hint("give --latency too, or leave --engine out")),
            };
        };
        let batch = args.latency_batch.get();
        let clock = Clock::open(&args.engine, device, batch)?;
        let grid = timing_grid(graph, request)?;
        let mut memo = Known::open(args, device);
        let bar = progress::bar("timing", grid.layers.len() as u64);
        let times = timetable(graph, &grid, &clock, &mut memo, &mut |name| {
            bar.inc(1);
            bar.set_message(name.to_owned());
            interrupt::flow()
        });
        bar.finish_and_clear();
        memo.keep();
        Ok(Some(Self {
            original: graph.clone(),
            clock,
            device,
            batch,
            times: Arc::new(times?.ok_or_else(Failure::interrupted)?),
            limit,
            aim: ROOM,
            tries: Vec::new(),
            nearest: None,
            kept: None,
            too_slow: None,
            within: None,
        }))
    }

    /// Tells a request the times, and what the next plan is made for.
    pub(crate) fn tell(&self, request: &mut Request) {
        let limit = self.limit.of(self.times.total) as f64 * self.aim;
        request.times = Some(self.times.clone());
        // What is predicted may be too much: before anything is refused, the clock is asked once.
        request.or_nearest = self.nearest.is_none();
        request.budget = Budget::Within {
            resource: Resource::Time,
            limit: Limit::AtMost(limit as u64),
        };
    }

    /// The plan to take, once it is found: the largest whose network keeps the budget by the clock. None
    /// where another is to be made, for what is then aimed at.
    pub(crate) fn judge(&mut self, plan: Plan) -> Outcome<Option<Plan>> {
        let predicted = self.times.predicted(&plan).unwrap_or(0) as f64;
        let expected = predicted / self.times.total as f64;
        // More than was aimed at where nothing smaller could be planned.
        let aim = self
            .aim
            .max(predicted / self.limit.of(self.times.total) as f64);
        let skeleton = skeleton(&self.original, &plan)?;
        let mut measured = self.measure(&skeleton)?;
        if (measured.share() / expected - 1.0).abs() > DOUBTFUL {
            measured = self.measure(&skeleton)?;
        }
        // Of several plans those pass that were lucky: what passes has to do so twice.
        if self.spare(&measured) >= 1.0 {
            let again = self.measure(&skeleton)?;
            if self.spare(&again) < self.spare(&measured) {
                measured = again;
            }
        }
        let (before, after) = (measured.before.0.median(), measured.after.median());
        let wanted = self.wanted(&measured);
        // The machine may have become faster or slower since the layers were timed: it did so for both.
        let predicted = expected * before;
        self.tries.push(json!({
            "predicted_ms": 1e3 * predicted,
            "measured_ms": 1e3 * after,
            "original_ms": 1e3 * before,
        }));
        let said = format!(
            "measured: {:.3} → {:.3} ms at batch {} (×{:.2}), {:.3} ms predicted",
            1e3 * before,
            1e3 * after,
            self.batch,
            before / after,
            1e3 * predicted
        );
        let share = after / before;
        self.nearest = Some(self.nearest.map_or(share, |nearest| nearest.min(share)));
        let spare = self.spare(&measured);
        let place = self.tries.len() - 1;
        let tried = Tried { plan, place };
        if spare >= 1.0 {
            let kept = self.kept.as_ref();
            let again = kept.is_some_and(|(_, kept)| kept.plan == tried.plan);
            self.kept = Some((aim, tried));
            self.aim = match self.too_slow {
                Some(slow) => aim.midpoint(slow).min(aim * spare),
                None => aim * spare,
            };
            if again || self.aim < aim * CLOSE || self.tries.len() == TRIES {
                note(said);
                return Ok(self.settled());
            }
            note(format!(
                "{said}: there is time to spare, a larger model is tried"
            ));
            return Ok(None);
        }
        self.too_slow = Some(aim);
        if after <= wanted && self.within.as_ref().is_none_or(|(best, _)| after < *best) {
            self.within = Some((after, tried));
        }
        self.aim = match &self.kept {
            Some((kept, _)) => kept.midpoint(aim),
            None => aim * spare.clamp(0.5, 0.97),
        };
        let close = self
            .kept
            .as_ref()
            .is_some_and(|(kept, _)| self.aim < kept * CLOSE);
        if close || self.tries.len() == TRIES {
            note(said);
            return self.settled().map(Some).ok_or_else(|| self.unmet());
        }
        note(format!(
            "{said}; {:.3} ms are asked for, and {:.0} % less are aimed at, so that a second measurement keeps \
             them too: a faster model is tried",
            1e3 * wanted,
            100.0 * (1.0 - ROOM)
        ));
        Ok(None)
    }

    /// The best of the plans that were measured and keep the budget.
    fn settled(&mut self) -> Option<Plan> {
        let Tried { plan, place } = match (self.kept.take(), self.within.take()) {
            (Some((_, kept)), _) => kept,
            (None, within) => {
                let (seconds, within) = within?;
                note(format!(
                    "taken is the one of {:.3} ms, which is as fast as was asked and no more",
                    1e3 * seconds
                ));
                within
            }
        };
        self.tries[place]["taken"] = json!(true);
        Some(plan)
    }

    /// No further plan can be made: the best that was measured, or how near it came.
    pub(crate) fn refused(&mut self, failure: Failure) -> Outcome<Plan> {
        if !failure.is_unmet() {
            return Err(failure);
        }
        if let Some(plan) = self.settled() {
            return Ok(plan);
        }
        Err(match self.nearest {
            Some(_) => self.unmet(),
            None => failure.hint(format!(
                "the original takes {:.3} ms; ask for less, or let more layers take part (see --only and --skip)",
                self.times.total as f64 / 1e6
            )),
        })
    }

    /// The seconds that the compressed network may take.
    fn wanted(&self, measured: &Measured) -> f64 {
        match self.limit {
            Limit::Share(share) => measured.before.0.median() * share,
            Limit::AtMost(nanoseconds) => nanoseconds as f64 / 1e9,
        }
    }

    /// How much slower it could be and still keep the budget with room.
    fn spare(&self, measured: &Measured) -> f64 {
        self.wanted(measured) * ROOM / measured.after.median()
    }

    fn unmet(&self) -> Failure {
        let nearest = self.nearest.unwrap_or(1.0);
        Failure::new(
            Kind::Unmet,
            format!(
                "no model was found that is as fast; the fastest took {:.3} of the original's time (×{:.2})",
                nearest,
                1.0 / nearest
            ),
        )
        .hint("ask for less, let more layers take part (see --skip), or give a larger --latency-batch")
    }

    fn measure(&self, graph: &Graph) -> Outcome<Measured> {
        let layouts = self.clock.layouts();
        let original = layouts.iter().map(|&layout| (&self.original, layout));
        let usual = layouts.first().copied().unwrap_or_default();
        let models: Vec<(&Graph, &str)> = original.chain([(graph, usual)]).collect();
        let mut timings = self.clock.time(&models, REPEAT)?;
        let untimed = || Failure::new(Kind::Inside, "a model was not timed");
        let after = timings.pop().ok_or_else(untimed)?;
        let before = timings.into_iter().zip(layouts.iter().copied());
        let before = before.min_by(|(a, _), (b, _)| a.median().total_cmp(&b.median()));
        let before = before.ok_or_else(untimed)?;
        Ok(Measured { before, after })
    }

    /// Times both models once more, for the record, as `bench` does for the report.
    pub(crate) fn finish(&self, graph: &Graph, source: &str, out: &OutFolder) -> Outcome<Value> {
        let measured = self.measure(graph)?;
        if measured.after.median() > self.wanted(&measured) {
            note(format!(
                "measured again at the end it takes {:.3} ms of {:.3} wanted: the speed of this machine changes; \
                 ask for a little more where the budget must hold at all times",
                1e3 * measured.after.median(),
                1e3 * self.wanted(&measured),
            ));
        }
        let row = |model: &str, timing: &Timing, layout: &str| {
            json!({
                "model": model,
                "engine": self.clock.name(),
                "batch": self.batch,
                "layout": layout,
                "median_ms": 1e3 * timing.median(),
                "quartiles_ms": timing.quartiles().map(|s| 1e3 * s),
            })
        };
        let (before, layout) = (&measured.before.0, measured.before.1);
        let usual = self.clock.layouts().first().copied().unwrap_or_default();
        let table = json!({
            "rows": [row(source, before, layout), row(&out.name(), &measured.after, usual)],
            "threads": rankfold_torch::threads(),
            "device": self.device.to_string(),
        });
        write_json(&out.file("bench.json"), &table)?;
        Ok(json!({
            "engine": self.clock.name(),
            "batch": self.batch,
            "threads": rankfold_torch::threads(),
            "before_ms": 1e3 * before.median(),
            "after_ms": 1e3 * measured.after.median(),
            "speedup": before.median() / measured.after.median(),
            "tries": self.tries,
        }))
    }
}

/// Times of layers on this machine, kept in a file from run to run.
struct Known {
    path: Option<PathBuf>,
    times: BTreeMap<String, u64>,
    machine: String,
}

impl Known {
    fn open(args: &LatencyArgs, device: Device) -> Self {
        let machine = serde_json::to_string(&background::machine(device)).unwrap_or_default();
        let machine = format!("{machine} {} {METHOD}", env!("CARGO_PKG_VERSION"));
        let path = args.timings.clone().or_else(|| {
            let digest = Sha256::digest(machine.as_bytes());
            let name: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
            Some(cache()?.join(format!("timings-{name}.json")))
        });
        let stored = path.as_ref().and_then(|path| fs::read(path).ok());
        let stored: Option<Stored> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let times = stored.filter(|stored| stored.machine == machine);
        Self {
            path,
            times: times.map_or_else(BTreeMap::new, |stored| stored.nanoseconds),
            machine,
        }
    }

    /// Writes the file; what cannot be kept is measured again by the next run.
    fn keep(&self) {
        let Some(path) = &self.path else { return };
        if let Some(folder) = path.parent() {
            let _ = fs::create_dir_all(folder);
        }
        let stored = Stored {
            machine: self.machine.clone(),
            nanoseconds: self.times.clone(),
        };
        let _ = write_json(path, &stored);
    }
}

/// Where the system keeps what programs can make again.
pub(crate) fn cache() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = named("XDG_CACHE_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(named("HOME")?).join(".cache")))?;
    Some(folder.join("rankfold"))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    /// What was measured on.
    machine: String,
    nanoseconds: BTreeMap<String, u64>,
}

impl Memo for Known {
    fn get(&self, piece: &str) -> Option<u64> {
        self.times.get(piece).copied()
    }

    fn put(&mut self, piece: String, nanoseconds: u64) {
        self.times.insert(piece, nanoseconds);
    }
}
