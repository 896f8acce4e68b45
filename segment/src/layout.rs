//! Layout: where things are on a device of a given size, as arithmetic without I/O.
//!
//! ```text
//! byte 0      superblock 0        16 KiB superblock 1        32 KiB superblock 2
//! 48 KiB      checkpoint slots A, one block per shard
//! segment f   first data segment: the first that begins behind slots A (1, but for stores of many shards)
//! ...
//! end - 4 KiB * (1 + shards)      checkpoint slots B         end - 4 KiB   superblock 3
//! ```
//!
//! Example: 3 MiB in segments of 64 KiB, one shard: slot A is the block at 48 KiB, data segments are 1..=46 (segment 47
//! would reach into slot B at 3 MiB - 8 KiB), so 46 segments of 16 blocks.
//!
//! Invariants: 1. a data segment lies wholly between slots A and slots B. 2. Segment 0 holds no data, so that {0, _}
//! can mean "not on the device".
//! Limits: segments of 64 KiB..1 GiB, a power of two; at least 40 per shard; nodes of 4..64 KiB, at most an eighth of a
//! segment, so that a record of a quarter of one takes an image beside its header block; fewer than 2^32 segments.

use seabed_types::{BLOCK_BYTES, Paddr, SegmentId, ShardId};

const BLOCK: u64 = BLOCK_BYTES as u64;
const SLOTS_A: u64 = 48 << 10;
/// Fewer segments per shard than this leave no room for streams, window and reserves.
const SEGMENTS_PER_SHARD_MIN: u64 = 40;
/// What the size of segments is chosen for.
const SEGMENTS_PER_SHARD_GOAL: u64 = 4000;

/// Sizes that are fixed at format, and what follows from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Bytes of the device that the store uses.
    pub device_bytes: u64,
    /// Bytes of a segment, a power of two.
    pub segment_bytes: u32,
    /// Bytes of a tree node, a power of two.
    pub node_bytes: u32,
    /// Number of shards.
    pub shards: u16,
}

/// A geometry that no store can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Not a power of two from 64 KiB to 1 GiB.
    #[error("a segment of {0} bytes: must be a power of two from 64 KiB to 1 GiB")]
    SegmentBytes(u32),
    /// Not a power of two from 4 to 64 KiB, or over an eighth of a segment.
    #[error(
        "a node of {0} bytes: must be a power of two from 4 to 64 KiB and at most an eighth of a segment"
    )]
    NodeBytes(u32),
    /// Not 1..=1024.
    #[error("{0} shards: must be 1 to 1024")]
    Shards(u16),
    /// Not a multiple of a block.
    #[error("a device of {0} bytes: must be a multiple of 4096")]
    DeviceBytes(u64),
    /// Too small.
    #[error(
        "{device_bytes} bytes hold {segments} segments of {segment_bytes} bytes: {shards} shard(s) need at least {needed}"
    )]
    TooSmall {
        /// The device.
        device_bytes: u64,
        /// The segment size.
        segment_bytes: u32,
        /// How many fit.
        segments: u64,
        /// How many it takes.
        needed: u64,
        /// For how many shards.
        shards: u16,
    },
}

impl Layout {
    /// The places of superblock copies 0, 1 and 2; copy 3 is in the last block.
    pub const SUPERBLOCKS: [u64; 3] = [0, 16 << 10, 32 << 10];

    /// The segment size for a device: the smallest power of two, not under `least`, that makes at most 4000 segments per
    /// shard.
    pub fn segment_bytes_for(device_bytes: u64, shards: u16, least: u32) -> u32 {
        let mut segment_bytes = least;
        while device_bytes / u64::from(shards.max(1)) / u64::from(segment_bytes) > SEGMENTS_PER_SHARD_GOAL
            && segment_bytes < 1 << 30
        {
            segment_bytes *= 2;
        }
        segment_bytes
    }

    /// Checks that a store can have these sizes.
    pub fn check(&self) -> Result<(), LayoutError> {
        if !self.segment_bytes.is_power_of_two() || !(64 << 10..=1 << 30).contains(&self.segment_bytes) {
            return Err(LayoutError::SegmentBytes(self.segment_bytes));
        }
        let nodes = 4096..=(64 << 10).min(self.segment_bytes / 8);
        if !self.node_bytes.is_power_of_two() || !nodes.contains(&self.node_bytes) {
            return Err(LayoutError::NodeBytes(self.node_bytes));
        }
        if !(1..=1024).contains(&self.shards) {
            return Err(LayoutError::Shards(self.shards));
        }
        if !self.device_bytes.is_multiple_of(BLOCK) {
            return Err(LayoutError::DeviceBytes(self.device_bytes));
        }
        let (segments, needed) = (self.segment_count(), SEGMENTS_PER_SHARD_MIN * u64::from(self.shards));
        if segments < needed || self.end_segment() > u64::from(u32::MAX) {
            return Err(LayoutError::TooSmall {
                device_bytes: self.device_bytes,
                segment_bytes: self.segment_bytes,
                segments,
                needed,
                shards: self.shards,
            });
        }
        Ok(())
    }

