//! Which library answers for matrix products in a process that runs libtorch and decompositions.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::ffi::{CStr, CString, c_void};

use rankfold_decompose::{Control, SvdOptions, Threads, Truncation, svd};

fn symbol(name: &str) -> *mut c_void {
    let name = CString::new(name).unwrap();
    // SAFETY: the name is a NUL-terminated string; the result is only looked up.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// The file name of the object that holds `address`.
fn object_of(address: *const c_void) -> String {
    // SAFETY: `dladdr` accepts any address and fills `info` only where it returns non-zero.
    let path = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        assert_ne!(
            libc::dladdr(address, &mut info),
            0,
            "nothing holds {address:?}"
        );
        CStr::from_ptr(info.dli_fname).to_str().unwrap().to_owned()
    };
    path.rsplit('/').next().unwrap().to_owned()
}

/// The Fortran names are libtorch's, and a decomposition has no use for them: with one thread for
/// libtorch and many for us, and the other way round, the bits of either are the same.
#[test]
fn each_library_keeps_its_own_kernels_and_threads() {
    let product = || {
        let side = tch::Tensor::arange(256 * 256, (tch::Kind::Float, tch::Device::Cpu));
        let side = (side * 1e-3).sin().reshape([256, 256]);
        Vec::<f32>::try_from(side.matmul(&side).reshape([-1])).unwrap()
    };
    let before = product();
    for name in ["sgemm_", "dgesdd_", "ssyevd_"] {
        let found = symbol(name);
        assert!(!found.is_null(), "{name}: libtorch exports it");
        assert_eq!(object_of(found), "libtorch_cpu.so", "{name}");
    }
    let own = svd::<f32> as *const c_void;
    let itself = std::env::current_exe().unwrap();
    assert_eq!(
        object_of(own),
        itself.file_name().unwrap().to_str().unwrap()
    );

    let matrix = ndarray::Array2::from_shape_fn((300, 200), |(i, j)| {
        ((i * 31 + j * 17) as f32 * 0.01).sin() + if i == j { 2.0 } else { 0.0 }
    });
    let decompose = |threads| {
        let options = SvdOptions {
            threads,
            ..SvdOptions::default()
        };
        let truncation = Truncation::rank(20).unwrap();
        svd(matrix.view(), truncation, &options, Control::default()).unwrap()
    };
    rankfold_torch::set_threads(1.try_into().unwrap());
    let pooled = decompose(Threads::Pool);
    assert_eq!(
        rankfold_torch::threads(),
        1,
        "libtorch's threads are its own"
    );
    rankfold_torch::set_threads(2.try_into().unwrap());
    assert!(pooled == decompose(Threads::Serial));
    assert_eq!(rankfold_torch::threads(), 2);
    let after = product();
    let apart = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) < 1e-3);
}
