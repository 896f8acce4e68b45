//! Bulk: data of large writes goes to the device before its transaction joins a record.
//!
//! Data of 128 KiB and more (an option), or less if the transaction would not fit a record otherwise, is written to the bulk
//! stream while the transaction waits in its line, several records in flight, each durable by itself (rule L2). The row that
//! will point to a part is known from the object's family as of now; if that changed by the time the transaction is
//! applied, it is stored again; so of several transactions that would make an object only one stores before it is there
//! (`sequence`). Segments are held until the transaction's record is durable or it is given up (rule S3).
//!
//! The rows of a very large object that the transaction makes do not fit its record: its data is *laid* ahead. The family
//! gets a grave; slice by slice the data is stored and the rows that point to it are logged, which nobody can reach; the
//! transaction's record makes the onode and takes the grave away, as that of a streaming put does (`put`). What cannot be laid
//! and does not fit is refused before anything is stored.
//!
//! A write that fails says nothing about what is on the medium, so its data goes elsewhere (`streams`).
//!
//! Crash: what no record points to is dead bytes; what was laid has its grave, and the next mount drains it.
//! Cost: one record per MiB, one copy, one checksum pass; no second write. Others run between any two records.
//! Limits: 8 records of a request in flight.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use seabed_device::{DeviceError, Durability};
use seabed_journal::CollectionId;
use seabed_object::{
    Laid, LaidWrite, Op, ROW_BYTES, Storing, Transaction, bulk_plan, resolve_appends, stream,
};
use seabed_segment::{ListedWhat, Placed, Summing};
use seabed_types::BLOCK_BYTES;

use crate::io::streams::{Append, Appended, Hold, Stream, WRITE_TRIES};
use crate::maintain::admit::Purpose;
use crate::operate::put::Alive;
use crate::operate::submit::StagedData;
use crate::rows::Gone;
use crate::rows::view::View;
use crate::shard::mounted::{Mounted, OpGuard};
use crate::shard::queue::Ticket;
use crate::space::segments::Claimer;
use crate::{Error, Result};

/// Records of one request that are in flight at a time: more would only be more memory.
const RECORDS_IN_FLIGHT: usize = 8;
/// Rows that are laid ahead in one record: 4 MiB of data.
const LAY_ROWS: usize = 64;

