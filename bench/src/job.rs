//! Job: a workload as fio's job files describe it, and how such a file is read.
//!
//! ```text
//! [global]            ; what the jobs below have in common
//! size=1g
//! bs=4k
//! [fill]              ; a job
//! rw=write
//! [steady]
//! stonewall           ; begins when all jobs above have ended
//! rw=randwrite
//! iodepth=32
//! runtime=60
//! time_based
//! ```
//! A line that begins with `;` or `#` is a comment. Options have fio's names, units and meanings (`options`); what is not
//! in that list is an error that names its line: a job never runs as something else than it says. The same options on
//! the command line come last, for each job.
//!
//! Where we differ from fio: a job's file is a row of objects of 4 MiB; it is written before the job begins (unless the
//! job is `rw=write`, or it is there already with this size), because reading and overwriting what was never written
//! measures nothing; `verify=crc32c` verifies at the end all that was written, and each read on the way.
//!
//! Limits: sizes below 2^63 bytes; a block of 16 MiB; 4,096 clients of a job and 512 copies of it.

mod options;
mod values;

use std::time::Duration;

pub use crate::distribution::Theta;
pub use options::{OPTIONS, OptionSpec, Takes};

/// Why a job file or a command line is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct JobError {
    /// Where it says so.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Problem,
}

/// Where an option stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// In this line of the job file, from 1.
    Line(usize),
    /// On the command line.
    CommandLine,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(out, "line {line}"),
            Self::CommandLine => out.write_str("command line"),
        }
    }
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A line that is neither a section nor an option.
    #[error("neither [section] nor option=value")]
    Malformed,
    /// An option above the first section.
    #[error("`{option}` stands above the first [section]")]
    NoSection {
        /// Its name.
        option: String,
    },
    /// An option that is not known here.
    #[error("there is no option `{option}` here")]
    Unknown {
        /// Its name.
        option: String,
    },
    /// An option's value cannot be.
    #[error("{option}: {why}")]
    Value {
        /// Its name.
        option: String,
        /// Why not.
        why: &'static str,
    },
    /// The job's options do not go together.
    #[error("job `{job}`: {why}")]
    Job {
        /// Its name.
        job: String,
        /// Why not.
        why: &'static str,
    },
    /// There is no job.
    #[error("there is no job: a job is a [section] other than [global]")]
    Empty,
}

/// What a client does with blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Whether places follow each other, or are drawn.
    pub is_random: bool,
    /// What is done there.
    pub mix: Mix,
}

/// Which operations a job has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Reads and writes, by `rwmixread`.
    Both,
    /// Trims only.
    Trim,
}

impl Access {
    /// fio's word for it.
    pub fn name(self) -> &'static str {
        match (self.is_random, self.mix) {
            (false, Mix::Read) => "read",
            (false, Mix::Write) => "write",
            (false, Mix::Both) => "rw",
            (_, Mix::Trim) => "trim",
            (true, Mix::Read) => "randread",
            (true, Mix::Write) => "randwrite",
            (true, Mix::Both) => "randrw",
        }
    }
}

/// The three kinds of operations that fio counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Reads, gets, scans.
    Read,
    /// Writes, puts, updates, inserts.
    Write,
    /// Trims, deletes.
    Trim,
}

impl Direction {
    /// All of them, in fio's order.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Trim];

    /// Its place in arrays of three.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// fio's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Trim => "trim",
        }
    }
}

/// Sizes, each with how many of a hundred are so large.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split(pub(crate) Vec<(u64, u32)>);

impl Split {
    /// One size.
    pub fn one(bytes: u64) -> Self {
        Self(vec![(bytes, 100)])
    }

    /// The size at `percent`, 0 to 99.
    pub fn at(&self, percent: u32) -> u64 {
        let mut sum = 0;
        for (bytes, share) in &self.0 {
            sum += share;
            if percent < sum {
                return *bytes;
            }
        }
        self.0.last().map_or(0, |(bytes, _)| *bytes)
    }

