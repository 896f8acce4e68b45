//! Region: where a job's blocks are and how much it does, of each copy.
//!
//! As with fio, without `filesize` the region is `size` bytes at `offset`; with it the region is the rest of the file
//! after `offset`, and `size` how much of it is read and written, unless it is a percentage.

use super::{Amount, Job, Mix, Workload};

impl Job {
    /// The smallest block of its directions.
    pub fn smallest_block(&self) -> u64 {
        self.directions().iter().map(|direction| self.block_sizes[direction.index()].min()).min().unwrap_or(1)
    }

    /// The largest block of its directions.
    pub fn largest_block(&self) -> u64 {
        self.directions().iter().map(|direction| self.block_sizes[direction.index()].max()).max().unwrap_or(1)
    }

    /// Where the region of a copy begins: blocks only.
    pub fn region_start(&self, copy: u32) -> u64 {
        let file_bytes = self.file_bytes.unwrap_or(0);
        let increment = self.offset_increment.of(file_bytes).saturating_mul(u64::from(copy));
        let start = self.offset.of(file_bytes).saturating_add(increment);
        let is_percentage =
            [self.offset, self.offset_increment].iter().any(|part| matches!(part, Amount::Percent(1..)));
        let align = if is_percentage { self.offset_align.unwrap_or(self.smallest_block()) } else { 1 };
        start.checked_next_multiple_of(align.max(1)).unwrap_or(u64::MAX)
    }

    /// Bytes of the region that a copy works on: blocks only.
    ///
    /// With `filesize` it is the rest of the file, as with fio, and `size` how much of it is read and written; a
    /// percentage is a part of the file.
    pub fn region_bytes(&self, copy: u32) -> u64 {
        match (self.file_bytes, self.size) {
            (None, Some(Amount::Bytes(bytes))) => bytes,
            (None, Some(Amount::Percent(_)) | None) => 0,
            (Some(file_bytes), size) => {
                let rest = file_bytes.saturating_sub(self.region_start(copy));
                match size {
                    Some(Amount::Percent(percent)) if percent < 100 => {
                        let bytes = Amount::Percent(percent).of(file_bytes).min(rest);
                        bytes - bytes % self.smallest_block().max(1)
                    }
                    _ => rest,
                }
            }
        }
    }

    /// Bytes of the file of a copy: blocks only.
    pub fn bytes_of_file(&self, copy: u32) -> u64 {
        let end = self.region_start(copy).saturating_add(self.region_bytes(copy));
        self.file_bytes.unwrap_or(end)
    }

    /// Bytes that a copy reads and writes at most; none: until its time is over.
    pub fn budget(&self, copy: u32) -> Option<u64> {
        if self.is_time_based {
            return None;
        }
        let once = match self.workload {
            Workload::Blocks => Some(self.bytes_once(copy)),
            Workload::Objects | Workload::Ycsb(_) | Workload::Replicated => {
                self.io_bytes.map(|amount| amount.of(0))
            }
        };
        once.map(|once| once.saturating_mul(u64::from(self.loops)))
    }

    /// Bytes that a copy reads and writes in each of its loops.
    fn bytes_once(&self, copy: u32) -> u64 {
        let region = self.region_bytes(copy);
        let bytes = match (self.io_bytes, self.size) {
            (Some(amount), _) => amount.of(region),
            (None, Some(Amount::Bytes(bytes))) => bytes.min(region),
            (None, _) => region,
        };
        // A rest smaller than a block is left out in each loop; blocks of different sizes may fill it.
        let block = self.largest_block();
        let bytes = if block == self.smallest_block() { bytes - bytes % block.max(1) } else { bytes };
        // Each byte is trimmed, then written.
        if self.access.mix == Mix::TrimWrite { bytes.saturating_mul(2) } else { bytes }
    }

    /// Operations of a copy, at most.
    pub fn operations_max(&self) -> Option<u64> {
        let twice = if self.access.mix == Mix::TrimWrite { 2 } else { 1 };
        self.operations.map(|count| count.saturating_mul(u64::from(self.loops)).saturating_mul(twice))
    }
}
