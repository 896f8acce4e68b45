//! Errors: what a device operation and the opening of a device can fail with, cheap to copy and to send.

use std::path::PathBuf;

/// Which operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoKind {
    /// A read.
    Read,
    /// A write, cached or durable.
    Write,
    /// A flush.
    Flush,
    /// A discard.
    Discard,
}

impl std::fmt::Display for IoKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
        })
    }
}

/// A device operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The medium or the kernel refused it.
    #[error("{kind} of {bytes} bytes at device offset {at}: {}", std::io::Error::from_raw_os_error(*errno))]
    Io {
        /// Which operation.
        kind: IoKind,
        /// Device offset; 0 for a flush.
        at: u64,
        /// Length; 0 for a flush.
        bytes: u64,
        /// The error number, as `EIO`.
        errno: i32,
    },
    /// A range that is not on the device.
    #[error("{kind} of {bytes} bytes at device offset {at} reaches past the device's end")]
    OutOfRange {
        /// Which operation.
        kind: IoKind,
        /// Device offset.
        at: u64,
        /// Length.
        bytes: u64,
    },
    /// A write to a device that was opened for reading.
    #[error("the device was opened read-only")]
    ReadOnly,
    /// A write to a device whose user has stopped after a failure of its own.
    #[error("the device takes no more writes: its user has stopped")]
    Stopped,
}

/// What a machine lacks, or does not give the process, that an engine needs. The text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// A seccomp filter forbids io_uring.
    #[error(
        "io_uring is not allowed for this process: allow the system calls io_uring_setup, io_uring_enter and \
         io_uring_register in its seccomp filter (container runtimes have one)"
    )]
    UringForbidden,
    /// The administrator has disabled io_uring.
    #[error("io_uring is disabled by the sysctl kernel.io_uring_disabled={setting}: set it to 0")]
    UringDisabled {
        /// 1: allowed only to processes with CAP_SYS_ADMIN or of the group kernel.io_uring_group; 2: to none.
        setting: u8,
    },
    /// The kernel has no io_uring, or a sandbox hides it.
    #[error("there is no io_uring: run on Linux 6.1 or later, outside of sandboxes that hide it")]
    Uring,
    /// The io_uring of the kernel lacks operations.
    #[error("the io_uring of this kernel lacks operations: run on Linux 6.1 or later")]
    UringTooOld,
    /// The kernel has no memory for an io_uring.
    #[error(
        "the kernel has no memory for an io_uring: raise the memory limit of the control group or ulimit -l"
    )]
    UringMemory,
    /// An io_uring could not be made for another reason.
    #[error("io_uring does not work here: {}", std::io::Error::from_raw_os_error(*errno))]
    UringFailed {
        /// The error number.
        errno: i32,
    },
    /// The process may lock too little memory.
    #[error(
        "the process may lock {} KiB of memory and needs {} KiB: raise ulimit -l (LimitMEMLOCK of systemd)",
        allowed >> 10,
        needed >> 10
    )]
    LockableMemory {
        /// Bytes that it may lock.
        allowed: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// No further thread can be started.
    #[error(
        "no further thread can be started: raise ulimit -u or the limit of tasks of the control group (pids.max)"
    )]
    Threads,
    /// No further file can be opened.
    #[error("no further file can be opened: raise ulimit -n")]
    Descriptors,
}

/// A device could not be opened or created.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another handle of this one) has it open.
    #[error("{} is in use by {}", path.display(), match holder { Some(pid) => format!("process {pid}"), None => "another process".into() })]
    InUse {
        /// The device.
        path: PathBuf,
        /// The process that holds the lock, where the kernel tells.
        holder: Option<u32>,
    },
    /// It is neither a file nor a block device.
    #[error("{} is neither a regular file nor a block device", path.display())]
    NotADevice {
        /// The path.
        path: PathBuf,
    },
    /// Its size is not usable: none at all, or not a multiple of 4096 where it can be chosen.
    #[error("{}: a size of {bytes} bytes, which is not a positive multiple of 4096", path.display())]
    BadSize {
        /// The path.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A block device is used whole.
    #[error("{} has {has} bytes and is used whole, not {asked} bytes of it", path.display())]
    WholeDevice {
        /// The device.
        path: PathBuf,
        /// Its size, rounded down to a multiple of 4096.
        has: u64,
        /// The size that was asked for.
        asked: u64,
    },
    /// The machine lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// [`crate::glommio_host::CreateOptions::cancel`] was set. What was done is undone.
    #[error("{}: interrupted", path.display())]
    Interrupted {
        /// The path.
        path: PathBuf,
    },
    /// Something is there already, and was not to be overwritten.
    #[error("{} already holds data", path.display())]
    HoldsData {
        /// The path.
        path: PathBuf,
    },
    /// The file system or kernel cannot do what is needed.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The path.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Anything else that the kernel said.
    #[error("{}: {}: {}", path.display(), what, std::io::Error::from_raw_os_error(*errno))]
    Io {
        /// The path.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The error number.
        errno: i32,
    },
    /// A thread of the host panicked.
    #[error("an engine thread panicked")]
    Panicked,
}
