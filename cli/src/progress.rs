//! Progress: how far a long command is, on stderr, if that is a terminal and nobody asked for quiet.
//!
//! The bar's length counts an item as its bytes and 4 KiB: a thousand empty files take time too. How much there is in
//! all may be known from the start (an export), later (an import counts ahead while it works), or never.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::args::Global;
use crate::sizes::{grouped, human};
use crate::stderr;

/// What an item counts besides its bytes.
const ITEM_BYTES: u64 = 4096;
const DRAWS_PER_SECOND: u8 = 10;
const TICK: Duration = Duration::from_millis(100);

/// What has been done so far; shared by the threads of a command.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    items: AtomicU64,
    items_all: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// `what` is what is done, as `importing`.
    pub(crate) fn new(global: &Global, what: &'static str) -> Self {
        let counts = Arc::new(Counts::default());
        if global.quiet || !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), counts };
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target).with_message(what);
        bar.set_style(style(&counts, false));
        tick(&bar);
        Self { bar, counts }
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Now it is known how much there is.
    pub(crate) fn set_total(&self, items: u64, bytes: u64) {
        self.counts.items_all.store(items, Ordering::Relaxed);
        if self.is_shown() {
            self.bar.set_style(style(&self.counts, true));
            self.bar.set_length(bytes + items * ITEM_BYTES);
        }
    }

    /// Some bytes of an item are done.
    pub(crate) fn bytes(&self, bytes: u64) {
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
    }

    /// So much is done in all.
    pub(crate) fn set(&self, items: u64, bytes: u64) {
        self.counts.items.store(items, Ordering::Relaxed);
        self.counts.bytes.store(bytes, Ordering::Relaxed);
        self.bar.set_position(bytes + items * ITEM_BYTES);
    }

    /// An item is done.
    pub(crate) fn item(&self) {
        self.counts.items.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(ITEM_BYTES);
    }

    /// Writes a line to stderr without spoiling the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| stderr::line(line));
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Redraws a bar also while nothing is done, where a thread can be started for that: indicatif panics where none can.
pub(crate) fn tick(bar: &ProgressBar) {
    let probe = thread::Builder::new().spawn(|| {});
    if probe.is_ok_and(|probe| probe.join().is_ok()) {
        bar.enable_steady_tick(TICK);
    }
}

fn style(counts: &Arc<Counts>, has_total: bool) -> ProgressStyle {
    let template =
        if has_total { "{msg} [{wide_bar}] {done}, {eta} left" } else { "{spinner} {msg} {done}, {elapsed}" };
    let counts = Arc::clone(counts);
    ProgressStyle::with_template(template)
        .expect("the templates above are well-formed")
        .progress_chars("=> ")
        .with_key("done", move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let bytes = counts.bytes.load(Ordering::Relaxed);
            let milliseconds = u64::try_from(state.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = bytes.saturating_mul(1000) / milliseconds;
            let items = grouped(counts.items.load(Ordering::Relaxed));
            let all = match counts.items_all.load(Ordering::Relaxed) {
                0 => String::new(),
                all => format!("/{}", grouped(all)),
            };
            // A bar that cannot be drawn is no reason to fail.
            let _ = write!(out, "{items}{all} items, {}, {}/s", human(bytes), human(rate));
        })
}

/// How far a command of several phases is that counts other things than files.
pub(crate) struct Steps {
    bar: ProgressBar,
}

impl Steps {
    pub(crate) fn new(global: &Global) -> Self {
        if global.quiet || !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {pos} {msg}, {elapsed}");
        bar.set_style(style.expect("the template is well-formed"));
        Self { bar }
    }

    pub(crate) fn at(&self, what: &'static str, done: u64, of: Option<u64>) {
        if self.bar.is_hidden() {
            return;
        }
        let message = match of {
            Some(all) => format!("of {} {what}", grouped(all)),
            None => what.to_owned(),
        };
        self.bar.set_message(message);
        self.bar.set_position(done);
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
