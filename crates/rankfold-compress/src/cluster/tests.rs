use proptest::prelude::*;
use rankfold_graph::ops::Linear;
use rankfold_graph::{DType, Dim, Fact, GraphBuilder};

use super::*;

fn go_on(_: &str) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn loss(numbers: &[f32], values: &[f32]) -> f64 {
    let squares = numbers.iter().map(|&n| {
        let apart = values
            .iter()
            .map(|&v| (f64::from(n) - f64::from(v)).powi(2));
        apart.fold(f64::INFINITY, f64::min)
    });
    squares.sum()
}

/// The least loss of `count` means, by trying all ways to cut the sorted numbers.
fn least(numbers: &[f32], count: usize) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f32::total_cmp);
    fn cut(rest: &[f32], count: usize) -> f64 {
        if rest.is_empty() {
            return 0.0;
        }
        let own = |part: &[f32]| {
            let mean = part.iter().map(|&n| f64::from(n)).sum::<f64>() / part.len() as f64;
            part.iter()
                .map(|&n| (f64::from(n) - mean).powi(2))
                .sum::<f64>()
        };
        if count == 1 {
            return own(rest);
        }
        (1..=rest.len())
            .map(|n| own(&rest[..n]) + cut(&rest[n..], count - 1))
            .fold(f64::INFINITY, f64::min)
    }
    cut(&sorted, count)
}

proptest! {
    #[test]
    fn no_other_clustering_is_better(
        numbers in prop::collection::vec(-4.0f32..4.0, 1..11),
        count in 1usize..5,
    ) {
        let values = means(&numbers, count);
        prop_assert!(values.len() <= count);
        let (found, best) = (loss(&numbers, &values), least(&numbers, count));
        prop_assert!(found <= best + 1e-5, "{found} {best}");
    }

    #[test]
    fn the_nearest_value_is_found(
        numbers in prop::collection::vec(-2.0f32..2.0, 1..20),
        mut values in prop::collection::vec(-2.0f32..2.0, 1..9),
    ) {
        values.sort_by(f32::total_cmp);
        for n in numbers {
            let found = (n - values[nearest(&values, n)]).abs();
            prop_assert!(values.iter().all(|v| (n - v).abs() >= found));
        }
    }
}

/// Numbers that look drawn, the same every time.
fn drawn(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count)
        .map(|_| (0..4).map(|_| uniform()).sum())
        .collect()
}

#[test]
fn more_values_lose_less_and_as_many_as_there_are_nothing() {
    let numbers = drawn(500);
    let mut last = f64::INFINITY;
    for count in [1, 2, 4, 16, 64, 256] {
        let loss = loss(&numbers, &means(&numbers, count));
        assert!(loss < last, "{count}: {loss} {last}");
        last = loss;
    }
    assert_eq!(loss(&numbers, &means(&numbers, 500)), 0.0);
}

#[test]
fn many_numbers_are_clustered_as_well_as_few() {
    let numbers = drawn(60_000);
    let values = means(&numbers, 16);
    assert_eq!(values.len(), 16);
    let squared_error = loss(&numbers, &values) / numbers.len() as f64;
    // Lloyd and Max: about a hundredth of a normal distribution's variance, here a third.
    assert!((0.002..0.004).contains(&squared_error), "{squared_error}");
}

#[test]
fn degenerate_numbers_have_their_own_values() {
    assert_eq!(means(&[], 4), Vec::<f32>::new());
    assert_eq!(means(&[0.0; 9], 4), [0.0]);
    assert_eq!(means(&[-0.0, 0.0, 2.0], 2), [0.0, 2.0]);
    assert_eq!(means(&[3.0], 1), [3.0]);
    assert_eq!(means(&[f32::MAX, f32::MIN], 2), [f32::MIN, f32::MAX]);
}

#[test]
fn what_was_pruned_stays_zero() {
    let mut numbers = drawn(400);
    numbers.extend([0.0; 400]);
    let values = means(&numbers, 8);
    assert_eq!(values.iter().filter(|&&v| v == 0.0).count(), 1);
    assert!(values.len() <= 8);
}

fn graph(numbers: Vec<f32>) -> Graph {
    let mut builder = GraphBuilder::new("test");
    let shape = vec![numbers.len() / 10, 10];
    builder.weight("fc.weight", Tensor::from_f32(shape, numbers).unwrap());
    let shape = [Dim::batch(), 10.into()];
    let input = builder.input("x", Fact::new(DType::F32, shape)).unwrap();
    let layer = Linear {
        weight: "fc.weight".into(),
        bias: None,
    };
    let output = builder.op("fc", layer, &[input]).unwrap();
    builder.finish(&[output]).unwrap()
}

#[test]
fn a_graph_keeps_its_shapes_and_takes_fewer_bytes() {
    let graph = graph(drawn(1000));
    for (clustering, values) in [
        (Clustering::Book(16), 1..=16),
        (Clustering::Decimals(1), 1..=41),
        (Clustering::Decimals(2), 42..=401),
    ] {
        let (clustered, outcomes) = cluster(&graph, clustering, &go_on).unwrap();
        let [outcome] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        assert!(values.contains(&outcome.values), "{outcome:?}");
        assert!(outcome.error > 0.0 && outcome.error < 0.2, "{outcome:?}");
        let tensor = clustered.weights().get("fc.weight").unwrap();
        assert_eq!(tensor.shape(), [100, 10]);
        assert!(tensor.code().is_some());
        assert!(tensor.stored_bytes() < 3200, "{}", tensor.stored_bytes());
        let (again, _) = cluster(&clustered, clustering, &go_on).unwrap();
        let twice = again.weights().get("fc.weight").unwrap();
        assert_eq!(twice.to_f32().unwrap(), tensor.to_f32().unwrap());
    }
}

#[test]
fn a_book_that_does_not_pay_is_not_kept() {
    let (clustered, outcomes) =
        cluster(&graph(drawn(1000)), Clustering::Decimals(7), &go_on).unwrap();
    assert!(outcomes[0].values > 900);
    let tensor = clustered.weights().get("fc.weight").unwrap();
    assert!(tensor.code().is_none());
}

#[test]
fn who_is_told_of_a_kernel_may_end_the_work() {
    let stopped = cluster(&graph(drawn(100)), Clustering::Book(4), &|_| {
        ControlFlow::Break(())
    });
    assert!(
        matches!(stopped, Err(CompressError::Stopped)),
        "{stopped:?}"
    );
}
