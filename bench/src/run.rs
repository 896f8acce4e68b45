//! Run: does the jobs, group by group, and tells how it went.
//!
//! A group is what stands between two `stonewall`s. Its files are written first, one job after the other; then all its
//! copies run at the same time; then what they wrote is verified.
//!
//! On the shard's thread (the default) all workers are futures there, as the connections of a server on it would be. On
//! the face for any thread each worker has a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::executor::block_on;
use futures::future::try_join_all;
use seabed::{Error, Result, Stats, Store};

use crate::blocks::Verified;
use crate::endings::Endings;
use crate::face::Face;
use crate::job::{Ignored, Job, Jobs};
use crate::live::{Live, Phase};
use crate::machine::{Usage, Wanted, usage, written_bytes};
use crate::record::Record;
use crate::worker::{Shared, Tally, Worker};

/// The pool that is used.
pub const POOL: &str = crate::overwrite::POOL;

/// Where clients run.
pub enum On<'a> {
    /// On the shard's own thread.
    Shard(&'a Store),
    /// Each copy of a job on a thread of its own, through the face for any thread.
    Threads(&'a Store),
    /// On this thread, without a store.
    Nothing,
}

/// What a run is given besides its jobs.
#[derive(Clone)]
pub struct Options {
    /// Whether it shall end early; asked often.
    pub is_over: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Where others see what it does.
    pub live: Arc<Live>,
}

/// Why a job ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Ending {
    /// It did what it was told.
    #[default]
    Done,
    /// It was asked to.
    Interrupted,
    /// There was no space left.
    NoSpace,
}

/// How a job, or what is reported with it, went.
#[derive(Clone, Debug)]
pub struct JobReport {
    /// The job; the first one of those that are reported with it.
    pub job: Arc<Job>,
    /// The group that it is reported in, from 0: a new one begins after `stonewall` and with `new_group`.
    pub group: usize,
    /// Copies.
    pub copies: u32,
    /// Its operations by direction.
    pub records: [Record; 3],
    /// Operations by how many were in flight when they began: 1, 2, 4, ... 64 and more.
    pub depths: [u64; 7],
    /// How long it was measured; the longest of its copies.
    pub runtime: Duration,
    /// What verification found.
    pub verified: Verified,
    /// Why it ended.
    pub ending: Ending,
    /// CPU time of the process while its group ran, as a share of one core: user and system.
    pub cpu: (f64, f64),
    /// Context switches, major and minor page faults of the process while its group ran.
    pub events: (u64, u64, u64),
}

/// What the process and the engine did while the jobs ran, all groups together, preparing and verifying left out.
#[derive(Clone, Copy, Default, Debug)]
pub struct Totals {
    /// CPU time.
    pub cpu_time: Duration,
    /// Of the CPU time that the whole machine wanted, the share that a hypervisor gave to others; of the group that lost most.
    pub stolen: f64,
    /// Bytes that the engine wrote to the device.
    pub device_bytes: Option<u64>,
    /// Of those, the journal's.
    pub journal_bytes: Option<u64>,
    /// Of those, the tree nodes'.
    pub node_bytes: Option<u64>,
    /// Reads of the device.
    pub device_reads: Option<u64>,
    /// Of those, the tree nodes'.
    pub node_loads: Option<u64>,
    /// Chunks of data that were answered from memory.
    pub data_hits: Option<u64>,
    /// Chunks of data that were looked for there and read from the device.
    pub data_misses: Option<u64>,
    /// Of these, chunks that were then kept in memory.
    pub data_admitted: Option<u64>,
    /// Bytes of memory for data at the end.
    pub data_bytes: Option<u64>,
    /// Bytes that the kernel wrote for the process.
    pub kernel_bytes: Option<u64>,
    /// The most memory that the process has had so far.
    pub peak_memory_bytes: Option<u64>,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The options of all jobs.
    pub global: Vec<(String, String)>,
    /// Options that make no difference here.
    pub ignored: Vec<Ignored>,
    /// The jobs in order.
    pub jobs: Vec<JobReport>,
    /// What they took together.
    pub totals: Totals,
    /// When it began.
    pub began: SystemTime,
    /// How long it took, with everything.
    pub time: Duration,
    /// Whether it ran without a store.
    pub is_null: bool,
}

impl Report {
    /// The worst ending of all jobs.
    pub fn ending(&self) -> Ending {
        self.jobs.iter().map(|job| job.ending).max().unwrap_or_default()
    }

    /// What verification found in all jobs.
    pub fn verified(&self) -> Verified {
        self.jobs.iter().fold(Verified::default(), |sum, job| Verified {
            units: sum.units + job.verified.units,
            wrong: sum.wrong + job.verified.wrong,
        })
    }

    /// Operations of all jobs.
    pub fn operations(&self) -> u64 {
        self.jobs.iter().flat_map(|job| &job.records).map(Record::operations).sum()
    }

