//! Trim: moves the window's start on, a little with every transaction.
//!
//! A cycle begins when half a window was logged since the last one began. It notes the next lsn and handles each leaf with a
//! pending change older than that: it logs those changes again (no load, no node space), until the bytes logged again since
//! the leaf's image would pass a node; then it writes the leaf. After the last leaf comes a checkpoint. The cycle goes as
//! fast as the log grows, so that it ends when half a window was logged again, and never waits for itself: it runs ahead
//! when the pending changes or the nodes without an image take too much memory, or when somebody waits for space.
//!
//! A node that cannot be read, or that the nodes above it do not agree with, keeps its changes pending: each cycle logs them
//! again. So one bad block ends nothing but what needs it.
//!
//! Invariants: 1. a cycle leaves no pending change older than its beginning, or it has no node space for one (rule S6).
//! 2. A mount that trims before it serves logs nothing.
//! Cost: per leaf one record entry or one image. Limits: pending bytes a quarter of the window and an eighth of the memory: who
//! would pass that waits (`admit`).

use std::cell::{Cell, RefCell};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use seabed_btree::{Leaf, Stop as TreeStop};
use seabed_device::local::Notify;
use seabed_journal::entry::delta_bytes_max;
use seabed_journal::{CollectionId, Need};
use seabed_object::Change;
use seabed_segment::SlotCopy;
use seabed_types::{Lsn, NodePtr, TreeKind};

use crate::io::streams::ImagePlaced;
use crate::maintain::checkpoint::Checkpointed;
use crate::maintain::packing::Slack;
use crate::operate::submit::change_ref;
use crate::rows::pending::Key;
use crate::rows::view::Wanted;
use crate::rows::{Gone, slot};
use crate::shard::mounted::{Mounted, OpGuard};
use crate::space::segments::Claimer;
use crate::{Error, Result};

/// How many leaves, and how much work, trimming does before it lets others run.
const LEAVES_AT_ONCE: u32 = 8;
const WORK_AT_ONCE: Duration = Duration::from_micros(50);

/// Where trimming stands.
pub(crate) struct TrimState {
    /// Somebody logged, or wants a cycle.
    pub(crate) wake: Notify,
    /// The record that those who wait were told of.
    told: Cell<Lsn>,
    /// Leaves handled, and when, since I/O was last looked at.
    since_io: Cell<(u32, Duration)>,
    /// A cycle ended.
    pub(crate) moved: Notify,
    /// A record of images was written.
    pub(crate) images: Notify,
    /// Cycles begun and completed.
    pub(crate) begun: Cell<u64>,
    pub(crate) completed: Cell<u64>,
    forced: Cell<bool>,
    /// A removal waits for space: the next cycle moves images together.
    pub(crate) is_for_space: Cell<bool>,
    /// What is to stay free for that, as of the last cycle's end.
    pub(crate) slack: Cell<Slack>,
    /// The last cycle could not give it back: removals need not wait for it.
    pub(crate) lacks_slack: Cell<bool>,
    /// The cycle is there to free memory, so it writes leaves and logs nothing again.
    writes_only: Cell<bool>,
    /// Bytes logged when the cycle began.
    begun_at: Cell<u64>,
    /// Bytes logged again by leaf since its image.
    pub(crate) logged_again: RefCell<FxHashMap<NodePtr, usize>>,
    /// The table's losses when it was found that nothing more can be freed.
    pub(crate) exhausted_at: Cell<Option<u64>>,
    /// The last cycle did not get all it needed: a leaf or the checkpoint found no space.
    pub(crate) without_space: Cell<bool>,
    /// The table's losses and free segments when it ended.
    ended_at: Cell<(u64, usize)>,
}

/// What a trim cycle, with its checkpoint, is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TrimMode {
    /// The shard serves.
    Serving,
    /// A mount shortens its window before it serves: it logs nothing, waits for no turn, and its checkpoint writes this slot
    /// first.
    Mounting {
        /// The copy that does not hold the slot that counts.
        first_slot: SlotCopy,
    },
}

impl TrimMode {
    const fn is_serving(self) -> bool {
        match self {
            Self::Serving => true,
            Self::Mounting { .. } => false,
        }
    }

    const fn trim_claimer(self) -> Claimer {
        match self {
            Self::Serving => Claimer::Trim,
            Self::Mounting { .. } => Claimer::MountTrim,
        }
    }

