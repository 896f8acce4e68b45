//! Checkpoint: the newest checkpoint once more, with counts that are those of the rows, where both copies are sound.
//!
//! Counts are as of E in the body and changes from E on in the log. What a walk of all rows found at the log's end less what
//! was counted there is therefore what the body lacks, and is added to it. Nothing else of the body changes: roots, P, E,
//! the window, the epoch.
//!
//! Worked example: the body counts 12288 live bytes in segment 9, the window takes 4096 of them, the rows point to none.
//! Counted are 8192, found 0: the body is written with 4096, and 9 is free for the next mount.
//!
//! The two copies go to segments of which rows, windows and slots need nothing, under an incarnation that is newer than all
//! traces of earlier ones (rule S1), as records that list them (L4); the body names their claims itself. They are flushed
//! before a slot names them, and one slot is flushed before the other is written (C3).
//!
//! If the newest slot's body is gone and the older slot opens the store, its body is written again, with the cuts of both.
#![expect(clippy::wildcard_enum_match_arm, reason = "a repair names what it has a remedy for")]

use std::collections::{BTreeMap, BTreeSet};

use seabed_journal::{Body, BodyPart, CUTS_MAX, Cut, SegmentState, Slot};
use seabed_segment::{
    Listed, ListedWhat, RecordPlace, SEGMENT_HEADER_BYTES, SegmentHeader, SlotCopy, StreamKind,
    record_of_piece,
};
use seabed_types::{BLOCK_BYTES, Crc, Incarnation, Lsn, Paddr, SegmentId, ShardId};

use super::front::first_to_write;
use super::{Mended, RepairError, Round};
use crate::Violation;
use crate::front::{self, Base};
use crate::image::Source;
use crate::log::{self, Claim, Log};
use crate::records::{self, Wanted};
use crate::report::{Counts, Findings};
use crate::segments::ends;
use crate::violation::ListedBy;

/// Free segments that there must be: two for the body, and two that the journal keeps for itself.
const FREE_MIN: usize = 4;

/// A shard as its slots and log have it.
struct State {
    base: Base,
    log: Log,
    slots: Vec<Slot>,
}

impl Round<'_, '_> {
    /// Writes the checkpoints of shards whose bodies or counts are not right.
    pub(super) fn checkpoints(&mut self) -> Result<(), RepairError> {
        let states = self.states();
        let wanted: Vec<usize> = (0..states.len())
            .filter(|index| states.get(*index).is_some_and(|state| self.needs(state)))
            .collect();
        let mut taken = BTreeSet::new();
        for index in wanted {
            let Some(state) = states.get(index) else { continue };
            let free = self.free(&states, &taken);
            let Some(slot_cuts) = cuts(state) else { continue };
            let (Some(first), Some(second), true) = (free.first(), free.get(1), free.len() >= FREE_MIN)
            else {
                return Err(RepairError::NoSpace { free: free.len(), needed: FREE_MIN });
            };
            taken.extend([*first, *second]);
            self.write(state, slot_cuts, [*first, *second]);
        }
        Ok(())
    }

    /// The shards whose log was read to its end.
    fn states(&self) -> Vec<State> {
        let source = self.source();
        let (mut findings, mut counts) = (Findings::new(0), Counts::default());
        let mut states = Vec::new();
        for shard in (0..source.layout.shards).map(ShardId) {
            let front = front::front(&source, shard, &mut findings, &mut counts);
            let Some(base) = front.base else { continue };
            let log = log::read(&source, &base, &mut findings, &mut counts);
            let slots = [SlotCopy::A, SlotCopy::B].map(|which| front::slot(&source, shard, which).ok());
            states.push(State { base, log, slots: slots.into_iter().flatten().collect() });
        }
        states
    }

    /// Whether a violation goes away with a new checkpoint of this shard.
    fn needs(&self, state: &State) -> bool {
        let of = state.base.shard;
        let has = |collection| state.base.body.collections.iter().any(|known| known.id == collection);
        let is_newest = |which: SlotCopy| which == state.base.which || !self.has_other(state, which);
        !state.log.is_damaged
            && self.report.violations.iter().any(|violation| match violation {
                Violation::BodyPart { shard, which, .. }
                | Violation::Body { shard, which, .. }
                | Violation::BodyCopiesDiffer { shard, which }
                | Violation::BodyCopiesShare { shard, which, .. } => *shard == of && is_newest(*which),
                Violation::Live { shard, .. } => *shard == of,
                Violation::Tally { collection, .. } | Violation::IdNotCounted { collection, .. } => {
                    has(*collection)
                }
                Violation::NotListed { segment, offset, by: ListedBy::Records, .. } => {
                    let at = Paddr::new(*segment, *offset);
                    state.base.slot.body.iter().flatten().any(|part| part.at == at)
                }
                _ => false,
            })
    }

