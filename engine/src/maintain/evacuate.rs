//! Evacuate: the cleaner of data: copies what is live out of a segment, so that the segment becomes free.
//!
//! 1. The policy chooses a victim among the sealed segments of data outside the window ([`seabed_cleaner`]).
//! 2. The victim's inventory names the rows that may point to its pieces. They are looked up in key order, a batch at a
//!    time; what no row points to is dead.
//! 3. Live pieces are read, one by one or together with what lies between them, and verified. They are written to the
//!    stream of relocated data, the pieces of one row as neighbours, and are durable before any record names them (rule L2).
//! 4. The rows are looked up again and changed in one moment, like those of any transaction, but without a place in the
//!    order of their collection. A row that changed meanwhile keeps what it points to.
//! 5. When the records of all these changes are provably durable the victim has no live byte, and its count frees it (rules
//!    S2, S4).
//!
//! A piece that cannot be read or does not match its checksum stays where it is, with the checksum that it has, and its
//! segment is quarantined; the rest of the segment is moved (rule S8).
//!
//! **Pace.** Each byte that users write adds to a debt, the more the less space is free ([`seabed_cleaner::pacing`]); the
//! cleaner works until it is paid, and goes on without regard to it while a transaction waits for space. It never waits for
//! a transaction.
//!
//! Example: a victim of 4 MiB with 700 live chunks of 4 KiB: 700 look-ups, 2.8 MiB read, three records written, 700 changes
//! of about 45 bytes logged; 1.2 MiB is gained.
//!
//! Invariants: 1. A piece of a victim is read only while the reading operation is counted as running, so that its address
//! is not reused. 2. The segment of a copy is held until the record that points to it is durable (rule S3).
//! Crash: a copy that no durable record points to is garbage in its segment; the row still points to the old place, whose
//! segment has not been freed.
//! Cost: per live chunk one look-up, one read, one write and about 45 bytes of journal. Memory: a batch
//! ([`batch_bytes`]) and what lies between its pieces, the nodes of its rows.
//! Not here: images of nodes (`compact_nodes`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use futures::future::join_all;
use rustc_hash::FxHashSet;
use seabed_cleaner::pacing::Needs;
use seabed_cleaner::victim::DeathRate;
use seabed_cleaner::{Candidates, Class as AgeClass, Classes, Clock, Facts, Levels, Pacing, Work};
use seabed_device::{Durability, ReadBuf};
use seabed_journal::CollectionId;
use seabed_journal::entry::SMALL_ENTRY_BYTES;
use seabed_object::{Effects, Moved, PieceRef, Stop, live_pieces, relocate};
use seabed_segment::{ListedWhat, Summing, packed_bytes, record_bytes_of};
use seabed_types::{BLOCK_BYTES, CHUNK_BYTES, Crc, Incarnation, Lsn, Paddr, SegmentId};

use crate::io::inventory::{Identity, Inventory};
use crate::io::streams::{Append, Hold, Stream, WRITE_TRIES};
use crate::maintain::admit::Purpose;
use crate::operate::submit::{SystemEffect, is_too_large, need_of};
use crate::rows::view::{Pieces, View, Wanted};
use crate::shard::mounted::{Mounted, OpGuard};
use crate::space::segments::{Claimer, DataSegment};
use crate::{Error, Result};

/// The share of the memory budget for a batch of copies, and its bounds.
const BATCH_SHARE: usize = 64;
const BATCH_BYTES_MIN: usize = 64 << 10;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Rows that are looked up at a time, and in all for one batch.
const LOOKUPS: usize = 128;
const LOOKUPS_OF_BATCH: usize = 8 * LOOKUPS;
/// Rows that one record changes at most.
const ROWS_PER_CHANGE: usize = 128;
/// Pieces with no more than this between them are read together.
const GAP_BYTES: u32 = 32 << 10;
/// Bytes of one read.
const READ_BYTES_MAX: u32 = 256 << 10;
/// Bytes that are verified before others run.
const VERIFY_BYTES: usize = 256 << 10;
/// The least gain for which a segment is cleaned, as a share of it: headers, lists and seals of the copies take as much.
const GAIN_SHARE: u64 = 32;
/// The share of the newest victim in what copies cost, and the most that they are taken to cost.
const NEWEST_SHARE: f64 = 0.25;
const COST_RATIO_MAX: f64 = 4.0;
/// After so many victims without more free space cleaning is given up until more data is dead: a share of all segments.
const STALL_SHARE: usize = 8;
const STALL_VICTIMS_MIN: usize = 8;
/// Victims that are emptied before an empty record proves that their space is free, if callers wait for it.
const VICTIMS_UNPROVEN: u32 = 2;
/// Segments whose facts are looked at in one moment.
const SEGMENTS_AT_ONCE: usize = 4096;
/// Records of changes whose copies are still held, at most.
const CHANGES_AHEAD: usize = 4;

/// What of the memory budget a batch of copies takes.
pub(crate) fn batch_bytes(memory_bytes: usize) -> usize {
    (memory_bytes / BATCH_SHARE).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX)
}

