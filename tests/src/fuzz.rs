//! Fuzz: what is done with bytes that nobody has vouched for, and what must hold then.
//!
//! A target is a body that takes any bytes: one for each decoder (`decoders`), one that opens a store whose image was
//! changed and made right again (`images`), one that reads the bytes as a program of clients with faults and a power cut
//! (`programs`), and a canary that must fail. `fuzz/` runs the bodies under libFuzzer, `tests/tests/fuzz.rs` runs them on
//! `seeds` and on some thousands of [`mutated`] ones, so that they are exercised without it.
//!
//! A body panics where something is wrong. What it does with bytes follows from the bytes alone.

mod decoders;
mod images;
mod programs;

use std::path::Path;

use crate::golden::{DEVICE_BYTES, runs};

/// A body and its name.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its binary in `fuzz/` and of its corpus.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All but the canary.
pub const TARGETS: [Target; 17] = [
    target("superblock", decoders::superblock, decoders::superblock_seeds),
    target("segment_header", decoders::segment_header, decoders::segment_header_seeds),
    target("seal", decoders::seal, decoders::seal_seeds),
    target("inventory", decoders::inventory, decoders::inventory_seeds),
    target("record", decoders::record, decoders::record_seeds),
    target("entries", decoders::entries, decoders::entries_seeds),
    target("slot", decoders::slot, decoders::slot_seeds),
    target("body", decoders::body, decoders::body_seeds),
    target("page", decoders::page, decoders::page_seeds),
    target("onode", decoders::onode, decoders::onode_seeds),
    target("extents", decoders::extents, decoders::extents_seeds),
    target("value", decoders::value, decoders::value_seeds),
    target("keys", decoders::keys, decoders::keys_seeds),
    target("object_id", decoders::object_id, decoders::object_id_seeds),
    target("job", decoders::job, decoders::job_seeds),
    target("image", images::run, images::seeds),
    target("program", programs::run, programs::seeds),
];

/// A decoder with a defect that only inputs like the valid ones reach: whoever runs it must see it fail.
pub const CANARY: Target = target("canary", decoders::canary, decoders::entries_seeds);

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// Runs the target of this name, which must exist, on an input.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().chain([&CANARY]).find(|target| target.name == name);
    (target.expect("a target of this name").run)(input);
}

/// Writes the seeds of all targets, each to a directory of its name.
pub fn write_corpus(directory: &Path) -> std::io::Result<()> {
    for target in TARGETS.iter().chain([&CANARY]) {
        let directory = directory.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number:03}")), seed)?;
        }
    }
    Ok(())
}

/// A variant of one of some inputs.
pub fn mutated(seeds: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                let to = (from + rng.usize(..40)).min(other.len());
                let _ = bytes.splice(at..at, other[from..to].iter().copied()).count();
            }
            3 if at < bytes.len() => {
                let _ = bytes.remove(at);
            }
            4 if at < bytes.len() => bytes[at] = [0, 1, 127, 128, 255][rng.usize(..5)],
            5 if at + 4 <= bytes.len() => {
                let word = [0, 1, u32::MAX, 1 << 31, rng.u32(..)][rng.usize(..5)];
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            _ => bytes.extend((0..rng.usize(..9)).map(|_| rng.u8(..))),
        }
    }
    bytes
}

/// The golden images of the present version: what seeds are cut from.
fn golden() -> [Vec<u8>; 2] {
    [&include_bytes!("../golden/v2-closed.runs")[..], &include_bytes!("../golden/v2-killed.runs")[..]]
        .map(|encoded| runs::decode(encoded, DEVICE_BYTES).expect("kept in the repository"))
}
