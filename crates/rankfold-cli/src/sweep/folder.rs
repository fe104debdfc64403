//! The folder of a sweep: a description that never changes, and a line for every measured cell.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rankfold_compress::{Cell, Form, Rank, SWEEP_VERSION, Sweep};
use rankfold_formats::write_atomically;
use serde_json::Value;

use crate::failure::{Failure, Kind, Outcome};
use crate::output::note;

const DESCRIPTION: &str = "sweep.json";
const CELLS: &str = "cells.jsonl";

/// A sweep that is being measured.
#[derive(Debug)]
pub(crate) struct SweepFolder {
    path: PathBuf,
    lines: Mutex<File>,
    cells: Vec<Cell>,
}

impl SweepFolder {
    /// Begins a sweep in a new or empty folder, or goes on with the same one.
    pub(crate) fn open(folder: &Path, sweep: &Sweep) -> Outcome<Self> {
        let cells = match is_sweep(folder)? {
            false => {
                fs::create_dir_all(folder).map_err(|e| Failure::io(folder, &e))?;
                write_json(&folder.join(DESCRIPTION), sweep)?;
                Vec::new()
            }
            true => {
                same(folder, &described(folder)?, "asked for is", sweep)?;
                let (cells, whole) = cells(folder, sweep)?;
                cut_off(&folder.join(CELLS), whole)?;
                cells
            }
        };
        let path = folder.join(CELLS);
        let lines = OpenOptions::new().create(true).append(true).open(&path);
        let lines = lines.map_err(|e| Failure::io(&path, &e))?;
        Ok(Self {
            lines: Mutex::new(lines),
            path,
            cells,
        })
    }

    /// True where the cell was measured by an earlier run.
    pub(crate) fn has(&self, layer: &str, form: Form, rank: Rank) -> bool {
        self.cells.iter().any(|cell| cell.is_at(layer, form, rank))
    }

    /// Adds a cell: a whole line on the disk, or an error.
    pub(crate) fn append(&self, cell: &Cell) -> Outcome {
        let mut file = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.write_all(line(cell)?.as_bytes());
        let stored = written.and_then(|()| file.sync_data());
        stored.map_err(|e| Failure::io(&self.path, &e))
    }
}

/// The sweep in a folder and its cells, each once. A last line that was cut off does not count.
pub(crate) fn read(folder: &Path) -> Outcome<(Sweep, Vec<Cell>)> {
    if !is_sweep(folder)? {
        let message = format!("{} holds no sweep", folder.display());
        return Err(Failure::new(Kind::Missing, message).hint("make one: `rankfold sweep`"));
    }
    let sweep = described(folder)?;
    let (mut cells, _) = cells(folder, &sweep)?;
    let mut seen = Vec::with_capacity(cells.len());
    cells.retain(|cell| {
        let place = (cell.layer.clone(), cell.form, cell.rank);
        let new = !seen.contains(&place);
        seen.push(place);
        new
    });
    Ok((sweep, cells))
}

/// Joins the cells of parts of one sweep in a new folder; the sweep and how many cells are there.
pub(crate) fn merge(parts: &[PathBuf], folder: &Path) -> Outcome<(Sweep, Vec<Cell>)> {
    if folder.exists() {
        let message = format!("{} exists", folder.display());
        return Err(Failure::usage(message).hint("give a folder that is not there yet"));
    }
    let mut all: Option<(Sweep, Vec<Cell>)> = None;
    for part in parts {
        let (sweep, cells) = read(part)?;
        match &mut all {
            None => all = Some((sweep, cells)),
            Some((first, known)) => {
                same(
                    part,
                    &sweep,
                    &format!("in {} it is", parts[0].display()),
                    first,
                )?;
                let new = |cell: &Cell| {
                    !known
                        .iter()
                        .any(|own| own.is_at(&cell.layer, cell.form, cell.rank))
                };
                let new: Vec<Cell> = cells.into_iter().filter(new).collect();
                known.extend(new);
            }
        }
    }
    let (sweep, mut cells) = all.ok_or_else(|| Failure::usage("no sweep was given"))?;
    let places: Vec<_> = (sweep.layers.iter())
        .flat_map(|layer| layer.forms.iter().map(move |form| (layer, form)))
        .flat_map(|(layer, form)| {
            form.ranks
                .iter()
                .map(move |rank| (&layer.name, form.form, *rank))
        })
        .collect();
    let place = |cell: &Cell| {
        let at = |&(layer, form, rank): &(&String, _, _)| cell.is_at(layer, form, rank);
        places.iter().position(at)
    };
    cells.sort_by_cached_key(place);
    write_folder(folder, &sweep, &cells)?;
    Ok((sweep, cells))
}

