//! Zip archives over a mapped file: stored entries are slices of it.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::error::FormatError;

/// Deflated entries may grow to this many bytes together whatever their ratio …
const GROWTH_FREE: u64 = 16 << 20;
/// … and beyond it by this factor at most; deflate itself ends at about 1032.
const GROWTH_LIMIT: u64 = 100;

/// What makes an archive unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// The archive's directory cannot be read.
    #[error("damaged zip archive: {0}")]
    Damaged(#[source] ZipError),
    /// An entry's name leads out of the archive.
    #[error("entry `{entry}` climbs out of the archive")]
    Climbs {
        /// The entry.
        entry: String,
    },
    /// Several entries of one name.
    #[error("several entries have the same name")]
    DuplicateNames,
    /// Entries that share bytes.
    #[error("entries overlap")]
    Overlap,
    /// An entry reaches past the end of the file.
    #[error("entry `{entry}` ends at byte {end}, but the file has {available}: it is truncated")]
    PastEnd {
        /// The entry.
        entry: String,
        /// Where it should end.
        end: u64,
        /// Bytes that the file has.
        available: u64,
    },
    /// Compressed entries that grow beyond measure.
    #[error(
        "the compressed entries up to `{entry}` would grow from {compressed} to {size} bytes: a zip bomb"
    )]
    Bomb {
        /// The entry with which it is too much.
        entry: String,
        /// Bytes in the file, of all compressed entries up to this one.
        compressed: u64,
        /// Bytes declared for them.
        size: u64,
    },
    /// An entry whose bytes do not decompress to what the directory declares.
    #[error("entry `{entry}` is damaged: expected {expected} bytes, found {got}")]
    Size {
        /// The entry.
        entry: String,
        /// Bytes declared.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// A compression that no writer of model files uses.
    #[error("entry `{entry}` is compressed or encrypted in an unknown way")]
    Compression {
        /// The entry.
        entry: String,
    },
    /// An entry that should be there.
    #[error("entry `{entry}` is missing")]
    Missing {
        /// The entry.
        entry: String,
    },
}

#[derive(Debug, Clone)]
struct Entry {
    start: u64,
    compressed: u64,
    size: u64,
    stored: bool,
    index: usize,
}

/// A zip archive, its directory checked: no name twice, none that climbs out, no overlaps.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    map: Bytes,
    zip: ZipArchive<Cursor<Bytes>>,
    names: Vec<String>,
    entries: HashMap<String, Entry>,
    root: String,
}

