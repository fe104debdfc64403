//! Programs that PyTorch exported: what becomes of them, and every bad one.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use rankfold_formats::{
    Archive, ArchiveFault, FormatError, Pt2Fault, Pt2Options, Pt2Origin, StateDict, read_pt2,
    read_weights, write_pt2,
};
use rankfold_graph::ops::{Activation, BinaryScalar, Conv, Linear};
use rankfold_graph::{DType, Dim, Fact, Graph, GraphBuilder, Op, Patch, Tensor};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pt2");
    folder.join(format!("{name}.pt2"))
}

fn read(name: &str) -> (Graph, Pt2Origin) {
    read_pt2(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What PyTorch says the tensors of the state dict are.
fn truth(name: &str) -> StateDict {
    let path = fixture(name).with_extension("safetensors");
    read_weights(&path).unwrap().tensors
}

fn opaque(graph: &Graph) -> Vec<&str> {
    let nodes = graph.nodes().iter();
    let mut found: Vec<&str> = nodes
        .filter_map(|n| match &n.op {
            Op::Opaque(opaque) => Some(opaque.target.as_str()),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn op<'g>(graph: &'g Graph, name: &str) -> &'g Op {
    let node = graph.node(name);
    &node.unwrap_or_else(|| panic!("no {name} in\n{graph}")).op
}

fn conv<'g>(graph: &'g Graph, name: &str) -> &'g Conv {
    match op(graph, name) {
        Op::Conv(conv) => conv,
        other => panic!("{name} is {other:?}"),
    }
}

fn program(path: &Path) -> Value {
    let archive = Archive::open(path).unwrap();
    serde_json::from_slice(&archive.read("models/model.json").unwrap()).unwrap()
}

const ALL: &[&str] = &[
    "attention",
    "attention_decomposed",
    "bfloat",
    "branches",
    "branches_decomposed",
    "choice",
    "conv1d",
    "convs",
    "convs_decomposed",
    "half",
    "memory",
    "memory_decomposed",
    "spatial",
    "tied",
    "training",
    "training_decomposed",
    "views",
];

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

fn program_of(name: &str) -> Value {
    let archive = Archive::open(&fixture(name)).unwrap();
    serde_json::from_slice(&archive.read("models/model.json").unwrap()).unwrap()
}

fn nodes(program: &Value) -> &[Value] {
    program["graph_module"]["graph"]["nodes"]
        .as_array()
        .unwrap()
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

/// The files of a fixture, some of them changed.
struct Forgery(Vec<(String, Vec<u8>)>);

impl Forgery {
    fn of(name: &str) -> Self {
        let archive = Archive::open(&fixture(name)).unwrap();
        let file = |full: &str| {
            let name = full.strip_prefix(archive.root()).unwrap();
            (full.to_owned(), archive.read(name).unwrap().to_vec())
        };
        let files = archive.names().map(file).collect();
        Self(files)
    }

    fn file(&mut self, ending: &str) -> &mut (String, Vec<u8>) {
        self.0
            .iter_mut()
            .find(|(name, _)| name.ends_with(ending))
            .unwrap()
    }

    fn json(mut self, ending: &str, change: impl FnOnce(&mut Value)) -> Self {
        let (_, data) = self.file(ending);
        let mut value = serde_json::from_slice(data).unwrap();
        change(&mut value);
        *data = serde_json::to_vec(&value).unwrap();
        self
    }

    fn program(self, change: impl FnOnce(&mut Value)) -> Self {
        self.json("models/model.json", |program| {
            change(&mut program["graph_module"])
        })
    }

    fn weights(self, change: impl FnOnce(&mut Value)) -> Self {
        self.json("model_weights_config.json", |config| {
            change(&mut config["config"])
        })
    }

    fn add(mut self, name: &str, data: &[u8]) -> Self {
        let root = self.0[0].0.split('/').next().unwrap().to_owned();
        self.0.push((format!("{root}/{name}"), data.to_vec()));
        self
    }

    fn read(self) -> Result<Graph, Box<FormatError>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, data) in self.0 {
            zip.start_file(name, options).unwrap();
            zip.write_all(&data).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forged.pt2");
        std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
        let (graph, _) = read_pt2(&path)?;
        Ok(graph)
    }

    fn fault(self) -> Pt2Fault {
        match *self.read().unwrap_err() {
            FormatError::Pt2 { fault, .. } => *fault,
            other => panic!("{other}"),
        }
    }
}

fn views() -> Forgery {
    Forgery::of("views")
}

#[test]
fn a_forgery_without_change_is_read() {
    assert!(views().read().is_ok());
}

#[test]
fn pickles_are_refused() {
    let pickle = views().weights(|w| w["a.weight"]["use_pickle"] = true.into());
    assert!(matches!(pickle.fault(), Pt2Fault::Pickle { entry } if entry.ends_with("weight_0")));
    let legacy = views().add("data/weights/model.pt", b"\x80\x02.");
    assert!(matches!(legacy.fault(), Pt2Fault::Pickle { .. }));
    let compiled = views().add("data/aotinductor/model/a.so", b"\x7fELF");
    assert!(matches!(compiled.fault(), Pt2Fault::Compiled { .. }));
}

#[test]
fn programs_of_another_kind_are_refused() {
    let old = views().json("models/model.json", |p| {
        p["schema_version"]["major"] = 7.into()
    });
    assert!(matches!(
        old.fault(),
        Pt2Fault::Schema {
            major: 7,
            minor: 17
        }
    ));
    let two = views().add("models/other.json", b"{}");
    assert!(matches!(two.fault(), Pt2Fault::Programs { names } if names.len() == 2));
    let mut big = views();
    big.file("byteorder").1 = b"big".to_vec();
    assert!(matches!(big.fault(), Pt2Fault::ByteOrder { order } if order == "big"));
    let mut broken = views();
    broken.file("models/model.json").1 = b"{\"schema_version\":".to_vec();
    assert!(matches!(broken.fault(), Pt2Fault::Json { .. }));
    let mut deep = views();
    deep.file("models/model.json").1 = [b"{\"a\":".repeat(100_000), b"1".to_vec()].concat();
    assert!(matches!(deep.fault(), Pt2Fault::Json { .. }));
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let meta = |key: &'static str, value: Value| {
        views().weights(move |w| w["c.bias"]["tensor_meta"][key] = value)
    };
    let int = |n: i64| json!([{ "as_int": n }]);
    for bad in [
        meta("sizes", int(6)),
        meta("strides", int(2)),
        meta("storage_offset", json!({ "as_int": 1 })),
        meta("storage_offset", json!({ "as_int": i64::MAX })),
        meta("sizes", int(i64::MAX)),
    ] {
        assert!(matches!(bad.fault(), Pt2Fault::OutOfStorage { tensor, .. } if tensor == "c.bias"));
    }
    let huge = views().weights(|w| {
        w["c.bias"]["tensor_meta"]["sizes"] = int(1 << 31);
        w["c.bias"]["tensor_meta"]["strides"] = int(0);
    });
    assert!(matches!(huge.fault(), Pt2Fault::Repeats { .. }));
    for bad in [meta("sizes", int(-1)), meta("strides", int(-1))] {
        assert!(matches!(bad.fault(), Pt2Fault::Shape { .. }));
    }
    let none = views().weights(|w| w["c.bias"]["tensor_meta"] = Value::Null);
    assert!(matches!(none.fault(), Pt2Fault::Shape { .. }));
    let mut short = views();
    short.file("weight_0").1.truncate(7);
    assert!(matches!(short.fault(), Pt2Fault::OutOfStorage { .. }));
}

