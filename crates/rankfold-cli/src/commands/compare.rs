use std::path::PathBuf;

use clap::Args;
use rankfold_torch::{Comparison, Difference, Executor, Options, check_finite, compare};

use crate::args::{ArchArgs, DataArgs, DeviceArgs, SplitArgs};
use crate::data;
use crate::failure::Outcome;
use crate::interrupt;
use crate::model::load;
use crate::output::{say, say_json, table};
use crate::progress;

/// Tell how far two models agree, layer by layer and at the outputs; needs no labels
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The model to compare with
    #[arg(value_name = "A")]
    a: PathBuf,

    /// The model that is compared
    #[arg(value_name = "B")]
    b: PathBuf,

    #[command(flatten)]
    arch: ArchArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    split: SplitArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(crate) fn run(self) -> Outcome {
        // --arch names the network of bare checkpoints; a file that describes itself needs none.
        let open = |path: &PathBuf| {
            let bare = crate::model::is_bare(
                path,
                &ArchArgs {
                    arch: None,
                    ..self.arch.clone()
                },
            )?;
            let arch = match bare {
                true => self.arch.clone(),
                false => ArchArgs {
                    arch: None,
                    ..self.arch.clone()
                },
            };
            load(path, &arch)
        };
        let (a, b) = (open(&self.a)?, open(&self.b)?);
        check_finite(&a.graph)?;
        check_finite(&b.graph)?;
        let data = data::required(&self.data, &a.graph, &self.split)?;
        let images = data.len();
        let loader = data::loader(&a.graph, data, &self.data.how, self.split.batch.into())?;
        let options = Options {
            device: self.device.resolve()?,
            fold: false,
            ..Options::default()
        };
        let (first, second) = (
            Executor::new(&a.graph, options)?,
            Executor::new(&b.graph, options)?,
        );
        let bar = progress::bar("comparing", images as u64);
        let comparison = compare(&first, &second, true, loader.epoch(0, 0)?, |seen| {
            bar.set_position(seen as u64);
            interrupt::flow()
        });
        bar.finish_and_clear();
        let comparison = comparison?;
        match self.json {
            true => say_json(&json(&comparison)),
            false => say(text(&comparison)),
        }
    }
}

fn json(comparison: &Comparison) -> serde_json::Value {
    let list = |differences: &[Difference]| -> Vec<serde_json::Value> {
        let entry = |d: &Difference| {
            serde_json::json!({
                "name": d.name, "relative_error": d.relative_error, "cosine": d.cosine,
            })
        };
        differences.iter().map(entry).collect()
    };
    serde_json::json!({
        "values": list(&comparison.values),
        "unlike": comparison.unlike,
        "outputs": list(&comparison.outputs),
        "kl": comparison.kl,
        "kl_se": comparison.kl_se,
        "agreement": comparison.agreement,
        "images": comparison.images,
    })
}

fn text(comparison: &Comparison) -> String {
    let row = |d: &Difference| {
        vec![
            d.name.clone(),
            format!("{:.2e}", d.relative_error),
            format!("{:.6}", d.cosine),
        ]
    };
    let rows = comparison.values.iter().chain(&comparison.outputs).map(row);
    let table = table(&["value", "relative error", "cosine"], &[0], rows.collect());
    let mut lines = vec![table.to_string(), String::new()];
    if comparison.unlike > 0 {
        lines.push(format!(
            "left out: {} values that have the same name in both models and not the same shape",
            comparison.unlike
        ));
    }
    if let (Some(kl), Some(error)) = (comparison.kl, comparison.kl_se) {
        // A mean of numbers near zero may come out below it.
        let kl = if kl < 0.0 { 0.0 } else { kl };
        lines.push(format!(
            "KL divergence of the outputs {kl:.3e} ± {error:.1e}"
        ));
    }
    if let Some(agreement) = comparison.agreement {
        lines.push(format!(
            "same first class on {agreement:.2} % of {} inputs",
            comparison.images
        ));
    }
    lines.join("\n")
}
