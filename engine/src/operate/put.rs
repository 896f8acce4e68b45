//! Put: a streaming put, whole or absent at any size in bounded memory.
//!
//! Bytes are gathered to parts of up to 1 MiB. The first part that is full logs a graves row for a new family; each part is
//! stored in the bulk stream and its rows, which nobody can reach, are logged. The last transaction sets the onode, does what
//! else was asked for, and takes the grave away. An object that fits one part is an ordinary put. While it goes on the family
//! is known as alive and its grave is passed over; dropped, it is drained.
//! Bytes that are left out ([`LocalPut::skip`]) end the part before them and have no rows, but for those in chunks that are
//! stored anyway.
//!
//! A put goes on over a mount in place: a part is kept until the record with its rows is durable, so what the failed mount
//! had not made durable is stored again on the next ([`Family::keep_up`]), also the family itself if its grave was lost; it
//! gets another number then.
//!
//! Memory: each open put has 8 KiB for good ([`OPEN_BYTES`]), so that it gets on whatever the others do: in the worst case its
//! parts have 8 KiB and each waits until the one before is durable. Beyond that, parts grow, and several are in flight, as
//! long as there is memory for it; a part gives its memory back when it is durable, which waits for no client. Puts beyond
//! the memory for open ones are [`Error::TooManyStreams`] at once: if they waited, a client that opens some before it
//! finishes any could wait for itself.
//!
//! Crash: the grave stands, and the next mount drains it.
//! Limits: a sixteenth of the memory budget for open puts, 8 KiB each, and as much for parts; one put has up to a
//! sixteenth of the latter for a part, and four parts in memory: one that is filled, one that is stored, two that wait for their
//! record.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use futures::channel::oneshot;
use seabed_device::Class;
use seabed_device::local::{Permit, Semaphore};
use seabed_journal::{CollectionId, Journal};
use seabed_object::limits::OBJECT_BYTES_MAX;
use seabed_object::stream::{self, Finish, FinishOps, StreamPart};
use seabed_object::{Effects, Laid, ObjectId, Transaction, key, rows_of};
use seabed_segment::{ListedWhat, Summing};
use seabed_types::{CHUNK_BYTES, Lsn, PoolId};

use crate::maintain::admit::Purpose;
use crate::operate::bulk::Part;
use crate::operate::submit::{Applied, SystemEffect};
use crate::shard::Shard;
use crate::shard::mounted::{Mounted, OpGuard};
use crate::shard::queue::Ticket;
use crate::shard::request::{Request, Work};
use crate::{Error, Result};

const ROW_BYTES: usize = 64 << 10;
/// Parts whose records need not be durable before the next one is stored.
const PARTS_AHEAD: usize = 2;
/// The share of the budget for open puts, and for their parts beyond that.
const STREAM_SHARE: usize = 16;
/// Bytes that each open put has for good.
const OPEN_BYTES: usize = 8 << 10;
/// So many may be open with the smallest budget.
const STREAMS_MIN: usize = 16;
/// The largest part of a put, as a share of the memory for parts.
const PART_SHARE: usize = 16;

/// How many streaming puts may be open with this memory budget.
pub(crate) fn streams_max(memory_bytes: usize) -> usize {
    (memory_bytes / STREAM_SHARE / OPEN_BYTES).max(STREAMS_MIN)
}

/// A streaming put on the shard's own thread. Dropped before [`LocalPut::finish`] nothing is made.
pub struct LocalPut {
    shard: Rc<Shard>,
    pool: PoolId,
    id: CollectionId,
    object: ObjectId,
    part_bytes: usize,
    filling: BytesMut,
    /// Bytes that `filling` may have, and what of them is not the put's own.
    room: usize,
    memory: Option<Permit>,
    /// Bytes handed to be stored.
    stored: u64,
    family: Option<Rc<Family>>,
    storing: Option<Storing>,
    streaming: Rc<Streaming>,
    _open: Permit,
}

/// A part that a mount stores.
struct Storing {
    mounted: Rc<Mounted>,
    /// None as soon as it is stored: a put that waits for its client keeps no memory.
    part: Rc<RefCell<Option<PartData>>>,
    done: oneshot::Receiver<Result<()>>,
}

/// Whole chunks of a put, and the memory that they have.
#[derive(Clone)]
struct PartData {
    offset: u64,
    bytes: Bytes,
    _memory: Rc<PartMemory>,
}

