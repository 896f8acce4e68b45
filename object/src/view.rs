//! View: how this crate sees the rows of a collection and the bytes they point to.
//!
//! The engine implements [`Rows`] over its trees and caches. What is not in memory is [`Stop::Absent`]: the view has
//! noted what to load, and the caller runs the same function again when it is there. Since nothing here has side
//! effects, running again is always right; callers go on after the first absent row, so that one round of loading
//! brings most of what they need.

use std::ops::ControlFlow;

use bytes::Bytes;
use seabed_types::{Crc, Malformed, Paddr, TreeKind};

/// Bytes stored in one place under one checksum: a chunk or a large value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PieceRef {
    /// Where the bytes begin.
    pub at: Paddr,
    /// How many they are.
    pub bytes: u32,
    /// Their checksum.
    pub crc: Crc,
}

/// Which end of an interval is visited first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the smallest key on.
    Forward,
    /// From the largest key down.
    Backward,
}

/// Why a look at the state gave no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stop {
    /// Something is not in memory; the view noted what. Load it and ask again.
    #[error("not in memory")]
    Absent,
    /// What is stored is damaged.
    #[error("corrupt: {what}")]
    Corrupt {
        /// Where; `None` if the bytes verified but a row among them does not decode.
        at: Option<Paddr>,
        /// What is wrong.
        what: &'static str,
    },
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Corrupt { at: None, what: malformed.what }
    }
}

/// What is done with each row, key and value, of a scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The rows of one collection as of now.
pub trait Rows {
    /// The value of one row.
    fn row(&self, tree: TreeKind, key: &[u8]) -> Result<Option<&[u8]>, Stop>;

    /// Visits the rows from `from` (inclusive) to `to` (exclusive; `None`: to the end of the tree) in key order or its
    /// reverse, until `visit` breaks. On an error the rows before the one that could not be had were visited.
    fn rows(
        &self,
        tree: TreeKind,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), Stop>;

    /// The bytes of a stored piece, verified against its checksum.
    fn piece(&self, piece: &PieceRef) -> Result<Bytes, Stop>;
}
