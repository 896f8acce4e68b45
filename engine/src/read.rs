//! Read: answers questions about objects: looks at the rows, loads what is absent, waits until what was seen is durable,
//! reads and verifies stored bytes.
//!
//! Every chunk is verified against the checksum in its row; a damaged one is an error for the ranges that need it. Reads in
//! one run of neighbouring chunks are one device read, those of a question go out at once; short runs that were read before are
//! answered from memory (`data_cache`), without waiting.
//!
//! Cancel safety: dropping a read loses nothing.
//! Cost: with nodes in memory one device read per run, or none, and one copy.

use std::rc::Rc;

use bytes::Bytes;
use futures::future::join_all;
use seabed_journal::CollectionId;
use seabed_object::read::{self, Part, Range, ReadError, ReadPlan, Run, Stat};
use seabed_object::value::Value;
use seabed_object::{Direction, ObjectId, Usage, key};
use seabed_types::{CHUNK_BYTES, Crc, PoolId};

use crate::mounted::{Held, Mounted};
use crate::view::View;
use crate::world::{Collection, usage_of};
use crate::{Error, Result};

/// So many reads may be answered from memory before one of them lets others run.
const ANSWERED_MAX: u32 = 64;
/// And so many before one lets the thread look at I/O. If nobody else has anything to do it sleeps for a moment then, which takes
/// as long as some thirty such reads.
const ANSWERED_UNSEEN_MAX: u32 = 4 * ANSWERED_MAX;
/// Bytes of one device read of a long run.
const READ_BYTES_MAX: usize = 1 << 20;

