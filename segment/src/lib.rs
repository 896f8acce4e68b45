//! What every stream of a store is made of: the superblock, the layout, segments, records, inventories.
//!
//! ```text
//! segment = [header block][record][record]...[inventory]...[seal block]
//! record  = [header block: header, then entries up to the block's end][pieces][rest of the entries]
//! ```
//!
//! This crate knows bytes and addresses. What entries of a journal record mean is the journal's, what a piece holds is
//! the object crate's. Nothing here waits: writers fill buffers, and who owns the device writes them.
//!
//! Not here: which segment is free, and when (engine `table`); replay (journal `scan`).
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

#[cfg(test)]
#[macro_use]
mod format_doc;
mod header;
pub mod inventory;
mod layout;
mod open;
mod record;
mod superblock;

pub use header::{SEGMENT_HEADER_BYTES, SealBlock, SegmentHeader};
pub use inventory::{Listed, ListedWhat};
pub use layout::{Layout, LayoutError, SlotCopy};
pub use open::OpenSegment;
pub use record::{
    Placed, RECORD_HEADER_BYTES, RecordBuilder, RecordHeader, RecordPlace, Summing, entries_of,
    entries_of_parts, packed_bytes, record_bytes_of, record_of_piece,
};
pub use superblock::{FORMAT_VERSION, OLDEST_VERSION, Superblock, SuperblockError};

/// What kind of bytes a segment takes. Stored as a byte; 0 is never valid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum StreamKind {
    /// Records with deltas and fresh data; the only stream that is replayed.
    Journal = 1,
    /// Data of large writes, written ahead of the record that refers to it.
    Bulk = 2,
    /// Images of tree nodes and checkpoint bodies.
    Nodes = 3,
}

impl TryFrom<u8> for StreamKind {
    type Error = ();
    fn try_from(byte: u8) -> Result<Self, ()> {
        match byte {
            1 => Ok(Self::Journal),
            2 => Ok(Self::Bulk),
            3 => Ok(Self::Nodes),
            _ => Err(()),
        }
    }
}

impl std::fmt::Display for StreamKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Journal => "journal",
            Self::Bulk => "bulk",
            Self::Nodes => "nodes",
        })
    }
}

/// What makes a header this store's own: its identity and the secret that seeds the checksums of headers, so that an
/// image of a store kept inside the store is never taken for its own headers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub uuid: seabed_types::Uuid,
    /// Seeds the checksum of every header; never leaves the superblock.
    pub secret: [u8; 16],
}

/// Without the secret.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl Identity {
    /// The checksum of a header whose own checksum field is zeroed.
    pub fn header_crc(&self, header: &[u8]) -> seabed_types::Crc {
        seabed_types::Crc::of(&self.secret).append(header)
    }
}
