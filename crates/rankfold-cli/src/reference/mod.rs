//! All commands and options as a page of Markdown, made of what `--help` is made of.

use clap::{Arg, Command};

const HEAD: &str = "\
# Commands

`rankfold COMMAND --help` says the same at the terminal. This page is written by `make docs`; \
what is wrong in it is mended in the source of the command.

Exit codes: 0 done, 1 a failure inside, 2 the command line, 3 a file that is not what it should be, \
4 data or a device that is not there, 5 a budget that cannot be met, 130 interrupted.
";

/// The page on `program` and all its commands that are not hidden.
pub(crate) fn markdown(mut program: Command) -> String {
    program.build();
    let commands: Vec<&Command> = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect();
    let mut page = String::from(HEAD);
    page.push_str("\n| command | |\n|---|---|\n");
    for command in &commands {
        let (name, about) = (command.get_name(), text(command.get_about()));
        page.push_str(&format!("| [{name}](#rankfold-{name}) | {about} |\n"));
    }
    for command in commands {
        page.push_str(&section(command));
    }
    page
}

fn section(command: &Command) -> String {
    let about = text(command.get_long_about().or(command.get_about()));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let name = command.get_name();
    let mut section = format!("\n## rankfold {name}\n\n{about}\n\n```text\n{usage}\n```\n");
    for (heading, arguments) in groups(command) {
        section.push_str(&format!("\n{heading}:\n\n"));
        arguments
            .iter()
            .for_each(|argument| section.push_str(&entry(argument)));
    }
    section
}

/// The arguments that are told, under their headings, in the order in which `--help` has them.
fn groups(command: &Command) -> Vec<(&str, Vec<&Arg>)> {
    let mut groups = vec![("Arguments", vec![]), ("Options", vec![])];
    for argument in command.get_arguments() {
        if argument.is_hide_set() || argument.get_id() == "help" {
            continue;
        }
        let heading = match argument.get_help_heading() {
            Some(heading) => heading,
            None if argument.is_positional() => "Arguments",
            None => "Options",
        };
        match groups.iter_mut().find(|(name, _)| *name == heading) {
            Some((_, arguments)) => arguments.push(argument),
            None => groups.push((heading, vec![argument])),
        }
    }
    groups.retain(|(_, arguments)| !arguments.is_empty());
    groups
}

fn entry(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}, "));
    let short = short.unwrap_or_default();
    let help = text(argument.get_long_help().or(argument.get_help()));
    let mut entry = format!("- `{short}{argument}`: {help}");
    if !argument.get_action().takes_values() {
        return entry + "\n";
    }
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.display()))
        .collect();
    if !defaults.is_empty() {
        entry.push_str(&format!(" (default: {})", defaults.join(", ")));
    }
    entry.push('\n');
    for value in argument.get_possible_values() {
        if value.is_hide_set() {
            continue;
        }
        let help = value.get_help().map(|help| format!(": {help}"));
        let help = help.unwrap_or_default();
        entry.push_str(&format!("  - `{}`{help}\n", value.get_name()));
    }
    entry
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests;