/// What a part has of the memory for parts; what is missing for its bytes is its put's own.
struct PartMemory {
    streaming: Rc<Streaming>,
    bytes: usize,
    _permit: Option<Permit>,
}

impl PartMemory {
    fn new(streaming: &Rc<Streaming>, bytes: usize, permit: Option<Permit>) -> Rc<Self> {
        let all = streaming.part_bytes.get() + bytes;
        streaming.part_bytes.set(all);
        assert!(all <= streaming.bytes(), "parts have no more than was given out: {all}");
        Rc::new(Self { streaming: Rc::clone(streaming), bytes, _permit: permit })
    }
}

impl Drop for PartMemory {
    fn drop(&mut self) {
        self.streaming.part_bytes.set(self.streaming.part_bytes.get() - self.bytes);
    }
}

/// What the data that is stored ahead of its onode has, over all mounts of a shard: families whose graves are passed over, and
/// memory of streaming puts.
pub(crate) struct Streaming {
    /// Each with how many count on it: after a mount in place a number that was lost may be given out again.
    families: RefCell<BTreeMap<(CollectionId, u64), u32>>,
    /// One for each put that may be open.
    open: Rc<Semaphore>,
    open_max: usize,
    /// Bytes of parts beyond what each put has.
    parts: Rc<Semaphore>,
    parts_max: usize,
    /// Bytes that parts have in fact.
    part_bytes: Cell<usize>,
    /// The newest mount.
    serving: RefCell<Weak<Mounted>>,
}

impl Streaming {
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let open_max = streams_max(memory_bytes);
        let parts_max = (memory_bytes / STREAM_SHARE).max(4 * OPEN_BYTES);
        Self {
            families: RefCell::default(),
            open: Semaphore::new(open_max),
            open_max,
            parts: Semaphore::new(parts_max),
            parts_max,
            part_bytes: Cell::new(0),
            serving: RefCell::default(),
        }
    }

    /// From now on this mount drains graves.
    pub(crate) fn serve(&self, mounted: &Rc<Mounted>) {
        *self.serving.borrow_mut() = Rc::downgrade(mounted);
    }

    pub(crate) fn has(&self, id: CollectionId, family: u64) -> bool {
        self.families.borrow().contains_key(&(id, family))
    }

    /// Bytes that the part of one put may grow to: an equal share for each open put.
    fn fair_share(&self) -> usize {
        self.parts_max / (self.open_max - self.open.free()).max(1)
    }

    /// Bytes of memory that puts have.
    pub(crate) fn bytes(&self) -> usize {
        (self.open_max - self.open.free()) * OPEN_BYTES + self.parts_max - self.parts.free()
    }
}

/// Keeps the grave of a family from being drained, until it is dropped.
pub(crate) struct Alive {
    streaming: Rc<Streaming>,
    id: CollectionId,
    family: u64,
}

impl Alive {
    pub(crate) fn new(streaming: &Rc<Streaming>, id: CollectionId, family: u64) -> Self {
        if !seabed_types::seeded!(83) {
            *streaming.families.borrow_mut().entry((id, family)).or_default() += 1;
        }
        Self { streaming: Rc::clone(streaming), id, family }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let mut families = self.streaming.families.borrow_mut();
        if let Some(count) = families.get_mut(&(self.id, self.family)) {
            *count -= 1;
            if *count == 0 {
                families.remove(&(self.id, self.family));
            }
        }
        drop(families);
        if let Some(mounted) = self.streaming.serving.borrow().upgrade() {
            mounted.grave_work.more.set(true);
            mounted.grave_work.wake.notify_all();
        }
    }
}

/// A record that a put has something in.
struct Logged {
    journal: Rc<Journal>,
    lsn: Lsn,
}

impl Logged {
    fn is_durable(&self) -> bool {
        self.lsn < self.journal.durable_below()
    }

    /// Whether the mount that logs to `journal` knows nothing of it.
    fn is_lost(&self, journal: &Rc<Journal>) -> bool {
        !self.is_durable() && !Rc::ptr_eq(&self.journal, journal)
    }
}

/// A part whose rows were logged.
struct LoggedPart {
    logged: Logged,
    part: PartData,
}

/// A family that is being streamed to; while it is, its grave is passed over.
struct Family {
    id: CollectionId,
    hash: u32,
    streaming: Rc<Streaming>,
    /// Its number, and the record of its grave.
    begun: RefCell<Option<(Alive, Logged)>>,
    /// The newest parts, oldest first: all whose rows are not known to be durable.
    parts: RefCell<VecDeque<LoggedPart>>,
}

