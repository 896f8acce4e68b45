//! Store: a trial of Seabed, and of the generator that drives it without a store.

use std::sync::Arc;

use futures::executor::block_on;
use seabed::{FormatOptions, OpenOptions, Store};

use super::{CompareError, Contestant, Setup, Trial, Work};
use crate::job::{Access, Amount, Direction, Job, Jobs, Mix, Split, Workload};
use crate::live::Live;
use crate::room;
use crate::run::{self, Ending, On, Options, Report};

/// A store is at most so many times as large as the data, and this. Of some GiB that are overwritten at random for ever ten times
/// as much is enough; of more it runs out in a trial of hours, which then ends early and says so.
const ROOM: u64 = 10;
const ROOM_BESIDES: u64 = 3 << 30;

pub(super) fn run(setup: &Setup) -> Result<Trial, CompareError> {
    let jobs = Jobs { global: Vec::new(), jobs: vec![job(setup)], ignored: Vec::new() };
    if setup.contestant == Contestant::Null {
        return Ok(trial(setup, &measure(&On::Nothing, &jobs)?, "nothing is stored".to_owned()));
    }
    let path = setup.directory.join("store");
    // What is overwritten comes back, so much less than all that is written has to find room; and to write a larger store first
    // would wear the device out before the trial.
    let bytes = room::store_bytes(&jobs.jobs, setup.free_bytes);
    let data = setup.values().saturating_mul(setup.value_bytes());
    let bytes = bytes.min(data.saturating_mul(ROOM).saturating_add(ROOM_BESIDES));
    Store::format(&path, FormatOptions { size: Some(bytes), ..FormatOptions::default() })?;
    let memory_bytes = usize::try_from(setup.cache_bytes).unwrap_or(usize::MAX);
    let store = block_on(Store::open(&path, OpenOptions { memory_bytes, ..OpenOptions::default() }))?;
    let outcome = measure(&On::Shard(&store), &jobs);
    block_on(store.close())?;
    let options = format!("memory budget {} MiB, store of {} MiB", setup.cache_bytes >> 20, bytes >> 20);
    Ok(trial(setup, &outcome?, options))
}

fn job(setup: &Setup) -> Job {
    let mut job = Job::new("compare");
    let mix = match setup.work {
        Work::Overwrite | Work::Put => Mix::Write,
        Work::Read => Mix::Read,
    };
    if setup.work == Work::Put {
        job.workload = Workload::Objects;
        job.objects = u32::try_from(setup.values()).unwrap_or(u32::MAX);
        job.object_sizes = Split::one(setup.value_bytes());
        job.object_mix = [100, 0, 0];
    }
    job.access = Access { is_random: true, mix };
    job.has_random_map = false;
    job.size = Some(Amount::Bytes(setup.values() * setup.value_bytes()));
    job.iodepth = setup.clients;
    job.runtime = Some(setup.time);
    job.is_time_based = true;
    job
}

fn measure(on: &On<'_>, jobs: &Jobs) -> seabed::Result<Report> {
    let options = Options { is_over: Arc::new(|| false), live: Arc::new(Live::default()) };
    run::run(on, jobs, &options)
}

fn trial(setup: &Setup, report: &Report, options: String) -> Trial {
    let direction = match setup.work {
        Work::Overwrite | Work::Put => Direction::Write,
        Work::Read => Direction::Read,
    };
    let (record, seconds) = match report.jobs.first() {
        Some(job) => (job.records[direction.index()].clone(), job.runtime.as_secs_f64()),
        None => Default::default(),
    };
    Trial {
        cpu_seconds: report.totals.cpu_time.as_secs_f64(),
        own_bytes: report.totals.device_bytes,
        kernel_bytes: report.totals.kernel_bytes,
        peak_bytes: report.totals.peak_memory_bytes,
        ran_out: report.ending() == Ending::NoSpace,
        options,
        ..Trial::of(setup.clients, &record, seconds)
    }
}
