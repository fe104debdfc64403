//! In which order layers are decomposed, and what learns in between.

use std::collections::HashSet;

use rankfold_compress::{Kind, Layer, Plan, is_part_of};
use rankfold_graph::Graph;

/// In which order layers are decomposed and the network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Convolutions one after the other, then all fully connected layers at once (Astrid and Lee, 2018).
    Hybrid,
    /// All layers one after the other.
    Iterative,
    /// All layers at once.
    OneShot,
}

/// Layers that are decomposed together, after which the network is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it is called.
    pub name: String,
    /// The layers.
    pub layers: Vec<String>,
}

impl Stage {
    /// A stage before which nothing is decomposed.
    pub fn training() -> Self {
        Self {
            name: "training".to_owned(),
            layers: Vec::new(),
        }
    }

    fn of(layers: &[&str]) -> Self {
        let name = match layers {
            [] => "nothing".to_owned(),
            [one] => (*one).to_owned(),
            [first, .., last] => format!("{first} … {last}"),
        };
        Self {
            name,
            layers: layers.iter().map(|&layer| layer.to_owned()).collect(),
        }
    }
}

/// The stages of a plan. `groups` says how many layers each stage of the layers that go one after the
/// other takes; its last number repeats.
pub fn stages(graph: &Graph, plan: &Plan, order: Order, groups: &[usize]) -> Vec<Stage> {
    let layers = Layer::all(graph);
    let changed = layers.iter().filter(|layer| {
        let planned = plan.layer(&layer.name);
        planned.is_some_and(|planned| planned.rank.is_some())
    });
    let (single, together): (Vec<&Layer>, Vec<&Layer>) = match order {
        Order::Hybrid => changed.partition(|layer| layer.kind != Kind::Linear),
        Order::Iterative => (changed.collect(), Vec::new()),
        Order::OneShot => (Vec::new(), changed.collect()),
    };
    let mut stages = Vec::new();
    let mut rest: &[&Layer] = &single;
    let mut sizes = groups.iter().copied();
    let mut size = 1;
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size);
        let (now, later) = rest.split_at(size.clamp(1, rest.len()));
        stages.push(Stage::of(&names(now)));
        rest = later;
    }
    if !together.is_empty() {
        stages.push(Stage::of(&names(&together)));
    }
    stages
}

fn names<'a>(layers: &[&'a Layer]) -> Vec<&'a str> {
    layers.iter().map(|layer| layer.name.as_str()).collect()
}

/// Which layers stay as they are in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freeze {
    /// None.
    #[default]
    Nothing,
    /// Those that were decomposed before this stage.
    Decomposed,
    /// All but those that this stage decomposed.
    Others,
}

impl Freeze {
    /// What the rate of every weight is multiplied by in a stage; none for those that stay.
    pub(crate) fn pace(
        self,
        graph: &Graph,
        decomposed: &[String],
        stages: &[Stage],
        now: usize,
        factor_rate: f64,
    ) -> impl Fn(&str) -> Option<f64> + use<> {
        let weights = |layers: &mut dyn Iterator<Item = &String>| -> HashSet<String> {
            layers.flat_map(|layer| weights_of(graph, layer)).collect()
        };
        let before = stages[..now].iter().flat_map(|stage| &stage.layers);
        let earlier = weights(&mut decomposed.iter().chain(before));
        let current = weights(&mut stages[now].layers.iter());
        move |name| {
            let is_earlier = earlier.contains(name);
            let learns = match self {
                Self::Nothing => true,
                Self::Decomposed => !is_earlier,
                Self::Others => current.is_empty() || current.contains(name),
            };
            let factor = is_earlier || current.contains(name);
            learns.then_some(if factor { factor_rate } else { 1.0 })
        }
    }
}

/// Weights of all factors of one layer.
fn weights_of(graph: &Graph, layer: &str) -> Vec<String> {
    let parts = graph.nodes().iter();
    let parts = parts.filter(|node| node.name != layer && is_part_of(&node.name, layer));
    let weights = parts.flat_map(|node| node.op.weights());
    weights.map(|(_, name)| name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankfold_compress::{Form, LayerPlan, Rank};
    use rankfold_zoo::{Options, build};

    fn plan(graph: &Graph, changed: impl Fn(&Layer) -> bool) -> Plan {
        let mut plan = Plan::new(graph, String::new(), 0);
        for layer in Layer::all(graph) {
            let mut planned = LayerPlan::keep(&layer);
            if changed(&layer) {
                planned.form = Form::Channel;
                planned.rank = Some(Rank::One(2));
            }
            plan.layers.push(planned);
        }
        plan
    }

    fn sizes(stages: &[Stage]) -> Vec<usize> {
        stages.iter().map(|stage| stage.layers.len()).collect()
    }

    #[test]
    fn stages_follow_the_paper() {
        let graph = build("vgg16", &Options::default()).unwrap();
        let plan = plan(&graph, |_| true);
        // Thirteen convolutions, three fully connected layers.
        let hybrid = stages(&graph, &plan, Order::Hybrid, &[4, 4, 2]);
        assert_eq!(sizes(&hybrid), [4, 4, 2, 2, 1, 3]);
        assert_eq!(
            sizes(&stages(&graph, &plan, Order::Hybrid, &[])),
            [[1; 13].as_slice(), &[3]].concat()
        );
        assert_eq!(
            sizes(&stages(&graph, &plan, Order::Iterative, &[])),
            [1; 16]
        );
        assert_eq!(sizes(&stages(&graph, &plan, Order::OneShot, &[4])), [16]);
    }

    #[test]
    fn kept_layers_are_in_no_stage() {
        let graph = build("resnet20", &Options::default()).unwrap();
        let plan = plan(&graph, |layer| layer.shape[0] == 16);
        let all = stages(&graph, &plan, Order::Iterative, &[]);
        let changed = plan
            .layers
            .iter()
            .filter(|layer| layer.rank.is_some())
            .count();
        assert_eq!(all.len(), changed);
        assert!(
            stages(
                &graph,
                &Plan::new(&graph, String::new(), 0),
                Order::OneShot,
                &[]
            )
            .is_empty()
        );
    }
}
