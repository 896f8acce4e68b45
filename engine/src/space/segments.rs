//! Table: the segments of a store in memory: what each is used for, its live bytes, and which may be used again.
//!
//! Only counts free a segment (rule S4): a sealed segment is free when its live bytes are 0, nobody holds it, it is in no
//! journal window, and every operation that began before it became so has ended. Counts go up when a change is applied and
//! down when the record that made it is provably durable, that is when a later record is durable or a checkpoint is (rule
//! S2). A segment is held while something is being written or planned to be written into it that no durable record points
//! to yet (rule S3); images that no checkpoint has published hold their segment too.
//!
//! Example: a record overwrites 4 KiB that were in segment 7: live(7) is down by 4096 at once in what the next checkpoint
//! will say, and 7 is free to be reused only after the record behind it is durable.
//!
//! A segment into which a write failed is *quarantined*: what it holds is read as before, but it is not used again, for what
//! the device makes of the failed write is not known. Segment states on the device say nothing of it, so it ends when the
//! store is opened the next time; a write that fails again brings it back.
//!
//! **Incarnations.** A crash may take a use of a segment with its claim and its header, and leave records of it. No later use may
//! have the same incarnation (rule S1), or there would be no telling which records are of which. So
//! - a mount takes for granted that each segment that nothing needs had one use for each mount since the checkpoint that it
//!   reads: it gives them out from behind those ([`SegmentTable::pass_lost_uses`]). The next checkpoint says so of segments that
//!   are still not used, so the numbers of a mount pass those of the mounts before whatever became durable of them;
//! - a segment is held until its claim is durable. So of all uses of a segment in one mount the claim of the last at most is
//!   lost, and one for each mount is enough.
//!
//! Example: a checkpoint of epoch 4 says 7; the mount of epoch 5 gives out 7 + 1 + 1 = 9 and a crash takes the claim; that of
//! epoch 6 gives out 7 + 2 + 1 = 10.
//!
//! Operations are counted in two generations: a segment that becomes free waits until the operations of its generation and
//! of the one before have ended, without anyone asking them.
//!
//! A mount in place begins with a new table and takes over from the one before it what was free there; all else is *kept*
//! until both slots name the new mount and nobody reads for the old one any more ([`SegmentTable::inherit`]).
//!
//! Invariants: 1. live <= usable in every segment: minuses wait. 2. A free segment has no live byte, no hold, and is not
//! quarantined.
//! Not here: which victim to clean; a full device is `admit`.

mod discards;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::{Rc, Weak};

use seabed_device::local::Notify;
use seabed_journal::{JournalSegment, SegmentState, Settled, Space};
use seabed_segment::{Layout, OpenSegment, StreamKind};
use seabed_types::{Incarnation, Lsn, SegmentId};

/// What a segment is claimed for, which decides how many have to stay free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claimer {
    /// Data of users, beside the journal.
    User,
    /// Trimming: images of leaves, as far as a checkpoint stays possible.
    Trim,
    /// Moving images together, which frees more than it takes.
    Compact,
    /// The cleaner: copies of live data, which free more than they take.
    Clean,
    /// A checkpoint: the images that it must have, and its body.
    Checkpoint,
    /// Trimming by a mount that does not serve yet.
    MountTrim,
    /// The checkpoint of a mount that does not serve yet.
    MountCheckpoint,
}

impl Claimer {
    /// Whether the claim is logged. A mount that does not serve yet logs nothing: its checkpoint names what it claimed.
    pub(crate) const fn is_logged(self) -> bool {
        match self {
            Self::User | Self::Trim | Self::Compact | Self::Clean | Self::Checkpoint => true,
            Self::MountTrim | Self::MountCheckpoint => false,
        }
    }

