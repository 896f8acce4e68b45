//! Text: a report for people.

use std::fmt::Write;
use std::time::Duration;

use super::words;
use crate::job::{Direction, Distribution, Job, Split, Workload};
use crate::record::{Record, real};
use crate::run::{Ending, JobReport, Report};

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for job in &report.jobs {
        of_job(&mut out, job);
    }
    of_totals(&mut out, report);
    out
}

macro_rules! line {
    ($out:expr, $($text:tt)*) => {
        writeln!($out, $($text)*).expect("a string takes everything")
    };
}

fn of_job(out: &mut String, report: &JobReport) {
    let job = &report.job;
    let copies = if report.copies == 1 { String::new() } else { format!(", {} copies", report.copies) };
    line!(out, "{}: (group {}{copies}) {}", job.name, report.group, described(job));
    for direction in Direction::ALL {
        let record = &report.records[direction.index()];
        if record.operations() > 0 {
            of_direction(out, report, direction, record);
        }
    }
    if report.records.iter().all(|record| record.operations() == 0) && !job.verifies_only {
        line!(out, "  nothing was measured");
    }
    let (user, system) = report.cpu;
    if report.runtime > Duration::ZERO {
        line!(out, "  CPU: user {:.1} %, system {:.1} % of a core", user * 100.0, system * 100.0);
    }
    if report.verified.units > 0 {
        let (units, wrong) = (words::grouped(report.verified.units), words::grouped(report.verified.wrong));
        line!(out, "  verified: {units} units, {wrong} wrong");
    }
    match report.ending {
        Ending::Done => {}
        Ending::Interrupted => line!(out, "  ended early: interrupted"),
        Ending::NoSpace => line!(out, "  ended early: no clean segments were left"),
    }
}

fn of_direction(out: &mut String, report: &JobReport, direction: Direction, record: &Record) {
    let seconds = report.runtime.as_secs_f64().max(1e-9);
    let (operations, bytes) = (real(record.operations()), real(record.bytes()));
    line!(
        out,
        "  {}: {} operations/s, {}/s; {} operations, {} in {:.2} s",
        direction.name(),
        words::count(operations / seconds),
        words::bytes(bytes / seconds),
        words::grouped(record.operations()),
        words::bytes(bytes),
        seconds,
    );
    line!(
        out,
        "    latency: min {}, mean {}, max {}, deviation {}",
        words::time(real(record.min())),
        words::time(record.mean()),
        words::time(real(record.max())),
        words::time(record.deviation()),
    );
    for row in report.job.percentiles.chunks(6) {
        let parts = row.iter().map(|percent| {
            let latency = words::time(real(record.percentile(*percent)));
            format!("p{} {latency}", words::percent(*percent))
        });
        line!(out, "      {}", parts.collect::<Vec<_>>().join(", "));
    }
}

/// What a job does, in a few words.
pub fn described(job: &Job) -> String {
    let mut words = match job.workload {
        Workload::Blocks => {
            let sizes = job.directions().iter().map(|direction| sizes(&job.block_sizes[direction.index()]));
            let mut sizes: Vec<_> = sizes.collect();
            sizes.dedup();
            let region = words::bytes(real(job.region_bytes(0)));
            format!("{}, {}, {region}", job.access.name(), sizes.join(" and "))
        }
        Workload::Objects => format!(
            "{} objects of {}, {} % put, {} % get, {} % delete",
            job.objects,
            sizes(&job.object_sizes),
            job.object_mix[0],
            job.object_mix[1],
            job.object_mix[2]
        ),
        Workload::Ycsb(_) => {
            format!("{}, {} records of {} bytes", job.workload.name(), job.records, job.record_bytes)
        }
        Workload::Replicated => format!(
            "replicated writes of {}, {} objects",
            words::bytes(real(job.block_sizes[Direction::Write.index()].min())),
            job.objects
        ),
    };
    write!(words, ", iodepth {}", job.iodepth).expect("a string takes everything");
    let distribution = match &job.distribution {
        Distribution::Uniform => return words,
        Distribution::Zipf { theta, .. } => format!("zipf {}", theta.value()),
        Distribution::Pareto { h, .. } => format!("pareto {h}"),
        Distribution::Normal { deviation, .. } => format!("normal {deviation}"),
        Distribution::Zoned(zones) => format!("{} zones", zones[0].len()),
        Distribution::Sequence(blocks) => format!("a sequence of {} blocks", blocks.len()),
    };
    write!(words, ", {distribution}").expect("a string takes everything");
    words
}

