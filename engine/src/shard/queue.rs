//! Sequence: the line of a collection: transactions are applied in the order in which they arrived.
//!
//! A place is taken when the request arrives, before anything is awaited. Whoever is first applies and leaves; those behind
//! load what they will need meanwhile. A place that is dropped leaves the line.
//!
//! Data that is stored ahead names the family of its object, which an object gets when it is made. Of several transactions
//! that would make the same one the first to say so does ([`PendingCreates`]); others wait with storing until it has, or until they
//! are first in line, so nobody waits for one behind.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use futures::future::select;
use seabed_device::local::Notify;
use seabed_object::ObjectId;
use seabed_types::PoolId;

use crate::shard::request::Unanswered;

#[derive(Default)]
pub(crate) struct OrderQueue {
    places: RefCell<VecDeque<u64>>,
    next: Cell<u64>,
    moved: Notify,
    /// What was submitted and is not answered, also when it has left the line.
    pub(crate) unanswered: Unanswered,
}

/// A transaction's place in the line of its collection.
pub(crate) struct Ticket {
    queue: Rc<OrderQueue>,
    number: u64,
}

impl OrderQueue {
    /// Whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.borrow().is_empty()
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Ticket {
        let number = self.next.get();
        self.next.set(number + 1);
        self.places.borrow_mut().push_back(number);
        Ticket { queue: Rc::clone(self), number }
    }
}

impl Ticket {
    pub(crate) fn is_first(&self) -> bool {
        self.queue.places.borrow().front() == Some(&self.number)
    }

    pub(crate) async fn reached(&self) {
        self.queue.moved.until(|| self.is_first()).await;
    }
}

/// The objects that transactions whose data is stored ahead are about to make.
#[derive(Default)]
pub(crate) struct PendingCreates {
    /// By how many.
    objects: RefCell<BTreeMap<(PoolId, ObjectId), u32>>,
    changed: Notify,
}

/// That some objects are about to be made; until it is dropped.
pub(crate) struct CreateGuard {
    creating: Rc<PendingCreates>,
    objects: Vec<(PoolId, ObjectId)>,
}

impl PendingCreates {
    /// Says that these are about to be made, unless others are about to make one of them and are not behind `place`.
    pub(crate) fn begin(
        self: &Rc<Self>,
        objects: &[(PoolId, ObjectId)],
        ticket: &Ticket,
    ) -> Option<CreateGuard> {
        if !self.may_begin(objects, ticket) {
            return None;
        }
        let mut all = self.objects.borrow_mut();
        for object in objects {
            *all.entry(object.clone()).or_default() += 1;
        }
        Some(CreateGuard { creating: Rc::clone(self), objects: objects.to_vec() })
    }

    fn may_begin(&self, objects: &[(PoolId, ObjectId)], ticket: &Ticket) -> bool {
        let all = self.objects.borrow();
        ticket.is_first() || !objects.iter().any(|object| all.contains_key(object))
    }

    /// Waits until [`PendingCreates::begin`] would say yes.
    pub(crate) async fn until_free(&self, objects: &[(PoolId, ObjectId)], ticket: &Ticket) {
        let first = Box::pin(ticket.reached());
        let free = Box::pin(self.changed.until(|| self.may_begin(objects, ticket)));
        select(first, free).await;
    }
}

impl Drop for CreateGuard {
    fn drop(&mut self) {
        let mut all = self.creating.objects.borrow_mut();
        for object in &self.objects {
            let count = all.get_mut(object).expect("it was entered");
            *count -= 1;
            if *count == 0 {
                all.remove(object);
            }
        }
        drop(all);
        self.creating.changed.notify_all();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut places = self.queue.places.borrow_mut();
        let was_first = places.front() == Some(&self.number);
        if was_first {
            places.pop_front();
        } else {
            places.retain(|number| *number != self.number);
        }
        drop(places);
        if was_first {
            self.queue.moved.notify_all();
        }
    }
}
