//! Run: mounts a store, lets clients work on it, and records what they were told.
//!
//! A client takes its number in the moment in which it submits, so the numbers of a pool are the order of its line. A
//! streaming put takes its place only when it is finished: while one does, nobody else submits to its pool.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use seabed::{LocalPool, LocalStore, Shard, ShardOptions};
use seabed_device::local::Notify;
use seabed_device::{Class, famine};
use seabed_segment::{Identity, Layout, Superblock};
use seabed_types::{ShardId, Uuid};

use super::alive::afterwards;
use super::engine::{Outcome, ask, id_of, outcome_of, transaction_of};
use super::history::{PoolHistory, ReadRecord, Submission};
use super::metamorphic::Said;
use super::program::{Generator, Plan, Program, Read, Step};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, Mark, SimOptions, Simulation, TaskOrder, Trace};
use crate::model::Op;

/// How often what is asked for again and again is.
const ASKED_AGAIN: usize = 4;

const NAMES: [&str; 3] = ["one", "two", "three"];

thread_local! {
    /// What the clients of this thread's first run since it was forgotten did, also if that run came to no end.
    static FIRST: RefCell<Option<Rc<RefCell<Program>>>> = const { RefCell::new(None) };
}

/// See [`FIRST`].
pub(super) fn first_program() -> Program {
    FIRST.with_borrow(|first| first.as_ref().map(|program| program.borrow().clone())).unwrap_or_default()
}

/// The next run is the first one.
pub(super) fn forget_program() {
    FIRST.set(None);
}

/// A recorded run.
pub(super) struct Run {
    pub(super) trace: Trace,
    pub(super) history: Vec<PoolHistory>,
    /// The number of each pool that its mount recovered to.
    pub(super) recovered: Vec<u64>,
    /// By the number in a note of the trace: the pool, and what was durable from then on.
    proven: Vec<(usize, u64)>,
    no_room: u64,
    /// What failed by a fault: submissions, reads, the mount.
    pub(super) failed: u64,
    /// Permits of memory, and of turns to write, that were asked for.
    pub(super) permits: u64,
    /// The engine's counters at the end, before it was closed.
    pub(super) stats: seabed::Stats,
    /// What new operations were told after all faults had stopped; none without faults.
    pub(super) afterwards: Option<Result<(), seabed::Error>>,
    /// What the clients did.
    pub(super) program: Program,
    /// What they were told, in this order.
    pub(super) said: Vec<Said>,
}

impl Run {
    /// How many submissions found no space.
    pub(super) fn refused_for_space(&self) -> u64 {
        self.no_room
    }

    /// Raises the bounds of what a crash may take back by one more mark of the trace.
    pub(super) fn raise(&self, bounds: &mut Bounds, mark: Mark) {
        let (acknowledged, at, number) = match mark {
            Mark::Note { what: "mounted", .. } => {
                for (bound, recovered) in bounds.acknowledged.iter_mut().zip(&self.recovered) {
                    *bound = (*bound).max(*recovered);
                }
                return;
            }
            Mark::Note { what, number } => {
                let proven = self.proven[usize::try_from(number).expect("an index")];
                (what == "answered", proven.0, proven.1)
            }
            Mark::Acknowledged { log, number } => (true, log as usize, number),
            Mark::Shown { log, number } => (false, log as usize, number),
        };
        let bounds = if acknowledged { &mut bounds.acknowledged } else { &mut bounds.shown };
        bounds[at] = bounds[at].max(number);
    }
}

/// What a crash may not take back, for each pool.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) acknowledged: Vec<u64>,
    pub(super) shown: Vec<u64>,
}

impl Bounds {
    pub(super) fn new(acknowledged: Vec<u64>) -> Self {
        Self { shown: vec![0; acknowledged.len()], acknowledged }
    }
}

/// The names of a plan's pools.
pub(super) fn names(plan: &Plan) -> &'static [&'static str] {
    &NAMES[..plan.pools]
}