    /// The smallest.
    pub fn min(&self) -> u64 {
        self.0.iter().map(|(bytes, _)| *bytes).min().unwrap_or(0)
    }

    /// The largest.
    pub fn max(&self) -> u64 {
        self.0.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0)
    }

    /// The mean.
    pub fn mean(&self) -> u64 {
        let sum: u128 = self.0.iter().map(|(bytes, percent)| u128::from(*bytes) * u128::from(*percent)).sum();
        u64::try_from(sum / 100).unwrap_or(u64::MAX)
    }

    /// The only size, if there is one only.
    pub fn only(&self) -> Option<u64> {
        (self.min() == self.max()).then_some(self.min())
    }
}

/// How places are drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// The k-th most wanted place with probability 1/k^theta, as a share of the sum.
    Zipf(Theta),
}

/// What clients work on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// Blocks of a large file.
    Blocks,
    /// Objects, whole.
    Objects,
    /// Keys and values, as one of YCSB's workloads.
    Ycsb(Ycsb),
    /// Writes of replicated storage: data, attributes and a log of keys in one transaction.
    Replicated,
}

impl Workload {
    /// Its word in a job file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Objects => "objects",
            Self::Ycsb(Ycsb::A) => "ycsb-a",
            Self::Ycsb(Ycsb::B) => "ycsb-b",
            Self::Ycsb(Ycsb::C) => "ycsb-c",
            Self::Ycsb(Ycsb::D) => "ycsb-d",
            Self::Ycsb(Ycsb::E) => "ycsb-e",
            Self::Ycsb(Ycsb::F) => "ycsb-f",
            Self::Replicated => "replicated",
        }
    }
}

/// YCSB's workloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ycsb {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads.
    C,
    /// 95 % reads of what is new, 5 % inserts.
    D,
    /// 95 % short scans, 5 % inserts.
    E,
    /// Half reads, half reads that are followed by an update.
    F,
}

/// One job.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are fio's flags, each by itself")]
pub struct Job {
    /// Its section.
    pub name: String,
    /// What it works on.
    pub workload: Workload,
    /// What it does there.
    pub access: Access,
    /// Sizes of its operations, by direction.
    pub block_sizes: [Split; 3],
    /// How many of a hundred operations are reads, if it has both.
    pub read_percent: u32,
    /// Operations in flight of each copy.
    pub iodepth: u32,
    /// Copies, each with a file of its own.
    pub copies: u32,
    /// Bytes of the region that it works on.
    pub size: Option<u64>,
    /// Bytes of its file.
    pub file_bytes: Option<u64>,
    /// Where the region begins.
    pub offset: u64,
    /// Bytes to read and write; the region's size if none.
    pub io_bytes: Option<u64>,
    /// How long it may take.
    pub runtime: Option<Duration>,
    /// Whether it goes on until then.
    pub is_time_based: bool,
    /// Not measured, at the beginning.
    pub ramp_time: Duration,
    /// How places are drawn.
    pub distribution: Distribution,
    /// Whether a random job visits each block once before it visits one again.
    pub has_random_map: bool,
    /// What random numbers follow from.
    pub seed: u64,
    /// Operations a second of each copy, by direction.
    pub rate_iops: [Option<u32>; 3],
    /// Whether what was written is verified.
    pub verifies: bool,
    /// Whether that is all it does.
    pub verifies_only: bool,
    /// Whether copies and neighbours are reported as one.
    pub is_group_reported: bool,
    /// Percentiles that are reported.
    pub percentiles: Vec<f64>,
    /// How often it is done.
    pub loops: u32,
    /// Whether it begins when all before it have ended.
    pub waits: bool,
    /// Objects of the workloads that have some.
    pub objects: u32,
    /// Their sizes.
    pub object_sizes: Split,
    /// Of a hundred operations on objects: puts, gets, deletes.
    pub object_mix: [u32; 3],
    /// Records of the key/value workloads.
    pub records: u32,
    /// Bytes of a record.
    pub record_bytes: u32,
    /// What its section says, for reports.
    pub given: Vec<(String, String)>,
}

