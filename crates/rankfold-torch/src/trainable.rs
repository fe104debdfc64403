//! A graph whose weights are learned.

use std::collections::HashMap;

use rankfold_graph::{DType, Graph, Op, Role, WeightName};
use tch::{Kind, Tensor};

use crate::convert;
use crate::device::Device;
use crate::error::{At, Result, TorchError};
use crate::executor::{
    Layout, Options, Scores, Tapped, Taps, channels_last, prepare, stored_weight, walk,
};
use crate::ops::Mode;
use crate::plan::{Plan, Reuse};

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// Training: gradients, dropout, and statistics of the batch, which update the running ones.
    Train,
    /// Training with the running statistics as they are.
    TrainFrozenStatistics,
    /// Use: no gradients, no dropout, running statistics.
    Evaluate,
    /// Nothing but new running statistics: the share of this batch in them is `momentum`.
    Statistics {
        /// The share.
        momentum: f64,
    },
}

/// A weight that lives on a device.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in the graph.
    pub name: WeightName,
    /// What it is to the op that uses it.
    pub role: Role,
    /// The weight itself; an optimiser changes it in place.
    pub tensor: Tensor,
}

/// A graph with weights of its own that gradients can flow to.
#[derive(Debug)]
pub struct Trainable {
    plan: Plan,
    weights: Vec<Vec<Tensor>>,
    parameters: Vec<Parameter>,
    options: Options,
}

impl Trainable {
    /// A graph with copies of its weights in f32; all that an optimiser may change asks for gradients.
    pub fn new(graph: &Graph, device: Device, layout: Layout) -> Result<Self> {
        let options = Options {
            device,
            layout,
            dtype: DType::F32,
            fold: false,
            join: false,
        };
        let plan = Plan::new(graph)?;
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut places: HashMap<WeightName, usize> = HashMap::new();
        let mut weights = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let mut own = Vec::new();
            for (role, name) in step.op.weights() {
                let place = match places.get(name) {
                    Some(&place) => place,
                    None => {
                        parameters.push(parameter(graph, &step.name, name, role, options)?);
                        places.insert(name.clone(), parameters.len() - 1);
                        parameters.len() - 1
                    }
                };
                own.push(parameters[place].tensor.shallow_clone());
            }
            weights.push(own);
        }
        Ok(Self {
            plan,
            weights,
            parameters,
            options,
        })
    }

    /// The same, computing in another type while the weights stay in f32. Normalisations keep their
    /// weights and statistics in f32, and so do outputs.
    pub fn computing_in(mut self, dtype: DType) -> Self {
        self.options.dtype = dtype;
        self
    }

    /// All weights, each once.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Names of the model's inputs, in order.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.plan.inputs.iter().map(|input| input.name.as_str())
    }

    /// What the numbers of the first output are.
    pub fn scores(&self) -> Scores {
        self.plan.scores()
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.options.device
    }

    /// Lets gradients flow to the learnable weights that `learns` accepts and to no others.
    pub fn choose(&self, mut learns: impl FnMut(&Parameter) -> bool) -> Result<()> {
        for parameter in &self.parameters {
            let on = parameter.role.is_learnable() && learns(parameter);
            let mut handle = parameter.tensor.shallow_clone();
            let _ = handle.f_requires_grad_(on).at("choosing what is learned")?;
        }
        Ok(())
    }

    /// The model's outputs.
    pub fn forward(&self, inputs: &[Tensor], phase: Phase) -> Result<Vec<Tensor>> {
        self.forward_with(inputs, phase, &Taps::none(&self.plan), |_| Ok(()))
    }

    /// The nodes of those names, to be looked at while running.
    pub fn taps<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Result<Taps> {
        Taps::of(&self.plan, nodes)
    }

    /// The model's outputs; `tap` sees the values of the chosen nodes and may keep them.
    pub fn forward_with(
        &self,
        inputs: &[Tensor],
        phase: Phase,
        taps: &Taps,
        tap: impl FnMut(Tapped<'_>) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let (mode, gradients) = match phase {
            Phase::Train => (Mode::Training, true),
            Phase::TrainFrozenStatistics => (Mode::FrozenStatistics, true),
            Phase::Evaluate => (Mode::Inference, false),
            Phase::Statistics { momentum } => (Mode::Statistics { momentum }, false),
        };
        let _guard = (!gradients).then(tch::no_grad_guard);
        let reuse = match (taps.is_empty(), gradients) {
            (false, _) => Reuse::Never,
            (true, true) => Reuse::Training,
            (true, false) => Reuse::Inference,
        };
        let values = prepare(&self.plan, self.options, inputs)?;
        let cast = match self.options.dtype {
            DType::F32 => None,
            dtype => Some(self.cast(convert::kind_of(dtype))?),
        };
        let outputs = walk(
            &self.plan,
            cast.as_deref().unwrap_or(&self.weights),
            values,
            mode,
            reuse,
            taps.watch(tap),
        )?;
        match cast {
            None => Ok(outputs),
            Some(_) => outputs
                .iter()
                .map(|output| in_kind(output, Kind::Float))
                .collect(),
        }
    }

    /// The weights as they are computed with.
    fn cast(&self, kind: Kind) -> Result<Vec<Vec<Tensor>>> {
        let steps = self.plan.steps.iter().zip(&self.weights);
        steps
            .map(|(step, weights)| {
                let as_stored = matches!(
                    step.op,
                    Op::BatchNorm(_) | Op::LayerNorm(_) | Op::GroupNorm(_)
                );
                let cast = |weight: &Tensor| match as_stored {
                    true => Ok(weight.shallow_clone()),
                    false => in_kind(weight, kind),
                };
                weights.iter().map(cast).collect()
            })
            .collect()
    }

    /// Writes all weights and statistics back into the graph, in the types that it stores them in.
    pub fn export(&self, graph: &mut Graph) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for parameter in &self.parameters {
            if parameter.role == Role::Constant {
                continue;
            }
            let name = &parameter.name;
            let bad = |source| TorchError::Tensor {
                name: name.to_string(),
                source,
            };
            let stored = graph.weights().get(name).map(|tensor| tensor.dtype());
            let mut tensor = convert::from_torch(&parameter.tensor)?;
            if let Some(dtype) = stored.filter(|d| d.is_float() && tensor.dtype().is_float()) {
                tensor = tensor.to_float_dtype(dtype).map_err(bad)?;
            }
            graph.set_weight(name, tensor)?;
        }
        Ok(())
    }
}

