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
    /// Its size is not usable.
    #[error("{} has {bytes} bytes, which is not a multiple of 4096 or is none at all", path.display())]
    BadSize {
        /// The path.
        path: PathBuf,
        /// Its size.
        bytes: u64,
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
