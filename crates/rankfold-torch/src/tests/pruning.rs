//! Removing channels that are zero changes no output; and what activations tell.

use std::ops::ControlFlow;

use rankfold_compress::{
    Activity, ChannelActivity, Channels, Criterion, LayerChannels, Obstacle, Selection,
};
use rankfold_data::{DataSpec, Dataset, ImageSize, Loader, LoaderOptions, Normalization};
use rankfold_graph::ops::{
    Activation, AdaptiveAvgPool, Arithmetic, AvgPool, BatchNorm, Binary, Concat, Conv,
    ConvTranspose, Flatten, Linear, LocalResponseNorm, Opaque, Pad, Reshape, Slice, Split, Squeeze,
    Unsqueeze,
};
use rankfold_graph::{
    Fact, Graph, GraphBuilder, Op, Role, Tensor as GraphTensor, ValueId, WeightName,
};
use rankfold_zoo::Options as ZooOptions;

use super::{distance, input, plain, run, weight};
use crate::{Device, Layout, activity};

/// Networks by hand, a layer a line.
struct Net(GraphBuilder);

impl Net {
    fn new(input: &[usize]) -> (Self, ValueId) {
        let mut builder = GraphBuilder::new("net");
        let x = builder.input("x", Fact::batch_of(input)).unwrap();
        (Self(builder), x)
    }

    fn weight(&mut self, name: String, shape: &[usize]) -> WeightName {
        let name: WeightName = name.into();
        self.0
            .weight(name.clone(), weight(shape, name.len() as u64));
        name
    }

    fn conv(&mut self, name: &str, shape: [usize; 4], groups: usize, x: ValueId) -> ValueId {
        let kernel = self.weight(format!("{name}.weight"), &shape);
        let bias = self.weight(format!("{name}.bias"), &shape[..1]);
        let conv = Conv::new(kernel, Some(bias), 2).padding(shape[2] / 2);
        self.0.op(name, conv.groups(groups), &[x]).unwrap()
    }

    fn up(&mut self, name: &str, shape: [usize; 4], groups: usize, x: ValueId) -> ValueId {
        let op = ConvTranspose {
            weight: self.weight(format!("{name}.weight"), &shape),
            bias: Some(self.weight(format!("{name}.bias"), &[shape[1] * groups])),
            stride: vec![2, 2],
            padding: vec![[1, 1]; 2],
            output_padding: vec![1, 1],
            dilation: vec![1, 1],
            groups,
        };
        self.0.op(name, op, &[x]).unwrap()
    }

    fn linear(&mut self, name: &str, shape: [usize; 2], x: ValueId) -> ValueId {
        let weight = self.weight(format!("{name}.weight"), &shape);
        let bias = Some(self.weight(format!("{name}.bias"), &shape[..1]));
        self.op(name, Linear { weight, bias }, &[x])
    }

    fn norm(&mut self, name: &str, channels: usize, x: ValueId) -> ValueId {
        let mut part = |part: &str| self.weight(format!("{name}.{part}"), &[channels]);
        let op = BatchNorm {
            scale: Some(part("weight")),
            shift: Some(part("bias")),
            mean: part("running_mean"),
            var: part("running_var"),
            eps: 2.0,
            momentum: 0.1,
        };
        self.op(name, op, &[x])
    }

    fn relu(&mut self, name: &str, x: ValueId) -> ValueId {
        self.op(name, Activation::Relu, &[x])
    }

    fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        let arithmetic = Arithmetic::Add;
        self.op(name, Binary { arithmetic }, &[a, b])
    }

    fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.0.op(name, op, inputs).unwrap()
    }

    fn finish(self, output: ValueId) -> Graph {
        self.0.finish(&[output]).unwrap()
    }
}

