//! What can be wrong with data on disk: every case is an error that names the file, what was
//! expected and what was found.

mod common;

use std::path::Path;

use common::{cifar, gzip, idx, mnist, open, png, refused, write};
use rankfold_data::{DataError, ErrorKind, Loader, LoaderOptions, Normalization};
use tempfile::tempdir;

fn says(error: &DataError, kind: ErrorKind, path: &Path, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(&path.display().to_string()), "{text}");
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[test]
fn a_missing_folder() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("nowhere");
    for (kind, layout) in [
        ("mnist", "t10k-images-idx3-ubyte"),
        ("fashion-mnist", "train-labels-idx1-ubyte"),
        ("cifar10", "data_batch_1.bin"),
        ("cifar100", "cifar-100-binary"),
        ("images", "per class"),
        ("tensors", "labels"),
    ] {
        let error = refused(kind, &path);
        says(
            &error,
            ErrorKind::Missing,
            &path,
            &["no such file or folder"],
        );
        assert!(error.hint().expect("a hint").contains(layout), "{kind}");
    }
}

#[test]
fn a_file_where_a_folder_belongs_and_the_reverse() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("file");
    write(&path, b"x");
    for kind in ["mnist", "cifar10", "images"] {
        says(
            &refused(kind, &path),
            ErrorKind::Missing,
            &path,
            &["expected a folder"],
        );
    }
    says(
        &refused("tensors", dir.path()),
        ErrorKind::BadFile,
        dir.path(),
        &["expected a file"],
    );
    let inner = dir.path().join("test_batch.bin");
    std::fs::create_dir(&inner).expect("create");
    says(
        &refused("cifar10", dir.path()),
        ErrorKind::BadFile,
        &inner,
        &["expected a file"],
    );
}

#[test]
fn a_folder_without_the_files() {
    let dir = tempdir().expect("a folder");
    mnist(&dir.path().join("mnist"));
    let error = refused("fashion-mnist", dir.path());
    says(
        &error,
        ErrorKind::Missing,
        dir.path(),
        &["no fashion-mnist data", "t10k-images"],
    );
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("t10k-labels-idx1-ubyte")
    );

    says(
        &refused("cifar10", dir.path()),
        ErrorKind::Missing,
        dir.path(),
        &["test_batch.bin"],
    );
    write(&dir.path().join("data_batch_1.bin"), &cifar(&[&[1]]));
    let error = open(&format!("cifar10:{}", dir.path().display()), "train").expect_err("four miss");
    says(
        &error,
        ErrorKind::Missing,
        dir.path(),
        &["data_batch_2.bin"],
    );
}

#[test]
fn an_idx_file_of_four_bytes() {
    let dir = tempdir().expect("a folder");
    let (images, labels) = mnist(dir.path());
    write(&images, &[0, 0, 8, 3]);
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &images,
        &["16 bytes", "found 4"],
    );
    write(&labels, &gzip(&[0, 0, 8, 1]));
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &labels,
        &["8 bytes", "found 4"],
    );
    write(&labels, &[]);
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &labels,
        &["8 bytes", "found 0"],
    );
}

#[test]
fn an_idx_file_of_another_kind() {
    let dir = tempdir().expect("a folder");
    let (images, labels) = mnist(dir.path());
    std::fs::copy(&images, &labels).expect("copy");
    let error = refused("mnist", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &labels,
        &["0x00000801", "found 0x00000803"],
    );
}

#[test]
fn an_idx_file_cut_short_or_too_long() {
    let dir = tempdir().expect("a folder");
    let (images, _) = mnist(dir.path());
    let whole = std::fs::read(&images).expect("read");
    for bytes in [&whole[..20], &[&whole[..], &[1, 2]].concat()] {
        for bytes in [bytes.to_vec(), gzip(bytes)] {
            write(&images, &bytes);
            let error = refused("mnist", dir.path());
            says(
                &error,
                ErrorKind::BadFile,
                &images,
                &["34 bytes", "3×2×3", "found"],
            );
        }
    }
    let packed = gzip(&whole);
    write(&images, &packed[..packed.len() - 9]);
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &images,
        &["end of file"],
    );
    write(&images, &packed[..packed.len() / 2]);
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &images,
        &["bytes"],
    );
    let mut broken = packed.clone();
    let end = broken.len() - 6;
    broken[end] ^= 0xff;
    write(&images, &broken);
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &images,
        &["gzip"],
    );
}

#[test]
fn a_header_that_claims_billions_of_images() {
    let dir = tempdir().expect("a folder");
    let (images, labels) = mnist(dir.path());
    for claim in [[1 << 31, 28, 28], [u32::MAX; 3]] {
        for pack in [false, true] {
            let bytes = idx(&claim, &[0; 100]);
            write(&images, &if pack { gzip(&bytes) } else { bytes });
            let error = refused("mnist", dir.path());
            says(&error, ErrorKind::BadFile, &images, &["its header says"]);
        }
    }
    mnist(dir.path());
    write(&labels, &gzip(&idx(&[u32::MAX], &[0; 100])));
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &labels,
        &["4294967303 bytes"],
    );
}

#[test]
fn images_without_pixels() {
    let dir = tempdir().expect("a folder");
    let (images, _) = mnist(dir.path());
    write(&images, &idx(&[3, 0, 28], &[]));
    says(
        &refused("mnist", dir.path()),
        ErrorKind::BadFile,
        &images,
        &["0×28"],
    );
}

