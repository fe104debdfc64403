//! What is written: untouched, changed, and from nothing.

use super::*;

#[test]
fn stored_order_and_offset_survive() {
    let (graph, origin) = read("views");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.pt2");
    write_pt2(&path, &graph, Some(&origin), &Pt2Options::default()).unwrap();
    let config = |path: &Path| -> Value {
        let archive = Archive::open(path).unwrap();
        let config = archive
            .read("data/weights/model_weights_config.json")
            .unwrap();
        serde_json::from_slice(&config).unwrap()
    };
    let (before, after) = (config(&fixture("views")), config(&path));
    assert_eq!(before, after);
    let of = |name: &str| &after["config"][name];
    assert_eq!(of("a.weight")["path_name"], of("a.bias")["path_name"]);
    assert_eq!(
        of("a.weight")["tensor_meta"]["storage_offset"],
        json!({ "as_int": 2 })
    );
    assert_eq!(
        of("b.weight")["tensor_meta"]["strides"][1],
        json!({ "as_int": 1 })
    );
    // What changes gets a storage of its own; the other view keeps the old one.
    let mut changed = graph.clone();
    let zeros = Tensor::from_f32(vec![4], vec![0.0; 4]).unwrap();
    changed.set_weight("a.bias", zeros.clone()).unwrap();
    write_pt2(&path, &changed, Some(&origin), &Pt2Options::default()).unwrap();
    let after = config(&path);
    let of = |name: &str| &after["config"][name];
    assert_ne!(of("a.weight")["path_name"], of("a.bias")["path_name"]);
    let (again, _) = read_pt2(&path).unwrap();
    assert_eq!(again.weights().get("a.bias"), Some(&zeros));
    assert_eq!(
        again.weights().get("a.weight"),
        graph.weights().get("a.weight")
    );
    assert_eq!(of("unused"), &before["config"]["unused"]);
}

#[test]
fn tied_weights_are_one_weight_and_stay_one() {
    let (graph, origin) = read("tied");
    let uses = graph.weight_uses();
    let (&tied, _) = uses.iter().find(|(_, uses)| **uses == 2).unwrap();
    let tied = tied.to_owned();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.pt2");
    let mut changed = graph.clone();
    let table = graph.weights().get(&tied).unwrap();
    let doubled = table.to_f32().unwrap().iter().map(|v| 2.0 * v).collect();
    let doubled = Tensor::from_f32(table.shape().to_vec(), doubled).unwrap();
    changed.set_weight(&tied, doubled.clone()).unwrap();
    write_pt2(&path, &changed, Some(&origin), &Pt2Options::default()).unwrap();
    let (again, _) = read_pt2(&path).unwrap();
    assert_eq!(again.weights().get(&tied), Some(&doubled));
    assert_eq!(again.weight_uses()[tied.as_str()], 2);
    let archive = Archive::open(&path).unwrap();
    let config = archive
        .read("data/weights/model_weights_config.json")
        .unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let storage = |name: &str| config["config"][name]["path_name"].clone();
    assert!(storage("embed.weight").is_string());
    assert_eq!(storage("embed.weight"), storage("head.weight"));
}

