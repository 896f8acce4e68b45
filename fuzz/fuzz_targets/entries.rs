//! The entries of a record of the journal: see `tests/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| seabed_tests::fuzz::run("entries", input));
