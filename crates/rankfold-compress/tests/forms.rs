//! Which forms compete in which layers.
#![allow(clippy::unwrap_used)]

use rankfold_compress::{Budget, Form, Limit, Request, Resource, timing_grid};
use rankfold_zoo::{Options, build};

/// The forms of the first convolution, of one in the middle, and of the last layer.
fn competing(forms: Option<Vec<Form>>) -> [Vec<Form>; 3] {
    let graph = build("resnet20", &Options::default()).unwrap();
    let budget = Budget::Within {
        resource: Resource::Time,
        limit: Limit::Share(0.5),
    };
    let request = Request {
        forms,
        ..Request::new(budget)
    };
    let grid = timing_grid(&graph, &request).unwrap();
    ["conv1", "layer2.1.conv1", "linear"].map(|name| {
        let own = grid.layers.iter().find(|(layer, _)| layer.name == name);
        own.unwrap().1.iter().map(|own| own.form).collect()
    })
}

#[test]
fn the_first_convolution_and_the_last_layer_have_the_papers_own_forms_by_default() {
    let inner = vec![Form::Cp3, Form::Tucker2, Form::Spatial, Form::Channel];
    let expected = [vec![Form::Cp2], inner, vec![Form::Svd]];
    assert_eq!(competing(None), expected);
}

#[test]
fn forms_that_are_asked_for_are_those_of_every_layer_that_can_take_one() {
    let tucker = vec![Form::Tucker2];
    let expected = [tucker.clone(), tucker.clone(), vec![Form::Svd]];
    assert_eq!(competing(Some(tucker)), expected);
    let forms = vec![Form::Channel, Form::Svd];
    let expected = [vec![Form::Channel], vec![Form::Channel], vec![Form::Svd]];
    assert_eq!(competing(Some(forms)), expected);
}
