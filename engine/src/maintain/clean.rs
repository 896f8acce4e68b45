//! Clean: when the cleaner of data works, and on which segment. How a segment is emptied is [`super::evacuate`].
//!
//! **Pace.** Each byte that users write adds to a debt, the more the less space is free ([`seabed_cleaner::pacing`]); the
//! cleaner works until it is paid. Writes wait, in their order, while the debt is more than two batches of copies: so they
//! slow down a little as space gets less, and do not run into a full device. The cleaner goes on without regard to the debt
//! while a transaction waits for space. It never waits for a transaction.
//!
//! What counts as free for that changes neither with the window nor with what is on its way ([`Mounted::clean_room`]).
//!
//! **Victim.** Sealed segments of data outside the window are candidates ([`seabed_cleaner::victim`]), unless copying takes as
//! much as it frees, or a try has left them with live bytes that are still there.
//!
//! **End.** When no segment is worth cleaning, or victims that promised several segments gave callers that wait none, the
//! cleaner sleeps until more data dies or a trim cycle ends: then admission decides by live bytes.
//!
//! Cost: a choice is 64 look-ups of facts, and a look at 4,096 segments for new candidates.
//! Not here: images of nodes (`compact_nodes`); reserves (`admit`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use seabed_cleaner::pacing::Needs;
use seabed_cleaner::victim::DeathRate;
use seabed_cleaner::{Candidates, Class as AgeClass, Classes, Clock, Facts, Levels, Pacing, Work};
use seabed_types::{BLOCK_BYTES, Incarnation, SegmentId};

use crate::maintain::clean_now::Rest;
use crate::maintain::copies::batch_bytes;
use crate::shard::mounted::Mounted;
use crate::space::segments::DataSegment;
use crate::{Error, Result};

/// The least gain for which a segment is cleaned, as a share of it: headers, lists and seals of the copies take as much.
const GAIN_SHARE: u64 = 32;
/// What copies cost is the mean of about so many victims; as if as many had filled their segments before the first.
const VICTIMS_OF_MEAN: f64 = 8.0;
/// The part of what copies were more dear than their bytes that is forgotten when no victim is worth it: it may be over.
const FORGOTTEN_SHARE: f64 = 0.125;
/// Cleaning is given up until more data is dead when at least so many victims, which promised so many segments or as many as
/// a checkpoint takes, brought callers no nearer to the space that they wait for.
const STALL_PROMISED: u64 = 2;
const STALL_VICTIMS: u32 = 16;
/// Batches of copies that users may be in debt with before they wait: one that is under way, and one more.
const BATCHES_OF_DEBT: u64 = 2;
/// Victims that are emptied before an empty record proves that their space is free, if callers wait for it.
const VICTIMS_UNPROVEN: u32 = 2;
/// Segments whose facts are looked at in one moment.
pub(super) const SEGMENTS_AT_ONCE: usize = 4096;

/// Where the cleaner stands.
#[derive(Default)]
pub(crate) struct CleanState {
    policy: RefCell<Option<Policy>>,
    /// Callers that wait for space.
    waiting: Cell<usize>,
    /// Nobody writes: idle time may be used.
    is_idle: Cell<bool>,
    /// What was seen when no segment was worth cleaning.
    exhausted_at: Cell<Option<Seen>>,
    /// Victims that kept live bytes, which are not tried again before those change.
    stuck: RefCell<Vec<(SegmentId, Incarnation, u64)>>,
    /// Whether cleaning brings callers that wait nearer to the space that they need.
    progress: Cell<Progress>,
    /// Requests to clean now (`clean_now`), and whether the task runs, which it does only for them if cleaning is off.
    pub(super) requests: Cell<usize>,
    /// What was placed later is not cleaned for those: copies of theirs, which may not fill their segments either.
    pub(super) before: Cell<Clock>,
    pub(crate) runs: Cell<bool>,
    /// How often the task had nothing to do, and why it had last.
    pub(super) rests: RefCell<(u64, Rest)>,
    /// Victims that were emptied since an empty record proved the last changes durable.
    unproven: Cell<u32>,
    /// Victims that were emptied and are not free yet: their changes are not provably durable, or somebody may read them.
    emptied: RefCell<Vec<(SegmentId, Incarnation)>>,
    /// Memory that copies take.
    pub(super) memory_bytes: Cell<usize>,
    /// Bytes that users have written, and those of them that count for the debt already.
    written: Cell<u64>,
    counted: Cell<u64>,
    /// Segments that were claimed for copies.
    pub(crate) claimed: Cell<u64>,
    costs: RefCell<Costs>,
    /// Writes that wait for the debt to be paid.
    in_debt: Cell<usize>,
}

