//! Commit: the open batch of a shard and the loop that makes batches durable, one record in flight at a time.
//!
//! A transaction joins the open batch synchronously: its data is copied behind the record's header block, its deltas are
//! appended, its changes of counts are added up. The loop closes the batch when the device is free: at once in an idle
//! store, so that nothing is delayed; under load the batch is whatever came in while the record before was written. When a
//! record is durable its clients are woken and get to run and to join the open batch **before** that is closed: without
//! this they fall into groups that take turns (32 clients became three of eleven, and throughput a third). A client may be
//! several wakes away, so the loop yields until nobody new has come for a few turns ([`Journal::gather`]).
//!
//! Many clients form two groups, each half of them: while the record of the one is on its way, the other's transactions are
//! carried out and join. One group would leave the device idle while transactions are carried out, and the core idle while
//! a record is written. So of [`PAIRED_CLIENTS`] or more only a half is woken at first, and the rest when the batch of that half
//! is on its way. From then on the groups take turns: whoever is woken finds the others' batch closed and with the device,
//! which has it before anybody is woken ([`Journal::write`]).
//!
//! Example: 32 clients whose transactions take 8 us each, records of 64 and 128 KiB that take 130 and 175 us: one group,
//! 32 in 32 * 8 + 175 = 431 us; two groups, 32 in 2 * max(16 * 8, 130) = 260 us.
//!
//! A batch that a transaction does not fit is closed and queued, and the next one opened behind it, in the next segment if
//! this one is full. The first record of a segment claims the segment after it (rule L5), so a roll never waits.
//!
//! Invariants: 1. record n+1 is issued only when n is durable (rule L1). 2. A record's bytes and place are fixed when it is
//! closed; what joins later goes into the next. 3. After a failure nothing is issued and nothing is acknowledged.
//! Crash: a record is there or torn; the scan decides. Nothing was acknowledged that is not durable.
//! Cost: one write per batch. Per transaction: one copy, one checksum pass, its deltas.
//! Limits: a record [`Layout::record_bytes_max`]; closed batches are bounded by the callers' memory permits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use seabed_device::local::{Notify, Permit};
use seabed_device::{Class, Device, DeviceError, Durability, Machine, WriteBuf, WriteOpts};
use seabed_segment::{
    Identity, Layout, OpenSegment, Placed, RecordBuilder, RecordPlace, StreamKind, Summing, record_bytes_of,
};
use seabed_types::{
    BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, Paddr, PoolId, SegmentId, ShardId, Term, TreeKind,
};
use smallvec::SmallVec;

use crate::entry::{SMALL_ENTRY_BYTES, TALLY_BYTES, put_delta};
use crate::{ChangeRef, CollectionId, EntryRef, JournalSegment, ScanEnd, Tally};

/// Entries that the journal itself adds to a record: a claim and a seal.
const OWN_ENTRIES_BYTES: usize = 2 * SMALL_ENTRY_BYTES;
/// After so many turns in which nobody joined the batch is closed: a task that was woken, the task that it wakes, and one
/// that this starts.
const QUIET_TURNS: usize = 3;
/// From so many clients on they form two groups. Fewer take less time together than a small record takes.
const PAIRED_CLIENTS: usize = 12;
/// The most turns that a batch waits for clients that keep coming.
const TURNS_MAX: usize = 16;

/// What a transaction takes at most of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// Bytes that its pieces take of a record ([`seabed_segment::packed_bytes`]).
    pub pieces: usize,
    /// How many pieces.
    pub piece_count: usize,
    /// Bytes of its deltas and other entries of its own.
    pub entries: usize,
    /// How many segments' live bytes it changes at most.
    pub segments: usize,
    /// Bytes of keys of its pieces, for the inventory.
    pub piece_keys: usize,
}

impl Need {
    fn entries_in_all(&self) -> usize {
        // Live changes of the pieces it places are all in the record's own segment.
        self.entries + (self.segments + 1) * SMALL_ENTRY_BYTES + TALLY_BYTES
    }

    fn listed(&self) -> usize {
        self.piece_keys + self.piece_count * SMALL_ENTRY_BYTES
    }
}

