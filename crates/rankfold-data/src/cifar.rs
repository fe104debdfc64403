//! CIFAR-10 and CIFAR-100 in the binary layout: records of labels and 3×32×32 bytes.

use std::path::{Path, PathBuf};

use crate::bytes::Bytes;
use crate::locate;
use crate::source::{ImageSource, Pixels};
use crate::{DataError, Part};

const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;

/// What tells the two sets apart.
#[derive(Debug)]
pub(crate) struct Variant {
    kind: &'static str,
    classes: usize,
    /// Bytes before the pixels; the last of them is the label.
    labels: usize,
    inside: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    names: &'static str,
    layout: &'static str,
}

pub(crate) const CIFAR10: Variant = Variant {
    kind: "cifar10",
    classes: 10,
    labels: 1,
    inside: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: &["test_batch.bin"],
    names: "batches.meta.txt",
    layout: "the folder, or cifar-10-batches-bin in it, should hold data_batch_1.bin to \
             data_batch_5.bin and test_batch.bin, as in the binary (not the Python) version of \
             CIFAR-10",
};

pub(crate) const CIFAR100: Variant = Variant {
    kind: "cifar100",
    classes: 100,
    labels: 2,
    inside: "cifar-100-binary",
    train: &["train.bin"],
    test: &["test.bin"],
    names: "fine_label_names.txt",
    layout: "the folder, or cifar-100-binary in it, should hold train.bin and test.bin, as in the \
             binary (not the Python) version of CIFAR-100",
};

/// One part of CIFAR-10 or CIFAR-100, mapped.
#[derive(Debug)]
pub(crate) struct Cifar {
    variant: &'static Variant,
    /// Each file with the number of its first image.
    files: Vec<(usize, Bytes)>,
    len: usize,
    pub(crate) class_names: Option<Vec<String>>,
}

impl Cifar {
    /// The part's files below `folder`, sizes and labels checked.
    pub(crate) fn open(
        variant: &'static Variant,
        folder: &Path,
        part: Part,
    ) -> Result<Self, DataError> {
        locate::check_folder(folder, variant.layout)?;
        let find = |name: &str| locate::find(folder, &[variant.inside], &[name.to_owned()]);
        let names = match part {
            Part::Train => variant.train,
            Part::Test => variant.test,
        };
        let paths: Vec<PathBuf> = names
            .iter()
            .map(|name| {
                find(name).ok_or_else(|| DataError::FileMissing {
                    kind: variant.kind,
                    folder: folder.to_owned(),
                    missing: (*name).to_owned(),
                    layout: variant.layout,
                })
            })
            .collect::<Result<_, _>>()?;

        let (mut files, mut len) = (Vec::with_capacity(paths.len()), 0);
        for path in paths {
            let bytes = Bytes::map(&path)?;
            let count = variant.check(&path, &bytes)?;
            files.push((len, bytes));
            len += count;
        }
        let class_names = find(variant.names).and_then(|path| variant.read_names(&path));
        Ok(Self {
            variant,
            files,
            len,
            class_names,
        })
    }

    fn record(&self, index: usize) -> &[u8] {
        let file = self.files.partition_point(|(first, _)| *first <= index) - 1;
        let (first, bytes) = &self.files[file];
        let size = self.variant.record();
        &bytes[(index - first) * size..][..size]
    }

    pub(crate) fn classes(&self) -> usize {
        self.variant.classes
    }
}

impl Variant {
    fn record(&self) -> usize {
        self.labels + IMAGE
    }

    /// The number of images in `bytes`.
    fn check(&self, path: &Path, bytes: &[u8]) -> Result<usize, DataError> {
        let record = self.record();
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(DataError::Size {
                path: path.to_owned(),
                expected: (bytes.len().div_ceil(record).max(1) * record) as u64,
                why: format!("whole records of {record}"),
                found: bytes.len() as u64,
                at_least: false,
            });
        }
        let labels = bytes.iter().skip(self.labels - 1).step_by(record);
        match labels
            .enumerate()
            .find(|(_, label)| usize::from(**label) >= self.classes)
        {
            None => Ok(bytes.len() / record),
            Some((index, &label)) => Err(DataError::Label {
                path: path.to_owned(),
                index,
                found: label.into(),
                classes: self.classes,
            }),
        }
    }

    /// The class names in the file, none unless it has one for every class.
    fn read_names(&self, path: &Path) -> Option<Vec<String>> {
        let text = std::fs::read_to_string(path).ok()?;
        let names: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect();
        (names.len() == self.classes).then_some(names)
    }
}

impl ImageSource for Cifar {
    fn len(&self) -> usize {
        self.len
    }

    fn shape(&self) -> [usize; 3] {
        [3, SIDE, SIDE]
    }

    fn label(&self, index: usize) -> i64 {
        self.record(index)[self.variant.labels - 1].into()
    }

    fn pixels<'a>(&'a self, index: usize, _: &'a mut Vec<u8>) -> Result<Pixels<'a>, DataError> {
        let data = &self.record(index)[self.variant.labels..];
        Ok(Pixels {
            data,
            channels: 3,
            height: SIDE,
            width: SIDE,
            interleaved: false,
        })
    }
}
