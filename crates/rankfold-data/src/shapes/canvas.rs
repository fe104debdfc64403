//! Drawing with antialiasing on a small image.

use super::kind::{Point, Pose, direction};
use crate::rng::Rng;

pub(super) const SIDE: usize = 32;

/// Red, green and blue in [0, 1].
#[derive(Debug, Clone, Copy)]
pub(super) struct Colour([f32; 3]);

impl Colour {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self(std::array::from_fn(|_| rng.unit()))
    }

    /// A colour that differs from `other` by `least` in the root mean square at least.
    pub(super) fn against(rng: &mut Rng, other: Self, least: f32) -> Self {
        let far = |a: &Self| {
            let squares = a.0.iter().zip(other.0).map(|(a, b)| (a - b) * (a - b));
            squares.sum::<f32>() >= 3.0 * least * least
        };
        for _ in 0..16 {
            let colour = Self::draw(rng);
            if far(&colour) {
                return colour;
            }
        }
        Self(other.0.map(|v| if v < 0.5 { 1.0 } else { 0.0 }))
    }

    fn mix(self, other: Self, share: f32) -> Self {
        Self(std::array::from_fn(|c| {
            self.0[c] + (other.0[c] - self.0[c]) * share
        }))
    }
}

/// The image being drawn.
#[derive(Debug)]
pub(super) struct Canvas(Box<[[Colour; SIDE]; SIDE]>);

impl Canvas {
    /// A linear blend of two colours in a random direction.
    pub(super) fn background(rng: &mut Rng) -> Self {
        let (from, other) = (Colour::draw(rng), Colour::draw(rng));
        let to = from.mix(other, rng.range(0.0, 0.6));
        let (dx, dy) = direction(rng);
        let middle = (SIDE - 1) as f32 / 2.0;
        let reach = 1.0 / (2.0 * middle * std::f32::consts::SQRT_2);
        let mut rows = Box::new([[from; SIDE]; SIDE]);
        for (y, row) in rows.iter_mut().enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let along = (x as f32 - middle) * dx + (y as f32 - middle) * dy;
                *pixel = from.mix(to, 0.5 + along * reach);
            }
        }
        Self(rows)
    }

    /// The colour of the pixel at a point, which lies on the image.
    pub(super) fn at(&self, (x, y): Point) -> Colour {
        self.0[(y as usize).min(SIDE - 1)][(x as usize).min(SIDE - 1)]
    }

    /// Paints where `distance`, of a point in the pose's coordinates, is negative.
    pub(super) fn fill(&mut self, pose: &Pose, colour: Colour, distance: impl Fn(Point) -> f32) {
        self.paint(pose.centre, 1.6 * pose.radius, colour, |p| {
            distance(pose.local(p)) * pose.radius
        });
    }

    /// Paints a straight stroke of random place and direction.
    pub(super) fn stroke(
        &mut self,
        rng: &mut Rng,
        colour: Colour,
        length: (f32, f32),
        half_width: (f32, f32),
    ) {
        let side = SIDE as f32;
        let (x, y) = (rng.range(0.0, side), rng.range(0.0, side));
        let (dx, dy) = direction(rng);
        let half = 0.5 * rng.range(length.0, length.1);
        let width = rng.range(half_width.0, half_width.1);
        self.paint((x, y), half + width + 1.0, colour, |(px, py)| {
            let (px, py) = (px - x, py - y);
            let along = (px * dx + py * dy).clamp(-half, half);
            let (rx, ry) = (px - along * dx, py - along * dy);
            (rx * rx + ry * ry).sqrt() - width
        });
    }

    /// Paints pixels around `centre` by the signed distance in pixels, half a pixel soft.
    fn paint(
        &mut self,
        centre: Point,
        reach: f32,
        colour: Colour,
        distance: impl Fn(Point) -> f32,
    ) {
        let span = |at: f32| {
            let low = (at - reach).max(0.0) as usize;
            let high = ((at + reach).max(0.0) as usize + 1).min(SIDE);
            low.min(high)..high
        };
        for y in span(centre.1) {
            for x in span(centre.0) {
                let d = distance((x as f32 + 0.5, y as f32 + 0.5));
                let cover = (0.5 - d).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let pixel = &mut self.0[y][x];
                    *pixel = pixel.mix(colour, cover);
                }
            }
        }
    }

    /// Adds noise of standard deviation `sigma`: the sum of four random bytes, nearly normal.
    pub(super) fn noise(&mut self, rng: &mut Rng, sigma: f32) {
        // Four uniform bytes have variance 4 · (256² − 1) / 12.
        let scale = sigma / (4.0f32 * 65_535.0 / 12.0).sqrt();
        let mut bits = 0;
        for (i, value) in self
            .0
            .as_flattened_mut()
            .iter_mut()
            .flat_map(|c| &mut c.0)
            .enumerate()
        {
            bits = if i % 2 == 0 {
                rng.next_u64()
            } else {
                bits >> 32
            };
            let bytes = (bits as u32).to_le_bytes();
            let sum: u32 = bytes.iter().map(|&b| u32::from(b)).sum();
            *value += (sum as f32 - 510.0) * scale;
        }
    }

    /// Writes the image as three planes of bytes.
    pub(super) fn write(&self, out: &mut [u8]) {
        for (c, plane) in out.chunks_exact_mut(SIDE * SIDE).enumerate() {
            for (byte, colour) in plane.iter_mut().zip(self.0.as_flattened()) {
                *byte = (colour.0[c] * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
}
