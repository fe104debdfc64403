//! Small data sets written for a test.

#![allow(dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rankfold_data::{DataError, DataSpec, Dataset, ImageSize, Split};

/// Opens `spec`'s `split`, the images of folders at 8×8.
pub(crate) fn open(spec: &str, split: &str) -> Result<Dataset, DataError> {
    let spec: DataSpec = spec.parse()?;
    let split: Split = split.parse()?;
    let size = match spec {
        DataSpec::Images(_) => ImageSize::new(8, 8)?,
        _ => ImageSize::default(),
    };
    Dataset::open(&spec, &split, size)
}

/// The error of opening `kind:folder`'s test part, for the message and the hint to be looked at.
pub(crate) fn refused(kind: &str, path: &Path) -> DataError {
    open(&format!("{kind}:{}", path.display()), "test").expect_err("opened what it should refuse")
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("create the folder");
    std::fs::write(path, bytes).expect("write the file");
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("compress");
    encoder.finish().expect("compress")
}

/// An IDX file with these dimensions, whatever the values.
pub(crate) fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let magic = 0x0800 | dims.len() as u32;
    let words = std::iter::once(magic).chain(dims.iter().copied());
    words
        .flat_map(u32::to_be_bytes)
        .chain(values.iter().copied())
        .collect()
}

/// Writes a test part of MNIST with three images of 2 × 3.
pub(crate) fn mnist(folder: &Path) -> (PathBuf, PathBuf) {
    let images = folder.join("t10k-images-idx3-ubyte");
    let labels = folder.join("t10k-labels-idx1-ubyte");
    write(&images, &idx(&[3, 2, 3], &(0..18).collect::<Vec<u8>>()));
    write(&labels, &idx(&[3], &[7, 0, 9]));
    (images, labels)
}

/// CIFAR records: label bytes, then pixels that differ by image and place.
pub(crate) fn cifar(labels: &[&[u8]]) -> Vec<u8> {
    let pixels = |i: usize| (0..3072).map(move |p| (p * 7 + i * 13) as u8);
    labels
        .iter()
        .enumerate()
        .flat_map(|(i, l)| l.iter().copied().chain(pixels(i)))
        .collect()
}

/// Writes a PNG of one colour.
pub(crate) fn png(path: &Path, width: u32, height: u32, colour: [u8; 3]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("create the folder");
    image::RgbImage::from_pixel(width, height, image::Rgb(colour))
        .save(path)
        .expect("save");
}
