//! Live: what a run is doing and has done so far, for whoever watches it from another thread.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::job::Direction;

/// What a run is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It writes the files that jobs work on.
    Preparing,
    /// It runs, and does not count yet.
    Ramping,
    /// It measures.
    Running,
    /// It verifies what was written.
    Verifying,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Preparing, Self::Ramping, Self::Running, Self::Verifying];

    /// A word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Ramping => "ramping up",
            Self::Running => "running",
            Self::Verifying => "verifying",
        }
    }
}

/// See the module. The counters only grow.
#[derive(Default, Debug)]
pub struct Live {
    phase: AtomicU8,
    group: AtomicU64,
    operations: [AtomicU64; 3],
    bytes: [AtomicU64; 3],
}

impl Live {
    pub(crate) fn enter(&self, phase: Phase) {
        let place = Phase::ALL.iter().position(|known| *known == phase).unwrap_or(0);
        self.phase.store(u8::try_from(place).unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn begin_group(&self, group: u64) {
        self.group.store(group, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, direction: Direction, bytes: u64) {
        self.operations[direction.index()].fetch_add(1, Ordering::Relaxed);
        self.bytes[direction.index()].fetch_add(bytes, Ordering::Relaxed);
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        let place = usize::from(self.phase.load(Ordering::Relaxed));
        Phase::ALL.get(place).copied().unwrap_or(Phase::Preparing)
    }

    /// Which group of jobs, from 0.
    pub fn group(&self) -> u64 {
        self.group.load(Ordering::Relaxed)
    }

    /// Operations and bytes so far.
    pub fn counts(&self, direction: Direction) -> (u64, u64) {
        let place = direction.index();
        (self.operations[place].load(Ordering::Relaxed), self.bytes[place].load(Ordering::Relaxed))
    }
}
