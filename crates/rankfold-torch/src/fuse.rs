//! Convolutions merged with the addition and the activation that alone take their result.

use std::collections::HashSet;

use rankfold_graph::Op;
use rankfold_graph::ops::Arithmetic;

use crate::ops::packed::{self, Epilogue};
use crate::plan::{Step, same_sizes};

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
            || steps[place].packed.is_some()
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
        step.packed = Some(epilogue);
        if last != place {
            let merged = path(&steps, &gone, outputs, place, last);
            names.extend(merged.iter().map(|&i| steps[i].name.clone()));
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
