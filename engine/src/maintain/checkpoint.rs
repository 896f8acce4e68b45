//! Checkpoint: makes the state of one moment durable, so that a replay may start behind what came before.
//!
//! In one moment E: the nodes that have no image get one, the open batch is closed, and roots, tallies, id counters, live
//! bytes and P, the oldest record with a pending change, are noted. Then, in this order: images and records below E are
//! on the device; the body is written twice, in different segments; flush; slot A, flush, slot B, flush; only then the
//! images that were replaced, the old body and the window before P are given up (rules C1-C5).
//!
//! What fails to be written is written elsewhere, a slot at its own place again; a failed flush ends the mount (rule E3).
//!
//! Crash: until slot A is durable the old slots open the store with the old body, images and window, all untouched. Between
//! the slots either of them does.
//! Cost: three flushes, two copies of the body, one image per node without one.

use seabed_btree::Stop as TreeStop;
use seabed_device::{Class, Durability, WriteOpts};
use seabed_journal::{Body, BodyPart, CUTS_MAX, LogCut, PARTS_MAX, Slot, cuts_of_window};
use seabed_segment::{Layout, ListedWhat, SlotCopy, Summing};
use seabed_types::{BLOCK_BYTES, Lsn, SegmentId, TreeKind};
use std::rc::Rc;

use crate::io::streams::{Append, Hold, ImagePlaced, Stream, WRITE_TRIES};
use crate::maintain::trim::TrimMode;
use crate::mount::states_durable;
use crate::shard::mounted::Mounted;
use crate::space::segments::Claimer;
use crate::{Error, Result};

/// The most bytes of a body for a segment and for a collection, and collections that there may be in any case.
const SEGMENT_STATE_BYTES: usize = 32;
const COLLECTION_STATE_BYTES: usize = 160;
const COLLECTIONS_MIN: usize = 16;

/// The right to write the slots: a checkpoint and a statement of the log's end each build on what the other wrote.
struct SlotsTurn(Rc<Mounted>);

impl Drop for SlotsTurn {
    fn drop(&mut self) {
        self.0.slots_taken.set(false);
        self.0.slots_free.notify_all();
    }
}

/// How many collections a body has room for: each copy takes one segment, as `admit` reckons.
pub(crate) fn collections_max(layout: &Layout) -> usize {
    let segments = usize::try_from(layout.segment_count()).unwrap_or(usize::MAX);
    let room =
        (layout.segment_bytes as usize / 4 * 3).saturating_sub(segments.saturating_mul(SEGMENT_STATE_BYTES));
    (room / COLLECTION_STATE_BYTES).max(COLLECTIONS_MIN)
}

/// The outcome of an attempt to write a checkpoint.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Checkpointed {
    /// Both slots name it.
    Written,
    /// There is no space for its images or its body; the checkpoint before stays the newest.
    NoSpace,
}

/// A tree whose nodes in memory cannot be listed: a node that is only in memory has its parents there.
fn of_tree(stop: TreeStop) -> Error {
    match stop {
        TreeStop::Corrupt { node, what } => Error::corrupt(node.at, what),
        TreeStop::Absent(node) => Error::corrupt(node.at, "a node in memory whose parent is not"),
    }
}

/// The state at E.
struct Captured {
    cut: LogCut,
    start: Lsn,
    body: Body,
    dead: Vec<(SegmentId, u32)>,
}

impl Mounted {
    /// Writes a checkpoint, if there is space for its images and body; else the window stays.
    pub(crate) async fn checkpoint(self: &Rc<Self>, mode: TrimMode) -> Result<Checkpointed> {
        let mut captured = loop {
            let moved = self.streams.borrow().moved;
            let Some(captured) = self.capture(mode.checkpoint_claimer())? else {
                return Ok(Checkpointed::NoSpace);
            };
            self.images_written().await?;
            if self.streams.borrow().moved == moved {
                break captured;
            }
            // Images that it names have moved, because their write failed. They are counted; the next try publishes them.
            self.streams.borrow_mut().dead_uncounted.extend(captured.dead);
        };
        self.settled(captured.cut.lsn).await?;
        let (at, previous) = self.journal()?.start_of(captured.start, &captured.cut);
        captured.body.start_at = at;
        captured.body.start_previous = previous;
        let first =
            captured.body.journal.first().expect("a body names the segment that its window begins in");
        let place = (at, first.incarnation);
        let Some((parts, holds)) = self.write_body(&captured.body, mode.checkpoint_claimer()).await? else {
            // The images are there and counted; the next checkpoint that finds space for its body publishes them.
            self.streams.borrow_mut().dead_uncounted.extend(captured.dead);
            return Ok(Checkpointed::NoSpace);
        };
        if !seabed_types::seeded!(4) {
            self.flush_or_fence().await?;
        }
        let turn = self.slots_turn().await;
        let next = {
            let old = self.slot.borrow();
            let durable = self.durable_stated()?;
            Slot {
                shard: self.id,
                sequence: self.sequence.get().max(old.sequence) + 1,
                epoch: self.epoch,
                end: captured.cut.lsn,
                durable,
                cuts: cuts_of_window(&old.cuts, captured.start, place),
                body: parts,
            }
        };
        if seabed_types::seeded!(22) {
            self.table.leave_window(&self.journal()?.release_before(captured.start, at));
        }
        self.write_slots(next, mode.first_slot()).await?;
        self.rows.borrow_mut().ages.published(captured.start);
        self.table.published(&captured.dead);
        self.table.proven(captured.cut.lsn);
        drop(std::mem::replace(&mut *self.body_holds.borrow_mut(), holds));
        drop(turn);
        // Inventories of journal segments that filled up are on their way before their segments can be used for anything else.
        self.write_segment_ends();
        let released = self.journal()?.release_before(captured.start, at);
        self.table.leave_window(&released);
        self.counters.count(|stats| stats.checkpoints += 1);
        Ok(Checkpointed::Written)
    }

