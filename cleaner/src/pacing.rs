//! Pacing: how much background work each write pays for, and which work goes first.
//!
//! Trimming, compaction of nodes and cleaning write to the same device as users do. Each write of a user adds to the *debt* of each
//! of them what keeps it in time; the engine then works until the debts are paid. So background work is spread over writes as
//! they come, an idle store has none to do, and no work waits for a threshold and then comes all at once.
//!
//! **One law.** If `work` bytes have to be written before users have written `room` more bytes, a write of `b` adds
//! `b * work / room` ([`Due`]):
//! - trimming: what is left of the cycle, before the rest of half a window is logged;
//! - compaction: the images of the node segments to be emptied, before the free node space is used;
//! - cleaning: the live bytes of the victim, before users have written as much as its dead bytes, times the *pressure*.
//!
//! **The controller.** With a pressure of 1 cleaning frees exactly what users write, so free space stays as it is. The pressure
//! is 0 above `high`, 1 at `target`, and grows without a step towards `floor` ([`Levels::pressure`]): free space settles at the
//! target, whatever the load, and no estimate has to be right. Between target and high there is room for a burst after idle time:
//! idle time is used to clean up to `high` ([`Pacing::idle`]), as long as victims are cheap ([`Pacing::is_worth_idle`]).
//!
//! Free space is counted to the byte: the part of the victim that was copied counts as free already, with its share of dead
//! bytes, so the pressure does not jump when the victim is freed.
//!
//! **Who goes first** is [`Pacing::next`]: trimming, compaction, cleaning, each as far as its debt goes. Trimming first because it
//! frees what the others need and a full window stops every write; it may also take the last segment (rule S5). All debts
//! are paid before the next write is let in without waiting, so the order decides latencies, never who starves.
//!
//! Example: segments of 1 MiB, the victim has 700 KiB live and 300 KiB dead. At the target a write of 4 KiB adds
//! 4 * 700 / 300 = 9.3 KiB to the debt of cleaning. After 75 such writes 300 KiB were written and 700 KiB copied, and the victim
//! is free: 1 MiB for 1 MiB.
//!
//! Invariants: 1. A debt is never negative and grows only with bytes that users write, or in [`Pacing::idle`] up to `high`.
//! 2. The pressure is a continuous, falling function of free space.
//! Limits: one write adds at most [`RATE_MAX`] times its bytes for each kind of work.
//! Not here: whether a transaction fits at all (admission); which victim ([`crate::victim`]).

use crate::Facts;

/// A write pays for at most so many times its own bytes, of each kind of work.
pub const RATE_MAX: f64 = 64.0;

/// The pressure does not pass this: the rest is waiting.
const PRESSURE_MAX: f64 = 16.0;

/// Segments between floor and target, and at least so many from there to high.
const BAND_SEGMENTS: u64 = 3;
const HEADROOM_SEGMENTS: u64 = 4;
/// One segment of so many is headroom in larger stores.
const HEADROOM_SHARE: u64 = 64;

/// In idle time victims may be so many times as dear as they were under load.
const IDLE_PRICE: f64 = 1.5;

/// The share of the newest victim in the mean price of space.
const NEWEST_SHARE: f64 = 1.0 / 16.0;

/// Background work, in the order in which it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Moving the window's start on.
    Trim,
    /// Moving images of nodes together.
    Compact,
    /// Copying live bytes out of a victim.
    Clean,
}

impl Work {
    /// First to last; see [`Pacing::next`].
    pub const ORDER: [Self; 3] = [Self::Trim, Self::Compact, Self::Clean];
}

/// Bytes of work to be written before users have written `room` bytes more.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Due {
    /// Bytes of work that are left.
    pub work: u64,
    /// Bytes that users may write until they must be done.
    pub room: u64,
}

impl Due {
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn rate(self) -> f64 {
        if self.work == 0 { 0.0 } else { (self.work as f64 / self.room.max(1) as f64).min(RATE_MAX) }
    }
}

/// What the engine reads off its gauges for each write.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Needs {
    /// What is left of the trim cycle.
    pub trim: Due,
    /// What is left of a compaction that is worth it.
    pub compact: Due,
    /// Bytes of free segments, and what is left of open ones.
    pub free: u64,
}

/// Levels of free space, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    floor: u64,
    target: u64,
    high: u64,
}

