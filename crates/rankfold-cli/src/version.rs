//! What this program is made of.

/// What `--version` says after the name: our version, libtorch's, and whether CUDA is with it.
pub(crate) fn long() -> &'static str {
    let ours = env!("CARGO_PKG_VERSION");
    let libtorch = rankfold_torch::libtorch_version();
    let libtorch = libtorch.as_deref().unwrap_or("of unknown version");
    let place = rankfold_torch::libtorch_folder().unwrap_or_default();
    let cuda = match rankfold_torch::cuda_library() {
        Some(path) => path.display().to_string(),
        None => "not installed".to_owned(),
    };
    let text = format!(
        "{ours}\nlibtorch {libtorch}, {}\nCUDA: {cuda}",
        place.display()
    );
    // The parser asks for a text that lives as long as the program.
    text.leak()
}
