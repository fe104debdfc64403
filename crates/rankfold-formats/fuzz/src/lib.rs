//! What the fuzz targets share: the readers as functions of bytes, and mutations that keep an input
//! in its form, so that they get past the parser.

pub mod entry;
pub mod json;
pub mod wire;