/// Where the cleaner stands.
#[derive(Default)]
pub(crate) struct CleanState {
    policy: RefCell<Option<Policy>>,
    /// Bytes that users wrote beside the journal.
    written: Cell<u64>,
    /// Bytes that users had written, by all ways, when the debt was counted last.
    counted: Cell<u64>,
    /// Callers that wait for space.
    waiting: Cell<usize>,
    /// Nobody writes: idle time may be used.
    pub(crate) is_idle: Cell<bool>,
    /// What was seen when no segment was worth cleaning.
    exhausted_at: Cell<Option<Seen>>,
    /// Victims that kept live bytes, which are not tried again before those change.
    stuck: RefCell<Vec<(SegmentId, Incarnation, u64)>>,
    /// Whether cleaning brings callers that wait nearer to the space that they need.
    progress: Cell<Progress>,
    /// Victims that were emptied since an empty record proved the last changes durable.
    unproven: Cell<u32>,
    /// Bytes written for each live byte that was copied, of late; 0 before the first victim.
    cost_ratio: Cell<f64>,
}

/// What changes when there may be something to clean again: data died, a trim cycle ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    losses: u64,
    cycles: u64,
}

/// What cleaning for callers that wait has brought. In segments of a few records the headers of copies, the journal and
/// the checkpoints that cleaning causes may take as much as it frees.
#[derive(Clone, Copy, Default, Debug)]
struct Progress {
    /// Data that had died when it began, and the most segments that were free since.
    losses: u64,
    free: usize,
    /// Victims that were emptied since then.
    victims: usize,
    has_stalled: bool,
}

/// The state of the policy, which needs the shard's geometry.
struct Policy {
    candidates: Candidates,
    classes: Classes,
    pacing: Pacing,
    /// The next segment whose facts are looked at.
    next: usize,
}

impl CleanState {
    /// A user's record of so many bytes was written beside the journal.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
    }
}

/// Keeps the cleaner going without regard to its debt, until dropped.
pub(crate) struct CleaningWanted(Rc<Mounted>);

impl CleaningWanted {
    pub(crate) fn new(shard: &Rc<Mounted>) -> Self {
        shard.clean.waiting.set(shard.clean.waiting.get() + 1);
        shard.trim.wake.notify_all();
        Self(Rc::clone(shard))
    }
}

impl Drop for CleaningWanted {
    fn drop(&mut self) {
        self.0.clean.waiting.set(self.0.clean.waiting.get() - 1);
    }
}

/// A victim that is being cleaned.
struct Victim {
    segment: SegmentId,
    incarnation: Incarnation,
    class: AgeClass,
    written_at: u64,
    /// A piece of it could not be copied.
    is_damaged: bool,
    /// A row could not be looked up.
    is_unread: bool,
}

/// A row and its live pieces in the victim.
struct LiveRow {
    identity: Identity,
    pieces: Vec<PieceRef>,
}

/// Copies that are durable, with a hold on their segment.
struct Copied {
    rows: Vec<(Identity, Vec<Moved>)>,
    hold: Hold,
}

/// Reads and the pieces in them.
struct Loaded {
    /// Where each read begins, and what it brought.
    reads: Vec<(Paddr, Result<ReadBuf>)>,
}

impl Loaded {
    /// The bytes of a piece as they were read; none if they could not be read.
    fn bytes(&self, piece: &PieceRef) -> Option<&[u8]> {
        let index = self.reads.partition_point(|(at, _)| *at <= piece.at).checked_sub(1)?;
        let (at, read) = &self.reads[index];
        let skip = piece.at.offset.checked_sub(at.offset)? as usize;
        read.as_ref().ok()?.get(skip..skip + piece.bytes as usize)
    }

    /// Whether a piece was read and matches its checksum.
    fn is_sound(&self, piece: &PieceRef) -> bool {
        self.bytes(piece).is_some_and(|bytes| Crc::of(bytes) == piece.crc)
    }
}

impl Mounted {
    /// The task that cleans while the shard serves.
    pub(crate) async fn clean_loop(self: Rc<Self>) {
        loop {
            self.trim.wake.until(|| self.trim_must_end() || self.clean_is_due()).await;
            if self.trim_must_end() {
                return;
            }
            match self.clean_one().await {
                Ok(true) => {}
                Ok(false) => self.clean.exhausted_at.set(Some(self.clean_seen())),
                Err(Error::Closed | Error::Fenced(_)) => return,
                Err(error) => {
                    // Without space for copies a trim cycle, or a removal, has to make some first.
                    tracing::debug!(%error, "cleaning stops until more data is dead");
                    self.clean.exhausted_at.set(Some(self.clean_seen()));
                }
            }
            self.trim.moved.notify_all();
        }
    }

    fn clean_seen(&self) -> Seen {
        Seen { losses: self.table.losses(), cycles: self.trim.completed.get() }
    }