impl Levels {
    /// For a shard with so many segments, `reserve` bytes of which users never take: they are for the cleaner's own open segments
    /// and for what else is reserved.
    pub fn of(segments: u64, segment_bytes: u64, reserve: u64) -> Self {
        let target = reserve + BAND_SEGMENTS * segment_bytes;
        let headroom = (segments / HEADROOM_SHARE).max(HEADROOM_SEGMENTS) * segment_bytes;
        Self { floor: reserve, target, high: target + headroom }
    }

    /// What free space settles at under load.
    pub fn target(&self) -> u64 {
        self.target
    }

    /// Up to which idle time is used.
    pub fn high(&self) -> u64 {
        self.high
    }

    /// Bytes that cleaning frees for each byte that users write.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn pressure(&self, free: u64) -> f64 {
        if free >= self.target {
            let (left, all) = (self.high.saturating_sub(free), self.high - self.target);
            return left as f64 / all as f64;
        }
        let (above, below) = (free.saturating_sub(self.floor), self.target - free);
        (1.0 + below as f64 / above.max(1) as f64).min(PRESSURE_MAX)
    }
}

/// The victim that is being cleaned.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Progress {
    live: u64,
    segment_bytes: u64,
    copied: u64,
}

/// The debts of a shard's background work.
#[derive(Clone, Debug)]
pub struct Pacing {
    levels: Levels,
    segment_bytes: u64,
    /// By [`Work::ORDER`], in bytes.
    debts: [f64; 3],
    /// What of the debt of cleaning users have to pay for, if idle time has added to it.
    of_users: Option<f64>,
    victim: Option<Progress>,
    /// Live bytes of victims and what was gained from them, means of the last ones.
    live_mean: f64,
    gain_mean: f64,
}

impl Pacing {
    /// Without debts.
    pub fn new(levels: Levels, segment_bytes: u64) -> Self {
        assert!(levels.floor < levels.target, "the controller has a range to work in");
        assert!(levels.target < levels.high, "and headroom above it");
        Self {
            levels,
            segment_bytes,
            debts: [0.0; 3],
            of_users: None,
            victim: None,
            live_mean: 0.0,
            gain_mean: 0.0,
        }
    }