#[test]
fn open_sizes_stay_open() {
    let (graph, _) = read("attention");
    let shape = |id| graph.fact(id).shape.clone().unwrap();
    let batch = &shape(graph.inputs()[0])[0];
    assert!(matches!(batch, Dim::Symbol(_)), "{graph}");
    let (graph, _) = read("convs");
    let batch = |id| graph.fact(id).shape.clone().unwrap()[0].clone();
    assert!(
        matches!(batch(graph.inputs()[0]), Dim::Symbol(_)),
        "{graph}"
    );
    assert_eq!(
        batch(graph.outputs()[0]),
        batch(graph.inputs()[0]),
        "{graph}"
    );
    for name in ["conv1d", "spatial"] {
        let (mut graph, origin) = read(name);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("patched.pt2");
        insert_identities(&mut graph);
        write_pt2(&path, &graph, Some(&origin), &Pt2Options::default()).unwrap();
        let (before, after) = (program(&fixture(name)), program(&path));
        assert_eq!(before["range_constraints"], after["range_constraints"]);
        // The new layer's output is of the size of the old one's.
        let of = |p: &Value, value: &str| {
            p["graph_module"]["graph"]["tensor_values"][value]["sizes"].clone()
        };
        let (old, new) = match name {
            "conv1d" => (of(&before, "conv1d_1"), of(&after, "b_0")),
            _ => (of(&before, "conv2d"), of(&after, "a_0")),
        };
        let hints = |sizes: &Value| -> Vec<Option<i64>> {
            let hint = |s: &Value| {
                s["as_int"]
                    .as_i64()
                    .or(s["as_expr"]["hint"]["as_int"].as_i64())
            };
            sizes.as_array().unwrap().iter().map(hint).collect()
        };
        assert!(new[2]["as_expr"].is_object(), "{name}: {new}");
        assert_eq!(hints(&old), hints(&new), "{name}");
    }
}

/// Puts a layer that changes nothing after every convolution and linear layer.
fn insert_identities(graph: &mut Graph) {
    let names: Vec<String> = graph.nodes().iter().map(|n| n.name.clone()).collect();
    for name in names {
        let node = graph.node(&name).unwrap().clone();
        let mut patch = Patch::new("test");
        let (first, second): (Op, Op) = match &node.op {
            Op::Conv(conv) => {
                let kernel = graph.weights().get(&conv.weight).unwrap();
                let (out, spatial) = (kernel.shape()[0], conv.stride.len());
                let mut shape = vec![1; spatial + 2];
                shape[..2].fill(out);
                let weight = format!("{name}.1.weight");
                patch.weight(weight.clone(), identity(shape, out, kernel.dtype()));
                let second = Conv::new(weight, conv.bias.clone(), spatial);
                let first = Conv {
                    bias: None,
                    ..conv.clone()
                };
                (first.into(), second.into())
            }
            Op::Linear(linear) => {
                let matrix = graph.weights().get(&linear.weight).unwrap();
                let out = matrix.shape()[0];
                let weight: rankfold_graph::WeightName = format!("{name}.1.weight").into();
                patch.weight(
                    weight.clone(),
                    identity(vec![out, out], out, matrix.dtype()),
                );
                let bias = linear.bias.clone();
                let first = Linear {
                    weight: linear.weight.clone(),
                    bias: None,
                };
                (first.into(), Linear { weight, bias }.into())
            }
            _ => continue,
        };
        let first = patch.node(format!("{name}.0"), first, &[node.inputs[0].into()]);
        let second = patch.node(format!("{name}.1"), second, &[first]);
        patch.redirect(node.output(), second);
        patch.apply(graph).unwrap();
    }
}

fn identity(shape: Vec<usize>, size: usize, dtype: DType) -> Tensor {
    let values = (0..size * size).map(|i| if i % (size + 1) == 0 { 1.0 } else { 0.0 });
    let tensor = Tensor::from_f32(shape, values.collect()).unwrap();
    tensor.to_float_dtype(dtype).unwrap()
}

#[test]
fn an_untouched_program_is_the_same_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.pt2");
    for name in ALL {
        let (graph, origin) = read(name);
        write_pt2(&path, &graph, Some(&origin), &Pt2Options::default()).unwrap();
        let (before, after) = (program_of(name), program(&path));
        assert_eq!(nodes(&before).len(), nodes(&after).len(), "{name}");
        for (a, b) in nodes(&before).iter().zip(nodes(&after)) {
            assert_eq!(
                (&a["target"], &a["outputs"]),
                (&b["target"], &b["outputs"]),
                "{name}"
            );
        }
        let (again, _) = read_pt2(&path).unwrap();
        assert_eq!(again.to_string(), graph.to_string(), "{name}");
        assert_eq!(again.weights(), graph.weights(), "{name}");
    }
}

