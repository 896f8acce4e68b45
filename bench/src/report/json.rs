//! Json: a report in the layout of fio's `--output-format=json`, version 3.33, so that tools made for that read it.
//!
//! All keys are there, with fio's types. What has no counterpart is as fio writes it for an engine that lacks it: `slat_ns`
//! is empty, because submission is not a moment of its own here, `sync` too, because every write is durable. `clat_ns` and
//! `lat_ns` are both from submission to the answer. CPU times and context switches are the process's, shared evenly by
//! the jobs that ran at the same time. Gets and scans are reads, puts and updates writes, deletes trims.
//!
//! What fio does not have is in one more object, `seabed`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::job::{Direction, Ignored};
use crate::record::{Record, SAMPLE_TIME, Sample, real};
use crate::run::{Ending, JobReport, Report};

/// fio's version whose layout this is, as a version of it that somebody changed.
const VERSION: &str = concat!("fio-3.33-seabed-", env!("CARGO_PKG_VERSION"));
/// What fio says when it does not know how long it takes.
const ETA_UNKNOWN: u64 = 2_147_483_647;
const DEPTHS: [&str; 7] = ["1", "2", "4", "8", "16", "32", ">=64"];
const BATCHES: [&str; 7] = ["0", "4", "8", "16", "32", "64", ">=64"];

/// The whole report.
pub fn json(report: &Report) -> Value {
    let since = report.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "fio version": VERSION,
        "timestamp": since.as_secs(),
        "timestamp_ms": millis(since),
        "time": date_of(report.began),
        "global options": options(&report.global),
        "jobs": report.jobs.iter().map(|job| of_job(job, report.time)).collect::<Vec<_>>(),
        "disk_util": [],
        "seabed": own(report),
    })
}

fn own(report: &Report) -> Value {
    let totals = &report.totals;
    json!({
        "cpu_seconds": totals.cpu_time.as_secs_f64(),
        "stolen": totals.stolen,
        "device_bytes": totals.device_bytes,
        "journal_bytes": totals.journal_bytes,
        "node_bytes": totals.node_bytes,
        "device_reads": totals.device_reads,
        "node_loads": totals.node_loads,
        "data_hits": totals.data_hits,
        "data_misses": totals.data_misses,
        "data_admitted": totals.data_admitted,
        "data_bytes": totals.data_bytes,
        "kernel_bytes": totals.kernel_bytes,
        "peak_memory_bytes": totals.peak_memory_bytes,
        "operations": report.operations(),
        "bytes_written": report.bytes_written(),
        "verified_units": report.verified().units,
        "wrong_units": report.verified().wrong,
        "ignored_options": report.ignored.iter().map(ignored).collect::<Vec<_>>(),
        "null": report.is_null,
        "ended": match report.ending() {
            Ending::Done => "done",
            Ending::Interrupted => "interrupted",
            Ending::NoSpace => "no space",
        },
    })
}

fn ignored(option: &Ignored) -> Value {
    json!({ "where": option.origin.to_string(), "option": option.option, "value": option.value, "why": option.why })
}

fn options(given: &[(String, String)]) -> Value {
    Value::Object(given.iter().map(|(option, value)| (option.clone(), json!(value))).collect())
}

fn of_job(report: &JobReport, time: Duration) -> Value {
    let (user, system) = report.cpu;
    let (switches, major, minor) = report.events;
    let mut job = json!({
        "jobname": report.job.name,
        "groupid": report.group,
        "error": if report.ending == Ending::NoSpace { rustix::io::Errno::NOSPC.raw_os_error() } else { 0 },
        "eta": ETA_UNKNOWN,
        "elapsed": time.as_secs() + 1,
        "job options": options(&report.job.given),
        "sync": { "total_ios": 0, "lat_ns": no_latency() },
        "job_runtime": millis(report.runtime),
        "usr_cpu": user * 100.0,
        "sys_cpu": system * 100.0,
        "ctx": switches,
        "majf": major,
        "minf": minor,
        "iodepth_level": shares(&DEPTHS, &report.depths),
        "iodepth_submit": batches(report),
        "iodepth_complete": batches(report),
        "latency_depth": report.job.iodepth,
        "latency_target": 0,
        "latency_percentile": 100.0,
        "latency_window": 0,
    });
    let object = job.as_object_mut().expect("an object");
    for direction in Direction::ALL {
        let record = &report.records[direction.index()];
        object.insert(direction.name().to_owned(), of_direction(record, report));
    }
    object.extend(distribution(report));
    job
}

