//! Which data set: `KIND:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::DataError;

pub(crate) const KINDS: [&str; 7] = [
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "images",
    "tensors",
    "shapes",
];

/// A data set by kind and place, read from `KIND:PATH` (or `shapes`, `shapes:SEED`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataSpec {
    /// MNIST's four IDX files, gzip-compressed or plain.
    Mnist(PathBuf),
    /// Fashion-MNIST, in the same layout.
    FashionMnist(PathBuf),
    /// CIFAR-10 in the binary layout.
    Cifar10(PathBuf),
    /// CIFAR-100 in the binary layout, fine labels.
    Cifar100(PathBuf),
    /// One folder of JPEG and PNG images per class.
    Images(PathBuf),
    /// A safetensors file of named inputs, with or without labels.
    Tensors(PathBuf),
    /// The built-in synthetic set drawn from a seed.
    Shapes {
        /// The seed, 0 unless given.
        seed: u64,
    },
}

impl DataSpec {
    /// The kind's name, as it stands before the colon.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mnist(_) => KINDS[0],
            Self::FashionMnist(_) => KINDS[1],
            Self::Cifar10(_) => KINDS[2],
            Self::Cifar100(_) => KINDS[3],
            Self::Images(_) => KINDS[4],
            Self::Tensors(_) => KINDS[5],
            Self::Shapes { .. } => KINDS[6],
        }
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mnist(path)
            | Self::FashionMnist(path)
            | Self::Cifar10(path)
            | Self::Cifar100(path)
            | Self::Images(path)
            | Self::Tensors(path) => write!(f, "{}:{}", self.kind(), path.display()),
            Self::Shapes { seed: 0 } => f.write_str("shapes"),
            Self::Shapes { seed } => write!(f, "shapes:{seed}"),
        }
    }
}

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, (!rest.is_empty()).then_some(rest)),
            None => (text, None),
        };
        let path = |kind| {
            rest.map(PathBuf::from)
                .ok_or(DataError::MissingPath { kind })
        };
        match kind {
            "mnist" => path("mnist").map(Self::Mnist),
            "fashion-mnist" => path("fashion-mnist").map(Self::FashionMnist),
            "cifar10" => path("cifar10").map(Self::Cifar10),
            "cifar100" => path("cifar100").map(Self::Cifar100),
            "images" => path("images").map(Self::Images),
            "tensors" => path("tensors").map(Self::Tensors),
            "shapes" => {
                match rest {
                    None => Ok(Self::Shapes { seed: 0 }),
                    Some(seed) => seed.parse().map(|seed| Self::Shapes { seed }).map_err(|_| {
                        DataError::Seed {
                            found: seed.to_owned(),
                        }
                    }),
                }
            }
            other => Err(DataError::UnknownKind {
                found: other.to_owned(),
                nearest: nearest(other),
            }),
        }
    }
}

fn nearest(found: &str) -> Option<&'static str> {
    let found = found.to_lowercase();
    KINDS
        .into_iter()
        .map(|kind| (strsim::jaro_winkler(&found, kind), kind))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_as_printed() {
        for text in [
            "mnist:/d",
            "fashion-mnist:d/e",
            "cifar10:.",
            "cifar100:C",
            "images:a b",
            "shapes",
            "tensors:x.safetensors",
            "shapes:7",
        ] {
            let spec: DataSpec = text.parse().expect("a valid spec");
            assert_eq!(spec.to_string(), text);
            assert!(text.starts_with(spec.kind()));
        }
        assert_eq!(
            "shapes:0".parse::<DataSpec>().expect("valid"),
            DataSpec::Shapes { seed: 0 }
        );
        assert_eq!(
            "images:/a:b".parse::<DataSpec>().expect("valid"),
            DataSpec::Images("/a:b".into())
        );
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_nearest() {
        for (text, meant) in [
            ("cifar-10:x", "cifar10"),
            ("MNIST:x", "mnist"),
            ("fashion:x", "fashion-mnist"),
            ("image:x", "images"),
            ("shape", "shapes"),
            ("tensor:x", "tensors"),
            ("in/x.safetensors", "tensors:in/x.safetensors"),
        ] {
            let error = text.parse::<DataSpec>().expect_err("unknown");
            assert_eq!(
                error.hint(),
                Some(format!("did you mean `{meant}`?")),
                "{text}"
            );
            assert!(
                error.to_string().contains("fashion-mnist, cifar10"),
                "{error}"
            );
        }
        let error = "/some/folder".parse::<DataSpec>().expect_err("unknown");
        assert!(
            matches!(error, DataError::UnknownKind { nearest: None, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_path_or_seed_that_is_needed_is_asked_for() {
        for text in ["cifar10", "cifar10:"] {
            let error = text.parse::<DataSpec>().expect_err("no path");
            assert_eq!(
                error.to_string(),
                "data kind `cifar10` needs a path, as in `cifar10:PATH`"
            );
        }
        let error = "shapes:x".parse::<DataSpec>().expect_err("no number");
        assert!(matches!(error, DataError::Seed { .. }));
    }
}
