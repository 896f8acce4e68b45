//! Stats: what a shard counts of its own work.

use std::cell::RefCell;

/// Counters since the store was opened, and levels as of now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes written to the device.
    pub device_bytes_written: u64,
    /// Of those, bytes of the journal stream.
    pub journal_bytes_written: u64,
    /// Of those, bytes of the bulk stream.
    pub bulk_bytes_written: u64,
    /// Of those, bytes of the node stream.
    pub node_bytes_written: u64,
    /// Of those, bytes of records of live data that the cleaner has copied.
    pub relocated_bytes_written: u64,
    /// Writes.
    pub device_writes: u64,
    /// Bytes read from the device.
    pub device_bytes_read: u64,
    /// Reads.
    pub device_reads: u64,
    /// Flushes.
    pub flushes: u64,
    /// Transactions applied.
    pub transactions: u64,
    /// Bytes of data in them.
    pub user_bytes_written: u64,
    /// Tree nodes read because they were not in memory.
    pub node_loads: u64,
    /// Tree nodes in memory.
    pub cached_nodes: u64,
    /// Chunks of data that were read and answered from memory.
    pub data_hits: u64,
    /// Chunks of data that were looked for in memory and read from the device.
    pub data_misses: u64,
    /// Of these, chunks that were then kept in memory.
    pub data_admitted: u64,
    /// Bytes of memory for data that is read again.
    pub data_bytes: u64,
    /// Changes that their leaf's image lacks, in bytes of memory.
    pub pending_bytes: u64,
    /// Bytes that trimming logged again.
    pub bytes_logged_again: u64,
    /// Images that trimming wrote.
    pub images_written: u64,
    /// Segments of data that the cleaner has emptied.
    pub segments_cleaned: u64,
    /// Bytes of live data that it has copied for that.
    pub bytes_relocated: u64,
    /// Pieces that it could not copy, because they could not be read or did not match their checksum.
    pub pieces_unreadable: u64,
    /// Bytes of free segments that the device was told of.
    pub bytes_discarded: u64,
    /// Discards that failed; after the first there are no more.
    pub discards_failed: u64,
    /// How often the shard mounted itself in place after a failure.
    pub mounted_in_place: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Journal segments in the window.
    pub window_segments: u64,
    /// Segments that may be claimed.
    pub free_segments: u64,
    /// Segments that take nothing before the store is opened again, because a write into them failed.
    pub quarantined_segments: u64,
    /// Live bytes.
    pub live_bytes: u64,
    /// Read handles that are open.
    pub read_handles: u64,
    /// Memory that the shard counts as its own, in bytes.
    pub memory_bytes: u64,
}

/// Device bytes over bytes that users wrote, by what they were written for.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct WriteAmplification {
    /// Users' data with the records that it is in: the journal and the bulk stream, without what trimming logged again. One of the two
    /// copies of each checkpoint's body is in the bulk stream and counts here.
    pub data: f64,
    /// Live data that the cleaner has copied, with the records that it is in.
    pub relocated: f64,
    /// The rest: images of nodes, bodies of checkpoints, what trimming logged again, headers, inventories and seals of segments.
    pub metadata: f64,
}

impl WriteAmplification {
    /// All device bytes over users' bytes.
    pub fn total(&self) -> f64 {
        self.data + self.relocated + self.metadata
    }
}

impl Stats {
    /// Device bytes over bytes that users wrote, since the store was opened; none if they wrote nothing.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn write_amplification(&self) -> Option<WriteAmplification> {
        if self.user_bytes_written == 0 {
            return None;
        }
        let share = |bytes: u64| bytes as f64 / self.user_bytes_written as f64;
        let streams = self.journal_bytes_written + self.bulk_bytes_written;
        let data = streams.saturating_sub(self.bytes_logged_again);
        let rest = self.device_bytes_written.saturating_sub(data + self.relocated_bytes_written);
        let relocated = share(self.relocated_bytes_written);
        Some(WriteAmplification { data: share(data), relocated, metadata: share(rest) })
    }
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) stats: RefCell<Stats>,
}

impl Counters {
    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.borrow_mut());
    }
}
