//! Suite: crashes the runs of a seed, looks at what is left, and counts.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use seabed::{Access, LocalStore, Shard, ShardOptions};
use seabed_check::Kind;
use seabed_types::ShardId;

use super::alive::goes_on;
use super::engine::dump;
use super::history::PoolHistory;
use super::instants::{is_promise, still_holds};
use super::program::{Plan, Program};
use super::run::{Bounds, Run, formatted, names, record, shard_options, sim_options, superblock};
use super::uses::each_has_its_incarnation;
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, Mark, Simulation};

thread_local! {
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The seed that this thread works on.
pub fn seed_now() -> Option<u64> {
    NOW.get()
}

/// How deep crashes are nested.
const DEPTH: u32 = 3;
/// The depth of a run that is not crashed and mounted further: that after a kill.
const LEAF: u32 = DEPTH + 1;
/// One of so many states goes on for longer than its device has space for.
const GOES_ON: u64 = 100;
/// One of so many moments of promises is looked at.
const INSTANTS: u64 = 3;

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The first seed.
    pub seed: u64,
    /// How many seeds; none: as many as it takes.
    pub seeds: Option<u64>,
    /// Stop when so many states were looked at.
    pub states: u64,
    /// Stop after so long.
    pub time: Option<Duration>,
    /// About so many states of each seed.
    pub states_per_seed: u64,
    /// Worker threads, each with a simulation of its own.
    pub threads: u64,
}

/// What was done and found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Seeds.
    pub seeds: u64,
    /// Distinct disks that were mounted, compared, checked and mounted again.
    pub states: u64,
    /// Disks that were met before.
    pub duplicates: u64,
    /// Of the states, those with a torn end of the log.
    pub torn: u64,
    /// Of the states, those of a run that began with a recovery.
    pub nested: u64,
    /// Disks, duplicates among them, that a crash of a recovery left before the end of its mount.
    pub in_mount: u64,
    /// Of the states, those of a run that began with a recovery from a crash of one that did, three deep.
    pub deep: u64,
    /// Of these, those left by a crash within a mount of what a crash within a mount had left.
    pub mounts_deep: u64,
    /// Of the states, those in which more was recovered than was acknowledged.
    pub more: u64,
    /// Promises held against what was durable in their very moment.
    pub instants: u64,
    /// Of the states, those from which the store went on for longer than its device has space for.
    pub went_on: u64,
    /// What was removed in these because there was no space.
    pub made_room: u64,
    /// Runs, submissions and reads in them.
    pub runs: u64,
    /// Broken rules.
    pub lost: u64,
    /// See [`Rule`].
    pub half: u64,
    /// See [`Rule`].
    pub retracted: u64,
    /// See [`Rule`].
    pub failed_opens: u64,
    /// See [`Rule`].
    pub check: u64,
    /// See [`Rule`].
    pub wrong: u64,
    /// See [`Rule`].
    pub stuck: u64,
}

impl Counts {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.fields().into_iter().zip(other.clone().fields()) {
            *mine += *theirs;
        }
    }

    fn fields(&mut self) -> [&mut u64; 20] {
        [
            &mut self.seeds,
            &mut self.states,
            &mut self.duplicates,
            &mut self.torn,
            &mut self.nested,
            &mut self.in_mount,
            &mut self.deep,
            &mut self.mounts_deep,
            &mut self.more,
            &mut self.instants,
            &mut self.went_on,
            &mut self.made_room,
            &mut self.runs,
            &mut self.lost,
            &mut self.half,
            &mut self.retracted,
            &mut self.failed_opens,
            &mut self.check,
            &mut self.wrong,
            &mut self.stuck,
        ]
    }

    fn count(&mut self, rule: Rule) {
        *match rule {
            Rule::Lost => &mut self.lost,
            Rule::Half => &mut self.half,
            Rule::Retracted => &mut self.retracted,
            Rule::FailedOpen => &mut self.failed_opens,
            Rule::Check => &mut self.check,
            Rule::Wrong => &mut self.wrong,
            Rule::Stuck => &mut self.stuck,
        } += 1;
    }

    /// Whether a rule was broken.
    pub fn has_failures(&self) -> bool {
        let Self { lost, half, retracted, failed_opens, check, wrong, stuck, .. } = *self;
        lost + half + retracted + failed_opens + check + wrong + stuck > 0
    }

    /// The closing line.
    pub fn line(&self) -> String {
        let Self { went_on, made_room, .. } = *self;
        let Self { states, duplicates, torn, nested, lost, half, retracted, failed_opens, .. } = *self;
        let Self { seeds, runs, in_mount, deep, mounts_deep, more, instants, check, wrong, stuck, .. } =
            *self;
        format!(
            "states={states} duplicates={duplicates} torn={torn} nested={nested} lost={lost} half={half} \
             retracted={retracted} failed_opens={failed_opens} check={check} wrong={wrong} stuck={stuck} \
             in_mount={in_mount} deep={deep} mounts_deep={mounts_deep} more={more} instants={instants} \
             went_on={went_on} made_room={made_room} seeds={seeds} runs={runs}"
        )
    }
}

