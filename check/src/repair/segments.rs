//! Segments: headers, inventories and seals, made again from claims, records and rows.
//!
//! A header says what the claim says, and the epoch in which the segment was claimed, which the first record tells, or the
//! header that contradicts the claim. Records
//! of other streams than the journal carry the header's checksum, so a header that is made again is the one that was there;
//! if it comes out otherwise, it is not written.
//!
//! An inventory is what the records list, and what rows and roots need that no record lists any more. It goes behind the last
//! record and the last live byte, the seal into the last block, where nothing else can be. It is made for segments that
//! have one that is not sound or lacks something; a segment without a seal is as good (a mount seals none that it finds).
//! Segments in which the log goes on, and those in which a body stands in a use that nothing claims, are left alone.
//!
//! Crash: an inventory without its seal, or half of one, is none: the records tell.
#![expect(clippy::wildcard_enum_match_arm, reason = "a repair names what it has a remedy for")]

use std::collections::{BTreeMap, BTreeSet};

use seabed_segment::{Listed, ListedWhat, SEGMENT_HEADER_BYTES, SealBlock, SegmentHeader, StreamKind};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Lsn, Paddr, SegmentId, ShardId, round_up_to_block};

use super::{Mended, Round};
use crate::front;
use crate::image::Source;
use crate::log::{self, Claim};
use crate::records::{self, Wanted};
use crate::report::{Counts, Findings};
use crate::segments::ends;
use crate::{Note, Violation, walk};

impl Round<'_, '_> {
    /// Makes headers and inventories again.
    pub(super) fn segments(&mut self) {
        let mut headers = BTreeSet::new();
        let mut inventories = BTreeSet::new();
        let mut lost_claims = BTreeSet::new();
        for violation in &self.report.violations {
            match violation {
                Violation::SegmentHeader { segment } => drop(headers.insert(*segment)),
                // What the records list no more the rows know.
                Violation::Inventory { segment, .. } | Violation::NotListed { segment, .. } => {
                    inventories.insert(*segment);
                }
                _ => {}
            }
        }
        for note in &self.report.notes {
            match note {
                Note::HeaderLost { segment } => drop(headers.insert(*segment)),
                Note::InventoryLost { segment } => drop(inventories.insert(*segment)),
                Note::ClaimLost { segment } => drop(lost_claims.insert(*segment)),
                Note::Unsealed { segment } if self.has_rotten_seal(*segment) => {
                    inventories.insert(*segment);
                }
                _ => {}
            }
        }
        headers.retain(|segment| !lost_claims.contains(segment));
        inventories.retain(|segment| !lost_claims.contains(segment));
        if headers.is_empty() && inventories.is_empty() {
            return;
        }
        let (claims, lists) = self.claims_and_lists(&mut inventories);
        for segment in headers {
            if let Some(claim) = claims.get(&segment) {
                self.header(segment, *claim);
            }
        }
        for (segment, live) in lists {
            if let Some(claim) = claims.get(&segment) {
                self.inventory(segment, *claim, live);
            }
        }
    }

    /// Whether something stands where the seal would be that is none of any use.
    fn has_rotten_seal(&self, segment: SegmentId) -> bool {
        let source = self.source();
        let at = Paddr::new(segment, source.layout.segment_bytes - SEGMENT_HEADER_BYTES);
        let is_empty = source.read(at, BLOCK_BYTES).is_ok_and(|block| block.iter().all(|byte| *byte == 0));
        !is_empty && ends(&source, segment).1.is_none()
    }

    /// Who claims what, and what lives in `wanted`, from which segments are taken in which the log goes on.
    fn claims_and_lists(
        &self,
        wanted: &mut BTreeSet<SegmentId>,
    ) -> (BTreeMap<SegmentId, Claim>, BTreeMap<SegmentId, Vec<Listed>>) {
        let source = self.source();
        let (mut findings, mut counts) = (Findings::new(0), Counts::default());
        let mut logs = Vec::new();
        let mut claims: BTreeMap<SegmentId, Claim> = BTreeMap::new();
        for shard in (0..source.layout.shards).map(ShardId) {
            let front = front::front(&source, shard, &mut findings, &mut counts);
            let Some(base) = &front.base else { continue };
            let log = log::read(&source, base, &mut findings, &mut counts);
            wanted.remove(&log.end_at.segment);
            if let Some((segment, _)) = log.next {
                wanted.remove(&segment);
            }
            for (segment, claim) in &log.claims {
                let known = claims.entry(*segment).or_insert(*claim);
                if known.incarnation < claim.incarnation {
                    *known = *claim;
                }
            }
            logs.push((front, log));
        }
        let mut lists: BTreeMap<SegmentId, Vec<Listed>> =
            wanted.iter().map(|segment| (*segment, Vec::new())).collect();
        for (front, log) in &logs {
            let Some(base) = &front.base else { continue };
            for (segment, live) in walk::live_lists(&source, base, log, wanted.iter().copied()) {
                lists.entry(segment).or_default().extend(live);
            }
            for (part, end, index) in &front.parts {
                if let Some(list) = lists.get_mut(&part.at.segment) {
                    let index = u32::try_from(*index).unwrap_or(u32::MAX);
                    let what = ListedWhat::Body { lsn: *end, index };
                    list.push(Listed { offset: part.at.offset, bytes: part.bytes, what });
                }
            }
        }
        (claims, lists)
    }

