//! Shard: what users hold of one log and its collections; it goes on over failures of the device.
//!
//! Behind it is one mount at a time ([`Mounted`]). When that ends by a failure, a task mounts the shard again in place
//! ([`Mounted::in_place`]) and puts the new mount where the old one was (rule E1):
//! 1. The old mount's device is shut, what is in the kernel is waited for, and the commit loop has said what is durable.
//! 2. The new mount replays up to there and has a head of its own in both slots before it serves.
//! 3. The requests that were submitted and are not answered are carried out again, those of a collection in the order of
//!    their submission, and then those that came meanwhile: nobody is told of the failure. Of a record whose fate was
//!    unknown this makes it known: it is not there.
//! 4. Reads and listings that the old mount failed are asked again of the new one.
//!
//! Tasks of the old mount may still run then. They hold that mount, see its state, and can change neither the device nor
//! what a request is told; segments that they may read are not used again before they end.
//!
//! If mounting fails [`TRIES`] times, or so many mounts in a row end before anything of theirs became durable, the shard is
//! *fenced*: all that waits is told [`Error::Fenced`] with the failure that began it, as is every change from then on; what
//! was durable is still read. Whether what was told so happened is only known when the store is opened again.
//!
//! Closing waits for a mount that goes on, and for what is carried out again after it.
//!
//! Crash: as in a mount after a crash; both slots are written as there.
//! Cost: a replay of the window. Memory: for that time the pending changes of both mounts.

pub(crate) mod mounted;
pub(crate) mod queue;
pub(crate) mod request;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use seabed_device::local::Notify;
use seabed_device::{Class, Local, Machine, OpenError};
use seabed_journal::{CollectionId, FenceCause};
use seabed_object::{Limits, Transaction};
use seabed_segment::Superblock;
use seabed_types::{PoolId, ShardId};

use crate::face::guest::InEngine;
use crate::face::limits::StoreLimits;
use crate::mount::Home;
use crate::operate::put::Streaming;
use crate::operate::submit::SystemEffect;
use crate::options::{Access, ShardOptions};
use crate::shard::mounted::{MountReport, Mounted, limits_of};
use crate::shard::request::{Request, Work};
use crate::stats::{Counters, Stats};
use crate::{Error, Result};

/// How often a mount in place is tried.
const TRIES: u32 = 3;
/// The pause before the second try; before each later one ten times as long.
const PAUSE: Duration = Duration::from_millis(1);

/// What the shard does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It serves, unless its mount has just failed.
    Serving,
    /// It mounts itself in place.
    Mounting,
    /// It changes nothing any more.
    Fenced(FenceCause),
}

/// A mounted shard.
pub struct Shard {
    home: Home,
    limits: Limits,
    report: MountReport,
    current: RefCell<Rc<Mounted>>,
    phase: Cell<Phase>,
    /// The phase changed.
    changed: Notify,
    closing: Cell<bool>,
    closed: Cell<bool>,
    /// Code of the engine panicked in a call of an embedder's code.
    panicked: Cell<bool>,
    /// A task of the engine panicked, and nothing is carried out any more.
    stopped: Cell<bool>,
    /// Requests that came while there was no mount to take them.
    waiting: RefCell<Vec<Rc<Request>>>,
    /// Mounts in a row that ended before anything became durable.
    fruitless: Cell<u32>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = &mut f.debug_struct("Shard");
        shard.field("id", &self.home.id).field("phase", &self.phase.get()).finish_non_exhaustive()
    }
}

/// A request that took its place in the order.
pub(crate) enum Submitted {
    /// It changes nothing.
    Empty,
    /// It is on its way.
    Sent(Rc<Request>),
}

impl Submitted {
    /// Waits for its answer.
    pub(crate) async fn answer(self) -> Result<()> {
        match self {
            Self::Empty => Ok(()),
            Self::Sent(request) => request.answer().await,
        }
    }
}

impl Shard {
    /// Mounts shard `id` of the store on the machine's device and starts its tasks.
    ///
    /// Errors: [`Error::Damaged`] if the journal holds damage to what was acknowledged, [`Error::Corrupt`] if both slots or
    /// both copies of the body are damaged, [`Error::MemoryBudget`] if the window's changes do not fit the budget; nothing
    /// was written then.
    ///
    /// (A future in a box, as those of [`Shard::close`] and [`format_device`](crate::format_device): what it does is compiled once,
    /// with this crate, and not with each that waits for it.)
    pub fn mount(
        machine: Machine,
        superblock: Superblock,
        id: ShardId,
        options: ShardOptions,
    ) -> Local<Result<Rc<Self>>> {
        Box::pin(async move {
            let (counters, streaming) =
                (Rc::new(Counters::default()), Rc::new(Streaming::new(options.memory_bytes)));
            let home = Home { machine, superblock, id, options, counters, streaming };
            let mounted = Mounted::open(&home).await?;
            let shard = Rc::new(Self {
                limits: limits_of(&superblock, &options),
                report: mounted.report,
                home,
                current: RefCell::new(mounted),
                phase: Cell::new(Phase::Serving),
                changed: Notify::default(),
                closing: Cell::new(false),
                closed: Cell::new(false),
                panicked: Cell::new(false),
                stopped: Cell::new(false),
                waiting: RefCell::default(),
                fruitless: Cell::new(0),
            });
            if options.access == Access::ReadWrite {
                let task = Rc::clone(&shard).watch();
                shard.home.machine.runtime.spawn(Class::Commit, Box::pin(task));
            }
            Ok(shard)
        })
    }

