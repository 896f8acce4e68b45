//! The small words of Seabed as types: addresses, numbers, checksums, byte cursors.
//!
//! Everything here is a value without I/O and without state, but for [`mod@seeded`], [`mod@reached`] and [`work`], which exist in
//! programs of tests only; all other crates may use it and it uses none of them. `docs/GLOSSARY.md` has the words.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod address;
pub mod checksum;
mod cursor;
mod numbers;
pub mod reached;
pub mod seeded;
pub mod work;

pub use address::{NodePtr, Paddr, SegmentId};
pub use checksum::Crc;
pub use cursor::{Cursor, Malformed, put_bytes, put_signed, put_varint};
pub use numbers::{Epoch, Incarnation, Lsn, PoolId, ShardId, Term, TreeKind, Uuid};

/// The unit of device I/O and of alignment, in bytes.
pub const BLOCK_BYTES: usize = 4096;

/// The unit of an object's bytes that has a checksum of its own, in bytes.
pub const CHUNK_BYTES: usize = 4096;

/// `bytes` rounded up to whole blocks.
pub const fn round_up_to_block(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}
