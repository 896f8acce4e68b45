//! Dump: what stands where in an image, for people and programs.
//!
//! Each function gives plain values with public fields, which a program may turn into whatever form it writes, and whose
//! `Display` is text. Nothing is judged here: what is not valid is shown as far as it goes, with the reason.
//!
//! Cost: [`slots`] reads the bodies, [`segments`] two blocks per segment, [`records`] one segment.
//! Not here: whether it is right ([`crate::check()`]).

mod bodies;
mod nodes;
mod records;
mod segments;
mod superblocks;

pub use bodies::{BodyDump, PartDump, SlotDump, slots};
pub use nodes::{NodeDump, RowDump, node};
pub use records::{EntryDump, RecordDump, records};
pub use segments::{SegmentDump, segments};
pub use superblocks::{SuperblockDump, superblocks};

use crate::front;
use crate::image::Source;
use crate::report::Findings;
use crate::{CheckError, Image};

/// Opens an image by any valid superblock copy.
fn source(image: &dyn Image) -> Result<Source<'_>, CheckError> {
    let superblock = front::superblock(image, &mut Findings::new(0))?;
    Ok(Source::of(image, &superblock))
}
