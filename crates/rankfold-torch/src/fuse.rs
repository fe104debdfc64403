//! Convolutions merged with the addition and the activation that alone take their result, and chains
//! of three convolutions, with the pool after them, merged into one step.

use std::collections::HashSet;

use rankfold_graph::Op;
use rankfold_graph::ops::Arithmetic;

use crate::ops::chain::{self, Chain};
use crate::ops::packed::{self, Epilogue};
use crate::plan::{Merged, Step, same_sizes};

/// Steps of which some have taken others over, and the names of all concerned.
pub(crate) struct Fused {
    pub(crate) steps: Vec<Step>,
    pub(crate) names: HashSet<String>,
}

/// Merges what can be merged. `kernel` gives the shape of a convolution's kernel.
pub(crate) fn fuse(
    mut steps: Vec<Step>,
    outputs: &[usize],
    values: &[rankfold_graph::Value],
    kernel: impl Fn(&Step) -> Vec<usize>,
) -> Fused {
    let mut names = HashSet::new();
    let mut gone = vec![false; steps.len()];
    for place in 0..steps.len() {
        let Op::Conv(conv) = &steps[place].op else {
            continue;
        };
        if gone[place]
            || steps[place].merged.is_some()
            || !packed::fits(conv, &kernel(&steps[place]))
        {
            continue;
        }
        let mut epilogue = Epilogue::default();
        let mut inputs = steps[place].inputs.clone();
        let mut last = place;
        let taker = |last: usize, gone: &[bool]| only_taker(&steps, gone, outputs, last);
        if let Some(next) = taker(last, &gone)
            && let Some(summand) = summand(&steps[next], steps[last].outputs[0], values)
        {
            epilogue.add = true;
            inputs.push(summand);
            last = next;
        }
        if let Some(next) = taker(last, &gone)
            && let Op::Activation(activation) = &steps[next].op
            && packed::merges(activation, epilogue.add)
        {
            epilogue.activation = Some(*activation);
            last = next;
        }
        let (name, op) = (steps[place].name.clone(), steps[place].op.clone());
        let mut step = Step::new(name, op, inputs, steps[last].outputs.clone());
        step.merged = Some(Merged::Conv(epilogue));
        if last != place {
            let merged = path(&steps, &gone, outputs, place, last);
            step.nodes = merged.iter().map(|&i| steps[i].name.clone()).collect();
            names.extend(step.nodes.iter().cloned());
            for i in merged {
                gone[i] = true;
            }
            gone[last] = false;
        }
        steps[last] = step;
    }
    let kept = steps.into_iter().zip(gone).filter(|(_, gone)| !gone);
    Fused {
        steps: kept.map(|(step, _)| step).collect(),
        names,
    }
}

/// Merges a 1×1, a depthwise and a 1×1 convolution of which each alone takes what the one before makes,
/// and a max pool after them.
pub(crate) fn fuse_chains(
    fused: Fused,
    outputs: &[usize],
    kernel: impl Fn(&Step) -> Vec<usize>,
) -> Fused {
    let Fused {
        mut steps,
        mut names,
    } = fused;
    let mut gone = vec![false; steps.len()];
    for place in 0..steps.len() {
        let taker = |place| only_taker(&steps, &gone, outputs, place);
        let Some((middle, third)) = taker(place).and_then(|next| Some((next, taker(next)?))) else {
            continue;
        };
        let mut places = vec![place, middle, third];
        let Some(mut chain) = chain_of([place, middle, third].map(|i| &steps[i]), &kernel) else {
            continue;
        };
        if let Some((next, pool)) = taker(third).and_then(|next| Some((next, pool(&steps[next])?)))
            && !chain.epilogue.add
        {
            chain.pool = pool;
            places.push(next);
        }
        let last = places[places.len() - 1];
        let mut inputs = steps[place].inputs.clone();
        inputs.extend(steps[third].inputs.iter().skip(1));
        let (name, op) = (steps[place].name.clone(), steps[place].op.clone());
        let mut step = Step::new(name, op, inputs, steps[last].outputs.clone());
        step.merged = Some(Merged::Chain(Box::new(chain)));
        step.nodes = places
            .iter()
            .flat_map(|&i| steps[i].nodes.clone())
            .collect();
        names.extend(step.nodes.iter().cloned());
        for place in places {
            gone[place] = place != last;
        }
        steps[last] = step;
    }
    let kept = steps.into_iter().zip(gone).filter(|(_, gone)| !gone);
    Fused {
        steps: kept.map(|(step, _)| step).collect(),
        names,
    }
}

/// Three steps, each the taker of the one before, as a chain; none where they make none.
fn chain_of(steps: [&Step; 3], kernel: impl Fn(&Step) -> Vec<usize>) -> Option<Chain> {
    let conv = |step: &Step| match (&step.op, &step.merged) {
        (Op::Conv(conv), Some(Merged::Conv(epilogue))) => Some((conv.clone(), *epilogue)),
        _ => None,
    };
    let [first, middle, last] = steps;
    let kernels = [kernel(first), kernel(middle), kernel(last)];
    let [(first, before), (middle, between), (op, epilogue)] =
        [conv(first)?, conv(middle)?, conv(last)?];
    let activations = [before.activation, between.activation, epilogue.activation];
    let fits = !before.add
        && !between.add
        && last.inputs.first() == steps[1].outputs.first()
        && activations.iter().flatten().all(chain::takes)
        && chain::is_pointwise(&first, &kernels[0])
        && chain::is_depthwise(&middle, &kernels[1])
        && chain::is_pointwise(&op, &kernels[2]);
    fits.then(|| Chain {
        first,
        first_activation: before.activation,
        middle,
        middle_activation: between.activation,
        last: op,
        epilogue,
        window: [kernels[1][2], kernels[1][3]],
        outputs: kernels[2][0],
        pool: [1, 1],
    })
}

/// The window of a step that can end a chain as its pool.
fn pool(step: &Step) -> Option<[usize; 2]> {
    match &step.op {
        Op::MaxPool(pool) => chain::pooled(pool),
        _ => None,
    }
}

/// The step that alone takes what a step makes.
fn only_taker(steps: &[Step], gone: &[bool], outputs: &[usize], place: usize) -> Option<usize> {
    let &[value] = &steps[place].outputs[..] else {
        return None;
    };
    if outputs.contains(&value) {
        return None;
    }
    let mut takers = (0..steps.len()).filter(|&i| !gone[i] && steps[i].inputs.contains(&value));
    let taker = takers.next()?;
    let once = steps[taker]
        .inputs
        .iter()
        .filter(|&&input| input == value)
        .count()
        == 1;
    (once && takers.next().is_none()).then_some(taker)
}

/// The other input of an addition of values of the same size.
fn summand(step: &Step, value: usize, values: &[rankfold_graph::Value]) -> Option<usize> {
    let Op::Binary(binary) = &step.op else {
        return None;
    };
    let &[a, b] = &step.inputs[..] else {
        return None;
    };
    let other = if a == value { b } else { a };
    let same = same_sizes(&values[value].fact, &values[other].fact);
    (binary.arithmetic == Arithmetic::Add && same).then_some(other)
}

/// The steps from `first` to `last`, each the only taker of the one before.
fn path(steps: &[Step], gone: &[bool], outputs: &[usize], first: usize, last: usize) -> Vec<usize> {
    let mut path = vec![first];
    let mut at = first;
    while at != last {
        let Some(next) = only_taker(steps, gone, outputs, at) else {
            break;
        };
        path.push(next);
        at = next;
    }
    path
}
