//! Rows: what contradicts another row, its object, its collection, or what is counted.

use seabed_check::{CountedPart, PieceFault, Violation};
use seabed_journal::{EntryRef, Tally};
use seabed_object::PieceRef;
use seabed_object::key::Kind;
use seabed_object::value::RowValue;
use seabed_types::{Crc, Lsn, Paddr, SegmentId, TreeKind};

use super::clean::{BODIES, GRAVES, NAMES, check_all, expect, expect_clean, populated};
use super::objects::{
    ATTRIBUTES, DATA, HASH, HEADER, OMAP, data, extents, extents_key, graves_key, inline, named_key,
    names_key, onode, stored,
};
use super::shard::{COLLECTION, Edits, Record, Shard};

/// A populated store with another record at the end: once in the window, once in the trees.
fn with(fill: impl Fn(&mut Record)) -> [Shard; 2] {
    let mut pending = populated();
    pending.record(fill);
    let mut published = pending.clone();
    published.checkpoint();
    [pending, published]
}

fn expect_both(fill: impl Fn(&mut Record), expected: impl Fn(&Violation) -> bool) {
    for shard in with(fill) {
        expect(&shard, &expected);
    }
}

#[test]
fn rows_that_do_not_decode() {
    let malformed = |violation: &Violation| matches!(violation, Violation::RowMalformed { .. });
    expect_both(|record| record.set(NAMES, names_key("bad", HASH), b"no onode".to_vec(), &[]), malformed);
    expect_both(|record| record.set(BODIES, extents_key(1, 1), vec![1, 0, 0, 0, 0, 0, 0], &[]), malformed);
    expect_both(|record| record.set(GRAVES, graves_key(9), vec![2], &[]), malformed);
    let values = |record: &mut Record| record.set(BODIES, named_key(3, Kind::Omap, b"x"), vec![9], &[]);
    expect_both(values, malformed);
}

#[test]
fn counts_of_an_onode() {
    let cases: [(CountedPart, u64, u64, u64); 4] = [
        (CountedPart::Attributes, ATTRIBUTES, 3, 0),
        (CountedPart::Omap, OMAP, 0, 2),
        (CountedPart::Header, HEADER, 0, 0),
        (CountedPart::Attributes, 0, 0, 0),
    ];
    for (index, (expected, flags, attributes, omap)) in cases.into_iter().enumerate() {
        let fill = |record: &mut Record| {
            record.set(NAMES, names_key("counted", HASH), onode(flags, 9, 0, attributes, omap), &[]);
            let row = match (index, expected) {
                (_, CountedPart::Attributes) => Some(named_key(9, Kind::Attribute, b"one")),
                (_, CountedPart::Omap) => Some(named_key(9, Kind::Omap, b"one")),
                (_, CountedPart::Header | CountedPart::Data) => None,
            };
            if let Some(row) = row {
                record.set(BODIES, row, inline(b"value"), &[]);
            }
        };
        expect_both(
            fill,
            |violation| matches!(violation, Violation::PartCount { part, .. } if *part == expected),
        );
    }
}

#[test]
fn bytes_behind_the_end_of_an_object() {
    let fill = |flags: u64, size: u64| {
        move |record: &mut Record| {
            let chunk = data(4096, 8);
            let at = record.place(&chunk);
            record.set(NAMES, names_key("short", HASH), onode(flags, 9, size, 0, 0), &[]);
            let row = extents(1, at, &chunk).encode().expect("not empty");
            record.set(BODIES, extents_key(9, 0), row, &[(at, 4096)]);
        }
    };
    for size in [1, 4096, 8191] {
        expect_both(
            fill(DATA, size),
            |violation| matches!(violation, Violation::BeyondSize { end: 8192, size: found, .. } if *found == size),
        );
    }
    for shard in with(fill(DATA, 8192)) {
        expect_clean(&shard);
    }
    let inline_data = |violation: &Violation| {
        matches!(violation, Violation::PartCount { part: CountedPart::Data, counted: 0, found: 1, .. })
    };
    expect_both(fill(0, 8192), inline_data);
}

#[test]
fn families() {
    expect_both(
        |record| record.set(BODIES, named_key(50, Kind::Omap, b"x"), inline(b"y"), &[]),
        |violation| matches!(violation, Violation::Orphan { .. }),
    );
    expect_both(
        |record| record.set(NAMES, names_key("other", HASH), onode(DATA, 1, 10_000, 0, 0), &[]),
        |violation| matches!(violation, Violation::FamilyTwice { family: 1, .. }),
    );
    expect_both(
        |record| record.set(GRAVES, graves_key(1), vec![1], &[]),
        |violation| matches!(violation, Violation::GraveOfLiving { .. }),
    );
    for id in [64, u64::MAX] {
        expect_both(
            |record| record.set(NAMES, names_key("new", 0x99), onode(0, id, 0, 0, 0), &[]),
            |violation| matches!(violation, Violation::IdNotCounted { id: found, next_id: 64, .. } if *found == id),
        );
    }
}

