//! Read: answers questions about objects: looks at the rows, loads what is absent, waits until what was seen is durable,
//! reads and verifies stored bytes.
//!
//! Every chunk is verified against the checksum in its row; a damaged one is an error for the ranges that need it. Reads in
//! one run of neighbouring chunks are one device read, those of a question go out at once; short runs that were read before are
//! answered from memory (`data_cache`), without waiting.
//!
//! **Slices.** A question that needs more than [`SLICE_ROWS`] rows or [`SLICE_BYTES`] bytes is answered in slices, and the
//! request lets others run between them and within each ([`Pace`]). What it shows is the state of one moment all the same:
//! it watches the object meanwhile (`past`). Listings are the exception: they promise what exists throughout.
//!
//! **Memory.** A read of data takes permits of the budget's share for reads, all in one step, before it holds any
//! memory: for its answer, holes included, and for the buffers that the device fills. It keeps them until the answer leaves the
//! engine; from then on the bytes are the caller's. One that is answered from the data cache takes none: it shares that
//! memory. A request that has permits waits for the device and for records that are on their way, never for
//! permits, so requests do not wait for each other in a circle. Answers are bounded: data, attributes and the pairs of keys by
//! [`crate::ShardOptions::read_bytes_max`], pages by [`PAGE_BYTES_MAX`]; nothing is allocated by a size before it has
//! passed that bound.
//!
//! Cancel safety: dropping a read loses nothing.
//! Cost: with nodes in memory one device read per run, or none, and one copy.
//! Not here: read handles (`handle`), listings (`list`).

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use seabed_device::{ReadBuf, Runtime};
use seabed_journal::CollectionId;
use seabed_object::read::{self, Look, Opened, PageLimit, Part, Range, ReadError, ReadPlan, Run, Stat};
use seabed_object::value::Value;
use seabed_object::{Direction, ObjectId, Rows, Usage};
use seabed_types::{CHUNK_BYTES, Crc, PoolId};

use crate::operate::past::{For, Watching};
use crate::rows::view::View;
use crate::rows::{Collection, usage_of};
use crate::shard::mounted::{Mounted, OpGuard};
use crate::{Error, Result};

/// So many reads may be answered from memory before one of them lets others run.
const ANSWERED_MAX: u32 = 64;
/// And so many before one lets the thread look at I/O. If nobody else has anything to do it sleeps for a moment then, which takes
/// as long as some thirty such reads.
const ANSWERED_UNSEEN_MAX: u32 = 4 * ANSWERED_MAX;
/// Bytes of one device read of a long run, and of a slice of a long read.
pub(crate) const SLICE_BYTES: usize = 1 << 20;
/// Slices of one read that are on their way at a time.
const SLICES_AHEAD: usize = 4;
/// Rows that are looked at before others run.
pub(crate) const SLICE_ROWS: usize = 256;
/// Keys that are looked up before others run.
const SLICE_KEYS: usize = 128;
/// Bytes that are copied, summed or zeroed before others run: some 100 us.
const PACE_BYTES: usize = 512 << 10;
/// Bytes that are summed or copied in one go.
const STEP_BYTES: usize = 256 << 10;
/// Most bytes of names, keys and values of a page.
pub(crate) const PAGE_BYTES_MAX: usize = 1 << 20;
/// How often a request begins anew because its object changed too much meanwhile.
const WATCH_TRIES: usize = 4;

/// What a request has done since it last let others run.
pub(crate) struct Pace {
    runtime: Rc<dyn Runtime>,
    bytes: Cell<usize>,
}

impl Pace {
    /// `bytes` more were copied, summed or zeroed: lets others run, and I/O be seen, if that is enough.
    pub(crate) async fn step(&self, bytes: usize) {
        let done = self.bytes.get() + bytes;
        if done < PACE_BYTES {
            self.bytes.set(done);
            return;
        }
        self.bytes.set(0);
        seabed_types::reached!(ReadPaced);
        self.runtime.yield_io().await;
    }

    /// A slice of rows was looked at.
    pub(crate) async fn slice(&self) {
        self.step(PACE_BYTES).await;
    }
}

/// A part of an answer, in memory.
enum Loaded {
    Zeros(u64),
    Bytes(Bytes),
    /// These bytes of a buffer of the device, verified.
    Read(ReadBuf, std::ops::Range<usize>),
}

