//! Put: a streaming put, whole or absent at any size in bounded memory.
//!
//! Bytes are gathered to parts of up to 1 MiB. The first full part logs a graves row for a new family; each part is stored in
//! the bulk stream and its rows, which nobody can reach, are logged. The last transaction sets the onode and takes the grave
//! away. An object that fits one part is an ordinary put. While it goes on the family is known as alive and its grave is
//! passed over; dropped, it is drained.
//!
//! A put goes on over a mount in place: a part is kept until the record with its rows is durable, so what the failed mount
//! had not made durable is stored again on the next ([`Family::keep_up`]), also the family itself if its grave was lost; it
//! gets another number then.
//!
//! Crash: the grave stands, and the next mount drains it.
//! Cost: up to four parts in memory: one that is filled, one that is stored, two that wait for their record.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures::channel::oneshot;
use seabed_device::Class;
use seabed_journal::{CollectionId, Journal};
use seabed_object::stream::{self, StreamPart, Streamed};
use seabed_object::{Effects, ObjectId, Outcome, Stop, Transaction, key};
use seabed_segment::{ListedWhat, Summing};
use seabed_types::{CHUNK_BYTES, Lsn, PoolId};

use crate::admit::Purpose;
use crate::bulk::Part;
use crate::mounted::{Held, Mounted};
use crate::request::{Request, Work};
use crate::sequence::Place;
use crate::shard::Shard;
use crate::submit::{Also, need_of};
use crate::view::View;
use crate::{Error, Result};

const ROW_BYTES: usize = 64 << 10;
/// Parts whose records need not be durable before the next one is stored.
const PARTS_AHEAD: usize = 2;

/// A streaming put on the shard's own thread. Dropped before [`LocalPut::finish`] nothing is made.
pub struct LocalPut {
    shard: Rc<Shard>,
    pool: PoolId,
    id: CollectionId,
    object: ObjectId,
    part_bytes: usize,
    filling: BytesMut,
    /// Bytes handed to be stored.
    stored: u64,
    family: Option<Rc<Family>>,
    storing: Option<Storing>,
}

/// A part that a mount stores.
struct Storing {
    mounted: Rc<Mounted>,
    offset: u64,
    part: Bytes,
    done: oneshot::Receiver<Result<()>>,
}

/// The families of a shard that are being streamed to, over all its mounts.
#[derive(Default)]
pub(crate) struct Streaming {
    families: RefCell<BTreeSet<(CollectionId, u64)>>,
}

impl Streaming {
    pub(crate) fn has(&self, id: CollectionId, family: u64) -> bool {
        self.families.borrow().contains(&(id, family))
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
    offset: u64,
    part: Bytes,
}

/// A family that is being streamed to; while it is, its grave is passed over.
struct Family {
    shard: Rc<Shard>,
    id: CollectionId,
    hash: u32,
    streaming: Rc<Streaming>,
    /// Its number, and the record of its grave.
    begun: RefCell<Option<(u64, Logged)>>,
    /// The newest parts, oldest first: all whose rows are not known to be durable.
    parts: RefCell<VecDeque<LoggedPart>>,
}

impl Drop for Family {
    fn drop(&mut self) {
        if let Some((number, _)) = self.begun.get_mut() {
            self.streaming.families.borrow_mut().remove(&(self.id, *number));
            let mounted = self.shard.current();
            mounted.grave_work.more.set(true);
            mounted.grave_work.wake.notify_all();
        }
    }
}

impl Family {
    /// Takes a number and logs its grave.
    async fn begin(&self, mounted: &Rc<Mounted>) -> Result<u64> {
        let mut held = Held::new(mounted);
        loop {
            // The number is taken at once and for good: two puts that begin while the first waits for space must not share
            // one, or the end of one attempt would hand the other's family to the graves.
            let (number, effects) = {
                let mut world = mounted.world.borrow_mut();
                let collection = world.collection_mut(self.id);
                let (number, effects) = stream::begin(self.hash, collection.next_id);
                collection.next_id = effects.next_id;
                (number, effects)
            };
            self.streaming.families.borrow_mut().insert((self.id, number));
            let applied = mounted.apply_admitted(self.id, effects, Purpose::Store, &mut held).await;
            let Ok(Some(lsn)) = applied else {
                self.streaming.families.borrow_mut().remove(&(self.id, number));
                applied?;
                continue;
            };
            let logged = Logged { journal: Rc::clone(mounted.journal()?), lsn };
            if let Some((lost, _)) = self.begun.replace(Some((number, logged))) {
                self.streaming.families.borrow_mut().remove(&(self.id, lost));
            }
            return Ok(number);
        }
    }

