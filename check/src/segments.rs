//! Segments: what lies in them against who claimed them and what lists it.
//!
//! Every live thing lies in a segment that a checkpoint or a claim in a log names, apart from all others, and is listed
//! where the cleaner looks: in the inventory, or, if a segment has none, in its records. What both list they list alike; that
//! a record's header rotted whose contents the inventory knows is a note. A segment that is needed was not
//! claimed again. Where parts of checkpoint bodies may stand besides is said in `bodies`. Headers, seals and inventories are written without anybody waiting for them, so that one is missing or
//! of an older incarnation is a note; that a sound one lacks something is a violation.
//!
//! Cost: two blocks per claimed segment; of those with live things the inventory, and all of it if records are scanned.
//! Memory: the lists of one segment.

use std::collections::BTreeMap;

use seabed_segment::{Listed, ListedWhat, SEGMENT_HEADER_BYTES, SealBlock, SegmentHeader, StreamKind};
use seabed_types::{BLOCK_BYTES, Crc, Incarnation, Paddr, SegmentId};

use crate::bodies::BodyUses;
use crate::image::Source;
use crate::log::Claim;
use crate::records::{self, Wanted};
use crate::report::{Findings, SegmentCounts};
use crate::things::{Thing, What, row_hash};
use crate::violation::{InventoryFault, ListedBy};
use crate::{Note, Violation};

/// What all segments are checked against.
pub(crate) struct Segments<'a, 'b> {
    pub(crate) source: &'b Source<'a>,
    pub(crate) claims: &'b BTreeMap<SegmentId, Claim>,
    /// Segments of the journals' windows.
    pub(crate) windows: &'b BTreeMap<SegmentId, Incarnation>,
    /// Whether the records of segments that have an inventory are scanned too.
    pub(crate) scan_records: bool,
}

/// A list of what a segment holds, as far as it helps to find things.
#[derive(Default)]
struct List {
    /// Intervals by the hash of the row's key.
    pieces: BTreeMap<u64, Vec<(u32, u64)>>,
    /// By offset.
    others: BTreeMap<u32, Vec<Listed>>,
}

impl List {
    fn new(all: Vec<Listed>) -> Self {
        let mut list = Self::default();
        for listed in all {
            match &listed.what {
                ListedWhat::Piece { pool, key } => {
                    let end = u64::from(listed.offset) + u64::from(listed.bytes);
                    list.pieces.entry(row_hash(*pool, key)).or_default().push((listed.offset, end));
                }
                ListedWhat::Image { .. } | ListedWhat::Body { .. } => {
                    list.others.entry(listed.offset).or_default().push(listed);
                }
            }
        }
        for intervals in list.pieces.values_mut() {
            intervals.sort_unstable();
        }
        list
    }

    fn has(&self, thing: &Thing) -> bool {
        if let What::Piece(hash) = thing.what {
            // Neighbouring pieces of a row may have been listed one by one.
            let mut reached = u64::from(thing.offset);
            for (start, end) in self.pieces.get(&hash).into_iter().flatten() {
                if u64::from(*start) <= reached {
                    reached = reached.max(*end);
                }
            }
            return reached >= thing.end();
        }
        let at = self.others.get(&thing.offset).into_iter().flatten();
        at.filter(|listed| listed.bytes == thing.bytes).any(|listed| is_same(&listed.what, &thing.what))
    }
}

fn is_same(listed: &ListedWhat, what: &What) -> bool {
    match (listed, what) {
        (ListedWhat::Image { pool, tree, level, first_key }, What::Image(image)) => {
            (*pool, *tree, *level) == (image.pool, image.tree, image.level)
                && *first_key >= image.lower
                && image.upper.as_ref().is_none_or(|upper| first_key < upper)
        }
        (ListedWhat::Body { lsn, index }, What::Body(end, part)) => (lsn, index) == (end, part),
        _ => false,
    }
}

