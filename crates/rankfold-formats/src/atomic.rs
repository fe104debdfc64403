//! Whole files or none.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::FormatError;

const BUFFER: usize = 1 << 20;

/// What `fill` writes becomes the file at `path`, all at once: it goes to a sibling of `path`, is
/// flushed to the disk and renamed. After an error `path` is as it was, and nothing else is left.
pub fn write_atomically<T, E>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<T, E>,
) -> Result<T, E>
where
    E: From<FormatError>,
{
    let io = |source| FormatError::Io {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        return Err(FormatError::Directory {
            path: path.to_owned(),
        }
        .into());
    }
    // A link stays, and what it leads to is replaced; what is no file, as a pipe, is written to.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = &target;
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path).map_err(io)?;
        let mut writer = BufWriter::with_capacity(BUFFER, &file);
        let value = fill(&mut writer)?;
        writer.flush().map_err(io)?;
        return Ok(value);
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // An error of the file beside it would name that.
    folder.metadata().map_err(io)?;
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let temp = builder.tempfile_in(folder).map_err(io)?;
    let value = {
        let mut writer = BufWriter::with_capacity(BUFFER, temp.as_file());
        let value = fill(&mut writer)?;
        writer.flush().map_err(io)?;
        value
    };
    temp.as_file().sync_all().map_err(io)?;
    temp.persist(path).map_err(|e| io(e.error))?;
    #[cfg(unix)]
    File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_stay() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, null] = ["file", "link", "null"].map(|name| dir.path().join(name));
        std::fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        for path in [&link, &null] {
            write_atomically(path, |w| {
                w.write_all(b"new").unwrap();
                Ok::<_, FormatError>(())
            })
            .unwrap();
            assert!(path.is_symlink());
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(std::fs::metadata("/dev/null").unwrap().len(), 0);
        assert!(!Path::new("/dev/null").is_file());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        std::fs::write(&path, b"old").unwrap();
        let err = write_atomically(&path, |w| {
            w.write_all(b"half").unwrap();
            Err::<(), _>(FormatError::Empty {
                path: path.to_owned(),
            })
        });
        assert!(err.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        write_atomically(&path, |w| {
            w.write_all(b"new").unwrap();
            Ok::<_, FormatError>(())
        })
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