    /// The claimer for the checkpoint's images and body.
    pub(crate) const fn checkpoint_claimer(self) -> Claimer {
        match self {
            Self::Serving => Claimer::Checkpoint,
            Self::Mounting { .. } => Claimer::MountCheckpoint,
        }
    }

    /// The slot that the checkpoint writes first.
    pub(crate) const fn first_slot(self) -> SlotCopy {
        match self {
            Self::Serving => SlotCopy::A,
            Self::Mounting { first_slot } => first_slot,
        }
    }
}

impl Default for TrimState {
    fn default() -> Self {
        Self {
            wake: Notify::default(),
            told: Cell::new(Lsn(u64::MAX)),
            since_io: Cell::default(),
            moved: Notify::default(),
            images: Notify::default(),
            begun: Cell::new(0),
            completed: Cell::new(0),
            forced: Cell::new(false),
            is_for_space: Cell::new(false),
            slack: Cell::default(),
            lacks_slack: Cell::new(false),
            writes_only: Cell::new(false),
            begun_at: Cell::new(0),
            logged_again: RefCell::default(),
            exhausted_at: Cell::new(None),
            without_space: Cell::new(false),
            ended_at: Cell::new((0, 0)),
        }
    }
}

impl TrimState {
    /// Something joined record `lsn`. Who waits looks once a record: waking costs more than most of what joins.
    pub(crate) fn joined(&self, lsn: Lsn) {
        if self.told.replace(lsn) != lsn {
            self.wake.notify_all();
        }
    }

    /// Asks for a cycle as soon as possible.
    pub(crate) fn force(&self) {
        self.forced.set(true);
        self.wake.notify_all();
    }
}

/// What is to be done with a leaf.
enum Step {
    /// It is done; the next leaf begins here. How many pending changes it had.
    Done(Bound<Key>, usize),
    /// This must be in memory first.
    Load(NodePtr),
    /// A node on the way to it is damaged.
    Corrupt(seabed_types::Paddr, &'static str),
    /// There is no space for its image.
    NoSpace,
    /// The shard does not have the collection any more.
    Gone,
}

/// A cycle: what it is part of, and the oldest record whose pending changes it leaves.
#[derive(Clone, Copy)]
struct Cycle {
    mode: TrimMode,
    first: Lsn,
}

impl Mounted {
    /// The task that trims while the shard serves.
    pub(crate) async fn trim_loop(self: Rc<Self>) {
        loop {
            self.trim.wake.until(|| self.trim_must_end() || self.trim_is_due()).await;
            if self.trim_must_end() {
                return;
            }
            if let Err(error) = self.cycle(TrimMode::Serving).await {
                if !self.trim_must_end() {
                    tracing::error!(%error, "trimming failed");
                    self.fence_by(&error);
                }
                return;
            }
        }
    }

    /// An error that trimming met ends the shard: what it could not read or write is part of every later checkpoint.
    fn fence_by(&self, error: &Error) {
        self.fence(error.fence_cause("trimming failed"));
    }

    pub(crate) fn trim_must_end(&self) -> bool {
        self.is_ending() || self.journal.as_ref().is_none_or(|journal| journal.healthy().is_err())
    }

    /// Half a window, in bytes.
    fn cycle_bytes(&self) -> u64 {
        self.window_bytes_max() as u64 / 2
    }

    pub(crate) fn logged(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.logged())
    }

    /// Whether pending changes or nodes without an image take too much: three quarters of the bytes for which transactions
    /// wait, so that they seldom do.
    fn lacks_memory(&self) -> bool {
        let rows = self.rows.borrow();
        let nodes_max = (self.options.memory_bytes / 8).max(16 * rows.node_bytes);
        rows.pending_bytes() > self.pending_bytes_max() / 4 * 3
            || rows.cache.memory_nodes() * rows.node_bytes > nodes_max
    }

    /// Whether a cycle is to end soon: for memory, or because a replay would come to need too much.
    fn is_pressed(&self) -> bool {
        self.lacks_memory() || self.rows.borrow().replay_bytes() > self.replay_bytes_max() / 4 * 3
    }

    /// Whether a cycle may find space where the last one found none.
    fn may_find_space(&self) -> bool {
        !self.trim.without_space.get() || self.trim.ended_at.get() != self.space_seen()
    }

