//! Exit: how a command ended, as a code for scripts and a message for people. The only place where codes are given.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | done, but for some items, each of which was named |
//! | 2 | the command or what it was given cannot be |
//! | 3 | no such store, pool, object, attribute or key |
//! | 4 | no space in the store |
//! | 5 | corrupt |
//! | 6 | in use |
//! | 7 | not a store, or one that this program does not know |
//! | 8 | the device or the system failed |
//! | 9 | the file system that output goes to is full, or a quota of it is used up |
//! | 128 + n | ended by signal n (130: Ctrl-C), cleanly |
#![expect(
    clippy::match_same_arms,
    reason = "every known error is listed, so that a look at the list is enough"
)]

use std::io;
use std::path::Path;

use rustix::io::Errno;
use seabed::SuperblockError;
use seabed::device::OpenError;
use seabed::{Error, Refused};

use crate::stderr;

/// The code that the process ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Done,
    SomeFailed,
    Usage,
    NotFound,
    NoSpace,
    Corrupt,
    InUse,
    NotAStore,
    Io,
    /// Of the file system that output goes to, not of the store.
    DiskFull,
    /// A signal asked for the end.
    Signal(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::SomeFailed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NoSpace => 4,
            Self::Corrupt => 5,
            Self::InUse => 6,
            Self::NotAStore => 7,
            Self::Io => 8,
            Self::DiskFull => 9,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// Why a command did not do what it was asked: what, where, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Empty if there is nothing to tell (the reader of our output went away).
    pub(crate) message: String,
    /// A second line: what to do.
    pub(crate) advice: Option<String>,
}

const DISK_FULL_ADVICE: &str = "free space on that file system, or write to another one";

/// A command's outcome.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), advice: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what to do, unless that is said already.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.get_or_insert_with(|| advice.into());
        self
    }

    /// A failure of the system at a path.
    pub(crate) fn io(path: &Path, doing: &str, error: &io::Error) -> Self {
        let shown = crate::names::for_terminal(crate::names::bytes_of(path.as_os_str()));
        let exit = exit_of_io(error);
        let failure = Self::new(exit, format!("{shown}: {doing}: {}", plain(error)));
        if exit == Exit::DiskFull { failure.advise(DISK_FULL_ADVICE) } else { failure }
    }

    /// A failure of the engine; `at` says what it was about (`pool "a", object "b"`).
    pub(crate) fn engine(at: &str, error: &Error) -> Self {
        let colon = if at.is_empty() { "" } else { ": " };
        let said = if let Error::Refused { why, .. } = error {
            // The transaction is the command's own: which operation of it failed says nothing to its user.
            why.to_string()
        } else {
            without_number(&error.to_string()).to_owned()
        };
        let failure = Self::new(exit_of(error), format!("{at}{colon}{said}"));
        match advice_for(error) {
            Some(advice) => failure.advise(advice),
            None => failure,
        }
    }

    /// A failure to write our own output. Whoever read it may go away: that is no failure to tell of.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, "");
        }
        let exit = if is_full(error) { Exit::DiskFull } else { Exit::Io };
        Self::new(exit, format!("writing the output: {}", plain(error)))
    }

    /// Whether what comes next would fail in the same way, so that going on makes no sense.
    pub(crate) fn ends_all(&self) -> bool {
        match self.exit {
            Exit::NoSpace | Exit::Io | Exit::DiskFull | Exit::InUse | Exit::NotAStore | Exit::Signal(_) => {
                true
            }
            Exit::Done | Exit::SomeFailed | Exit::Usage | Exit::NotFound | Exit::Corrupt => false,
        }
    }

    /// Tells it on stderr.
    pub(crate) fn report(&self) {
        if !self.message.is_empty() {
            stderr::line(&format!("seabed: {}", self.message));
        }
        if let Some(advice) = &self.advice {
            stderr::line(&format!("  {advice}"));
        }
    }
}

/// An error of the system without its number, as `No such file or directory`.
pub(crate) fn plain(error: &io::Error) -> String {
    without_number(&error.to_string()).to_owned()
}

/// A message without the number of the system's error at its end.
fn without_number(message: &str) -> &str {
    match message.rsplit_once(" (os error ") {
        Some((plain, number)) if number.ends_with(')') => plain,
        _ => message,
    }
}

/// Whether a file system, or a quota of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn exit_of_io(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::NotFound {
        Exit::NotFound
    } else if is_full(error) {
        Exit::DiskFull
    } else {
        Exit::Io
    }
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Open(error) => exit_of_open(error),
        Error::Superblock(why) => exit_of_superblock(why),
        Error::Refused { why, .. } => exit_of_refused(*why),
        Error::NotFound | Error::NoSuchAttr | Error::NoSuchPool { .. } | Error::NoSuchPoolId { .. } => {
            Exit::NotFound
        }
        Error::NoSpace { .. } | Error::TooManyPools { .. } => Exit::NoSpace,
        Error::Expired => Exit::SomeFailed,
        Error::Layout(_)
        | Error::PoolExists { .. }
        | Error::SystemPool
        | Error::Invalid { .. }
        | Error::TooLarge { .. }
        | Error::TooManyStreams { .. }
        | Error::ReadTooLarge { .. }
        | Error::TooManyHandles { .. }
        | Error::ReadOnly
        | Error::WouldBlock
        | Error::MemoryBudget { .. } => Exit::Usage,
        Error::Corrupt { .. } | Error::Damaged { .. } | Error::WrongSize { .. } => Exit::Corrupt,
        Error::Device(_)
        | Error::Fenced(_)
        | Error::Closed
        | Error::Backlog { .. }
        | Error::Panicked { .. } => Exit::Io,
        _ => Exit::Io,
    }
}

