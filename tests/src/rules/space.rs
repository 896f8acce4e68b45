//! Space: the arithmetic of rule S5, what of a device may be filled with live bytes.
//!
//! Sizes follow from the device and the number of shards: segments so that a shard has about 4000 of them, a window of a
//! 64th of its share. What is left when the window, the open streams and the reserves are at full size, whether used or
//! not, is admitted. For 1 GiB and one shard: 1020 segments of 1 MiB; a window of 16 and two; a journal, a node and a
//! bulk stream and seven classes of relocated data, one segment each; reserves of eight segments; 0.93 of the rest.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Memory of a shard, which bounds what may be pending.
const SHARD_MEMORY_BYTES: u64 = 64 * MIB;
/// Segments from which on bulk data has a stream of its own.
const OWN_BULK_SEGMENTS: u64 = 128;

/// What S5 leaves out of its sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// Nothing: the rule.
    Nothing,
    /// The room for the reserves: trim, cleaning and removal have none of their own.
    Reserves,
    /// The window, at its full size.
    Window,
    /// The segments that are open for appending.
    OpenStreams,
}

/// A store's segments, and what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// All of them.
    pub segments: u64,
    /// Those that a full window of each shard takes, with the two that it is written in and will be.
    pub windows: u64,
    /// Those that are open: one of each stream.
    pub open: u64,
    /// Those that only trimming, cleaning and removal may take.
    pub reserves: u64,
    /// Bytes that users may have live.
    pub admitted_bytes: u64,
}

impl Space {
    /// Of a device for so many shards.
    pub fn of(device_bytes: u64, shards: u64, leave: Leave) -> Self {
        let share = device_bytes / shards;
        let mut segment_bytes = MIB;
        while share / segment_bytes > 4000 && segment_bytes < GIB {
            segment_bytes *= 2;
        }
        let in_segments = |bytes: u64| bytes.div_ceil(segment_bytes);
        // Superblocks and slots take the rest.
        let segments = (device_bytes - 4 * MIB) / segment_bytes;
        let own = segments / shards;
        let least = 4 * segment_bytes;
        let window = (share / 64).min(GIB).min(own * segment_bytes / 8).max(least);
        // Journal and nodes; bulk data by itself in larger stores; relocated data by up to eight ages.
        let classes = (own / OWN_BULK_SEGMENTS).clamp(1, 8);
        let streams = 2 + classes + u64::from(own >= OWN_BULK_SEGMENTS);
        let pending = (window / 4).min(SHARD_MEMORY_BYTES / 8);
        let body = segments * 6 + 64 * KIB;
        // A next journal segment, what is pending, the body and its rounding, one for nodes.
        let reserves = 1 + in_segments(pending) + 1 + in_segments(body) + 1;
        let windows = shards * (in_segments(window) + 2);
        let (open, reserves) = (shards * streams, shards * reserves + 1);
        let taken = match leave {
            Leave::Nothing => [reserves, windows, open],
            Leave::Reserves => [0, windows, open],
            Leave::Window => [reserves, 0, open],
            Leave::OpenStreams => [reserves, windows, 0],
        };
        let filled = (segments - taken[0]) * segment_bytes / 100 * 93;
        let admitted_bytes = filled.saturating_sub((taken[1] + taken[2]) * segment_bytes);
        Self { segment_bytes, segments, windows, open, reserves, admitted_bytes }
    }

    /// Of a hundred bytes of the device, those that users may have live.
    pub fn percent(&self, device_bytes: u64) -> u64 {
        (self.admitted_bytes * 100 + device_bytes / 2) / device_bytes
    }

    /// Live bytes, the window, open streams and reserves fit into the segments, even if each segment that holds live bytes
    /// is 93 % full and no more: then cleaning gains a segment from some of them.
    pub fn fits(&self) -> bool {
        let holding = (self.admitted_bytes * 100 / 93).div_ceil(self.segment_bytes);
        holding + self.windows + self.open + self.reserves <= self.segments
    }
}
