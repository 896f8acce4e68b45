//! Programs: bytes that say what clients do, which I/O fails, and when the power is cut.
//!
//! The first eight bytes make the store and its limits. Then items of four bytes: a step of a client (which, and what, drawn
//! from a number) or a fault (which kind of I/O, the how manieth, how it fails, how often). So a change of one item leaves
//! the others as they are. It runs on the simulated machine, and what the cut leaves is held against the model, checked,
//! and mounted again: `crash/fuzzed.rs`.

use crate::crash::fuzzed;

const ITEM_BYTES: usize = 4;
const ITEMS_MAX: usize = 48;

pub(super) fn run(input: &[u8]) {
    let Some((head, items)) = input.split_first_chunk::<8>() else { return };
    let items: Vec<[u8; 4]> = items
        .chunks_exact(ITEM_BYTES)
        .take(ITEMS_MAX)
        .map(|item| item.try_into().expect("four bytes"))
        .collect();
    if let Err(what) = fuzzed::run(u64::from_le_bytes(*head), &items) {
        panic!("{what}");
    }
}

/// Programs of ten steps, with a fault of each kind or none.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(5);
    (0..16_u8)
        .map(|seed| {
            let mut input = u64::from(seed).to_le_bytes().to_vec();
            for _ in 0..10 {
                input.extend([rng.u8(..128), rng.u8(..), rng.u8(..), rng.u8(..)]);
            }
            if seed % 4 != 0 {
                input.extend([128 + seed, rng.u8(..30), seed, seed % 3]);
            }
            input
        })
        .collect()
}
