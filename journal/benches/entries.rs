//! Entries: what encoding and decoding the deltas of a record costs; a delta is that of an overwrite of 4 KiB.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use seabed_journal::entry::put_delta;
use seabed_journal::{ChangeRef, EntryRef};
use seabed_types::{PoolId, TreeKind};

/// Deltas of a record that many clients share.
const DELTAS: usize = 64;
/// Bytes of the key of an extents row, and of a patch of one chunk.
const KEY: [u8; 14] = [0x5e; 14];
const PATCH: [u8; 16] = [0x11; 16];

fn main() {
    divan::main();
}

fn encoded() -> Vec<u8> {
    let mut entries = Vec::new();
    for delta in 0..DELTAS {
        let piece = (u32::try_from(delta * 4096).expect("small"), 4096);
        put_delta(&mut entries, (PoolId(1), TreeKind::Bodies), &KEY, ChangeRef::Patch(&PATCH), &[piece]);
    }
    entries
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(DELTAS)).bench(encoded);
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let entries = encoded();
    bencher.counter(ItemsCount::new(DELTAS)).bench(|| {
        EntryRef::decode_all(black_box(&entries), |entry| {
            black_box(entry);
        })
    });
}
