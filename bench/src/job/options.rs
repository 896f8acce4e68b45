//! Options: each with its name, what it takes, a line of help, and how it changes a job.

use super::values::{
    block_size, by_direction, flag, mix, number, percentiles, size, size_above_zero, split, time,
};
use super::{Access, Distribution, Job, Mix, Split, Workload, Ycsb};
use crate::distribution::Theta;

/// An option of a job.
pub struct OptionSpec {
    /// fio's name for it.
    pub name: &'static str,
    /// Other names that fio has for it.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub takes: Takes,
    /// One line for people.
    pub help: &'static str,
    pub(super) set: Set,
}

type Set = fn(&mut Job, &str) -> Result<(), &'static str>;

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// Nothing, or 0 or 1.
    Flag,
    /// A value, called so in help.
    Value(&'static str),
}

const fn value(name: &'static str, of: &'static str, help: &'static str, set: Set) -> OptionSpec {
    OptionSpec { name, aliases: &[], takes: Takes::Value(of), help, set }
}

const fn switch(name: &'static str, help: &'static str, set: Set) -> OptionSpec {
    OptionSpec { name, aliases: &[], takes: Takes::Flag, help, set }
}

impl OptionSpec {
    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// Clients of a copy, at most.
const IODEPTH_MAX: u32 = 4096;
const COPIES_MAX: u32 = 512;

/// All of them.
pub const OPTIONS: &[OptionSpec] = &[
    value("workload", "KIND", "blocks, objects, ycsb-a to ycsb-f, or replicated", |job, text| {
        job.workload = workload(text)?;
        job.access = Access { is_random: true, mix: Mix::Both };
        Ok(())
    }),
    value("rw", "MODE", "read, write, randread, randwrite, rw, randrw or trim", |job, text| {
        job.access = access(text)?;
        Ok(())
    })
    .or(&["readwrite"]),
    value("bs", "SIZE", "bytes of a block; of reads,writes,trims", |job, text| {
        job.block_sizes = by_direction(text, |part| block_size(part).map(Split::one))?;
        Ok(())
    })
    .or(&["blocksize"]),
    value("bssplit", "LIST", "sizes of blocks by percentage, as 4k/60:64k/40", |job, text| {
        job.block_sizes = by_direction(text, split)?;
        Ok(())
    }),
    value("rwmixread", "PERCENT", "how many of a hundred operations are reads", |job, text| {
        job.read_percent = number(text, 0, 100)?;
        Ok(())
    }),
    value("iodepth", "NUMBER", "operations in flight of each copy", |job, text| {
        job.iodepth = number(text, 1, IODEPTH_MAX)?;
        Ok(())
    }),
    value("numjobs", "NUMBER", "copies of the job, each with a file of its own", |job, text| {
        job.copies = number(text, 1, COPIES_MAX)?;
        Ok(())
    }),
    value("size", "SIZE", "bytes of the region that each copy works on", |job, text| {
        job.size = Some(size_above_zero(text)?);
        Ok(())
    }),
    value("filesize", "SIZE", "bytes of the file of each copy", |job, text| {
        job.file_bytes = Some(size_above_zero(text)?);
        Ok(())
    }),
    value("offset", "SIZE", "where in the file the region begins", |job, text| {
        job.offset = size(text)?;
        Ok(())
    }),
    value(
        "io_size",
        "SIZE",
        "bytes that each copy reads and writes; the region's if left out",
        |job, text| {
            job.io_bytes = Some(size_above_zero(text)?);
            Ok(())
        },
    )
    .or(&["io_limit"]),
    value("runtime", "TIME", "end after this time", |job, text| {
        job.runtime = Some(time(text)?);
        Ok(())
    }),
    switch("time_based", "go on until the runtime is over", |job, text| {
        job.is_time_based = flag(text)?;
        Ok(())
    }),
    value("ramp_time", "TIME", "run this long before measuring", |job, text| {
        job.ramp_time = time(text)?;
        Ok(())
    }),
    value("random_distribution", "NAME", "random, or zipf:THETA (1.1 if left out)", |job, text| {
        job.distribution = distribution(text)?;
        Ok(())
    }),
    switch("norandommap", "draw each block anew: some come twice before all have come once", |job, text| {
        job.has_random_map = !flag(text)?;
        Ok(())
    }),
    value("randseed", "NUMBER", "what random numbers follow from", |job, text| {
        job.seed = text.parse().map_err(|_| "not a whole number below 2^64")?;
        Ok(())
    }),
    value("rate_iops", "NUMBER", "operations a second of each copy; of reads,writes,trims", |job, text| {
        job.rate_iops = by_direction(text, |part| number(part, 1, u32::MAX).map(Some))?;
        Ok(())
    }),
    value("verify", "METHOD", "crc32c: verify what was written", |job, text| match text {
        "crc32c" => {
            job.verifies = true;
            Ok(())
        }
        _ => Err("only crc32c"),
    }),
    switch("verify_only", "write nothing, verify what a run with verify=crc32c has written", |job, text| {
        job.verifies_only = flag(text)?;
        Ok(())
    }),
    switch("group_reporting", "report copies and jobs of a group as one", |job, text| {
        job.is_group_reported = flag(text)?;
        Ok(())
    }),
    value("percentile_list", "LIST", "percentiles to report, as 50:99:99.9", |job, text| {
        job.percentiles = percentiles(text)?;
        Ok(())
    }),
    value("loops", "NUMBER", "how often it is done", |job, text| {
        job.loops = number(text, 1, u32::MAX)?;
        Ok(())
    }),
    switch("stonewall", "begin when all jobs above have ended", |job, text| {
        job.waits = flag(text)?;
        Ok(())
    })
    .or(&["wait_for_previous"]),
    value("objects", "NUMBER", "objects, of workload=objects and replicated", |job, text| {
        job.objects = number(text, 1, 1 << 24)?;
        Ok(())
    }),
    value("object_sizes", "LIST", "their sizes, as 4k/60:64k/30:1m/10", |job, text| {
        job.object_sizes = split(text)?;
        Ok(())
    }),
    value("object_mix", "LIST", "operations on them, as put/30:get/60:delete/10", |job, text| {
        job.object_mix = mix(text, ["put", "get", "delete"])?;
        Ok(())
    }),
    value("records", "NUMBER", "records, of workload=ycsb-*", |job, text| {
        job.records = number(text, 1, 1 << 28)?;
        Ok(())
    }),
    value("record_size", "BYTES", "bytes of a record", |job, text| {
        job.record_bytes = number(text, 16, 64 << 10)?;
        Ok(())
    }),
];

fn access(text: &str) -> Result<Access, &'static str> {
    let (is_random, mix) = match text {
        "read" => (false, Mix::Read),
        "write" => (false, Mix::Write),
        "rw" | "readwrite" => (false, Mix::Both),
        "trim" => (false, Mix::Trim),
        "randread" => (true, Mix::Read),
        "randwrite" => (true, Mix::Write),
        "randrw" => (true, Mix::Both),
        _ => return Err("must be read, write, randread, randwrite, rw, randrw or trim"),
    };
    Ok(Access { is_random, mix })
}

fn workload(text: &str) -> Result<Workload, &'static str> {
    let all = [
        Workload::Blocks,
        Workload::Objects,
        Workload::Ycsb(Ycsb::A),
        Workload::Ycsb(Ycsb::B),
        Workload::Ycsb(Ycsb::C),
        Workload::Ycsb(Ycsb::D),
        Workload::Ycsb(Ycsb::E),
        Workload::Ycsb(Ycsb::F),
        Workload::Replicated,
    ];
    let found = all.into_iter().find(|workload| workload.name() == text);
    found.ok_or("must be blocks, objects, ycsb-a to ycsb-f, or replicated")
}

fn distribution(text: &str) -> Result<Distribution, &'static str> {
    const MALFORMED: &str = "must be random, zipf, or zipf:THETA with THETA above 0 and at most 10";
    match text.split_once(':').unwrap_or((text, "1.1")) {
        ("random", _) if text == "random" => Ok(Distribution::Uniform),
        ("zipf", theta) => {
            let theta: f64 = theta.parse().map_err(|_| MALFORMED)?;
            Theta::new(theta).map(Distribution::Zipf).ok_or(MALFORMED)
        }
        _ => Err(MALFORMED),
    }
}
