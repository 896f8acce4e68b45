//! Status: one line on stderr, while a run goes on, that says what it is doing and how fast; only for a terminal.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use seabed_bench::job::Direction;
use seabed_bench::live::{Live, Phase};
use seabed_bench::report::words;

use crate::args::Global;
use crate::progress::tick;

const DRAWS_PER_SECOND: u8 = 10;
/// Rates are of this long.
const RATE_TIME: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Status {
    bar: ProgressBar,
}

/// What was done when the rates were last worked out.
struct Seen {
    at: Instant,
    counts: [(u64, u64); 3],
    shown: String,
}

impl Status {
    /// Shows what `live` tells of `groups` groups.
    pub(super) fn new(global: &Global, live: &Arc<Live>, groups: u64) -> Self {
        if global.quiet || !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target);
        let live = Arc::clone(live);
        let seen =
            Arc::new(Mutex::new(Seen { at: Instant::now(), counts: counts(&live), shown: String::new() }));
        let style = ProgressStyle::with_template("{spinner} {state}, {elapsed}")
            .expect("the template is well-formed")
            .with_key("state", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                if let Ok(mut seen) = seen.lock() {
                    seen.look(&live, groups);
                    // A line that cannot be drawn is no reason to fail.
                    let _ = out.write_str(&seen.shown);
                }
            });
        bar.set_style(style);
        tick(&bar);
        Self { bar }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn counts(live: &Live) -> [(u64, u64); 3] {
    Direction::ALL.map(|direction| live.counts(direction))
}

impl Seen {
    fn look(&mut self, live: &Live, groups: u64) {
        let time = self.at.elapsed();
        if time < RATE_TIME && !self.shown.is_empty() {
            return;
        }
        let now = counts(live);
        let phase = live.phase();
        self.shown = format!("group {} of {groups}: {}", live.group() + 1, phase.name());
        if phase == Phase::Running {
            for (direction, (before, after)) in
                Direction::ALL.into_iter().zip(self.counts.into_iter().zip(now))
            {
                let rate = |from: u64, to: u64| f64::from(u32::try_from(to - from).unwrap_or(u32::MAX));
                let (operations, bytes) =
                    (rate(before.0, after.0), rate(before.1 >> 10, after.1 >> 10) * 1024.0);
                if operations > 0.0 {
                    let seconds = time.as_secs_f64();
                    let (operations, bytes) =
                        (words::count(operations / seconds), words::bytes(bytes / seconds));
                    write!(self.shown, ", {} {operations}/s {bytes}/s", direction.name())
                        .expect("a string takes everything");
                }
            }
        }
        (self.at, self.counts) = (Instant::now(), now);
    }
}
