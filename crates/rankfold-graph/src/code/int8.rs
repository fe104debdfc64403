use super::{CodeError, expect_type};
use crate::tensor::{DType, Tensor, TensorError};

/// Whole numbers from −128 to 127, each times the scale of its channel: its slice along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8 {
    codes: Tensor,
    scales: Tensor,
    axis: usize,
}

impl Int8 {
    /// The largest number that [`Self::nearest`] makes, and minus the smallest.
    pub const LARGEST: f32 = 127.0;

    /// The code of these parts: numbers of the tensor's own shape, and a vector of scales of type f32 or
    /// bf16.
    pub fn new(codes: Tensor, scales: Tensor, axis: usize) -> Result<Self, CodeError> {
        expect_type("codes", &codes, DType::I8)?;
        if scales.dtype() != DType::BF16 {
            expect_type("scales", &scales, DType::F32)?;
        }
        let Some(&channels) = codes.shape().get(axis) else {
            return Err(CodeError::Axis {
                axis,
                shape: codes.shape().to_vec(),
            });
        };
        if scales.shape() != [channels] {
            return Err(CodeError::Scales {
                expected: channels,
                got: scales.shape().to_vec(),
            });
        }
        let usable = |scale: &f32| scale.is_finite() && *scale > 0.0;
        let values = scales.to_f32()?;
        if let Some(place) = values.iter().position(|scale| !usable(scale)) {
            return Err(CodeError::Scale {
                place,
                got: values[place],
            });
        }
        drop(values);
        Ok(Self {
            codes,
            scales,
            axis,
        })
    }

    /// The code nearest to `values` under these scales; halves go to the even number.
    pub fn nearest(
        shape: Vec<usize>,
        values: &[f32],
        scales: Tensor,
        axis: usize,
    ) -> Result<Self, CodeError> {
        let channel = channel_of(&shape, axis);
        let floats = scales.to_f32()?;
        let code = |(i, &value): (usize, &f32)| {
            let scale = floats.get(channel(i)).copied().unwrap_or(1.0);
            let rounded = (value / scale).round_ties_even();
            rounded.clamp(-Self::LARGEST, Self::LARGEST) as i8 as u8
        };
        let codes: Vec<u8> = values.iter().enumerate().map(code).collect();
        let codes = Tensor::new(DType::I8, shape, codes.into())?;
        drop(floats);
        Self::new(codes, scales, axis)
    }

    /// The numbers, of type i8.
    pub fn codes(&self) -> &Tensor {
        &self.codes
    }

    /// A scale for every channel, of type f32 or bf16.
    pub fn scales(&self) -> &Tensor {
        &self.scales
    }

    /// The axis along which the channels lie.
    pub fn axis(&self) -> usize {
        self.axis
    }

    /// A bias as whole multiples of its channel's step: the product of this scale and the input's, of
    /// which all products of the layer are multiples. None where a multiple has more than 32 bits.
    pub fn bias_codes(&self, bias: &[f32], input_scale: f32) -> Option<Vec<i32>> {
        let code = |(&value, step): (&f32, f32)| {
            let rounded = (f64::from(value) / f64::from(step)).round_ties_even();
            (rounded.abs() <= f64::from(i32::MAX)).then_some(rounded as i32)
        };
        let steps = self.steps(input_scale)?;
        bias.iter().zip(steps).map(code).collect()
    }

    /// The bias that such multiples stand for.
    pub fn bias_of(&self, codes: &[i32], input_scale: f32) -> Option<Vec<f32>> {
        let steps = self.steps(input_scale)?;
        let values = codes.iter().zip(steps);
        Some(values.map(|(&code, step)| code as f32 * step).collect())
    }

    /// Of what the products of each channel are multiples.
    pub fn steps(&self, input_scale: f32) -> Option<Vec<f32>> {
        let scales = self.scales.to_f32().ok()?;
        Some(scales.iter().map(|scale| scale * input_scale).collect())
    }

