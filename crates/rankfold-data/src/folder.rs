//! Image folders: one folder of JPEG and PNG files per class.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader};

use crate::locate;
use crate::source::{ImageSize, ImageSource, Pixels};
use crate::{DataError, Part};

pub(crate) const LAYOUT: &str = "the folder should hold one folder of JPEG or PNG images per \
    class, or folders train and test (or val) that do";

const READ: [&str; 3] = ["jpg", "jpeg", "png"];
const NOT_READ: [&str; 9] = [
    "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "avif", "heic",
];

/// The images of one part, decoded when they are asked for.
#[derive(Debug)]
pub(crate) struct Folder {
    size: ImageSize,
    files: Vec<(PathBuf, u32)>,
    pub(crate) class_names: Vec<String>,
    /// Whether training and test images lie in folders of their own.
    pub(crate) parts: bool,
}

impl Folder {
    /// The part's images. Classes are numbered by their folders' sorted names, images sorted by
    /// path within their class. A folder without `train` and `test`/`val` in it is one part that
    /// answers to both names.
    pub(crate) fn open(folder: &Path, part: Part, size: ImageSize) -> Result<Self, DataError> {
        locate::check_folder(folder, LAYOUT)?;
        let sub = |name: &str| Some(folder.join(name)).filter(|path| path.is_dir());
        let (train, test) = (sub("train"), sub("test").or_else(|| sub("val")));
        let parts = train.is_some() && test.is_some();
        let (root, other) = match (train, test, part) {
            (Some(train), Some(test), Part::Train) => (train, Some(test)),
            (Some(train), Some(test), Part::Test) => (test, Some(train)),
            _ => (folder.to_owned(), None),
        };

        let classes = class_folders(&root)?;
        if let Some(other) = other {
            same_classes(&root, &classes, other)?;
        }
        let mut files = Vec::new();
        let mut class_names = Vec::with_capacity(classes.len());
        let mut empty = None;
        for (label, (name, path)) in classes.into_iter().enumerate() {
            let before = files.len();
            collect(&path, label as u32, &mut files)?;
            if files.len() == before {
                empty.get_or_insert(path);
            }
            class_names.push(name);
        }
        match empty {
            Some(_) if files.is_empty() => return Err(DataError::NoImages { path: root }),
            Some(path) => return Err(DataError::EmptyClass { path }),
            None => {}
        }
        Ok(Self {
            size,
            files,
            class_names,
            parts,
        })
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn class_folders(root: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let folders: Vec<_> = entries(root)?
        .into_iter()
        .filter(|path| path.is_dir())
        .filter_map(|path| Some((name(&path)?, path)))
        .collect();
    if folders.is_empty() {
        return Err(DataError::NoClasses {
            path: root.to_owned(),
        });
    }
    Ok(folders)
}

fn same_classes(
    root: &Path,
    classes: &[(String, PathBuf)],
    other: PathBuf,
) -> Result<(), DataError> {
    let others = class_folders(&other)?;
    let lacks = |set: &[(String, PathBuf)], name: &str| !set.iter().any(|(n, _)| n == name);
    let differing = classes
        .iter()
        .find(|(name, _)| lacks(&others, name))
        .or_else(|| others.iter().find(|(name, _)| lacks(classes, name)));
    match differing {
        None => Ok(()),
        Some((class, _)) => Err(DataError::ClassesDiffer {
            path: root.to_owned(),
            other,
            class: class.clone(),
        }),
    }
}

/// Appends the images in `folder` and the folders in it, in the order of their paths.
fn collect(folder: &Path, label: u32, to: &mut Vec<(PathBuf, u32)>) -> Result<(), DataError> {
    for path in entries(folder)? {
        if path.is_dir() {
            collect(&path, label, to)?;
            continue;
        }
        let Some(extension) = path.extension() else {
            continue;
        };
        let extension = extension.to_string_lossy().to_lowercase();
        if READ.contains(&extension.as_str()) {
            to.push((path, label));
        } else if NOT_READ.contains(&extension.as_str()) {
            return Err(DataError::ImageFormat { path });
        }
    }
    Ok(())
}

/// The image at `path` as RGB; alpha is dropped and orientation tags are ignored, as in torchvision.
fn decode(path: &Path) -> Result<image::RgbImage, DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(io)?;
    let reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(io)?;
    match reader.decode() {
        Ok(DynamicImage::ImageRgb8(image)) => Ok(image),
        Ok(other) => Ok(other.to_rgb8()),
        Err(source) => Err(DataError::Decode {
            path: path.to_owned(),
            source,
        }),
    }
}

impl ImageSource for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn shape(&self) -> [usize; 3] {
        [3, self.size.crop(), self.size.crop()]
    }

    fn size(&self) -> Option<ImageSize> {
        Some(self.size)
    }

    fn label(&self, index: usize) -> i64 {
        self.files[index].1.into()
    }

    fn pixels<'a>(
        &'a self,
        index: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Pixels<'a>, DataError> {
        let image = decode(&self.files[index].0)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        *scratch = image.into_raw();
        Ok(Pixels {
            data: scratch,
            channels: 3,
            height,
            width,
            interleaved: true,
        })
    }

    fn path(&self, index: usize) -> Option<&Path> {
        Some(&self.files[index].0)
    }
}
