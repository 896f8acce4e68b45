//! Evacuate: the cleaner of data: copies what is live out of a segment, so that the segment becomes free.
//!
//! 1. The policy chooses a victim ([`super::clean`]).
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
//! Example: a victim of 4 MiB with 700 live chunks of 4 KiB: 700 look-ups, 2.8 MiB read, three records written, 700 changes
//! of about 45 bytes logged; 1.2 MiB is gained.
//!
//! Invariants: 1. A piece of a victim is read only while the reading operation is counted as running, so that its address
//! is not reused. 2. The segment of a copy is held until the record that points to it is durable (rule S3).
//! Crash: a copy that no durable record points to is garbage in its segment; the row still points to the old place, whose
//! segment has not been freed.
//! Cost: per live chunk one look-up, one read, one write and about 45 bytes of journal. Memory: of a batch of
//! copies its record and twice as much that is read for it ([`batch_bytes`]), the nodes of its rows.
//! Not here: when, and which segment (`clean`); reading and writing pieces (`copies`); images of nodes (`compact_nodes`).

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashSet;
use seabed_cleaner::Work;
use seabed_journal::CollectionId;
use seabed_object::{Effects, Moved, Stop, live_pieces, relocate};
use seabed_types::Lsn;

use crate::Result;
use crate::io::inventory::{Identity, Inventory};
use crate::io::streams::Hold;
use crate::maintain::admit::Purpose;
use crate::maintain::clean::Victim;
use crate::maintain::copies::{LiveRow, batch_bytes};
use crate::operate::submit::{Applied, SystemEffect};
use crate::rows::view::{Pieces, View, Wanted};
use crate::shard::mounted::{Mounted, OpGuard};

/// Rows that are looked up at a time, and in all for one batch.
const LOOKUPS: usize = 128;
const LOOKUPS_OF_BATCH: usize = 8 * LOOKUPS;
/// Rows that are changed in one moment at most.
const ROWS_PER_CHANGE: usize = 64;
/// Records of changes whose copies are still held, at most.
const CHANGES_AHEAD: usize = 4;

impl Mounted {
    /// Copies the live pieces of a victim and lets their rows point to the copies.
    pub(super) async fn evacuate(self: &Rc<Self>, victim: &mut Victim) -> Result<()> {
        let mut inventory = Inventory::open(self, victim.segment, victim.incarnation).await?;
        let mut held: VecDeque<(Lsn, Hold)> = VecDeque::new();
        loop {
            let is_at_end = self.evacuate_batch(victim, &mut inventory, &mut held).await?;
            if is_at_end {
                let left = self.table.live_of(victim.segment, victim.incarnation).unwrap_or(0);
                if left == 0 || inventory.is_of_records() || victim.is_damaged.get() || victim.is_unread {
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
            let (found, rest) = self.look_up_live(identities, bytes_max - bytes, victim, &mut guard).await?;
            inventory.put_back(rest);
            bytes += found.iter().map(LiveRow::bytes).sum::<u64>();
            live.extend(found);
            guard.unpin();
            self.look_at_io().await;
        }
        // Others may run while it waits for space, and the victim may be freed and reused.
        while !guard.admits(0, Purpose::Clean).await? {
            if self.table.live_of(victim.segment, victim.incarnation).is_none() {
                return Ok(true);
            }
        }
        // All copies first, then all changes of rows: the changes share as few records of the journal as possible.
        let (mut rows, mut holds, mut bytes) = (Vec::new(), Vec::new(), 0);
        for copied in self.copy(live, victim).await? {
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
        self.trim.moved.notify_all();
        Ok(is_at_end)
    }

    /// Looks up which rows point into the victim, until their pieces are `bytes_max`; what was not looked up for that.
    async fn look_up_live(
        self: &Rc<Self>,
        identities: Vec<Identity>,
        bytes_max: u64,
        victim: &mut Victim,
        guard: &mut OpGuard,
    ) -> Result<(Vec<LiveRow>, Vec<Identity>)> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut open = identities;
        while !open.is_empty() {
            let (mut absent, mut wanted) = (Vec::new(), Vec::new());
            let mut left = open.into_iter();
            while bytes < bytes_max
                && let Some(identity) = left.next()
            {
                let pieces = self.look_at_owner(&identity, &mut wanted, |view| {
                    live_pieces(view, &identity.1, victim.segment)
                });
                match pieces {
                    Ok(pieces) if pieces.is_empty() => {}
                    Ok(pieces) => {
                        let row = LiveRow { identity, pieces };
                        bytes += row.bytes();
                        found.push(row);
                    }
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
            open.extend(left);
            if bytes >= bytes_max {
                return Ok((found, open));
            }
        }
        Ok((found, Vec::new()))
    }

    /// Looks at the collection of a listed row. One that is not there any more has no rows.
    fn look_at_owner<T: Default>(
        &self,
        (pool, key): &Identity,
        wanted: &mut Vec<(CollectionId, Wanted)>,
        look: impl FnOnce(&View<'_>) -> std::result::Result<T, Stop>,
    ) -> std::result::Result<T, Stop> {
        let rows = self.rows.borrow();
        let Some(collection) = rows.collection_of_key(*pool, key) else { return Ok(T::default()) };
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
                let id = {
                    let rows = self.rows.borrow();
                    rows.collection_of_key(identity.0, &identity.1).map(|collection| collection.id)
                };
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
            match self.try_apply(id, effects, (Purpose::Clean, SystemEffect::Relocation), guard).await? {
                Applied::In(lsn) => {
                    newest = Some(lsn);
                    seabed_types::reached!(PieceMoved);
                    rows.drain(..taken);
                    guard.unpin();
                    self.look_at_io().await;
                }
                Applied::Outdated => {}
                Applied::TooLarge(_) if count > 1 => count /= 2,
                Applied::TooLarge(error) => return Err(self.not_logged(error)),
            }
        }
        Ok(newest)
    }
}
