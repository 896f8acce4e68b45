//! Clean now: a request to empty all segments that are worth it, at full speed and also where cleaning is off.
//!
//! A trim cycle shortens the journal's window first, so that its segments count too, and removed objects are freed. Then
//! the cleaner's task works as for transactions that wait for space, without regard to its debt, until it finds no segment
//! from before that is worth cleaning. Another cycle lets what was emptied become free.
//!
//! The request itself only waits and looks: dropping it ends it at any point, and the task ends with the victim that it has
//! begun, or goes on at its usual pace. Where cleaning is off the task runs only as long as there are requests.
//!
//! Crash: as for all cleaning (`evacuate`). A shard that mounts itself in place begins the request anew.
//! Cost: two checkpoints, and what the victims cost. Not here: which victims, and how they are emptied (`evacuate`).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::select;
use seabed_cleaner::Clock;
use seabed_device::Class;

use crate::maintain::clean::{CleaningWanted, SEGMENTS_AT_ONCE};
use crate::shard::Shard;
use crate::shard::mounted::Mounted;
use crate::{Error, Result};

/// How often a request looks at whether it is cancelled, and reports progress.
const LOOK_EACH: Duration = Duration::from_millis(100);

/// Called with the progress of a [`crate::Store::clean`].
pub type CleanWatch = Arc<dyn Fn(&CleanProgress) + Send + Sync>;

/// How a store is cleaned. Fields may be added: build it with `..CleanOptions::default()`.
#[derive(Clone, Default)]
pub struct CleanOptions {
    /// Called on the engine's thread some ten times a second; it must not block.
    pub progress: Option<CleanWatch>,
    /// Set by another thread: the call returns soon, with [`CleanEnd::Cancelled`].
    pub cancel: Option<Arc<AtomicBool>>,
}

impl fmt::Debug for CleanOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CleanOptions").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

/// How far a [`crate::Store::clean`] is. What other cleaning did meanwhile counts too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CleanProgress {
    /// Segments that were worth cleaning when it began; 0 until they are counted.
    pub segments_found: u64,
    /// Bytes that were live in them.
    pub bytes_found: u64,
    /// Segments that were emptied.
    pub segments_cleaned: u64,
    /// Bytes of live data that were copied out of them.
    pub bytes_relocated: u64,
    /// Bytes of the emptied segments, less what was written for the copies.
    pub bytes_freed: u64,
}

/// Why a [`crate::Store::clean`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum CleanEnd {
    /// No segment is left that is worth cleaning.
    #[default]
    Done,
    /// There is no space for copies: something has to be removed first.
    NoSpace,
    /// Copies took as much as they freed, while others waited for space too.
    NoGain,
    /// [`CleanOptions::cancel`] was set.
    Cancelled,
}

/// What a [`crate::Store::clean`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Cleaned {
    /// Why it ended.
    pub end: CleanEnd,
    /// What it did.
    pub progress: CleanProgress,
    /// Bytes of free segments when it began.
    pub free_bytes_before: u64,
    /// Bytes of free segments when it ended.
    pub free_bytes_after: u64,
}

/// Why the cleaner's task has nothing to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Rest {
    /// No segment is worth cleaning.
    #[default]
    NothingWorth,
    /// A victim could not be emptied.
    Failed(Error),
}

/// Where a request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A trim cycle, and removed objects.
    Prepare { cycles: u64 },
    /// The task cleans; how often it had nothing to do when that began.
    Clean { rests: u64 },
    /// A trim cycle after it ended.
    Settle { cycles: u64, end: CleanEnd },
    /// It is done.
    Done(CleanEnd),
}

/// A request with the mount that carries it out. Ends when dropped.
struct Ask {
    on: Rc<Mounted>,
    phase: Cell<Phase>,
    _wanted: CleaningWanted,
}

impl Ask {
    fn new(on: &Rc<Mounted>) -> Self {
        let clean = &on.clean;
        clean.requests.set(clean.requests.get() + 1);
        let phase = Cell::new(Phase::Prepare { cycles: on.force_cycle() });
        Self { on: Rc::clone(on), phase, _wanted: CleaningWanted::new(on) }
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        let clean = &self.on.clean;
        clean.requests.set(clean.requests.get() - 1);
        self.on.trim.wake.notify_all();
    }
}

/// What the counters said when a request began.
#[derive(Clone, Copy)]
struct Began {
    segments: u64,
    relocated: u64,
    written: u64,
}

impl Began {
    fn new(shard: &Shard) -> Self {
        let stats = shard.stats();
        let (segments, relocated) = (stats.segments_cleaned, stats.bytes_relocated);
        Self { segments, relocated, written: stats.relocated_bytes_written }
    }

