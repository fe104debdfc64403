//! Reports from folders of every kind: whole ones, ones where parts are missing, damaged ones.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use rankfold_report::{Folder, Report, ReportError};
use serde_json::{Value, json};
use tempfile::TempDir;

const EVIL: &str = "<script>alert('x')</script>&\"\u{0}";

fn layer(name: &str) -> Value {
    json!({
        "name": name, "form": "cp3", "rank": 12, "shape": [16, 16, 3, 3],
        "parameters": [2304, 1152], "macs": [2_359_296, 1_179_648], "bytes": [9216, 4608],
        "weight_error": 0.31, "response_error": 0.213,
        "refused": ["svd: needs a linear layer or a 1×1 convolution"],
        "spectrum": { "count": 3, "index": [1, 2, 3], "value": [1.0, 0.5, 0.1] },
        "curves": [
            { "form": "cp3", "rank": [4, 12, 30], "parameters": [384, 1152, 2880], "macs": [1, 2, 3],
              "error": [0.6, 0.213, 0.05], "damage": [3.0, 0.5, 0.1] },
            { "form": "tucker2", "rank": [[2, 2], [8, 8]], "parameters": [100, 1500], "macs": [1, 2],
              "error": [0.9, 0.2], "damage": [5.0, 0.6] }
        ]
    })
}

fn record() -> Value {
    json!({
        "model": "net",
        "budget": { "resource": "parameters", "limit": 1200 },
        "before": { "parameters": 2304, "macs": 2_359_296, "bytes": 9500, "top1": 91.73, "top1_se": 0.27,
                    "top5": 99.5, "top5_se": 0.1, "loss": 0.3, "images": 10_000 },
        "after": { "parameters": 1152, "macs": 1_179_648, "bytes": 4800, "top1": 91.29, "top1_se": 0.28,
                   "top5": 99.4, "top5_se": 0.1, "loss": 0.3, "images": 10_000 },
        "tried": [{ "name": "rank 8", "parameters": 700, "macs": 900, "bytes": 3000, "top1": 88.0, "top1_se": 0.3 }],
        "steps": [{ "step": "prune-connections", "did": "400 of 2,304 weights are zero", "parameters": 2304,
                    "bytes": 9500, "top1": 91.4, "top1_se": 0.28 },
                  { "step": "factorize", "did": "1 of 1 layers <decomposed>", "parameters": 1152, "bytes": 4800 }],
        "layers": [layer("conv")],
        "adjustments": { "divergence": 0.02, "recalibrated": { "divergence": 0.01, "taken": true },
                         "verified": { "max_drop": 0.5, "split": "test[5000:]", "tries": [
                             { "promised": 0.5, "drop": 0.9, "drop_se": 0.1 }, { "promised": 0.3, "drop": 0.4 }] },
                         "clustered": { "book": 16, "weights": [{ "error": 0.05 }, { "error": 0.0713 }] },
                         "quantized": { "values": 57, "tries": [
                             { "equalized": true, "ranges": "percentile", "divergence": 0.0034 },
                             { "equalized": false, "ranges": "full", "divergence": 0.0156 }] } },
        "files": { "model.safetensors": 4800 },
        "provenance": { "source": "net.pt", "sha256": "abc", "command": "rankfold compress net.pt", "seed": 3,
                        "rankfold": "0.1.0", "previous": { "source": "older.pt" } },
        "machine": { "processor": "a processor", "threads": 2 },
        "something": "that a later version writes"
    })
}

