//! A graph ready to be run.

use std::collections::HashSet;

use rankfold_compress::StepTime;
use rankfold_graph::{DType, Fact, Graph, Op, Role, Tensor as GraphTensor, WeightName};
use tch::{Kind, Tensor};

use crate::compose::compose;
use crate::convert::{self, kind_of};
use crate::device::Device;
use crate::error::{At, Result, TorchError, reason};
use crate::fold::{Folded, fold};
use crate::ops::{self, Call, Fault, Mode, chain, packed};
use crate::plan::{Input, Merged, Plan, Reuse, Step};
use crate::stopwatch::Laps;

/// How images lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// Channel after channel.
    Nchw,
    /// Pixel after pixel, all channels of one together ("channels last").
    #[default]
    Nhwc,
}

/// How a graph is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Where.
    pub device: Device,
    /// How images lie in memory; shapes are batch, channels, height, width either way.
    pub layout: Layout,
    /// The floating-point type of weights and activations.
    pub dtype: DType,
    /// Merge batch norms with the layer before them, and convolutions with the addition and the
    /// activation that alone take their result.
    pub fold: bool,
    /// Take several layers as one where that is less work: two with nothing between them, and a 1×1, a
    /// depthwise and a 1×1 convolution. What passes between them cannot be looked at then.
    pub join: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            layout: Layout::Nhwc,
            dtype: DType::F32,
            fold: true,
            join: true,
        }
    }
}

/// A graph with its weights on a device.
#[derive(Debug)]
pub struct Executor {
    plan: Plan,
    weights: Vec<Vec<Tensor>>,
    options: Options,
    folded: HashSet<String>,
    /// What the weights may be views of.
    _memory: Graph,
}

/// What the numbers of a classifier's output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Scores of any size, which a softmax makes probabilities of.
    Logits,
    /// Probabilities.
    Probabilities,
    /// Logarithms of probabilities.
    LogProbabilities,
}

/// A node's first output.
pub(crate) struct Made<'a> {
    pub(crate) node: &'a str,
    pub(crate) value: &'a str,
    pub(crate) fact: &'a Fact,
    pub(crate) fresh: bool,
}

/// The values of one node, as [`Executor::run_with`] shows them.
#[derive(Debug)]
pub struct Tapped<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its op.
    pub op: &'a Op,
    /// Its inputs.
    pub inputs: &'a [&'a Tensor],
    /// Its outputs.
    pub outputs: &'a [Tensor],
}

/// The nodes of an executor that are to be looked at.
#[derive(Debug, Clone)]
pub struct Taps(Vec<bool>);

