//! Stages, freezing, checkpoints: a course ends as an undisturbed one, wherever it was interrupted.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use rankfold_compress::{
    ConnectionRule, Form, Layer, LayerPlan, NoStore, Plan, Rank, Statistics, apply, is_part_of,
    prune_connections,
};
use rankfold_data::{Augment, Dataset, ImageSize, Loader, LoaderOptions, Normalization};
use rankfold_decompose::Control;
use rankfold_finetune::{
    Course, Event, FinetuneError, Freeze, Graduate, Length, Method, News, Order, Penalty, Recipe,
    Stage, random_factors, stages,
};
use rankfold_formats::read_weights;
use rankfold_graph::Graph;
use rankfold_zoo::Options;

struct School {
    original: Graph,
    plan: Plan,
    stages: Vec<Stage>,
    lessons: Loader,
    exam: Loader,
    recipe: Recipe,
    freeze: Freeze,
}

fn school(order: Order, recipe: Recipe) -> School {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("models/shapes-resnet20/model.safetensors");
    let weights = read_weights(&file).unwrap().tensors.into_iter();
    let weights = weights
        .map(|(name, tensor)| (name.into(), tensor))
        .collect();
    let original = rankfold_zoo::load("resnet20", &weights, &Options::default()).unwrap();
    let mut plan = Plan::new(&original, "three layers".to_owned(), 0);
    for layer in Layer::all(&original) {
        let rank = match layer.name.as_str() {
            "layer1.0.conv1" | "layer3.2.conv2" => Rank::One(8),
            "linear" | "fc" => Rank::One(4),
            _ => continue,
        };
        let mut planned = LayerPlan::keep(&layer);
        planned.form = if layer.is_pointwise() {
            Form::Svd
        } else {
            Form::Spatial
        };
        planned.rank = Some(rank);
        plan.layers.push(planned);
    }
    assert_eq!(plan.layers.len(), 3);
    let own = original.meta().normalization.clone().unwrap();
    let normalization = Normalization::new(own.mean, own.std).unwrap();
    let data = |split: &str| {
        let spec = "shapes".parse().unwrap();
        Dataset::open(&spec, &split.parse().unwrap(), ImageSize::default()).unwrap()
    };
    let options = LoaderOptions {
        drop_last: true,
        ..LoaderOptions::train(16, normalization.clone(), Augment::CIFAR, 3)
    };
    School {
        lessons: Loader::new(data("train[:128]"), options).unwrap(),
        exam: Loader::new(
            data("test[:64]"),
            LoaderOptions::evaluate(64, normalization),
        )
        .unwrap(),
        stages: stages(&original, &plan, order, &[]),
        original,
        plan,
        recipe,
        freeze: Freeze::Nothing,
    }
}

fn quick() -> Recipe {
    Recipe {
        length: Length::Epochs(2),
        rate: 1e-3,
        warm_up: 4,
        ..Recipe::default()
    }
}

