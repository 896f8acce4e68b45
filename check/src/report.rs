//! Report: what a check found, what it counted, and what it noticed that is no violation.
//!
//! Limits: [`crate::Options::findings_max`] violations and as many notes are kept, the rest is only counted, so that a
//! hostile image cannot fill the memory.

use std::fmt;

use seabed_journal::{CollectionId, Tally};
use seabed_segment::{SlotCopy, Superblock};
use seabed_types::{Epoch, Lsn, Paddr, SegmentId, ShardId, Term};

use crate::Violation;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The superblock that was used.
    pub superblock: Superblock,
    /// What is wrong, in the order of the walk.
    pub violations: Vec<Violation>,
    /// Violations beyond those that are kept.
    pub violations_left_out: u64,
    /// What a crash may leave and a mount can handle.
    pub notes: Vec<Note>,
    /// Notes beyond those that are kept.
    pub notes_left_out: u64,
    /// How much there is.
    pub counts: Counts,
    /// The shards, those without a checkpoint left out.
    pub shards: Vec<ShardReport>,
    /// The collections of all shards.
    pub collections: Vec<CollectionReport>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.violations_left_out == 0
    }
}

/// How much there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Objects.
    pub objects: u64,
    /// Rows of all trees.
    pub rows: u64,
    /// Rows that the journal's window changes.
    pub pending: u64,
    /// Pieces that rows point to, neighbouring chunks of a row counted as one.
    pub pieces: u64,
    /// Their bytes.
    pub piece_bytes: u64,
    /// Tree nodes.
    pub nodes: u64,
    /// Records in the journals' windows.
    pub records: u64,
    /// Bytes whose checksum was computed: bodies, records of the windows, nodes, pieces.
    pub bytes_verified: u64,
    /// Segments.
    pub segments: SegmentCounts,
}

/// Segments by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentCounts {
    /// Claimed for a journal.
    pub journal: u64,
    /// Claimed for bulk data.
    pub bulk: u64,
    /// Claimed for tree nodes.
    pub nodes: u64,
    /// Never claimed.
    pub unclaimed: u64,
    /// Of the claimed ones, those with live bytes.
    pub live: u64,
    /// Of the claimed ones, those with a seal of their incarnation.
    pub sealed: u64,
}

/// A shard's log and checkpoint.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Which.
    pub shard: ShardId,
    /// The slot that was used.
    pub slot: SlotCopy,
    /// Its epoch.
    pub epoch: Epoch,
    /// P: where the window begins.
    pub start: Lsn,
    /// E: the checkpoint's moment.
    pub checkpoint: Lsn,
    /// The lsn that the next record gets.
    pub end: Lsn,
    /// Where it goes, if it fits there.
    pub end_at: Paddr,
    /// What stood there and is cut off, if anything did.
    pub torn: Option<Torn>,
    /// Whether the log was read to its end: else its collections were not checked.
    pub whole: bool,
}

/// A record at the end of the log that did not get there whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Torn {
    /// Where.
    pub at: Paddr,
    /// Which record it would have been.
    pub lsn: Lsn,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What a collection holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CollectionReport {
    /// Which.
    pub collection: CollectionId,
    /// On which shard.
    pub shard: ShardId,
    /// Its term.
    pub term: Term,
    /// Its id counter.
    pub next_id: u64,
    /// What its rows add up to.
    pub usage: Tally,
    /// Whether all its rows could be read.
    pub whole: bool,
}

