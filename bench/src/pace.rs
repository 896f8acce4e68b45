//! Pace: when the next operation of a job with `rate` or `rate_iops` is due.
//!
//! Operation k of a direction is due k / rate after the start, or when the bytes before it would have passed. A job that
//! is late does not wait: it catches up, as with fio's `rate_process=linear`. With `poisson` the times between operations
//! are exponentially distributed.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::job::{Direction, Job};

/// See the module.
pub(crate) struct Pace {
    start: Instant,
    rates: [Option<Rate>; 3],
    /// Operations or bytes of each direction so far.
    taken: [Cell<u64>; 3],
    /// When the next operation of each direction is due after the start, and what it follows from.
    arrivals: Option<(RefCell<Rng>, [Cell<Duration>; 3])>,
}

#[derive(Clone, Copy)]
enum Rate {
    Operations(u32),
    Bytes { per_second: u64, block: u64 },
}

impl Pace {
    pub(crate) fn new(start: Instant, job: &Job, seed: u64) -> Self {
        let rates = Direction::ALL.map(|direction| {
            let place = direction.index();
            let block = job.block_sizes[place].min();
            job.rate_iops[place]
                .map(Rate::Operations)
                .or(job.rate_bytes[place].map(|per_second| Rate::Bytes { per_second, block }))
        });
        let arrivals = job.has_poisson_rate.then(|| (RefCell::new(Rng::with_seed(seed)), Default::default()));
        Self { start, rates, taken: Default::default(), arrivals }
    }

    /// Takes the next place of a direction, for an operation of `bytes`; none if it has no rate.
    pub(crate) fn take(&self, direction: Direction, bytes: u64) -> Option<Instant> {
        let place = direction.index();
        let rate = self.rates[place]?;
        if let Some((rng, due)) = &self.arrivals {
            let mean = match rate {
                Rate::Operations(per_second) => 1.0 / f64::from(per_second),
                Rate::Bytes { per_second, block } => seconds(block) / seconds(per_second),
            };
            let wait = -mean * (1.0 - rng.borrow_mut().f64()).ln();
            let at = due[place].get().saturating_add(Duration::try_from_secs_f64(wait).unwrap_or_default());
            due[place].set(at);
            return self.start.checked_add(at);
        }
        let taken = &self.taken[place];
        let (per_second, cost) = match rate {
            Rate::Operations(per_second) => (u64::from(per_second), 1),
            Rate::Bytes { per_second, .. } => (per_second, bytes),
        };
        let before = taken.replace(taken.get().saturating_add(cost));
        let micros = u128::from(before) * 1_000_000 / u128::from(per_second);
        self.start.checked_add(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates beyond 2^53 bytes a second are none")]
fn seconds(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Jobs;

    fn pace(options: &str, start: Instant) -> Pace {
        let jobs = Jobs::parse(&format!("[a]\nsize=1m\n{options}"), &[]).expect("a job");
        Pace::new(start, &jobs.jobs[0], 1)
    }

    #[test]
    fn evenly_by_direction() {
        let start = Instant::now();
        let pace = pace("rate_iops=1000,,3", start);
        let due = |direction| pace.take(direction, 4096).map(|due| due - start);
        assert_eq!(due(Direction::Read), Some(Duration::ZERO));
        assert_eq!(due(Direction::Read), Some(Duration::from_millis(1)));
        assert_eq!(due(Direction::Write), None);
        for _ in 0..3 {
            due(Direction::Trim);
        }
        assert_eq!(due(Direction::Trim), Some(Duration::from_secs(1)));
    }

    #[test]
    fn bytes_are_due_when_those_before_have_passed() {
        let start = Instant::now();
        let pace = pace("rate=,1m", start);
        let due = |bytes| pace.take(Direction::Write, bytes).map(|due| due - start);
        assert_eq!(pace.take(Direction::Read, 4096), None);
        assert_eq!(due(1 << 19), Some(Duration::ZERO));
        assert_eq!(due(1 << 18), Some(Duration::from_millis(500)));
        assert_eq!(due(1), Some(Duration::from_millis(750)));
    }

    /// 10,000 arrivals: their mean is that of the rate, and e^-1 of the times between them are longer than it.
    #[test]
    fn arrivals_are_a_poisson_process() {
        for rate in ["rate_iops=1000", "rate=4096000"] {
            let start = Instant::now();
            let pace = pace(&format!("{rate}\nrate_process=poisson"), start);
            let dues: Vec<Instant> =
                (0..10_000).map(|_| pace.take(Direction::Read, 4096).expect("a rate")).collect();
            let all = (dues[9999] - start).as_secs_f64();
            assert!((all - 10.0).abs() < 0.5, "{rate}: {all}");
            let long = dues.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(1)).count();
            assert!(long.abs_diff(3679) < 200, "{rate}: {long}");
        }
    }
}
