//! Seeded bugs: shows that the suites find what they are there to find.
//!
//! [`BUGS`] lists one-line defects that `--cfg seeded_bugs` compiles into the live code (`seabed_types::seeded`), each with
//! the rule or the row of the fault table that it breaks and the suite that guards that. A *hunt* arms one bug and runs its
//! suite seed by seed until a seed fails: a broken rule, or a panic, which ends the process, so every hunt is a process of
//! its own. A bug counts as found if the median of its hunts needs no more seeds than its row states. With no bug armed
//! every suite must be clean on the same seeds.
//!
//! Not here: the process that runs hunts (`commands/seeded_bugs.rs`).

mod bugs;
mod suites;

pub use bugs::{BUGS, Bug};
pub use suites::Suite;

/// Hunts that a process is told to run: seeds of a suite, from the first on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hunt {
    /// The bug to arm; 0: none.
    pub bug: u32,
    /// The suite to run.
    pub suite: Suite,
    /// The first seed.
    pub seed: u64,
    /// How many seeds at most.
    pub seeds: u64,
}

/// How a hunt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// So many seeds were clean.
    Clean(u64),
    /// The seed of this number, from 1, failed, and how.
    Found(u64, String),
}

impl Hunt {
    /// Runs it in this process; `clean` is told of each seed that showed nothing, so that a watcher knows how far a process
    /// came that a panic ended.
    pub fn run(self, mut clean: impl FnMut()) -> Ended {
        seabed_types::seeded::arm(self.bug);
        for number in 0..self.seeds {
            if let Some(what) = self.suite.failure(self.seed + number) {
                return Ended::Found(number + 1, what);
            }
            clean();
        }
        Ended::Clean(self.seeds)
    }
}

/// The bug of this number.
pub fn bug(number: u32) -> Option<&'static Bug> {
    BUGS.iter().find(|bug| bug.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bugs_are_numbered_and_cover_the_rules() {
        assert!(BUGS.len() >= 40);
        assert!(BUGS.is_sorted_by(|one, next| one.number < next.number), "in order, each once");
        for bug in BUGS {
            assert!(bug.within > 0 && !bug.what.is_empty() && bug.file.contains('/'), "{bug:?}");
        }
        let rules = [
            "L1", "L2", "L3", "L4", "L5", "L6", "L7", "T1", "T2", "T3", "T4", "C1", "C2", "C3", "C4", "C6",
            "C7", "C8", "E1", "E3", "E4", "S1", "S2", "S3", "S4", "S5", "S6", "F4", "F6",
        ];
        for rule in rules {
            assert!(BUGS.iter().any(|bug| bug.guards == rule), "no bug breaks {rule}");
        }
    }
}