    /// Logs again what a mount that ended had not made durable, if anything; the family's number.
    async fn keep_up(&self, mounted: &Rc<Mounted>) -> Result<u64> {
        let journal = Rc::clone(mounted.journal()?);
        let begun = self.begun.borrow().as_ref().map(|(number, logged)| (*number, logged.is_lost(&journal)));
        let number = match begun {
            Some((number, false)) => number,
            _ => self.begin(mounted).await?,
        };
        loop {
            let lost = {
                let parts = self.parts.borrow();
                let lost = parts.iter().find(|part| part.logged.is_lost(&journal));
                lost.map(|part| (part.offset, part.part.clone()))
            };
            let Some((offset, part)) = lost else { return Ok(number) };
            let lsn = mounted.store_part(self.id, (self.hash, number), offset, &part).await?;
            let mut parts = self.parts.borrow_mut();
            if let Some(again) = parts.iter_mut().find(|part| part.offset == offset) {
                again.logged = Logged { journal: Rc::clone(&journal), lsn };
            }
        }
    }

    /// Stores one more part.
    async fn store(&self, mounted: &Rc<Mounted>, offset: u64, part: Bytes) -> Result<()> {
        let journal = Rc::clone(mounted.journal()?);
        let number = self.keep_up(mounted).await?;
        loop {
            let oldest = {
                let mut parts = self.parts.borrow_mut();
                while parts.front().is_some_and(|part| part.logged.is_durable()) {
                    parts.pop_front();
                }
                parts.front().filter(|_| parts.len() > PARTS_AHEAD).map(|part| part.logged.lsn)
            };
            let Some(lsn) = oldest else { break };
            journal.durable(lsn).await?;
        }
        let lsn = mounted.store_part(self.id, (self.hash, number), offset, &part).await?;
        let logged = Logged { journal, lsn };
        self.parts.borrow_mut().push_back(LoggedPart { logged, offset, part });
        Ok(())
    }
}

/// The last step of a streaming put.
#[derive(Clone)]
pub(crate) struct PutEnd {
    family: Rc<Family>,
    object: ObjectId,
    size: u64,
    tail: Bytes,
    attrs: Vec<(Bytes, Bytes)>,
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
        let record_bytes_max = shard.superblock().layout.record_bytes_max();
        let part_bytes = (1 << 20).min(record_bytes_max / ROW_BYTES * ROW_BYTES).max(CHUNK_BYTES);
        Ok(Self {
            shard: Rc::clone(shard),
            pool,
            id,
            object,
            part_bytes,
            filling: BytesMut::new(),
            stored: 0,
            family: None,
            storing: None,
        })
    }

    /// Adds bytes at the end. An error ends the put; nothing is made.
    pub async fn write(&mut self, data: impl seabed_object::IntoData) -> Result<()> {
        let mut data = data.into_data();
        while !data.is_empty() {
            let room = self.part_bytes - self.filling.len();
            let taken = data.split_to(room.min(data.len()));
            self.filling.extend_from_slice(&taken);
            if self.filling.len() == self.part_bytes {
                let part = self.filling.split().freeze();
                self.store(part).await?;
            }
        }
        Ok(())
    }

