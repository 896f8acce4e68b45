//! Superblocks, slots and bodies: each kind of damage, and that the walk goes on with what is left.

use seabed_check::{CheckError, Note, Options, PartFault, Violation, check};
use seabed_journal::CollectionState;
use seabed_segment::{SlotCopy, Superblock, SuperblockError};
use seabed_types::{BLOCK_BYTES, Lsn, SegmentId, ShardId};

use super::clean::{check_all, expect, expect_clean, populated};
use super::shard::{Edits, Shard};

/// What a report says of the store, whatever was wrong with its front.
fn objects(shard: &Shard) -> u64 {
    check_all(shard).counts.objects
}

/// A populated store whose last checkpoint was written with `edits`.
fn with(edits: Edits) -> Shard {
    let mut shard = populated();
    shard.checkpoint_with(edits);
    shard
}

#[test]
fn any_superblock_copy_will_do() {
    let shard = populated();
    let places = Superblock::places(shard.disk.layout.device_bytes);
    for (bad, at) in (0u16..).zip(places) {
        let mut shard = shard.clone();
        shard.disk.write_at(at, &[0; BLOCK_BYTES]);
        expect(&shard, |violation| matches!(violation, Violation::Superblock { copy, .. } if *copy == bad));
        assert_eq!(objects(&shard), 3);
    }
    let mut shard = shard;
    let mut other = check_all(&shard).superblock;
    other.window_bytes += 1;
    shard.disk.write_at(places[2], &other.encode(2));
    expect(&shard, |violation| *violation == Violation::SuperblockDiffers { copy: 2 });
    for at in places {
        shard.disk.write_at(at, &[0; BLOCK_BYTES]);
    }
    let none = check(&shard.disk.bytes, &Options::default()).expect_err("no store");
    assert_eq!(none, CheckError::Superblock(SuperblockError::NotAStore));
    other.incompat = 4;
    shard.disk.write_at(places[1], &other.encode(1));
    let unknown = check(&shard.disk.bytes, &Options::default()).expect_err("unknown features");
    assert_eq!(unknown, CheckError::Superblock(SuperblockError::UnknownFeatures(4)));
    let empty = check(&Vec::new(), &Options::default()).expect_err("nothing");
    assert!(matches!(empty, CheckError::Unreadable(_)));
}

#[test]
fn an_image_that_was_cut_short() {
    let mut shard = populated();
    let bytes = shard.disk.layout.device_bytes;
    shard.disk.bytes.truncate(usize::try_from(bytes).expect("small") - BLOCK_BYTES);
    let short = Violation::Short { device_bytes: bytes, image_bytes: bytes - BLOCK_BYTES as u64 };
    expect(&shard, |violation| *violation == short);
}

#[test]
fn a_store_on_a_larger_device() {
    let mut shard = populated();
    shard.disk.bytes.extend([7; 3 * BLOCK_BYTES]);
    expect_clean(&shard);
}

#[test]
fn either_slot_will_do() {
    for bad in [SlotCopy::A, SlotCopy::B] {
        let mut shard = populated();
        let at = shard.disk.layout.slot(ShardId(0), bad);
        shard.disk.write_at(at + 100, &[0xee]);
        expect(&shard, |violation| matches!(violation, Violation::Slot { which, .. } if *which == bad));
        assert_eq!(objects(&shard), 3);
    }
    let mut shard = populated();
    for which in [SlotCopy::A, SlotCopy::B] {
        let at = shard.disk.layout.slot(ShardId(0), which);
        shard.disk.write_at(at, &[0; BLOCK_BYTES]);
    }
    let report = expect(&shard, |violation| {
        matches!(violation, Violation::Slot { .. } | Violation::NoCheckpoint { shard: ShardId(0) })
    });
    assert_eq!((report.violations.len(), report.shards.len()), (3, 0));
}

