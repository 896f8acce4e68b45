//! Check: whether a job's options go together.

use super::{Amount, Distribution, Job, Mix, Think, Workload};

/// Smaller units would be mostly header.
const VERIFY_UNIT_MIN: u64 = 512;

impl Job {
    /// Why it cannot run, if so.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.is_time_based && self.runtime.is_none() {
            return Err("time_based needs a runtime");
        }
        if self.rate_iops.iter().any(Option::is_some) && self.rate_bytes.iter().any(Option::is_some) {
            return Err("rate and rate_iops exclude each other");
        }
        if self.think.as_ref().is_some_and(|think| think.time.is_zero() && *think != Think::default()) {
            return Err("options of thinktime need a thinktime");
        }
        if self.workload != Workload::Blocks {
            return self.check_other();
        }
        self.check_region()?;
        if self.verifies_only && !self.verifies {
            return Err("verify_only needs verify=crc32c");
        }
        if self.verifies && matches!(self.access.mix, Mix::Trim | Mix::TrimWrite) {
            return Err("there is nothing to verify after trims");
        }
        if self.verifies && (self.verify_unit() < VERIFY_UNIT_MIN || !self.is_aligned()) {
            return Err(
                "verify takes blocks, offset and file size that are multiples of 512 bytes in common",
            );
        }
        Ok(())
    }

    fn check_other(&self) -> Result<(), &'static str> {
        if self.verifies || self.verifies_only {
            return Err("only workload=blocks takes verify; the others check what they read anyway");
        }
        if matches!(self.io_bytes, Some(Amount::Percent(_))) {
            return Err("an io_size that is a percentage needs workload=blocks");
        }
        let is_known = match (&self.distribution, self.workload) {
            (Distribution::Zoned(_) | Distribution::Sequence(_), _) => false,
            (Distribution::Uniform | Distribution::Zipf { .. }, _) => true,
            (_, workload) => !matches!(workload, Workload::Ycsb(_)),
        };
        if !is_known {
            return Err("this random_distribution needs another workload");
        }
        match (self.runtime, self.io_bytes, self.operations) {
            (None, None, None) => Err("it needs a runtime, an io_size or number_ios"),
            _ => Ok(()),
        }
    }

    fn check_region(&self) -> Result<(), &'static str> {
        if self.file_bytes.is_none() {
            match self.size {
                None => {
                    return Err(
                        "it needs a size, as --size=1g: that of a device or file outside the store is not used",
                    );
                }
                Some(Amount::Percent(_)) => {
                    return Err("a size that is a percentage needs a filesize, as --filesize=1g");
                }
                Some(Amount::Bytes(_)) => {}
            }
            if [self.offset, self.offset_increment].iter().any(|part| matches!(part, Amount::Percent(1..))) {
                return Err("an offset that is a percentage needs a filesize, as --filesize=1g");
            }
        }
        if let Distribution::Sequence(blocks) = &self.distribution {
            let places = self.region_bytes(0) / self.smallest_block().max(1);
            if blocks.iter().any(|block| u64::from(*block) >= places) {
                return Err("a block of its sequence is not in its region");
            }
        }
        let last = self.copies - 1;
        if self.region_start(last).checked_add(self.region_bytes(last)).is_none_or(|end| end > FILE_BYTES_MAX)
        {
            return Err("its file is too large");
        }
        if self.region_bytes(last) < self.largest_block() {
            return Err("its region is smaller than a block");
        }
        Ok(())
    }

    fn is_aligned(&self) -> bool {
        let unit = self.verify_unit();
        (0..self.copies).all(|copy| {
            self.region_start(copy).is_multiple_of(unit) && self.bytes_of_file(copy).is_multiple_of(unit)
        }) && crate::blocks::OBJECT_BYTES.is_multiple_of(unit)
    }
}

/// Larger files are taken for mistakes.
const FILE_BYTES_MAX: u64 = 1 << 62;
