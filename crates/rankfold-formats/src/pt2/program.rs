//! Programs that do not come from a file: everything around the nodes.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::schema::{
    FileGraph, GraphModule, MAJOR, MINOR, ModuleCall, Program, SchemaVersion, Signature,
};

/// The version of PyTorch whose schema is written.
const TORCH: &str = "2.11.0";
/// The version of ATen's operators there.
const OPSET: u64 = 10;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A program without inputs, nodes and outputs.
pub(super) fn empty() -> Program {
    Program {
        graph_module: GraphModule {
            graph: FileGraph {
                inputs: Vec::new(),
                outputs: Vec::new(),
                nodes: Vec::new(),
                tensor_values: IndexMap::new(),
                sym_int_values: IndexMap::new(),
                rest: object(json!({
                    "sym_bool_values": {},
                    "is_single_tensor_return": false,
                    "custom_obj_values": {},
                    "sym_float_values": {},
                })),
            },
            signature: Signature {
                input_specs: Vec::new(),
                output_specs: Vec::new(),
                rest: Map::new(),
            },
            module_call_graph: Vec::new(),
            rest: object(json!({ "metadata": {}, "treespec_namedtuple_fields": {} })),
        },
        opset_version: json!({ "aten": OPSET }),
        range_constraints: json!({}),
        schema_version: SchemaVersion {
            major: MAJOR,
            minor: MINOR,
        },
        rest: object(json!({
            "verifiers": ["TRAINING"],
            "torch_version": TORCH,
            "guards_code": [],
        })),
    }
}

/// How the program is called: with `inputs` tensors, for one tensor or a tuple of them.
pub(super) fn call(inputs: &[String], outputs: usize) -> ModuleCall {
    let leaf = json!({ "type": null, "context": null, "children_spec": [] });
    let tuple = |count: usize| {
        json!({
            "type": "builtins.tuple",
            "context": "null",
            "children_spec": vec![leaf.clone(); count],
        })
    };
    let keywords = json!({ "type": "builtins.dict", "context": "[]", "children_spec": [] });
    let arguments = json!({
        "type": "builtins.tuple",
        "context": "null",
        "children_spec": [tuple(inputs.len()), keywords],
    });
    let result = match outputs {
        1 => leaf.clone(),
        count => tuple(count),
    };
    // The number is the version of the description of trees.
    let text = |tree: Value| json!([1, tree]).to_string();
    ModuleCall {
        fqn: String::new(),
        signature: json!({
            "inputs": [],
            "outputs": [],
            "in_spec": text(arguments),
            "out_spec": text(result),
            "forward_arg_names": inputs,
        }),
        rest: Map::new(),
    }
}
