#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rankfold_formats_fuzz::{entry, json};

fuzz_target!(|input: &[u8]| entry::pt2(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    json::mutate(data, size, max_size, seed)
});
