//! Create: a file or device that a store can be put on: of a size, all zeros, and written once.
//!
//! A range of a file that was never written makes every flush of it commit the file system's journal, 5 to 10 times
//! slower than in a range that was. So all of it is written with zeros here, once, in large direct writes; then the
//! file and its directory are made durable.
//!
//! A [`Created`] is locked, and undone when it is dropped without [`Created::keep`]: a file that was made is removed, one that
//! existed gets its size and its holes back (not its bytes), a device is all zeros at both ends, so that the same call takes
//! it again. So nothing is left of what failed or was cancelled, here or in what the caller does before it keeps it.
//!
//! Crash: a half-made file is all zeros, and no store. An old store is gone before any progress is reported: a file is cut to
//! nothing first; of a device the blocks without which nothing opens a store are cleared first and made durable, so that a cut
//! leaves the old store whole or not at all, and then the first and last MiB.
//!
//! Cost: one write per MiB, one in flight.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use seabed_types::BLOCK_BYTES;

use super::open::{Access, Aligned, Kind, Target, failed, transfer};
use super::{GlommioHost, HostOptions, system};
use crate::OpenError;

/// Bytes of one write of zeros, and of what is looked at at either end of a device.
const MEBIBYTE: u64 = 1 << 20;
/// What of the front of a device is cleared first: the copies of a store's superblock there, and nothing else of a store. The
/// last copy is in the last block.
const SUPERBLOCKS_BYTES: u64 = 48 << 10;

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
    /// Set by another thread: creating stops after at most one MiB more, and fails with [`OpenError::Interrupted`].
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { overwrite: false, first_write: FirstWrite::Now, lock_wait: super::LOCK_WAIT, cancel: None }
    }
}

/// Makes a file of `bytes`, a multiple of 4096, or takes a block device (whose own size `bytes` must be, or 0; what is
/// behind its last multiple of 4096 is not used).
///
/// `progress` is called with the bytes done and all there are to do, after each MiB. A device in use is refused
/// always, one that holds something unless `options.overwrite` says otherwise: a file that is not empty, a block
/// device whose first or last MiB is not all zeros. After an error there is nothing new, and nothing left of what was
/// overwritten.
///
/// Blocks the thread, for as long as it takes to write all of it.
pub fn create(
    path: impl AsRef<Path>,
    bytes: u64,
    options: &CreateOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    Created::new(path, bytes, options, progress)?.keep();
    Ok(())
}

/// A device that was created and is still locked; undone when it is dropped, unless it is kept.
pub struct Created {
    target: Arc<Target>,
    undo: Undo,
}

/// What undoes a creation.
enum Undo {
    /// Nothing was done, or it is kept.
    Nothing,
    /// Removes the file, by its full path.
    Remove(PathBuf),
    /// Cuts the file to nothing, and gives it its size back.
    Cut(u64),
    /// Clears the ends of the device.
    ClearEnds,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("path", &self.target.path()).finish_non_exhaustive()
    }
}

impl Created {
    /// As [`create`].
    pub fn new(
        path: impl AsRef<Path>,
        bytes: u64,
        options: &CreateOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, OpenError> {
        let path = path.as_ref();
        // Rather now than after all was written.
        system::check()?;
        let made = make(path)?;
        let target = match Target::open_any_size(path, Access::ReadWrite, options.lock_wait) {
            Ok(target) => Arc::new(target),
            Err(error) => {
                if let Some(made) = made {
                    // Best effort: what matters is the error that is on its way.
                    let _ = std::fs::remove_file(made);
                }
                return Err(error);
            }
        };
        let mut created = Self { target, undo: made.map_or(Undo::Nothing, Undo::Remove) };
        created.fill(bytes, options, progress)?;
        Ok(created)
    }

    /// A handle to it, under the same lock. Its threads must have ended when this is dropped.
    pub fn host(&self, options: HostOptions) -> GlommioHost {
        GlommioHost::of(Arc::clone(&self.target), options)
    }

    /// Keeps it.
    pub fn keep(mut self) {
        self.undo = Undo::Nothing;
    }

    fn fill(
        &mut self,
        bytes: u64,
        options: &CreateOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), OpenError> {
        let target = &self.target;
        let is_file = target.kind() == Kind::File;
        let before = target.geometry().bytes;
        let after = if is_file || bytes != 0 { bytes } else { before };
        if after == 0 || !after.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(OpenError::BadSize { path: target.path().to_owned(), bytes: after });
        }
        if !is_file && after != before {
            return Err(OpenError::WholeDevice { path: target.path().to_owned(), has: before, asked: after });
        }
        let holds = if is_file { target.bytes_found() > 0 } else { holds_something(target)? };
        if !options.overwrite && holds {
            return Err(OpenError::HoldsData { path: target.path().to_owned() });
        }
        if matches!(self.undo, Undo::Nothing) {
            self.undo = if is_file { Undo::Cut(target.bytes_found()) } else { Undo::ClearEnds };
        }
        if is_file {
            resize(target, after)?;
        } else {
            clear_ends(target, after)?;
        }
        sync(target, target.file())?;
        Arc::get_mut(&mut self.target).expect("nobody else has it yet").measure()?;
        let target = &self.target;
        if options.first_write == FirstWrite::Now {
            if is_file {
                allocate(target, after)?;
            }
            write_zeros(target, (0, after), &mut |done| {
                progress(done, after);
                check_cancelled(target, options)
            })?;
        }
        check_cancelled(target, options)?;
        sync(target, target.file())?;
        if is_file { sync_directory(target) } else { Ok(()) }
    }
}