/// What copies took of segments and what was live of them, as decaying sums, both in segments. A segment whose rest is too
/// small for another record is taken as a whole, so records of a few large pieces may take several times their bytes.
#[derive(Debug)]
struct Costs {
    claimed: f64,
    live: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { claimed: VICTIMS_OF_MEAN, live: VICTIMS_OF_MEAN }
    }
}

impl Costs {
    /// Bytes of segments for each live byte.
    fn ratio(&self) -> f64 {
        (self.claimed / self.live).max(1.0)
    }

    /// A victim was emptied, with so much live, for whose copies so many segments were claimed.
    fn add(&mut self, claimed: f64, live: f64) {
        let kept = 1.0 - live.min(1.0) / VICTIMS_OF_MEAN;
        self.claimed = self.claimed * kept + claimed;
        self.live = self.live * kept + live;
    }

    fn forget(&mut self) {
        self.claimed -= (self.claimed - self.live).max(0.0) * FORGOTTEN_SHARE;
    }
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
    /// Data that had died and transactions that were applied when it began.
    began: (u64, u64),
    /// The most segments beyond what users leave that were free since; less than none is a lack.
    beyond: isize,
    /// Victims that were emptied since then, and the bytes that they promised.
    victims: u32,
    promised: u64,
    has_stalled: bool,
}

/// The state of the policy, which needs the shard's geometry.
pub(super) struct Policy {
    candidates: Candidates,
    pub(super) classes: Classes,
    pub(super) pacing: Pacing,
    /// The next segment whose facts are looked at.
    next: usize,
}

/// Keeps the cleaner going without regard to its debt, until dropped.
pub(crate) struct CleaningWanted(Rc<Mounted>);

impl CleanState {
    /// Memory that copies take at this moment.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes.get()
    }

    /// Users wrote so many bytes.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
    }
}

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

/// A write that waits for the cleaner, until dropped.
struct InDebt<'a>(&'a Mounted);

impl<'a> InDebt<'a> {
    fn new(shard: &'a Mounted) -> Self {
        shard.clean.in_debt.set(shard.clean.in_debt.get() + 1);
        Self(shard)
    }
}

impl Drop for InDebt<'_> {
    fn drop(&mut self) {
        self.0.clean.in_debt.set(self.0.clean.in_debt.get() - 1);
    }
}

/// A victim that is being cleaned.
pub(super) struct Victim {
    pub(super) segment: SegmentId,
    pub(super) incarnation: Incarnation,
    pub(super) class: AgeClass,
    /// A piece of it could not be copied.
    pub(super) is_damaged: Cell<bool>,
    /// A row could not be looked up.
    pub(super) is_unread: bool,
}

impl Mounted {
    /// The task that cleans while the shard serves.
    pub(crate) async fn clean_loop(self: Rc<Self>) {
        loop {
            let must_end = || self.trim_must_end() || !self.cleans();
            self.trim.wake.until(|| must_end() || self.clean_is_due()).await;
            if must_end() {
                self.clean.runs.set(false);
                return;
            }
            match self.clean_one().await {
                Ok(None) => {}
                Ok(Some(rest)) => self.clean_rests(rest),
                Err(Error::Closed | Error::Fenced(_)) => return,
                Err(error) => {
                    // Without space for copies a trim cycle, or a removal, has to make some first.
                    tracing::debug!(%error, "cleaning stops until more data is dead");
                    self.clean_rests(Rest::Failed(error));
                }
            }
            self.trim.moved.notify_all();
        }
    }

    fn clean_seen(&self) -> Seen {
        Seen { losses: self.table.losses(), cycles: self.trim.completed.get() }
    }

