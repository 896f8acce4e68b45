//! Objects: rows as the object crate would make them, written out by hand.

use seabed_object::extents::{Chunk, Extents, Patch};
use seabed_object::key::{self, Kind, Member};
use seabed_object::value::RowValue;
use seabed_object::{ObjectId, PieceRef};
use seabed_types::{Crc, Paddr, put_bytes, put_varint};

pub const HASH: u32 = 0x0000_00f0;
pub const DATA: u64 = 2 | 32;
pub const ATTRIBUTES: u64 = 4 | 32;
pub const OMAP: u64 = 8 | 32;
pub const HEADER: u64 = 16 | 32;

pub fn names_key(name: &str, hash: u32) -> Vec<u8> {
    key::names(&ObjectId::new(name).with_hash(hash)).to_vec()
}

pub fn member(family: u64) -> Member {
    Member { hash: HASH, family, number: 0 }
}

/// An onode without inline parts: flags, family, size, counts.
pub fn onode(flags: u64, family: u64, size: u64, attributes: u64, omap: u64) -> Vec<u8> {
    let mut value = vec![1];
    for number in [flags, family, 0, size, attributes, omap] {
        put_varint(&mut value, number);
    }
    if flags & 16 == 0 {
        put_bytes(&mut value, b"");
    }
    if flags & 2 == 0 {
        put_bytes(&mut value, b"");
    }
    value
}

pub fn extents_key(family: u64, row: u64) -> Vec<u8> {
    key::extents(member(family), row).to_vec()
}

pub fn named_key(family: u64, kind: Kind, name: &[u8]) -> Vec<u8> {
    key::named(member(family), kind, name).to_vec()
}

pub fn graves_key(family: u64) -> Vec<u8> {
    key::graves(member(family)).to_vec()
}

pub fn inline(value: &[u8]) -> Vec<u8> {
    RowValue::Inline(value).encode()
}

pub fn stored(at: Paddr, data: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(data.len()).expect("a value is small");
    RowValue::Stored(PieceRef { at, bytes, crc: Crc::of(data) }).encode()
}

/// The extents of data that lies in one place, from chunk `first` on.
pub fn extents(first: usize, at: Paddr, data: &[u8]) -> Extents {
    let mut extents = Extents::EMPTY;
    for (index, chunk) in data.chunks(4096).enumerate() {
        let skip = u32::try_from(index * 4096).expect("a row is small");
        let bytes = u16::try_from(chunk.len()).expect("a chunk is small");
        extents.set(first + index, Some(Chunk { at: at.plus(skip), bytes, crc: Crc::of(chunk) }));
    }
    extents
}

pub fn patch(extents: &Extents) -> Vec<u8> {
    Patch::new(extents.present(), extents).encode()
}

/// Bytes that tell where they come from.
pub fn data(bytes: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| rng.u8(1..)).collect()
}
