//! Checkpoints that PyTorch wrote, read here: every byte of every tensor, and every bad file.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rankfold_formats::{
    Checkpoint, FileKind, FormatError, MachineFault, PickleFault, SafetensorsFault, SaveOptions,
    StateDict, read_weights, read_weights_at, write_safetensors,
};
use rankfold_graph::{DType, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/weights")
        .join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn assert_as_expected(dict: &StateDict, name: &str) {
    let text = std::fs::read_to_string(fixture("expected").join(format!("{name}.json"))).unwrap();
    let expected: indexmap::IndexMap<String, (String, Vec<usize>, String)> =
        serde_json::from_str(&text).unwrap();
    let mut found: Vec<_> = dict.names().collect();
    let mut wanted: Vec<_> = expected.keys().map(String::as_str).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{name}");
    for (tensor, (dtype, shape, bytes)) in &expected {
        let got = dict.get(tensor).unwrap();
        assert_eq!(got.dtype().to_string(), *dtype, "{name}: {tensor}");
        assert_eq!(got.shape(), *shape, "{name}: {tensor}");
        assert_eq!(hex(got.bytes()), *bytes, "{name}: {tensor}");
    }
}

fn assert_reads(name: &str, kind: FileKind) -> Checkpoint {
    let checkpoint = read_weights(&fixture(name)).unwrap();
    assert_eq!(checkpoint.kind, kind, "{name}");
    assert_eq!(FileKind::detect(&fixture(name)).unwrap(), kind, "{name}");
    assert_as_expected(&checkpoint.tensors, name);
    checkpoint
}

#[test]
fn pytorch_checkpoints_of_both_forms_read_as_pytorch_reads_them() {
    for name in [
        "plain.pth",
        "plain_protocol4.pth",
        "types.pth",
        "views.pth",
        "nested.pth",
        "ema.pth",
        "parameters.pt",
    ] {
        assert_reads(name, FileKind::TorchZip);
    }
    for name in ["plain_legacy.pth", "types_legacy.pth", "views_legacy.pth"] {
        assert_reads(name, FileKind::TorchLegacy);
    }
}

#[test]
fn tensors_stay_in_the_order_of_the_file() {
    let dict = read_weights(&fixture("plain.pth")).unwrap().tensors;
    let names: Vec<_> = dict.names().collect();
    assert_eq!(names[..3], ["conv.weight", "conv.bias", "norm.weight"]);
    assert_eq!(names.last(), Some(&"fc.bias"));
}

#[test]
fn a_key_chooses_among_several_sets_of_weights() {
    let ema = read_weights_at(&fixture("ema.pth"), "ema").unwrap();
    assert_as_expected(&ema.tensors, "ema.pth.ema");
    let err = read_weights_at(&fixture("ema.pth"), "teacher").unwrap_err();
    assert!(
        err.to_string()
            .ends_with("no dictionary `teacher`; there are: model, ema, step")
    );
}

#[test]
fn shared_tensors_are_found_and_share_bytes() {
    for name in ["views.pth", "views_legacy.pth"] {
        let dict = read_weights(&fixture(name)).unwrap().tensors;
        assert_eq!(dict.tied(), [["tied_a", "tied_b"]], "{name}");
    }
    let dict = assert_reads("tied.safetensors", FileKind::Safetensors).tensors;
    assert_eq!(dict.tied(), [["embed.weight", "head.weight"]]);
}

#[test]
fn named_tensors_of_libtorch_read() {
    assert_reads("named.ot", FileKind::TorchNamed);
}

#[test]
fn safetensors_and_shards_read() {
    let checkpoint = assert_reads("plain.safetensors", FileKind::Safetensors);
    assert_eq!(checkpoint.metadata["note"], "hello");
    assert_reads("model.safetensors.index.json", FileKind::SafetensorsIndex);
}

#[test]
fn the_extension_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    for (name, other) in [
        ("plain.safetensors", "a.pth"),
        ("plain.pth", "b.safetensors"),
        ("plain_legacy.pth", "c"),
    ] {
        let path = dir.path().join(other);
        std::fs::copy(fixture(name), &path).unwrap();
        assert_as_expected(&read_weights(&path).unwrap().tensors, name);
    }
}

