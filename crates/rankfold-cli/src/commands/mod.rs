//! The subcommands, one file each.

mod bench;
mod cluster;
mod compare;
mod completions;
mod compress;
mod doctor;
mod eval;
mod export;
mod finetune;
pub(crate) mod fresh;
mod inspect;
mod man;
mod plan;
mod prune;
mod quantize;
mod report;
mod sweep;
mod train;
mod zoo;

use clap::Subcommand;

use crate::failure::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Compress(Box<compress::Compress>),
    Plan(Box<plan::PlanCommand>),
    Sweep(Box<sweep::SweepCommand>),
    Finetune(Box<finetune::Finetune>),
    Prune(Box<prune::Prune>),
    Train(Box<train::Train>),
    Cluster(cluster::Cluster),
    Quantize(quantize::Quantize),
    Inspect(inspect::Inspect),
    Eval(eval::Eval),
    Compare(compare::Compare),
    Bench(bench::Bench),
    #[command(hide = true)]
    Fresh(fresh::Fresh),
    Export(export::Export),
    Report(report::Report),
    Zoo(zoo::Zoo),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::Compress(command) => command.run(),
            Self::Plan(command) => command.run(),
            Self::Sweep(command) => command.run(),
            Self::Finetune(command) => command.run(),
            Self::Prune(command) => command.run(),
            Self::Train(command) => command.run(),
            Self::Cluster(command) => command.run(),
            Self::Quantize(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Eval(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Fresh(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Report(command) => command.run(),
            Self::Zoo(command) => command.run(),
            Self::Doctor(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        }
    }
}
