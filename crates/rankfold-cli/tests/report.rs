//! The report that `compress` writes by itself, and the one that is asked for.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::{files, json_file, listing, refused, succeeds};

const COMPRESS: &str = "compress zoo:resnet20 --params-removed 15% --only layer3.2.* --data shapes \
    --calibrate 256 --split test[:250] -o out";

#[test]
fn a_compression_reports_on_itself_and_says_the_same_again() {
    let at = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for folder in &at {
        let (_, said) = succeeds(
            &COMPRESS.split_whitespace().collect::<Vec<_>>(),
            folder.path(),
        );
        assert!(said.contains("report: out/report.html"), "{said}");
    }
    let [one, two] = at.each_ref().map(|folder| folder.path().join("out"));
    assert!(files(&one).len() > 12, "{:?}", files(&one));
    assert_eq!(files(&one), files(&two));
    for name in files(&one) {
        let read = |folder: &Path| fs::read(folder.join(&name)).unwrap();
        assert!(read(&one) == read(&two), "{} differs", name.display());
    }
    let report = json_file(&at[0].path().join("out/report.json"));
    assert!(report["after"]["parameters"].as_u64() <= report["budget"]["limit"].as_u64());
    assert_eq!(report["budget"]["resource"], "parameters");
    for layer in report["layers"].as_array().unwrap() {
        let Some(rank) = layer["rank"].as_u64() else {
            continue;
        };
        let curves = layer["curves"].as_array().unwrap();
        let own = curves
            .iter()
            .find(|curve| curve["form"] == layer["form"])
            .unwrap();
        let ranks = own["rank"].as_array().unwrap();
        let place = ranks
            .iter()
            .position(|other| other.as_u64() == Some(rank))
            .unwrap();
        let (planned, measured) = (&own["error"][place], &layer["response_error"]);
        let [planned, measured] = [planned, measured].map(|error| error.as_f64().unwrap());
        assert!(
            (planned - measured).abs() < 0.1,
            "{}: {planned} {measured}",
            layer["name"]
        );
        let spectrum = &layer["spectrum"];
        assert_eq!(spectrum["value"][0], 1.0);
        assert_eq!(spectrum["index"][0], 1);
    }
}

#[test]
fn a_report_is_made_anew_with_what_has_come_since() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ranks = [
        "compress",
        "zoo:lenet5",
        "--uniform-rank",
        "conv=4,fc=20",
        "-o",
    ];
    for out in ["out", "other"] {
        succeeds(&[&ranks[..], &[out]].concat(), at);
    }
    let by_compress = fs::read(at.join("out/report.html")).unwrap();
    let (said, _) = succeeds(&["report", "out"], at);
    assert_eq!(said, "out/report.html\n");
    assert_eq!(fs::read(at.join("out/report.html")).unwrap(), by_compress);
    fs::write(at.join("out/plots/old.svg"), "of an earlier report").unwrap();
    let bench = [
        "bench",
        "zoo:lenet5",
        "out",
        "--batch",
        "1",
        "--repeat",
        "1",
    ];
    succeeds(&[&bench[..], &["--output", "out/bench.json"]].concat(), at);
    let epoch = r#"{"network":"compressed","epoch":1,"loss":0.5,"mark":{"inputs":10,"correct":9}}"#;
    fs::write(at.join("out/metrics.jsonl"), format!("{epoch}\n")).unwrap();
    succeeds(&["report", "out", "other"], at);
    let html = fs::read_to_string(at.join("out/report.html")).unwrap();
    assert!(html.contains("Latency, 1 at once"));
    assert!(html.contains("compressed, epoch 1: 90"));
    let mut names: Vec<String> = listing(&at.join("out/plots"));
    names.retain(|name| !name.starts_with("layer-"));
    assert_eq!(
        names,
        [
            "layers-macs.svg",
            "layers-parameters.svg",
            "training-accuracy.svg",
            "training-loss.svg"
        ]
    );
    assert!(json_file(&at.join("out/report.json"))["plots"]["training-loss"].is_object());
    // What was reported on is still a model.
    succeeds(&["inspect", "out"], at);
}

#[test]
fn folders_that_cannot_be_reported_on_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("empty")).unwrap();
    fs::create_dir(at.join("damaged")).unwrap();
    fs::write(at.join("damaged/report.json"), "{\n\"before\": [").unwrap();
    refused(&["report", "nowhere"], at, 4, &["nowhere", "hint:"]);
    refused(
        &["report", "damaged/report.json"],
        at,
        2,
        &["expected a folder", "hint:"],
    );
    refused(
        &["report", "empty"],
        at,
        3,
        &["nothing to report", "metrics.jsonl"],
    );
    refused(
        &["report", "damaged"],
        at,
        3,
        &["damaged/report.json", "line 2"],
    );
    assert_eq!(listing(&at.join("damaged")), ["report.json"]);
}
