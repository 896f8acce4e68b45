//! Access: what a client does with blocks: directions, and the order of places.

/// What a client does with blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Whether places follow each other, or are drawn.
    pub is_random: bool,
    /// What is done there.
    pub mix: Mix,
}

/// Which operations a job has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Reads and writes, by `rwmixread`.
    Both,
    /// Trims only.
    Trim,
    /// Trims, each followed by a write of the same block.
    TrimWrite,
}

impl Access {
    /// fio's word for it.
    pub fn name(self) -> &'static str {
        match (self.is_random, self.mix) {
            (false, Mix::Read) => "read",
            (false, Mix::Write) => "write",
            (false, Mix::Both) => "rw",
            (false, Mix::Trim) => "trim",
            (false, Mix::TrimWrite) => "trimwrite",
            (true, Mix::Read) => "randread",
            (true, Mix::Write) => "randwrite",
            (true, Mix::Both) => "randrw",
            (true, Mix::Trim) => "randtrim",
            (true, Mix::TrimWrite) => "randtrimwrite",
        }
    }
}

/// The number after the colon of `rw=randread:8` or `rw=read:4k`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is none: each place is drawn, or follows the last one.
    Each,
    /// A random job draws a place for each so many operations.
    Draw {
        /// Operations for each drawn place.
        operations: u32,
    },
    /// A sequential job adds so many bytes to each place but the first.
    Skip {
        /// Bytes; negative ones go backwards.
        bytes: i64,
    },
}

/// What operations between two drawn places do (`rw_sequencer`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequencer {
    /// They follow the one before.
    Sequential,
    /// They repeat the one before.
    Identical,
}

/// The three kinds of operations that fio counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Reads, gets, scans.
    Read,
    /// Writes, puts, updates, inserts.
    Write,
    /// Trims, deletes.
    Trim,
}

impl Direction {
    /// All of them, in fio's order.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Trim];

    /// Its place in arrays of three.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// fio's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Trim => "trim",
        }
    }
}
