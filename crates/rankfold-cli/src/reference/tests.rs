//! The committed page is the generated one, and every command line in a document is one.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::markdown;
use crate::Cli;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_committed_page_is_the_generated_one() {
    let committed = fs::read_to_string(root().join("docs/commands.md")).unwrap_or_default();
    assert!(
        committed == markdown(Cli::command()),
        "docs/commands.md is not what the program says of itself: run `make docs`"
    );
}

/// The documents that are written by hand, with their paths in the repository.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![PathBuf::from("README.md")];
    let folder = fs::read_dir(root().join("docs")).expect("docs");
    paths.extend(folder.map(|entry| Path::new("docs").join(entry.expect("an entry").file_name())));
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    paths.retain(|path| path != Path::new("docs/commands.md"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).expect("a document");
        (path.display().to_string(), text)
    };
    paths.into_iter().map(read).collect()
}

/// The lines of the code blocks, fenced or indented, joined where they end in a backslash.
fn code(document: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines: Vec<String> = Vec::new();
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            match lines.last_mut() {
                Some(last) if last.ends_with('\\') => {
                    last.pop();
                    last.push_str(line.trim());
                }
                _ => lines.push(line.trim().to_owned()),
            }
        }
    }
    lines
}

/// The words of a command line without its comment; a variable of the shell is a 1.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let fresh = words.last().is_some_and(String::is_empty);
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => quote = Some(letter),
            ('$', None | Some('"')) => {
                while letters
                    .next_if(|c| c.is_ascii_alphanumeric() || "_{}".contains(*c))
                    .is_some()
                {}
                words.last_mut().expect("a word").push('1');
            }
            ('#', None) if fresh => break,
            (' ', None) if fresh => {}
            (' ', None) => words.push(String::new()),
            _ => words.last_mut().expect("a word").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn the_examples_of_the_documents_parse() {
    let (mut seen, mut wrong) = (0, String::new());
    for (path, text) in documents() {
        for line in code(&text) {
            let line = line.trim_start_matches("$ ");
            if !line.starts_with("rankfold ") {
                continue;
            }
            seen += 1;
            match Cli::command().try_get_matches_from(words(line)) {
                Err(error) if error.exit_code() != 0 => {
                    wrong.push_str(&format!("{path}: {line}\n{error}\n"));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen > 20, "only {seen} examples were found");
}

/// The pieces of code within lines.
fn inline(document: &str) -> impl Iterator<Item = &str> {
    let lines = document
        .lines()
        .filter(|line| !line.starts_with("    ") && !line.starts_with("```"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Whether the command, or for none any, has an option of that name.
fn has(program: &clap::Command, command: Option<&str>, option: &str) -> bool {
    let commands = match command.and_then(|name| program.find_subcommand(name)) {
        Some(command) => vec![command],
        None => program.get_subcommands().collect(),
    };
    let named = |arg: &clap::Arg| arg.get_long() == Some(option);
    ["help", "version"].contains(&option)
        || commands
            .iter()
            .any(|command| command.get_arguments().any(named))
}

#[test]
fn the_options_that_sentences_name_exist() {
    let program = Cli::command();
    let mut wrong = String::new();
    for (path, text) in documents() {
        for piece in inline(&text) {
            let words = piece.trim_start_matches("rankfold ").split_whitespace();
            let command = words.clone().next().unwrap_or_default();
            let command = program
                .find_subcommand(command)
                .map(clap::Command::get_name);
            if piece.starts_with("rankfold ") && command.is_none() {
                wrong.push_str(&format!("{path}: no such command: `{piece}`\n"));
            }
            if command.is_none() && !piece.starts_with("--") {
                continue;
            }
            let options = words.filter_map(|word| word.strip_prefix("--"));
            let options = options.map(|option| option.split('=').next().unwrap_or_default());
            options
                .filter(|option| !has(&program, command, option))
                .for_each(|option| wrong.push_str(&format!("{path}: no --{option}: `{piece}`\n")));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