/// A tensor of numbers in another kind of them; others as they are.
fn in_kind(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    match tensor.is_floating_point() {
        true => tensor.f_to_kind(kind).at("changing the type of numbers"),
        false => Ok(tensor.shallow_clone()),
    }
}

fn parameter(
    graph: &Graph,
    node: &str,
    name: &WeightName,
    role: Role,
    options: Options,
) -> Result<Parameter> {
    let step = "uploading weights";
    let stored = stored_weight(graph, node, name)?;
    let mut tensor = convert::to_torch(stored)?;
    if stored.dtype().is_float() {
        tensor = tensor.f_to_kind(convert::kind_of(options.dtype)).at(step)?;
    }
    tensor = tensor.f_to(options.device.into()).at(step)?;
    if role == Role::Kernel && tensor.dim() == 4 && options.layout == Layout::Nhwc {
        tensor = channels_last(&tensor).at(step)?;
    }
    // A view would be no leaf.
    let mut tensor = tensor.f_detach().at(step)?;
    if role.is_learnable() && stored.dtype().is_float() {
        tensor = tensor.f_requires_grad_(true).at(step)?;
    }
    Ok(Parameter {
        name: name.clone(),
        role,
        tensor,
    })
}

/// Estimates all batch-norm statistics anew: the plain average of those of every batch.
///
/// Batches should be drawn as in training, augmentation included, or the estimate is biased.
pub fn recalibrate(
    graph: &mut Graph,
    device: Device,
    batches: impl IntoIterator<Item = Result<Vec<Tensor>>>,
) -> Result<usize> {
    let model = Trainable::new(graph, device, Layout::default())?;
    let mut count = 0;
    for inputs in batches {
        let momentum = 1.0 / (count + 1) as f64;
        model.forward(&inputs?, Phase::Statistics { momentum })?;
        count += 1;
    }
    if count == 0 {
        return Err(TorchError::Empty {
            what: "recalibrate on",
        });
    }
    model.export(graph)?;
    Ok(count)
}
