//! Dumps: that they show what is there, in words that can be found.

use seabed_check::dump::{self, EntryDump};
use seabed_segment::SlotCopy;
use seabed_types::{Lsn, Paddr, SegmentId, ShardId};

use super::clean::{BODIES, NAMES, populated};

#[test]
fn superblocks_and_slots() {
    let mut shard = populated();
    shard.disk.write_at(16 << 10, &[0; 4096]);
    let copies = dump::superblocks(&shard.disk.bytes);
    assert_eq!(
        copies.iter().map(|copy| copy.superblock.is_ok()).collect::<Vec<_>>(),
        [true, false, true, true]
    );
    assert!(copies[1].to_string().ends_with("not a Seabed store"));
    assert!(copies[0].to_string().contains("segments of 65536"));
    let slots = dump::slots(&shard.disk.bytes, ShardId(0)).expect("a store");
    let [a, b] = &slots[..] else { panic!("two slots") };
    assert_eq!((a.which, b.which), (SlotCopy::A, SlotCopy::B));
    assert_eq!(a.slot, b.slot);
    assert_eq!(a.bodies.len(), 2);
    let body = a.bodies[0].body.as_ref().expect("a body");
    assert_eq!((body.start, body.end), (Lsn(2), Lsn(3)));
    let text = a.to_string();
    assert!(
        text.contains("collection 7/00000000.0, term 1, next id 64") && text.contains("the same body"),
        "{text}"
    );
}

#[test]
fn segments_and_records() {
    let mut shard = populated();
    shard.disk.seal(&shard.bulk);
    let segments = dump::segments(&shard.disk.bytes).expect("a store");
    assert_eq!(segments.len(), 46);
    let bulk = &segments[2];
    assert_eq!((bulk.segment, bulk.live), (SegmentId(3), 10_000 - 4096));
    assert!(bulk.seal.is_some() && bulk.header.is_some() && !bulk.is_in_window);
    assert!(segments[0].is_in_window && segments[3].is_in_window && !segments[4].is_in_window);
    assert!(segments[10].to_string().contains("never claimed"));

    let records = dump::records(&shard.disk.bytes, SegmentId(1)).expect("a store");
    let numbers: Vec<u64> = records.iter().map(|record| record.header.place.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let claims = |entry: &EntryDump| matches!(entry, EntryDump::Claim { segment: SegmentId(4), .. });
    assert!(records[0].entries.iter().any(claims));
    let text = records[2].to_string();
    for part in [
        "patch chunks 0000000000000010: 1=1:",
        "[4096 bytes here at",
        "graves 000000f0:family 3.0: set",
        "gone",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let records = dump::records(&shard.disk.bytes, SegmentId(3)).expect("a store");
    let text: Vec<String> = records.iter().map(ToString::to_string).collect();
    assert!(text[1].contains("piece of pool 7 000000f0:family 1.0 extents 0x0"), "{}", text[1]);
    assert!(text[2].contains("body of checkpoint 3, part 0"), "{}", text[2]);
    assert!(dump::records(&shard.disk.bytes, SegmentId(0)).expect("a store").is_empty());
}

#[test]
fn nodes() {
    let shard = populated();
    for (tree, _, node) in &shard.images {
        let dumped = dump::node(&shard.disk.bytes, node.at, *tree).expect("a store");
        assert_eq!((dumped.crc, dumped.level), (Some(node.crc), 0));
        let text = dumped.to_string();
        let expected = if *tree == NAMES {
            "000000f0:big: family 1.0, size 10000"
        } else {
            "attribute \"shape\": 5 bytes \"round\""
        };
        assert!(*tree == NAMES || *tree == BODIES);
        assert!(text.contains(expected), "{text}");
    }
    let nothing = dump::node(&shard.disk.bytes, Paddr::new(SegmentId(1), 8192), NAMES).expect("a store");
    assert!(nothing.what.is_some() && nothing.rows.is_empty());
    let outside = dump::node(&shard.disk.bytes, Paddr::new(SegmentId(0), 0), NAMES).expect("a store");
    assert_eq!(outside.crc, None);
}
