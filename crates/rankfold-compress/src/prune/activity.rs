//! What activations give, channel by channel.

use std::collections::BTreeMap;

/// An activation whose outputs tell of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its node.
    pub node: String,
    /// The axis of its output on which the channels are.
    pub axis: usize,
    /// How many there are.
    pub channels: usize,
}

/// What one activation gave, a number for every channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChannelActivity {
    /// How many of the numbers seen were above zero.
    pub active: Vec<u64>,
    /// Their mean.
    pub mean: Vec<f64>,
    /// Their variance.
    pub variance: Vec<f64>,
    /// Numbers seen of every channel.
    pub samples: u64,
}

/// What activations gave, by node.
pub type Activity = BTreeMap<String, ChannelActivity>;

impl ChannelActivity {
    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.variance.len()
    }

    /// Adds what was seen elsewhere (Chan, Golub and LeVeque 1983).
    pub fn add(&mut self, other: &Self) {
        if self.samples == 0 {
            *self = other.clone();
            return;
        }
        let (own, more) = (self.samples as f64, other.samples as f64);
        let all = own + more;
        for channel in 0..self.channels().min(other.channels()) {
            let apart = other.mean[channel] - self.mean[channel];
            self.active[channel] += other.active[channel];
            self.mean[channel] += apart * more / all;
            let within = own * self.variance[channel] + more * other.variance[channel];
            self.variance[channel] = within / all + apart * apart * (own / all) * (more / all);
        }
        self.samples += other.samples;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> ChannelActivity {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        ChannelActivity {
            active: vec![values.iter().filter(|&&v| v > 0.0).count() as u64],
            mean: vec![mean],
            variance: vec![variance],
            samples: values.len() as u64,
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let values = [3.0, 0.0, 1.5, 0.0, 8.0, 0.25, 0.0];
        let mut sum = ChannelActivity::default();
        for part in [&values[..2], &values[2..3], &values[3..]] {
            sum.add(&of(part));
        }
        let whole = of(&values);
        assert_eq!((sum.samples, &sum.active), (7, &whole.active));
        assert!((sum.mean[0] - whole.mean[0]).abs() < 1e-12);
        assert!((sum.variance[0] - whole.variance[0]).abs() < 1e-12);
    }
}