impl Executor {
    /// A graph with its weights uploaded; an error that names every op that cannot be run.
    pub fn new(graph: &Graph, options: Options) -> Result<Self> {
        if !options.dtype.is_float() {
            return Err(TorchError::NotFloat {
                dtype: options.dtype,
            });
        }
        let (mut graph, mut folded) = (graph.clone(), HashSet::new());
        let mut rewrite = |pass: fn(&Graph) -> Result<Folded>| {
            let after = pass(&graph)?;
            graph = after.graph;
            folded.extend(after.nodes);
            Ok::<_, TorchError>(())
        };
        if options.fold {
            rewrite(fold)?;
        }
        if options.fold && options.join {
            rewrite(compose)?;
        }
        let pack = options.fold
            && options.device == Device::Cpu
            && options.layout == Layout::Nhwc
            && options.dtype == DType::F32
            && packed::available();
        let plan = if pack {
            let (plan, merged) = Plan::fused(&graph, options.join && chain::available())?;
            folded.extend(merged);
            plan
        } else {
            Plan::new(&graph)?
        };
        let _guard = tch::no_grad_guard();
        let mut weights = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            if let Some(Merged::Chain(chain)) = &step.merged {
                let packed = chain::pack(chain, graph.weights());
                weights.push(packed.ok_or_else(|| TorchError::MissingWeight {
                    node: step.name.clone(),
                    weight: chain.first.weight.to_string(),
                })?);
                continue;
            }
            let mut own = Vec::new();
            for (role, name) in step.op.weights() {
                let stored = stored_weight(&graph, &step.name, name)?;
                let mut tensor = upload(&step.op, stored, options)?;
                if let (Role::Kernel, Op::Conv(conv), Some(_)) = (role, &step.op, &step.merged) {
                    tensor = packed::pack(conv, &tensor, None).at("packing weights")?;
                }
                own.push(tensor);
            }
            weights.push(own);
        }
        Ok(Self {
            plan,
            weights,
            options,
            folded,
            _memory: graph,
        })
    }

    /// How the graph is run.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Names of the model's inputs, in order.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.plan.inputs.iter().map(|input| input.name.as_str())
    }

    /// The model's outputs.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let _guard = tch::no_grad_guard();
        let values = prepare(&self.plan, self.options, inputs)?;
        self.pass(values, Reuse::Inference, |_, _, _| Ok(()))
    }

    /// How long every step takes, by the clock, in the order in which they run.
    pub fn profile(&self, inputs: &[Tensor], runs: usize) -> Result<Vec<StepTime>> {
        let _guard = tch::no_grad_guard();
        let mut laps = Laps::new(self.plan.steps.len());
        for _ in 0..runs.max(1) {
            let values = prepare(&self.plan, self.options, inputs)?;
            let mut place = 0;
            laps.start();
            self.pass(values, Reuse::Inference, |_, _, _| {
                laps.lap(place);
                place += 1;
                Ok(())
            })?;
        }
        let steps = self.plan.steps.iter().zip(laps.medians());
        let time = |(step, seconds): (&Step, f64)| StepTime {
            nodes: step.nodes.clone(),
            op: step.op.kind(),
            chain: matches!(step.merged, Some(Merged::Chain(_))),
            view: ops::memory(&step.op) == ops::Memory::View,
            seconds,
        };
        Ok(steps.map(time).collect())
    }

    /// The nodes of those names, to be looked at while running.
    ///
    /// Nodes that were merged with their batch norm show no values of their own and are refused.
    pub fn taps<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Result<Taps> {
        self.select(nodes, true)
    }

    /// The same where only inputs are looked at, which merging leaves as they are.
    pub fn input_taps<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Result<Taps> {
        self.select(nodes, false)
    }

    fn select<'a>(&self, nodes: impl IntoIterator<Item = &'a str>, outputs: bool) -> Result<Taps> {
        let nodes: Vec<&str> = nodes.into_iter().collect();
        let hidden = nodes.iter().find(|&&node| {
            self.folded.contains(node) && (outputs || self.plan.step(node).is_none())
        });
        match hidden {
            Some(&node) => Err(TorchError::Folded {
                node: node.to_owned(),
            }),
            None => Taps::of(&self.plan, nodes),
        }
    }

    /// The model's outputs; `tap` sees the values of the chosen nodes as they are made.
    ///
    /// Nothing is written over, so that a tap may keep what it sees.
    pub fn run_with(
        &self,
        inputs: &[Tensor],
        taps: &Taps,
        mut tap: impl FnMut(Tapped<'_>) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let _guard = tch::no_grad_guard();
        self.observed(inputs, taps, &mut tap)
    }

    /// The same while gradients are recorded from the first value on that a tap lets ask for one.
    pub(crate) fn run_recording(
        &self,
        inputs: &[Tensor],
        taps: &Taps,
        mut tap: impl FnMut(Tapped<'_>) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        tch::with_grad(|| self.observed(inputs, taps, &mut tap))
    }

    fn observed(
        &self,
        inputs: &[Tensor],
        taps: &Taps,
        tap: &mut dyn FnMut(Tapped<'_>) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let values = prepare(&self.plan, self.options, inputs)?;
        self.pass(values, Reuse::Never, taps.watch(tap))
    }

    /// Runs all steps on prepared values; `see` is shown each when it is done.
    fn pass(
        &self,
        values: Vec<Option<Tensor>>,
        reuse: Reuse,
        see: impl FnMut(&Step, &[&Tensor], &[Tensor]) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        walk(
            &self.plan,
            &self.weights,
            values,
            Mode::Inference,
            reuse,
            see,
        )
    }

    /// Names of the model's outputs, in order.
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        let names = self.plan.outputs.iter();
        names.map(|&value| self.plan.values[value].name.as_str())
    }

    /// What the numbers of the first output are, from the op that makes it.
    pub fn scores(&self) -> Scores {
        self.plan.scores()
    }

    /// The values that nodes make and that are as in the graph that was given.
    pub(crate) fn made_values(&self) -> impl Iterator<Item = Made<'_>> {
        let steps = self.plan.steps.iter();
        steps
            .filter(|step| !self.folded.contains(&step.name))
            .filter_map(|step| {
                let value = &self.plan.values[*step.outputs.first()?];
                Some(Made {
                    node: &step.name,
                    value: &value.name,
                    fact: &value.fact,
                    fresh: ops::memory(&step.op) == ops::Memory::Fresh,
                })
            })
    }

    pub(crate) fn inputs(&self) -> &[Input] {
        &self.plan.inputs
    }
}

