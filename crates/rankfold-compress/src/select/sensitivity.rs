//! The paper's rule: ranks in proportion to what each layer alone loses.

use rankfold_graph::Graph;

use super::paper_form;
use crate::error::CompressError;
use crate::form::Rank;
use crate::layer::{Kind, Layer};
use crate::plan::{LayerPlan, find};
use crate::planner::{at_rank, first_conv};
use crate::rules::rule;

/// A rank that a layer can take: multiples of `step` up to `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RankRange {
    /// What a rank is divided by.
    step: usize,
    /// The largest rank.
    most: usize,
}

/// Ranks proportional to sensitivities, their average given: r = s / Σs · average · L.
///
/// The ranks are whole numbers of their ranges, at least one step, and sum up to average · L as far as
/// the ranges allow.
fn paper_ranks(sensitivities: &[f64], average: f64, ranges: &[RankRange]) -> Vec<usize> {
    let total = average * sensitivities.len() as f64;
    let positive: Vec<f64> = sensitivities.iter().map(|s| s.max(0.0)).collect();
    let sum: f64 = positive.iter().sum();
    let share = |s: f64| if sum > 0.0 { s / sum * total } else { average };
    let exact: Vec<f64> = positive.iter().map(|&s| share(s)).collect();
    let floor = |(exact, range): (&f64, &RankRange)| {
        let steps = (exact / range.step as f64).floor() as usize;
        (steps * range.step).clamp(range.step, range.most)
    };
    let mut ranks: Vec<usize> = exact.iter().zip(ranges).map(floor).collect();
    let total = total.round() as usize;
    let order = |a: f64, b: f64| a.total_cmp(&b);
    loop {
        let (now, missing) = (ranks.iter().sum::<usize>(), |i: usize| {
            exact[i] - ranks[i] as f64
        });
        let places = 0..ranks.len();
        let next = if now < total {
            let fits = |&i: &usize| {
                let range = ranges[i];
                range.step <= total - now && ranks[i] <= range.most - range.step
            };
            let most = places
                .filter(fits)
                .max_by(|&a, &b| order(missing(a), missing(b)));
            most.map(|i| (i, ranks[i] + ranges[i].step))
        } else {
            let fits = |&i: &usize| now - total >= ranges[i].step && ranks[i] > ranges[i].step;
            let least = places
                .filter(fits)
                .min_by(|&a, &b| order(missing(a), missing(b)));
            least.map(|i| (i, ranks[i] - ranges[i].step))
        };
        match next {
            Some((place, rank)) => ranks[place] = rank,
            None => return ranks,
        }
    }
}

/// Plans of all layers: those with a loss at ranks in proportion to it, convolutions and linear layers
/// by averages of their own; the others are kept.
pub(crate) fn at_average_rank(
    graph: &Graph,
    taking_part: &[bool],
    losses: &[(String, f64)],
    conv: Option<f64>,
    fc: Option<f64>,
) -> Result<Vec<LayerPlan>, CompressError> {
    let layers = Layer::all(graph);
    let first = first_conv(&layers);
    for (name, loss) in losses {
        find(&layers, name)?;
        if !loss.is_finite() {
            return Err(CompressError::Loss {
                layer: name.clone(),
                loss: *loss,
            });
        }
    }
    let mut plans: Vec<LayerPlan> = layers.iter().map(LayerPlan::keep).collect();
    for (average, linear) in [(conv, false), (fc, true)] {
        let Some(average) = average else { continue };
        let mut places = Vec::new();
        let (mut sensitivities, mut ranges) = (Vec::new(), Vec::new());
        for (place, layer) in layers.iter().enumerate() {
            let loss = losses.iter().find(|(name, _)| *name == layer.name);
            let form = paper_form(layer, Some(place) == first);
            let (Some((_, loss)), Some(rule), true) = (loss, rule(form), taking_part[place]) else {
                continue;
            };
            if (layer.kind == Kind::Linear) != linear {
                continue;
            }
            let step = rule.rank_step(layer);
            let most = rule.full_rank(layer).largest();
            places.push((place, form));
            sensitivities.push(*loss);
            ranges.push(RankRange {
                step,
                most: (most - most % step).max(step),
            });
        }
        let ranks = paper_ranks(&sensitivities, average, &ranges);
        for ((place, form), rank) in places.into_iter().zip(ranks) {
            plans[place] = at_rank(&layers[place], form, Rank::One(rank))?;
        }
    }
    if plans.iter().all(|plan| plan.rank.is_none()) {
        return Err(CompressError::NothingToDo);
    }
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(sensitivities: &[f64], average: f64) -> Vec<usize> {
        let any = RankRange {
            step: 1,
            most: usize::MAX,
        };
        paper_ranks(sensitivities, average, &vec![any; sensitivities.len()])
    }

    #[test]
    fn ranks_are_proportional_and_the_total_is_kept() {
        assert_eq!(free(&[1.0, 2.0, 3.0], 10.0), [5, 10, 15]);
        assert_eq!(free(&[0.0, 0.0], 7.0), [7, 7]);
        assert_eq!(free(&[1.0, 1.0, 1.0], 10.5).iter().sum::<usize>(), 32);
        assert_eq!(free(&[], 5.0), [0; 0]);
    }

    #[test]
    fn what_gained_keeps_the_least_rank() {
        assert_eq!(free(&[-0.5, 0.0, 3.0], 4.0), [1, 1, 10]);
    }

    #[test]
    fn ranges_are_kept_and_others_take_what_is_left() {
        let range = |step, most| RankRange { step, most };
        let ranges = [range(2, 10), range(1, 100), range(2, 100)];
        let ranks = paper_ranks(&[6.0, 1.0, 3.0], 10.0, &ranges);
        assert_eq!(ranks[0], 10);
        assert_eq!(ranks.iter().sum::<usize>(), 30);
        assert!(ranks[2].is_multiple_of(2) && ranks[2] > ranks[1]);
        // Nobody can take more.
        assert_eq!(paper_ranks(&[1.0], 9.0, &[range(1, 4)]), [4]);
    }
}
