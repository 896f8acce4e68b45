//! Request: what was submitted and is not answered yet, kept so that it can be carried out again.
//!
//! A request stays in the line of its collection from the moment of its submission until it is answered: its record is
//! durable, it is refused, or it failed. If its mount ends before, the next mount takes all that are left, in the order of
//! the line, and carries them out again; whoever waits notices only the time that it takes (rule E1).
//!
//! Whoever works on a request says for which mount; what a mount that has ended still has to say counts for nothing.
//!
//! What was submitted is dropped in the moment in which the request is answered, before its client is woken: the data may be
//! of a pool of buffers from which the client takes the next. [`Settling`] does so for all that a durable record holds.
//!
//! Invariant: a request is carried out by one mount at a time, and not again once its record is durable.
//! Cost: one allocation per transaction; its data is kept until its record is durable, as its memory permit is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use seabed_device::local::Notify;
use seabed_journal::{CollectionId, Journal, Settled, Space};
use seabed_object::Transaction;
use seabed_segment::OpenSegment;
use seabed_types::{Epoch, Incarnation, Lsn, SegmentId};

use crate::Result;
use crate::operate::put::PutEnd;
use crate::operate::submit::SystemEffect;
use crate::space::segments::SegmentTable;

/// What is asked for.
#[derive(Clone)]
pub(crate) enum Work {
    /// A transaction, and what else is done in its record.
    Transaction(Transaction, SystemEffect),
    /// The last step of a streaming put.
    Put(PutEnd),
}

/// How far it is.
enum State {
    /// It has no effect yet.
    Open,
    /// It is applied, in this record.
    Applied(Rc<Journal>, Lsn),
    /// It is over.
    Answered(Result<()>),
}

/// See the module.
pub(crate) struct Request {
    pub(crate) id: CollectionId,
    /// None once it is over.
    work: RefCell<Option<Work>>,
    /// The mount that works on it.
    epoch: Cell<Epoch>,
    state: RefCell<State>,
    changed: Notify,
}

impl Request {
    pub(crate) fn new(id: CollectionId, work: Work) -> Rc<Self> {
        let (state, changed) = (RefCell::new(State::Open), Notify::default());
        let work = RefCell::new(Some(work));
        Rc::new(Self { id, work, epoch: Cell::new(Epoch(0)), state, changed })
    }

    /// What is asked for, to be carried out; none if it is over.
    pub(crate) fn work(&self) -> Option<Work> {
        self.work.borrow().clone()
    }

    /// Looks at what is asked for, in this moment.
    pub(crate) fn look_at_work<T>(&self, look: impl FnOnce(&Work) -> Option<T>) -> Option<T> {
        self.work.borrow().as_ref().and_then(look)
    }

    /// Drops what was asked for. What that drops may be the caller's own, so nothing is borrowed meanwhile.
    fn drop_work(&self) {
        let work = self.work.take();
        drop(work);
    }

    /// The mount `epoch` works on it from now on.
    pub(crate) fn taken_by(&self, epoch: Epoch) {
        self.epoch.set(epoch);
        *self.state.borrow_mut() = State::Open;
        self.changed.notify_all();
    }

    /// Mount `epoch` has applied it in record `lsn`.
    pub(crate) fn applied(&self, epoch: Epoch, journal: &Rc<Journal>, lsn: Lsn) {
        assert_eq!(epoch, self.epoch.get(), "a mount that has ended applies nothing");
        *self.state.borrow_mut() = State::Applied(Rc::clone(journal), lsn);
    }

    /// Mount `epoch` is done with it.
    pub(crate) fn answered(&self, epoch: Epoch, result: Result<()>) {
        if epoch == self.epoch.get() {
            self.end(result);
        }
    }

    /// Nobody will work on it any more.
    pub(crate) fn end(&self, result: Result<()>) {
        self.drop_work();
        {
            let state = &mut *self.state.borrow_mut();
            if !matches!(state, State::Answered(_)) {
                *state = State::Answered(result);
            }
        }
        self.changed.notify_all();
    }

    /// Whether it need not be carried out again.
    pub(crate) fn is_over(&self) -> bool {
        match &*self.state.borrow() {
            State::Open => false,
            State::Applied(journal, lsn) => *lsn < journal.durable_below(),
            State::Answered(_) => true,
        }
    }