impl Family {
    /// Takes a number and logs its grave.
    async fn begin(&self, mounted: &Rc<Mounted>) -> Result<u64> {
        let mut guard = OpGuard::new(mounted);
        loop {
            // The number is taken at once and for good: two puts that begin while the first waits for space must not share
            // one, or the end of one attempt would hand the other's family to the graves.
            let (number, effects) = {
                let mut rows = mounted.rows.borrow_mut();
                let collection = rows.collection_mut(self.id)?;
                let (number, effects) = stream::begin(self.hash, collection.next_id);
                collection.next_id = effects.next_id;
                (number, effects)
            };
            let alive = Alive::new(&self.streaming, self.id, number);
            if let Some(lsn) = mounted.apply_admitted(self.id, effects, Purpose::Store, &mut guard).await? {
                let logged = Logged { journal: Rc::clone(mounted.journal()?), lsn };
                let lost = self.begun.replace(Some((alive, logged)));
                drop(lost);
                return Ok(number);
            }
        }
    }

    /// Logs again what a mount that ended had not made durable, if anything; the family's number.
    async fn keep_up(&self, mounted: &Rc<Mounted>) -> Result<u64> {
        let journal = Rc::clone(mounted.journal()?);
        let begun =
            self.begun.borrow().as_ref().map(|(alive, logged)| (alive.family, logged.is_lost(&journal)));
        let number = match begun {
            Some((number, false)) => number,
            _ => self.begin(mounted).await?,
        };
        loop {
            let lost = {
                let parts = self.parts.borrow();
                parts.iter().find(|part| part.logged.is_lost(&journal)).map(|part| part.part.clone())
            };
            let Some(PartData { offset, bytes, .. }) = lost else { return Ok(number) };
            let lsn = mounted.store_part(self.id, (self.hash, number), offset, &bytes).await?;
            let mut parts = self.parts.borrow_mut();
            if let Some(again) = parts.iter_mut().find(|part| part.part.offset == offset) {
                again.logged = Logged { journal: Rc::clone(&journal), lsn };
            }
        }
    }

    /// Stores one more part.
    async fn store(&self, mounted: &Rc<Mounted>, part: PartData) -> Result<()> {
        let journal = Rc::clone(mounted.journal()?);
        let number = self.keep_up(mounted).await?;
        while let Some(lsn) = self.oldest_undurable(PARTS_AHEAD) {
            journal.durable(lsn).await?;
        }
        let lsn = mounted.store_part(self.id, (self.hash, number), part.offset, &part.bytes).await?;
        let logged = Logged { journal, lsn };
        self.parts.borrow_mut().push_back(LoggedPart { logged, part });
        Ok(())
    }

    /// Forgets the parts that are durable; the record of the oldest of the others, if they are more than `count`.
    fn oldest_undurable(&self, count: usize) -> Option<Lsn> {
        let mut parts = self.parts.borrow_mut();
        while parts.front().is_some_and(|part| part.logged.is_durable()) {
            parts.pop_front();
        }
        parts.front().filter(|_| parts.len() > count).map(|part| part.logged.lsn)
    }

    /// Waits until all parts are durable, as long as this mount can make them so.
    async fn all_durable(&self, mounted: &Rc<Mounted>) -> Result<()> {
        let journal = Rc::clone(mounted.journal()?);
        while let Some(lsn) = self.oldest_undurable(0) {
            journal.durable(lsn).await?;
        }
        Ok(())
    }
}

/// The last step of a streaming put.
#[derive(Clone)]
pub(crate) struct PutEnd {
    family: Rc<Family>,
    pub(crate) finish: Finish,
}

impl fmt::Debug for LocalPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let put = &mut f.debug_struct("LocalPut");
        put.field("pool", &self.pool).field("object", &self.object).field("stored", &self.stored);
        put.finish_non_exhaustive()
    }
}

