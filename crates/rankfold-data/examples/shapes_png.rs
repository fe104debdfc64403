//! Writes a contact sheet of the synthetic set: one row per class.
//!
//! `cargo run -p rankfold-data --example shapes_png -- OUT.png [SEED]`

use std::error::Error;

use image::{RgbImage, imageops};
use rankfold_data::{DataSpec, Dataset, ImageSize, Split};

const COLUMNS: usize = 16;
const ZOOM: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().ok_or("usage: shapes_png OUT.png [SEED]")?;
    let seed = arguments.next().map_or(Ok(0), |seed| seed.parse())?;
    let data = Dataset::open(
        &DataSpec::Shapes { seed },
        &Split::TRAIN,
        ImageSize::default(),
    )?;

    let (cell, mut filled) = (32 * ZOOM + 2, vec![0; 10]);
    let mut sheet = RgbImage::new(COLUMNS as u32 * cell, filled.len() as u32 * cell);
    for index in 0..data.len() {
        let row = data.label(index).ok_or("an item without a label")? as usize;
        if filled[row] == COLUMNS {
            continue;
        }
        let tile = data.image(index)?;
        let tile = RgbImage::from_raw(tile.width as u32, tile.height as u32, tile.data)
            .ok_or("an image of the wrong size")?;
        let tile = imageops::resize(&tile, 32 * ZOOM, 32 * ZOOM, imageops::FilterType::Nearest);
        let (x, y) = (
            i64::from(filled[row] as u32 * cell),
            i64::from(row as u32 * cell),
        );
        imageops::replace(&mut sheet, &tile, x, y);
        filled[row] += 1;
    }
    sheet.save(out)?;
    Ok(())
}