/// The superblock of a seed's store.
pub(super) fn superblock(seed: u64, plan: &Plan) -> Superblock {
    let mut uuid = [0x5e; 16];
    uuid[..8].copy_from_slice(&seed.to_le_bytes());
    let layout = Layout {
        device_bytes: plan.disk_bytes,
        segment_bytes: plan.segment_bytes,
        node_bytes: plan.node_bytes,
        shards: 1,
    };
    Superblock::new(
        Identity { uuid: Uuid(uuid), secret: [3; 16] },
        layout,
        plan.window_segments * u64::from(plan.segment_bytes),
    )
}

/// The options of a plan.
pub(super) fn shard_options(plan: &Plan) -> ShardOptions {
    ShardOptions {
        memory_bytes: plan.memory_bytes,
        data_cache_bytes: plan.data_cache_bytes,
        bulk_bytes: plan.bulk_bytes,
        lay_bytes: plan.lay_bytes,
        inline_bytes: plan.inline_bytes,
        inline_extents_bytes: plan.inline_extents_bytes,
        cleaning: plan.cleaning,
        ..ShardOptions::default()
    }
}

pub(super) fn sim_options(plan: &Plan, faults: Faults) -> SimOptions {
    SimOptions {
        disk_bytes: plan.disk_bytes,
        discards: plan.discards,
        order: TaskOrder::Perturbed { per_mille: 100 },
        steps_max: 400_000,
        faults,
        ..SimOptions::default()
    }
}

/// A disk with an empty store.
pub(super) fn formatted(seed: u64, plan: &Plan) -> Result<DiskImage, Broken> {
    let sim = Simulation::new(seed, sim_options(plan, Faults::none()));
    let (machine, superblock) = (sim.machine(), superblock(seed, plan));
    let made = sim.run(async { seabed::format_device(&machine, &superblock).await });
    made.map_err(|stuck| broken(Rule::Stuck, stuck))?.map_err(|error| broken(Rule::Wrong, error))?;
    let trace = sim.finish();
    Ok(trace.crash_image(trace.events(), CrashMode::Durable, &mut fastrand::Rng::with_seed(seed)))
}

/// One pool while a run goes on.
struct PoolRun {
    pool: RefCell<Option<LocalPool>>,
    submissions: RefCell<Vec<Submission>>,
    /// The number of the first submission.
    first: Cell<u64>,
    /// A streaming put is being finished.
    finishing: Cell<bool>,
    /// A fault kept it from being opened.
    gone: Cell<bool>,
}

/// An event that a note of the trace stands for.
enum Told {
    /// The pool, and which of its submissions.
    Submission(usize, usize),
    /// With how many events came before it was asked.
    Read(ReadRecord, usize),
}

struct Shared {
    pools: Vec<PoolRun>,
    told: RefCell<Vec<Told>>,
    steps: Cell<u32>,
    clients: Cell<u32>,
    stamp: Cell<u64>,
    changed: Notify,
    wrong: RefCell<Option<Broken>>,
    /// Failures by faults.
    failed: Cell<u64>,
    /// What the clients did so far.
    drawn: Rc<RefCell<Program>>,
    plan: Plan,
}

impl Shared {
    fn note(&self, told: Told) -> u64 {
        let mut all = self.told.borrow_mut();
        all.push(told);
        all.len() as u64 - 1
    }

    fn fail(&self, wrong: Broken) {
        self.wrong.borrow_mut().get_or_insert(wrong);
    }

    /// An error of the engine: wrong, if no fault was planned.
    fn failed(&self, what: &str, error: &seabed::Error) {
        if self.plan.is_faulty {
            self.failed.set(self.failed.get() + 1);
        } else {
            self.fail(broken(Rule::Wrong, format!("{what}: {error}")));
        }
    }
}

/// Mounts `base`, runs the clients of a plan, and gives what happened.
pub(super) fn record(
    (seed, store_seed): (u64, u64),
    base: &DiskImage,
    (before, least): (&[PoolHistory], &Bounds),
    plan: &Plan,
    faults: Faults,
) -> Result<Run, Broken> {
    record_on((seed, store_seed), base, (before, least), plan, sim_options(plan, faults))
}

/// Ends the famine of a run with it, however it ends.
struct Famine;

impl Famine {
    fn begin(plan: &Plan) -> Self {
        famine::plan(plan.famine.map(|(nth, _)| nth));
        Self
    }
}

