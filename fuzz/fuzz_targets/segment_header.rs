//! The first block of a segment: see `tests/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| seabed_tests::fuzz::run("segment_header", input));
