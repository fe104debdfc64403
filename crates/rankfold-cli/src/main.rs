//! The `rankfold` command.
fn main() {}
