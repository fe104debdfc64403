//! Tensor files: named inputs with or without labels.

mod common;

use std::path::Path;

use common::{open, refused, write};
use rankfold_data::{Augment, DataError, Dataset, ErrorKind, Loader, LoaderOptions, Normalization};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tempfile::tempdir;

fn bytes<T, const N: usize>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to).collect()
}

/// Name, type, shape and bytes.
type Tensor<'a> = (&'a str, Dtype, &'a [usize], Vec<u8>);

fn save(path: &Path, tensors: &[Tensor<'_>]) {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (
            *name,
            TensorView::new(*dtype, shape.to_vec(), data).expect("a view"),
        )
    });
    serialize_to_file(views, None, path).expect("saved");
}

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32 * 0.25 - 1.0).collect()
}

fn load(data: Dataset, batch: usize) -> Loader {
    Loader::new(data, LoaderOptions::evaluate(batch, Normalization::unit())).expect("a loader")
}

#[test]
fn several_inputs_of_every_type_come_back() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("x.safetensors");
    let values = floats(10);
    save(
        &path,
        &[
            (
                "f32",
                Dtype::F32,
                &[5, 2],
                bytes(&values, |v| v.to_le_bytes()),
            ),
            (
                "f64",
                Dtype::F64,
                &[5, 2],
                bytes(&values, |v| f64::from(*v).to_le_bytes()),
            ),
            (
                "f16",
                Dtype::F16,
                &[5, 2],
                bytes(&values, |v| half::f16::from_f32(*v).to_le_bytes()),
            ),
            (
                "bf16",
                Dtype::BF16,
                &[5, 2],
                bytes(&values, |v| half::bf16::from_f32(*v).to_le_bytes()),
            ),
            (
                "i32",
                Dtype::I32,
                &[5],
                bytes(&[1i32, -2, 3, 4, 5], |v| v.to_le_bytes()),
            ),
            (
                "i64",
                Dtype::I64,
                &[5, 1, 1],
                bytes(&[9i64, 8, 7, 6, -5], |v| v.to_le_bytes()),
            ),
            (
                "labels",
                Dtype::I64,
                &[5],
                bytes(&[0i64, 3, 1, 0, 2], |v| v.to_le_bytes()),
            ),
        ],
    );
    let data = open(&format!("tensors:{}", path.display()), "test").expect("opened");
    assert_eq!(
        (data.len(), data.classes(), data.has_own_parts()),
        (5, None, false)
    );
    let names: Vec<_> = data
        .inputs()
        .into_iter()
        .filter_map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["bf16", "f16", "f32", "f64", "i32", "i64"]);

    let loader = load(data, 3);
    let batches: Vec<_> = loader.epoch(0, 0).expect("started").collect();
    assert_eq!(batches.len(), 2);
    for (step, batch) in batches.into_iter().enumerate() {
        let batch = batch.expect("a batch");
        let items = [0..3, 3..5][step].clone();
        assert_eq!((batch.step, batch.len()), (step, items.len()));
        assert_eq!(
            batch.labels.as_deref(),
            Some(&[0, 3, 1, 0, 2][items.clone()])
        );
        for input in &batch.inputs {
            match input.name.as_deref().expect("a name") {
                "i32" => {
                    assert_eq!(input.shape, [items.len()]);
                    assert_eq!(input.data.as_i64(), Some(&[1, -2, 3, 4, 5][items.clone()]));
                }
                "i64" => {
                    assert_eq!(input.shape, [items.len(), 1, 1]);
                    assert_eq!(input.data.as_i64(), Some(&[9, 8, 7, 6, -5][items.clone()]));
                }
                _ => {
                    assert_eq!(input.shape, [items.len(), 2]);
                    let expected = &values[2 * items.start..2 * items.end];
                    assert_eq!(input.data.as_f32(), Some(expected), "{:?}", input.name);
                }
            }
        }
    }
}