    /// The claimer for images that are placed again after a failed write: they may use what a checkpoint may.
    pub(crate) const fn for_another_try(self) -> Self {
        if self.is_logged() { Self::Checkpoint } else { Self::MountCheckpoint }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// Nobody's.
    Idle,
    /// Takes records.
    Open,
    /// Full, or ended by a mount.
    Sealed,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a reason of its own not to use it")]
#[derive(Clone, Debug)]
struct Segment {
    usage: Use,
    stream: Option<StreamKind>,
    incarnation: Incarnation,
    /// No use that a crash took had a later one, as far as its header or what mounts there were can tell.
    lost: Incarnation,
    age: u64,
    /// Live bytes as the log will say them.
    live: i64,
    /// Live bytes with only the provable minuses taken off.
    provable: i64,
    holds: u32,
    in_window: bool,
    free: bool,
    quarantined: bool,
    /// A mount that ended may still read it, or the slots may still need it.
    kept: bool,
}

impl Segment {
    /// What the cleaner knows of it, if it may be emptied: sealed, outside the window, with live bytes, and not held.
    fn data(&self, segment: SegmentId) -> Option<DataSegment> {
        let is_data = self.usage == Use::Sealed
            && matches!(self.stream, Some(StreamKind::Journal | StreamKind::Bulk))
            && self.live > 0
            && self.holds == 0
            && !(self.in_window || self.quarantined || self.kept || self.free);
        is_data.then_some(DataSegment {
            segment,
            incarnation: self.incarnation,
            live: self.live.max(0).cast_unsigned(),
            age: self.age,
        })
    }
}

struct Inner {
    segments: Vec<Segment>,
    first: u32,
    free: BTreeSet<SegmentId>,
    /// Those of them that became free since the mount and are not discarded, unless the device has no use for that.
    undiscarded: BTreeSet<SegmentId>,
    /// Whether it has.
    discards: bool,
    /// The one that is being discarded: not among the free ones until that has ended.
    discarding: Option<SegmentId>,
    /// Where the next search for a free segment begins: reuse goes round.
    next_free: SegmentId,
    /// Minuses by the record that made them.
    unproven: BTreeMap<Lsn, BTreeMap<SegmentId, i64>>,
    /// Running operations of the current generation and the one before.
    running: [usize; 2],
    generation: u64,
    /// Segments that became free, by generation.
    cooling: VecDeque<(u64, SegmentId)>,
    sealed_journal: Vec<OpenSegment>,
    /// Segments whose claim is in this record, which is not durable; each is held.
    undurable_claims: BTreeMap<Lsn, Vec<SegmentId>>,
    /// Segments that a mount claims without logging it, each held until a checkpoint says so.
    unlogged_claims: Vec<SegmentId>,
    claimed_headers: Vec<(SegmentId, Incarnation, StreamKind)>,
    live_total: i64,
    /// How many are quarantined: every transaction asks.
    quarantined: usize,
    /// False during a replay: nothing becomes free before all that is needed is known.
    serving: bool,
    /// How often data died: whoever found no space need not look again before it grows.
    losses: u64,
    /// Bytes that the journal has logged and users have written beside it in the life of the shard: the clock of ages.
    clock: u64,
}

/// A use of a segment that the log does not tell of yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) segment: SegmentId,
    pub(crate) incarnation: Incarnation,
    pub(crate) stream: StreamKind,
    pub(crate) age: u64,
}

/// What the cleaner knows of a segment whose data it may move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DataSegment {
    pub(crate) segment: SegmentId,
    pub(crate) incarnation: Incarnation,
    /// Live bytes as the log will say them.
    pub(crate) live: u64,
    /// When it was claimed, and its class ([`crate::maintain::clean::age_of`]).
    pub(crate) age: u64,
}

/// What is known of a segment at a moment.
#[expect(clippy::struct_excessive_bools, reason = "each is a reason of its own to count it elsewhere")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentFacts {
    pub(crate) stream: Option<StreamKind>,
    pub(crate) age: u64,
    /// Live bytes as the log will say them.
    pub(crate) live: u64,
    pub(crate) in_window: bool,
    pub(crate) is_quarantined: bool,
    /// It may be claimed, or soon.
    pub(crate) is_free: bool,
    /// It becomes free when what the log says is proven and what holds it ends.
    pub(crate) is_empty: bool,
    /// What the cleaner knows of it; none if it may not be emptied.
    pub(crate) data: Option<DataSegment>,
}

/// The segment table of a shard.
pub(crate) struct SegmentTable {
    inner: RefCell<Inner>,
    /// A segment became free, or counts changed.
    pub(crate) changed: Notify,
    /// Tables of mounts that ended, some of whose operations may still run.
    before: RefCell<Vec<Rc<Self>>>,
    /// The table of the mount that follows.
    heir: RefCell<Weak<Self>>,
    /// Whether both slots name this mount.
    is_head: Cell<bool>,
}

/// An operation that may still read what it saw. Ends when dropped.
pub(crate) struct Running {
    table: Rc<SegmentTable>,
    generation: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut inner = self.table.inner.borrow_mut();
        inner.running[(self.generation % 2) as usize] -= 1;
        let has_ended = inner.running == [0; 2];
        let freed = inner.advance();
        drop(inner);
        if freed {
            self.table.changed.notify_all();
        }
        if has_ended && let Some(heir) = self.table.heir.borrow().upgrade() {
            heir.release_kept();
        }
    }
}

