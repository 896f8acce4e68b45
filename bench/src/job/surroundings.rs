//! Surroundings: what a job file may refer to besides itself: environment variables, other files, the machine.

use std::io;
use std::path::PathBuf;

/// See the module.
pub trait Surroundings {
    /// The value of an environment variable, for `${NAME}`.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a file that `include` names.
    fn include(&self, path: &str) -> io::Result<String>;
    /// CPUs that are online, for `$ncpus`.
    fn cpus(&self) -> u64;
    /// Memory in MiB, for `$mb_memory`.
    fn memory_mib(&self) -> u64;
    /// Bytes of a page of memory, for `$pagesize`.
    fn page_bytes(&self) -> u64 {
        4096
    }
}

/// No variables, no files, a machine of one CPU and 1 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Surroundings for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn include(&self, _: &str) -> io::Result<String> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    fn cpus(&self) -> u64 {
        1
    }

    fn memory_mib(&self) -> u64 {
        1024
    }
}

/// The process and its machine.
#[derive(Clone, Debug)]
pub struct Process {
    /// Where the job file is: an included file that is not found from the current directory is looked for there.
    pub directory: PathBuf,
}

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn include(&self, path: &str) -> io::Result<String> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::read_to_string(self.directory.join(path))
            }
            outcome => outcome,
        }
    }

    fn cpus(&self) -> u64 {
        std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64)
    }

    fn memory_mib(&self) -> u64 {
        crate::machine::memory_bytes().map_or(1024, |bytes| bytes >> 20)
    }

    fn page_bytes(&self) -> u64 {
        rustix::param::page_size() as u64
    }
}
