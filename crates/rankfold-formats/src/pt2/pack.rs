//! Programs and tensors as an archive.

use std::io::{Seek, Write};

use bytes::Bytes;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Data begins at multiples of this, as PyTorch has it.
const ALIGNMENT: u16 = 64;
/// Entries from this size on need the 64-bit form.
const LARGE: u64 = u32::MAX as u64;

/// Writes `entries` under the folder `root`, stored and aligned; `release` is told what is not
/// needed any more.
pub(super) fn write<W: Write + Seek>(
    out: W,
    root: &str,
    entries: &[(String, Bytes)],
    release: &dyn Fn(&[u8]),
) -> Result<(), ZipError> {
    let mut zip = ZipWriter::new(out);
    for (name, data) in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(data.len() as u64 >= LARGE)
            .with_alignment(ALIGNMENT);
        zip.start_file(format!("{root}/{name}"), options)?;
        zip.write_all(data)?;
        release(data);
    }
    zip.finish()?.flush()?;
    Ok(())
}
