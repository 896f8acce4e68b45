//! Worker: one copy of a job: its clients, and what they did.
//!
//! A worker moves between threads from step to step, and stays on one within a step. Its clients are futures of one
//! task; each has one operation in flight and begins the next when that is answered.
//!
//! Latency is from submission to the answer; making the bytes of a write is outside of it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::future::join_all;
use seabed::{Error, Result};

use crate::blocks::{BlockRequest, Blocks, Verified};
use crate::endings::Endings;
use crate::face::Face;
use crate::job::{Direction, Job, Workload};
use crate::live::{Live, Phase};
use crate::objects::{ObjectRequest, Objects};
use crate::pace::Pace;
use crate::pause::Pause;
use crate::record::Record;
use crate::replicated::{Replicated, ReplicatedRequest};
use crate::run::Ending;
use crate::ycsb::{Records, YcsbRequest};

/// A wish to end is looked at each so many operations of a worker.
const LOOK_EVERY: u64 = 64;
/// And at least so often by a client that sleeps.
const LOOK_TIME: Duration = Duration::from_millis(100);
/// How often a job looks whether the one that it waits for has ended.
const TURN_TIME: Duration = Duration::from_millis(1);

/// What a run and its workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) live: Arc<Live>,
    pub(crate) is_over: Arc<dyn Fn() -> bool + Send + Sync>,
    pub(crate) endings: Arc<Endings>,
}

enum Kind {
    Blocks(Box<Blocks>),
    Objects(Objects),
    Records(Records),
    Replicated(Replicated),
}

enum Request {
    Blocks(BlockRequest),
    Objects(ObjectRequest),
    Records(YcsbRequest),
    Replicated(ReplicatedRequest),
}

/// What a worker did.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    pub(crate) records: [Record; 3],
    /// Operations by how many were in flight when they began: 1, 2, 4, ... 64 and more.
    pub(crate) depths: [u64; 7],
    pub(crate) runtime: Duration,
    pub(crate) verified: Verified,
    pub(crate) ending: Ending,
}

/// See the module.
pub(crate) struct Worker {
    pub(crate) job: Arc<Job>,
    /// The job's place among those that run at the same time.
    place: usize,
    seed: u64,
    kind: Kind,
    shared: Shared,
    tally: RefCell<Tally>,
    in_flight: Cell<u32>,
    pause: Pause,
    begun: Cell<u64>,
    /// Bytes that are left to read and write.
    budget: Cell<Option<u64>>,
    /// Operations that are left.
    operations: Cell<Option<u64>>,
}

impl Worker {
    /// A copy of the job at `place` of those that run at the same time. `run` differs in each run.
    pub(crate) fn new((job, place): (Arc<Job>, usize), copy: u32, run: u64, shared: Shared) -> Self {
        let kind = match job.workload {
            Workload::Blocks => Kind::Blocks(Box::new(Blocks::new(&job, copy, run))),
            Workload::Objects => Kind::Objects(Objects::new(&job, copy)),
            Workload::Ycsb(ycsb) => Kind::Records(Records::new(&job, copy, ycsb)),
            Workload::Replicated => Kind::Replicated(Replicated::new(&job, copy)),
        };
        let (budget, operations) = (Cell::new(job.budget(copy)), Cell::new(job.operations_max()));
        let seed = if job.is_repeatable { job.seed } else { job.seed ^ run };
        Self {
            pause: Pause::new(&job),
            job,
            place,
            seed: seed.wrapping_add(u64::from(copy)),
            kind,
            shared,
            tally: RefCell::default(),
            in_flight: Cell::new(0),
            begun: Cell::new(0),
            budget,
            operations,
        }
    }

    /// Writes what the job works on.
    pub(crate) async fn prepare(&self, face: &Face) -> Result<()> {
        let prepared = match &self.kind {
            Kind::Blocks(blocks) => blocks.prepare(face).await,
            Kind::Objects(objects) => objects.prepare(face).await,
            Kind::Records(records) => records.prepare(face).await,
            Kind::Replicated(replicated) => replicated.prepare(face).await,
        };
        self.space(prepared)
    }

