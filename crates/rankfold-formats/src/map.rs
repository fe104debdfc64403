//! Files as shared byte slices.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::FormatError;

/// The contents of the file at `path`, mapped: pages are read when they are touched.
///
/// Directories and empty files are errors. The mapping stays valid as long as no other program
/// shortens the file in place; files written by this crate are replaced, never rewritten.
pub fn map_file(path: &Path) -> Result<Bytes, FormatError> {
    let io = |source| FormatError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if meta.is_dir() {
        return Err(FormatError::Directory {
            path: path.to_owned(),
        });
    }
    if meta.len() == 0 {
        return Err(FormatError::Empty {
            path: path.to_owned(),
        });
    }
    // SAFETY: the map is read-only and private to the returned value. A file that another process
    // truncates meanwhile is outside of what any reader of mapped files can guard against.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Bytes::from_owner(map))
}
