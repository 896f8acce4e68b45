//! Front: superblock copies and slots, written again from those that are sound.
//!
//! Valid superblock copies that differ are of two stores, one of which was made over the other: the one counts under whose
//! secret every shard has a valid slot, of several the one that most copies say. If that tells none, nothing is done.
//!
//! An invalid slot is written again as the valid one is: either must open the store (rule C3), so that is what a mount would
//! do. An older slot that opens the store no more is written as the newer one is. Two that have one sequence and differ,
//! but lead to the same rows, are written as slot A, which counts for a mount, under the next sequence.
#![expect(clippy::wildcard_enum_match_arm, reason = "a repair names what it has a remedy for")]

use seabed_journal::Slot;
use seabed_segment::{SlotCopy, Superblock};
use seabed_types::ShardId;

use super::{Mended, RepairError, Round};
use crate::front::{self, superblock_copies};
use crate::image::Source;
use crate::medium::Rehearsal;
use crate::report::Findings;
use crate::{CheckError, Violation};

/// Makes all superblock copies equal, if it is known which is right.
pub(super) fn superblocks(rehearsal: &Rehearsal<'_>, mended: &mut Vec<Mended>) -> Result<(), RepairError> {
    let copies = superblock_copies(rehearsal);
    // Each that some copy says, and how many do.
    let mut valid: Vec<(Superblock, usize)> = Vec::new();
    for superblock in copies.iter().filter_map(|(_, copy)| copy.as_ref().ok()?.as_ref().ok()) {
        match valid.iter_mut().find(|(known, _)| known == superblock) {
            Some((_, count)) => *count += 1,
            None => valid.push((*superblock, 1)),
        }
    }
    let has_slots = |(superblock, _): &&(Superblock, usize)| {
        let source = Source::of(rehearsal, superblock);
        let has_slot = |shard| {
            [SlotCopy::A, SlotCopy::B].into_iter().any(|which| front::slot(&source, shard, which).is_ok())
        };
        (0..superblock.layout.shards).map(ShardId).all(has_slot)
    };
    let chosen = match valid.as_slice() {
        // Says why there is none.
        [] => {
            return front::superblock(rehearsal, &mut Findings::new(0)).map(drop).map_err(RepairError::from);
        }
        [(only, _)] => *only,
        several => {
            let mut with_slots: Vec<_> = several.iter().filter(has_slots).collect();
            with_slots.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            match with_slots.as_slice() {
                [(one, _)] => *one,
                [(most, count), (_, fewer), ..] if count > fewer => *most,
                _ => return Ok(()),
            }
        }
    };
    if rehearsal_is_short(rehearsal, &chosen) {
        return Ok(());
    }
    let places = Superblock::places(chosen.layout.device_bytes);
    for (copy, at) in (0..).zip(places) {
        let block = chosen.encode(copy);
        let source = Source::of(rehearsal, &chosen);
        if source.block(at).is_ok_and(|found| found == block) {
            continue;
        }
        rehearsal.write(at, &block);
        rehearsal.flush();
        mended.push(Mended::Superblock { copy });
    }
    Ok(())
}

/// Whether the image ends before the store does: what is missing is not all in the copies.
fn rehearsal_is_short(rehearsal: &Rehearsal<'_>, superblock: &Superblock) -> bool {
    crate::Image::bytes(rehearsal) < superblock.layout.device_bytes
}

impl Round<'_, '_> {
    /// Writes slots again that are not sound or do not open the store, of shards whose other slot does.
    pub(super) fn slots(&mut self) {
        let shards = self.report.superblock.layout.shards;
        for shard in (0..shards).map(ShardId) {
            let slots =
                [SlotCopy::A, SlotCopy::B].map(|which| front::slot(&self.source(), shard, which).ok());
            match slots {
                [Some(a), Some(b)] if a == b => {}
                [Some(a), Some(b)] if a.sequence == b.sequence => self.contradiction(shard, &a, &b),
                [Some(a), Some(b)] => {
                    let (older, newer) =
                        if a.sequence < b.sequence { (SlotCopy::A, b) } else { (SlotCopy::B, a) };
                    if self.is_useless(shard, older) {
                        self.write_slot(older, &newer);
                    }
                }
                [Some(slot), None] => self.write_slot(SlotCopy::B, &slot),
                [None, Some(slot)] => self.write_slot(SlotCopy::A, &slot),
                [None, None] => {}
            }
        }
    }

    /// Whether there is something wrong with a slot that goes away when the other takes its place.
    fn is_useless(&self, of: ShardId, older: SlotCopy) -> bool {
        let disagrees =
            |violation: &Violation| matches!(violation, Violation::SlotsDisagree { shard } if *shard == of);
        if self.report.violations.iter().any(disagrees) {
            return false;
        }
        self.report.violations.iter().any(|violation| match violation {
            Violation::SlotsApart { shard, .. } => *shard == of,
            Violation::OlderSlot { which, .. } => *which == older,
            Violation::BodyPart { shard, which, .. }
            | Violation::Body { shard, which, .. }
            | Violation::BodyCopiesDiffer { shard, which }
            | Violation::BodyCopiesShare { shard, which, .. } => (*shard, *which) == (of, older),
            // A part of its body that was given up.
            Violation::SegmentReused { .. } | Violation::NotListed { .. } | Violation::Overlap { .. } => true,
            _ => false,
        })
    }

    fn contradiction(&mut self, of: ShardId, a: &Slot, b: &Slot) {
        let leads_elsewhere = self.report.violations.iter().any(|violation| match violation {
            Violation::SlotsDisagree { shard } => *shard == of,
            Violation::OlderSlot { .. } => true,
            _ => false,
        });
        if !leads_elsewhere {
            let durable = a.durable.max(b.durable);
            let slot = Slot { sequence: a.sequence + 1, epoch: a.epoch.max(b.epoch), durable, ..a.clone() };
            self.write_slot(SlotCopy::B, &slot);
            self.write_slot(SlotCopy::A, &slot);
        }
    }

    /// Writes one slot and flushes.
    pub(super) fn write_slot(&mut self, which: SlotCopy, slot: &Slot) {
        let superblock = self.report.superblock;
        let at = superblock.layout.slot(slot.shard, which);
        self.rehearsal.write(at, &slot.encode(&superblock.identity));
        self.rehearsal.flush();
        self.mended.push(Mended::Slot { shard: slot.shard, which });
    }
}

/// Of two slots the one that is to be written first: the invalid or older one.
pub(super) fn first_to_write(source: &Source<'_>, shard: ShardId) -> [SlotCopy; 2] {
    let sequence = |which| front::slot(source, shard, which).ok().map(|slot| slot.sequence);
    if sequence(SlotCopy::A) < sequence(SlotCopy::B) {
        [SlotCopy::A, SlotCopy::B]
    } else {
        [SlotCopy::B, SlotCopy::A]
    }
}

impl From<seabed_segment::SuperblockError> for RepairError {
    fn from(error: seabed_segment::SuperblockError) -> Self {
        Self::Check(CheckError::Superblock(error))
    }
}