fn of_direction(record: &Record, report: &JobReport) -> Value {
    let runtime = if record.operations() == 0 { Duration::ZERO } else { report.runtime };
    let seconds = runtime.as_secs_f64();
    let rate = |count: u64| if seconds > 0.0 { real(count) / seconds } else { 0.0 };
    let bytes_per_second = whole(rate(record.bytes()));
    let mut latency = latency(record);
    let plain = latency.clone();
    if record.operations() > 0 {
        let percentiles = report.job.percentiles.iter();
        let percentiles = percentiles.map(|at| (format!("{at:.6}"), json!(record.percentile(*at))));
        latency["percentile"] = Value::Object(percentiles.collect());
    }
    // The last half second may be a part of one only.
    let full = usize::try_from(runtime.as_millis() / SAMPLE_TIME.as_millis()).unwrap_or(usize::MAX);
    let samples = &record.samples()[..record.samples().len().min(full)];
    let per_second = 1.0 / SAMPLE_TIME.as_secs_f64();
    let bandwidth = Spread::of(samples, |sample| real(sample.bytes) / 1024.0 * per_second);
    let operations = Spread::of(samples, |sample| real(sample.operations) * per_second);
    json!({
        "io_bytes": record.bytes(),
        "io_kbytes": record.bytes() >> 10,
        "bw_bytes": bytes_per_second,
        "bw": bytes_per_second >> 10,
        "iops": rate(record.operations()),
        "runtime": millis(runtime),
        "total_ios": record.operations(),
        "short_ios": 0,
        "drop_ios": 0,
        "slat_ns": no_latency(),
        "clat_ns": latency,
        "lat_ns": plain,
        "bw_min": whole(bandwidth.min),
        "bw_max": whole(bandwidth.max),
        "bw_agg": if samples.is_empty() { 0.0 } else { 100.0 },
        "bw_mean": bandwidth.mean,
        "bw_dev": bandwidth.deviation,
        "bw_samples": samples.len(),
        "iops_min": whole(operations.min),
        "iops_max": whole(operations.max),
        "iops_mean": operations.mean,
        "iops_stddev": operations.deviation,
        "iops_samples": samples.len(),
    })
}

fn no_latency() -> Value {
    latency(&Record::default())
}

fn latency(record: &Record) -> Value {
    json!({
        "min": record.min(),
        "max": record.max(),
        "mean": record.mean(),
        "stddev": record.deviation(),
        "N": record.operations(),
    })
}

/// The extremes, mean and deviation of a rate by half seconds.
struct Spread {
    min: f64,
    max: f64,
    mean: f64,
    deviation: f64,
}

impl Spread {
    fn of(samples: &[Sample], rate: impl Fn(&Sample) -> f64) -> Self {
        if samples.is_empty() {
            return Self { min: 0.0, max: 0.0, mean: 0.0, deviation: 0.0 };
        }
        let count = real(samples.len() as u64);
        let rates: Vec<f64> = samples.iter().map(rate).collect();
        let mean = rates.iter().sum::<f64>() / count;
        let squares: f64 = rates.iter().map(|rate| (rate - mean).powi(2)).sum();
        Self {
            min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            max: rates.iter().copied().fold(0.0, f64::max),
            mean,
            deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
        }
    }
}

fn shares(names: &[&str], counts: &[u64]) -> Value {
    let all = real(counts.iter().sum::<u64>().max(1));
    let shares =
        names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), json!(real(*count) * 100.0 / all)));
    Value::Object(shares.collect())
}

/// Every operation is submitted and answered by itself.
fn batches(report: &JobReport) -> Value {
    let operations = report.depths.iter().sum();
    shares(&BATCHES, &[0, operations, 0, 0, 0, 0, 0])
}

/// How many of a hundred latencies fall below each of fio's bounds and not below the one before.
fn distribution(report: &JobReport) -> Map<String, Value> {
    const NANOS: [u64; 10] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];
    const MILLIS: [u64; 11] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000];
    let bounds = NANOS.iter().copied();
    let bounds = bounds.chain(NANOS.iter().map(|bound| bound * 1000));
    let bounds: Vec<u64> = bounds.chain(MILLIS.iter().map(|bound| bound * 1_000_000)).collect();
    let mut counts = vec![0; bounds.len() + 1];
    for record in &report.records {
        for (value, count) in record.values() {
            counts[bounds.partition_point(|bound| *bound < value)] += count;
        }
    }
    let all = real(counts.iter().sum::<u64>().max(1));
    let mut counts = counts.into_iter().map(|count| json!(real(count) * 100.0 / all));
    let mut object = Map::new();
    for (name, bounds) in
        [("latency_ns", &NANOS[..]), ("latency_us", &NANOS[..]), ("latency_ms", &MILLIS[..])]
    {
        let shares = bounds.iter().map(ToString::to_string).zip(counts.by_ref()).collect();
        object.insert(name.to_owned(), Value::Object(shares));
    }
    object["latency_ms"][">=2000"] = counts.next().unwrap_or_default();
    object
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn whole(rate: f64) -> u64 {
    rate as u64
}

/// As C's `ctime` writes it, in UTC: `Sat Nov 21 12:49:33 2026`.
fn date_of(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let weekday = DAYS[usize::try_from(days % 7).expect("below seven")];
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{weekday} {} {:2} {hour:02}:{minute:02}:{second:02} {year}", MONTHS[month], day + 1)
}

#[cfg(test)]
mod tests;
