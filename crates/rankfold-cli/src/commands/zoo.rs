use clap::Args;
use serde::Serialize;

use crate::failure::Outcome;
use crate::output::{say, say_json, shape, table};

/// List the networks that are known by name
#[derive(Debug, Args)]
pub(crate) struct Zoo {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    input: [usize; 3],
    classes: usize,
    about: &'static str,
}

impl Zoo {
    pub(crate) fn run(self) -> Outcome {
        let entries: Vec<Entry> = rankfold_zoo::list()
            .map(|network| Entry {
                name: network.name,
                input: network.input,
                classes: network.classes,
                about: network.about,
            })
            .collect();
        if self.json {
            return say_json(&entries);
        }
        let rows = entries.iter().map(|entry| {
            vec![
                entry.name.to_owned(),
                shape(&entry.input),
                match entry.classes {
                    0 => String::new(),
                    classes => classes.to_string(),
                },
                entry.about.to_owned(),
            ]
        });
        say(table(
            &["network", "input", "classes", ""],
            &[0, 3],
            rows.collect(),
        ))
    }
}
