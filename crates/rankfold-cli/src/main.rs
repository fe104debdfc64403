//! The `rankfold` command. One file a subcommand; the only place of the project that prints.

mod accuracy;
mod adjustment;
mod args;
mod background;
mod budget;
mod calibration;
mod coded;
mod commands;
mod data;
mod engine;
mod exported;
mod failure;
mod folder;
mod interrupt;
mod latency;
mod model;
mod output;
mod planning;
mod profile;
mod progress;
mod pruning;
mod record;
mod reference;
mod sameness;
mod sized;
mod starts;
mod steps;
mod sweep;
mod swept;
mod trained;
mod training;
mod tuning;
mod verification;
mod version;

use std::error::Error;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use rankfold_data::DataError;
use rankfold_torch::DeviceError;

use crate::commands::Command;

/// Makes trained neural networks smaller and faster: fully connected layers become two by truncated
/// SVD, convolutions become small ones by CP, Tucker or SVD, at ranks that a budget decides.
#[derive(Debug, Parser)]
#[command(
    name = "rankfold",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do about a value that cannot be read, where its error says.
fn hint(error: &clap::Error) -> Option<String> {
    let source = error.source()?;
    let data = source.downcast_ref().and_then(DataError::hint);
    data.or_else(|| source.downcast_ref().map(DeviceError::hint))
}

fn main() -> ExitCode {
    rankfold_torch::keep_freed_memory();
    // Not in the derived command: manual pages hold nothing of the machine where they are made.
    let command = Cli::command().long_version(version::long());
    let parsed = command.try_get_matches();
    let cli = match parsed.and_then(|given| Cli::from_arg_matches(&given)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if let Some(hint) = hint(&error) {
                output::note(format!("\nhint: {hint}"));
            }
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => failure::Kind::Usage.into(),
            };
        }
    };
    interrupt::listen();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
