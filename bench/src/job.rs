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
//! Options have fio's names, units and meanings. Each is one of three kinds: it works (`options`); it makes no difference
//! to what is measured here, so it is ignored and listed in [`Jobs::ignored`] (`unused`); or it would make a difference
//! that this program cannot make, and is an error. One error names all of them: a job never runs as something else than
//! it describes. The same options on the command line come last, for each job.
//!
//! Where we differ from fio: a job's file is a row of objects of 4 MiB, one for each copy, whatever `filename` is; the
//! region that a job works on is written before it begins (unless the job is `rw=write`, or the objects are there
//! already), because reading and overwriting what was never written measures nothing; `verify` of any method uses
//! stamps with a crc32c, verifies all that was written at the end, and each read on the way.
//!
//! Limits: sizes below 2^62 bytes; a block of 16 MiB; 4,096 clients of a job and 512 copies of it.

mod access;
mod check;
mod distribution;
mod error;
mod expand;
mod file;
mod options;
mod reader;
mod region;
mod split;
mod surroundings;
mod unused;
mod values;
mod workload;

use std::time::Duration;

pub use crate::distribution::Theta;
pub use access::{Access, Direction, Mix, Sequencer, Step};
pub use distribution::{Distribution, Zone};
pub use error::{JobError, Origin, Problem, Rejection};
pub use options::{OPTIONS, OptionSpec, Takes};
pub use split::Split;
pub use surroundings::{Nothing, Process, Surroundings};
pub use unused::{Ignored, UNUSED, UnusedSpec};
pub use values::Units;
pub use workload::{Workload, Ycsb};

/// Bytes, or a part of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    /// So many.
    Bytes(u64),
    /// So many of a hundred bytes of the file.
    Percent(u32),
}

impl Amount {
    /// Its bytes, of a file of so many.
    fn of(self, file_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let bytes = u128::from(file_bytes) * u128::from(percent) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Pauses of a job's clients: how long, and after what.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Think {
    /// How long.
    pub time: Duration,
    /// After so many operations; one if nothing else is given.
    pub blocks: Option<u32>,
    /// Whether those that began count, not those that ended.
    pub is_at_issue: bool,
    /// After operations were done for so long.
    pub io_time: Option<Duration>,
}

/// Which jobs end when one ends that has `exitall`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitWhat {
    /// Those that run and are reported with it.
    Group,
    /// All that run.
    Stonewall,
    /// All that run, and those behind the next `stonewall` do not begin.
    All,
}

