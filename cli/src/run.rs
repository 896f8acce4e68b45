//! Run: what the threads of an import or an export share: how each item ended, and why to stop.
//!
//! An item that failed is named on stderr and counted. A failure that all others would meet too ends the run: no thread
//! begins another item, and the run gives that failure.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::args::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::names;
use crate::progress::Progress;
use crate::sizes::{grouped, human};

/// How an item was carried over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    Done {
        bytes: u64,
    },
    /// It was there already.
    Skipped,
    /// It is there, but as it never was as a whole: the file was written to meanwhile.
    Changed {
        bytes: u64,
    },
}

/// What a run did.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
    /// Intervals of a listing whose objects were not met, because their names are damaged.
    pub(crate) damaged: u64,
    /// Bytes of those that were done.
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

impl Tally {
    /// One line for people; `done` is what was done, as `imported`.
    pub(crate) fn line(&self, done: &str) -> String {
        let milliseconds = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = |count: u64| count.saturating_mul(1000) / milliseconds;
        let mut line = format!(
            "{done} {} items, {}, in {}.{:02} s: {} items/s, {}/s",
            grouped(self.done),
            human(self.bytes),
            milliseconds / 1000,
            milliseconds % 1000 / 10,
            grouped(per_second(self.done)),
            human(per_second(self.bytes)),
        );
        let rest = [
            (self.skipped, "skipped"),
            (self.failed, "failed"),
            (self.damaged, "parts of the listing damaged"),
        ];
        for (count, what) in rest {
            if count > 0 {
                write!(line, "; {} {what}", grouped(count)).expect("a string takes everything");
            }
        }
        line
    }

    /// How it ended, if nothing ended it before.
    pub(crate) fn exit(&self) -> Exit {
        match (self.damaged, self.failed) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::SomeFailed,
            _ => Exit::Corrupt,
        }
    }
}

/// See the module.
pub(crate) struct Run<'a> {
    pub(crate) progress: Progress,
    verbose: bool,
    interrupt: &'a Interrupt,
    done: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    damaged: AtomicU64,
    bytes: AtomicU64,
    /// The failure that ended the run.
    end: Mutex<Option<Failure>>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(global: &Global, what: &'static str, interrupt: &'a Interrupt) -> Self {
        Self {
            progress: Progress::new(global, what),
            verbose: global.verbose > 0,
            interrupt,
            done: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            end: Mutex::new(None),
        }
    }

    /// Whether no further item is to be begun.
    pub(crate) fn is_over(&self) -> bool {
        self.interrupt.is_set() || self.reason().is_some()
    }

    fn reason(&self) -> MutexGuard<'_, Option<Failure>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an item and names it if it failed.
    pub(crate) fn settle(&self, name: &[u8], outcome: Outcome<Carried>) {
        match outcome {
            Ok(Carried::Done { bytes }) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.name(name, "done");
            }
            Ok(Carried::Skipped) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                self.name(name, "skipped");
            }
            Ok(Carried::Changed { bytes }) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                let shown = names::quoted(name);
                self.progress.say(&format!("seabed: {shown}: changed while it was read; import it again"));
            }
            Err(failure) if failure.ends_all() => {
                self.reason().get_or_insert(failure);
            }
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.progress.say(&format!("seabed: {}", failure.message));
            }
        }
        self.progress.item();
    }

    /// Counts and names something that is damaged, so that items were not even met.
    pub(crate) fn damaged(&self, what: &str) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.progress.say(&format!("seabed: {what}"));
    }

    fn name(&self, name: &[u8], what: &str) {
        if self.verbose {
            self.progress.say(&format!("{what:<8} {}", names::for_terminal(name)));
        }
    }

    pub(crate) fn end_with(&self, failure: Failure) {
        self.reason().get_or_insert(failure);
    }

    /// What was done, or why it ended early.
    pub(crate) fn end(self, start: Instant) -> Outcome<Tally> {
        self.progress.end();
        let tally = Tally {
            done: self.done.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            damaged: self.damaged.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            time: start.elapsed(),
        };
        match self.end.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => {
                let before = format!("{} items were done before", grouped(tally.done));
                Err(Failure { message: format!("{}; {before}", failure.message), ..failure })
            }
            None => Ok(tally),
        }
    }
}