#[test]
fn slots_that_are_not_a_pair() {
    let shard = with(Edits {
        slot: Box::new(|which, slot| {
            if which == SlotCopy::B {
                slot.cuts.clear();
            }
        }),
        ..Edits::default()
    });
    let report = check_all(&shard);
    let contradict = Violation::SlotsContradict { shard: ShardId(0), sequence: shard.sequence };
    assert_eq!(report.violations.first(), Some(&contradict), "{report}");
    // The write of slot B was lost three times: an old one, valid in itself, stands there.
    let mut shard = with(Edits { slots: vec![SlotCopy::A], ..Edits::default() });
    shard.checkpoint_with(Edits { slots: vec![SlotCopy::A], ..Edits::default() });
    shard.checkpoint_with(Edits { slots: vec![SlotCopy::A], ..Edits::default() });
    expect(&shard, |violation| matches!(violation, Violation::SlotsApart { a: 5, b: 2, .. }));
}

/// After a power cut in a mount that trims, and in one by an older program, the checker reported violations of a store that opened and
/// had lost nothing.
#[test]
fn slots_as_a_cut_of_a_mount_leaves_them() {
    let differ = Note::SlotsDiffer { shard: ShardId(0) };
    let epoch_first = with(Edits {
        slot: Box::new(|which, slot| slot.epoch.0 += u64::from(which == SlotCopy::B)),
        ..Edits::default()
    });
    let two_apart = with(Edits {
        slot: Box::new(|which, slot| slot.sequence += 2 * u64::from(which == SlotCopy::A)),
        ..Edits::default()
    });
    for shard in [epoch_first, two_apart] {
        assert!(expect_clean(&shard).notes.contains(&differ));
    }
}

#[test]
fn copies_of_a_body() {
    let shard = with(Edits::default());
    for (bad, part) in shard.parts.iter().enumerate() {
        let mut shard = shard.clone();
        shard.disk.flip(part.at);
        expect(
            &shard,
            |violation| matches!(violation, Violation::BodyPart { copy, fault: PartFault::Checksum(_), .. } if *copy == bad),
        );
        assert_eq!(objects(&shard), 3);
    }
    let mut none = shard.clone();
    none.disk.flip(shard.parts[0].at);
    none.disk.flip(shard.parts[1].at);
    expect(&none, |violation| {
        matches!(violation, Violation::BodyPart { .. } | Violation::NoCheckpoint { .. })
    });

    let shard = with(Edits { second_copy: Box::new(|copy| copy[1] ^= 1), ..Edits::default() });
    expect(&shard, |violation| matches!(violation, Violation::BodyCopiesDiffer { .. }));
    let shard =
        with(Edits { slot: Box::new(|_, slot| slot.body[1] = slot.body[0].clone()), ..Edits::default() });
    let report = check_all(&shard);
    assert!(matches!(report.violations[0], Violation::BodyCopiesShare { .. }), "{report}");
    let shard = with(Edits { slot: Box::new(|_, slot| slot.body[1].clear()), ..Edits::default() });
    expect(&shard, |violation| matches!(violation, Violation::Body { .. }));
    let shard =
        with(Edits { slot: Box::new(|_, slot| slot.body[0][0].bytes = u32::MAX), ..Edits::default() });
    let report = check_all(&shard);
    assert!(matches!(report.violations[0], Violation::BodyPart { copy: 0, .. }), "{report}");
}

#[test]
fn bodies_that_contradict() {
    type Edit = fn(&mut seabed_journal::Body);
    let edits: [Edit; 4] = [
        |body| body.epoch = body.epoch.next(),
        |body| body.segments.reverse(),
        |body| body.next = Some((SegmentId(9999), body.journal[0].incarnation)),
        |body| {
            let CollectionState { .. } = body.collections[0];
            body.collections.insert(0, body.collections[0]);
        },
    ];
    for edit in edits {
        let shard = with(Edits { body: Box::new(edit), ..Edits::default() });
        let report = check_all(&shard);
        assert!(matches!(report.violations[0], Violation::Body { .. }), "{report}");
    }
    let shard = with(Edits { slot: Box::new(|_, slot| slot.end = Lsn(slot.end.0 - 1)), ..Edits::default() });
    let report = check_all(&shard);
    assert!(matches!(report.violations[0], Violation::Body { .. }), "{report}");
}
