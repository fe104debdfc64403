//! Optimisers whose state is their own, so that it can be kept.

use tch::{TchError, Tensor};

use crate::error::{At, Result};

const STEP: &str = "updating weights";

/// How gradients become steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the last step that is taken again.
        momentum: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW {
        /// Decay of the running means of gradients and of their squares.
        betas: (f64, f64),
        /// What is added to the root of the mean square.
        epsilon: f64,
    },
}

impl Method {
    /// Stochastic gradient descent with a momentum of 0.9.
    pub const SGD: Self = Self::Sgd { momentum: 0.9 };
    /// AdamW with its usual constants.
    pub const ADAMW: Self = Self::AdamW {
        betas: (0.9, 0.999),
        epsilon: 1e-8,
    };

    /// Running means that are kept for every weight.
    fn means(self) -> usize {
        match self {
            Self::Sgd { .. } => 1,
            Self::AdamW { .. } => 2,
        }
    }
}

/// A weight and how it learns.
#[derive(Debug)]
pub(crate) struct Learner {
    /// The weight, which the optimiser changes in place.
    pub(crate) weight: Tensor,
    /// What its rate is multiplied by.
    pub(crate) rate: f64,
    /// Share of the weight that a step at rate 1 takes away.
    pub(crate) decay: f64,
    /// One where the weight learns and zero where it stays; none where all of it learns.
    pub(crate) mask: Option<Tensor>,
}

/// Weights and their running means.
#[derive(Debug)]
pub(crate) struct Optimizer {
    method: Method,
    learners: Vec<Learner>,
    means: Vec<Vec<Tensor>>,
    steps: usize,
}

impl Optimizer {
    /// An optimiser whose running means are nothing.
    pub(crate) fn new(method: Method, learners: Vec<Learner>) -> Result<Self> {
        let zeros = |learner: &Learner| {
            let zero = || learner.weight.f_zeros_like().at(STEP)?.f_detach().at(STEP);
            (0..method.means()).map(|_| zero()).collect::<Result<_>>()
        };
        Ok(Self {
            method,
            means: learners.iter().map(zeros).collect::<Result<_>>()?,
            learners,
            steps: 0,
        })
    }

    /// Steps done.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// The running means of every weight.
    pub(crate) fn means(&self) -> &[Vec<Tensor>] {
        &self.means
    }

    /// Goes back, or on, to other means after so many steps.
    pub(crate) fn restore(&mut self, means: &[Vec<Tensor>], steps: usize) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (own, other) in self.means.iter_mut().flatten().zip(means.iter().flatten()) {
            own.f_copy_(other).at(STEP)?;
        }
        self.steps = steps;
        Ok(())
    }

    /// Forgets all gradients.
    pub(crate) fn zero_gradients(&mut self) {
        for learner in &mut self.learners {
            learner.weight.zero_grad();
        }
    }

    /// Takes the gradients away from what is masked: nothing else moves it, for its running means stay
    /// zero, and so does what decays of a zero.
    pub(crate) fn mask_gradients(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for learner in &self.learners {
            let mut gradient = learner.weight.grad();
            if let (Some(mask), true) = (&learner.mask, gradient.defined()) {
                let _ = gradient.f_mul_(mask).at(STEP)?;
            }
        }
        Ok(())
    }

    /// Scales all gradients down so that together they are no longer than `most`; their length before.
    pub(crate) fn clip(&mut self, most: f64) -> Result<f64> {
        let _guard = tch::no_grad_guard();
        let gradients = self.learners.iter().map(|learner| learner.weight.grad());
        let gradients: Vec<Tensor> = gradients.filter(Tensor::defined).collect();
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

    /// One step against the gradients; weights that have none stay as they are.
    pub(crate) fn step(&mut self, rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        for (learner, means) in self.learners.iter_mut().zip(&mut self.means) {
            let gradient = learner.weight.grad();
            if !gradient.defined() {
                continue;
            }
            match self.method {
                Method::Sgd { momentum } => descend(learner, means, &gradient, rate, momentum),
                Method::AdamW { betas, epsilon } => {
                    adapt(learner, means, &gradient, rate, betas, epsilon, self.steps)
                }
            }
            .at(STEP)?;
        }
        Ok(())
    }
}

type Done = std::result::Result<(), TchError>;

fn descend(
    learner: &mut Learner,
    means: &mut [Tensor],
    gradient: &Tensor,
    rate: f64,
    momentum: f64,
) -> Done {
    let weight = &mut learner.weight;
    let mean = &mut means[0];
    let _ = mean.f_mul_scalar_(momentum)?.f_add_(gradient)?;
    if learner.decay > 0.0 {
        let _ = mean.f_add_(&weight.f_mul_scalar(learner.decay)?)?;
    }
    let _ = weight.f_sub_(&mean.f_mul_scalar(rate * learner.rate)?)?;
    Ok(())
}

