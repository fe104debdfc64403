//! Named tensors in order.

use std::collections::HashSet;

use indexmap::IndexMap;
use rankfold_graph::Tensor;

/// A name given twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two tensors are named `{name}`")]
pub struct DuplicateTensor {
    /// The name.
    pub name: String,
}

/// Named tensors in the order of their file.
///
/// Tensors that are one and the same in the file share their bytes here; see [`StateDict::tied`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    tensors: IndexMap<String, Tensor>,
}

/// The first element of a [`StateDict`] that is NaN or infinite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor `{tensor}` has a value that is not finite, at element {index}")]
pub struct NonFinite {
    /// The tensor.
    pub tensor: String,
    /// Index of the element in row-major order.
    pub index: usize,
}

/// A tensor of another shape than expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongShape {
    /// The tensor.
    pub tensor: String,
    /// The shape that the network has.
    pub expected: Vec<usize>,
    /// The shape that the file has.
    pub got: Vec<usize>,
}

/// Everything in which a file's tensors differ from those a network needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Needed and not in the file.
    pub missing: Vec<String>,
    /// In the file and not needed.
    pub surplus: Vec<String>,
    /// In both, with different shapes.
    pub wrong_shape: Vec<WrongShape>,
}

impl Mismatch {
    /// True where file and network agree.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.wrong_shape.is_empty()
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} tensors missing, {} surplus, {} of another shape",
            self.missing.len(),
            self.surplus.len(),
            self.wrong_shape.len()
        )?;
        for name in &self.missing {
            write!(f, "\n  missing {name}")?;
        }
        for name in &self.surplus {
            write!(f, "\n  surplus {name}")?;
        }
        for w in &self.wrong_shape {
            let (name, expected, got) = (&w.tensor, &w.expected, &w.got);
            write!(f, "\n  {name}: expected {expected:?}, found {got:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

impl StateDict {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor at the end.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        tensor: Tensor,
    ) -> Result<(), DuplicateTensor> {
        match self.tensors.entry(name.into()) {
            indexmap::map::Entry::Occupied(e) => Err(DuplicateTensor {
                name: e.key().clone(),
            }),
            indexmap::map::Entry::Vacant(e) => {
                e.insert(tensor);
                Ok(())
            }
        }
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Takes a tensor out; the order of the others stays.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.shift_remove(name)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, t)| (name.as_str(), t))
    }

    /// Names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// True where there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Groups of two or more names that stand for the same tensor, each in order.
    pub fn tied(&self) -> Vec<Vec<&str>> {
        let mut groups: IndexMap<_, Vec<&str>> = IndexMap::new();
        for (name, t) in self.iter().filter(|(_, t)| !t.is_empty()) {
            let key = (t.bytes().as_ptr(), t.dtype(), t.shape());
            groups.entry(key).or_default().push(name);
        }
        groups.into_values().filter(|g| g.len() > 1).collect()
    }

    /// Where the first NaN or infinity is, if there is one.
    pub fn first_non_finite(&self) -> Option<NonFinite> {
        self.iter().find_map(|(name, tensor)| {
            tensor.first_non_finite().map(|index| NonFinite {
                tensor: name.to_owned(),
                index,
            })
        })
    }

    /// All that sets these tensors apart from `expected` names and shapes.
    pub fn check<'a>(
        &self,
        expected: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<(), Mismatch> {
        let mut mismatch = Mismatch::default();
        let mut known = HashSet::new();
        for (name, shape) in expected {
            known.insert(name);
            match self.get(name) {
                None => mismatch.missing.push(name.to_owned()),
                Some(tensor) if tensor.shape() != shape => mismatch.wrong_shape.push(WrongShape {
                    tensor: name.to_owned(),
                    expected: shape.to_vec(),
                    got: tensor.shape().to_vec(),
                }),
                Some(_) => {}
            }
        }
        let surplus = self.names().filter(|name| !known.contains(name));
        mismatch.surplus = surplus.map(str::to_owned).collect();
        if mismatch.is_empty() {
            Ok(())
        } else {
            Err(mismatch)
        }
    }
}

impl FromIterator<(String, Tensor)> for StateDict {
    /// Of tensors with the same name the last one stays.
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self {
            tensors: tensors.into_iter().collect(),
        }
    }
}

impl IntoIterator for StateDict {
    type Item = (String, Tensor);
    type IntoIter = indexmap::map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::from_f32(shape.to_vec(), vec![1.0; shape.iter().product()]).unwrap()
    }

    #[test]
    fn ties_are_found_by_bytes_not_by_value() {
        let mut dict = StateDict::new();
        let shared = ones(&[2, 3]);
        dict.insert("a", shared.clone()).unwrap();
        dict.insert("b", ones(&[2, 3])).unwrap();
        dict.insert("c", shared).unwrap();
        assert_eq!(dict.tied(), [["a", "c"]]);
    }

    #[test]
    fn mismatches_are_listed_all_at_once() {
        let mut dict = StateDict::new();
        dict.insert("w", ones(&[2, 3])).unwrap();
        dict.insert("x", ones(&[1])).unwrap();
        let err = dict
            .check([("w", &[3usize, 2][..]), ("b", &[2][..])])
            .unwrap_err();
        assert_eq!(
            err.to_string(),
            "1 tensors missing, 1 surplus, 1 of another shape\n  missing b\n  surplus x\n  \
             w: expected [3, 2], found [2, 3]"
        );
    }

    #[test]
    fn the_first_non_finite_value_is_named() {
        let mut dict = StateDict::new();
        dict.insert("good", ones(&[4])).unwrap();
        let bad = Tensor::from_f32(vec![3], vec![0.0, 1.0, f32::NAN]).unwrap();
        dict.insert("bad", bad).unwrap();
        let found = dict.first_non_finite().unwrap();
        assert_eq!((found.tensor.as_str(), found.index), ("bad", 2));
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let mut dict = StateDict::new();
        dict.insert("w", ones(&[1])).unwrap();
        assert_eq!(dict.insert("w", ones(&[1])).unwrap_err().name, "w");
    }
}