#[test]
fn targets_are_no_input() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("x.safetensors");
    let values = floats(6);
    let x = bytes(&values, |v| v.to_le_bytes());
    let targets = bytes(&values[..3], |v| v.to_le_bytes());
    save(
        &path,
        &[
            ("x", Dtype::F32, &[3, 2], x),
            ("targets", Dtype::F32, &[3, 1], targets),
        ],
    );
    let data = open(&format!("tensors:{}", path.display()), "test[1:]").expect("opened");
    assert_eq!(data.inputs().len(), 1);
    let batch = load(data, 2).epoch(0, 0).expect("batches").next();
    let batch = batch.expect("a batch").expect("read");
    let targets = batch.targets.expect("targets");
    assert_eq!(targets.shape, [2, 1]);
    assert_eq!(targets.data.as_f32(), Some(&values[1..3]));
    assert!(batch.labels.is_none());
}

#[test]
fn labels_may_be_left_out() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("x.safetensors");
    save(
        &path,
        &[(
            "x",
            Dtype::F32,
            &[4],
            bytes(&floats(4), |v| v.to_le_bytes()),
        )],
    );
    let data = open(&format!("tensors:{}", path.display()), "train[1:]").expect("opened");
    assert!(!data.labelled() && data.label(0).is_none());
    let batch = load(data, 8)
        .epoch(0, 0)
        .expect("started")
        .next()
        .expect("one")
        .expect("sound");
    assert!(batch.labels.is_none());
    assert_eq!(batch.inputs[0].data.as_f32(), Some(&floats(4)[1..]));
}

#[test]
fn what_cannot_be_fed_is_refused() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("x.safetensors");
    let x = || ("x", Dtype::F32, &[2usize, 2][..], vec![0; 16]);
    let cases: [(&[Tensor<'_>], &[&str]); 7] = [
        (&[], &["no input tensor"]),
        (
            &[("labels", Dtype::I64, &[2], vec![0; 16])],
            &["no input tensor"],
        ),
        (&[("x", Dtype::U8, &[2], vec![0; 2])], &["`x`", "found U8"]),
        (
            &[x(), ("y", Dtype::F32, &[3], vec![0; 12])],
            &["`y`", "[3]", "[2, …]"],
        ),
        (&[("x", Dtype::F32, &[0, 4], vec![])], &["`x`", "[0, 4]"]),
        (
            &[x(), ("labels", Dtype::I64, &[2, 1], vec![0; 16])],
            &["`labels`", "[2, 1]", "[2]"],
        ),
        (
            &[x(), ("labels", Dtype::I32, &[2], vec![255; 8])],
            &["label -1 of item 0"],
        ),
    ];
    for (tensors, words) in cases {
        save(&path, tensors);
        let error = refused("tensors", &path);
        assert_eq!(error.kind(), ErrorKind::BadFile);
        for word in words {
            assert!(error.to_string().contains(word), "{error}: {word}");
        }
    }
}

#[test]
fn a_file_that_is_no_safetensors_is_refused() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("x.safetensors");
    save(&path, &[("x", Dtype::F32, &[2, 2], vec![0; 16])]);
    let whole = std::fs::read(&path).expect("read");
    let huge = [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat();
    for bytes in [
        &whole[..whole.len() - 1],
        &whole[..9],
        &[],
        &huge,
        b"no tensors at all",
    ] {
        write(&path, bytes);
        let error = refused("tensors", &path);
        assert!(matches!(error, DataError::Safetensors { .. }), "{error}");
    }
}

#[test]
fn tensors_are_not_augmented() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("x.safetensors");
    save(&path, &[("x", Dtype::F32, &[2], vec![0; 8])]);
    let data = open(&format!("tensors:{}", path.display()), "test").expect("opened");
    let options = LoaderOptions::train(1, Normalization::unit(), Augment::CIFAR, 0);
    let error = Loader::new(data.clone(), options).expect_err("augmented");
    assert!(matches!(error, DataError::NeedsImages { .. }), "{error}");
    assert!(matches!(data.image(0), Err(DataError::NeedsImages { .. })));
}