    /// There is nothing to do until more data is dead.
    fn clean_rests(&self, why: Rest) {
        self.clean.exhausted_at.set(Some(self.clean_seen()));
        self.clean.rests.replace_with(|(count, _)| (*count + 1, why));
    }

    /// Nothing was logged for a while. Writes that all wait for the cleaner log nothing either.
    pub(crate) fn clean_when_idle(&self) {
        if self.options.cleaning && self.clean.in_debt.get() == 0 {
            self.clean.is_idle.set(true);
            self.trim.wake.notify_all();
        }
    }

    /// Lets the task look again, whatever it found.
    pub(super) fn clean_anew(&self) {
        self.clean.exhausted_at.set(None);
        self.clean.progress.set(Progress::default());
        self.trim.wake.notify_all();
    }

    /// Whether the cleaner is on, or was asked to clean now.
    fn cleans(&self) -> bool {
        self.options.cleaning || self.clean.requests.get() > 0
    }

    /// Whether there may be something to clean.
    pub(crate) fn may_clean(&self) -> bool {
        self.cleans() && !self.clean_has_stalled() && self.clean.exhausted_at.get() != Some(self.clean_seen())
    }

    /// What shows that callers get on.
    fn callers_seen(&self) -> (u64, u64) {
        (self.table.losses(), self.counters.stats.borrow().transactions)
    }

    /// Whether the last victims brought nothing, and no data died since.
    pub(super) fn clean_has_stalled(&self) -> bool {
        let Progress { began, has_stalled, .. } = self.clean.progress.get();
        has_stalled && began.0 == self.table.losses()
    }

    /// Another victim was emptied, with so many live bytes: notes whether that brought anything.
    fn note_progress(&self, live: u64) {
        let segment_bytes = u64::from(self.layout.segment_bytes);
        let free = (self.table.free_count() + self.soon_free()).cast_signed();
        let (began, beyond) = (self.callers_seen(), free - self.user_reserve().cast_signed());
        let mut progress = self.clean.progress.get();
        // Requests to clean now end by themselves: they clean what was there before.
        let is_for_nobody =
            self.clean.waiting.get() == self.clean.requests.get() && self.clean.in_debt.get() == 0;
        if progress.began != began || beyond > progress.beyond || is_for_nobody {
            progress = Progress { began, beyond, ..Progress::default() };
        } else {
            progress.victims += 1;
            progress.promised += segment_bytes.saturating_sub(self.cost_of_copies(live));
            // A checkpoint takes some segments for a while.
            let lacking = STALL_PROMISED.max(self.checkpoint_segments() as u64) * segment_bytes;
            progress.has_stalled = progress.victims >= STALL_VICTIMS && progress.promised >= lacking;
        }
        self.clean.progress.set(progress);
    }

    /// Whether cleaning may make room for a request that its live bytes leave room for.
    pub(crate) fn cleaning_may_help(&self, bytes: usize) -> bool {
        let live = self.table.live_total().max(0).cast_unsigned();
        !self.closing.get() && live + bytes as u64 <= self.usable_bytes() && self.may_clean()
    }

    /// Segments that were emptied, and will be free when that is provably durable and nobody reads them.
    fn soon_free(&self) -> usize {
        let emptied = &mut *self.clean.emptied.borrow_mut();
        emptied.retain(|(segment, incarnation)| self.table.live_of(*segment, *incarnation) == Some(0));
        emptied.len() + self.table.cooling_count()
    }

    /// Bytes that users may write before they have to wait for space, as the pace sees it: what will be free soon is, and
    /// half of the window, which a trim cycle leaves, is there always. Else each cycle would look like a lack of space.
    fn clean_room(&self) -> u64 {
        let window = self.journal.as_ref().map_or(0, |journal| journal.segment_count());
        let longer = window.saturating_sub(self.window_segments_max() / 2);
        let free = self.table.free_count() + self.soon_free();
        free.saturating_sub(self.user_reserve() + longer) as u64 * u64::from(self.layout.segment_bytes)
    }

    /// Bytes of debt that users may be in before they wait.
    fn debt_max(&self) -> u64 {
        BATCHES_OF_DEBT * batch_bytes(self.options.memory_bytes) as u64
    }

