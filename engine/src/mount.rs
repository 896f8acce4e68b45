//! Mount: from two slots to a shard that serves.
//!
//! 1. Of the valid slots the newer counts; evidence of where the log must reach is taken from both.
//! 2. Its body, either copy.
//! 3. The journal from P on: every delta becomes pending; from E on live bytes and tallies are added up, and new collections
//!    appear.
//! 4. Flush: what was read may have been only in the device's cache.
//! 5. If the window is a quarter over its size or the slots would hold over 32 cuts: trim, logging nothing, and a checkpoint,
//!    with the new epoch and head in its slots; else the old body's slots again with those.
//! 6. Serve. If the window is over three quarters full, trimming begins at once; until it has moved the window's start
//!    transactions wait, as they would have before. So what a mount takes follows from the window, not from how many
//!    leaves its changes lie in. Each crash in this lengthens the window by what was logged again, up to that quarter.
//!
//! **In place.** After a failed record, flush, or write that found no other place, the shard mounts itself again while it is
//! open ([`Mounted::in_place`]; who decides that is `shard`). The same steps, but memory knows more than the device tells:
//! - the slot that counts is the last one of which a copy is known to be durable, and the other copy is written first: what
//!   is read back after a failed flush need not be on the medium (rule E3);
//! - the log ends after the last record known to be durable, whatever stands behind (rule E1); numbers, incarnations and
//!   quarantines are taken over;
//! - the log goes on in a fresh segment, so that nothing is written where the failed write went, and the cut leads a replay
//!   there. Only if no segment is free it goes on where it ended;
//! - nothing is claimed but what was free for the mount before, until both slots name the new head and nobody reads for
//!   that mount any more: what failed and queued records refer to stays as it is (`table`).
//!
//! Nothing is written before step 4, which first completes the copies of the superblock if any are missing (`superblocks`), nor
//! anything else before step 5, and both are idempotent: a crash in them is mounted the same way. A read-only mount ends
//! after the flush of step 4, and writes nothing.
//!
//! Cost: two slots, one body, the window, and the nodes that list removed pools are read; before it serves, the first and the
//! last block of every segment outside the window, 64 segments at a time. Memory: the pending changes of the window.

pub(crate) mod format;
pub(crate) mod superblocks;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use futures::future::join_all;
use seabed_device::{Class, Device, Durability, Machine, WriteOpts};
use seabed_journal::{
    Begin, Body, ChangeRef, CollectionId, CollectionState, Cut, EntryRef, FIRST_VERSION_DURABLE, Journal,
    JournalSegment, JournalStart, Place, ScanEnd, Slot, Space, Tally, cuts_from, scan,
};
use seabed_object::Change;
use seabed_segment::{RecordHeader, SEGMENT_HEADER_BYTES, SealBlock, SegmentHeader, SlotCopy, Superblock};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Lsn, Malformed, Paddr, PoolId, SegmentId, ShardId, Term};

use crate::io::mount_device::MountDevice;
use crate::io::streams::Hold;
use crate::maintain::checkpoint::Checkpointed;
use crate::maintain::trim::TrimMode;
use crate::operate::put::Streaming;
use crate::options::{Access, ShardOptions};
use crate::rows::{Collection, Rows, slot as tree_slot};
use crate::shard::mounted::{MountReport, Mounted, Parts};
use crate::shard::request::{Applied, Settling};
use crate::space::segments::SegmentTable;
use crate::stats::Counters;
use crate::{Error, Result};

/// Headers of segments that a mount reads at once.
const HEADERS_AT_ONCE: usize = 64;
/// How often a read of a slot or body is tried in all.
const READ_TRIES: usize = 3;
/// Memory of one pending change that a replay can always have, whatever the budget.
const REPLAY_MEMORY_MIN: usize = 1 << 20;

/// The slots of a shard as they were found.
struct Found {
    newest: Slot,
    /// The copy to write first: the invalid or older one.
    older: SlotCopy,
    /// All records below this were durable.
    proven: Lsn,
    epoch: Epoch,
}

/// What a replay builds.
struct Replay {
    rows: Rows,
    table: Rc<SegmentTable>,
    end: Lsn,
    places: VecDeque<Place>,
    logged: u64,
}