#[test]
fn what_is_written_reads_back_and_is_the_same_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.safetensors");
    for name in ["types.pth", "views.pth", "plain.pth"] {
        let dict = read_weights(&fixture(name)).unwrap().tensors;
        let metadata = (0..20).map(|i| (format!("k{i}"), "v".to_owned())).collect();
        let options = SaveOptions {
            metadata,
            float_dtype: None,
        };
        write_safetensors(&path, &dict, &options).unwrap();
        let first = std::fs::read(&path).unwrap();
        let again = read_weights(&path).unwrap();
        assert_as_expected(&again.tensors, name);
        assert_eq!(again.tensors.tied(), dict.tied(), "{name}");
        assert_eq!(again.metadata["format"], "pt");
        write_safetensors(&path, &dict, &options).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "{name}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn floats_convert_on_the_way_out_and_integers_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.safetensors");
    let values: Vec<f32> = (0..200_000).map(|i| i as f32 / 512.0).collect();
    let mut dict = StateDict::new();
    let wide = Tensor::from_f32(vec![200, 1000], values).unwrap();
    dict.insert("w", wide.clone()).unwrap();
    dict.insert("steps", Tensor::from_i64(vec![], vec![3]).unwrap())
        .unwrap();
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let options = SaveOptions {
            metadata: BTreeMap::new(),
            float_dtype: Some(dtype),
        };
        write_safetensors(&path, &dict, &options).unwrap();
        let back = read_weights(&path).unwrap().tensors;
        assert_eq!(back.get("w").unwrap(), &wide.to_float_dtype(dtype).unwrap());
        assert_eq!(back.get("steps"), dict.get("steps"));
    }
    let options = SaveOptions {
        metadata: BTreeMap::new(),
        float_dtype: Some(DType::I8),
    };
    let err = write_safetensors(&path, &dict, &options).unwrap_err();
    assert!(matches!(err, FormatError::Conversion { tensor, .. } if tensor == "w"));
}

fn pickle_fault(name: &str) -> PickleFault {
    match read_weights(&fixture(name)).unwrap_err() {
        FormatError::Pickle { path, fault } => {
            assert_eq!(path, fixture(name));
            fault
        }
        other => panic!("{name}: {other}"),
    }
}

#[test]
fn a_pickle_that_names_a_program_is_refused_by_name() {
    for name in ["evil.pth", "evil_legacy.pth", "evil.pkl", "evil_text.pkl"] {
        let fault = pickle_fault(name);
        assert!(
            matches!(&fault, PickleFault::Forbidden { name } if name == "posix.system"),
            "{name}: {fault}"
        );
        let err = read_weights(&fixture(name)).unwrap_err();
        assert!(err.hint().unwrap().contains("state_dict"));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("os.pth");
    std::fs::write(&path, b"cos\nsystem\n(S'echo harm'\ntR.").unwrap();
    let text = read_weights(&path).unwrap_err().to_string();
    assert!(text.contains("names `os.system`"), "{text}");
}

#[test]
fn pickles_without_usable_tensors_say_why() {
    assert!(
        matches!(pickle_fault("complex.pth"), PickleFault::Dtype { tensor, got } if tensor == "w" && got == "complex64")
    );
    assert!(matches!(
        pickle_fault("no_tensors.pth"),
        PickleFault::NoTensors
    ));
    assert!(matches!(pickle_fault("cyclic.pth"), PickleFault::Cyclic { name } if name == "self"));
    assert!(matches!(
        pickle_fault("doubling.pth"),
        PickleFault::TooDeep { .. }
    ));
    for name in ["past_end.pth", "past_offset.pth"] {
        let fault = pickle_fault(name);
        assert!(
            matches!(&fault, PickleFault::OutOfStorage { tensor, available: 4, .. } if tensor == "w"),
            "{fault}"
        );
    }
}

#[test]
fn a_torchscript_archive_is_named_as_such() {
    let err = read_weights(&fixture("script.pt")).unwrap_err();
    assert!(matches!(
        err,
        FormatError::WrongKind {
            got: FileKind::TorchScript,
            ..
        }
    ));
    assert!(err.hint().unwrap().contains("torch.export"));
}

#[test]
fn every_truncation_of_a_checkpoint_is_an_error_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "plain_legacy.pth",
        "plain.safetensors",
        "plain.pth",
        "named.ot",
        "views_legacy.pth",
    ] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let path = dir.path().join(name);
        for end in 0..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert!(read_weights(&path).is_err(), "{name} cut at {end}");
        }
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "plain_legacy.pth",
        "tied.safetensors",
        "views.pth",
        "named.ot",
    ] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let path = dir.path().join(name);
        for at in (0..bytes.len()).step_by(3) {
            let mut bad = bytes.clone();
            bad[at] ^= [0xff, 0x01, 0x80][at / 3 % 3];
            std::fs::write(&path, &bad).unwrap();
            let _ = read_weights(&path);
        }
    }
}