#[test]
fn names_that_climb_or_lead_nowhere_are_refused() {
    let climbing = views().weights(|w| w["a.weight"]["path_name"] = "../../etc/passwd".into());
    let error = climbing.read().unwrap_err();
    let FormatError::Archive { fault, .. } = &*error else {
        panic!("{error}")
    };
    assert!(matches!(fault, ArchiveFault::Missing { .. }));
    let entry = views().add("../evil", b"").read().unwrap_err();
    assert!(entry.to_string().contains("climbs out"), "{entry}");
    let gone = views().weights(|w| {
        w.as_object_mut().unwrap().remove("a.weight");
    });
    assert!(matches!(gone.fault(), Pt2Fault::MissingTensor { tensor, .. } if tensor == "a.weight"));
}

#[test]
fn graphs_that_do_not_hold_together_are_refused() {
    // The first node takes what the last one makes.
    let cyclic = views().program(|m| {
        let output = m["graph"]["outputs"][0].clone();
        m["graph"]["nodes"][0]["inputs"][0]["arg"] = output;
    });
    assert!(matches!(cyclic.fault(), Pt2Fault::Undefined { .. }));
    let twice = views().program(|m| {
        let first = m["graph"]["nodes"][0]["outputs"].clone();
        m["graph"]["nodes"][1]["outputs"] = first;
    });
    assert!(matches!(twice.fault(), Pt2Fault::Duplicate { .. }));
    let input = views().program(|m| {
        let first = m["graph"]["inputs"][0].clone();
        m["graph"]["inputs"][1] = first;
    });
    assert!(matches!(
        input.fault(),
        Pt2Fault::Signature { index: 1, .. }
    ));
    let fewer = views().program(|m| {
        m["signature"]["input_specs"].as_array_mut().unwrap().pop();
    });
    assert!(matches!(
        fewer.fault(),
        Pt2Fault::SignatureLength { what: "inputs", .. }
    ));
    let fewer = views().program(|m| {
        m["signature"]["output_specs"].as_array_mut().unwrap().pop();
    });
    assert!(matches!(
        fewer.fault(),
        Pt2Fault::SignatureLength {
            what: "outputs",
            ..
        }
    ));
    let lost = views().program(|m| {
        m["graph"]["outputs"][0] = json!({ "as_tensor": { "name": "nothing" } });
    });
    assert!(matches!(lost.fault(), Pt2Fault::Undefined { value, .. } if value == "nothing"));
    let undescribed = views().program(|m| {
        m["graph"]["tensor_values"] = json!({});
    });
    assert!(matches!(undescribed.fault(), Pt2Fault::Undescribed { .. }));
    let spec = views().program(|m| m["signature"]["input_specs"][0] = json!(3));
    assert!(matches!(spec.fault(), Pt2Fault::Spec { index: 0, .. }));
}