    /// Reads of all jobs.
    pub fn reads(&self) -> u64 {
        self.jobs.iter().map(|job| job.records[0].operations()).sum()
    }

    /// Bytes that all jobs wrote.
    pub fn bytes_written(&self) -> u64 {
        self.jobs.iter().map(|job| job.records[1].bytes()).sum()
    }
}

/// Runs all jobs.
///
/// Errors: any of the store's but that space runs out, which ends the job and is in the report.
pub fn run(on: &On<'_>, jobs: &Jobs, options: &Options) -> Result<Report> {
    let (began, start) = (SystemTime::now(), Instant::now());
    if let On::Shard(store) | On::Threads(store) = on {
        block_on(store.pool_or_create(POOL))?;
    }
    // Tells this run's writes from those of others.
    let number =
        began.duration_since(UNIX_EPOCH).map_or(1, |time| u64::try_from(time.as_nanos()).unwrap_or(1));
    let exits_all = jobs.jobs.iter().any(|job| job.exits_all);
    let mut totals = Totals::default();
    let mut reports = Vec::new();
    for (group, members) in groups(&jobs.jobs).into_iter().enumerate() {
        let running = members.iter().map(|(job, reported)| (&**job, *reported));
        let shared = Shared {
            live: Arc::clone(&options.live),
            is_over: Arc::clone(&options.is_over),
            endings: Arc::new(Endings::new(running, exits_all)),
        };
        options.live.begin_group(group as u64);
        options.live.enter(Phase::Preparing);
        let workers = members.iter().enumerate().flat_map(|(place, (job, _))| {
            let shared = &shared;
            (0..job.copies)
                .map(move |copy| Worker::new((Arc::clone(job), place), copy, number, shared.clone()))
        });
        let workers = drive(on, workers.collect(), Step::Prepare)?;
        let before = Taken::now(on)?;
        let measured = Instant::now();
        let workers = drive(on, workers, Step::Measure)?;
        let time = measured.elapsed();
        let after = Taken::now(on)?;
        totals.add(&before, &after);
        let workers = drive(on, workers, Step::Verify)?;
        let tallies = workers.into_iter().map(|worker| {
            let group = members[worker.place()].1;
            let (job, tally) = worker.into_tally();
            (job, group, tally)
        });
        reports.extend(report(tallies.collect(), &before, &after, time));
        if (options.is_over)() || shared.endings.ends_run() {
            break;
        }
    }
    totals.peak_memory_bytes = crate::machine::peak_memory_bytes();
    let is_null = matches!(on, On::Nothing);
    let (global, ignored) = (jobs.global.clone(), jobs.ignored.clone());
    Ok(Report { global, ignored, jobs: reports, totals, began, time: start.elapsed(), is_null })
}

/// The jobs between two stonewalls, each with the number of the group that it is reported in.
fn groups(jobs: &[Job]) -> Vec<Vec<(Arc<Job>, usize)>> {
    let mut groups: Vec<Vec<(Arc<Job>, usize)>> = Vec::new();
    let mut reported = 0;
    for (index, job) in jobs.iter().enumerate() {
        if job.waits || groups.is_empty() {
            groups.push(Vec::new());
        }
        reported += usize::from(index > 0 && (job.waits || job.begins_group));
        let group = groups.last_mut().expect("there is one");
        group.push((Arc::new(job.clone()), reported));
    }
    groups
}

#[derive(Clone, Copy)]
enum Step {
    Prepare,
    Measure,
    Verify,
}

/// Has all workers do a step.
fn drive(on: &On<'_>, workers: Vec<Worker>, step: Step) -> Result<Vec<Worker>> {
    match on {
        On::Shard(store) => {
            let work = store.run_on_shard(move |local| {
                Box::pin(async move {
                    let face = Face::Shard(local.pool(POOL).await?);
                    steps(&face, &workers, step).await?;
                    Ok(workers)
                })
            });
            block_on(work)?
        }
        On::Threads(store) => match step {
            Step::Measure => on_threads(store, workers),
            Step::Prepare | Step::Verify => {
                let face = Face::Remote(block_on(store.pool(POOL))?);
                block_on(steps(&face, &workers, step))?;
                Ok(workers)
            }
        },
        On::Nothing => {
            block_on(steps(&Face::null(), &workers, step))?;
            Ok(workers)
        }
    }
}

async fn steps(face: &Face, workers: &[Worker], step: Step) -> Result<()> {
    match step {
        // One after the other: each has many large writes or reads in flight by itself.
        Step::Prepare => {
            for worker in workers {
                worker.prepare(face).await?;
            }
        }
        Step::Verify => {
            for worker in workers {
                worker.verify(face).await?;
            }
        }
        Step::Measure => {
            try_join_all(workers.iter().map(|worker| worker.measure(face))).await?;
        }
    }
    Ok(())
}