fn written(bytes: &[u8]) -> FormatError {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pth");
    std::fs::write(&path, bytes).unwrap();
    read_weights(&path).unwrap_err()
}

#[test]
fn files_that_are_no_models_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        read_weights(dir.path()).unwrap_err(),
        FormatError::Directory { .. }
    ));
    let missing = read_weights(&dir.path().join("none.pth")).unwrap_err();
    assert!(matches!(missing, FormatError::Io { .. }));
    assert!(matches!(written(b""), FormatError::Empty { .. }));
    let pointer = written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
    assert!(matches!(pointer, FormatError::LfsPointer { .. }));
    assert!(pointer.hint().unwrap().contains("git lfs pull"));
    let page = written(b"\n<!DOCTYPE html>\n<html><body>404</body></html>");
    assert!(matches!(page, FormatError::WebPage { .. }));
    let told = |bytes: &[u8]| match written(bytes) {
        error @ FormatError::Unrecognised { .. } => error.to_string(),
        error => panic!("{error}"),
    };
    assert!(
        told(b"\x7fELF\x02\x01\x01").ends_with("(it begins with the bytes 7f 45 4c 46 02 01 01)")
    );
    assert!(told(b"hello world").ends_with("(it begins with `hello wo`)"));
    assert!(matches!(written(b"PK"), FormatError::Archive { .. }));
    let pickle = written(b"\x80\x02}.");
    assert!(matches!(
        pickle,
        FormatError::Pickle {
            fault: PickleFault::Invalid {
                fault: MachineFault::NotTorch,
                ..
            },
            ..
        }
    ));
}