fn exit_of_open(error: &OpenError) -> Exit {
    match error {
        OpenError::InUse { .. } => Exit::InUse,
        OpenError::NotADevice { .. } | OpenError::BadSize { .. } => Exit::NotAStore,
        OpenError::HoldsData { .. } | OpenError::WholeDevice { .. } => Exit::Usage,
        OpenError::Io { errno, .. } => exit_of_io(&io::Error::from_raw_os_error(*errno)),
        OpenError::Missing(_)
        | OpenError::Unsupported { .. }
        | OpenError::Interrupted { .. }
        | OpenError::Panicked => Exit::Io,
        _ => Exit::Io,
    }
}

fn exit_of_superblock(error: &SuperblockError) -> Exit {
    match error {
        SuperblockError::NotAStore | SuperblockError::Version(_) | SuperblockError::UnknownFeatures(_) => {
            Exit::NotAStore
        }
        SuperblockError::Damaged(_) | SuperblockError::Layout(_) => Exit::Corrupt,
        _ => Exit::NotAStore,
    }
}

fn exit_of_refused(why: Refused) -> Exit {
    match why {
        Refused::NotFound => Exit::NotFound,
        Refused::AlreadyExists | Refused::PreconditionFailed => Exit::SomeFailed,
        Refused::Invalid { .. } | Refused::TooLarge { .. } => Exit::Usage,
        _ => Exit::Usage,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most errors say all there is to say")]
fn advice_for(error: &Error) -> Option<&'static str> {
    let advice = match error {
        Error::Open(OpenError::InUse { .. }) => {
            "one process at a time has a store: wait for it longer with --wait SECONDS, or end it"
        }
        Error::Open(OpenError::HoldsData { .. }) => {
            "--force makes the store all the same; what is there is lost"
        }
        Error::Open(OpenError::BadSize { .. } | OpenError::NotADevice { .. }) => {
            "a store is made with `seabed format STORE --size 10G`"
        }
        Error::Open(OpenError::WholeDevice { .. }) => "leave --size out, or make a partition of that size",
        // What looks at the path first: later there was something.
        Error::Open(OpenError::Io { errno, what, .. }) => match Errno::from_raw_os_error(*errno) {
            Errno::NOENT if *what == "looking at it" => {
                "a store is made with `seabed format STORE --size 10G`"
            }
            Errno::ACCESS | Errno::PERM => "look at the permissions of the file and of the folders above it",
            _ => return None,
        },
        Error::Open(OpenError::Unsupported { .. }) => {
            "put the store on a local disk (ext4, xfs) or a block device"
        }
        Error::Superblock(why) => match why {
            SuperblockError::NotAStore => "look at the path; a store is made with `seabed format`",
            SuperblockError::Version(_) | SuperblockError::UnknownFeatures(_) => {
                "open it with the program that made it"
            }
            SuperblockError::Damaged(_) | SuperblockError::Layout(_) => "`seabed check` says what is left",
            _ => return None,
        },
        Error::Corrupt { .. } | Error::Damaged { .. } | Error::WrongSize { .. } => {
            "`seabed check` says what is damaged and what is not"
        }
        Error::NoSpace { .. } => {
            "remove objects; `seabed clean` frees what is dead, `seabed stats` says how much that is"
        }
        Error::NoSuchPool { .. } => "`seabed ls STORE` lists the pools",
        Error::NoSuchAttr => "`seabed attr ls STORE POOL NAME` lists the attributes",
        Error::MemoryBudget { .. } | Error::ReadTooLarge { .. } => "give more with --memory",
        _ => return None,
    };
    Some(advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seabed::device::{DeviceError, IoKind, Missing};

    fn open_io(errno: i32) -> OpenError {
        OpenError::Io { path: "s".into(), what: "opening it", errno }
    }

    #[test]
    fn each_error_has_its_code() {
        let path = || std::path::PathBuf::from("s");
        let superblock = Error::Superblock;
        let refused = |why| Error::Refused { op: 0, why };
        let io = DeviceError::Io { kind: IoKind::Read, at: 0, bytes: 1, errno: 5 };
        for (error, code) in [
            (Error::Open(OpenError::InUse { path: path(), holder: Some(7) }), 6),
            (Error::Open(OpenError::NotADevice { path: path() }), 7),
            (Error::Open(OpenError::HoldsData { path: path() }), 2),
            (Error::Open(open_io(2)), 3),
            (Error::Open(open_io(13)), 8),
            (Error::Open(open_io(28)), 9),
            (Error::Open(open_io(122)), 9),
            (Error::Open(Missing::Uring.into()), 8),
            (superblock(SuperblockError::NotAStore), 7),
            (superblock(SuperblockError::Version(9)), 7),
            (superblock(SuperblockError::UnknownFeatures(1)), 7),
            (superblock(SuperblockError::Damaged("checksum")), 5),
            (refused(Refused::NotFound), 3),
            (refused(Refused::AlreadyExists), 1),
            (refused(Refused::Invalid { what: "x" }), 2),
            (Error::NotFound, 3),
            (Error::NoSuchAttr, 3),
            (Error::NoSuchPool { name: "p".into() }, 3),
            (Error::Device(io), 8),
        ] {
            assert_eq!(exit_of(&error).code(), code, "{error}");
        }
        assert_eq!(Exit::Signal(2).code(), 130);
    }

    #[test]
    fn what_ends_a_run_of_many_items() {
        for (exit, ends) in [
            (Exit::NoSpace, true),
            (Exit::Io, true),
            (Exit::DiskFull, true),
            (Exit::NotFound, false),
            (Exit::Corrupt, false),
            (Exit::Usage, false),
        ] {
            assert_eq!(Failure::new(exit, "x").ends_all(), ends, "{exit:?}");
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Done, ""));
    }
}
