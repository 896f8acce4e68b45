//! Submit: a transaction's life on its shard.
//!
//! 1. It takes its place in its collection's line, in the moment of the call.
//! 2. Large data is stored ahead.
//! 3. It is carried out against the rows in memory; what is absent is loaded and it is carried out again, with no effect until
//!    then.
//! 4. When it is first in line, fits, and nothing is absent, its effects are applied and join the open batch in one moment.
//! 5. It leaves the line, and is answered when its record is durable.
//!
//! What has to wait for nothing on the way goes through all of it in the moment of the call ([`Mounted::try_at_once`]): no
//! task, no place in the line, and its client is woken by the record itself. All else is a task of its own.
//!
//! Until it is answered it stays with its collection as a [`Request`]: if this mount ends before, the next one carries it
//! out again.
//!
//! A refusal is answered when what it saw is durable (rule L6).
//!
//! Cancel safety: dropping the future that waits for a submitted transaction changes nothing.
//! Cost: with everything in memory one pass, no await but the last. Limits: requests are bounded by a share of memory.

use std::rc::Rc;

use seabed_btree::Stop as TreeStop;
use seabed_device::Class;
use seabed_device::local::Permit;
use seabed_journal::entry::SMALL_ENTRY_BYTES;
use seabed_journal::{ChangeRef, CollectionId, FenceCause, JournalError, Need};
use seabed_object::{
    Change, Checksums, Effects, Laid, Outcome, Placed, Prepared, Runs, Stored, Transaction, execute,
    execute_prepared,
};
use seabed_segment::{Summing, packed_bytes};
use seabed_types::{Lsn, PoolId, SegmentId, Term, TreeKind};
use smallvec::SmallVec;

use crate::io::streams::Hold;
use crate::maintain::admit::Purpose;
use crate::operate::put::Alive;
use crate::rows::view::{LookupHints, Pieces, View, Wanted};
use crate::rows::{Gone, tally_of};
use crate::shard::mounted::{Mounted, OpGuard};
use crate::shard::queue::{CreateGuard, OrderQueue, Ticket};
use crate::shard::request::{Request, Work};
use crate::{Error, Result};

/// How often data is stored again that a transaction finds stale when it is first in line; nothing can make it so again.
const STALE_MAX: u32 = 2;
/// What a request costs in memory besides its data.
const REQUEST_BYTES: usize = 512;

/// What else a transaction does, in the same record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SystemEffect {
    None,
    /// The cleaner lets rows point to copies: what they show stays the same.
    Relocation,
    /// Publishes the first, empty collection of a new pool.
    NewPool(PoolId),
    /// Marks the collections of a pool as removed.
    RemovePool(PoolId),
}

/// Data that was stored ahead, and what keeps its segments.
#[derive(Default)]
pub(crate) struct StagedData {
    pub(crate) stored: Vec<Stored>,
    /// Data whose rows are in the tree, and what keeps their graves from being drained.
    pub(crate) laid: Vec<Laid>,
    pub(crate) alive: Vec<Alive>,
    pub(crate) holds: Vec<Hold>,
    /// The objects that it is stored for and that are not there yet.
    pub(crate) creates: Option<CreateGuard>,
}

/// Bytes of memory that a request takes.
fn bytes_of(work: &Work) -> usize {
    match work {
        Work::Transaction(txn, _) => txn.payload_bytes() + REQUEST_BYTES,
        Work::Put(put) => put.finish.txn.payload_bytes() + REQUEST_BYTES,
    }
}