fn safetensors(header: &str, data: usize) -> SafetensorsFault {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    match written(&bytes) {
        FormatError::Safetensors { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn bad_safetensors_name_the_tensor() {
    use SafetensorsFault as F;

    let fault = safetensors(
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        4,
    );
    assert!(
        matches!(
            fault,
            F::Truncated {
                expected: 70,
                got: 66
            }
        ),
        "{fault}"
    );
    let fault = safetensors(
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        9,
    );
    assert!(matches!(fault, F::Trailing { .. }), "{fault}");
    let fault = safetensors(
        r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
        8,
    );
    assert!(
        matches!(&fault, F::Size { tensor, expected: 12, got: 8, .. } if tensor == "w"),
        "{fault}"
    );
    let fault = safetensors(
        r#"{"w":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#,
        8,
    );
    assert!(
        matches!(&fault, F::Dtype { tensor, got } if tensor == "w" && got == "F33"),
        "{fault}"
    );
    let fault = safetensors(
        r#"{"w":{"dtype":"U64","shape":[1],"data_offsets":[0,8]}}"#,
        8,
    );
    assert!(
        matches!(&fault, F::Dtype { tensor, got } if tensor == "w" && got == "U64"),
        "{fault}"
    );
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let fault = safetensors(overlap, 12);
    assert!(
        matches!(&fault, F::Offsets { tensor, previous: 8, .. } if tensor == "b"),
        "{fault}"
    );
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert!(matches!(safetensors(twice, 8), F::Offsets { .. }));
    let huge = r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296,8],"data_offsets":[0,0]}}"#;
    let fault = safetensors(huge, 0);
    assert!(
        matches!(&fault, F::Size { tensor, .. } if tensor == "w"),
        "{fault}"
    );
    let past = r#"{"w":{"dtype":"F32","shape":[2305843009213693951],"data_offsets":[0,9223372036854775804]}}"#;
    assert!(matches!(safetensors(past, 8), F::Truncated { .. }));
    assert!(matches!(
        safetensors(r#"{"w":7}"#, 8),
        F::Dtype { .. } | F::Header(_)
    ));
    assert!(matches!(safetensors(r#"{"w":"#, 8), F::Header(_)));

    let mut long = 100_000_001u64.to_le_bytes().to_vec();
    long.extend_from_slice(b"{\"w\":1}");
    let err = written(&long);
    assert!(
        matches!(
            err,
            FormatError::Safetensors {
                fault: F::HeaderTooLarge {
                    got: 100_000_001,
                    ..
                },
                ..
            }
        ),
        "{err}"
    );
}

#[test]
fn shards_that_are_missing_or_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors.index.json");
    std::fs::copy(
        fixture("plain.safetensors"),
        dir.path().join("a.safetensors"),
    )
    .unwrap();
    std::fs::write(&path, r#"{"weight_map":{"w":"../a.safetensors"}}"#).unwrap();
    let err = read_weights(&path).unwrap_err();
    assert!(matches!(err, FormatError::ShardOutside { shard, .. } if shard == "../a.safetensors"));
    std::fs::write(&path, r#"{"weight_map":{"w":"b.safetensors"}}"#).unwrap();
    assert!(
        matches!(read_weights(&path).unwrap_err(), FormatError::Io { path, .. } if path.ends_with("b.safetensors"))
    );
    std::fs::write(&path, r#"{"weight_map":{"w":"a.safetensors"}}"#).unwrap();
    assert!(
        matches!(read_weights(&path).unwrap_err(), FormatError::MissingFromShard { tensor, .. } if tensor == "w")
    );
    std::fs::write(&path, r#"{"weights":{}}"#).unwrap();
    assert!(matches!(
        read_weights(&path).unwrap_err(),
        FormatError::Json { .. }
    ));
}

#[test]
fn nan_weights_are_reported_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nan.safetensors");
    let mut dict = StateDict::new();
    dict.insert("fine", Tensor::from_f32(vec![2], vec![1.0, 2.0]).unwrap())
        .unwrap();
    dict.insert(
        "broken",
        Tensor::from_f32(vec![3], vec![0.0, f32::NAN, 0.0]).unwrap(),
    )
    .unwrap();
    write_safetensors(&path, &dict, &SaveOptions::default()).unwrap();
    let found = read_weights(&path)
        .unwrap()
        .tensors
        .first_non_finite()
        .unwrap();
    assert_eq!(
        found.to_string(),
        "tensor `broken` has a value that is not finite, at element 1"
    );
}

#[test]
fn real_checkpoints_read_when_they_are_at_hand() {
    let Some(folder) = std::env::var_os("RANKFOLD_PRETRAINED") else {
        eprintln!("skipped: RANKFOLD_PRETRAINED is not set");
        return;
    };
    for (name, tensors, parameters) in [
        ("resnet20-12fca82f.th", 97, 269_722),
        ("resnet32-d509ac18.th", 157, 464_154),
    ] {
        let dict = read_weights(&Path::new(&folder).join(name))
            .unwrap()
            .tensors;
        let learnable = dict
            .iter()
            .filter(|(n, _)| n.ends_with(".weight") || n.ends_with(".bias"));
        let count: usize = learnable.map(|(_, t)| t.len()).sum();
        eprintln!("{name}: {} tensors, {count} parameters", dict.len());
        assert!(dict.get("conv1.weight").is_some());
        assert_eq!((dict.len(), count), (tensors, parameters), "{name}");
    }
}