impl Archive {
    /// The archive in the file at `path`.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::new(path, crate::map::map_file(path)?)
    }

    /// The archive in `map`, the contents of the file at `path`.
    pub fn new(path: &Path, map: Bytes) -> Result<Self, FormatError> {
        let fault = |fault| FormatError::Archive {
            path: path.to_owned(),
            fault,
        };
        let damaged = |e| fault(ArchiveFault::Damaged(e));
        // Model files have nothing before the archive. Left to find that out, the reader takes the
        // second entry for the first where a name has just the length of PyTorch's zip64 records.
        let config = Config {
            archive_offset: ArchiveOffset::Known(0),
        };
        let reader = Cursor::new(map.clone());
        let mut zip = ZipArchive::with_config(config, reader).map_err(damaged)?;
        if zip.has_duplicate_names() {
            return Err(fault(ArchiveFault::DuplicateNames));
        }
        let mut names = Vec::with_capacity(zip.len());
        let mut entries = HashMap::with_capacity(zip.len());
        let (mut deflated, mut inflated) = (0u64, 0u64);
        for index in 0..zip.len() {
            let file = zip.by_index_raw(index).map_err(damaged)?;
            let name = file.name().map_err(damaged)?.into_owned();
            if climbs(&name) {
                return Err(fault(ArchiveFault::Climbs { entry: name }));
            }
            let stored = match file.compression() {
                CompressionMethod::Stored => true,
                CompressionMethod::Deflated => false,
                _ => return Err(fault(ArchiveFault::Compression { entry: name })),
            };
            if file.encrypted() {
                return Err(fault(ArchiveFault::Compression { entry: name }));
            }
            let start = file.data_start().unwrap_or(u64::MAX);
            let compressed = file.compressed_size();
            let end = start.saturating_add(compressed);
            if end > map.len() as u64 {
                return Err(fault(ArchiveFault::PastEnd {
                    entry: name,
                    end,
                    available: map.len() as u64,
                }));
            }
            let size = file.size();
            if stored && size != compressed {
                return Err(fault(ArchiveFault::Size {
                    entry: name,
                    expected: size,
                    got: compressed,
                }));
            }
            if !stored {
                deflated = deflated.saturating_add(compressed);
                inflated = inflated.saturating_add(size);
            }
            if inflated > GROWTH_FREE && inflated / GROWTH_LIMIT > deflated {
                return Err(fault(ArchiveFault::Bomb {
                    entry: name,
                    compressed: deflated,
                    size: inflated,
                }));
            }
            let entry = Entry {
                start,
                compressed,
                size,
                stored,
                index,
            };
            entries.insert(name.clone(), entry);
            names.push(name);
        }
        if zip.has_overlapping_entries().map_err(damaged)? {
            return Err(fault(ArchiveFault::Overlap));
        }
        let root = common_root(&names);
        Ok(Self {
            path: path.to_owned(),
            map,
            zip,
            names,
            entries,
            root,
        })
    }

    /// The file that holds the archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &Bytes {
        &self.map
    }

    /// The folder that all entries are in, with its `/`; empty where there is none.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Full names of the entries in the order of the directory.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The full name of the entry `name` under the archive's root folder, if there is one.
    pub fn find(&self, name: &str) -> Option<&str> {
        let full = format!("{}{name}", self.root);
        self.entries.get_key_value(&full).map(|(k, _)| k.as_str())
    }

    /// The contents of `name` under the archive's root folder: a slice of the mapped file where
    /// the entry is stored, inflated where it is compressed.
    pub fn read(&self, name: &str) -> Result<Bytes, FormatError> {
        let full = format!("{}{name}", self.root);
        let Some(entry) = self.entries.get(&full) else {
            return Err(self.fault(ArchiveFault::Missing { entry: full }));
        };
        if entry.stored {
            let (start, end) = (entry.start as usize, entry.start + entry.compressed);
            return Ok(self.map.slice(start..end as usize));
        }
        self.inflate(full, entry)
    }

    fn inflate(&self, name: String, entry: &Entry) -> Result<Bytes, FormatError> {
        let damaged = |e| self.fault(ArchiveFault::Damaged(e));
        let mut zip = self.zip.clone();
        let file = zip.by_index(entry.index).map_err(damaged)?;
        let mut data = Vec::with_capacity(entry.size.min(GROWTH_FREE) as usize);
        let result = file
            .take(entry.size.saturating_add(1))
            .read_to_end(&mut data);
        result.map_err(|e| damaged(ZipError::Io(e)))?;
        if data.len() as u64 != entry.size {
            return Err(self.fault(ArchiveFault::Size {
                entry: name,
                expected: entry.size,
                got: data.len() as u64,
            }));
        }
        Ok(data.into())
    }

    fn fault(&self, fault: ArchiveFault) -> FormatError {
        FormatError::Archive {
            path: self.path.clone(),
            fault,
        }
    }
}

fn climbs(name: &str) -> bool {
    name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|part| part == "..")
}

