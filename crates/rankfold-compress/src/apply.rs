//! From a plan to a smaller graph.

use ndarray::{Array1, Array4};
use rankfold_decompose::{Control, Threads};
use rankfold_graph::{Graph, Op, PaperSize, Patch, Tensor, ValueId, ops};
use rayon::prelude::*;

use crate::cost::StageOutline;
use crate::error::CompressError;
use crate::form::{Form, Rank};
use crate::layer::{Kind, Layer};
use crate::plan::{LayerPlan, Plan, find};
use crate::probe::{LayerStatistics, Statistics};
use crate::rules::{Context, Distance, Kernels, Original, Rule, mean_shift, rule};

/// Keeps finished factors, so that interrupted work goes on where it stopped.
pub trait FactorStore: Sync {
    /// The kernels stored for a layer, where they were made by the same plan from the same input.
    fn load(&self, layer: &LayerPlan) -> Option<Vec<Array4<f32>>>;

    /// Stores the kernels of a finished layer.
    fn save(&self, layer: &LayerPlan, kernels: &[Array4<f32>]);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStore;

impl FactorStore for NoStore {
    fn load(&self, _: &LayerPlan) -> Option<Vec<Array4<f32>>> {
        None
    }

    fn save(&self, _: &LayerPlan, _: &[Array4<f32>]) {}
}

/// Sweeps by which the factors that are kept are refined under the full metric.
const REFINEMENT: usize = 12;

/// Multiplications for the factors that are kept: some seconds on one core.
const WORK: f64 = 1e11;

/// What became of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The layer.
    pub name: String,
    /// Its form.
    pub form: Form,
    /// Its rank.
    pub rank: Option<Rank>,
    /// How far the factors are from the layer.
    pub distance: Option<Distance>,
}

/// Decomposes every planned layer, side by side, and returns the rewritten graph.
pub fn apply(
    graph: &Graph,
    plan: &Plan,
    statistics: &Statistics,
    store: &dyn FactorStore,
    control: Control<'_>,
    finished: &(dyn Fn(&str) + Sync),
) -> Result<(Graph, Vec<Outcome>), CompressError> {
    plan.check(graph)?;
    let layers = Layer::all(graph);
    let mut jobs = Vec::new();
    for (place, planned) in plan.layers.iter().enumerate() {
        if let Some(rule) = rule(planned.form) {
            jobs.push((place, planned, rule, find(&layers, &planned.name)?));
        }
    }
    jobs.sort_by_key(|(_, _, _, layer)| std::cmp::Reverse(layer.kernel_len()));
    let run = |(place, planned, rule, layer): &(usize, &LayerPlan, &dyn Rule, &Layer)| {
        let statistics = statistics.get(&layer.name);
        let threads = match jobs.len() {
            1 => Threads::Pool,
            _ => Threads::Serial,
        };
        let context = final_context(statistics, plan.seed, threads, control);
        let done = decompose(graph, layer, *rule, planned, store, &context)?;
        finished(&layer.name);
        Ok((*place, done))
    };
    let mut done = jobs
        .par_iter()
        .with_max_len(1)
        .map(run)
        .collect::<Result<Vec<_>, CompressError>>()?;
    done.sort_by_key(|(place, _)| *place);
    let mut rewritten = graph.clone();
    let mut outcomes: Vec<Outcome> = plan
        .layers
        .iter()
        .map(|planned| Outcome {
            name: planned.name.clone(),
            form: planned.form,
            rank: planned.rank,
            distance: None,
        })
        .collect();
    for (place, done) in done {
        let layer = find(&layers, &plan.layers[place].name)?;
        outcomes[place].distance = Some(done.distance);
        rewrite(&mut rewritten, layer, done)?;
    }
    Ok((rewritten, outcomes))
}

/// How factors that are kept are made.
pub(crate) fn final_context<'a>(
    statistics: Option<&'a LayerStatistics>,
    seed: u64,
    threads: Threads,
    control: Control<'a>,
) -> Context<'a> {
    Context {
        statistics,
        refinement: REFINEMENT,
        work: Some(WORK),
        seed,
        threads,
        control,
    }
}

/// The factors of one layer, ready to be written into the graph.
#[derive(Clone)]
pub(crate) struct Decomposed {
    stages: Vec<(StageOutline, Array4<f32>)>,
    shift: Option<Array1<f64>>,
    pub(crate) distance: Distance,
}

fn decompose(
    graph: &Graph,
    layer: &Layer,
    rule: &dyn Rule,
    planned: &LayerPlan,
    store: &dyn FactorStore,
    context: &Context<'_>,
) -> Result<Decomposed, CompressError> {
    let rank = planned.rank.unwrap_or(Rank::One(0));
    let kernel = layer.kernel(graph)?;
    let kernels = match store.load(planned) {
        Some(kernels) => kernels,
        None => {
            let kernels = rule.factors(layer, &kernel, &[rank], context)?.remove(0);
            store.save(planned, &kernels);
            kernels
        }
    };
    let statistics = context.statistics;
    Ok(decomposed(layer, rule, rank, &kernel, kernels, statistics))
}

