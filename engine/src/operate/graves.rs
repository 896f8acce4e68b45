//! Graves: a task that frees what removed objects left behind, a slice at a time.
//!
//! A slice is applied like a transaction but stands in no line: nobody can see the rows it deletes. After each the task lets
//! others run. Who waits for space waits for it too, as long as there is something to drain.
//!
//! A slice for which there is no space is tried again as soon as there is.
//!
//! The objects of a removed pool are removed here too, a few at a time, and their graves drained before the next few.
//!
//! Crash: between two slices the grave still stands, and the next mount goes on with the rows that are left; a pool that was
//! removed is known by its row in the list of removed pools (`pools`), and the next mount goes on with its objects.
//! Limits: a slice deletes at most 64 rows, or removes 16 objects, and what fits a record.

use std::cell::Cell;
use std::rc::Rc;

use futures::future::select;
use seabed_device::local::Notify;
use seabed_journal::CollectionId;
use seabed_object::graves::{Drained, drain};
use seabed_object::read::{self, ReadError};
use seabed_object::{Effects, Limits, Outcome, Rows, Stop, Transaction, execute};
use seabed_types::Lsn;

use crate::maintain::admit::Purpose;
use crate::operate::submit::{Applied, SystemEffect};
use crate::rows::view::View;
use crate::shard::mounted::{Mounted, OpGuard};
use crate::{Error, Result};

const SLICE_ROWS: usize = 64;
const SLICE_OBJECTS: usize = 16;

/// What there is to drain, as far as is known.
pub(crate) struct GraveWork {
    pub(crate) wake: Notify,
    /// Graves were set since the task looked.
    pub(crate) more: Cell<bool>,
    /// There was no space for a slice, so there are graves left.
    left: Cell<bool>,
    draining: Cell<bool>,
    /// Something could not be read, so there are graves left.
    pub(crate) unread: Cell<bool>,
}

impl Default for GraveWork {
    /// A mount does not know, so it looks.
    fn default() -> Self {
        Self {
            wake: Notify::default(),
            more: Cell::new(true),
            left: Cell::new(false),
            draining: Cell::new(false),
            unread: Cell::new(false),
        }
    }
}

impl GraveWork {
    pub(crate) fn is_any(&self) -> bool {
        self.more.get() || self.draining.get()
    }
}

enum Slice {
    Nothing,
    Done,
}

impl Mounted {
    /// The task that drains graves while the shard serves.
    pub(crate) async fn graves_loop(self: Rc<Self>) {
        loop {
            self.graves_to_drain().await;
            if self.grave_work_must_end() {
                return;
            }
            self.grave_work.draining.set(true);
            let drained = self.drain_all().await;
            self.grave_work.draining.set(false);
            match drained {
                Ok(()) => {}
                Err(Error::Closed | Error::Fenced(_)) => return,
                Err(Error::NoSpace { .. }) => self.grave_work.left.set(true),
                Err(error) => {
                    // What cannot be freed stays; the next removal, or who finds no space, tries again.
                    tracing::warn!(%error, "what was removed could not be freed");
                    self.grave_work.more.set(false);
                    self.grave_work.unread.set(true);
                }
            }
            self.trim.moved.notify_all();
        }
    }

    /// Waits until there is something to drain, and space to drain what there was none for.
    async fn graves_to_drain(&self) {
        let ready = || {
            let work = &self.grave_work;
            self.grave_work_must_end()
                || work.more.get()
                || work.left.get() && self.is_admitted(0, Purpose::Remove)
        };
        let told = Box::pin(self.grave_work.wake.until(ready));
        let trimmed = Box::pin(self.trim.moved.until(ready));
        let freed = Box::pin(self.table.changed.until(ready));
        select(told, select(trimmed, freed)).await;
    }

    fn grave_work_must_end(&self) -> bool {
        self.closing.get() || self.journal.as_ref().is_none_or(|journal| journal.healthy().is_err())
    }