fn common_root(names: &[String]) -> String {
    let Some(root) = names.first().and_then(|n| n.split_inclusive('/').next()) else {
        return String::new();
    };
    if root.ends_with('/') && names.iter().all(|n| n.starts_with(root)) {
        root.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    fn zip_of(entries: &[(&str, &[u8], CompressionMethod)]) -> Bytes {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, data, method) in entries {
            let options = SimpleFileOptions::default().compression_method(*method);
            writer.start_file(*name, options).unwrap();
            writer.write_all(data).unwrap();
        }
        writer.finish().unwrap().into_inner().into()
    }

    fn fault(bytes: Bytes) -> ArchiveFault {
        match Archive::new(Path::new("m.pt"), bytes).unwrap_err() {
            FormatError::Archive { fault, .. } => fault,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn stored_entries_are_slices_and_deflated_ones_are_inflated() {
        let bytes = zip_of(&[
            ("m/a", b"stored", CompressionMethod::Stored),
            ("m/b", &[7; 1000], CompressionMethod::Deflated),
        ]);
        let archive = Archive::new(Path::new("m.pt"), bytes.clone()).unwrap();
        let a = archive.read("a").unwrap();
        assert_eq!(&a[..], b"stored");
        assert!(bytes.as_ptr_range().contains(&a.as_ptr()));
        assert_eq!(&archive.read("b").unwrap()[..], &[7; 1000]);
        assert_eq!(archive.find("a"), Some("m/a"));
        assert!(archive.read("c").is_err());
    }

    #[test]
    fn names_that_climb_out_are_refused() {
        for name in ["m/../../etc/passwd", "/etc/passwd", "m/..", "..\\x"] {
            let bytes = zip_of(&[(name, b"x", CompressionMethod::Stored)]);
            assert!(matches!(fault(bytes), ArchiveFault::Climbs { entry } if entry == name));
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_grows() {
        let bomb = vec![0u8; (GROWTH_FREE + 1) as usize];
        let bytes = zip_of(&[("m/data.pkl", &bomb, CompressionMethod::Deflated)]);
        assert!(bytes.len() < 1 << 20);
        assert!(matches!(fault(bytes), ArchiveFault::Bomb { .. }));
    }

    #[test]
    fn many_small_bombs_are_one() {
        let part = vec![0u8; (GROWTH_FREE / 4) as usize];
        let names: Vec<String> = (0..5).map(|i| format!("m/{i}")).collect();
        let entries: Vec<_> = (names.iter())
            .map(|name| (name.as_str(), &part[..], CompressionMethod::Deflated))
            .collect();
        assert!(Archive::new(Path::new("m.pt"), zip_of(&entries[..4])).is_ok());
        let fault = fault(zip_of(&entries));
        assert!(matches!(fault, ArchiveFault::Bomb { entry, .. } if entry == "m/4"));
    }

    #[test]
    fn an_entry_that_lies_about_its_size_is_refused() {
        let mut bytes = zip_of(&[("m/b", &[7; 1000], CompressionMethod::Deflated)]).to_vec();
        let declared = 1000u32.to_le_bytes();
        let at: Vec<usize> = bytes
            .windows(4)
            .enumerate()
            .filter(|(_, w)| *w == declared)
            .map(|(i, _)| i)
            .collect();
        for i in at {
            bytes[i..i + 4].copy_from_slice(&900u32.to_le_bytes());
        }
        let archive = Archive::new(Path::new("m.pt"), bytes.into()).unwrap();
        assert!(archive.read("b").is_err());
    }

    #[test]
    fn truncation_and_overlap_are_refused() {
        let bytes = zip_of(&[("m/a", &[1; 500], CompressionMethod::Stored)]);
        assert!(matches!(
            fault(bytes.slice(..bytes.len() / 2)),
            ArchiveFault::Damaged(_)
        ));

        let two = zip_of(&[
            ("m/a", &[1; 50], CompressionMethod::Stored),
            ("m/b", &[2; 50], CompressionMethod::Stored),
        ]);
        let mut bytes = two.to_vec();
        let central = bytes
            .windows(4)
            .enumerate()
            .filter(|(_, w)| *w == b"PK\x01\x02")
            .map(|(i, _)| i)
            .collect::<Vec<_>>();
        bytes[central[1] + 42..central[1] + 46].copy_from_slice(&0u32.to_le_bytes());
        assert!(Archive::new(Path::new("m.pt"), bytes.into()).is_err());
    }

    /// PyTorch puts zip64 records behind every directory: 76 bytes, as many as the directory's entry
    /// takes for a name of 30.
    #[test]
    fn a_directory_entry_as_long_as_the_zip64_records_is_no_riddle() {
        let names = ["resnet_d/data/weights/weight_0", "resnet_d/archive_format"];
        let entries = names.map(|name| (name, &b"pt2"[..], CompressionMethod::Stored));
        let mut bytes = zip_of(&entries).to_vec();
        let end = bytes.len() - 22;
        let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (size, offset) = (u64::from(field(end + 12)), u64::from(field(end + 16)));
        let mut records = b"PK\x06\x06".to_vec();
        records.extend(44u64.to_le_bytes());
        records.extend([0x1e, 0x03, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [2, 2, size, offset] {
            records.extend(number.to_le_bytes());
        }
        records.extend(b"PK\x06\x07\0\0\0\0");
        records.extend((end as u64).to_le_bytes());
        records.extend(1u32.to_le_bytes());
        assert_eq!(records.len(), 46 + names[0].len());
        bytes.splice(end..end, records);
        let archive = Archive::new(Path::new("m.pt2"), bytes.into()).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), names);
    }
}
