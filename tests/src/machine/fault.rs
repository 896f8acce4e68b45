//! Faults: what goes wrong on a simulated disk, and at which operation.
//!
//! A [`Fault`] counts the operations of one kind (that touch a range, if it has one), lets some pass and then strikes
//! once, several times or for ever. All faults of a schedule count all operations, so two of them can strike the same
//! one, for example a stall and a failure.
//!
//! Not here: crashes, which are made from the trace afterwards ([`super::Frontier`]).

use std::ops::Range;
use std::time::Duration;

use seabed_device::IoKind;

/// `EIO`: the medium failed.
pub const EIO: i32 = 5;
/// `ENOSPC`: a thin device is full.
pub const ENOSPC: i32 = 28;
/// `ENODATA`: what the kernel makes of a sector that cannot be read.
pub const ENODATA: i32 = 61;

/// What a failed write left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    /// The old bytes.
    Nothing,
    /// The new bytes: the record is there although its write failed.
    Everything,
    /// Sector by sector, seeded, either.
    Torn,
}

/// What became of the cache when a flush failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// Still there; the next flush makes it durable.
    Kept,
    /// Reads see it until the power is cut, but no later flush covers it, although it reports success.
    Lost,
    /// Sector by sector, seeded, it is either durable or gone at once.
    Reverted,
}

/// What happens to the operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A read or discard fails.
    Fail {
        /// With this error number.
        errno: i32,
    },
    /// A write fails.
    FailWrite {
        /// With this error number.
        errno: i32,
        /// What of it is there all the same.
        landed: Landed,
    },
    /// A flush fails.
    FailFlush {
        /// With this error number.
        errno: i32,
        /// What becomes of what it would have covered.
        cache: Cache,
    },
    /// A flush reports success and covers nothing.
    LieFlush,
    /// A write reports success and changes nothing.
    LoseWrite,
    /// A write or read reports success but goes to another place.
    Misdirect {
        /// The device offset that it goes to, a multiple of 4096.
        to: u64,
    },
    /// Any operation: as it is issued a bit at rest turns over, in the cache and on the medium.
    Flip {
        /// Device offset of the byte.
        at: u64,
        /// 0 to 7.
        bit: u8,
    },
    /// Any operation takes this much longer.
    Stall {
        /// Virtual time.
        time: Duration,
    },
    /// From this operation on, it included, nothing completes for this long.
    StallDevice {
        /// Virtual time.
        time: Duration,
    },
}

impl Effect {
    fn fits(self, kind: IoKind) -> bool {
        match self {
            Self::Fail { .. } => matches!(kind, IoKind::Read | IoKind::Discard),
            Self::FailWrite { .. } | Self::LoseWrite => kind == IoKind::Write,
            Self::FailFlush { .. } | Self::LieFlush => kind == IoKind::Flush,
            Self::Misdirect { .. } => matches!(kind, IoKind::Read | IoKind::Write),
            Self::Flip { .. } | Self::Stall { .. } | Self::StallDevice { .. } => true,
        }
    }
}

/// One thing that goes wrong: by default at the next operation of its kind, once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    kind: IoKind,
    effect: Effect,
    skip: u64,
    times: u64,
    range: Option<Range<u64>>,
}

impl Fault {
    /// `effect` at the next operation of `kind`.
    pub fn on(kind: IoKind, effect: Effect) -> Self {
        assert!(effect.fits(kind), "{effect:?} cannot happen to a {kind}");
        Self { kind, effect, skip: 0, times: 1, range: None }
    }

    /// Lets `operations` pass first.
    #[must_use]
    pub fn after(mut self, operations: u64) -> Self {
        self.skip = operations;
        self
    }

    /// Strikes `times` times in a row.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Strikes until it is taken away.
    #[must_use]
    pub fn for_ever(self) -> Self {
        self.times(u64::MAX)
    }

    /// Counts and strikes only operations that touch a byte of `range`; never a flush.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    fn strikes(&mut self, kind: IoKind, at: u64, bytes: u64) -> bool {
        let touches = |range: &Range<u64>| at < range.end && range.start < at + bytes;
        if kind != self.kind || !self.range.as_ref().is_none_or(touches) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times == 0 {
            return false;
        }
        self.times = self.times.saturating_sub(u64::from(self.times != u64::MAX));
        true
    }
}

