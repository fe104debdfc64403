//! Where two networks can be compared on the way.

use std::collections::{HashMap, HashSet};

use rankfold_graph::{Graph, Op, ValueId};

/// Nodes, by name and in order, that both graphs have and whose output, of one shape, is all that the
/// rest of either graph takes: the ends of blocks. Activations and sums only.
pub(crate) fn shared_blocks(a: &Graph, b: &Graph) -> Vec<String> {
    let in_b: HashSet<String> = block_ends(b).into_iter().collect();
    let fact = |graph: &Graph, name: &str| Some(graph.fact(graph.node(name)?.output()).clone());
    let mut shared = block_ends(a);
    shared.retain(|name| in_b.contains(name) && fact(a, name) == fact(b, name));
    shared
}

fn block_ends(graph: &Graph) -> Vec<String> {
    let mut last_use: HashMap<ValueId, usize> = HashMap::new();
    for (place, node) in graph.nodes().iter().enumerate() {
        for &input in &node.inputs {
            last_use.insert(input, place);
        }
    }
    for &output in graph.outputs() {
        last_use.insert(output, usize::MAX);
    }
    let mut alive: HashSet<ValueId> = graph.inputs().iter().copied().collect();
    let mut ends = Vec::new();
    for (place, node) in graph.nodes().iter().enumerate() {
        alive.retain(|value| last_use.get(value).is_some_and(|&last| last > place));
        let used = |value: &&ValueId| last_use.get(value).is_some_and(|&last| last > place);
        alive.extend(node.outputs.iter().filter(used));
        let alone = alive.len() == 1 && node.outputs.len() == 1 && alive.contains(&node.outputs[0]);
        if alone && matches!(node.op, Op::Activation(_) | Op::Binary(_)) {
            ends.push(node.name.clone());
        }
    }
    // A sum whose activation follows is no end of its own.
    let followed = |name: &String| {
        let node = graph.node(name);
        node.is_some_and(|node| {
            matches!(node.op, Op::Binary(_))
                && graph
                    .consumers(node.output())
                    .all(|next| matches!(next.op, Op::Activation(_)))
        })
    };
    ends.retain(|name| !followed(name));
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankfold_zoo::{Options, build};

    #[test]
    fn residual_networks_end_a_block_after_every_sum() {
        let graph = build("resnet20", &Options::default()).unwrap();
        let blocks = shared_blocks(&graph, &graph);
        // The stem and nine blocks.
        assert_eq!(blocks.len(), 10, "{blocks:?}");
    }

    #[test]
    fn plain_networks_end_one_after_every_activation() {
        let graph = build("vgg11", &Options::default()).unwrap();
        assert_eq!(shared_blocks(&graph, &graph).len(), 10);
    }
}
