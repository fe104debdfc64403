//! Optimisers whose state is their own, so that it can be kept.

use tch::Tensor;

use crate::error::{At, Result};

const STEP: &str = "updating weights";

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
#[derive(Debug)]
pub struct AdamW {
    weights: Vec<Tensor>,
    means: Vec<Tensor>,
    squares: Vec<Tensor>,
    steps: i32,
    /// Decay of the running means of gradients and of their squares.
    pub betas: (f64, f64),
    /// What is added to the root of the mean square.
    pub epsilon: f64,
    /// Share of a weight that a step at rate 1 takes away.
    pub decay: f64,
}

impl AdamW {
    /// An optimiser of weights that it changes in place.
    pub fn new(weights: impl IntoIterator<Item = Tensor>) -> Result<Self> {
        let weights: Vec<Tensor> = weights.into_iter().collect();
        let zeros = || {
            let zero = |weight: &Tensor| weight.f_zeros_like().at(STEP)?.f_detach().at(STEP);
            weights.iter().map(zero).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            means: zeros()?,
            squares: zeros()?,
            weights,
            steps: 0,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            decay: 0.0,
        })
    }

    /// Forgets all gradients.
    pub fn zero_gradients(&mut self) {
        for weight in &mut self.weights {
            weight.zero_grad();
        }
    }

    /// Scales all gradients down so that together they are no longer than `most`; their length before.
    pub fn clip(&mut self, most: f64) -> Result<f64> {
        let _guard = tch::no_grad_guard();
        let gradients: Vec<Tensor> = self.gradients().collect();
        if gradients.is_empty() {
            return Ok(0.0);
        }
        let norms = gradients
            .iter()
            .map(|gradient| gradient.f_norm().at(STEP))
            .collect::<Result<Vec<_>>>()?;
        let norm = Tensor::f_stack(&norms, 0).at(STEP)?.f_norm().at(STEP)?;
        let norm = norm.f_double_value(&[]).at(STEP)?;
        if norm > most {
            for mut gradient in gradients {
                let _ = gradient.f_mul_scalar_(most / norm).at(STEP)?;
            }
        }
        Ok(norm)
    }

    fn gradients(&self) -> impl Iterator<Item = Tensor> {
        let gradients = self.weights.iter().map(Tensor::grad);
        gradients.filter(Tensor::defined)
    }

    /// One step against the gradients; weights that have none stay as they are.
    pub fn step(&mut self, rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        let (beta_mean, beta_square) = self.betas;
        let mean_share = 1.0 - beta_mean.powi(self.steps);
        let square_share = 1.0 - beta_square.powi(self.steps);
        let places = self.weights.iter_mut().zip(&mut self.means);
        for ((weight, mean), square) in places.zip(&mut self.squares) {
            let gradient = weight.grad();
            if !gradient.defined() {
                continue;
            }
            let mut update = || -> std::result::Result<(), tch::TchError> {
                if self.decay > 0.0 {
                    let _ = weight.f_mul_scalar_(1.0 - rate * self.decay)?;
                }
                let _ = mean.f_lerp_(&gradient, 1.0 - beta_mean)?;
                let _ = square
                    .f_mul_scalar_(beta_square)?
                    .f_addcmul_(&(&gradient * (1.0 - beta_square)), &gradient)?;
                let spread = square
                    .f_sqrt()?
                    .f_div_scalar_(square_share.sqrt())?
                    .f_add_scalar_(self.epsilon)?;
                let _ = weight.f_addcdiv_(&(&*mean * (-rate / mean_share)), &spread)?;
                Ok(())
            };
            update().at(STEP)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f(x) = Σ (x − 3)², whose first step moves every weight by about the rate.
    #[test]
    fn a_step_has_the_length_of_the_rate_and_many_find_the_minimum() {
        let mut weight = Tensor::from_slice(&[0.0f32, 10.0, -5.0]);
        let _ = weight.requires_grad_(true);
        let mut adam = AdamW::new([weight.shallow_clone()]).unwrap();
        let run = |adam: &mut AdamW, rate: f64| {
            adam.zero_gradients();
            (&weight - 3.0).square().sum(tch::Kind::Float).backward();
            adam.step(rate).unwrap();
        };
        run(&mut adam, 0.1);
        let first = Vec::<f32>::try_from(&weight.detach()).unwrap();
        for (after, before) in first.iter().zip([0.0f32, 10.0, -5.0]) {
            assert!(
                ((after - before).abs() - 0.1).abs() < 1e-3,
                "{after} {before}"
            );
        }
        for _ in 0..600 {
            run(&mut adam, 0.1);
        }
        let last = Vec::<f32>::try_from(&weight.detach()).unwrap();
        assert!(last.iter().all(|x| (x - 3.0).abs() < 0.05), "{last:?}");
    }

    #[test]
    fn gradients_are_clipped_together() {
        let mut weight = Tensor::from_slice(&[3.0f32, 4.0]);
        let _ = weight.requires_grad_(true);
        let mut adam = AdamW::new([weight.shallow_clone()]).unwrap();
        weight.square().sum(tch::Kind::Float).backward();
        assert!((adam.clip(1.0).unwrap() - 10.0).abs() < 1e-4);
        let clipped = Vec::<f32>::try_from(weight.grad()).unwrap();
        assert!((clipped[0] - 0.6).abs() < 1e-5 && (clipped[1] - 0.8).abs() < 1e-5);
        assert!((adam.clip(1.0).unwrap() - 1.0).abs() < 1e-5);
    }
}
