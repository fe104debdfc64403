//! Where it all came from, so that it can be made again.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::numbers::{bytes, grouped, significant};
use crate::plot::svg::escape;
use crate::record::{Machine, Provenance};
use crate::section::{Section, Sources};
use crate::sweep::Sweep;

/// Terms and what is known of each.
#[derive(Default)]
struct Facts(String);

impl Facts {
    fn add(&mut self, term: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            let value = escape(&value.to_string());
            let _ = write!(self.0, "<dt>{term}</dt><dd>{value}</dd>");
        }
    }

    /// A value to be copied.
    fn code(&mut self, term: &str, value: Option<&str>) {
        if let Some(value) = value {
            let _ = write!(
                self.0,
                "<dt>{term}</dt><dd><code>{}</code></dd>",
                escape(value)
            );
        }
    }

    fn list(self, title: &str) -> String {
        match self.0.is_empty() {
            true => String::new(),
            false => format!("<h3>{title}</h3><dl>{}</dl>\n", self.0),
        }
    }
}

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let mut body = String::new();
    if let Some(record) = sources.record() {
        let mut next = Some(&record.provenance);
        let mut title = "This model";
        while let Some(provenance) = next {
            body.push_str(&made(provenance).list(title));
            next = provenance.previous.as_deref();
            title = "Before that";
        }
    }
    if let Some(sweep) = sources.sweep {
        body.push_str(&swept(sweep).list("The sweep"));
    }
    let machine = machine(sources);
    body.push_str(&machine.list("The machine"));
    body.push_str(&files(sources));
    (!body.is_empty()).then(|| Section {
        id: "provenance",
        title: "Provenance",
        body: format!("<div class=\"provenance\">{body}</div>\n"),
        plots: Vec::new(),
    })
}

fn made(provenance: &Provenance) -> Facts {
    let mut facts = Facts::default();
    facts.code("command", provenance.command.as_deref());
    facts.code("from", provenance.source.as_deref());
    facts.code("sha256", provenance.sha256.as_deref());
    facts.add(
        "request",
        provenance
            .request
            .as_deref()
            .filter(|words| !words.is_empty()),
    );
    facts.add("calibrated on", provenance.calibration.as_deref());
    facts.add("seed", provenance.seed);
    facts.add("simplified", provenance.simplified.as_ref().map(pairs));
    facts.add("Rankfold", provenance.rankfold.as_deref());
    facts
}

fn swept(sweep: &Sweep) -> Facts {
    let mut facts = Facts::default();
    facts.code("command", sweep.command.as_deref());
    facts.code("from", sweep.model.path.as_deref());
    facts.code("sha256", sweep.model.sha256.as_deref());
    facts.add(
        "protocol",
        (!sweep.protocol.is_empty()).then(|| pairs(&sweep.protocol)),
    );
    let inputs = [
        sweep
            .data
            .images
            .map(|images| format!("{} inputs of", grouped(images))),
        sweep.data.spec.clone(),
        sweep.data.split.clone(),
    ];
    let inputs: Vec<String> = inputs.into_iter().flatten().collect();
    facts.add(
        "measured on",
        (!inputs.is_empty()).then(|| inputs.join(" ")),
    );
    facts.add("seed", sweep.seed);
    facts.add("cells", Some(grouped(sweep.cells.len() as u64)));
    let seconds: f64 = sweep.cells.iter().filter_map(|cell| cell.seconds).sum();
    facts.add(
        "time in cells",
        (seconds > 0.0).then(|| format!("{} s", significant(seconds, 3))),
    );
    facts.add("Rankfold", sweep.rankfold.as_deref());
    facts
}

fn machine(sources: &Sources<'_>) -> Facts {
    let none = Machine::default();
    let machine = sources.record().map_or(&none, |record| &record.machine);
    let mut facts = Facts::default();
    facts.add("processor", machine.processor.as_deref());
    facts.add("threads", machine.threads);
    facts.add("device", machine.device.as_deref());
    facts.add("system", machine.system.as_deref());
    facts.add("libtorch", machine.libtorch.as_deref());
    if let Some(latency) = &sources.main.latency {
        let threads = latency.threads.map(|threads| format!("{threads} threads"));
        let on = [latency.device.clone(), threads];
        let on: Vec<String> = on.into_iter().flatten().collect();
        facts.add(
            "latency measured on",
            (!on.is_empty()).then(|| on.join(", ")),
        );
    }
    facts
}

/// The files of the model and their sizes.
fn files(sources: &Sources<'_>) -> String {
    let mut facts = Facts::default();
    let own = &sources.main.own;
    if let Some(files) = own.get("files").and_then(Value::as_object) {
        for (name, size) in files {
            facts.add(&escape(name), size.as_u64().map(bytes));
        }
    }
    facts.list("Files")
}

fn pairs(object: &Map<String, Value>) -> String {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(text) if key == "name" => text.clone(),
        Value::String(text) => format!("{} {text}", key.replace('_', " ")),
        value => format!("{} {value}", key.replace('_', " ")),
    };
    object.iter().map(pair).collect::<Vec<_>>().join(", ")
}
