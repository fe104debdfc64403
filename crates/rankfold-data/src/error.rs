//! What can be wrong with a data set, and what to do about it.

use std::path::PathBuf;

/// An error of this crate. `Display` says what was expected and found; [`DataError::hint`] says
/// what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The text before the colon names no kind of data set.
    #[error("unknown kind of data `{found}`, expected one of {}", crate::spec::KINDS.join(", "))]
    UnknownKind {
        /// What stood before the colon.
        found: String,
        /// The kind that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A kind that lives on disk was given without its path.
    #[error("data kind `{kind}` needs a path, as in `{kind}:PATH`")]
    MissingPath {
        /// The kind.
        kind: &'static str,
    },
    /// The seed of the synthetic set is no number.
    #[error("expected a whole number as the seed in `shapes:SEED`, found `{found}`")]
    Seed {
        /// What stood after the colon.
        found: String,
    },
    /// A split that cannot be read.
    #[error("cannot read the split `{text}`: expected {expected}")]
    SplitSyntax {
        /// The whole split.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A slice reaches beyond the data.
    #[error("split `{split}` reaches beyond the data, which has {len} items")]
    SplitOutOfRange {
        /// The split.
        split: String,
        /// How many items there are.
        len: usize,
    },
    /// A slice, limit or sample that leaves nothing.
    #[error("`{what}` leaves no item of the {len} that there are")]
    Empty {
        /// The split or limit.
        what: String,
        /// How many items there are.
        len: usize,
    },
    /// A file or folder that does not exist.
    #[error("{path}: no such file or folder", path = .path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
        /// How the data set is laid out on disk.
        layout: &'static str,
    },
    /// A file where a folder was expected.
    #[error("{path}: expected a folder, found a file", path = .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
        /// How the data set is laid out on disk.
        layout: &'static str,
    },
    /// A folder where a file was expected.
    #[error("{path}: expected a file, found a folder or a special file", path = .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A folder without the files of the data set.
    #[error("{folder}: holds no {kind} data: `{missing}` is not there", folder = .folder.display())]
    FileMissing {
        /// The kind of data.
        kind: &'static str,
        /// The folder.
        folder: PathBuf,
        /// The file that was looked for.
        missing: String,
        /// How the data set is laid out on disk.
        layout: &'static str,
    },
    /// The operating system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file of another format.
    #[error("{path}: expected the magic number {expected:#010x} of {what}, found {found:#010x}", path = .path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        what: &'static str,
        /// The magic number it should begin with.
        expected: u32,
        /// The number it begins with.
        found: u32,
    },
    /// A file that is shorter or longer than its header or its format says.
    #[error("{path}: expected {expected} bytes ({why}), found {}{found}", if *.at_least { "at least " } else { "" }, path = .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The bytes that are needed.
        expected: u64,
        /// Where that number comes from.
        why: String,
        /// The bytes that are there.
        found: u64,
        /// Reading stopped at `found`, there may be more.
        at_least: bool,
    },
    /// Images of a size that nothing can be done with.
    #[error("{path}: cannot use images of {height}×{width} pixels", path = .path.display())]
    ImageSize {
        /// The file.
        path: PathBuf,
        /// Rows.
        height: u64,
        /// Columns.
        width: u64,
    },
    /// As many labels as images are needed.
    #[error("{images} images in {images_path} but {labels} labels in {labels_path}",
        images_path = .images_path.display(), labels_path = .labels_path.display())]
    CountMismatch {
        /// File of the images.
        images_path: PathBuf,
        /// How many images it has.
        images: usize,
        /// File of the labels.
        labels_path: PathBuf,
        /// How many labels it has.
        labels: usize,
    },
    /// A label that names no class.
    #[error("{path}: label {found} of item {index} is not below the {classes} classes", path = .path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// Number of the item in the file.
        index: usize,
        /// The label.
        found: i64,
        /// How many classes there are.
        classes: usize,
    },
    /// A label below 0.
    #[error("{path}: label {found} of item {index} is negative", path = .path.display())]
    NegativeLabel {
        /// The file.
        path: PathBuf,
        /// Number of the item in the file.
        index: usize,
        /// The label.
        found: i64,
    },
    /// An image that cannot be decoded.
    #[error("{path}: cannot decode the image: {source}", path = .path.display())]
    Decode {
        /// The image.
        path: PathBuf,
        /// The reason.
        source: image::ImageError,
    },
    /// An image that cannot be resized.
    #[error("{path}: cannot resize the image: {source}", path = .path.display())]
    Resize {
        /// The image.
        path: PathBuf,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An image of a format that is not read.
    #[error("{path}: expected JPEG or PNG, found another image format", path = .path.display())]
    ImageFormat {
        /// The image.
        path: PathBuf,
    },
    /// A folder without class folders.
    #[error("{path}: expected one folder per class, found none", path = .path.display())]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// A folder whose folders hold no images, so that they are no classes.
    #[error("{path}: none of the folders in it holds a JPEG or PNG image", path = .path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
    },
    /// A class folder without images.
    #[error("{path}: class folder without a JPEG or PNG image", path = .path.display())]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
    },
    /// Training and test folders that do not have the same classes.
    #[error("{path}: its classes differ from those of {other}: `{class}` is in only one of them",
        path = .path.display(), other = .other.display())]
    ClassesDiffer {
        /// One folder.
        path: PathBuf,
        /// The other folder.
        other: PathBuf,
        /// First class by name that only one of them has.
        class: String,
    },
    /// A file that is no safetensors.
    #[error("{path}: not a readable safetensors file: {source}", path = .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: safetensors::SafeTensorError,
    },
    /// A tensor file without an input.
    #[error("{path}: holds no input tensor", path = .path.display())]
    NoInputs {
        /// The file.
        path: PathBuf,
    },
    /// A tensor of a type that is not read.
    #[error("{path}: tensor `{tensor}`: expected {expected}, found {found}", path = .path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The types that would do.
        expected: &'static str,
        /// Its type.
        found: String,
    },
    /// A tensor that does not have as many items as the others.
    #[error("{path}: tensor `{tensor}` has shape {found:?}, expected {expected}", path = .path.display())]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that is needed.
        expected: String,
    },
    /// A mean or standard deviation that cannot be used.
    #[error(
        "cannot normalise by mean {mean:?} and std {std:?}: expected as many of each, finite, every std above 0"
    )]
    Normalization {
        /// The means.
        mean: Vec<f32>,
        /// The standard deviations.
        std: Vec<f32>,
    },
    /// A normalisation for another number of channels.
    #[error("normalisation for {found} channels, but the images have {expected}")]
    Channels {
        /// Channels of the images.
        expected: usize,
        /// Channels of the normalisation.
        found: usize,
    },
    /// An image size that cannot be.
    #[error("cannot crop {crop}×{crop} pixels from an image whose shorter side is {resize}")]
    Crop {
        /// Shorter side after resizing.
        resize: usize,
        /// Side of the crop.
        crop: usize,
    },
    /// A batch size that cannot be.
    #[error("batch of {batch} items, expected 1 to {len}")]
    BatchSize {
        /// The batch size.
        batch: usize,
        /// The items that there are.
        len: usize,
    },
    /// Augmentation or image access on data that are no images.
    #[error("{what} needs images, but `{data}` holds tensors")]
    NeedsImages {
        /// What was asked for.
        what: &'static str,
        /// The data set.
        data: String,
    },
    /// Parameters of the augmentation that cannot be.
    #[error("cannot augment: {what} is {found}, expected {expected}")]
    Augment {
        /// The parameter.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// An item number beyond the data.
    #[error("item {index} asked for, but the data have {len}")]
    Index {
        /// The number asked for.
        index: usize,
        /// The items that there are.
        len: usize,
    },
    /// The threads that decode could not be started.
    #[error("cannot start {threads} decoding threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The thread that decodes ended without having delivered everything.
    #[error("the decoding thread ended after {delivered} of {expected} batches")]
    WorkerLost {
        /// Batches delivered.
        delivered: usize,
        /// Batches due.
        expected: usize,
    },
}

