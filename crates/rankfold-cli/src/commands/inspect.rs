use clap::{Args, ValueEnum};
use rankfold_formats::read_weights;
use rankfold_graph::{Cost, CostModel, Graph, Op, Role, Tensor};
use serde::Serialize;

use crate::args::ModelArgs;
use crate::failure::{Failure, Outcome};
use crate::model::{Loaded, file_of, is_bare, load};
use crate::output::{bytes, grouped, percent, say, say_json, shape, table};

/// Show what a model is made of and what each layer costs
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    model: ModelArgs,

    /// How multiply-accumulates are counted
    #[arg(long, value_enum, default_value = "true-sizes")]
    cost: CostArg,

    /// Every node, also those without weights
    #[arg(long)]
    all: bool,

    /// The graph as text
    #[arg(long, conflicts_with_all = ["json", "all"])]
    graph: bool,

    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CostArg {
    /// By the true sizes
    TrueSizes,
    /// By the sizes printed in Astrid & Lee 2018, for the networks of that paper
    Paper,
}

#[derive(Debug, Serialize)]
struct Report {
    name: String,
    #[serde(flatten)]
    total: Cost,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    layers: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    kind: &'static str,
    shape: Vec<usize>,
    output: String,
    /// How the first weight is stored.
    stored: String,
    #[serde(flatten)]
    cost: Cost,
}

impl Inspect {
    pub(crate) fn run(self) -> Outcome {
        if is_bare(&self.model.model, &self.model.arch)? {
            return self.tensors();
        }
        let loaded = load(&self.model.model, &self.model.arch)?;
        if self.graph {
            return say(loaded.graph.to_string().trim_end());
        }
        let report = self.report(&loaded)?;
        if self.json {
            return say_json(&report);
        }
        say(rows(&report))?;
        say("")?;
        say(totals(&report))
    }

    fn report(&self, loaded: &Loaded) -> Outcome<Report> {
        let graph = &loaded.graph;
        let model = match self.cost {
            CostArg::TrueSizes => CostModel::True,
            CostArg::Paper => CostModel::Paper,
        };
        let costs = graph.costs(model).ok_or_else(|| {
            Failure::usage(format!(
                "`{}` has no sizes printed in the paper",
                graph.meta().name
            ))
            .hint("--cost paper is for alexnet-caffe, googlenet-caffe, vgg16 and what is made of them")
        })?;
        let mut total = Cost::default();
        let mut layers = Vec::new();
        for (node, cost) in graph.nodes().iter().zip(costs) {
            total += cost;
            if self.all || cost.parameters_with_buffers > 0 || cost.macs > 0 {
                layers.push(Row {
                    name: node.name.clone(),
                    kind: kind(graph, &node.op),
                    shape: kernel_shape(graph, &node.op),
                    output: graph.fact(node.output()).to_string(),
                    stored: kernel_of(graph, &node.op).map_or_else(String::new, stored),
                    cost,
                });
            }
        }
        Ok(Report {
            name: graph.meta().name.clone(),
            total,
            file_bytes: loaded.file_bytes(),
            layers,
        })
    }

    /// The tensors of a checkpoint whose network is not known.
    fn tensors(&self) -> Outcome {
        let checkpoint = read_weights(&file_of(&self.model.model))?;
        let mut numbers = 0;
        let mut stored = 0;
        let mut rows = Vec::new();
        for (name, tensor) in checkpoint.tensors.iter() {
            numbers += tensor.len() as u64;
            stored += tensor.bytes().len() as u64;
            rows.push(vec![
                name.to_owned(),
                tensor.dtype().to_string(),
                shape(tensor.shape()),
                grouped(tensor.len() as u64),
            ]);
        }
        if self.json {
            #[derive(Serialize)]
            struct TensorRow<'a> {
                name: &'a str,
                dtype: String,
                shape: &'a [usize],
            }
            let row = |(name, tensor)| {
                let tensor: &Tensor = tensor;
                TensorRow {
                    name,
                    dtype: tensor.dtype().to_string(),
                    shape: tensor.shape(),
                }
            };
            let tensors: Vec<TensorRow<'_>> = checkpoint.tensors.iter().map(row).collect();
            return say_json(
                &serde_json::json!({ "tensors": tensors, "numbers": numbers, "bytes": stored }),
            );
        }
        say(table(
            &["tensor", "type", "shape", "numbers"],
            &[0, 1],
            rows,
        ))?;
        say(format!(
            "\n{} tensors, {} numbers, {}",
            checkpoint.tensors.len(),
            grouped(numbers),
            bytes(stored)
        ))
    }
}

fn kind(graph: &Graph, op: &Op) -> &'static str {
    match op {
        Op::Conv(conv) => {
            let kernel = graph.weights().get(&conv.weight);
            match kernel.map(|k| k.shape()) {
                Some([_, 1, ..]) if conv.groups > 1 => "depthwise",
                Some([_, _, taps @ ..]) if taps.iter().all(|&n| n == 1) => "conv 1×1",
                _ => "conv",
            }
        }
        op => op.kind(),
    }
}

/// The kernel of an op, or its first weight where it has none.
fn kernel_of<'a>(graph: &'a Graph, op: &Op) -> Option<&'a Tensor> {
    let weights = op.weights();
    let kernel = weights
        .iter()
        .find(|(role, _)| *role == Role::Kernel)
        .or(weights.first());
    kernel.and_then(|(_, name)| graph.weights().get(name))
}

fn kernel_shape(graph: &Graph, op: &Op) -> Vec<usize> {
    kernel_of(graph, op).map_or_else(Vec::new, |tensor| tensor.shape().to_vec())
}

/// The type of a tensor's numbers, or the code that they are stored in.
fn stored(tensor: &Tensor) -> String {
    tensor
        .code()
        .map_or_else(|| tensor.dtype().to_string(), ToString::to_string)
}

/// Whether a layer's multiply-accumulates depend on sizes that are open.
fn is_open(cost: &Cost) -> bool {
    cost.weights > 0 && cost.macs == 0
}

fn rows(report: &Report) -> comfy_table::Table {
    let total = report.total;
    let rows = report.layers.iter().map(|row| {
        vec![
            row.name.clone(),
            row.kind.to_owned(),
            shape(&row.shape),
            row.output.clone(),
            row.stored.clone(),
            bytes(row.cost.bytes),
            grouped(row.cost.parameters),
            percent(row.cost.parameters, total.parameters),
            match is_open(&row.cost) {
                true => "open".to_owned(),
                false => grouped(row.cost.macs),
            },
            percent(row.cost.macs, total.macs),
        ]
    });
    let header = [
        "layer",
        "kind",
        "weights",
        "output",
        "stored as",
        "bytes",
        "parameters",
        "%",
        "MACs",
        "%",
    ];
    table(&header, &[0, 1, 2, 3, 4], rows.collect())
}

fn totals(report: &Report) -> String {
    let Cost {
        parameters,
        weights,
        parameters_with_buffers,
        macs,
        bytes: stored,
    } = report.total;
    let file = report
        .file_bytes
        .map(|n| format!(", file {}", bytes(n)))
        .unwrap_or_default();
    let open = match report.layers.iter().any(|row| is_open(&row.cost)) {
        true => " where sizes are not open",
        false => "",
    };
    format!(
        "{}: {} parameters ({} weights of convolutions and linear layers, {} with running statistics), \
         {} MACs{open}, {} of weights{file}",
        report.name,
        grouped(parameters),
        grouped(weights),
        grouped(parameters_with_buffers),
        grouped(macs),
        bytes(stored)
    )
}
