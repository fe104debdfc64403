//! Finding the files of a data set below the folder that the user named.

use std::path::{Path, PathBuf};

use crate::DataError;

/// An error unless `folder` is a folder; `layout` says what it should hold.
pub(crate) fn check_folder(folder: &Path, layout: &'static str) -> Result<(), DataError> {
    match std::fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(DataError::NotAFolder {
            path: folder.to_owned(),
            layout,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(DataError::NotFound {
            path: folder.to_owned(),
            layout,
        }),
        Err(source) => Err(DataError::Io {
            path: folder.to_owned(),
            source,
        }),
    }
}

/// The first of `names` that exists in `folder` itself or in one of the folders `inside` it.
pub(crate) fn find(folder: &Path, inside: &[&str], names: &[String]) -> Option<PathBuf> {
    std::iter::once(folder.to_owned())
        .chain(inside.iter().map(|sub| folder.join(sub)))
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|path| path.exists())
}
