//! The random stream behind shuffles, augmentation and the synthetic set.
//!
//! Data that a shipped checkpoint was trained on must be drawn the same way for ever, so the
//! generator is fixed here: SplitMix64 (Steele, Lea, Flood 2014), keyed by mixing words.

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small deterministic generator, cheap enough to be made anew for every image.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The generator of the stream named by `key`; streams of different keys are unrelated.
    pub(crate) fn keyed(key: &[u64]) -> Self {
        let state = key.iter().fold(0x5241_4e4b_464f_4c44, |state: u64, &word| {
            mix(state.wrapping_add(GAMMA) ^ mix(word.wrapping_add(GAMMA)))
        });
        Self(state)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number below `n` (which is not 0), by multiply and shift: the bias is at most n / 2⁶⁴.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number in [0, 1) with 24 bits.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
    }

    /// A number in [low, high).
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_different_keys_differ() {
        let first = |key: &[u64]| Rng::keyed(key).next_u64();
        assert_ne!(first(&[1, 2]), first(&[2, 1]));
        assert_ne!(first(&[0]), first(&[0, 0]));
        assert_eq!(first(&[7, 8, 9]), first(&[7, 8, 9]));
    }

    #[test]
    fn draws_cover_their_range_evenly() {
        let mut rng = Rng::keyed(&[3]);
        let mut seen = [0usize; 10];
        let mut sum = 0.0;
        for _ in 0..100_000 {
            seen[rng.below(10) as usize] += 1;
            sum += f64::from(rng.unit());
        }
        assert!(
            seen.iter().all(|&n| (9_500..10_500).contains(&n)),
            "{seen:?}"
        );
        assert!((sum / 1e5 - 0.5).abs() < 0.005);
    }
}
