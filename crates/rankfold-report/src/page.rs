//! The page: its head, what it says first, and its sections.

use std::fmt::Write;

use crate::numbers::{bytes, grouped, percent, signed, significant};
use crate::plot::palette::{properties, rules};
use crate::plot::svg::escape;
use crate::record::{Record, Side};
use crate::section::{Section, Sources};
use crate::sweep::Sweep;

/// The whole page: it needs no other file and no network.
pub(crate) fn page(sources: &Sources<'_>, sections: &[Section]) -> String {
    let title = escape(&sources.title());
    let style = format!(
        "{}{}{}",
        properties(),
        rules(),
        include_str!("assets/page.css")
    );
    let script = include_str!("assets/page.js");
    let mut contents = String::new();
    let mut body = String::new();
    for section in sections {
        let Section { id, title, .. } = section;
        let _ = write!(contents, "<a href=\"#{id}\">{title}</a>");
        let _ = write!(
            body,
            "<section id=\"{id}\"><h2>{title}</h2>\n{}</section>\n",
            section.body
        );
    }
    format!(
        "<!doctype html>\n\
         <html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title} · Rankfold</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <header><p class=\"kind\">Rankfold report</p><h1>{title}</h1>\n{}</header>\n\
         <nav aria-label=\"Sections\">{contents}</nav>\n<main>\n{body}</main>\n\
         <script>\n{script}</script>\n</body>\n</html>\n",
        summary(sources),
    )
}

fn summary(sources: &Sources<'_>) -> String {
    let mut text = match (sources.record(), sources.sweep) {
        (Some(record), _) => compressed(record),
        (None, Some(sweep)) => swept(sweep),
        (None, None) => "<p class=\"sum\">What fine-tuning did, epoch by epoch.</p>\n".to_owned(),
    };
    if let Some(record) = sources.record() {
        let _ = writeln!(
            text,
            "<div class=\"tiles\">{}</div>",
            tiles(record, sources)
        );
    }
    if let Some(missing) = sources
        .sweep
        .map(Sweep::missing)
        .filter(|missing| *missing > 0)
    {
        let _ = writeln!(
            text,
            "<p class=\"notice\">Unfinished: {} cells of the sweep are not measured yet.</p>",
            grouped(missing as u64)
        );
    }
    for cut in sources
        .main
        .cut
        .iter()
        .chain(sources.others.iter().flat_map(|folder| &folder.cut))
    {
        let _ = writeln!(text, "<p class=\"notice\">Unfinished: {}.</p>", escape(cut));
    }
    text
}

fn compressed(record: &Record) -> String {
    let (Some(before), Some(after)) = (record.before, record.after) else {
        return String::new();
    };
    let changed = record
        .layers
        .iter()
        .filter(|layer| layer.rank.is_some())
        .count();
    let mut text = format!(
        "<p class=\"sum\">{changed} of {} layers were replaced by smaller ones: {}",
        record.layers.len(),
        removed(before.parameters, after.parameters, "of the parameters")
    );
    if before.macs > 0 {
        let _ = write!(
            text,
            ", {}",
            removed(before.macs, after.macs, "of the multiply-accumulates")
        );
    }
    text.push_str(". ");
    text.push_str(&match (before.top1, after.top1) {
        (Some(old), Some(new)) => {
            let noise = before
                .top1_se
                .zip(after.top1_se)
                .map(|(a, b)| 2.0 * a.hypot(b));
            let difference = new - old;
            let images = after
                .images
                .map_or_else(String::new, |n| format!(" on {} images", grouped(n)));
            let chance = match noise {
                Some(noise) if difference.abs() <= noise => {
                    ", which is within what the sampling of images explains"
                }
                _ => "",
            };
            format!(
                "Top-1 accuracy{images} went from {old:.2} % to {new:.2} %: {} points{chance}.",
                signed(difference, 2)
            )
        }
        _ => "Accuracy was not measured.".to_owned(),
    });
    text.push_str("</p>\n");
    text
}

