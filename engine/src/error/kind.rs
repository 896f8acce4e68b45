//! Error kind: what a caller can do about an error, and the error as one of the standard library's.
//!
//! [`Error`] says what happened, in as many variants as there are causes, and gets more of them; [`ErrorKind`] groups them by
//! what a program decides: answer "not found", wait for space, retry, give up. Every error has exactly one kind, whichever
//! call it came from: an object that does not exist is [`ErrorKind::NotFound`] from a read and from a transaction alike.
//!
//! The conversion to [`std::io::Error`] keeps the [`Error`] inside: `error.get_ref()` and `downcast_ref` find it again.

use std::io;

use seabed_device::{DeviceError, OpenError};
use seabed_object::Refused;
use seabed_segment::SuperblockError;

use super::Error;

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object, attribute, pool or device does not exist.
    NotFound,
    /// The object, the pool or the data at the path of a new store exists already.
    AlreadyExists,
    /// A condition of the transaction does not hold.
    PreconditionFailed,
    /// An argument breaks a rule, whatever the state of the store is.
    Invalid,
    /// The request is over a limit of the store, of its options or of one record.
    TooLarge,
    /// The read handle shows a version that the store does not keep any more: open another.
    Expired,
    /// There is no space for it at present.
    OutOfSpace,
    /// The memory budget is too small.
    OutOfMemory,
    /// The store was opened read-only.
    ReadOnly,
    /// The store was closed.
    Closed,
    /// Another process or handle uses the device.
    InUse,
    /// Code of the caller that ran on the engine's thread panicked.
    Panicked,
    /// The engine has too much unfinished work; nothing was sent.
    Busy,
    /// The path is not a store that this program can open, or the system lacks what the engine needs.
    Unsupported,
    /// Stored bytes are damaged.
    Corrupt,
    /// The device or the system reported a failure.
    Device,
    /// The engine stopped after a failure: the store has to be opened again, which shows what of the unacknowledged changes
    /// is there.
    Stopped,
}

impl ErrorKind {
    /// Whether the same call may succeed later although the caller changes nothing: [`ErrorKind::OutOfSpace`] (space comes
    /// back in the background), [`ErrorKind::InUse`],
    /// [`ErrorKind::Busy`] and [`ErrorKind::Device`] (a failed read, after the engine's own
    /// retries). Nothing of the failed call was applied then, so a retry cannot apply it twice.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::OutOfSpace | Self::InUse | Self::Busy | Self::Device)
    }
}

impl Error {
    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(error) => match error {
                OpenError::InUse { .. } => ErrorKind::InUse,
                OpenError::HoldsData { .. } => ErrorKind::AlreadyExists,
                OpenError::BadSize { .. } | OpenError::WholeDevice { .. } => ErrorKind::Invalid,
                OpenError::NotADevice { .. } | OpenError::Unsupported { .. } | OpenError::Missing(_) => {
                    ErrorKind::Unsupported
                }
                OpenError::Panicked | OpenError::Interrupted { .. } => ErrorKind::Stopped,
                OpenError::Io { errno, .. } => of_system(*errno),
                _ => ErrorKind::Device,
            },
            Self::Superblock(error) => match error {
                SuperblockError::Damaged(_) | SuperblockError::Layout(_) => ErrorKind::Corrupt,
                SuperblockError::NotAStore
                | SuperblockError::Version(_)
                | SuperblockError::UnknownFeatures(_)
                | _ => ErrorKind::Unsupported,
            },
            Self::Refused { why, .. } => match why {
                Refused::NotFound => ErrorKind::NotFound,
                Refused::AlreadyExists => ErrorKind::AlreadyExists,
                Refused::PreconditionFailed => ErrorKind::PreconditionFailed,
                Refused::TooLarge { .. } => ErrorKind::TooLarge,
                Refused::Invalid { .. } | _ => ErrorKind::Invalid,
            },
            Self::Device(DeviceError::ReadOnly) | Self::ReadOnly => ErrorKind::ReadOnly,
            Self::Device(_) => ErrorKind::Device,
            Self::NotFound | Self::NoSuchAttr | Self::NoSuchPool { .. } | Self::NoSuchPoolId { .. } => {
                ErrorKind::NotFound
            }
            Self::PoolExists { .. } => ErrorKind::AlreadyExists,
            Self::Layout(_) | Self::Invalid { .. } | Self::SystemPool | Self::WouldBlock => {
                ErrorKind::Invalid
            }
            Self::TooManyPools { .. }
            | Self::TooLarge { .. }
            | Self::ReadTooLarge { .. }
            | Self::TooManyHandles { .. } => ErrorKind::TooLarge,
            Self::Expired => ErrorKind::Expired,
            Self::NoSpace { .. } => ErrorKind::OutOfSpace,
            Self::TooManyStreams { .. } | Self::MemoryBudget { .. } => ErrorKind::OutOfMemory,
            Self::Closed => ErrorKind::Closed,
            Self::Backlog { .. } => ErrorKind::Busy,
            Self::Panicked { .. } => ErrorKind::Panicked,
            Self::Fenced(_) => ErrorKind::Stopped,
            Self::WrongSize { .. } | Self::Corrupt { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
        }
    }

    /// Whether the same call may succeed later although the caller changes nothing; see [`ErrorKind::is_retryable`].
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