    /// Whether the slot `which` is an older one with a body of its own, which the newest may take the place of.
    fn has_other(&self, state: &State, which: SlotCopy) -> bool {
        let slot = front::slot(&self.source(), state.base.shard, which);
        slot.is_ok_and(|slot| slot.sequence < state.base.slot.sequence)
    }

    /// Segments that nothing needs: no row or root by what was found, no window, no body of any slot, no claim that the log
    /// makes behind the checkpoint.
    fn free(&self, states: &[State], taken: &BTreeSet<SegmentId>) -> Vec<SegmentId> {
        let mut live: BTreeMap<(ShardId, SegmentId), i64> = BTreeMap::new();
        let mut needed = taken.clone();
        for State { base, log, slots } in states {
            for state in &base.body.segments {
                *live.entry((base.shard, state.segment)).or_default() += state.live;
            }
            for (segment, change) in &log.live {
                *live.entry((base.shard, *segment)).or_default() += change;
            }
            // A claim behind the checkpoint is of the use that its record says, and the body may not name a later one.
            let is_claimed_later = |segment: &SegmentId, claim: &Claim| {
                let known = base.body.segments.iter().find(|known| known.segment == *segment);
                known.is_none_or(|known| known.incarnation < claim.incarnation)
            };
            let claimed = log.claims.iter().filter(|(segment, claim)| is_claimed_later(segment, claim));
            needed.extend(claimed.map(|(segment, _)| segment));
            needed.extend(log.segments.keys());
            needed.extend(
                log.claims.iter().filter(|(_, claim)| claim.stream == StreamKind::Journal).map(|(s, _)| s),
            );
            needed
                .extend(slots.iter().flat_map(|slot| slot.body.iter().flatten()).map(|part| part.at.segment));
            needed.extend(slots.iter().flat_map(|slot| &slot.cuts).map(|cut| cut.at.segment));
        }
        for violation in &self.report.violations {
            if let Violation::Live { shard, segment, found, .. } = violation {
                live.insert((*shard, *segment), *found);
            }
        }
        needed.extend(live.iter().filter(|(_, live)| **live != 0).map(|((_, segment), _)| *segment));
        let segments = self.report.superblock.layout.segments();
        segments.filter(|segment| !needed.contains(segment)).collect()
    }

    /// The body with what the report found in place of what was counted.
    fn corrected(&mut self, state: &State) -> Body {
        let State { base, log, .. } = state;
        let mut body = base.body.clone();
        for violation in &self.report.violations {
            match violation {
                Violation::Live { shard, segment, counted, found } if *shard == base.shard => {
                    let missing = found.wrapping_sub(*counted);
                    let place = body.segments.binary_search_by_key(segment, |state| state.segment);
                    let index = place.unwrap_or_else(|index| {
                        let claim = log.claims.get(segment);
                        let state = SegmentState {
                            segment: *segment,
                            incarnation: claim.map_or(Incarnation(0), |claim| claim.incarnation),
                            stream: claim.map(|claim| claim.stream),
                            age: 0,
                            live: 0,
                        };
                        body.segments.insert(index, state);
                        index
                    });
                    if let Some(state) = body.segments.get_mut(index) {
                        state.live = state.live.wrapping_add(missing);
                    }
                    let (shard, segment, counted, found) = (*shard, *segment, *counted, *found);
                    self.mended.push(Mended::Live { shard, segment, counted, found });
                }
                Violation::Tally { collection, counted, found } => {
                    let state = body.collections.iter_mut().find(|state| state.id == *collection);
                    if let Some(state) = state {
                        let missing = difference(*found, *counted);
                        state.tally.add(&missing);
                        let (collection, counted, found) = (*collection, *counted, *found);
                        self.mended.push(Mended::Tally { collection, counted, found });
                    }
                }
                Violation::IdNotCounted { collection, id, next_id, .. } => {
                    let state = body.collections.iter_mut().find(|state| state.id == *collection);
                    if let (Some(state), Some(next)) = (state, id.checked_add(1))
                        && state.next_id < next
                    {
                        state.next_id = next;
                        let (collection, counted) = (*collection, *next_id);
                        self.mended.push(Mended::NextId { collection, counted, next_id: next });
                    }
                }
                _ => {}
            }
        }
        body
    }