/// Why a journal has ended: the first failure after which nothing more may be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FenceCause {
    /// A write or a flush failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Stored bytes that every later checkpoint needs are corrupt.
    #[error("{}: {what}", match at { Some(at) => format!("corrupt at {at}"), None => "corrupt".into() })]
    Corrupt {
        /// The location, where it is known.
        at: Option<Paddr>,
        /// What is wrong.
        what: &'static str,
    },
    /// A checkpoint that has to be written has no space.
    #[error("no space for a checkpoint")]
    NoSpace,
    /// The engine cannot continue, although neither the device nor stored bytes are at fault.
    #[error("internal error: {what}")]
    Internal {
        /// What failed.
        what: &'static str,
    },
    /// A task of the engine panicked.
    #[error("a task of the engine panicked")]
    Panicked,
}

impl FenceCause {
    /// The error of writes that are issued after the failure.
    pub const fn of_later_writes(self) -> DeviceError {
        match self {
            Self::Device(error) => error,
            Self::Corrupt { .. } | Self::NoSpace | Self::Internal { .. } | Self::Panicked => {
                DeviceError::Stopped
            }
        }
    }
}

/// Why a transaction does not join the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal has ended.
    #[error("the journal has failed: {0}")]
    Fenced(#[from] FenceCause),
    /// It does not fit any record.
    #[error("a transaction of {bytes} bytes does not fit a record of {max}")]
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// What there is.
        max: usize,
    },
    /// The log would have to go on in another segment, and none is free; nothing was changed.
    #[error("the journal has no segment to go on in")]
    NoSegment,
}

/// Where segments come from and go to.
pub trait Space {
    /// A free segment for the journal, with the incarnation it is claimed under. Callers of the journal keep one free for it;
    /// without one a transaction that needs it is refused.
    fn claim_journal(&self) -> Option<(SegmentId, Incarnation)>;
    /// The clock of ages, which the claim of a segment states.
    fn clock(&self) -> u64;
    /// The journal rolled over; this segment takes no more records.
    fn sealed(&self, segment: OpenSegment);
    /// A record is durable.
    fn settled(&self, settled: Settled);
}

/// A record that is durable, and what its durability means for others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Which.
    pub lsn: Lsn,
    /// The changes of live bytes that it logged.
    pub live: BTreeMap<SegmentId, i64>,
    /// Bytes of the record.
    pub bytes: usize,
}

/// A batch that transactions join.
struct Batch {
    lsn: Lsn,
    record: RecordBuilder,
    incarnation: Incarnation,
    live: BTreeMap<SegmentId, i64>,
    tallies: BTreeMap<CollectionId, (u64, Tally)>,
    /// Whether anything joined that is worth proving durable (rule L7).
    says_something: bool,
    /// What its bytes count for in the callers' budget, until it is durable.
    permit: Option<Permit>,
}

struct State {
    tail: OpenSegment,
    next: Option<(SegmentId, Incarnation)>,
    segments: VecDeque<JournalSegment>,
    lsn: Lsn,
    previous: Crc,
    /// Of the records from `first_place` on that were issued.
    places: VecDeque<Place>,
    first_place: Lsn,
    previous_of_first: Crc,
    open: Option<Batch>,
    closed: VecDeque<Batch>,
    /// The record that is being written: its address and its bytes.
    in_flight: Option<(Paddr, Rc<WriteBuf>)>,
    /// The changes of counts that it holds.
    tallies_in_flight: BTreeMap<CollectionId, (u64, Tally)>,
    /// How large a buffer the next record begins with: the larger of the last two, as small ones come between large ones.
    bytes_hint: usize,
    last_bytes: usize,
    logged: u64,
    last_is_empty: bool,
}

/// Where a record is, and the checksum of its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its address.
    pub at: Paddr,
    /// Its header's checksum.
    pub crc: Crc,
}

/// Where a journal goes on.
#[derive(Clone, Debug)]
pub struct JournalStart {
    /// The end of what was replayed.
    pub end: ScanEnd,
    /// The epoch of new records.
    pub epoch: Epoch,
    /// Bytes logged so far, over the shard's life.
    pub logged: u64,
    /// The replayed records from `first_place` on, up to the end.
    pub places: VecDeque<Place>,
    /// The lsn of the first of them.
    pub first_place: Lsn,
    /// The chain checksum that the first of them carries.
    pub previous_of_first: Crc,
}