/// Runs seeds until enough was done; `fail` is told of each that breaks a rule.
pub fn run_seeds(options: Options, fail: impl Fn(u64, &str) + Sync) -> Counts {
    let total = Mutex::new(Counts::default());
    let end = options.time.map(|time| Instant::now() + time);
    std::thread::scope(|scope| {
        for thread in 0..options.threads {
            let (total, fail) = (&total, &fail);
            scope.spawn(move || {
                let last = options.seeds.map_or(u64::MAX, |seeds| options.seed + seeds);
                let mut seed = options.seed + thread;
                while seed < last {
                    let (counts, wrong) = run_seed(seed, options.states_per_seed);
                    if let Some(what) = wrong {
                        fail(seed, &what);
                    }
                    let mut total = total.lock().expect("no panic while it is held");
                    total.add(&counts);
                    let is_over = end.is_some_and(|end| Instant::now() >= end);
                    if total.states >= options.states || is_over {
                        return;
                    }
                    seed += options.threads;
                }
            });
        }
    });
    total.into_inner().expect("all threads have ended")
}

/// One seed, up to the first rule that is broken: where and how.
pub fn run_seed(seed: u64, states: u64) -> (Counts, Option<String>) {
    let (counts, result) = run(seed, 0, &Plan::of_crash(seed), states);
    (counts, result.err().map(|broken| broken.to_string()))
}

/// The same with a plan of the caller's, and moments of crashes that follow from `draw` too; the error says where.
pub(super) fn run_plan(seed: u64, draw: u64, plan: &Plan, states: u64) -> Result<(), Broken> {
    run(seed, draw, plan, states).1
}

/// What the clients of the first run of this thread's last seed did.
pub(super) fn drawn_program() -> Program {
    super::run::first_program()
}

fn run(seed: u64, draw: u64, plan: &Plan, states: u64) -> (Counts, Result<(), Broken>) {
    let mut suite = Suite {
        seed,
        rng: fastrand::Rng::with_seed(seed ^ draw << 40),
        counts: Counts { seeds: 1, ..Counts::default() },
        seen: BTreeMap::new(),
        place: Vec::new(),
        states,
    };
    NOW.set(Some(seed));
    super::run::forget_program();
    let whole = std::panic::AssertUnwindSafe(|| suite.whole(plan));
    // Where a panic aborts the hook has told the seed; where it unwinds the other seeds go on.
    let result =
        std::panic::catch_unwind(whole).unwrap_or_else(|_| Err(broken(Rule::Wrong, "a panic, told above")));
    NOW.set(None);
    let result = result.map_err(|broken| {
        suite.counts.count(broken.rule);
        Broken { what: format!("{} ({})", broken.what, suite.place.join(", ")), ..broken }
    });
    (suite.counts, result)
}

/// The hash of the device's trace of a seed's first run: the same for the same engine.
pub fn trace_hash(seed: u64) -> Result<u64, String> {
    let plan = Plan::of_crash(seed);
    let base = formatted(seed, &plan).map_err(|broken| broken.to_string())?;
    let history = vec![PoolHistory::new(); plan.pools];
    let zero = Bounds::new(vec![0; plan.pools]);
    let run = record((seed, seed), &base, (&history, &zero), &plan, Faults::none());
    run.map(|run| run.trace.hash()).map_err(|broken| broken.to_string())
}

struct Suite {
    seed: u64,
    rng: fastrand::Rng,
    counts: Counts,
    /// By the hash of each disk: the run that it was met in last, and the number of each pool.
    seen: BTreeMap<u128, (u64, Vec<u64>)>,
    place: Vec<String>,
    states: u64,
}

/// Where in the tree of runs a run is.
#[derive(Clone, Copy, Default)]
struct Nested {
    /// The number of the run.
    run: u64,
    /// How many recoveries it follows.
    depth: u32,
    /// How many crashes within a mount, one of what the other left, left what it begins with.
    mounts: u32,
    /// A cut before left garbage where something was being written.
    has_garbage: bool,
}