#[test]
fn nodes_that_contradict_their_description_are_opaque() {
    // A shape of 2³¹ elements where another follows from the weights.
    let graph = views().program(|m| {
        let sizes =
            json!([{ "as_int": 1u64 << 31 }, { "as_int": 4 }, { "as_int": 1 }, { "as_int": 1 }]);
        m["graph"]["tensor_values"]["conv2d"]["sizes"] = sizes;
    });
    assert_eq!(opaque(&graph.read().unwrap()), ["aten.conv2d.default"]);
    let graph = views().program(|m| {
        let inputs = m["graph"]["nodes"][0]["inputs"].as_array_mut().unwrap();
        inputs.push(json!({ "name": "stride", "arg": { "as_ints": [0, 0] }, "kind": 1 }));
    });
    assert_eq!(opaque(&graph.read().unwrap()), ["aten.conv2d.default"]);
    let graph = views().program(|m| {
        let inputs = m["graph"]["nodes"][0]["inputs"].as_array_mut().unwrap();
        inputs.push(
            json!({ "name": "padding", "arg": { "as_ints": [i64::MAX, i64::MAX] }, "kind": 1 }),
        );
    });
    assert_eq!(opaque(&graph.read().unwrap()), ["aten.conv2d.default"]);
}

#[test]
fn a_name_twice_among_the_tensors_is_refused() {
    let mut forged = views();
    let (_, data) = forged.file("model_weights_config.json");
    let config: Value = serde_json::from_slice(data).unwrap();
    let entry = &config["config"]["a.bias"];
    *data = format!("{{\"config\": {{\"a.bias\": {entry}, \"a.bias\": {entry}}}}}").into_bytes();
    let fault = forged.fault();
    assert!(
        matches!(&fault, Pt2Fault::Json { source, .. } if source.to_string().contains("two tensors"))
    );
}

#[test]
fn other_files_are_not_taken_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pt2");
    std::fs::write(&path, b"PK\x03\x04 but no more").unwrap();
    assert!(matches!(read_pt2(&path), Err(FormatError::Archive { .. })));
    std::fs::write(&path, fixture_bytes("../onnx/tied.onnx")).unwrap();
    assert!(matches!(
        read_pt2(&path),
        Err(FormatError::WrongKind { .. })
    ));
    let whole = std::fs::read(fixture("views")).unwrap();
    for part in [10, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..part]).unwrap();
        assert!(read_pt2(&path).is_err());
    }
}

fn fixture_bytes(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pt2");
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn any_byte_of_a_program_may_be_wrong() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut refused = 0;
    for _ in 0..300 {
        let mut forged = Forgery::of("half");
        let (_, data) = forged.file("models/model.json");
        for _ in 0..1 + next(3) {
            let at = next(data.len());
            data[at] = b"0123456789-\"{}[],:aexn"[next(22)];
        }
        refused += usize::from(forged.read().is_err());
    }
    assert!((100..300).contains(&refused), "{refused}");
}

/// Every number in `value` becomes `to`; true where there was one.
fn overwrite(value: &mut Value, to: i64) -> bool {
    match value {
        Value::Number(number) if number.is_i64() => {
            *value = to.into();
            true
        }
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |any, v| overwrite(v, to) | any),
        Value::Object(fields) => fields
            .values_mut()
            .fold(false, |any, v| overwrite(v, to) | any),
        _ => false,
    }
}

#[test]
fn any_number_of_a_program_may_be_extreme() {
    for name in ["convs", "branches", "spatial", "attention"] {
        let count = nodes(&program_of(name)).len();
        let mut tried = 0;
        for node in 0..count {
            let arguments = nodes(&program_of(name))[node]["inputs"]
                .as_array()
                .unwrap()
                .len();
            for argument in 0..arguments {
                for extreme in [i64::MAX, i64::MIN, 1 << 31, -1] {
                    let mut there = false;
                    let forged = Forgery::of(name).program(|m| {
                        let arg = &mut m["graph"]["nodes"][node]["inputs"][argument]["arg"];
                        there = overwrite(arg, extreme);
                    });
                    if !there {
                        break;
                    }
                    tried += 1;
                    // It is read, with the node opaque where it makes no sense, or refused.
                    if let Ok(graph) = forged.read() {
                        graph.verify().unwrap();
                        let path = tempfile::NamedTempFile::new().unwrap();
                        let _ = write_pt2(path.path(), &graph, None, &Pt2Options::default());
                    }
                }
            }
        }
        assert!(tried > 20, "{name} {tried}");
        for extreme in [i64::MAX, i64::MIN, 1 << 31, -1] {
            let _ = Forgery::of(name)
                .program(|m| {
                    for (_, meta) in m["graph"]["tensor_values"].as_object_mut().unwrap() {
                        overwrite(&mut meta["sizes"], extreme);
                    }
                })
                .read();
        }
    }
}