/// What header and seal of a segment say.
struct Ends {
    header: Option<(SegmentHeader, Crc)>,
    seal: Option<SealBlock>,
    /// A later use than the claimed one, in which a part of a body stands.
    later: Option<Incarnation>,
}

impl Segments<'_, '_> {
    /// Checks one segment, whose live things are given by address.
    pub(crate) fn check(
        &self,
        segment: SegmentId,
        things: &[Thing],
        findings: &mut Findings,
        counts: &mut SegmentCounts,
    ) {
        check_overlaps(segment, things, findings);
        let parts = BodyUses::find(self.source, segment, things);
        let mut needed: Vec<Thing> =
            things.iter().filter(|thing| !matches!(thing.what, What::Body(..))).cloned().collect();
        let rows_need = needed.len();
        let Some(claim) = self.claims.get(&segment).copied() else {
            if rows_need > 0 {
                findings.violation(Violation::Unclaimed { segment, things: rows_need });
            } else {
                findings.note(Note::ClaimLost { segment });
            }
            for part in parts.unlisted() {
                report_not_listed(segment, part, ListedBy::Records, findings);
            }
            return;
        };
        match claim.stream {
            StreamKind::Journal => counts.journal += 1,
            StreamKind::Bulk => counts.bulk += 1,
            StreamKind::Nodes => counts.nodes += 1,
        }
        counts.live += u64::from(!things.is_empty());
        let (header, seal) = ends(self.source, segment);
        let mut ends = Ends { header, seal, later: parts.later_than(claim.incarnation) };
        needed.extend(parts.of_use(claim.incarnation).cloned());
        let is_needed = !needed.is_empty() || self.windows.contains_key(&segment);
        needed.extend(parts.unlisted().cloned());
        if let Some(claimed) = parts.earlier_than(claim.incarnation) {
            findings.violation(Violation::SegmentReused { segment, claimed, found: claim.incarnation });
        }
        let is_claimed = check_ends(claim, &mut ends, segment, is_needed, findings);
        counts.sealed += u64::from(ends.seal.is_some());
        if !is_claimed {
            report_missing(segment, &needed, &List::default(), ListedBy::Records, findings);
        } else if !needed.is_empty() {
            self.check_listed(claim, &ends, segment, &needed, findings);
        }
    }

    fn check_listed(
        &self,
        claim: Claim,
        ends: &Ends,
        segment: SegmentId,
        things: &[Thing],
        findings: &mut Findings,
    ) {
        let inventory = ends.seal.and_then(|seal| self.inventory(&seal, findings));
        if ends.seal.is_none() {
            findings.note(Note::Unsealed { segment });
        }
        let has_inventory = inventory.is_some();
        if let Some(all) = inventory {
            report_missing(segment, things, &List::new(all), ListedBy::Inventory, findings);
        }
        if !has_inventory || self.scan_records {
            let wanted = Wanted {
                segment,
                incarnation: Some(claim.incarnation),
                header_crc: ends.header.map(|(_, crc)| crc),
            };
            let mut all = Vec::new();
            let mut records = Vec::new();
            // A block that cannot be read holds no record.
            let _ = records::scan(self.source, wanted, |taken| {
                records.push(taken.header.at.offset..taken.header.end());
                // What does not decode lists nothing; what it held is missing then.
                all.extend(records::contents(&taken.header, &taken.entries).unwrap_or_default());
            });
            let list = List::new(all);
            let missing = things.iter().filter(|thing| !list.has(thing));
            for thing in missing {
                let is_in_record = records.iter().any(|record| record.contains(&thing.offset));
                if has_inventory && !is_in_record {
                    findings.note(Note::RecordLost { segment, offset: thing.offset });
                } else {
                    report_not_listed(segment, thing, ListedBy::Records, findings);
                }
            }
        }
    }

