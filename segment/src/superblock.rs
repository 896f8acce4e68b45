//! Superblock: what a store is, in one block, four times.
//!
//! Copies lie at 0, 16 KiB, 32 KiB and in the last block; any one opens the store. It is written at format and never
//! changed in operation, so a torn write of it can only be that of a format that did not finish.
//!
//! A copy is valid if and only if: magic, version, checksum over the whole block (its own field zeroed), own place,
//! geometry that [`Layout::check`] takes, and a zero rest. An unknown incompatible feature bit is an error of its own: the
//! store may be sound, this program cannot read it.

use seabed_types::{BLOCK_BYTES, Crc, Uuid};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Identity, Layout, LayoutError};

const MAGIC: [u8; 8] = *b"SEABEDSB";
/// The version of the format in which this program makes stores. It reads and writes older ones as they are: version 2 has
/// extents in onodes (flag 64 there), version 3 states in its slots up to where the log was durable.
pub const FORMAT_VERSION: u32 = 3;
/// The oldest version that this program reads and writes.
pub const OLDEST_VERSION: u32 = 1;
/// Incompatible features that this program knows.
const INCOMPAT_KNOWN: u64 = 0;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone)]
#[repr(C)]
struct RawSuperblock {
    magic: [u8; 8],
    version: U32,
    crc: U32,
    uuid: [u8; 16],
    compat: U64,
    ro_compat: U64,
    incompat: U64,
    device_bytes: U64,
    segment_bytes: U32,
    node_bytes: U32,
    block_bytes: U32,
    shards: U16,
    copy: U16,
    secret: [u8; 16],
    window_bytes: U64,
    reserved: [u8; 3992],
}
const _: () = assert!(size_of::<RawSuperblock>() == BLOCK_BYTES);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, device_bytes) == 56);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, secret) == 80);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, reserved) == 104);

/// A verified superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The format in which the store was made.
    pub version: u32,
    /// Whose headers are this store's own.
    pub identity: Identity,
    /// Features that an older program may ignore.
    pub compat: u64,
    /// Features that forbid an older program to write.
    pub ro_compat: u64,
    /// Features without which nothing can be read.
    pub incompat: u64,
    /// Sizes.
    pub layout: Layout,
    /// Bytes of journal after which a shard must have trimmed.
    pub window_bytes: u64,
}