impl LocalPut {
    pub(crate) fn new(shard: &Rc<Shard>, pool: PoolId, object: ObjectId) -> Result<Self> {
        shard.writable()?;
        shard.limits().check_id(&object).map_err(|why| Error::Refused { op: 0, why })?;
        let mounted = shard.current();
        let id = mounted.collection_of(pool, object.hash)?;
        if mounted.is_known_as_removed(id) {
            return Err(Error::NoSuchPoolId { id: pool });
        }
        let streaming = Rc::clone(&mounted.streaming);
        let max = streaming.open_max;
        let open = streaming.open.try_acquire(1).ok_or(Error::TooManyStreams { max })?;
        let record_bytes_max = shard.superblock().layout.record_bytes_max();
        let of_memory = streaming.parts_max / PART_SHARE / CHUNK_BYTES * CHUNK_BYTES;
        let most = (1 << 20).min(record_bytes_max / ROW_BYTES * ROW_BYTES).max(CHUNK_BYTES);
        let part_bytes = most.min(of_memory.max(OPEN_BYTES));
        Ok(Self {
            shard: Rc::clone(shard),
            pool,
            id,
            object,
            part_bytes,
            filling: BytesMut::new(),
            room: OPEN_BYTES.min(part_bytes),
            memory: None,
            stored: 0,
            family: None,
            storing: None,
            streaming,
            _open: open,
        })
    }

    /// Adds bytes at the end. An error ends the put; nothing is made.
    pub async fn write(&mut self, data: impl seabed_object::IntoData) -> Result<()> {
        let mut data = data.into_data();
        while !data.is_empty() {
            if self.filling.len() == self.room && !self.has_grown() {
                self.store_filling().await?;
            }
            let taken = data.split_to((self.room - self.filling.len()).min(data.len()));
            seabed_types::work::bytes(taken.len());
            self.filling.extend_from_slice(&taken);
            if self.filling.len() == self.part_bytes {
                self.store_filling().await?;
            }
        }
        Ok(())
    }

    /// Makes more room for the part that is filled, if there is memory and the put has less than its share of it.
    fn has_grown(&mut self) -> bool {
        let more = self.room.min(self.part_bytes - self.room);
        // Streams that grow first would otherwise keep memory while their clients pause, and all others would store small
        // parts, waiting for each.
        if more == 0 || self.room + more > self.streaming.fair_share() {
            return false;
        }
        let Some(permit) = self.streaming.parts.try_acquire(more) else { return false };
        match &mut self.memory {
            Some(memory) => memory.merge(permit),
            None => self.memory = Some(permit),
        }
        self.room += more;
        true
    }

    /// Begins to store what was gathered, whole chunks, and makes room for what comes next.
    async fn store_filling(&mut self) -> Result<()> {
        let part = self.filling.split().freeze();
        let own = OPEN_BYTES.min(self.part_bytes);
        self.room = own;
        // The part takes what the put has for good, unless there is memory instead of it.
        let instead = self.streaming.parts.try_acquire(own);
        let is_short = instead.is_none();
        let memory = match (self.memory.take(), instead) {
            (Some(mut memory), Some(more)) => {
                memory.merge(more);
                Some(memory)
            }
            (memory, more) => memory.or(more),
        };
        self.store(part, memory).await?;
        if is_short { self.all_durable().await } else { Ok(()) }
    }

    /// Leaves out `bytes` bytes, which read as zeros. Whole chunks of them take no space. An error ends the put; nothing is
    /// made.
    pub async fn skip(&mut self, bytes: u64) -> Result<()> {
        const CHUNK: u64 = CHUNK_BYTES as u64;
        let at = self.stored + self.filling.len() as u64;
        if at.checked_add(bytes).is_none_or(|end| end > OBJECT_BYTES_MAX) {
            return Err(Error::Invalid { what: "an object of over 1 PiB" });
        }
        let to_chunk = (at.next_multiple_of(CHUNK) - at).min(bytes);
        self.zeros(to_chunk).await?;
        let left = bytes - to_chunk;
        let hole = left - left % CHUNK;
        if hole > 0 {
            // Parts are at the offset up to which all was handed over: what is before the hole goes first.
            if !self.filling.is_empty() {
                self.store_filling().await?;
            }
            self.stored += hole;
        }
        self.zeros(left % CHUNK).await
    }

    /// Adds less than a chunk of zeros.
    async fn zeros(&mut self, bytes: u64) -> Result<()> {
        const ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
        let bytes = usize::try_from(bytes).expect("less than a chunk");
        self.write(Bytes::from_static(&ZEROS[..bytes])).await
    }

