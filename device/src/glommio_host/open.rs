//! Open: the first description of a device: what kind of thing it is, how large, and that nobody else has it.
//!
//! Everything here is std and rustix on the caller's thread, before any engine thread exists. The size of a block
//! device is where its end is, by seeking: stat says 0. The description is O_DIRECT like those that do the I/O, so
//! that opening fails where they would, and so that [`Target::read_at`] sees what is on the device and leaves nothing
//! in the page cache.
//!
//! The other descriptions are opened by [`Target::reopen`], through a link in /proc that leads to this very inode,
//! whatever has happened to the path since.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fstat, major, minor};
use rustix::io::Errno;
use seabed_types::BLOCK_BYTES;

use super::lock::{self, Inode};
use super::ring::AGAIN_MAX;
use crate::{Geometry, Missing, OpenError};

/// What a handle may do to its device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads and flushes. Works on a file without write permission.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// Whether a device is a file or a block device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    File,
    BlockDevice,
}

impl Kind {
    fn of(path: &Path, file_type: FileType) -> Result<Self, OpenError> {
        if file_type.is_file() {
            Ok(Self::File)
        } else if file_type.is_block_device() {
            Ok(Self::BlockDevice)
        } else {
            Err(OpenError::NotADevice { path: path.to_owned() })
        }
    }
}

/// An open and locked device: the description that outlives all others.
pub(super) struct Target {
    path: PathBuf,
    file: File,
    access: Access,
    kind: Kind,
    inode: Inode,
    /// A multiple of 4096; what is behind is not used.
    bytes: u64,
    /// As the kernel has it.
    bytes_found: u64,
    /// The byte that the next description locks.
    further: AtomicU32,
}

impl Target {
    /// Opens an existing device and takes the lock.
    pub(super) fn open(path: &Path, access: Access, lock_wait: Duration) -> Result<Self, OpenError> {
        Self::open_any_size(path, access, lock_wait)?.with_size()
    }

    /// As `open`, of a device that may still have no size.
    pub(super) fn open_any_size(path: &Path, access: Access, lock_wait: Duration) -> Result<Self, OpenError> {
        // Looked at before it is opened: opening a pipe would wait for its other end.
        let before = std::fs::metadata(path).map_err(|error| failed(path, "looking at it", &error))?;
        let kind = Kind::of(path, before.file_type())?;
        let inode = inode_of(&before);
        if access == Access::ReadWrite && kind == Kind::BlockDevice && is_read_only(before.rdev()) {
            return Err(OpenError::Io {
                path: path.to_owned(),
                what: "opening it for writing",
                errno: Errno::ROFS.raw_os_error(),
            });
        }
        let file = lock::acquire(path, inode, lock_wait, || attempt(path, access, kind))?;
        let after = file.metadata().map_err(|error| failed(path, "looking at it", &error))?;
        if inode_of(&after) != inode {
            return Err(OpenError::Unsupported {
                path: path.to_owned(),
                what: "it was replaced while it was being opened",
            });
        }
        let further = AtomicU32::new(lock::FIRST_BYTE + 1);
        let mut target =
            Self { path: path.to_owned(), file, access, kind, inode, bytes: 0, bytes_found: 0, further };
        target.measure()?;
        Ok(target)
    }

    /// Checks the size.
    pub(super) fn with_size(mut self) -> Result<Self, OpenError> {
        self.measure()?;
        if self.bytes == 0 {
            return Err(OpenError::BadSize { path: self.path.clone(), bytes: self.bytes_found });
        }
        Ok(self)
    }

    /// Partitions and devices of 512-byte sectors may end within a block.
    pub(super) fn measure(&mut self) -> Result<(), OpenError> {
        let end = (&self.file).seek(SeekFrom::End(0));
        self.bytes_found = end.map_err(|error| failed(&self.path, "finding its end", &error))?;
        self.bytes = self.bytes_found - self.bytes_found % BLOCK_BYTES as u64;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its size as the kernel has it.
    pub(super) fn bytes_found(&self) -> u64 {
        self.bytes_found
    }

    /// Whether a path leads to it.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|metadata| inode_of(&metadata) == self.inode)
    }