    fn header(&mut self, segment: SegmentId, claim: Claim) {
        let source = self.source();
        let wanted = Wanted { segment, incarnation: Some(claim.incarnation), header_crc: None };
        let mut first: Option<(Epoch, Crc)> = None;
        // What cannot be read tells of nothing.
        let _ = records::scan(&source, wanted, |taken| {
            first.get_or_insert((taken.header.place.epoch, taken.header.place.previous));
        });
        // In a segment that was only just claimed there is none, and nothing carries the checksum.
        if first.is_none() {
            let (found, _) = ends(&source, segment);
            first = found.map(|(header, crc)| (header.epoch, crc));
        }
        let Some((epoch, previous)) = first else { return };
        let header = SegmentHeader {
            segment,
            incarnation: claim.incarnation,
            shard: claim.shard,
            stream: claim.stream,
            epoch,
            age: 0,
            first_lsn: Lsn(0),
        };
        let (block, crc) = header.encode(&source.identity);
        let at = source.layout.device_offset(Paddr::new(segment, 0));
        let is_there = source.block(at).is_ok_and(|found| found == block);
        if is_there || (claim.stream != StreamKind::Journal && crc != previous) {
            return;
        }
        self.rehearsal.write(at, &block);
        self.rehearsal.flush();
        self.mended.push(Mended::Header { segment });
    }

    fn inventory(&mut self, segment: SegmentId, claim: Claim, live: Vec<Listed>) {
        let source = self.source();
        let Some((all, end)) = contents(&source, segment, claim, live) else { return };
        let mut bytes = Vec::new();
        for listed in &all {
            listed.encode(&mut bytes);
        }
        let last = source.layout.segment_bytes - SEGMENT_HEADER_BYTES;
        let length = bytes.len();
        if end as usize + round_up_to_block(length) > last as usize {
            return;
        }
        let word = |number: usize| u32::try_from(number).expect("within a segment");
        let seal = SealBlock {
            segment,
            incarnation: claim.incarnation,
            inventory_offset: end,
            inventory_bytes: word(length),
            inventory_crc: Crc::of(&bytes),
            inventory_count: word(all.len()),
        };
        if ends(&source, segment).1 == Some(seal)
            && source.read(Paddr::new(segment, end), length).is_ok_and(|found| found == bytes)
        {
            return;
        }
        bytes.resize(round_up_to_block(length), 0);
        let offset = |at| source.layout.device_offset(Paddr::new(segment, at));
        if !bytes.is_empty() {
            self.rehearsal.write(offset(end), &bytes);
        }
        self.rehearsal.write(offset(last), &seal.encode(&source.identity));
        self.rehearsal.flush();
        self.mended.push(Mended::Inventory { segment, entries: all.len() });
    }
}

/// What the records of a use list, and of `live` what they do not; and where all of it ends.
fn contents(
    source: &Source<'_>,
    segment: SegmentId,
    claim: Claim,
    live: Vec<Listed>,
) -> Option<(Vec<Listed>, u32)> {
    let wanted = Wanted { segment, incarnation: Some(claim.incarnation), header_crc: None };
    let mut all: Vec<Listed> = Vec::new();
    let mut end = u64::from(SEGMENT_HEADER_BYTES);
    let _ = records::scan(source, wanted, |taken| {
        end = end.max(u64::from(taken.header.end()));
        all.extend(records::contents(&taken.header, &taken.entries).unwrap_or_default());
    });
    let is_listed = |wanted: &Listed| {
        let stop = |listed: &Listed| u64::from(listed.offset) + u64::from(listed.bytes);
        all.iter().any(|listed| match (&listed.what, &wanted.what) {
            (
                ListedWhat::Image { pool, tree, level, .. },
                ListedWhat::Image { pool: p, tree: t, level: l, .. },
            ) => (pool, tree, level, listed.offset) == (p, t, l, wanted.offset),
            (a, b) => a == b && listed.offset <= wanted.offset && stop(wanted) <= stop(listed),
        })
    };
    let missing: Vec<Listed> = live.into_iter().filter(|listed| !is_listed(listed)).collect();
    for listed in &missing {
        end = end.max(u64::from(listed.offset) + u64::from(listed.bytes));
    }
    all.extend(missing);
    let end = round_up_to_block(usize::try_from(end).ok()?);
    Some((all, u32::try_from(end).ok()?))
}