/// What would be seen if every third channel of every activation, from the first on, were dead.
fn every_third_dead(channels: &Channels<'_>) -> Activity {
    let sites = channels.sites().into_iter();
    sites
        .map(|site| {
            let dead = |place: usize| place.is_multiple_of(3);
            let variance = (0..site.channels).map(|place| if dead(place) { 0.0 } else { 1.0 });
            let seen = ChannelActivity {
                active: vec![1; site.channels],
                mean: vec![1.0; site.channels],
                variance: variance.collect(),
                samples: 1,
            };
            (site.node, seen)
        })
        .collect()
}

fn select(channels: &Channels<'_>) -> Selection {
    let seen = every_third_dead(channels);
    channels.select(Criterion::Varying { deviations: 9.0 }, &seen)
}

/// The graph with zeros for all that the channels that go are made of, and with batch norms that make
/// zeros of zeros.
fn hollow(graph: &Graph, outcome: &[LayerChannels]) -> Graph {
    let mut hollow = graph.clone();
    let mut set = |name: &str, zero: &dyn Fn(usize) -> bool| {
        let old = hollow.weights().get(name).unwrap().clone();
        let values = old.to_f32().unwrap();
        let values = values.iter().enumerate();
        let values = values
            .map(|(i, &w)| if zero(i) { 0.0 } else { w })
            .collect();
        let new = GraphTensor::from_f32(old.shape().to_vec(), values).unwrap();
        hollow.set_weight(name, new).unwrap();
    };
    for node in graph.nodes() {
        if let Op::BatchNorm(norm) = &node.op {
            set(&norm.mean, &|_| true);
            set(norm.shift.as_ref().unwrap(), &|_| true);
        }
        let Some(layer) = outcome.iter().find(|layer| layer.name == node.name) else {
            continue;
        };
        for (role, name) in node.op.weights() {
            let shape = graph.weights().get(name).unwrap().shape().to_vec();
            let (made, behind) = match &node.op {
                Op::ConvTranspose(conv) if role == Role::Kernel => match conv.groups {
                    1 => (shape[1], 2),
                    // Every input channel makes its own ones.
                    _ => (shape[0] * shape[1], 2),
                },
                _ => (shape[0], 1),
            };
            let behind: usize = shape[behind..].iter().product();
            let mut gone = vec![true; made];
            layer.kept.iter().for_each(|&place| gone[place] = false);
            set(name, &|i| gone[i / behind % made]);
        }
    }
    hollow
}

/// Removes every third channel that can go, and compares; what became of the layers.
fn check(graph: &Graph) -> Vec<LayerChannels> {
    let channels = Channels::of(graph);
    let selection = select(&channels);
    let outcome = channels.outcome(&selection);
    let hollow = hollow(graph, &outcome);
    let smaller = Channels::of(&hollow).without(&selection).unwrap();
    smaller.verify().unwrap();
    let fact = graph.fact(graph.inputs()[0]).shape.clone().unwrap();
    let item = fact[1..].iter().map(|dim| dim.fixed().unwrap() as i64);
    let x = [input(&[&[2], &item.collect::<Vec<_>>()[..]].concat(), 5)];
    let expected = run(&hollow, plain(Layout::Nchw), &x);
    let got = run(&smaller, plain(Layout::Nchw), &x);
    let error = distance(&got[0], &expected[0]);
    assert!(error < 1e-5, "{}: {error:e}", graph.meta().name);
    outcome
}

fn zoo(name: &str, side: Option<usize>) -> Graph {
    let options = ZooOptions {
        input_side: side,
        ..ZooOptions::default()
    };
    rankfold_zoo::build(name, &options).unwrap()
}

fn layer<'a>(outcome: &'a [LayerChannels], name: &str) -> &'a LayerChannels {
    outcome.iter().find(|layer| layer.name == name).unwrap()
}

fn left(outcome: &[LayerChannels], name: &str) -> usize {
    layer(outcome, name).kept.len()
}

#[test]
fn residual_networks_share_what_their_sums_join() {
    for (name, side) in [("resnet20", None), ("resnet18", Some(64))] {
        let outcome = check(&zoo(name, side));
        let conv = |name: &str| layer(&outcome, name).clone();
        assert_eq!(conv("conv1").kept, conv("layer1.0.conv2").kept);
        assert!(conv("layer1.0.conv1").kept.len() < conv("layer1.0.conv1").before);
        let last = outcome.last().unwrap();
        assert_eq!(last.obstacle, Some(Obstacle::Output));
    }
}

