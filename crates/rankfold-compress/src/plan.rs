//! The plan: a readable file that says what every layer becomes.

use rankfold_graph::Graph;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cost::{LayerCost, kept_cost};
use crate::error::{CompressError, Refusal};
use crate::form::{Form, Rank};
use crate::layer::Layer;
use crate::rules::rule;

/// The version of the plan's layout that this crate writes.
pub const PLAN_VERSION: u32 = 1;

/// What every layer of one model becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this layout.
    pub version: u32,
    /// The model's name.
    pub model: String,
    /// A hash of the names and shapes of the model's layers.
    pub fingerprint: String,
    /// What was asked for, in words.
    #[serde(default)]
    pub request: String,
    /// Seed of every random choice.
    #[serde(default)]
    pub seed: u64,
    /// The layers, in order; one that is missing is kept.
    #[serde(default, rename = "layer")]
    pub layers: Vec<LayerPlan>,
}

/// What one layer becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPlan {
    /// The layer.
    pub name: String,
    /// Its form.
    pub form: Form,
    /// Its rank; none for `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
    /// Predicted kernel parameters, before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<[u64; 2]>,
    /// Predicted multiply-accumulates, before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macs: Option<[u64; 2]>,
    /// Predicted relative error of the layer's response (of its weights, without data).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// Why other forms were not possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

impl LayerPlan {
    /// A layer that stays as it is.
    pub fn keep(layer: &Layer) -> Self {
        let LayerCost { parameters, macs } = kept_cost(layer);
        Self {
            name: layer.name.clone(),
            form: Form::Keep,
            rank: None,
            parameters: Some([parameters; 2]),
            macs: Some([macs; 2]),
            error: Some(0.0),
            refused: Vec::new(),
        }
    }
}

impl Plan {
    /// An empty plan for a model.
    pub fn new(graph: &Graph, request: String, seed: u64) -> Self {
        Self {
            version: PLAN_VERSION,
            model: graph.meta().name.clone(),
            fingerprint: fingerprint(graph),
            request,
            seed,
            layers: Vec::new(),
        }
    }

    /// The plan as TOML.
    pub fn to_toml(&self) -> String {
        let body = toml::to_string(self).expect("invariant: a plan is plain data");
        format!(
            "# Per layer a form (keep, svd, channel, spatial, tucker2, cp2, cp3, cp4) and a rank.\n\
             # Edit them and apply the result with `rankfold compress MODEL --plan FILE`;\n\
             # the predicted numbers are informative and recomputed; parameters are those of kernels, without biases.\n\n{body}"
        )
    }

    /// The plan in a TOML text.
    pub fn from_toml(text: &str) -> Result<Self, CompressError> {
        let plan: Self = toml::from_str(text).map_err(|e| CompressError::PlanSyntax {
            reason: e.to_string(),
        })?;
        if plan.version != PLAN_VERSION {
            return Err(CompressError::PlanSyntax {
                reason: format!(
                    "expected version {PLAN_VERSION}, found version {}",
                    plan.version
                ),
            });
        }
        Ok(plan)
    }

    /// Checks that the plan is for this graph and that every rank is possible.
    pub fn check(&self, graph: &Graph) -> Result<(), CompressError> {
        let own = fingerprint(graph);
        if own != self.fingerprint {
            return Err(CompressError::PlanModel {
                plan: self.model.clone(),
                plan_fingerprint: self.fingerprint.clone(),
                model: graph.meta().name.clone(),
                fingerprint: own,
            });
        }
        let layers = Layer::all(graph);
        for planned in &self.layers {
            let layer = find(&layers, &planned.name)?;
            check_rank(layer, planned.form, planned.rank)?;
        }
        Ok(())
    }

    /// The planned layer of that name.
    pub fn layer(&self, name: &str) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.name == name)
    }
}

/// The layer of that name, or an error with the nearest.
pub(crate) fn find<'l>(layers: &'l [Layer], name: &str) -> Result<&'l Layer, CompressError> {
    layers
        .iter()
        .find(|layer| layer.name == name)
        .ok_or_else(|| CompressError::UnknownLayer {
            name: name.to_owned(),
            nearest: nearest(layers, name),
        })
}

fn nearest(layers: &[Layer], name: &str) -> Option<String> {
    let distance = |layer: &&Layer| strsim::damerau_levenshtein(&layer.name, name);
    let best = layers.iter().min_by_key(distance)?;
    (distance(&best) <= name.len().div_ceil(2)).then(|| best.name.clone())
}

/// Checks that a layer can take a form at a rank.
pub(crate) fn check_rank(
    layer: &Layer,
    form: Form,
    rank: Option<Rank>,
) -> Result<(), CompressError> {
    let Some(rule) = rule(form) else {
        return Ok(());
    };
    let refused = |refusal: Refusal| CompressError::Refused {
        layer: layer.name.clone(),
        form,
        refusal,
    };
    if let Some(refusal) = &layer.fixed {
        return Err(refused(refusal.clone()));
    }
    rule.applies(layer).map_err(refused)?;
    let max = rule.full_rank(layer);
    let rank = rank.unwrap_or(Rank::One(0));
    if !rank.is_within(max) {
        return Err(CompressError::Rank {
            layer: layer.name.clone(),
            form,
            rank,
            max,
        });
    }
    let step = rule.rank_step(layer);
    if !rank.largest().is_multiple_of(step) {
        return Err(CompressError::RankGroups {
            layer: layer.name.clone(),
            rank,
            groups: step,
        });
    }
    Ok(())
}

/// A short hash of the names and kernel shapes of a graph's layers.
pub fn fingerprint(graph: &Graph) -> String {
    let mut hash = Sha256::new();
    for layer in Layer::all(graph) {
        hash.update(layer.name.as_bytes());
        for size in layer.shape {
            hash.update((size as u64).to_le_bytes());
        }
    }
    let digest = hash.finalize();
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
