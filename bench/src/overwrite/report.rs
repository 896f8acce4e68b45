//! Report: what was measured.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::BLOCK_BYTES;

/// Why it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The time was over.
    Time,
    /// There was no space for another write.
    NoSpace,
    /// It was asked to.
    Interrupted,
}

/// How long writes took, from submission to acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    /// Half took no longer.
    pub p50: Duration,
    /// 99 % took no longer.
    pub p99: Duration,
    /// 99.9 % took no longer.
    pub p999: Duration,
    /// None took longer.
    pub max: Duration,
}

/// What reading everything back showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Blocks that were read.
    pub blocks: u64,
    /// Of those, blocks that hold neither their last acknowledged write nor a later one.
    pub wrong: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Bytes of all objects.
    pub data_bytes: u64,
    /// How long writing them all took.
    pub fill_time: Duration,
    /// How long was measured.
    pub time: Duration,
    /// Writes that were acknowledged in that time.
    pub operations: u64,
    /// How long they took.
    pub latency: Latency,
    /// CPU time of the whole process in that time.
    pub cpu_time: Duration,
    /// Of the CPU time that the whole machine wanted in that time, the share that a hypervisor gave to others.
    pub stolen: f64,
    /// Bytes that the engine wrote in that time.
    pub device_bytes: u64,
    /// Of those, the journal's.
    pub journal_bytes: u64,
    /// Of those, the tree nodes'.
    pub node_bytes: u64,
    /// Bytes that the kernel wrote for the process in that time, if it tells.
    pub kernel_bytes: Option<u64>,
    /// Why it ended.
    pub ending: Ending,
    /// Whether the data is right.
    pub verified: Verified,
}

impl Report {
    /// Writes a second.
    pub fn per_second(&self) -> u64 {
        let nanoseconds = self.time.as_nanos().max(1);
        u64::try_from(u128::from(self.operations) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
    }

    /// Seconds of CPU time a write.
    pub fn cpu_per_operation(&self) -> f64 {
        self.cpu_time.as_secs_f64() / ratio_of(self.operations.max(1))
    }

    /// Bytes that the engine wrote for a byte of a client.
    pub fn engine_amplification(&self) -> f64 {
        self.amplification(self.device_bytes)
    }

    /// Bytes that the kernel wrote for a byte of a client, if it tells.
    pub fn kernel_amplification(&self) -> Option<f64> {
        self.kernel_bytes.map(|bytes| self.amplification(bytes))
    }

    fn amplification(&self, bytes: u64) -> f64 {
        ratio_of(bytes) / ratio_of((self.operations * BLOCK_BYTES).max(1))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio_of(count: u64) -> f64 {
    count as f64
}

/// Collects latencies.
pub(super) struct Recorder {
    nanoseconds: Histogram<u64>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let nanoseconds = Histogram::new(3).expect("three digits are allowed");
        Self { nanoseconds }
    }

    pub(super) fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.record(nanoseconds).expect("a histogram without an upper end takes every value");
    }

    pub(super) fn operations(&self) -> u64 {
        self.nanoseconds.len()
    }

    pub(super) fn latency(&self) -> Latency {
        let at = |quantile| Duration::from_nanos(self.nanoseconds.value_at_quantile(quantile));
        Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(self.nanoseconds.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let mut recorder = Recorder::new();
        for microseconds in 1..=1000 {
            recorder.record(Duration::from_micros(microseconds));
        }
        assert_eq!(recorder.operations(), 1000);
        let latency = recorder.latency();
        let near =
            |time: Duration, microseconds: f64| (time.as_secs_f64() * 1e6 / microseconds - 1.0).abs() < 0.002;
        assert!(
            near(latency.p50, 500.0) && near(latency.p99, 990.0) && near(latency.max, 1000.0),
            "{latency:?}"
        );
    }

    #[test]
    fn ratios() {
        let report = Report {
            data_bytes: 0,
            fill_time: Duration::ZERO,
            time: Duration::from_secs(2),
            operations: 1000,
            latency: Recorder::new().latency(),
            cpu_time: Duration::from_millis(5),
            stolen: 0.0,
            device_bytes: 1000 * BLOCK_BYTES * 3 / 2,
            journal_bytes: 0,
            node_bytes: 0,
            kernel_bytes: None,
            ending: Ending::Time,
            verified: Verified::default(),
        };
        assert_eq!(report.per_second(), 500);
        assert!((report.cpu_per_operation() - 5e-6).abs() < 1e-12);
        assert!((report.engine_amplification() - 1.5).abs() < 1e-12);
        assert_eq!(report.kernel_amplification(), None);
    }
}
