use super::{CodeError, expect_type};
use crate::tensor::{DType, Tensor, TensorError, element_count};

/// A list of values, and for every number of a tensor the place of its value in that list.
///
/// Indices are packed one after the other, the lowest bit first, in as few bits as the list needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Book {
    shape: Vec<usize>,
    indices: Tensor,
    values: Tensor,
}

impl Book {
    /// The most values that a book can have.
    pub const MOST: usize = 1 << 16;

    /// The code of these parts: packed indices as bytes, and a vector of values.
    pub fn new(shape: Vec<usize>, indices: Tensor, values: Tensor) -> Result<Self, CodeError> {
        expect_type("indices", &indices, DType::U8)?;
        expect_type("values", &values, DType::F32)?;
        if values.shape().len() != 1 || !(1..=Self::MOST).contains(&values.len()) {
            return Err(CodeError::Values {
                got: values.shape().to_vec(),
            });
        }
        let floats = values.to_f32()?;
        if let Some(place) = floats.iter().position(|value| !value.is_finite()) {
            return Err(CodeError::Value {
                place,
                got: floats[place],
            });
        }
        let count = element_count(&shape)?;
        let bits = index_bits(floats.len());
        let expected = packed_bytes(count, bits);
        if indices.shape() != [expected] {
            return Err(CodeError::Length {
                count,
                bits,
                expected,
                got: indices.shape().to_vec(),
            });
        }
        let beyond = unpack(indices.bytes(), bits, count)
            .enumerate()
            .find(|(_, index)| *index >= floats.len());
        if let Some((place, index)) = beyond {
            return Err(CodeError::Index {
                place,
                index,
                values: floats.len(),
            });
        }
        drop(floats);
        Ok(Self {
            shape,
            indices,
            values,
        })
    }

    /// The code of a tensor whose numbers have these places in `values`.
    pub fn pack(shape: Vec<usize>, places: &[usize], values: Vec<f32>) -> Result<Self, CodeError> {
        let bits = index_bits(values.len());
        let indices = pack(places, bits);
        let indices = Tensor::new(DType::U8, vec![indices.len()], indices.into())?;
        Self::new(
            shape,
            indices,
            Tensor::from_f32(vec![values.len()], values)?,
        )
    }

    /// Bytes that a book of so many values for so many numbers takes.
    pub fn bytes_for(numbers: usize, values: usize) -> usize {
        packed_bytes(numbers, index_bits(values)) + values * DType::F32.size()
    }

    /// Shape of the tensor.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The packed indices, of type u8.
    pub fn indices(&self) -> &Tensor {
        &self.indices
    }

    /// The values, of type f32.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    pub(super) fn decode(&self) -> Result<Vec<f32>, TensorError> {
        let values = self.values.to_f32()?;
        let count = element_count(&self.shape)?;
        let indices = unpack(self.indices.bytes(), index_bits(values.len()), count);
        Ok(indices.map(|index| values[index]).collect())
    }
}

/// Bits of an index into `values` values; one at least, so that a tensor is never larger than 32 times
/// the bytes that it comes from.
fn index_bits(values: usize) -> u32 {
    (usize::BITS - values.saturating_sub(1).leading_zeros()).max(1)
}

fn packed_bytes(count: usize, bits: u32) -> usize {
    // An element count is at most an eighth of what a `usize` holds, and an index has 16 bits at most.
    (count as u128 * u128::from(bits)).div_ceil(8) as usize
}

fn pack(indices: &[usize], bits: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packed_bytes(indices.len(), bits));
    let (mut waiting, mut held) = (0u64, 0);
    for &index in indices {
        waiting |= (index as u64) << held;
        held += bits;
        while held >= 8 {
            bytes.push(waiting as u8);
            waiting >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        bytes.push(waiting as u8);
    }
    bytes
}

fn unpack(bytes: &[u8], bits: u32, count: usize) -> impl Iterator<Item = usize> {
    let mut bytes = bytes.iter();
    let (mut waiting, mut held) = (0u64, 0);
    (0..count).map(move |_| {
        while held < bits {
            waiting |= u64::from(bytes.next().copied().unwrap_or(0)) << held;
            held += 8;
        }
        let index = waiting & ((1 << bits) - 1);
        waiting >>= bits;
        held -= bits;
        index as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    fn indices(bytes: &[u8]) -> Tensor {
        Tensor::new(DType::U8, vec![bytes.len()], bytes.to_vec().into()).unwrap()
    }

    fn vector(values: &[f32]) -> Tensor {
        Tensor::from_f32(vec![values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn indices_of_every_width_come_back() {
        for values in [1, 2, 3, 4, 5, 16, 17, 200, 256, 257, 5000, Book::MOST] {
            for count in [0, 1, 7, 8, 129] {
                let places: Vec<usize> = (0..count).map(|i| i * 7919 % values).collect();
                let list: Vec<f32> = (0..values).map(|v| v as f32).collect();
                let book = Book::pack(vec![count], &places, list).unwrap();
                let decoded: Vec<usize> =
                    book.decode().unwrap().iter().map(|&v| v as usize).collect();
                assert_eq!(decoded, places, "{values} values, {count} numbers");
                let parts = book.indices().bytes().len() + book.values().bytes().len();
                assert_eq!(parts, Book::bytes_for(count, values));
            }
        }
    }

    #[test]
    fn a_book_of_sixteen_takes_four_bits_a_number() {
        let places: Vec<usize> = (0..64).map(|i| i % 16).collect();
        let list: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let book = Book::pack(vec![8, 8], &places, list).unwrap();
        assert_eq!(book.indices().bytes()[..2], [0x10, 0x32]);
        let tensor = Tensor::coded(Code::Book(book)).unwrap();
        assert_eq!(tensor.stored_bytes(), 32 + 64);
        assert_eq!(tensor.to_f32().unwrap()[17], 1.0);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let message = |shape: &[usize], indices, values| {
            Book::new(shape.to_vec(), indices, values)
                .unwrap_err()
                .to_string()
        };
        let three = vector(&[1.0, 2.0, 3.0]);
        assert_eq!(
            message(&[4], indices(&[0b1100_0000]), three.clone()),
            "index 3 at place 3 is beyond the book's 3 values"
        );
        assert_eq!(
            message(&[5], indices(&[0]), three.clone()),
            "5 indices of 2 bits take 2 bytes, found shape [1]"
        );
        assert_eq!(
            message(&[4], vector(&[0.0]), three),
            "expected indices of type u8, found f32"
        );
        assert_eq!(
            message(&[4], indices(&[0]), vector(&[])),
            "expected a book of 1 to 65536 values, found shape [0]"
        );
        assert_eq!(
            message(&[4], indices(&[0]), vector(&[1.0, f32::NAN])),
            "value 1 of the book is NaN: expected a finite number"
        );
        let huge = message(&[usize::MAX, 2], indices(&[0]), vector(&[1.0]));
        assert!(huge.contains("more elements than memory"), "{huge}");
    }
}