/// What fio reports if nothing else is asked for.
const PERCENTILES: [f64; 17] =
    [1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99];
const DEFAULT_BLOCK_BYTES: u64 = 4096;

impl Job {
    /// A job of this name that says nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            workload: Workload::Blocks,
            access: Access { is_random: false, mix: Mix::Read },
            block_sizes: std::array::from_fn(|_| Split::one(DEFAULT_BLOCK_BYTES)),
            read_percent: 50,
            iodepth: 1,
            copies: 1,
            size: None,
            file_bytes: None,
            offset: 0,
            io_bytes: None,
            runtime: None,
            is_time_based: false,
            ramp_time: Duration::ZERO,
            distribution: Distribution::Uniform,
            has_random_map: true,
            seed: 1,
            rate_iops: [None; 3],
            verifies: false,
            verifies_only: false,
            is_group_reported: false,
            percentiles: PERCENTILES.to_vec(),
            loops: 1,
            waits: false,
            objects: 1000,
            object_sizes: Split(vec![(4 << 10, 60), (64 << 10, 30), (1 << 20, 10)]),
            object_mix: [30, 60, 10],
            records: 100_000,
            record_bytes: 1000,
            given: Vec::new(),
        }
    }

    /// The directions that it has.
    pub fn directions(&self) -> &'static [Direction] {
        match self.access.mix {
            Mix::Read => &[Direction::Read],
            Mix::Write => &[Direction::Write],
            Mix::Both => &[Direction::Read, Direction::Write],
            Mix::Trim => &[Direction::Trim],
        }
    }

    /// Bytes of the file of each copy: blocks only.
    pub fn bytes_of_file(&self) -> u64 {
        self.file_bytes.or(self.size.map(|size| self.offset.saturating_add(size))).unwrap_or(0)
    }

    /// Bytes of the region that each copy works on: blocks only.
    pub fn region_bytes(&self) -> u64 {
        let room = self.bytes_of_file().saturating_sub(self.offset);
        self.size.unwrap_or(room).min(room)
    }

    /// Bytes that each copy reads and writes at most; none: until its time is over.
    pub fn budget(&self) -> Option<u64> {
        if self.is_time_based {
            return None;
        }
        let once = match self.workload {
            Workload::Blocks => Some(self.io_bytes.unwrap_or(self.region_bytes())),
            Workload::Objects | Workload::Ycsb(_) | Workload::Replicated => self.io_bytes,
        };
        once.map(|once| once.saturating_mul(u64::from(self.loops)))
    }

    /// The unit of verification: every block is a number of them.
    pub fn verify_unit(&self) -> u64 {
        self.block_sizes.iter().flat_map(|split| &split.0).map(|(bytes, _)| *bytes).fold(0, gcd)
    }

    /// Why it cannot run, if so.
    fn check(&self) -> Result<(), &'static str> {
        if self.is_time_based && self.runtime.is_none() {
            return Err("time_based needs a runtime");
        }
        if self.workload != Workload::Blocks {
            if self.verifies || self.verifies_only {
                return Err("only workload=blocks takes verify; the others check what they read anyway");
            }
            return match (self.runtime, self.io_bytes) {
                (None, None) => Err("it needs a runtime or an io_size"),
                (Some(_), _) | (_, Some(_)) => Ok(()),
            };
        }
        if self.size.is_none() && self.file_bytes.is_none() {
            return Err("it needs a size");
        }
        let largest = self.directions().iter().map(|direction| self.block_sizes[direction.index()].max());
        if self.region_bytes() < largest.max().unwrap_or(0) {
            return Err("its region is smaller than a block");
        }
        if self.verifies_only && !self.verifies {
            return Err("verify_only needs verify=crc32c");
        }
        if self.verifies && self.access.mix == Mix::Trim {
            return Err("there is nothing to verify after rw=trim");
        }
        if self.verifies && (self.verify_unit() < VERIFY_UNIT_MIN || !self.is_aligned()) {
            return Err(
                "verify takes blocks, offset and file size that are multiples of 512 bytes in common",
            );
        }
        Ok(())
    }

    fn is_aligned(&self) -> bool {
        let unit = self.verify_unit();
        self.offset.is_multiple_of(unit)
            && self.bytes_of_file().is_multiple_of(unit)
            && crate::blocks::OBJECT_BYTES.is_multiple_of(unit)
    }
}

