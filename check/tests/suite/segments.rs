//! Segments: claims, headers, seals and inventories against what lies there.

use seabed_check::{ListedBy, Note, Options, Violation, check};
use seabed_segment::{Listed, ListedWhat, SealBlock, SegmentHeader, StreamKind};
use seabed_types::{Crc, Epoch, Incarnation, Lsn, Paddr, SegmentId, ShardId};

use super::clean::{check_all, expect, expect_clean, populated};
use super::disk::IDENTITY;
use super::shard::{Edits, POOL, Shard};

pub fn header(segment: SegmentId, incarnation: u32, stream: StreamKind) -> Vec<u8> {
    let header = SegmentHeader {
        segment,
        incarnation: Incarnation(incarnation),
        shard: ShardId(0),
        stream,
        epoch: Epoch(1),
        age: 0,
        first_lsn: Lsn(0),
    };
    header.encode(&IDENTITY).0.to_vec()
}

/// Writes an inventory of `all` to the end of a segment, and its seal.
pub fn seal(shard: &mut Shard, segment: SegmentId, incarnation: u32, all: &[Listed]) {
    let mut inventory = Vec::new();
    for listed in all {
        listed.encode(&mut inventory);
    }
    let seal = SealBlock {
        segment,
        incarnation: Incarnation(incarnation),
        inventory_offset: 56 << 10,
        inventory_bytes: u32::try_from(inventory.len()).expect("small"),
        inventory_crc: Crc::of(&inventory),
        inventory_count: u32::try_from(all.len()).expect("small"),
    };
    shard.disk.write(Paddr::new(segment, 56 << 10), &inventory);
    shard.disk.write(Paddr::new(segment, 60 << 10), &seal.encode(&IDENTITY));
}

#[test]
fn live_bytes_in_a_segment_that_nobody_claimed() {
    let mut shard = populated();
    shard
        .checkpoint_with(Edits { body: Box::new(|body| body.segments[2].stream = None), ..Edits::default() });
    let report =
        expect(&shard, |violation| matches!(violation, Violation::Unclaimed { segment: SegmentId(3), .. }));
    assert_eq!(report.violations.len(), 1);
}

/// A crash of a mount that trims left a body in a use of its segment that nothing claims, and later crashes one whose
/// header was lost too. The checker called it not listed, and then, twice mended, looked at no body any more that was in
/// another use than the claimed one, whatever was wrong with it.
#[test]
fn a_body_in_a_use_that_nothing_claims() {
    let lost = Note::ClaimLost { segment: SegmentId(3) };
    // No use of the segment is claimed.
    let unclaimed = || {
        let body = |body: &mut seabed_journal::Body| body.segments[2].stream = None;
        let mut shard = Shard::new();
        shard.checkpoint_with(Edits { body: Box::new(body), ..Edits::default() });
        shard
    };
    assert!(expect_clean(&unclaimed()).notes.contains(&lost));
    // An earlier one is, and the header may be of either or of none.
    let later = || {
        let mut shard = Shard::new();
        shard.bulk = shard.disk.open(shard.id, SegmentId(3), Incarnation(2), StreamKind::Bulk);
        shard.checkpoint();
        shard
    };
    for block in [vec![0; 4096], header(SegmentId(3), 1, StreamKind::Bulk)] {
        let mut shard = later();
        assert!(expect_clean(&shard).notes.contains(&lost));
        shard.disk.write(Paddr::new(SegmentId(3), 0), &block);
        assert!(expect_clean(&shard).notes.contains(&lost));
    }
    // A record lists it all the same.
    for mut shard in [unclaimed(), later()] {
        let block = shard.parts[1].at.offset / 4096 * 4096 - 4096;
        shard.disk.flip(Paddr::new(SegmentId(3), block));
        expect(&shard, |violation| {
            matches!(violation, Violation::NotListed { by: ListedBy::Records, segment: SegmentId(3), .. })
        });
    }
    // Nothing else may be needed of the earlier use.
    let mut shard = populated();
    shard.bulk = shard.disk.open(shard.id, SegmentId(3), Incarnation(2), StreamKind::Bulk);
    shard.checkpoint();
    let report = check_all(&shard);
    let (claimed, found) = (Incarnation(1), Incarnation(2));
    let reused = Violation::SegmentReused { segment: SegmentId(3), claimed, found };
    assert!(report.violations.contains(&reused), "{report}");
}

#[test]
fn a_body_in_a_segment_that_was_taken_away() {
    let reused =
        Violation::SegmentReused { segment: SegmentId(3), claimed: Incarnation(1), found: Incarnation(2) };
    let body = |body: &mut seabed_journal::Body| body.segments[2].incarnation = Incarnation(2);
    let mut shard = Shard::new();
    shard.checkpoint_with(Edits { body: Box::new(body), ..Edits::default() });
    expect(&shard, |violation| *violation == reused);
    let mut shard = Shard::new();
    shard.disk.write(Paddr::new(SegmentId(3), 0), &header(SegmentId(3), 2, StreamKind::Bulk));
    expect(&shard, |violation| *violation == reused);
}

