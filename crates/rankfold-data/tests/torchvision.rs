//! Decoding, resizing and cropping against torchvision's output, made by `fixtures/make.py`.
//!
//! PNG images come out equal, but for single steps in a few pixels in a thousand where the weights'
//! last bits decide the rounding. JPEG decoders are free to differ in rounding and in how they
//! enlarge the colour planes, so the bounds there are wider.

mod common;

use std::path::{Path, PathBuf};

use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization, Split};
use safetensors::SafeTensors;

/// Bounds on the largest and the mean difference, of 255.
const PNG: (u8, f64) = (1, 0.01);
const JPEG: (u8, f64) = (6, 0.5);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn dataset() -> Dataset {
    let spec = DataSpec::Images(fixtures().join("images"));
    let size = ImageSize::new(36, 32).expect("fits");
    Dataset::open(&spec, &Split::TEST, size).expect("opened")
}

const NAMES: [&str; 8] = [
    "a/exact.png",
    "a/grey.png",
    "a/small.png",
    "a/tall.png",
    "b/alpha.png",
    "b/grey.jpg",
    "b/palette.png",
    "b/photo.jpg",
];

#[test]
fn images_equal_torchvisions() {
    let file = std::fs::read(fixtures().join("expected.safetensors")).expect("read");
    let expected = SafeTensors::deserialize(&file).expect("safetensors");
    let data = dataset();
    assert_eq!(data.len(), NAMES.len());
    for (i, name) in NAMES.into_iter().enumerate() {
        let planes = expected.tensor(name).expect("expected").data();
        let image = data.image(i).expect("decoded");
        assert_eq!((image.channels, image.height, image.width), (3, 32, 32));
        let differences: Vec<u8> = planes
            .iter()
            .enumerate()
            .map(|(j, byte)| byte.abs_diff(image.data[j % 1024 * 3 + j / 1024]))
            .collect();
        let most = differences.iter().copied().max().expect("pixels");
        let mean = differences.iter().map(|d| f64::from(*d)).sum::<f64>() / 3072.0;
        println!("{name}: at most {most}, mean {mean:.3}");
        let bound = if name.ends_with(".png") { PNG } else { JPEG };
        assert!(
            most <= bound.0 && mean <= bound.1,
            "{name}: at most {most}, mean {mean}"
        );
    }
}

#[test]
fn batches_of_a_folder_are_its_images_normalised() {
    let data = dataset();
    let normalization = Normalization::new([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let options = LoaderOptions::evaluate(5, normalization.expect("valid"));
    let (mean, std) = (
        options.normalization.mean().to_vec(),
        options.normalization.std().to_vec(),
    );
    let loader = Loader::new(data.clone(), options).expect("a loader");
    let batches = loader
        .epoch(0, 0)
        .expect("started")
        .map(|b| b.expect("a batch"));
    let values: Vec<f32> = batches
        .flat_map(|b| b.inputs[0].data.as_f32().expect("images").to_vec())
        .collect();
    assert_eq!(values.len(), 8 * 3072);
    for (i, planes) in values.chunks(3072).enumerate() {
        let image = data.image(i).expect("decoded");
        for (j, value) in planes.iter().enumerate() {
            let c = j / 1024;
            let byte = f32::from(image.data[j % 1024 * 3 + c]);
            assert_eq!(*value, (byte / 255.0 - mean[c]) / std[c]);
        }
    }
}
