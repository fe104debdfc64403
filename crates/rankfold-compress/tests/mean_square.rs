//! Ranks by the mean squared error of the weights (Çallı 2017).
#![allow(clippy::unwrap_used)]

use rankfold_compress::{Budget, Form, Layer, LayerPlan, Rank, Request, Statistics, plan, rule};
use rankfold_decompose::Control;
use rankfold_graph::Graph;
use rankfold_zoo::{Options, build};

fn planned(graph: &Graph, most: f64, forms: &[Form]) -> Vec<LayerPlan> {
    let request = Request {
        forms: Some(forms.to_vec()),
        ..Request::new(Budget::MeanSquare(most))
    };
    let nothing = Statistics::new();
    let planned = plan(graph, &request, &nothing, Control::default(), &|_| ());
    planned.unwrap().plan.layers
}

/// The mean squared error of a layer's factors.
fn error(graph: &Graph, layer: &Layer, form: Form, rank: usize) -> f64 {
    let rule = rule(form).unwrap();
    let kernel = layer.kernel(graph).unwrap();
    let ranks = [Rank::One(rank)];
    let factors = rule.factors(layer, &kernel, &ranks, &Default::default());
    let approximation = rule.reconstruct(layer, &factors.unwrap()[0]);
    let squares = kernel.iter().zip(&approximation);
    let squares = squares.map(|(w, v)| (f64::from(*w) - f64::from(*v)).powi(2));
    squares.sum::<f64>() / kernel.len() as f64
}

/// The thesis' loop: the rank is lowered one at a time while the error allows it, and the result is used
/// where it is below mn / (m + n).
fn lowered(graph: &Graph, layer: &Layer, form: Form, most: f64) -> Option<usize> {
    let [t, s, h, w] = layer.shape;
    let (m, n) = (s * h * w, t);
    let mut rank = m.min(n);
    while rank > 1 && error(graph, layer, form, rank - 1) <= most {
        rank -= 1;
    }
    (rank * (m + n) < m * n).then_some(rank)
}

#[test]
fn the_rank_is_the_one_that_lowering_it_step_by_step_finds() {
    let graph = build("lenet5", &Options::default()).unwrap();
    let forms = [Form::Channel, Form::Svd];
    let layers = Layer::all(&graph);
    let (mut kept, mut changed) = (0, 0);
    // The weights drawn have mean squares of about 1/3 of the inverse fan-in.
    for most in [1e-5, 3e-4, 2e-3] {
        for own in planned(&graph, most, &forms) {
            let layer = layers.iter().find(|layer| layer.name == own.name).unwrap();
            let form = match (own.form, layer.is_pointwise()) {
                (Form::Keep, true) => Form::Svd,
                (Form::Keep, false) => Form::Channel,
                (form, _) => form,
            };
            let expected = lowered(&graph, layer, form, most);
            assert_eq!(
                own.rank.map(|rank| rank.largest()),
                expected,
                "{} as {form} at {most}",
                own.name
            );
            match own.rank {
                None => kept += 1,
                Some(_) => changed += 1,
            }
        }
    }
    assert!(kept > 0 && changed > 0, "{kept} {changed}");
}

#[test]
fn other_forms_stay_within_the_error_too() {
    let graph = build("lenet5", &Options::default()).unwrap();
    let most = 5e-4;
    let layers = Layer::all(&graph);
    for form in [Form::Cp3, Form::Spatial] {
        let planned = planned(&graph, most, &[form]);
        for own in planned.iter().filter(|own| own.form == form) {
            let layer = layers.iter().find(|layer| layer.name == own.name).unwrap();
            let rank = own.rank.unwrap().largest();
            assert!(
                error(&graph, layer, form, rank) <= most * (1.0 + 1e-6),
                "{own:?}"
            );
            assert!(own.parameters.unwrap()[1] < own.parameters.unwrap()[0]);
        }
        assert!(planned.iter().any(|own| own.form == form), "{form}");
    }
}
