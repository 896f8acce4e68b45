//! Put: a streaming put, whole or absent at any size in bounded memory.
//!
//! Bytes are gathered to parts of up to 1 MiB. The first full part logs a graves row for a new family; each part is stored in
//! the bulk stream and its rows, which nobody can reach, are logged. The last transaction sets the onode and takes the grave
//! away. An object that fits one part is an ordinary put. While it goes on the family is known as alive and its grave is
//! passed over; dropped, it is drained.
//!
//! Crash: the grave stands, and the next mount drains it.
//! Cost: two parts in memory: one that is filled, one that is stored.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures::channel::oneshot;
use seabed_device::Class;
use seabed_journal::CollectionId;
use seabed_object::stream::{self, StreamPart, Streamed};
use seabed_object::{Effects, ObjectId, Outcome, Stop, Transaction, key};
use seabed_segment::{ListedWhat, Summing};
use seabed_types::{CHUNK_BYTES, PoolId};

use crate::admit::Purpose;
use crate::bulk::Part;
use crate::shard::{Held, Shard};
use crate::submit::{Also, need_of};
use crate::view::View;
use crate::{Error, Result};

const ROW_BYTES: usize = 64 << 10;

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
    storing: Option<oneshot::Receiver<Result<()>>>,
}

/// A family that is being streamed to; while it is, its grave is passed over.
struct Family {
    shard: Rc<Shard>,
    id: CollectionId,
    number: u64,
}

impl Drop for Family {
    fn drop(&mut self) {
        self.shard.world.borrow_mut().collection_mut(self.id).streaming.remove(&self.number);
        self.shard.grave_work.more.set(true);
        self.shard.grave_work.wake.notify_all();
    }
}

impl LocalPut {
    pub(crate) fn new(shard: &Rc<Shard>, pool: PoolId, object: ObjectId) -> Result<Self> {
        shard.writable()?;
        shard.limits.check_id(&object).map_err(|why| Error::Refused { op: 0, why })?;
        let id = {
            let world = shard.world.borrow();
            let found = world.collection_of(pool, object.hash);
            found.ok_or(Error::Invalid { what: "no such pool" })?.id
        };
        let part_bytes =
            (1 << 20).min(shard.layout.record_bytes_max() / ROW_BYTES * ROW_BYTES).max(CHUNK_BYTES);
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
        if self.family.is_none() {
            self.family = Some(self.begin().await?);
        }
        let family = Rc::clone(self.family.as_ref().expect("begun above"));
        let (shard, id, object) = (Rc::clone(&self.shard), self.id, self.object.clone());
        let offset = self.stored;
        self.stored += part.len() as u64;
        let (sender, receiver) = oneshot::channel();
        self.storing = Some(receiver);
        self.shard.spawn(Class::Foreground, async move {
            let result = shard.store_part(id, object.hash, &family, offset, &part).await;
            let _ = sender.send(result);
        });
        Ok(())
    }

    async fn stored_all(&mut self) -> Result<()> {
        match self.storing.take() {
            Some(storing) => storing.await.map_err(|_| Error::Closed)?,
            None => Ok(()),
        }
    }

    /// Takes a family and logs its grave.
    async fn begin(&self) -> Result<Rc<Family>> {
        let mut held = Held::new(&self.shard);
        loop {
            self.shard.writable()?;
            // The number is taken at once and for good: two puts that begin while the first waits for space must not share
            // one, or the end of one attempt would hand the other's family to the graves.
            let (number, effects) = {
                let mut world = self.shard.world.borrow_mut();
                let collection = world.collection_mut(self.id);
                let (number, effects) = stream::begin(self.object.hash, collection.next_id);
                collection.next_id = effects.next_id;
                collection.streaming.insert(number);
                (number, effects)
            };
            let family = Rc::new(Family { shard: Rc::clone(&self.shard), id: self.id, number });
            if self.shard.apply_admitted(self.id, effects, Purpose::Store, &mut held).await? {
                return Ok(family);
            }
        }
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
        let family = self.family.take().expect("asked above");
        let size = self.stored + tail as u64;
        let attrs: Vec<(Bytes, Bytes)> =
            attributes.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let tail = self.filling.split().freeze();
        let place = self.shard.world.borrow().collection(self.id).line.enter();
        let (shard, id, object) = (Rc::clone(&self.shard), self.id, self.object.clone());
        let (sender, receiver) = oneshot::channel();
        self.shard.spawn(Class::Foreground, async move {
            place.reached().await;
            let streamed = Streamed { object: &object, family: family.number, size, tail, attrs: &attrs };
            let lsn = shard.finish_put(id, &streamed).await;
            drop(place);
            let result = match lsn {
                Ok(lsn) => match shard.journal() {
                    Ok(journal) => journal.durable(lsn).await.map_err(Error::from),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            drop(family);
            let _ = sender.send(result);
        });
        receiver.await.map_err(|_| Error::Closed)?
    }
}

impl Shard {
    /// Stores a part of a streaming put and logs its rows.
    async fn store_part(
        self: &Rc<Self>,
        id: CollectionId,
        hash: u32,
        family: &Family,
        offset: u64,
        part: &Bytes,
    ) -> Result<()> {
        let _permit = self.requests.acquire(part.len()).await;
        let member = key::Member { hash, family: family.number, number: 0 };
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
            let (effects, wanted) =
                self.look(id, &held, |view| stream::rows(view, hash, family.number, &rows));
            match effects {
                Ok(effects) => {
                    if self.apply_admitted(id, effects, Purpose::Store, &mut held).await? {
                        drop(holds);
                        return Ok(());
                    }
                }
                Err(stop) => self.load_or_fail(id, stop, wanted, &mut held).await?,
            }
        }
    }

    /// Carries out the last step of a streaming put; its place in the line is the first.
    async fn finish_put(
        self: &Rc<Self>,
        id: CollectionId,
        streamed: &Streamed<'_>,
    ) -> Result<seabed_types::Lsn> {
        let mut held = Held::new(self);
        loop {
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
                    return self.apply(id, effects, &need, Also::Nothing, None);
                }
            }
        }
    }

    /// Applies effects that stand in no line as soon as there is space. False: look again, they may be outdated.
    async fn apply_admitted(
        self: &Rc<Self>,
        id: CollectionId,
        effects: Effects,
        purpose: Purpose,
        held: &mut Held,
    ) -> Result<bool> {
        let need = need_of(&effects);
        self.journal()?.check(&need)?;
        let bytes = need.pieces + need.entries;
        if !held.admits(bytes, purpose).await? {
            return Ok(false);
        }
        let wanted = self.ways_to(id, &effects);
        if wanted.is_empty() {
            self.apply(id, effects, &need, Also::Nothing, None)?;
            return Ok(true);
        }
        self.load(id, wanted, held).await?;
        Ok(false)
    }
}