    async fn drain_all(self: &Rc<Self>) -> Result<()> {
        self.grave_work.more.set(false);
        self.grave_work.left.set(false);
        let ids: Vec<_> = self.rows.borrow().collections.keys().copied().collect();
        let mut failed = None;
        for id in ids {
            loop {
                let slice = match self.drain_slice(id).await {
                    Ok(Slice::Nothing) if self.is_removed(id) => self.remove_objects(id).await,
                    drained => drained,
                };
                match slice {
                    Ok(Slice::Done) => {}
                    Ok(Slice::Nothing) => break,
                    // What cannot be read keeps the graves of this collection, and of no other.
                    Err(error @ (Error::Device(_) | Error::Corrupt { .. })) => {
                        failed = Some(error);
                        break;
                    }
                    Err(error) => return Err(error),
                }
                self.trim.moved.notify_all();
                self.machine.runtime.yield_io().await;
                if self.grave_work_must_end() {
                    return Err(self.ended_error());
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Removes some objects of a removed pool. No caller can see them, so it stands in no line either.
    async fn remove_objects(self: &Rc<Self>, id: CollectionId) -> Result<Slice> {
        let remove = |view: &View<'_>, count| {
            let next_id = view.collection().next_id;
            let removed = remove_first(view, count, next_id, &self.limits)?;
            Ok(removed.map(|effects| (effects, ())))
        };
        let Some(()) = self.apply_slice(id, SLICE_OBJECTS, remove).await? else { return Ok(Slice::Nothing) };
        if self.rows.borrow().collection(id).is_ok_and(|collection| collection.removed_in == Some(Lsn(0))) {
            seabed_types::reached!(PoolDrained);
        }
        Ok(Slice::Done)
    }

    async fn drain_slice(self: &Rc<Self>, id: CollectionId) -> Result<Slice> {
        let is_kept = |family| {
            self.streaming.has(id, family) && !seabed_types::seeded!(45) || self.past.keeps_family(id, family)
        };
        let drain = |view: &View<'_>, rows| match drain(view, &is_kept, rows)? {
            Drained::Nothing => Ok(None),
            Drained::Slice { effects, is_last, .. } => Ok(Some((effects, is_last))),
        };
        let Some(is_last) = self.apply_slice(id, SLICE_ROWS, drain).await? else { return Ok(Slice::Nothing) };
        if !is_last {
            seabed_types::reached!(GraveLeft);
        }
        Ok(Slice::Done)
    }

    /// Applies a slice of at most `count` rows or objects, fewer if they do not fit a record. None: `slice` found nothing.
    ///
    /// `slice` computes the effects of so many of them from the rows in memory, and what else the caller wants to know; it
    /// runs again whenever it has to wait.
    async fn apply_slice<T>(
        self: &Rc<Self>,
        id: CollectionId,
        mut count: usize,
        slice: impl Fn(&View<'_>, usize) -> std::result::Result<Option<(Effects, T)>, Stop>,
    ) -> Result<Option<T>> {
        let mut guard = OpGuard::new(self);
        loop {
            // A collection that is gone is drained where it is now.
            let Ok((found, wanted)) = self.look(id, &guard, |view| slice(view, count)) else {
                return Ok(None);
            };
            let (effects, found) = match found {
                Ok(None) => return Ok(None),
                Ok(Some(found)) => found,
                Err(stop) => {
                    self.load_or_fail(id, stop, wanted, &mut guard).await?;
                    continue;
                }
            };
            match self.try_apply(id, effects, (Purpose::Remove, SystemEffect::None), &mut guard).await? {
                Applied::In(_) => return Ok(Some(found)),
                Applied::Outdated => {}
                Applied::TooLarge(_) if count > 1 => count /= 2,
                Applied::TooLarge(error) => return Err(self.not_logged(error)),
            }
        }
    }
}

/// What removing the first `count` objects of a collection changes; none if there are no objects.
fn remove_first(
    rows: &dyn Rows,
    count: usize,
    next_id: u64,
    limits: &Limits,
) -> std::result::Result<Option<Effects>, Stop> {
    let page = match read::list(rows, &[], None, count) {
        Ok(page) => page,
        Err(ReadError::Stop(stop)) => return Err(stop),
        Err(ReadError::NotFound | ReadError::NoSuchAttr | ReadError::Invalid { .. }) => {
            return Err(Stop::Corrupt { at: None, what: "the objects of a removed pool" });
        }
    };
    if page.objects.is_empty() {
        return Ok(None);
    }
    let mut txn = Transaction::new();
    for object in &page.objects {
        txn.remove(&object.id);
    }
    match execute(rows, &txn, &[], next_id, limits) {
        Outcome::Ready(effects) => Ok(Some(effects)),
        Outcome::Absent => Err(Stop::Absent),
        Outcome::Corrupt { at, what } => Err(Stop::Corrupt { at, what }),
        Outcome::Refused(_) if count > 1 => remove_first(rows, count / 2, next_id, limits),
        Outcome::Refused(_) | Outcome::Stale => {
            Err(Stop::Corrupt { at: None, what: "an object of a removed pool that cannot be removed" })
        }
    }
}
