//! What is read, and what it means.

use super::*;

#[test]
fn what_is_understood_and_what_is_not() {
    for name in [
        "attention",
        "bfloat",
        "conv1d",
        "convs",
        "half",
        "spatial",
        "tied",
        "views",
    ] {
        let (graph, _) = read(name);
        assert_eq!(opaque(&graph), [""; 0], "{name}:\n{graph}");
    }
    let of = |name| {
        let (graph, _) = read(name);
        opaque(&graph)
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("branches"),
        ["aten.cumsum.default", "aten.repeat_interleave.self_int"]
    );
    assert_eq!(of("memory"), ["aten.mul_.Tensor"]);
    assert_eq!(of("training"), ["aten.batch_norm.default"]);
    assert!(of("choice").contains(&"higher_order.cond".to_owned()));
}

#[test]
fn layers_have_the_attributes_of_their_modules() {
    for name in ["convs", "convs_decomposed"] {
        let (graph, _) = read(name);
        let depthwise = conv(&graph, "depthwise");
        assert_eq!(
            (depthwise.groups, &depthwise.dilation[..]),
            (8, &[2, 2][..])
        );
        assert_eq!(depthwise.bias, None);
        assert_eq!(conv(&graph, "conv").stride, [2, 2], "{name}");
        assert_eq!(conv(&graph, "grouped").padding, [[0, 0], [1, 1]], "{name}");
        assert!(matches!(op(&graph, "up"), Op::ConvTranspose(c) if c.output_padding == [1, 1]));
        assert!(matches!(op(&graph, "norm"), Op::BatchNorm(n) if n.eps == 1e-5));
        assert!(matches!(op(&graph, "fc"), Op::Linear(l) if l.bias.as_deref() == Some("fc.bias")));
        assert!(
            matches!(op(&graph, "last"), Op::LayerNorm(n) if n.shape == [6]),
            "{name}"
        );
    }
    // An even window has one more zero behind than before.
    let (graph, _) = read("convs");
    let even = conv(&graph, "even");
    assert_eq!((&even.padding[..], even.groups), (&[[0, 1], [3, 3]][..], 3));
}

#[test]
fn weights_are_what_pytorch_has_however_they_are_stored() {
    for name in ALL {
        let (graph, _) = read(name);
        let truth = truth(name);
        let mut compared = 0;
        for (weight, tensor) in graph.weights().iter() {
            if let Some(expected) = truth.get(&format!("weight.{weight}")) {
                assert_eq!(tensor, expected, "{name}: {weight}");
                compared += 1;
            }
        }
        assert!(compared > 1, "{name}");
    }
}
