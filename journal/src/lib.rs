//! The journal of a shard: what its records say, how they are committed, and how a mount reads them again.
//!
//! - [`entry`]: what a record says besides its data: deltas of rows, changes of counts, claims of segments.
//! - [`Journal`]: the open batch and group commit, one record in flight.
//! - [`Body`] and [`Slot`]: the durable state from which a replay starts, and the two blocks that point to it.
//! - [`scan`]: reads the window and decides where the log ends.
//!
//! Keys and values are bytes here; what they mean is the object crate's.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod body;
mod commit;
mod end;
pub mod entry;
#[cfg(test)]
mod format_doc;
mod scan;
mod slot;
mod state;

pub use body::{Body, CollectionState, JournalSegment, Roots, SegmentState};
pub use commit::{
    FenceCause, Joined, Journal, JournalError, JournalStart, LogCut, Need, Place, Settled, Space,
};
pub use end::{Evidence, Found, Verdict, verdict};
pub use entry::{ChangeRef, DeltaRef, EntryRef};
pub use scan::{Begin, ScanEnd, ScanError, Torn, Visit, scan};
pub use slot::{BodyPart, CUTS_MAX, Cut, FIRST_VERSION_DURABLE, PARTS_MAX, Slot, cuts_from, cuts_of_window};
pub use state::{CollectionId, Tally};
