//! Sequence: the line of a collection: transactions are applied in the order in which they arrived.
//!
//! A place is taken when the request arrives, before anything is awaited. Whoever is first applies and leaves; those behind
//! load what they will need meanwhile. A place that is dropped leaves the line.
//!
//! Data that is stored ahead names the family of its object, which an object gets when it is made. Of several transactions
//! that would make the same one the first to say so does ([`Making`]); others wait with storing until it has, or until they
//! are first in line, so nobody waits for one behind.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use futures::future::select;
use seabed_device::local::Notify;
use seabed_object::ObjectId;
use seabed_types::PoolId;

use crate::request::Unanswered;

#[derive(Default)]
pub(crate) struct Line {
    places: RefCell<VecDeque<u64>>,
    next: Cell<u64>,
    moved: Notify,
    /// What was submitted and is not answered, also when it has left the line.
    pub(crate) unanswered: Unanswered,
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

/// The objects that transactions whose data is stored ahead are about to make.
#[derive(Default)]
pub(crate) struct Making {
    /// By how many.
    objects: RefCell<BTreeMap<(PoolId, ObjectId), u32>>,
    changed: Notify,
}

/// That some objects are about to be made; until it is dropped.
pub(crate) struct Maker {
    making: Rc<Making>,
    objects: Vec<(PoolId, ObjectId)>,
}

impl Making {
    /// Says that these are about to be made, unless others are about to make one of them and are not behind `place`.
    pub(crate) fn begin(self: &Rc<Self>, objects: &[(PoolId, ObjectId)], place: &Place) -> Option<Maker> {
        if !self.may_begin(objects, place) {
            return None;
        }
        let mut all = self.objects.borrow_mut();
        for object in objects {
            *all.entry(object.clone()).or_default() += 1;
        }
        Some(Maker { making: Rc::clone(self), objects: objects.to_vec() })
    }

    fn may_begin(&self, objects: &[(PoolId, ObjectId)], place: &Place) -> bool {
        let all = self.objects.borrow();
        place.is_first() || !objects.iter().any(|object| all.contains_key(object))
    }

    /// Waits until [`Making::begin`] would say yes.
    pub(crate) async fn until_free(&self, objects: &[(PoolId, ObjectId)], place: &Place) {
        let first = Box::pin(place.reached());
        let free = Box::pin(self.changed.until(|| self.may_begin(objects, place)));
        select(first, free).await;
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        let mut all = self.making.objects.borrow_mut();
        for object in &self.objects {
            let count = all.get_mut(object).expect("it was entered");
            *count -= 1;
            if *count == 0 {
                all.remove(object);
            }
        }
        drop(all);
        self.making.changed.notify_all();
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
