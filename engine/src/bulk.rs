//! Bulk: data of large writes goes to the device before its transaction joins a record.
//!
//! Data of 128 KiB and more (an option), or less if the transaction would not fit a record otherwise, is written to the bulk
//! stream while the transaction waits in its line, several records in flight, each durable by itself (rule L2). The row that
//! will point to a part is known from the object's family as of now; if that changed by the time the transaction is
//! applied, it is stored again; so of several transactions that would make an object only one stores before it is there
//! (`sequence`). Segments are held until the transaction's record is durable or it is given up (rule S3).
//!
//! A write that fails says nothing about what is on the medium, so its data goes elsewhere (`streams`).
//!
//! Crash: what no record points to is dead bytes.
//! Cost: one record per MiB, one copy, one checksum pass; no second write.

use std::rc::Rc;

use futures::future::join_all;
use seabed_device::Durability;
use seabed_journal::CollectionId;
use seabed_object::{Op, Transaction, bulk_parts, resolve_appends};
use seabed_segment::{ListedWhat, Placed, StreamKind, Summing};
use seabed_types::BLOCK_BYTES;

use crate::admit::Purpose;
use crate::mounted::{Held, Mounted};
use crate::sequence::Place;
use crate::streams::{Append, Appended, Hold, WRITE_TRIES};
use crate::submit::Ahead;
use crate::table::Claimer;
use crate::view::View;
use crate::{Error, Result};

/// A part to store: what identifies it, its bytes, how they are summed.
pub(crate) struct Part {
    pub(crate) what: ListedWhat,
    pub(crate) data: bytes::Bytes,
    pub(crate) summing: Summing,
}

impl Mounted {
    /// From how many bytes on data of this transaction is stored ahead; None: all of it goes into its record.
    pub(crate) fn bulk_threshold(&self, txn: &Transaction) -> Option<usize> {
        let payload = txn.payload_bytes();
        if payload > self.limits.record_bytes_max / 2 {
            return Some(seabed_types::CHUNK_BYTES);
        }
        (payload >= self.options.bulk_bytes).then_some(self.options.bulk_bytes)
    }

    /// Stores the large data of a transaction. Large appends first wait until their size is known, which makes them writes.
    pub(crate) async fn store_ahead(
        self: &Rc<Self>,
        id: CollectionId,
        txn: Transaction,
        threshold: usize,
        place: &Place,
        ahead: &mut Ahead,
    ) -> Result<Transaction> {
        let mut txn = txn;
        let mut held = Held::new(self);
        let appends = |operation: &seabed_object::Operation| matches!(&operation.op, Op::Append { data } if data.len() >= threshold);
        if txn.operations().iter().any(appends) {
            held.let_go();
            place.reached().await;
            held.enter_again();
            txn = loop {
                let (resolved, wanted) = self.look(id, &held, |view| resolve_appends(view, &txn));
                match resolved {
                    Ok(resolved) => break resolved,
                    Err(stop) => self.load_or_fail(id, stop, wanted, &mut held).await?,
                }
            };
        }
        let plan = loop {
            let next_id = self.world.borrow().collection(id).next_id;
            let (plan, wanted) =
                self.look(id, &held, |view| bulk_parts(view, &txn, threshold, next_id, &self.limits));
            let plan = match plan {
                Ok(plan) => plan,
                Err(stop) => {
                    self.load_or_fail(id, stop, wanted, &mut held).await?;
                    continue;
                }
            };
            let mut made: Vec<_> = plan.made(&txn).map(|object| (id.pool, object.clone())).collect();
            made.dedup();
            ahead.maker = self.making.begin(&made, place);
            if ahead.maker.is_some() {
                break plan;
            }
            held.let_go();
            self.making.until_free(&made, place).await;
            held.enter_again();
        };
        drop(held);
        {
            let mut world = self.world.borrow_mut();
            let collection = world.collection_mut(id);
            collection.next_id = collection.next_id.max(plan.next_id);
        }
        let parts: Vec<Part> = plan
            .parts
            .iter()
            .map(|part| Part {
                what: ListedWhat::Piece { pool: id.pool, key: part.key.to_vec() },
                data: part.data.clone(),
                summing: if is_write(&txn, part.op) { Summing::Chunks } else { Summing::Whole },
            })
            .collect();
        let (placed, holds) = self.store(&parts).await?;
        seabed_types::reached!(DataAhead);
        let stored = plan.parts.iter().zip(placed);
        ahead
            .stored
            .extend(stored.map(|(part, placed)| part.stored(placed.at, placed.crcs.into_iter().collect())));
        if !seabed_types::seeded!(40) {
            ahead.holds.extend(holds);
        }
        Ok(txn)
    }

