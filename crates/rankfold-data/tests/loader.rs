//! Batches: order, resumption, augmentation and their independence of the number of threads.

mod common;

use std::collections::BTreeSet;

use common::{open, png};
use rankfold_data::{
    Augment, Batch, Crop, DataError, DataSpec, Dataset, ImageSize, Loader, LoaderOptions,
    Normalization, Split,
};
use tempfile::tempdir;

fn train(batch: usize, augment: Augment, seed: u64, workers: usize) -> LoaderOptions {
    LoaderOptions {
        workers,
        ..LoaderOptions::train(batch, Normalization::unit(), augment, seed)
    }
}

fn epoch(data: &Dataset, options: LoaderOptions, epoch: u64, first: usize) -> Vec<Batch> {
    let loader = Loader::new(data.clone(), options).expect("a loader");
    loader
        .epoch(epoch, first)
        .expect("started")
        .map(|b| b.expect("a batch"))
        .collect()
}

fn values(batches: &[Batch]) -> Vec<f32> {
    batches
        .iter()
        .flat_map(|b| b.inputs[0].data.as_f32().expect("images").to_vec())
        .collect()
}

fn labels(batches: &[Batch]) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|b| b.labels.clone().expect("labels"))
        .collect()
}

#[test]
fn evaluation_is_in_order_and_whole() {
    let data = open("shapes", "test[:50]").expect("opened");
    let options = LoaderOptions::evaluate(16, Normalization::unit());
    let batches = epoch(&data, options, 0, 0);
    let shapes: Vec<_> = batches.iter().map(|b| b.inputs[0].shape.clone()).collect();
    assert_eq!(shapes[..3], [[16, 3, 32, 32]; 3]);
    assert_eq!(shapes[3..], [[2, 3, 32, 32]]);
    let expected: Vec<i64> = (0..50).filter_map(|i| data.label(i)).collect();
    assert_eq!(labels(&batches), expected);

    let image = data.image(17).expect("an image");
    let first = &batches[1].inputs[0].data.as_f32().expect("images")[3072..][..3072];
    for (i, value) in first.iter().enumerate() {
        assert_eq!(
            *value,
            f32::from(image.data[i % 1024 * 3 + i / 1024]) / 255.0
        );
    }
}

/// The middle for use, any window inside the image for training: Çallı's views of CIFAR-10.
#[test]
fn images_that_have_a_size_are_cut_where_one_is_stated() {
    let split: Split = "train[:40]".parse().expect("a split");
    let spec = DataSpec::Shapes { seed: 0 };
    let open = |size| Dataset::open(&spec, &split, size).expect("opened");
    let whole = open(ImageSize::for_input(24).expect("a size"));
    assert_eq!(whole.inputs()[0].1, [3, 32, 32], "nothing is stated");
    let cut = open(ImageSize::new(32, 24).expect("a size"));
    assert_eq!(cut.inputs()[0].1, [3, 24, 24]);

    let bytes = |top: usize, left: usize, item: usize| -> Vec<u8> {
        let image = whole.image(item).expect("an image").data;
        let rows = (top..top + 24).flat_map(|y| &image[(y * 32 + left) * 3..][..24 * 3]);
        rows.copied().collect()
    };
    assert_eq!(cut.image(7).expect("an image").data, bytes(4, 4, 7));
    let crop = Augment {
        crop: Crop::Padded(4),
        ..Augment::NONE
    };
    let options = LoaderOptions {
        shuffle: false,
        ..train(40, crop, 1, 2)
    };
    let seen = values(&epoch(&cut, options, 0, 0));
    let mut places = BTreeSet::new();
    for (item, planes) in seen.chunks_exact(3 * 24 * 24).enumerate() {
        let plane = |c: usize| {
            planes[c * 576..][..576]
                .iter()
                .map(|v| (v * 255.0).round() as u8)
        };
        let mixed: Vec<u8> = plane(0)
            .zip(plane(1))
            .zip(plane(2))
            .flat_map(|((r, g), b)| [r, g, b])
            .collect();
        let own = (0..81).find(|place| bytes(place / 9, place % 9, item) == mixed);
        places.insert(own.expect("a window inside the image"));
    }
    assert!(places.len() > 20, "{places:?}");
}