impl Loaded {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Zeros(count) => vec![0; usize::try_from(count).expect("bounded by the caller")].into(),
            Self::Bytes(bytes) => bytes,
            Self::Read(buf, range) => {
                seabed_types::work::bytes(range.len());
                Bytes::copy_from_slice(&buf[range])
            }
        }
    }
}

/// A page of an omap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct OmapPage {
    /// Pairs in the direction asked for.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Forward the `from`, backward the `to` of the next page; none at the end.
    pub next: Option<Bytes>,
}

impl Mounted {
    pub(crate) fn collection_of(&self, pool: PoolId, hash: u32) -> Result<CollectionId> {
        if self.closing.get() {
            return Err(Error::Closed);
        }
        let rows = self.rows.borrow();
        rows.collection_of(pool, hash).map(|found| found.id).ok_or(Error::NoSuchPoolId { id: pool })
    }

    /// Asks a question until nothing it needs is absent, and until all that it saw is durable.
    pub(crate) async fn ask<T>(
        self: &Rc<Self>,
        id: CollectionId,
        question: impl Fn(&View<'_>) -> std::result::Result<T, ReadError>,
    ) -> Result<(T, OpGuard)> {
        let mut guard = OpGuard::new(self);
        loop {
            self.not_removed(id).await?;
            let (answer, wanted, settled) = {
                let rows = self.rows.borrow();
                let view = View::new(&rows, rows.collection(id)?, &guard.pieces);
                let answer = question(&view);
                let (wanted, settled) = view.end();
                (answer, wanted, settled)
            };
            let answer = match answer {
                Err(ReadError::Stop(stop)) => {
                    self.load_or_fail(id, stop, wanted, &mut guard).await?;
                    continue;
                }
                answer => answer.map_err(refused),
            };
            if !seabed_types::seeded!(10) {
                self.settled(settled).await?;
            }
            return Ok((answer?, guard));
        }
    }

    /// Asks a question about a watched object as it was when the watch began. What it keeps of nodes it lets go of.
    pub(crate) async fn ask_as_of<T>(
        self: &Rc<Self>,
        id: CollectionId,
        watching: &Watching,
        question: impl Fn(&dyn Rows) -> std::result::Result<T, ReadError>,
    ) -> Result<T> {
        let mut guard = OpGuard::new(self);
        loop {
            watching.check()?;
            self.not_removed(id).await?;
            let (answer, wanted) = {
                let rows = self.rows.borrow();
                let view = View::new(&rows, rows.collection(id)?, &guard.pieces);
                let answer = watching.as_of(&view, &question);
                (answer, view.end().0)
            };
            let answer = match answer {
                Err(ReadError::Stop(stop)) => {
                    self.load_or_fail(id, stop, wanted, &mut guard).await?;
                    continue;
                }
                answer => answer.map_err(refused),
            };
            self.settled(watching.watch.settled_at).await?;
            return answer;
        }
    }

    /// Does something with an object, in slices, as it was in one moment; begins anew if it changes too much meanwhile.
    async fn in_one_moment<T>(
        self: &Rc<Self>,
        id: CollectionId,
        object: &ObjectId,
        work: impl AsyncFn(&Watching, &Opened) -> Result<T>,
    ) -> Result<T> {
        for _ in 0..WATCH_TRIES {
            let running = self.table.enter();
            let watching = self.watch(id, object, For::Request)?;
            let done = async {
                let opened = self.ask_as_of(id, &watching, |rows| read::open(rows, object)).await?;
                watching.keep_family(opened.stat.family);
                work(&watching, &opened).await
            };
            let result = done.await;
            drop(running);
            match result {
                Err(Error::Expired) => {}
                result => return result,
            }
        }
        Err(Error::Expired)
    }

    pub(crate) fn pace(&self) -> Pace {
        Pace { runtime: Rc::clone(&self.machine.runtime), bytes: Cell::new(0) }
    }

    /// Whether an answer of so many bytes may be given at once.
    pub(crate) fn check_read(&self, bytes: u64) -> Result<()> {
        let max = self.options.read_bytes();
        if bytes > max as u64 { Err(Error::ReadTooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Whether so many pairs may be given at once. A single one always may: the limits on values bound it, and there is no
    /// smaller answer to ask for.
    fn check_pairs(&self, pairs: &[(Bytes, Value)]) -> Result<()> {
        if pairs.len() > 1 { self.check_read(bytes_of(pairs)) } else { Ok(()) }
    }

    pub(crate) async fn exists(self: &Rc<Self>, pool: PoolId, object: &ObjectId) -> Result<bool> {
        let id = self.collection_of(pool, object.hash)?;
        Ok(self.ask(id, |view| read::exists(view, object)).await?.0)
    }

    pub(crate) async fn stat(self: &Rc<Self>, pool: PoolId, object: &ObjectId) -> Result<Stat> {
        let id = self.collection_of(pool, object.hash)?;
        Ok(self.ask(id, |view| read::stat(view, object)).await?.0)
    }

    pub(crate) async fn allocated(self: &Rc<Self>, pool: PoolId, object: &ObjectId) -> Result<u64> {
        let id = self.collection_of(pool, object.hash)?;
        let first = |rows: &dyn Rows| {
            let opened = read::open(rows, object)?;
            let (sum, next) = read::allocated_from(rows, &opened, None, SLICE_ROWS)?;
            Ok((opened.allocated_in_onode() + sum, next.is_some()))
        };
        let ((sum, is_long), _) = self.ask(id, |view| first(view)).await?;
        if !is_long {
            return Ok(sum);
        }
        self.in_one_moment(id, object, async |watching, opened| {
            let (pace, mut sum, mut from) = (self.pace(), opened.allocated_in_onode(), None);
            loop {
                let slice = |rows: &dyn Rows| read::allocated_from(rows, opened, from.as_deref(), SLICE_ROWS);
                let (bytes, next) = self.ask_as_of(id, watching, slice).await?;
                sum += bytes;
                from = Some(match next {
                    Some(next) => next,
                    None => return Ok(sum),
                });
                pace.slice().await;
            }
        })
        .await
    }

    pub(crate) async fn read_object(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        offset: u64,
        bytes: u64,
    ) -> Result<Bytes> {
        let id = self.collection_of(pool, object.hash)?;
        let whole_max = SLICE_BYTES as u64;
        let (look, guard) = self.ask(id, |view| read::look(view, object, offset, bytes, whole_max)).await?;
        let mut expected = match look {
            Look::Whole(plan) => {
                self.check_read(plan.bytes())?;
                let bytes = self.carry_out(&plan).await?;
                drop(guard);
                return Ok(bytes);
            }
            Look::Long(expected) => expected,
        };
        drop(guard);
        // The object may be longer when it is read than when its size was seen: then it takes more memory.
        loop {
            self.check_read(expected)?;
            let permit = self.reads.acquire(memory_of(expected)).await;
            let read = self.in_one_moment(id, object, async |watching, opened| {
                let range = opened.clip(offset, bytes).map_err(refused)?;
                if range.bytes > expected {
                    return Ok(Err(range.bytes));
                }
                self.read_range(id, watching, opened, range).await.map(Ok)
            });
            match read.await? {
                Ok(bytes) => return Ok(bytes),
                Err(longer) => expected = longer,
            }
            drop(permit);
        }
    }

    /// A range of a watched object. The caller has checked its length and has the memory ([`memory_of`]), and is counted as
    /// running.
    pub(crate) async fn read_range(
        self: &Rc<Self>,
        id: CollectionId,
        watching: &Watching,
        opened: &Opened,
        range: Range,
    ) -> Result<Bytes> {
        let pace = &self.pace();
        let bytes =
            usize::try_from(range.bytes).map_err(|_| Error::Invalid { what: "a read over memory" })?;
        let mut answer = Vec::with_capacity(bytes);
        let end = range.offset + range.bytes;
        let slices = (range.offset..end)
            .step_by(SLICE_BYTES)
            .map(|offset| Range { offset, bytes: (end - offset).min(SLICE_BYTES as u64) });
        let loads = slices.map(|slice| async move {
            let plan = self.ask_as_of(id, watching, |rows| opened.plan(rows, slice)).await?;
            self.load_parts(&plan, pace).await
        });
        let mut loads = std::pin::pin!(futures::stream::iter(loads).buffered(SLICES_AHEAD));
        while let Some(parts) = loads.next().await {
            for part in parts? {
                put_part(&mut answer, part, pace).await;
            }
        }
        assert_eq!(answer.len(), bytes, "a plan covers what was asked for");
        Ok(answer.into())
    }

    pub(crate) async fn extents(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<Range>> {
        let id = self.collection_of(pool, object.hash)?;
        let first = |rows: &dyn Rows| {
            let opened = read::open(rows, object)?;
            opened.extents(rows, opened.clip(offset, bytes)?, SLICE_ROWS)
        };
        let ((found, next), _) = self.ask(id, |view| first(view)).await?;
        if next.is_none() {
            return Ok(found);
        }
        self.in_one_moment(id, object, async |watching, opened| {
            let (pace, mut found) = (self.pace(), Vec::<Range>::new());
            let mut range = opened.clip(offset, bytes).map_err(refused)?;
            loop {
                let slice = |rows: &dyn Rows| opened.extents(rows, range, SLICE_ROWS);
                let (more, next) = self.ask_as_of(id, watching, slice).await?;
                for more in more {
                    match found.last_mut() {
                        Some(last) if last.offset + last.bytes == more.offset => last.bytes += more.bytes,
                        _ => found.push(more),
                    }
                }
                self.check_read((found.len() * size_of::<Range>()) as u64)?;
                let Some(next) = next else { return Ok(found) };
                range = Range { offset: next, bytes: range.offset + range.bytes - next };
                pace.slice().await;
            }
        })
        .await
    }

    pub(crate) async fn attr(self: &Rc<Self>, pool: PoolId, object: &ObjectId, name: &[u8]) -> Result<Bytes> {
        let id = self.collection_of(pool, object.hash)?;
        let (value, guard) = self.ask(id, |view| read::attr(view, object, name)).await?;
        let bytes = self.value(value).await?;
        drop(guard);
        Ok(bytes)
    }

    pub(crate) async fn attrs(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let id = self.collection_of(pool, object.hash)?;
        let limit = PageLimit::items(SLICE_ROWS);
        let (page, guard) = self.ask(id, |view| read::attrs_from(view, object, None, limit)).await?;
        if page.next.is_none() {
            self.check_pairs(&page.pairs)?;
            let pairs = self.values(page.pairs).await?;
            drop(guard);
            return Ok(pairs);
        }
        drop(guard);
        self.in_one_moment(id, object, async |watching, _| {
            let (pace, mut pairs, mut from) = (self.pace(), Vec::new(), None::<Bytes>);
            loop {
                let slice = |rows: &dyn Rows| read::attrs_from(rows, object, from.as_deref(), limit);
                let page = self.ask_as_of(id, watching, slice).await?;
                pairs.extend(page.pairs);
                self.check_pairs(&pairs)?;
                from = Some(match page.next {
                    Some(next) => next,
                    None => return self.values(pairs).await,
                });
                pace.slice().await;
            }
        })
        .await
    }

    pub(crate) async fn omap_header(self: &Rc<Self>, pool: PoolId, object: &ObjectId) -> Result<Bytes> {
        let id = self.collection_of(pool, object.hash)?;
        let (value, guard) = self.ask(id, |view| read::omap_header(view, object)).await?;
        let bytes = self.value(value).await?;
        drop(guard);
        Ok(bytes)
    }

    pub(crate) async fn omap_get(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        keys: &[Vec<u8>],
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let id = self.collection_of(pool, object.hash)?;
        if keys.len() <= SLICE_KEYS {
            let (pairs, guard) = self.ask(id, |view| read::omap_get(view, object, keys)).await?;
            self.check_pairs(&pairs)?;
            let pairs = self.values(pairs).await?;
            drop(guard);
            return Ok(pairs);
        }
        self.in_one_moment(id, object, async |watching, _| {
            let (pace, mut pairs) = (self.pace(), Vec::new());
            for keys in keys.chunks(SLICE_KEYS) {
                let slice = |rows: &dyn Rows| read::omap_get(rows, object, keys);
                pairs.extend(self.ask_as_of(id, watching, slice).await?);
                self.check_pairs(&pairs)?;
                pace.slice().await;
            }
            self.values(pairs).await
        })
        .await
    }

    /// A page of at most `limit` pairs and about [`PAGE_BYTES_MAX`] bytes.
    pub(crate) async fn omap_range(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        (from, to): (&[u8], Option<&[u8]>),
        limit: usize,
        direction: Direction,
    ) -> Result<OmapPage> {
        let id = self.collection_of(pool, object.hash)?;
        let bytes = PAGE_BYTES_MAX.min(self.options.read_bytes());
        if limit <= SLICE_ROWS {
            let limit = PageLimit { items: limit, bytes };
            let (page, guard) =
                self.ask(id, |view| read::omap_page(view, object, (from, to), limit, direction)).await?;
            let pairs = self.values(page.pairs).await?;
            drop(guard);
            return Ok(OmapPage { pairs, next: page.next });
        }
        self.in_one_moment(id, object, async |watching, _| {
            let (pace, mut pairs) = (self.pace(), Vec::new());
            let (mut from, mut to) = (Bytes::copy_from_slice(from), to.map(Bytes::copy_from_slice));
            loop {
                let left = usize::try_from(bytes_of(&pairs)).map_or(0, |taken| bytes.saturating_sub(taken));
                let slice = PageLimit { items: SLICE_ROWS.min(limit - pairs.len()), bytes: left };
                let question =
                    |rows: &dyn Rows| read::omap_page(rows, object, (&from, to.as_deref()), slice, direction);
                let page = self.ask_as_of(id, watching, question).await?;
                let is_full = page.pairs.len() < slice.items;
                pairs.extend(page.pairs);
                let next = match page.next {
                    Some(next) if !is_full && pairs.len() < limit => next,
                    next => return Ok(OmapPage { pairs: self.values(pairs).await?, next }),
                };
                match direction {
                    Direction::Forward => from = next,
                    Direction::Backward => to = Some(next),
                }
                pace.slice().await;
            }
        })
        .await
    }

    /// What a pool holds, of what is durable (rule L6).
    pub(crate) fn usage_of_pool(&self, pool: PoolId) -> Result<Usage> {
        let rows = self.rows.borrow();
        let durable = self.durable_below();
        let is_shown = |collection: &Collection| collection.removed_in.is_none_or(|lsn| lsn >= durable);
        let mut of = (rows.collections.values())
            .filter(|collection| collection.id.pool == pool && is_shown(collection))
            .peekable();
        if of.peek().is_none() {
            return Err(Error::NoSuchPoolId { id: pool });
        }
        Ok(of.map(|collection| self.durable_usage(collection)).fold(Usage::default(), Usage::plus))
    }

    /// What all pools hold, of what is durable: also those that were removed, until their space is free.
    pub(crate) fn usage_of_all(&self) -> Usage {
        let rows = self.rows.borrow();
        let of = rows.collections.values().filter(|collection| collection.id.pool != PoolId(0));
        of.map(|collection| self.durable_usage(collection)).fold(Usage::default(), Usage::plus)
    }

    fn durable_usage(&self, collection: &Collection) -> Usage {
        let mut tally = collection.tally;
        if let Some(journal) = self.journal.as_ref().filter(|_| !seabed_types::seeded!(64)) {
            tally.take_off(&journal.undurable(collection.id));
        }
        usage_of(&tally)
    }

    /// Whether the collection's pool was removed, durably or not.
    pub(crate) fn is_removed(&self, id: CollectionId) -> bool {
        self.rows.borrow().collection(id).is_ok_and(|collection| collection.removed_in.is_some())
    }

    /// Whether callers may be told so at once.
    pub(crate) fn is_known_as_removed(&self, id: CollectionId) -> bool {
        let rows = self.rows.borrow();
        let removed_in = rows.collection(id).ok().and_then(|collection| collection.removed_in);
        removed_in.is_some_and(|lsn| lsn < self.durable_below())
    }

    /// Fails if the collection's pool was removed, once that is durable (rule L6). What it returns holds until the next await.
    pub(crate) async fn not_removed(&self, id: CollectionId) -> Result<()> {
        let removed_in = self.rows.borrow().collection(id)?.removed_in;
        let Some(lsn) = removed_in else { return Ok(()) };
        self.settled(lsn.next()).await?;
        Err(Error::NoSuchPoolId { id: id.pool })
    }

    /// The values of pairs; takes the memory for all of them in one step.
    async fn values(&self, pairs: Vec<(Bytes, Value)>) -> Result<Vec<(Bytes, Bytes)>> {
        let is_stored = |(_, value): &&(Bytes, Value)| matches!(value, Value::Stored(_));
        let stored: usize = pairs.iter().filter(is_stored).map(|(_, value)| value.bytes()).sum();
        let _permit = if stored > 0 { Some(self.reads.acquire(2 * stored).await) } else { None };
        let pace = &self.pace();
        let loads = pairs.into_iter().map(|(name, value)| async move {
            let bytes = match value {
                Value::Inline(bytes) => bytes,
                Value::Stored(piece) => {
                    let bytes = self.read_permitted_piece(&piece).await?;
                    pace.step(2 * bytes.len()).await;
                    bytes
                }
            };
            Ok((name, bytes))
        });
        join_all(loads).await.into_iter().collect()
    }

    async fn value(&self, value: Value) -> Result<Bytes> {
        match value {
            Value::Inline(bytes) => Ok(bytes),
            Value::Stored(piece) => self.read_piece(&piece).await,
        }
    }

    /// The bytes of a plan for at most a slice.
    async fn carry_out(&self, plan: &ReadPlan) -> Result<Bytes> {
        match plan.parts.as_slice() {
            [Part::Inline(bytes)] => return Ok(bytes.clone()),
            [Part::Run(run)] => {
                if let Some(found) = self.find_run(run) {
                    self.let_others_run().await;
                    return Ok(found);
                }
            }
            _ => {}
        }
        let buffers: usize = plan.parts.iter().map(buffer_of).sum();
        let bytes =
            usize::try_from(plan.bytes()).map_err(|_| Error::Invalid { what: "a read over memory" })?;
        let _permit = self.reads.acquire(bytes + buffers).await;
        let pace = &self.pace();
        if let [Part::Run(run)] = plan.parts.as_slice() {
            return Ok(self.read_run(run, pace).await?.into_bytes());
        }
        let mut answer = Vec::with_capacity(bytes);
        for part in self.load_parts(plan, pace).await? {
            put_part(&mut answer, part, pace).await;
        }
        Ok(answer.into())
    }

    /// The parts of a plan for at most a slice, all at once. The caller has the memory.
    async fn load_parts(&self, plan: &ReadPlan, pace: &Pace) -> Result<Vec<Loaded>> {
        let parts = plan.parts.iter().flat_map(split).collect::<Vec<Part>>();
        let loads = parts.iter().map(|part| async move {
            match part {
                Part::Run(run) => match self.find_run(run) {
                    Some(found) => Ok(Loaded::Bytes(found)),
                    None => self.read_run(run, pace).await,
                },
                Part::Zeros(count) => Ok(Loaded::Zeros(*count)),
                Part::Inline(bytes) => Ok(Loaded::Bytes(bytes.clone())),
            }
        });
        join_all(loads).await.into_iter().collect()
    }

    /// The bytes of a run that were asked for, if all its chunks are in memory.
    fn find_run(&self, run: &Run) -> Option<Bytes> {
        let incarnation = self.incarnation_served(run)?;
        let found = self.data.borrow_mut().find(run, incarnation);
        let chunks = run.crcs.len() as u64;
        self.counters.count(|stats| match found {
            Some(_) => stats.data_hits += chunks,
            None => stats.data_misses += chunks,
        });
        found
    }

    /// Which use of its segment a run is in, if the data cache serves it.
    fn incarnation_served(&self, run: &Run) -> Option<seabed_types::Incarnation> {
        let is_there = self.layout.contains(run.at, u64::from(run.bytes));
        let incarnation = self.table.incarnation(run.at.segment);
        incarnation.filter(|_| is_there && self.data.borrow().serves(run))
    }

    /// Reads the bytes of a run that were asked for, each chunk verified. Whoever asks is still counted as running, so the
    /// segment is what it was when its row was looked at.
    async fn read_run(&self, run: &Run, pace: &Pace) -> Result<Loaded> {
        let incarnation = self.incarnation_served(run);
        let (read, skip) = self.read_covering(run.at, run.bytes).await?;
        let bytes = &read[skip..skip + run.bytes as usize];
        let groups = bytes.chunks(STEP_BYTES).zip(run.crcs.chunks(STEP_BYTES / CHUNK_BYTES));
        for (group, (bytes, crcs)) in groups.enumerate() {
            for (index, (chunk, crc)) in bytes.chunks(CHUNK_BYTES).zip(crcs).enumerate() {
                if Crc::of(chunk) != *crc && !seabed_types::seeded!(47) {
                    let offset =
                        u32::try_from(group * STEP_BYTES + index * CHUNK_BYTES).expect("within a run");
                    return Err(Error::corrupt(run.at.plus(offset), "data: checksum"));
                }
            }
            pace.step(bytes.len()).await;
        }
        if let Some(incarnation) = incarnation {
            let taken = self.data.borrow_mut().offer(run, incarnation, bytes);
            self.counters.count(|stats| stats.data_admitted += taken);
        }
        let from = skip + run.skip as usize;
        Ok(Loaded::Read(read, from..from + run.take as usize))
    }

    /// A client that asks for nothing but what is in memory would never wait, and nobody else on its thread would run.
    async fn let_others_run(&self) {
        let answered = self.answered.get() + 1;
        self.answered.set(answered % ANSWERED_UNSEEN_MAX);
        if answered == ANSWERED_UNSEEN_MAX {
            self.machine.runtime.yield_io().await;
        } else if answered.is_multiple_of(ANSWERED_MAX) {
            self.machine.runtime.yield_now().await;
        }
    }
}

/// Why a question has no answer, but for what is absent or damaged.
pub(crate) fn refused(error: ReadError) -> Error {
    match error {
        ReadError::NotFound => Error::NotFound,
        ReadError::NoSuchAttr => Error::NoSuchAttr,
        ReadError::Invalid { what } => Error::Invalid { what },
        ReadError::Stop(seabed_object::Stop::Corrupt { at, what }) => Error::Corrupt { at, what },
        ReadError::Stop(seabed_object::Stop::Absent) => unreachable!("what is absent was loaded"),
    }
}

/// Memory for an answer of so many bytes that is read in slices, and for the slices on their way.
pub(crate) fn memory_of(bytes: u64) -> usize {
    let staged = bytes.min((SLICES_AHEAD * SLICE_BYTES) as u64);
    usize::try_from(bytes.saturating_add(staged)).unwrap_or(usize::MAX)
}

/// Bytes of the buffer that the device fills for a part.
fn buffer_of(part: &Part) -> usize {
    match part {
        Part::Run(run) => run.bytes as usize,
        Part::Zeros(_) | Part::Inline(_) => 0,
    }
}

/// Bytes of names and values.
fn bytes_of(pairs: &[(Bytes, Value)]) -> u64 {
    pairs.iter().map(|(name, value)| (name.len() + value.bytes()) as u64).sum()
}

/// Adds a part to an answer that has room for it.
async fn put_part(answer: &mut Vec<u8>, part: Loaded, pace: &Pace) {
    match part {
        Loaded::Zeros(count) => {
            let mut left = usize::try_from(count).expect("the answer has room for it");
            while left > 0 {
                let step = left.min(STEP_BYTES);
                answer.resize(answer.len() + step, 0);
                seabed_types::work::bytes(step);
                left -= step;
                pace.step(step).await;
            }
        }
        Loaded::Bytes(bytes) => put_bytes(answer, &bytes, pace).await,
        Loaded::Read(buf, range) => put_bytes(answer, &buf[range], pace).await,
    }
}

async fn put_bytes(answer: &mut Vec<u8>, bytes: &[u8], pace: &Pace) {
    for bytes in bytes.chunks(STEP_BYTES) {
        answer.extend_from_slice(bytes);
        seabed_types::work::bytes(bytes.len());
        pace.step(bytes.len()).await;
    }
}

/// Cuts a long run into reads of bounded size.
fn split(part: &Part) -> Vec<Part> {
    let Part::Run(run) = part else { return vec![part.clone()] };
    let mut parts = Vec::new();
    let (mut at, mut left, mut skip, mut take) = (run.at, run.bytes as usize, run.skip, run.take);
    for crcs in run.crcs.chunks(SLICE_BYTES / CHUNK_BYTES) {
        let bytes = left.min(SLICE_BYTES);
        let size = u32::try_from(bytes).expect("bounded above");
        let taken = take.min(size - skip);
        parts.push(Part::Run(Run {
            at,
            bytes: size,
            crcs: crcs.iter().copied().collect(),
            skip,
            take: taken,
        }));
        left -= bytes;
        take -= taken;
        skip = 0;
        if left > 0 {
            at = at.plus(size);
        }
    }
    parts
}