    /// Whether a block device says that it can discard. A partition's queue is that of its disk.
    pub(super) fn supports_discard(&self) -> bool {
        let Ok(found) = fstat(&self.file) else { return false };
        let device = format!("/sys/dev/block/{}:{}", major(found.st_rdev), minor(found.st_rdev));
        let queues = ["queue", "../queue"].map(|queue| format!("{device}/{queue}/discard_max_bytes"));
        let most = queues.iter().find_map(|path| std::fs::read_to_string(path).ok());
        most.and_then(|most| most.trim().parse::<u64>().ok()).is_some_and(|most| most > 0)
    }

    /// Its size and unit; what a discard does is not the target's to know.
    pub(super) fn geometry(&self) -> Geometry {
        Geometry { bytes: self.bytes, wants_first_write: self.kind == Kind::File, discards: false }
    }

    /// Opens a further description with these flags besides O_DIRECT, and takes the lock on it.
    pub(super) fn reopen(&self, flags: OFlags) -> Result<File, OpenError> {
        let flags = OFlags::DIRECT | flags;
        let mut options = OpenOptions::new();
        options.read(true).write(self.access == Access::ReadWrite).custom_flags(flags.bits().cast_signed());
        // Leads to this very inode. Without /proc the path does too, or is found not to.
        let file = match options.open(format!("/proc/self/fd/{}", self.file.as_raw_fd())) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => options.open(&self.path),
            opened => opened,
        };
        let file = file.map_err(|error| failed(&self.path, "opening it again", &error))?;
        self.admit(file.as_fd(), flags)?;
        Ok(file)
    }

    /// Checks that a further description is of the same inode and size and has the flags that were asked for, and
    /// takes the lock on it.
    fn admit(&self, further: BorrowedFd<'_>, flags: OFlags) -> Result<(), OpenError> {
        let errno = |what| move |error: Errno| self.io(what, error);
        let stat = fstat(further).map_err(errno("looking at it again"))?;
        let is_same = (Inode { device: stat.st_dev, number: stat.st_ino }) == self.inode;
        let is_whole = self.kind == Kind::BlockDevice || u64::try_from(stat.st_size) == Ok(self.bytes_found);
        if !is_same || !is_whole {
            return Err(self.unsupported("it was replaced or resized while it was being opened"));
        }
        let has = fcntl_getfl(further).map_err(errno("reading its flags"))?;
        if !has.contains(flags) {
            return Err(self.unsupported("direct or synchronous I/O, which the kernel ignored"));
        }
        let byte = self.further.fetch_add(1, Ordering::Relaxed);
        lock::share(further, self.access, byte).map_err(|error| match error {
            Errno::WOULDBLOCK => OpenError::InUse { path: self.path.clone(), holder: None },
            other => self.io("locking it", other),
        })
    }

    /// Reads all of `bytes` at `at`: direct, through an aligned copy; the range need not be aligned. For the few
    /// blocks that are looked at before the engine's threads start.
    pub(super) fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), OpenError> {
        let block = BLOCK_BYTES as u64;
        let first = at - at % block;
        let skip = usize::try_from(at - first).expect("less than a block");
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= self.bytes);
        if end.is_none() {
            return Err(self.io("reading past its end", Errno::INVAL));
        }
        let mut aligned = Aligned::zeroed(seabed_types::round_up_to_block(skip + bytes.len()));
        let into = aligned.bytes_mut();
        transfer(into.len(), |done| self.file.read_at(&mut into[done..], first + done as u64))
            .map_err(|error| failed(&self.path, "reading it", &error))?;
        bytes.copy_from_slice(&aligned.bytes_mut()[skip..][..bytes.len()]);
        Ok(())
    }

    pub(super) fn unsupported(&self, what: &'static str) -> OpenError {
        OpenError::Unsupported { path: self.path.clone(), what }
    }

    pub(super) fn io(&self, what: &'static str, error: Errno) -> OpenError {
        of_errno(&self.path, what, error)
    }
}

impl Drop for Target {
    /// Closing is not enough: a process that another thread is just starting has a copy of the description until it
    /// runs its own program.
    fn drop(&mut self) {
        if let Err(error) = lock::release(&self.file) {
            tracing::warn!(%error, "letting go of a lock");
        }
    }
}

/// Memory for direct I/O without glommio: a vector with room to begin at a block boundary.
pub(super) struct Aligned {
    memory: Vec<u8>,
    bytes: usize,
}

impl Aligned {
    pub(super) fn zeroed(bytes: usize) -> Self {
        Self { memory: vec![0; bytes + BLOCK_BYTES], bytes }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let skip = self.memory.as_ptr().align_offset(BLOCK_BYTES);
        &mut self.memory[skip..][..self.bytes]
    }
}

