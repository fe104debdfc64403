//! The list of networks and what is known of each.

use rankfold_graph::{Graph, GraphError, Normalization, ValueId, Weights};

use crate::closest::{closest, infer_options};
use crate::error::ZooError;
use crate::net::{Net, Settings};
use crate::networks::FAMILIES;
use crate::options::{InitialWeights, MAX_CLASSES, MAX_K, MAX_SIDE, Options};
use crate::scheme::Scheme;

/// A named network: what it takes, what it gives, and how it is put together.
pub struct Network {
    /// Its name, as `resnet20`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Channels, height and width of its input.
    pub input: [usize; 3],
    /// Classes that it tells apart; 0 for one that gives numbers.
    pub classes: usize,
    /// Name of the first layer with weights.
    pub first: &'static str,
    /// Name of the last layer with weights, whose rows are the classes.
    pub last: &'static str,
    /// Inner width of its LightLayers convolutions, where it has them.
    pub k: Option<usize>,
    pub(crate) normalization: fn() -> Normalization,
    /// The shorter side of images before their centre is cut out, where it is another than usual.
    pub(crate) resize: Option<usize>,
    /// Beginnings of the names of tensors that checkpoints hold for training alone.
    pub(crate) training_only: &'static [&'static str],
    pub(crate) any_side: bool,
    pub(crate) transforms_input: bool,
    pub(crate) scheme: Scheme,
    pub(crate) build: fn(&mut Net, ValueId) -> Result<ValueId, GraphError>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({})", self.name)
    }
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Network {
    /// How its raw inputs in [0, 1] are normalised.
    pub fn normalization(&self) -> Normalization {
        (self.normalization)()
    }

    /// False for a network that gives numbers.
    pub fn tells_classes(&self) -> bool {
        self.classes > 0
    }

    /// True where the size of the input can be chosen.
    pub fn takes_any_side(&self) -> bool {
        self.any_side
    }

    /// Its graph.
    pub fn build(&self, options: &Options) -> Result<Graph, ZooError> {
        let mut net = Net::new(self.name, self.scheme, self.settings(options)?);
        let built = net
            .input()
            .and_then(|x| (self.build)(&mut net, x))
            .and_then(|output| net.finish(output, options.weights));
        let mut graph = built.map_err(|source| ZooError::Build {
            network: self.name,
            source: Box::new(source),
        })?;
        let meta = graph.meta_mut();
        meta.normalization = Some(self.normalization());
        let fits = |&side: &usize| options.input_side.is_none_or(|input| input <= side);
        meta.resize = self.resize.filter(fits);
        Ok(graph)
    }

    /// True for tensors that a checkpoint may hold and the network has no use for: step counters, and
    /// the auxiliary heads of torchvision's `googlenet`.
    pub(crate) fn passes_over(&self, weight: &str) -> bool {
        let begins = |prefix: &&str| weight.starts_with(*prefix);
        weight.ends_with("num_batches_tracked") || self.training_only.iter().any(begins)
    }

    fn settings(&self, options: &Options) -> Result<Settings, ZooError> {
        let unknown = |option, only| ZooError::NoSuchOption {
            network: self.name,
            option,
            only,
        };
        if options.transform_input && !self.transforms_input {
            return Err(unknown("transform_input", "torchvision's googlenet"));
        }
        if options.k.is_some() && self.k.is_none() {
            return Err(unknown("k", "the LightLayers networks"));
        }
        if options.num_classes.is_some() && !self.tells_classes() {
            return Err(unknown("num_classes", "networks that tell classes apart"));
        }
        let mut input = self.input;
        if let Some(side) = options.input_side {
            if !self.any_side && input[1..] != [side, side] {
                let only = "networks that pool their last map to a fixed size";
                return Err(unknown("input_side", only));
            }
            input[1] = self.in_range("input_side", side, MAX_SIDE)?;
            input[2] = side;
        }
        let classes = options.num_classes.unwrap_or(self.classes);
        Ok(Settings {
            classes: match self.tells_classes() {
                true => self.in_range("num_classes", classes, MAX_CLASSES)?,
                false => 0,
            },
            input,
            transform_input: options.transform_input,
            k: match options.k.or(self.k) {
                None => None,
                Some(k) => Some(self.in_range("k", k, MAX_K)?),
            },
        })
    }

    fn in_range(&self, option: &'static str, got: usize, max: usize) -> Result<usize, ZooError> {
        if (1..=max).contains(&got) {
            return Ok(got);
        }
        Err(ZooError::OutOfRange {
            network: self.name,
            option,
            min: 1,
            max,
            got,
        })
    }
}

/// All networks, family by family.
pub fn list() -> impl Iterator<Item = &'static Network> {
    FAMILIES.iter().copied().flatten()
}

/// The network of that name.
pub fn find(name: &str) -> Result<&'static Network, ZooError> {
    if let Some(network) = list().find(|network| network.name == name) {
        return Ok(network);
    }
    let wanted = name.to_lowercase();
    let distance = |network: &&Network| strsim::damerau_levenshtein(&wanted, network.name);
    Err(ZooError::UnknownNetwork {
        name: name.to_owned(),
        nearest: list()
            .min_by_key(distance)
            .map_or("", |network| network.name),
    })
}

/// The graph of the network of that name.
pub fn build(name: &str, options: &Options) -> Result<Graph, ZooError> {
    find(name)?.build(options)
}

/// The graph of the network of that name with a checkpoint's weights.
///
/// What `options` leave open and the shapes of the weights tell, as the number of classes, is taken
/// from there. Step counters and auxiliary heads are passed over.
pub fn load(name: &str, weights: &Weights, options: &Options) -> Result<Graph, ZooError> {
    let network = find(name)?;
    let inferred = infer_options(network, weights);
    let options = Options {
        num_classes: options.num_classes.or(inferred.num_classes),
        k: options.k.or(inferred.k),
        weights: InitialWeights::Zeros,
        ..options.clone()
    };
    let mut graph = network.build(&options)?;
    let mut used = weights.clone();
    used.retain(|name, _| !network.passes_over(name));
    graph
        .set_weights(&used)
        .map_err(|mismatches| ZooError::Weights {
            network: network.name,
            mismatches,
            closest: closest(weights)
                .into_iter()
                .next()
                .filter(|best| best.network != network && best.score > 0.0)
                .map(Box::new),
        })?;
    Ok(graph)
}