impl Rows {
    /// Numbers that the mount before gave out are not given out again, whether the log knows of them or not. A removal of a pool
    /// is known from the mount before if its record, below `durable`, was durable; else it is carried out again.
    fn inherit(&mut self, before: &Self, durable: Lsn) {
        for (id, collection) in &mut self.collections {
            if let Some(before) = before.collections.get(id) {
                collection.next_id = collection.next_id.max(before.next_id);
                collection.removed_in = before.removed_in.filter(|lsn| *lsn < durable);
            }
        }
    }

    pub(crate) fn add_collection(&mut self, id: CollectionId, term: Term) {
        let state = CollectionState { id, term, next_id: 1, tally: Tally::default(), roots: [None; 3] };
        self.collections.insert(id, Collection::new(&state, self.node_bytes));
    }
}

impl Replay {
    fn record(&mut self, header: &RecordHeader, entries: &[u8]) -> std::result::Result<(), Malformed> {
        let lsn = Lsn(header.place.number);
        self.table.proven(lsn);
        self.places.push_back(Place { at: header.at, crc: header.crc });
        self.logged += u64::from(header.record_bytes);
        let counts = lsn >= self.end || seabed_types::seeded!(19);
        let mut failed = None;
        EntryRef::decode_all(entries, |entry| {
            if failed.is_none() {
                failed = self.entry(lsn, counts, &entry).err();
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn entry(&mut self, lsn: Lsn, counts: bool, entry: &EntryRef<'_>) -> std::result::Result<(), Malformed> {
        let bad = |what| Malformed { what, offset: 0 };
        match entry {
            EntryRef::Delta(delta) => {
                let hash = delta.key.get(..4).and_then(|hash| hash.try_into().ok()).map(u32::from_be_bytes);
                let hash = hash.ok_or(bad("a delta's key without a hash"))?;
                let id = self.rows.collection_of(delta.pool, hash.reverse_bits()).map(|found| found.id);
                let id = id.ok_or(bad("a delta of a collection that is not there"))?;
                let change = match delta.change {
                    ChangeRef::Set(value) => Change::Set(value.to_vec()),
                    ChangeRef::Patch(patch) => Change::Patch(patch.to_vec()),
                    ChangeRef::Gone => Change::Gone,
                };
                let Rows { collections, ages, .. } = &mut self.rows;
                let collection = collections.get_mut(&id).expect("found above");
                collection.pending[tree_slot(delta.tree)].add(delta.key, change, lsn, ages)
            }
            EntryRef::NewCollection { collection, term } => {
                if !self.rows.collections.contains_key(collection) {
                    self.rows.add_collection(*collection, *term);
                }
                Ok(())
            }
            _ if !counts => Ok(()),
            EntryRef::Live(changes) => {
                for (segment, change) in changes {
                    let known = if *change < 0 {
                        let bytes = change.unsigned_abs();
                        // The last record's minuses are believed once the new head is durable (rule L7).
                        self.table.replay_minus(*segment, bytes, lsn)
                    } else {
                        self.table.replay_live(*segment, *change)
                    };
                    if !known {
                        return Err(bad("live bytes of a segment that is not there"));
                    }
                }
                Ok(())
            }
            EntryRef::Tally { collection, next_id, change } => {
                let found = self.rows.collections.get_mut(collection);
                let found = found.ok_or(bad("a tally of a collection that is not there"))?;
                found.tally.add(change);
                found.next_id = found.next_id.max(if seabed_types::seeded!(46) { 0 } else { *next_id });
                Ok(())
            }
            EntryRef::Claim { segment, incarnation, stream, age } => {
                self.table.replay_claim(*segment, *incarnation, *stream, *age);
                Ok(())
            }
            EntryRef::Seal { .. } => Ok(()),
        }
    }
}

async fn read(machine: &Machine, at: u64, bytes: usize) -> Result<Vec<u8>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match machine.device.read(at, bytes, Class::Foreground).await {
            Ok(read) => return Ok(read.to_vec()),
            Err(error) if tries == READ_TRIES => return Err(error.into()),
            Err(_) => {}
        }
    }
}

async fn find_slots(machine: &Machine, superblock: &Superblock, id: ShardId) -> Result<Found> {
    let layout = superblock.layout;
    let mut slots = Vec::new();
    let mut failed = None;
    for copy in [SlotCopy::A, SlotCopy::B] {
        match read(machine, layout.slot(id, copy), BLOCK_BYTES).await {
            Ok(block) => {
                let decoded = Slot::decode(&block, &superblock.identity, id).ok();
                let known = decoded.filter(|slot| slot.is_of_version(superblock.version));
                slots.extend(known.map(|slot| (copy, slot)));
            }
            // One slot is enough.
            Err(error) => failed = Some(error),
        }
    }
    let proven = slots.iter().map(|(_, slot)| slot.proven()).max();
    let epoch = slots.iter().map(|(_, slot)| slot.epoch).max();
    let newest = slots.iter().max_by_key(|(copy, slot)| (slot.sequence, *copy == SlotCopy::A)).cloned();
    let (Some((copy, newest)), Some(proven), Some(epoch)) = (newest, proven, epoch) else {
        let at = Paddr::of_device_offset(layout.slot(id, SlotCopy::A), layout.segment_bytes);
        return Err(failed.unwrap_or(Error::corrupt(at, "both checkpoint slots are damaged")));
    };
    let older = if copy == SlotCopy::A { SlotCopy::B } else { SlotCopy::A };
    if slots.len() == 1 {
        seabed_types::reached!(OneSlot);
    }
    Ok(Found { newest, older, proven, epoch })
}

async fn read_body(machine: &Machine, superblock: &Superblock, slot: &Slot) -> Result<Body> {
    let layout = superblock.layout;
    let mut failed = Error::Corrupt { at: None, what: "the checkpoint names no body" };
    'copies: for copy in slot.body.iter().filter(|copy| !copy.is_empty()) {
        let mut bytes = Vec::new();
        for part in copy {
            if !layout.contains(part.at, u64::from(part.bytes)) {
                failed = Error::corrupt(part.at, "a checkpoint body outside the store's segments");
                continue 'copies;
            }
            let skip = part.at.offset as usize % BLOCK_BYTES;
            let at = layout.device_offset(part.at) - skip as u64;
            let read =
                match read(machine, at, (skip + part.bytes as usize).next_multiple_of(BLOCK_BYTES)).await {
                    Ok(read) => read,
                    Err(error) => {
                        failed = error;
                        continue 'copies;
                    }
                };
            let part_bytes = &read[skip..skip + part.bytes as usize];
            if Crc::of(part_bytes) != part.crc && !seabed_types::seeded!(51) {
                failed = Error::corrupt(part.at, "a checkpoint body: checksum");
                continue 'copies;
            }
            bytes.extend_from_slice(part_bytes);
        }
        match Body::decode(&bytes).and_then(|body| sound(&body, superblock).map(|()| body)) {
            Ok(body) => {
                if *copy != slot.body[0] {
                    seabed_types::reached!(SecondBody);
                }
                return Ok(body);
            }
            Err(malformed) => failed = Error::corrupt(copy[0].at, malformed.what),
        }
    }
    Err(failed)
}

/// Whether a body's addresses lie on this store.
fn sound(body: &Body, superblock: &Superblock) -> std::result::Result<(), Malformed> {
    let layout = superblock.layout;
    let node_bytes = u64::from(layout.node_bytes);
    let roots = || body.collections.iter().flat_map(|collection| collection.roots).flatten();
    let journal = body.journal.iter().map(|segment| segment.segment);
    let segments =
        journal.chain(body.next.map(|(segment, _)| segment)).chain(body.segments.iter().map(|s| s.segment));
    let sound = roots().all(|root| layout.contains(root.at, node_bytes))
        && segments.into_iter().all(|segment| layout.has_segment(segment))
        && layout.has_segment(body.start_at.segment)
        && (body.start_at.offset as usize).is_multiple_of(BLOCK_BYTES);
    if sound {
        Ok(())
    } else {
        Err(Malformed { what: "body: an address outside the store's segments", offset: 0 })
    }
}

/// What does not change from one mount of a shard to the next.
#[derive(Clone)]
pub(crate) struct Home {
    /// As the embedder gave it.
    pub(crate) machine: Machine,
    pub(crate) superblock: Superblock,
    pub(crate) id: ShardId,
    pub(crate) options: ShardOptions,
    pub(crate) counters: Rc<Counters>,
    pub(crate) streaming: Rc<Streaming>,
}

/// Where a mount begins.
struct Base {
    /// The slot that counts.
    slot: Slot,
    /// The highest sequence that a slot may have on the device.
    sequence: u64,
    /// The copy to write first: the other one is known to hold `slot`.
    first: SlotCopy,
    /// All records below this were durable.
    proven: Lsn,
    /// The log ends there, if memory knows.
    limit: Option<Lsn>,
    /// The new mount's.
    epoch: Epoch,
}

impl Home {
    fn device(&self) -> Rc<MountDevice> {
        let (device, counters) = (Rc::clone(&self.machine.device), Rc::clone(&self.counters));
        Rc::new(MountDevice { device, counters, ended: Cell::new(None) })
    }
}

impl Mounted {
    /// Mounts a shard as its slots have it, and starts its tasks.
    pub(crate) async fn open(home: &Home) -> Result<Rc<Self>> {
        let device = home.device();
        let machine = Machine {
            device: Rc::clone(&device) as Rc<dyn Device>,
            runtime: Rc::clone(&home.machine.runtime),
        };
        let found = find_slots(&machine, &home.superblock, home.id).await?;
        let base = Base {
            sequence: found.newest.sequence,
            first: found.older,
            proven: found.proven,
            limit: None,
            epoch: found.epoch.next(),
            slot: found.newest,
        };
        let shard = Self::replay(home, device, &base, None).await?;
        if !seabed_types::seeded!(74) {
            shard.mark_removed_pools().await;
        }
        match home.options.access {
            Access::ReadWrite => shard.begin(&base, None).await?,
            // What is shown survives a power cut, though it may have been in the device's cache only.
            Access::ReadOnly => shard.machine.device.flush().await?,
        }
        Ok(shard)
    }