    /// Device offset of a shard's slot A (0) or B (1).
    pub fn slot(&self, shard: ShardId, which: SlotCopy) -> u64 {
        let index = u64::from(shard.0) * BLOCK;
        match which {
            SlotCopy::A => SLOTS_A + index,
            SlotCopy::B => self.slots_b() + index,
        }
    }

    fn slots_b(&self) -> u64 {
        self.device_bytes.saturating_sub(BLOCK * (1 + u64::from(self.shards)))
    }

    /// Device offset of the last superblock copy.
    pub fn superblock_last(&self) -> u64 {
        self.device_bytes - BLOCK
    }

    /// The first data segment.
    pub fn first_segment(&self) -> SegmentId {
        let end = SLOTS_A + BLOCK * u64::from(self.shards);
        SegmentId(
            u32::try_from(end.div_ceil(u64::from(self.segment_bytes)))
                .expect("1024 slots end within 2^32 segments"),
        )
    }

    fn end_segment(&self) -> u64 {
        self.slots_b() / u64::from(self.segment_bytes)
    }

    /// Number of data segments.
    pub fn segment_count(&self) -> u64 {
        self.end_segment().saturating_sub(u64::from(self.first_segment().0))
    }

    /// All data segments.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = SegmentId> + use<> {
        let end = u32::try_from(self.end_segment()).expect("checked: segments fit a u32");
        (self.first_segment().0..end).map(SegmentId)
    }

    /// Whether `segment` is a data segment of this store.
    pub fn has_segment(&self, segment: SegmentId) -> bool {
        segment >= self.first_segment() && u64::from(segment.0) < self.end_segment()
    }

    /// Whether `bytes` bytes at `at` lie within one data segment, behind its header block.
    pub fn contains(&self, at: Paddr, bytes: u64) -> bool {
        self.has_segment(at.segment)
            && at.offset as usize >= BLOCK_BYTES
            && u64::from(at.offset) + bytes <= u64::from(self.segment_bytes)
    }

    /// Device offset of an address.
    pub fn device_offset(&self, at: Paddr) -> u64 {
        at.device_offset(self.segment_bytes)
    }

    /// The most bytes a record may have: a quarter of a segment, and about 1 MiB.
    pub fn record_bytes_max(&self) -> usize {
        (self.segment_bytes as usize / 4).min((1 << 20) + (64 << 10))
    }
}

/// One of the two places of a checkpoint slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotCopy {
    /// Behind the superblocks.
    A,
    /// At the end of the device.
    B,
}

impl SlotCopy {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_module_doc() {
        let layout = Layout { device_bytes: 3 << 20, segment_bytes: 64 << 10, node_bytes: 4096, shards: 1 };
        layout.check().expect("fits");
        assert_eq!(layout.segments().collect::<Vec<_>>(), (1..=46).map(SegmentId).collect::<Vec<_>>());
        assert_eq!(layout.segment_count(), 46);
        assert_eq!(layout.slot(ShardId(0), SlotCopy::A), 48 << 10);
        assert_eq!(layout.slot(ShardId(0), SlotCopy::B), (3 << 20) - 8192);
        assert!(layout.contains(Paddr::new(SegmentId(46), 4096), 60 << 10));
        assert!(!layout.contains(Paddr::new(SegmentId(46), 4096), (60 << 10) + 1));
        assert!(!layout.contains(Paddr::new(SegmentId(47), 4096), 1));
        assert!(!layout.contains(Paddr::new(SegmentId(1), 0), 1));
    }

    #[test]
    fn sizes_that_no_store_can_have() {
        let good = Layout { device_bytes: 1 << 30, segment_bytes: 1 << 20, node_bytes: 16 << 10, shards: 1 };
        assert_eq!(good.check(), Ok(()));
        assert!(Layout { segment_bytes: 3 << 20, ..good }.check().is_err());
        assert!(Layout { segment_bytes: 32 << 10, ..good }.check().is_err());
        assert!(Layout { node_bytes: 2048, ..good }.check().is_err());
        // A node of a quarter of a segment did not fit a record: writing its image was a panic.
        for (node_bytes, fits) in [(8 << 10, true), (16 << 10, false), (32 << 10, false)] {
            assert_eq!(Layout { node_bytes, segment_bytes: 64 << 10, ..good }.check().is_ok(), fits);
        }
        assert!(Layout { shards: 0, ..good }.check().is_err());
        assert!(Layout { shards: 26, ..good }.check().is_err());
        assert!(Layout { device_bytes: 1000, ..good }.check().is_err());
        assert!(Layout { device_bytes: 0, ..good }.check().is_err());
    }

    #[test]
    fn segment_sizes_follow_the_device() {
        assert_eq!(Layout::segment_bytes_for(64 << 20, 1, 1 << 20), 1 << 20);
        assert_eq!(Layout::segment_bytes_for(10 << 30, 1, 1 << 20), 4 << 20);
        assert_eq!(Layout::segment_bytes_for(1 << 40, 1, 1 << 20), 512 << 20);
    }
}