/// One job.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are fio's flags, each by itself")]
pub struct Job {
    /// Its section, or what `name` makes of it.
    pub name: String,
    /// The name of its file: the job's, with a number if jobs before it have that name too.
    pub file_name: String,
    /// What it works on.
    pub workload: Workload,
    /// What it does there.
    pub access: Access,
    /// The number after the colon of `rw`.
    pub step: Step,
    /// What operations between drawn places do.
    pub sequencer: Sequencer,
    /// How many of a hundred operations of a random job are random, by direction.
    pub random_percent: [u32; 3],
    /// What random places are multiples of, by direction; the smallest block if none.
    pub aligns: Option<[u64; 3]>,
    /// Sizes of its operations, by direction.
    pub block_sizes: [Split; 3],
    /// How many of a hundred operations are reads, if it has both.
    pub read_percent: u32,
    /// Operations in flight of each copy.
    pub iodepth: u32,
    /// Copies, each with a file of its own.
    pub copies: u32,
    /// Bytes of the region that it works on; with `filesize` bytes that it reads and writes.
    pub size: Option<Amount>,
    /// Bytes of its file.
    pub file_bytes: Option<u64>,
    /// Where the region begins.
    pub offset: Amount,
    /// What an offset that is a percentage is rounded up to a multiple of; the smallest block if none.
    pub offset_align: Option<u64>,
    /// How much later the region of each copy begins than that of the one before.
    pub offset_increment: Amount,
    /// Bytes to read and write; the region's size if none.
    pub io_bytes: Option<Amount>,
    /// Operations, at most.
    pub operations: Option<u64>,
    /// How long it may take.
    pub runtime: Option<Duration>,
    /// Whether it goes on until then.
    pub is_time_based: bool,
    /// Not measured, at the beginning.
    pub ramp_time: Duration,
    /// How places are drawn.
    pub distribution: Distribution,
    /// Whether `sequence` goes on behind its last block in each round.
    pub strides_sequence: bool,
    /// Whether a random job visits each block once before it visits one again.
    pub has_random_map: bool,
    /// What random numbers follow from.
    pub seed: u64,
    /// Whether they are the same in each run.
    pub is_repeatable: bool,
    /// Operations a second of each copy, by direction.
    pub rate_iops: [Option<u32>; 3],
    /// Bytes a second of each copy, by direction.
    pub rate_bytes: [Option<u64>; 3],
    /// Whether operations with a rate arrive as a Poisson process.
    pub has_poisson_rate: bool,
    /// Pauses of all clients of a copy.
    pub think: Option<Think>,
    /// How long it waits before it begins, at least and at most.
    pub start_delay: (Duration, Duration),
    /// Whether what was written is verified.
    pub verifies: bool,
    /// Whether all of it is read and verified at the end.
    pub verifies_at_end: bool,
    /// Whether that is all it does.
    pub verifies_only: bool,
    /// Whether its file is written before it begins although all it does is to write it in order.
    pub overwrites: bool,
    /// Whether copies and neighbours are reported as one.
    pub is_group_reported: bool,
    /// Percentiles that are reported.
    pub percentiles: Vec<f64>,
    /// How often it is done.
    pub loops: u32,
    /// Whether it begins when all before it have ended.
    pub waits: bool,
    /// The job before it that it waits for.
    pub waits_for: Option<String>,
    /// Whether any job of the file ends others when it ends.
    pub exits_all: bool,
    /// Which ones it ends then.
    pub exit_what: ExitWhat,
    /// Whether it is not reported with the jobs before it.
    pub begins_group: bool,
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
    /// The units of sizes.
    pub units: Units,
    /// What its section says, for reports.
    pub given: Vec<(String, String)>,
}

/// What fio reports if nothing else is asked for.
const PERCENTILES: [f64; 17] =
    [1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99];
const DEFAULT_BLOCK_BYTES: u64 = 4096;

impl Job {
    /// A job of this name with fio's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            file_name: name.clone(),
            name,
            workload: Workload::Blocks,
            access: Access { is_random: false, mix: Mix::Read },
            step: Step::Each,
            sequencer: Sequencer::Sequential,
            random_percent: [100; 3],
            aligns: None,
            block_sizes: std::array::from_fn(|_| Split::one(DEFAULT_BLOCK_BYTES)),
            read_percent: 50,
            iodepth: 1,
            copies: 1,
            size: None,
            file_bytes: None,
            offset: Amount::Bytes(0),
            offset_align: None,
            offset_increment: Amount::Bytes(0),
            io_bytes: None,
            operations: None,
            runtime: None,
            is_time_based: false,
            ramp_time: Duration::ZERO,
            distribution: Distribution::Uniform,
            strides_sequence: false,
            has_random_map: true,
            seed: 1,
            is_repeatable: true,
            rate_iops: [None; 3],
            rate_bytes: [None; 3],
            has_poisson_rate: false,
            think: None,
            start_delay: (Duration::ZERO, Duration::ZERO),
            verifies: false,
            verifies_at_end: true,
            verifies_only: false,
            overwrites: false,
            is_group_reported: false,
            percentiles: PERCENTILES.to_vec(),
            loops: 1,
            waits: false,
            waits_for: None,
            exits_all: false,
            exit_what: ExitWhat::Group,
            begins_group: false,
            objects: 1000,
            object_sizes: Split(vec![(4 << 10, 60), (64 << 10, 30), (1 << 20, 10)]),
            object_mix: [30, 60, 10],
            records: 100_000,
            record_bytes: 1000,
            units: Units::default(),
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
            Mix::TrimWrite => &[Direction::Write, Direction::Trim],
        }
    }

    /// The unit of verification: every block is a number of them.
    pub fn verify_unit(&self) -> u64 {
        self.block_sizes.iter().flat_map(|split| &split.0).map(|(bytes, _)| *bytes).fold(0, gcd)
    }
}

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
    /// Options that make no difference here.
    pub ignored: Vec<Ignored>,
}

#[cfg(test)]
mod tests;