    fn space_seen(&self) -> (u64, usize) {
        (self.table.losses(), self.table.free_count())
    }

    fn trim_is_due(&self) -> bool {
        self.trim.forced.get()
            || self.logged() - self.trim.begun_at.get() >= self.cycle_bytes()
            || self.is_pressed() && self.may_find_space()
    }

    /// One cycle and its checkpoint.
    pub(crate) async fn cycle(self: &Rc<Self>, mode: TrimMode) -> Result<Checkpointed> {
        let forced = self.trim.forced.replace(false);
        let is_for_space = self.trim.is_for_space.replace(false);
        self.trim.writes_only.set(self.lacks_memory());
        self.trim.begun.set(self.trim.begun.get() + 1);
        let first = self.journal()?.next_lsn();
        let cycle = Cycle { mode, first };
        let begun_at = self.logged();
        self.trim.begun_at.set(begun_at);
        let ids: Vec<CollectionId> = self.rows.borrow().collections.keys().copied().collect();
        let total: usize = ids.iter().map(|id| self.pending_rows(*id)).sum();
        let mut handled = 0;
        let mut full = false;
        for id in ids {
            for tree in TreeKind::ALL {
                let mut from = Bound::Unbounded;
                while let Some(key) = self.next_old(id, tree, &from, first) {
                    let rows;
                    (from, rows) = self.trim_leaf(id, tree, &key, cycle, &mut full).await?;
                    handled += rows;
                    if self.trim.writes_only.get() {
                        self.trim.moved.notify_all();
                    }
                    // Without node space as few records as possible are to hold what is logged again.
                    if !full {
                        self.keep_pace(mode, forced, handled, total, begun_at).await?;
                    }
                }
            }
        }
        let is_short = is_for_space || full || self.lacks_moving_room();
        if is_short && mode.is_serving() {
            self.compact_nodes(full).await?;
        }
        // What was logged again may have filled segments of the journal; held, they could not become free.
        self.write_segment_ends();
        let checkpointed = self.checkpoint(mode).await?;
        self.write_segment_ends();
        self.trim.without_space.set(full || checkpointed == Checkpointed::NoSpace);
        self.trim.ended_at.set(self.space_seen());
        self.note_slack();
        let is_given_back = self.table.cooling_count() > 0 || !self.lacks_moving_room();
        self.trim.lacks_slack.set(is_short && !is_given_back);
        self.trim.completed.set(self.trim.completed.get() + 1);
        self.shrink_cache();
        self.trim.moved.notify_all();
        Ok(checkpointed)
    }

    /// What must stay free follows from the images that there are, which only cycles write.
    pub(crate) fn note_slack(&self) {
        self.trim.slack.set(self.slack());
    }

    fn pending_rows(&self, id: CollectionId) -> usize {
        let rows = self.rows.borrow();
        rows.collection(id)
            .map_or(0, |collection| collection.pending.iter().map(crate::rows::pending::Pending::len).sum())
    }

    /// The first pending change at `from` or behind that is older than `first`.
    fn next_old(&self, id: CollectionId, tree: TreeKind, from: &Bound<Key>, first: Lsn) -> Option<Key> {
        let rows = self.rows.borrow();
        let from = match from {
            Bound::Included(key) => Bound::Included(key.as_slice()),
            Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
            Bound::Unbounded => Bound::Unbounded,
        };
        rows.pending(id, tree).ok()?.first_older(from, first).cloned()
    }

    /// Lets others run after every few leaves: looking at I/O after each would cost more than the leaf.
    pub(crate) async fn look_at_io(&self) {
        let (leaves, since) = self.trim.since_io.get();
        let now = self.machine.runtime.now();
        if leaves + 1 < LEAVES_AT_ONCE && now.saturating_sub(since) < WORK_AT_ONCE {
            self.trim.since_io.set((leaves + 1, since));
            return;
        }
        self.machine.runtime.yield_io().await;
        self.trim.since_io.set((0, self.machine.runtime.now()));
    }

