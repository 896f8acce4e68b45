//! Trace: everything that happened to a disk in one run, in order, from which every crash can be made afterwards.
//!
//! A run is recorded once. A *boundary* `b` is the moment after the first `b` events; the power may be cut there, and
//! [`super::Frontier`] knows what may then be on the disk. Only some boundaries differ in what a crash can leave: a
//! [`Walk`] goes from one to the next of these, always as late as possible, past reads and marks, so that each state is
//! held against as many promises as the run had made by then.
//!
//! Cost: the bytes of every write are kept once, shared with the disk; a walk is linear in the events.

use std::rc::Rc;
use std::time::Duration;

use seabed_device::Durability;

use super::blocks::{Block, mix};
use super::crash::{CrashMode, Frontier};
use super::fault::Cache;
use super::image::DiskImage;

/// A promise that a run made, put into its trace by the test.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mark {
    /// Number `number` of log `log` was acknowledged: no crash from here on may take it back.
    Acknowledged {
        /// Whose: a shard, a collection, as the test counts.
        log: u32,
        /// Which.
        number: u64,
    },
    /// A read, listing or refusal showed a state that contains `number` of log `log`.
    Shown {
        /// Whose.
        log: u32,
        /// Which.
        number: u64,
    },
    /// Anything else that a test wants to find again.
    Note {
        /// What.
        what: &'static str,
        /// Which.
        number: u64,
    },
}

/// Which sectors of a write count: one byte for each block, one bit for each sector; `None` for all.
pub(super) type Sectors = Option<Rc<[u8]>>;

/// What an operation did to the disk.
#[derive(Clone)]
pub(super) enum Event {
    /// A write or discard was issued: `blocks` are in flight to `first_block`, or to nowhere if it will be lost.
    Change {
        id: u64,
        first_block: u64,
        blocks: Rc<[Rc<Block>]>,
        sectors: Sectors,
        durability: Durability,
        discard: bool,
    },
    /// It ended; `landed` of its sectors are there, durable if it was a durable write that succeeded.
    Changed { id: u64, landed: Sectors, durable: bool, errno: i32 },
    /// A flush was issued.
    Flush { id: u64 },
    /// It ended.
    Flushed { id: u64, end: FlushEnd },
    /// A read was issued.
    Read { id: u64, first_block: u64, count: u64 },
    /// It ended with bytes of this hash.
    ReadDone { id: u64, hash: u64, errno: i32 },
    /// A bit at rest turned over.
    Flip { at: u64, bit: u8 },
    /// The test put a mark.
    Mark(Mark),
}

/// How a flush ended.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum FlushEnd {
    /// It covers every write that had completed when it was issued.
    Done,
    /// It said so, but covers nothing.
    Lied,
    /// It failed; for each write that it would have covered, the sectors that are durable if the rest is gone.
    Failed { errno: i32, cache: Cache, survivors: Vec<(u64, Rc<[u8]>)> },
}

impl Event {
    /// Whether a crash after it can leave other states than one before it.
    fn changes_crash_states(&self) -> bool {
        match self {
            Self::Change { .. } | Self::Changed { .. } | Self::Flushed { .. } | Self::Flip { .. } => true,
            Self::Flush { .. } | Self::Read { .. } | Self::ReadDone { .. } | Self::Mark(_) => false,
        }
    }

    fn fold(&self, hash: &mut Fold) {
        match self {
            Self::Change { id, first_block, blocks, sectors, durability, discard } => {
                let flags = u64::from(*durability == Durability::Durable) << 1 | u64::from(*discard);
                hash.words(&[1, *id, *first_block, blocks.len() as u64, flags]);
                for block in blocks.iter() {
                    hash.words(&[block.hash()]);
                }
                hash.sectors(sectors);
            }
            Self::Changed { id, landed, durable, errno } => {
                hash.words(&[2, *id, u64::from(*durable), u64::from(errno.unsigned_abs())]);
                hash.sectors(landed);
            }
            Self::Flush { id } => hash.words(&[3, *id]),
            Self::Flushed { id, end: FlushEnd::Done } => hash.words(&[4, *id]),
            Self::Flushed { id, end: FlushEnd::Lied } => hash.words(&[5, *id]),
            Self::Flushed { id, end: FlushEnd::Failed { errno, cache, survivors } } => {
                hash.words(&[6, *id, u64::from(errno.unsigned_abs()), *cache as u64]);
                for (id, sectors) in survivors {
                    hash.words(&[*id]);
                    hash.sectors(&Some(Rc::clone(sectors)));
                }
            }
            Self::Read { id, first_block, count } => hash.words(&[7, *id, *first_block, *count]),
            Self::ReadDone { id, hash: bytes, errno } => {
                hash.words(&[8, *id, *bytes, u64::from(errno.unsigned_abs())]);
            }
            Self::Flip { at, bit } => hash.words(&[9, *at, u64::from(*bit)]),
            Self::Mark(Mark::Acknowledged { log, number }) => hash.words(&[10, u64::from(*log), *number]),
            Self::Mark(Mark::Shown { log, number }) => hash.words(&[11, u64::from(*log), *number]),
            Self::Mark(Mark::Note { what, number }) => {
                hash.words(&[12, *number]);
                what.bytes().for_each(|byte| hash.words(&[u64::from(byte)]));
            }
        }
    }
}