impl Drop for Famine {
    fn drop(&mut self) {
        famine::end();
    }
}

/// The same on a machine with these options.
pub(super) fn record_on(
    (seed, store_seed): (u64, u64),
    base: &DiskImage,
    (before, least): (&[PoolHistory], &Bounds),
    plan: &Plan,
    options: SimOptions,
) -> Result<Run, Broken> {
    let sim = Simulation::from_image(seed, base, options);
    let (machine, mark) = (sim.machine(), sim.marker());
    let superblock = superblock(store_seed, plan);
    let _famine = Famine::begin(plan);
    let permits = Cell::new(0);
    let result = sim.run(async {
        if let Some((_, time)) = plan.famine {
            let runtime = Rc::clone(&machine.runtime);
            let ends = async move {
                famine::struck().await;
                runtime.sleep(time).await;
                famine::end();
            };
            machine.runtime.spawn(Class::Foreground, Box::pin(ends));
        }
        let (shard, recovered) = match mounted(&machine, superblock, plan, before, least).await {
            Ok(mounted) => mounted,
            // A fault that the mount met: it said so, and there was no run.
            Err(Broken { rule: Rule::FailedOpen | Rule::Half, .. }) if plan.is_faulty => {
                return Ok(None);
            }
            Err(broken) => return Err(broken),
        };
        let store = LocalStore::new(Rc::clone(&shard));
        mark(Mark::Note { what: "mounted", number: 0 });
        let shared = serve(seed, &machine, &store, &recovered, plan, &mark).await;
        if plan.rests {
            // Long enough for the empty record and for the statement of where the log ends.
            machine.runtime.sleep(Duration::from_secs(1)).await;
        }
        permits.set(famine::asked());
        famine::end();
        let afterwards = if plan.is_faulty { Some(afterwards(&sim, &store).await?) } else { None };
        let stats = shard.stats();
        if plan.closes
            && let Err(error) = shard.close().await
        {
            shared.failed("closing", &error);
        }
        let wrong = shared.wrong.take();
        wrong.map_or(Ok(Some((shared, recovered, stats, afterwards))), Err)
    });
    let ran = result.map_err(|stuck| broken(Rule::Stuck, stuck))??;
    let trace = sim.finish();
    let Some((shared, recovered, stats, afterwards)) = ran else {
        let recovered = before.iter().map(|history| history.first).collect();
        let (history, proven) = (before.to_vec(), Vec::new());
        let (stats, afterwards, program) = (seabed::Stats::default(), None, Vec::new());
        return Ok(Run {
            trace,
            history,
            recovered,
            proven,
            no_room: 0,
            failed: 1,
            permits: permits.get(),
            stats,
            afterwards,
            program,
            said: Vec::new(),
        });
    };
    let mut history: Vec<PoolHistory> =
        before.iter().zip(&recovered).map(|(before, number)| before.until(*number)).collect();
    let mut proofs = Vec::new();
    let mut no_room = 0;
    for (index, pool) in shared.pools.iter().enumerate() {
        let history = &mut history[index];
        if history.at(history.last()).is_none() {
            history.create(Plan::limits());
        }
        let submissions = pool.submissions.borrow();
        let refused = |submission: &&Submission| submission.outcome == Some(Outcome::NoRoom);
        no_room += submissions.iter().filter(refused).count() as u64;
        let proven = submissions.iter().map(|submission| history.submit(submission));
        proofs.push(proven.collect::<Result<Vec<u64>, String>>().map_err(|what| broken(Rule::Wrong, what))?);
    }
    let said = said(&shared);
    let proven = proven(&shared, &history, &proofs, &recovered)?;
    let (failed, program) = (shared.failed.get(), shared.drawn.borrow().clone());
    let permits = permits.get();
    Ok(Run { trace, history, recovered, proven, no_room, failed, permits, stats, afterwards, program, said })
}

/// What the clients were told, in this order.
fn said(shared: &Shared) -> Vec<Said> {
    let told = shared.told.borrow();
    let said = told.iter().filter_map(|told| match told {
        Told::Submission(pool, index) => {
            shared.pools[*pool].submissions.borrow()[*index].outcome.clone().map(Said::Submitted)
        }
        Told::Read(read, _) => Some(Said::Asked(read.answer.clone())),
    });
    said.collect()
}