impl School {
    fn run(
        &self,
        folder: &Path,
        identity: &[(&'static str, String)],
        mut hear: impl FnMut(&News<'_>) -> ControlFlow<()>,
    ) -> Result<Graduate, FinetuneError> {
        let course = Course {
            stages: &self.stages,
            decomposed: &[],
            teacher: Some(&self.original),
            lessons: &self.lessons,
            exam: Some(&self.exam),
            recipe: &self.recipe,
            freeze: self.freeze,
            folder,
            identity,
            keep_every: Duration::ZERO,
        };
        let decompose = |graph: &Graph, stage: &Stage| {
            let mut plan = Plan::new(graph, String::new(), 0);
            let layers = self.plan.layers.iter();
            plan.layers = layers
                .filter(|layer| stage.layers.contains(&layer.name))
                .cloned()
                .collect();
            let none = Statistics::new();
            let done = apply(graph, &plan, &none, &NoStore, Control::default(), &|_| ());
            Ok::<_, FinetuneError>(done.unwrap().0)
        };
        course.run(&self.original, decompose, &mut |news| Ok(hear(&news)))
    }

    fn undisturbed(&self) -> Graduate {
        let folder = tempfile::tempdir().unwrap();
        self.stopped_at(&[], folder.path())
    }

    /// Stopped, as a signal would, at steps counted over stages and attempts, and gone on with to the end.
    fn stopped_at(&self, stops: &[usize], folder: &Path) -> Graduate {
        let steps = Cell::new(0);
        for &stop in stops {
            let stopped = self.run(folder, &[], |news| {
                if let News::Event {
                    event: Event::Step(_),
                    ..
                } = news
                {
                    steps.set(steps.get() + 1);
                }
                match steps.get() >= stop {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            assert!(
                matches!(stopped, Err(FinetuneError::Stopped)),
                "{stopped:?}"
            );
        }
        self.run(folder, &[], |_| ControlFlow::Continue(()))
            .unwrap()
    }
}

fn bits(graph: &Graph) -> Vec<(String, Vec<u8>)> {
    let weights = graph.weights().iter();
    weights
        .map(|(name, tensor)| (name.to_string(), tensor.bytes().to_vec()))
        .collect()
}

#[test]
fn a_course_decomposes_stage_by_stage_and_learns_in_each() {
    let recipe = Recipe {
        frozen_statistics: true,
        ..quick()
    };
    let school = school(Order::Hybrid, recipe);
    assert_eq!(
        school.stages.len(),
        3,
        "two convolutions, then the linear layer"
    );
    let mut seen = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    let graduate = school.run(folder.path(), &[], |news| {
        if let News::Stage { stage, .. } = news {
            seen.push(stage.name.clone());
        }
        ControlFlow::Continue(())
    });
    let graduate = graduate.unwrap();
    let planned: Vec<&str> = school.plan.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(seen, planned);
    for record in &graduate.stages {
        let epochs = &record.epochs;
        assert_eq!(epochs.len(), 3, "before, and two epochs");
        let divergence = |i: usize| epochs[i].mark.unwrap().divergence.unwrap();
        assert!(
            divergence(2) < divergence(0),
            "{}: {epochs:?}",
            record.stage
        );
        assert_eq!(epochs[2].steps, 16);
    }
    for layer in planned {
        let parts = graduate.last.nodes().iter();
        let parts = parts.filter(|node| is_part_of(&node.name, layer)).count();
        assert_eq!(parts, 2, "{layer}");
    }
    let (best, _) = graduate.best.unwrap();
    let marks = graduate.stages[2]
        .epochs
        .iter()
        .map(|e| e.mark.unwrap().divergence.unwrap());
    let least = marks
        .enumerate()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap()
        .0;
    assert_eq!(best, least);
}

#[test]
fn a_course_stopped_anywhere_ends_with_the_same_bits() {
    for method in [Method::ADAMW, Method::SGD] {
        let recipe = Recipe { method, ..quick() };
        let school = school(Order::Hybrid, recipe);
        let expected = school.undisturbed();
        let folder = tempfile::tempdir().unwrap();
        let stops = [1, 5, 8, 9, 16, 21, 33, 47];
        let last = school.stopped_at(&stops, folder.path());
        assert!(bits(&last.last) == bits(&expected.last), "{method:?}");
        let (epoch, best) = last.best.unwrap();
        let (expected_epoch, expected_best) = expected.best.unwrap();
        assert_eq!(epoch, expected_epoch);
        assert!(bits(&best) == bits(&expected_best));
        // A course that has ended is not gone through again.
        let again = school
            .run(folder.path(), &[], |news| panic!("{news:?}"))
            .unwrap();
        assert!(bits(&again.last) == bits(&expected.last));
        assert_eq!(again.stages.len(), 3);
    }
}

#[test]
fn checkpoints_of_another_course_are_refused_and_stay() {
    let school = school(Order::OneShot, quick());
    let folder = tempfile::tempdir().unwrap();
    let own = [("rate", "1".to_owned())];
    let stopped = school.run(folder.path(), &own, |news| match news {
        News::Event {
            event: Event::Step(_),
            ..
        } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(FinetuneError::Stopped)));
    let other = [("rate", "2".to_owned())];
    let refused = school.run(folder.path(), &other, |_| ControlFlow::Continue(()));
    let Err(FinetuneError::OtherTraining {
        what,
        expected,
        found,
        ..
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (what, expected.as_str(), found.as_str()),
        ("rate", "2", "1")
    );
    let went_on = Cell::new(0);
    school
        .run(folder.path(), &own, |news| {
            if let News::Stage { steps, .. } = news {
                went_on.set(*steps);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let state = folder.path().join("state.safetensors");
    assert!(!state.exists(), "the state of a finished stage is removed");
    // The state is of the step before which it was copied.
    assert_eq!(went_on.get(), 0);

    std::fs::write(folder.path().join("stage-0.safetensors"), b"half").unwrap();
    std::fs::remove_file(folder.path().join("stage-1.safetensors")).unwrap();
    let broken = school.run(folder.path(), &own, |_| ControlFlow::Continue(()));
    assert!(
        matches!(broken, Err(FinetuneError::Format(_))),
        "{broken:?}"
    );
}

#[test]
fn frozen_layers_keep_their_weights() {
    let kernel = |graph: &Graph, layer: &str, part: usize| {
        let name = format!("{layer}.{part}.weight");
        graph.weights().get(name.as_str()).unwrap().bytes().to_vec()
    };
    for freeze in [Freeze::Nothing, Freeze::Decomposed, Freeze::Others] {
        let mut school = school(Order::Iterative, quick());
        school.stages.truncate(2);
        school.freeze = freeze;
        let folder = tempfile::tempdir().unwrap();
        // The network as the second stage begins.
        let mut begun = None;
        let graduate = school.run(folder.path(), &[], |news| {
            if let News::Stage { number: 1, .. } = news {
                let file = read_weights(&folder.path().join("stage-1.safetensors")).unwrap();
                begun = Some(file.tensors);
            }
            ControlFlow::Continue(())
        });
        let graduate = graduate.unwrap();
        let begun = begun.unwrap();
        let unchanged = |layer: &str, part: usize| {
            let before = begun.get(&format!("{layer}.{part}.weight")).unwrap();
            before.bytes()[..] == kernel(&graduate.last, layer, part)[..]
        };
        let [first, second] = [&school.stages[0].layers[0], &school.stages[1].layers[0]];
        assert_eq!(unchanged(first, 0), freeze != Freeze::Nothing, "{freeze:?}");
        assert!(!unchanged(second, 0), "{freeze:?}");
        let stem = begun.get("conv1.weight").unwrap().bytes().to_vec();
        let learnt = graduate
            .last
            .weights()
            .get("conv1.weight")
            .unwrap()
            .bytes()
            .to_vec();
        assert_eq!(stem == learnt, freeze == Freeze::Others, "{freeze:?}");
    }
}

/// Weights that were pruned stay zero, also where the course is stopped and gone on with.
#[test]
fn zeros_of_kernels_stay_where_that_is_asked_for() {
    for method in [Method::ADAMW, Method::SGD] {
        let recipe = |keep_zeros| Recipe {
            method,
            keep_zeros,
            decay: 1e-2,
            penalty: Penalty { l1: 1e-4, l2: 1e-3 },
            label_weight: 1.0,
            ..quick()
        };
        let mut school = school(Order::OneShot, recipe(true));
        school.stages = vec![Stage::training()];
        let rule = ConnectionRule::RootMeanSquare(0.5);
        school.original = prune_connections(&school.original, rule).unwrap().0;
        let zeros = |graph: &Graph| -> Vec<(String, Vec<bool>)> {
            let kernels = graph.weights().iter();
            let kernels = kernels.filter(|(name, _)| {
                name.ends_with("conv1.weight") || name.ends_with("linear.weight")
            });
            let zeros = kernels.map(|(name, tensor)| {
                let values = tensor.to_f32().unwrap();
                (name.to_string(), values.iter().map(|&w| w == 0.0).collect())
            });
            zeros.collect()
        };
        let before = zeros(&school.original);
        let count: usize = before
            .iter()
            .flat_map(|(_, zeros)| zeros)
            .map(|&z| usize::from(z))
            .sum();
        assert!(count > 1000, "{count}");
        let expected = school.undisturbed();
        assert!(zeros(&expected.last) == before, "{method:?}");
        assert!(bits(&expected.last) != bits(&school.original));
        let folder = tempfile::tempdir().unwrap();
        let last = school.stopped_at(&[3, 10, 13], folder.path()).last;
        assert!(bits(&last) == bits(&expected.last), "{method:?}");
        school.recipe = recipe(false);
        assert!(zeros(&school.undisturbed().last) != before, "{method:?}");
    }
}

#[test]
fn random_factors_are_others_of_the_same_shape_and_hang_on_the_seed() {
    let school = school(Order::OneShot, quick());
    let none = Statistics::new();
    let control = Control::default();
    let (graph, _) = apply(
        &school.original,
        &school.plan,
        &none,
        &NoStore,
        control,
        &|_| (),
    )
    .unwrap();
    let layers = &school.stages[0].layers;
    let drawn = random_factors(&graph, layers, 1).unwrap();
    assert!(bits(&drawn) == bits(&random_factors(&graph, layers, 1).unwrap()));
    assert!(bits(&drawn) != bits(&random_factors(&graph, layers, 2).unwrap()));
    for (name, tensor) in graph.weights().iter() {
        let other = drawn.weights().get(name).unwrap();
        assert_eq!(tensor.shape(), other.shape());
        let factor = layers
            .iter()
            .any(|layer| (0..2).any(|part| **name == *format!("{layer}.{part}.weight")));
        assert_eq!(tensor != other, factor, "{name}");
    }
}