#[test]
fn a_changed_program_names_and_describes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.pt2");
    for name in ALL.iter().filter(|name| **name != "memory") {
        let (mut graph, origin) = read(name);
        insert_identities(&mut graph);
        let mut options = Pt2Options::default();
        options.extra.insert("rankfold".to_owned(), "{}".to_owned());
        write_pt2(&path, &graph, Some(&origin), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let after = program(&path);
        let inner = &after["graph_module"]["graph"];
        let inputs = inner["inputs"].as_array().unwrap();
        let specs = after["graph_module"]["signature"]["input_specs"]
            .as_array()
            .unwrap();
        assert_eq!(inputs.len(), specs.len(), "{name}");
        for node in nodes(&after) {
            let metadata = &node["metadata"]["nn_module_stack"];
            assert!(
                metadata.as_str().is_some_and(|s| s.contains(',')),
                "{name}: {node}"
            );
            for output in node["outputs"].as_array().unwrap() {
                if let Some(value) = output["as_tensor"]["name"].as_str() {
                    assert!(inner["tensor_values"][value].is_object(), "{name}: {value}");
                }
            }
        }
        let writes = nodes(&after).iter().filter_map(|n| n["target"].as_str());
        let of_activations = writes.filter(|t| t.contains("relu_.") || t.contains("hardswish_."));
        assert_eq!(of_activations.count(), 0, "{name}");
        // Read again, what is the graph's is there.
        let (again, origin) = read_pt2(&path).unwrap();
        for kind in ["conv", "linear", "opaque", "conv_transpose"] {
            let count = |g: &Graph| g.nodes().iter().filter(|n| n.op.kind() == kind).count();
            assert_eq!(
                count(&again),
                count(&graph),
                "{name} {kind}:\n{graph}\n{again}"
            );
        }
        assert_eq!(again.weights().len(), graph.weights().len(), "{name}");
        assert_eq!(origin.extra().collect::<Vec<_>>(), [("rankfold", "{}")]);
    }
}

#[test]
fn what_shares_memory_cannot_change() {
    let (mut graph, origin) = read("memory");
    insert_identities(&mut graph);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.pt2");
    let error = write_pt2(&path, &graph, Some(&origin), &Pt2Options::default()).unwrap_err();
    let FormatError::Pt2 { fault, .. } = &error else {
        panic!("{error}")
    };
    assert!(matches!(&**fault, Pt2Fault::Shared { .. }), "{error}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("run_decompositions"))
    );
    assert!(!path.exists());
}

#[test]
fn a_graph_from_nowhere_is_written_and_one_with_opaque_ops_refused() {
    let mut builder = GraphBuilder::new("small");
    let fact = Fact::new(DType::F32, [Dim::batch(), 3.into(), Dim::UNKNOWN, 8.into()]);
    let x = builder.input("x y", fact).unwrap();
    builder.weight(
        "class.weight",
        Tensor::from_f32(vec![2, 3, 3, 3], vec![0.5; 54]).unwrap(),
    );
    let y = builder
        .op(
            "class",
            Conv::new("class.weight", None, 2).stride(2).padding(1),
            &[x],
        )
        .unwrap();
    let y = builder.op("lambda", Activation::Relu, &[y]).unwrap();
    let scalar = BinaryScalar {
        arithmetic: rankfold_graph::ops::Arithmetic::Div,
        scalar: 1.0,
        reversed: true,
    };
    let y = builder.op("one over", scalar, &[y]).unwrap();
    let graph = builder.finish(&[y]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.pt2");
    write_pt2(&path, &graph, None, &Pt2Options::default()).unwrap();
    let (again, _) = read_pt2(&path).unwrap();
    assert_eq!(opaque(&again), ["aten.reciprocal.default"], "{again}");
    assert_eq!(conv(&again, "class").stride, [2, 2]);
    let written = program(&path);
    let names: Vec<&str> = nodes(&written)
        .iter()
        .filter_map(|n| n["name"].as_str())
        .collect();
    assert!(
        names
            .iter()
            .all(|n| !["class", "lambda"].contains(n) && !n.contains(' '))
    );
    let (graph, _) = read("branches");
    let error = write_pt2(&path, &graph, None, &Pt2Options::default()).unwrap_err();
    assert!(error.to_string().contains("opaque"), "{error}");
}