#[test]
fn a_lost_header_is_a_note() {
    for segment in [1, 2, 3, 4].map(SegmentId) {
        for old in [vec![0; 4096], header(segment, 0, StreamKind::Bulk)] {
            let mut shard = populated();
            shard.disk.write(Paddr::new(segment, 0), &old);
            let report = expect_clean(&shard);
            assert!(report.notes.contains(&Note::HeaderLost { segment }));
        }
    }
}

#[test]
fn a_header_that_contradicts_the_claim() {
    let mut shard = populated();
    shard.disk.write(Paddr::new(SegmentId(4), 0), &header(SegmentId(4), 1, StreamKind::Bulk));
    expect(&shard, |violation| *violation == Violation::SegmentHeader { segment: SegmentId(4) });
}

#[test]
fn a_segment_that_is_used_again() {
    // With live bytes, or in the window.
    for segment in [1, 2, 3, 4].map(SegmentId) {
        let mut shard = populated();
        shard.disk.write(Paddr::new(segment, 0), &header(segment, 2, StreamKind::Bulk));
        expect(&shard, |violation| {
            let (claimed, found) = (Incarnation(1), Incarnation(2));
            *violation == Violation::SegmentReused { segment, claimed, found }
        });
        let mut shard = populated();
        seal(&mut shard, segment, 3, &[]);
        expect(&shard, |violation| {
            matches!(violation, Violation::SegmentReused { found: Incarnation(3), .. })
        });
    }
    // Free: a claim that a crash took back.
    let mut shard = populated();
    let fresh = shard.fresh(StreamKind::Bulk);
    shard.record(|record| record.claim(&fresh));
    shard.disk.write(Paddr::new(fresh.segment, 0), &header(fresh.segment, 2, StreamKind::Bulk));
    let report = expect_clean(&shard);
    assert!(report.notes.contains(&Note::ClaimLost { segment: fresh.segment }));
}

#[test]
fn an_inventory_that_lacks_something() {
    for segment in [1, 2, 3].map(SegmentId) {
        let mut shard = populated();
        seal(&mut shard, segment, 1, &[]);
        expect(
            &shard,
            |violation| matches!(violation, Violation::NotListed { by: ListedBy::Inventory, segment: found, .. } if *found == segment),
        );
        // An inventory of an earlier use is none.
        let mut shard = populated();
        seal(&mut shard, segment, 0, &[]);
        expect_clean(&shard);
    }
}

#[test]
fn an_inventory_that_names_another_row() {
    let mut shard = populated();
    let what = ListedWhat::Piece { pool: POOL, key: b"another".to_vec() };
    let all = [Listed { offset: 4096, bytes: 50 << 10, what }];
    seal(&mut shard, SegmentId(3), 1, &all);
    let report =
        expect(&shard, |violation| matches!(violation, Violation::NotListed { by: ListedBy::Inventory, .. }));
    let live_things = 2 + 1;
    assert_eq!(report.violations.len(), live_things, "two runs of the big object and the body");
}

#[test]
fn an_inventory_that_is_none() {
    let mut shard = populated();
    shard.disk.seal(&shard.bulk);
    let options = Options { records: false, ..Options::default() };
    let is_clean = |shard: &Shard| check(&shard.disk.bytes, &options).expect("a store").is_clean();
    assert!(is_clean(&shard) && !check_all(&shard).notes.contains(&Note::Unsealed { segment: SegmentId(3) }));
    let at = shard.bulk.at();
    shard.disk.flip(at);
    let report = expect_clean(&shard);
    assert!(report.notes.contains(&Note::InventoryLost { segment: SegmentId(3) }));
    assert!(is_clean(&shard), "the records tell");

    let mut shard = populated();
    let what = ListedWhat::Piece { pool: POOL, key: vec![] };
    seal(&mut shard, SegmentId(4), 1, &[Listed { offset: 60 << 10, bytes: 1, what }]);
    expect_clean(&shard);
    seal(&mut shard, SegmentId(1), 1, &[]);
    assert!(!is_clean(&shard));
}