#[test]
fn depthwise_convolutions_follow_their_producer() {
    let outcome = check(&zoo("mobilenet_v2", Some(64)));
    let (expand, depthwise) = ("features.2.conv.0.0", "features.2.conv.1.0");
    assert_eq!(left(&outcome, expand), 64);
    assert_eq!(
        layer(&outcome, expand).kept,
        layer(&outcome, depthwise).kept
    );
    // Nothing but a sum follows the projections.
    let projection = layer(&outcome, "features.2.conv.2");
    assert_eq!(projection.obstacle, Some(Obstacle::Unseen));
}

#[test]
fn concatenated_maps_and_flattened_ones_keep_their_places() {
    for (name, side) in [("googlenet", Some(64)), ("vgg11", None), ("lenet5", None)] {
        let outcome = check(&zoo(name, side));
        let cut = outcome
            .iter()
            .filter(|layer| layer.kept.len() < layer.before);
        assert!(cut.count() >= outcome.len() - 1, "{name}");
    }
}

#[test]
fn shortcuts_that_are_padded_with_zeros_lose_theirs() {
    let outcome = check(&zoo("calli-small", None));
    assert!(left(&outcome, "block4.2.pointwise") < 128);
}

#[test]
fn dense_blocks_norm_what_they_concatenate() {
    let (mut net, x) = Net::new(&[3, 8, 8]);
    let mut all = net.conv("stem", [6, 3, 3, 3], 1, x);
    for (i, width) in [(1, 6), (2, 11)] {
        let y = net.norm(&format!("norm{i}"), width, all);
        let y = net.relu(&format!("relu{i}"), y);
        let y = net.conv(&format!("conv{i}"), [5, width, 3, 3], 1, y);
        all = net.op(&format!("cat{i}"), Concat { axis: 1 }, &[all, y]);
    }
    let y = net.relu("last", all);
    let y = net.conv("head", [2, 16, 1, 1], 1, y);
    let outcome = check(&net.finish(y));
    // Places 6 to 10 and 11 to 15 of what is concatenated.
    assert_eq!(layer(&outcome, "conv1").kept, [1, 2, 4]);
    assert_eq!(layer(&outcome, "conv2").kept, [0, 2, 3]);
}

#[test]
fn transposed_convolutions_lose_inputs_and_outputs() {
    let (mut net, x) = Net::new(&[1, 8, 8]);
    let y = net.conv("down", [6, 1, 3, 3], 1, x);
    let y = net.relu("relu1", y);
    let y = net.up("depthwise", [6, 2, 3, 3], 6, y);
    let y = net.relu("relu2", y);
    let y = net.up("up", [12, 7, 3, 3], 1, y);
    let y = net.norm("norm", 7, y);
    let y = net.relu("relu3", y);
    let y = net.up("last", [7, 1, 3, 3], 1, y);
    let outcome = check(&net.finish(y));
    assert_eq!(left(&outcome, "up"), 4);
    assert_eq!(left(&outcome, "last"), 1);
}

#[test]
fn grouped_convolutions_lose_the_same_places_of_every_group() {
    let (mut net, x) = Net::new(&[3, 8, 8]);
    let y = net.conv("stem", [12, 3, 3, 3], 1, x);
    let y = net.relu("relu1", y);
    let y = net.conv("grouped", [6, 6, 3, 3], 2, y);
    let y = net.relu("relu2", y);
    let y = net.conv("head", [2, 6, 1, 1], 1, y);
    let outcome = check(&net.finish(y));
    assert_eq!(layer(&outcome, "stem").kept, [1, 2, 4, 5, 7, 8, 10, 11]);
    assert_eq!(layer(&outcome, "grouped").kept, [1, 2, 4, 5]);
}