    /// Whether there may be something to clean.
    pub(crate) fn may_clean(&self) -> bool {
        let Progress { losses, has_stalled, .. } = self.clean.progress.get();
        let has_stalled = has_stalled && losses == self.table.losses();
        self.options.cleaning && !has_stalled && self.clean.exhausted_at.get() != Some(self.clean_seen())
    }

    /// Another victim was emptied: notes whether that brought anything.
    fn note_progress(&self) {
        let (losses, free) = (self.table.losses(), self.table.free_count());
        let mut progress = self.clean.progress.get();
        if progress.losses != losses || free > progress.free || self.clean.waiting.get() == 0 {
            progress = Progress { losses, free, victims: 0, has_stalled: false };
        } else {
            progress.victims += 1;
            let segments = usize::try_from(self.layout.segment_count()).unwrap_or(usize::MAX);
            progress.has_stalled = progress.victims >= (segments / STALL_SHARE).max(STALL_VICTIMS_MIN);
        }
        self.clean.progress.set(progress);
    }

    /// Whether cleaning may make room for a request that its live bytes leave room for.
    pub(crate) fn cleaning_may_help(&self, bytes: usize) -> bool {
        let live = self.table.live_total().max(0).cast_unsigned();
        !self.closing.get() && live + bytes as u64 <= self.usable_bytes() && self.may_clean()
    }

    /// Bytes that users may write before they have to wait for space.
    fn clean_room(&self) -> u64 {
        let free = self.table.free_count().saturating_sub(self.user_reserve()) as u64;
        free * u64::from(self.layout.segment_bytes)
    }

    fn with_policy<T>(&self, work: impl FnOnce(&mut Policy) -> T) -> T {
        let mut policy = self.clean.policy.borrow_mut();
        let policy = policy.get_or_insert_with(|| {
            let segments = self.layout.segment_count();
            let segment_bytes = u64::from(self.layout.segment_bytes);
            Policy {
                candidates: Candidates::with_seed(u64::from(self.id.0) ^ self.epoch.0),
                classes: Classes::for_segments(segments),
                pacing: Pacing::new(Levels::of(segments, segment_bytes, 0), segment_bytes),
                next: 0,
            }
        });
        work(policy)
    }

    /// Adds to the debt what users have written since it was counted last; whether the cleaner has anything to do.
    fn clean_is_due(&self) -> bool {
        if !self.may_clean() {
            return false;
        }
        if self.clean.waiting.get() > 0 {
            return true;
        }
        self.clean_debt() > 0
    }

    fn clean_debt(&self) -> u64 {
        let written = self.logged() + self.clean.written.get();
        let bytes = written.saturating_sub(self.clean.counted.replace(written));
        let free = self.clean_room();
        self.with_policy(|policy| {
            if bytes > 0 {
                self.clean.is_idle.set(false);
                policy.pacing.after_write(bytes, &Needs { free, ..Needs::default() });
            } else if self.clean.is_idle.get() {
                policy.pacing.idle(free);
            }
            policy.pacing.next(|work| work == Work::Clean).map_or(0, |(_, bytes)| bytes)
        })
    }

    /// Empties one victim. False: no segment is worth cleaning.
    async fn clean_one(self: &Rc<Self>) -> Result<bool> {
        let Some((chosen, facts)) = self.choose_victim().await else {
            self.prove_freed().await?;
            self.with_policy(|policy| policy.pacing.cancel(Work::Clean));
            return Ok(false);
        };
        let is_only_idle = self.clean.is_idle.get() && self.clean.waiting.get() == 0;
        if is_only_idle && !self.with_policy(|policy| policy.pacing.is_worth_idle(&facts)) {
            // Later it will be cheaper, or there will be need for it.
            self.clean.is_idle.set(false);
            self.with_policy(|policy| policy.pacing.cancel(Work::Clean));
            return Ok(true);
        }
        let (class, written_at) = age_of(chosen.written_at);
        let clock = Clock(self.table.clock());
        self.with_policy(|policy| {
            policy.classes.note_victim(&facts, clock);
            policy.pacing.begin_victim(&facts);
        });
        let mut victim = Victim {
            segment: chosen.segment,
            incarnation: chosen.incarnation,
            class,
            written_at,
            is_damaged: false,
            is_unread: false,
        };
        let before = self.copied();
        let result = self.evacuate(&mut victim).await;
        let after = self.copied();
        self.with_policy(|policy| policy.pacing.end_victim());
        result?;
        match self.table.live_of(victim.segment, victim.incarnation) {
            Some(live) if live > 0 => {
                self.clean.stuck.borrow_mut().push((victim.segment, victim.incarnation, live));
            }
            _ => {
                self.counters.count(|stats| stats.segments_cleaned += 1);
                seabed_types::reached!(SegmentCleaned);
            }
        }
        if victim.is_damaged {
            self.table.quarantine(victim.segment);
        }
        self.note_progress();
        self.clean.unproven.set(self.clean.unproven.get() + 1);
        if self.clean.unproven.get() >= VICTIMS_UNPROVEN {
            self.prove_freed().await?;
        }
        // Whatever was estimated: nothing is gained by going on with a victim as full as this one.
        if self.note_cost(after.0 - before.0, after.1 - before.1) {
            return Ok(true);
        }
        self.prove_freed().await?;
        Ok(false)
    }

