//! A data set opened: so many items, each with its inputs and, mostly, its class.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::cifar::{CIFAR10, CIFAR100, Cifar};
use crate::folder::Folder;
use crate::frame::Framer;
use crate::mnist::{FASHION_CLASSES, Mnist};
use crate::rng::Rng;
use crate::shapes::Shapes;
use crate::source::{Framed, ImageSize, ImageSource};
use crate::tensors::TensorFile;
use crate::{DataError, DataSpec, Split};

pub(crate) enum Items {
    Images(Box<dyn ImageSource>),
    Tensors(TensorFile),
}

/// Which of the stored items, in which order.
#[derive(Debug, Clone)]
enum Selection {
    Range(usize, usize),
    List(Arc<[usize]>),
}

impl Selection {
    fn len(&self) -> usize {
        match self {
            Self::Range(start, end) => end - start,
            Self::List(items) => items.len(),
        }
    }

    fn get(&self, index: usize) -> usize {
        match self {
            Self::Range(start, _) => start + index,
            Self::List(items) => items[index],
        }
    }
}

/// An opened data set or a part of one. Copies share the data.
#[derive(Clone)]
pub struct Dataset {
    spec: DataSpec,
    split: Split,
    items: Arc<Items>,
    selection: Selection,
    classes: Option<usize>,
    class_names: Option<Arc<[String]>>,
    labelled: bool,
    own_parts: bool,
}

/// One image as it is fed, before normalisation: rows of pixels, channels side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Channels, 1 or 3.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The bytes.
    pub data: Vec<u8>,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Dataset({} {}, {} items)",
            self.spec,
            self.split,
            self.len()
        )
    }
}

impl Dataset {
    /// The part of the data set that `split` selects, images brought to `size`.
    pub fn open(spec: &DataSpec, split: &Split, size: ImageSize) -> Result<Self, DataError> {
        let part = split.part();
        let names = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
        let mut own_parts = true;
        let (items, classes, class_names): (_, _, Option<Vec<String>>) = match spec {
            DataSpec::Mnist(folder) => {
                let inside = ["mnist", "MNIST/raw", "raw"];
                let set = Mnist::open("mnist", folder, &inside, part)?;
                let digits = (0..10).map(|d| d.to_string()).collect();
                (
                    Items::Images(Framed::boxed(set, size)),
                    Some(10),
                    Some(digits),
                )
            }
            DataSpec::FashionMnist(folder) => {
                let inside = ["fashion-mnist", "FashionMNIST/raw", "raw"];
                let set = Mnist::open("fashion-mnist", folder, &inside, part)?;
                (
                    Items::Images(Framed::boxed(set, size)),
                    Some(10),
                    names(&FASHION_CLASSES),
                )
            }
            DataSpec::Cifar10(folder) | DataSpec::Cifar100(folder) => {
                let ten = matches!(spec, DataSpec::Cifar10(_));
                let variant = if ten { &CIFAR10 } else { &CIFAR100 };
                let mut set = Cifar::open(variant, folder, part)?;
                let names = set.class_names.take();
                let classes = set.classes();
                (
                    Items::Images(Framed::boxed(set, size)),
                    Some(classes),
                    names,
                )
            }
            DataSpec::Images(folder) => {
                let mut set = Folder::open(folder, part, size)?;
                own_parts = set.parts;
                let names = std::mem::take(&mut set.class_names);
                (Items::Images(Box::new(set)), Some(names.len()), Some(names))
            }
            DataSpec::Tensors(file) => {
                own_parts = false;
                (Items::Tensors(TensorFile::open(file)?), None, None)
            }
            DataSpec::Shapes { seed } => {
                let set = Shapes::new(*seed, part);
                (
                    Items::Images(Framed::boxed(set, size)),
                    Some(10),
                    names(&Shapes::CLASSES),
                )
            }
        };
        let (len, labelled) = match &items {
            Items::Images(images) => (images.len(), true),
            Items::Tensors(tensors) => (tensors.len(), tensors.labels().is_some()),
        };
        let range = split.range(len)?;
        Ok(Self {
            spec: spec.clone(),
            split: *split,
            items: Arc::new(items),
            selection: Selection::Range(range.start, range.end),
            classes,
            class_names: class_names.map(Into::into),
            labelled,
            own_parts,
        })
    }

