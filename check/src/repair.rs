//! Repair: puts back what a store can be without: whatever it says twice, and whatever follows from the rest.
//!
//! | what is wrong | what is done |
//! |---|---|
//! | a superblock copy | written again from a valid one |
//! | a slot; an older slot that does not open the store | written again from the newest |
//! | a copy of a checkpoint body; live bytes, counts, id counters that are not those of the rows | the same checkpoint once more, corrected, in two free segments |
//! | segments that count live bytes and have none (leaked) | the same: they are free for the next mount |
//! | a segment's header | made again from the claim and the epoch that its records prove |
//! | an inventory or seal | made again from the records and the rows |
//!
//! All of it is tried first: every write goes into a copy of the blocks in memory (`medium`), in rounds, each a
//! check and what follows from it, until the copy checks clean. If it does not get there, nothing is written:
//! [`RepairError::Beyond`] says what is left. Only bytes of objects that rotted do not stand in the way: no repair brings
//! them back, and the store says so itself whenever they are read.
//!
//! Then the same writes and flushes are carried out in the same order, which is the engine's (rule C3): bodies are flushed
//! before a slot names them, one slot is flushed before the other is touched, superblocks go one by one.
//!
//! No log is cut and no part of a tree left out, whatever is wrong, so rule S8 has nothing to forbid after a repair: a
//! damaged journal or a node that is gone is beyond repair, and what is left of such a store is for `salvage`.
//!
//! Invariants: 1. Nothing that a slot, a row or a window needs is written over: bodies go to segments that are free by what
//! the rows say, inventories behind the last record. 2. A repair of what is repaired does nothing.
//! Crash: after any of the writes, in any order within a flush, the store opens as well as before, and another repair
//! carries on. A checkpoint of which no slot is written yet is dead bytes in free segments.
//! Cost: a check of all metadata per round, usually two, and one more in the end.   Limits: the blocks that are written are
//! kept in memory; a repair that needs a checkpoint needs four free segments.

mod checkpoint;
mod front;
mod segments;

use std::io;

use seabed_journal::{CollectionId, Tally};
use seabed_segment::SlotCopy;
use seabed_types::{Lsn, SegmentId, ShardId};

use crate::image::Source;
use crate::medium::{Rehearsal, Step};
use crate::{CheckError, Kind, Medium, Options, Progress, Report, Violation, check_with};

/// Rounds of a rehearsal: superblocks, then slots and bodies, then segments, and what only shows then.
const ROUNDS_MAX: usize = 8;
/// Violations of one round. A store with more is beyond repair.
const FINDINGS_MAX: usize = 1 << 20;

/// One thing that a repair put back.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mended {
    /// A superblock copy.
    Superblock {
        /// Which, 0..=3.
        copy: u16,
    },
    /// A slot, from the other one.
    Slot {
        /// Whose.
        shard: ShardId,
        /// Which.
        which: SlotCopy,
    },
    /// A shard's live bytes in a segment.
    Live {
        /// Whose.
        shard: ShardId,
        /// Of which segment.
        segment: SegmentId,
        /// What was counted.
        counted: i64,
        /// What there is.
        found: i64,
    },
    /// The counts of a collection.
    Tally {
        /// Whose.
        collection: CollectionId,
        /// What was counted.
        counted: Tally,
        /// What there is.
        found: Tally,
    },
    /// The id counter of a collection.
    NextId {
        /// Whose.
        collection: CollectionId,
        /// Where it was.
        counted: u64,
        /// Where it is.
        next_id: u64,
    },
    /// The checkpoint's body was written anew, in these segments, and both slots with it.
    Checkpoint {
        /// Whose.
        shard: ShardId,
        /// Of which moment.
        end: Lsn,
        /// Where its copies are.
        segments: [SegmentId; 2],
    },
    /// A segment's header.
    Header {
        /// Which segment.
        segment: SegmentId,
    },
    /// A segment's inventory and seal.
    Inventory {
        /// Which segment.
        segment: SegmentId,
        /// How much it lists.
        entries: usize,
    },
}

