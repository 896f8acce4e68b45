//! An independent checker and dumper of store images.
//!
//! [`check()`] walks an image from its superblock to its last byte that counts, by its own code: it shares decoders with the
//! engine, but nothing that scans the log, keeps counts, caches nodes or frees space. Whatever the engine keeps a sum of
//! is added up anew. [`dump`] shows what stands where, in words.
//!
//! What a valid store is, in the order of the walk; each part's module says more:
//! 1. Four equal superblock copies; per shard two valid slots, equal or neighbours, or one that a cut tore; of each body two equal copies in
//!    different segments (`front`).
//! 2. A journal without damage from P to its end, behind E, whose entries say what is possible (`log`).
//! 3. Trees whose nodes are where and what the pointers say (`tree`); rows, published ones changed by the window's deltas,
//!    that decode (`rows`), agree with one another, and add up to the tally of their collection (`collection`).
//! 4. Live bytes per segment: the pieces of all rows, and a node's bytes for each image below the roots of the body
//!    (`walk`). Each piece is what its row says.
//! 5. Live things apart from one another, in segments that were claimed, listed in inventories and records (`segments`).
//! 6. All of this from the older slot alone too, and the same rows.
//!
//! A check writes nothing, nothing panics whatever the bytes are, and memory is bounded: the window's deltas, one path per
//! tree, the objects of one hash, a list of live things within a budget, a bounded number of findings.
//!
//! Cost: each node and each live piece is read once (nodes again for each further range of segments that the budget asks
//! for, and for an older slot), the windows once, segments with live bytes once more if records are scanned.
//!
//! [`mod@repair`] writes, and only it does. Not here: replay as a mount does it: journal/ and engine/.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod bodies;
mod collection;
pub mod dump;
mod front;
mod image;
mod log;
mod medium;
mod names;
mod pools;
mod records;
pub mod repair;
mod report;
mod rows;
pub mod salvage;
pub mod scrub;
mod segments;
mod things;
mod torn;
mod tree;
mod violation;
mod walk;

pub use image::Image;
pub use medium::Medium;
pub use report::{CollectionReport, Counts, Note, Report, SegmentCounts, ShardReport, Torn};
pub use violation::{
    BodyFault, CountedPart, InventoryFault, Kind, ListedBy, NodeFault, PartFault, PieceFault, RecordFault,
    Row, Violation,
};

use std::io::ErrorKind;

pub use seabed_journal::CollectionId;
use seabed_segment::{Superblock, SuperblockError};

/// What to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Read every live piece and verify it.
    pub data: bool,
    /// Scan the records of segments that have an inventory too.
    pub records: bool,
    /// Check the state that a mount would find from the older slot of a shard alone.
    pub older_slots: bool,
    /// Bytes of memory for the list of live things; more of them cost further walks of the trees.
    pub memory_bytes: usize,
    /// How many violations, and how many notes, are kept.
    pub findings_max: usize,
}

impl Default for Options {
    /// All there is to check, with 256 MiB for the list of live things.
    fn default() -> Self {
        Self { data: true, records: true, older_slots: true, memory_bytes: 256 << 20, findings_max: 1000 }
    }
}

/// How far a check is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// How many it has done: journals, rows or segments.
    pub done: u64,
    /// Of how many, if that is known.
    pub of: Option<u64>,
}

/// What a check does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Reads the journals' windows.
    Journal,
    /// Walks rows.
    Rows,
    /// Looks at segments.
    Segments,
}

/// Why there is nothing to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// No superblock copy is one of a store that this program can read.
    #[error(transparent)]
    Superblock(SuperblockError),
    /// No superblock copy can be read.
    #[error("no superblock can be read: {0}")]
    Unreadable(ErrorKind),
}

/// The superblock of the store in `image`, from any valid copy.
///
/// Errors: there is none that this program knows.
pub fn superblock(image: &dyn Image) -> Result<Superblock, CheckError> {
    front::superblock(image, &mut report::Findings::new(0))
}

/// Checks the store in `image`, which nobody may be using.
///
/// Errors: there is no store in it that this program knows. Whatever else is wrong is in the report.
pub fn check(image: &dyn Image, options: &Options) -> Result<Report, CheckError> {
    walk::check(image, options, &mut |_| {})
}

/// As [`check()`], calling `progress` from time to time.
pub fn check_with(
    image: &dyn Image,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, CheckError> {
    walk::check(image, options, progress)
}