    /// What was opened.
    pub fn spec(&self) -> &DataSpec {
        &self.spec
    }

    /// The split that was opened.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The number of items, at least one.
    pub fn len(&self) -> usize {
        self.selection.len()
    }

    /// Whether there are no items, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of classes; none for tensor files, which do not say.
    pub fn classes(&self) -> Option<usize> {
        self.classes
    }

    /// The names of the classes, where they are known.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// Whether items have labels.
    pub fn labelled(&self) -> bool {
        self.labelled
    }

    /// Whether `train` and `test` are different items. In a tensor file and in an image folder
    /// without `train` and `test` both names mean the whole.
    pub fn has_own_parts(&self) -> bool {
        self.own_parts
    }

    /// Whether items are images, to which normalisation and augmentation apply.
    pub fn is_images(&self) -> bool {
        matches!(*self.items, Items::Images(_))
    }

    /// Name and item shape of every input; an image is one input without a name, of channels,
    /// height and width.
    pub fn inputs(&self) -> Vec<(Option<String>, Vec<usize>)> {
        match &*self.items {
            Items::Images(images) => vec![(None, images.shape().to_vec())],
            Items::Tensors(tensors) => tensors
                .inputs()
                .map(|(n, s)| (Some(n.to_string()), s.to_vec()))
                .collect(),
        }
    }

    /// The label of item `index`; none if there are no labels or no such item.
    pub fn label(&self, index: usize) -> Option<i64> {
        (self.labelled && index < self.len())
            .then(|| self.stored_label(index))
            .flatten()
    }

    fn stored_label(&self, index: usize) -> Option<i64> {
        let stored = self.selection.get(index);
        match &*self.items {
            Items::Images(images) => Some(images.label(stored)),
            Items::Tensors(tensors) => tensors.labels().map(|labels| labels[stored]),
        }
    }

    /// At most `n` items, spread evenly over the whole, so that those of a set sorted by class
    /// still show every class.
    pub fn limit(&self, n: usize) -> Result<Self, DataError> {
        let len = self.len();
        if n == 0 {
            return Err(DataError::Empty {
                what: "a limit of 0".into(),
                len,
            });
        }
        if n >= len {
            return Ok(self.clone());
        }
        Ok(self.pick((0..n).map(|i| (i as u128 * len as u128 / n as u128) as usize)))
    }

    /// `n` items without labels to calibrate on, fewer if there are fewer: the set is cut into `n`
    /// even stretches and the seed draws one item from each.
    pub fn calibration(&self, n: usize, seed: u64) -> Result<Self, DataError> {
        let len = self.len();
        if n == 0 {
            return Err(DataError::Empty {
                what: "a calibration sample of 0".into(),
                len,
            });
        }
        let n = n.min(len);
        let at = |i: usize| (i as u128 * len as u128 / n as u128) as usize;
        let mut rng = Rng::keyed(&[0xca11_b8a7e, seed]);
        let picks = (0..n).map(|i| at(i) + rng.below((at(i + 1) - at(i)) as u64) as usize);
        Ok(Self {
            labelled: false,
            ..self.pick(picks)
        })
    }