impl Mounted {
    /// Takes a request on: its place in the order is taken in this moment.
    pub(crate) fn take(self: &Rc<Self>, request: &Rc<Request>) {
        seabed_types::work::begin("a transaction");
        request.taken_by(self.epoch);
        let queue = match self.rows.borrow().collections.get(&request.id) {
            Some(collection) => Rc::clone(&collection.queue),
            None => return request.end(Err(Error::NoSuchPoolId { id: request.id.pool })),
        };
        queue.unanswered.add(request);
        match self.at_once(request, &queue) {
            Some(Ok(lsn)) => return self.applied_in(request, lsn),
            Some(Err(error)) => return self.answer(request, &queue, Err(error)),
            None => {}
        }
        let Some(work) = request.work() else { return };
        let ticket = queue.enter();
        // Memory is given in the order of places: who waits behind another never has what the other waits for.
        let memory = self.requests.acquire(bytes_of(&work));
        let (shard, request) = (Rc::clone(self), Rc::clone(request));
        self.spawn(Class::Foreground, async move {
            let permit = memory.await;
            let result = match work {
                Work::Transaction(txn, system) => shard.transact(&request, txn, ticket, (system, None)).await,
                Work::Put(put) => shard.finish_put(&request, &put, ticket).await,
            };
            drop(permit);
            shard.answer(&request, &queue, result);
        });
    }

    /// Carries a transaction out in this moment. None: nothing was done, it has to wait for something.
    fn at_once(self: &Rc<Self>, request: &Request, queue: &OrderQueue) -> Option<Result<Lsn>> {
        request.look_at_work(|work| {
            let Work::Transaction(txn, system) = work else { return None };
            if !queue.is_empty() || self.bulk_threshold(txn).is_some() {
                return None;
            }
            let permit = self.requests.try_acquire(bytes_of(work))?;
            self.try_at_once(request.id, txn, *system, permit).transpose()
        })
    }

    /// A request was applied in record `lsn`.
    pub(crate) fn applied_in(&self, request: &Rc<Request>, lsn: Lsn) {
        let journal = self.journal.as_ref().expect("it has applied something");
        request.applied(self.epoch, journal, lsn);
        self.applied.add(lsn, request);
    }

    /// Answers a request, unless it failed because this mount has ended: then the next one carries it out again.
    fn answer(&self, request: &Request, queue: &OrderQueue, result: Result<()>) {
        if result.is_ok() || self.failure().is_none() {
            request.answered(self.epoch, result);
            queue.unanswered.forget_answered();
        }
    }

    /// Carries a transaction out in this moment, if nobody is before it and nothing keeps it waiting. None: nothing was done.
    fn try_at_once(
        self: &Rc<Self>,
        id: CollectionId,
        txn: &Transaction,
        system: SystemEffect,
        permit: Permit,
    ) -> Result<Option<Lsn>> {
        let (outcome, hints) = {
            let rows = self.rows.borrow();
            let collection = rows.collection(id)?;
            if collection.removed_in.is_some() {
                return Ok(None);
            }
            let pieces = Pieces::default();
            let view = View::new(&rows, collection, &pieces).keeping_hints();
            let outcome = execute(&view, txn, &[], collection.next_id, &self.limits);
            (outcome, view.into_hints())
        };
        let Outcome::Ready(effects) = outcome else { return Ok(None) };
        if effects.is_empty() && system == SystemEffect::None {
            return Ok(None);
        }
        let need = need_of(&effects);
        let (bytes, purpose) = (need.pieces + need.entries, purpose_of(txn, &effects));
        if self.journal()?.check(&need).is_err()
            || purpose == Purpose::Store && self.is_in_debt()
            || !self.is_admitted(bytes, purpose)
            || !self.ways_to(id, &effects)?.is_empty()
        {
            return Ok(None);
        }
        let lsn = self.apply_at(id, effects, &need, system, (&hints, Some(permit)))?;
        self.count_transaction(txn.payload_bytes());
        Ok(Some(lsn))
    }

