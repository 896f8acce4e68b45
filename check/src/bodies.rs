//! Bodies: in which use of its segment a part of a checkpoint body stands.
//!
//! A slot names the parts of its body by address, length and checksum, which is all that a mount needs, so that nothing
//! waits for their segments' claims and headers: a mount that trims claims segments for the body and logs nothing, a claim
//! that is logged stands behind the checkpoint's end and may be in a record that a crash took, and the header is written
//! cached. The rule that is left:
//! 1. A record of the segment lists the part, or the inventory does. The record's use of the segment is the part's.
//! 2. That is the use that is claimed, or a later one that nothing claims (any more), which is a note. Of an earlier one the
//!    segment was taken away while a slot needed it.
//! 3. In the claimed use the part is listed as all else is. Of a later one nothing else can be needed, neither by rows nor
//!    by a window, and header, seal and inventory may be of either use: they say nothing.
//!
//! Cost: the segment is read once.

use seabed_segment::ListedWhat;
use seabed_types::{Incarnation, SegmentId};

use crate::image::Source;
use crate::records::{self, Wanted};
use crate::things::{Thing, What};

/// The uses of a segment that parts of bodies stand in.
#[derive(Default)]
pub(crate) struct BodyUses {
    /// Parts with the use of the record that lists them; none if no record does.
    pub(crate) parts: Vec<(Thing, Option<Incarnation>)>,
}

impl BodyUses {
    /// Looks for the records that list the parts among `things`.
    pub(crate) fn find(source: &Source<'_>, segment: SegmentId, things: &[Thing]) -> Self {
        let is_part = |thing: &&Thing| matches!(thing.what, What::Body(..));
        let mut parts: Vec<_> = things.iter().filter(is_part).map(|thing| (thing.clone(), None)).collect();
        if parts.is_empty() {
            return Self::default();
        }
        let wanted = Wanted { segment, incarnation: None, header_crc: None };
        // A block that cannot be read lists nothing.
        let _ = records::scan(source, wanted, |taken| {
            let incarnation = taken.header.place.incarnation;
            for listed in records::contents(&taken.header, &taken.entries).unwrap_or_default() {
                let ListedWhat::Body { lsn, index } = listed.what else { continue };
                let what = What::Body(lsn, index);
                let thing = Thing { offset: listed.offset, bytes: listed.bytes, what };
                for (_, found) in parts.iter_mut().filter(|(part, _)| *part == thing) {
                    *found = (*found).max(Some(incarnation));
                }
            }
        });
        Self { parts }
    }

    /// The parts that stand in use `claimed`.
    pub(crate) fn of_use(&self, claimed: Incarnation) -> impl Iterator<Item = &Thing> {
        self.parts.iter().filter(move |(_, found)| *found == Some(claimed)).map(|(part, _)| part)
    }

    /// The newest use, if it is a later one than `claimed`.
    pub(crate) fn later_than(&self, claimed: Incarnation) -> Option<Incarnation> {
        self.parts.iter().filter_map(|(_, found)| *found).filter(|found| *found > claimed).max()
    }

    /// The oldest use, if it is an earlier one than `claimed`.
    pub(crate) fn earlier_than(&self, claimed: Incarnation) -> Option<Incarnation> {
        self.parts.iter().filter_map(|(_, found)| *found).filter(|found| *found < claimed).min()
    }

    /// The parts that no record lists; an inventory may.
    pub(crate) fn unlisted(&self) -> impl Iterator<Item = &Thing> {
        self.parts.iter().filter(|(_, found)| found.is_none()).map(|(part, _)| part)
    }
}