/// A moment of the log: all records below `lsn` hold what joined before, none at or behind it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogCut {
    /// The first record behind the moment.
    pub lsn: Lsn,
    /// Where it goes, if it fits there.
    pub at: Paddr,
    /// The journal's segments.
    pub segments: Vec<JournalSegment>,
    /// The segment claimed after those.
    pub next: Option<(SegmentId, Incarnation)>,
    /// Bytes logged so far.
    pub logged: u64,
}

/// The journal of one shard, while it is served.
pub struct Journal {
    machine: Machine,
    layout: Layout,
    identity: Identity,
    shard: ShardId,
    epoch: Epoch,
    record_bytes_max: usize,
    space: Rc<dyn Space>,
    state: RefCell<State>,
    /// All records below this are durable.
    durable: Cell<Lsn>,
    failed: Cell<Option<FenceCause>>,
    closing: Cell<bool>,
    work: Notify,
    /// How often something joined a batch.
    joins: Cell<u64>,
    waiting: RefCell<BTreeMap<Lsn, Vec<Waker>>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let journal = &mut f.debug_struct("Journal");
        journal.field("shard", &self.shard).field("epoch", &self.epoch).field("durable_below", &self.durable);
        journal.finish_non_exhaustive()
    }
}

impl Journal {
    /// Goes on where a scan ended. `fresh` is the tail segment if the store was just formatted (nothing is in it).
    pub fn new(
        machine: Machine,
        (layout, identity, shard): (Layout, Identity, ShardId),
        start: JournalStart,
        space: Rc<dyn Space>,
    ) -> Rc<Self> {
        let end = start.end;
        let tail = if end.at.offset as usize == BLOCK_BYTES {
            OpenSegment::new(&layout, end.at.segment, end.incarnation, StreamKind::Journal, Crc::default())
        } else {
            OpenSegment::resume(&layout, end.at.segment, end.incarnation, end.at.offset)
        };
        Rc::new(Self {
            machine,
            layout,
            identity,
            shard,
            epoch: start.epoch,
            record_bytes_max: layout.record_bytes_max().min(1 << 20),
            space,
            state: RefCell::new(State {
                tail,
                next: end.next,
                segments: end.segments.into(),
                lsn: end.lsn,
                previous: end.previous,
                places: start.places,
                first_place: start.first_place,
                previous_of_first: start.previous_of_first,
                open: None,
                closed: VecDeque::new(),
                in_flight: None,
                tallies_in_flight: BTreeMap::new(),
                bytes_hint: BLOCK_BYTES,
                last_bytes: BLOCK_BYTES,
                logged: start.logged,
                last_is_empty: true,
            }),
            durable: Cell::new(end.lsn),
            failed: Cell::new(None),
            closing: Cell::new(false),
            work: Notify::default(),
            joins: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    /// Whether a transaction of this need fits a record at all; to be asked before anything is applied.
    pub fn check(&self, need: &Need) -> Result<(), JournalError> {
        self.healthy()?;
        let entries = need.entries_in_all() + OWN_ENTRIES_BYTES;
        let bytes = record_bytes_of(need.pieces, entries);
        if bytes > self.record_bytes_max {
            return Err(JournalError::TooLarge { bytes, max: self.record_bytes_max });
        }
        Ok(())
    }

    /// Opens a batch with room for `need` and lets `fill` put the transaction into it, all in this moment.
    ///
    /// Errors: fenced; too large; no segment to go on in (nothing was changed).
    pub fn join<T>(
        &self,
        need: &Need,
        fill: impl FnOnce(&mut Joined<'_>) -> T,
    ) -> Result<(Lsn, T), JournalError> {
        self.check(need)?;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let fits = state.open.as_ref().is_some_and(|batch| {
            let entries = batch.entries_to_come() + need.entries_in_all();
            let bytes = batch.record.bytes_with(need.pieces, entries);
            bytes <= self.record_bytes_max && bytes <= state.tail.room(need.listed())
        });
        if !fits {
            Self::close_open(state);
            self.open_batch(state, need)?;
        }
        let batch = state.open.as_mut().expect("opened above");
        let lsn = batch.lsn;
        let mut joined = Joined { batch, tail: &mut state.tail };
        let result = fill(&mut joined);
        self.joins.set(self.joins.get() + 1);
        self.work.notify_all();
        Ok((lsn, result))
    }

    /// Logs an empty record, which proves the one before it (rule L7). Returns its lsn.
    pub fn touch(&self) -> Result<Lsn, JournalError> {
        self.join(&Need::default(), |_| ()).map(|(lsn, ())| lsn)
    }

    fn close_open(state: &mut State) {
        if let Some(mut batch) = state.open.take() {
            batch.finish_entries();
            let bytes = batch.record.bytes();
            state.tail.appended(bytes);
            state.logged += bytes as u64;
            state.bytes_hint = (bytes + bytes / 4).max(state.last_bytes);
            state.last_bytes = bytes;
            state.closed.push_back(batch);
        }
    }

    fn open_batch(&self, state: &mut State, need: &Need) -> Result<(), JournalError> {
        let empty = need.entries_in_all() + OWN_ENTRIES_BYTES;
        let bytes = |record: &RecordBuilder| record.bytes_with(need.pieces, empty);
        let at = state.tail.at();
        let device = || Rc::clone(&self.machine.device);
        let mut record = RecordBuilder::new(device(), at, self.record_bytes_max, state.bytes_hint);
        let mut sealed = None;
        let rolls = bytes(&record) > state.tail.room(need.listed());
        // Before anything changes: a record that opens a segment claims the one after it.
        let claimed = if rolls || state.next.is_none() {
            Some(self.space.claim_journal().ok_or(JournalError::NoSegment)?)
        } else {
            None
        };
        if rolls {
            seabed_types::reached!(LogRolled);
            let (segment, incarnation) = state.next.take().expect("rule L5: the first record claimed it");
            let fresh =
                OpenSegment::new(&self.layout, segment, incarnation, StreamKind::Journal, Crc::default());
            let full = std::mem::replace(&mut state.tail, fresh);
            state.segments.push_back(JournalSegment { segment, incarnation, first: state.lsn });
            sealed = Some(full.segment);
            self.space.sealed(full);
            record = RecordBuilder::new(device(), state.tail.at(), self.record_bytes_max, state.bytes_hint);
        }
        if let Some(segment) = sealed {
            EntryRef::Seal { segment }.encode(record.entries());
        }
        if let Some((segment, incarnation)) = claimed {
            state.next = Some((segment, incarnation));
            let age = self.space.clock();
            let claim = EntryRef::Claim { segment, incarnation, stream: StreamKind::Journal, age };
            if !seabed_types::seeded!(8) {
                claim.encode(record.entries());
            }
        }
        state.open = Some(Batch {
            lsn: state.lsn,
            record,
            incarnation: state.tail.incarnation,
            live: BTreeMap::new(),
            tallies: BTreeMap::new(),
            says_something: false,
            permit: None,
        });
        state.lsn = state.lsn.next();
        Ok(())
    }

    /// Writes batches until [`Journal::close`] was called and all are durable, or until one fails.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.work.until(|| self.has_batch() || self.closing.get() || self.failed.get().is_some()).await;
            if self.failed.get().is_some() {
                return;
            }
            let batch = {
                let mut state = self.state.borrow_mut();
                if state.closed.is_empty() {
                    Self::close_open(&mut state);
                }
                match state.closed.pop_front() {
                    Some(batch) => batch,
                    None => return,
                }
            };
            if seabed_types::seeded!(1) {
                let journal = Rc::clone(&self);
                let unawaited = async move { journal.write(batch).await };
                self.machine.runtime.spawn(Class::Commit, Box::pin(unawaited));
            } else {
                self.write(batch).await;
            }
            let (told, joined) = self.clients();
            if told + joined < PAIRED_CLIENTS {
                self.wake_below(self.durable.get());
                self.gather().await;
            } else if joined < told / 2 {
                self.wake_first(told.midpoint(joined) - joined);
                self.gather().await;
            }
            if !self.has_batch() {
                self.wake_below(self.durable.get());
                self.gather().await;
            }
        }
    }

    fn has_batch(&self) -> bool {
        let state = self.state.borrow();
        !state.closed.is_empty() || state.open.is_some()
    }

    /// How many wait for records that are durable, and for others.
    fn clients(&self) -> (usize, usize) {
        let durable = self.durable.get();
        let waiting = self.waiting.borrow();
        let count = |sum: usize, (_, wakers): (&Lsn, &Vec<Waker>)| sum + wakers.len();
        (waiting.range(..durable).fold(0, count), waiting.range(durable..).fold(0, count))
    }

    /// Lets those that were woken run, and join the open batch, before it is closed. A turn in which nothing is runnable
    /// costs some 40 ns.
    async fn gather(&self) {
        let mut quiet = 0;
        for _ in 0..TURNS_MAX {
            let joins = self.joins.get();
            self.machine.runtime.yield_now().await;
            quiet = if self.joins.get() == joins { quiet + 1 } else { 0 };
            if quiet == QUIET_TURNS {
                return;
            }
        }
    }

    async fn write(&self, batch: Batch) {
        let (lsn, live, empty) = (batch.lsn, batch.live, !batch.says_something);
        let _permit = batch.permit;
        let place = RecordPlace {
            shard: self.shard,
            stream: StreamKind::Journal,
            epoch: self.epoch,
            incarnation: batch.incarnation,
            number: lsn.0,
            previous: self.state.borrow().previous,
        };
        let (buf, header) = batch.record.close(&self.identity, place);
        let bytes = buf.len();
        {
            let mut state = self.state.borrow_mut();
            state.previous = header.crc;
            state.places.push_back(Place { at: header.at, crc: header.crc });
            state.in_flight = Some((header.at, Rc::clone(&buf)));
            state.tallies_in_flight = batch.tallies;
        }
        assert_eq!(lsn, self.durable.get(), "invariant 1: one record in flight");
        let opts = WriteOpts {
            durability: Durability::Durable,
            class: Class::Commit,
            stream: StreamKind::Journal as u8,
        };
        let writing = self.machine.device.write(self.layout.device_offset(header.at), buf, opts);
        // The other group runs while the device writes.
        self.wake_below(self.durable.get());
        if seabed_types::seeded!(2) {
            self.durable.set(lsn.next());
            self.wake_below(lsn.next());
        }
        match writing.await.or_else(|error| if seabed_types::seeded!(33) { Ok(()) } else { Err(error) }) {
            Ok(()) => {
                {
                    let mut state = self.state.borrow_mut();
                    state.in_flight = None;
                    state.tallies_in_flight.clear();
                    state.last_is_empty = empty;
                }
                self.durable.set(lsn.next());
                self.space.settled(Settled { lsn, live, bytes });
            }
            Err(error) => self.fail(error.into()),
        }
    }

    /// The bytes of a piece, if its record is not durable yet: reading them from the device would find other bytes there.
    pub fn unwritten(&self, at: Paddr, bytes: usize) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        if let Some((start, buf)) = state.in_flight.as_ref().filter(|(start, _)| start.segment == at.segment)
        {
            let from = at.offset.checked_sub(start.offset).map(|from| from as usize);
            if let Some(piece) = from.and_then(|from| buf.get(from..from + bytes))
                && !seabed_types::seeded!(63)
            {
                return Some(piece.to_vec());
            }
        }
        let mut batches = state.open.iter().chain(&state.closed);
        batches.find_map(|batch| batch.record.piece_at(at, bytes)).map(<[u8]>::to_vec)
    }

    /// What the records that are not durable yet change in the counts of a collection.
    pub fn undurable(&self, collection: CollectionId) -> Tally {
        let state = self.state.borrow();
        let batches = state.open.iter().chain(&state.closed).map(|batch| &batch.tallies);
        let mut sum = Tally::default();
        for (_, change) in
            batches.chain([&state.tallies_in_flight]).filter_map(|tallies| tallies.get(&collection))
        {
            sum.add(change);
        }
        sum
    }

    /// Ends this journal: nothing more is issued, and nothing acknowledged but a record whose write succeeds all the same. What
    /// waits for memory that its batches have gets it.
    pub fn fail(&self, cause: FenceCause) {
        if self.failed.get().is_none() {
            tracing::error!(%cause, shard = self.shard.0, "the journal has failed");
            self.failed.set(Some(cause));
        }
        let permits: Vec<Permit> = {
            let state = &mut *self.state.borrow_mut();
            state.open.iter_mut().chain(&mut state.closed).filter_map(|batch| batch.permit.take()).collect()
        };
        drop(permits);
        self.work.notify_all();
        self.wake_below(Lsn(u64::MAX));
    }

    fn wake_below(&self, lsn: Lsn) {
        let later = self.waiting.borrow_mut().split_off(&lsn);
        let woken = std::mem::replace(&mut *self.waiting.borrow_mut(), later);
        for waker in woken.into_values().flatten() {
            waker.wake();
        }
    }

    /// Wakes so many of those whose records are durable. Nobody looks for the place of a waker of a durable record again.
    fn wake_first(&self, mut count: usize) {
        let mut woken: SmallVec<[Waker; 32]> = SmallVec::new();
        for (_, wakers) in self.waiting.borrow_mut().range_mut(..self.durable.get()) {
            let taken = count.min(wakers.len());
            woken.extend(wakers.drain(..taken));
            count -= taken;
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until record `lsn` is durable. Dropping the future takes nothing back.
    pub async fn durable(&self, lsn: Lsn) -> Result<(), FenceCause> {
        // Its waker's place among those of the record, which are only added to until all are taken.
        let mut place: Option<usize> = None;
        poll_fn(|context| {
            if lsn < self.durable.get() {
                return Poll::Ready(Ok(()));
            }
            if let Err(error) = self.healthy() {
                return Poll::Ready(Err(error));
            }
            let mut waiting = self.waiting.borrow_mut();
            let wakers: &mut Vec<Waker> = waiting.entry(lsn).or_default();
            if let Some(place) = place {
                wakers[place].clone_from(context.waker());
            } else {
                place = Some(wakers.len());
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Whether it still takes records.
    pub fn healthy(&self) -> Result<(), FenceCause> {
        self.failed.get().map_or(Ok(()), Err)
    }

    /// Lets [`Journal::run`] return once all that joined is durable.
    pub fn close(&self) {
        self.closing.set(true);
        self.work.notify_all();
    }

    /// All records below this are durable.
    pub fn durable_below(&self) -> Lsn {
        self.durable.get()
    }

    /// The lsn that what joins now gets at least: all below it are in closed batches or durable, or in the open one.
    pub fn next_lsn(&self) -> Lsn {
        self.state.borrow().lsn
    }

    /// Closes the open batch, so that all that joined so far lies below the returned cut: a checkpoint's E.
    pub fn cut(&self) -> LogCut {
        let mut state = self.state.borrow_mut();
        Self::close_open(&mut state);
        self.work.notify_all();
        LogCut {
            lsn: state.lsn,
            at: state.tail.at(),
            segments: state.segments.iter().copied().collect(),
            next: state.next,
            logged: state.logged,
        }
    }

    /// Where a replay from record `lsn` begins: the record's address and the checksum of the header before it. `cut` was
    /// taken at or after `lsn`, and all records below it are durable.
    pub fn start_of(&self, lsn: Lsn, cut: &LogCut) -> (Paddr, Crc) {
        let state = self.state.borrow();
        assert!(lsn <= cut.lsn && cut.lsn <= self.durable.get(), "the records are written");
        let place = |lsn: Lsn| {
            state.places[usize::try_from(lsn.0 - state.first_place.0).expect("a window's records")]
        };
        let previous =
            if lsn > state.first_place { place(Lsn(lsn.0 - 1)).crc } else { state.previous_of_first };
        let at = if lsn == cut.lsn { cut.at } else { place(lsn).at };
        (at, previous)
    }

    /// Bytes logged over the shard's life, batches not yet written included.
    pub fn logged(&self) -> u64 {
        self.state.borrow().logged
    }

    /// Whether the last durable record was an empty one, so that nothing ambiguous ends the log.
    pub fn last_is_empty(&self) -> bool {
        self.state.borrow().last_is_empty
    }

    /// The journal's segments since the oldest kept one, and the next.
    pub fn segments(&self) -> (Vec<JournalSegment>, Option<(SegmentId, Incarnation)>) {
        let state = self.state.borrow();
        (state.segments.iter().copied().collect(), state.next)
    }

    /// How many segments there are since the oldest kept one.
    pub fn segment_count(&self) -> usize {
        self.state.borrow().segments.len()
    }

    /// Forgets the segments before the one of which a checkpoint says that its window begins there, at `at` with record
    /// `start`; they are returned, oldest first. That record may have gone to the next segment since, as it did not fit there:
    /// the slots name the other one all the same.
    pub fn release_before(&self, start: Lsn, at: Paddr) -> Vec<SegmentId> {
        let mut state = self.state.borrow_mut();
        let mut released = Vec::new();
        while state.segments.len() > 1
            && state.segments[1].first <= start
            && state.segments[0].segment != at.segment
        {
            released.extend(state.segments.pop_front().map(|segment| segment.segment));
        }
        while state.first_place < start {
            let Some(place) = state.places.pop_front() else { break };
            state.previous_of_first = place.crc;
            state.first_place = state.first_place.next();
        }
        released
    }

    /// The epoch of its records.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The device that it writes to.
    pub fn device(&self) -> &Rc<dyn Device> {
        &self.machine.device
    }
}

impl Batch {
    /// The most bytes of those entries that are written when the batch is closed.
    fn entries_to_come(&self) -> usize {
        self.live.len() * SMALL_ENTRY_BYTES + self.tallies.len() * TALLY_BYTES
    }

    fn finish_entries(&mut self) {
        let to = self.record.entries();
        if !self.live.is_empty() {
            EntryRef::Live(self.live.iter().map(|(segment, change)| (*segment, *change)).collect())
                .encode(to);
        }
        for (collection, (next_id, change)) in &self.tallies {
            EntryRef::Tally { collection: *collection, next_id: *next_id, change: *change }.encode(to);
        }
    }
}

/// A transaction's hold on the open batch; only within [`Journal::join`].
pub struct Joined<'a> {
    batch: &'a mut Batch,
    tail: &'a mut OpenSegment,
}

impl std::fmt::Debug for Joined<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined").field("lsn", &self.lsn()).finish_non_exhaustive()
    }
}

impl Joined<'_> {
    /// The record that it is in.
    pub fn lsn(&self) -> Lsn {
        self.batch.lsn
    }

    /// Copies a piece in; its address is final.
    pub fn place(&mut self, parts: &[&[u8]], summing: Summing) -> Placed {
        self.batch.record.place(parts, summing)
    }

    /// Appends the delta of a row, which points to `pieces`, (address, bytes) each, and lists those of this record by the key
    /// `identity`.
    pub fn delta(
        &mut self,
        (pool, tree): (PoolId, TreeKind),
        key: &[u8],
        change: ChangeRef<'_>,
        (pieces, identity): (&[(Paddr, u32)], &[u8]),
    ) {
        self.batch.says_something = true;
        // Data that was stored ahead is listed by its own record.
        let own = |at: &Paddr| at.segment == self.tail.segment;
        let offsets: SmallVec<[(u32, u32); 4]> =
            pieces.iter().filter(|(at, _)| own(at)).map(|(at, bytes)| (at.offset, *bytes)).collect();
        put_delta(self.batch.record.entries(), (pool, tree), key, change, &offsets);
        for (offset, bytes) in offsets {
            self.tail.list_piece(offset, bytes, pool, identity);
        }
    }

    /// Keeps a permit until the record is durable.
    pub fn keep(&mut self, permit: Permit) {
        match &mut self.batch.permit {
            Some(kept) => kept.merge(permit),
            none => *none = Some(permit),
        }
    }

    /// Counts live bytes that came (positive) or went in a segment.
    pub fn live(&mut self, segment: SegmentId, change: i64) {
        *self.batch.live.entry(segment).or_default() += change;
    }

    /// Counts what changed in a collection.
    pub fn tally(&mut self, collection: CollectionId, next_id: u64, change: &Tally) {
        let (id, tally) = self.batch.tallies.entry(collection).or_default();
        *id = (*id).max(next_id);
        tally.add(change);
    }

    /// Says that a segment will be written to.
    pub fn claim(&mut self, segment: SegmentId, incarnation: Incarnation, stream: StreamKind, age: u64) {
        self.batch.says_something = true;
        EntryRef::Claim { segment, incarnation, stream, age }.encode(self.batch.record.entries());
    }

    /// Says that a segment will not be written to any more.
    pub fn seal(&mut self, segment: SegmentId) {
        self.batch.says_something = true;
        EntryRef::Seal { segment }.encode(self.batch.record.entries());
    }

    /// Makes an empty collection.
    pub fn new_collection(&mut self, collection: CollectionId, term: Term) {
        self.batch.says_something = true;
        EntryRef::NewCollection { collection, term }.encode(self.batch.record.entries());
    }
}
