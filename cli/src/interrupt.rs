//! Interrupt: Ctrl-C (and a polite kill) as a wish that a command looks at between two items.
//!
//! The first signal asks the command to end: it finishes what is in flight, closes the store and says how to go on. The
//! second ends the process at once, which harms nothing that was acknowledged either.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::{Exit, Failure, Outcome, plain};

/// Whether a signal has come; shared by all threads of a command.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Takes the signals from now on.
    pub(crate) fn install() -> Outcome<Self> {
        Self::register().map_err(|error| Failure::new(Exit::Io, format!("taking signals: {}", plain(&error))))
    }

    fn register() -> io::Result<Self> {
        let interrupt = Self::default();
        let is_second = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal arms what the second meets.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_second))?;
            flag::register(signal, Arc::clone(&is_second))?;
            let number = usize::try_from(signal).expect("signals are positive");
            flag::register_usize(signal, Arc::clone(&interrupt.signal), number)?;
        }
        Ok(interrupt)
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
}
