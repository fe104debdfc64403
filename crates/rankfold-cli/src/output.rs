//! What goes to stdout: tables and JSON; and notes, which go to stderr.

use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use rankfold_formats::write_atomically;
use serde::Serialize;

pub(crate) use rankfold_report::numbers::{bytes, grouped, percent};

use crate::failure::{Failure, Kind, Outcome};

/// Writes a text and a line end to stdout. A reader that went away is no failure.
pub(crate) fn say(text: impl std::fmt::Display) -> Outcome {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Kind::Inside, format!("stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes a value as JSON to stdout.
pub(crate) fn say_json(value: &impl Serialize) -> Outcome {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(Kind::Inside, error))?;
    say(text)
}

/// Writes a value as JSON to a file, all at once.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Outcome {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(Kind::Inside, error))?;
    text.push('\n');
    write_text(path, &text)
}

/// Writes a text to a file, all at once.
pub(crate) fn write_text(path: &Path, text: &str) -> Outcome {
    let failed = |e: std::io::Error| Failure::io(path, &e);
    write_atomically(path, |file| file.write_all(text.as_bytes()).map_err(failed))
}

/// An error where a file is there that may not be replaced.
pub(crate) fn check_free(path: &Path, force: bool) -> Outcome {
    match path.exists() && !force {
        false => Ok(()),
        true => Err(Failure::usage(format!("{} exists", path.display()))
            .hint("give --force to replace it, or another name by --output")),
    }
}

/// Writes a line to stderr.
#[allow(clippy::print_stderr)]
pub(crate) fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// A table without frames: names to the left, numbers to the right.
pub(crate) fn table(header: &[&str], left: &[usize], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 0 } else { 1 }, 1));
        if !left.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Sizes with × between them.
pub(crate) fn shape(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    sizes.join("×")
}
