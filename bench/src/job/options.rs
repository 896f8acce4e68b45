//! Options: each with its name, what it takes, a line of help, and how it changes a job.

use super::values::{
    TimeUnit, amount, amount_above_zero, block_size, by_direction, flag, mix, number, percentiles, range,
    rates, size, size_above_zero, split, time, times, whole, zones,
};
use super::{Access, Distribution, ExitWhat, Job, Mix, Sequencer, Split, Step, Units, Workload};
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
    value(
        "rw",
        "MODE",
        "read, write, rw, trim, trimwrite, or random: randread, .. randtrimwrite; randread:8, read:4k as in fio",
        |job, text| {
            (job.access, job.step) = access(text, job.units)?;
            Ok(())
        },
    )
    .or(&["readwrite"]),
    value("bs", "SIZE", "bytes of a block; of reads,writes,trims", |job, text| {
        job.block_sizes = by_direction(text, |part| block_size(part, job.units).map(Split::one))?;
        Ok(())
    })
    .or(&["blocksize"]),
    value("bsrange", "RANGE", "sizes of blocks, as 4k-64k: all multiples of the smallest", |job, text| {
        job.block_sizes = by_direction(text, |part| range(part, job.units))?;
        Ok(())
    })
    .or(&["blocksize_range"]),
    value("bssplit", "LIST", "sizes of blocks by percentage, as 4k/60:64k/40", |job, text| {
        job.block_sizes = by_direction(text, |part| split(part, job.units))?;
        Ok(())
    }),
    value("rw_sequencer", "HOW", "what operations between drawn places do: sequential or identical", |job, text| {
        job.sequencer = match text {
            "sequential" => Sequencer::Sequential,
            "identical" => Sequencer::Identical,
            _ => return Err("must be sequential or identical"),
        };
        Ok(())
    }),
    value("blockalign", "SIZE", "what random places are multiples of; of reads,writes,trims", |job, text| {
        job.aligns = Some(by_direction(text, |part| block_size(part, job.units))?);
        Ok(())
    })
    .or(&["ba"]),
    value("percentage_random", "PERCENT", "how many operations of a random job are; the rest follow", |job, text| {
        job.random_percent = by_direction(text, |part| number(part, 0, 100))?;
        Ok(())
    }),
    value("rwmixread", "PERCENT", "how many of a hundred operations are reads", |job, text| {
        job.read_percent = number(text, 0, 100)?;
        Ok(())
    }),
    value("rwmixwrite", "PERCENT", "how many of a hundred operations are writes", |job, text| {
        job.read_percent = 100 - number(text, 0, 100)?;
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
    value("size", "SIZE", "bytes of the region that each copy works on; or a part of filesize, as 50%", |job, text| {
        job.size = Some(amount_above_zero(text, job.units)?);
        Ok(())
    }),
    value("filesize", "SIZE", "bytes of the file of each copy", |job, text| {
        job.file_bytes = Some(size_above_zero(text, job.units)?);
        Ok(())
    }),
    value("offset", "SIZE", "where in the file the region begins", |job, text| {
        job.offset = amount(text, job.units)?;
        Ok(())
    })
    .or(&["fileoffset"]),
    value("offset_align", "SIZE", "round an offset that is a percentage up to a multiple of this", |job, text| {
        job.offset_align = Some(size(text, job.units)?).filter(|bytes| *bytes > 0);
        Ok(())
    }),
    value("offset_increment", "SIZE", "how much later the region of each further copy begins", |job, text| {
        job.offset_increment = amount(text, job.units)?;
        Ok(())
    }),
    value("number_ios", "NUMBER", "operations of each copy, at most", |job, text| {
        job.operations = Some(whole(text, 0, 1 << 48)?).filter(|count| *count > 0);
        Ok(())
    }),
    value(
        "io_size",
        "SIZE",
        "bytes that each copy reads and writes; the region's if left out",
        |job, text| {
            job.io_bytes = Some(amount_above_zero(text, job.units)?);
            Ok(())
        },
    )
    .or(&["io_limit"]),
    value("runtime", "TIME", "end after this time", |job, text| {
        job.runtime = Some(time(text, TimeUnit::Seconds)?).filter(|time| !time.is_zero());
        Ok(())
    })
    .or(&["timeout"]),
    switch("time_based", "go on until the runtime is over", |job, text| {
        job.is_time_based = flag(text)?;
        Ok(())
    }),
    value("ramp_time", "TIME", "run this long before measuring", |job, text| {
        job.ramp_time = time(text, TimeUnit::Seconds)?;
        Ok(())
    }),
    value(
        "random_distribution",
        "NAME",
        "random, zipf:THETA, pareto:H, normal:DEVIATION, zoned:.., zoned_abs:.., sequence:..",
        |job, text| {
            job.distribution = distribution(text, job.units)?;
            Ok(())
        },
    ),
    switch("random_sequence_stride", "a sequence goes on behind its last block in each round", |job, text| {
        job.strides_sequence = flag(text)?;
        Ok(())
    }),
    switch("norandommap", "draw each block anew: some come twice before all have come once", |job, text| {
        job.has_random_map = !flag(text)?;
        Ok(())
    }),
    switch("randrepeat", "0: random numbers are others in each run", |job, text| {
        job.is_repeatable = flag(text)?;
        Ok(())
    })
    .or(&["allrandrepeat"]),
    value("randseed", "NUMBER", "what random numbers follow from", |job, text| {
        job.seed = text.parse().map_err(|_| "not a whole number below 2^64")?;
        Ok(())
    }),
    value("rate_iops", "NUMBER", "operations a second of each copy; of reads,writes,trims", |job, text| {
        job.rate_iops = rates(text, |part| number(part, 1, u32::MAX))?;
        Ok(())
    }),
    value("rate", "SIZE", "bytes a second of each copy; of reads,writes,trims", |job, text| {
        job.rate_bytes = rates(text, |part| size_above_zero(part, job.units))?;
        Ok(())
    }),
    value("rate_process", "HOW", "operations with a rate come evenly (linear), or at random (poisson)", |job, text| {
        job.has_poisson_rate = match text {
            "linear" => false,
            "poisson" => true,
            _ => return Err("must be linear or poisson"),
        };
        Ok(())
    }),
    value("thinktime", "TIME", "pause of all clients of a copy after operations; in us if it has no unit", |job, text| {
        job.think.get_or_insert_default().time = time(text, TimeUnit::Microseconds)?;
        Ok(())
    }),
    value("thinktime_blocks", "NUMBER", "operations between two pauses", |job, text| {
        job.think.get_or_insert_default().blocks = Some(number(text, 1, u32::MAX)?);
        Ok(())
    }),
    value("thinktime_blocks_type", "WHAT", "whether operations count that ended (complete) or began (issue)", |job, text| {
        job.think.get_or_insert_default().is_at_issue = match text {
            "complete" => false,
            "issue" => true,
            _ => return Err("must be complete or issue"),
        };
        Ok(())
    }),
    value("thinktime_iotime", "TIME", "time of operations between two pauses", |job, text| {
        let time = time(text, TimeUnit::Seconds)?;
        job.think.get_or_insert_default().io_time = Some(time).filter(|time| !time.is_zero());
        Ok(())
    }),
    value("startdelay", "TIME", "wait before the job begins; a range as 1s-5s is drawn from", |job, text| {
        job.start_delay = times(text)?;
        Ok(())
    }),
    value("verify", "METHOD", "verify what was written; any method uses our own stamps with a crc32c", |job, text| {
        job.verifies = verifies(text)?;
        Ok(())
    }),
    switch("do_verify", "0: do not read and verify everything at the end", |job, text| {
        job.verifies_at_end = flag(text)?;
        Ok(())
    }),
    switch("verify_only", "write nothing, verify what a run with verify=crc32c has written", |job, text| {
        job.verifies_only = flag(text)?;
        Ok(())
    }),
    switch("overwrite", "write the file before a job that writes it in order too", |job, text| {
        job.overwrites = flag(text)?;
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
    value("wait_for", "JOB", "begin when all copies of this job have ended", |job, text| {
        job.waits_for = Some(text.to_owned()).filter(|name| !name.is_empty());
        Ok(())
    }),
    switch("exitall", "when a job ends, end the others of its group", |job, text| {
        job.exits_all = flag(text)?;
        Ok(())
    }),
    value("exit_what", "WHAT", "which jobs exitall ends: group, stonewall (all that run) or all", |job, text| {
        job.exit_what = match text {
            "group" => ExitWhat::Group,
            "stonewall" => ExitWhat::Stonewall,
            "all" => ExitWhat::All,
            _ => return Err("must be group, stonewall or all"),
        };
        Ok(())
    }),
    switch("new_group", "do not report this job with those above", |job, text| {
        job.begins_group = flag(text)?;
        Ok(())
    }),
    value("kb_base", "1024|1000", "what k, m, g, t and p are powers of; KiB is the other", |job, text| {
        job.units = Units::of_kb_base(text)?;
        Ok(())
    }),
    value("objects", "NUMBER", "objects, of workload=objects and replicated", |job, text| {
        job.objects = number(text, 1, 1 << 24)?;
        Ok(())
    }),
    value("object_sizes", "LIST", "their sizes, as 4k/60:64k/30:1m/10", |job, text| {
        job.object_sizes = split(text, job.units)?;
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

fn access(text: &str, units: Units) -> Result<(Access, Step), &'static str> {
    let (mode, step) =
        text.split_once(':').map_or((text, None), |(mode, step)| (mode.trim(), Some(step.trim())));
    let (is_random, mix) = match mode {
        "read" => (false, Mix::Read),
        "write" => (false, Mix::Write),
        "rw" | "readwrite" => (false, Mix::Both),
        "trim" => (false, Mix::Trim),
        "trimwrite" => (false, Mix::TrimWrite),
        "randread" => (true, Mix::Read),
        "randwrite" => (true, Mix::Write),
        "randrw" => (true, Mix::Both),
        "randtrim" => (true, Mix::Trim),
        "randtrimwrite" => (true, Mix::TrimWrite),
        _ => return Err("must be read, write, rw, trim, trimwrite, or one of these after rand"),
    };
    let step = match step {
        None => Step::Each,
        Some(step) if is_random => Step::Draw { operations: number(step, 1, u32::MAX)? },
        Some(step) => {
            let (bytes, is_negative) = step.strip_prefix('-').map_or((step, false), |bytes| (bytes, true));
            let bytes = i64::try_from(size(bytes, units)?).map_err(|_| "too large")?;
            Step::Skip { bytes: if is_negative { -bytes } else { bytes } }
        }
    };
    Ok((Access { is_random, mix }, step))
}

fn workload(text: &str) -> Result<Workload, &'static str> {
    let found = Workload::ALL.into_iter().find(|workload| workload.name() == text);
    found.ok_or("must be blocks, objects, ycsb-a to ycsb-f, or replicated")
}

/// Whether a method of fio's verifies.
fn verifies(method: &str) -> Result<bool, &'static str> {
    match method {
        "0" | "none" | "null" => Ok(false),
        "crc32c" | "crc32c-intel" | "crc32" | "crc16" | "crc7" | "crc64" | "md5" | "xxhash" | "sha1"
        | "sha256" | "sha512" | "sha3-224" | "sha3-256" | "sha3-384" | "sha3-512" | "meta" | "header"
        | "pattern" | "pattern_hdr" | "1" => Ok(true),
        _ => Err("not one of fio's methods: crc32c, crc32, md5, sha256, xxhash, meta, pattern, .."),
    }
}

fn distribution(text: &str, units: Units) -> Result<Distribution, &'static str> {
    let (name, rest) = text.split_once(':').map_or((text, ""), |(name, rest)| (name, rest.trim()));
    match name {
        "random" if rest.is_empty() => Ok(Distribution::Uniform),
        "zipf" => {
            let (theta, center) = with_center(rest, 1.1, 0.0)?;
            let theta = Theta::new(theta).ok_or("zipf's theta is above 0 and at most 10")?;
            Ok(Distribution::Zipf { theta, center })
        }
        "pareto" => {
            let (h, center) = with_center(rest, 0.2, 0.0)?;
            let is_valid = h > 0.0 && h < 1.0;
            if is_valid {
                Ok(Distribution::Pareto { h, center })
            } else {
                Err("pareto's h is between 0 and 1")
            }
        }
        "normal" => {
            let (deviation, center) = with_center(rest, 0.0, 0.5)?;
            let is_valid = (0.0..100.0).contains(&deviation);
            if is_valid {
                Ok(Distribution::Normal { deviation, center })
            } else {
                Err("the deviation is from 0 to 100 percent")
            }
        }
        "zoned" => Ok(Distribution::Zoned(by_direction(rest, |part| zones(part, None))?)),
        "zoned_abs" => Ok(Distribution::Zoned(by_direction(rest, |part| zones(part, Some(units)))?)),
        "sequence" => {
            let blocks: Result<Vec<u32>, _> = rest.split(',').map(|part| part.trim().parse()).collect();
            let blocks = blocks.map_err(|_| "not a list of blocks; write it as sequence:2,0,1")?;
            if blocks.len() > SEQUENCE_MAX {
                Err("at most 64 blocks")
            } else {
                Ok(Distribution::Sequence(blocks))
            }
        }
        _ => Err("must be random, zipf, pareto, normal, zoned, zoned_abs or sequence"),
    }
}

/// As many blocks as fio takes.
const SEQUENCE_MAX: usize = 64;

/// `VALUE:CENTER`, both of which may be left out.
fn with_center(text: &str, default: f64, center: f64) -> Result<(f64, f64), &'static str> {
    const MALFORMED: &str = "not a number, or not NUMBER:CENTER with a center from 0 to 1";
    let (value, given) = text.split_once(':').map_or((text, None), |(value, center)| (value, Some(center)));
    let parse =
        |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or(MALFORMED);
    let value = if value.is_empty() { default } else { parse(value)? };
    let center = given.map_or(Ok(center), parse)?;
    if (0.0..=1.0).contains(&center) { Ok((value, center)) } else { Err(MALFORMED) }
}