    /// The set in two parts, of which the second has about `n` items, at most half: the set is cut into
    /// as many even stretches and the seed draws one item from each.
    pub fn hold_back(&self, n: usize, seed: u64) -> Result<(Self, Self), DataError> {
        let len = self.len();
        let n = n.min(len / 2);
        if n == 0 {
            return Err(DataError::Empty {
                what: "a part held back".into(),
                len,
            });
        }
        let at = |i: usize| (i as u128 * len as u128 / n as u128) as usize;
        let mut rng = Rng::keyed(&[0x4e1d_bac4, seed]);
        let held: Vec<usize> = (0..n)
            .map(|i| at(i) + rng.below((at(i + 1) - at(i)) as u64) as usize)
            .collect();
        let mut next = held.iter().copied().peekable();
        let rest = (0..len).filter(|&i| next.next_if_eq(&i).is_none());
        Ok((self.pick(rest), self.pick(held.iter().copied())))
    }

    /// The items of these numbers, in this order; an error where there is no such item.
    pub fn select(&self, items: &[usize]) -> Result<Self, DataError> {
        let len = self.len();
        match items.iter().find(|&&index| index >= len) {
            Some(&index) => Err(DataError::Index { index, len }),
            None => Ok(self.pick(items.iter().copied())),
        }
    }

    /// The items that none of the other sets has, in their order; an error where nothing is left. A set
    /// opened from elsewhere, or from another part, has none of them.
    pub fn without(&self, others: &[&Self]) -> Result<Self, DataError> {
        let same = |other: &&&Self| {
            let part = |set: &Self| set.own_parts.then(|| set.split.part());
            other.spec == self.spec && part(other) == part(self)
        };
        let taken: HashSet<usize> = (others.iter().filter(same))
            .flat_map(|other| (0..other.len()).map(|i| other.selection.get(i)))
            .collect();
        let left: Vec<usize> = (0..self.len())
            .filter(|&i| !taken.contains(&self.selection.get(i)))
            .collect();
        match left.is_empty() {
            true => Err(DataError::Empty {
                what: format!("what is left of {} {}", self.spec, self.split),
                len: self.len(),
            }),
            false => Ok(self.pick(left.into_iter())),
        }
    }

    fn pick(&self, items: impl Iterator<Item = usize>) -> Self {
        let items = items.map(|i| self.selection.get(i)).collect();
        Self {
            selection: Selection::List(items),
            ..self.clone()
        }
    }

    /// Image `index` as it is fed, before normalisation.
    pub fn image(&self, index: usize) -> Result<Image, DataError> {
        let images = self.images("a single image")?;
        if index >= self.len() {
            return Err(DataError::Index {
                index,
                len: self.len(),
            });
        }
        let (mut scratch, mut framer) = (Vec::new(), Framer::default());
        let stored = self.selection.get(index);
        let pixels = images.pixels(stored, &mut scratch)?;
        let (pixels, window) = match images.size() {
            None => (pixels, pixels.whole()),
            Some(size) => framer
                .centred(&pixels, size)
                .map_err(|error| error.of(images, stored))?,
        };
        let channels = pixels.channels;
        let (plane, step) = if pixels.interleaved {
            (1, channels)
        } else {
            (pixels.height * pixels.width, 1)
        };
        let mut data = Vec::with_capacity(window.height * window.width * channels);
        for y in 0..window.height {
            for x in 0..window.width {
                let row = y + window.top as usize;
                let at = (row * pixels.width + x + window.left as usize) * step;
                data.extend((0..channels).map(|c| pixels.data[c * plane + at]));
            }
        }
        Ok(Image {
            channels,
            height: window.height,
            width: window.width,
            data,
        })
    }

    pub(crate) fn images(&self, what: &'static str) -> Result<&dyn ImageSource, DataError> {
        match &*self.items {
            Items::Images(images) => Ok(images.as_ref()),
            Items::Tensors(_) => Err(DataError::NeedsImages {
                what,
                data: self.spec.to_string(),
            }),
        }
    }

    pub(crate) fn items(&self) -> &Items {
        &self.items
    }

    /// The stored number of item `index`.
    pub(crate) fn stored(&self, index: usize) -> usize {
        self.selection.get(index)
    }
}