    /// What the mount found when the shard was opened.
    pub fn report(&self) -> MountReport {
        self.report
    }

    /// What it was opened with.
    pub(crate) fn options(&self) -> &ShardOptions {
        &self.home.options
    }

    /// The store that it is a shard of.
    pub fn superblock(&self) -> &Superblock {
        &self.home.superblock
    }

    /// Bounds of names, keys and values.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many pools the store may have, removed ones included: a checkpoint names every collection in one segment.
    pub fn pools_max(&self) -> usize {
        crate::face::pools::pools_max(&self.home.superblock.layout)
    }

    /// The limits as users of a store see them.
    pub fn store_limits(&self) -> StoreLimits {
        StoreLimits::of(&self.home.superblock, &self.home.options)
    }

    /// The thread it runs on.
    pub fn machine(&self) -> &Machine {
        &self.home.machine
    }

    /// Whether the engine's own code panicked in a call of an embedder's code, so that its state may be half changed.
    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.get()
    }

    /// Counters and levels.
    pub fn stats(&self) -> Stats {
        self.current().stats()
    }

    /// The mount of this moment, whether it has failed or not.
    pub(crate) fn current(&self) -> Rc<Mounted> {
        Rc::clone(&self.current.borrow())
    }

    /// The mount that takes requests at this moment.
    fn serving(&self) -> Option<Rc<Mounted>> {
        Some(self.current())
            .filter(|mounted| self.phase.get() == Phase::Serving && mounted.failure().is_none())
    }

    /// Whether a mount follows, or is there already, that does what `mounted` failed to do.
    pub(crate) fn goes_on_after(&self, mounted: &Mounted) -> bool {
        mounted.failure().is_some() && !matches!(self.phase.get(), Phase::Fenced(_))
    }

    /// The mount to read with: waits while the shard mounts itself in place.
    pub(crate) async fn mounted(&self) -> Result<Rc<Mounted>> {
        let is_settled =
            || self.closing.get() || matches!(self.phase.get(), Phase::Fenced(_)) || self.serving().is_some();
        self.changed.until(is_settled).await;
        if self.stopped.get() {
            return Err(Error::Open(OpenError::Panicked));
        }
        if self.closing.get() { Err(Error::Closed) } else { Ok(self.current()) }
    }

    /// Does something with the mount, and again with the next one if that mount ends before it is done.
    pub(crate) async fn again<T>(&self, work: impl AsyncFn(Rc<Mounted>) -> Result<T>) -> Result<T> {
        loop {
            let mounted = self.mounted().await?;
            let mut working = pin!(work(Rc::clone(&mounted)));
            let result = poll_fn(|context| {
                let _in_engine = InEngine::new(&self.panicked);
                working.as_mut().poll(context)
            })
            .await;
            if result.is_ok() || !self.goes_on_after(&mounted) {
                return result;
            }
        }
    }

    /// Waits until there is memory for requests.
    pub(crate) async fn has_memory(&self) {
        if let Ok(mounted) = self.mounted().await {
            drop(mounted.requests.acquire(1).await);
        }
    }

    /// Whether the shard may be changed now.
    pub(crate) fn writable(&self) -> Result<()> {
        if self.stopped.get() {
            return Err(Error::Open(OpenError::Panicked));
        }
        if self.home.options.access == Access::ReadOnly {
            return Err(Error::ReadOnly);
        }
        if self.closing.get() {
            return Err(Error::Closed);
        }
        match self.phase.get() {
            Phase::Fenced(cause) => Err(Error::Fenced(cause)),
            Phase::Serving | Phase::Mounting => Ok(()),
        }
    }

    /// Submits a transaction to a pool other than pool 0; its place in the order is taken in this moment. The future
    /// returns when it is durable or rejected. Dropping it changes nothing.
    pub fn submit(
        &self,
        pool: PoolId,
        txn: Transaction,
    ) -> impl Future<Output = Result<()>> + 'static + use<> {
        let submitted = crate::face::pools::of_user(pool)
            .and_then(|pool| self.submit_with(pool, txn, SystemEffect::None));
        async move { submitted?.answer().await }
    }

    pub(crate) fn submit_with(
        &self,
        pool: PoolId,
        txn: Transaction,
        system: SystemEffect,
    ) -> Result<Submitted> {
        self.writable()?;
        let Some(first) = txn.objects().first() else { return Ok(Submitted::Empty) };
        self.limits.check_items(&txn)?;
        let id = self.current().collection_of(pool, first.hash)?;
        if let Some(op) = txn.first_outside(|hash| id.covers(hash.reverse_bits())) {
            let why = seabed_object::Refused::Invalid { what: "objects of several collections" };
            return Err(Error::Refused { op, why });
        }
        Ok(Submitted::Sent(self.send(id, Work::Transaction(txn, system))))
    }

    /// Ends all work after a task of the engine panicked: all that wait are answered with that, and so is what comes. The next
    /// open shows what was carried out.
    pub(crate) fn stop(&self) {
        let cause = FenceCause::Panicked;
        self.stopped.set(true);
        self.closed.set(true);
        self.phase.set(Phase::Fenced(cause));
        let mounted = self.current();
        mounted.fence(cause);
        for request in self.unanswered(&mounted) {
            request.end(Err(Error::Open(OpenError::Panicked)));
        }
        self.changed.notify_all();
    }

    /// Whether a task of the engine panicked.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Gives a request its place.
    pub(crate) fn send(&self, id: CollectionId, work: Work) -> Rc<Request> {
        let _in_engine = InEngine::new(&self.panicked);
        let request = Request::new(id, work);
        match self.serving() {
            Some(mounted) => mounted.take(&request),
            None => self.waiting.borrow_mut().push(Rc::clone(&request)),
        }
        request
    }

    /// Mounts the shard in place whenever its mount has failed.
    async fn watch(self: Rc<Self>) {
        loop {
            let mounted = self.current();
            mounted.ended.until(|| mounted.failure().is_some() || self.closed.get()).await;
            let Some(cause) = mounted.failure().filter(|_| !self.closed.get()) else { return };
            self.phase.set(Phase::Mounting);
            let Some(next) = self.mount_again(&mounted, cause).await else {
                tracing::error!(%cause, shard = self.home.id.0, "the shard is fenced");
                seabed_types::reached!(Fenced);
                self.phase.set(Phase::Fenced(cause));
                for request in self.unanswered(&mounted) {
                    request.end(Err(Error::Fenced(cause)));
                }
                self.changed.notify_all();
                return;
            };
            tracing::warn!(%cause, shard = self.home.id.0, "the shard has mounted itself in place");
            self.home.counters.count(|stats| stats.mounted_in_place += 1);
            self.hand_over(&mounted, &next);
        }
    }

    /// The next mount; none if there cannot be one.
    async fn mount_again(&self, failed: &Rc<Mounted>, cause: FenceCause) -> Option<Rc<Mounted>> {
        let mut last = Rc::clone(failed);
        last.has_ended().await;
        let is_fruitless = last.durable_below() <= last.begins_at;
        self.fruitless.set(if is_fruitless { self.fruitless.get() + 1 } else { 0 });
        if self.fruitless.get() > TRIES {
            return None;
        }
        let mut pause = PAUSE;
        for tries in 1.. {
            match Mounted::in_place(&self.home, &mut last).await {
                Ok(()) => return Some(last),
                Err(error) => {
                    tracing::warn!(%error, tries, "mounting in place failed");
                    // Of a mount that was begun nothing may go on.
                    last.fence(cause);
                    last.has_ended().await;
                }
            }
            if tries == TRIES {
                return None;
            }
            self.home.machine.runtime.sleep(pause).await;
            pause *= 10;
        }
        None
    }

    /// What is to be carried out again, in its order, and then what came meanwhile.
    fn unanswered(&self, mounted: &Mounted) -> Vec<Rc<Request>> {
        let queues: Vec<_> = mounted
            .rows
            .borrow()
            .collections
            .values()
            .map(|collection| Rc::clone(&collection.queue))
            .collect();
        let left = queues.iter().flat_map(|queue| queue.unanswered.take());
        left.chain(self.waiting.take()).collect()
    }

    /// Puts the next mount in the place of one that has ended.
    fn hand_over(&self, ended: &Mounted, next: &Rc<Mounted>) {
        let mut requests = self.unanswered(ended);
        if !requests.is_empty() {
            seabed_types::reached!(RequestAgain);
        }
        if seabed_types::seeded!(26) {
            requests.reverse();
        }
        *self.current.borrow_mut() = Rc::clone(next);
        self.phase.set(Phase::Serving);
        for request in requests {
            next.take(&request);
        }
        self.changed.notify_all();
    }

    /// Finishes what was submitted, ends the log with an empty record, and waits until nothing is in the kernel. What is
    /// asked for afterwards is [`Error::Closed`].
    pub fn close(&self) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.closing.set(true);
            self.changed.notify_all();
            loop {
                let is_settled = || matches!(self.phase.get(), Phase::Fenced(_)) || self.serving().is_some();
                self.changed.until(is_settled).await;
                let mounted = self.current();
                let result = mounted.close().await;
                if !self.goes_on_after(&mounted) {
                    self.closed.set(true);
                    mounted.ended.notify_all();
                    return result;
                }
            }
        })
    }
}