/// A schedule of faults.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    list: Vec<Fault>,
    struck: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// And also `fault`.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.plan(fault);
        self
    }

    /// Adds `fault`; it counts operations from now on.
    pub fn plan(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    /// Takes all faults away; what they did stays.
    pub fn stop(&mut self) {
        self.list.clear();
    }

    /// How many operations were struck, counted once for each fault.
    pub fn struck(&self) -> u64 {
        self.struck
    }

    /// What happens to this operation.
    pub(super) fn draw(&mut self, kind: IoKind, at: u64, bytes: u64) -> Verdict {
        let mut verdict = Verdict::default();
        for fault in &mut self.list {
            if fault.strikes(kind, at, bytes) {
                verdict.add(fault.effect);
                self.struck += 1;
            }
        }
        verdict
    }
}

/// What happens to one operation, all faults together; of two of a kind the later counts.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// 0 if it succeeds.
    pub(super) errno: i32,
    /// What a failed write or discard leaves.
    pub(super) landed: Option<Landed>,
    /// What a failed flush does.
    pub(super) cache: Option<Cache>,
    /// It reports success and does nothing.
    pub(super) ineffective: bool,
    /// Where it goes instead.
    pub(super) elsewhere: Option<u64>,
    /// Bits that turn over.
    pub(super) flips: Vec<(u64, u8)>,
    /// How much longer it takes.
    pub(super) stall: Duration,
    /// How long the device does nothing.
    pub(super) stall_device: Duration,
}

impl Verdict {
    fn add(&mut self, effect: Effect) {
        match effect {
            Effect::Fail { errno } => (self.errno, self.landed) = (errno, Some(Landed::Torn)),
            Effect::FailWrite { errno, landed } => (self.errno, self.landed) = (errno, Some(landed)),
            Effect::FailFlush { errno, cache } => (self.errno, self.cache) = (errno, Some(cache)),
            Effect::LieFlush | Effect::LoseWrite => self.ineffective = true,
            Effect::Misdirect { to } => self.elsewhere = Some(to),
            Effect::Flip { at, bit } => self.flips.push((at, bit)),
            Effect::Stall { time } => self.stall += time,
            Effect::StallDevice { time } => self.stall_device += time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAIL: Effect = Effect::Fail { errno: EIO };

    #[test]
    fn faults_count_and_strike() {
        let second = Duration::from_secs(1);
        let mut faults = Faults::none()
            .with(Fault::on(IoKind::Read, FAIL).after(1).times(2))
            .with(Fault::on(IoKind::Read, Effect::Stall { time: second }).after(2));
        let verdicts: Vec<Verdict> = (0..4).map(|_| faults.draw(IoKind::Read, 0, 4096)).collect();
        assert_eq!(verdicts.iter().map(|verdict| verdict.errno).collect::<Vec<_>>(), [0, EIO, EIO, 0]);
        assert_eq!(verdicts[2].stall, second);
        assert_eq!(verdicts[3], Verdict::default());
        assert_eq!(faults.draw(IoKind::Write, 0, 4096), Verdict::default());
        assert_eq!(faults.struck(), 3);
    }

    #[test]
    fn a_range_is_touched_or_not() {
        let mut faults = Faults::none().with(Fault::on(IoKind::Read, FAIL).within(8192..8193).for_ever());
        assert_eq!(faults.draw(IoKind::Read, 4096, 4096).errno, 0);
        assert_eq!(faults.draw(IoKind::Read, 12288, 4096).errno, 0);
        for _ in 0..3 {
            assert_eq!(faults.draw(IoKind::Read, 4096, 8192).errno, EIO);
        }
        faults.stop();
        assert_eq!(faults.draw(IoKind::Read, 4096, 8192).errno, 0);
    }

    #[test]
    #[should_panic(expected = "cannot happen")]
    fn an_effect_must_fit_its_operation() {
        let _ = Fault::on(IoKind::Read, Effect::LieFlush);
    }
}
