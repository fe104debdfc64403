#![no_main]

use libfuzzer_sys::fuzz_target;
use rankfold_formats_fuzz::entry;

fuzz_target!(|input: &[u8]| entry::pickle(input));