impl std::fmt::Display for Mended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Superblock { copy } => write!(f, "superblock copy {copy} written again"),
            Self::Slot { shard, which } => write!(f, "shard {shard}: slot {which:?} written again"),
            Self::Live { shard, segment, counted, found } => {
                let leaked = if *found == 0 { " (it had leaked)" } else { "" };
                write!(f, "shard {shard}: segment {segment} has {found} live bytes, not {counted}{leaked}")
            }
            Self::Tally { collection, counted, found } => {
                write!(f, "collection {collection} has {found:?}, not {counted:?}")
            }
            Self::NextId { collection, counted, next_id } => {
                write!(f, "collection {collection}: the id counter is at {next_id}, not {counted}")
            }
            Self::Checkpoint { shard, end, segments: [a, b] } => {
                write!(f, "shard {shard}: checkpoint {end} written again, in segments {a} and {b}")
            }
            Self::Header { segment } => write!(f, "segment {segment}: header made again"),
            Self::Inventory { segment, entries } => {
                write!(f, "segment {segment}: inventory of {entries} entries made again")
            }
        }
    }
}

/// What a repair did.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// What was put back, in order.
    pub mended: Vec<Mended>,
    /// What a check says of the store now.
    pub report: Report,
}

/// Why a store was not repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// There is no store.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// More is wrong than can be put back. Nothing was written.
    #[error("{} violations are beyond repair; nothing was written", violations.len())]
    Beyond {
        /// What could not be put back.
        violations: Vec<Violation>,
        /// What a check says of the store as it is.
        report: Box<Report>,
    },
    /// A checkpoint must be written and there are no free segments for it. Nothing was written.
    #[error("{free} segments are free, a checkpoint needs {needed}; nothing was written")]
    NoSpace {
        /// How many there are.
        free: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A write or flush failed. What was written so far does no harm.
    #[error("writing at {at:#x}: {error}")]
    Write {
        /// Where; for a flush where the last write was.
        at: u64,
        /// Why.
        error: io::Error,
    },
}

/// What a round did.
struct Round<'a, 'b> {
    rehearsal: &'b Rehearsal<'a>,
    report: &'b Report,
    mended: &'b mut Vec<Mended>,
}

impl Round<'_, '_> {
    fn source(&self) -> Source<'_> {
        Source::of(self.rehearsal, &self.report.superblock)
    }
}

/// Whether a violation may be left: bytes of an object that no repair can bring back.
fn is_left(violation: &Violation) -> bool {
    matches!(violation.kind(), Kind::PieceChecksum | Kind::PieceUnreadable)
}

/// Repairs the store in `medium`, which nobody may be using.
///
/// Errors: see [`RepairError`]. Whether anything is left is in the report of what it gives.
pub fn repair(
    medium: &dyn Medium,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Repaired, RepairError> {
    let options = Options { findings_max: FINDINGS_MAX, records: true, older_slots: true, ..*options };
    let rehearsal = Rehearsal::new(medium);
    let mut mended = Vec::new();
    front::superblocks(&rehearsal, &mut mended)?;
    // Bytes of objects are read once, at the end: no round depends on them.
    let metadata = Options { data: false, ..options };
    let mut report = check_with(&rehearsal, &metadata, progress)?;
    for _ in 0..ROUNDS_MAX {
        let before = mended.len();
        let mut round = Round { rehearsal: &rehearsal, report: &report, mended: &mut mended };
        round.checkpoints()?;
        round.slots();
        round.segments();
        if mended.len() == before {
            break;
        }
        report = check_with(&rehearsal, &metadata, progress)?;
    }
    if report.violations.iter().any(|violation| !is_left(violation)) || report.violations_left_out > 0 {
        let violations = report.violations.into_iter().filter(|violation| !is_left(violation)).collect();
        let report = Box::new(check_with(medium_image(medium), &metadata, progress)?);
        return Err(RepairError::Beyond { violations, report });
    }
    carry_out(medium, rehearsal.into_steps())?;
    Ok(Repaired { mended, report: check_with(medium_image(medium), &options, progress)? })
}

fn medium_image(medium: &dyn Medium) -> &dyn crate::Image {
    medium
}

fn carry_out(medium: &dyn Medium, steps: Vec<Step>) -> Result<(), RepairError> {
    let mut last = 0;
    for step in steps {
        let done = match step {
            Step::Write(at, bytes) => {
                last = at;
                medium.write(at, &bytes)
            }
            Step::Flush => medium.flush(),
        };
        done.map_err(|error| RepairError::Write { at: last, error })?;
    }
    Ok(())
}
