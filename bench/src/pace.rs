//! Pace: when the next operation of a job with `rate_iops` is due.
//!
//! Operation k of a direction is due k / rate after the start. Who is late does not wait: the job catches up, as with
//! fio's `rate_process=linear`.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::job::Direction;

/// See the module.
pub(crate) struct Pace {
    start: Instant,
    rates: [Option<u32>; 3],
    taken: [Cell<u64>; 3],
}

impl Pace {
    pub(crate) fn new(start: Instant, rates: [Option<u32>; 3]) -> Self {
        Self { start, rates, taken: Default::default() }
    }

    /// Takes the next place of a direction; none if it has no rate.
    pub(crate) fn take(&self, direction: Direction) -> Option<Instant> {
        let place = direction.index();
        let rate = self.rates[place]?;
        let taken = &self.taken[place];
        let number = taken.replace(taken.get() + 1);
        let micros = u128::from(number) * 1_000_000 / u128::from(rate);
        Some(self.start + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenly_by_direction() {
        let start = Instant::now();
        let pace = Pace::new(start, [Some(1000), None, Some(3)]);
        let due = |direction| pace.take(direction).map(|due| due - start);
        assert_eq!(due(Direction::Read), Some(Duration::ZERO));
        assert_eq!(due(Direction::Read), Some(Duration::from_millis(1)));
        assert_eq!(due(Direction::Write), None);
        for _ in 0..3 {
            due(Direction::Trim);
        }
        assert_eq!(due(Direction::Trim), Some(Duration::from_secs(1)));
    }
}
