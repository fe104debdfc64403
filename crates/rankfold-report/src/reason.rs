//! Why a layer has the form that it has.

use rankfold_compress::{Form, Rank, Resource};

use crate::numbers::significant;
use crate::record::{Curve, Goal, Layer};

/// What a form would lose where the layer costs what it now does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rival {
    pub(crate) form: Form,
    /// The relative error; none where the form cannot be that small.
    pub(crate) error: Option<f64>,
    pub(crate) damage: Option<f64>,
}

/// Why a layer has its form, in words, and what the others would have lost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reason {
    pub(crate) words: String,
    /// The forms that it could have taken, the one that loses least first.
    pub(crate) rivals: Vec<Rival>,
}

/// Why the layer has its form.
pub(crate) fn reason(layer: &Layer, goal: Option<Goal>) -> Reason {
    let alone = |words: &str| Reason {
        words: words.to_owned(),
        rivals: Vec::new(),
    };
    let Some(rank) = layer.rank.filter(|_| layer.form != Form::Keep) else {
        return alone(match (layer.curves.is_empty(), layer.refused.is_empty()) {
            (true, true) => "It took no part.",
            (true, false) => "No form is possible here.",
            (false, _) => "Kept: what it would save is saved at less cost in other layers.",
        });
    };
    let macs = goal.is_some_and(|goal| goal.resource == Resource::Macs);
    let chosen = layer.curves.iter().find(|curve| curve.form == layer.form);
    let Some(cost) = chosen.and_then(|curve| cost(curve, rank, macs)) else {
        return alone("Form and rank were given.");
    };
    let mut rivals: Vec<Rival> = layer
        .curves
        .iter()
        .map(|curve| rival(curve, cost, macs))
        .collect();
    let by_damage = rivals
        .iter()
        .all(|rival| rival.damage.is_some() || rival.error.is_none());
    let loss = |rival: &Rival| match by_damage {
        true => rival.damage,
        false => rival.error,
    };
    rivals.sort_by(|a, b| {
        let key = |rival: &Rival| loss(rival).unwrap_or(f64::INFINITY);
        key(a).total_cmp(&key(b))
    });
    let own = rivals
        .iter()
        .find(|rival| rival.form == layer.form)
        .and_then(loss);
    let best = rivals
        .first()
        .and_then(|rival| Some((rival.form, loss(rival)?)));
    let what = if by_damage {
        "damages the output least"
    } else {
        "has the least error"
    };
    let words = match (own, best) {
        _ if rivals.len() == 1 => "The only form that took part.".to_owned(),
        (Some(own), Some((form, least))) if form != layer.form && own > 1.001 * least => format!(
            "At this size {form} would lose {} as much; {} fitted the budget.",
            significant(least / own, 2),
            layer.form
        ),
        _ => format!("Of the forms at this size it {what}."),
    };
    Reason { words, rivals }
}

fn costs(curve: &Curve, macs: bool) -> &[u64] {
    if macs { &curve.macs } else { &curve.parameters }
}

fn cost(curve: &Curve, rank: Rank, macs: bool) -> Option<u64> {
    let place = curve.rank.iter().position(|other| *other == rank)?;
    costs(curve, macs).get(place).copied()
}

/// The form where it costs `cost`: on a line between its neighbours, its best where it is never that dear.
fn rival(curve: &Curve, cost: u64, macs: bool) -> Rival {
    let costs = costs(curve, macs);
    let above = costs.partition_point(|&other| other < cost);
    let at = |values: &[f64]| -> Option<f64> {
        if above == costs.len() {
            return values.last().copied();
        }
        let high = *values.get(above)?;
        if costs[above] == cost {
            return Some(high);
        }
        let below = above.checked_sub(1)?;
        let share = (cost - costs[below]) as f64 / (costs[above] - costs[below]) as f64;
        Some(values[below] + (high - values[below]) * share)
    };
    Rival {
        form: curve.form,
        error: at(&curve.error),
        damage: at(&curve.damage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(form: Form, errors: [f64; 3]) -> Curve {
        Curve {
            form,
            rank: vec![Rank::One(1), Rank::One(2), Rank::One(4)],
            parameters: vec![10, 20, 40],
            macs: vec![100, 200, 400],
            error: errors.to_vec(),
            damage: Vec::new(),
        }
    }

    fn layer(form: Form, rank: usize, curves: Vec<Curve>) -> Layer {
        Layer {
            name: "layer".to_owned(),
            form,
            rank: Some(Rank::One(rank)),
            shape: [4, 4, 3, 3],
            parameters: [144, 20],
            macs: [1440, 200],
            bytes: [0; 2],
            weight_error: None,
            response_error: None,
            refused: Vec::new(),
            spectrum: None,
            curves,
        }
    }

    #[test]
    fn rivals_are_compared_at_the_size_that_was_taken() {
        let curves = vec![
            curve(Form::Tucker2, [0.9, 0.5, 0.2]),
            curve(Form::Cp3, [0.8, 0.4, 0.3]),
        ];
        let taken = reason(&layer(Form::Cp3, 2, curves.clone()), None);
        assert_eq!(taken.rivals[0].form, Form::Cp3);
        assert_eq!(taken.rivals[1].error, Some(0.5));
        assert!(taken.words.contains("least error"), "{}", taken.words);
        let other = reason(&layer(Form::Cp3, 4, curves), None);
        assert_eq!(other.rivals[0].form, Form::Tucker2);
        assert!(
            other.words.contains("tucker2 would lose 0.67"),
            "{}",
            other.words
        );
    }

    #[test]
    fn between_two_ranks_the_error_lies_between() {
        let rival = rival(&curve(Form::Cp3, [0.8, 0.4, 0.2]), 30, false);
        assert!((rival.error.unwrap_or(0.0) - 0.3).abs() < 1e-12);
        assert_eq!(
            super::rival(&curve(Form::Cp3, [0.8, 0.4, 0.2]), 5, false).error,
            None
        );
        assert_eq!(
            super::rival(&curve(Form::Cp3, [0.8, 0.4, 0.2]), 90, false).error,
            Some(0.2)
        );
    }

    #[test]
    fn what_was_not_chosen_says_so() {
        let given = reason(&layer(Form::Cp3, 2, Vec::new()), None);
        assert!(given.words.contains("given"));
        let mut kept = layer(Form::Keep, 1, vec![curve(Form::Cp3, [0.8, 0.4, 0.2])]);
        kept.rank = None;
        assert!(reason(&kept, None).words.starts_with("Kept"));
    }
}