impl SegmentTable {
    pub(crate) fn new(layout: &Layout, states: &[SegmentState]) -> Rc<Self> {
        let first = layout.first_segment().0;
        let blank = Segment {
            usage: Use::Idle,
            stream: None,
            incarnation: Incarnation(0),
            lost: Incarnation(0),
            age: 0,
            live: 0,
            provable: 0,
            holds: 0,
            in_window: false,
            free: false,
            quarantined: false,
            kept: false,
        };
        let mut segments = vec![blank; layout.segments().count()];
        let mut live_total = 0;
        for state in states.iter().filter(|state| layout.has_segment(state.segment)) {
            let segment = &mut segments[(state.segment.0 - first) as usize];
            segment.incarnation = state.incarnation;
            segment.stream = state.stream;
            segment.age = state.age;
            segment.live = state.live;
            segment.provable = state.live;
            segment.usage = Use::Sealed;
            live_total += state.live;
        }
        Rc::new(Self {
            inner: RefCell::new(Inner {
                segments,
                first,
                free: BTreeSet::new(),
                undiscarded: BTreeSet::new(),
                discards: false,
                discarding: None,
                next_free: SegmentId(first),
                unproven: BTreeMap::new(),
                running: [0; 2],
                generation: 0,
                cooling: VecDeque::new(),
                sealed_journal: Vec::new(),
                undurable_claims: BTreeMap::new(),
                unlogged_claims: Vec::new(),
                claimed_headers: Vec::new(),
                live_total,
                quarantined: 0,
                serving: false,
                losses: 0,
                clock: 0,
            }),
            changed: Notify::default(),
            before: RefCell::default(),
            heir: RefCell::default(),
            is_head: Cell::new(false),
        })
    }

    /// Takes over what the table of the mount before knows and the device does not: incarnations, quarantines, and which
    /// segments were free. All others are kept as they are until both slots name the new mount ([`SegmentTable::became_head`]) and
    /// the operations of the mounts before have ended.
    pub(crate) fn inherit(self: &Rc<Self>, before: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        let old = before.inner.borrow();
        for (segment, old) in inner.segments.iter_mut().zip(&old.segments) {
            segment.lost = segment.lost.max(old.lost).max(old.incarnation);
            segment.quarantined = old.quarantined;
            segment.kept = true;
        }
        for id in &old.free {
            if let Some(segment) = inner.get_mut(*id) {
                segment.kept = false;
            }
        }
        inner.quarantined = old.quarantined;
        inner.next_free = old.next_free;
        let mut all = before.before.take();
        all.push(Rc::clone(before));
        for table in &all {
            *table.heir.borrow_mut() = Rc::downgrade(self);
        }
        *self.before.borrow_mut() = all;
    }

    /// Both slots name this mount: what only the mounts before needed may be used again when they have ended.
    pub(crate) fn became_head(&self) {
        self.is_head.set(true);
        self.release_kept();
    }

