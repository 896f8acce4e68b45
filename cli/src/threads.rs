//! Threads: whether a command can have those that it is going to start.
//!
//! Scoped threads panic where none can be started. So a command asks first, before it has done anything; a limit that is
//! reached between the question and the start is still a panic.

use std::sync::mpsc::channel;
use std::thread::{Builder, JoinHandle};

use seabed::device::Missing;

use crate::exit::{Exit, Failure, Outcome};

/// Fails unless so many threads can run at the same time.
pub(crate) fn require(count: usize) -> Outcome<()> {
    let mut probes: Vec<(_, JoinHandle<()>)> = Vec::with_capacity(count);
    for _ in 0..count {
        let (end, ended) = channel::<()>();
        let wait = move || {
            // Fails when the other end is dropped.
            let _ = ended.recv();
        };
        match Builder::new().spawn(wait) {
            Ok(probe) => probes.push((end, probe)),
            Err(_) => break,
        }
    }
    let started = probes.len();
    for (end, probe) in probes {
        drop(end);
        // It does nothing that could panic.
        let _ = probe.join();
    }
    if started < count {
        let message = format!("{}; {started} of {count} could be, --jobs takes fewer", Missing::Threads);
        return Err(Failure::new(Exit::Io, message));
    }
    Ok(())
}
