//! MNIST and Fashion-MNIST: four IDX files.

use std::path::{Path, PathBuf};

use crate::idx::Idx;
use crate::locate;
use crate::source::{ImageSource, Pixels};
use crate::{DataError, Part};

const CLASSES: usize = 10;

pub(crate) const LAYOUT: &str = "the folder should hold train-images-idx3-ubyte, \
    train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz";

pub(crate) const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// One part of an MNIST-like set.
#[derive(Debug)]
pub(crate) struct Mnist {
    images: Idx<3>,
    labels: Idx<1>,
}

impl Mnist {
    /// The part's files, found in `folder` or in one of `inside` within it.
    pub(crate) fn open(
        kind: &'static str,
        folder: &Path,
        inside: &[&str],
        part: Part,
    ) -> Result<Self, DataError> {
        locate::check_folder(folder, LAYOUT)?;
        let prefix = match part {
            Part::Train => "train",
            Part::Test => "t10k",
        };
        let find = |what: &str, dims: u8| -> Result<PathBuf, DataError> {
            let names: Vec<String> = ["-", "."]
                .iter()
                .flat_map(|dot| {
                    let name = format!("{prefix}-{what}{dot}idx{dims}-ubyte");
                    [format!("{name}.gz"), name].into_iter().rev()
                })
                .collect();
            locate::find(folder, inside, &names).ok_or_else(|| DataError::FileMissing {
                kind,
                folder: folder.to_owned(),
                missing: names[0].clone(),
                layout: LAYOUT,
            })
        };
        let (images_path, labels_path) = (find("images", 3)?, find("labels", 1)?);
        let labels = Idx::<1>::open(&labels_path, "IDX labels")?;
        let images = Idx::<3>::open(&images_path, "IDX images")?;
        let [count, height, width] = images.dims;
        if height == 0 || width == 0 {
            let (height, width) = (height.into(), width.into());
            return Err(DataError::ImageSize {
                path: images_path,
                height,
                width,
            });
        }
        if count != labels.dims[0] {
            return Err(DataError::CountMismatch {
                images_path,
                images: count as usize,
                labels_path,
                labels: labels.dims[0] as usize,
            });
        }
        if let Some(index) = labels
            .values()
            .iter()
            .position(|&l| usize::from(l) >= CLASSES)
        {
            let found = i64::from(labels.values()[index]);
            return Err(DataError::Label {
                path: labels_path,
                index,
                found,
                classes: CLASSES,
            });
        }
        Ok(Self { images, labels })
    }
}

impl ImageSource for Mnist {
    fn len(&self) -> usize {
        self.labels.values().len()
    }

    fn shape(&self) -> [usize; 3] {
        let [_, height, width] = self.images.dims;
        [1, height as usize, width as usize]
    }

    fn label(&self, index: usize) -> i64 {
        self.labels.values()[index].into()
    }

    fn pixels<'a>(&'a self, index: usize, _: &'a mut Vec<u8>) -> Result<Pixels<'a>, DataError> {
        let [channels, height, width] = self.shape();
        let size = height * width;
        let data = &self.images.values()[index * size..][..size];
        Ok(Pixels {
            data,
            channels,
            height,
            width,
            interleaved: false,
        })
    }
}
