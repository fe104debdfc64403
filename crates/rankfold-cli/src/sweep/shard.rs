//! One of several equal parts of a sweep.

use std::str::FromStr;

/// The part `number` of `count`, counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    number: usize,
    count: usize,
}

impl Shard {
    /// The only part.
    pub(crate) const ALL: Self = Self {
        number: 1,
        count: 1,
    };

    /// True for the items of this part. Every run of `count` items has one of each part, in an order
    /// that turns from run to run, so that what comes round regularly falls to all parts alike.
    pub(crate) fn takes(self, item: usize) -> bool {
        (item + item / self.count) % self.count == self.number - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err("expected a part and their number, as 3/16".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_whole_and_about_as_large() {
        for count in [1usize, 2, 4, 7, 16] {
            let mut sizes = vec![0; count];
            for item in 0..74 {
                let takers: Vec<usize> = (1..=count)
                    .filter(|&number| Shard { number, count }.takes(item))
                    .collect();
                assert_eq!(takers.len(), 1, "{item} of {count}");
                sizes[takers[0] - 1] += 1;
            }
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= 1, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_no_part_is_refused() {
        assert!("3/16".parse::<Shard>().is_ok());
        for text in ["0/4", "5/4", "4", "1/0", "a/b", "-1/2", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