/// A page of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ListPage {
    /// Objects in the order of their bit-reversed hash, namespace, name, snap, generation.
    pub objects: Vec<ObjectId>,
    /// What each of them is, in the same order.
    pub stats: Vec<Stat>,
    /// What the next page begins with; none at the end.
    pub next: Option<ObjectId>,
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
        let world = self.world.borrow();
        world.collection_of(pool, hash).map(|found| found.id).ok_or(Error::NoSuchPoolId { id: pool })
    }

    /// Asks a question until nothing it needs is absent, and until all that it saw is durable.
    async fn ask<T>(
        self: &Rc<Self>,
        id: CollectionId,
        question: impl Fn(&View<'_>) -> std::result::Result<T, ReadError>,
    ) -> Result<(T, Held)> {
        let mut held = Held::new(self);
        loop {
            self.not_removed(id).await?;
            let (answer, wanted, settled) = {
                let world = self.world.borrow();
                let view = View::new(&world, world.collection(id), &held.pieces);
                let answer = question(&view);
                let (wanted, settled) = view.end();
                (answer, wanted, settled)
            };
            let answer = match answer {
                Err(ReadError::Stop(stop)) => {
                    self.load_or_fail(id, stop, wanted, &mut held).await?;
                    continue;
                }
                Ok(answer) => Ok(answer),
                Err(ReadError::NotFound) => Err(Error::NotFound),
                Err(ReadError::NoSuchAttr) => Err(Error::NoSuchAttr),
                Err(ReadError::Invalid { what }) => Err(Error::Invalid { what }),
                Err(_) => Err(Error::Invalid { what: "the question" }),
            };
            if !seabed_types::seeded!(10) {
                self.settled(settled).await?;
            }
            return Ok((answer?, held));
        }
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
        Ok(self.ask(id, |view| read::allocated(view, object)).await?.0)
    }

    pub(crate) async fn read_object(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        offset: u64,
        bytes: u64,
    ) -> Result<Bytes> {
        let id = self.collection_of(pool, object.hash)?;
        let (plan, held) = self.ask(id, |view| read::read(view, object, offset, bytes)).await?;
        let bytes = self.carry_out(&plan).await?;
        drop(held);
        Ok(bytes)
    }

    pub(crate) async fn extents(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<Range>> {
        let id = self.collection_of(pool, object.hash)?;
        Ok(self.ask(id, |view| read::extents(view, object, offset, bytes)).await?.0)
    }

    pub(crate) async fn attr(self: &Rc<Self>, pool: PoolId, object: &ObjectId, name: &[u8]) -> Result<Bytes> {
        let id = self.collection_of(pool, object.hash)?;
        let (value, held) = self.ask(id, |view| read::attr(view, object, name)).await?;
        let bytes = self.value(value).await?;
        drop(held);
        Ok(bytes)
    }

    pub(crate) async fn attrs(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let id = self.collection_of(pool, object.hash)?;
        let (pairs, held) = self.ask(id, |view| read::attrs(view, object)).await?;
        let pairs = self.values(pairs).await?;
        drop(held);
        Ok(pairs)
    }

    pub(crate) async fn omap_header(self: &Rc<Self>, pool: PoolId, object: &ObjectId) -> Result<Bytes> {
        let id = self.collection_of(pool, object.hash)?;
        let (value, held) = self.ask(id, |view| read::omap_header(view, object)).await?;
        let bytes = self.value(value).await?;
        drop(held);
        Ok(bytes)
    }

    pub(crate) async fn omap_get(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        keys: &[Vec<u8>],
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let id = self.collection_of(pool, object.hash)?;
        let (pairs, held) = self.ask(id, |view| read::omap_get(view, object, keys)).await?;
        let pairs = self.values(pairs).await?;
        drop(held);
        Ok(pairs)
    }

    pub(crate) async fn omap_range(
        self: &Rc<Self>,
        pool: PoolId,
        object: &ObjectId,
        (from, to): (&[u8], Option<&[u8]>),
        limit: usize,
        direction: Direction,
    ) -> Result<OmapPage> {
        let id = self.collection_of(pool, object.hash)?;
        let (page, held) =
            self.ask(id, |view| read::omap_range(view, object, (from, to), limit, direction)).await?;
        let pairs = self.values(page.pairs).await?;
        drop(held);
        Ok(OmapPage { pairs, next: page.next })
    }

    /// A page of at most `limit` objects from `from` on, over all collections of the pool.
    pub(crate) async fn list(
        self: &Rc<Self>,
        pool: PoolId,
        from: Option<&ObjectId>,
        limit: usize,
    ) -> Result<ListPage> {
        if limit == 0 {
            return Err(Error::Invalid { what: "a page has at least one object" });
        }
        let start = from.map(key::names).unwrap_or_default();
        let ids: Vec<CollectionId> = {
            let world = self.world.borrow();
            world.collections.keys().filter(|id| id.pool == pool).copied().collect()
        };
        if ids.is_empty() {
            return Err(Error::NoSuchPoolId { id: pool });
        }
        let mut page = ListPage::default();
        for id in ids {
            let (_, end) = key::collection(id.prefix, id.bits);
            if end.as_ref().is_some_and(|end| end <= &start) {
                continue;
            }
            let wanted = limit - page.objects.len();
            let (part, _) = self.ask(id, |view| read::list(view, &start, end.as_deref(), wanted)).await?;
            for listed in part.objects {
                page.objects.push(listed.id);
                page.stats.push(listed.stat);
            }
            if let Some(next) = part.next {
                let next = key::decode_names(&next);
                page.next = Some(next.map_err(|malformed| Error::Corrupt {
                    at: seabed_types::Paddr::default(),
                    what: malformed.what,
                })?);
                break;
            }
        }
        Ok(page)
    }

    /// What a pool holds, of what is durable (rule L6).
    pub(crate) fn usage_of_pool(&self, pool: PoolId) -> Result<Usage> {
        let world = self.world.borrow();
        let durable = self.durable_below();
        let is_shown = |collection: &Collection| collection.removed_in.is_none_or(|lsn| lsn >= durable);
        let mut of = (world.collections.values())
            .filter(|collection| collection.id.pool == pool && is_shown(collection))
            .peekable();
        if of.peek().is_none() {
            return Err(Error::NoSuchPoolId { id: pool });
        }
        Ok(of.map(|collection| self.durable_usage(collection)).fold(Usage::default(), Usage::plus))
    }

    /// What all pools hold, of what is durable: also those that were removed, until their space is free.
    pub(crate) fn usage_of_all(&self) -> Usage {
        let world = self.world.borrow();
        let of = world.collections.values().filter(|collection| collection.id.pool != PoolId(0));
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
        self.world.borrow().collection(id).removed_in.is_some()
    }

    /// Whether callers may be told so at once.
    pub(crate) fn is_known_as_removed(&self, id: CollectionId) -> bool {
        self.world.borrow().collection(id).removed_in.is_some_and(|lsn| lsn < self.durable_below())
    }

    /// Fails if the collection's pool was removed, once that is durable (rule L6). What it returns holds until the next await.
    pub(crate) async fn not_removed(&self, id: CollectionId) -> Result<()> {
        let removed_in = self.world.borrow().collection(id).removed_in;
        let Some(lsn) = removed_in else { return Ok(()) };
        self.settled(lsn.next()).await?;
        Err(Error::NoSuchPoolId { id: id.pool })
    }

    async fn values(&self, pairs: Vec<(Bytes, Value)>) -> Result<Vec<(Bytes, Bytes)>> {
        let loads =
            pairs.into_iter().map(|(name, value)| async move { Ok((name, self.value(value).await?)) });
        join_all(loads).await.into_iter().collect()
    }

    async fn value(&self, value: Value) -> Result<Bytes> {
        match value {
            Value::Inline(bytes) => Ok(bytes),
            Value::Stored(piece) => self.read_piece(&piece).await,
        }
    }

    async fn carry_out(&self, plan: &ReadPlan) -> Result<Bytes> {
        if let [Part::Run(run)] = plan.parts.as_slice()
            && run.bytes as usize <= READ_BYTES_MAX
        {
            return self.read_run(run).await;
        }
        let parts = plan.parts.iter().flat_map(split).collect::<Vec<Part>>();
        let loads = parts.iter().map(|part| async move {
            match part {
                Part::Run(run) => self.read_run(run).await.map(Some),
                Part::Zeros(_) | Part::Inline(_) => Ok(None),
            }
        });
        let loaded = join_all(loads).await;
        let mut bytes = Vec::new();
        for (part, loaded) in parts.iter().zip(loaded) {
            match (part, loaded?) {
                (Part::Zeros(count), _) => {
                    let count =
                        usize::try_from(*count).map_err(|_| Error::Invalid { what: "a read over memory" })?;
                    bytes.resize(bytes.len() + count, 0);
                }
                (Part::Inline(inline), _) => bytes.extend_from_slice(inline),
                (Part::Run(_), Some(run)) => bytes.extend_from_slice(&run),
                (Part::Run(_), None) => unreachable!("runs are loaded"),
            }
        }
        Ok(bytes.into())
    }

    /// The bytes of a run that were asked for, each chunk verified. Whoever asks is still counted as running, so the segment is
    /// what it was when its row was looked at.
    async fn read_run(&self, run: &Run) -> Result<Bytes> {
        let is_there = self.layout.contains(run.at, u64::from(run.bytes));
        let incarnation = self.table.incarnation(run.at.segment);
        let incarnation = incarnation.filter(|_| is_there && self.data.borrow().serves(run));
        if let Some(incarnation) = incarnation {
            let found = self.data.borrow_mut().find(run, incarnation);
            let chunks = run.crcs.len() as u64;
            self.counters.count(|stats| match found {
                Some(_) => stats.data_hits += chunks,
                None => stats.data_misses += chunks,
            });
            if let Some(found) = found {
                self.let_others_run().await;
                return Ok(found);
            }
        }
        let _permit = self.reads.acquire(run.bytes as usize).await;
        let (read, skip) = self.read_covering(run.at, run.bytes).await?;
        let bytes = &read[skip..skip + run.bytes as usize];
        for (index, (chunk, crc)) in bytes.chunks(CHUNK_BYTES).zip(&run.crcs).enumerate() {
            if Crc::of(chunk) != *crc && !seabed_types::seeded!(47) {
                let offset = u32::try_from(index * CHUNK_BYTES).expect("within a run");
                return Err(Error::Corrupt { at: run.at.plus(offset), what: "data: checksum" });
            }
        }
        if let Some(incarnation) = incarnation {
            let taken = self.data.borrow_mut().offer(run, incarnation, bytes);
            self.counters.count(|stats| stats.data_admitted += taken);
        }
        Ok(Bytes::copy_from_slice(&bytes[run.skip as usize..(run.skip + run.take) as usize]))
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

/// Cuts a long run into reads of bounded size.
fn split(part: &Part) -> Vec<Part> {
    let Part::Run(run) = part else { return vec![part.clone()] };
    let mut parts = Vec::new();
    let (mut at, mut left, mut skip, mut take) = (run.at, run.bytes as usize, run.skip, run.take);
    for crcs in run.crcs.chunks(READ_BYTES_MAX / CHUNK_BYTES) {
        let bytes = left.min(READ_BYTES_MAX);
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