    fn progress(self, shard: &Shard, (segments_found, bytes_found): (u64, u64)) -> CleanProgress {
        let now = Self::new(shard);
        let segments_cleaned = now.segments - self.segments;
        let emptied = segments_cleaned * u64::from(shard.superblock().layout.segment_bytes);
        CleanProgress {
            segments_found,
            bytes_found,
            segments_cleaned,
            bytes_relocated: now.relocated - self.relocated,
            bytes_freed: emptied.saturating_sub(now.written - self.written),
        }
    }
}

impl Shard {
    /// See [`crate::Store::clean`].
    pub(crate) async fn clean(&self, options: CleanOptions) -> Result<Cleaned> {
        self.writable()?;
        let free = || {
            let segment_bytes = u64::from(self.superblock().layout.segment_bytes);
            self.current().table.free_count() as u64 * segment_bytes
        };
        let (began, free_bytes_before) = (Began::new(self), free());
        let (ask, found) = (RefCell::<Option<Ask>>::default(), Cell::default());
        loop {
            let cancel = options.cancel.as_ref();
            let is_cancelled = cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
            let step = self.again(async |on: Rc<Mounted>| {
                let asked = ask.take().filter(|asked| Rc::ptr_eq(&asked.on, &on));
                let asked = asked.unwrap_or_else(|| Ask::new(&on));
                let next = on.clean_step(&asked.phase, &found).await?;
                asked.phase.set(next);
                ask.replace(Some(asked));
                Ok(next)
            });
            let phase = if is_cancelled { Phase::Done(CleanEnd::Cancelled) } else { step.await? };
            let progress = began.progress(self, found.get());
            if let Some(watch) = &options.progress {
                watch(&progress);
            }
            if let Phase::Done(end) = phase {
                return Ok(Cleaned { end, progress, free_bytes_before, free_bytes_after: free() });
            }
        }
    }
}

impl Mounted {
    /// Asks for a trim cycle; how many have completed when one that begins from now on has.
    fn force_cycle(&self) -> u64 {
        self.trim.force();
        self.trim.begun.get() + 1
    }

    /// Goes on with a request when it can, or lets a moment pass.
    async fn clean_step(self: &Rc<Self>, phase: &Cell<Phase>, found: &Cell<(u64, u64)>) -> Result<Phase> {
        let phase = phase.get();
        let is_ready = || match phase {
            Phase::Prepare { cycles } => self.trim.completed.get() >= cycles && !self.grave_work.is_any(),
            Phase::Clean { rests } => self.clean.rests.borrow().0 > rests || self.clean_has_stalled(),
            Phase::Settle { cycles, .. } => self.trim.completed.get() >= cycles,
            Phase::Done(_) => true,
        };
        let moved = self.trim.moved.until(|| self.trim_must_end() || is_ready());
        select(Box::pin(moved), self.machine.runtime.sleep(LOOK_EACH)).await;
        if self.trim_must_end() {
            return Err(self.ended_error());
        }
        if !is_ready() {
            return Ok(phase);
        }
        let settle = |end| Phase::Settle { cycles: self.force_cycle(), end };
        let rest = self.clean.rests.borrow().1.clone();
        Ok(match phase {
            Phase::Prepare { .. } => {
                found.set(self.count_worth_cleaning().await);
                self.clean.before.set(Clock(self.table.clock()));
                self.clean_anew();
                if !self.clean.runs.replace(true) {
                    self.spawn(Class::Background, Rc::clone(self).clean_loop());
                }
                Phase::Clean { rests: self.clean.rests.borrow().0 }
            }
            Phase::Clean { .. } if self.clean_has_stalled() => settle(CleanEnd::NoGain),
            Phase::Clean { .. } => match rest {
                Rest::NothingWorth => settle(CleanEnd::Done),
                Rest::Failed(Error::NoSpace { .. }) => settle(CleanEnd::NoSpace),
                Rest::Failed(error) => return Err(error),
            },
            Phase::Settle { end, .. } => Phase::Done(end),
            Phase::Done(_) => phase,
        })
    }

    /// The segments that are worth cleaning, and the bytes that are live in them.
    async fn count_worth_cleaning(&self) -> (u64, u64) {
        let segments = self.layout.segments().count();
        let (mut count, mut bytes) = (0, 0);
        for from in (0..segments).step_by(SEGMENTS_AT_ONCE) {
            let some = self.table.data_segments(from..(from + SEGMENTS_AT_ONCE).min(segments));
            let worth = some.iter().filter_map(|(_, data)| *data);
            for data in worth.filter(|data| self.is_worth_cleaning(data.live)) {
                (count, bytes) = (count + 1, bytes + data.live);
            }
            self.machine.runtime.yield_now().await;
        }
        (count, bytes)
    }
}