#[test]
fn more_images_than_labels() {
    let dir = tempdir().expect("a folder");
    let (images, labels) = mnist(dir.path());
    write(&labels, &idx(&[2], &[7, 0]));
    let error = refused("mnist", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &images,
        &["3 images", "2 labels"],
    );
    says(&error, ErrorKind::BadFile, &labels, &[]);
}

#[test]
fn labels_that_name_no_class() {
    let dir = tempdir().expect("a folder");
    let (_, labels) = mnist(dir.path());
    write(&labels, &idx(&[3], &[7, 0, 10]));
    let error = refused("mnist", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &labels,
        &["label 10 of item 2", "10 classes"],
    );

    let batch = dir.path().join("test_batch.bin");
    write(&batch, &cifar(&[&[9], &[200]]));
    let error = refused("cifar10", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &batch,
        &["label 200 of item 1", "10 classes"],
    );

    let file = dir.path().join("test.bin");
    write(&file, &cifar(&[&[255, 99], &[0, 100]]));
    let error = refused("cifar100", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &file,
        &["label 100 of item 1", "100 classes"],
    );
}

#[test]
fn a_cifar_file_cut_short() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("cifar-10-batches-bin/test_batch.bin");
    let whole = cifar(&[&[1], &[2]]);
    write(&path, &whole[..whole.len() - 1]);
    let error = refused("cifar10", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &path,
        &["6146 bytes", "found 6145"],
    );
    write(&path, &[]);
    says(
        &refused("cifar10", dir.path()),
        ErrorKind::BadFile,
        &path,
        &["3073 bytes", "found 0"],
    );
}

#[test]
fn one_corrupt_image_in_a_folder() {
    let dir = tempdir().expect("a folder");
    for name in ["a/1.png", "a/2.png", "b/3.png"] {
        png(&dir.path().join(name), 12, 9, [10, 20, 30]);
    }
    let corrupt = dir.path().join("b/bad.jpg");
    for bytes in [&b"no image"[..], &[], &[0xff, 0xd8, 0xff, 0xe0, 0, 16]] {
        write(&corrupt, bytes);
        let data = open(&format!("images:{}", dir.path().display()), "test").expect("a listing");
        let options = LoaderOptions::evaluate(3, Normalization::unit());
        let loader = Loader::new(data, options).expect("a loader");
        let mut batches = loader.epoch(0, 0).expect("started");
        assert_eq!(
            batches.next().expect("one").expect("a sound batch").len(),
            3
        );
        let error = batches.next().expect("another").expect_err("corrupt");
        says(&error, ErrorKind::BadFile, &corrupt, &["cannot decode"]);
        assert!(error.hint().is_some());
        assert!(batches.next().is_none(), "goes on after an error");
    }
}

#[test]
fn an_image_that_would_be_blown_up() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("a/long.png");
    png(&path, 60_000, 1, [0; 3]);
    let data = open(&format!("images:{}", dir.path().display()), "test").expect("a listing");
    says(
        &data.image(0).expect_err("too long"),
        ErrorKind::BadFile,
        &path,
        &["1×60000"],
    );
}

#[test]
fn a_png_header_that_claims_billions_of_pixels() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("a/huge.png");
    let side = (i32::MAX as u32).to_be_bytes();
    let header = [b"IHDR", &side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let mut sum = flate2::Crc::new();
    sum.update(&header);
    let bytes = [
        b"\x89PNG\r\n\x1a\n\0\0\0\x0d",
        &header[..],
        &sum.sum().to_be_bytes(),
    ]
    .concat();
    write(&path, &bytes);
    let data = open(&format!("images:{}", dir.path().display()), "test").expect("a listing");
    says(
        &data.image(0).expect_err("too large"),
        ErrorKind::BadFile,
        &path,
        &["cannot decode"],
    );
}

#[test]
fn class_folders_that_are_missing_empty_or_different() {
    let dir = tempdir().expect("a folder");
    let error = refused("images", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        dir.path(),
        &["one folder per class"],
    );
    assert!(error.hint().expect("a hint").contains("train and test"));

    let empty = dir.path().join("b");
    std::fs::create_dir(&empty).expect("create");
    write(&empty.join("notes.txt"), b"not an image");
    let error = refused("images", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        dir.path(),
        &["none of the folders in it"],
    );
    assert!(error.hint().expect("a hint").contains("per class"));

    png(&dir.path().join("a/1.png"), 8, 8, [0; 3]);
    let error = refused("images", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &empty,
        &["class folder without"],
    );

    write(&empty.join("x.webp"), b"RIFF");
    let error = refused("images", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        &empty.join("x.webp"),
        &["JPEG or PNG"],
    );

    let dir = tempdir().expect("a folder");
    for name in ["train/a/1.png", "train/b/1.png", "val/a/1.png"] {
        png(&dir.path().join(name), 8, 8, [0; 3]);
    }
    let error = refused("images", dir.path());
    says(
        &error,
        ErrorKind::BadFile,
        dir.path(),
        &["classes differ", "`b`"],
    );
}

#[test]
fn splits_beyond_the_data() {
    let dir = tempdir().expect("a folder");
    mnist(dir.path());
    let spec = format!("mnist:{}", dir.path().display());
    assert_eq!(open(&spec, "test[1:3]").expect("inside").len(), 2);
    for (split, words) in [
        ("test[:4]", "which has 3 items"),
        ("test[3:]", "leaves no item"),
    ] {
        let error = open(&spec, split).expect_err(split);
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(split), "{error}");
    }
}