    /// Bytes that the cleaner has written, and live bytes that it has copied.
    fn copied(&self) -> (u64, u64) {
        let stats = self.counters.stats.borrow();
        (stats.relocated_bytes_written, stats.bytes_relocated)
    }

    /// Learns what copies cost; whether a victim for which so much was written was worth it.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn note_cost(&self, written: u64, live: u64) -> bool {
        if live > 0 {
            let (ratio, known) = (written as f64 / live as f64, self.clean.cost_ratio.get());
            let mean = if known > 0.0 { known + (ratio - known) * NEWEST_SHARE } else { ratio };
            self.clean.cost_ratio.set(mean.min(COST_RATIO_MAX));
        }
        let segment_bytes = u64::from(self.layout.segment_bytes);
        written + self.least_gain() / 2 < segment_bytes
    }

    /// The segment that the policy cleans next; none if none is worth it.
    async fn choose_victim(&self) -> Option<(DataSegment, Facts)> {
        let segments = self.layout.segments().count();
        let windows = segments.div_ceil(SEGMENTS_AT_ONCE);
        for _ in 0..windows {
            if let Some(chosen) = self.choose_in_window(segments) {
                return Some(chosen);
            }
            if windows > 1 {
                self.machine.runtime.yield_now().await;
            }
        }
        None
    }

    fn choose_in_window(&self, segments: usize) -> Option<(DataSegment, Facts)> {
        let segment_bytes = u64::from(self.layout.segment_bytes);
        let stuck = &mut *self.clean.stuck.borrow_mut();
        stuck
            .retain(|(segment, incarnation, live)| self.table.live_of(*segment, *incarnation) == Some(*live));
        let worth = |data: &DataSegment| {
            self.is_worth_cleaning(data.live) && !stuck.iter().any(|(segment, ..)| *segment == data.segment)
        };
        let clock = Clock(self.table.clock());
        let facts_of = |data: &DataSegment| {
            let (class, written_at) = age_of(data.written_at);
            let live = if worth(data) { data.live } else { segment_bytes };
            Facts { live, written: segment_bytes, placed: Clock(written_at), class }
        };
        self.with_policy(|policy| {
            let from = policy.next;
            let to = (from + SEGMENTS_AT_ONCE).min(segments);
            policy.next = if to == segments { 0 } else { to };
            for (segment, data) in self.table.data_segments(from..to) {
                match data.filter(worth) {
                    Some(_) => policy.candidates.insert(segment.0),
                    None => drop(policy.candidates.remove(segment.0)),
                }
            }
            let full =
                Facts { live: segment_bytes, written: segment_bytes, placed: clock, class: AgeClass::Fresh };
            let facts = |segment: u32| {
                self.table.data_segment(SegmentId(segment)).map_or(full, |data| facts_of(&data))
            };
            let choice = policy.candidates.choose(&DeathRate, clock, facts)?;
            let data = self.table.data_segment(SegmentId(choice.segment))?;
            Some((data, choice.facts))
        })
    }

    /// Copies the live pieces of a victim and lets their rows point to the copies.
    async fn evacuate(self: &Rc<Self>, victim: &mut Victim) -> Result<()> {
        let mut inventory = Inventory::open(self, victim.segment, victim.incarnation).await?;
        let mut held: VecDeque<(Lsn, Hold)> = VecDeque::new();
        loop {
            let is_at_end = self.evacuate_batch(victim, &mut inventory, &mut held).await?;
            if is_at_end {
                let left = self.table.live_of(victim.segment, victim.incarnation).unwrap_or(0);
                if left == 0 || inventory.is_of_records() || victim.is_damaged || victim.is_unread {
                    break;
                }
                // Its list does not name all that lives in it; its records do.
                inventory.read_records();
            }
            self.release_durable(&mut held, CHANGES_AHEAD).await?;
            self.keep_clean_pace().await?;
            if self.table.live_of(victim.segment, victim.incarnation).is_none_or(|live| live == 0) {
                break;
            }
        }
        self.release_durable(&mut held, 0).await
    }

    /// Proves the last changes of rows durable with an empty record, if callers wait for what they free: those may log
    /// nothing that would.
    async fn prove_freed(&self) -> Result<()> {
        let journal = self.journal()?;
        self.clean.unproven.set(0);
        if self.clean.waiting.get() > 0 && self.table.has_unproven() {
            let lsn = journal.touch().map_err(|error| self.not_logged(error))?;
            journal.durable(lsn).await?;
        }
        Ok(())
    }

    /// Drops the holds of copies whose rows are durable; waits until at most `count` are left.
    async fn release_durable(&self, held: &mut VecDeque<(Lsn, Hold)>, count: usize) -> Result<()> {
        let journal = self.journal()?;
        while let Some((lsn, _)) = held.front() {
            if *lsn >= journal.durable_below() {
                if held.len() <= count {
                    return Ok(());
                }
                journal.durable(*lsn).await?;
            }
            held.pop_front();
        }
        Ok(())
    }

    /// Waits until more is to be copied.
    async fn keep_clean_pace(&self) -> Result<()> {
        self.look_at_io().await;
        let goes_on = || self.trim_must_end() || self.clean.waiting.get() > 0 || self.clean_debt() > 0;
        self.trim.wake.until(goes_on).await;
        if self.trim_must_end() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Copies about a batch. True: the inventory has no more.
    async fn evacuate_batch(
        self: &Rc<Self>,
        victim: &mut Victim,
        inventory: &mut Inventory,
        held: &mut VecDeque<(Lsn, Hold)>,
    ) -> Result<bool> {
        let mut guard = OpGuard::new(self);
        let bytes_max = batch_bytes(self.options.memory_bytes) as u64;
        let (mut live, mut bytes, mut looked_up, mut is_at_end) = (Vec::new(), 0, 0, false);
        let mut known = FxHashSet::default();
        while bytes < bytes_max && looked_up < LOOKUPS_OF_BATCH && !is_at_end {
            if self.table.live_of(victim.segment, victim.incarnation).is_none() {
                return Ok(true);
            }
            let mut identities = inventory.next(LOOKUPS).await?;
            is_at_end = identities.is_empty();
            // A row whose data was written several times is listed several times, and is looked up once.
            identities.retain(|identity| known.insert(identity.clone()));
            looked_up += identities.len();
            for row in self.look_up_live(identities, victim, &mut guard).await? {
                bytes += row.pieces.iter().map(|piece| u64::from(piece.bytes)).sum::<u64>();
                live.push(row);
            }
            guard.unpin();
            self.look_at_io().await;
        }
        // All copies first, then all changes of rows: the changes share as few records of the journal as possible.
        let (mut rows, mut holds, mut bytes) = (Vec::new(), Vec::new(), 0);
        for part in self.split_to_records(live) {
            let Some(copied) = self.copy(part, victim, &mut guard).await? else { continue };
            let pieces = copied.rows.iter().flat_map(|(_, moved)| moved);
            bytes += pieces.map(|moved| u64::from(moved.piece.bytes)).sum::<u64>();
            rows.extend(copied.rows);
            holds.push(copied.hold);
        }
        if let Some(lsn) = self.redirect(rows, &mut guard).await? {
            held.extend(holds.into_iter().map(|hold| (lsn, hold)));
        }
        self.counters.count(|stats| stats.bytes_relocated += bytes);
        self.with_policy(|policy| policy.pacing.paid(Work::Clean, bytes));
        Ok(is_at_end)
    }

    /// Looks up which rows point into the victim.
    async fn look_up_live(
        self: &Rc<Self>,
        identities: Vec<Identity>,
        victim: &mut Victim,
        guard: &mut OpGuard,
    ) -> Result<Vec<LiveRow>> {
        let mut found = Vec::new();
        let mut open = identities;
        while !open.is_empty() {
            let (mut absent, mut wanted) = (Vec::new(), Vec::new());
            for identity in open {
                let pieces = self.look_at_owner(&identity, &mut wanted, |view| {
                    live_pieces(view, &identity.1, victim.segment)
                });
                match pieces {
                    Ok(pieces) if pieces.is_empty() => {}
                    Ok(pieces) => found.push(LiveRow { identity, pieces }),
                    Err(Stop::Absent) => absent.push(identity),
                    Err(Stop::Corrupt { what, .. }) => {
                        tracing::warn!(what, "a row that the cleaner looked up is damaged");
                        victim.is_unread = true;
                    }
                }
            }
            if !self.load_wanted(wanted, guard).await? {
                // Rows below a node that cannot be read stay where they are.
                victim.is_unread = true;
                break;
            }
            open = absent;
        }
        Ok(found)
    }

    /// Looks at the collection of a listed row. One that is not there any more has no rows.
    fn look_at_owner<T: Default>(
        &self,
        (pool, key): &Identity,
        wanted: &mut Vec<(CollectionId, Wanted)>,
        look: impl FnOnce(&View<'_>) -> std::result::Result<T, Stop>,
    ) -> std::result::Result<T, Stop> {
        let rows = self.rows.borrow();
        let hash = key.first_chunk().map(|hash| u32::from_be_bytes(*hash).reverse_bits());
        let collection = hash.and_then(|hash| rows.collection_of(*pool, hash));
        let Some(collection) = collection else { return Ok(T::default()) };
        let pieces = Pieces::default();
        let view = View::new(&rows, collection, &pieces);
        let result = look(&view);
        for node in view.end().0 {
            if !wanted.contains(&(collection.id, node)) {
                wanted.push((collection.id, node));
            }
        }
        result
    }

    /// Loads nodes. False: one of them cannot be read.
    async fn load_wanted(
        self: &Rc<Self>,
        wanted: Vec<(CollectionId, Wanted)>,
        guard: &mut OpGuard,
    ) -> Result<bool> {
        let mut by_collection: Vec<(CollectionId, Vec<Wanted>)> = Vec::new();
        for (id, node) in wanted {
            match by_collection.iter_mut().find(|(of, _)| *of == id) {
                Some((_, nodes)) => nodes.push(node),
                None => by_collection.push((id, vec![node])),
            }
        }
        for (id, nodes) in by_collection {
            if let Err(error) = self.load(id, nodes, guard).await {
                self.journal()?.healthy()?;
                tracing::warn!(%error, "a node that the cleaner looked up cannot be read");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Cuts rows into groups whose pieces fit a record each.
    fn split_to_records(&self, rows: Vec<LiveRow>) -> Vec<Vec<LiveRow>> {
        let max = self.copy_record_max();
        let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::new(), Taken::default());
        for LiveRow { identity, pieces } in rows {
            // Pieces of one row stay together if a record holds them all.
            for pieces in groups_of(&identity, &pieces, max) {
                if bytes.with(&identity, &pieces).record_bytes() > max && !group.is_empty() {
                    groups.push(std::mem::take(&mut group));
                    bytes = Taken::default();
                }
                bytes = bytes.with(&identity, &pieces);
                group.push(LiveRow { identity: identity.clone(), pieces });
            }
        }
        if !group.is_empty() {
            groups.push(group);
        }
        groups
    }

    /// Bytes of a record of copies.
    fn copy_record_max(&self) -> usize {
        self.layout.record_bytes_max().min(batch_bytes(self.options.memory_bytes))
    }

    /// What copying live bytes takes of a segment: with the headers of their records, as much as lists took of late.
    fn cost_of_copies(&self, live: u64) -> u64 {
        let payload = (self.copy_record_max() - BLOCK_BYTES).max(BLOCK_BYTES) as u64;
        let headers = live.div_ceil(payload) * BLOCK_BYTES as u64;
        let ratio = self.clean.cost_ratio.get();
        let as_of_late = if ratio > 0.0 { scaled(live, ratio) } else { 0 };
        (live + headers).max(as_of_late)
    }

    /// Whether emptying a segment with so many live bytes gains enough.
    fn is_worth_cleaning(&self, live: u64) -> bool {
        let segment_bytes = u64::from(self.layout.segment_bytes);
        let usable = segment_bytes.saturating_sub(3 * BLOCK_BYTES as u64);
        self.cost_of_copies(live) + self.least_gain() <= usable
    }

    /// The gain for which a segment is cleaned.
    fn least_gain(&self) -> u64 {
        (u64::from(self.layout.segment_bytes) / GAIN_SHARE).max(2 * BLOCK_BYTES as u64)
    }

    /// Copies pieces to the stream of relocated data. None: none of them can be copied.
    async fn copy(
        self: &Rc<Self>,
        rows: Vec<LiveRow>,
        victim: &mut Victim,
        guard: &mut OpGuard,
    ) -> Result<Option<Copied>> {
        if !guard.admits(0, Purpose::Clean).await? {
            // Others ran meanwhile, and the victim may have been freed and reused.
            let is_there = self.table.live_of(victim.segment, victim.incarnation).is_some();
            if !is_there {
                return Ok(None);
            }
        }
        let loaded = self.read_pieces(&rows).await;
        let mut good = Vec::with_capacity(rows.len());
        let mut verified = 0;
        for LiveRow { identity, pieces } in rows {
            let mut kept = Vec::with_capacity(pieces.len());
            for piece in pieces {
                if loaded.is_sound(&piece) {
                    kept.push(piece);
                } else {
                    self.note_unreadable(&identity, &piece, victim);
                }
                verified += piece.bytes as usize;
            }
            if !kept.is_empty() {
                good.push(LiveRow { identity, pieces: kept });
            }
            if verified >= VERIFY_BYTES {
                seabed_types::work::bytes(verified);
                verified = 0;
                self.machine.runtime.yield_io().await;
            }
        }
        if good.is_empty() {
            return Ok(None);
        }
        self.write_copies(&good, &loaded, victim).await.map(Some)
    }

    fn note_unreadable(&self, identity: &Identity, piece: &PieceRef, victim: &mut Victim) {
        victim.is_damaged = true;
        self.counters.count(|stats| stats.pieces_unreadable += 1);
        let key = identity.1.escape_ascii();
        tracing::error!(pool = identity.0.0, %key, at = %piece.at, "data is damaged; the cleaner leaves it where it is");
    }

    /// Reads pieces, several with one read where little lies between them.
    async fn read_pieces(self: &Rc<Self>, rows: &[LiveRow]) -> Loaded {
        let mut pieces: Vec<&PieceRef> = rows.iter().flat_map(|row| &row.pieces).collect();
        pieces.sort_unstable_by_key(|piece| piece.at);
        let mut ranges: Vec<(Paddr, u32)> = Vec::new();
        for piece in pieces {
            let end = piece.at.offset + piece.bytes;
            match ranges.last_mut() {
                Some((at, bytes))
                    if piece.at.offset <= at.offset + *bytes + GAP_BYTES
                        && end.saturating_sub(at.offset) <= READ_BYTES_MAX =>
                {
                    *bytes = (*bytes).max(end - at.offset);
                }
                _ => ranges.push((piece.at, piece.bytes)),
            }
        }
        let reads = ranges.into_iter().map(|(at, bytes)| async move {
            let read = self.read_covering(at, bytes).await;
            let skip = u32::try_from(at.offset as usize % BLOCK_BYTES).expect("within a block");
            (Paddr::new(at.segment, at.offset - skip), read.map(|(buf, _)| buf))
        });
        Loaded { reads: join_all(reads).await }
    }

    /// Writes one record of copies, elsewhere if its write fails, and waits until it is durable.
    async fn write_copies(
        self: &Rc<Self>,
        rows: &[LiveRow],
        loaded: &Loaded,
        victim: &Victim,
    ) -> Result<Copied> {
        struct Run<'a> {
            row: usize,
            pieces: Vec<PieceRef>,
            parts: Vec<&'a [u8]>,
        }
        let part_max = self.limits.part_bytes_max();
        let mut runs: Vec<Run<'_>> = Vec::new();
        for (row, LiveRow { pieces, .. }) in rows.iter().enumerate() {
            for piece in pieces {
                let bytes = loaded.bytes(piece).unwrap_or_default();
                let continues = |run: &&mut Run<'_>| {
                    let is_full = run.pieces.last().is_some_and(|last| last.bytes as usize == CHUNK_BYTES);
                    run.row == row
                        && is_full
                        && piece.bytes as usize <= CHUNK_BYTES
                        && (run.pieces.len() + 1) * CHUNK_BYTES <= part_max
                };
                match runs.last_mut().filter(continues) {
                    Some(run) => {
                        run.pieces.push(*piece);
                        run.parts.push(bytes);
                    }
                    None => runs.push(Run { row, pieces: vec![*piece], parts: vec![bytes] }),
                }
            }
        }
        let stream = self.stream_of(victim);
        let appends: Vec<Append<'_>> = runs
            .iter()
            .map(|run| {
                let (pool, key) = rows[run.row].identity.clone();
                let is_one_value = run.pieces.len() == 1;
                let summing = if is_one_value { Summing::Whole } else { Summing::Chunks };
                Append { what: ListedWhat::Piece { pool, key }, parts: &run.parts, summing }
            })
            .collect();
        for tries in 1.. {
            let appended = self
                .append(stream, &appends, Durability::Durable, Claimer::Clean)
                .ok_or_else(|| self.no_space())?;
            match appended.written.await {
                Ok(()) => {
                    let mut moved: Vec<(Identity, Vec<Moved>)> =
                        rows.iter().map(|row| (row.identity.clone(), Vec::new())).collect();
                    for (run, placed) in runs.iter().zip(&appended.placed) {
                        let mut to = placed.at;
                        for piece in &run.pieces {
                            moved[run.row].1.push(Moved { piece: *piece, to });
                            to = to.plus(piece.bytes);
                        }
                    }
                    return Ok(Copied { rows: moved, hold: appended.hold });
                }
                Err(error) => {
                    self.give_up_segment(&appended.hold, error);
                    if tries == WRITE_TRIES {
                        return Err(self.fence(error));
                    }
                }
            }
        }
        unreachable!("the last try returns")
    }

    /// The stream that takes copies out of a victim.
    fn stream_of(&self, victim: &Victim) -> Stream {
        match self.with_policy(|policy| policy.classes.class_for(victim.class)) {
            AgeClass::Relocated(group) => {
                Stream::Relocated { class: usize::from(group), written_at: victim.written_at }
            }
            AgeClass::Fresh | AgeClass::FreshCold => Stream::Bulk,
        }
    }

    /// Lets rows point to copies; the record of the last change. None: no row points to what was copied any more.
    async fn redirect(
        self: &Rc<Self>,
        rows: Vec<(Identity, Vec<Moved>)>,
        guard: &mut OpGuard,
    ) -> Result<Option<Lsn>> {
        let mut newest = None;
        let mut rows: VecDeque<_> = rows.into();
        let mut count = ROWS_PER_CHANGE;
        while !rows.is_empty() {
            // Rows of one collection are changed together.
            let pool = rows[0].0.0;
            let mut of: Option<CollectionId> = None;
            let (mut effects, mut wanted, mut taken, mut is_absent) =
                (Effects::default(), Vec::new(), 0, false);
            for (index, (identity, moved)) in rows.iter().take(count).enumerate() {
                let id = self.collection_of_listed(identity);
                let is_same_row = index > 0 && rows[index - 1].0 == *identity;
                if identity.0 != pool || taken > 0 && (id != of || is_same_row) {
                    break;
                }
                of = id;
                taken += 1;
                let added = self.look_at_owner(identity, &mut wanted, |view| {
                    relocate(view, &identity.1, moved, &mut effects)
                });
                match added {
                    Ok(()) => {}
                    Err(Stop::Absent) => is_absent = true,
                    Err(Stop::Corrupt { what, .. }) => {
                        tracing::warn!(what, "a row that the cleaner changes is damaged");
                    }
                }
            }
            if is_absent {
                if !self.load_wanted(wanted, guard).await? {
                    // Whatever of these rows still points to the victim stays there.
                    rows.drain(..taken);
                }
                continue;
            }
            let (Some(id), false) = (of, effects.is_empty()) else {
                rows.drain(..taken);
                continue;
            };
            let need = need_of(&effects);
            match self.journal()?.check(&need) {
                Ok(()) => {}
                Err(error) if is_too_large(&error) && count > 1 => {
                    count /= 2;
                    continue;
                }
                Err(error) => return Err(self.not_logged(error)),
            }
            if !guard.admits(need.entries, Purpose::Clean).await? {
                continue;
            }
            let wanted = self.ways_to(id, &effects)?;
            if !wanted.is_empty() {
                self.load(id, wanted, guard).await?;
                continue;
            }
            newest = Some(self.apply(id, effects, &need, SystemEffect::Relocation)?);
            seabed_types::reached!(PieceMoved);
            rows.drain(..taken);
            guard.unpin();
            self.look_at_io().await;
        }
        Ok(newest)
    }

    fn collection_of_listed(&self, (pool, key): &Identity) -> Option<CollectionId> {
        let hash = key.first_chunk().map(|hash| u32::from_be_bytes(*hash).reverse_bits())?;
        self.rows.borrow().collection_of(*pool, hash).map(|collection| collection.id)
    }
}

/// What pieces take of a record.
#[derive(Clone, Copy, Default)]
struct Taken {
    pieces: usize,
    lists: usize,
}

impl Taken {
    /// With pieces of one row more.
    fn with(self, (_, key): &Identity, pieces: &[PieceRef]) -> Self {
        let lists = self.lists + pieces.len() * (key.len() + SMALL_ENTRY_BYTES);
        let place = |before: usize, piece: &PieceRef| packed_bytes([before, piece.bytes as usize]);
        Self { pieces: pieces.iter().fold(self.pieces, place), lists }
    }

    fn record_bytes(self) -> usize {
        record_bytes_of(self.pieces, self.lists)
    }
}

/// Cuts the pieces of a row into groups that fit a record of `max` bytes; one piece always goes.
fn groups_of(identity: &Identity, pieces: &[PieceRef], max: usize) -> Vec<Vec<PieceRef>> {
    let mut groups: Vec<Vec<PieceRef>> = Vec::new();
    for piece in pieces {
        match groups.last_mut() {
            Some(group) => {
                group.push(*piece);
                if Taken::default().with(identity, group).record_bytes() > max && group.len() > 1 {
                    group.pop();
                    groups.push(vec![*piece]);
                }
            }
            None => groups.push(vec![*piece]),
        }
    }
    groups
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "an estimate"
)]
fn scaled(bytes: u64, ratio: f64) -> u64 {
    (bytes as f64 * ratio) as u64
}