    /// Whether a write has to wait for the cleaner. The debt of idle time is nobody's.
    pub(crate) fn is_in_debt(&self) -> bool {
        let may_be = self.options.cleaning && !self.closing.get() && !self.clean.is_idle.get();
        may_be && self.may_clean() && {
            self.count_debt();
            self.with_policy(|policy| policy.pacing.to_wait_for(self.debt_max()) > 0)
        }
    }

    /// Waits until the cleaner has made good for what was written.
    pub(crate) async fn pay_debt(&self) {
        if self.is_in_debt() {
            seabed_types::reached!(DebtWaited);
            let _waits = InDebt::new(self);
            self.trim.wake.notify_all();
            self.trim.moved.until(|| self.trim_must_end() || !self.is_in_debt()).await;
        }
    }

    pub(super) fn with_policy<T>(&self, work: impl FnOnce(&mut Policy) -> T) -> T {
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

    /// Whether the cleaner has anything to do.
    fn clean_is_due(&self) -> bool {
        if !self.may_clean() {
            return false;
        }
        if self.clean.waiting.get() > 0 {
            return true;
        }
        self.clean_debt() > 0
    }

    /// Bytes that are to be copied now.
    fn clean_debt(&self) -> u64 {
        self.count_debt();
        self.with_policy(|policy| policy.pacing.next(|work| work == Work::Clean))
            .map_or(0, |(_, bytes)| bytes)
    }

    /// Adds to the debt what users have written since it was counted last.
    fn count_debt(&self) {
        let written = self.clean.written.get();
        let bytes = written - self.clean.counted.replace(written);
        let free = if bytes > 0 || self.clean.is_idle.get() { self.clean_room() } else { 0 };
        self.with_policy(|policy| {
            if bytes > 0 {
                self.clean.is_idle.set(false);
                policy.pacing.after_write(bytes, &Needs { free, ..Needs::default() });
            } else if self.clean.is_idle.get() {
                policy.pacing.idle(free);
            }
        });
    }

    /// Empties one victim. Or why not, or why no other should be.
    async fn clean_one(self: &Rc<Self>) -> Result<Option<Rest>> {
        let Some((chosen, facts)) = self.choose_victim().await else {
            self.prove_freed().await?;
            self.with_policy(|policy| policy.pacing.cancel(Work::Clean));
            self.clean.costs.borrow_mut().forget();
            return Ok(Some(Rest::NothingWorth));
        };
        let is_only_idle = self.clean.is_idle.get() && self.clean.waiting.get() == 0;
        if is_only_idle && !self.with_policy(|policy| policy.pacing.is_worth_idle(&facts)) {
            // Later it will be cheaper, or there will be need for it.
            self.clean.is_idle.set(false);
            self.with_policy(|policy| policy.pacing.cancel(Work::Clean));
            return Ok(None);
        }
        let (class, _) = age_of(chosen.age);
        let clock = Clock(self.table.clock());
        self.with_policy(|policy| {
            policy.classes.note_victim(&facts, clock);
            policy.pacing.begin_victim(&facts);
        });
        let mut victim = Victim {
            segment: chosen.segment,
            incarnation: chosen.incarnation,
            class,
            is_damaged: Cell::new(false),
            is_unread: false,
        };
        let copied = || (self.clean.claimed.get(), self.counters.stats.borrow().bytes_relocated);
        let before = copied();
        let result = self.evacuate(&mut victim).await;
        let after = copied();
        self.with_policy(|policy| policy.pacing.end_victim());
        result?;
        match self.table.live_of(victim.segment, victim.incarnation) {
            Some(live) if live > 0 => {
                self.clean.stuck.borrow_mut().push((victim.segment, victim.incarnation, live));
            }
            _ => {
                self.clean.emptied.borrow_mut().push((victim.segment, victim.incarnation));
                self.counters.count(|stats| stats.segments_cleaned += 1);
                seabed_types::reached!(SegmentCleaned);
            }
        }
        if victim.is_damaged.get() {
            self.table.quarantine(victim.segment);
        }
        self.note_progress(facts.live);
        self.clean.unproven.set(self.clean.unproven.get() + 1);
        if self.clean.unproven.get() >= VICTIMS_UNPROVEN {
            self.prove_freed().await?;
        }
        self.note_cost(after.0 - before.0, after.1 - before.1);
        Ok(None)
    }

    /// Learns what copies cost.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn note_cost(&self, claimed: u64, live: u64) {
        let live = live as f64 / f64::from(self.layout.segment_bytes);
        self.clean.costs.borrow_mut().add(claimed as f64, live);
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
        let requests = self.clean.requests.get();
        let is_for_requests = requests > 0 && requests == self.clean.waiting.get();
        let worth = |data: &DataSegment| {
            let is_old = !is_for_requests || age_of(data.age).1 < self.clean.before.get();
            is_old
                && self.is_worth_cleaning(data.live)
                && !stuck.iter().any(|(segment, ..)| *segment == data.segment)
        };
        let clock = Clock(self.table.clock());
        let facts_of = |data: &DataSegment| {
            let (class, placed) = age_of(data.age);
            let live = if worth(data) { data.live } else { segment_bytes };
            Facts { live, written: segment_bytes, placed, class }
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

    /// Waits until more is to be copied.
    pub(super) async fn keep_clean_pace(&self) -> Result<()> {
        self.look_at_io().await;
        // A request that was dropped while cleaning is off leaves its victim to be finished.
        let is_urgent = || self.clean.waiting.get() > 0 || !self.options.cleaning;
        let goes_on = || self.trim_must_end() || is_urgent() || self.clean_debt() > 0;
        self.trim.wake.until(goes_on).await;
        if self.trim_must_end() { Err(Error::Closed) } else { Ok(()) }
    }

    /// What copying live bytes takes of segments: with the headers of their records, or as much as copies took of late.
    pub(super) fn cost_of_copies(&self, live: u64) -> u64 {
        let payload = (self.copy_record_max() - BLOCK_BYTES).max(BLOCK_BYTES) as u64;
        let headers = live.div_ceil(payload) * BLOCK_BYTES as u64;
        (live + headers).max(scaled(live, self.clean.costs.borrow().ratio()))
    }

    /// Whether emptying a segment with so many live bytes gains enough.
    pub(super) fn is_worth_cleaning(&self, live: u64) -> bool {
        let segment_bytes = u64::from(self.layout.segment_bytes);
        let usable = segment_bytes.saturating_sub(3 * BLOCK_BYTES as u64);
        self.cost_of_copies(live) + self.least_gain() <= usable
    }

    /// The gain for which a segment is cleaned.
    fn least_gain(&self) -> u64 {
        (u64::from(self.layout.segment_bytes) / GAIN_SHARE).max(2 * BLOCK_BYTES as u64)
    }
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

/// The age that a claim states for a segment of relocated data of a class, claimed at this moment of the clock.
pub(crate) fn age_for(class: usize, clock: u64) -> u64 {
    let group = u64::try_from(class + 1).unwrap_or(0).min(7);
    (clock & ((1 << GROUP_SHIFT) - 1)) | group << GROUP_SHIFT
}

/// The class and the moment of the claim that an age states.
pub(crate) fn age_of(age: u64) -> (AgeClass, Clock) {
    let clock = Clock(age & ((1 << GROUP_SHIFT) - 1));
    match u8::try_from(age >> GROUP_SHIFT).unwrap_or(0) {
        0 => (AgeClass::Fresh, clock),
        group => (AgeClass::Relocated(group - 1), clock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Victims a third of which was live were emptied into as many segments as they were, without end.
    #[test]
    fn what_copies_take_of_segments_is_learned_and_forgotten() {
        let mut costs = Costs::default();
        assert!((costs.ratio() - 1.0).abs() < 1e-9);
        for _ in 0..40 {
            costs.add(1.0, 0.3);
        }
        assert!(costs.ratio() > 2.0, "{costs:?}");
        for _ in 0..40 {
            costs.forget();
        }
        assert!(costs.ratio() < 1.05, "{costs:?}");
        costs.add(0.0, 0.0);
        assert!(costs.ratio().is_finite());
    }

    #[test]
    fn an_age_states_class_and_moment() {
        assert_eq!(age_of(77), (AgeClass::Fresh, Clock(77)));
        for class in 0..7 {
            let group = u8::try_from(class).expect("small");
            assert_eq!(age_of(age_for(class, 1 << 50)), (AgeClass::Relocated(group), Clock(1 << 50)));
        }
    }
}