/// Makes the folder beside its place and renames it.
fn write_folder(folder: &Path, sweep: &Sweep, cells: &[Cell]) -> Outcome {
    let name = folder
        .file_name()
        .ok_or_else(|| Failure::usage(format!("{} names no folder to write", folder.display())))?;
    let partial = folder.with_file_name(format!(".{}.partial", name.to_string_lossy()));
    let write = || -> Outcome {
        fs::create_dir_all(&partial).map_err(|e| Failure::io(&partial, &e))?;
        write_json(&partial.join(DESCRIPTION), sweep)?;
        let path = partial.join(CELLS);
        write_atomically(&path, |writer| -> Outcome {
            for cell in cells {
                let written = writer.write_all(line(cell)?.as_bytes());
                written.map_err(|e| Failure::io(&path, &e))?;
            }
            Ok(())
        })?;
        fs::rename(&partial, folder).map_err(|e| Failure::io(folder, &e))
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// Whether a folder holds a sweep; an error where it holds something else.
fn is_sweep(folder: &Path) -> Outcome<bool> {
    if folder.join(DESCRIPTION).is_file() {
        return Ok(true);
    }
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Failure::io(folder, &error)),
    };
    match entries.next() {
        None => Ok(false),
        Some(_) => {
            let message = format!("{} holds other things than a sweep", folder.display());
            Err(Failure::usage(message).hint("give a folder that is empty or not there yet"))
        }
    }
}

/// An error where a folder's sweep is not the one expected.
fn same(folder: &Path, found: &Sweep, expected_is: &str, expected: &Sweep) -> Outcome {
    let Some((what, own, other)) = found.difference(expected) else {
        return Ok(());
    };
    let folder = folder.display();
    let message = format!("{folder} holds another sweep: its {what}: {own}; {expected_is} {other}");
    Err(Failure::usage(message).hint(format!(
        "give another folder, or what that sweep was begun with: `{}`",
        found.command
    )))
}

fn described(folder: &Path) -> Outcome<Sweep> {
    let path = folder.join(DESCRIPTION);
    let text = fs::read_to_string(&path).map_err(|e| Failure::io(&path, &e))?;
    let bad = |reason: String| {
        Failure::new(Kind::BadFile, format!("{}: {reason}", path.display()))
            .hint("remove the folder and sweep again")
    };
    let value: Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    match value.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(SWEEP_VERSION) => {}
        Some(version) => {
            return Err(bad(format!(
                "expected version {SWEEP_VERSION}, found version {version}"
            )));
        }
        None => return Err(bad("expected a sweep, found no version".to_owned())),
    }
    serde_json::from_value(value).map_err(|e| bad(e.to_string()))
}

/// The cells of a folder and the bytes up to the end of the last whole line.
fn cells(folder: &Path, sweep: &Sweep) -> Outcome<(Vec<Cell>, u64)> {
    let path = folder.join(CELLS);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Failure::io(&path, &error)),
    };
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |i| i + 1);
    let mut cells = Vec::new();
    for (number, line) in bytes[..whole]
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate()
    {
        let bad = |reason: String| {
            let place = format!("{}, line {}", path.display(), number + 1);
            Failure::new(Kind::BadFile, format!("{place}: {reason}"))
                .hint("remove the line: its cell is then measured again")
        };
        let cell: Cell = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
        if !sweep.has(&cell) {
            let Cell {
                layer, form, rank, ..
            } = cell;
            return Err(bad(format!(
                "{layer}, {form}, rank {rank} is no cell of this sweep"
            )));
        }
        cells.push(cell);
    }
    Ok((cells, whole as u64))
}

/// Takes away what follows the last whole line.
fn cut_off(path: &Path, whole: u64) -> Outcome {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > whole => {}
        _ => return Ok(()),
    }
    let file = OpenOptions::new().write(true).open(path);
    let cut = file.and_then(|file| {
        file.set_len(whole)?;
        file.sync_all()
    });
    cut.map_err(|e| Failure::io(path, &e))?;
    note(format!(
        "the last line of {} was cut off; its cell is measured again",
        path.display()
    ));
    Ok(())
}

fn line(cell: &Cell) -> Outcome<String> {
    let text = serde_json::to_string(cell).map_err(|e| Failure::new(Kind::Inside, e))?;
    Ok(text + "\n")
}

fn write_json(path: &Path, sweep: &Sweep) -> Outcome {
    write_atomically(path, |writer| -> Outcome {
        let text =
            serde_json::to_string_pretty(sweep).map_err(|e| Failure::new(Kind::Inside, e))?;
        let written = writer
            .write_all(text.as_bytes())
            .and_then(|()| writer.write_all(b"\n"));
        written.map_err(|e| Failure::io(path, &e))
    })
}