    fn release_kept(&self) {
        self.before.borrow_mut().retain(|table| table.inner.borrow().running != [0; 2]);
        if !self.is_head.get() || !self.before.borrow().is_empty() {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        for id in inner.ids() {
            if let Some(segment) = inner.get_mut(id).filter(|segment| segment.kept) {
                segment.kept = false;
                inner.cool_if_free(id);
            }
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// A claim that the replayed log tells of.
    pub(crate) fn replay_claim(
        &self,
        segment: SegmentId,
        incarnation: Incarnation,
        stream: StreamKind,
        age: u64,
    ) {
        let mut inner = self.inner.borrow_mut();
        if let Some(segment) = inner.get_mut(segment) {
            segment.incarnation = segment.incarnation.max(incarnation);
            segment.stream = Some(stream);
            segment.age = age;
            segment.usage = Use::Sealed;
        }
    }

    /// A change of live bytes that the replayed log tells of. False: no such segment.
    pub(crate) fn replay_live(&self, segment: SegmentId, change: i64) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Some(segment) = inner.get_mut(segment) else { return false };
        segment.live += change;
        segment.provable += change;
        inner.live_total += change;
        true
    }

    /// Live bytes that the replayed record `lsn` took. False: no such segment.
    pub(crate) fn replay_minus(&self, segment: SegmentId, bytes: u64, lsn: Lsn) -> bool {
        let mut inner = self.inner.borrow_mut();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let Some(known) = inner.get_mut(segment) else { return false };
        known.live -= bytes;
        inner.live_total -= bytes;
        *inner.unproven.entry(lsn).or_default().entry(segment).or_default() += bytes;
        true
    }

    /// The journal's segments after a replay: the last takes records, the next is claimed.
    pub(crate) fn set_window(
        &self,
        segments: &[JournalSegment],
        tail: SegmentId,
        next: Option<(SegmentId, Incarnation)>,
    ) {
        let mut inner = self.inner.borrow_mut();
        let window = segments.iter().map(|segment| (segment.segment, segment.incarnation));
        for (id, incarnation) in window.chain(next) {
            if let Some(segment) = inner.get_mut(id) {
                segment.in_window = true;
                segment.stream = Some(StreamKind::Journal);
                // The head of a mount in place is claimed by the slots, not by the log.
                segment.incarnation = segment.incarnation.max(incarnation);
                segment.lost = segment.lost.min(segment.incarnation);
                let is_open = id == tail || next.is_some_and(|(next, _)| next == id);
                segment.usage = if is_open { Use::Open } else { Use::Sealed };
            }
        }
    }

    /// Crashes of so many mounts may have taken a use of each segment that nothing needs. To be called when all that is needed is
    /// held and counted.
    pub(crate) fn pass_lost_uses(&self, mounts: u64) {
        let mounts = u32::try_from(mounts).unwrap_or(u32::MAX);
        let mut inner = self.inner.borrow_mut();
        let unused = |segment: &&mut Segment| segment.live == 0 && segment.holds == 0 && !segment.in_window;
        for segment in inner.segments.iter_mut().filter(unused).filter(|_| !seabed_types::seeded!(37)) {
            let passed = Incarnation(segment.incarnation.0.saturating_add(mounts));
            segment.lost = segment.lost.max(passed);
        }
    }

    /// After a mount, once all that is needed is held: everything else without live bytes is free at once.
    pub(crate) fn free_all_unused(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.serving = true;
        for id in inner.ids() {
            if inner.is_reusable(id) {
                let segment = inner.get_mut(id).expect("an id of the table");
                segment.free = true;
                inner.free.insert(id);
            }
        }
    }

    /// All segments that are in no window: what a later use of them must know is in their headers.
    pub(crate) fn outside_window(&self) -> Vec<SegmentId> {
        let mut inner = self.inner.borrow_mut();
        let ids = inner.ids();
        ids.into_iter().filter(|id| inner.get_mut(*id).is_some_and(|segment| !segment.in_window)).collect()
    }

    /// Whether a segment may be claimed.
    pub(crate) fn is_free(&self, id: SegmentId) -> bool {
        self.inner.borrow().free.contains(&id)
    }

    /// Which use of a segment this is; none if there is no such segment.
    pub(crate) fn incarnation(&self, id: SegmentId) -> Option<Incarnation> {
        self.inner.borrow_mut().get_mut(id).map(|segment| segment.incarnation)
    }

    /// A header of this use of a segment, or a record, was found: the next use is a later one (rule S1).
    pub(crate) fn found_use(&self, id: SegmentId, incarnation: Incarnation) {
        let mut inner = self.inner.borrow_mut();
        if let Some(segment) = inner.get_mut(id) {
            if incarnation > segment.incarnation {
                seabed_types::reached!(LostUse);
            }
            segment.lost =
                segment.lost.max(if seabed_types::seeded!(37) { Incarnation(0) } else { incarnation });
        }
    }

    /// A free segment for `stream`, or none if no more than `reserve` are free.
    pub(crate) fn claim(
        &self,
        stream: StreamKind,
        reserve: usize,
        age: u64,
    ) -> Option<(SegmentId, Incarnation)> {
        let mut inner = self.inner.borrow_mut();
        if inner.free.len() <= reserve {
            return None;
        }
        let next = inner.next_free;
        let id = *inner.free.range(next..).next().or_else(|| inner.free.first())?;
        inner.free.remove(&id);
        inner.undiscarded.remove(&id);
        inner.next_free = SegmentId(id.0 + 1);
        let segment = inner.get_mut(id).expect("a free segment is in the table");
        assert!(segment.provable == 0 && segment.holds == 0, "invariant 2");
        if segment.incarnation.0 > 0 {
            seabed_types::reached!(SegmentReused);
        }
        segment.free = false;
        segment.usage = Use::Open;
        segment.stream = Some(stream);
        segment.incarnation = segment.incarnation.max(segment.lost).next();
        segment.age = age;
        segment.in_window = stream == StreamKind::Journal;
        let incarnation = segment.incarnation;
        inner.claimed_headers.push((id, incarnation, stream));
        Some((id, incarnation))
    }

    /// The claim of a segment is in this record, or only in the next checkpoint: until that is durable it is held.
    pub(crate) fn claimed_in(&self, id: SegmentId, lsn: Option<Lsn>) {
        self.hold(id);
        self.logged_in(id, lsn);
    }

    /// Takes the claims that a mount has not logged; their segments stay held.
    pub(crate) fn take_unlogged(&self) -> Vec<Claim> {
        let mut inner = self.inner.borrow_mut();
        let ids = std::mem::take(&mut inner.unlogged_claims);
        let claim = |id: &SegmentId| {
            let segment = inner.get_mut(*id)?;
            let (incarnation, stream, age) = (segment.incarnation, segment.stream?, segment.age);
            Some(Claim { segment: *id, incarnation, stream, age })
        };
        ids.iter().filter_map(claim).collect()
    }

    /// The claim of a segment that [`SegmentTable::take_unlogged`] gave is in this record now, or was not to be logged.
    pub(crate) fn logged_in(&self, id: SegmentId, lsn: Option<Lsn>) {
        let mut inner = self.inner.borrow_mut();
        match lsn {
            Some(lsn) => inner.undurable_claims.entry(lsn).or_default().push(id),
            None => inner.unlogged_claims.push(id),
        }
    }

    /// All records below `lsn` are durable.
    fn claims_durable(&self, lsn: Lsn) {
        let mut inner = self.inner.borrow_mut();
        let later = inner.undurable_claims.split_off(&lsn);
        let durable = std::mem::replace(&mut inner.undurable_claims, later);
        drop(inner);
        for id in durable.into_values().flatten() {
            self.unhold(id);
        }
    }

    /// A segment whose claim could not be logged is free again.
    pub(crate) fn give_back(&self, id: SegmentId) {
        let mut inner = self.inner.borrow_mut();
        let segment = inner.get_mut(id).expect("it was claimed");
        segment.usage = Use::Idle;
        segment.free = true;
        inner.free.insert(id);
    }

    /// The segments claimed since the last call, whose header blocks are to be written.
    pub(crate) fn take_claimed(&self) -> Vec<(SegmentId, Incarnation, StreamKind)> {
        let mut inner = self.inner.borrow_mut();
        let mut claimed = std::mem::take(&mut inner.claimed_headers);
        // A use that is over already needs no header any more.
        claimed.retain(|(id, incarnation, _)| {
            inner.get_mut(*id).is_some_and(|segment| !segment.free && segment.incarnation == *incarnation)
        });
        claimed
    }

    /// The journal segments that filled up since the last call, each held, whose inventories are to be written.
    pub(crate) fn take_sealed_journal(&self) -> Vec<OpenSegment> {
        std::mem::take(&mut self.inner.borrow_mut().sealed_journal)
    }

    /// A stream left the segment.
    pub(crate) fn seal(&self, id: SegmentId) {
        let mut inner = self.inner.borrow_mut();
        if let Some(segment) = inner.get_mut(id) {
            segment.usage = Use::Sealed;
        }
        inner.cool_if_free(id);
    }

    /// A write into the segment failed: nothing is written into it any more.
    pub(crate) fn quarantine(&self, id: SegmentId) {
        let mut inner = self.inner.borrow_mut();
        inner.free.remove(&id);
        inner.undiscarded.remove(&id);
        let segment = inner.get_mut(id).expect("a segment of this store was written into");
        segment.free = false;
        if !std::mem::replace(&mut segment.quarantined, true) {
            seabed_types::reached!(Quarantined);
            inner.quarantined += 1;
        }
    }

    /// Segments that are not used again before the store is opened the next time.
    pub(crate) fn quarantined_count(&self) -> usize {
        self.inner.borrow().quarantined
    }

    pub(crate) fn hold(&self, id: SegmentId) {
        let mut inner = self.inner.borrow_mut();
        let segment = inner.get_mut(id).expect("a segment of this store is guard");
        assert!(!segment.free, "what is written into was claimed");
        segment.holds += 1;
    }

    pub(crate) fn unhold(&self, id: SegmentId) {
        let mut inner = self.inner.borrow_mut();
        let segment = inner.get_mut(id).expect("it was guard");
        segment.holds -= 1;
        inner.cool_if_free(id);
        drop(inner);
        self.changed.notify_all();
    }

    /// Bytes became live with record `lsn`.
    pub(crate) fn plus(&self, id: SegmentId, bytes: u32) {
        let mut inner = self.inner.borrow_mut();
        inner.live_total += i64::from(bytes);
        if let Some(segment) = inner.get_mut(id) {
            segment.live += i64::from(bytes);
            segment.provable += i64::from(bytes);
        }
    }

    /// Bytes died with record `lsn`.
    pub(crate) fn minus(&self, id: SegmentId, bytes: u32, lsn: Lsn) {
        self.inner.borrow_mut().losses += 1;
        self.minus_moved(id, bytes, lsn);
    }

    /// Bytes died with record `lsn` because their copy became live: as [`SegmentTable::minus`], but nothing was lost.
    pub(crate) fn minus_moved(&self, id: SegmentId, bytes: u32, lsn: Lsn) {
        let mut inner = self.inner.borrow_mut();
        inner.live_total -= i64::from(bytes);
        if let Some(segment) = inner.get_mut(id) {
            segment.live -= i64::from(bytes);
        }
        let lsn = if seabed_types::seeded!(39) { Lsn(0) } else { lsn };
        *inner.unproven.entry(lsn).or_default().entry(id).or_default() += i64::from(bytes);
    }

    /// Rows went: images will shrink in time.
    pub(crate) fn rows_gone(&self) {
        self.inner.borrow_mut().losses += 1;
    }

    /// Bytes died with a checkpoint at this moment; they count as dead for others once both of its slots are written.
    pub(crate) fn minus_unpublished(&self, id: SegmentId, bytes: u32) {
        let mut inner = self.inner.borrow_mut();
        inner.live_total -= i64::from(bytes);
        if let Some(segment) = inner.get_mut(id) {
            segment.live -= i64::from(bytes);
        }
    }

    /// The checkpoint is durable: what [`SegmentTable::minus_unpublished`] took may be reused.
    pub(crate) fn published(&self, minuses: &[(SegmentId, u32)]) {
        let mut inner = self.inner.borrow_mut();
        for (id, bytes) in minuses {
            if let Some(segment) = inner.get_mut(*id) {
                segment.provable -= i64::from(*bytes);
            }
            inner.cool_if_free(*id);
        }
        let claims = std::mem::take(&mut inner.unlogged_claims);
        drop(inner);
        for id in claims {
            self.unhold(id);
        }
        self.changed.notify_all();
    }

    /// All records below `lsn` are provably durable.
    pub(crate) fn proven(&self, lsn: Lsn) {
        self.claims_durable(lsn);
        let mut inner = self.inner.borrow_mut();
        let later = inner.unproven.split_off(&lsn);
        let proven = std::mem::replace(&mut inner.unproven, later);
        if proven.is_empty() {
            return;
        }
        for (id, bytes) in proven.into_values().flatten() {
            if let Some(segment) = inner.get_mut(id) {
                segment.provable -= bytes;
            }
            inner.cool_if_free(id);
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Whether there are minuses that only another record can prove.
    pub(crate) fn has_unproven(&self) -> bool {
        !self.inner.borrow().unproven.is_empty()
    }

    /// These segments are behind the window's start now.
    pub(crate) fn leave_window(&self, segments: &[SegmentId]) {
        let mut inner = self.inner.borrow_mut();
        for id in segments {
            if let Some(segment) = inner.get_mut(*id) {
                segment.in_window = false;
            }
            inner.cool_if_free(*id);
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Begins an operation.
    pub(crate) fn enter(self: &Rc<Self>) -> Running {
        let mut inner = self.inner.borrow_mut();
        let generation = inner.generation;
        inner.running[(generation % 2) as usize] += 1;
        Running { table: Rc::clone(self), generation }
    }

    /// The segments of the node stream that take nothing more, with their live bytes, as far as they would be free without.
    pub(crate) fn sealed_of_nodes(&self) -> Vec<(SegmentId, i64)> {
        let inner = self.inner.borrow();
        let segments = (inner.first..).map(SegmentId).zip(&inner.segments);
        let sealed = segments.filter(|(_, segment)| {
            segment.usage == Use::Sealed
                && segment.stream == Some(StreamKind::Nodes)
                && !(segment.in_window || segment.quarantined || segment.kept)
        });
        sealed.map(|(id, segment)| (id, segment.live)).collect()
    }

    /// Some of the segments, by their number in the table, each with what the cleaner knows of it; none if it may not be
    /// emptied.
    pub(crate) fn data_segments(&self, range: Range<usize>) -> Vec<(SegmentId, Option<DataSegment>)> {
        let inner = self.inner.borrow();
        let segments = (inner.first..).map(SegmentId).zip(&inner.segments);
        let some = segments.skip(range.start).take(range.len());
        some.map(|(id, segment)| (id, segment.data(id))).collect()
    }

    /// Some of the segments, by their number in the table.
    pub(crate) fn facts(&self, range: Range<usize>) -> Vec<SegmentFacts> {
        let inner = self.inner.borrow();
        let segments = (inner.first..).map(SegmentId).zip(&inner.segments);
        let facts = |(id, segment): (SegmentId, &Segment)| SegmentFacts {
            stream: segment.stream,
            age: segment.age,
            live: segment.live.max(0).cast_unsigned(),
            in_window: segment.in_window,
            is_quarantined: segment.quarantined,
            is_free: segment.free || segment.usage == Use::Idle,
            is_empty: segment.usage == Use::Sealed
                && segment.live <= 0
                && segment.holds == 0
                && !(segment.in_window || segment.quarantined),
            data: segment.data(id),
        };
        segments.skip(range.start).take(range.len()).map(facts).collect()
    }

    /// What the cleaner knows of a segment; none if it may not be emptied.
    pub(crate) fn data_segment(&self, id: SegmentId) -> Option<DataSegment> {
        self.inner.borrow_mut().get_mut(id)?.data(id)
    }

    /// The live bytes of one use of a segment; none if it is over.
    pub(crate) fn live_of(&self, id: SegmentId, incarnation: Incarnation) -> Option<u64> {
        let mut inner = self.inner.borrow_mut();
        let segment = inner.get_mut(id)?;
        let is_same = segment.incarnation == incarnation && !segment.free;
        is_same.then(|| segment.live.max(0).cast_unsigned())
    }

    /// Bytes that the journal has logged and users have written beside it in the life of the shard.
    pub(crate) fn clock(&self) -> u64 {
        self.inner.borrow().clock
    }

    /// Users wrote so many bytes beside the journal.
    pub(crate) fn advance_clock(&self, bytes: usize) {
        self.inner.borrow_mut().clock += bytes as u64;
    }

    /// Sets the clock, after a replay.
    pub(crate) fn set_clock(&self, clock: u64) {
        self.inner.borrow_mut().clock = clock;
    }

    /// In how many segments of the node stream that take nothing more images live, and the bytes of all that live.
    pub(crate) fn images(&self) -> (usize, i64) {
        let inner = self.inner.borrow();
        let live = inner
            .segments
            .iter()
            .filter(|segment| segment.stream == Some(StreamKind::Nodes) && segment.live > 0 && !segment.free);
        live.fold((0, 0), |(count, bytes), segment| {
            (count + usize::from(segment.usage == Use::Sealed), bytes + segment.live)
        })
    }

    /// Segments that may be claimed.
    pub(crate) fn free_count(&self) -> usize {
        self.inner.borrow().free.len()
    }

    /// Segments that will be free when the running operations end, and a discard.
    pub(crate) fn cooling_count(&self) -> usize {
        let inner = self.inner.borrow();
        inner.cooling.len() + usize::from(inner.discarding.is_some())
    }

    /// Grows whenever data dies or rows go, which may free a segment in time.
    pub(crate) fn losses(&self) -> u64 {
        self.inner.borrow().losses
    }

    /// Live bytes in all segments.
    pub(crate) fn live_total(&self) -> i64 {
        self.inner.borrow().live_total
    }

    /// The states for a checkpoint body: every segment that was ever used, or may have been. One that is not used since a
    /// mount passed its lost uses is no stream's.
    pub(crate) fn states(&self) -> Vec<SegmentState> {
        let inner = self.inner.borrow();
        let newest = |segment: &Segment| segment.incarnation.max(segment.lost);
        let segments = (inner.first..).map(SegmentId).zip(&inner.segments);
        let used = segments.filter(|(_, segment)| newest(segment).0 > 0);
        used.map(|(id, segment)| SegmentState {
            segment: id,
            incarnation: newest(segment),
            stream: segment.stream.filter(|_| segment.incarnation >= segment.lost),
            age: segment.age,
            live: segment.live,
        })
        .collect()
    }
}

impl Inner {
    fn ids(&self) -> Vec<SegmentId> {
        (self.first..).map(SegmentId).take(self.segments.len()).collect()
    }

    fn get_mut(&mut self, id: SegmentId) -> Option<&mut Segment> {
        self.segments.get_mut(id.0.checked_sub(self.first)? as usize)
    }

    fn is_reusable(&mut self, id: SegmentId) -> bool {
        self.get_mut(id).is_some_and(|segment| {
            segment.provable == 0
                && segment.holds == 0
                && !segment.in_window
                && !segment.free
                && !segment.quarantined
                && !segment.kept
                && segment.usage != Use::Open
        })
    }

    fn cool_if_free(&mut self, id: SegmentId) {
        if self.serving && self.is_reusable(id) {
            let generation = self.generation;
            let segment = self.get_mut(id).expect("reusable");
            segment.free = true;
            segment.usage = Use::Idle;
            self.cooling.push_back((generation, id));
            self.advance();
        }
    }

    /// Begins new generations while nobody is left of the older one. True if a segment became free.
    fn advance(&mut self) -> bool {
        let mut freed = false;
        loop {
            while self.cooling.front().is_some_and(|(generation, _)| generation + 2 <= self.generation) {
                let (_, id) = self.cooling.pop_front().expect("there is a front");
                self.free.insert(id);
                if self.discards {
                    self.undiscarded.insert(id);
                }
                freed = true;
            }
            let previous = ((self.generation + 1) % 2) as usize;
            if self.cooling.is_empty() || self.running[previous] > 0 && !seabed_types::seeded!(41) {
                return freed;
            }
            self.generation += 1;
        }
    }
}

impl Space for SegmentTable {
    fn claim_journal(&self) -> Option<(SegmentId, Incarnation)> {
        self.claim(StreamKind::Journal, 0, self.clock())
    }

    fn clock(&self) -> u64 {
        Self::clock(self)
    }

    fn sealed(&self, segment: OpenSegment) {
        // Held until its inventory is written: a trim may free it before, and another stream would take it.
        self.hold(segment.segment);
        self.seal(segment.segment);
        self.inner.borrow_mut().sealed_journal.push(segment);
    }

    fn settled(&self, settled: Settled) {
        self.inner.borrow_mut().clock += settled.bytes as u64;
        self.claims_durable(settled.lsn.next());
        self.proven(if seabed_types::seeded!(11) { settled.lsn.next() } else { settled.lsn });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Rc<SegmentTable> {
        let layout = Layout { device_bytes: 3 << 20, segment_bytes: 64 << 10, node_bytes: 4096, shards: 1 };
        let table = SegmentTable::new(&layout, &[]);
        table.free_all_unused();
        table
    }

    #[test]
    fn a_segment_is_reused_only_when_all_agree() {
        let table = table();
        let all = table.free_count();
        let running = table.enter();
        let (id, _) = table.claim(StreamKind::Bulk, 2, 0).expect("free");
        table.hold(id);
        table.plus(id, 100);
        table.seal(id);
        table.unhold(id);
        assert_eq!(table.free_count(), all - 1, "it has live bytes");
        table.minus(id, 100, Lsn(5));
        table.proven(Lsn(5));
        assert_eq!(
            (table.free_count(), table.cooling_count()),
            (all - 1, 0),
            "record 5 is not proven by itself"
        );
        table.proven(Lsn(6));
        assert_eq!(
            (table.free_count(), table.cooling_count()),
            (all - 1, 1),
            "an operation may still read it"
        );
        let later = table.enter();
        drop(running);
        assert_eq!(table.free_count(), all, "the later operation began after it died");
        drop(later);
        while table.claim(StreamKind::Nodes, 2, 0).is_some() {}
        assert_eq!(table.free_count(), 2, "the journal's reserve");
        let last = [table.claim_journal(), table.claim_journal()];
        assert!(last.contains(&Some((id, Incarnation(2)))), "its turn comes last, with a new incarnation");
        assert_eq!(table.claim_journal(), None);
        table.give_back(id);
        assert_eq!(table.claim_journal(), Some((id, Incarnation(3))));
    }

    /// A power cut took a use's claim and header and left a record of its bulk data; the next use had the same incarnation, so
    /// that the old record could be taken for one of it. Whatever crashes take, no mount gives out a number again.
    #[test]
    fn no_incarnation_is_given_out_twice() {
        let mut rng = fastrand::Rng::with_seed(5);
        let layout = Layout { device_bytes: 3 << 20, segment_bytes: 64 << 10, node_bytes: 4096, shards: 1 };
        let mut given = BTreeSet::new();
        // What is durable: a checkpoint, its epoch, and the claims behind it.
        let (mut states, mut of, mut log) = (Vec::new(), 0, Vec::new());
        for epoch in 1..400 {
            let table = SegmentTable::new(&layout, &states);
            for (id, incarnation) in &log {
                table.replay_claim(*id, *incarnation, StreamKind::Bulk, 0);
            }
            table.pass_lost_uses(epoch - of);
            table.free_all_unused();
            let mut undurable = Vec::new();
            for lsn in 0..rng.u64(..90) {
                let (id, incarnation) = table.claim(StreamKind::Bulk, 0, 0).expect("one of 46 is free");
                assert!(given.insert((id, incarnation)), "{id} as {incarnation} again, in epoch {epoch}");
                table.claimed_in(id, Some(Lsn(lsn)));
                table.seal(id);
                undurable.push((id, incarnation));
                if rng.u8(..40) == 0 {
                    (states, of, log) = (table.states(), epoch, Vec::new());
                    undurable.clear();
                    table.proven(Lsn(lsn + 1));
                } else if rng.u8(..3) == 0 {
                    log.append(&mut undurable);
                    table.claims_durable(Lsn(lsn + 1));
                } else if table.free_count() == 0 {
                    break;
                }
            }
        }
        assert!(given.len() > 5000, "{}", given.len());
    }
}
