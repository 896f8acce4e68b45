//! Clean: when the cleaner of data works, and on which segment. How a segment is emptied is [`super::evacuate`].
//!
//! **Pace.** Each byte that users write adds to a debt, the more the less space is free ([`seabed_cleaner::pacing`]); the
//! cleaner works until it is paid, and goes on without regard to it while a transaction waits for space. It never waits for
//! a transaction.
//!
//! **Victim.** Sealed segments of data outside the window are candidates ([`seabed_cleaner::victim`]), unless copying takes as
//! much as it frees, or a try has left them with live bytes that are still there.
//!
//! **End.** When no segment is worth cleaning, or as many as an eighth of all were emptied for callers that wait and none of
//! it became free, the cleaner sleeps until more data dies or a trim cycle ends: then admission decides by live bytes.
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
use crate::shard::mounted::Mounted;
use crate::space::segments::DataSegment;
use crate::{Error, Result};

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
pub(super) const SEGMENTS_AT_ONCE: usize = 4096;

/// Where the cleaner stands.
#[derive(Default)]
pub(crate) struct CleanState {
    policy: RefCell<Option<Policy>>,
    /// The clock when the debt was counted last.
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
    /// Requests to clean now (`clean_now`), and whether the task runs, which it does only for them if cleaning is off.
    pub(super) requests: Cell<usize>,
    /// What was placed later is not cleaned for those: copies of theirs, which may not fill their segments either.
    pub(super) before: Cell<Clock>,
    pub(crate) runs: Cell<bool>,
    /// How often the task had nothing to do, and why it had last.
    pub(super) rests: RefCell<(u64, Rest)>,
    /// Victims that were emptied since an empty record proved the last changes durable.
    unproven: Cell<u32>,
    /// Memory that copies take.
    pub(super) memory_bytes: Cell<usize>,
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

/// A victim that is being cleaned.
pub(super) struct Victim {
    pub(super) segment: SegmentId,
    pub(super) incarnation: Incarnation,
    pub(super) class: AgeClass,
    /// A piece of it could not be copied.
    pub(super) is_damaged: bool,
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

    /// Whether the last victims brought nothing, and no data died since.
    pub(super) fn clean_has_stalled(&self) -> bool {
        let Progress { losses, has_stalled, .. } = self.clean.progress.get();
        has_stalled && losses == self.table.losses()
    }

    /// Another victim was emptied: notes whether that brought anything.
    fn note_progress(&self) {
        let (losses, free) = (self.table.losses(), self.table.free_count());
        let mut progress = self.clean.progress.get();
        // Requests to clean now end by themselves: they clean what was there before.
        let is_for_nobody = self.clean.waiting.get() == self.clean.requests.get();
        if progress.losses != losses || free > progress.free || is_for_nobody {
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
        let clock = self.table.clock();
        let bytes = clock.saturating_sub(self.clean.counted.replace(clock));
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

    /// Empties one victim. Or why not, or why no other should be.
    async fn clean_one(self: &Rc<Self>) -> Result<Option<Rest>> {
        let Some((chosen, facts)) = self.choose_victim().await else {
            self.prove_freed().await?;
            self.with_policy(|policy| policy.pacing.cancel(Work::Clean));
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
            return Ok(None);
        }
        self.prove_freed().await?;
        Ok(Some(Rest::TooDear))
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

    /// What copying live bytes takes of a segment: with the headers of their records, as much as lists took of late.
    pub(super) fn cost_of_copies(&self, live: u64) -> u64 {
        let payload = (self.copy_record_max() - BLOCK_BYTES).max(BLOCK_BYTES) as u64;
        let headers = live.div_ceil(payload) * BLOCK_BYTES as u64;
        let ratio = self.clean.cost_ratio.get();
        let as_of_late = if ratio > 0.0 { scaled(live, ratio) } else { 0 };
        (live + headers).max(as_of_late)
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

    #[test]
    fn an_age_states_class_and_moment() {
        assert_eq!(age_of(77), (AgeClass::Fresh, Clock(77)));
        for class in 0..7 {
            let group = u8::try_from(class).expect("small");
            assert_eq!(age_of(age_for(class, 1 << 50)), (AgeClass::Relocated(group), Clock(1 << 50)));
        }
    }
}
