use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use rankfold_report::{Folder, Report as Page};

use crate::failure::{Failure, Outcome};
use crate::output::{say, write_text};

/// Write report.html on what is in a folder: what was compressed, swept, fine-tuned, and at what cost
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The folder that compress, sweep or fine-tuning wrote
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Folders of what else was tried (compressions, drawn beside the first) or measured (a sweep,
    /// fine-tuning)
    #[arg(value_name = "OTHER")]
    others: Vec<PathBuf>,
}

impl Report {
    pub(crate) fn run(self) -> Outcome {
        let folders = std::iter::once(&self.folder).chain(&self.others);
        let folders: Vec<Folder> = folders
            .map(|path| Folder::read(path))
            .collect::<Result<_, _>>()?;
        write(&self.folder, &Page::of(&folders))?;
        say(self.folder.join("report.html").display())
    }
}

/// Writes every file of a report, each as a whole; the plots of an earlier one go.
fn write(target: &Path, page: &Page) -> Outcome {
    let (plots, new) = (target.join("plots"), target.join(".plots.partial"));
    remove(&new)?;
    fs::create_dir_all(&new).map_err(|e| Failure::io(&new, &e))?;
    for plot in &page.plots {
        write_text(&new.join(format!("{}.svg", plot.name)), &plot.file)?;
    }
    remove(&plots)?;
    fs::rename(&new, &plots).map_err(|e| Failure::io(&plots, &e))?;
    write_text(&target.join("report.json"), &page.json())?;
    write_text(&target.join("report.html"), &page.html)
}

/// Removes a folder, where it is there.
fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io(folder, &error))
        }
        _ => Ok(()),
    }
}