struct Fold(u64);

impl Fold {
    fn words(&mut self, words: &[u64]) {
        for word in words {
            self.0 = mix(self.0 ^ *word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn sectors(&mut self, sectors: &Sectors) {
        match sectors {
            None => self.words(&[0]),
            Some(sectors) => sectors.iter().for_each(|mask| self.words(&[u64::from(*mask) + 1])),
        }
    }
}

/// An event and when it was.
#[derive(Clone)]
pub(super) struct Recorded {
    pub(super) now: Duration,
    pub(super) event: Event,
}

/// How many operations a trace has, by kind.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct OperationCounts {
    /// Reads issued.
    pub reads: u64,
    /// Writes issued, cached and durable.
    pub writes: u64,
    /// Of them durable ones.
    pub durable_writes: u64,
    /// Flushes issued.
    pub flushes: u64,
    /// Discards issued.
    pub discards: u64,
    /// Blocks written.
    pub blocks_written: u64,
}

/// One recorded run.
#[derive(Clone)]
pub struct Trace {
    pub(super) base: DiskImage,
    pub(super) events: Vec<Recorded>,
}

impl Trace {
    /// The disk as the run found it.
    pub fn base(&self) -> &DiskImage {
        &self.base
    }

    /// How many events there are; the last boundary.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// A number that is the same for the same events at the same times, and in practice for no others.
    pub fn hash(&self) -> u64 {
        let mut hash = Fold(0x5eab_ed00);
        for recorded in &self.events {
            hash.words(&[recorded.now.as_secs(), u64::from(recorded.now.subsec_nanos())]);
            recorded.event.fold(&mut hash);
        }
        hash.0
    }

    /// Operations by kind.
    pub fn counts(&self) -> OperationCounts {
        let mut counts = OperationCounts::default();
        for recorded in &self.events {
            match &recorded.event {
                Event::Change { discard: true, .. } => counts.discards += 1,
                Event::Change { durability, blocks, .. } => {
                    counts.writes += 1;
                    counts.durable_writes += u64::from(*durability == Durability::Durable);
                    counts.blocks_written += blocks.len() as u64;
                }
                Event::Flush { .. } => counts.flushes += 1,
                Event::Read { .. } => counts.reads += 1,
                Event::Changed { .. }
                | Event::Flushed { .. }
                | Event::ReadDone { .. }
                | Event::Flip { .. }
                | Event::Mark(_) => {}
            }
        }
        counts
    }

    /// How many writes were reported done and changed nothing.
    pub fn lost_writes(&self) -> u64 {
        let is_lost = |recorded: &&Recorded| match &recorded.event {
            Event::Change { sectors: Some(sectors), discard: false, .. } => {
                sectors.iter().all(|mask| *mask == 0)
            }
            Event::Change { .. }
            | Event::Changed { .. }
            | Event::Flush { .. }
            | Event::Flushed { .. }
            | Event::Read { .. }
            | Event::ReadDone { .. }
            | Event::Flip { .. }
            | Event::Mark(_) => false,
        };
        self.events.iter().filter(is_lost).count() as u64
    }

    /// Which of all writes, counted from 0, were cached ones of more than one block: images, and bodies of checkpoints.
    pub fn cached_records(&self) -> Vec<u64> {
        let mut writes = 0;
        let mut cached = Vec::new();
        for recorded in &self.events {
            if let Event::Change { discard: false, durability, blocks, .. } = &recorded.event {
                if *durability == Durability::Cached && blocks.len() > 1 {
                    cached.push(writes);
                }
                writes += 1;
            }
        }
        cached
    }

    /// The most writes that were in flight at a time.
    pub fn writes_in_flight_max(&self) -> usize {
        let mut in_flight = std::collections::BTreeSet::new();
        let mut most = 0;
        for recorded in &self.events {
            match &recorded.event {
                Event::Change { id, .. } => {
                    in_flight.insert(*id);
                    most = most.max(in_flight.len());
                }
                Event::Changed { id, .. } => drop(in_flight.remove(id)),
                Event::Flush { .. }
                | Event::Flushed { .. }
                | Event::Read { .. }
                | Event::ReadDone { .. }
                | Event::Flip { .. }
                | Event::Mark(_) => {}
            }
        }
        most
    }

    /// How many marks were put while a cached write was in flight: what was promised while images, or bulk data, were on
    /// their way.
    pub fn marks_during_cached_writes(&self) -> u64 {
        let mut in_flight = std::collections::BTreeSet::new();
        let mut marks = 0;
        for recorded in &self.events {
            match &recorded.event {
                Event::Change { id, durability: Durability::Cached, discard: false, .. } => {
                    in_flight.insert(*id);
                }
                Event::Changed { id, .. } => drop(in_flight.remove(id)),
                Event::Mark(_) => marks += u64::from(!in_flight.is_empty()),
                Event::Change { .. }
                | Event::Flush { .. }
                | Event::Flushed { .. }
                | Event::Read { .. }
                | Event::ReadDone { .. }
                | Event::Flip { .. } => {}
            }
        }
        marks
    }

    /// Every boundary at which a crash can leave states that no other of them can, in order: each as late as possible,
    /// so that all promises made before it count. The end is the last one.
    pub fn boundaries(&self) -> Vec<usize> {
        let mut walk = self.walk();
        std::iter::from_fn(|| walk.advance()).collect()
    }

    /// The marks among the first `boundary` events, in order.
    pub fn marks_before(&self, boundary: usize) -> impl Iterator<Item = Mark> {
        self.events[..boundary].iter().filter_map(|recorded| {
            let Event::Mark(mark) = recorded.event else { return None };
            Some(mark)
        })
    }

    /// When the event before `boundary` was.
    pub fn time_at(&self, boundary: usize) -> Duration {
        boundary.checked_sub(1).map_or(Duration::ZERO, |last| self.events[last].now)
    }

    /// What a crash at `boundary` may leave; linear in the boundary, so use [`Self::walk`] to see all.
    pub fn frontier_at(&self, boundary: usize) -> Frontier {
        let mut frontier = Frontier::new(&self.base);
        self.events[..boundary].iter().for_each(|recorded| frontier.apply(&recorded.event));
        frontier
    }

    /// One disk that a crash at `boundary` may leave.
    pub fn crash_image(&self, boundary: usize, mode: CrashMode, rng: &mut fastrand::Rng) -> DiskImage {
        self.frontier_at(boundary).crash_image(mode, rng)
    }

    /// From the beginning, boundary by boundary.
    pub fn walk(&self) -> Walk<'_> {
        let frontier = Frontier::new(&self.base);
        Walk { trace: self, frontier, boundary: 0, started: false, marks: Vec::new() }
    }
}

/// Goes through the boundaries of a trace in order.
#[derive(Clone)]
pub struct Walk<'a> {
    trace: &'a Trace,
    frontier: Frontier,
    boundary: usize,
    started: bool,
    marks: Vec<Mark>,
}

impl Walk<'_> {
    /// To the next boundary; `None` after the end.
    pub fn advance(&mut self) -> Option<usize> {
        let events = &self.trace.events;
        if std::mem::replace(&mut self.started, true) {
            self.pass(&events.get(self.boundary)?.event);
        }
        while let Some(next) = events.get(self.boundary).filter(|next| !next.event.changes_crash_states()) {
            self.pass(&next.event);
        }
        Some(self.boundary)
    }

    fn pass(&mut self, event: &Event) {
        self.frontier.apply(event);
        self.boundary += 1;
        if let Event::Mark(mark) = event {
            self.marks.push(*mark);
        }
    }

    /// What a crash here may leave.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The marks so far, in order.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}
