//! Limit: a time after which a test that hangs takes the binary with it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(1);

/// Aborts the process unless dropped in time.
pub(crate) struct Limit {
    _alive: Sender<()>,
}

/// Begins the limit of the calling test.
pub(crate) fn limit() -> Limit {
    let (alive, ended) = channel();
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} took longer than {LIMIT:?}");
            std::process::abort();
        }
    });
    Limit { _alive: alive }
}
