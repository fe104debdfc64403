//! Tensors that look into a storage by offset and strides, made contiguous.

use bytes::Bytes;
use rankfold_graph::{DType, Tensor, element_count};

/// A tensor that repeats elements of its storage may take up this much …
const REPEAT_FREE: usize = 64 << 20;

/// Which elements of a storage make a tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<'a> {
    /// Element type.
    pub(crate) dtype: DType,
    /// The first element's place in the storage.
    pub(crate) offset: usize,
    /// Extents, outermost first.
    pub(crate) shape: &'a [usize],
    /// Elements between neighbours along each dimension.
    pub(crate) strides: &'a [usize],
}

/// Why there is no such tensor in the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StridedFault {
    /// It reaches past the end.
    OutOfStorage {
        /// Elements in the storage.
        available: usize,
    },
    /// It repeats a few elements into more than memory should hold.
    Repeats {
        /// Elements in the storage.
        available: usize,
    },
}

impl Strided<'_> {
    /// The tensor in row-major order: a slice of `storage` where it is so there, a copy otherwise.
    pub(crate) fn read(&self, storage: &Bytes) -> Result<Tensor, StridedFault> {
        let size = self.dtype.size();
        let available = storage.len() / size;
        let out = StridedFault::OutOfStorage { available };
        let count = element_count(self.shape).map_err(|_| out)?;
        let last = self
            .shape
            .iter()
            .zip(self.strides)
            .try_fold(self.offset, |last, (&n, &s)| {
                last.checked_add(n.saturating_sub(1).checked_mul(s)?)
            })
            .ok_or(out)?;
        if self.shape.len() != self.strides.len() || (count > 0 && last >= available) {
            return Err(out);
        }
        let data = if count == 0 {
            Bytes::new()
        } else if self.is_contiguous() {
            storage.slice(self.offset * size..(self.offset + count) * size)
        } else {
            if count > available && count * size > REPEAT_FREE {
                return Err(StridedFault::Repeats { available });
            }
            self.gather(storage, count).into()
        };
        Tensor::new(self.dtype, self.shape.to_vec(), data).map_err(|_| out)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(self.strides).rev().all(|(&n, &s)| {
            let fits = n == 1 || s == expected;
            expected *= n;
            fits
        })
    }

    fn gather(&self, storage: &[u8], count: usize) -> Vec<u8> {
        match self.dtype.size() {
            1 => self.gather_by::<1>(storage, count),
            2 => self.gather_by::<2>(storage, count),
            4 => self.gather_by::<4>(storage, count),
            _ => self.gather_by::<8>(storage, count),
        }
    }

    fn gather_by<const N: usize>(&self, storage: &[u8], count: usize) -> Vec<u8> {
        let (elements, _) = storage.as_chunks::<N>();
        let mut out = Vec::with_capacity(count * N);
        let (&inner, outer) = self.shape.split_last().unwrap_or((&1, &[]));
        let (&step, outer_steps) = self.strides.split_last().unwrap_or((&0, &[]));
        let mut index = vec![0; outer.len()];
        let mut at = self.offset;
        while out.len() < count * N {
            for i in 0..inner {
                out.extend_from_slice(&elements[at + i * step]);
            }
            for d in (0..outer.len()).rev() {
                index[d] += 1;
                at += outer_steps[d];
                if index[d] < outer[d] {
                    break;
                }
                at -= outer[d] * outer_steps[d];
                index[d] = 0;
            }
        }
        out
    }
}

/// The transposed matrix.
pub(crate) fn transposed(matrix: &Tensor) -> Option<Tensor> {
    let &[rows, columns] = matrix.shape() else {
        return None;
    };
    let strided = Strided {
        dtype: matrix.dtype(),
        offset: 0,
        shape: &[columns, rows],
        strides: &[1, columns],
    };
    strided.read(matrix.bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(n: u8) -> Bytes {
        (0..n).collect::<Vec<u8>>().into()
    }

    fn read(
        offset: usize,
        shape: &[usize],
        strides: &[usize],
        n: u8,
    ) -> Result<Tensor, StridedFault> {
        let strided = Strided {
            dtype: DType::U8,
            offset,
            shape,
            strides,
        };
        strided.read(&storage(n))
    }

    #[test]
    fn contiguous_views_are_slices() {
        let storage = storage(12);
        let strided = Strided {
            dtype: DType::U8,
            offset: 2,
            shape: &[2, 1, 3],
            strides: &[3, 77, 1],
        };
        let tensor = strided.read(&storage).unwrap();
        assert_eq!(tensor.bytes().as_ptr(), storage[2..].as_ptr());
        assert_eq!(&tensor.bytes()[..], &[2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn permuted_views_are_gathered() {
        let transposed = read(1, &[3, 2], &[1, 3], 7).unwrap();
        assert_eq!(&transposed.bytes()[..], &[1, 4, 2, 5, 3, 6]);
        let channels_last = read(0, &[1, 2, 2, 2], &[8, 1, 4, 2], 8).unwrap();
        assert_eq!(&channels_last.bytes()[..], &[0, 2, 4, 6, 1, 3, 5, 7]);
        let expanded = read(1, &[2, 3], &[0, 1], 4).unwrap();
        assert_eq!(&expanded.bytes()[..], &[1, 2, 3, 1, 2, 3]);
        assert_eq!(&read(3, &[], &[], 4).unwrap().bytes()[..], &[3]);
        assert_eq!(read(9, &[0, 5], &[5, 1], 4).unwrap().len(), 0);
    }

    #[test]
    fn views_past_the_end_are_refused() {
        let out = Err(StridedFault::OutOfStorage { available: 6 });
        assert_eq!(read(1, &[2, 3], &[3, 1], 6), out);
        assert_eq!(read(0, &[2, 3], &[4, 1], 6), out);
        assert_eq!(read(usize::MAX, &[2], &[1], 6), out);
        assert_eq!(read(0, &[2, 2], &[usize::MAX, 1], 6), out);
        assert_eq!(read(0, &[1 << 40, 1 << 40], &[0, 0], 6), out);
        assert_eq!(
            read(0, &[1 << 40], &[0], 6),
            Err(StridedFault::Repeats { available: 6 })
        );
    }
}