    /// Mounts a shard again in place, after the mount `last` has ended and nothing of it is in the kernel (rule E1): from the
    /// slot that is known to be durable, up to the last record that is known to be durable, with a new head in a fresh
    /// segment. Afterwards `last` is the new mount, also if its beginning failed: what it has written by then counts.
    pub(crate) async fn in_place(home: &Home, last: &mut Rc<Self>) -> Result<()> {
        let before = &*last;
        // Its nodes are of no use to anyone any more, but for reads that go on.
        before.rows.borrow_mut().cache.shrink(0, before.durable_below());
        let base = Base {
            slot: before.durable_slot.borrow().clone(),
            sequence: before.sequence.get(),
            first: before.sure_slot.get().map_or(SlotCopy::A, SlotCopy::other),
            proven: before.durable_below(),
            limit: Some(before.durable_below()),
            epoch: before.epoch.next(),
        };
        let shard = Self::replay(home, home.device(), &base, Some(before)).await?;
        let tail = shard.begins_behind;
        *last = Rc::clone(&shard);
        shard.begin(&base, Some(tail)).await
    }

    /// Reads what there is to read, and writes nothing.
    #[expect(clippy::too_many_lines, reason = "one thing after another, each needing what came before")]
    async fn replay(
        home: &Home,
        device: Rc<MountDevice>,
        base: &Base,
        before: Option<&Rc<Self>>,
    ) -> Result<Rc<Self>> {
        let Home { superblock, id, options, .. } = home.clone();
        let machine = Machine {
            device: Rc::clone(&device) as Rc<dyn Device>,
            runtime: Rc::clone(&home.machine.runtime),
        };
        let began = machine.runtime.now();
        let layout = superblock.layout;
        let body = read_body(&machine, &superblock, &base.slot).await?;
        let mut replay = Replay {
            rows: Rows::new(layout.node_bytes as usize, &body.collections),
            table: SegmentTable::new(&layout, &body.segments),
            end: body.end,
            places: VecDeque::new(),
            logged: body.clock,
        };
        let begin = Begin {
            lsn: body.start,
            at: body.start_at,
            previous: body.start_previous,
            segments: body.journal.clone(),
            next: body.next,
            cuts: base.slot.cuts.clone(),
            proven: base.proven,
            limit: base.limit.filter(|_| !seabed_types::seeded!(58)),
        };
        let of = (Rc::clone(&machine.device), &layout, &superblock.identity, id);
        let mut end = scan(of, begin, &mut |header, entries| replay.record(header, entries))
            .await
            .map_err(|error| Error::of_scan(&error, id))?;
        let Replay { mut rows, table, places, logged, .. } = replay;
        let needed = rows.pending_bytes();
        if before.is_none() && needed > (options.memory_bytes / 2).max(REPLAY_MEMORY_MIN) {
            return Err(Error::MemoryBudget { needed: needed * 2, given: options.memory_bytes });
        }
        let corrupt = |what| Error::corrupt(body.start_at, what);
        rows.grow_rootless().map_err(corrupt)?;
        let report = MountReport {
            records: end.records,
            bytes_read: end.bytes_read,
            torn: end.torn,
            time: machine.runtime.now().saturating_sub(began),
        };
        let tail = end.at.segment;
        let next = if before.is_some() { None } else { end.next };
        table.set_window(&end.segments, tail, next);
        // A copy that is said to lie elsewhere is damaged, and not the one that was read.
        let bodies = base.slot.body.iter().flatten().filter(|part| layout.has_segment(part.at.segment));
        let bodies = bodies.filter(|_| !seabed_types::seeded!(38));
        let holds = bodies.map(|part| Hold::new(&table, part.at.segment)).collect();
        if let Some(before) = before {
            table.inherit(&before.table);
            rows.inherit(&before.rows.borrow(), before.durable_below());
        }
        table.pass_lost_uses(base.epoch.0.saturating_sub(body.epoch.0));
        table.free_all_unused();
        table.set_clock(logged);
        if before.is_some() {
            match table.claim_journal() {
                Some((segment, incarnation)) => {
                    seabed_types::reached!(FreshHead);
                    table.seal(tail);
                    end.at = Paddr::new(segment, SEGMENT_HEADER_BYTES);
                    (end.incarnation, end.next) = (incarnation, None);
                    end.segments.push(JournalSegment { segment, incarnation, first: end.lsn });
                }
                // It goes on behind its last record, as after a crash.
                None => table.set_window(&end.segments, tail, end.next),
            }
        }
        let epoch = base.epoch;
        let read_only = options.access == Access::ReadOnly;
        let applied = Rc::<Applied>::default();
        let journal = (!read_only).then(|| {
            let start = JournalStart {
                end: end.clone(),
                epoch,
                logged,
                places,
                first_place: body.start,
                previous_of_first: body.start_previous,
            };
            let settling = Settling { table: Rc::clone(&table), applied: Rc::clone(&applied) };
            let space: Rc<dyn Space> = Rc::new(settling);
            Journal::new(machine.clone(), (layout, superblock.identity, id), start, space)
        });
        let slot = Slot {
            durable: if states_durable(&superblock) { end.lsn } else { Lsn(0) },
            ..with_head(&base.slot, base.sequence, epoch, &end, body.start)
        };
        Ok(Self::new(Parts {
            machine,
            device,
            home: home.clone(),
            epoch,
            table,
            journal,
            applied,
            rows,
            slot,
            durable_slot: base.slot.clone(),
            sequence: base.sequence,
            sure_slot: base.first.other(),
            holds,
            begins_at: end.lsn,
            begins_behind: tail,
            report,
        }))
    }