    /// Carries a transaction out. `streamed`: what its streaming put has stored.
    pub(crate) async fn transact(
        self: &Rc<Self>,
        request: &Rc<Request>,
        mut txn: Transaction,
        ticket: Ticket,
        (system, streamed): (SystemEffect, Option<Laid>),
    ) -> Result<()> {
        let id = request.id;
        self.not_removed(id).await?;
        let begun = || StagedData { laid: streamed.iter().cloned().collect(), ..StagedData::default() };
        let mut staged = begun();
        // How often what was stored was stale.
        let mut stale_when_first = 0;
        let threshold = self.bulk_threshold(&txn);
        if let Some(threshold) = threshold {
            txn = self.store_ahead(id, txn, threshold, &ticket, &mut staged).await?;
        }
        let streamed_bytes = streamed.as_ref().map_or(0, |laid| laid.size);
        let user_bytes = txn.payload_bytes() + usize::try_from(streamed_bytes).unwrap_or(usize::MAX);
        let mut guard = OpGuard::new(self);
        loop {
            self.not_removed(id).await?;
            let (outcome, wanted, settled) = {
                let rows = self.rows.borrow();
                let collection = rows.collection(id)?;
                let view = View::new(&rows, collection, &guard.pieces);
                let prepared = Prepared { stored: &staged.stored, laid: &staged.laid };
                let outcome = execute_prepared(&view, &txn, prepared, collection.next_id, &self.limits);
                let (wanted, settled) = view.end();
                (outcome, wanted, settled)
            };
            match outcome {
                Outcome::Absent => {
                    self.load(id, wanted, &mut guard).await?;
                }
                _ if !ticket.is_first() => {
                    guard.released(ticket.reached()).await;
                }
                Outcome::Refused(refusal) => {
                    drop(ticket);
                    if !seabed_types::seeded!(9) {
                        self.settled(settled).await?;
                    }
                    return Err(refusal.into());
                }
                Outcome::Corrupt { at, what } => {
                    return Err(Error::Corrupt { at, what });
                }
                Outcome::Stale => {
                    stale_when_first += 1;
                    let Some(threshold) = threshold.filter(|_| stale_when_first <= STALE_MAX) else {
                        return Err(Error::Invalid { what: "the put's data is not there any more" });
                    };
                    staged = begun();
                    let storing = self.store_ahead(id, txn, threshold, &ticket, &mut staged);
                    txn = guard.released(storing).await?;
                }
                Outcome::Ready(effects) if effects.is_empty() && system == SystemEffect::None => {
                    // Those before it may have given up their places because this mount has failed; the next one carries
                    // them out, and then this may change something.
                    if let Some(cause) = self.failure() {
                        return Err(Error::Fenced(cause));
                    }
                    drop(ticket);
                    return self.settled(settled).await;
                }
                Outcome::Ready(effects) => {
                    let need = need_of(&effects);
                    if let Err(refused) = self.journal()?.check(&need) {
                        // How large it is depends on what was seen, so this is a refusal like any other.
                        drop(ticket);
                        self.settled(settled).await?;
                        return Err(self.not_logged(refused));
                    }
                    let bytes = need.pieces + need.entries;
                    if !guard.admits(bytes, purpose_of(&txn, &effects)).await? {
                        continue;
                    }
                    // A row that is only written may not have been looked at.
                    let wanted = self.ways_to(id, &effects)?;
                    if !wanted.is_empty() {
                        self.load(id, wanted, &mut guard).await?;
                        continue;
                    }
                    let lsn = self.apply(id, effects, &need, system)?;
                    let journal = Rc::clone(self.journal()?);
                    self.applied_in(request, lsn);
                    self.count_transaction(user_bytes);
                    drop(ticket);
                    drop(staged.creates.take());
                    drop(guard);
                    drop(txn);
                    return Ok(journal.durable(lsn).await?);
                }
            }
        }
    }

    pub(crate) fn count_transaction(&self, user_bytes: usize) {
        self.counters.count(|stats| {
            stats.transactions += 1;
            stats.user_bytes_written += user_bytes as u64;
        });
    }

    /// Applies effects in one moment: data and deltas into the open batch, rows into the trees. The ways to all rows are in
    /// memory ([`Mounted::ways_to`]). Returns the record's lsn.
    pub(crate) fn apply(
        self: &Rc<Self>,
        id: CollectionId,
        effects: Effects,
        need: &Need,
        system: SystemEffect,
    ) -> Result<Lsn> {
        self.apply_at(id, effects, need, system, (&LookupHints::default(), None))
    }

