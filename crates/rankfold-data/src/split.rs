//! Which part of a data set: `train`, `test`, or a slice of one.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::DataError;

/// One of the two parts of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The images to learn from.
    Train,
    /// The images to report on.
    Test,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

/// One end of a slice: a position, negative from the end, or a share of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    At(i64),
    Percent(f64),
}

impl Bound {
    /// The position in a part of `len` items, none if it lies outside.
    fn position(self, len: usize) -> Option<usize> {
        let at = match self {
            Self::At(at) => at,
            Self::Percent(share) => (share / 100.0 * len as f64).round() as i64,
        };
        let at = if at < 0 { len as i64 + at } else { at };
        usize::try_from(at).ok().filter(|&at| at <= len)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// A part of a data set, or a slice of it in Python's notation: `test[:5000]`, `train[-10%:]`.
/// Unlike in Python a slice that reaches beyond the data is an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    part: Part,
    start: Option<Bound>,
    end: Option<Bound>,
}

impl Split {
    /// The whole training part.
    pub const TRAIN: Self = Self {
        part: Part::Train,
        start: None,
        end: None,
    };
    /// The whole test part.
    pub const TEST: Self = Self {
        part: Part::Test,
        start: None,
        end: None,
    };

    /// Whether it is a whole part and no slice of one.
    pub fn is_whole(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }

    /// The part that this is a slice of.
    pub fn part(&self) -> Part {
        self.part
    }

    /// The positions that the split selects from a part of `len` items, at least one.
    pub fn range(&self, len: usize) -> Result<Range<usize>, DataError> {
        let outside = || DataError::SplitOutOfRange {
            split: self.to_string(),
            len,
        };
        let resolve = |bound: Option<Bound>, default| {
            bound.map_or(Ok(default), |b| b.position(len).ok_or_else(outside))
        };
        let (start, end) = (resolve(self.start, 0)?, resolve(self.end, len)?);
        if start >= end {
            return Err(DataError::Empty {
                what: self.to_string(),
                len,
            });
        }
        Ok(start..end)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part.fmt(f)?;
        if self.is_whole() {
            return Ok(());
        }
        let text = |bound: Option<Bound>| bound.map(|b| b.to_string()).unwrap_or_default();
        write!(f, "[{}:{}]", text(self.start), text(self.end))
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let wrong = |expected| DataError::SplitSyntax {
            text: text.to_owned(),
            expected,
        };
        let (name, slice) = match text.split_once('[') {
            None => (text, None),
            Some((name, rest)) => {
                let inner = rest
                    .strip_suffix(']')
                    .ok_or_else(|| wrong("a closing bracket"))?;
                (name, Some(inner))
            }
        };
        let part = match name {
            "train" => Part::Train,
            "test" => Part::Test,
            _ => return Err(wrong("`train` or `test`")),
        };
        let Some(slice) = slice else {
            return Ok(Self {
                part,
                start: None,
                end: None,
            });
        };
        let (start, end) = slice
            .split_once(':')
            .ok_or_else(|| wrong("a colon between the ends of the slice"))?;
        let bound = |text: &str| -> Result<Option<Bound>, DataError> {
            let text = text.trim();
            if text.is_empty() {
                return Ok(None);
            }
            if let Some(share) = text.strip_suffix('%') {
                let share: f64 = share.parse().map_err(|_| wrong("a number before `%`"))?;
                return if (-100.0..=100.0).contains(&share) {
                    Ok(Some(Bound::Percent(share)))
                } else {
                    Err(wrong("at most 100%"))
                };
            }
            text.parse()
                .map(|at| Some(Bound::At(at)))
                .map_err(|_| wrong("whole numbers or shares"))
        };
        Ok(Self {
            part,
            start: bound(start)?,
            end: bound(end)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_select_as_in_python() {
        for (text, expected) in [
            ("train", 0..1000),
            ("test", 0..1000),
            ("test[:]", 0..1000),
            ("test[:300]", 0..300),
            ("test[300:]", 300..1000),
            ("train[100:200]", 100..200),
            ("test[-10:]", 990..1000),
            ("test[:-10]", 0..990),
            ("test[:10%]", 0..100),
            ("test[-10%:]", 900..1000),
            ("test[12.5%:50%]", 125..500),
        ] {
            let split: Split = text.parse().expect(text);
            assert_eq!(split.range(1000).expect(text), expected, "{text}");
            let again: Split = split.to_string().parse().expect("own print");
            assert_eq!(again, split);
        }
    }

    #[test]
    fn complementary_shares_neither_overlap_nor_leave_a_gap() {
        for len in [1usize, 7, 999, 10_000] {
            let low: Split = "test[:33.3%]".parse().expect("valid");
            let high: Split = "test[33.3%:]".parse().expect("valid");
            let low = low.range(len).map_or(0, |r| r.end);
            assert_eq!(high.range(len).expect("not empty").start, low);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "val",
            "test[",
            "test[5]",
            "test[a:]",
            "train[::2]",
            "",
            "test[:x%]",
            "test[:101%]",
        ] {
            let error = text.parse::<Split>().expect_err(text);
            assert!(
                matches!(error, DataError::SplitSyntax { .. }),
                "{text}: {error:?}"
            );
            assert!(error.hint().expect("a hint").contains("test[:5000]"));
        }
    }

    #[test]
    fn what_lies_outside_is_refused() {
        for text in ["test[:1001]", "test[-1001:]", "test[2000:]"] {
            let error = text
                .parse::<Split>()
                .expect("valid")
                .range(1000)
                .expect_err(text);
            assert!(
                matches!(error, DataError::SplitOutOfRange { len: 1000, .. }),
                "{error:?}"
            );
        }
        for text in ["test[5:5]", "test[9:3]", "test[1000:]"] {
            let error = text
                .parse::<Split>()
                .expect("valid")
                .range(1000)
                .expect_err(text);
            assert!(matches!(error, DataError::Empty { .. }), "{error:?}");
        }
    }
}