    /// Waits for the part before, then begins to store this one (whole chunks).
    async fn store(&mut self, part: Bytes) -> Result<()> {
        self.stored_all().await?;
        self.shard.writable()?;
        let mounted = self.shard.mounted().await?;
        let offset = self.stored;
        self.stored += part.len() as u64;
        self.start(mounted, offset, part);
        Ok(())
    }

    fn start(&mut self, mounted: Rc<Mounted>, offset: u64, part: Bytes) {
        let family = Rc::clone(self.family.get_or_insert_with(|| {
            Rc::new(Family {
                shard: Rc::clone(&self.shard),
                id: self.id,
                hash: self.object.hash,
                streaming: Rc::clone(&mounted.streaming),
                begun: RefCell::default(),
                parts: RefCell::default(),
            })
        }));
        let (sender, done) = oneshot::channel();
        let (on, bytes) = (Rc::clone(&mounted), part.clone());
        mounted.spawn(Class::Foreground, async move {
            let _ = sender.send(family.store(&on, offset, bytes).await);
        });
        self.storing = Some(Storing { mounted, offset, part, done });
    }

    /// Waits until the part that is on its way is stored, by whichever mount.
    async fn stored_all(&mut self) -> Result<()> {
        while let Some(storing) = &mut self.storing {
            let result = (&mut storing.done).await.map_err(|_| Error::Closed)?;
            let Some(Storing { mounted, offset, part, .. }) = self.storing.take() else { break };
            if result.is_ok() || !self.shard.goes_on_after(&mounted) {
                return result;
            }
            let mounted = self.shard.mounted().await?;
            self.start(mounted, offset, part);
        }
        Ok(())
    }

    /// Makes the object of all that was written, in place of one that has the name. Durable when it returns.
    pub async fn finish(mut self, attributes: Vec<(Vec<u8>, Bytes)>) -> Result<()> {
        if self.family.is_none() {
            let mut txn = Transaction::new();
            txn.put(&self.object, std::mem::take(&mut self.filling).freeze(), attributes);
            return self.shard.submit(self.pool, txn).await;
        }
        let tail = self.filling.len() % CHUNK_BYTES;
        let whole = self.filling.split_to(self.filling.len() - tail).freeze();
        if !whole.is_empty() {
            self.store(whole).await?;
        }
        self.stored_all().await?;
        self.shard.writable()?;
        let family = self.family.take().expect("asked above");
        let size = self.stored + tail as u64;
        let attrs = attributes.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let (object, tail) = (self.object.clone(), self.filling.split().freeze());
        let put = PutEnd { family, object, size, tail, attrs };
        self.shard.send(self.id, Work::Put(put)).answer().await
    }
}

impl Mounted {
    /// Stores a part of a streaming put and logs its rows, in this record.
    async fn store_part(
        self: &Rc<Self>,
        id: CollectionId,
        (hash, family): (u32, u64),
        offset: u64,
        part: &Bytes,
    ) -> Result<Lsn> {
        let _permit = self.requests.acquire(part.len()).await;
        let member = key::Member { hash, family, number: 0 };
        let mut parts = Vec::new();
        let mut from = 0;
        while from < part.len() {
            let at = offset + from as u64;
            let in_row = usize::try_from(at % ROW_BYTES as u64).expect("within a row");
            let bytes = (ROW_BYTES - in_row).min(part.len() - from);
            let key = key::extents(member, at / ROW_BYTES as u64).to_vec();
            parts.push(Part {
                what: ListedWhat::Piece { pool: id.pool, key },
                data: part.slice(from..from + bytes),
                summing: Summing::Chunks,
            });
            from += bytes;
        }
        let (placed, holds) = self.store(&parts).await?;
        let mut at = offset;
        let mut rows = Vec::new();
        for (part, placed) in parts.iter().zip(placed) {
            rows.push(StreamPart { offset: at, at: placed.at, crcs: placed.crcs.into_vec() });
            at += part.data.len() as u64;
        }
        let mut held = Held::new(self);
        loop {
            let (effects, wanted) = self.look(id, &held, |view| stream::rows(view, hash, family, &rows));
            match effects {
                Ok(effects) => {
                    if let Some(lsn) = self.apply_admitted(id, effects, Purpose::Store, &mut held).await? {
                        drop(holds);
                        return Ok(lsn);
                    }
                }
                Err(stop) => self.load_or_fail(id, stop, wanted, &mut held).await?,
            }
        }
    }

