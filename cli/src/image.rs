//! Image: the bytes of a store for commands that read them past the engine.
//!
//! The lock is taken as if the store were opened, so that nobody changes it meanwhile, and a store in use is refused.

use std::fs::File;
use std::io;
use std::path::Path;

use seabed::device::glommio_host::{Access, GlommioHost, HostOptions};
use seabed::device::{Host, OpenError};
use seabed_check::{CheckError, Image};

use crate::args::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::refuse_standard_streams;
use crate::session::{of_store, shown};

/// See the module.
pub(crate) struct LockedImage {
    pub(crate) file: File,
    _lock: GlommioHost,
}

impl LockedImage {
    /// To be read only.
    pub(crate) fn open(path: &Path, global: &Global) -> Outcome<Self> {
        Self::open_for(path, Access::ReadOnly, global)
    }

    /// To be written to, too.
    pub(crate) fn open_to_write(path: &Path, global: &Global) -> Outcome<Self> {
        Self::open_for(path, Access::ReadWrite, global)
    }

    fn open_for(path: &Path, access: Access, global: &Global) -> Outcome<Self> {
        refuse_standard_streams(path)?;
        let options = HostOptions { access, lock_wait: global.lock_wait(), ..HostOptions::default() };
        let lock = GlommioHost::open(path, options).map_err(|error| of_store(path, &error.into()))?;
        let file = File::options().read(true).write(access == Access::ReadWrite).open(path);
        let file = file.map_err(|error| Failure::io(path, "opening it", &error))?;
        Ok(Self { file, _lock: lock })
    }
}

/// The bytes of a store as they are on the device, not as the page cache has them.
pub(crate) struct DirectImage {
    host: GlommioHost,
}

impl DirectImage {
    pub(crate) fn open(path: &Path, global: &Global) -> Outcome<Self> {
        refuse_standard_streams(path)?;
        let access = Access::ReadOnly;
        let options = HostOptions { access, lock_wait: global.lock_wait(), ..HostOptions::default() };
        let host = GlommioHost::open(path, options).map_err(|error| of_store(path, &error.into()))?;
        Ok(Self { host })
    }
}

impl Image for DirectImage {
    fn bytes(&self) -> u64 {
        self.host.geometry().bytes
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.host.read_at(at, into).map_err(|error| {
            if let OpenError::Io { errno, .. } = error {
                return io::Error::from_raw_os_error(errno);
            }
            io::Error::other(error)
        })
    }
}

/// A failure to find a store in an image.
pub(crate) fn no_store(path: &Path, error: &CheckError) -> Failure {
    let at = shown(path);
    match error {
        CheckError::Superblock(why) => of_store(path, &(*why).into()),
        CheckError::Unreadable(_) => Failure::new(Exit::Io, format!("{at}: {error}")),
        _ => Failure::new(Exit::NotAStore, format!("{at}: {error}")),
    }
}