/// Why a block is no superblock that this program can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperblockError {
    /// No magic: something else.
    #[error("not a Seabed store")]
    NotAStore,
    /// Made by another version.
    #[error("format version {0}, this program knows versions {OLDEST_VERSION} to {FORMAT_VERSION}")]
    Version(u32),
    /// The checksum or a field is wrong.
    #[error("superblock is damaged: {0}")]
    Damaged(&'static str),
    /// Features that this program does not know.
    #[error("uses features that this program does not know (incompatible feature bits {0:#x})")]
    UnknownFeatures(u64),
    /// Sizes that no store can have.
    #[error("superblock: {0}")]
    Layout(#[from] LayoutError),
}

impl Superblock {
    /// Of a store that is made now: of the present version, without features.
    pub const fn new(identity: Identity, layout: Layout, window_bytes: u64) -> Self {
        Self { version: FORMAT_VERSION, identity, compat: 0, ro_compat: 0, incompat: 0, layout, window_bytes }
    }

    /// The block of copy `copy` (0..=3).
    pub fn encode(&self, copy: u16) -> [u8; BLOCK_BYTES] {
        let mut raw = RawSuperblock {
            magic: MAGIC,
            version: self.version.into(),
            crc: 0.into(),
            uuid: self.identity.uuid.0,
            compat: self.compat.into(),
            ro_compat: self.ro_compat.into(),
            incompat: self.incompat.into(),
            device_bytes: self.layout.device_bytes.into(),
            segment_bytes: self.layout.segment_bytes.into(),
            node_bytes: self.layout.node_bytes.into(),
            block_bytes: 4096.into(),
            shards: self.layout.shards.into(),
            copy: copy.into(),
            secret: self.identity.secret,
            window_bytes: self.window_bytes.into(),
            reserved: [0; 3992],
        };
        raw.crc = Crc::of(raw.as_bytes()).0.into();
        raw.as_bytes().try_into().expect("a superblock is a block")
    }

    /// Verifies the block of copy `copy`.
    pub fn decode(block: &[u8], copy: u16) -> Result<Self, SuperblockError> {
        let raw = RawSuperblock::read_from_bytes(block).map_err(|_| SuperblockError::NotAStore)?;
        if raw.magic != MAGIC {
            return Err(SuperblockError::NotAStore);
        }
        let mut summed = raw.clone();
        summed.crc = 0.into();
        if Crc::of(summed.as_bytes()).0 != raw.crc.get() && !seabed_types::seeded!(50) {
            return Err(SuperblockError::Damaged("checksum"));
        }
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&raw.version.get()) && !seabed_types::seeded!(62) {
            return Err(SuperblockError::Version(raw.version.get()));
        }
        if raw.incompat.get() & !INCOMPAT_KNOWN != 0 {
            return Err(SuperblockError::UnknownFeatures(raw.incompat.get() & !INCOMPAT_KNOWN));
        }
        if raw.copy.get() != copy {
            return Err(SuperblockError::Damaged("a copy at the wrong place"));
        }
        if raw.block_bytes.get() as usize != BLOCK_BYTES || raw.reserved.iter().any(|byte| *byte != 0) {
            return Err(SuperblockError::Damaged("block size or reserved bytes"));
        }
        let layout = Layout {
            device_bytes: raw.device_bytes.get(),
            segment_bytes: raw.segment_bytes.get(),
            node_bytes: raw.node_bytes.get(),
            shards: raw.shards.get(),
        };
        layout.check()?;
        Ok(Self {
            version: raw.version.get(),
            identity: Identity { uuid: Uuid(raw.uuid), secret: raw.secret },
            compat: raw.compat.get(),
            ro_compat: raw.ro_compat.get(),
            incompat: raw.incompat.get(),
            layout,
            window_bytes: raw.window_bytes.get(),
        })
    }

    /// Device offsets of the four copies, for a device of `device_bytes`.
    pub fn places(device_bytes: u64) -> [u64; 4] {
        let [a, b, c] = Layout::SUPERBLOCKS;
        [a, b, c, device_bytes.saturating_sub(BLOCK_BYTES as u64)]
    }

    /// Of the valid copies the one that most others agree with, the first of those: where the write of a copy was lost, a
    /// valid one of an older store may stand. `blocks` gives what could be read of each; the error is that of the copy
    /// that says most (a newer version or unknown features rather than "not a store").
    pub fn choose(blocks: [Option<&[u8]>; 4]) -> Result<Self, SuperblockError> {
        let mut worst = SuperblockError::NotAStore;
        let mut valid: Vec<Self> = Vec::with_capacity(blocks.len());
        for (copy, block) in (0..).zip(blocks) {
            match block.map(|block| Self::decode(block, copy)) {
                Some(Ok(superblock)) => valid.push(superblock),
                None | Some(Err(SuperblockError::NotAStore)) => {}
                Some(Err(SuperblockError::Damaged(_))) if worst != SuperblockError::NotAStore => {}
                Some(Err(error)) => worst = error,
            }
        }
        let counts = !seabed_types::seeded!(50) && !seabed_types::seeded!(53);
        let agreeing = |one: &Self| valid.iter().filter(|other| *other == one && counts).count();
        // Of several with the same count the last one counts as the largest, so from the end.
        valid.iter().rev().max_by_key(|one| agreeing(one)).copied().ok_or(worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            version: FORMAT_VERSION,
            identity: Identity { uuid: Uuid([7; 16]), secret: [9; 16] },
            compat: 1,
            ro_compat: 2,
            incompat: 0,
            layout: Layout { device_bytes: 3 << 20, segment_bytes: 64 << 10, node_bytes: 4096, shards: 1 },
            window_bytes: 256 << 10,
        }
    }

    #[test]
    fn the_format_is_as_documented() {
        documented!(
            RawSuperblock,
            [
                magic,
                version,
                crc,
                uuid,
                compat,
                ro_compat,
                incompat,
                device_bytes,
                segment_bytes,
                node_bytes,
                block_bytes,
                shards,
                copy,
                secret,
                window_bytes,
                reserved
            ]
        );
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let block = superblock().encode(2);
        assert_eq!(Superblock::decode(&block, 2), Ok(superblock()));
        for at in 0..block.len() {
            let mut bad = block;
            bad[at] ^= 0x40;
            assert!(Superblock::decode(&bad, 2).is_err(), "byte {at}");
        }
        assert!(Superblock::decode(&block, 1).is_err(), "a copy at another's place");
        assert!(Superblock::decode(&block[..100], 2).is_err());
    }

    #[test]
    fn any_one_copy_is_enough() {
        let copies: Vec<_> = (0..4).map(|copy| superblock().encode(copy)).collect();
        for only in 0..4 {
            let blocks = std::array::from_fn(|i| (i == only).then_some(&copies[i][..]));
            assert_eq!(Superblock::choose(blocks), Ok(superblock()));
        }
        assert_eq!(Superblock::choose([None; 4]), Err(SuperblockError::NotAStore));
    }

    /// A store was made where another one had been, and the write of the first copy was lost: the old store's superblock
    /// was chosen, whose slots were gone, so a sound store did not open.
    #[test]
    fn a_copy_of_an_older_store_is_outvoted() {
        let older =
            Superblock { identity: Identity { uuid: Uuid([1; 16]), secret: [2; 16] }, ..superblock() };
        for lost in 0..4u16 {
            let copies: Vec<_> =
                (0..4).map(|copy| if copy == lost { older } else { superblock() }.encode(copy)).collect();
            let blocks = std::array::from_fn(|copy| Some(&copies[copy][..]));
            assert_eq!(Superblock::choose(blocks), Ok(superblock()), "copy {lost} is old");
        }
        let copies = [older.encode(0), superblock().encode(1)];
        assert_eq!(
            Superblock::choose([Some(&copies[0]), Some(&copies[1]), None, None]),
            Ok(older),
            "the first of two"
        );
    }

    #[test]
    fn what_it_cannot_read_is_named() {
        let newer = Superblock { incompat: 1 << 40, ..superblock() }.encode(0);
        assert_eq!(
            Superblock::choose([Some(&newer), None, None, None]),
            Err(SuperblockError::UnknownFeatures(1 << 40))
        );
        let mut other = RawSuperblock::read_from_bytes(&superblock().encode(0)).expect("a block");
        other.version = 9.into();
        other.crc = 0.into();
        other.crc = Crc::of(other.as_bytes()).0.into();
        assert_eq!(Superblock::decode(other.as_bytes(), 0), Err(SuperblockError::Version(9)));
    }
}
