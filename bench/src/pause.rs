//! Pause: the thinking of a job's clients (`thinktime`), all of them together.
//!
//! When so many operations have ended (or begun, with `thinktime_blocks_type=issue`), or for so long operations have
//! been done, no client begins another; when the last one in flight has ended, all wait for `thinktime`, then all go on.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::job::{Job, Think};

/// See the module.
#[derive(Default)]
pub(crate) struct Pause {
    think: Option<Think>,
    /// Operations since the last pause.
    operations: Cell<u32>,
    /// When operations began after the last pause.
    since: Cell<Option<Instant>>,
    is_due: Cell<bool>,
    until: Cell<Option<Instant>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Pause {
    pub(crate) fn new(job: &Job) -> Self {
        Self { think: job.think.clone().filter(|think| !think.time.is_zero()), ..Self::default() }
    }

    /// An operation begins.
    pub(crate) fn begin(&self) {
        if let Some(think) = &self.think {
            if self.since.get().is_none() {
                self.since.set(Some(Instant::now()));
            }
            if think.is_at_issue {
                self.count(think);
            }
        }
    }

    /// An operation has ended, and so many are still in flight.
    pub(crate) fn end(&self, in_flight: u32) {
        let Some(think) = &self.think else { return };
        if !think.is_at_issue {
            self.count(think);
        }
        if self.is_due.get() && in_flight == 0 {
            self.wake();
        }
    }

    fn count(&self, think: &Think) {
        self.operations.set(self.operations.get().saturating_add(1));
        let is_time = match (think.io_time, self.since.get()) {
            (Some(io_time), Some(since)) => since.elapsed() >= io_time,
            _ => false,
        };
        if is_time || think.operations().is_some_and(|most| self.operations.get() >= most) {
            self.is_due.set(true);
        }
    }

    /// Until when a client must not begin an operation; none if it may. With others in flight it waits for them.
    pub(crate) async fn wait(&self, in_flight: impl Fn() -> u32) -> Option<Instant> {
        let think = self.think.as_ref()?;
        poll_fn(|context| {
            if self.is_due.get() && in_flight() > 0 {
                self.waiting.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        if !self.is_due.get() {
            return None;
        }
        let until = self.until.get().unwrap_or_else(|| Instant::now() + think.time);
        self.until.set(Some(until));
        Some(until)
    }

    /// A client has waited until then.
    pub(crate) fn over(&self, until: Instant) {
        if self.until.get() == Some(until) {
            self.until.set(None);
            self.is_due.set(false);
            self.operations.set(0);
            self.since.set(None);
            self.wake();
        }
    }

    fn wake(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

impl Think {
    /// Operations between two pauses; none if only their time counts.
    fn operations(&self) -> Option<u32> {
        self.blocks.or(self.io_time.is_none().then_some(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn pause(think: Think) -> Pause {
        Pause { think: Some(think), ..Pause::default() }
    }

    fn of(blocks: Option<u32>) -> Think {
        Think { time: Duration::from_millis(5), blocks, is_at_issue: false, io_time: None }
    }

    #[test]
    fn after_so_many_operations_all_wait_for_those_in_flight() {
        let pause = pause(of(Some(2)));
        let wait = |in_flight: u32| pause.wait(move || in_flight).now_or_never();
        for _ in 0..3 {
            pause.begin();
        }
        assert_eq!(wait(3), Some(None));
        pause.end(2);
        assert_eq!(wait(2), Some(None), "one has ended");
        pause.end(1);
        assert_eq!(wait(1), None, "two have ended, one is in flight");
        pause.end(0);
        let until = wait(0).expect("it waits for a time").expect("a time");
        assert_eq!(wait(0), Some(Some(until)), "another client waits until then too");
        pause.over(until);
        pause.over(until);
        assert_eq!(wait(0), Some(None));
        pause.begin();
        pause.end(0);
        assert_eq!(wait(0), Some(None), "the next two");
    }

    #[test]
    fn at_issue_and_by_time() {
        let at_issue = pause(Think { is_at_issue: true, ..of(None) });
        at_issue.begin();
        assert_eq!(at_issue.wait(|| 1).now_or_never(), None);
        let by_time = pause(Think { io_time: Some(Duration::ZERO), ..of(None) });
        by_time.begin();
        by_time.end(0);
        assert!(by_time.wait(|| 0).now_or_never().flatten().is_some());
        let by_time = pause(Think { io_time: Some(Duration::from_hours(1)), ..of(None) });
        for _ in 0..100 {
            by_time.begin();
            by_time.end(0);
        }
        assert_eq!(by_time.wait(|| 0).now_or_never(), Some(None));
        assert_eq!(Pause::default().wait(|| 0).now_or_never(), Some(None));
    }
}
