//! Report: what a store that is at work does, on stderr, a line each interval (`--report`).
//!
//! A thread of its own asks the open store for its counters, as any other client: where the engine is too busy to answer, the
//! line is late. Written are bytes of users; the device's bytes over them are the write amplification, in the parts of
//! [`seabed::Stats::write_amplification`].

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use seabed::{Stats, Store};

use crate::sizes::{grouped, human};
use crate::stderr;

/// The thread that reports; ends when dropped.
pub(crate) struct Report {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Report {
    /// Reports each `interval` until dropped. Without a thread for it there is no report.
    pub(crate) fn start(store: &Store, interval: Duration) -> Self {
        let (end, ended) = channel::<()>();
        let store = store.clone();
        let segment_bytes = u64::from(store.info().superblock.layout.segment_bytes);
        let work = move || {
            let began = Instant::now();
            let mut before = Stats::default();
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let Ok(now) = block_on(store.stats()) else { return };
                let seconds = began.elapsed().as_secs();
                stderr::line(&line(seconds, interval, &before, &now, segment_bytes));
                before = now;
            }
        };
        Self { end: Some(end), thread: Builder::new().spawn(work).ok() }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It only writes lines.
            let _ = thread.join();
        }
    }
}

fn line(seconds: u64, interval: Duration, before: &Stats, now: &Stats, segment_bytes: u64) -> String {
    let rate = |bytes: u64| human(bytes / interval.as_secs().max(1));
    let amplified = match now.write_amplification() {
        Some(parts) => format!(
            "{:.2} device bytes a byte (data {:.2}, relocated {:.2}, metadata {:.2})",
            parts.total(),
            parts.data,
            parts.relocated,
            parts.metadata,
        ),
        None => "nothing written".into(),
    };
    format!(
        "{seconds} s: {} live, {} free; written {}/s, relocated {}/s, {} segments cleaned; since open {amplified}",
        human(now.live_bytes),
        human(now.free_segments * segment_bytes),
        rate(now.user_bytes_written.saturating_sub(before.user_bytes_written)),
        rate(now.bytes_relocated.saturating_sub(before.bytes_relocated)),
        grouped(now.segments_cleaned.saturating_sub(before.segments_cleaned)),
    )
}