    /// Makes the new epoch durable and starts to serve. `tail` is where the log of the mount before ended, if there was one.
    async fn begin(self: &Rc<Self>, base: &Base, tail: Option<SegmentId>) -> Result<()> {
        if tail.is_none() {
            self.complete_superblocks().await;
        }
        self.machine.device.flush().await?;
        match tail {
            None => {
                self.read_ends().await?;
                self.read_body_uses(&base.slot).await;
                self.void_seals().await?;
            }
            // The mount before may have sealed it with what it had only queued. A block that cannot be written has no seal.
            Some(tail) => {
                drop(self.write_zeros(tail, self.layout.segment_bytes - SEGMENT_HEADER_BYTES).await);
            }
        }
        let slot = self.slot.borrow().clone();
        let journal = Rc::clone(self.journal()?);
        let window = journal.segment_count();
        let size = self.window_segments_max();
        let is_long = tail.is_none() && window * 4 > size * 5;
        if slot.cuts.len() > seabed_journal::CUTS_MAX || is_long {
            // What the older slot still names was given up when the newer one was written, and may be claimed from here on. So
            // it first names the same as the newer one, or that would be the only one that opens the store (rules C3, S4).
            if !seabed_types::seeded!(65) {
                // With a sequence of its own, so that slots of one sequence are equal. Both with the new epoch: should a crash come before the checkpoint, or tear the slot that this writes first,
                // the next mount has a later one all the same, and gives out later incarnations than this trim.
                let sequence = base.sequence + 1;
                let same = Slot { sequence, epoch: base.epoch, ..base.slot.clone() };
                self.write_slot(&same, base.first).await?;
                *self.durable_slot.borrow_mut() = same.clone();
                self.sure_slot.set(Some(base.first));
                if !seabed_types::seeded!(69) {
                    self.write_slot(&same, base.first.other()).await?;
                }
                self.sure_slot.set(None);
            }
            seabed_types::reached!(MountTrimmed);
            let checkpointed = self.cycle(TrimMode::Mounting { first_slot: base.first }).await?;
            self.images_written().await?;
            self.leave_streams();
            if checkpointed == Checkpointed::NoSpace {
                // No space for a checkpoint. The head can be written alone if the list of cuts has room for it.
                if slot.cuts.len() > seabed_journal::CUTS_MAX {
                    return Err(self.no_space());
                }
                let sequence = self.sequence.get().max(slot.sequence) + 1;
                self.write_slots(Slot { sequence, ..slot }, base.first).await?;
                if !seabed_types::seeded!(70) {
                    self.log_claims();
                }
            }
        } else if !seabed_types::seeded!(29) {
            self.write_slots(slot, base.first).await?;
        }
        self.table.proven(self.begins_at);
        self.table.became_head();
        self.note_slack();
        // A mount in place has made the list of cuts longer: the next checkpoint makes it short again.
        if tail.is_some() || window * 4 > size * 3 {
            self.trim.force();
        }
        self.commits.set(true);
        let shard = Rc::clone(self);
        self.spawn(Class::Commit, async move {
            journal.run().await;
            // After a failed record nobody logs any more, so nobody else would tell those who wait for others to log.
            shard.commits.set(false);
            shard.wake_all();
        });
        self.spawn(Class::Background, Rc::clone(self).trim_loop());
        self.spawn(Class::Background, Rc::clone(self).graves_loop());
        if self.options.cleaning {
            self.clean.runs.set(true);
            self.spawn(Class::Background, Rc::clone(self).clean_loop());
        }
        if self.discards() {
            self.spawn(Class::Background, Rc::clone(self).discard_loop());
        }
        self.spawn(Class::Background, Rc::clone(self).idle_loop());
        Ok(())
    }