/// What an error is about, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The user asked for something that cannot be.
    Usage,
    /// Data that are not there.
    Missing,
    /// Data that are there and cannot be used.
    BadFile,
    /// A failure of the machine or of this program.
    Internal,
}

impl DataError {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        use DataError as E;
        match self {
            E::UnknownKind { .. }
            | E::MissingPath { .. }
            | E::Seed { .. }
            | E::SplitSyntax { .. }
            | E::SplitOutOfRange { .. }
            | E::Empty { .. }
            | E::Normalization { .. }
            | E::Channels { .. }
            | E::Crop { .. }
            | E::BatchSize { .. }
            | E::NeedsImages { .. }
            | E::Augment { .. }
            | E::Index { .. } => ErrorKind::Usage,
            E::NotFound { .. } | E::NotAFolder { .. } | E::FileMissing { .. } => ErrorKind::Missing,
            E::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::Missing
            }
            E::Io { source, .. } if damaged(source) => ErrorKind::BadFile,
            E::NotAFile { .. }
            | E::Magic { .. }
            | E::Size { .. }
            | E::ImageSize { .. }
            | E::CountMismatch { .. }
            | E::Label { .. }
            | E::NegativeLabel { .. }
            | E::Decode { .. }
            | E::Resize { .. }
            | E::ImageFormat { .. }
            | E::NoClasses { .. }
            | E::NoImages { .. }
            | E::EmptyClass { .. }
            | E::ClassesDiffer { .. }
            | E::Safetensors { .. }
            | E::NoInputs { .. }
            | E::Dtype { .. }
            | E::TensorShape { .. } => ErrorKind::BadFile,
            E::Io { .. } | E::Threads { .. } | E::WorkerLost { .. } => ErrorKind::Internal,
        }
    }

    /// What the user can do, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        use DataError as E;
        Some(match self {
            E::UnknownKind { found, .. } if found.ends_with(".safetensors") => {
                format!("did you mean `tensors:{found}`?")
            }
            E::UnknownKind {
                nearest: Some(kind),
                ..
            } => format!("did you mean `{kind}`?"),
            E::UnknownKind { nearest: None, .. } => {
                "data are named as KIND:PATH, for instance cifar10:data, or just `shapes`".into()
            }
            E::SplitSyntax { .. } => {
                "a split is `train` or `test`, with a slice if wanted: test[:5000], test[5000:], \
                 train[1000:2000], test[-100:], train[:10%]"
                    .into()
            }
            E::Empty { .. } => {
                "ask for fewer inputs, for another part of them, or give more data".into()
            }
            E::SplitOutOfRange { len, .. } => {
                format!("positions go from 0 to {len}, or from -{len} when counted from the end")
            }
            E::NotFound { layout, .. }
            | E::NotAFolder { layout, .. }
            | E::FileMissing { layout, .. } => (*layout).to_owned(),
            E::Size { .. } => "the file is cut short or damaged; get it again".into(),
            E::Io { source, .. } if damaged(source) => {
                "the file is cut short or damaged; get it again".into()
            }
            E::CountMismatch { .. } => {
                "images and labels must belong to the same part (train or t10k) of one data set"
                    .into()
            }
            E::Decode { .. } => "replace the file or remove it from its class folder".into(),
            E::ImageFormat { .. } => "convert it to PNG, or remove it".into(),
            E::NoClasses { .. } | E::NoImages { .. } => crate::folder::LAYOUT.into(),
            E::EmptyClass { .. } => {
                "add images to it, or remove the folder so that the classes are numbered right"
                    .into()
            }
            E::ClassesDiffer { .. } => {
                "labels are numbered by the sorted names of the class folders, so both parts need \
                 the same ones"
                    .into()
            }
            E::Safetensors { .. } => {
                "from PyTorch: safetensors.torch.save_file({\"x\": inputs, \"labels\": labels}, \
                 \"inputs.safetensors\")"
                    .into()
            }
            E::NoInputs { .. } | E::Dtype { .. } | E::TensorShape { .. } => {
                crate::tensors::LAYOUT.into()
            }
            E::Channels { .. } => {
                "give --mean and --std with one value per channel, or a single one for all".into()
            }
            _ => return None,
        })
    }
}

/// Whether the bytes are wrong, rather than the machine.
fn damaged(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}