/// What a crash may leave and a mount can handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Note {
    /// A store that was formatted and never mounted for writing lacks a copy of its superblock: the format was cut off.
    SuperblockMissing {
        /// Which, 0..=3.
        copy: u16,
    },
    /// The write of a slot was cut off; the other one opens the store.
    TornSlot {
        /// Whose.
        shard: ShardId,
        /// Which.
        which: SlotCopy,
    },
    /// The slots are those of two neighbouring writes of the pair.
    SlotsDiffer {
        /// Whose.
        shard: ShardId,
    },
    /// The log ends in a torn record.
    TornEnd {
        /// Whose.
        shard: ShardId,
        /// Where and which.
        torn: Torn,
    },
    /// The data of a record in the window is not what it was. Whether that matters the rows tell.
    RecordData {
        /// Whose.
        shard: ShardId,
        /// Which record.
        lsn: Lsn,
        /// Where.
        at: Paddr,
    },
    /// The header of a claimed segment is not there.
    HeaderLost {
        /// Which.
        segment: SegmentId,
    },
    /// A segment that nobody needs was written to under a claim that the log does not have (any more).
    ClaimLost {
        /// Which.
        segment: SegmentId,
    },
    /// The seal of a segment is there, its inventory is not.
    InventoryLost {
        /// Which.
        segment: SegmentId,
    },
    /// What lies at the offset is in the inventory; the record that was there is not sound any more.
    RecordLost {
        /// Which.
        segment: SegmentId,
        /// Where the live bytes begin.
        offset: u32,
    },
    /// A segment with live bytes has no seal; its records tell what it holds.
    Unsealed {
        /// Which.
        segment: SegmentId,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuperblockMissing { copy } => {
                write!(
                    f,
                    "superblock copy {copy} was never written: the format was cut off; a mount completes it"
                )
            }
            Self::TornSlot { shard, which } => {
                write!(
                    f,
                    "shard {shard}, slot {which:?}: its write was cut off; the other slot opens the store"
                )
            }
            Self::SlotsDiffer { shard } => {
                write!(f, "shard {shard}: the slots are of two writes of the pair")
            }
            Self::TornEnd { shard, torn } => {
                write!(f, "shard {shard}: torn end at {}: record {}: {}", torn.at, torn.lsn, torn.what)
            }
            Self::RecordData { shard, lsn, at } => {
                write!(f, "shard {shard}: record {lsn} at {at}: its data has changed")
            }
            Self::HeaderLost { segment } => write!(f, "segment {segment}: no header"),
            Self::ClaimLost { segment } => write!(f, "segment {segment}: was written to without a claim"),
            Self::InventoryLost { segment } => write!(f, "segment {segment}: sealed, no inventory"),
            Self::RecordLost { segment, offset } => {
                write!(
                    f,
                    "segment {segment}: the record of the bytes at {offset:#x} is lost, its inventory is not"
                )
            }
            Self::Unsealed { segment } => write!(f, "segment {segment}: not sealed"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "store {}", self.superblock.identity.uuid)?;
        for shard in &self.shards {
            writeln!(
                f,
                "shard {}: epoch {}, window from {}, checkpoint {}, end {} at {}{}",
                shard.shard,
                shard.epoch,
                shard.start,
                shard.checkpoint,
                shard.end,
                shard.end_at,
                if shard.whole { "" } else { ", not read to its end" },
            )?;
        }
        for collection in &self.collections {
            writeln!(
                f,
                "collection {} on shard {}: {} objects, {} bytes stored, {} allocated, {} of omap, {} of metadata",
                collection.collection,
                collection.shard,
                collection.usage.objects,
                collection.usage.stored,
                collection.usage.allocated,
                collection.usage.omap,
                collection.usage.metadata,
            )?;
        }
        let Counts { objects, rows, pending, pieces, piece_bytes, nodes, records, bytes_verified, segments } =
            self.counts;
        writeln!(f, "{objects} objects, {rows} rows ({pending} pending), {nodes} nodes, {records} records")?;
        writeln!(f, "{pieces} pieces of {piece_bytes} bytes; {bytes_verified} bytes verified")?;
        writeln!(
            f,
            "segments: {} journal, {} bulk, {} nodes, {} never used; {} live, {} sealed",
            segments.journal,
            segments.bulk,
            segments.nodes,
            segments.unclaimed,
            segments.live,
            segments.sealed,
        )?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.notes_left_out > 0 {
            writeln!(f, "and {} more notes", self.notes_left_out)?;
        }
        for violation in &self.violations {
            writeln!(f, "violation: {violation}")?;
        }
        if self.violations_left_out > 0 {
            writeln!(f, "and {} more violations", self.violations_left_out)?;
        }
        f.write_str(if self.is_clean() { "clean" } else { "not clean" })
    }
}

/// Where the walk puts what it finds.
#[derive(Debug)]
pub(crate) struct Findings {
    max: usize,
    pub(crate) violations: Vec<Violation>,
    pub(crate) violations_left_out: u64,
    pub(crate) notes: Vec<Note>,
    pub(crate) notes_left_out: u64,
}

impl Findings {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, violations: Vec::new(), violations_left_out: 0, notes: Vec::new(), notes_left_out: 0 }
    }

    pub(crate) fn violation(&mut self, violation: Violation) {
        if self.violations.len() < self.max {
            self.violations.push(violation);
        } else {
            self.violations_left_out += 1;
        }
    }

    pub(crate) fn note(&mut self, note: Note) {
        if self.notes.len() < self.max {
            self.notes.push(note);
        } else {
            self.notes_left_out += 1;
        }
    }
}