#[test]
fn rows_of_another_collection() {
    let mut shard = populated();
    // The body names half of the pool; the trees hold rows of the other half.
    shard.checkpoint_with(Edits {
        body: Box::new(|body| {
            let collection = &mut body.collections[0];
            (collection.id.bits, collection.id.prefix) = (1, 1 << 31);
        }),
        ..Edits::default()
    });
    expect(&shard, |violation| matches!(violation, Violation::RowOutside { .. }));
}

#[test]
fn rows_that_fit_no_node() {
    let mut shard = populated();
    shard.record(|record| {
        record.set(NAMES, names_key("long", HASH), onode(ATTRIBUTES, 9, 0, 1, 0), &[]);
        record.set(BODIES, named_key(9, Kind::Attribute, b"long"), inline(&[7; 600]), &[]);
    });
    expect(&shard, |violation| matches!(violation, Violation::RowTooLong { value_bytes: 601, .. }));
}

#[test]
fn pieces_that_changed() {
    let shard = populated();
    let (at, _) = shard.places[&Lsn(2)];
    for (place, bytes) in
        [(at.plus(4096), 2_000), (at.plus(4096 + 2_000), 900), (Paddr::new(SegmentId(3), 24576), 1808)]
    {
        let mut shard = shard.clone();
        shard.disk.flip(place.plus(bytes / 2));
        let report = expect(&shard, |violation| {
            matches!(violation, Violation::Piece { at, fault: PieceFault::Checksum(_), bytes: found, .. }
                if (*at, *found) == (place, bytes))
        });
        assert_eq!(report.violations.len(), 1, "only the chunk or value itself");
    }
}

#[test]
fn pieces_that_are_nowhere() {
    for at in
        [Paddr::new(SegmentId(4000), 4096), Paddr::new(SegmentId(3), 0), Paddr::new(SegmentId(3), 65_000)]
    {
        let value = RowValue::Stored(PieceRef { at, bytes: 700, crc: Crc(1) }).encode();
        let fill = |record: &mut Record| {
            record.set(NAMES, names_key("lost", HASH), onode(ATTRIBUTES, 9, 0, 1, 0), &[]);
            record.set(BODIES, named_key(9, Kind::Attribute, b"a"), value.clone(), &[]);
        };
        let shard = with(fill).into_iter().next().expect("two");
        let report = check_all(&shard);
        let found = report.violations.iter().any(|violation| {
            matches!(violation, Violation::Piece { fault: PieceFault::Pointer, at: found, .. } if *found == at)
        });
        assert!(found, "{report}");
    }
}

#[test]
fn counts_that_are_not_the_sums() {
    for field in 0..6 {
        let mut change = Tally::default();
        let fields = [
            &mut change.objects,
            &mut change.stored,
            &mut change.allocated,
            &mut change.compressed,
            &mut change.omap,
            &mut change.metadata,
        ];
        for to in fields.into_iter().skip(field).take(1) {
            *to = 1;
        }
        let mut shard = populated();
        let entry = EntryRef::Tally { collection: COLLECTION, next_id: 0, change };
        shard.record(|record| record.entry(&entry));
        expect(&shard, |violation| matches!(violation, Violation::Tally { .. }));
    }
    let mut shard = populated();
    shard.checkpoint_with(Edits {
        body: Box::new(|body| body.collections[0].tally.objects += 1),
        ..Edits::default()
    });
    expect(&shard, |violation| matches!(violation, Violation::Tally { .. }));
}

#[test]
fn live_bytes_that_are_not_the_sums() {
    for segment in [1, 2, 3, 20].map(SegmentId) {
        let mut shard = populated();
        shard.record(|record| record.entry(&EntryRef::Live(vec![(segment, -1)])));
        expect(
            &shard,
            |violation| matches!(violation, Violation::Live { segment: found, .. } if *found == segment),
        );
    }
    let mut shard = populated();
    // Images count for the checkpoint that publishes them.
    shard.checkpoint_with(Edits { body: Box::new(|body| body.segments[1].live -= 4096), ..Edits::default() });
    expect(&shard, |violation| matches!(violation, Violation::Live { segment: SegmentId(2), .. }));
}

#[test]
fn live_things_that_share_bytes() {
    let mut shard = populated();
    let value = data(2_000, 2);
    let at = shard.places[&Lsn(2)].0.plus(4096);
    shard.record(|record| {
        record.set(NAMES, names_key("second", HASH), onode(ATTRIBUTES, 9, 0, 1, 0), &[]);
        record.set(BODIES, named_key(9, Kind::Attribute, b"a"), stored(at, &value), &[]);
    });
    let report = expect(&shard, |violation| {
        matches!(violation, Violation::Overlap { .. } | Violation::NotListed { .. })
    });
    assert_eq!(report.violations.len(), 2, "it is not listed for the second row either");
}

#[test]
fn trees_are_shown_in_words() {
    let shard = with(|record| record.set(BODIES, named_key(50, Kind::Omap, b"k\n"), inline(b"y"), &[]));
    let text = check_all(&shard[0]).to_string();
    assert!(
        text.contains("pool 7 bodies 000000f0:family 50.0 omap \"k\\n\": neither an object nor a grave"),
        "{text}"
    );
    assert_eq!(TreeKind::ALL.len(), 3);
}
