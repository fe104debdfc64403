//! All layers at a glance: what each was and is, and what changing it costs.

use rankfold_compress::Form;

use crate::numbers::{compact, grouped, percent};
use crate::plot::chart::COLUMN;
use crate::plot::palette::Look;
use crate::plot::rows::{Bar, Row, Rows};
use crate::plot::scale::Spread;
use crate::plot::svg::{Svg, escape};
use crate::record::Layer;
use crate::section::{Section, Sources, figures, sensitivity};

pub(crate) fn section(sources: &Sources<'_>) -> Option<Section> {
    let layers = sources.layers();
    let mut rows = Vec::new();
    if !layers.is_empty() {
        let parameters = |layer: &Layer| layer.parameters;
        rows.push(sizes(
            "layers-parameters",
            "Parameters, layer by layer",
            "parameters",
            layers,
            parameters,
        ));
        if layers.iter().any(|layer| layer.macs[0] > 0) {
            let macs = |layer: &Layer| layer.macs;
            rows.push(sizes(
                "layers-macs",
                "Multiply-accumulates, layer by layer",
                "MACs",
                layers,
                macs,
            ));
        }
    }
    rows.extend(
        match sources.sweep.filter(|sweep| !sweep.cells.is_empty()) {
            Some(sweep) => Some(sensitivity::measured(sweep, layers)),
            None => sensitivity::estimated(layers),
        },
    );
    let plots: Vec<_> = rows.iter().map(|rows| rows.plot(COLUMN[0])).collect();
    if plots.is_empty() {
        return None;
    }
    let forms: Vec<Form> = Form::ALL
        .into_iter()
        .filter(|form| {
            let swept = sources
                .sweep
                .is_some_and(|sweep| sweep.cells.iter().any(|cell| cell.form == *form));
            swept
                || layers.iter().any(|layer| {
                    layer.form == *form || layer.curves.iter().any(|c| c.form == *form)
                })
        })
        .collect();
    let body = format!("{}{}", legend(&forms), figures(&plots));
    Some(Section {
        id: "layers",
        title: "The layers",
        body,
        plots,
    })
}

/// The forms with their colours and shapes.
pub(crate) fn legend(forms: &[Form]) -> String {
    let entry = |form: &Form| {
        format!(
            "<li>{}<span><b>{}</b> {}</span></li>",
            chip(*form),
            form.name(),
            escape(about(*form))
        )
    };
    let entries: String = forms.iter().map(entry).collect();
    format!("<ul class=\"legend\">{entries}</ul>\n")
}

/// The mark of a form.
pub(crate) fn chip(form: Form) -> String {
    let mut svg = Svg::default();
    svg.mark([7.0, 7.0], Look::of(form), 4.0);
    svg.chip(14.0)
}

fn about(form: Form) -> &'static str {
    match form {
        Form::Keep => "as it was",
        Form::Svd => "two linear layers or 1×1 convolutions",
        Form::Channel => "D×D to fewer channels, 1×1",
        Form::Spatial => "D×1, then 1×D",
        Form::Tucker2 => "1×1, D×D, 1×1",
        Form::Cp3 => "1×1, depthwise D×D, 1×1",
        Form::Cp4 => "1×1, depthwise D×1 and 1×D, 1×1",
        Form::Cp2 => "D×D to fewer channels, 1×1, as CP",
    }
}

fn sizes(
    name: &str,
    title: &str,
    label: &'static str,
    layers: &[Layer],
    of: impl Fn(&Layer) -> [u64; 2],
) -> Rows {
    let row = |layer: &Layer| {
        let [before, after] = of(layer);
        let rank = layer
            .rank
            .map_or_else(String::new, |rank| format!(", rank {rank}"));
        Row {
            label: layer.name.clone(),
            bar: Some(Bar {
                before: before as f64,
                after: after as f64,
                look: Look::of(layer.form),
                tip: format!(
                    "{}: {} → {} {label} ({} %), {}{rank}",
                    layer.name,
                    grouped(before),
                    grouped(after),
                    percent(after, before),
                    layer.form,
                ),
            }),
            dots: Vec::new(),
        }
    };
    Rows {
        name: name.to_owned(),
        title: title.to_owned(),
        caption: "The outline is what the layer was, the filled bar what it is, in the colour of its form.".to_owned(),
        label,
        spread: Spread::Linear,
        format: compact,
        rows: layers.iter().map(row).collect(),
        noise: None,
    }
}
