//! Weights under the names that a PyTorch module would give them.

use std::collections::{HashMap, HashSet};

use rankfold_graph::{Graph, GraphError, Op, Patch, Role, WeightName};

/// The same graph, the weights of every node under one path: `PATH.weight`, `PATH.bias`, ….
///
/// Nodes whose weights are named so already keep them; the others take their own name for the path.
/// Exporters name what they fold and transpose after nothing that a module could be, and let equal
/// vectors be one, which are given to each node again. Kernels and tables that several nodes share
/// keep their names.
pub fn with_module_names(graph: &Graph) -> Result<Graph, GraphError> {
    let uses = graph.weight_uses();
    let mut paths: HashSet<String> = HashSet::new();
    let mut unnamed = Vec::new();
    for node in graph.nodes() {
        let own = own_names(&node.op);
        let shared = |name: &WeightName| uses.get(&**name) != Some(&1);
        let tied = node
            .op
            .weights()
            .into_iter()
            .any(|(role, name)| matches!(role, Role::Kernel | Role::Table) && shared(name));
        if own.is_empty() || tied {
            continue;
        }
        let path = common_path(&own).filter(|_| !own.iter().any(|(name, _)| shared(name)));
        match path {
            Some(path) if paths.insert(path.to_owned()) => {}
            _ => unnamed.push(node),
        }
    }
    if unnamed.is_empty() {
        return Ok(graph.clone());
    }
    let mut patch = Patch::new("name weights after modules");
    for node in unnamed {
        let mut path = module_path(&node.name);
        while !paths.insert(path.clone()) {
            path.push('_');
        }
        let mut names: HashMap<WeightName, WeightName> = HashMap::new();
        for (name, suffix) in own_names(&node.op) {
            let mut to = format!("{path}.{suffix}");
            while graph.weights().contains(&to) && to != **name {
                to.push('_');
            }
            if let Some(tensor) = graph.weights().get(name) {
                patch.weight(to.as_str(), tensor.clone());
            }
            names.insert(name.clone(), to.as_str().into());
        }
        let mut op = node.op.clone();
        for name in op.weights_mut() {
            if let Some(to) = names.get(name) {
                *name = to.clone();
            }
        }
        patch.set_op(&node.name, op);
    }
    let mut named = graph.clone();
    patch.apply(&mut named)?;
    Ok(named)
}

/// The weights that PyTorch keeps in a module of the op's own, with the names that they have there.
fn own_names(op: &Op) -> Vec<(&WeightName, &'static str)> {
    let mut statistics = ["running_mean", "running_var"].into_iter();
    let weights = op.weights().into_iter();
    weights
        .filter_map(|(role, name)| {
            let suffix = match role {
                Role::Kernel | Role::Scale => "weight",
                Role::Bias => "bias",
                Role::Statistic => statistics.next()?,
                Role::Table if matches!(op, Op::Embedding(_)) => "weight",
                Role::Table | Role::Constant => return None,
            };
            Some((name, suffix))
        })
        .collect()
}

/// The path that all weights have in common, where they are named as in a module.
fn common_path<'a>(own: &[(&'a WeightName, &'static str)]) -> Option<&'a str> {
    let path = |(name, suffix): &(&'a WeightName, &str)| {
        let path = name.strip_suffix(suffix)?.strip_suffix('.')?;
        (module_path(path) == path).then_some(path)
    };
    let mut paths = own.iter().map(path);
    let first = paths.next()??;
    paths.all(|path| path == Some(first)).then_some(first)
}

/// `name` as a path of modules, none of them without a name.
fn module_path(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => "module".to_owned(),
        false => parts.join("."),
    }
}

#[cfg(test)]
mod tests {
    use rankfold_graph::ops::{Activation, Linear};
    use rankfold_graph::{DType, Dim, Fact, GraphBuilder, Tensor};

    use super::*;

    fn linear(weight: &str, bias: Option<&str>) -> Linear {
        Linear {
            weight: weight.into(),
            bias: bias.map(Into::into),
        }
    }

    #[test]
    fn only_what_no_module_could_have_is_renamed() {
        let mut builder = GraphBuilder::new("test");
        let square = Tensor::from_f32(vec![2, 2], vec![1.0; 4]).unwrap();
        let vector = Tensor::from_f32(vec![2], vec![1.0; 2]).unwrap();
        for name in [
            "fc1.weight",
            "onnx::MatMul_7",
            "fc3.weight",
            "tied",
            "x.weight",
        ] {
            builder.weight(name, square.clone());
        }
        for name in ["fc1.bias", "onnx::Add_9"] {
            builder.weight(name, vector.clone());
        }
        let shape = [Dim::UNKNOWN, 2.into()];
        let mut value = builder.input("in", Fact::new(DType::F32, shape)).unwrap();
        for (name, op) in [
            ("fc1", linear("fc1.weight", Some("fc1.bias"))),
            ("a..b.MatMul", linear("onnx::MatMul_7", Some("onnx::Add_9"))),
            ("fc3", linear("fc3.weight", Some("onnx::Add_9"))),
            ("t1", linear("tied", None)),
            ("t2", linear("tied", None)),
            ("y", linear("x.weight", None)),
        ] {
            value = builder.node(name, op, &[value]).unwrap()[0];
        }
        value = builder.node("relu", Activation::Relu, &[value]).unwrap()[0];
        let graph = builder.finish(&[value]).unwrap();
        let named = with_module_names(&graph).unwrap();
        let mut names: Vec<&str> = named.weights().names().map(|n| &**n).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "a.b.MatMul.bias",
                "a.b.MatMul.weight",
                "fc1.bias",
                "fc1.weight",
                "fc3.bias",
                "fc3.weight",
                "tied",
                "x.weight",
            ]
        );
        let (before, after) = (graph.to_string(), named.to_string());
        assert_eq!(before.lines().count(), after.lines().count());
        let old = graph.weights().get("onnx::MatMul_7").unwrap();
        assert!(
            named
                .weights()
                .get("a.b.MatMul.weight")
                .unwrap()
                .shares_storage(old)
        );
    }
}
