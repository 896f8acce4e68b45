//! Scratch: a temporary directory for a store and what belongs to it, gone when it is dropped or the process ends.
//!
//! In the place for temporary files, or in the current directory if no store can be there (a file system in memory may
//! not do direct I/O).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, statvfs};
use tempfile::TempDir;

use crate::cleanup::{self, Registered, unlock};
use crate::exit::{Exit, Failure, Outcome};
use crate::sizes::human;

/// Files of one directory that is made.
const FILES_PER_DIRECTORY: u64 = 50;
/// Each so many files one is large.
const LARGE_EACH: u64 = 100;

/// See the module.
pub(crate) struct Scratch {
    directory: TempDir,
    /// Dropped after the directory.
    _cleanup: Registered,
}

impl Scratch {
    pub(crate) fn new() -> Outcome<Self> {
        let usual = std::env::temp_dir();
        let first = Self::inside(&usual);
        let outcome =
            if first.as_ref().is_ok_and(Self::does_direct_io) { first } else { Self::inside(Path::new(".")) };
        outcome.map_err(|error| Failure::io(&usual, "making a temporary directory", &error))
    }

    /// In this directory.
    pub(crate) fn within(directory: &Path) -> Outcome<Self> {
        Self::inside(directory)
            .map_err(|error| Failure::io(directory, "making a temporary directory", &error))
    }

    fn inside(place: &Path) -> io::Result<Self> {
        let make = || tempfile::Builder::new().prefix("seabed-").tempdir_in(place);
        let (directory, cleanup) = cleanup::register(make)?;
        Ok(Self { directory, _cleanup: cleanup })
    }

    fn does_direct_io(&self) -> bool {
        let path = self.directory.path().join("probe");
        let flags = OFlags::DIRECT.bits().cast_signed();
        let file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(&path);
        // Whether it was made or not: if it is still there it goes with the directory.
        let _ = fs::remove_file(path);
        file.is_ok()
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    pub(crate) fn copy(&self) -> PathBuf {
        self.directory.path().join("copy")
    }

    /// Fails if there is less room.
    pub(crate) fn require(&self, bytes: u64) -> Outcome<()> {
        let (path, free) = (self.directory.path(), self.free_bytes()?);
        if free < bytes {
            let message = format!("{}: {} are free, it takes {}", path.display(), human(free), human(bytes));
            return Err(Failure::new(Exit::DiskFull, message).advise("TMPDIR=DIR uses another place"));
        }
        Ok(())
    }

    /// Bytes that are free where it is.
    pub(crate) fn free_bytes(&self) -> Outcome<u64> {
        let path = self.directory.path();
        let free = statvfs(path).map_err(|errno| Failure::io(path, "looking for room", &errno.into()))?;
        Ok(free.f_bavail.saturating_mul(free.f_frsize))
    }

    /// Makes a tree of `count` files, most of them small, with links and an empty directory.
    pub(crate) fn make_files(&self, count: u64) -> Outcome<PathBuf> {
        let root = self.directory.path().join("files");
        make_files(&root, count).map_err(|error| Failure::io(&root, "making files", &error))?;
        Ok(root)
    }

    /// Removes all of it and says if that fails; dropping it says nothing.
    pub(crate) fn remove(self) -> Outcome<()> {
        let path = self.directory.path();
        unlock(path);
        fs::remove_dir_all(path)
            .map_err(|error| Failure::io(path, "removing the temporary directory", &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        unlock(self.directory.path());
    }
}

fn make_files(root: &Path, count: u64) -> io::Result<()> {
    let mut rng = fastrand::Rng::with_seed(1);
    fs::create_dir(root)?;
    fs::create_dir(root.join("empty"))?;
    symlink("folder-0000/file-0000", root.join("first"))?;
    symlink("nowhere", root.join("dangling"))?;
    for number in 0..count {
        let folder = root.join(format!("folder-{:04}", number / FILES_PER_DIRECTORY));
        if number % FILES_PER_DIRECTORY == 0 {
            fs::create_dir(&folder)?;
        }
        let bytes = match number % LARGE_EACH {
            0 => rng.usize((1 << 20)..(4 << 20)),
            1 => 0,
            _ => 1usize << rng.u32(4..17),
        };
        let mut data = vec![0; bytes];
        rng.fill(&mut data);
        fs::write(folder.join(format!("file-{number:04}")), data)?;
    }
    Ok(())
}
