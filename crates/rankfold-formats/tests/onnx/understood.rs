//! What nodes of a file become.

use super::*;

#[test]
fn everything_known_is_understood() {
    for name in [
        "attention",
        "attention14",
        "attention_dynamo",
        "conv1d",
        "convs",
        "convs11",
        "convs_dynamo",
        "external",
        "half",
        "half_dynamo",
        "tied",
        "tied_dynamo",
        "typed",
    ] {
        let (graph, _) = read(&format!("{name}.onnx"));
        assert_eq!(opaque(&graph), [""; 0], "{name}:\n{graph}");
    }
}

#[test]
fn layers_are_named_after_their_modules() {
    for name in [
        "convs.onnx",
        "convs_dynamo.onnx",
        "external.onnx",
        "typed.onnx",
    ] {
        let (graph, _) = read(name);
        let depthwise = conv(&graph, "depthwise");
        assert_eq!(
            (depthwise.groups, &depthwise.dilation[..]),
            (8, &[2, 2][..]),
            "{name}"
        );
        assert_eq!(&*depthwise.weight, "depthwise.weight", "{name}");
        assert_eq!(conv(&graph, "grouped").padding, [[0, 0], [1, 1]], "{name}");
        assert_eq!(
            linear(&graph, "fc").bias.as_deref(),
            Some("fc.bias"),
            "{name}"
        );
        // The newer exporter folds it into the convolution.
        let norm = graph.node("norm").map(|n| n.op.kind());
        let expected = (!name.contains("dynamo")).then_some("batch_norm");
        assert_eq!(norm, expected, "{name}");
        assert!(
            matches!(graph.node("up").unwrap().op, Op::ConvTranspose(_)),
            "{name}"
        );
    }
}

#[test]
fn weights_are_the_same_however_they_are_stored() {
    let (plain, _) = read("convs.onnx");
    for name in ["external.onnx", "typed.onnx"] {
        let (other, _) = read(name);
        for (weight, tensor) in plain.weights().iter() {
            assert_eq!(
                other.weights().get(weight),
                Some(tensor),
                "{name}: {weight}"
            );
        }
    }
}

#[test]
fn products_with_a_matrix_and_a_bias_are_linear_layers() {
    let kinds = |graph: &Graph| {
        let count = |kind| graph.nodes().iter().filter(|n| n.op.kind() == kind).count();
        (count("linear"), count("matmul"), count("layer_norm"))
    };
    let (graph, _) = read("attention.onnx");
    // Five projections and the head; the two products left are those of the attention itself.
    assert_eq!(kinds(&graph), (5, 2, 2), "{graph}");
    let gelu =
        |n: &rankfold_graph::Node| matches!(n.op, Op::Activation(Activation::Gelu { tanh: false }));
    assert!(graph.nodes().iter().any(gelu), "{graph}");
    let (graph, _) = read("attention_dynamo.onnx");
    assert_eq!((kinds(&graph).0, kinds(&graph).1), (5, 2), "{graph}");
    assert!(graph.nodes().iter().any(gelu), "{graph}");
}

#[test]
fn open_dimensions_stay_open() {
    let (graph, _) = read("attention.onnx");
    let batch = Dim::Symbol("batch".into());
    for &id in graph.inputs().iter().chain(graph.outputs()) {
        assert_eq!(graph.fact(id).shape.as_ref().unwrap()[0], batch, "{graph}");
    }
    let (graph, _) = read("conv1d.onnx");
    let shape = graph.fact(graph.inputs()[0]).shape.clone().unwrap();
    assert_eq!(shape[2], Dim::Symbol("time".into()));
}

#[test]
fn tied_weights_are_one_weight() {
    for name in ["tied.onnx", "tied_dynamo.onnx"] {
        let (graph, _) = read(name);
        let tables = graph.nodes().iter().filter_map(|n| match &n.op {
            Op::Embedding(embedding) => Some(embedding.weight.clone()),
            Op::Linear(linear) if graph.weights().get(&linear.weight)?.shape() == [11, 6] => {
                Some(linear.weight.clone())
            }
            _ => None,
        });
        let tables: Vec<_> = tables.collect();
        assert_eq!(tables.len(), 2, "{name}:\n{graph}");
        assert_eq!(tables[0], tables[1], "{name}");
    }
    let (graph, _) = read("handmade.onnx");
    let shared = graph.weight_uses();
    assert_eq!(shared["w5"], 2);
}

#[test]
fn what_is_not_known_is_opaque_and_carried_through() {
    let (graph, origin) = read("handmade.onnx");
    assert_eq!(
        opaque(&graph),
        ["Gemm", "Split", "If", "Greater", "Cast"],
        "{graph}"
    );
    assert_eq!(conv(&graph, "Conv_0").padding, [[1, 1], [0, 1]]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.onnx");
    write_onnx(&path, &graph, Some(&origin), &OnnxOptions::default()).unwrap();
    let (again, origin) = read_onnx(&path).unwrap();
    assert_eq!(again.to_string(), graph.to_string());
    let metadata: Vec<_> = origin.metadata().collect();
    assert_eq!(metadata, [("author", "nobody"), ("answer", "42")]);
    let bytes = std::fs::read(&path).unwrap();
    for name in ["never_used", "foreign", "secret", "made by hand"] {
        let found = bytes.windows(name.len()).any(|w| w == name.as_bytes());
        assert!(found, "{name} is gone");
    }
    let err = write_onnx(&path, &graph, None, &OnnxOptions::default()).unwrap_err();
    assert!(
        matches!(
            err,
            FormatError::Onnx {
                fault: OnnxFault::NoForm { .. },
                ..
            }
        ),
        "{err}"
    );
}