/// What the system's error number means for opening or creating a device.
fn of_system(errno: i32) -> ErrorKind {
    let kinds = [
        (io::ErrorKind::NotFound, ErrorKind::NotFound),
        (io::ErrorKind::AlreadyExists, ErrorKind::AlreadyExists),
        (io::ErrorKind::StorageFull, ErrorKind::OutOfSpace),
        (io::ErrorKind::QuotaExceeded, ErrorKind::OutOfSpace),
        (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::ReadOnly),
        (io::ErrorKind::OutOfMemory, ErrorKind::OutOfMemory),
        (io::ErrorKind::ResourceBusy, ErrorKind::InUse),
        (io::ErrorKind::Unsupported, ErrorKind::Unsupported),
    ];
    let kind = io::Error::from_raw_os_error(errno).kind();
    kinds.into_iter().find(|(of, _)| *of == kind).map_or(ErrorKind::Device, |(_, means)| means)
}

impl From<ErrorKind> for io::ErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AlreadyExists => Self::AlreadyExists,
            ErrorKind::Invalid => Self::InvalidInput,
            ErrorKind::TooLarge => Self::FileTooLarge,
            ErrorKind::OutOfSpace => Self::StorageFull,
            ErrorKind::OutOfMemory => Self::OutOfMemory,
            ErrorKind::ReadOnly => Self::ReadOnlyFilesystem,
            ErrorKind::Closed => Self::NotConnected,
            ErrorKind::InUse | ErrorKind::Busy => Self::ResourceBusy,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Corrupt => Self::InvalidData,
            ErrorKind::PreconditionFailed
            | ErrorKind::Expired
            | ErrorKind::Device
            | ErrorKind::Stopped
            | ErrorKind::Panicked => Self::Other,
        }
    }
}

/// Of the kind that fits best, with the [`Error`] inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind().into(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_absent_object_is_one_kind() {
        let refused = Error::Refused { op: 3, why: Refused::NotFound };
        assert_eq!(Error::NotFound.kind(), refused.kind());
        assert_eq!(Error::NoSuchPool { name: "p".into() }.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_may_be_retried() {
        let full = Error::NoSpace { live: 1, usable: 1, reserved: 1, free_segments: 0 };
        let in_use = Error::Open(OpenError::InUse { path: "s".into(), holder: Some(1) });
        assert!(full.is_retryable());
        assert!(in_use.is_retryable());
        let read = seabed_device::IoKind::Read;
        let failed = DeviceError::Io { kind: read, at: 0, bytes: 4096, errno: 5 };
        assert!(Error::Device(failed).is_retryable());
        // Whether what was being written when the engine stopped is there, only the next open shows.
        assert!(!Error::Fenced(failed.into()).is_retryable());
        assert!(!Error::NotFound.is_retryable());
        assert!(!Error::Refused { op: 0, why: Refused::PreconditionFailed }.is_retryable());
    }

    #[test]
    fn an_io_error_keeps_the_error() {
        let error = io::Error::from(Error::PoolExists { name: "p".into() });
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<Error>());
        assert_eq!(inside, Some(&Error::PoolExists { name: "p".into() }));
        assert_eq!(error.to_string(), Error::PoolExists { name: "p".into() }.to_string());
    }

    #[test]
    fn only_known_locations_are_named() {
        use seabed_journal::FenceCause;
        use seabed_types::{Paddr, SegmentId};
        let what = "a tree node: checksum";
        let at = Paddr::new(SegmentId(7), 4096);
        let known = Error::corrupt(at, what).to_string();
        assert_eq!(known, format!("corrupt at {at}: {what}"));
        assert_eq!(Error::Corrupt { at: None, what }.to_string(), format!("corrupt: {what}"));
        let fenced = Error::from(FenceCause::Corrupt { at: Some(at), what });
        assert_eq!(fenced.to_string(), format!("the store stopped after a failure: {known}"));
        assert_eq!(fenced.kind(), ErrorKind::Stopped);
    }

    #[test]
    fn a_missing_store_is_not_found() {
        let missing = OpenError::Io { path: "s".into(), what: "opening", errno: 2 };
        assert_eq!(Error::Open(missing).kind(), ErrorKind::NotFound);
    }
}
