//! Placeholder; see the crate map in README.md.