#[test]
fn an_inventory_with_entries_that_cannot_be() {
    let mut shard = populated();
    let open = shard.bulk.clone();
    shard.disk.seal(&open);
    let seal = shard.disk.read(Paddr::new(SegmentId(3), 60 << 10), 4096).to_vec();
    let seal = SealBlock::decode(&seal, &IDENTITY, SegmentId(3), 64 << 10).expect("a seal");
    let wrong = SealBlock { inventory_count: seal.inventory_count + 1, ..seal };
    shard.disk.write(Paddr::new(SegmentId(3), 60 << 10), &wrong.encode(&IDENTITY));
    expect(&shard, |violation| matches!(violation, Violation::Inventory { segment: SegmentId(3), .. }));
    let short = SealBlock {
        inventory_bytes: seal.inventory_bytes - 1,
        inventory_crc: Crc::of(shard.disk.read(open.at(), seal.inventory_bytes as usize - 1)),
        ..seal
    };
    shard.disk.write(Paddr::new(SegmentId(3), 60 << 10), &short.encode(&IDENTITY));
    expect(&shard, |violation| matches!(violation, Violation::Inventory { segment: SegmentId(3), .. }));
}

#[test]
fn records_that_lost_their_lists() {
    // The header of the bulk record with the big object's data: without it the data is there and nobody can find it.
    let mut shard = populated();
    let first = Paddr::new(SegmentId(3), 4096);
    // The first record is that of the empty checkpoint's body.
    let second = first.plus(8192);
    shard.disk.flip(second);
    let report = expect(&shard, |violation| {
        matches!(violation, Violation::NotListed { by: ListedBy::Records, segment: SegmentId(3), .. })
    });
    assert_eq!(report.violations.len(), 2);
    // With an inventory nothing is lost.
    shard.disk.seal(&shard.bulk);
    let report = expect_clean(&shard);
    let lost = |note: &Note| matches!(note, Note::RecordLost { segment: SegmentId(3), .. });
    assert_eq!(report.notes.iter().filter(|note| lost(note)).count(), 2);
}

#[test]
fn records_and_inventory_that_disagree() {
    let mut shard = populated();
    let key = super::objects::extents_key(1, 0);
    // The inventory lists a piece for the row that is live; the record, which is sound, lists it for another.
    let value = super::objects::data(1_000, 3);
    let at = shard.bulk(b"another row", &value);
    let row = super::objects::named_key(9, seabed_object::key::Kind::Attribute, b"a");
    shard.record(|record| {
        let flags = super::objects::ATTRIBUTES;
        let name = super::objects::names_key("b", super::objects::HASH);
        record.set(super::clean::NAMES, name, super::objects::onode(flags, 9, 0, 1, 0), &[]);
        record.set(super::clean::BODIES, row.clone(), super::objects::stored(at, &value), &[]);
    });
    let piece = |offset, bytes, key: &[u8]| Listed {
        offset,
        bytes,
        what: ListedWhat::Piece { pool: POOL, key: key.to_vec() },
    };
    let part = Listed {
        offset: shard.parts[1].at.offset,
        bytes: shard.parts[1].bytes,
        what: ListedWhat::Body { lsn: Lsn(3), index: 0 },
    };
    let all = [piece(4096, 40_000, &key), piece(at.offset, 1_000, &row), part];
    seal(&mut shard, SegmentId(3), 1, &all);
    let report =
        expect(&shard, |violation| matches!(violation, Violation::NotListed { by: ListedBy::Records, .. }));
    assert_eq!(report.violations.len(), 1);
}

#[test]
fn the_older_slot_must_open_the_store_too() {
    let mut shard = populated();
    let (_, _, old) = shard.images[0];
    shard.checkpoint_with(Edits { slots: vec![seabed_segment::SlotCopy::A], ..Edits::default() });
    expect_clean(&shard);
    // The image that only slot B's body points to is given up too early.
    let mut early = shard.clone();
    early.disk.flip(old.at);
    let report = expect(&early, |violation| matches!(violation, Violation::OlderSlot { .. }));
    assert!(matches!(
        &report.violations[0],
        Violation::OlderSlot { violation, .. } if matches!(**violation, Violation::Node { .. })
    ));
    let options = Options { older_slots: false, ..Options::default() };
    assert!(check(&early.disk.bytes, &options).expect("a store").is_clean());
}

#[test]
fn slots_that_lead_to_different_rows() {
    let mut shard = populated();
    // The newer checkpoint has lost an object and counts as if it had never been.
    let row = (super::clean::NAMES, super::objects::names_key("later", 0x12));
    let value = shard.rows.remove(&row).expect("it is there");
    let bytes = i64::try_from(row.1.len() + value.len()).expect("small");
    shard.checkpoint_with(Edits {
        body: Box::new(move |body| {
            body.collections[0].tally.objects -= 1;
            body.collections[0].tally.metadata -= bytes;
        }),
        slots: vec![seabed_segment::SlotCopy::A],
        ..Edits::default()
    });
    expect(&shard, |violation| *violation == Violation::SlotsDisagree { shard: ShardId(0) });
}