    /// The inventory that a seal names, if it is there.
    fn inventory(&self, seal: &SealBlock, findings: &mut Findings) -> Option<Vec<Listed>> {
        let segment = seal.segment;
        let at = Paddr::new(segment, seal.inventory_offset);
        let read = self.source.read(at, seal.inventory_bytes as usize).ok();
        let Some(bytes) = read.filter(|bytes| Crc::of(bytes) == seal.inventory_crc) else {
            findings.note(Note::InventoryLost { segment });
            return None;
        };
        match Listed::decode_all(&bytes) {
            Ok(all) => {
                if all.len() != seal.inventory_count as usize {
                    findings.violation(Violation::Inventory { segment, fault: InventoryFault::Count });
                }
                let is_before = |listed: &Listed| {
                    let end = u64::from(listed.offset) + u64::from(listed.bytes);
                    listed.offset >= SEGMENT_HEADER_BYTES && end <= u64::from(seal.inventory_offset)
                };
                if !all.iter().all(is_before) {
                    findings.violation(Violation::Inventory { segment, fault: InventoryFault::Outside });
                }
                Some(all)
            }
            Err(malformed) => {
                let fault = InventoryFault::Malformed(malformed.what);
                findings.violation(Violation::Inventory { segment, fault });
                None
            }
        }
    }
}

/// The header, with its checksum, and the seal of a segment, whatever incarnation they are of.
pub(crate) fn ends(
    source: &Source<'_>,
    segment: SegmentId,
) -> (Option<(SegmentHeader, Crc)>, Option<SealBlock>) {
    let Source { identity, layout, .. } = source;
    let last = layout.segment_bytes - SEGMENT_HEADER_BYTES;
    let block = |offset| source.read(Paddr::new(segment, offset), BLOCK_BYTES).ok();
    let header = block(0).and_then(|block| SegmentHeader::decode(&block, identity, segment).ok());
    let seal =
        block(last).and_then(|block| SealBlock::decode(&block, identity, segment, layout.segment_bytes).ok());
    (header, seal)
}

fn check_overlaps(segment: SegmentId, things: &[Thing], findings: &mut Findings) {
    let mut end = u64::from(SEGMENT_HEADER_BYTES);
    for thing in things {
        if u64::from(thing.offset) < end {
            let end = u32::try_from(end).unwrap_or(u32::MAX);
            findings.violation(Violation::Overlap { segment, offset: thing.offset, end });
        }
        end = end.max(thing.end());
    }
}

/// Compares header and seal with the claim; takes those of another incarnation out. False: the segment was claimed again, and
/// nothing is known of that.
fn check_ends(
    claim: Claim,
    ends: &mut Ends,
    segment: SegmentId,
    is_needed: bool,
    findings: &mut Findings,
) -> bool {
    let claimed = claim.incarnation;
    let header = ends.header.map(|(header, _)| header.incarnation);
    let seal = ends.seal.map(|seal| seal.incarnation);
    if let Some(found) = header.max(seal).max(ends.later).filter(|found| *found > claimed) {
        if is_needed {
            findings.violation(Violation::SegmentReused { segment, claimed, found });
        } else {
            findings.note(Note::ClaimLost { segment });
            return false;
        }
    } else if header != Some(claimed) {
        findings.note(Note::HeaderLost { segment });
    }
    ends.header.take_if(|(header, _)| header.incarnation != claimed);
    ends.seal.take_if(|seal| seal.incarnation != claimed);
    if ends.header.is_some_and(|(header, _)| (header.stream, header.shard) != (claim.stream, claim.shard)) {
        findings.violation(Violation::SegmentHeader { segment });
    }
    true
}

fn report_missing(segment: SegmentId, things: &[Thing], list: &List, by: ListedBy, findings: &mut Findings) {
    for thing in things.iter().filter(|thing| !list.has(thing)) {
        report_not_listed(segment, thing, by, findings);
    }
}

fn report_not_listed(segment: SegmentId, thing: &Thing, by: ListedBy, findings: &mut Findings) {
    let Thing { offset, bytes, .. } = *thing;
    findings.violation(Violation::NotListed { segment, offset, bytes, by });
}
