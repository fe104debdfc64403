//! Files as shared byte slices.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::FormatError;

/// The contents of the file at `path`, mapped: pages are read when they are touched.
///
/// Directories and empty files are errors. The mapping stays valid as long as no other program
/// shortens the file in place; files written by this crate are replaced, never rewritten.
pub(crate) fn map_file(path: &Path) -> Result<Bytes, FormatError> {
    Ok(Mapping::open(path)?.bytes())
}

/// A mapped file whose pages can be given back before the mapping ends.
#[derive(Debug, Clone)]
pub(crate) struct Mapping(Arc<Mmap>);

struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping {
    /// The file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
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
        // SAFETY: the map is read-only. A file that another process truncates meanwhile is outside
        // of what any reader of mapped files can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self(Arc::new(map)))
    }

    /// All of the file.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::from_owner(Owner(self.0.clone()))
    }

    /// Takes the pages of `part` out of memory, where it is a part of this file; they are read
    /// again when they are touched again.
    pub(crate) fn release(&self, part: &[u8]) {
        #[cfg(unix)]
        {
            const PAGE: usize = 1 << 16;
            let Some(start) = part.as_ptr().addr().checked_sub(self.0.as_ptr().addr()) else {
                return;
            };
            let end = start.saturating_add(part.len());
            let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
            if end <= self.0.len() && first < last {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                // SAFETY: the map is shared and read-only, so that dropped pages come back from the
                // file with what they held. That it fails only means that memory stays in use.
                let _ = unsafe { self.0.unchecked_advise_range(advice, first, last - first) };
            }
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_hold_what_they_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let mapping = Mapping::open(&path).unwrap();
        let bytes = mapping.bytes();
        assert_eq!(bytes, content);
        mapping.release(&bytes[1000..900_000]);
        assert_eq!(bytes, content);
        // Memory that is not of the file stays untouched.
        let owned = content.clone();
        mapping.release(&owned);
        assert_eq!(owned, content);
    }
}
