//! Crash-replay suite of the whole engine.
//!
//! A seed makes a store with tiny limits and a program of several clients, runs it once on the simulated machine, and
//! crashes the trace at many boundaries in several ways. Each distinct disk is mounted, read through, compared with the
//! reference model, walked by the independent checker, and mounted again. Some go on: the mount and a further program are
//! a run of their own whose trace is crashed in turn, three deep, so that recoveries are crashed too.
//!
//! What must hold of the state of each pool that a crash left:
//! 1. it is the state after a prefix of the submissions that contains all that was acknowledged (else: *lost*);
//! 2. each transaction is there as a whole or not at all, and no byte is another (else: *half*);
//! 3. what a completed read, listing or refusal had shown is in the prefix (else: *retracted*);
//! 4. the store opens (else: *failed open*);
//! 5. the checker finds nothing, before the mount (what a cut leaves is a note) and after it; usage is that of the model, and a second mount, one that only reads, writes nothing and
//!    shows the same.
//!
//! A sample of the stores goes on for longer than its device has space for (`alive`): removals work, space comes free (else:
//! *stuck*).
//!
//! While a run goes on each answer is held against the model too. In the moment of an answer all that it promises is durable:
//! a sample of these moments, with nothing but what is durable, is looked at besides the boundaries that are drawn.
//!
//! Cost: some milliseconds for each state.

pub mod alive;
mod crowd;
mod engine;
pub mod exhaustive;
pub mod faults;
mod flip;
pub mod formats;
pub mod fuzzed;
mod history;
pub mod in_place;
mod instants;
pub mod lost_end;
pub mod metamorphic;
mod program;
mod repairs;
mod rot;
mod run;
pub mod schedules;
pub mod shown;
pub mod shrink;
pub mod stories;
mod suite;
pub mod trimming_mounts;
mod uses;

pub use flip::{FlipCounts, FlipOutcomes, FlipPlaces, Structure, flip};
pub use instants::{instants, notices_a_lost_write};
pub use repairs::{RepairCounts, repairs};
pub use suite::{Counts, Options, run_seed, run_seeds, seed_now, trace_hash};

use engine::Answer;
use std::fmt;

/// Which rule is broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// 1.
    Lost,
    /// 2.
    Half,
    /// 3.
    Retracted,
    /// 4.
    FailedOpen,
    /// The checker found something.
    Check,
    /// An answer, a count or a second mount is wrong.
    Wrong,
    /// A run came to no end.
    Stuck,
}

/// A rule is broken, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

fn broken(rule: Rule, what: impl fmt::Display) -> Broken {
    Broken { rule, what: what.to_string() }
}

/// An answer without all its bytes.
fn brief(answer: &Answer) -> String {
    let mut text = format!("{answer:?}");
    let end = (0..text.len().min(300)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if text.len() > 300 {
        text.truncate(end);
        text.push('…');
    }
    text
}
