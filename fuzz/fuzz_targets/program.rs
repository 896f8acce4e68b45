//! A program of clients with faults and a power cut: see `tests/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| seabed_tests::fuzz::run("program", input));
