//! Compare: the same work on Seabed and on others, one trial at a time, and one table of all (`table`).
//!
//! The work: values of 4 KiB, for puts of 1 KiB, uniformly drawn, each client with one operation at a time; a write is
//! counted when it is durable. A trial fills an empty place with all data, then measures; the caller runs each in a process
//! of its own, so that memory and written bytes are the contestant's.
//!
//! | contestant | driven by | durable by | own count of device bytes |
//! |---|---|---|---|
//! | seabed | tasks on the shard's thread | its journal | yes |
//! | raw-dsync, raw-flush | fio, io_uring, direct | each write O_DSYNC; fdatasync after each | yes |
//! | bare | tasks of a bare glommio loop, direct | each write O_DSYNC | yes |
//! | files | threads | pwrite, fdatasync | no |
//! | rocksdb | threads | its log, synced, its own group commit | yes |
//! | redb, fjall | threads | one commit for all writes that wait | no |
//! | null, null-threads, null-fio | as named | nothing is stored: the drivers' own cost | |
//!
//! Limits: peers that read through the kernel's page cache have all the memory of the machine as a cache besides their
//! own; for reads take data that is larger than that.

mod bare;
mod files;
#[cfg(feature = "peers")]
mod fjall;
#[cfg(any(test, feature = "peers"))]
mod group;
mod peer;
mod raw;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "peers")]
mod rocks;
mod store;
pub mod table;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

pub use trial::Trial;

use crate::machine;

/// Percentiles that are compared.
pub const PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Durable overwrites.
    Overwrite,
    /// Reads.
    Read,
    /// Durable puts: a whole small object takes the place of one.
    Put,
}

impl Work {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overwrite => "overwrite",
            Self::Read => "read",
            Self::Put => "put",
        }
    }

    /// Bytes of a value.
    pub fn value_bytes(self) -> u64 {
        match self {
            Self::Overwrite | Self::Read => 4096,
            Self::Put => 1024,
        }
    }
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contestant {
    /// This engine.
    Seabed,
    /// The device, each write durable by itself.
    RawDsync,
    /// The device, a flush after each write.
    RawFlush,
    /// The device, by a bare loop on the runtime that shards run on.
    Bare,
    /// Plain files.
    Files,
    /// RocksDB.
    RocksDb,
    /// redb.
    Redb,
    /// fjall.
    Fjall,
    /// Nothing, by tasks.
    Null,
    /// Nothing, by threads.
    NullThreads,
    /// Nothing, by fio.
    NullFio,
}

impl Contestant {
    /// All of them; those that store nothing last.
    pub const ALL: [Self; 11] = [
        Self::Seabed,
        Self::RawDsync,
        Self::RawFlush,
        Self::Bare,
        Self::Files,
        Self::RocksDb,
        Self::Redb,
        Self::Fjall,
        Self::Null,
        Self::NullThreads,
        Self::NullFio,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seabed => "seabed",
            Self::RawDsync => "raw-dsync",
            Self::RawFlush => "raw-flush",
            Self::Bare => "bare",
            Self::Files => "files",
            Self::RocksDb => "rocksdb",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
            Self::Null => "null",
            Self::NullThreads => "null-threads",
            Self::NullFio => "null-fio",
        }
    }

    /// By its word.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contestant| contestant.name() == name)
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        cfg!(feature = "peers") || !matches!(self, Self::RocksDb | Self::Redb | Self::Fjall)
    }

    /// What its driver costs by itself.
    #[must_use]
    pub fn null(self) -> Self {
        match self {
            Self::Seabed | Self::Bare | Self::Null => Self::Null,
            Self::RawDsync | Self::RawFlush | Self::NullFio => Self::NullFio,
            Self::Files | Self::RocksDb | Self::Redb | Self::Fjall | Self::NullThreads => Self::NullThreads,
        }
    }

    /// Whether it can do the work: a bare device has no objects.
    pub fn can_do(self, work: Work) -> bool {
        work != Work::Put || self.null() != Self::NullFio && self != Self::Bare
    }

    /// Whether it stores nothing.
    pub fn is_null(self) -> bool {
        self == self.null()
    }
}

