//! Format doc: compares what `docs/FORMAT.md` says of slots and entries with what is written.

use seabed_segment::Identity;
use seabed_types::{
    BLOCK_BYTES, Crc, Cursor, Epoch, Incarnation, Lsn, Paddr, PoolId, SegmentId, ShardId, TreeKind, Uuid,
};

use crate::{BodyPart, ChangeRef, CollectionId, Cut, DeltaRef, EntryRef, Slot, Tally};

const FORMAT: &str = include_str!("../../docs/FORMAT.md");

/// Offset, size and field of the rows of the first table behind `heading`.
fn table(heading: &str) -> Vec<(usize, usize, &'static str)> {
    let (_, section) = FORMAT.split_once(heading).expect("the heading is there");
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = rows.skip(2).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        (cells[1].parse().expect("a number"), cells[2].parse().expect("a number"), cells[3])
    });
    rows.collect()
}

#[test]
fn a_slot_is_as_documented() {
    let identity = Identity { uuid: Uuid([0xaa; 16]), secret: [7; 16] };
    let cut = Cut {
        lsn: Lsn(0x51),
        epoch: Epoch(0x52),
        at: Paddr::new(SegmentId(0x53), 0x54),
        incarnation: Incarnation(0x55),
    };
    let part = |n| BodyPart { at: Paddr::new(SegmentId(n), n + 1), bytes: n + 2, crc: Crc(n + 3) };
    let slot = Slot {
        shard: ShardId(0x21),
        sequence: 0x22,
        epoch: Epoch(0x23),
        end: Lsn(0x24),
        durable: Lsn(0x25),
        cuts: vec![cut],
        body: [vec![part(0x60), part(0x64)], vec![part(0x68), part(0x6c), part(0x70)]],
    };
    let block = slot.encode(&identity);
    let mut end = 0;
    for (offset, bytes, field) in table("## Checkpoint slot") {
        assert_eq!(offset, end, "{field} begins where the one before ends");
        end = offset + bytes;
        let little = |number: u64| number.to_le_bytes()[..bytes].to_vec();
        let crc = u64::from(u32::from_le_bytes(block[8..12].try_into().expect("four bytes")));
        let wanted = match field {
            "magic" => b"SEABEDCP".to_vec(),
            "crc" => little(crc),
            "uuid" => vec![0xaa; 16],
            "shard" => little(0x21),
            "cuts" => little(1),
            "parts_a" => little(2),
            "parts_b" => little(3),
            "sequence" => little(0x22),
            "epoch" => little(0x23),
            "end" => little(0x24),
            "durable" => little(0x25),
            "zero" => little(0),
            _ => panic!("no field {field}"),
        };
        assert_eq!(block[offset..end], wanted, "{field}");
    }
    let mut cursor = Cursor::new(&block);
    cursor.take(end, "fixed").expect("within the block");
    let long: Vec<u64> = (0..2).map(|_| cursor.u64("cut").expect("there")).collect();
    let words: Vec<u32> = (0..3 + 5 * 4).map(|_| cursor.u32("words").expect("there")).collect();
    assert_eq!(long, [0x51, 0x52]);
    assert_eq!(words, (0x53..0x56).chain(0x60..0x74).collect::<Vec<u32>>());
    assert_eq!((cursor.zeros("rest"), block.len()), (Ok(()), BLOCK_BYTES));
}

#[test]
fn the_entries_of_the_documented_example_say_what_is_documented() {
    let (_, dump) = FORMAT.split_once("```record\n").expect("there is an example");
    let (dump, _) = dump.split_once("```").expect("it ends");
    let bytes: Vec<u8> = dump
        .lines()
        .flat_map(|line| line.split_whitespace().skip(1))
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
        .collect();
    let mut entries = Vec::new();
    EntryRef::decode_all(&bytes[96..], |entry| entries.push(entry)).expect("they decode");
    let patch =
        [[1, 0, 1, 1, 0, 0, 0, 0, 0].as_slice(), &[3, 0, 0, 0, 0, 0x20, 0, 0], &0x26c7_4ca2u32.to_le_bytes()]
            .concat();
    let wanted = [
        EntryRef::Delta(DeltaRef {
            pool: PoolId(1),
            tree: TreeKind::Bodies,
            key: &[0x80, 0, 0, 1, 5, 1, 0, 0],
            change: ChangeRef::Patch(&patch),
            pieces: vec![(8192, 4096)],
        }),
        EntryRef::Live(vec![(SegmentId(2), -4096), (SegmentId(3), 4096)]),
        EntryRef::Tally { collection: CollectionId::whole(PoolId(1)), next_id: 6, change: Tally::default() },
    ];
    assert_eq!(entries, wanted);
    let mut again = Vec::new();
    for entry in &wanted {
        entry.encode(&mut again);
    }
    assert_eq!(again, bytes[96..]);
}
