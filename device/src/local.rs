//! Waiting within one thread: notifications, permits and one-shot values on `Rc` and `Cell`, without locks.
//!
//! They know no runtime and wake in the order of waiting, so the simulator runs them deterministically. Waiters are
//! woken, never polled, by the one who notifies.
//!
//! Cancel safety: a dropped waiter leaves the line, and a permit that was on its way to it goes to the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Wakes tasks that wait for a condition to be looked at again.
///
/// A waiter registers, looks at its condition, and waits; a notification between looking and waiting is not lost,
/// because both happen on one thread without an await between them.
#[derive(Default)]
pub struct Notify {
    waiters: RefCell<Vec<Waker>>,
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("waiters", &self.waiters.borrow().len()).finish()
    }
}

impl Notify {
    /// Wakes all that wait.
    pub fn notify_all(&self) {
        for waker in self.waiters.take() {
            waker.wake();
        }
    }

    /// Waits until `ready` is true; looks at it now and after each notification.
    pub async fn until(&self, mut ready: impl FnMut() -> bool) {
        poll_fn(|context| {
            if ready() {
                return Poll::Ready(());
            }
            let mut waiters = self.waiters.borrow_mut();
            if !waiters.iter().any(|waker| waker.will_wake(context.waker())) {
                waiters.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Counted permits, given out in the order of asking: a large request at the head is not overtaken by small ones.
pub struct Semaphore {
    free: Cell<usize>,
    total: usize,
    line: RefCell<VecDeque<Rc<Waiting>>>,
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("free", &self.free)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

struct Waiting {
    wants: usize,
    granted: Cell<bool>,
    left: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Semaphore {
    /// `total` permits, all free.
    pub fn new(total: usize) -> Rc<Self> {
        Rc::new(Self { free: Cell::new(total), total, line: RefCell::default() })
    }

    /// Permits that nobody has.
    pub fn free(&self) -> usize {
        self.free.get()
    }

    /// Waits for `count` permits; a count over the total waits for all of them. The place in the line is taken in the moment
    /// of the call; dropping the future leaves it.
    pub fn acquire(self: &Rc<Self>, count: usize) -> Acquire {
        #[cfg(feature = "famine")]
        crate::famine::ask(self);
        let wants = count.min(self.total);
        let waker = RefCell::default();
        let place = Rc::new(Waiting { wants, granted: Cell::new(false), left: Cell::new(false), waker });
        self.line.borrow_mut().push_back(Rc::clone(&place));
        self.serve();
        Acquire { of: Rc::clone(self), place: Some(place) }
    }

    /// `count` permits, if they are free and nobody waits for any.
    pub fn try_acquire(self: &Rc<Self>, count: usize) -> Option<Permit> {
        #[cfg(feature = "famine")]
        crate::famine::ask(self);
        let count = count.min(self.total);
        if !self.line.borrow().is_empty() || self.free.get() < count {
            return None;
        }
        self.free.set(self.free.get() - count);
        Some(Permit { of: Rc::clone(self), count })
    }

    /// All that nobody has.
    #[cfg(feature = "famine")]
    pub(crate) fn take_free(self: &Rc<Self>) -> Permit {
        Permit { of: Rc::clone(self), count: self.free.take() }
    }

    fn give_back(&self, count: usize) {
        self.free.set(self.free.get() + count);
        self.serve();
    }

    fn serve(&self) {
        loop {
            let head = match self.line.borrow().front() {
                Some(head) if head.left.get() || self.free.get() >= head.wants => Rc::clone(head),
                _ => return,
            };
            self.line.borrow_mut().pop_front();
            if head.left.get() {
                continue;
            }
            self.free.set(self.free.get() - head.wants);
            head.granted.set(true);
            if let Some(waker) = head.waker.take() {
                waker.wake();
            }
        }
    }
}

/// A place in the line of a [`Semaphore`].
pub struct Acquire {
    of: Rc<Semaphore>,
    /// None once the permit was handed out.
    place: Option<Rc<Waiting>>,
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("of", &self.of).finish_non_exhaustive()
    }
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let place = self.place.as_ref().expect("not polled after it was ready");
        if !place.granted.get() {
            *place.waker.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = place.wants;
        self.place = None;
        Poll::Ready(Permit { of: Rc::clone(&self.of), count })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if place.granted.get() {
            self.of.give_back(place.wants);
        } else {
            place.left.set(true);
            self.of.serve();
        }
    }
}

/// Permits of a [`Semaphore`]; they give themselves back when dropped.
#[derive(Debug)]
pub struct Permit {
    of: Rc<Semaphore>,
    count: usize,
}

impl Permit {
    /// Adds the permits of another of the same semaphore.
    pub fn merge(&mut self, mut other: Self) {
        assert!(Rc::ptr_eq(&self.of, &other.of), "permits of one semaphore");
        self.count += std::mem::take(&mut other.count);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.give_back(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::executor::block_on;
    use std::pin::pin;

    #[test]
    fn permits_go_in_order_and_come_back() {
        let semaphore = Semaphore::new(3);
        let first = block_on(semaphore.acquire(2));
        let mut large = pin!(semaphore.acquire(3));
        assert!(large.as_mut().now_or_never().is_none());
        let mut small = Box::pin(semaphore.acquire(1));
        assert!(small.as_mut().now_or_never().is_none(), "not past the large one");
        drop(first);
        let large = large.now_or_never().expect("served first");
        drop(small);
        drop(large);
        assert_eq!(semaphore.free(), 3);
        drop(block_on(semaphore.acquire(99)));
        assert_eq!(semaphore.free(), 3);
    }

    #[test]
    fn permits_at_once_pass_nobody_and_merge() {
        let semaphore = Semaphore::new(4);
        let mut first = semaphore.try_acquire(1).expect("free");
        first.merge(semaphore.try_acquire(1).expect("free"));
        assert_eq!(semaphore.free(), 2);
        let mut large = pin!(semaphore.acquire(3));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(semaphore.try_acquire(1).is_none(), "not past the large one");
        drop(first);
        drop(large.now_or_never().expect("served"));
        assert_eq!(semaphore.free(), 4);
    }

    #[test]
    fn a_dropped_waiter_passes_its_permit_on() {
        let semaphore = Semaphore::new(1);
        let held = block_on(semaphore.acquire(1));
        let mut gone = Box::pin(semaphore.acquire(1));
        let mut next = Box::pin(semaphore.acquire(1));
        assert!(gone.as_mut().now_or_never().is_none());
        assert!(next.as_mut().now_or_never().is_none());
        drop(held);
        drop(gone);
        assert!(next.now_or_never().is_some());
    }

    #[test]
    fn a_notification_is_not_lost() {
        let (notify, flag) = (Notify::default(), Cell::new(false));
        let mut wait = pin!(notify.until(|| flag.get()));
        assert!(wait.as_mut().now_or_never().is_none());
        flag.set(true);
        notify.notify_all();
        assert!(wait.now_or_never().is_some());
    }
}
