//! Writes images and labels of a data set, before normalisation, as a safetensors file: `images`
//! of unsigned bytes (items × channels × height × width) and `labels`.
//!
//! `cargo run --release -p rankfold-data --example export -- shapes train OUT.safetensors`

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use rankfold_data::{DataSpec, Dataset, ImageSize, Split};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [spec, split, out] = arguments.as_slice() else {
        return Err("usage: export KIND:PATH SPLIT OUT.safetensors".into());
    };
    let (spec, split): (DataSpec, Split) = (spec.parse()?, split.parse()?);
    let data = Dataset::open(&spec, &split, ImageSize::default())?;

    let first = data.image(0)?;
    let (c, h, w) = (first.channels, first.height, first.width);
    let mut images = vec![0; data.len() * c * h * w];
    images
        .par_chunks_mut(c * h * w)
        .enumerate()
        .try_for_each(|(index, planes)| {
            let image = data.image(index)?;
            for (i, byte) in planes.iter_mut().enumerate() {
                *byte = image.data[i % (h * w) * c + i / (h * w)];
            }
            Ok::<_, rankfold_data::DataError>(())
        })?;
    let labels: Vec<u8> = (0..data.len())
        .filter_map(|i| data.label(i))
        .flat_map(i64::to_le_bytes)
        .collect();
    let views = [
        (
            "images",
            TensorView::new(Dtype::U8, vec![data.len(), c, h, w], &images)?,
        ),
        (
            "labels",
            TensorView::new(Dtype::I64, vec![data.len()], &labels)?,
        ),
    ];
    let about = HashMap::from([("data".to_owned(), format!("{spec} {split}"))]);
    serialize_to_file(views, Some(about), Path::new(out))?;
    Ok(())
}
