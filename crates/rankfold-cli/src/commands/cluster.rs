use clap::Args;
use rankfold_compress::Clustering;
use rankfold_torch::check_finite;

use crate::args::{DataArgs, ModelArgs, SimplifyArgs};
use crate::coded::{Coded, TargetArgs};
use crate::failure::Outcome;
use crate::model::load;
use crate::steps::Change;

/// Give the weights few distinct values and store them as code books
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    simplify: SimplifyArgs,

    /// Values of its own for every layer, found by k-means; 2 to 256
    #[arg(long, default_value = "16", value_name = "K", value_parser = book_size())]
    book: u16,

    /// Round to so many decimals instead; 0 to 7
    #[arg(long, value_name = "N", conflicts_with = "book", value_parser = decimals())]
    decimals: Option<u32>,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    target: TargetArgs,
}

fn book_size() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(2..=Clustering::MOST_VALUES as i64)
}

fn decimals() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(Clustering::MOST_DECIMALS))
}

impl Cluster {
    pub(crate) fn run(self) -> Outcome {
        let out = self.target.claim()?;
        let loaded = self
            .simplify
            .apply(load(&self.model.model, &self.model.arch)?)?;
        check_finite(&loaded.graph)?;
        let clustering = match self.decimals {
            Some(decimals) => Clustering::Decimals(decimals),
            None => Clustering::Book(self.book.into()),
        };
        let coded = Coded {
            change: Change::clustered(&loaded.graph, clustering)?,
            data: &self.data,
            calibration: None,
            seed: 0,
        };
        self.target.finish(&out, &loaded, coded)
    }
}
