//! Files that are not what they should be.

use super::*;

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

#[test]
fn millions_of_empty_messages_are_refused_before_they_are_decoded() {
    let many = |message: &[u8]| message.repeat(6_000_000);
    let nodes = model(17, &many(&[1 << 3 | 2, 0]));
    let attributes = model(17, &field(1, &many(&[5 << 3 | 2, 0])));
    let values = model(17, &field(13, &many(&[2 << 3 | 2, 0]).repeat(4)));
    for bytes in [nodes, attributes, values] {
        let fault = fault(&bytes);
        assert!(matches!(fault, OnnxFault::TooLarge { .. }), "{fault}");
    }
    // Text and data of any length are what they are.
    let long = model(17, &[field(10, &[b'a'; 1 << 20]), output("x")].concat());
    assert!(!matches!(fault(&long), OnnxFault::TooLarge { .. }));
}
