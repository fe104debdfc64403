use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, CommandFactory};

use crate::failure::{Failure, Outcome};
use crate::reference;

/// Write the manual pages into a folder, or all of them as a page of Markdown
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder, as /usr/local/share/man/man1
    #[arg(value_name = "DIR", required_unless_present = "markdown")]
    dir: Option<PathBuf>,

    /// Write one page of Markdown instead
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    markdown: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self) -> Outcome {
        let program = crate::Cli::command();
        let failed = |path: &Path, e: io::Error| Failure::io(path, &e);
        if let Some(file) = &self.markdown {
            fs::write(file, reference::markdown(program.clone())).map_err(|e| failed(file, e))?;
        }
        if let Some(dir) = &self.dir {
            fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
            clap_mangen::generate_to(program, dir).map_err(|e| failed(dir, e))?;
        }
        Ok(())
    }
}