/// What a trial is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is done.
    pub work: Work,
    /// By whom.
    pub contestant: Contestant,
    /// With how many clients.
    pub clients: u32,
    /// Bytes of data.
    pub data_bytes: u64,
    /// Bytes of the contestant's own cache.
    pub cache_bytes: u64,
    /// How long.
    pub time: Duration,
    /// An empty directory.
    pub directory: PathBuf,
    /// Bytes that may be used there.
    pub free_bytes: u64,
}

impl Setup {
    fn values(&self) -> u64 {
        (self.data_bytes / self.value_bytes()).max(1)
    }

    fn value_bytes(&self) -> u64 {
        self.work.value_bytes()
    }

    /// As [`Setup::value_bytes`], the length of a buffer.
    fn value_len(&self) -> usize {
        usize::try_from(self.value_bytes()).expect("small")
    }
}

/// Why a trial failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Of Seabed's store.
    #[error(transparent)]
    Store(#[from] seabed::Error),
    /// Of the system.
    #[error("{doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What went wrong.
        error: std::io::Error,
    },
    /// Of a peer.
    #[error("{name}: {why}")]
    Peer {
        /// Who.
        name: &'static str,
        /// What it says.
        why: String,
    },
    /// This build has no such peer.
    #[error("{name} is not in this build; it takes --features peers")]
    NotBuilt {
        /// Who.
        name: &'static str,
    },
}

/// Runs a trial.
pub fn run(setup: &Setup) -> Result<Trial, CompareError> {
    let wanted = machine::Wanted::now();
    let trial = of_contestant(setup)?;
    Ok(Trial { stolen: wanted.stolen_since(), ..trial })
}

fn of_contestant(setup: &Setup) -> Result<Trial, CompareError> {
    match setup.contestant {
        Contestant::Seabed | Contestant::Null => store::run(setup),
        Contestant::RawDsync | Contestant::RawFlush | Contestant::NullFio => raw::run(setup),
        Contestant::Bare => bare::run(setup),
        Contestant::Files => peer::run(setup, files::Files::open),
        Contestant::NullThreads => peer::run(setup, peer::Nothing::open),
        #[cfg(feature = "peers")]
        Contestant::RocksDb => peer::run(setup, rocks::Rocks::open),
        #[cfg(feature = "peers")]
        Contestant::Redb => peer::run(setup, redb::Redb::open),
        #[cfg(feature = "peers")]
        Contestant::Fjall => peer::run(setup, fjall::Fjall::open),
        #[cfg(not(feature = "peers"))]
        Contestant::RocksDb | Contestant::Redb | Contestant::Fjall => {
            Err(CompareError::NotBuilt { name: setup.contestant.name() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_of_this_build_finds_what_it_wrote() {
        let of_fio = |contestant: &Contestant| contestant.null() == Contestant::NullFio;
        for contestant in Contestant::ALL.into_iter().filter(|one| one.is_built() && !of_fio(one)) {
            for work in [Work::Overwrite, Work::Read, Work::Put] {
                if !contestant.can_do(work) {
                    continue;
                }
                let directory = tempfile::tempdir().expect("a directory");
                let setup = Setup {
                    work,
                    contestant,
                    clients: 3,
                    data_bytes: 8 << 20,
                    cache_bytes: 64 << 20,
                    time: Duration::from_millis(50),
                    directory: directory.path().to_path_buf(),
                    free_bytes: 1 << 30,
                };
                let name = contestant.name();
                let trial = run(&setup).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(trial.operations > 0, "{name}");
                assert_eq!((trial.bytes, trial.wrong), (trial.operations * work.value_bytes(), 0), "{name}");
            }
        }
    }

    #[test]
    fn names() {
        for contestant in Contestant::ALL {
            assert_eq!(Contestant::of_name(contestant.name()), Some(contestant));
            assert!(contestant.null().is_null());
        }
        assert_eq!(Contestant::of_name("nobody"), None);
    }
}
