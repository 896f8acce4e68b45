//! Clean stores: what a valid store looks like in all its forms, and what the report says about it.

use seabed_check::{Note, Options, Report, Violation, check};
use seabed_journal::{CollectionId, Cut};
use seabed_object::key::Kind;
use seabed_segment::{SlotCopy, StreamKind};
use seabed_types::{Epoch, Lsn, PoolId, ShardId, TreeKind};

use super::disk::Disk;
use super::objects::{
    ATTRIBUTES, DATA, HASH, HEADER, OMAP, data, extents, extents_key, graves_key, inline, named_key,
    names_key, onode, patch, stored,
};
use super::shard::{COLLECTION, Edits, Shard};

pub const NAMES: TreeKind = TreeKind::Names;
pub const BODIES: TreeKind = TreeKind::Bodies;
pub const GRAVES: TreeKind = TreeKind::Graves;

pub fn check_all(shard: &Shard) -> Report {
    check(&shard.disk.bytes, &Options::default()).expect("a store")
}

/// Checks that there are violations and that each is as `expected`.
pub fn expect(shard: &Shard, expected: impl Fn(&Violation) -> bool) -> Report {
    let report = check_all(shard);
    assert!(!report.is_clean(), "the violation was not found");
    let other = report.violations.iter().find(|violation| !expected(violation));
    assert!(other.is_none(), "another violation:\n{report}");
    report
}

pub fn expect_clean(shard: &Shard) -> Report {
    let report = check_all(shard);
    assert!(report.is_clean(), "{report}");
    report
}

/// A collection with objects of all kinds: in trees, in the window before the checkpoint, and in the window behind it.
pub fn populated() -> Shard {
    let mut shard = Shard::new();
    let big = data(10_000, 1);
    let row = extents_key(1, 0);
    let at = shard.bulk(&row, &big);
    shard.record(|record| {
        record.collection(COLLECTION);
        record.set(NAMES, names_key("big", HASH), onode(DATA, 1, 10_000, 0, 0), &[]);
        record.set(BODIES, row, extents(0, at, &big).encode().expect("not empty"), &[]);
        record.set(NAMES, names_key("small", 0x11), onode(0, 2, 500, 0, 0), &[]);
    });
    shard.record(|record| {
        let (attribute, pair) = (data(2_000, 2), data(900, 3));
        let (attribute_at, pair_at) = (record.place(&attribute), record.place(&pair));
        record.set(NAMES, names_key("named", HASH), onode(ATTRIBUTES | OMAP | HEADER, 3, 0, 2, 1), &[]);
        let key = named_key(3, Kind::Attribute, b"color");
        record.set(BODIES, key, stored(attribute_at, &attribute), &[(attribute_at, 2_000)]);
        record.set(BODIES, named_key(3, Kind::Attribute, b"shape"), inline(b"round"), &[]);
        record.set(BODIES, named_key(3, Kind::Header, b""), inline(b"a header"), &[]);
        let key = named_key(3, Kind::Omap, b"k");
        record.set(BODIES, key, stored(pair_at, &pair), &[(pair_at, 900)]);
    });
    shard.checkpoint_with(Edits { start: Some(Lsn(2)), ..Edits::default() });
    // One chunk of the big object is overwritten, one object goes and leaves a grave, one comes.
    shard.record(|record| {
        let chunk = data(4096, 4);
        let at = record.place(&chunk);
        record.patch(extents_key(1, 0), patch(&extents(1, at, &chunk)), &[(at, 4096)]);
        record.gone(NAMES, names_key("named", HASH));
        record.set(GRAVES, graves_key(3), vec![1], &[]);
        record.set(NAMES, names_key("later", 0x12), onode(0, 4, 0, 0, 0), &[]);
    });
    shard
}

#[test]
fn a_fresh_store_is_clean() {
    let report = expect_clean(&Shard::new());
    assert_eq!(report.counts.objects, 0);
    assert_eq!(report.counts.segments.unclaimed, 43);
    assert!(report.collections.is_empty());
}

