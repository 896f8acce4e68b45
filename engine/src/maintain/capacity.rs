//! Capacity: where the space of a store is, and how much users can still write.
//!
//! What can still be written is the least of two amounts:
//! - live bytes: what admission allows users to have, less what they have (rule S5);
//! - room: free segments beyond the reserves, and, where the cleaner may work, what it gains from the segments that are worth
//!   cleaning. Both count only the share of a segment that records of the largest size leave to data.
//!
//! The reserves are those of a store that has just ended a trim cycle: admission waits for a cycle before it rejects, and the
//! images and changes that it keeps space for in between are written by then. Segments of the window count as reserved,
//! for the journal fills them again.
//!
//! Both are rounded down, so that what is said can be written: the tests hold it to that over random histories, without a
//! tolerance.
//!
//! Example: 254 segments of 1 MiB, 185 of them free, a window of 4 of which 3 are used, and one image: 2 (journal) + 3
//! (checkpoint) + 3 (rest of the window) + 1 (moving) are reserved, and 9 for what rounds up; so 167 segments are room. Of each
//! 256 blocks 248 are in records of data; a put of half a segment takes 133 blocks for 128 of data; a sixth less is
//! said: 129 MiB.
//!
//! Limits: for puts of half a segment, at least 128 KiB and at most 1 MiB, or larger ones. Smaller ones take more than their
//! data until the cleaner has moved them: a record has a header of a block. What removed objects still hold counts as live until their rows are gone.
//! Cost: a pass over the segment table, [`SEGMENTS_AT_ONCE`] at a time; between two slices others run, so that the sums are not of
//! one moment if they write meanwhile.

use std::collections::BTreeMap;

use seabed_cleaner::Class as AgeClass;
use seabed_segment::StreamKind;
use seabed_types::BLOCK_BYTES;

use crate::maintain::admit::{BODY_SEGMENTS, CLEAN_SEGMENTS, JOURNAL_SEGMENTS};
use crate::maintain::clean::{SEGMENTS_AT_ONCE, age_of};
use crate::shard::mounted::Mounted;
use crate::space::segments::{DataSegment, SegmentFacts};

/// Segments beyond the reserves that may be left when there is no space: those that are open, those with the parts of the put
/// that was rejected, and those that more images of nodes reserve.
const ROUNDING_SEGMENTS: u64 = 9;
/// Blocks of a segment that hold neither data nor its headers: header, inventory, seal.
const OTHER_BLOCKS: u64 = 3;
/// The share of what cleaning should gain that can be relied on: the journal, checkpoints and half filled segments of copies
/// take some of it, and the cleaner stops where it gets nowhere.
const CLEANED_SHARE: u64 = 2;
/// The puts in which what can be written is counted, in blocks, and what the journal's record of one takes.
const PUT_BLOCKS_MIN: u64 = 32;
const PUT_BLOCKS_MAX: u64 = 256;
const JOURNAL_BLOCKS_OF_PUT: u64 = 2;
/// One part of so many is for what is not counted: records that end early, nodes, checkpoints that meet a full store.
const REST_SHARE: u64 = 6;

/// What a segment is used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum SpaceUse {
    /// Journal records that a mount replays, with their data, and the next journal segment.
    Window,
    /// Journal records from before, kept for their data.
    Journal,
    /// Data that was stored ahead of its record, as users wrote it.
    Bulk,
    /// Data that the cleaner has copied, by age class: 0 is what was copied once.
    Relocated(u8),
    /// Images of tree nodes, and checkpoints.
    Nodes,
    /// Nothing, with a write that failed: not used again before the store is opened the next time, or with data before that.
    Quarantined,
    /// Nothing: it may be claimed, or becomes free as soon as running reads end.
    Free,
}

/// The segments of one use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SpaceGroup {
    /// How many segments.
    pub segments: u64,
    /// Bytes of data and of nodes in them that count.
    pub live_bytes: u64,
    /// The rest of them, unless they are free: what was replaced or removed, headers and lists, and what is not yet written.
    pub dead_bytes: u64,
}

/// Space that stays free from users, and what for. In bytes of whole segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Reserves {
    /// For the journal's next segments.
    pub journal_bytes: u64,
    /// For a checkpoint: nodes and two copies of its body.
    pub checkpoint_bytes: u64,
    /// For the journal until its window is full.
    pub window_bytes: u64,
    /// To move images of nodes together in, and for those images to thin out: what lets removals go on in a full store.
    pub removal_bytes: u64,
    /// For the cleaner's copies.
    pub cleaning_bytes: u64,
}

impl Reserves {
    /// All of them.
    pub fn total_bytes(&self) -> u64 {
        let Self { journal_bytes, checkpoint_bytes, window_bytes, removal_bytes, cleaning_bytes } = *self;
        journal_bytes + checkpoint_bytes + window_bytes + removal_bytes + cleaning_bytes
    }
}

/// Where the space of a store is ([`crate::Store::space`]). All amounts are bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Space {
    /// Of a segment.
    pub segment_bytes: u64,
    /// Of all segments.
    pub segments_bytes: u64,
    /// The most that may be live: what users can have in all, metadata included, whatever the history.
    pub usable_bytes: u64,
    /// Live bytes, metadata included.
    pub live_bytes: u64,
    /// What users can still write with the store as it was opened, metadata included, if nothing is removed: with
    /// [`crate::OpenOptions::cleaning`] as [`Space::writable_cleaned_bytes`], without it as [`Space::writable_now_bytes`].
    pub writable_bytes: u64,
    /// Of this, what can be written before anything has to be cleaned.
    pub writable_now_bytes: u64,
    /// What can be written if dead space is cleaned, by [`crate::OpenOptions::cleaning`] or [`crate::Store::clean`].
    pub writable_cleaned_bytes: u64,
    /// What stays free from users.
    pub reserves: Reserves,
    /// Segments by use; each segment is counted once.
    pub groups: BTreeMap<SpaceUse, SpaceGroup>,
}