#[test]
fn the_last_batch_can_be_left_out() {
    let data = open("shapes", "test[:50]").expect("opened");
    let options = |batch_size| LoaderOptions {
        drop_last: true,
        ..LoaderOptions::evaluate(batch_size, Normalization::unit())
    };
    assert_eq!(epoch(&data, options(16), 0, 0).len(), 3);
    for batch in [0, 51] {
        let error = Loader::new(data.clone(), options(batch)).expect_err("no batch");
        assert!(
            matches!(error, DataError::BatchSize { len: 50, .. }),
            "{error}"
        );
    }
}

#[test]
fn batches_do_not_depend_on_threads_or_on_where_one_starts() {
    let data = open("shapes", "train[:100]").expect("opened");
    let (brightness, contrast) = Augment::LIGHT;
    let lit = Augment {
        brightness,
        contrast: Some(contrast),
        ..Augment::CIFAR
    };
    for augment in [Augment::CIFAR, Augment::IMAGENET, lit] {
        let whole = epoch(&data, train(16, augment, 5, 1), 3, 0);
        for workers in [2, 5] {
            let again = epoch(&data, train(16, augment, 5, workers), 3, 0);
            assert_eq!(values(&whole), values(&again));
        }
        let rest = epoch(&data, train(16, augment, 5, 2), 3, 4);
        assert_eq!(rest.iter().map(|b| b.step).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(values(&whole[4..]), values(&rest));
        assert_eq!(labels(&whole[4..]), labels(&rest));
    }
}

#[test]
fn every_epoch_has_every_item_once_in_an_order_of_its_own() {
    let data = open("shapes", "train[:200]").expect("opened");
    let order = |seed, number| {
        let batches = epoch(&data, train(64, Augment::NONE, seed, 0), number, 0);
        values(&batches)
            .chunks(3072)
            .map(|v| v.iter().map(|v| v.to_bits()).collect())
            .collect()
    };
    let first: Vec<Vec<u32>> = order(1, 0);
    assert_eq!(first, order(1, 0));
    let mut sorted = first.clone();
    sorted.sort();
    for other in [order(1, 1), order(2, 0)] {
        assert_ne!(first, other);
        let mut other = other;
        other.sort();
        assert_eq!(sorted, other);
    }
}

#[test]
fn augmentation_changes_with_the_epoch_and_flips_half() {
    let data = open("shapes", "train[:400]").expect("opened");
    let flips = Augment {
        flip: true,
        ..Augment::NONE
    };
    let unshuffled = |augment, number| {
        let options = LoaderOptions {
            shuffle: false,
            ..train(400, augment, 9, 0)
        };
        values(&epoch(&data, options, number, 0))
    };
    let plain = unshuffled(Augment::NONE, 0);
    let (first, second) = (unshuffled(flips, 0), unshuffled(flips, 1));
    let changed = |a: &[f32], b: &[f32]| {
        a.chunks(3072)
            .zip(b.chunks(3072))
            .filter(|(a, b)| a != b)
            .count()
    };
    assert!(
        (160..240).contains(&changed(&plain, &first)),
        "{}",
        changed(&plain, &first)
    );
    assert!((160..240).contains(&changed(&first, &second)));
    for (a, b) in plain.chunks(32).zip(first.chunks(32)) {
        assert!(
            a == b || a.iter().rev().eq(b.iter()),
            "a row neither kept nor mirrored"
        );
    }
}

#[test]
fn a_consumer_may_stop_early() {
    let data = open("shapes", "train").expect("opened");
    let loader = Loader::new(data, train(64, Augment::CIFAR, 0, 2)).expect("a loader");
    for _ in 0..20 {
        let mut batches = loader.epoch(0, 0).expect("started");
        assert_eq!(batches.next().expect("one").expect("sound").len(), 64);
    }
    assert!(
        loader
            .epoch(0, loader.steps())
            .expect("started")
            .next()
            .is_none()
    );
}

#[test]
fn limits_and_samples_are_spread_over_the_set() {
    let data = open("shapes", "test[:1000]").expect("opened");
    let limited = data.limit(10).expect("ten");
    for i in 0..10 {
        assert_eq!(
            limited.image(i).expect("an image"),
            data.image(100 * i).expect("an image")
        );
    }
    assert_eq!(data.limit(5000).expect("all").len(), 1000);
    assert!(matches!(data.limit(0), Err(DataError::Empty { .. })));

    let sample = data.calibration(100, 3).expect("a sample");
    assert_eq!((sample.len(), sample.labelled()), (100, false));
    assert!(sample.label(0).is_none());
    for i in 0..100 {
        let image = sample.image(i).expect("an image");
        let stretch = 10 * i..10 * i + 10;
        let found = stretch
            .clone()
            .any(|j| data.image(j).expect("an image") == image);
        assert!(found, "sample {i} is not from {stretch:?}");
    }
    let same = |seed| {
        (0..100).all(|i| {
            let other = data.calibration(100, seed).expect("a sample");
            other.image(i).expect("an image") == sample.image(i).expect("an image")
        })
    };
    assert!(same(3) && !same(4));
    let batches = epoch(
        &sample,
        LoaderOptions::evaluate(64, Normalization::unit()),
        0,
        0,
    );
    assert!(batches.iter().all(|b| b.labels.is_none()));
    assert_eq!(data.calibration(9999, 0).expect("all").len(), 1000);
}

#[test]
fn a_normalisation_for_other_channels_is_refused() {
    let data = open("shapes", "test").expect("opened");
    let two = Normalization::new([0.5; 2], [0.5; 2]).expect("valid");
    let error = Loader::new(data, LoaderOptions::evaluate(4, two)).expect_err("two for three");
    assert!(
        matches!(
            error,
            DataError::Channels {
                expected: 3,
                found: 2
            }
        ),
        "{error}"
    );
    assert!(error.hint().expect("a hint").contains("--mean"));
}

#[test]
fn image_folders_have_parts_classes_and_an_order() {
    let dir = tempdir().expect("a folder");
    for (name, shade) in [
        ("train/b/1.png", 1),
        ("train/a/2.PNG", 2),
        ("train/a/deep/0.png", 3),
        ("train/.hidden/0.png", 4),
        ("val/a/1.png", 5),
        ("val/b/1.png", 6),
    ] {
        png(&dir.path().join(name), 20, 10, [shade; 3]);
    }
    common::write(&dir.path().join("train/a/notes.txt"), b"");
    let spec = format!("images:{}", dir.path().display());
    let shades = |data: &Dataset| -> Vec<(u8, i64)> {
        let shade = |i| data.image(i).expect("an image").data[0];
        (0..data.len())
            .map(|i| (shade(i), data.label(i).expect("a label")))
            .collect()
    };
    let data = open(&spec, "train").expect("opened");
    assert_eq!(shades(&data), [(2, 0), (3, 0), (1, 1)]);
    assert_eq!(data.class_names().expect("names"), ["a", "b"]);
    assert!(data.has_own_parts());
    assert_eq!(data.inputs(), [(None, vec![3, 8, 8])]);
    assert_eq!(
        shades(&open(&spec, "test").expect("opened")),
        [(5, 0), (6, 1)]
    );

    let flat = open(&format!("{spec}/train"), "test").expect("opened");
    assert_eq!(flat.len(), 3);
    assert!(!flat.has_own_parts());
}

#[test]
fn what_others_have_is_left_out() {
    let open = |spec: &str, split: &str| {
        let split = split.parse().expect("a split");
        Dataset::open(&spec.parse().expect("a set"), &split, Default::default()).expect("opened")
    };
    let all = open("shapes", "train[:100]");
    let drawn = all.calibration(30, 7).expect("drawn");
    let listed = open("shapes", "train").select(&[3, 5, 99]).expect("listed");
    let left = all.without(&[&drawn, &listed]).expect("some are left");
    let again = left.without(&[&drawn, &listed]).expect("some are left");
    assert_eq!(again.len(), left.len());
    assert!((67..=70).contains(&left.len()), "{}", left.len());
    let labels = |data: &Dataset| (0..data.len()).map(|i| data.label(i)).collect::<Vec<_>>();
    assert!(left.labelled() && labels(&left).iter().all(Option::is_some));
    // The same numbers of another part or another set are other items.
    for (spec, split) in [("shapes", "test[:100]"), ("shapes:1", "train[:100]")] {
        assert_eq!(all.without(&[&open(spec, split)]).expect("all").len(), 100);
    }
    let error = all
        .without(&[&open("shapes", "train")])
        .expect_err("nothing is left");
    assert!(
        matches!(error, DataError::Empty { len: 100, .. }),
        "{error}"
    );
}
