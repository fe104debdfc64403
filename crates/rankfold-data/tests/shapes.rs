//! The synthetic set: the same for ever, balanced, training and test images apart.

mod common;

use std::collections::HashSet;

use common::open;
use rankfold_data::Dataset;

/// FNV-1a over pixels and labels.
fn digest(data: &Dataset) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for i in 0..data.len() {
        let label = data.label(i).expect("a label") as u8;
        for byte in data
            .image(i)
            .expect("an image")
            .data
            .into_iter()
            .chain([label])
        {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

#[test]
fn the_pixels_that_the_shipped_checkpoint_was_trained_on_never_change() {
    for (spec, split, expected) in [
        ("shapes", "train[:300]", 0x43eb_e52f_95cd_1c7au64),
        ("shapes", "test[:300]", 0x03c1_2b5f_0e24_1793),
    ] {
        let found = digest(&open(spec, split).expect("opened"));
        assert_eq!(found, expected, "{spec} {split}: found {found:#018x}");
    }
}

#[test]
fn classes_are_even_and_named() {
    for (split, each) in [("train", 5_000), ("test", 1_000)] {
        let data = open("shapes", split).expect("opened");
        assert_eq!((data.len(), data.classes()), (10 * each, Some(10)));
        let mut counts = [0usize; 10];
        (0..data.len()).for_each(|i| counts[data.label(i).expect("a label") as usize] += 1);
        // Five standard deviations of a binomial.
        let spread = (5.0 * (0.9 * each as f64).sqrt()) as usize;
        assert!(
            counts.iter().all(|n| n.abs_diff(each) < spread),
            "{counts:?}"
        );
        assert_eq!(data.class_names().expect("names")[7], "star");
    }
}

#[test]
fn no_image_comes_twice() {
    let mut seen = HashSet::new();
    let mut drawn = 0;
    for spec in ["shapes", "shapes:1"] {
        for split in ["train[:2000]", "test[:2000]"] {
            let data = open(spec, split).expect("opened");
            for i in 0..data.len() {
                seen.insert(data.image(i).expect("an image").data);
            }
            drawn += data.len();
        }
    }
    assert_eq!(seen.len(), drawn);
}

#[test]
fn no_class_is_told_by_its_mean_colour() {
    let data = open("shapes", "train[:5000]").expect("opened");
    let (mut sums, mut counts) = ([[0f64; 3]; 10], [0f64; 10]);
    for i in 0..data.len() {
        let class = data.label(i).expect("a label") as usize;
        for pixel in data.image(i).expect("an image").data.chunks(3) {
            for (sum, byte) in sums[class].iter_mut().zip(pixel) {
                *sum += f64::from(*byte) / 1024.0;
            }
        }
        counts[class] += 1.0;
    }
    for (sums, count) in sums.iter().zip(counts) {
        for sum in sums {
            assert!((sum / count - 127.5).abs() < 15.0, "{sums:?} of {count}");
        }
    }
}