    /// Takes the seals off the segments in which the log goes on: the inventory of records that were queued when a crash cut
    /// them off may stand there, and would be taken for that of the records that come now. The slots' flush covers it before
    /// any of those is written.
    async fn void_seals(&self) -> Result<()> {
        let (segments, next) = self.journal()?.segments();
        let last_block = self.layout.segment_bytes - SEGMENT_HEADER_BYTES;
        let tail = segments.last().map(|tail| tail.segment);
        for segment in tail.into_iter().chain(next.map(|(segment, _)| segment)) {
            self.write_zeros(segment, last_block).await?;
        }
        Ok(())
    }

    async fn write_zeros(&self, segment: SegmentId, offset: u32) -> Result<()> {
        let at = self.layout.device_offset(Paddr::new(segment, offset));
        let opts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };
        let zeros = Rc::new(self.machine.device.alloc(BLOCK_BYTES));
        Ok(self.machine.device.write(at, zeros, opts).await?)
    }

    /// Learns from the headers and seals of segments of uses whose claims a crash cut off, so that none is used under the same
    /// incarnation again (rule S1). A segment that is not free now may be later.
    ///
    /// One that is torn tells nothing, and must not tell anything later: the next use's header, torn in its turn by another
    /// crash, may mend the sector that is broken in it. So of a free segment it is overwritten with zeros. A crash in between
    /// may mend it too, and the next mount learns from it: no segment is claimed before a flush has covered the zeros.
    async fn read_ends(&self) -> Result<()> {
        for segments in self.table.outside_window().chunks(HEADERS_AT_ONCE) {
            let last = self.layout.segment_bytes - u32::try_from(BLOCK_BYTES).expect("4096");
            let read = |(segment, offset): (SegmentId, u32)| {
                let at = self.layout.device_offset(Paddr::new(segment, offset));
                self.machine.device.read(at, BLOCK_BYTES, Class::Foreground)
            };
            let ends = segments.iter().flat_map(|segment| [(*segment, 0), (*segment, last)]);
            let blocks = join_all(ends.map(read)).await;
            for (segment, blocks) in segments.iter().zip(blocks.chunks(2)) {
                let block = |index: usize| blocks.get(index).and_then(|block| block.as_ref().ok());
                let identity = &self.identity;
                let header = block(0).and_then(|block| SegmentHeader::decode(block, identity, *segment).ok());
                let seal = block(1).and_then(|block| {
                    SealBlock::decode(block, identity, *segment, self.layout.segment_bytes).ok()
                });
                let found = [header.map(|(header, _)| header.incarnation), seal.map(|seal| seal.incarnation)];
                // A crash may have left the one and not the other.
                if let Some(found) = found.into_iter().flatten().max() {
                    self.table.found_use(*segment, found);
                }
                for (index, offset) in [0, last].into_iter().enumerate() {
                    let is_blank = || block(index).is_some_and(|block| block[..] == [0; BLOCK_BYTES]);
                    let is_torn = found[index].is_none() && !is_blank() && !seabed_types::seeded!(23);
                    if is_torn && self.table.is_free(*segment) {
                        seabed_types::reached!(TornHeader);
                        self.write_zeros(*segment, offset).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Learns from the records of checkpoint bodies in which use of its segment a body stands: nothing waits for the claims of
    /// those segments. What cannot be read, or lies elsewhere, tells nothing.
    async fn read_body_uses(&self, slot: &Slot) {
        for part in slot.body.iter().flatten() {
            let Some(offset) = part.at.offset.checked_sub(SEGMENT_HEADER_BYTES) else { continue };
            let at = Paddr::new(part.at.segment, offset);
            if !self.layout.contains(at, BLOCK_BYTES as u64) || !(offset as usize).is_multiple_of(BLOCK_BYTES)
            {
                continue;
            }
            let Ok(block) = read(&self.machine, self.layout.device_offset(at), BLOCK_BYTES).await else {
                continue;
            };
            if let Ok(header) = RecordHeader::decode(&block, &self.identity, &self.layout, at) {
                self.table.found_use(at.segment, header.place.incarnation);
            }
        }
    }

    /// Ends the log of an idle store with an empty record, so that nothing ambiguous stands there (rule L7), and when it has
    /// been idle for longer states in the slots where the log ends (rule C10), once per idle period.
    async fn idle_loop(self: Rc<Self>) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
        /// Pauses between the empty record and the statement: with 25, half a second. Short ones, as a close waits for one.
        const PAUSES_BEFORE_STATEMENT: u32 = 25;
        let Ok(journal) = self.journal().map(Rc::clone) else { return };
        let must_end = || self.closing.get() || journal.healthy().is_err();
        let mut proven = journal.next_lsn();
        loop {
            self.trim.wake.until(|| must_end() || journal.next_lsn() > proven).await;
            let seen = journal.next_lsn();
            self.machine.runtime.sleep(PAUSE).await;
            if must_end() {
                return;
            }
            let is_idle = seen == journal.next_lsn() && seen == journal.durable_below();
            if is_idle {
                self.clean_when_idle();
            }
            if is_idle && !journal.last_is_empty() {
                seabed_types::reached!(IdleRecord);
            }
            if is_idle && (journal.last_is_empty() && !self.table.has_unproven() || journal.touch().is_ok()) {
                proven = journal.next_lsn();
                let mut pauses = 0;
                while pauses < PAUSES_BEFORE_STATEMENT && journal.next_lsn() == proven {
                    self.machine.runtime.sleep(PAUSE).await;
                    if must_end() {
                        return;
                    }
                    pauses += 1;
                }
                // A slot that cannot be written ends the mount, as at a checkpoint.
                if journal.durable_below() == proven && self.state_end().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether the slots of a store state up to where its log was durable: from format version 3 on.
pub(crate) fn states_durable(superblock: &Superblock) -> bool {
    superblock.version >= FIRST_VERSION_DURABLE
}

/// The slot that a mount writes: the same body, the new epoch, the log's end as head. A list of cuts that is too long now is
/// made shorter by the trim that follows: none may be left out, as the log goes on elsewhere at each.
fn with_head(slot: &Slot, sequence: u64, epoch: Epoch, end: &ScanEnd, start: Lsn) -> Slot {
    let mut cuts = cuts_from(&slot.cuts, start);
    // Of cuts at one place the newest counts.
    cuts.retain(|cut| cut.lsn != end.lsn);
    let head = Cut { lsn: end.lsn, epoch, at: end.at, incarnation: end.incarnation };
    cuts.extend((!seabed_types::seeded!(27)).then_some(head));
    Slot { sequence: sequence + 1, epoch, cuts, ..slot.clone() }
}

/// The pool whose objects describe the store.
pub(crate) const SYSTEM_POOL: PoolId = PoolId(0);