fn sizes(split: &Split) -> String {
    if let Some(bytes) = split.only() {
        return words::bytes(real(bytes));
    }
    if split.total() != 100 {
        return format!("{} to {}", words::bytes(real(split.min())), words::bytes(real(split.max())));
    }
    let parts = split.0.iter().map(|(bytes, percent)| format!("{percent} % {}", words::bytes(real(*bytes))));
    parts.collect::<Vec<_>>().join(" / ")
}

fn of_totals(out: &mut String, report: &Report) {
    let totals = &report.totals;
    let (operations, written) = (report.operations(), real(report.bytes_written()));
    if operations > 0 {
        let micros = totals.cpu_time.as_secs_f64() * 1e6 / real(operations);
        let peak = totals.peak_memory_bytes.map_or("unknown".to_owned(), |bytes| words::bytes(real(bytes)));
        line!(out, "all jobs: {micros:.2} us of CPU time an operation, {peak} of memory at most");
        let percent = totals.stolen * 100.0;
        line!(out, "  CPU time that a hypervisor took: {percent:.1} % of what the machine wanted");
    }
    if report.is_null {
        line!(out, "  nothing was stored: these are the generator's own figures");
    }
    for (bytes, who) in [(totals.device_bytes, "the engine"), (totals.kernel_bytes, "the kernel")] {
        if let Some(bytes) = bytes
            && written > 0.0
        {
            let (ratio, bytes) = (real(bytes) / written, words::bytes(real(bytes)));
            line!(out, "  device bytes per byte written: {ratio:.3} ({bytes}, as {who} counts)");
        }
    }
    let reads = report.reads();
    if let (Some(of_device), Some(loads)) = (totals.device_reads, totals.node_loads)
        && reads > 0
    {
        let ratio = real(of_device) / real(reads);
        line!(out, "  device reads per read: {ratio:.3} ({of_device}, {loads} of them of tree nodes)");
    }
    if let (Some(hits), Some(misses)) = (totals.data_hits, totals.data_misses)
        && hits + misses > 0
    {
        let percent = 100.0 * real(hits) / real(hits + misses);
        let (admitted, held) =
            (totals.data_admitted.unwrap_or(0), words::bytes(real(totals.data_bytes.unwrap_or(0))));
        line!(
            out,
            "  chunks answered from memory: {percent:.1} % ({hits}; {misses} read, {admitted} of them kept; {held} held)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Jobs;

    #[test]
    fn jobs_in_words() {
        let said =
            |options: &str| described(&Jobs::parse(&format!("[a]\n{options}"), &[]).expect("a job").jobs[0]);
        assert_eq!(said("rw=randread\nsize=1g\nbs=8k\niodepth=4"), "randread, 8 KiB, 1 GiB, iodepth 4");
        assert_eq!(
            said("rw=randrw\nsize=1m\nbssplit=4k/60:64k/40,4k\nrandom_distribution=zipf:0.9"),
            "randrw, 60 % 4 KiB / 40 % 64 KiB and 4 KiB, 1 MiB, iodepth 1, zipf 0.9"
        );
        assert!(said("workload=ycsb-e\nruntime=1").starts_with("ycsb-e, 100000 records of 1000 bytes"));
        assert!(said("workload=replicated\nruntime=1").starts_with("replicated writes of 4 KiB"));
        assert!(said("workload=objects\nruntime=1").contains("30 % put, 60 % get, 10 % delete"));
    }
}
