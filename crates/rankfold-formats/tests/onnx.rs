//! ONNX models that PyTorch and others wrote: what becomes of them, and every bad one.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rankfold_formats::{
    FormatError, OnnxFault, OnnxOptions, OnnxOrigin, read_onnx, read_weights, write_onnx,
};
use rankfold_graph::ops::{Activation, Conv, Linear};
use rankfold_graph::{Dim, Graph, Op, Patch, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/onnx")
        .join(name)
}

fn read(name: &str) -> (Graph, OnnxOrigin) {
    read_onnx(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn opaque(graph: &Graph) -> Vec<&str> {
    let target = |op: &'_ Op| matches!(op, Op::Opaque(_));
    let nodes = graph.nodes().iter().filter(|n| target(&n.op));
    nodes
        .map(|n| match &n.op {
            Op::Opaque(opaque) => opaque.target.as_str(),
            _ => "",
        })
        .collect()
}

fn linear<'g>(graph: &'g Graph, name: &str) -> &'g Linear {
    match &graph
        .node(name)
        .unwrap_or_else(|| panic!("no {name} in\n{graph}"))
        .op
    {
        Op::Linear(linear) => linear,
        other => panic!("{name} is {other:?}"),
    }
}

fn conv<'g>(graph: &'g Graph, name: &str) -> &'g Conv {
    match &graph
        .node(name)
        .unwrap_or_else(|| panic!("no {name} in\n{graph}"))
        .op
    {
        Op::Conv(conv) => conv,
        other => panic!("{name} is {other:?}"),
    }
}

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

#[test]
fn reading_and_writing_changes_nothing_and_is_the_same_every_time() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "attention",
        "attention14",
        "attention_dynamo",
        "branches",
        "branches_dynamo",
        "conv1d",
        "convs",
        "convs11",
        "convs_dynamo",
        "external",
        "half",
        "half_dynamo",
        "handmade",
        "tied",
        "typed",
    ] {
        let (graph, origin) = read(&format!("{name}.onnx"));
        let write = |file: &str, options: &OnnxOptions| {
            let path = dir.path().join(file);
            write_onnx(&path, &graph, Some(&origin), options).unwrap();
            (std::fs::read(&path).unwrap(), path)
        };
        let (first, path) = write("a.onnx", &OnnxOptions::default());
        assert_eq!(first, write("b.onnx", &OnnxOptions::default()).0, "{name}");
        let (again, _) = read_onnx(&path).unwrap();
        assert_eq!(again, graph, "{name}");
        let external = OnnxOptions {
            external_data: true,
            ..OnnxOptions::default()
        };
        let (_, path) = write("c.onnx", &external);
        assert_eq!(read_onnx(&path).unwrap().0, graph, "{name}");
    }
}

#[test]
fn a_patched_layer_is_written_anew_and_the_rest_as_it_was() {
    let (mut graph, origin) = read("attention.onnx");
    let node = graph
        .nodes()
        .iter()
        .find(|n| n.name == "up")
        .unwrap()
        .clone();
    let Op::Linear(up) = &node.op else {
        panic!("{graph}")
    };
    let mut patch = Patch::new("test");
    patch.weight("up.a", Tensor::from_f32(vec![2, 8], vec![0.5; 16]).unwrap());
    patch.weight(
        "up.b",
        Tensor::from_f32(vec![16, 2], vec![0.5; 32]).unwrap(),
    );
    let first = Linear {
        weight: "up.a".into(),
        bias: None,
    };
    let second = Linear {
        weight: "up.b".into(),
        bias: up.bias.clone(),
    };
    let a = patch.node("up.0", first, &[node.inputs[0].into()]);
    let b = patch.node("up.1", second, &[a]);
    patch.redirect(node.output(), b);
    patch.apply(&mut graph).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("patched.onnx");
    let mut options = OnnxOptions::default();
    options.metadata.insert("rankfold".into(), "{}".into());
    write_onnx(&path, &graph, Some(&origin), &options).unwrap();
    let (again, origin) = read_onnx(&path).unwrap();
    assert_eq!(origin.metadata().last(), Some(("rankfold", "{}")));
    let matrices: Vec<_> = again
        .nodes()
        .iter()
        .filter_map(|n| match &n.op {
            Op::Linear(l) => Some(again.weights().get(&l.weight)?.shape().to_vec()),
            _ => None,
        })
        .collect();
    assert_eq!(
        matrices,
        [
            vec![24, 8],
            vec![8, 8],
            vec![2, 8],
            vec![16, 2],
            vec![8, 16],
            vec![3, 8]
        ]
    );
    assert!(
        again.weights().iter().all(|(name, _)| *name != up.weight),
        "the old matrix is gone"
    );
}