    pub(super) fn decode(&self) -> Result<Vec<f32>, TensorError> {
        let channel = channel_of(self.codes.shape(), self.axis);
        let scales = self.scales.to_f32()?;
        let numbers = self.codes.bytes().iter().enumerate();
        Ok(numbers
            .map(|(i, &code)| f32::from(code as i8) * scales[channel(i)])
            .collect())
    }
}

/// From an element's place to the place of its slice along `axis`.
fn channel_of(shape: &[usize], axis: usize) -> impl Fn(usize) -> usize + use<> {
    let inner: usize = shape.iter().skip(axis + 1).product();
    let channels = shape.get(axis).copied().unwrap_or(1);
    move |i| i / inner.max(1) % channels.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    fn bytes(shape: &[usize], values: &[i8]) -> Tensor {
        let data: Vec<u8> = values.iter().map(|&v| v as u8).collect();
        Tensor::new(DType::I8, shape.to_vec(), data.into()).unwrap()
    }

    fn vector(values: &[f32]) -> Tensor {
        Tensor::from_f32(vec![values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn every_channel_has_its_own_scale_along_either_axis() {
        let values = [1.27, -0.64, 100.0, -127.0];
        for (axis, scales) in [(0, vec![0.01, 1.0]), (1, vec![1.0, 2.0])] {
            let code = Int8::nearest(vec![2, 2], &values, vector(&scales), axis).unwrap();
            let decoded = code.decode().unwrap();
            for (i, (&was, &is)) in values.iter().zip(&decoded).enumerate() {
                let scale = scales[[i / 2, i % 2][axis]];
                assert!((was - is).abs() <= scale / 2.0, "{was} {is}");
                let steps = is / scale;
                assert!((steps - steps.round()).abs() < 1e-4, "{is}");
            }
        }
    }

    #[test]
    fn halves_go_to_the_even_number_and_what_is_out_of_range_to_its_end() {
        let values = [0.5, 1.5, -2.5, 1e9, -1e9, f32::INFINITY];
        let code = Int8::nearest(vec![6, 1], &values, vector(&[1.0]), 1).unwrap();
        assert_eq!(code.codes(), &bytes(&[6, 1], &[0, 2, -2, 127, -127, 127]));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let codes = || bytes(&[2, 3], &[0, 1, 2, 3, 4, -128]);
        let message = |codes, scales, axis| Int8::new(codes, scales, axis).unwrap_err().to_string();
        assert_eq!(
            message(codes(), vector(&[1.0]), 0),
            "expected 2 scales, one for every channel, found shape [1]"
        );
        assert_eq!(
            message(codes(), vector(&[1.0; 2]), 2),
            "axis 2 is out of range for shape [2, 3]"
        );
        assert_eq!(
            message(vector(&[0.0; 2]), vector(&[1.0; 2]), 0),
            "expected codes of type i8, found f32"
        );
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let text = message(codes(), vector(&[1.0, bad]), 0);
            assert!(text.starts_with("scale 1 is"), "{text}");
        }
    }

    #[test]
    fn a_coded_tensor_is_its_floats_and_takes_the_bytes_of_its_parts() {
        let code = Int8::new(bytes(&[2, 2], &[1, 2, 3, -4]), vector(&[0.5, 2.0]), 0).unwrap();
        let tensor = Tensor::coded(Code::Int8(code)).unwrap();
        assert_eq!(&tensor.to_f32().unwrap()[..], &[0.5, 1.0, 6.0, -8.0]);
        assert_eq!((tensor.bytes().len(), tensor.stored_bytes()), (16, 12));
        let plain = Tensor::from_f32(vec![2, 2], vec![0.5, 1.0, 6.0, -8.0]).unwrap();
        assert_ne!(tensor, plain);
        assert_eq!(tensor, tensor.clone());
    }
}