    /// It is over and leaves the line. Whoever waits for its record may have been told that the journal had failed while the
    /// record was still on its way, and waits for the next mount now: no mount will take it, for the record is durable.
    fn leave(&self) {
        self.drop_work();
        let is_durable_all_the_same =
            matches!(&*self.state.borrow(), State::Applied(journal, _) if journal.healthy().is_err());
        if is_durable_all_the_same {
            self.end(Ok(()));
        }
    }

    /// Waits for its answer. Dropping the future changes nothing.
    pub(crate) async fn answer(&self) -> Result<()> {
        loop {
            let applied = match &*self.state.borrow() {
                State::Answered(result) => return result.clone(),
                State::Applied(journal, lsn) => Some((Rc::clone(journal), *lsn)),
                State::Open => None,
            };
            let Some((journal, lsn)) = applied else {
                self.changed.until(|| !matches!(&*self.state.borrow(), State::Open)).await;
                continue;
            };
            if journal.durable(lsn).await.is_ok() {
                return Ok(());
            }
            let is_same = |state: &State| matches!(state, State::Applied(of, _) if Rc::ptr_eq(of, &journal));
            self.changed.until(|| !is_same(&self.state.borrow())).await;
        }
    }
}

/// The requests of a collection that are not answered, in the order of their submission.
#[derive(Default)]
pub(crate) struct Unanswered {
    requests: RefCell<VecDeque<Rc<Request>>>,
}

impl Unanswered {
    pub(crate) fn add(&self, request: &Rc<Request>) {
        self.forget_answered();
        self.requests.borrow_mut().push_back(Rc::clone(request));
    }

    /// Lets go of those at the front that are over; as they are over in their order, but for refusals, none stays long.
    pub(crate) fn forget_answered(&self) {
        loop {
            let over = {
                let mut requests = self.requests.borrow_mut();
                if requests.front().is_none_or(|request| !request.is_over()) {
                    return;
                }
                requests.pop_front()
            };
            if let Some(over) = over {
                over.leave();
            }
        }
    }

    /// All that have to be carried out again.
    pub(crate) fn take(&self) -> Vec<Rc<Request>> {
        let (over, left): (Vec<_>, Vec<_>) =
            self.requests.take().into_iter().partition(|request| request.is_over());
        for request in over {
            request.leave();
        }
        left
    }
}

/// The requests that a mount has applied and whose records are not durable, in the order of the records.
#[derive(Default)]
pub(crate) struct Applied {
    requests: RefCell<VecDeque<(Lsn, Rc<Request>)>>,
}

impl Applied {
    pub(crate) fn add(&self, lsn: Lsn, request: &Rc<Request>) {
        let mut requests = self.requests.borrow_mut();
        assert!(requests.back().is_none_or(|(last, _)| *last <= lsn), "records are filled in their order");
        requests.push_back((lsn, Rc::clone(request)));
    }

    /// All records below `lsn` are durable: drops what their requests asked for.
    fn durable(&self, lsn: Lsn) {
        loop {
            let durable = {
                let mut requests = self.requests.borrow_mut();
                if requests.front().is_none_or(|(of, _)| *of >= lsn) {
                    return;
                }
                requests.pop_front()
            };
            // One that the next mount has taken since is not over.
            if let Some((_, request)) = durable.filter(|(_, request)| request.is_over()) {
                request.leave();
            }
        }
    }

    /// Nothing more becomes durable here: the next mount has what is left.
    pub(crate) fn clear(&self) {
        let left = self.requests.take();
        drop(left);
    }
}

/// What a journal reports to: segments go to and come from the table, and what a durable record holds is dropped.
pub(crate) struct Settling {
    pub(crate) table: Rc<SegmentTable>,
    pub(crate) applied: Rc<Applied>,
}

impl Space for Settling {
    fn clock(&self) -> u64 {
        self.table.clock()
    }

    fn claim_journal(&self) -> Option<(SegmentId, Incarnation)> {
        self.table.claim_journal()
    }

    fn sealed(&self, segment: OpenSegment) {
        self.table.sealed(segment);
    }

    fn settled(&self, settled: Settled) {
        let durable_below = settled.lsn.next();
        self.table.settled(settled);
        if !seabed_types::seeded!(79) {
            self.applied.durable(durable_below);
        }
    }
}
