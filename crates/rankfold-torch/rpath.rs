//! The build script of every package whose executables link libtorch: records in them where it is.
//!
//! `torch-sys` tells its direct dependents the folder, `rankfold-torch` tells its own. A run path given
//! here holds whatever `RUSTFLAGS` says. `RANKFOLD_RPATH` replaces it, for executables that move.

// A build script speaks to cargo by printing.
#![allow(clippy::print_stdout)]

use std::env;

fn main() {
    println!("cargo::rerun-if-env-changed=RANKFOLD_RPATH");
    let Ok(lib) =
        env::var("DEP_TCH_LIBTORCH_LIB").or_else(|_| env::var("DEP_RANKFOLD_TORCH_LIBTORCH_LIB"))
    else {
        println!(
            "cargo::error=no libtorch folder is known here; depend on rankfold-torch directly"
        );
        return;
    };
    if env::var("CARGO_MANIFEST_LINKS").is_ok() {
        println!("cargo::metadata=libtorch_lib={lib}");
    }
    let rpath = env::var("RANKFOLD_RPATH").unwrap_or(lib);
    // Not -Wl, which would cut a path at its commas.
    for argument in ["-Xlinker", "-rpath", "-Xlinker", &rpath] {
        println!("cargo::rustc-link-arg={argument}");
    }
}
