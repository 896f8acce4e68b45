//! Create: a file or device that a store can be put on: of a size, all zeros, and written once.
//!
//! A range of a file that was never written makes every flush of it commit the file system's journal, 5 to 10 times
//! slower than in a range that was. So all of it is written with zeros here, once, in large direct writes; then the
//! file and its directory are made durable.
//!
//! Crash: a half-made file is all zeros, and no store. An old store is gone from the first moment: a file is cut to
//! nothing first, of a device the first and last MiB are cleared first and made durable.
//!
//! Cost: one write per MiB, one in flight.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use seabed_types::BLOCK_BYTES;

use super::open::{Access, Aligned, Kind, Target, failed};
use crate::OpenError;

/// Bytes of one write of zeros, and of what is looked at at either end of a device.
const MEBIBYTE: u64 = 1 << 20;

/// Whether all of a new file is written once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstWrite {
    /// Yes, with zeros, before [`create`] returns.
    Now,
    /// No: a file stays sparse, a device as it is but for its ends. Whoever writes a range the first time pays.
    Never,
}

/// How to create.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Take a file or device that holds something, and lose that.
    pub overwrite: bool,
    /// When to write all of it once.
    pub first_write: FirstWrite,
    /// As [`super::HostOptions::lock_wait`].
    pub lock_wait: Duration,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { overwrite: false, first_write: FirstWrite::Now, lock_wait: super::LOCK_WAIT }
    }
}

/// Makes a file of `bytes`, a multiple of 4096, or takes a block device (whose own size `bytes` must be, or 0).
///
/// `progress` is called with the bytes done and all there are to do, after each MiB. A device in use is refused
/// always, one that holds something unless `options.overwrite` says otherwise: a file that is not empty, a block
/// device whose first or last MiB is not all zeros.
///
/// Blocks the thread, for as long as it takes to write all of it.
pub fn create(
    path: impl AsRef<Path>,
    bytes: u64,
    options: &CreateOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    let path = path.as_ref();
    let is_new = make(path)?;
    let outcome = Target::open_any_size(path, Access::ReadWrite, options.lock_wait)
        .and_then(|target| fill(target, bytes, options, progress));
    if outcome.is_err() && is_new {
        // Best effort: what matters is the error that is on its way.
        let _ = std::fs::remove_file(path);
    }
    outcome
}

/// Makes an empty file if there is nothing.
fn make(path: &Path) -> Result<bool, OpenError> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(path, "creating it", &error)),
    }
}

fn fill(
    target: Target,
    bytes: u64,
    options: &CreateOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    let is_file = target.kind() == Kind::File;
    let before = target.geometry().bytes;
    let after = if is_file || bytes != 0 { bytes } else { before };
    let is_possible = after != 0 && after.is_multiple_of(BLOCK_BYTES as u64) && (is_file || after == before);
    if !is_possible {
        return Err(OpenError::BadSize { path: target.path().to_owned(), bytes: after });
    }
    if !options.overwrite && (if is_file { before > 0 } else { holds_something(&target)? }) {
        return Err(OpenError::HoldsData { path: target.path().to_owned() });
    }
    if is_file {
        resize(&target, after)?;
    } else {
        for range in ends(after) {
            write_zeros(&target, range, &mut |_| {})?;
        }
    }
    sync(&target, target.file())?;
    let target = target.with_size()?;
    if options.first_write == FirstWrite::Now {
        if is_file {
            allocate(&target, after)?;
        }
        write_zeros(&target, (0, after), &mut |done| progress(done, after))?;
    }
    sync(&target, target.file())?;
    if is_file { sync_directory(&target) } else { Ok(()) }
}

/// Cuts to nothing first, so that no byte of what was there is left.
fn resize(target: &Target, bytes: u64) -> Result<(), OpenError> {
    let set = |bytes| {
        target.file().set_len(bytes).map_err(|error| failed(target.path(), "setting its size", &error))
    };
    set(0)?;
    set(bytes)
}

/// In one go, for few and large extents, and to know at once that there is no room.
fn allocate(target: &Target, bytes: u64) -> Result<(), OpenError> {
    match fallocate(target.file(), FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(target.io("allocating it", error)),
    }
}

/// The first and the last MiB: begin and length.
fn ends(bytes: u64) -> [(u64, u64); 2] {
    let end = bytes.min(MEBIBYTE);
    [(0, end), (bytes - end, end)]
}

fn holds_something(target: &Target) -> Result<bool, OpenError> {
    for (at, bytes) in ends(target.geometry().bytes) {
        let mut found = vec![0; usize::try_from(bytes).expect("at most a MiB")];
        target.read_at(at, &mut found)?;
        if found.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_zeros(target: &Target, range: (u64, u64), progress: &mut dyn FnMut(u64)) -> Result<(), OpenError> {
    let (begin, bytes) = range;
    let mut zeros = Aligned::zeroed(usize::try_from(bytes.min(MEBIBYTE)).expect("at most a MiB"));
    let zeros = zeros.bytes_mut();
    let mut done = 0;
    while done < bytes {
        let piece = usize::try_from((bytes - done).min(MEBIBYTE)).expect("at most a MiB");
        target
            .file()
            .write_all_at(&zeros[..piece], begin + done)
            .map_err(|error| failed(target.path(), "writing zeros", &error))?;
        done += piece as u64;
        progress(done);
    }
    Ok(())
}

fn sync(target: &Target, file: &File) -> Result<(), OpenError> {
    file.sync_all().map_err(|error| failed(target.path(), "making it durable", &error))
}

fn sync_directory(target: &Target) -> Result<(), OpenError> {
    let directory = match target.path().parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory =
        File::open(directory).map_err(|error| failed(target.path(), "opening its directory", &error))?;
    sync(target, &directory)
}
