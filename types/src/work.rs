//! Work: what one poll of a task does, counted, so that a suite notices a request that holds its thread for long.
//!
//! A thread runs all its requests in turn, so a request that sums 200 MiB between two awaits holds every other one. Time
//! depends on the machine; bytes copied, zeroed or summed and rows handled do not. The places that do such work count it
//! here, per thread. The simulator begins a count before each poll of a task and compares the largest with its bound
//! afterwards; a request that is submitted or asked within a poll begins a count of its own ([`begin`]), since what one
//! task submits in a loop is no single request.
//!
//! Like [`mod@crate::reached`] it counts in programs with debug assertions and with `--cfg seeded_bugs`; in every other
//! program it is nothing.
//!
//! Example: a put of 200 MiB that is summed in one poll counts 50 times the bound of 4 MiB; one that yields after each
//! record of 1 MiB counts 1 MiB.

/// Whether work is counted in this program.
pub const IS_COUNTED: bool = cfg!(any(debug_assertions, seeded_bugs));

/// As many bytes take about as long as one row: 4 MiB to copy and sum take as long as 2,000 rows, some 500 us.
const BYTES_PER_ROW: u64 = 2048;

/// What was done since a count began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Which request or task it was, as far as it has a name.
    pub of: &'static str,
    /// Bytes copied, zeroed or summed.
    pub bytes: u64,
    /// Rows looked up, visited or changed.
    pub rows: u64,
}

impl Work {
    /// A count that begins.
    pub const fn none(of: &'static str) -> Self {
        Self { of, bytes: 0, rows: 0 }
    }

    /// How long it takes, in bytes that take as long.
    pub const fn rank(&self) -> u64 {
        self.bytes + self.rows * BYTES_PER_ROW
    }
}

#[cfg(any(debug_assertions, seeded_bugs))]
mod counts {
    use std::cell::Cell;

    use super::Work;

    thread_local! {
        static NOW: Cell<Work> = const { Cell::new(Work::none("")) };
        static MOST: Cell<Work> = const { Cell::new(Work::none("")) };
    }

    /// Counts bytes that were copied, zeroed or summed.
    #[inline]
    pub fn bytes(count: usize) {
        let now = NOW.get();
        NOW.set(Work { bytes: now.bytes + count as u64, ..now });
    }

    /// Counts rows that were looked up, visited or changed.
    #[inline]
    pub fn rows(count: usize) {
        let now = NOW.get();
        NOW.set(Work { rows: now.rows + count as u64, ..now });
    }

    /// Begins the count of another request.
    pub fn begin(of: &'static str) {
        let (now, most) = (NOW.replace(Work::none(of)), MOST.get());
        if now.rank() > most.rank() {
            MOST.set(now);
        }
    }

    /// Names what is counted now.
    pub fn name(of: &'static str) {
        NOW.set(Work { of, ..NOW.get() });
    }

    /// The largest count since the last call; forgets it.
    pub fn take_most() -> Work {
        begin("");
        MOST.replace(Work::none(""))
    }
}

#[cfg(not(any(debug_assertions, seeded_bugs)))]
#[expect(clippy::inline_always, reason = "it must cost nothing")]
mod counts {
    use super::Work;

    /// Counts bytes: not in this program.
    #[inline(always)]
    pub const fn bytes(_count: usize) {}

    /// Counts rows: not in this program.
    #[inline(always)]
    pub const fn rows(_count: usize) {}

    /// Begins the count of another request: not in this program.
    #[inline(always)]
    pub const fn begin(_of: &'static str) {}

    /// Names what is counted: not in this program.
    #[inline(always)]
    pub const fn name(_of: &'static str) {}

    /// Nothing was counted.
    #[inline(always)]
    pub const fn take_most() -> Work {
        Work::none("")
    }
}

pub use counts::{begin, bytes, name, rows, take_most};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_a_count_of_its_own() {
        take_most();
        bytes(70 << 10);
        begin("a read");
        bytes(50 << 10);
        name("a listing");
        rows(100);
        begin("a put");
        rows(2);
        assert_eq!(take_most(), Work { of: "a listing", bytes: 50 << 10, rows: 100 });
        assert_eq!(take_most(), Work::none(""));
    }
}
