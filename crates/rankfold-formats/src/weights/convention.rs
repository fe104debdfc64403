//! What wrappers of PyTorch modules do to names.

use super::StateDict;

/// `DataParallel`, `DistributedDataParallel` and `AveragedModel`; `torch.compile`.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
/// The counter that `AveragedModel` keeps beside the model it wraps.
const BESIDE: &str = "n_averaged";

/// `dict` with every prefix taken off that a wrapper put before all names.
pub(crate) fn without_wrappers(mut dict: StateDict) -> StateDict {
    while let Some(prefix) = PREFIXES.iter().find(|p| wraps(&dict, p)) {
        dict = dict
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix(prefix) {
                Some(rest) => (rest.to_owned(), tensor),
                None => (name, tensor),
            })
            .collect();
    }
    dict
}

fn wraps(dict: &StateDict, prefix: &str) -> bool {
    let mut names = dict.names().filter(|&n| n != BESIDE).peekable();
    let inner = |n: &str| {
        n.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest != BESIDE)
    };
    names.peek().is_some() && names.all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankfold_graph::Tensor;

    fn named(names: &[&str]) -> StateDict {
        let one = Tensor::from_f32(vec![1], vec![1.0]).unwrap();
        names
            .iter()
            .map(|n| ((*n).to_owned(), one.clone()))
            .collect()
    }

    #[test]
    fn prefixes_come_off_only_where_every_name_has_them() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["module.a", "module.b.c"], &["a", "b.c"]),
            (&["module._orig_mod.a", "n_averaged"], &["a", "n_averaged"]),
            (&["module.a", "b"], &["module.a", "b"]),
            (&["module.module.a"], &["a"]),
        ];
        for (given, expected) in cases {
            let dict = without_wrappers(named(given));
            assert_eq!(dict.names().collect::<Vec<_>>(), expected);
        }
    }
}
