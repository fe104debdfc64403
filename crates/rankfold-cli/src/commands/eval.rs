use std::process::Command as Process;

use clap::Args;

use crate::accuracy::measure;
use crate::args::{DataArgs, DeviceArgs, ModelArgs, SplitArgs};
use crate::data;
use crate::failure::{Failure, Kind, Outcome};
use crate::interrupt;
use crate::model::load;
use crate::output::{say, say_json};

/// Measure accuracy and loss on labelled data
#[derive(Debug, Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    split: SplitArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// A command that gets the model's path as its last argument and prints a number: your own metric
    #[arg(long, value_name = "CMD", conflicts_with = "data")]
    eval_cmd: Option<String>,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub(crate) fn run(self) -> Outcome {
        if let Some(command) = &self.eval_cmd {
            return own_metric(command, &self.model, self.json);
        }
        let loaded = load(&self.model.model, &self.model.arch)?;
        let device = self.device.resolve()?;
        let data = data::required(&self.data, &loaded.graph, &self.split)?;
        let batch = self.split.batch.into();
        let scores = measure(&loaded.graph, data, &self.data.how, batch, device)?;
        if self.json {
            return say_json(&scores);
        }
        say(format!(
            "top-1 {:.2} % ± {:.2}   top-5 {:.2} % ± {:.2}   loss {:.4}   {} images, {:.0} a second",
            scores.top1,
            scores.top1_se,
            scores.top5,
            scores.top5_se,
            scores.loss,
            scores.images,
            scores.images_per_second
        ))
    }
}

fn own_metric(command: &str, model: &ModelArgs, json: bool) -> Outcome {
    let bad = |what: String| {
        Failure::new(Kind::Inside, format!("`{command}` {what}"))
            .hint("the command gets the model's path as its last argument and prints one number")
    };
    let quoted = "\"$1\"";
    let output = Process::new("sh")
        .arg("-c")
        .arg(format!("{command} {quoted}"))
        .arg("sh")
        .arg(&model.model)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| bad(format!("could not be started: {e}")))?;
    interrupt::check()?;
    if !output.status.success() {
        return Err(bad(format!("failed with {}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.trim().lines().last().unwrap_or_default().trim();
    let value: f64 = last
        .parse()
        .map_err(|_| bad(format!("was expected to print a number, found {last:?}")))?;
    match json {
        true => say_json(&serde_json::json!({ "metric": value })),
        false => say(value),
    }
}