/// The pool, and what is durable of it, by the number of each event that was told.
fn proven(
    shared: &Shared,
    history: &[PoolHistory],
    proofs: &[Vec<u64>],
    recovered: &[u64],
) -> Result<Vec<(usize, u64)>, Broken> {
    let told = shared.told.take();
    // A transaction without operations is of no collection and stands in no line.
    let is_done = |pool: usize, index: usize| {
        let Submission { operations, outcome, .. } = &shared.pools[pool].submissions.borrow()[index];
        *outcome == Some(Outcome::Done) && !operations.is_empty()
    };
    // What a read had to see: the submissions to its pool that were done before it was asked. One that changed nothing may
    // have been answered before others that it stood behind and did not look at. These are not durable then, and if the
    // journal fails a read may come before they are carried out again; without a fault they are seen.
    let seen = |pool: usize, before: usize| {
        let done = told[..before].iter().map(|told| match told {
            Told::Submission(of, index) if *of == pool && is_done(pool, *index) => {
                let number = shared.pools[pool].first.get() + *index as u64;
                if shared.plan.is_faulty { proofs[pool][*index] } else { number }
            }
            Told::Submission(..) | Told::Read(..) => 0,
        });
        done.max().unwrap_or(0).max(recovered[pool]).max(1)
    };
    let proven = told.iter().map(|event| match event {
        Told::Submission(pool, index) => Ok((*pool, proofs[*pool][*index])),
        Told::Read(read, before) => {
            let from = seen(read.pool, *before);
            let shown = history[read.pool].explains(read, from).ok_or_else(|| {
                let answer = super::brief(&read.answer);
                broken(Rule::Wrong, format!("{:?} between {from} and {}: {answer}", read.read, read.to))
            })?;
            Ok((read.pool, shown))
        }
    });
    proven.collect()
}

/// Mounts and finds out which number each pool has recovered to; of equal states the newest.
async fn mounted(
    machine: &seabed_device::Machine,
    superblock: Superblock,
    plan: &Plan,
    before: &[PoolHistory],
    least: &Bounds,
) -> Result<(Rc<Shard>, Vec<u64>), Broken> {
    let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(plan)).await;
    let shard = shard.map_err(|error| broken(Rule::FailedOpen, error))?;
    let store = LocalStore::new(Rc::clone(&shard));
    let mut recovered = Vec::new();
    for (index, name) in names(plan).iter().enumerate() {
        let dumped = super::engine::dump(&store, name).await;
        let dumped = dumped.map_err(|error| broken(Rule::Half, error))?;
        let lower = least.acknowledged[index].max(least.shown[index]);
        let number = before[index].find_newest(lower, dumped.as_deref());
        recovered.push(number.ok_or_else(|| broken(Rule::Wrong, "the run's mount gives another state"))?);
    }
    Ok((shard, recovered))
}

async fn serve(
    seed: u64,
    machine: &seabed_device::Machine,
    store: &LocalStore,
    recovered: &[u64],
    plan: &Plan,
    mark: &(impl Fn(Mark) + Clone + 'static),
) -> Rc<Shared> {
    let pools = recovered.iter().map(|number| PoolRun {
        pool: RefCell::new(None),
        submissions: RefCell::default(),
        first: Cell::new((*number).max(1) + 1),
        finishing: Cell::new(false),
        gone: Cell::new(false),
    });
    let shared = Rc::new(Shared {
        pools: pools.collect(),
        told: RefCell::default(),
        steps: Cell::new(plan.steps),
        clients: Cell::new(plan.clients + 1),
        stamp: Cell::new(seed << 20),
        changed: Notify::default(),
        wrong: RefCell::default(),
        failed: Cell::new(0),
        drawn: Rc::new(RefCell::new(vec![Vec::new(); plan.clients as usize])),
        plan: plan.clone(),
    });
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert_with(|| Rc::clone(&shared.drawn));
    });
    for number in 0..plan.clients {
        let generator = Generator::new(seed.rotate_left(9) ^ u64::from(number), plan);
        let client =
            Client { number: number as usize, shared: Rc::clone(&shared), generator, again: Vec::new() };
        let task = client.run(machine.clone(), mark.clone());
        machine.runtime.spawn(Class::Foreground, Box::pin(task));
    }
    let task = pools_opened(Rc::clone(&shared), store.clone(), recovered.to_vec(), mark.clone());
    machine.runtime.spawn(Class::Foreground, Box::pin(task));
    shared.changed.until(|| shared.clients.get() == 0).await;
    shared
}