    /// Looks at a collection's rows once; with what was not in memory.
    pub(crate) fn look<T>(
        &self,
        id: CollectionId,
        held: &Held,
        look: impl FnOnce(&View<'_>) -> T,
    ) -> (T, Vec<crate::view::Wanted>) {
        let world = self.world.borrow();
        let view = View::new(&world, world.collection(id), &held.pieces);
        let result = look(&view);
        (result, view.end().0)
    }

    pub(crate) async fn load_or_fail(
        self: &Rc<Self>,
        id: CollectionId,
        stop: seabed_object::Stop,
        wanted: Vec<crate::view::Wanted>,
        held: &mut Held,
    ) -> Result<()> {
        match stop {
            seabed_object::Stop::Absent => self.load(id, wanted, held).await,
            seabed_object::Stop::Corrupt { at, what } => {
                Err(Error::Corrupt { at: at.unwrap_or_default(), what })
            }
        }
    }

    /// Writes parts to the bulk stream, as many records as they take, all in flight at once. What a failed write held is
    /// written again elsewhere, a few times, and its segment takes nothing any more. The caller bounds the bytes.
    pub(crate) async fn store(self: &Rc<Self>, parts: &[Part]) -> Result<(Vec<Placed>, Vec<Hold>)> {
        let mut stored: Vec<Option<Placed>> = vec![None; parts.len()];
        let mut holds = Vec::new();
        for tries in 1.. {
            let mut records = Vec::new();
            let issued = self.issue_missing(parts, &stored, &mut records).await;
            // Also after an error what was issued is waited for, so that no hold ends before its write.
            let (numbers, writes): (Vec<_>, Vec<_>) = records
                .into_iter()
                .map(|(numbers, appended)| ((numbers, appended.placed, appended.hold), appended.written))
                .unzip();
            let mut failed = None;
            for ((numbers, placed, hold), written) in numbers.into_iter().zip(join_all(writes).await) {
                match written.or_else(|error| if seabed_types::seeded!(57) { Ok(()) } else { Err(error) }) {
                    Ok(()) => {
                        for (number, placed) in numbers.into_iter().zip(placed) {
                            stored[number] = Some(placed);
                        }
                        holds.push(hold);
                    }
                    Err(error) => {
                        self.give_up_segment(&hold, error);
                        failed = Some(error);
                    }
                }
            }
            issued?;
            match failed {
                Some(error) if tries == WRITE_TRIES => return Err(error.into()),
                Some(_) => {}
                None => break,
            }
        }
        Ok((stored.into_iter().flatten().collect(), holds))
    }

    /// Issues records of the parts that are not stored: the numbers of the parts in each, and the record.
    async fn issue_missing(
        self: &Rc<Self>,
        parts: &[Part],
        stored: &[Option<Placed>],
        records: &mut Vec<(Vec<usize>, Appended)>,
    ) -> Result<()> {
        let durability = if seabed_types::seeded!(3) { Durability::Cached } else { Durability::Durable };
        let room = self.layout.record_bytes_max() - 4 * BLOCK_BYTES;
        let missing: Vec<usize> = (0..parts.len()).filter(|number| stored[*number].is_none()).collect();
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest
                .iter()
                .take_while(|number| {
                    bytes += parts[**number].data.len().next_multiple_of(BLOCK_BYTES) + 256;
                    bytes <= room
                })
                .count()
                .max(1);
            let (now, later) = rest.split_at(count);
            let total: usize = now.iter().map(|number| parts[*number].data.len()).sum();
            if !self.is_admitted(total, Purpose::Store) {
                self.admit(total, Purpose::Store).await?;
            }
            let pieces: Vec<Append<'_>> = now
                .iter()
                .map(|number| &parts[*number])
                .map(|part| Append { what: part.what.clone(), bytes: &part.data, summing: part.summing })
                .collect();
            match self.append(StreamKind::Bulk, &pieces, durability, Claimer::User) {
                Some(appended) => {
                    records.push((now.to_vec(), appended));
                    rest = later;
                }
                None => self.admit(total, Purpose::Store).await?,
            }
        }
        Ok(())
    }
}

fn is_write(txn: &Transaction, op: usize) -> bool {
    matches!(txn.operations()[op].op, Op::Write { .. })
}