impl Drop for Created {
    /// Best effort: what matters is the error that made the caller drop it.
    fn drop(&mut self) {
        let file = self.target.file();
        match std::mem::replace(&mut self.undo, Undo::Nothing) {
            Undo::Nothing => {}
            // By now another file may have its name.
            Undo::Remove(path) if self.target.is_at(&path) => drop(std::fs::remove_file(path)),
            Undo::Remove(_) => drop(file.set_len(0)),
            Undo::Cut(bytes) => drop(file.set_len(0).and_then(|()| file.set_len(bytes))),
            Undo::ClearEnds => {
                let cleared = clear_ends(&self.target, self.target.geometry().bytes);
                drop(cleared.and_then(|()| sync(&self.target, file)));
            }
        }
    }
}

fn check_cancelled(target: &Target, options: &CreateOptions) -> Result<(), OpenError> {
    let is_set = |cancel: &Arc<AtomicBool>| cancel.load(Ordering::Relaxed);
    if options.cancel.as_ref().is_some_and(is_set) {
        return Err(OpenError::Interrupted { path: target.path().to_owned() });
    }
    Ok(())
}

/// Makes an empty file if there is nothing, and gives its full path.
fn make(path: &Path) -> Result<Option<PathBuf>, OpenError> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => Ok(Some(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(failed(path, "creating it", &error)),
    }
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
    loop {
        match fallocate(target.file(), FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(target.io("allocating it", error)),
        }
    }
}

/// The first and the last MiB: begin and length.
fn ends(bytes: u64) -> [(u64, u64); 2] {
    let end = bytes.min(MEBIBYTE);
    [(0, end), (bytes - end, end)]
}

/// Clears both ends of a device, the blocks without which nothing opens a store first, durably.
fn clear_ends(target: &Target, bytes: u64) -> Result<(), OpenError> {
    let last = bytes.min(BLOCK_BYTES as u64);
    for range in [(0, bytes.min(SUPERBLOCKS_BYTES)), (bytes - last, last)] {
        write_zeros(target, range, &mut |_| Ok(()))?;
    }
    sync(target, target.file())?;
    ends(bytes).into_iter().try_for_each(|range| write_zeros(target, range, &mut |_| Ok(())))
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

fn write_zeros(
    target: &Target,
    range: (u64, u64),
    progress: &mut dyn FnMut(u64) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let (begin, bytes) = range;
    let mut zeros = Aligned::zeroed(usize::try_from(bytes.min(MEBIBYTE)).expect("at most a MiB"));
    let zeros = zeros.bytes_mut();
    let mut done = 0;
    while done < bytes {
        let piece = usize::try_from((bytes - done).min(MEBIBYTE)).expect("at most a MiB");
        let at = begin + done;
        transfer(piece, |done| target.file().write_at(&zeros[done..piece], at + done as u64))
            .map_err(|error| failed(target.path(), "writing zeros", &error))?;
        done += piece as u64;
        progress(done)?;
    }
    Ok(())
}

fn sync(target: &Target, file: &File) -> Result<(), OpenError> {
    file.sync_all().map_err(|error| failed(target.path(), "making it durable", &error))
}

fn sync_directory(target: &Target) -> Result<(), OpenError> {
    let directory = File::open(directory_of(target.path()))
        .map_err(|error| failed(target.path(), "opening its directory", &error))?;
    sync(target, &directory)
}

/// The directory that has the entry of a file: where a symbolic link leads, not where it is.
fn directory_of(path: &Path) -> PathBuf {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory of a symbolic link was made durable, and not the one that the file is in.
    #[test]
    fn the_directory_of_a_link_is_that_of_its_target() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("there");
        let [here, there] = ["here", "there"].map(|name| root.join(name));
        std::fs::create_dir(&here).expect("a directory");
        std::fs::create_dir(&there).expect("a directory");
        std::fs::write(there.join("file"), "").expect("a file");
        std::os::unix::fs::symlink("../there/file", here.join("link")).expect("a link");
        assert_eq!(directory_of(&here.join("link")), there);
        assert_eq!(directory_of(&there.join("file")), there);
        assert_eq!(directory_of(Path::new("no-such-file")), Path::new("."));
    }
}