fn fault(bytes: &[u8]) -> OnnxFault {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    std::fs::write(&path, bytes).unwrap();
    match read_onnx(&path) {
        Err(FormatError::Onnx { fault, .. }) => fault,
        Err(other) => panic!("{other}"),
        Ok((graph, _)) => panic!("read as\n{graph}"),
    }
}

/// A length-delimited field.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    let mut n = content.len();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(content);
    out
}

fn model(opset: u8, graph: &[u8]) -> Vec<u8> {
    [vec![0x08, 8], field(7, graph), field(8, &[0x10, opset])].concat()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|i| field(1, i.as_bytes()));
    let outputs = outputs.iter().flat_map(|o| field(2, o.as_bytes()));
    let body: Vec<u8> = inputs
        .chain(outputs)
        .chain(field(4, op.as_bytes()))
        .collect();
    field(1, &body)
}

fn tensor(name: &str, dims: &[u8], rest: &[u8]) -> Vec<u8> {
    let dims = field(1, dims);
    field(
        5,
        &[
            dims,
            vec![0x10, 1],
            field(8, name.as_bytes()),
            rest.to_vec(),
        ]
        .concat(),
    )
}

fn output(name: &str) -> Vec<u8> {
    field(12, &field(1, name.as_bytes()))
}

#[test]
fn models_that_contradict_themselves_are_refused() {
    let f = fault(&model(
        17,
        &[node("Relu", &["x"], &["y"]), output("y")].concat(),
    ));
    assert!(
        matches!(&f, OnnxFault::Undefined { value, .. } if value == "x"),
        "{f}"
    );
    let cycle = [
        node("Relu", &["b"], &["a"]),
        node("Relu", &["a"], &["b"]),
        output("b"),
    ]
    .concat();
    assert!(matches!(
        fault(&model(17, &cycle)),
        OnnxFault::Undefined { .. }
    ));
    let twice = [
        tensor("w", &[1], &field(9, &[0; 4])),
        node("Relu", &["w"], &["w"]),
        output("w"),
    ]
    .concat();
    assert!(matches!(fault(&model(17, &twice)), OnnxFault::Duplicate { name } if name == "w"));
    let twice = [
        tensor("w", &[1], &field(9, &[0; 4])),
        tensor("w", &[1], &field(9, &[0; 4])),
    ]
    .concat();
    assert!(matches!(fault(&model(17, &twice)), OnnxFault::Duplicate { name } if name == "w"));
    let nothing = output("y");
    assert!(
        matches!(fault(&model(17, &nothing)), OnnxFault::Undefined { value, .. } if value == "y")
    );
    assert!(matches!(fault(&model(7, &[])), OnnxFault::Opset { got: 7 }));
    assert!(matches!(
        fault(&model(99, &[])),
        OnnxFault::Opset { got: 99 }
    ));
    assert!(matches!(
        fault(&[0x08, 8, 0x42, 2, 0x10, 17, 0x12, 1, b'x']),
        OnnxFault::NoGraph
    ));
}

