//! Rules: the design's own check, programs that run the rules of `docs/RULES.md` without an engine.
//!
//! Each model is written from the rules, small enough that the rules can be seen in it, and runs random programs with the
//! faults that the rules are for. With all rules on nothing is lost; each rule can be switched off, and then something
//! is, within a stated number of seeds: that is what the rule is for, and that the model can fail. When the design
//! changes, its model changes first.
//!
//! [`log`] is the journal, checkpoints, mounts and reuse on segments; [`families`] what clones see (not built yet);
//! [`space`] the arithmetic of what may be filled. Not here: transfers between shards, which come with them.

pub mod families;
pub mod log;
pub mod space;

/// How many seeds a rule was tried with, and the first that broke.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explored {
    /// Seeds.
    pub seeds: u64,
    /// The first that showed a violation, and which.
    pub first: Option<(u64, String)>,
}

/// Runs seeds until one shows a violation, or all have run.
pub fn explore(seeds: u64, run: impl Fn(u64) -> Result<(), String>) -> Explored {
    for seed in 0..seeds {
        if let Err(what) = run(seed) {
            return Explored { seeds: seed + 1, first: Some((seed, what)) };
        }
    }
    Explored { seeds, first: None }
}
