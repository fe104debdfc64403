//! What is written.

use super::*;

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