#[test]
fn tensors_that_lie_about_their_size_are_refused() {
    let short = tensor("w", &[3], &field(9, &[0; 8]));
    assert!(
        matches!(fault(&model(17, &short)), OnnxFault::Size { tensor, expected: 12, got: 8, .. } if tensor == "w")
    );
    let none = tensor("w", &[3], &[]);
    assert!(matches!(
        fault(&model(17, &none)),
        OnnxFault::Size { got: 0, .. }
    ));
    // 2⁶² elements, and a negative size.
    let size = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    assert!(matches!(
        fault(&model(17, &tensor("w", &size, &[]))),
        OnnxFault::Shape { .. }
    ));
    let minus = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert!(matches!(
        fault(&model(17, &tensor("w", &minus, &[]))),
        OnnxFault::Shape { .. }
    ));
}

#[test]
fn data_outside_of_the_folder_is_refused() {
    let entry = |key: &str, value: &str| {
        field(
            13,
            &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
        )
    };
    let at = |location: &str, offset: &str| {
        let rest = [
            entry("location", location),
            entry("offset", offset),
            vec![0x70, 1],
        ]
        .concat();
        model(17, &tensor("w", &[3], &rest))
    };
    for location in ["../secret", "/etc/passwd", "a/../../secret", ""] {
        let f = fault(&at(location, "0"));
        assert!(
            matches!(&f, OnnxFault::Outside { tensor, .. } if tensor == "w"),
            "{f}"
        );
    }
    assert!(matches!(
        fault(&at("missing", "0")),
        OnnxFault::External { .. }
    ));
    // The model itself is a file of its folder.
    for offset in ["1000000", "18446744073709551615", "-1", "many"] {
        assert!(
            matches!(fault(&at("m.onnx", offset)), OnnxFault::PastEnd { .. }),
            "{offset}"
        );
    }
    #[cfg(unix)]
    {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let path = dir.path().join("m.onnx");
        std::fs::write(&path, at("link", "0")).unwrap();
        let err = read_onnx(&path).unwrap_err();
        assert!(
            matches!(
                err,
                FormatError::Onnx {
                    fault: OnnxFault::Outside { .. },
                    ..
                }
            ),
            "{err}"
        );
    }
}

#[test]
fn long_chains_and_deep_graphs_do_not_overflow() {
    // A chain of shape computations that nothing but its end asks for.
    let mut graph = tensor("s0", &[2], &field(9, &[0; 8]));
    graph.extend(node("Shape", &["s0"], &["s1"]));
    for i in 1..20_000 {
        graph.extend(node(
            "Identity",
            &[&format!("s{i}")],
            &[&format!("s{}", i + 1)],
        ));
    }
    graph.extend(output("s20000"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    std::fs::write(&path, model(17, &graph)).unwrap();
    read_onnx(&path).unwrap();
    // Subgraphs in subgraphs: attribute.g.node.attribute.g…
    let mut inner = node("Relu", &["x"], &["y"]);
    for _ in 0..2_000 {
        let attribute = field(5, &field(6, &inner));
        inner = field(1, &[attribute, field(4, b"If")].concat());
    }
    assert!(matches!(fault(&model(17, &inner)), OnnxFault::Decode(_)));
}

#[test]
fn every_truncation_is_an_error_and_no_flipped_byte_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    for name in ["tied.onnx", "conv1d.onnx", "handmade.onnx"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for end in (0..bytes.len()).step_by(5) {
            std::fs::write(&path, &bytes[..end]).unwrap();
            // What is cut between two fields may still be a smaller model.
            let _ = read_onnx(&path);
        }
        for at in (0..bytes.len()).step_by(3) {
            let mut bad = bytes.clone();
            bad[at] ^= [0xff, 0x01, 0x80][at / 3 % 3];
            std::fs::write(&path, &bad).unwrap();
            let _ = read_onnx(&path);
        }
    }
}

#[test]
fn an_onnx_model_is_no_file_of_weights_and_says_so() {
    let err = read_weights(&fixture("tied.onnx")).unwrap_err();
    assert!(
        err.to_string()
            .ends_with("expected a file of named tensors, found an ONNX model"),
        "{err}"
    );
    let weights =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights/plain.safetensors");
    assert!(matches!(
        read_onnx(&weights),
        Err(FormatError::WrongKind { .. })
    ));
}