/// What a mount showed.
pub(super) struct Opened {
    pub(super) dumped: Vec<Option<Vec<(crate::model::ObjectId, crate::model::Object)>>>,
    pub(super) usage: Vec<(i64, i64)>,
    torn: bool,
    pub(super) image: DiskImage,
    /// Reads of the device.
    pub(super) reads: u64,
}

impl Suite {
    fn whole(&mut self, plan: &Plan) -> Result<(), Broken> {
        let base = formatted(self.seed, plan)?;
        let history = vec![PoolHistory::new(); plan.pools];
        let zero = Bounds::new(vec![0; plan.pools]);
        self.explore(&base, &history, plan, &zero, Nested::default())
    }

    /// Records a run on `base`, which cannot fall back behind `least`, and crashes it.
    fn explore(
        &mut self,
        base: &DiskImage,
        before: &[PoolHistory],
        plan: &Plan,
        least: &Bounds,
        nested: Nested,
    ) -> Result<(), Broken> {
        let depth = nested.depth;
        let seed = if depth == 0 { self.seed } else { self.rng.u64(..1 << 40) };
        self.place.push(format!("run {seed}"));
        let run = record((seed, self.seed), base, (before, least), plan, Faults::none())?;
        self.counts.runs += 1;
        let nested = Nested { run: self.counts.runs, ..nested };
        if (1..=DEPTH).contains(&depth) {
            self.seen.insert(base.hash(), (nested.run, run.recovered.clone()));
        }
        let boundaries = run.trace.boundaries().len() as u64;
        // The first run gives half of the states, those within it the rest.
        let wanted = if depth == 0 { (self.states / 4).max(10) } else { 6 };
        let mut bounds = least.clone();
        let mut passed = 0;
        let mut walk = run.trace.walk();
        while let Some(boundary) = walk.advance() {
            let marks = &walk.marks()[passed..];
            for mark in marks {
                run.raise(&mut bounds, *mark);
            }
            let promises = marks.iter().filter(|mark| is_promise(**mark)).count() as u64;
            passed = walk.marks().len();
            if promises > 0 && self.rng.u64(..INSTANTS) == 0 {
                // Nothing became durable since the first of them, so this is what was durable when it was made.
                self.place.push(format!("instant {boundary}"));
                let image = walk.frontier().crash_image(CrashMode::Durable, &mut self.rng);
                self.state(
                    (&image, CrashMode::Durable),
                    &run,
                    plan,
                    &bounds,
                    Nested { mounts: 0, ..nested },
                )?;
                self.counts.instants += promises;
                self.place.pop();
            }
            if self.rng.u64(..boundaries) >= wanted {
                continue;
            }
            self.place.push(format!("boundary {boundary}"));
            let random = CrashMode::random(&mut self.rng);
            let mode = [CrashMode::Durable, CrashMode::Completed, random, random][self.rng.usize(..4)];
            for mode in [mode, CrashMode::random(&mut self.rng)] {
                self.place.push(format!("{mode:?}"));
                let image = walk.frontier().crash_image(mode, &mut self.rng);
                let mounted = walk.marks().contains(&Mark::Note { what: "mounted", number: 0 });
                self.counts.in_mount += u64::from(depth > 0 && !mounted);
                let mounts = if mounted { 0 } else { nested.mounts + 1 };
                self.state((&image, mode), &run, plan, &bounds, Nested { mounts, ..nested })?;
                if mounted && self.rng.u8(..6) == 0 {
                    self.place.push("rot".to_owned());
                    super::rot::rotten((self.rng.u64(..), self.seed), &image, &run, plan, &bounds)?;
                    self.place.pop();
                }
                self.place.pop();
            }
            if depth < DEPTH && self.rng.u8(..24) == 0 {
                self.place.push("killed".to_owned());
                let image = walk.frontier().killed_image(&mut self.rng);
                let plan = plan.again(self.rng.u64(..));
                let killed = Nested { depth: LEAF, mounts: 0, ..nested };
                self.explore(&image, &run.history, &plan, &bounds, killed)?;
                self.place.pop();
            }
            self.place.pop();
        }
        self.place.pop();
        Ok(())
    }