    /// Waits until as much of the cycle is due as was done.
    async fn keep_pace(
        &self,
        mode: TrimMode,
        forced: bool,
        handled: usize,
        total: usize,
        begun_at: u64,
    ) -> Result<()> {
        self.images_in_bounds().await;
        if !mode.is_serving() {
            return Ok(());
        }
        self.look_at_io().await;
        if forced {
            return self.journal()?.healthy().map_err(Error::from);
        }
        // Four fifths of the cycle's bytes for the leaves, the rest for the checkpoint.
        let due = || {
            let logged = self.logged() - begun_at;
            let share = u128::from(self.cycle_bytes() * 4 / 5) * handled as u128;
            u128::from(logged) * total as u128 >= share
        };
        self.trim
            .wake
            .until(|| due() || self.trim.forced.get() || self.is_pressed() || self.trim_must_end())
            .await;
        if self.trim_must_end() { Err(self.ended_error()) } else { Ok(()) }
    }

    /// Handles the leaf that a pending change belongs to; returns where the next one begins.
    async fn trim_leaf(
        self: &Rc<Self>,
        id: CollectionId,
        tree: TreeKind,
        key: &[u8],
        cycle: Cycle,
        full: &mut bool,
    ) -> Result<(Bound<Key>, usize)> {
        let mut guard = OpGuard::new(self);
        loop {
            match self.trim_step(id, tree, key, cycle, *full)? {
                Step::Done(next, rows) => return Ok((next, rows)),
                // The cycle's next look-up finds no pending change either.
                Step::Gone => return Ok((Bound::Unbounded, 0)),
                Step::Load(ptr) => {
                    if let Err(error) = self.load(id, vec![Wanted::Node(tree, ptr)], &mut guard).await {
                        return self.trim_unreadable((id, tree, key), cycle, &error);
                    }
                }
                Step::Corrupt(at, what) => {
                    return self.trim_unreadable((id, tree, key), cycle, &Error::corrupt(at, what));
                }
                Step::NoSpace if *full => return Ok((Bound::Excluded(Key::from_slice(key)), 1)),
                Step::NoSpace => *full = true,
            }
        }
    }

    /// The change of a row whose leaf, or the way to it, cannot be read: it stays pending, logged again.
    fn trim_unreadable(
        &self,
        (id, tree, key): (CollectionId, TreeKind, &[u8]),
        cycle: Cycle,
        error: &Error,
    ) -> Result<(Bound<Key>, usize)> {
        self.journal()?.healthy()?;
        tracing::warn!(%error, "a node that cannot be read keeps its changes in the log");
        if cycle.mode.is_serving() {
            let mut upper = key.to_vec();
            upper.push(0);
            let row = Leaf { ptr: NodePtr::memory(0), lower: key.to_vec(), upper: Some(upper) };
            self.log_again(id, tree, &row, cycle.first, true)?;
        }
        Ok((Bound::Excluded(Key::from_slice(key)), 1))
    }

    fn trim_step(
        self: &Rc<Self>,
        id: CollectionId,
        tree: TreeKind,
        key: &[u8],
        cycle: Cycle,
        full: bool,
    ) -> Result<Step> {
        let leaf = {
            let rows = self.rows.borrow();
            let Ok(of) = rows.tree(id, tree) else { return Ok(Step::Gone) };
            of.leaf_of(&rows.cache, key)
        };
        let leaf = match leaf {
            Ok(Some(leaf)) => leaf,
            Ok(None) => return self.trim_empty(id, tree, key, cycle.first),
            Err(TreeStop::Absent(ptr)) => return Ok(Step::Load(ptr)),
            Err(TreeStop::Corrupt { node, what }) => return Ok(Step::Corrupt(node.at, what)),
        };
        let rows = {
            let rows = self.rows.borrow();
            rows.pending(id, tree)?.any_order(&leaf.lower, leaf.upper.as_deref()).count()
        };
        let next = match &leaf.upper {
            Some(upper) => Bound::Included(Key::from_slice(upper)),
            None => Bound::Excluded(Key::from_slice(&[0xff; 64])),
        };
        let may_log =
            cycle.mode.is_serving() && (full || leaf.ptr.is_image() && !self.trim.writes_only.get());
        if may_log && self.log_again(id, tree, &leaf, cycle.first, full)? {
            return Ok(Step::Done(next, rows));
        }
        if full {
            return Ok(Step::NoSpace);
        }
        let present = {
            let rows = self.rows.borrow();
            rows.tree(id, tree)?.find(&rows.cache, key).map(|_| ())
        };
        match present {
            Ok(()) => {}
            Err(TreeStop::Absent(ptr)) => return Ok(Step::Load(ptr)),
            Err(TreeStop::Corrupt { node, what }) => return Ok(Step::Corrupt(node.at, what)),
        }
        // The nodes above may have right checksums and not agree on whose the leaf is.
        let found = {
            let rows = self.rows.borrow();
            rows.tree(id, tree)?.finds(&rows.cache, 0, &leaf.lower, leaf.ptr)
        };
        match found {
            Ok(true) => {}
            Ok(false) => return Ok(Step::Corrupt(leaf.ptr.at, "a leaf that begins in another's interval")),
            Err(TreeStop::Absent(ptr)) => return Ok(Step::Load(ptr)),
            Err(TreeStop::Corrupt { node, what }) => return Ok(Step::Corrupt(node.at, what)),
        }
        let bounds = (0, leaf.lower.as_slice(), leaf.upper.as_deref());
        let placed = self.place_image(id, tree, bounds, leaf.ptr, cycle.mode.trim_claimer());
        Ok(match placed {
            ImagePlaced::Yes => {
                seabed_types::reached!(LeafWritten);
                Step::Done(next, rows)
            }
            ImagePlaced::NoSpace => Step::NoSpace,
            ImagePlaced::Gone => Step::Gone,
        })
    }

