//! Record: how long operations of one direction took, and how many there were in each half second.
//!
//! Cost: about 15 ns an operation; 32 bytes of memory a half second, some 100 KiB for the histogram.
//! Limits: latencies to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What a sample covers.
pub const SAMPLE_TIME: Duration = Duration::from_millis(500);

/// Operations that ended within one half second.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sample {
    /// How many.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Record {
    nanoseconds: Histogram<u64>,
    sum: f64,
    sum_of_squares: f64,
    bytes: u64,
    samples: Vec<Sample>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            nanoseconds: Histogram::new(3).expect("three digits are allowed"),
            sum: 0.0,
            sum_of_squares: 0.0,
            bytes: 0,
            samples: Vec::new(),
        }
    }
}

impl Record {
    /// An operation took `latency` and ended `at` after the start.
    pub(crate) fn add(&mut self, bytes: u64, latency: Duration, at: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.nanoseconds.record(nanoseconds).expect("a histogram without an upper end takes every value");
        let real = latency.as_secs_f64() * 1e9;
        self.sum += real;
        self.sum_of_squares += real * real;
        self.bytes += bytes;
        let index = usize::try_from(at.as_nanos() / SAMPLE_TIME.as_nanos()).unwrap_or(0);
        if self.samples.len() <= index {
            self.samples.resize(index + 1, Sample::default());
        }
        self.samples[index].operations += 1;
        self.samples[index].bytes += bytes;
    }

    /// Adds what another one has.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.nanoseconds.add(&other.nanoseconds).expect("a histogram without an upper end takes every value");
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.bytes += other.bytes;
        if self.samples.len() < other.samples.len() {
            self.samples.resize(other.samples.len(), Sample::default());
        }
        for (sample, more) in self.samples.iter_mut().zip(&other.samples) {
            sample.operations += more.operations;
            sample.bytes += more.bytes;
        }
    }

    /// Operations.
    pub fn operations(&self) -> u64 {
        self.nanoseconds.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// By half seconds.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The latency that so many of a hundred did not exceed, in nanoseconds.
    pub fn percentile(&self, percent: f64) -> u64 {
        self.nanoseconds.value_at_percentile(percent)
    }

    /// The least latency in nanoseconds.
    pub fn min(&self) -> u64 {
        if self.operations() == 0 { 0 } else { self.nanoseconds.min() }
    }

    /// The largest latency in nanoseconds.
    pub fn max(&self) -> u64 {
        self.nanoseconds.max()
    }

    /// The mean latency in nanoseconds.
    pub fn mean(&self) -> f64 {
        if self.operations() == 0 { 0.0 } else { self.sum / real(self.operations()) }
    }

    /// The standard deviation of the latency in nanoseconds.
    pub fn deviation(&self) -> f64 {
        if self.operations() < 2 {
            return 0.0;
        }
        let count = real(self.operations());
        let squares = self.sum_of_squares - self.sum * self.sum / count;
        (squares.max(0.0) / (count - 1.0)).sqrt()
    }

    /// Latencies in nanoseconds, ascending, each with how many took it.
    pub fn values(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.nanoseconds.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_samples() {
        let (mut a, mut b) = (Record::default(), Record::default());
        assert_eq!((a.min(), a.max(), a.operations()), (0, 0, 0));
        a.add(4096, Duration::from_micros(10), Duration::from_millis(100));
        a.add(4096, Duration::from_micros(20), Duration::from_millis(499));
        b.add(512, Duration::from_micros(30), Duration::from_millis(1600));
        a.merge(&b);
        assert_eq!((a.operations(), a.bytes()), (3, 8704));
        assert!((a.mean() - 20_000.0).abs() < 1e-6 && (a.deviation() - 10_000.0).abs() < 1e-6);
        let counts: Vec<_> = a.samples().iter().map(|sample| (sample.operations, sample.bytes)).collect();
        assert_eq!(counts, [(2, 8192), (0, 0), (0, 0), (1, 512)]);
        assert!(a.percentile(50.0).abs_diff(20_000) <= 20);
        assert_eq!(a.values().map(|(_, count)| count).sum::<u64>(), 3);
    }
}
