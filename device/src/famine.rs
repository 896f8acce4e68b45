//! Famine: the nth permit that a thread asks for finds none, as if somebody else had all of them. For suites.
//!
//! Every [`crate::local::Semaphore`] of the thread counts. At the planned one all that is free of its semaphore is taken away,
//! until [`end`] gives it back. What was given out already comes back in the meantime as ever.
//!
//! Only with the feature `famine`; without it asking costs nothing more.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::local::{Notify, Permit, Semaphore};

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static PLANNED: Cell<Option<u64>> = const { Cell::new(None) };
    static TAKEN: RefCell<Option<Permit>> = const { RefCell::new(None) };
    static STRUCK: RefCell<Rc<Notify>> = RefCell::default();
}

/// Counts from zero; permit `nth` of those to come finds none.
pub fn plan(nth: Option<u64>) {
    end();
    ASKED.set(0);
    PLANNED.set(nth);
    STRUCK.with_borrow_mut(|struck| *struck = Rc::default());
}

/// How many were asked for since.
pub fn asked() -> u64 {
    ASKED.get()
}

/// Waits until the planned one was asked for.
pub async fn struck() {
    let struck = STRUCK.with_borrow(Rc::clone);
    struck.until(|| TAKEN.with_borrow(Option::is_some)).await;
}

/// Gives back what was taken away; nothing more is planned.
pub fn end() {
    PLANNED.set(None);
    // Whoever is woken may ask at once.
    let taken = TAKEN.take();
    drop(taken);
}

/// A permit is asked for.
pub(crate) fn ask(semaphore: &Rc<Semaphore>) {
    let number = ASKED.get();
    ASKED.set(number + 1);
    if PLANNED.get() == Some(number) {
        PLANNED.set(None);
        TAKEN.set(Some(semaphore.take_free()));
        STRUCK.with_borrow(|struck| struck.notify_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn the_planned_one_finds_none_until_the_end() {
        let semaphore = Semaphore::new(4);
        plan(Some(1));
        let first = semaphore.try_acquire(1).expect("free");
        assert!(struck().now_or_never().is_none());
        let mut waits = semaphore.acquire(2);
        assert!((&mut waits).now_or_never().is_none());
        assert!(struck().now_or_never().is_some());
        assert!(semaphore.try_acquire(1).is_none());
        end();
        let second = waits.now_or_never().expect("there are three");
        assert_eq!((semaphore.free(), asked()), (1, 3));
        drop((first, second));
        assert_eq!(semaphore.free(), 4);
    }
}