    /// Gives every node an image and notes the state, in one moment. None: there is no space for the images.
    fn capture(self: &Rc<Self>, claimer: Claimer) -> Result<Option<Captured>> {
        let journal = Rc::clone(self.journal()?);
        journal.healthy()?;
        let ids: Vec<_> = self.rows.borrow().collections.keys().copied().collect();
        for id in &ids {
            for tree in TreeKind::ALL {
                let nodes = {
                    let rows = self.rows.borrow();
                    let Ok(of) = rows.tree(*id, tree) else { continue };
                    of.memory_nodes(&rows.cache).map_err(of_tree)?
                };
                for node in nodes {
                    let upper = self.upper_of(*id, tree, node.level, &node.lower);
                    let bounds = (node.level, node.lower.as_slice(), upper.as_deref());
                    match self.place_image(*id, tree, bounds, node.ptr, claimer) {
                        ImagePlaced::Yes | ImagePlaced::Gone => {}
                        ImagePlaced::NoSpace => return Ok(None),
                    }
                }
            }
        }
        self.note_released();
        let cut = journal.cut();
        let rows = self.rows.borrow();
        let streams = &mut *self.streams.borrow_mut();
        let node_bytes = self.layout.node_bytes;
        for image in streams.unpublished.drain() {
            self.table.plus(image.at.segment, node_bytes);
            self.table.unhold(image.at.segment);
        }
        let mut dead = std::mem::take(&mut streams.dead_uncounted);
        for image in streams.dead.drain(..) {
            self.table.minus_unpublished(image.at.segment, node_bytes);
            dead.push((image.at.segment, node_bytes));
        }
        let oldest = rows.ages.oldest().filter(|_| !seabed_types::seeded!(25));
        let start = oldest.unwrap_or(cut.lsn).min(cut.lsn);
        let begins_before =
            |next: Option<&seabed_journal::JournalSegment>| next.is_some_and(|next| next.first <= start);
        let segments = &cut.segments;
        let passed = (0..segments.len()).take_while(|index| begins_before(segments.get(index + 1))).count();
        let body = Body {
            end: cut.lsn,
            epoch: self.epoch,
            start,
            clock: self.table.clock(),
            journal: segments[passed..if seabed_types::seeded!(20) { passed + 1 } else { segments.len() }]
                .to_vec(),
            next: cut.next,
            collections: rows.collections.values().map(crate::rows::Collection::state).collect(),
            segments: self.table.states(),
            ..Body::default()
        };
        Ok(Some(Captured { cut, start, body, dead }))
    }

    /// The end of the interval of a leaf without an image; other levels need none.
    fn upper_of(
        &self,
        id: seabed_journal::CollectionId,
        tree: TreeKind,
        level: u8,
        lower: &[u8],
    ) -> Option<Vec<u8>> {
        if level > 0 {
            return None;
        }
        let rows = self.rows.borrow();
        let leaf = rows.tree(id, tree).ok()?.leaf_of(&rows.cache, lower);
        leaf.expect("a node without an image has its parents in memory").and_then(|leaf| leaf.upper)
    }

    /// Writes a body twice, in different segments. None: no space.
    async fn write_body(
        self: &Rc<Self>,
        body: &Body,
        claimer: Claimer,
    ) -> Result<Option<([Vec<BodyPart>; 2], Vec<Hold>)>> {
        let bytes = body.encode();
        let part_bytes = self.layout.record_bytes_max() - 2 * BLOCK_BYTES;
        assert!(bytes.len().div_ceil(part_bytes) <= PARTS_MAX, "a body is bounded by the number of segments");
        let mut holds = Vec::new();
        let mut copies = [Vec::new(), Vec::new()];
        for (copy, stream) in copies.iter_mut().zip([Stream::Nodes, Stream::Bulk]) {
            for (index, part) in (0..).zip(bytes.chunks(part_bytes)) {
                let what = ListedWhat::Body { lsn: body.end, index };
                let piece = [Append { what, parts: &[part], summing: Summing::Whole }];
                let Some((part, hold)) = self.write_part(stream, &piece, claimer).await? else {
                    return Ok(None);
                };
                copy.push(part);
                holds.push(hold);
            }
        }
        if seabed_types::seeded!(24) {
            let [first, second] = &mut copies;
            second.clone_from(first);
        }
        Ok(Some((copies, holds)))
    }

