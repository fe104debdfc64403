use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::failure::{Failure, Outcome};

/// Write the manual pages into a folder
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder, as /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Outcome {
        let failed = |e: std::io::Error| Failure::io(&self.dir, &e);
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        clap_mangen::generate_to(crate::Cli::command(), &self.dir).map_err(failed)
    }
}