/// Bits of an age that say which group of relocated data a segment belongs to, above the clock.
const GROUP_SHIFT: u32 = 61;

/// The age that a claim states for a segment of a class, and when its data was written.
pub(crate) fn age_for(class: usize, written_at: u64) -> u64 {
    let group = u64::try_from(class + 1).unwrap_or(0).min(7);
    (written_at & ((1 << GROUP_SHIFT) - 1)) | group << GROUP_SHIFT
}

/// The class and the moment that an age states.
pub(crate) fn age_of(age: u64) -> (AgeClass, u64) {
    let written_at = age & ((1 << GROUP_SHIFT) - 1);
    match u8::try_from(age >> GROUP_SHIFT).unwrap_or(0) {
        0 => (AgeClass::Fresh, written_at),
        group => (AgeClass::Relocated(group - 1), written_at),
    }
}

#[cfg(test)]
mod tests {
    use seabed_types::PoolId;

    use super::*;

    #[test]
    fn an_age_states_class_and_moment() {
        assert_eq!(age_of(77), (AgeClass::Fresh, 77));
        for class in 0..7 {
            let group = u8::try_from(class).expect("small");
            assert_eq!(age_of(age_for(class, 1 << 50)), (AgeClass::Relocated(group), 1 << 50));
        }
    }

    #[test]
    fn pieces_of_a_row_are_cut_to_the_room_of_a_record() {
        let piece = |number: u32| PieceRef {
            at: Paddr::new(SegmentId(3), number * 4096),
            bytes: 4096,
            crc: Crc(number),
        };
        let identity = (PoolId(1), vec![0; 20]);
        let pieces: Vec<_> = (0..16).map(piece).collect();
        assert_eq!(groups_of(&identity, &pieces, 1 << 20), [&pieces[..]]);
        let cut = groups_of(&identity, &pieces, 16 << 10);
        assert_eq!(cut.concat(), pieces);
        assert!(cut.iter().all(|group| group.len() <= 3), "a header and three of 4 KiB in 16 KiB");
        assert_eq!(groups_of(&identity, &pieces[..1], 100), [&pieces[..1]], "one always goes");
    }
}
