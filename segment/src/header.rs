//! Segment header and seal block: the first and the last block of a segment.
//!
//! The header is written when the segment is claimed, cached: nothing waits for it, because the claim in the log (or the
//! checkpoint body) says the same. It is there so that incarnations only grow when both are lost, and for salvage. The
//! seal block says where the inventory is; without a valid one the inventory is rebuilt by a scan.
//!
//! Each is valid if and only if magic, uuid, own segment number and the seeded checksum agree and the rest is zero.

use seabed_types::{BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, Malformed, SegmentId, ShardId};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Identity, StreamKind};

/// Bytes of the header block.
pub const SEGMENT_HEADER_BYTES: u32 = 4096;
const HEADER_MAGIC: [u8; 8] = *b"SEABEDSG";
const SEAL_MAGIC: [u8; 8] = *b"SEABEDSL";

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    crc: U32,
    segment: U32,
    uuid: [u8; 16],
    incarnation: U32,
    shard: U16,
    stream: u8,
    zero: u8,
    epoch: U64,
    age: U64,
    first_lsn: U64,
    reserved: [u8; 4032],
}
const _: () = assert!(size_of::<RawHeader>() == BLOCK_BYTES);
const _: () = assert!(std::mem::offset_of!(RawHeader, epoch) == 40);
const _: () = assert!(std::mem::offset_of!(RawHeader, reserved) == 64);

/// A verified segment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Its own number.
    pub segment: SegmentId,
    /// How often it was claimed.
    pub incarnation: Incarnation,
    /// Who claimed it.
    pub shard: ShardId,
    /// For what.
    pub stream: StreamKind,
    /// The claimer's epoch.
    pub epoch: Epoch,
    /// Age of its data, in bytes written to the shard before; orders data, never wall-clock time.
    pub age: u64,
    /// For a journal segment: no record in it has a lower number. Else 0.
    pub first_lsn: Lsn,
}

impl SegmentHeader {
    /// The header block and its checksum (which records of other streams than the journal carry).
    pub fn encode(&self, identity: &Identity) -> ([u8; BLOCK_BYTES], Crc) {
        let mut raw = RawHeader {
            magic: HEADER_MAGIC,
            crc: 0.into(),
            segment: self.segment.0.into(),
            uuid: identity.uuid.0,
            incarnation: self.incarnation.0.into(),
            shard: self.shard.0.into(),
            stream: self.stream as u8,
            zero: 0,
            epoch: self.epoch.0.into(),
            age: self.age.into(),
            first_lsn: self.first_lsn.0.into(),
            reserved: [0; 4032],
        };
        let crc = identity.header_crc(raw.as_bytes());
        raw.crc = crc.0.into();
        (raw.as_bytes().try_into().expect("a header is a block"), crc)
    }

    /// Verifies the header block of `segment`.
    pub fn decode(block: &[u8], identity: &Identity, segment: SegmentId) -> Result<(Self, Crc), Malformed> {
        let bad = |what| Malformed { what, offset: 0 };
        let raw = RawHeader::read_from_bytes(block).map_err(|_| bad("segment header: not a block"))?;
        let mut summed = raw.clone();
        summed.crc = 0.into();
        if raw.magic != HEADER_MAGIC || identity.header_crc(summed.as_bytes()).0 != raw.crc.get() {
            return Err(bad("segment header: magic or checksum"));
        }
        if raw.uuid != identity.uuid.0 || raw.segment.get() != segment.0 {
            return Err(bad("segment header: of another store or segment"));
        }
        let stream = StreamKind::try_from(raw.stream).map_err(|()| bad("segment header: stream"))?;
        if raw.zero != 0 || raw.reserved.iter().any(|byte| *byte != 0) {
            return Err(bad("segment header: reserved bytes"));
        }
        let header = Self {
            segment,
            incarnation: Incarnation(raw.incarnation.get()),
            shard: ShardId(raw.shard.get()),
            stream,
            epoch: Epoch(raw.epoch.get()),
            age: raw.age.get(),
            first_lsn: Lsn(raw.first_lsn.get()),
        };
        Ok((header, Crc(raw.crc.get())))
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone)]
#[repr(C)]
struct RawSeal {
    magic: [u8; 8],
    crc: U32,
    segment: U32,
    uuid: [u8; 16],
    incarnation: U32,
    inventory_offset: U32,
    inventory_bytes: U32,
    inventory_crc: U32,
    inventory_count: U32,
    zero: U32,
    reserved: [u8; 4040],
}
const _: () = assert!(size_of::<RawSeal>() == BLOCK_BYTES);
const _: () = assert!(std::mem::offset_of!(RawSeal, inventory_offset) == 36);
const _: () = assert!(std::mem::offset_of!(RawSeal, reserved) == 56);

/// A verified seal block: where the inventory of a full segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealBlock {
    /// Its own segment.
    pub segment: SegmentId,
    /// Of which use of the segment.
    pub incarnation: Incarnation,
    /// Where the inventory begins: the end of the records.
    pub inventory_offset: u32,
    /// Its bytes, without padding.
    pub inventory_bytes: u32,
    /// The checksum of those.
    pub inventory_crc: Crc,
    /// How many entries it has.
    pub inventory_count: u32,
}

