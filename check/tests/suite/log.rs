//! The journal's window: damage apart from torn ends, and entries that no record may have.

use seabed_check::{Note, RecordFault, Violation};
use seabed_journal::{CollectionId, EntryRef, Tally};
use seabed_object::key::Kind;
use seabed_segment::{SlotCopy, StreamKind};
use seabed_types::{Epoch, Incarnation, Lsn, PoolId, SegmentId, ShardId, Term};

use super::clean::{BODIES, NAMES, check_all, expect, expect_clean, populated};
use super::objects::{
    ATTRIBUTES, HASH, data, extents, extents_key, inline, named_key, names_key, onode, stored,
};
use super::shard::{COLLECTION, Edits, Record, Shard};

/// A populated store with another record at the end.
fn with(fill: impl FnOnce(&mut Record)) -> Shard {
    let mut shard = populated();
    shard.record(fill);
    shard
}

fn expect_record(shard: &Shard, expected: RecordFault) {
    expect(shard, |violation| matches!(violation, Violation::Record { fault, .. } if *fault == expected));
}

#[test]
fn a_record_with_a_successor_is_damaged() {
    let shard = with(|_| {});
    let (at, _) = shard.places[&Lsn(3)];
    for offset in [0, 60, 100] {
        let mut shard = shard.clone();
        shard.disk.flip(at.plus(offset));
        let report = expect(
            &shard,
            |violation| matches!(violation, Violation::JournalDamaged { lsn: Lsn(3), at: place, .. } if *place == at),
        );
        assert!(!report.shards[0].whole, "and its rows are not checked");
    }
}

#[test]
fn a_record_that_a_slot_proves_is_damaged() {
    let mut shard = populated();
    let (at, _) = shard.places[&Lsn(3)];
    shard.checkpoint_with(Edits { start: Some(Lsn(3)), slots: vec![SlotCopy::A], ..Edits::default() });
    expect_clean(&shard);
    shard.disk.flip(at);
    expect(&shard, |violation| matches!(violation, Violation::JournalDamaged { lsn: Lsn(3), .. }));
}

#[test]
fn a_successor_in_the_next_segment_proves_too() {
    let mut shard = populated();
    shard.roll();
    shard.record(|_| {});
    let (at, _) = shard.places[&Lsn(4)];
    assert_eq!(at.offset, 4096);
    expect_clean(&shard);
    shard.disk.flip(shard.places[&Lsn(3)].0);
    expect(&shard, |violation| matches!(violation, Violation::JournalDamaged { lsn: Lsn(3), .. }));
}

#[test]
fn rotten_data_of_a_record_within_the_window() {
    let mut shard = populated();
    let (at, _) = shard.places[&Lsn(3)];
    shard.record(|_| {});
    shard.disk.flip(at.plus(5000));
    let report = expect(&shard, |violation| matches!(violation, Violation::Piece { .. }));
    assert!(report.notes.contains(&Note::RecordData { shard: ShardId(0), lsn: Lsn(3), at }));
}

#[test]
fn a_record_of_an_epoch_that_no_slot_knows() {
    let mut shard = populated();
    shard.epoch = Epoch(9);
    shard.record(|_| {});
    expect_record(&shard, RecordFault::Epoch);
}

#[test]
fn entries_about_what_there_is_not() {
    let segment = SegmentId(5000);
    let collection = CollectionId::whole(PoolId(99));
    let live = EntryRef::Live(vec![(segment, 0)]);
    expect_record(&with(|record| record.entry(&live)), RecordFault::LiveSegment);
    let seal = EntryRef::Seal { segment };
    expect_record(&with(|record| record.entry(&seal)), RecordFault::SealSegment);
    let (incarnation, stream) = (Incarnation(1), StreamKind::Bulk);
    let claim = EntryRef::Claim { segment, incarnation, stream, age: 0 };
    expect_record(&with(|record| record.entry(&claim)), RecordFault::ClaimSegment);
    let tally = EntryRef::Tally { collection, next_id: 1, change: Tally::default() };
    expect_record(&with(|record| record.entry(&tally)), RecordFault::TallyCollection);
    let again = EntryRef::NewCollection { collection: COLLECTION, term: Term(1) };
    expect_record(&with(|record| record.entry(&again)), RecordFault::CollectionTwice);
    let older = EntryRef::Claim { segment: SegmentId(1), incarnation: Incarnation(0), stream, age: 0 };
    expect_record(&with(|record| record.entry(&older)), RecordFault::ClaimOlder);
}

#[test]
fn deltas_that_do_not_belong() {
    let outside = with(|record| {
        let value = data(2_000, 5);
        let at = record.place(&value);
        record.set(NAMES, names_key("n", HASH), onode(ATTRIBUTES, 9, 0, 1, 0), &[]);
        // Its list of pieces reaches behind the record's data.
        let key = named_key(9, Kind::Attribute, b"a");
        record.set(BODIES, key, stored(at, &value), &[(at, 8_000)]);
    });
    expect_record(&outside, RecordFault::DeltaPiece);
    let key = with(|record| record.gone(BODIES, b"no key".to_vec()));
    let report = check_all(&key);
    assert!(matches!(report.violations[..], [Violation::Record { .. }]), "{report}");

    let mut nobody = Shard::new();
    nobody.record(|record| record.set(NAMES, names_key("n", HASH), onode(0, 1, 0, 0, 0), &[]));
    expect_record(&nobody, RecordFault::DeltaCollection);
}

#[test]
fn patches_that_do_not_decode() {
    let shard = with(|record| record.patch(extents_key(1, 0), b"no patch".to_vec(), &[]));
    expect(&shard, |violation| matches!(violation, Violation::Patch { .. }));
    let mut shard = Shard::new();
    shard.record(|record| {
        record.collection(COLLECTION);
        record.set(NAMES, names_key("n", HASH), onode(ATTRIBUTES, 1, 0, 1, 0), &[]);
        record.set(BODIES, named_key(1, Kind::Attribute, b"a"), inline(b"v"), &[]);
    });
    shard.record(|record| {
        let chunk = data(4096, 1);
        let at = record.place(&chunk);
        let patch = super::objects::patch(&extents(0, at, &chunk));
        record.patch(named_key(1, Kind::Attribute, b"a"), patch, &[(at, 4096)]);
    });
    expect(&shard, |violation| matches!(violation, Violation::Patch { .. }));
}