#[test]
fn a_populated_store_is_clean_and_counted() {
    let report = expect_clean(&populated());
    assert_eq!(report.counts.objects, 3);
    assert_eq!(report.counts.rows, 3 + 5 + 1);
    assert_eq!(report.counts.nodes, 2, "a leaf for names and one for bodies");
    assert_eq!(report.counts.records, 2);
    assert_eq!(report.counts.pieces, 3 + 1 + 1, "the overwritten chunk divides its neighbours");
    assert_eq!(report.counts.piece_bytes, 10_000 + 2_000 + 900);
    let segments = report.counts.segments;
    assert_eq!((segments.journal, segments.bulk, segments.nodes, segments.live), (2, 1, 1, 3));
    let [collection] = report.collections[..] else { panic!("one collection") };
    assert_eq!(collection.usage.objects, 3);
    assert_eq!(collection.usage.stored, 10_500);
    assert_eq!(collection.usage.allocated, 12_900);
    let [shard] = &report.shards[..] else { panic!("one shard") };
    assert_eq!((shard.start, shard.checkpoint, shard.end), (Lsn(2), Lsn(3), Lsn(4)));
    assert!(shard.torn.is_none() && shard.whole);
    assert!(report.to_string().ends_with("clean"));
}

#[test]
fn without_data_nothing_of_it_is_read() {
    let mut shard = populated();
    let (_, _, leaf) = shard.images[0];
    let options = Options { data: false, ..Options::default() };
    let read = check(&shard.disk.bytes, &options).expect("a store").counts.bytes_verified;
    assert_eq!(check_all(&shard).counts.bytes_verified - read, 12_900);
    shard.disk.flip(leaf.at);
    assert!(!check(&shard.disk.bytes, &options).expect("a store").is_clean(), "nodes are always verified");
}

#[test]
fn rolled_and_sealed_segments() {
    let mut shard = populated();
    shard.disk.seal(&shard.bulk);
    shard.disk.seal(&shard.nodes);
    (shard.bulk, shard.nodes) = (shard.fresh(StreamKind::Bulk), shard.fresh(StreamKind::Nodes));
    let (bulk, nodes) = (shard.bulk.clone(), shard.nodes.clone());
    shard.record(|record| {
        record.claim(&bulk);
        record.claim(&nodes);
    });
    shard.roll();
    shard.record(|record| record.set(NAMES, names_key("rolled", 0x13), onode(0, 5, 7, 0, 0), &[]));
    let report = expect_clean(&shard);
    assert_eq!(report.counts.segments.sealed, 3);
    shard.checkpoint();
    let report = expect_clean(&shard);
    assert_eq!(report.counts.segments.sealed, 3);
    assert!(report.counts.objects == 4 && report.counts.pending == 0);
}

#[test]
fn a_tree_of_two_levels() {
    let mut shard = populated();
    for family in 10..60u64 {
        shard.record(|record| {
            let name = format!("{family}{}", "x".repeat(100));
            let hash = u32::try_from(family).expect("small") << 8;
            record.set(NAMES, names_key(&name, hash), onode(0, family, family, 0, 0), &[]);
        });
        if family % 8 == 0 {
            shard.checkpoint();
            shard.roll();
        }
        if family == 30 {
            shard.disk.seal(&shard.nodes);
            shard.nodes = shard.fresh(StreamKind::Nodes);
            let nodes = shard.nodes.clone();
            shard.record(|record| record.claim(&nodes));
        }
    }
    let report = expect_clean(&shard);
    assert!(shard.images.iter().any(|(_, level, _)| *level == 1));
    assert_eq!(report.counts.objects, 53);
    // The same with room for the things of one segment at a time.
    let options = Options { memory_bytes: 1, ..Options::default() };
    let again = check(&shard.disk.bytes, &options).expect("a store");
    assert!(again.is_clean(), "{again}");
    assert_eq!(again.counts, report.counts);
}

