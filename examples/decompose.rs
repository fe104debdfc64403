//! Decomposes arrays: a matrix by truncated SVD, the kernel of a convolution by Tucker-2.
//!
//! `cargo run --example decompose`

#![allow(clippy::print_stdout)]

use std::error::Error;

use ndarray::{Array2, Array4};
use rankfold_decompose::{Control, ConvOptions, SvdOptions, Truncation, Tucker2Rank, svd, tucker2};

fn main() -> Result<(), Box<dyn Error>> {
    // Rows that are near each other are alike, so that few components tell most of it.
    let matrix = Array2::from_shape_fn((240, 160), |(row, column)| {
        1.0 / (1.0 + (row as f64 - 1.5 * column as f64).powi(2) / 400.0)
    });
    let tolerance = Truncation::tolerance(0.05)?;
    let factors = svd(
        matrix.view(),
        tolerance,
        &SvdOptions::default(),
        Control::default(),
    )?;
    let (rank, error) = (factors.rank(), factors.relative_error);
    println!("svd of 240×160 to 5 %: rank {rank}, relative error {error:.4}");

    // The certified error is that of the product.
    let rebuilt = (&factors.u * &factors.s).dot(&factors.vt);
    let norm = |array: &Array2<f64>| array.iter().map(|x| x * x).sum::<f64>().sqrt();
    let measured = norm(&(&matrix - &rebuilt)) / norm(&matrix);
    assert!((measured - error).abs() < 1e-6, "{measured} is not {error}");

    // 32 outputs, 16 inputs, 3×3 taps: small blurs, shifted and weighted by channel.
    let kernel = Array4::from_shape_fn((32, 16, 3, 3), |(output, input, row, column)| {
        let angle = (output * 7 + input * 3) as f32 * 0.1;
        let distance =
            (row as f32 - 1.0 - 0.3 * angle.sin()).powi(2) + (column as f32 - 1.0).powi(2);
        (-distance).exp() * angle.cos()
    });
    for ranks in [2, 4, 8] {
        let rank = Tucker2Rank::new(ranks, ranks)?;
        let factors = tucker2(
            kernel.view(),
            rank,
            &ConvOptions::default(),
            Control::default(),
        )?;
        let numbers = factors.first.len() + factors.core.len() + factors.last.len();
        println!(
            "Tucker-2 of 32×16×3×3 at ({ranks}, {ranks}): {numbers} of {} numbers, relative error {:.4}",
            kernel.len(),
            factors.relative_error
        );
    }
    Ok(())
}
