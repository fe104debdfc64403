//! Ranks that are multiples of what an engine moves together.

use crate::curves::{LayerCurves, Point};
use crate::error::CompressError;
use crate::form::Form;
use crate::layer::{Kind, Layer};
use crate::plan::{LayerPlan, find};
use crate::planner::at_rank;
use crate::rules::rule;

/// Raises given ranks of convolutions to multiples of `step`.
pub(crate) fn raise(
    layers: &[Layer],
    plans: &mut [LayerPlan],
    step: usize,
) -> Result<(), CompressError> {
    for planned in plans {
        let layer = find(layers, &planned.name)?;
        let (Some(rank), Some(rule)) = (planned.rank, rule(planned.form)) else {
            continue;
        };
        if layer.kind != Kind::Linear {
            let raised = rank.raised(step, rule.full_rank(layer));
            *planned = at_rank(layer, planned.form, raised)?;
        }
    }
    Ok(())
}

/// Leaves the points of a convolution whose ranks are multiples of `step`, and forms that have none.
pub(crate) fn keep_multiples(curves: &mut LayerCurves, step: usize) {
    let is_multiple = |point: &Point| point.rank.is_some_and(|rank| rank.is_multiple_of(step));
    let with_some: Vec<Form> = (curves.points.iter().filter(|point| is_multiple(point)))
        .map(|point| point.form)
        .collect();
    if curves.layer.kind != Kind::Linear {
        let kept = |point: &Point| is_multiple(point) || !with_some.contains(&point.form);
        curves.points.retain(kept);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use rankfold_decompose::Control;
    use rankfold_graph::Graph;

    use super::*;
    use crate::{
        Budget, CurveOptions, LayerRank, Limit, Rank, Request, Resource, Statistics, plan,
    };

    fn planned(graph: &Graph, budget: Budget, forms: &[Form]) -> Vec<LayerPlan> {
        let request = Request {
            align: NonZeroUsize::new(16),
            forms: Some(forms.to_vec()),
            curves: CurveOptions {
                ranks: 3,
                ..CurveOptions::default()
            },
            ..Request::new(budget)
        };
        let nothing = Statistics::new();
        let planned = plan(graph, &request, &nothing, Control::default(), &|_| ());
        planned.unwrap().plan.layers
    }

    fn network() -> Graph {
        rankfold_zoo::build("resnet20", &rankfold_zoo::Options::default()).unwrap()
    }

    #[test]
    fn given_ranks_are_raised_where_they_can_be() {
        let given = |layer: &str, rank, form| LayerRank {
            layer: layer.to_owned(),
            rank,
            form,
        };
        let ranks = vec![
            given("layer1.0.conv1", Rank::One(17), None),
            // The full rank of a spatial form of 16 channels is 48, of conv1 in the paper's form 16.
            given("layer1.0.conv2", Rank::One(47), Some(Form::Spatial)),
            given("layer3.0.conv2", Rank::Two([33, 5]), Some(Form::Tucker2)),
            given("conv1", Rank::One(9), None),
            given("linear", Rank::One(5), None),
        ];
        let layers = planned(&network(), Budget::Ranks(ranks), &[]);
        let rank = |name: &str| layers.iter().find(|l| l.name == name).unwrap().rank;
        assert_eq!(rank("layer1.0.conv1"), Some(Rank::One(32)));
        assert_eq!(rank("layer1.0.conv2"), Some(Rank::One(48)));
        assert_eq!(rank("layer3.0.conv2"), Some(Rank::Two([48, 16])));
        assert_eq!(rank("conv1"), Some(Rank::One(16)));
        assert_eq!(rank("linear"), Some(Rank::One(5)));
    }

    #[test]
    fn of_other_ranks_the_multiples_compete() {
        let budget = Budget::Within {
            resource: Resource::Parameters,
            limit: Limit::Share(0.4),
        };
        let layers = planned(&network(), budget, &[Form::Spatial, Form::Channel]);
        let mut changed = 0;
        for layer in layers.iter().filter(|l| l.rank.is_some()) {
            assert!(layer.rank.unwrap().is_multiple_of(16), "{layer:?}");
            changed += 1;
        }
        assert!(changed > 5, "{changed}");
    }
}