/// Transfers all of `bytes` by direct I/O; `rest` transfers what it can from an offset on.
///
/// A transfer may be short, by any number of sectors. The rest begins at a block again: within one it would be refused by
/// devices whose sectors have 4 KiB.
pub(super) fn transfer(
    bytes: usize,
    mut rest: impl FnMut(usize) -> std::io::Result<usize>,
) -> std::io::Result<()> {
    let (mut done, mut again) = (0, 0);
    while done < bytes {
        let more = match rest(done) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        let next = whole_blocks(done + more, bytes);
        again = if next > done { 0 } else { again + 1 };
        if again > AGAIN_MAX {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        done = next;
    }
    Ok(())
}

/// Where to go on after `done` of `bytes` bytes.
pub(super) fn whole_blocks(done: usize, bytes: usize) -> usize {
    if done >= bytes { bytes } else { done - done % BLOCK_BYTES }
}

/// An error of std as one of ours.
pub(super) fn failed(path: &Path, what: &'static str, error: &std::io::Error) -> OpenError {
    of_errno(path, what, super::errno_of(error.raw_os_error()))
}

fn of_errno(path: &Path, what: &'static str, errno: Errno) -> OpenError {
    match errno {
        Errno::MFILE | Errno::NFILE => Missing::Descriptors.into(),
        errno => OpenError::Io { path: path.to_owned(), what, errno: errno.raw_os_error() },
    }
}

fn inode_of(metadata: &Metadata) -> Inode {
    Inode { device: metadata.dev(), number: metadata.ino() }
}

/// Whether a block device refuses writes; the kernel lets it be opened for them all the same.
fn is_read_only(device: u64) -> bool {
    let flag = format!("/sys/dev/block/{}:{}/ro", major(device), minor(device));
    std::fs::read_to_string(flag).is_ok_and(|flag| flag.trim() == "1")
}

/// One attempt to open and lock. None: another handle has it.
///
/// A block device is claimed with O_EXCL, which other programs heed too, by a writer for as long as it is open. Readers, of
/// which there may be several, claim it for a moment only, to see that nobody has.
fn attempt(path: &Path, access: Access, kind: Kind) -> Result<Option<File>, OpenError> {
    let is_claimed = kind == Kind::BlockDevice;
    if is_claimed && access == Access::ReadOnly && open_direct(path, access, OFlags::EXCL)?.is_none() {
        return Ok(None);
    }
    let claim = if is_claimed && access == Access::ReadWrite { OFlags::EXCL } else { OFlags::empty() };
    let Some(file) = open_direct(path, access, claim)? else { return Ok(None) };
    lock::claim(file, access).map_err(|error| OpenError::Io {
        path: path.to_owned(),
        what: "locking it",
        errno: error.raw_os_error(),
    })
}

/// None: it is a block device that is claimed.
fn open_direct(path: &Path, access: Access, more: OFlags) -> Result<Option<File>, OpenError> {
    let flags = OFlags::DIRECT | more;
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    file.map(Some).or_else(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) if more.contains(OFlags::EXCL) => Ok(None),
        Some(Errno::INVAL) => Err(OpenError::Unsupported {
            path: path.to_owned(),
            what: "its file system cannot do direct I/O",
        }),
        _ => Err(failed(path, "opening it", &error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel may transfer any number of sectors. The rest used to begin right behind them, which a device with sectors
    /// of 4 KiB refuses as unaligned.
    #[test]
    fn the_rest_of_a_short_transfer_begins_at_a_block() {
        let mut begun = Vec::new();
        let mut answers = [512, 4096 + 512, 3584, 12288].into_iter();
        let outcome = transfer(16384, |done| {
            begun.push(done);
            Ok(answers.next().expect("few"))
        });
        assert!(outcome.is_ok());
        assert_eq!(begun, [0, 0, 4096, 4096]);
        let mut tries = 0;
        let outcome = transfer(8192, |_| {
            tries += 1;
            Ok(512)
        });
        assert!(outcome.is_err() && tries == usize::from(AGAIN_MAX) + 1, "it gets nowhere");
        assert!(transfer(4096, |_| Ok(0)).is_err(), "the end of the file");
        // What is asked for need not end at a block.
        assert!(transfer(5000, |done| Ok(5000 - done)).is_ok());
    }
}