/// Parts on their way to the device.
#[derive(Default)]
struct StoredParts {
    placed: Vec<Option<Placed>>,
    holds: Vec<Hold>,
    /// Records, oldest first, each with the numbers of its parts.
    in_flight: VecDeque<(Range<usize>, Appended)>,
    failed: Option<DeviceError>,
}

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
            return Some(1);
        }
        (payload >= self.options.bulk_bytes).then_some(self.options.bulk_bytes)
    }

    /// From how many bytes on the data of an object that a transaction makes is laid ahead.
    fn lay_bytes(&self) -> u64 {
        let of_record = self.limits.rows_per_record() as u64 * ROW_BYTES;
        of_record.min(self.options.lay_bytes as u64)
    }

    /// Stores the large data of a transaction. Large appends first wait until their size is known, which makes them writes.
    pub(crate) async fn store_ahead(
        self: &Rc<Self>,
        id: CollectionId,
        mut txn: Transaction,
        threshold: usize,
        ticket: &Ticket,
        staged: &mut StagedData,
    ) -> Result<Transaction> {
        let mut guard = OpGuard::new(self);
        let appends = |operation: &seabed_object::Operation| matches!(&operation.op, Op::Append { data } if data.len() >= threshold);
        if txn.operations().iter().any(appends) {
            guard.released(ticket.reached()).await;
            let resolved = loop {
                let (resolved, wanted) =
                    self.look(id, &guard, |view| resolve_appends(view, &txn, &staged.laid))?;
                match resolved {
                    Ok(resolved) => break resolved,
                    Err(stop) => self.load_or_fail(id, stop, wanted, &mut guard).await?,
                }
            };
            txn = resolved;
        }
        let storing = Storing { threshold_bytes: threshold, lay_bytes: self.lay_bytes(), laid: &staged.laid };
        let plan = loop {
            let (plan, wanted, settled) = {
                let rows = self.rows.borrow();
                let collection = rows.collection(id)?;
                let view = View::new(&rows, collection, &guard.pieces);
                let plan = bulk_plan(&view, &txn, storing, collection.next_id, &self.limits);
                let (wanted, settled) = view.end();
                (plan, wanted, settled)
            };
            let plan = match plan {
                Ok(plan) => plan,
                Err(stop) => {
                    self.load_or_fail(id, stop, wanted, &mut guard).await?;
                    continue;
                }
            };
            if let Some(refusal) = plan.too_large {
                // Those before it may remove an object that it then makes, which has no such limit.
                if !ticket.is_first() {
                    guard.released(ticket.reached()).await;
                    continue;
                }
                drop(guard);
                self.settled(settled).await?;
                return Err(refusal.into());
            }
            let mut made: Vec<_> = plan.made(&txn).map(|object| (id.pool, object.clone())).collect();
            made.dedup();
            staged.creates = self.creating.begin(&made, ticket);
            if staged.creates.is_some() {
                break plan;
            }
            guard.released(self.creating.until_free(&made, ticket)).await;
        };
        drop(guard);
        {
            let mut rows = self.rows.borrow_mut();
            let collection = rows.collection_mut(id)?;
            collection.next_id = collection.next_id.max(plan.next_id);
        }
        // What cannot fit is rejected before anything is stored.
        let bytes = plan.bytes();
        if bytes > self.layout.record_bytes_max() && !self.is_admitted(bytes, Purpose::Store) {
            self.admit(bytes, Purpose::Store).await?;
        }
        let part_of = |part: &seabed_object::BulkPart| Part {
            what: ListedWhat::Piece { pool: id.pool, key: part.key.to_vec() },
            data: part.data.clone(),
            summing: if is_write(&txn, part.op) { Summing::Chunks } else { Summing::Whole },
        };
        let parts: Vec<Part> = plan.parts.iter().map(part_of).collect();
        let (placed, holds) = self.store(&parts).await?;
        seabed_types::reached!(DataAhead);
        let stored = plan.parts.iter().zip(placed);
        staged
            .stored
            .extend(stored.map(|(part, placed)| part.stored(placed.at, placed.crcs.into_iter().collect())));
        if !seabed_types::seeded!(40) {
            staged.holds.extend(holds);
        }
        for laid in plan.laid {
            staged.alive.push(self.lay(id, &txn, &laid).await?);
            staged.laid.push(laid);
        }
        Ok(txn)
    }

    /// Looks at a collection's rows once; with what was not in memory.
    pub(crate) fn look<T>(
        &self,
        id: CollectionId,
        guard: &OpGuard,
        look: impl FnOnce(&View<'_>) -> T,
    ) -> std::result::Result<(T, Vec<crate::rows::view::Wanted>), Gone> {
        let rows = self.rows.borrow();
        let view = View::new(&rows, rows.collection(id)?, &guard.pieces);
        let result = look(&view);
        Ok((result, view.end().0))
    }

    pub(crate) async fn load_or_fail(
        self: &Rc<Self>,
        id: CollectionId,
        stop: seabed_object::Stop,
        wanted: Vec<crate::rows::view::Wanted>,
        guard: &mut OpGuard,
    ) -> Result<()> {
        match stop {
            seabed_object::Stop::Absent => self.load(id, wanted, guard).await,
            seabed_object::Stop::Corrupt { at, what } => Err(Error::Corrupt { at, what }),
        }
    }

    /// Writes parts to the bulk stream, as many records as they take, a few in flight at a time. What a failed write held is
    /// written again elsewhere, a few times, and its segment takes nothing any more. Lets others run after each record.
    pub(crate) async fn store(self: &Rc<Self>, parts: &[Part]) -> Result<(Vec<Placed>, Vec<Hold>)> {
        let mut stored = StoredParts { placed: vec![None; parts.len()], ..StoredParts::default() };
        for tries in 1.. {
            let issued = self.issue_missing(parts, &mut stored).await;
            // Also after an error what was issued is waited for, so that no hold ends before its write.
            while self.wait_for_oldest(&mut stored).await {}
            issued?;
            match stored.failed.take() {
                Some(error) if tries == WRITE_TRIES => return Err(error.into()),
                Some(_) => {}
                None => break,
            }
        }
        Ok((stored.placed.into_iter().flatten().collect(), stored.holds))
    }

    /// Waits for the oldest record in flight. False: there is none.
    async fn wait_for_oldest(self: &Rc<Self>, stored: &mut StoredParts) -> bool {
        let Some((numbers, Appended { placed, hold, written })) = stored.in_flight.pop_front() else {
            return false;
        };
        match written.await.or_else(|error| if seabed_types::seeded!(57) { Ok(()) } else { Err(error) }) {
            Ok(()) => {
                for (number, placed) in numbers.zip(placed) {
                    stored.placed[number] = Some(placed);
                }
                stored.holds.push(hold);
            }
            Err(error) => {
                self.give_up_segment(&hold, error);
                stored.failed = Some(error);
            }
        }
        true
    }

    /// Issues records of the parts that are not stored.
    async fn issue_missing(self: &Rc<Self>, parts: &[Part], stored: &mut StoredParts) -> Result<()> {
        let durability = if seabed_types::seeded!(3) { Durability::Cached } else { Durability::Durable };
        let room = self.layout.record_bytes_max() - 4 * BLOCK_BYTES;
        let mut first = 0;
        while first < parts.len() {
            if stored.placed[first].is_some() {
                first += 1;
                continue;
            }
            let mut bytes = 0;
            let fits = |(part, placed): &(&Part, &Option<Placed>)| {
                bytes += part.data.len().next_multiple_of(BLOCK_BYTES) + 256;
                placed.is_none() && bytes <= room
            };
            let count = parts[first..].iter().zip(&stored.placed[first..]).take_while(fits).count().max(1);
            let now = &parts[first..first + count];
            let total: usize = now.iter().map(|part| part.data.len()).sum();
            self.pay_debt().await;
            if !self.is_admitted(total, Purpose::Store) {
                self.admit(total, Purpose::Store).await?;
            }
            let bytes_of: Vec<[&[u8]; 1]> = now.iter().map(|part| [&part.data[..]]).collect();
            let pieces: Vec<Append<'_>> = now
                .iter()
                .zip(&bytes_of)
                .map(|(part, parts)| Append { what: part.what.clone(), parts, summing: part.summing })
                .collect();
            let Some(appended) = self.append(Stream::Bulk, &pieces, durability, Claimer::User) else {
                self.admit(total, Purpose::Store).await?;
                continue;
            };
            stored.in_flight.push_back((first..first + count, appended));
            first += count;
            if stored.in_flight.len() == RECORDS_IN_FLIGHT {
                self.wait_for_oldest(stored).await;
            }
            // A put of 200 MiB that was copied and summed in one go kept all others waiting for 0.58 s.
            if first < parts.len() && !seabed_types::seeded!(86) {
                self.machine.runtime.yield_io().await;
            }
        }
        Ok(())
    }

    /// Lays the data of an object ahead: logs the grave of its family, then stores the data slice by slice, and logs the rows
    /// of each in a record of their own. What it returns keeps the grave from being drained.
    async fn lay(self: &Rc<Self>, id: CollectionId, txn: &Transaction, laid: &Laid) -> Result<Alive> {
        let hash = txn.objects()[laid.object].hash;
        let alive = Alive::new(&self.streaming, id, laid.family);
        let mut guard = OpGuard::new(self);
        loop {
            let effects = stream::begin_with(hash, laid.family);
            if self.apply_admitted(id, effects, Purpose::Store, &mut guard).await?.is_some() {
                break;
            }
        }
        drop(guard);
        let rows_max = self.limits.rows_per_record().min(LAY_ROWS) as u64;
        for LaidWrite { op, mut from, to } in laid.writes.iter().copied() {
            let Op::Write { offset, data } = &txn.operations()[op].op else { continue };
            while from < to {
                let at = offset + from as u64;
                let end = (at / ROW_BYTES + rows_max) * ROW_BYTES - offset;
                let end = usize::try_from(end).unwrap_or(usize::MAX).min(to);
                self.store_part(id, (hash, laid.family), at, &data.slice(from..end)).await?;
                from = end;
                self.machine.runtime.yield_io().await;
            }
        }
        seabed_types::reached!(DataLaid);
        Ok(alive)
    }
}

fn is_write(txn: &Transaction, op: usize) -> bool {
    matches!(txn.operations()[op].op, Op::Write { .. })
}