/// Makes the pools that are not there yet, while the clients work on others.
async fn pools_opened(shared: Rc<Shared>, store: LocalStore, recovered: Vec<u64>, mark: impl Fn(Mark)) {
    for (index, name) in names(&shared.plan).iter().enumerate() {
        let made = if recovered[index] == 0 { store.create_pool(name).await } else { store.pool(name).await };
        match made {
            Ok(pool) => {
                let number = recovered[index].max(1);
                mark(Mark::Acknowledged { log: u32::try_from(index).expect("few"), number });
                *shared.pools[index].pool.borrow_mut() = Some(pool);
            }
            Err(error) => {
                shared.failed("opening a pool", &error);
                shared.pools[index].gone.set(true);
            }
        }
        shared.changed.notify_all();
    }
    shared.clients.set(shared.clients.get() - 1);
    shared.changed.notify_all();
}

/// One client, that draws its steps or follows a program.
struct Client {
    number: usize,
    shared: Rc<Shared>,
    generator: Generator,
    /// Steps to take before another is drawn.
    again: Vec<(usize, Step)>,
}

impl Client {
    /// The next pool, and the step if it is not to be drawn; none at the end.
    fn next(&mut self, done: usize) -> Option<(usize, Option<Step>)> {
        let shared = &self.shared;
        if shared.wrong.borrow().is_some() {
            return None;
        }
        if let Some(program) = &shared.plan.program {
            let (pool, step) = program.get(self.number)?.get(done)?;
            return Some((*pool, Some(step.clone())));
        }
        if let Some((pool, step)) = self.again.pop() {
            return Some((pool, Some(step)));
        }
        let left = shared.steps.get().checked_sub(1)?;
        shared.steps.set(left);
        Some((self.generator.rng.usize(..shared.pools.len()), None))
    }

    /// The step that comes after `done` others.
    fn draw(&mut self, pool: usize, done: usize, stamp: u64) -> Step {
        if let Some(bytes) = self.shared.plan.first_bytes.filter(|_| (self.number, done) == (0, 0)) {
            return self.generator.write_of(bytes, stamp);
        }
        let step = self.generator.step(stamp);
        // Some data is asked for again and again, until it is answered from memory.
        if matches!(step, Step::Read(Read::Bytes(..))) && stamp.is_multiple_of(4) {
            self.again = vec![(pool, step.clone()); ASKED_AGAIN];
        }
        step
    }

    async fn run(mut self, machine: seabed_device::Machine, mark: impl Fn(Mark)) {
        let shared = Rc::clone(&self.shared);
        let mut done = 0;
        while let Some((index, step)) = self.next(done) {
            let run = &shared.pools[index];
            let is_ready = || {
                let is_open = run.pool.borrow().is_some() && !run.finishing.get();
                shared.wrong.borrow().is_some() || run.gone.get() || is_open
            };
            shared.changed.until(is_ready).await;
            let Some(pool) = run.pool.borrow().clone() else { break };
            let stamp = shared.stamp.replace(shared.stamp.get() + 1);
            let step = step.unwrap_or_else(|| self.draw(index, done, stamp));
            shared.drawn.borrow_mut()[self.number].push((index, step.clone()));
            self.step(index, &pool, step, &machine, &mark).await;
            done += 1;
            if shared.plan.pause_us > 0 {
                let pause = self.generator.rng.u64(..shared.plan.pause_us);
                machine.runtime.sleep(Duration::from_micros(pause)).await;
            }
        }
        shared.clients.set(shared.clients.get() - 1);
        shared.changed.notify_all();
    }