impl Taps {
    /// No node at all.
    pub(crate) fn none(plan: &Plan) -> Self {
        Self(vec![false; plan.steps.len()])
    }

    /// The nodes of those names.
    pub(crate) fn of<'a>(plan: &Plan, nodes: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut taps = Self::none(plan);
        for node in nodes {
            let unknown = || TorchError::UnknownNode {
                node: node.to_owned(),
            };
            taps.0[plan.step(node).ok_or_else(unknown)?] = true;
        }
        Ok(taps)
    }

    /// Shows `tap` the chosen ones of all steps that it is called with, in order.
    pub(crate) fn watch(
        &self,
        mut tap: impl FnMut(Tapped<'_>) -> Result<()>,
    ) -> impl FnMut(&Step, &[&Tensor], &[Tensor]) -> Result<()> {
        let mut chosen = self.0.iter();
        move |step, inputs, outputs| match chosen.next() {
            Some(true) => tap(Tapped {
                node: &step.name,
                op: &step.op,
                inputs,
                outputs,
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }
}

/// A weight of a node as the graph has it.
pub(crate) fn stored_weight<'a>(
    graph: &'a Graph,
    node: &str,
    name: &WeightName,
) -> Result<&'a GraphTensor> {
    let missing = || TorchError::MissingWeight {
        node: node.to_owned(),
        weight: name.to_string(),
    };
    graph.weights().get(name).ok_or_else(missing)
}

/// A weight on the device, in the type and layout that it is used in.
fn upload(op: &Op, tensor: &GraphTensor, options: Options) -> Result<Tensor> {
    let step = "uploading weights";
    // SAFETY: the executor keeps the graph, whose bytes these are, for as long as its weights, and no
    // op writes to weights. A constant leaves as a value of the model, so it is copied.
    let mut own = match op {
        Op::Constant(_) => convert::to_torch(tensor)?,
        _ => unsafe { convert::borrow_torch(tensor) }?,
    };
    if tensor.dtype().is_float() {
        own = own.f_to_kind(kind_of(options.dtype)).at(step)?;
    }
    own = own.f_to(options.device.into()).at(step)?;
    let kernel = matches!(op, Op::Conv(_) | Op::ConvTranspose(_)) && own.dim() == 4;
    match options.layout {
        Layout::Nhwc if kernel => channels_last(&own).at(step),
        _ => Ok(own),
    }
}

/// The same values with the channels together; a view where they are already.
pub(crate) fn channels_last(tensor: &Tensor) -> std::result::Result<Tensor, tch::TchError> {
    tensor
        .f_permute([0, 2, 3, 1])?
        .f_contiguous()?
        .f_permute([0, 3, 1, 2])
}

/// All values of a run, of which the inputs are there: checked, on the device, in type and layout.
pub(crate) fn prepare(
    plan: &Plan,
    options: Options,
    inputs: &[Tensor],
) -> Result<Vec<Option<Tensor>>> {
    if inputs.len() != plan.inputs.len() {
        return Err(TorchError::InputCount {
            expected: plan.inputs.len(),
            got: inputs.len(),
        });
    }
    let mut values: Vec<Option<Tensor>> = Vec::new();
    values.resize_with(plan.values.len(), || None);
    let step = "preparing the inputs";
    for (given, input) in inputs.iter().zip(&plan.inputs) {
        check_shape(given, input)?;
        if given.is_floating_point() && !input.fact.dtype.is_float() {
            return Err(TorchError::InputType {
                name: input.name.clone(),
                expected: input.fact.dtype,
            });
        }
        let kind = if input.fact.dtype.is_float() {
            kind_of(options.dtype)
        } else {
            kind_of(input.fact.dtype)
        };
        let mut own = given
            .f_to(options.device.into())
            .at(step)?
            .f_to_kind(kind)
            .at(step)?;
        if options.layout == Layout::Nhwc && own.dim() == 4 && kind != Kind::Int64 {
            own = channels_last(&own).at(step)?;
        }
        values[input.value] = Some(own);
    }
    Ok(values)
}

fn check_shape(given: &Tensor, input: &Input) -> Result<()> {
    let Some(expected) = &input.fact.shape else {
        return Ok(());
    };
    let got = given.size();
    let fits = got.len() == expected.len()
        && expected
            .iter()
            .zip(&got)
            .all(|(dim, &n)| dim.fixed().is_none_or(|d| d as i64 == n));
    if fits {
        return Ok(());
    }
    Err(TorchError::InputShape {
        name: input.name.clone(),
        expected: input.fact.clone(),
        got,
    })
}

/// Runs all steps; `see` is shown every step's inputs and outputs.
pub(crate) fn walk(
    plan: &Plan,
    weights: &[Vec<Tensor>],
    mut values: Vec<Option<Tensor>>,
    mode: Mode,
    reuse: Reuse,
    mut see: impl FnMut(&Step, &[&Tensor], &[Tensor]) -> Result<()>,
) -> Result<Vec<Tensor>> {
    for (step, weights) in plan.steps.iter().zip(weights) {
        let inputs: Vec<&Tensor> = step
            .inputs
            .iter()
            .filter_map(|&value| values[value].as_ref())
            .collect();
        let call = Call {
            inputs: &inputs,
            weights,
            mode,
            reuse: step.reusable(reuse),
        };
        let outputs = match (&step.op, &step.merged) {
            (Op::Conv(conv), Some(Merged::Conv(epilogue))) => {
                packed::run(conv, *epilogue, &call).map(|output| vec![output])
            }
            (_, Some(Merged::Chain(chain))) => chain::run(chain, &call).map(|output| vec![output]),
            (op, _) => ops::run(op, &call),
        };
        let outputs = outputs.map_err(|fault| fault_at(step, &fault))?;
        see(step, &inputs, &outputs)?;
        for (&value, output) in step.outputs.iter().zip(outputs) {
            values[value] = Some(output);
        }
        for &value in &step.free {
            values[value] = None;
        }
    }
    let outputs = plan
        .outputs
        .iter()
        .filter_map(|&value| values[value].as_ref());
    Ok(outputs.map(Tensor::shallow_clone).collect())
}

fn fault_at(step: &Step, fault: &Fault) -> TorchError {
    TorchError::Node {
        node: step.name.clone(),
        op: step.op.kind(),
        reason: match fault {
            Fault::Torch(error) => reason(error),
            Fault::Unsupported(text) => (*text).to_owned(),
        },
    }
}

/// The first weight with a NaN or an infinity in it, as an error.
pub fn check_finite(graph: &Graph) -> Result<()> {
    for (name, tensor) in graph.weights().iter() {
        if let Some(index) = tensor.first_non_finite() {
            return Err(TorchError::NonFinite {
                weight: name.to_string(),
                index,
            });
        }
    }
    Ok(())
}
