//! The kernel against the definition of the three convolutions.

#![allow(clippy::print_stderr)]

use super::*;
use crate::tests::noise;

/// One image through all stages by the definition.
fn expected(sizes: &Sizes, own: &Own, input: &[f32], summand: Option<&[f32]>) -> Vec<f32> {
    let Sizes {
        inputs, outputs, ..
    } = *sizes;
    let middle = sizes.middle;
    let clamp = |x: f64, by: Bounds| x.max(by.low.into()).min(by.high.into());
    let pixels = sizes.rows * sizes.columns;
    let mut first = vec![0f64; pixels * middle];
    for pixel in 0..pixels {
        for r in 0..middle {
            let products = (0..inputs).map(|s| {
                f64::from(input[pixel * inputs + s]) * f64::from(own.first[s * middle + r])
            });
            let sum = products.sum::<f64>() + f64::from(own.first_bias[r]);
            first[pixel * middle + r] = clamp(sum, own.bounds[0]);
        }
    }
    let mut output = Vec::new();
    for y in 0..sizes.out_rows {
        for x in 0..sizes.out_columns {
            let filtered: Vec<f64> = (0..middle)
                .map(|r| {
                    let mut sum = f64::from(own.taps_bias[r]);
                    for ky in 0..sizes.window[0] {
                        for kx in 0..sizes.window[1] {
                            let row = (y * sizes.stride[0] + ky * sizes.dilation[0])
                                .checked_sub(sizes.before[0]);
                            let column = (x * sizes.stride[1] + kx * sizes.dilation[1])
                                .checked_sub(sizes.before[1]);
                            let (Some(row), Some(column)) = (row, column) else {
                                continue;
                            };
                            if row < sizes.rows && column < sizes.columns {
                                let tap = own.taps[(ky * sizes.window[1] + kx) * middle + r];
                                let value = first[(row * sizes.columns + column) * middle + r];
                                sum += f64::from(tap) * value;
                            }
                        }
                    }
                    clamp(sum, own.bounds[1])
                })
                .collect();
            for t in 0..outputs {
                let products =
                    (0..middle).map(|r| filtered[r] * f64::from(own.last[r * outputs + t]));
                let added = summand.map_or(0.0, |own| f64::from(own[output.len()]));
                let sum = products.sum::<f64>() + f64::from(own.last_bias[t]) + added;
                output.push(clamp(sum, own.bounds[2]) as f32);
            }
        }
    }
    pooled(sizes, &output)
}

/// The largest values of windows that do not overlap.
fn pooled(sizes: &Sizes, image: &[f32]) -> Vec<f32> {
    let [rows, columns] = sizes.written();
    let mut output = vec![f32::NEG_INFINITY; rows * columns * sizes.outputs];
    for y in 0..rows * sizes.pool[0] {
        for x in 0..columns * sizes.pool[1] {
            let to = y / sizes.pool[0] * columns + x / sizes.pool[1];
            for channel in 0..sizes.outputs {
                let value = image[(y * sizes.out_columns + x) * sizes.outputs + channel];
                let largest = &mut output[to * sizes.outputs + channel];
                *largest = largest.max(value);
            }
        }
    }
    output
}

/// Weights as they are before they are packed.
struct Own {
    first: Vec<f32>,
    first_bias: Vec<f32>,
    taps: Vec<f32>,
    taps_bias: Vec<f32>,
    last: Vec<f32>,
    last_bias: Vec<f32>,
    bounds: [Bounds; 3],
}

fn check(sizes: &Sizes, bounds: [Bounds; 3], adds: bool, bands: usize) {
    let middle = sizes.middle;
    let (inputs, outputs) = (sizes.inputs, sizes.outputs);
    let taps = sizes.window[0] * sizes.window[1];
    let own = Own {
        first: noise(inputs * middle, 1),
        first_bias: noise(middle, 2),
        taps: noise(taps * middle, 3),
        taps_bias: noise(middle, 4),
        last: noise(middle * outputs, 5),
        last_bias: noise(outputs, 6),
        bounds,
    };
    let wide = |values: &[f32], width: usize| {
        let mut rows = Vec::new();
        for row in values.chunks_exact(width) {
            rows.extend_from_slice(row);
            rows.resize(rows.len() + padded(width) - width, 0.0);
        }
        rows
    };
    let at = |values: &[f32], row: usize, column: usize, width: usize| values[row * width + column];
    let first = packed(inputs, middle, |s, r| at(&own.first, s, r, middle));
    let last = packed(middle, outputs, |r, t| at(&own.last, r, t, outputs));
    let parts = [
        wide(&own.first_bias, middle),
        wide(&own.taps, middle),
        wide(&own.taps_bias, middle),
        wide(&own.last_bias, outputs),
    ];
    let weights = Weights {
        first: &first,
        first_bias: &parts[0],
        first_bounds: bounds[0],
        taps: &parts[1],
        taps_bias: &parts[2],
        taps_bounds: bounds[1],
        last: &last,
        last_bias: &parts[3],
        last_bounds: bounds[2],
    };
    let input = noise(sizes.rows * sizes.columns * inputs, 7);
    let [written, _] = sizes.written();
    let count = sizes.out_rows * sizes.out_columns * outputs;
    let summand = noise(count, 8);
    let expected = expected(sizes, &own, &input, adds.then_some(&summand));
    // Memory that another run has left must not matter.
    let mut scratch = Scratch {
        ring: vec![f32::NAN; 1 << 17],
        filtered: vec![f32::NAN; 1 << 17],
        unpooled: vec![f32::NAN; 1 << 17],
    };
    for wide in [false, true] {
        if wide && !is_x86_feature_detected!("avx512f") {
            eprintln!("skipped: this processor has no AVX-512");
            continue;
        }
        let mut output = summand.clone();
        for band in 0..bands {
            let rows = (written * band / bands, written * (band + 1) / bands);
            let image = Images {
                input: input.as_ptr(),
                summand: if adds {
                    output.as_ptr()
                } else {
                    std::ptr::null()
                },
                output: output.as_mut_ptr(),
            };
            if rows.0 == rows.1 {
                continue;
            }
            // SAFETY: all vectors have the sizes given, and the processor the instructions.
            unsafe {
                match wide {
                    true => x86::run_avx512(sizes, &weights, image, rows, &mut scratch),
                    false => x86::run_avx2(sizes, &weights, image, rows, &mut scratch),
                }
            }
        }
        for (i, (a, b)) in output.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() < 1e-4 * (1.0 + b.abs()),
                "{i}: {a} {b} {sizes:?}"
            );
        }
    }
}