    /// Writes a part of a body, elsewhere if its write fails. None: no space.
    async fn write_part(
        self: &Rc<Self>,
        stream: Stream,
        piece: &[Append<'_>; 1],
        claimer: Claimer,
    ) -> Result<Option<(BodyPart, Hold)>> {
        for tries in 1.. {
            let appended = self.append(stream, piece, Durability::Cached, claimer);
            let Some(appended) = appended else { return Ok(None) };
            match appended.written.await {
                Ok(()) => {
                    let placed = &appended.placed[0];
                    let bytes = u32::try_from(piece[0].bytes()).expect("within a record");
                    let part = BodyPart { at: placed.at, bytes, crc: placed.crcs[0] };
                    return Ok(Some((part, appended.hold)));
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

    /// What a slot that is written now may state of the log: all records below are durable by themselves. 0 in stores whose
    /// format has no such statement.
    fn durable_stated(&self) -> Result<Lsn> {
        if !states_durable(&self.superblock) {
            return Ok(Lsn(0));
        }
        let journal = self.journal()?;
        Ok(if seabed_types::seeded!(75) { journal.next_lsn() } else { journal.durable_below() })
    }

    /// States in both slots up to where the log is durable, if they do not say so already (rule C10). Nothing else changes:
    /// either slot opens the store as before, and one that is torn leaves the other.
    ///
    /// Called when the log rests: at the end of a close, and once per idle period.
    pub(crate) async fn state_end(self: &Rc<Self>) -> Result<()> {
        let turn = self.slots_turn().await;
        self.journal()?.healthy()?;
        let durable = self.durable_stated()?;
        let old = self.slot.borrow().clone();
        if old.durable < durable {
            seabed_types::reached!(EndStated);
            let sequence = self.sequence.get().max(old.sequence) + 1;
            self.write_slots(Slot { sequence, durable, ..old }, SlotCopy::A).await?;
        }
        drop(turn);
        Ok(())
    }

    /// Waits until nothing else writes the slots, and keeps others from it until the returned turn is dropped.
    async fn slots_turn(self: &Rc<Self>) -> SlotsTurn {
        self.slots_free.until(|| !self.slots_taken.get()).await;
        self.slots_taken.set(true);
        SlotsTurn(Rc::clone(self))
    }

    /// Writes both slots, `first` before the other, a flush after each.
    pub(crate) async fn write_slots(self: &Rc<Self>, slot: Slot, first: SlotCopy) -> Result<()> {
        // Of the copy that is written nobody knows what is on the medium before its flush.
        self.sure_slot.set(Some(first.other()));
        self.write_slot(&slot, first).await?;
        *self.durable_slot.borrow_mut() = slot.clone();
        *self.slot.borrow_mut() = slot.clone();
        self.sure_slot.set(Some(first));
        self.write_slot(&slot, first.other()).await?;
        self.sure_slot.set(None);
        Ok(())
    }

    /// Writes one slot and flushes.
    pub(crate) async fn write_slot(&self, slot: &Slot, copy: SlotCopy) -> Result<()> {
        if slot.cuts.len() > CUTS_MAX {
            return Err(self.no_space());
        }
        self.sequence.set(self.sequence.get().max(slot.sequence));
        let mut buf = self.machine.device.alloc(BLOCK_BYTES);
        buf.copy_from_slice(&slot.encode(&self.identity));
        let buf = Rc::new(buf);
        let opts = WriteOpts { durability: Durability::Cached, class: Class::Background, stream: 0 };
        let at = self.layout.slot(self.id, copy);
        for tries in 1.. {
            // A slot has no other place. A write may be repeated; a flush may not (rule E3).
            match self.machine.device.write(at, Rc::clone(&buf), opts).await {
                Ok(()) => break,
                Err(error) if tries == WRITE_TRIES => return Err(self.fence(error)),
                Err(error) => {
                    seabed_types::reached!(SlotAgain);
                    tracing::warn!(%error, "a checkpoint slot is written again");
                }
            }
        }
        if seabed_types::seeded!(21) {
            return Ok(());
        }
        self.flush_or_fence().await
    }

    async fn flush_or_fence(&self) -> Result<()> {
        match self.machine.device.flush().await {
            Err(error) if !seabed_types::seeded!(35) => Err(self.fence(error)),
            _ => Ok(()),
        }
    }
}