impl SealBlock {
    /// The block.
    pub fn encode(&self, identity: &Identity) -> [u8; BLOCK_BYTES] {
        let mut raw = RawSeal {
            magic: SEAL_MAGIC,
            crc: 0.into(),
            segment: self.segment.0.into(),
            uuid: identity.uuid.0,
            incarnation: self.incarnation.0.into(),
            inventory_offset: self.inventory_offset.into(),
            inventory_bytes: self.inventory_bytes.into(),
            inventory_crc: self.inventory_crc.0.into(),
            inventory_count: self.inventory_count.into(),
            zero: 0.into(),
            reserved: [0; 4040],
        };
        raw.crc = identity.header_crc(raw.as_bytes()).0.into();
        raw.as_bytes().try_into().expect("a seal is a block")
    }

    /// Verifies the last block of `segment`, which has `segment_bytes`.
    pub fn decode(
        block: &[u8],
        identity: &Identity,
        segment: SegmentId,
        segment_bytes: u32,
    ) -> Result<Self, Malformed> {
        let bad = |what| Malformed { what, offset: 0 };
        let raw = RawSeal::read_from_bytes(block).map_err(|_| bad("seal: not a block"))?;
        let mut summed = raw.clone();
        summed.crc = 0.into();
        if raw.magic != SEAL_MAGIC || identity.header_crc(summed.as_bytes()).0 != raw.crc.get() {
            return Err(bad("seal: magic or checksum"));
        }
        if raw.uuid != identity.uuid.0 || raw.segment.get() != segment.0 {
            return Err(bad("seal: of another store or segment"));
        }
        let end = u64::from(raw.inventory_offset.get()) + u64::from(raw.inventory_bytes.get());
        if end > u64::from(segment_bytes) - BLOCK_BYTES as u64
            || raw.inventory_offset.get() < SEGMENT_HEADER_BYTES
        {
            return Err(bad("seal: place of the inventory"));
        }
        if raw.zero.get() != 0 || raw.reserved.iter().any(|byte| *byte != 0) {
            return Err(bad("seal: reserved bytes"));
        }
        Ok(Self {
            segment,
            incarnation: Incarnation(raw.incarnation.get()),
            inventory_offset: raw.inventory_offset.get(),
            inventory_bytes: raw.inventory_bytes.get(),
            inventory_crc: Crc(raw.inventory_crc.get()),
            inventory_count: raw.inventory_count.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seabed_types::Uuid;

    const IDENTITY: Identity = Identity { uuid: Uuid([1; 16]), secret: [2; 16] };

    #[test]
    fn the_format_is_as_documented() {
        documented!(
            RawHeader,
            [magic, crc, segment, uuid, incarnation, shard, stream, zero, epoch, age, first_lsn, reserved]
        );
        documented!(
            RawSeal,
            [
                magic,
                crc,
                segment,
                uuid,
                incarnation,
                inventory_offset,
                inventory_bytes,
                inventory_crc,
                inventory_count,
                zero,
                reserved
            ]
        );
    }

    #[test]
    fn a_header_comes_back_and_every_flip_is_noticed() {
        let header = SegmentHeader {
            segment: SegmentId(5),
            incarnation: Incarnation(6),
            shard: ShardId(0),
            stream: StreamKind::Bulk,
            epoch: Epoch(3),
            age: 77,
            first_lsn: Lsn(0),
        };
        let (block, crc) = header.encode(&IDENTITY);
        assert_eq!(SegmentHeader::decode(&block, &IDENTITY, SegmentId(5)), Ok((header, crc)));
        assert!(SegmentHeader::decode(&block, &IDENTITY, SegmentId(6)).is_err());
        assert!(
            SegmentHeader::decode(&block, &Identity { secret: [3; 16], ..IDENTITY }, SegmentId(5)).is_err()
        );
        for at in 0..block.len() {
            let mut bad = block;
            bad[at] ^= 1;
            assert!(SegmentHeader::decode(&bad, &IDENTITY, SegmentId(5)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_seal_comes_back_and_every_flip_is_noticed() {
        let seal = SealBlock {
            segment: SegmentId(5),
            incarnation: Incarnation(6),
            inventory_offset: 8192,
            inventory_bytes: 100,
            inventory_crc: Crc(9),
            inventory_count: 4,
        };
        let block = seal.encode(&IDENTITY);
        assert_eq!(SealBlock::decode(&block, &IDENTITY, SegmentId(5), 64 << 10), Ok(seal));
        assert!(
            SealBlock::decode(&block, &IDENTITY, SegmentId(5), 8192).is_err(),
            "inventory outside the segment"
        );
        for at in 0..block.len() {
            let mut bad = block;
            bad[at] ^= 1;
            assert!(SealBlock::decode(&bad, &IDENTITY, SegmentId(5), 64 << 10).is_err(), "byte {at}");
        }
    }
}