    /// Waits for the part before, then begins to store this one (whole chunks).
    async fn store(&mut self, bytes: Bytes, memory: Option<Permit>) -> Result<()> {
        self.stored_all().await?;
        self.shard.writable()?;
        let mounted = self.shard.mounted().await?;
        let offset = self.stored;
        self.stored += bytes.len() as u64;
        let memory = memory.filter(|_| !seabed_types::seeded!(84));
        let memory = PartMemory::new(&self.streaming, bytes.len(), memory);
        self.start(mounted, PartData { offset, bytes, _memory: memory });
        Ok(())
    }

    fn start(&mut self, mounted: Rc<Mounted>, part: PartData) {
        let family = Rc::clone(self.family.get_or_insert_with(|| {
            Rc::new(Family {
                id: self.id,
                hash: self.object.hash,
                streaming: Rc::clone(&self.streaming),
                begun: RefCell::default(),
                parts: RefCell::default(),
            })
        }));
        let (sender, done) = oneshot::channel();
        let on = Rc::clone(&mounted);
        let kept = Rc::new(RefCell::new(Some(part.clone())));
        let again = Rc::clone(&kept);
        mounted.spawn(Class::Foreground, async move {
            let result = family.store(&on, part).await;
            let is_stored = result.is_ok();
            if is_stored {
                drop(kept.take());
            }
            let _ = sender.send(result);
            if is_stored {
                // Its memory is given back whether the client goes on or not. After a failure the next mount keeps it.
                let _ = family.all_durable(&on).await;
            }
        });
        self.storing = Some(Storing { mounted, part: again, done });
    }

    /// Waits until the part that is on its way is stored, by whichever mount.
    async fn stored_all(&mut self) -> Result<()> {
        while let Some(storing) = &mut self.storing {
            let result = (&mut storing.done).await.map_err(|_| Error::Closed)?;
            let Some(Storing { mounted, part, .. }) = self.storing.take() else { break };
            if result.is_ok() || !self.shard.goes_on_after(&mounted) {
                return result;
            }
            let Some(part) = part.take() else { break };
            let mounted = self.shard.mounted().await?;
            self.start(mounted, part);
        }
        Ok(())
    }

    /// Waits until all parts are durable, so that none has memory.
    async fn all_durable(&mut self) -> Result<()> {
        self.stored_all().await?;
        let Some(family) = self.family.clone() else { return Ok(()) };
        let durable = async |mounted: Rc<Mounted>| {
            family.keep_up(&mounted).await?;
            family.all_durable(&mounted).await
        };
        self.shard.again(durable).await
    }

    /// Makes the object of all that was written, in place of one that has the name. Durable when it returns.
    pub async fn finish(self, attributes: Vec<(Vec<u8>, Bytes)>) -> Result<()> {
        self.finish_with(attributes, Transaction::new()).await
    }

    /// As [`LocalPut::finish`], together with a transaction: all of it happens, or nothing. The conditions
    /// ([`Transaction::expect`]) that the transaction begins with are looked at before the object is made; its other operations
    /// come after that.
    ///
    /// Errors: as of [`crate::LocalPool::submit`]; a refusal names the operation of `other`, or 0 if making the object is what
    /// is refused.
    pub async fn finish_with(mut self, attributes: Vec<(Vec<u8>, Bytes)>, other: Transaction) -> Result<()> {
        if let Some(op) = other.first_outside(|hash| self.id.covers(hash.reverse_bits())) {
            let why = seabed_object::Refused::Invalid { what: "objects of several collections" };
            return Err(Error::Refused { op, why });
        }
        let attrs = attributes.into_iter().map(|(name, value)| (name.into(), value)).collect();
        if self.family.is_none() {
            let data = (self.stored, std::mem::take(&mut self.filling).freeze());
            let (txn, ops) = Finish::without_rows(&self.object, data, attrs, &other);
            let result = self.shard.submit(self.pool, txn).await;
            return result.map_err(|error| of_other(error, ops));
        }
        let tail = self.filling.len() % CHUNK_BYTES;
        let whole = self.filling.split_to(self.filling.len() - tail).freeze();
        if !whole.is_empty() {
            let memory = self.memory.take();
            self.store(whole, memory).await?;
        }
        self.stored_all().await?;
        self.shard.writable()?;
        let family = self.family.take().expect("asked above");
        let data = (self.stored, self.filling.split().freeze());
        let finish = Finish::new(&self.object, data, attrs, &other);
        self.shard.limits().check_items(&finish.txn)?;
        let ops = finish.ops;
        let put = PutEnd { family, finish };
        let result = self.shard.send(self.id, Work::Put(put)).answer().await;
        result.map_err(|error| of_other(error, ops))
    }
}

