//! Open: the first description of a device: what kind of thing it is, how large, and that nobody else has it.
//!
//! Everything here is std and rustix on the caller's thread, before any engine thread exists. The size of a block
//! device is where its end is, by seeking: stat says 0. The description is O_DIRECT like those that do the I/O, so
//! that opening fails where they would, and so that [`Target::read_at`] sees what is on the device and leaves nothing
//! in the page cache.
//!
//! The other descriptions are opened through [`Target::reopen_path`], a link in /proc that leads to this very inode,
//! whatever has happened to the path since.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fstat, major, minor};
use rustix::io::Errno;
use seabed_types::BLOCK_BYTES;

use super::lock::{self, Inode};
use crate::{Geometry, OpenError};

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
    bytes: u64,
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
        let mut target = Self { path: path.to_owned(), file, access, kind, inode, bytes: 0 };
        target.bytes = target.size()?;
        Ok(target)
    }

    /// Checks the size.
    pub(super) fn with_size(mut self) -> Result<Self, OpenError> {
        self.bytes = self.size()?;
        if self.bytes == 0 || !self.bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(OpenError::BadSize { path: self.path.clone(), bytes: self.bytes });
        }
        Ok(self)
    }

    fn size(&self) -> Result<u64, OpenError> {
        (&self.file).seek(SeekFrom::End(0)).map_err(|error| failed(&self.path, "finding its end", &error))
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

    pub(super) fn geometry(&self) -> Geometry {
        Geometry { bytes: self.bytes, wants_first_write: self.kind == Kind::File }
    }

    /// A path that opens the same inode again, for as long as this lives.
    pub(super) fn reopen_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Checks that a further description is of the same inode and size and has the flags that were asked for, and
    /// takes the lock on it.
    ///
    /// Libraries look at the file system to decide on O_DIRECT and are misled by block devices, whose nodes lie in a
    /// file system in memory: so the flags are read back.
    pub(super) fn admit(&self, further: BorrowedFd<'_>, flags: OFlags) -> Result<(), OpenError> {
        let errno = |what| move |error: Errno| self.io(what, error);
        let stat = fstat(further).map_err(errno("looking at it again"))?;
        let is_same = (Inode { device: stat.st_dev, number: stat.st_ino }) == self.inode;
        let is_whole = self.kind == Kind::BlockDevice || u64::try_from(stat.st_size) == Ok(self.bytes);
        if !is_same || !is_whole {
            return Err(self.unsupported("it was replaced or resized while it was being opened"));
        }
        let has = fcntl_getfl(further).map_err(errno("reading its flags"))?;
        if !has.contains(flags) {
            return Err(self.unsupported("direct or synchronous I/O, which the kernel ignored"));
        }
        lock::share(further).map_err(|error| match error {
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
        self.file
            .read_exact_at(aligned.bytes_mut(), first)
            .map_err(|error| failed(&self.path, "reading it", &error))?;
        bytes.copy_from_slice(&aligned.bytes_mut()[skip..][..bytes.len()]);
        Ok(())
    }

    pub(super) fn unsupported(&self, what: &'static str) -> OpenError {
        OpenError::Unsupported { path: self.path.clone(), what }
    }

    pub(super) fn io(&self, what: &'static str, error: Errno) -> OpenError {
        OpenError::Io { path: self.path.clone(), what, errno: error.raw_os_error() }
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

/// An error of std as one of ours.
pub(super) fn failed(path: &Path, what: &'static str, error: &std::io::Error) -> OpenError {
    let errno = super::errno_of(error.raw_os_error());
    OpenError::Io { path: path.to_owned(), what, errno: errno.raw_os_error() }
}

fn inode_of(metadata: &Metadata) -> Inode {
    Inode { device: metadata.dev(), number: metadata.ino() }
}

/// Whether a block device refuses writes; the kernel lets it be opened for them all the same.
fn is_read_only(device: u64) -> bool {
    let flag = format!("/sys/dev/block/{}:{}/ro", major(device), minor(device));
    std::fs::read_to_string(flag).is_ok_and(|flag| flag.trim() == "1")
}

/// Opens and locks once. None: another description has the device.
fn attempt(path: &Path, access: Access, kind: Kind) -> Result<Option<File>, OpenError> {
    let mut flags = OFlags::DIRECT;
    if kind == Kind::BlockDevice {
        flags |= OFlags::EXCL;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::BUSY) if kind == Kind::BlockDevice => Ok(None),
                Some(Errno::INVAL) => Err(OpenError::Unsupported {
                    path: path.to_owned(),
                    what: "its file system cannot do direct I/O",
                }),
                _ => Err(failed(path, "opening it", &error)),
            };
        }
    };
    lock::claim(file).map_err(|error| OpenError::Io {
        path: path.to_owned(),
        what: "locking it",
        errno: error.raw_os_error(),
    })
}
