//! Seeded bugs: places at which a defect can be switched on, so that it can be shown that a suite finds it.
//!
//! A place asks `seabed_types::seeded!(17)`. That is a constant `false`, and the place compiles to nothing, unless the whole
//! program is built with `--cfg seeded_bugs`; then it is true in a process that armed bug 17. Which bug is what, and which
//! suite must find it, stands in one table (`tests/src/seeded/bugs.rs`).
//!
//! A bug is one line in live code, never in an assert or in a check that only tests have. Where a rule is a second line of
//! defence one number switches off the first line too.

/// Whether the bugs are compiled in.
pub const ARE_BUILT_IN: bool = cfg!(seeded_bugs);

#[cfg(seeded_bugs)]
static ARMED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Switches bug `number` on in this process, and any other off; 0: none is on. Without the bugs compiled in nothing happens.
pub fn arm(number: u32) {
    #[cfg(seeded_bugs)]
    ARMED.store(number, std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(seeded_bugs))]
    let _ = number;
}

/// Whether bug `number` is on.
#[cfg(seeded_bugs)]
#[inline]
pub fn is_armed(number: u32) -> bool {
    ARMED.load(std::sync::atomic::Ordering::Relaxed) == number
}

/// Whether bug `number` is on: never.
#[cfg(not(seeded_bugs))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "it must cost nothing")]
pub const fn is_armed(_number: u32) -> bool {
    false
}

/// Whether the seeded bug of this number is on: a constant `false` in every program but that of the suite of seeded bugs.
#[macro_export]
macro_rules! seeded {
    ($number:literal) => {
        $crate::seeded::is_armed($number)
    };
}
