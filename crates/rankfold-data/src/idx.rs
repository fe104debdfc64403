//! IDX files (MNIST's format): a big-endian magic number, the dimensions, then bytes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::DataError;
use crate::bytes::Bytes;

/// Deflate cannot expand by more than this.
const MAX_EXPANSION: u64 = 1032;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An IDX file of unsigned bytes with `N` dimensions.
#[derive(Debug)]
pub(crate) struct Idx<const N: usize> {
    pub(crate) dims: [u32; N],
    bytes: Bytes,
    start: usize,
}

impl<const N: usize> Idx<N> {
    const MAGIC: u32 = 0x0800 | N as u32;
    const HEADER: usize = 4 + 4 * N;

    /// The file at `path`, mapped if it is plain and unpacked if it is gzip-compressed (told by its
    /// content). What the header claims is held against the file before anything is allocated.
    pub(crate) fn open(path: &Path, what: &'static str) -> Result<Self, DataError> {
        let bytes = Bytes::map(path)?;
        if bytes.starts_with(&GZIP) {
            drop(bytes);
            return Self::unpack(path, what);
        }
        let (dims, body) = Self::header(path, what, &bytes)?;
        let found = bytes.len() as u64;
        if found != Self::HEADER as u64 + body {
            return Err(Self::size(path, dims, found, false));
        }
        Ok(Self {
            dims,
            bytes,
            start: Self::HEADER,
        })
    }

    /// The values behind the header.
    pub(crate) fn values(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn unpack(path: &Path, what: &'static str) -> Result<Self, DataError> {
        let io = |source| DataError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let packed = file.metadata().map_err(io)?.len();
        let mut reader = GzDecoder::new(BufReader::new(file));

        let mut head = Vec::new();
        let header = (&mut reader)
            .take(Self::HEADER as u64)
            .read_to_end(&mut head);
        cut_short(header).map_err(io)?;
        let (dims, body) = Self::header(path, what, &head)?;
        let most = packed.saturating_mul(MAX_EXPANSION);
        if body > most {
            return Err(Self::size(path, dims, most, true));
        }
        let mut values = Vec::new();
        let cut = cut_short(reader.take(body + 1).read_to_end(&mut values)).map_err(io)?;
        if values.len() as u64 != body {
            let found = Self::HEADER as u64 + values.len() as u64;
            return Err(Self::size(path, dims, found, values.len() as u64 > body));
        }
        if cut {
            return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Self {
            dims,
            bytes: Bytes::Owned(values),
            start: 0,
        })
    }

    /// The dimensions and the number of values that they promise.
    fn header(path: &Path, what: &'static str, bytes: &[u8]) -> Result<([u32; N], u64), DataError> {
        let word = |at: usize| {
            bytes
                .get(at..at + 4)
                .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        };
        let short = || DataError::Size {
            path: path.to_owned(),
            expected: Self::HEADER as u64,
            why: format!("the header of {what}, at least"),
            found: bytes.len() as u64,
            at_least: false,
        };
        let magic = word(0).ok_or_else(short)?;
        if magic != Self::MAGIC {
            let (path, expected) = (path.to_owned(), Self::MAGIC);
            return Err(DataError::Magic {
                path,
                what,
                expected,
                found: magic,
            });
        }
        let mut dims = [0; N];
        for (i, dim) in dims.iter_mut().enumerate() {
            *dim = word(4 + 4 * i).ok_or_else(short)?;
        }
        let body = dims
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(u64::from(d)));
        let body = body.filter(|body| *body <= u64::MAX / 2);
        let body = body.ok_or_else(|| Self::size(path, dims, bytes.len() as u64, true))?;
        Ok((dims, body))
    }

    fn size(path: &Path, dims: [u32; N], found: u64, at_least: bool) -> DataError {
        let body = dims
            .iter()
            .fold(1u64, |n, &d| n.saturating_mul(u64::from(d)));
        DataError::Size {
            path: path.to_owned(),
            expected: body.saturating_add(Self::HEADER as u64),
            why: format!("its header says {}", dims.map(|d| d.to_string()).join("×")),
            found,
            at_least,
        }
    }
}

/// Whether packed data ended too early; other errors stay errors.
fn cut_short(read: std::io::Result<usize>) -> std::io::Result<bool> {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(true),
        other => other.map(|_| false),
    }
}