fn removed(before: u64, after: u64, of: &str) -> String {
    match after <= before {
        true => format!("{} % {of} removed", percent(before - after, before)),
        false => format!("{} % {of} added", percent(after - before, before)),
    }
}

fn swept(sweep: &Sweep) -> String {
    let layers = sweep.layers.len().max(1);
    let mut text = format!(
        "<p class=\"sum\">{} cells of {} layers: each layer alone in every form at a few ranks, all others as they were.",
        grouped(sweep.cells.len() as u64),
        grouped(layers as u64)
    );
    if let Some((tally, share)) = sweep
        .baseline
        .accuracy
        .and_then(|t| Some((t, t.percent()?)))
    {
        let error = tally
            .error()
            .map_or_else(String::new, |error| format!(" ± {error:.2}"));
        let _ = write!(
            text,
            " The original answers {share:.2}{error} % of {} inputs rightly.",
            grouped(tally.of)
        );
    }
    text.push_str("</p>\n");
    text
}

/// A number that changed: what it is, was, and how that compares.
struct Tile<'a> {
    name: &'a str,
    now: String,
    was: String,
    change: String,
    /// What is left of it.
    share: Option<f64>,
}

impl Tile<'_> {
    fn html(&self) -> String {
        let bar = self.share.filter(|share| share.is_finite()).map_or_else(String::new, |share| {
            format!(
                "<span class=\"share\" aria-hidden=\"true\"><span style=\"width:{:.1}%\"></span></span>",
                (100.0 * share).clamp(0.0, 100.0)
            )
        });
        format!(
            "<div class=\"tile\"><h2>{}</h2><p class=\"now\">{}</p>{bar}<p class=\"was\">from {}<br>{}</p></div>\n",
            self.name, self.now, self.was, self.change
        )
    }
}

fn tiles(record: &Record, sources: &Sources<'_>) -> String {
    let (Some(before), Some(after)) = (record.before, record.after) else {
        return String::new();
    };
    let mut tiles = String::new();
    let mut cost = |name, of: fn(&Side) -> u64, text: fn(u64) -> String| {
        let (old, new) = (of(&before), of(&after));
        if old > 0 {
            let tile = Tile {
                name,
                now: text(new),
                was: text(old),
                change: removed(old, new, "").replace("  ", " "),
                share: Some(new as f64 / old as f64),
            };
            tiles.push_str(&tile.html());
        }
    };
    cost("Parameters", |side| side.parameters, grouped);
    cost("Multiply-accumulates", |side| side.macs, grouped);
    cost("File", |side| side.bytes, bytes);
    let mut accuracy = |name, old: [Option<f64>; 2], new: [Option<f64>; 2]| {
        let ([Some(old), old_error], [Some(new), new_error]) = (old, new) else {
            return;
        };
        let with = |value: f64, error: Option<f64>| {
            let error =
                error.map_or_else(String::new, |error| format!(" <small>± {error:.2}</small>"));
            format!("{value:.2}{error} %")
        };
        let tile = Tile {
            name,
            now: with(new, new_error),
            was: with(old, old_error),
            change: format!("{} points", signed(new - old, 2)),
            share: None,
        };
        tiles.push_str(&tile.html());
    };
    accuracy(
        "Top-1 accuracy",
        [before.top1, before.top1_se],
        [after.top1, after.top1_se],
    );
    accuracy(
        "Top-5 accuracy",
        [before.top5, before.top5_se],
        [after.top5, after.top5_se],
    );
    for pair in sources.latencies() {
        let name = format!("Latency, {} at once", grouped(pair.after.batch));
        let Some(old) = pair.before else { continue };
        let (old, new) = (old.median_ms, pair.after.median_ms);
        let tile = Tile {
            name: &name,
            now: format!("{} ms", significant(new, 3)),
            was: format!("{} ms", significant(old, 3)),
            change: format!("×{:.2} as fast", old / new),
            share: Some(new / old),
        };
        tiles.push_str(&tile.html());
    }
    tiles
}
