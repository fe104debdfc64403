//! What a model takes in a process of its own: time to load, to the first output and for a run, and memory.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use crate::commands::fresh::Mark;
use crate::failure::{Failure, Kind, Outcome};
use crate::interrupt;
use crate::output::{bytes, table};

/// Processes of every model, by turns.
const ROUNDS: usize = 3;

/// Medians over the processes of one model; seconds from the start of the process, bytes above one
/// that has loaded nothing.
#[derive(Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) model: String,
    pub(crate) loaded_s: f64,
    pub(crate) first_output_s: f64,
    pub(crate) run_s: f64,
    pub(crate) loaded_bytes: u64,
    pub(crate) peak_bytes: u64,
}

/// One process.
struct Run {
    loaded: f64,
    first: f64,
    run: f64,
    loaded_bytes: u64,
    peak_bytes: u64,
}

/// Starts every model several times, by turns; `arguments` are those of one.
pub(crate) fn measure(models: &[(String, Vec<OsString>)]) -> Outcome<Vec<Start>> {
    let empty = one(&[])?;
    let idle = empty.first().map_or(0, |(_, mark)| mark.peak);
    let mut runs: Vec<Vec<Run>> = models.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((name, arguments), runs) in models.iter().zip(&mut runs) {
            let marks = one(arguments)?;
            let [(loaded, after_load), (first, _), (_, end)] = marks[..] else {
                return Err(Failure::new(
                    Kind::Inside,
                    format!("{name} did not run to its end"),
                ));
            };
            runs.push(Run {
                loaded,
                first,
                run: end.seconds.unwrap_or(f64::NAN),
                loaded_bytes: after_load.resident.saturating_sub(idle),
                peak_bytes: end.peak.saturating_sub(idle),
            });
            interrupt::check()?;
        }
    }
    let start = |((name, _), runs): (&(String, Vec<OsString>), &Vec<Run>)| Start {
        model: name.clone(),
        loaded_s: median(runs, |run| run.loaded),
        first_output_s: median(runs, |run| run.first),
        run_s: median(runs, |run| run.run),
        loaded_bytes: median(runs, |run| run.loaded_bytes as f64) as u64,
        peak_bytes: median(runs, |run| run.peak_bytes as f64) as u64,
    };
    Ok(models.iter().zip(&runs).map(start).collect())
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What one process said, each with the seconds since it was started.
fn one(arguments: &[OsString]) -> Outcome<Vec<(f64, Mark)>> {
    let inside = |e: std::io::Error| Failure::new(Kind::Inside, e);
    let program = std::env::current_exe().map_err(inside)?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .arg("fresh")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(inside)?;
    let mut marks = Vec::new();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let passed = start.elapsed().as_secs_f64();
            let mark = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            marks.extend(mark.map(|mark| (passed, mark)));
        }
    }
    let output = child.wait_with_output().map_err(inside)?;
    if output.status.success() {
        return Ok(marks);
    }
    interrupt::check()?;
    let message = String::from_utf8_lossy(&output.stderr);
    let message = message.trim().trim_start_matches("error: ").to_owned();
    Err(Failure::new(
        Kind::Inside,
        format!("in a process of its own: {message}"),
    ))
}

/// The rows as a table, with the first model over each.
pub(crate) fn text(starts: &[Start]) -> String {
    let Some(first) = starts.first() else {
        return String::new();
    };
    let times = |before: f64, after: f64| format!("×{:.2}", before / after);
    let rows = starts.iter().map(|start| {
        vec![
            start.model.clone(),
            format!("{:.0}", 1e3 * start.loaded_s),
            format!("{:.0}", 1e3 * start.first_output_s),
            times(first.first_output_s, start.first_output_s),
            format!("{:.3}", 1e3 * start.run_s),
            bytes(start.loaded_bytes),
            bytes(start.peak_bytes),
            times(first.peak_bytes as f64, start.peak_bytes as f64),
        ]
    });
    let header = [
        "fresh process",
        "loaded ms",
        "first output ms",
        "",
        "run ms",
        "memory loaded",
        "memory at most",
        "",
    ];
    table(&header, &[0], rows.collect()).to_string()
}