#[test]
fn gates_pieces_and_other_shapes_are_followed() {
    let (mut net, x) = Net::new(&[3, 8, 8]);
    let y = net.conv("stem", [12, 3, 3, 3], 1, x);
    let y = net.relu("relu1", y);
    // A gate for every channel.
    let gate = net.op("pool", AdaptiveAvgPool { output: vec![1, 1] }, &[y]);
    let gate = net.conv("squeeze", [4, 12, 1, 1], 1, gate);
    let gate = net.relu("relu2", gate);
    let gate = net.conv("excite", [12, 4, 1, 1], 1, gate);
    let arithmetic = Arithmetic::Mul;
    let y = net.op("gate", Binary { arithmetic }, &[y, gate]);
    let sizes = vec![5, 7];
    let pieces = net.0.node("split", Split { axis: 1, sizes }, &[y]).unwrap();
    let slice = Slice {
        axis: -3,
        start: 1,
        end: Some(-1),
        step: 1,
    };
    let cut = net.op("slice", slice, &[pieces[1]]);
    let y = net.add("sum", pieces[0], cut);
    let pad = Pad {
        padding: vec![[0, 0], [1, 2], [0, 0], [0, 0]],
        value: 0.0,
    };
    let y = net.op("pad", pad, &[y]);
    let axes = vec![1, -1];
    let y = net.op("wrap", Unsqueeze { axes: axes.clone() }, &[y]);
    let y = net.op("unwrap", Squeeze { axes }, &[y]);
    let y = net.op("half", AvgPool::square(2, 2, 0), &[y]);
    let y = net.op(
        "reshape",
        Reshape {
            shape: vec![0, 8 * 16],
        },
        &[y],
    );
    let y = net.linear("hidden", [6, 128], y);
    let y = net.relu("relu3", y);
    let y = net.linear("head", [2, 6], y);
    let outcome = check(&net.finish(y));
    // Places 0 and 6, and 3 and 9, are added.
    assert_eq!(layer(&outcome, "stem").kept, [1, 2, 4, 5, 7, 8, 10, 11]);
    assert_eq!(left(&outcome, "hidden"), 4);
}

#[test]
fn linear_layers_over_sequences_lose_features() {
    let (mut net, x) = Net::new(&[5, 4]);
    let y = net.linear("up", [8, 4], x);
    let y = net.relu("relu", y);
    let y = net.linear("down", [4, 8], y);
    let y = net.add("sum", x, y);
    let y = net.op("flatten", Flatten { start: 1, end: -1 }, &[y]);
    let outcome = check(&net.finish(y));
    assert_eq!(left(&outcome, "up"), 5);
    let joined = Obstacle::Joined {
        node: "sum".to_owned(),
    };
    assert_eq!(layer(&outcome, "down").obstacle, Some(joined));
}

#[test]
fn what_is_not_understood_stays_and_says_why() {
    let (mut net, x) = Net::new(&[3, 8, 8]);
    let y = net.conv("first", [6, 3, 3, 3], 1, x);
    let y = net.relu("relu1", y);
    let lrn = LocalResponseNorm {
        size: 3,
        alpha: 1.0,
        beta: 0.75,
        k: 1.0,
    };
    let y = net.op("norm", lrn, &[y]);
    let y = net.conv("second", [6, 6, 3, 3], 1, y);
    let y = net.relu("relu2", y);
    let opaque = Opaque {
        target: "aten.roll.default".to_owned(),
        weights: Vec::new(),
        outputs: vec![net.0.fact(y).clone()],
    };
    let y = net.op("roll", opaque, &[y]);
    let graph = net.finish(y);
    let channels = Channels::of(&graph);
    assert!(channels.sites().is_empty());
    let selection = select(&channels);
    assert!(selection.is_empty());
    let whys = channels.outcome(&selection).into_iter();
    let whys: Vec<String> = whys.map(|l| l.obstacle.unwrap().to_string()).collect();
    assert_eq!(
        whys,
        [
            "`norm` (local_response_norm) needs all of them",
            "`roll` (opaque) needs all of them"
        ]
    );
}

