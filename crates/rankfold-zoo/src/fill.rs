//! Filling weights from a seed, the same on every machine and with any number of threads.

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;

/// What the elements of a weight are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fill {
    /// All the same.
    Constant(f32),
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Uniform around zero.
    Uniform {
        /// Largest magnitude.
        bound: f32,
    },
}

/// Elements drawn from one stream.
const CHUNK: usize = 1 << 16;

impl Fill {
    /// `len` elements for the weight of that name.
    pub(crate) fn values(self, len: usize, seed: u64, name: &str) -> Vec<f32> {
        match self {
            Self::Constant(value) => vec![value; len],
            Self::Normal { std } => drawn(len, seed, name, |rng| {
                let value: f32 = StandardNormal.sample(rng);
                value * std
            }),
            Self::Uniform { bound } => match Uniform::new_inclusive(-bound, bound) {
                Ok(uniform) => drawn(len, seed, name, |rng| uniform.sample(rng)),
                Err(_) => vec![0.0; len],
            },
        }
    }
}

fn drawn(
    len: usize,
    seed: u64,
    name: &str,
    draw: impl Fn(&mut Xoshiro256PlusPlus) -> f32 + Sync,
) -> Vec<f32> {
    let mut values = vec![0.0; len];
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(chunk, values)| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream(seed, name, chunk as u64));
        values.fill_with(|| draw(&mut rng));
    });
    values
}

/// FNV-1a over seed, name and chunk.
fn stream(seed: u64, name: &str, chunk: u64) -> u64 {
    let (seed, chunk) = (seed.to_le_bytes(), chunk.to_le_bytes());
    let bytes = seed.iter().chain(name.as_bytes()).chain(&chunk);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_asked_for() {
        let len = 3 * CHUNK + 17;
        for (fill, std) in [
            (Fill::Normal { std: 0.5 }, 0.5),
            (Fill::Uniform { bound: 0.6 }, 0.6 / 3f64.sqrt()),
        ] {
            let values = fill.values(len, 7, "conv.weight");
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / len as f64;
            let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / len as f64;
            assert!(mean.abs() < 5.0 * std / (len as f64).sqrt(), "mean {mean}");
            assert!(
                (square.sqrt() / std - 1.0).abs() < 0.01,
                "std {}",
                square.sqrt()
            );
        }
    }

    #[test]
    fn seed_name_and_place_all_matter_and_threads_do_not() {
        let fill = Fill::Normal { std: 1.0 };
        let values = fill.values(2 * CHUNK, 1, "a");
        assert_ne!(values[..CHUNK], values[CHUNK..]);
        assert_ne!(values, fill.values(2 * CHUNK, 2, "a"));
        assert_ne!(values, fill.values(2 * CHUNK, 1, "b"));
        let one = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(values, one.install(|| fill.values(2 * CHUNK, 1, "a")));
    }
}