/// Smaller units would be mostly header.
const VERIFY_UNIT_MIN: u64 = 512;

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// All jobs of a file or a command line.
#[derive(Clone, PartialEq, Debug)]
pub struct Jobs {
    /// What the sections called `global` say, and the command line.
    pub global: Vec<(String, String)>,
    /// The jobs in their order.
    pub jobs: Vec<Job>,
}

/// An option as given, without looking at it.
type Given = (String, String);

impl Jobs {
    /// Reads a job file; `also` are the command line's options, which come last.
    pub fn parse(text: &str, also: &[Given]) -> Result<Self, JobError> {
        let mut global = Job::new("global");
        let mut jobs: Vec<(usize, Job)> = Vec::new();
        let mut is_global = None;
        for (index, line) in text.lines().enumerate() {
            let origin = Origin::Line(index + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let name = section.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
                let name = name.ok_or(JobError { origin, problem: Problem::Malformed })?;
                is_global = Some(name == "global");
                if name != "global" {
                    jobs.push((
                        index + 1,
                        Job { name: name.to_owned(), given: Vec::new(), ..global.clone() },
                    ));
                }
                continue;
            }
            let (option, value) = line.split_once('=').unwrap_or((line, ""));
            let given = (option.trim().to_owned(), value.trim().to_owned());
            let job = match is_global {
                None => {
                    let problem = Problem::NoSection { option: given.0 };
                    return Err(JobError { origin, problem });
                }
                Some(true) => &mut global,
                Some(false) => &mut jobs.last_mut().expect("a section of a job began").1,
            };
            set(job, given, origin)?;
        }
        if jobs.is_empty() {
            return Err(JobError {
                origin: Origin::Line(text.lines().count().max(1)),
                problem: Problem::Empty,
            });
        }
        let jobs = jobs.into_iter().map(|(line, job)| finish(job, also, Origin::Line(line)));
        let jobs = jobs.collect::<Result<_, _>>()?;
        Ok(Self { global: global.given.into_iter().chain(also.iter().cloned()).collect(), jobs })
    }

    /// One job of the command line's options.
    pub fn of_command_line(name: &str, given: &[Given]) -> Result<Self, JobError> {
        let job = finish(Job::new(name), given, Origin::CommandLine)?;
        Ok(Self { global: Vec::new(), jobs: vec![Job { given: given.to_vec(), ..job }] })
    }
}

/// Adds the command line's options, which reports name once for all jobs, and looks at the job as a whole.
fn finish(mut job: Job, also: &[Given], origin: Origin) -> Result<Job, JobError> {
    let of_section = job.given.clone();
    for given in also {
        set(&mut job, given.clone(), Origin::CommandLine)?;
    }
    job.given = of_section;
    job.check().map_err(|why| JobError { origin, problem: Problem::Job { job: job.name.clone(), why } })?;
    Ok(job)
}

fn set(job: &mut Job, (option, value): Given, origin: Origin) -> Result<(), JobError> {
    let found = OPTIONS.iter().find(|spec| spec.name == option || spec.aliases.contains(&option.as_str()));
    let spec =
        found.ok_or_else(|| JobError { origin, problem: Problem::Unknown { option: option.clone() } })?;
    (spec.set)(job, &value)
        .map_err(|why| JobError { origin, problem: Problem::Value { option: option.clone(), why } })?;
    job.given.push((option, value));
    Ok(())
}

#[cfg(test)]
mod tests;
