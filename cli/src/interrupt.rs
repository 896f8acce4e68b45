//! Interrupt: Ctrl-C, a closed terminal and a polite kill as a wish that a command looks at between two items.
//!
//! The first signal asks the command to end: it finishes what is in flight, closes the store and says how to go on. The
//! second ends the process at once, and so does the first SIGQUIT or SIGXCPU; nothing that was acknowledged is harmed, and
//! temporary directories are removed (`cleanup`). A signal that was ignored when the program started (`nohup`) stays
//! ignored.
//!
//! A thread of its own takes the signals, as a handler could not remove directories.

use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use seabed::device::Missing;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::cleanup;
use crate::exit::{Exit, Failure, Outcome, plain};

/// Signals that ask first.
const POLITE: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];
/// Signals that do not, though there is time to clean up.
const FIRM: [c_int; 2] = [SIGQUIT, SIGXCPU];

/// Whether a signal has come; shared by all threads of a command.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes the signals from now on.
    pub(crate) fn install() -> Outcome<Self> {
        let ignored = ignored();
        let taken = POLITE.into_iter().chain(FIRM).filter(|signal| ignored & bit(*signal) == 0);
        let mut signals = Signals::new(taken)
            .map_err(|error| Failure::new(Exit::Io, format!("taking signals: {}", plain(&error))))?;
        let interrupt = Self::default();
        let theirs = interrupt.clone();
        let spawned = thread::Builder::new().name("seabed-signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                theirs.take(signal);
            }
        });
        spawned.map_err(|_| Failure::new(Exit::Io, Missing::Threads.to_string()))?;
        Ok(interrupt)
    }

    fn take(&self, signal: c_int) {
        if POLITE.contains(&signal) && !self.is_set() {
            self.signal.store(usize::try_from(signal).expect("signals are positive"), Ordering::Relaxed);
            self.flag.store(true, Ordering::Relaxed);
        } else {
            cleanup::run();
            low_level::exit(128 + signal);
        }
    }

    /// The code to end with, if a signal has come.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(Exit::Signal(u8::try_from(signal).expect("signals are small"))),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.exit().is_some()
    }

    /// True once a signal has come, for code that knows no signals.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}

/// Makes a write past the limit on the size of files (`ulimit -f`) fail instead of ending the process.
pub(crate) fn fail_oversize_writes() {
    // Without it the process ends there, as it would have before.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// The signals that the process ignores; none where that cannot be found out.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn bit(signal: c_int) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0)
}