/// Factors with what they lose of the layer.
pub(crate) fn decomposed(
    layer: &Layer,
    rule: &dyn Rule,
    rank: Rank,
    kernel: &Array4<f32>,
    kernels: Kernels,
    statistics: Option<&LayerStatistics>,
) -> Decomposed {
    let approximation = rule.reconstruct(layer, &kernels);
    let shift = |statistics: &LayerStatistics| mean_shift(kernel, &approximation, statistics);
    Decomposed {
        distance: Original::new(kernel, statistics, Threads::default()).distance(&approximation),
        shift: statistics.map(shift),
        stages: rule.outline(layer, rank).into_iter().zip(kernels).collect(),
    }
}

/// A chain of smaller layers that is not compared with anything.
pub(crate) fn chain_of_kernels(stages: Vec<(StageOutline, Array4<f32>)>) -> Decomposed {
    Decomposed {
        stages,
        shift: None,
        distance: Distance {
            weight: f64::NAN,
            response: None,
            damage: None,
        },
    }
}

/// Puts a chain of smaller layers in a layer's place.
pub(crate) fn rewrite(
    graph: &mut Graph,
    layer: &Layer,
    done: Decomposed,
) -> Result<(), CompressError> {
    let unknown = || CompressError::UnknownLayer {
        name: layer.name.clone(),
        nearest: None,
    };
    let node = graph.node(&layer.name).ok_or_else(unknown)?;
    let (input, output) = (node.inputs[0], node.output());
    let dtype = graph
        .weights()
        .get(&layer.weight)
        .ok_or_else(unknown)?
        .dtype();
    let prefix = layer.weight.strip_suffix(".weight").unwrap_or(&layer.name);
    let mut patch = Patch::new(format!("decompose {}", layer.name));
    let bias = final_bias(graph, layer, output, &done, &mut patch);
    let last = done.stages.len() - 1;
    let sizes = paper_sizes(layer, &done.stages);
    let mut wire = input.into();
    for (i, (outline, kernel)) in done.stages.into_iter().enumerate() {
        let name = format!("{prefix}.{i}.weight");
        let tensor = kernel_tensor(layer.kind, kernel)
            .and_then(|tensor| tensor.to_float_dtype(dtype).ok())
            .ok_or_else(unknown)?;
        patch.weight(name.as_str(), tensor);
        let bias = bias.as_ref().filter(|_| i == last).map(|values| {
            let bias_name = format!("{prefix}.{i}.bias");
            let tensor = Tensor::from_f32(vec![values.len()], values.clone())
                .and_then(|tensor| tensor.to_float_dtype(dtype));
            tensor.map(|tensor| {
                patch.weight(bias_name.as_str(), tensor);
                bias_name
            })
        });
        let bias = bias.transpose().map_err(|_| unknown())?;
        let op = stage_op(layer.kind, &outline, &name, bias.as_deref());
        wire = patch.node(format!("{}.{i}", layer.name), op, &[wire]);
        patch.paper_size(sizes.as_ref().map(|sizes| sizes[i]));
    }
    patch.redirect(output, wire);
    patch.apply(graph)?;
    Ok(())
}

/// The bias of the last stage. The lost mean goes into it, or into the batch norm that follows.
fn final_bias(
    graph: &Graph,
    layer: &Layer,
    output: ValueId,
    done: &Decomposed,
    patch: &mut Patch,
) -> Option<Vec<f32>> {
    let own = layer
        .bias
        .as_ref()
        .and_then(|name| graph.weights().get(name)?.to_f32().ok())
        .map(|values| values.into_owned());
    let Some(shift) = &done.shift else {
        return own;
    };
    if own.is_none() && absorb_in_batch_norm(graph, output, shift, patch).is_some() {
        return None;
    }
    let own = own.unwrap_or_else(|| vec![0.0; shift.len()]);
    let shifted = own.iter().zip(shift).map(|(b, s)| b + *s as f32);
    Some(shifted.collect())
}

fn absorb_in_batch_norm(
    graph: &Graph,
    output: ValueId,
    shift: &Array1<f64>,
    patch: &mut Patch,
) -> Option<()> {
    let mean_name = absorbing_mean(graph, output)?;
    let mean = graph.weights().get(mean_name)?;
    let moved: Vec<f32> = mean
        .to_f32()
        .ok()?
        .iter()
        .zip(shift)
        .map(|(m, s)| m - *s as f32)
        .collect();
    let tensor = Tensor::from_f32(vec![moved.len()], moved).ok()?;
    patch.weight(mean_name, tensor.to_float_dtype(mean.dtype()).ok()?);
    Some(())
}

/// A node that stands where a layer stood, or the layer itself.
#[derive(Debug, Clone)]
pub(crate) struct StageNames {
    /// The node.
    pub(crate) node: String,
    /// Its weight.
    pub(crate) weight: String,
    /// Its bias.
    pub(crate) bias: Option<String>,
}