/// An error of the whole transaction as one of what else was asked for.
fn of_other(mut error: Error, ops: FinishOps) -> Error {
    if let Error::Refused { op, .. } = &mut error {
        *op = ops.of_other(*op);
    }
    error
}

impl Mounted {
    /// Stores whole chunks of an object whose rows nobody can reach yet, and logs those rows, in this record.
    pub(crate) async fn store_part(
        self: &Rc<Self>,
        id: CollectionId,
        (hash, family): (u32, u64),
        offset: u64,
        part: &Bytes,
    ) -> Result<Lsn> {
        let member = key::Member { hash, family, number: 0 };
        let part_of = |(from, bytes): (usize, usize)| {
            let key = key::extents(member, (offset + from as u64) / ROW_BYTES as u64).to_vec();
            Part {
                what: ListedWhat::Piece { pool: id.pool, key },
                data: part.slice(from..from + bytes),
                summing: Summing::Chunks,
            }
        };
        let most = self.limits.part_bytes_max();
        let parts: Vec<Part> = rows_of(offset, (0, part.len()), most).map(part_of).collect();
        let (placed, holds) = self.store(&parts).await?;
        let mut at = offset;
        let mut rows = Vec::new();
        for (part, placed) in parts.iter().zip(placed) {
            rows.push(StreamPart { offset: at, at: placed.at, crcs: placed.crcs.into_vec() });
            at += part.data.len() as u64;
        }
        let mut guard = OpGuard::new(self);
        loop {
            let (effects, wanted) = self.look(id, &guard, |view| stream::rows(view, hash, family, &rows))?;
            match effects {
                Ok(effects) => {
                    if let Some(lsn) = self.apply_admitted(id, effects, Purpose::Store, &mut guard).await? {
                        drop(holds);
                        return Ok(lsn);
                    }
                }
                Err(stop) => self.load_or_fail(id, stop, wanted, &mut guard).await?,
            }
        }
    }

    /// Carries out the last step of a streaming put.
    pub(crate) async fn finish_put(
        self: &Rc<Self>,
        request: &Rc<Request>,
        put: &PutEnd,
        ticket: Ticket,
    ) -> Result<()> {
        let family = put.family.keep_up(self).await?;
        let laid = Laid { family, ..put.finish.laid.clone() };
        self.transact(request, put.finish.txn.clone(), ticket, (SystemEffect::None, Some(laid))).await
    }

    /// Applies effects that stand in no line as soon as there is space. None: look again, they may be outdated.
    pub(crate) async fn apply_admitted(
        self: &Rc<Self>,
        id: CollectionId,
        effects: Effects,
        purpose: Purpose,
        guard: &mut OpGuard,
    ) -> Result<Option<Lsn>> {
        if self.is_removed(id) {
            self.not_removed(id).await?;
        }
        match self.try_apply(id, effects, (purpose, SystemEffect::None), guard).await? {
            Applied::In(lsn) => Ok(Some(lsn)),
            Applied::Outdated => Ok(None),
            Applied::TooLarge(error) => Err(self.not_logged(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a mount in place a number whose record was lost is given out again. The end of the put that had it before took
    /// the family of the put that has it now off the list, and its grave was drained while it went on.
    #[test]
    fn a_family_is_alive_as_long_as_anyone_counts_on_it() {
        let streaming = Rc::new(Streaming::new(1 << 20));
        let id = CollectionId::whole(PoolId(1));
        let lost = Alive::new(&streaming, id, 17);
        let again = Alive::new(&streaming, id, 17);
        drop(lost);
        assert!(streaming.has(id, 17));
        drop(again);
        assert!(!streaming.has(id, 17));
    }

    /// The first of 500 puts grew to parts of 256 KiB and kept them while their clients paused; all others stored 8 KiB at a
    /// time and waited for each.
    #[test]
    fn open_puts_share_the_memory_of_parts() {
        let streaming = Streaming::new(64 << 20);
        let all = (64 << 20) / STREAM_SHARE;
        assert_eq!(streaming.fair_share(), all);
        let open: Vec<_> =
            (0..500).map(|_| streaming.open.try_acquire(1).expect("under the limit")).collect();
        assert_eq!(streaming.fair_share(), all / 500);
        drop(open);
        assert_eq!(streaming.fair_share(), all);
    }
}
