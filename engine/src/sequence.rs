//! Sequence: the line of a collection: transactions are applied in the order in which they arrived.
//!
//! A place is taken when the request arrives, before anything is awaited. Whoever is first applies and leaves; those behind
//! load what they will need meanwhile. A place that is dropped leaves the line.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use seabed_device::local::Notify;

#[derive(Default)]
pub(crate) struct Line {
    places: RefCell<VecDeque<u64>>,
    next: Cell<u64>,
    moved: Notify,
}

/// A transaction's place in the line of its collection.
pub(crate) struct Place {
    line: Rc<Line>,
    number: u64,
}

impl Line {
    /// Whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.borrow().is_empty()
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Place {
        let number = self.next.get();
        self.next.set(number + 1);
        self.places.borrow_mut().push_back(number);
        Place { line: Rc::clone(self), number }
    }
}

impl Place {
    pub(crate) fn is_first(&self) -> bool {
        self.line.places.borrow().front() == Some(&self.number)
    }

    pub(crate) async fn reached(&self) {
        self.line.moved.until(|| self.is_first()).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.line.places.borrow_mut();
        let was_first = places.front() == Some(&self.number);
        if was_first {
            places.pop_front();
        } else {
            places.retain(|number| *number != self.number);
        }
        drop(places);
        if was_first {
            self.line.moved.notify_all();
        }
    }
}
