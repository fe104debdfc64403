//! Inputs mixed with others of their batch (Zhang et al., 2018).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Tensor};

use crate::error::{At, Result};

const STEP: &str = "mixing inputs";

/// λ for every item of a batch: it becomes λ·x + (1 − λ)·x', x' the one before it.
#[derive(Debug)]
pub(crate) struct Mixture(Option<Tensor>);

impl Mixture {
    /// Everything stays as it is.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// λ between ½ and 1 for a share of the items, drawn by seed and step.
    pub(crate) fn draw(
        share: f64,
        items: usize,
        (seed, step): (u64, u64),
        device: Device,
    ) -> Result<Self> {
        if share <= 0.0 || items < 2 {
            return Ok(Self::none());
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step + 1);
        let own: Vec<f32> = (0..items)
            .map(|_| {
                let (on, own): (f64, f32) = (rng.random(), rng.random());
                if on < share { 0.5 + 0.5 * own } else { 1.0 }
            })
            .collect();
        let own = Tensor::f_from_slice(&own).and_then(|own| own.f_to(device));
        Ok(Self(Some(own.at(STEP)?)))
    }

    /// λ of every item.
    pub(crate) fn shares(&self) -> Option<&Tensor> {
        self.0.as_ref()
    }

    /// What every item is mixed with.
    pub(crate) fn partners(&self, items: &Tensor) -> Result<Tensor> {
        items.f_roll([1], [0]).at(STEP)
    }

    /// The mixed items.
    pub(crate) fn apply(&self, items: &Tensor) -> Result<Tensor> {
        let Some(own) = &self.0 else {
            return Ok(items.shallow_clone());
        };
        let mut shape = vec![1; items.dim()];
        shape[0] = -1;
        let own = own.f_reshape(&shape).at(STEP)?;
        // x' + λ·(x − x')
        self.partners(items)?.f_lerp_tensor(items, &own).at(STEP)
    }

    #[cfg(test)]
    pub(crate) fn of_shares(shares: &[f32]) -> Self {
        Self(Some(Tensor::from_slice(shares)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_mixed_with_the_one_before() {
        let items = Tensor::from_slice(&[1.0f32, 2.0, 4.0]).reshape([3, 1]);
        let mixed = Mixture::of_shares(&[0.5, 1.0, 0.75]).apply(&items).unwrap();
        let mixed = Vec::<f32>::try_from(mixed.reshape([-1])).unwrap();
        assert_eq!(mixed, [2.5, 2.0, 3.5]);
    }

    #[test]
    fn draws_hang_on_seed_and_step_and_keep_the_larger_part() {
        let draw = |seed, step| {
            let drawn = Mixture::draw(0.5, 200, (seed, step), Device::Cpu).unwrap();
            Vec::<f32>::try_from(drawn.shares().unwrap()).unwrap()
        };
        let shares = draw(1, 7);
        assert_eq!(shares, draw(1, 7));
        assert_ne!(shares, draw(1, 8));
        assert_ne!(shares, draw(2, 7));
        let alone = shares.iter().filter(|&&own| own == 1.0).count();
        assert!((70..=130).contains(&alone), "{alone}");
        assert!(shares.iter().all(|own| (0.5..=1.0).contains(own)));
    }
}