fn adapt(
    learner: &mut Learner,
    means: &mut [Tensor],
    gradient: &Tensor,
    rate: f64,
    (beta_mean, beta_square): (f64, f64),
    epsilon: f64,
    steps: usize,
) -> Done {
    let steps = steps.min(i32::MAX as usize) as i32;
    let mean_share = 1.0 - beta_mean.powi(steps);
    let square_share = 1.0 - beta_square.powi(steps);
    let rate = rate * learner.rate;
    let weight = &mut learner.weight;
    let [mean, square] = means else {
        return Ok(());
    };
    if learner.decay > 0.0 {
        let _ = weight.f_mul_scalar_(1.0 - rate * learner.decay)?;
    }
    let _ = mean.f_lerp_(gradient, 1.0 - beta_mean)?;
    let _ = square
        .f_mul_scalar_(beta_square)?
        .f_addcmul_(&gradient.f_mul_scalar(1.0 - beta_square)?, gradient)?;
    let spread = square
        .f_sqrt()?
        .f_div_scalar_(square_share.sqrt())?
        .f_add_scalar_(epsilon)?;
    let _ = weight.f_addcdiv_(&mean.f_mul_scalar(-rate / mean_share)?, &spread)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(values: &[f32]) -> Tensor {
        let mut weight = Tensor::from_slice(values);
        let _ = weight.requires_grad_(true);
        weight
    }

    fn optimizer(method: Method, weight: &Tensor, decay: f64) -> Optimizer {
        let learner = Learner {
            weight: weight.shallow_clone(),
            rate: 1.0,
            decay,
            mask: None,
        };
        Optimizer::new(method, vec![learner]).unwrap()
    }

    fn values(weight: &Tensor) -> Vec<f32> {
        Vec::try_from(&weight.detach()).unwrap()
    }

    /// A step on f(x) = Σ (x − 3)².
    fn run(optimizer: &mut Optimizer, weight: &Tensor, rate: f64) {
        optimizer.zero_gradients();
        (weight - 3.0).square().sum(tch::Kind::Float).backward();
        optimizer.step(rate).unwrap();
    }

    #[test]
    fn a_step_of_adam_has_the_length_of_the_rate_and_many_find_the_minimum() {
        let weight = leaf(&[0.0, 10.0, -5.0]);
        let mut adam = optimizer(Method::ADAMW, &weight, 0.0);
        run(&mut adam, &weight, 0.1);
        for (after, before) in values(&weight).iter().zip([0.0f32, 10.0, -5.0]) {
            assert!(
                ((after - before).abs() - 0.1).abs() < 1e-3,
                "{after} {before}"
            );
        }
        for _ in 0..600 {
            run(&mut adam, &weight, 0.1);
        }
        let last = values(&weight);
        assert!(last.iter().all(|x| (x - 3.0).abs() < 0.05), "{last:?}");
    }

    #[test]
    fn descent_follows_its_formula() {
        let weight = leaf(&[1.0]);
        let mut sgd = optimizer(Method::SGD, &weight, 0.5);
        let (mut x, mut v) = (1.0f64, 0.0);
        for _ in 0..5 {
            run(&mut sgd, &weight, 0.01);
            v = 0.9 * v + 2.0 * (x - 3.0) + 0.5 * x;
            x -= 0.01 * v;
        }
        let got = f64::from(values(&weight)[0]);
        assert!((got - x).abs() < 1e-5, "{got} {x}");
    }

    #[test]
    fn restored_means_go_on_as_if_nothing_had_happened() {
        for method in [Method::SGD, Method::ADAMW] {
            let weight = leaf(&[0.5, 8.0]);
            let mut own = optimizer(method, &weight, 0.1);
            run(&mut own, &weight, 0.05);
            let (kept, steps) = (values(&weight), own.steps());
            let means: Vec<Vec<Tensor>> = own
                .means()
                .iter()
                .map(|means| means.iter().map(Tensor::copy).collect())
                .collect();
            run(&mut own, &weight, 0.05);
            let expected = values(&weight);
            let again = leaf(&kept);
            let mut other = optimizer(method, &again, 0.1);
            other.restore(&means, steps).unwrap();
            run(&mut other, &again, 0.05);
            assert_eq!(values(&again), expected, "{method:?}");
        }
    }

    #[test]
    fn gradients_are_clipped_together() {
        let weight = leaf(&[3.0, 4.0]);
        let mut adam = optimizer(Method::ADAMW, &weight, 0.0);
        weight.square().sum(tch::Kind::Float).backward();
        assert!((adam.clip(1.0).unwrap() - 10.0).abs() < 1e-4);
        let clipped = Vec::<f32>::try_from(weight.grad()).unwrap();
        assert!((clipped[0] - 0.6).abs() < 1e-5 && (clipped[1] - 0.8).abs() < 1e-5);
        assert!((adam.clip(1.0).unwrap() - 1.0).abs() < 1e-5);
    }
}
