use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::failure::Outcome;

/// Print completions for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Outcome {
        let mut text = Vec::new();
        generate(
            self.shell,
            &mut crate::Cli::command(),
            "rankfold",
            &mut text,
        );
        crate::output::say(String::from_utf8_lossy(&text).trim_end())
    }
}
