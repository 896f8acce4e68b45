//! Records built, written nowhere, read back; every byte flipped; every size around the edges.

use seabed_device::memory::MemoryDevice;
use seabed_types::Uuid;

use super::*;

const IDENTITY: Identity = Identity { uuid: Uuid([1; 16]), secret: [2; 16] };
const LAYOUT: Layout = Layout { device_bytes: 64 << 20, segment_bytes: 1 << 20, node_bytes: 4096, shards: 1 };
const PLACE: RecordPlace = RecordPlace {
    shard: ShardId(0),
    stream: StreamKind::Journal,
    epoch: Epoch(4),
    incarnation: Incarnation(5),
    number: 6,
    previous: Crc(7),
};

fn builder() -> RecordBuilder {
    RecordBuilder::new(
        MemoryDevice::new(Vec::new()),
        Paddr::new(SegmentId(3), 8192),
        LAYOUT.record_bytes_max(),
        0,
    )
}

#[test]
fn records_of_all_shapes_come_back() {
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..2_000 {
        let mut record = builder();
        let mut pieces = Vec::new();
        loop {
            let bytes = match rng.u32(..4) {
                0 => rng.usize(1..4096),
                1 => 4096,
                2 => 4096 * rng.usize(1..17),
                _ => rng.usize(1..20_000),
            };
            if !record.fits(bytes, 9_100) || rng.u32(..12) == 0 {
                break;
            }
            let data: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect();
            let summing = if rng.bool() { Summing::Chunks } else { Summing::Whole };
            let (a, b) = data.split_at(rng.usize(..=bytes));
            let placed = record.place(&[a, b], summing);
            let unit = if summing == Summing::Chunks { CHUNK_BYTES } else { bytes };
            assert_eq!(placed.crcs, data.chunks(unit).map(Crc::of).collect::<SmallVec<[Crc; 16]>>());
            let at = placed.at.offset as usize;
            assert!(bytes < 4096 || at.is_multiple_of(4096), "aligned");
            assert!(bytes > 4096 || at / 4096 == (at + bytes - 1) / 4096, "straddles no block");
            pieces.push((at - 8192, data));
        }
        let entries: Vec<u8> = (0..[0, 1, 3999, 4000, 4001, 9000][round % 6]).map(|_| rng.u8(..)).collect();
        record.entries().extend_from_slice(&entries);
        let bytes = record.bytes();
        let (buf, header) = record.close(&IDENTITY, PLACE);
        assert_eq!(buf.len(), bytes);
        assert_eq!(RecordHeader::decode(&buf, &IDENTITY, &LAYOUT, header.at), Ok(header));
        assert_eq!(entries_of(&header, &buf), Ok(entries));
        assert!(header.data_is_sound(&buf));
        for (at, data) in pieces {
            assert_eq!(buf[at..at + data.len()], data);
        }
    }
}

#[test]
fn what_fits_says_fits() {
    let mut rng = fastrand::Rng::with_seed(6);
    for _ in 0..300 {
        let mut record = builder();
        loop {
            let (bytes, entries) = (rng.usize(1..70_000), rng.usize(..200));
            if !record.fits(bytes, entries) {
                break;
            }
            record.place(&[&vec![1; bytes]], Summing::Chunks);
            record.entries().extend(std::iter::repeat_n(2, entries));
            assert!(record.bytes() <= LAYOUT.record_bytes_max());
        }
        let _ = record.close(&IDENTITY, PLACE);
    }
}

/// Every piece was counted with a block's alignment, also those that have it: a write of 100 bytes over two chunks was
/// refused as too large for the records of segments of 64 KiB, which hold 16 KiB.
#[test]
fn what_pieces_take_is_known_before_they_are_placed() {
    assert_eq!(packed_bytes([4096, 4096]), 8192);
    assert_eq!(packed_bytes([100, 100]), 200);
    assert_eq!(packed_bytes([100, 4000]), 8096);
    assert_eq!(packed_bytes([100, 4096, 1]), 8193);
    assert_eq!(record_bytes_of(packed_bytes([4096, 4096]), 300), 12_288);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..2_000 {
        let mut record = builder();
        if rng.bool() {
            record.place(&[&vec![1; rng.usize(1..9_000)]], Summing::Whole);
        }
        let starts_block = record.bytes() == 4096;
        let pieces: Vec<usize> = (0..rng.usize(1..9))
            .map(|_| [4096, 8192, rng.usize(1..4096), rng.usize(1..9_000)][rng.usize(..4)])
            .collect();
        let most = record.bytes_with(packed_bytes(pieces.iter().copied()), 0);
        for bytes in &pieces {
            record.place(&[&vec![2; *bytes]], Summing::Whole);
        }
        assert!(record.bytes() <= most && most <= record.bytes() + 4096, "{pieces:?}");
        assert!(!starts_block || record.bytes() == most, "exact: {pieces:?}");
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let mut record = builder();
    record.place(&[&[3; 5000]], Summing::Chunks);
    record.place(&[&[4; 100]], Summing::Whole);
    record.entries().extend(vec![5; 4100]);
    let (buf, header) = record.close(&IDENTITY, PLACE);
    let sound = buf.to_vec();
    let noticed = |bytes: &[u8]| match RecordHeader::decode(bytes, &IDENTITY, &LAYOUT, header.at) {
        Err(_) => true,
        Ok(header) => entries_of(&header, bytes).is_err() || !header.data_is_sound(bytes),
    };
    assert!(!noticed(&sound));
    // Behind the entries the last block is padding, which nothing refers to.
    let padding = sound.len() - 4096 + 100;
    for at in 0..padding {
        let mut bad = sound.clone();
        bad[at] ^= 0x10;
        assert!(noticed(&bad), "byte {at}");
    }
    assert!(RecordHeader::decode(&sound, &IDENTITY, &LAYOUT, header.at.plus(4096)).is_err(), "elsewhere");
    assert!(RecordHeader::decode(&sound[..50], &IDENTITY, &LAYOUT, header.at).is_err());
    assert!(entries_of(&header, &sound[..4200]).is_err(), "cut short");
}

#[test]
fn the_format_is_as_documented() {
    documented!(
        RawRecord,
        [
            magic,
            crc,
            uuid,
            segment,
            offset,
            shard,
            stream,
            zero,
            incarnation,
            epoch,
            number,
            previous,
            entries_bytes,
            pieces_bytes,
            record_bytes,
            entries_crc,
            data_crc,
            reserved
        ]
    );
}

#[test]
fn the_documented_example_is_what_is_written() {
    let documented = crate::format_doc::example();
    let identity = Identity {
        uuid: Uuid(*documented[8..].first_chunk().expect("a header")),
        secret: *b"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f",
    };
    let mut record =
        RecordBuilder::new(MemoryDevice::new(Vec::new()), Paddr::new(SegmentId(3), 4096), 1 << 16, 0);
    let placed = record.place(&[&[b'a'; 4096]], Summing::Chunks);
    assert_eq!((placed.at.offset, placed.crcs), (8192, SmallVec::from_slice(&[Crc(0x26c7_4ca2)])));
    record.entries().extend_from_slice(&documented[RECORD_HEADER_BYTES..]);
    let place = RecordPlace {
        epoch: Epoch(5),
        incarnation: Incarnation(2),
        number: 42,
        previous: Crc(0x0a0b_0c0d),
        ..PLACE
    };
    let (buf, _) = record.close(&identity, place);
    assert_eq!(buf[..documented.len()], documented);
    assert!(buf[documented.len()..4096].iter().all(|byte| *byte == 0));
    assert_eq!(buf.len(), 8192);
}