    /// Looks at one disk that a crash of a run left.
    fn state(
        &mut self,
        (image, mode): (&DiskImage, CrashMode),
        run: &Run,
        plan: &Plan,
        bounds: &Bounds,
        nested: Nested,
    ) -> Result<(), Broken> {
        let hash = image.hash();
        if let Some((of, recovered)) = self.seen.get_mut(&hash) {
            self.counts.duplicates += 1;
            // The disk is the same, but more was promised since: it must be in the state that was found.
            if *of == nested.run {
                return still_holds(recovered, &run.history, bounds);
            }
            return Ok(());
        }
        self.counts.states += 1;
        // A slot that is garbage stays so until a mount has written it again.
        let has_garbage = nested.has_garbage || mode == CrashMode::Garbage;
        check_before(image, excused(if has_garbage { CrashMode::Garbage } else { mode }))?;
        each_has_its_incarnation(image, &superblock(self.seed, plan))?;
        self.counts.nested += u64::from(nested.depth > 0);
        self.counts.deep += u64::from(nested.depth == DEPTH);
        self.counts.mounts_deep += u64::from(nested.depth == DEPTH && nested.mounts > 1);
        let options = ShardOptions {
            memory_bytes: if self.rng.bool() { plan.memory_bytes } else { 256 << 10 },
            ..shard_options(plan)
        };
        let opened = open((self.rng.u64(..), self.seed), image, plan, options)?;
        self.counts.torn += u64::from(opened.torn);
        let recovered = compare(&opened, &run.history, bounds)?;
        self.seen.insert(hash, (nested.run, recovered.clone()));
        let more = recovered.iter().zip(&bounds.acknowledged).any(|(one, two)| one > two);
        self.counts.more += u64::from(more);
        mounts_again((self.rng.u64(..), self.seed), &opened, plan)?;
        if self.rng.u64(..GOES_ON) == 0 {
            self.place.push("goes on".to_owned());
            let removals = goes_on((self.rng.u64(..), self.seed), image, plan, &opened.dumped)?;
            self.counts.went_on += 1;
            self.counts.made_room += removals;
            self.place.pop();
        }
        // A crash within a recovery is followed more often, so that recoveries of recoveries are crashed too.
        let share = if nested.depth > 0 && nested.mounts > 0 { 5 } else { 12 };
        if nested.depth < DEPTH && self.rng.u8(..share) == 0 {
            let history: Vec<PoolHistory> =
                run.history.iter().zip(&recovered).map(|(history, number)| history.until(*number)).collect();
            let plan = plan.again(self.rng.u64(..));
            let deeper = Nested { depth: nested.depth + 1, has_garbage, ..nested };
            // What a power cut left is durable: it can never fall back from there.
            self.explore(image, &history, &plan, &Bounds::new(recovered), deeper)?;
        }
        Ok(())
    }
}

/// Checks what a crash left, mounts it, compares it, checks it and mounts it again: the number of each pool.
pub(super) fn verify(
    seeds: (u64, u64),
    (image, excused): (&DiskImage, &[Kind]),
    history: &[PoolHistory],
    bounds: &Bounds,
    plan: &Plan,
) -> Result<Vec<u64>, Broken> {
    check_before(image, excused)?;
    let opened = open(seeds, image, plan, shard_options(plan))?;
    let recovered = compare(&opened, history, bounds)?;
    mounts_again(seeds, &opened, plan)?;
    Ok(recovered)
}

/// What a mount left is sound, and a second one, which only reads, shows the same and writes nothing.
fn mounts_again(seeds: (u64, u64), opened: &Opened, plan: &Plan) -> Result<(), Broken> {
    check(&opened.image)?;
    let read_only = ShardOptions { access: Access::ReadOnly, ..shard_options(plan) };
    let again = open(seeds, &opened.image, plan, read_only)?;
    if again.dumped != opened.dumped || again.usage != opened.usage {
        return Err(broken(Rule::Wrong, "the second mount shows another state"));
    }
    if !again.image.difference(&opened.image).is_empty() {
        return Err(broken(Rule::Wrong, "a mount that only reads has written"));
    }
    Ok(())
}

/// Mounts and reads everything.
pub(super) fn open(
    seeds: (u64, u64),
    image: &DiskImage,
    plan: &Plan,
    options: ShardOptions,
) -> Result<Opened, Broken> {
    open_with(seeds, image, plan, options, Faults::none())
}