fn folder_of(files: &[(&str, String)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read(files: &[(&str, String)]) -> Result<Folder, ReportError> {
    Folder::read(folder_of(files).path())
}

fn report(files: &[(&str, String)]) -> Report {
    Report::of(&[read(files).unwrap()])
}

fn names(report: &Report) -> Vec<&str> {
    report.plots.iter().map(|plot| &*plot.name).collect()
}

fn sweep() -> [(&'static str, String); 2] {
    let description = json!({
        "version": 1, "protocol": { "name": "curves" }, "model": { "name": "net", "parameters": 5000, "macs": 0 },
        "layers": [{ "name": "conv", "parameters": 2304, "macs": 0, "forms": [{ "form": "cp3", "ranks": [4, 12] }] }],
        "baseline": { "accuracy": { "correct": 900, "of": 1000 }, "top5": null, "kl": 0.0 }
    });
    let cell = json!({
        "layer": "conv", "form": "cp3", "rank": 4, "layer_parameters": 384, "layer_macs": 9, "response_error": null,
        "accuracy": { "correct": 880, "of": 1000 }, "changed": { "lost": 25, "gained": 5 }, "top5": null, "kl": 0.1
    });
    [
        ("sweep.json", description.to_string()),
        ("cells.jsonl", format!("{cell}\n")),
    ]
}

#[test]
fn what_was_pruned_is_told_layer_by_layer() {
    let mut record = record();
    record["adjustments"]["nodes"] = json!({ "cycles": [], "layers": [
        { "name": "conv", "channels": [1600, 12] },
        { "name": EVIL, "channels": [10, 10], "stays": "they are an output of the model" }] });
    record["adjustments"]["connections"] =
        json!([{ "name": "conv", "weights": 2304, "zeros": [0, 576], "threshold": 0.1 }]);
    let page = report(&[("report.json", record.to_string())]).html;
    for text in [
        "What was pruned",
        ">1,600<",
        ">12<",
        "an output of the model",
        ">576<",
        "25.0 %",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("<script>alert"));
    record["adjustments"]["nodes"]["layers"] = json!([{ "channels": "many" }]);
    record["adjustments"]["connections"] = json!(7);
    let page = report(&[("report.json", record.to_string())]).html;
    assert!(!page.contains("What was pruned"));
}

#[test]
fn a_whole_record_gives_every_part() {
    let report = report(&[("report.json", record().to_string())]);
    assert_eq!(
        names(&report),
        [
            "accuracy-parameters",
            "accuracy-macs",
            "layers-parameters",
            "layers-macs",
            "sensitivity",
            "layer-000-conv-spectrum",
            "layer-000-conv-errors"
        ]
    );
    for text in [
        "1 of 1 layers were replaced",
        "50.0 % of the parameters removed",
        "−0.44 points",
        "budget: 1,200 parameters",
        "rank 8: 88.00 ± 0.30 %, 700 parameters",
        "Of the forms at this size it damages the output least.",
        "Not possible: svd: needs a linear layer or a 1×1 convolution.",
        "rankfold compress net.pt",
        "older.pt",
        "0.90 ± 0.10</td><td>loses too much",
        "0.40</td><td>taken",
        "at most 16 values of its own; the largest relative error of a layer’s weights is 0.0713",
        "percentile</th><td>equalised</td><td class=\"n\">0.0034</td><td>taken",
        "inputs of test[5000:]",
        "a processor",
        "4.80 kB",
    ] {
        assert!(report.html.contains(text), "{text}");
    }
    let own: Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(own["something"], record()["something"]);
    assert_eq!(own["layers"], record()["layers"]);
    let series = &own["plots"]["accuracy-parameters"]["series"];
    assert_eq!(series[0]["name"], "also tried");
    assert_eq!(
        series[2]["points"][0],
        json!({ "x": 1152.0, "y": 91.29, "error": 0.28 })
    );
}

#[test]
fn a_report_made_of_its_own_output_is_the_same() {
    let first = report(&[("report.json", record().to_string())]);
    let again = report(&[("report.json", first.json())]);
    assert_eq!(first.html, again.html);
    assert_eq!(first.json(), again.json());
}

#[test]
fn names_cannot_become_markup() {
    let mut evil = record();
    evil["model"] = json!(EVIL);
    evil["layers"][0]["name"] = json!(EVIL);
    evil["layers"][0]["refused"] = json!([EVIL]);
    evil["tried"][0]["name"] = json!(EVIL);
    evil["provenance"]["command"] = json!(EVIL);
    evil["provenance"]["calibration"] = json!(EVIL);
    evil["machine"]["processor"] = json!(EVIL);
    evil["files"] = json!({ EVIL: 3 });
    let report = report(&[("report.json", evil.to_string())]);
    assert_eq!(report.html.matches("<script>").count(), 1);
    assert!(!report.html.contains('\u{0}'));
    assert!(
        report
            .html
            .contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;")
    );
    assert!(!report.html.contains("&amp;lt;"), "escaped twice");
    for plot in &report.plots {
        assert!(!plot.file.contains("<script"), "{}", plot.name);
        let safe = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        assert!(plot.name.chars().all(safe), "{}", plot.name);
    }
}

#[test]
fn what_is_missing_leaves_no_empty_box() {
    let old = json!({
        "before": { "parameters": 100, "macs": 0, "bytes": 400 },
        "after": { "parameters": 60, "macs": 0, "bytes": 240 },
        "layers": [{ "name": "fc", "form": "svd", "rank": 3, "shape": [10, 10, 1, 1], "parameters": [100, 60],
                     "macs": [0, 0], "weight_error": 0.2, "response_error": null, "refused": [] }],
        "adjustments": { "data": false }, "provenance": {}
    });
    let report = report(&[("report.json", old.to_string())]);
    assert_eq!(names(&report), ["layers-parameters"]);
    assert!(report.html.contains("Accuracy was not measured."));
    assert!(report.html.contains("Form and rank were given."));
    for absent in [
        "id=\"tradeoff\"",
        "id=\"network\"",
        "id=\"provenance\"",
        "Multiply-accumulates",
        "NaN",
        "inf",
        "Top-1",
    ] {
        assert!(!report.html.contains(absent), "{absent}");
    }
}

#[test]
fn a_sweep_alone_is_a_report() {
    let report = report(&sweep());
    assert_eq!(names(&report), ["sweep-parameters", "sensitivity"]);
    assert!(report.html.contains("−2.00 ± 0.54 points of accuracy"));
    assert!(
        report
            .html
            .contains("The original answers 90.00 ± 0.95 % of 1,000 inputs rightly.")
    );
    assert!(
        report
            .html
            .contains("1 cells of the sweep are not measured yet")
    );
    let point = &report.plots[0].data["series"][0]["points"][0];
    assert_eq!(point, &json!({ "x": 3080.0, "y": -2.0 }));
}

#[test]
fn without_labels_a_sweep_is_read_by_its_divergence() {
    let [(name, description), (cells, cell)] = sweep();
    let unlabelled = |text: &str| {
        let mut value: Value = serde_json::from_str(text).unwrap();
        value["accuracy"] = Value::Null;
        value["changed"] = Value::Null;
        if !value["baseline"].is_null() {
            value["baseline"]["accuracy"] = Value::Null;
        }
        value.to_string()
    };
    let report = report(&[
        (name, unlabelled(&description)),
        (cells, unlabelled(&cell) + "\n"),
    ]);
    assert_eq!(report.plots[1].data["x"], "divergence from the original");
    assert_eq!(report.plots[1].data["rows"][0]["points"][0]["value"], 0.1);
}

#[test]
fn a_line_cut_off_is_told_and_left_out() {
    let [description, (name, cell)] = sweep();
    let cut = format!("{cell}{}", &cell[..30]);
    let folder = read(&[description, (name, cut)]).unwrap();
    assert_eq!(folder.sweep.as_ref().unwrap().cells.len(), 1);
    let html = Report::of(&[folder]).html;
    assert!(html.contains("the last line of cells.jsonl is cut off and left out"));
}

#[test]
fn fine_tuning_is_drawn_stage_by_stage() {
    let line = |network: &str, stage: &str, epoch: u64, correct: u64| {
        let mark = json!({ "inputs": 100, "correct": correct });
        json!({ "network": network, "stage": stage, "epoch": epoch, "loss": 0.5, "mark": mark, "new": 1 }).to_string()
    };
    let lines = [
        line("compressed", "one", 0, 70),
        line("compressed", "one", 1, 80),
        line("compressed", "two", 0, 60),
        line("compressed", "two", 1, 90),
        line("control", "training", 1, 91),
        line("model", "training", 1, 92),
    ];
    let report = report(&[("metrics.jsonl", lines.join("\n") + "\n")]);
    assert_eq!(names(&report), ["training-accuracy", "training-loss"]);
    let series = &report.plots[0].data["series"];
    // A stage begins where the one before ended, with the network that was just decomposed.
    for (place, x, y) in [
        (0, 0.0, 70.0),
        (1, 1.0, 80.0),
        (2, 1.0, 60.0),
        (3, 2.0, 90.0),
    ] {
        assert_eq!(series[0]["points"][place]["x"], x);
        assert_eq!(series[0]["points"][place]["y"], y);
    }
    assert_eq!(series[1]["name"], "dense control");
    assert_eq!(series[2]["name"], "model");
    // Before the first step there is no loss.
    let losses = report.plots[1].data["series"][0]["points"].as_array();
    assert_eq!(losses.map(Vec::len), Some(2));
    assert!(report.html.contains("stage two begins"));
}

#[test]
fn other_folders_are_points_beside_the_first() {
    let main = read(&[("report.json", record().to_string())]).unwrap();
    let mut other = record();
    other["after"]["parameters"] = json!(640);
    let other = Folder {
        name: "smaller".to_owned(),
        ..read(&[("report.json", other.to_string())]).unwrap()
    };
    let report = Report::of(&[main, other, read(&sweep()).unwrap()]);
    let tried = &report.plots[0].data["series"][0]["points"];
    assert_eq!(tried.as_array().unwrap().len(), 2);
    assert_eq!(tried[1]["x"], 640.0);
    assert!(names(&report).contains(&"sweep-parameters"));
}

#[test]
fn latency_goes_by_the_name_of_the_folder() {
    let folder = folder_of(&[("report.json", record().to_string())]);
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    let row = |model: &str, median: f64| json!({ "model": model, "batch": 1, "median_ms": median });
    for rows in [
        [row("net.pt", 2.0), row(name, 1.0)],
        [row(&format!("somewhere/{name}"), 1.0), row("net.pt", 2.0)],
    ] {
        fs::write(
            folder.path().join("bench.json"),
            json!({ "rows": rows }).to_string(),
        )
        .unwrap();
        let report = Report::of(&[Folder::read(folder.path()).unwrap()]);
        assert!(report.html.contains("×2.00 as fast"), "{rows:?}");
        assert!(names(&report).contains(&"accuracy-latency"));
    }
}

fn failure(files: &[(&str, String)]) -> String {
    let error = read(files).unwrap_err();
    assert!(error.hint().is_some());
    error.to_string()
}

#[test]
fn damaged_folders_are_told_by_file_and_line() {
    let [description, (_, cell)] = sweep();
    let said = failure(&[]);
    assert!(said.contains("nothing to report"), "{said}");
    let said = failure(&[("report.json", "{\n\"layers\": 3}".to_owned())]);
    assert!(
        said.contains("report.json: line 2") && said.contains("sequence"),
        "{said}"
    );
    let bad = cell.replace("\"cp3\"", "\"cp9\"");
    let said = failure(&[description.clone(), ("cells.jsonl", format!("{cell}{bad}"))]);
    assert!(
        said.contains("cells.jsonl: line 2") && said.contains("cp9"),
        "{said}"
    );
    let bad = cell.replace("880", "1880");
    let said = failure(&[description, ("cells.jsonl", bad)]);
    assert!(
        said.contains("conv cp3 4: accuracy") && said.contains("1880 of 1000"),
        "{said}"
    );
    let mut uneven = record();
    uneven["layers"][0]["curves"][0]["error"] = json!([0.5]);
    let said = failure(&[("report.json", uneven.to_string())]);
    assert!(
        said.contains("layer `conv`, curve of cp3") && said.contains("3 and 1"),
        "{said}"
    );
    let said = failure(&[(
        "report.json",
        "{\"before\": {\"parameters\": -1}}".to_owned(),
    )]);
    assert!(said.contains("line 1"), "{said}");
    let said = Folder::read(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(matches!(said, ReportError::Io { .. }) && said.hint().is_some());
    let folder = folder_of(&[("report.json", record().to_string())]);
    let said = Folder::read(&folder.path().join("report.json")).unwrap_err();
    assert!(matches!(said, ReportError::NotFolder { .. }), "{said}");
}

#[test]
fn absurd_numbers_draw_something_or_nothing() {
    let mut absurd = record();
    absurd["before"]["parameters"] = json!(u64::MAX);
    absurd["before"]["top1"] = json!(1e300);
    absurd["after"]["top1_se"] = json!(-1e300);
    absurd["layers"][0]["parameters"] = json!([0, u64::MAX]);
    absurd["layers"][0]["shape"] = json!([u64::MAX, u64::MAX, 3, 3]);
    absurd["layers"][0]["curves"][0]["error"] = json!([1e300, -1.0, 0.0]);
    absurd["layers"][0]["spectrum"]["value"] = json!([0.0, -1.0, 1e-320]);
    absurd["budget"]["limit"] = json!(u64::MAX);
    let report = report(&[("report.json", absurd.to_string())]);
    assert!(report.html.ends_with("</html>\n"));
    assert!(!report.html.contains("NaN") && !report.html.contains("\"inf"));
}