fn on_threads(store: &Store, workers: Vec<Worker>) -> Result<Vec<Worker>> {
    let pool = block_on(store.pool(POOL))?;
    let threads: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let pool = pool.clone();
            thread::spawn(move || {
                let outcome = block_on(worker.measure(&Face::Remote(pool)));
                outcome.map(|()| worker)
            })
        })
        .collect();
    let ended: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
    ended.into_iter().map(|ended| ended.unwrap_or(Err(Error::Closed))).collect()
}

/// What was taken of the machine up to a moment.
struct Taken {
    usage: Usage,
    wanted: Wanted,
    stats: Option<Stats>,
    kernel_bytes: Option<u64>,
}

impl Taken {
    fn now(on: &On<'_>) -> Result<Self> {
        let stats = match on {
            On::Shard(store) | On::Threads(store) => Some(block_on(store.stats())?),
            On::Nothing => None,
        };
        Ok(Self { usage: usage(), wanted: Wanted::now(), stats, kernel_bytes: written_bytes() })
    }
}

impl Totals {
    fn add(&mut self, before: &Taken, after: &Taken) {
        let more = |sum: &mut Option<u64>, counter: &dyn Fn(&Taken) -> Option<u64>| {
            if let (Some(from), Some(to)) = (counter(before), counter(after)) {
                *sum = Some(sum.unwrap_or(0) + to.saturating_sub(from));
            }
        };
        self.cpu_time += after.usage.cpu_time.saturating_sub(before.usage.cpu_time);
        self.stolen = self.stolen.max(before.wanted.stolen_until(after.wanted));
        more(&mut self.device_bytes, &|taken| taken.stats.map(|stats| stats.device_bytes_written));
        more(&mut self.journal_bytes, &|taken| taken.stats.map(|stats| stats.journal_bytes_written));
        more(&mut self.node_bytes, &|taken| taken.stats.map(|stats| stats.node_bytes_written));
        more(&mut self.device_reads, &|taken| taken.stats.map(|stats| stats.device_reads));
        more(&mut self.node_loads, &|taken| taken.stats.map(|stats| stats.node_loads));
        more(&mut self.data_hits, &|taken| taken.stats.map(|stats| stats.data_hits));
        more(&mut self.data_misses, &|taken| taken.stats.map(|stats| stats.data_misses));
        more(&mut self.data_admitted, &|taken| taken.stats.map(|stats| stats.data_admitted));
        self.data_bytes = after.stats.map(|stats| stats.data_bytes);
        more(&mut self.kernel_bytes, &|taken| taken.kernel_bytes);
    }
}

/// The reports of a group: of each copy, or of all that is reported as one.
fn report(
    tallies: Vec<(Arc<Job>, usize, Tally)>,
    before: &Taken,
    after: &Taken,
    time: Duration,
) -> Vec<JobReport> {
    let copies = u32::try_from(tallies.len()).unwrap_or(u32::MAX).max(1);
    let share = |from: Duration, to: Duration| {
        to.saturating_sub(from).as_secs_f64() / time.as_secs_f64().max(1e-9) / f64::from(copies)
    };
    let (from, to) = (&before.usage, &after.usage);
    let cpu = (share(from.user, to.user), share(from.system, to.system));
    let count = |from: u64, to: u64| to.saturating_sub(from) / u64::from(copies);
    let events = (
        count(from.switches, to.switches),
        count(from.major_faults, to.major_faults),
        count(from.minor_faults, to.minor_faults),
    );
    let mut reports: Vec<JobReport> = Vec::new();
    let mut together = BTreeMap::new();
    for (job, group, tally) in tallies {
        // All of a group that want it are one, whichever job they are of.
        let Some(place) = together.get(&group).copied().filter(|_| job.is_group_reported) else {
            if job.is_group_reported {
                together.insert(group, reports.len());
            }
            reports.push(JobReport {
                job,
                group,
                copies: 1,
                records: tally.records,
                depths: tally.depths,
                runtime: tally.runtime,
                verified: tally.verified,
                ending: tally.ending,
                cpu,
                events,
            });
            continue;
        };
        let sum = &mut reports[place];
        sum.copies += 1;
        for (record, more) in sum.records.iter_mut().zip(&tally.records) {
            record.merge(more);
        }
        for (depth, more) in sum.depths.iter_mut().zip(tally.depths) {
            *depth += more;
        }
        sum.runtime = sum.runtime.max(tally.runtime);
        sum.verified.units += tally.verified.units;
        sum.verified.wrong += tally.verified.wrong;
        sum.ending = sum.ending.max(tally.ending);
        sum.events = (sum.events.0 + events.0, sum.events.1 + events.1, sum.events.2 + events.2);
    }
    reports
}
