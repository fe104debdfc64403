//! Networks by the clock, whatever runs them.

use std::time::Instant;

use rankfold_graph::Graph;

/// How often to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repeat {
    /// Runs of every model before anything is measured.
    pub warmup: usize,
    /// Measurements of every model.
    pub samples: usize,
    /// Least duration of one measurement; models quicker than this run several times in it.
    pub seconds: f64,
}

impl Default for Repeat {
    fn default() -> Self {
        Self {
            warmup: 3,
            samples: 25,
            seconds: 0.005,
        }
    }
}

/// The durations of one model's runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Seconds of a run, one entry a measurement, in the order of measuring.
    pub samples: Vec<f64>,
}

impl Timing {
    /// Half of the measurements are at most this, in seconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// First and third quartile, in seconds.
    pub fn quartiles(&self) -> [f64; 2] {
        [self.quantile(0.25), self.quantile(0.75)]
    }

    /// The shortest measurement, in seconds.
    pub fn fastest(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The value below which a share `q` of the measurements lies, interpolated.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        let place = q.clamp(0.0, 1.0) * last as f64;
        let (low, high) = (
            sorted[place.floor() as usize],
            sorted[place.ceil() as usize],
        );
        low + (high - low) * place.fract()
    }
}

/// Measures `models` models by turns: every model once, then every model again. `run` runs the model of
/// that number.
///
/// Noise of the machine then falls on all of them alike, and ratios of medians are meaningful.
pub fn by_turns<E>(
    models: usize,
    repeat: Repeat,
    mut run: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<Timing>, E> {
    let mut timed = |model: usize, runs: usize| {
        let start = Instant::now();
        for _ in 0..runs {
            run(model)?;
        }
        Ok(start.elapsed().as_secs_f64() / runs as f64)
    };
    let mut runs = Vec::with_capacity(models);
    for model in 0..models {
        let mut fastest = f64::INFINITY;
        for _ in 0..repeat.warmup.max(1) {
            fastest = fastest.min(timed(model, 1)?);
        }
        runs.push((repeat.seconds / fastest.max(1e-9)).ceil().clamp(1.0, 1e6) as usize);
    }
    let mut samples = vec![Vec::with_capacity(repeat.samples); models];
    for round in 0..repeat.samples {
        for i in 0..models {
            let turn = (i + round) % models;
            samples[turn].push(timed(turn, runs[turn])?);
        }
    }
    let timing = |samples| Timing { samples };
    Ok(samples.into_iter().map(timing).collect())
}

/// How long one step of a network takes.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// The nodes that are done in it, in order.
    pub nodes: Vec<String>,
    /// The op of the first.
    pub op: &'static str,
    /// Whether three convolutions are one step.
    pub chain: bool,
    /// Whether it only looks at its input in another way.
    pub view: bool,
    /// The median of its times.
    pub seconds: f64,
}

/// What runs networks, on inputs of its own choice, and tells how long that takes.
pub trait Engine {
    /// Why a network could not be run.
    type Error;

    /// How values may lie in memory, the usual way first.
    fn layouts(&self) -> &'static [&'static str];

    /// What decides how long a network takes, beside the network, its layout and the machine.
    fn circumstances(&self) -> String;

    /// Networks, each in a layout, by turns.
    fn time(&self, models: &[(&Graph, &str)], repeat: Repeat) -> Result<Vec<Timing>, Self::Error>;

    /// The same of parts of a network, whose inputs lie in memory as the part before leaves them, where the
    /// engine has a say in that.
    fn time_parts(
        &self,
        models: &[(&Graph, &str)],
        repeat: Repeat,
    ) -> Result<Vec<Timing>, Self::Error> {
        self.time(models, repeat)
    }

    /// The steps of a network in the usual layout, in one of many runs; none where they are not known.
    fn steps(&self, graph: &Graph, runs: usize) -> Result<Vec<StepTime>, Self::Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_on_straight_lines_between_measurements() {
        let timing = Timing {
            samples: vec![5.0, 1.0, 2.0, 4.0],
        };
        assert_eq!(timing.fastest(), 1.0);
        assert_eq!(timing.median(), 3.0);
        assert_eq!(timing.quartiles(), [1.75, 4.25]);
        assert_eq!(timing.quantile(1.0), 5.0);
        let none = Timing { samples: vec![] };
        assert!(none.median().is_nan());
    }

    #[test]
    fn models_take_turns_and_begin_by_turns() {
        let repeat = Repeat {
            warmup: 2,
            samples: 3,
            seconds: 0.0,
        };
        let mut order = Vec::new();
        let timings = by_turns(3, repeat, |model| {
            order.push(model);
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(order, [0, 0, 1, 1, 2, 2, 0, 1, 2, 1, 2, 0, 2, 0, 1]);
        assert!(timings.iter().all(|timing| timing.samples.len() == 3));
        assert_eq!(by_turns(2, repeat, Err), Err(0));
    }

    #[test]
    fn quick_models_run_as_often_as_fills_a_measurement() {
        let repeat = Repeat {
            warmup: 20,
            samples: 1,
            seconds: 0.02,
        };
        let mut runs = 0;
        let pause = std::time::Duration::from_millis(1);
        let timings = by_turns(1, repeat, |_| {
            runs += 1;
            std::thread::sleep(pause);
            Ok::<_, ()>(())
        })
        .unwrap();
        // Twenty at most, fewer on a machine that is busy and sleeps longer.
        assert!((23..=40).contains(&runs), "{runs}");
        assert!(timings[0].median() >= pause.as_secs_f64());
    }
}