#[test]
fn a_mount_goes_on_at_a_cut() {
    let mut shard = populated();
    // A record of the old epoch that the cut takes back: it stays on the medium.
    let mut cut_off = shard.clone();
    cut_off.record(|record| record.set(NAMES, names_key("cut off", 0x20), onode(0, 6, 9, 0, 0), &[]));
    let (at, _) = cut_off.places[&Lsn(4)];
    shard.disk = cut_off.disk;
    let head = shard.fresh(StreamKind::Journal);
    shard.epoch = Epoch(2);
    shard.cuts.push(Cut { lsn: Lsn(4), epoch: Epoch(2), at: head.at(), incarnation: head.incarnation });
    assert_eq!(at, shard.journal.at());
    let next = shard.next.expect("claimed");
    shard.checkpoint_with(Edits { start: Some(Lsn(3)), ..Edits::default() });
    let report = expect_clean(&shard);
    assert_eq!(report.shards[0].end_at, head.at());
    (shard.journal, shard.next) = (head, None);
    shard.record(|record| record.set(NAMES, names_key("after", 0x21), onode(0, 7, 9, 0, 0), &[]));
    let report = expect_clean(&shard);
    assert_eq!((report.counts.objects, report.shards[0].end), (4, Lsn(5)));
    assert_ne!(shard.next, Some(next));
}

#[test]
fn a_torn_end_is_a_note() {
    let shard = populated();
    let mut torn = shard.clone();
    torn.record(|record| {
        let value = data(3_000, 9);
        let at = record.place(&value);
        record.set(NAMES, names_key("torn", HASH), onode(ATTRIBUTES, 8, 0, 1, 0), &[]);
        record.set(BODIES, named_key(8, Kind::Attribute, b"a"), stored(at, &value), &[(at, 3_000)]);
    });
    let (at, _) = torn.places[&Lsn(4)];
    expect_clean(&torn);
    for (offset, what) in [
        (0, None),
        (100, Some("record: checksum of the entries")),
        (5_000, Some("record: checksum of the data")),
    ] {
        let mut torn = torn.clone();
        torn.disk.flip(at.plus(offset));
        let report = expect_clean(&torn);
        assert_eq!(report.shards[0].end, Lsn(4));
        assert_eq!(report.shards[0].torn.map(|torn| torn.what), what);
        assert_eq!(report.counts.objects, 3);
    }
}

#[test]
fn a_crash_between_the_slots_is_a_note() {
    let mut shard = populated();
    shard.checkpoint_with(Edits { slots: vec![SlotCopy::A], ..Edits::default() });
    let report = expect_clean(&shard);
    assert!(report.notes.contains(&Note::SlotsDiffer { shard: ShardId(0) }));
    assert_eq!((report.shards[0].slot, report.shards[0].checkpoint), (SlotCopy::A, Lsn(4)));
}

#[test]
fn two_shards() {
    let first = populated();
    let mut disk = Disk::new(2);
    let half = first.disk.bytes.len() - (64 << 10);
    // The first shard's segments; superblocks and slots are where the larger store has them.
    disk.bytes[64 << 10..half].copy_from_slice(&first.disk.bytes[64 << 10..half]);
    for which in [SlotCopy::A, SlotCopy::B] {
        let from = usize::try_from(first.disk.layout.slot(ShardId(0), which)).expect("small");
        let block = first.disk.bytes[from..from + 4096].to_vec();
        disk.write_at(disk.layout.slot(ShardId(0), which), &block);
    }
    let mut second = Shard::on(disk, ShardId(1), 40);
    second.record(|record| {
        assert_eq!(record.shard(), ShardId(1));
        record.collection(CollectionId::whole(PoolId(9)));
    });
    let report = expect_clean(&second);
    assert_eq!((report.shards.len(), report.collections.len()), (2, 2));
    second.record(|record| record.collection(COLLECTION));
    expect(&second, |violation| matches!(violation, Violation::CollectionsOverlap { .. }));
}

#[test]
fn files_are_images() {
    let shard = populated();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &shard.disk.bytes).expect("written");
    let file = std::fs::File::open(file.path()).expect("a file");
    let report = check(&file, &Options::default()).expect("a store");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.counts, check_all(&shard).counts);
}
