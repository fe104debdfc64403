//! Which library answers for matrix products, and on which threads.
//!
//! The kernels are compiled in. No Fortran BLAS or LAPACK is loaded, imported or exported, so in a
//! binary that also links libtorch each keeps its own, whatever the link order.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};

use rankfold_decompose::{Control, SvdOptions, Threads, Truncation, svd};
use support::decaying;

/// The names under which libtorch, MKL and OpenBLAS export what this crate computes itself.
const FORTRAN: [&str; 12] = [
    "sgemm_",
    "dgemm_",
    "ssyrk_",
    "dsyrk_",
    "ssyevd_",
    "dsyevd_",
    "sgesdd_",
    "dgesdd_",
    "sgeqrf_",
    "dpotrf_",
    "cblas_sgemm",
    "openblas_set_num_threads",
];

/// The address that the dynamic linker gives to `name` in this process.
fn symbol(name: &str) -> *mut c_void {
    let name = CString::new(name).unwrap();
    // SAFETY: the name is a NUL-terminated string; the result is only compared and looked up.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// The file of the object that `address` belongs to.
fn object_of(address: *const c_void) -> PathBuf {
    // SAFETY: `dladdr` accepts any address and fills `info` only where it returns non-zero.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        assert_ne!(
            libc::dladdr(address, &mut info),
            0,
            "no object holds {address:?}"
        );
        let name = CStr::from_ptr(info.dli_fname).to_str().unwrap();
        Path::new(name).canonicalize().unwrap()
    }
}

fn threads_of_this_process() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn the_kernels_are_our_own_and_stay_on_the_threads_they_are_given() {
    // The look-up itself finds what is there …
    let malloc = object_of(symbol("malloc"));
    assert!(
        malloc
            .file_name()
            .unwrap()
            .to_string_lossy()
            .contains("libc"),
        "{malloc:?}"
    );
    // … and no Fortran BLAS or LAPACK is, before and after a decomposition has run.
    let absent = || {
        for name in FORTRAN {
            let found = symbol(name);
            assert!(
                found.is_null(),
                "{name} is answered by {:?}",
                object_of(found)
            );
        }
    };
    absent();

    let a = decaying::<f32>(600, 520, 1);
    let before = threads_of_this_process();
    let options = SvdOptions {
        threads: Threads::Serial,
        ..SvdOptions::default()
    };
    let truncation = Truncation::rank(20).unwrap();
    let serial = svd(a.view(), truncation, &options, Control::default()).unwrap();
    assert_eq!(
        threads_of_this_process(),
        before,
        "a serial run starts no thread"
    );
    absent();

    let function: fn(_, _, &_, _) -> _ = svd::<f32>;
    let executable = std::env::current_exe().unwrap().canonicalize().unwrap();
    assert_eq!(object_of(function as *const c_void), executable);

    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .unwrap();
    let with_pool = threads_of_this_process();
    let options = SvdOptions {
        threads: Threads::Pool,
        ..options
    };
    let pooled = pool
        .install(|| svd(a.view(), truncation, &options, Control::default()))
        .unwrap();
    assert_eq!(
        threads_of_this_process(),
        with_pool,
        "a pooled run uses that pool alone"
    );
    assert!(pooled == serial);
}
