//! Runs a network on given inputs, for the comparisons with PyTorch in this folder.
//!
//! `interop-forward list` prints the networks of the zoo; `interop-forward zoo NAME WEIGHTS INPUTS
//! OUTPUTS [OPTION…]` reads weights and inputs and writes the outputs, all as safetensors;
//! `interop-forward file MODEL INPUTS OUTPUTS [OPTION…]` takes a file that describes its network.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use rankfold_formats::{SaveOptions, StateDict, described_model, read_weights, write_safetensors};
use rankfold_graph::{Graph, Weights};
use rankfold_torch::{Executor, Layout, from_torch, to_torch};

const USAGE: &str = "usage: interop-forward list | zoo NAME WEIGHTS INPUTS OUTPUTS \
                     [transform-input] [input-side=N] [k=N] [unfolded] [nchw] \
                     | file MODEL INPUTS OUTPUTS [unfolded] [nchw]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["list"] => {
            for network in rankfold_zoo::list() {
                let sides = if network.takes_any_side() {
                    "any"
                } else {
                    "one"
                };
                println!("{} {:?} {sides}", network.name, network.input);
            }
            Ok(())
        }
        ["zoo", name, weights, inputs, outputs, options @ ..] => {
            let (network, executor) = parse(options)?;
            let weights: Weights = read_weights(Path::new(weights))?
                .tensors
                .into_iter()
                .map(|(name, tensor)| (name.into(), tensor))
                .collect();
            let graph = rankfold_zoo::load(name, &weights, &network)?;
            run(&graph, executor, inputs, outputs)
        }
        ["file", model, inputs, outputs, options @ ..] => {
            let (_, executor) = parse(options)?;
            let checkpoint = read_weights(Path::new(model))?;
            let model = described_model(Path::new(model), &checkpoint)?
                .ok_or("the file does not describe its network")?;
            run(&model.graph, executor, inputs, outputs)
        }
        _ => Err(USAGE.into()),
    }
}

fn parse(
    options: &[&str],
) -> Result<(rankfold_zoo::Options, rankfold_torch::Options), Box<dyn Error>> {
    let mut network = rankfold_zoo::Options::default();
    let mut executor = rankfold_torch::Options::default();
    for option in options {
        match option.split_once('=') {
            None if *option == "transform-input" => network.transform_input = true,
            None if *option == "unfolded" => executor.fold = false,
            None if *option == "nchw" => executor.layout = Layout::Nchw,
            Some(("input-side", side)) => network.input_side = Some(side.parse()?),
            Some(("k", k)) => network.k = Some(k.parse()?),
            _ => return Err(format!("unknown option {option}\n{USAGE}").into()),
        }
    }
    Ok((network, executor))
}

/// Runs `graph` on the file's tensors, taken in the order of their names.
fn run(
    graph: &Graph,
    options: rankfold_torch::Options,
    inputs: &str,
    outputs: &str,
) -> Result<(), Box<dyn Error>> {
    let mut inputs: Vec<_> = read_weights(Path::new(inputs))?
        .tensors
        .into_iter()
        .collect();
    inputs.sort_by(|a, b| a.0.cmp(&b.0));
    let inputs = inputs
        .iter()
        .map(|(_, tensor)| to_torch(tensor))
        .collect::<Result<Vec<_>, _>>()?;
    let executor = Executor::new(graph, options)?;
    let mut results = StateDict::new();
    for (i, output) in executor.run(&inputs)?.iter().enumerate() {
        results.insert(format!("output.{i}"), from_torch(output)?)?;
    }
    write_safetensors(Path::new(outputs), &results, &SaveOptions::default())?;
    Ok(())
}