/// The nodes of a compressed graph that stand where a layer stood, in order.
pub(crate) fn stage_names(layer: &Layer, graph: &Graph) -> Vec<StageNames> {
    let named = |name: String| {
        let (weight, bias) = match &graph.node(&name)?.op {
            Op::Conv(conv) => (&conv.weight, &conv.bias),
            Op::Linear(linear) => (&linear.weight, &linear.bias),
            _ => return None,
        };
        Some(StageNames {
            weight: weight.to_string(),
            bias: bias.as_ref().map(ToString::to_string),
            node: name,
        })
    };
    match named(layer.name.clone()) {
        Some(own) => vec![own],
        None => (0..)
            .map_while(|i| named(format!("{}.{i}", layer.name)))
            .collect(),
    }
}

/// The running mean of the batch norm that alone takes a value and shares its statistics with none.
pub(crate) fn absorbing_mean(graph: &Graph, output: ValueId) -> Option<&str> {
    let mut consumers = graph.consumers(output);
    let (only, None) = (consumers.next()?, consumers.next()) else {
        return None;
    };
    let Op::BatchNorm(norm) = &only.op else {
        return None;
    };
    let shared = graph.weight_uses().get(&*norm.mean) != Some(&1);
    (!shared && !graph.outputs().contains(&output)).then_some(&norm.mean)
}

/// True where giving back the lost mean of a layer's responses needs a bias that is not there yet.
pub(crate) fn needs_new_bias(graph: &Graph, layer: &Layer) -> bool {
    let output = graph.node(&layer.name).map(|node| node.output());
    layer.bias.is_none() && output.is_some_and(|output| absorbing_mean(graph, output).is_none())
}

fn kernel_tensor(kind: Kind, kernel: Array4<f32>) -> Option<Tensor> {
    let shape = kernel.shape();
    let shape = match kind {
        Kind::Linear => shape[..2].to_vec(),
        Kind::Conv1d => vec![shape[0], shape[1], shape[3]],
        Kind::Conv2d => shape.to_vec(),
    };
    let standard = kernel.as_standard_layout().into_owned();
    let (values, _) = standard.into_raw_vec_and_offset();
    Tensor::from_f32(shape, values).ok()
}

fn stage_op(kind: Kind, outline: &StageOutline, weight: &str, bias: Option<&str>) -> Op {
    let bias = bias.map(Into::into);
    let geometry = outline.geometry;
    let first_axis = match kind {
        Kind::Linear => {
            let weight = weight.into();
            return ops::Linear { weight, bias }.into();
        }
        Kind::Conv1d => 1,
        Kind::Conv2d => 0,
    };
    ops::Conv {
        weight: weight.into(),
        bias,
        stride: geometry.stride[first_axis..].to_vec(),
        padding: geometry.padding[first_axis..].to_vec(),
        dilation: geometry.dilation[first_axis..].to_vec(),
        groups: geometry.groups,
    }
    .into()
}

/// The paper's sizes of the stages: `H` until the stage that moves, `H'` from it on.
fn paper_sizes(layer: &Layer, stages: &[(StageOutline, Array4<f32>)]) -> Option<Vec<PaperSize>> {
    let PaperSize { input, output } = layer.paper?;
    let moves = |(outline, _): &(StageOutline, Array4<f32>)| {
        outline.kernel[2..] != [1, 1] || outline.geometry.stride != [1, 1]
    };
    let moving = stages.iter().rposition(moves).unwrap_or(0);
    let side = |i: usize| if i < moving { input } else { output };
    let size = |i: usize| PaperSize {
        input: if i == 0 { input } else { side(i - 1) },
        output: side(i),
    };
    Some((0..stages.len()).map(size).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, Request, plan};

    #[test]
    fn the_stages_of_a_layer_are_found_by_their_names() {
        let graph = rankfold_zoo::build("lenet5", &rankfold_zoo::Options::default()).unwrap();
        let (conv, fc) = (Some(4), None);
        let request = Request::new(Budget::UniformRank { conv, fc });
        let (data, control) = (Statistics::new(), Control::default());
        let plan = plan(&graph, &request, &data, control, &|_| ())
            .unwrap()
            .plan;
        let (smaller, _) = apply(&graph, &plan, &data, &NoStore, control, &|_| ()).unwrap();
        let layers = Layer::all(&graph);
        let stages = |name: &str| {
            let layer = layers.iter().find(|layer| layer.name == name).unwrap();
            let named = stage_names(layer, &smaller).into_iter();
            named
                .map(|stage| (stage.node, stage.weight, stage.bias))
                .collect::<Vec<_>>()
        };
        let stage = |node: &str, bias: bool| {
            let part = |name: &str| format!("{node}.{name}");
            (node.to_owned(), part("weight"), bias.then(|| part("bias")))
        };
        let factors = [
            stage("conv2.0", false),
            stage("conv2.1", false),
            stage("conv2.2", true),
        ];
        assert_eq!(stages("conv2"), factors);
        assert_eq!(stages("fc1"), [stage("fc1", true)]);
    }
}