    /// Runs all clients to their end.
    pub(crate) async fn measure(&self, face: &Face) -> Result<()> {
        let outcome = match self.tally.borrow().ending {
            Ending::NoSpace => None,
            Ending::Done | Ending::Interrupted => Some(()).filter(|()| !self.job.verifies_only),
        };
        let outcome = if outcome.is_some() { self.measure_clients(face).await } else { Ok(()) };
        self.shared.endings.end(self.place, self.job.exit_what);
        outcome
    }

    /// Waits for the job's turn, then runs all clients to their end.
    async fn measure_clients(&self, face: &Face) -> Result<()> {
        while !self.shared.endings.may_begin(self.place) && !self.has_to_end() {
            face.sleep_until(Instant::now() + TURN_TIME).await?;
        }
        let (least, most) = self.job.start_delay;
        let delay = least + most.saturating_sub(least).mul_f64(Rng::with_seed(self.seed).f64());
        if !delay.is_zero() {
            self.sleep_until(face, Instant::now() + delay).await?;
        }
        let start = Instant::now();
        let clock = Clock {
            from: start + self.job.ramp_time,
            until: self.job.runtime.map(|time| start + self.job.ramp_time + time),
            pace: Pace::new(start, &self.job, self.seed),
        };
        self.shared.live.enter(if self.job.ramp_time.is_zero() { Phase::Running } else { Phase::Ramping });
        let outcomes = join_all((0..self.job.iodepth).map(|_| self.client(face, &clock))).await;
        self.tally.borrow_mut().runtime = clock.from.elapsed();
        outcomes.into_iter().collect()
    }

    /// Reads all that was written and compares, if the job asks for it.
    pub(crate) async fn verify(&self, face: &Face) -> Result<()> {
        let Kind::Blocks(blocks) = &self.kind else { return Ok(()) };
        if self.job.verifies {
            self.shared.live.enter(Phase::Verifying);
        }
        blocks.verify(face).await
    }

    /// The job's place among those that run at the same time.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// What it did.
    pub(crate) fn into_tally(self) -> (Arc<Job>, Tally) {
        let verified = match &self.kind {
            Kind::Blocks(blocks) => blocks.verified(),
            Kind::Objects(objects) => objects.verified(),
            Kind::Records(records) => records.verified(),
            Kind::Replicated(_) => Verified::default(),
        };
        (self.job, Tally { verified, ..self.tally.into_inner() })
    }

    async fn client(&self, face: &Face, clock: &Clock) -> Result<()> {
        while let Some((request, direction, bytes)) = self.begin(clock) {
            if let Some(due) = clock.pace.take(direction, bytes)
                && !self.wait_until(face, clock, due).await?
            {
                return Ok(());
            }
            while let Some(until) = self.pause.wait(|| self.in_flight.get()).await {
                if !self.wait_until(face, clock, until).await? {
                    return Ok(());
                }
                self.pause.over(until);
            }
            self.enter_flight(clock);
            let outcome = self.execute(face, request).await;
            self.in_flight.set(self.in_flight.get() - 1);
            self.pause.end(self.in_flight.get());
            match outcome {
                Ok(start) => self.count(direction, bytes, start, clock),
                Err(error) => return self.space(Err(error)),
            }
        }
        Ok(())
    }

    /// Waits until then; false if the job is over before.
    async fn wait_until(&self, face: &Face, clock: &Clock, due: Instant) -> Result<bool> {
        let due_or_end = clock.until.map_or(due, |until| due.min(until));
        self.sleep_until(face, due_or_end).await?;
        Ok(clock.until.is_none_or(|until| due < until) && !self.has_to_end())
    }