    fn write(&mut self, state: &State, cuts: Vec<Cut>, segments: [SegmentId; 2]) {
        let mut body = self.corrected(state);
        let base = &state.base;
        let uses = [StreamKind::Nodes, StreamKind::Bulk].into_iter().zip(segments);
        let uses: Vec<_> = uses
            .map(|(stream, segment)| {
                let known = body.segments.iter().find(|known| known.segment == segment);
                let known = known.map_or(Incarnation(0), |known| known.incarnation);
                let claimed = state.log.claims.get(&segment).map_or(known, |claim| claim.incarnation);
                (segment, newest_use(&self.source(), segment).max(known).max(claimed).next(), stream)
            })
            .collect();
        for (segment, incarnation, stream) in &uses {
            let used = SegmentState {
                segment: *segment,
                incarnation: *incarnation,
                stream: Some(*stream),
                age: 0,
                live: 0,
            };
            match body.segments.binary_search_by_key(segment, |state| state.segment) {
                Ok(index) => {
                    // What the log still counts in it stays counted.
                    if let Some(known) = body.segments.get_mut(index) {
                        *known = SegmentState { live: known.live, ..used };
                    }
                }
                Err(index) => body.segments.insert(index, used),
            }
        }
        let bytes = body.encode();
        let parts = uses.iter().map(|used| self.write_copy(base, *used, &bytes));
        let parts: Vec<Vec<BodyPart>> = parts.collect();
        self.rehearsal.flush();
        let newest = state.slots.iter().map(|slot| slot.sequence).max().unwrap_or_default();
        let Ok(parts) = <[Vec<BodyPart>; 2]>::try_from(parts) else { return };
        let epoch = base.epoch;
        let durable = state.slots.iter().map(|slot| slot.durable).fold(base.slot.durable, Lsn::max);
        let sequence = newest + 1;
        let slot = Slot { sequence, epoch, durable, cuts, body: parts, ..base.slot.clone() };
        let (shard, end) = (base.shard, base.body.end);
        self.mended.push(Mended::Checkpoint { shard, end, segments });
        for which in first_to_write(&self.source(), shard) {
            self.write_slot(which, &slot);
        }
    }

    /// Writes a copy of a body to the beginning of a free segment.
    fn write_copy(
        &self,
        base: &Base,
        (segment, incarnation, stream): (SegmentId, Incarnation, StreamKind),
        body: &[u8],
    ) -> Vec<BodyPart> {
        let source = self.source();
        let header = SegmentHeader {
            segment,
            incarnation,
            shard: base.shard,
            stream,
            epoch: base.epoch,
            age: 0,
            first_lsn: Lsn(0),
        };
        let (block, previous) = header.encode(&source.identity);
        self.rehearsal.write(source.layout.device_offset(Paddr::new(segment, 0)), &block);
        let part_bytes = source.layout.record_bytes_max() - 2 * BLOCK_BYTES;
        let mut at = Paddr::new(segment, SEGMENT_HEADER_BYTES);
        let mut parts = Vec::new();
        for (index, bytes) in (0..).zip(body.chunks(part_bytes)) {
            let piece = at.plus(SEGMENT_HEADER_BYTES);
            let count = u32::try_from(bytes.len()).expect("a part is shorter than a record");
            let what = ListedWhat::Body { lsn: base.body.end, index };
            let mut entries = Vec::new();
            Listed { offset: piece.offset, bytes: count, what }.encode(&mut entries);
            let place = RecordPlace {
                shard: base.shard,
                stream,
                epoch: base.epoch,
                incarnation,
                number: u64::from(index),
                previous,
            };
            let record = record_of_piece(&source.identity, at, place, &entries, bytes);
            self.rehearsal.write(source.layout.device_offset(at), &record);
            at = at.plus(u32::try_from(record.len()).expect("a record is shorter than a segment"));
            parts.push(BodyPart { at: piece, bytes: count, crc: Crc::of(bytes) });
        }
        parts
    }
}

/// The cuts of a slot for the state that the base leads to; none if a slot cannot hold them.
fn cuts(state: &State) -> Option<Vec<Cut>> {
    let base = &state.base;
    let mut cuts = base.slot.cuts.clone();
    let later = state.slots.iter().filter(|slot| slot.sequence > base.slot.sequence);
    for cut in later.flat_map(|slot| &slot.cuts) {
        cuts.retain(|known| known.lsn != cut.lsn || known.epoch > cut.epoch);
        if !cuts.iter().any(|known| known.lsn == cut.lsn) {
            cuts.push(*cut);
        }
    }
    cuts.sort_by_key(|cut| (cut.lsn, cut.epoch));
    (cuts.len() <= CUTS_MAX).then_some(cuts)
}

/// The newest use of a segment that its header, seal and records tell of.
fn newest_use(source: &Source<'_>, segment: SegmentId) -> Incarnation {
    let (header, seal) = ends(source, segment);
    let mut newest = header.map_or(Incarnation(0), |(header, _)| header.incarnation);
    newest = newest.max(seal.map_or(Incarnation(0), |seal| seal.incarnation));
    let wanted = Wanted { segment, incarnation: None, header_crc: None };
    // What cannot be read tells of nothing.
    let _ = records::scan(source, wanted, |taken| newest = newest.max(taken.header.place.incarnation));
    newest
}

fn difference(a: seabed_journal::Tally, b: seabed_journal::Tally) -> seabed_journal::Tally {
    seabed_journal::Tally {
        objects: a.objects.wrapping_sub(b.objects),
        stored: a.stored.wrapping_sub(b.stored),
        allocated: a.allocated.wrapping_sub(b.allocated),
        compressed: a.compressed.wrapping_sub(b.compressed),
        omap: a.omap.wrapping_sub(b.omap),
        metadata: a.metadata.wrapping_sub(b.metadata),
    }
}
