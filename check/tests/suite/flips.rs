//! Flips: every byte of an image that means anything, changed: never a panic, and either the report says so or the answer
//! is the same.

use seabed_check::{Options, check, dump};
use seabed_types::{Lsn, ShardId, TreeKind};

use super::clean::{check_all, populated};
use super::shard::Shard;

/// Offsets of the bytes that are not zero, and of some that are.
fn offsets(shard: &Shard) -> Vec<usize> {
    let bytes = &shard.disk.bytes;
    let is_used = |block: &[u8]| block.iter().any(|byte| *byte != 0);
    let used = (0..bytes.len() / 4096).filter(|block| is_used(&bytes[block * 4096..][..4096]));
    used.flat_map(|block| block * 4096..(block + 1) * 4096)
        .filter(|at| bytes[*at] != 0 || at % 61 == 0)
        .collect()
}

#[test]
fn every_byte_that_means_something() {
    let shard = populated();
    let sound = check_all(&shard);
    let offsets = offsets(&shard);
    assert!(offsets.len() > 20_000);
    let mut bytes = shard.disk.bytes.clone();
    let (mut noticed, mut noted, mut same) = (0, 0, 0);
    // Pieces are many bytes of one kind: one in a few is enough.
    for at in offsets.into_iter().step_by(5) {
        bytes[at] ^= 1 << (at % 8);
        match check(&bytes, &Options::default()) {
            Err(_) => noticed += 1,
            Ok(report) if !report.is_clean() => noticed += 1,
            Ok(report) => {
                // What is not noticed has changed nothing, or is a torn end: the last record is ambiguous.
                let is_torn = report.shards[0].end == Lsn(sound.shards[0].end.0 - 1);
                assert!(is_torn || report.collections == sound.collections, "byte {at:#x}:\n{report}");
                if report.notes == sound.notes && !is_torn { same += 1 } else { noted += 1 }
            }
        }
        bytes[at] ^= 1 << (at % 8);
    }
    assert!(noticed > 1_000 && noted > 100, "{noticed} noticed, {noted} noted, {same} without effect");
}

#[test]
fn random_bytes_anywhere() {
    let shard = populated();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut bytes = shard.disk.bytes.clone();
        for _ in 0..rng.usize(1..20) {
            let at = rng.usize(..10 * 65536).min(bytes.len() - 64);
            let run = rng.usize(1..64);
            bytes[at..at + run].fill_with(|| rng.u8(..));
        }
        let image = &bytes;
        if check(image, &Options::default()).is_err() {
            continue;
        }
        assert_eq!(dump::superblocks(image).len(), 4);
        let slots = dump::slots(image, ShardId(0)).expect("a store");
        assert!(slots.iter().all(|slot| !slot.to_string().is_empty()));
        for segment in dump::segments(image).expect("a store") {
            let _ = segment.to_string();
            for record in dump::records(image, segment.segment).expect("a store") {
                let _ = record.to_string();
            }
        }
        for (_, _, node) in &shard.images {
            let _ = dump::node(image, node.at, TreeKind::Names).expect("a store").to_string();
        }
    }
}