#[test]
fn weights_that_are_shared_stay() {
    let (mut net, x) = Net::new(&[4, 8, 8]);
    let mut y = net.conv("first", [4, 4, 3, 3], 1, x);
    let conv = Conv::new("first.weight", None, 2).padding(1);
    for i in 0..2 {
        y = net.relu(&format!("relu{i}"), y);
        y = net.op(&format!("again{i}"), conv.clone(), &[y]);
    }
    let graph = net.finish(y);
    let channels = Channels::of(&graph);
    let outcome = channels.outcome(&select(&channels));
    let shared = Obstacle::Shared {
        weight: "first.weight".to_owned(),
    };
    assert_eq!(layer(&outcome, "first").obstacle, Some(shared));
    assert!(outcome.iter().all(|layer| layer.kept.len() == 4));
}

#[test]
fn one_channel_stays_where_all_are_dead() {
    let (mut net, x) = Net::new(&[2, 4, 4]);
    let y = net.conv("hidden", [5, 2, 3, 3], 1, x);
    let y = net.relu("relu", y);
    let y = net.conv("head", [2, 5, 1, 1], 1, y);
    let graph = net.finish(y);
    let channels = Channels::of(&graph);
    let mut seen = every_third_dead(&channels);
    let own = seen.get_mut("relu").unwrap();
    own.active = vec![0; 5];
    let selection = channels.select(Criterion::EverActive, &seen);
    assert_eq!(channels.outcome(&selection)[0].kept, [0]);
    channels.without(&selection).unwrap();
}

#[test]
fn activations_are_counted_over_batches() {
    let (mut net, x) = Net::new(&[3, 32, 32]);
    let y = net.conv("conv", [3, 3, 1, 1], 1, x);
    let y = net.relu("relu", y);
    let mut graph = net.finish(y);
    // Red as it is, green negated, and one half everywhere.
    let mut set = |name: &str, shape: &[usize], values: &[f32]| {
        let tensor = GraphTensor::from_f32(shape.to_vec(), values.to_vec()).unwrap();
        graph.set_weight(name, tensor).unwrap();
    };
    let kernel = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0];
    set("conv.weight", &[3, 3, 1, 1], &kernel);
    set("conv.bias", &[3], &[0.0, 0.0, 0.5]);
    let spec = DataSpec::Shapes { seed: 0 };
    let data = Dataset::open(&spec, &"test[:10]".parse().unwrap(), ImageSize::default());
    let options = LoaderOptions::evaluate(4, Normalization::unit());
    let loader = Loader::new(data.unwrap(), options).unwrap();
    let batches = || loader.epoch(0, 0).unwrap();
    let site = rankfold_compress::Site {
        node: "relu".to_owned(),
        axis: 1,
        channels: 3,
    };
    let go_on = |_| ControlFlow::Continue(());
    let seen = activity(&graph, &[site], Device::Cpu, batches(), go_on).unwrap();
    let own = &seen["relu"];
    let red: Vec<f64> = batches()
        .flat_map(|batch| {
            let values = batch.unwrap().inputs[0].data.as_f32().unwrap().to_vec();
            let images: Vec<Vec<f32>> = values
                .chunks(3 * 1024)
                .map(|i| i[..1024].to_vec())
                .collect();
            images.concat()
        })
        .map(f64::from)
        .collect();
    assert_eq!((own.samples as usize, red.len()), (10_240, 10_240));
    let mean = red.iter().sum::<f64>() / red.len() as f64;
    let variance = red.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / red.len() as f64;
    assert!((own.mean[0] - mean).abs() < 1e-5 && (own.variance[0] - variance).abs() < 1e-5);
    let positive = red.iter().filter(|&&v| v > 0.0).count() as u64;
    assert_eq!(own.active, [positive, 0, 10_240]);
    assert_eq!((own.variance[1], own.variance[2]), (0.0, 0.0));
}