impl Space {
    /// The segments of one use; none if there are none.
    pub fn group(&self, of: SpaceUse) -> SpaceGroup {
        self.groups.get(&of).copied().unwrap_or_default()
    }

    /// Bytes in segments that are used and not live.
    pub fn dead_bytes(&self) -> u64 {
        self.groups.values().map(|group| group.dead_bytes).sum()
    }

    /// Bytes of segments that are free, reserves included.
    pub fn free_bytes(&self) -> u64 {
        self.group(SpaceUse::Free).segments * self.segment_bytes
    }
}

/// The use of a segment.
fn use_of(facts: &SegmentFacts) -> SpaceUse {
    match facts.stream {
        _ if facts.is_quarantined => SpaceUse::Quarantined,
        _ if facts.is_free => SpaceUse::Free,
        _ if facts.in_window => SpaceUse::Window,
        Some(StreamKind::Journal) => SpaceUse::Journal,
        Some(StreamKind::Nodes) => SpaceUse::Nodes,
        Some(StreamKind::Bulk) => match age_of(facts.age).0 {
            AgeClass::Relocated(class) => SpaceUse::Relocated(class),
            AgeClass::Fresh | AgeClass::FreshCold => SpaceUse::Bulk,
        },
        // Held by what is being claimed, or kept by a mount that has ended.
        None => SpaceUse::Free,
    }
}

impl Mounted {
    /// See [`crate::Store::space`].
    pub(crate) async fn space(&self) -> Space {
        let segment_bytes = u64::from(self.layout.segment_bytes);
        let segments = self.layout.segments().count();
        let mut space =
            Space { segment_bytes, segments_bytes: segments as u64 * segment_bytes, ..Space::default() };
        let (mut gain, mut empty) = (0, 0);
        for from in (0..segments).step_by(SEGMENTS_AT_ONCE) {
            if from > 0 {
                self.machine.runtime.yield_now().await;
            }
            for facts in self.table.facts(from..(from + SEGMENTS_AT_ONCE).min(segments)) {
                let group = space.groups.entry(use_of(&facts)).or_default();
                group.segments += 1;
                group.live_bytes += facts.live;
                if !facts.is_free {
                    group.dead_bytes += segment_bytes.saturating_sub(facts.live);
                }
                gain += facts.data.map_or(0, |data| self.gain_of(&data));
                empty += u64::from(facts.is_free || facts.is_empty);
            }
        }
        space.reserves = self.reserves(space.group(SpaceUse::Window).segments);
        space.usable_bytes = self.usable_bytes();
        space.live_bytes = self.table.live_total().max(0).cast_unsigned();
        let may_be_live = space.usable_bytes.saturating_sub(space.live_bytes);
        let left_over = space.reserves.total_bytes() + ROUNDING_SEGMENTS * segment_bytes;
        let room = (empty * segment_bytes).saturating_sub(left_over);
        space.writable_now_bytes = self.payload_of(room).min(may_be_live);
        space.writable_cleaned_bytes = self.payload_of(room + gain / CLEANED_SHARE).min(may_be_live);
        space.writable_bytes =
            if self.options.cleaning { space.writable_cleaned_bytes } else { space.writable_now_bytes };
        space
    }

    /// What admission leaves free once trimming has written what is pending, with so many segments in the window.
    fn reserves(&self, window: u64) -> Reserves {
        let segment_bytes = u64::from(self.layout.segment_bytes);
        let bytes = |segments: usize| segments as u64 * segment_bytes;
        let slack = self.slack();
        Reserves {
            journal_bytes: bytes(JOURNAL_SEGMENTS),
            checkpoint_bytes: bytes(1 + BODY_SEGMENTS),
            window_bytes: bytes(self.window_segments_max() + 2).saturating_sub(window * segment_bytes),
            removal_bytes: bytes(slack.moving + slack.thinning),
            cleaning_bytes: if self.options.cleaning { bytes(CLEAN_SEGMENTS) } else { 0 },
        }
    }

    /// Bytes of a segment that cleaning it frees, beyond what its copies take.
    fn gain_of(&self, data: &DataSegment) -> u64 {
        if !self.is_worth_cleaning(data.live) {
            return 0;
        }
        u64::from(self.layout.segment_bytes).saturating_sub(self.cost_of_copies(data.live))
    }

    /// Bytes of data that so many bytes of free segments take, in puts of half a segment, 128 KiB at least and 1 MiB at most:
    /// what the headers of their records, and the end of a segment in which no further record fits, leave of them.
    fn payload_of(&self, bytes: u64) -> u64 {
        let block = BLOCK_BYTES as u64;
        let segment = u64::from(self.layout.segment_bytes) / block;
        let of_record = self.layout.record_bytes_max() as u64 / block - 2;
        let records = (segment - OTHER_BLOCKS) / (of_record + 1);
        let put = (segment / 2).clamp(PUT_BLOCKS_MIN, PUT_BLOCKS_MAX);
        let put_takes = put + put.div_ceil(of_record) + JOURNAL_BLOCKS_OF_PUT;
        let data = bytes / (segment * block) * (records * of_record * block);
        data / put_takes * put / REST_SHARE * (REST_SHARE - 1)
    }
}