/// The same with faults.
pub(super) fn open_with(
    (seed, store_seed): (u64, u64),
    image: &DiskImage,
    plan: &Plan,
    options: ShardOptions,
    faults: Faults,
) -> Result<Opened, Broken> {
    let sim = Simulation::from_image(seed, image, sim_options(plan, faults));
    let (machine, superblock) = (sim.machine(), superblock(store_seed, plan));
    let (dumped, usage, torn) = sim
        .run(async {
            let shard = Shard::mount(machine, superblock, ShardId(0), options).await;
            let shard = shard.map_err(|error| broken(Rule::FailedOpen, error))?;
            let torn = shard.report().torn.is_some();
            let store = LocalStore::new(Rc::clone(&shard));
            let (mut dumped, mut usage) = (Vec::new(), Vec::new());
            for name in names(plan) {
                let pool = dump(&store, name).await.map_err(|error| broken(Rule::Half, error))?;
                let mut counted = (0, 0);
                if pool.is_some() {
                    let pool = store.pool(name).await.map_err(|error| broken(Rule::Half, error))?;
                    let usage = pool.usage().map_err(|error| broken(Rule::Half, error))?;
                    counted = (usage.objects, usage.stored);
                }
                usage.push(counted);
                dumped.push(pool);
            }
            Ok((dumped, usage, torn))
        })
        .map_err(|stuck| broken(Rule::Stuck, format!("a mount: {stuck}")))??;
    let image = sim.frontier().crash_image(CrashMode::Everything, &mut fastrand::Rng::with_seed(seed));
    let reads = sim.trace().counts().reads;
    Ok(Opened { dumped, usage, torn, image, reads })
}

/// Rules 1 to 3 and the counts; the number of each pool.
pub(super) fn compare(opened: &Opened, history: &[PoolHistory], bounds: &Bounds) -> Result<Vec<u64>, Broken> {
    let mut recovered = Vec::new();
    for (index, history) in history.iter().enumerate() {
        let dumped = opened.dumped[index].as_deref();
        let (acknowledged, shown) = (bounds.acknowledged[index], bounds.shown[index]);
        let Some(number) = history.find(acknowledged.max(shown), dumped) else {
            let (rule, number) = match history.find(0, dumped) {
                None => (Rule::Half, format!("no prefix; it differs {}", history.closest(0, dumped))),
                Some(number) if number < acknowledged => (Rule::Lost, number.to_string()),
                Some(number) => (Rule::Retracted, number.to_string()),
            };
            let what = format!(
                "pool {index}: acknowledged {acknowledged}, shown {shown}, submitted {}: found {number}",
                history.last()
            );
            return Err(broken(rule, what));
        };
        if opened.usage[index] != history.usage(number) {
            let (one, two) = (opened.usage[index], history.usage(number));
            return Err(broken(Rule::Wrong, format!("usage of pool {index}: {one:?}, should be {two:?}")));
        }
        recovered.push(number);
    }
    Ok(recovered)
}

/// A disk as the checker reads it.
struct Checked<'a>(&'a DiskImage);

impl seabed_check::Image for Checked<'_> {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.0.bytes()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.read_durable(at, into);
        Ok(())
    }
}

/// What the checker may report before a mount that mends it.
///
/// Where sectors of what was being written are garbage, as a disk leaves them that does not write sectors whole, one slot may be
/// lost: that cannot be told from damage.
pub(super) fn excused(mode: CrashMode) -> &'static [Kind] {
    if mode == CrashMode::Garbage { &[Kind::Slot] } else { &[] }
}

/// The same of a device that failed before: a slot may have been written in part, or not for many sequences.
pub(super) const EXCUSED_AFTER_FAULTS: &[Kind] = &[Kind::Slot, Kind::SlotsApart];

/// What a crash left is sound for the checker before any mount: what it finds are notes, but for what is excused.
pub(super) fn check_before(image: &DiskImage, excused: &[Kind]) -> Result<(), Broken> {
    let options = seabed_check::Options { findings_max: 5, ..seabed_check::Options::default() };
    let report = seabed_check::check(&Checked(image), &options);
    let report = report.map_err(|error| broken(Rule::Check, format!("before the mount: {error}")))?;
    let wrong = report.violations.iter().filter(|violation| !excused.contains(&violation.kind()));
    let wrong: Vec<String> = wrong.map(ToString::to_string).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(broken(Rule::Check, format!("before the mount: {}", wrong.join("; "))))
}

fn check(image: &DiskImage) -> Result<(), Broken> {
    findings(image).map_err(|what| broken(Rule::Check, what))
}

/// What the checker finds.
pub(super) fn findings(image: &DiskImage) -> Result<(), String> {
    let options = seabed_check::Options { findings_max: 5, ..seabed_check::Options::default() };
    let report = seabed_check::check(&Checked(image), &options).map_err(|error| error.to_string())?;
    if report.is_clean() {
        return Ok(());
    }
    let violations: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    Err(violations.join("; "))
}