    /// A tree without rows: the next checkpoint publishes it as empty, which has all its changes. Those that are not
    /// durable stay, for whoever sees that there is no row, and are logged again if they are old.
    fn trim_empty(&self, id: CollectionId, tree: TreeKind, key: &[u8], first: Lsn) -> Result<Step> {
        let durable = self.durable_below();
        let newest = {
            let rows = self.rows.borrow();
            rows.pending(id, tree)?.any_order(&[], None).map(|pending| pending.newest).max()
        };
        if newest.is_some_and(|newest| newest >= durable) {
            let nothing = Leaf { ptr: NodePtr::memory(0), lower: Vec::new(), upper: None };
            self.log_again(id, tree, &nothing, first, true)?;
        } else {
            let rows = &mut *self.rows.borrow_mut();
            let collection = rows.collections.get_mut(&id).ok_or(Gone(id))?;
            collection.pending[slot(tree)].imaged(&[], None, &mut rows.ages);
        }
        Ok(Step::Done(Bound::Excluded(Key::from_slice(key)), 1))
    }

    /// Logs the old pending changes of a leaf again, if that is cheaper than its image (or `always`), and if the segments
    /// that the checkpoint needs stay free. False if not.
    fn log_again(
        &self,
        id: CollectionId,
        tree: TreeKind,
        leaf: &Leaf,
        first: Lsn,
        always: bool,
    ) -> Result<bool> {
        if self.table.free_count() <= self.reserve_against(Claimer::Checkpoint) + self.checkpoint_segments() {
            return Ok(false);
        }
        let rows = &mut *self.rows.borrow_mut();
        let collection = rows.collections.get_mut(&id).ok_or(Gone(id))?;
        let pending = &mut collection.pending[slot(tree)];
        let old: Vec<(Key, Change)> = pending
            .within(&leaf.lower, leaf.upper.as_deref())
            .filter(|(_, pending)| pending.oldest < first)
            .map(|(key, pending)| (key.clone(), pending.change.clone()))
            .collect();
        let sizes = old.iter().map(|(key, change)| match change {
            Change::Set(bytes) | Change::Patch(bytes) => delta_bytes_max(key.len(), bytes.len(), 0),
            Change::Gone => delta_bytes_max(key.len(), 0, 0),
        });
        let bytes: usize = sizes.clone().sum();
        let mut counts = self.trim.logged_again.borrow_mut();
        let count = counts.get(&leaf.ptr).copied().unwrap_or(0) + bytes;
        if count > rows.node_bytes && !always {
            return Ok(false);
        }
        let journal = self.journal()?;
        for ((key, change), size) in old.iter().zip(sizes) {
            let need = Need { entries: size, ..Need::default() };
            let change = change_ref(change);
            let joined = journal.join(&need, |joined| joined.delta((id.pool, tree), key, change, (&[], &[])));
            let (lsn, ()) = joined.map_err(|error| self.not_logged(error))?;
            pending.logged_again(key, lsn, &mut rows.ages);
        }
        seabed_types::reached!(LoggedAgain);
        counts.insert(leaf.ptr, count);
        self.counters.count(|stats| stats.bytes_logged_again += bytes as u64);
        Ok(true)
    }
}