const SIZES: Sizes = Sizes {
    inputs: 16,
    middle: 16,
    outputs: 16,
    rows: 9,
    columns: 7,
    out_rows: 9,
    out_columns: 7,
    window: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    before: [1, 1],
    after: 1,
    pool: [1, 1],
};

const PLAIN: [Bounds; 3] = [Bounds::NONE; 3];

#[test]
fn channels_of_all_numbers() {
    for (inputs, middle, outputs) in [
        (1, 1, 1),
        (3, 5, 7),
        (16, 16, 16),
        (8, 17, 33),
        (20, 48, 40),
        (5, 64, 64),
        (33, 70, 100),
        (2, 112, 130),
    ] {
        for bands in [1, 3] {
            let sizes = Sizes {
                inputs,
                middle,
                outputs,
                ..SIZES
            };
            check(&sizes, PLAIN, false, bands);
        }
    }
}

#[test]
fn windows_that_stride_dilate_and_are_padded_unevenly() {
    for (window, stride, dilation, before, [below, after]) in [
        ([3, 3], [2, 2], [1, 1], [1, 1], [1, 1]),
        ([5, 3], [1, 2], [1, 1], [2, 0], [2, 1]),
        ([3, 1], [3, 1], [2, 1], [0, 0], [1, 0]),
        ([1, 1], [4, 3], [1, 1], [0, 0], [0, 0]),
        ([2, 4], [1, 1], [3, 2], [5, 0], [0, 3]),
    ] {
        let [rows, columns] = [13usize, 21];
        let out = |size: usize, padding: usize, i: usize| {
            (size + padding - dilation[i] * (window[i] - 1) - 1) / stride[i] + 1
        };
        for bands in [1, 2, 5] {
            let sizes = Sizes {
                rows,
                columns,
                out_rows: out(rows, before[0] + below, 0),
                out_columns: out(columns, before[1] + after, 1),
                window,
                stride,
                dilation,
                before,
                after,
                ..SIZES
            };
            check(&sizes, PLAIN, false, bands);
        }
    }
}

#[test]
fn images_larger_than_what_is_kept() {
    let sizes = Sizes {
        inputs: 4,
        middle: 60,
        outputs: 9,
        rows: 70,
        columns: 90,
        out_rows: 35,
        out_columns: 45,
        stride: [2, 2],
        ..SIZES
    };
    check(&sizes, PLAIN, false, 2);
}

#[test]
fn pools_at_the_end() {
    let relu = Bounds {
        low: 0.0,
        high: f32::INFINITY,
    };
    for (pool, outputs) in [
        ([2, 2], 16),
        ([2, 2], 21),
        ([3, 1], 7),
        ([1, 2], 40),
        ([9, 7], 5),
    ] {
        for bands in [1, 2, 4] {
            let sizes = Sizes {
                pool,
                outputs,
                ..SIZES
            };
            check(&sizes, [Bounds::NONE, Bounds::NONE, relu], false, bands);
        }
    }
    // More rows than are kept, of which the last is left out.
    let sizes = Sizes {
        inputs: 4,
        middle: 50,
        outputs: 18,
        rows: 71,
        columns: 90,
        out_rows: 71,
        out_columns: 90,
        pool: [2, 2],
        ..SIZES
    };
    check(&sizes, [Bounds::NONE, Bounds::NONE, relu], false, 2);
}

#[test]
fn summands_and_bounds() {
    let relu6 = Bounds {
        low: 0.0,
        high: 6.0,
    };
    let narrow = Bounds {
        low: -0.2,
        high: 0.3,
    };
    for outputs in [16, 21] {
        let sizes = Sizes { outputs, ..SIZES };
        check(&sizes, [relu6, narrow, Bounds::NONE], true, 2);
        let sizes = Sizes { outputs, ..SIZES };
        check(&sizes, [Bounds::NONE, relu6, narrow], true, 1);
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let nan = Bounds {
        low: 0.0,
        high: 1.0,
    };
    let sizes = Sizes {
        inputs: 1,
        window: [1, 1],
        before: [0, 0],
        after: 0,
        ..SIZES
    };
    let ones = vec![1f32; 256];
    let weights = Weights {
        first: &ones[..16],
        first_bias: &ones[..16],
        first_bounds: nan,
        taps: &ones[..16],
        taps_bias: &ones[..16],
        taps_bounds: nan,
        last: &ones,
        last_bias: &ones[..16],
        last_bounds: nan,
    };
    let input = vec![f32::NAN; 63];
    let mut output = vec![0f32; 63 * 16];
    let image = Images {
        input: input.as_ptr(),
        summand: std::ptr::null(),
        output: output.as_mut_ptr(),
    };
    // SAFETY: all vectors have the sizes given.
    unsafe { run(&sizes, &weights, image, (0, 9), &mut Scratch::default()) };
    assert!(output.iter().all(|x| x.is_nan()));
}
