//! Loading libtorch's CUDA half at run time.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};

/// Why CUDA is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCuda {
    /// The machine has no NVIDIA driver.
    #[error("the NVIDIA driver (libcuda.so.1) is not installed")]
    Driver,
    /// The libtorch in use is the CPU half alone.
    #[error("libtorch in {} has no libtorch_cuda.so", .folder.display())]
    Library {
        /// The folder of the libtorch in use.
        folder: PathBuf,
    },
    /// The CUDA half is there and does not load.
    #[error("{} does not load: {reason}", .path.display())]
    Unloadable {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// Driver and libraries are there, but no GPU is visible.
    #[error("no GPU is visible")]
    Gpu,
}

/// Loads the CUDA half, once; later calls return the first one's result.
pub(crate) fn open() -> Result<(), NoCuda> {
    static OPENED: OnceLock<Result<(), NoCuda>> = OnceLock::new();
    OPENED.get_or_init(load).clone()
}

fn load() -> Result<(), NoCuda> {
    // Without a driver there is nothing to compute on, and the libraries take seconds to load.
    // SAFETY: the driver's initialisers are those that every CUDA program runs.
    unsafe { Library::open(Some("libcuda.so.1"), RTLD_LAZY | RTLD_LOCAL) }
        .map_err(|_| NoCuda::Driver)?;
    let path = library().ok_or_else(|| NoCuda::Library {
        folder: libtorch_folder().unwrap_or_default(),
    })?;
    // SAFETY: the initialisers register CUDA with libtorch, which is loaded since this crate links it.
    let library =
        unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| {
            NoCuda::Unloadable {
                path,
                reason: error.to_string(),
            }
        })?;
    // What has registered itself must stay.
    std::mem::forget(library);
    Ok(())
}

/// The CUDA half's library, where it is installed.
pub(crate) fn library() -> Option<PathBuf> {
    let places = candidates(&libtorch_folder().unwrap_or_default());
    places.into_iter().find(|path| path.is_file())
}

/// Where the CUDA half may be: beside libtorch, or in the folder that the set-up adds beside libtorch's own.
fn candidates(lib: &Path) -> Vec<PathBuf> {
    const NAME: &str = "libtorch_cuda.so";
    let mut paths = vec![lib.join(NAME)];
    if let Some(root) = lib.parent()
        && let Some(name) = root.file_name()
    {
        let mut beside = name.to_owned();
        beside.push("-cuda");
        paths.push(root.with_file_name(beside).join("torch/lib").join(NAME));
    }
    paths
}

/// The folder that libtorch was loaded from.
pub(crate) fn libtorch_folder() -> Option<PathBuf> {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _: usize,
        found: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid entry whose name, where there is one, ends in a zero byte.
        let name = unsafe { (*info).dlpi_name };
        if name.is_null() {
            return 0;
        }
        // SAFETY: as above.
        let path = Path::new(OsStr::from_bytes(
            unsafe { CStr::from_ptr(name) }.to_bytes(),
        ));
        if path.file_name() != Some(OsStr::new("libtorch_cpu.so")) {
            return 0;
        }
        // SAFETY: `found` is the pointer passed to dl_iterate_phdr below, borrowed by nobody else.
        unsafe { *found.cast::<Option<PathBuf>>() = path.parent().map(Path::to_owned) };
        1
    }
    let mut found: Option<PathBuf> = None;
    // SAFETY: the callback has the signature asked for and `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// The version that the loaded libtorch gives for itself.
pub(crate) fn libtorch_version() -> Option<String> {
    type AbiVersion = unsafe extern "C" fn() -> u64;
    let program = Library::this();
    // SAFETY: libtorch's C interface declares this function so.
    let version = unsafe {
        let abi_version = program.get::<AbiVersion>(b"aoti_torch_abi_version\0");
        abi_version.ok()?()
    };
    let [major, minor, patch, ..] = version.to_be_bytes();
    Some(format!("{major}.{minor}.{patch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        // Naming a function of libtorch keeps it linked.
        assert!(tch::get_num_threads() > 0);
        let folder = libtorch_folder().expect("this test runs on libtorch");
        assert!(
            folder.join("libtorch_cpu.so").is_file(),
            "{}",
            folder.display()
        );
    }

    #[test]
    fn libtorch_is_of_the_version_that_tch_is_made_for() {
        assert!(tch::get_num_threads() > 0);
        let version = libtorch_version().expect("2.11 tells");
        assert!(version.starts_with(crate::LIBTORCH), "{version}");
    }

    #[test]
    fn the_cuda_half_is_looked_for_beside_and_in_the_cache() {
        assert_eq!(
            candidates(Path::new("/cache/libtorch-2.11.0/lib")),
            [
                Path::new("/cache/libtorch-2.11.0/lib/libtorch_cuda.so"),
                Path::new("/cache/libtorch-2.11.0-cuda/torch/lib/libtorch_cuda.so"),
            ]
        );
    }
}