    /// Sleeps until then, or until the job has to end.
    async fn sleep_until(&self, face: &Face, until: Instant) -> Result<()> {
        loop {
            let next = until.min(Instant::now() + LOOK_TIME);
            face.sleep_until(next).await?;
            if next == until || self.has_to_end() {
                return Ok(());
            }
        }
    }

    /// Whether the job has to end before it is done; an interruption is noted.
    fn has_to_end(&self) -> bool {
        if (self.shared.is_over)() {
            self.tally.borrow_mut().ending = Ending::Interrupted;
        }
        self.tally.borrow().ending != Ending::Done || self.shared.endings.is_over(self.place)
    }

    /// The next operation, unless it is over.
    fn begin(&self, clock: &Clock) -> Option<(Request, Direction, u64)> {
        let begun = self.begun.replace(self.begun.get() + 1);
        if clock.until.is_some_and(|until| Instant::now() >= until)
            || self.tally.borrow().ending != Ending::Done
            || self.shared.endings.is_over(self.place)
            || self.budget.get() == Some(0)
            || self.operations.get() == Some(0)
        {
            return None;
        }
        if begun.is_multiple_of(LOOK_EVERY) && (self.shared.is_over)() {
            self.tally.borrow_mut().ending = Ending::Interrupted;
            return None;
        }
        let (request, direction, bytes) = match &self.kind {
            Kind::Blocks(blocks) => {
                let request = blocks.next(self.budget.get())?;
                (Request::Blocks(request), request.direction, request.bytes)
            }
            Kind::Objects(objects) => {
                let request = objects.next();
                (Request::Objects(request), request.direction, request.bytes)
            }
            Kind::Records(records) => {
                let request = records.next();
                (Request::Records(request), Records::direction(request), records.bytes(request))
            }
            Kind::Replicated(replicated) => {
                let request = replicated.next();
                (Request::Replicated(request), Direction::Write, request.bytes)
            }
        };
        if Instant::now() >= clock.from {
            self.budget.set(self.budget.get().map(|left| left.saturating_sub(bytes)));
            self.operations.set(self.operations.get().map(|left| left.saturating_sub(1)));
        }
        Some((request, direction, bytes))
    }

    async fn execute(&self, face: &Face, request: Request) -> Result<Instant> {
        match (&self.kind, request) {
            (Kind::Blocks(blocks), Request::Blocks(request)) => blocks.execute(face, request).await,
            (Kind::Objects(objects), Request::Objects(request)) => objects.execute(face, request).await,
            (Kind::Records(records), Request::Records(request)) => records.execute(face, request).await,
            (Kind::Replicated(replicated), Request::Replicated(request)) => {
                replicated.execute(face, request).await
            }
            _ => unreachable!("a request is of the worker's own kind"),
        }
    }

    fn enter_flight(&self, clock: &Clock) {
        let depth = self.in_flight.get() + 1;
        self.in_flight.set(depth);
        self.pause.begin();
        if Instant::now() >= clock.from {
            let level = usize::try_from(depth.ilog2()).unwrap_or(6).min(6);
            self.tally.borrow_mut().depths[level] += 1;
        }
    }

    fn count(&self, direction: Direction, bytes: u64, start: Instant, clock: &Clock) {
        let end = Instant::now();
        let Some(at) = end.checked_duration_since(clock.from) else { return };
        if self.shared.live.phase() == Phase::Ramping {
            self.shared.live.enter(Phase::Running);
        }
        self.shared.live.count(direction, bytes);
        self.tally.borrow_mut().records[direction.index()].add(bytes, end - start, at);
    }

    /// A store without space ends the worker; that is no error of the run.
    fn space(&self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(Error::NoSpace { .. }) => {
                self.tally.borrow_mut().ending = Ending::NoSpace;
                Ok(())
            }
            outcome => outcome,
        }
    }
}

/// When a worker measures.
struct Clock {
    from: Instant,
    until: Option<Instant>,
    pace: Pace,
}
