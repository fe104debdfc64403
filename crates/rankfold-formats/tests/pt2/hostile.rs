//! Files that are not what they should be.

use super::*;

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