    /// As [`Mounted::apply`]. `spots`: where rows were seen. The batch keeps `permit` until it is durable.
    fn apply_at(
        self: &Rc<Self>,
        id: CollectionId,
        mut effects: Effects,
        need: &Need,
        system: SystemEffect,
        (hints, permit): (&LookupHints, Option<Permit>),
    ) -> Result<Lsn> {
        let journal = Rc::clone(self.journal()?);
        // Once a row is applied, an error ends the mount.
        self.rows.borrow().collection(id)?;
        let mut has_expired = false;
        if system != SystemEffect::Relocation {
            self.clean.wrote(need.pieces + need.entries);
        }
        let sets_graves = effects.rows.iter().any(|row| row.tree == TreeKind::Graves);
        let joined = journal.join(need, |joined| -> std::result::Result<(), &'static str> {
            let lsn = joined.lsn();
            if let Some(permit) = permit {
                joined.keep(permit);
            }
            let mut placed: SmallVec<[Placed; 1]> = SmallVec::with_capacity(effects.pieces.len());
            for piece in &effects.pieces {
                let summing = match piece.checksums {
                    Checksums::Chunks => Summing::Chunks,
                    Checksums::Whole => Summing::Whole,
                };
                let at = joined.place(&[&piece.data], summing);
                placed.push(Placed { at: at.at, crcs: at.crcs });
            }
            let rows = &mut *self.rows.borrow_mut();
            let mut takes_away = false;
            // A watched row that only points elsewhere shows what it did.
            let is_watched = self.past.is_any() && system != SystemEffect::Relocation;
            let usage = effects.encode(&placed, |row| {
                takes_away |= row.change == Change::Gone;
                let pieces = (row.pieces.as_slice(), &row.identity()[..]);
                joined.delta((id.pool, row.tree), &row.key, change_ref(&row.change), pieces);
                for (at, bytes) in &row.pieces {
                    joined.live(at.segment, i64::from(*bytes));
                    self.table.plus(at.segment, *bytes);
                }
                let hint = hints.of(row.tree, &row.key);
                if is_watched {
                    let old = || rows.value_of((id, row.tree), &row.key);
                    has_expired |= self.past.note(&self.table, (id, row.tree), &row.key, old);
                }
                rows.apply_row((id, row.tree), &row.key, row.change, lsn, hint)
            })?;
            // Also rows without data of their own, which only their leaf has, take space.
            if takes_away {
                self.table.rows_gone();
            }
            for (at, bytes) in &effects.freed {
                joined.live(at.segment, -i64::from(*bytes));
                match system {
                    SystemEffect::Relocation => self.table.minus_moved(at.segment, *bytes, lsn),
                    SystemEffect::None | SystemEffect::NewPool(_) | SystemEffect::RemovePool(_) => {
                        self.table.minus(at.segment, *bytes, lsn);
                    }
                }
            }
            let collection = rows.collection_mut(id)?;
            collection.next_id = collection.next_id.max(effects.next_id);
            let change = tally_of(&usage);
            collection.tally.add(&change);
            joined.tally(id, collection.next_id, &change);
            match system {
                SystemEffect::None | SystemEffect::Relocation => {}
                SystemEffect::NewPool(pool) => {
                    let new = CollectionId::whole(pool);
                    joined.new_collection(new, Term(1));
                    rows.add_collection(new, Term(1));
                    rows.collection_mut(new)?.shown_at = lsn.next();
                }
                SystemEffect::RemovePool(pool) => rows.mark_removed(pool, lsn),
            }
            Ok(())
        });
        let (lsn, applied) = joined.map_err(|error| self.not_logged(error))?;
        if let Err(what) = applied {
            // Rows that the pass above decoded do not decode now: the batch must not be written.
            self.fence(FenceCause::Corrupt { at: None, what });
            return Err(Error::Corrupt { at: None, what });
        }
        if has_expired {
            self.watch_ended();
        }
        self.note_released();
        self.write_segment_ends();
        self.trim.joined(lsn);
        if sets_graves || matches!(system, SystemEffect::RemovePool(_)) {
            self.grave_work.more.set(true);
            self.grave_work.wake.notify_all();
        }
        Ok(lsn)
    }

    /// Applies effects that have no place in the order of their collection, as soon as there is space. The caller computed them
    /// in this same moment, and computes them again if the outcome is [`Applied::Outdated`].
    pub(crate) async fn try_apply(
        self: &Rc<Self>,
        id: CollectionId,
        effects: Effects,
        (purpose, system): (Purpose, SystemEffect),
        guard: &mut OpGuard,
    ) -> Result<Applied> {
        let need = need_of(&effects);
        match self.journal()?.check(&need) {
            Ok(()) => {}
            Err(error @ JournalError::TooLarge { .. }) => return Ok(Applied::TooLarge(error)),
            Err(error) => return Err(self.not_logged(error)),
        }
        if !guard.admits(need.pieces + need.entries, purpose).await? {
            return Ok(Applied::Outdated);
        }
        // A row that is only written may not have been looked at.
        let wanted = self.ways_to(id, &effects)?;
        if !wanted.is_empty() {
            self.load(id, wanted, guard).await?;
            return Ok(Applied::Outdated);
        }
        self.apply(id, effects, &need, system).map(Applied::In)
    }

    /// The nodes that are not in memory on the ways to the rows that effects change. The effects were computed in this same
    /// moment, so rows that were seen then need no second look.
    pub(crate) fn ways_to(
        &self,
        id: CollectionId,
        effects: &Effects,
    ) -> std::result::Result<Vec<Wanted>, Gone> {
        let rows = self.rows.borrow();
        let mut wanted = Vec::new();
        for row in effects.rows.iter().filter(|row| !row.seen) {
            if let Err(TreeStop::Absent(ptr)) = rows.tree(id, row.tree)?.find(&rows.cache, &row.key) {
                let node = Wanted::Node(row.tree, ptr);
                if !wanted.contains(&node) {
                    wanted.push(node);
                }
            }
        }
        Ok(wanted)
    }
}

