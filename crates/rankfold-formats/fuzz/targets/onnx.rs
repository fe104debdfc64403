#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rankfold_formats_fuzz::{entry, wire};

fuzz_target!(|input: &[u8]| entry::onnx(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    wire::mutate(data, size, max_size, seed)
});