    async fn step(
        &mut self,
        index: usize,
        pool: &LocalPool,
        step: Step,
        machine: &seabed_device::Machine,
        mark: &impl Fn(Mark),
    ) {
        let shared = &self.shared;
        let run = &shared.pools[index];
        match step {
            Step::Submit(operations) => {
                let (place, submitted) = submit(run, pool, operations);
                let outcome = outcome_of(submitted.await);
                answered(shared, index, place, outcome, mark);
            }
            Step::Abandon(operations) => {
                // Whoever submitted it goes away: its end is noted for the model, but nobody is told.
                let (place, submitted) = submit(run, pool, operations);
                let shared = Rc::clone(shared);
                let unheard = async move {
                    let outcome = outcome_of(submitted.await);
                    let outcome = if shared.plan.is_faulty { outcome.of_fault() } else { Some(outcome) };
                    shared.pools[index].submissions.borrow_mut()[place].outcome = outcome;
                };
                machine.runtime.spawn(Class::Foreground, Box::pin(unheard));
            }
            Step::Stream { id, parts, attributes, finishes } => {
                let Ok(mut put) = pool.put_stream(id_of(&id)) else { return };
                let mut data = Vec::new();
                let mut written = Ok(());
                for part in parts {
                    data.extend_from_slice(&part);
                    let is_hole = part.iter().all(|byte| *byte == 0);
                    let bytes = part.len() as u64;
                    written =
                        written.and(if is_hole { put.skip(bytes).await } else { put.write(part).await });
                }
                if !finishes || !matches!(outcome_of(written), Outcome::Done) {
                    return;
                }
                shared.changed.until(|| !run.finishing.get()).await;
                run.finishing.set(true);
                let mut operations = vec![(id.clone(), Op::Remove), (id.clone(), Op::Write(0, data.into()))];
                if !attributes.is_empty() {
                    operations.push((id, Op::SetAttributes(attributes.clone())));
                }
                let place = enter(run, operations);
                let attributes = attributes
                    .into_iter()
                    .map(|(name, value)| (name.to_vec(), bytes::Bytes::copy_from_slice(&value)));
                let outcome = outcome_of(put.finish(attributes.collect()).await);
                run.finishing.set(false);
                shared.changed.notify_all();
                answered(shared, index, place, outcome, mark);
            }
            Step::Read(read) => ask_and_note(shared, index, pool, read, mark).await,
        }
    }
}

fn enter(run: &PoolRun, operations: Vec<(crate::model::ObjectId, Op)>) -> usize {
    let mut submissions = run.submissions.borrow_mut();
    submissions.push(Submission { operations, outcome: None });
    submissions.len() - 1
}

fn submit(
    run: &PoolRun,
    pool: &LocalPool,
    operations: Vec<(crate::model::ObjectId, Op)>,
) -> (usize, impl Future<Output = seabed::Result<()>> + use<>) {
    let transaction = transaction_of(&operations);
    (enter(run, operations), pool.submit(transaction))
}

fn answered(shared: &Shared, index: usize, place: usize, outcome: Outcome, mark: &impl Fn(Mark)) {
    let run = &shared.pools[index];
    let what = match &outcome {
        Outcome::Done => "answered",
        Outcome::Refused(..) => "refused",
        Outcome::NoRoom => "no room",
        Outcome::Failed(error) => {
            shared.failed("a submission failed", error);
            run.submissions.borrow_mut()[place].outcome = outcome.of_fault();
            return;
        }
    };
    run.submissions.borrow_mut()[place].outcome = Some(outcome);
    mark(Mark::Note { what, number: shared.note(Told::Submission(index, place)) });
}

async fn ask_and_note(shared: &Shared, index: usize, pool: &LocalPool, read: Read, mark: &impl Fn(Mark)) {
    let run = &shared.pools[index];
    let told_before = shared.told.borrow().len();
    match ask(pool, &read).await {
        Ok(answer) => {
            let to = run.first.get() + run.submissions.borrow().len() as u64 - 1;
            let told = Told::Read(ReadRecord { pool: index, read, to, answer }, told_before);
            mark(Mark::Note { what: "read", number: shared.note(told) });
        }
        Err(error) => shared.failed(&format!("{read:?}"), &error),
    }
}