/// The outcome of [`Mounted::try_apply`].
#[must_use]
#[derive(Debug)]
pub(crate) enum Applied {
    /// In this record.
    In(Lsn),
    /// Others ran meanwhile, so the effects have to be computed again.
    Outdated,
    /// They do not fit a record; fewer may.
    TooLarge(JournalError),
}

/// What the space of a transaction is for.
fn purpose_of(txn: &Transaction, effects: &Effects) -> Purpose {
    let removes = effects.piece_bytes() == 0 && txn.only_removes() && !seabed_types::seeded!(59);
    if removes { Purpose::Remove } else { Purpose::Store }
}

/// A change as the journal takes it.
pub(crate) fn change_ref(change: &Change) -> ChangeRef<'_> {
    match change {
        Change::Set(value) => ChangeRef::Set(value),
        Change::Patch(patch) => ChangeRef::Patch(patch),
        Change::Gone => ChangeRef::Gone,
    }
}

/// What effects take of a record.
pub(crate) fn need_of(effects: &Effects) -> Need {
    let rows = effects.rows.len();
    Need {
        pieces: packed_bytes(effects.pieces.iter().map(|piece| piece.data.len())),
        piece_count: effects.pieces.len(),
        entries: effects.delta_bytes_max()
            + rows * SMALL_ENTRY_BYTES
            + effects.pieces.len() * 10
            + 2 * SMALL_ENTRY_BYTES,
        segments: segments_of(&effects.freed),
        piece_keys: effects.pieces.iter().map(|piece| effects.rows[piece.row].identity_bytes()).sum(),
    }
}

/// In how many segments places are.
fn segments_of(places: &Runs) -> usize {
    if places.len() <= 1 {
        return places.len();
    }
    let mut segments: SmallVec<[SegmentId; 32]> = places.iter().map(|(at, _)| at.segment).collect();
    segments.sort_unstable();
    segments.dedup();
    segments.len()
}