    /// Carries out the last step of a streaming put.
    pub(crate) async fn finish_put(
        self: &Rc<Self>,
        request: &Rc<Request>,
        put: &PutEnd,
        place: Place,
    ) -> Result<()> {
        let family = put.family.keep_up(self).await?;
        place.reached().await;
        let PutEnd { object, size, tail, attrs, .. } = put;
        let streamed = Streamed { object, family, size: *size, tail: tail.clone(), attrs };
        let lsn = self.put_onode(request, &streamed).await;
        drop(place);
        Ok(self.journal()?.durable(lsn?).await?)
    }

    /// Sets the onode of a streaming put; its place in the line is the first.
    async fn put_onode(self: &Rc<Self>, request: &Rc<Request>, streamed: &Streamed<'_>) -> Result<Lsn> {
        let id = request.id;
        let mut held = Held::new(self);
        loop {
            self.not_removed(id).await?;
            let (outcome, wanted, settled) = {
                let world = self.world.borrow();
                let collection = world.collection(id);
                let view = View::new(&world, collection, &held.pieces);
                let outcome = stream::finish(&view, streamed, collection.next_id, &self.limits);
                let (wanted, settled) = view.end();
                (outcome, wanted, settled)
            };
            match outcome {
                Outcome::Absent => self.load_or_fail(id, Stop::Absent, wanted, &mut held).await?,
                Outcome::Refused(refusal) => {
                    self.settled(settled).await?;
                    return Err(refusal.into());
                }
                Outcome::Stale => {
                    return Err(Error::Invalid { what: "the put's data is not there any more" });
                }
                Outcome::Corrupt { at, what } => {
                    return Err(Error::Corrupt { at: at.unwrap_or_default(), what });
                }
                Outcome::Ready(effects) => {
                    let need = need_of(&effects);
                    if let Err(refused) = self.journal()?.check(&need) {
                        self.settled(settled).await?;
                        return Err(refused.into());
                    }
                    let bytes = need.pieces + need.entries;
                    if !held.admits(bytes, Purpose::Store).await? {
                        continue;
                    }
                    let wanted = self.ways_to(id, &effects);
                    if !wanted.is_empty() {
                        self.load(id, wanted, &mut held).await?;
                        continue;
                    }
                    self.count_transaction(usize::try_from(streamed.size).unwrap_or(usize::MAX));
                    let lsn = self.apply(id, effects, &need, Also::Nothing)?;
                    self.applied_in(request, lsn);
                    return Ok(lsn);
                }
            }
        }
    }

    /// Applies effects that stand in no line as soon as there is space. None: look again, they may be outdated.
    async fn apply_admitted(
        self: &Rc<Self>,
        id: CollectionId,
        effects: Effects,
        purpose: Purpose,
        held: &mut Held,
    ) -> Result<Option<Lsn>> {
        let need = need_of(&effects);
        self.journal()?.check(&need)?;
        let bytes = need.pieces + need.entries;
        if !held.admits(bytes, purpose).await? {
            return Ok(None);
        }
        if self.is_removed(id) {
            self.not_removed(id).await?;
        }
        let wanted = self.ways_to(id, &effects);
        if wanted.is_empty() {
            return self.apply(id, effects, &need, Also::Nothing).map(Some);
        }
        self.load(id, wanted, held).await?;
        Ok(None)
    }
}