    /// The levels, for reports.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// A user wrote so many bytes: adds what they have to pay for, and takes off what idle time has added. Returns all debts
    /// together.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn after_write(&mut self, bytes: u64, needs: &Needs) -> u64 {
        if let Some(of_users) = self.of_users.take() {
            let debt = &mut self.debts[Work::Clean as usize];
            *debt = debt.min(of_users);
        }
        let clean = self.copies_per_gain() * self.levels.pressure(self.free(needs.free));
        for (work, rate) in [
            (Work::Trim, needs.trim.rate()),
            (Work::Compact, needs.compact.rate()),
            (Work::Clean, clean.min(RATE_MAX)),
        ] {
            self.debts[work as usize] += rate * bytes as f64;
        }
        self.debt()
    }

    /// Nobody writes: adds the debt of cleaning up to `high`, at most one victim at a time. Returns all debts together.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn idle(&mut self, free: u64) -> u64 {
        let lacking = self.levels.high.saturating_sub(self.free(free)) as f64;
        let step = lacking.min(self.segment_bytes as f64) * self.copies_per_gain();
        let debt = &mut self.debts[Work::Clean as usize];
        self.of_users.get_or_insert(*debt);
        *debt = debt.max(step);
        self.debt()
    }

    /// Whether a victim is cheap enough for idle time: waiting would make most of them cheaper, and a store that is nearly
    /// full never gets to `high`. Not: end idle work, with [`Pacing::cancel`], until users have written again.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn is_worth_idle(&self, victim: &Facts) -> bool {
        let gain = self.segment_bytes.saturating_sub(victim.live) as f64;
        victim.live as f64 <= IDLE_PRICE * self.copies_per_gain() * gain
    }

    /// What is to be done next, and for how many bytes: the first kind of work that has a debt of a byte and that can be done
    /// now. **This is the one place that says who goes first.**
    ///
    /// `can` is false for work that lacks something that only other work brings: a trim without node space lets cleaning
    /// go first, cleaning without a victim lets the others go on.
    pub fn next(&self, can: impl Fn(Work) -> bool) -> Option<(Work, u64)> {
        Work::ORDER.into_iter().find_map(|work| {
            let bytes = self.debt_of(work);
            (bytes > 0 && can(work)).then_some((work, bytes))
        })
    }

    /// So many bytes of work were written.
    #[expect(clippy::cast_precision_loss, reason = "a debt")]
    pub fn paid(&mut self, work: Work, bytes: u64) {
        let debt = &mut self.debts[work as usize];
        *debt = (*debt - bytes as f64).max(0.0);
        if let (Work::Clean, Some(of_users)) = (work, &mut self.of_users) {
            *of_users = (*of_users - bytes as f64).max(0.0);
        }
        if let (Work::Clean, Some(victim)) = (work, &mut self.victim) {
            victim.copied = (victim.copied + bytes).min(victim.live);
        }
    }

    /// There is nothing of this work to do, or no way to: its debt ends, so that nobody waits for it.
    pub fn cancel(&mut self, work: Work) {
        self.debts[work as usize] = 0.0;
    }

    /// A victim was chosen: its live bytes set the price of space.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn begin_victim(&mut self, victim: &Facts) {
        let gain = self.segment_bytes.saturating_sub(victim.live).max(1) as f64;
        if self.gain_mean == 0.0 {
            (self.live_mean, self.gain_mean) = (victim.live as f64, gain);
        } else {
            self.live_mean += (victim.live as f64 - self.live_mean) * NEWEST_SHARE;
            self.gain_mean += (gain - self.gain_mean) * NEWEST_SHARE;
        }
        self.victim = Some(Progress { live: victim.live, segment_bytes: self.segment_bytes, copied: 0 });
    }

    /// The victim is free, or given up.
    pub fn end_victim(&mut self) {
        self.victim = None;
    }

    /// Bytes to copy for each byte that is gained, as of late; 1 before the first victim.
    fn copies_per_gain(&self) -> f64 {
        if self.gain_mean > 0.0 { self.live_mean / self.gain_mean } else { 1.0 }
    }

    /// All debts together, in whole bytes.
    pub fn debt(&self) -> u64 {
        Work::ORDER.into_iter().map(|work| self.debt_of(work)).sum()
    }

    /// Bytes of work to wait for before a further write, if `burst` bytes of debt are tolerated: the engine works in pieces
    /// of that size.
    pub fn to_wait_for(&self, burst: u64) -> u64 {
        self.debt().saturating_sub(burst)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; rounds down")]
    fn debt_of(&self, work: Work) -> u64 {
        self.debts[work as usize] as u64
    }

    /// Free space with the part of the victim that was copied.
    #[expect(clippy::cast_possible_truncation, reason = "at most a segment")]
    fn free(&self, free: u64) -> u64 {
        let Some(Progress { live, segment_bytes, copied }) = self.victim else { return free };
        let share = u128::from(segment_bytes) * u128::from(copied) / u128::from(live.max(1));
        free + share as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Clock};

    const SEGMENT: u64 = 1 << 20;

    fn levels() -> Levels {
        Levels::of(1000, SEGMENT, 5 * SEGMENT)
    }

    fn victim(live: u64) -> Facts {
        Facts { live, written: SEGMENT, placed: Clock(0), class: Class::Fresh }
    }

    /// A step in the pressure would be a step in users' latencies.
    #[test]
    fn the_pressure_has_no_cliff() {
        let levels = levels();
        let step = SEGMENT / 64;
        let mut last = levels.pressure(0);
        assert!((last - PRESSURE_MAX).abs() < 1e-9);
        for free in (0..levels.high + SEGMENT).step_by(usize::try_from(step).expect("small")) {
            let pressure = levels.pressure(free);
            assert!(pressure <= last, "more space, more pressure at {free}");
            // Near the floor it grows as 1 / x does; the last twentieth may end in one step.
            let is_small = last - pressure < last / 4.0;
            assert!(is_small || !(0.05..=8.0).contains(&last), "{last} to {pressure} at {free}");
            last = pressure;
        }
        assert!(last.abs() < 1e-9, "above high nothing is cleaned");
        assert!((levels.pressure(levels.target) - 1.0).abs() < 1e-9);
    }

    /// The example of the module.
    #[test]
    fn at_the_target_users_pay_for_what_they_use() {
        let mut pacing = Pacing::new(levels(), SEGMENT);
        let live = SEGMENT / 10 * 7;
        pacing.begin_victim(&victim(live));
        let mut free = levels().target;
        let mut written = 0_u64;
        let mut copied = 0;
        while copied < live {
            written += 4096;
            free -= 4096;
            pacing.after_write(4096, &Needs { free, ..Needs::default() });
            while let Some((Work::Clean, bytes)) = pacing.next(|_| true) {
                pacing.paid(Work::Clean, bytes);
                copied += bytes;
                free -= bytes;
            }
        }
        let gain = SEGMENT - live;
        assert!(written.abs_diff(gain) < gain / 20, "{written} written while {gain} were gained");
    }

    #[test]
    fn work_is_spread_evenly_up_to_its_deadline() {
        let mut pacing = Pacing::new(levels(), SEGMENT);
        let (mut work, mut room) = (3_u64 << 20, 1_u64 << 20);
        let mut largest = 0;
        while room > 0 {
            let needs = Needs { trim: Due { work, room }, free: u64::MAX / 2, ..Needs::default() };
            pacing.after_write(4096, &needs);
            let (kind, bytes) = pacing.next(|_| true).expect("there is a debt");
            assert_eq!(kind, Work::Trim);
            largest = largest.max(bytes);
            pacing.paid(Work::Trim, bytes);
            work -= bytes;
            room -= 4096;
        }
        assert!(work <= 4096, "{work} left at the deadline");
        assert!(largest <= 3 * 4096 + 64, "a write paid for {largest} bytes");
    }

    #[test]
    fn trimming_goes_first_and_what_cannot_be_done_stops_nothing() {
        let mut pacing = Pacing::new(levels(), SEGMENT);
        assert_eq!(pacing.next(|_| true), None);
        let due = Due { work: 100, room: 100 };
        let needs = Needs { trim: due, compact: due, free: levels().target };
        assert_eq!(pacing.after_write(10, &needs), 30);
        assert_eq!(pacing.next(|_| true), Some((Work::Trim, 10)));
        assert_eq!(pacing.next(|work| work != Work::Trim), Some((Work::Compact, 10)));
        pacing.paid(Work::Trim, 15);
        pacing.cancel(Work::Compact);
        assert_eq!(pacing.next(|_| true), Some((Work::Clean, 10)));
        assert_eq!(pacing.to_wait_for(4), 6);
        pacing.paid(Work::Clean, 10);
        assert_eq!((pacing.next(|_| true), pacing.debt()), (None, 0));
    }

    #[test]
    fn idle_time_cleans_up_to_high_and_no_further() {
        let mut pacing = Pacing::new(levels(), SEGMENT);
        assert_eq!(pacing.idle(levels().high), 0);
        pacing.begin_victim(&victim(SEGMENT / 2));
        let debt = pacing.idle(levels().high - SEGMENT / 4);
        assert_eq!(debt, SEGMENT / 4, "as many copies as are gained");
        assert_eq!(pacing.idle(levels().high - SEGMENT / 4), debt, "asked twice, owed once");
        pacing.paid(Work::Clean, debt);
        // Half of the victim was copied: half a segment is as good as free, and a quarter was used for the copies.
        assert_eq!(pacing.idle(levels().high - SEGMENT / 2), 0);
    }

    /// The first write after idle time would else wait for a victim that was only begun because nobody wrote.
    #[test]
    fn writes_do_not_pay_for_what_idle_time_began() {
        let mut pacing = Pacing::new(levels(), SEGMENT);
        pacing.begin_victim(&victim(SEGMENT / 10 * 8));
        let write = Needs { free: levels().target, ..Needs::default() };
        let of_users = pacing.after_write(4096, &write);
        assert!(pacing.idle(levels().target) > 4 * of_users);
        pacing.paid(Work::Clean, of_users / 2);
        let debt = pacing.after_write(0, &write);
        assert!(debt.abs_diff(of_users - of_users / 2) <= 1, "{debt} of {of_users}, of which half was paid");
        assert_eq!(pacing.after_write(0, &write), debt, "once");
    }

    /// A store that is nearly full would else copy all it has whenever it is idle.
    #[test]
    fn idle_time_leaves_dear_victims_alone() {
        let mut pacing = Pacing::new(levels(), SEGMENT);
        assert!(
            pacing.is_worth_idle(&victim(SEGMENT / 2)) && !pacing.is_worth_idle(&victim(SEGMENT / 10 * 9))
        );
        pacing.begin_victim(&victim(SEGMENT / 10 * 8));
        assert!(pacing.is_worth_idle(&victim(SEGMENT / 10 * 8)), "as dear as under load");
        assert!(!pacing.is_worth_idle(&victim(SEGMENT / 10 * 9)) && !pacing.is_worth_idle(&victim(SEGMENT)));
    }

    /// A victim without dead bytes, a full window: no division by 0 and no debt without a bound.
    #[test]
    fn a_write_pays_for_a_bounded_amount() {
        let mut pacing = Pacing::new(levels(), SEGMENT);
        pacing.begin_victim(&victim(SEGMENT));
        let due = Due { work: u64::MAX, room: 0 };
        let debt = pacing.after_write(4096, &Needs { trim: due, compact: due, free: 0 });
        assert_eq!(debt, 3 * 64 * 4096);
    }
}
