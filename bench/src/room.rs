//! Room: how large a temporary store for some jobs must be.
//!
//! Twice the data, for what is known of it and for what is rewritten, and all bytes that are written: without a cleaner
//! at work a segment comes back only when all of it is dead. How much a job writes that ends by its time is not known: it
//! is taken for `BYTES_PER_SECOND` unless it has a rate. The free disk sets the limit; a run that meets it ends early
//! and says so.

use crate::blocks::OBJECT_BYTES;
use crate::job::{Direction, Job, Mix, Workload};

/// What a device takes in a second, at most.
const BYTES_PER_SECOND: u64 = 1 << 30;
/// What a store needs for itself.
const BYTES_MIN: u64 = 64 << 20;
/// Of a hundred free bytes.
const SHARE_OF_FREE: u64 = 70;
/// What a small record takes besides its bytes.
const RECORD_OVERHEAD: u64 = 200;

/// Bytes of a store for these jobs, where `free` bytes are free.
pub fn store_bytes(jobs: &[Job], free: u64) -> u64 {
    let sum = |of: fn(&Job, u32) -> u64| {
        let copies = jobs.iter().flat_map(|job| (0..job.copies).map(move |copy| of(job, copy)));
        copies.fold(0u64, u64::saturating_add)
    };
    let wanted =
        sum(data_bytes).saturating_mul(2).saturating_add(sum(bytes_written)).saturating_add(BYTES_MIN);
    wanted.min(free / 100 * SHARE_OF_FREE).next_multiple_of(1 << 20)
}

/// Bytes of data of a copy.
fn data_bytes(job: &Job, copy: u32) -> u64 {
    match job.workload {
        Workload::Blocks => job.region_bytes(copy),
        Workload::Objects => u64::from(job.objects).saturating_mul(job.object_sizes.mean() + RECORD_OVERHEAD),
        Workload::Ycsb(_) => u64::from(job.records) * (u64::from(job.record_bytes) + RECORD_OVERHEAD),
        Workload::Replicated => u64::from(job.objects).saturating_mul(OBJECT_BYTES),
    }
}

/// Bytes that a copy writes, at most or about.
fn bytes_written(job: &Job, copy: u32) -> u64 {
    let writes_nothing = job.workload == Workload::Blocks
        && (matches!(job.access.mix, Mix::Read | Mix::Trim) || job.verifies_only);
    if writes_nothing {
        return 0;
    }
    let bytes = match job.workload {
        Workload::Blocks | Workload::Replicated => job.block_sizes[Direction::Write.index()].max(),
        Workload::Objects => job.object_sizes.mean(),
        Workload::Ycsb(_) => u64::from(job.record_bytes),
    };
    let by_time = job.runtime.map(|time| {
        let write = Direction::Write.index();
        let by_operations = job.rate_iops[write].map(|rate| u64::from(rate) * (bytes + RECORD_OVERHEAD));
        let by_bytes =
            job.rate_bytes[write].map(|rate| rate.saturating_add(rate / bytes.max(1) * RECORD_OVERHEAD));
        let per_second = by_operations.or(by_bytes).unwrap_or(BYTES_PER_SECOND);
        let micros = u64::try_from((time + job.ramp_time).as_micros()).unwrap_or(u64::MAX);
        u64::try_from(u128::from(per_second) * u128::from(micros) / 1_000_000).unwrap_or(u64::MAX)
    });
    // A small write takes its share of a block besides.
    let by_bytes =
        job.budget(copy).map(|budget| budget.saturating_add(budget / bytes.max(1) * RECORD_OVERHEAD));
    let by_count = job.operations_max().map(|count| count.saturating_mul(bytes + RECORD_OVERHEAD));
    by_time.into_iter().chain(by_bytes).chain(by_count).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Jobs;

    const G: u64 = 1 << 30;

    fn room(options: &str, free: u64) -> u64 {
        store_bytes(&Jobs::parse(&format!("[a]\n{options}"), &[]).expect("a job").jobs, free)
    }

    #[test]
    fn data_twice_and_what_is_written() {
        let near = |bytes: u64, wanted: u64| {
            assert!((wanted..=wanted + wanted / 10 + BYTES_MIN).contains(&bytes), "{bytes} {wanted}");
        };
        near(room("rw=randread\nsize=1g", 1000 * G), 2 * G);
        near(room("rw=write\nsize=1g", 1000 * G), 3 * G);
        near(room("rw=randwrite\nsize=1g\nio_size=4g\nnumjobs=2", 1000 * G), 12 * G);
        near(room("rw=randwrite\nsize=1g\nruntime=5\ntime_based", 1000 * G), 7 * G);
        near(room("rw=randwrite\nsize=1g\nruntime=5\nramp_time=5\ntime_based", 1000 * G), 12 * G);
        near(room("rw=randwrite\nbs=1m\nsize=1g\nruntime=10\ntime_based\nrate_iops=100", 1000 * G), 3 * G);
        near(room("workload=replicated\nobjects=256\nio_size=1g", 1000 * G), 3 * G);
        near(room("workload=ycsb-c\nrecords=1000000\nio_size=1g", 1000 * G), 3 * G + G / 3);
    }

    #[test]
    fn never_more_than_the_disk_has() {
        assert_eq!(room("rw=randwrite\nsize=1g\nruntime=1d\ntime_based", 10 * G) / G, 7);
        assert!(room("rw=randwrite\nsize=100g", 10 * G) <= 7 * G + (1 << 20));
    }
}
