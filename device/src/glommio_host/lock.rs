//! Lock: one writer on a device at a time, or several readers, across processes and within one.
//!
//! The lock is on the descriptions that the I/O goes through, so that it lasts exactly as long as a write can still be on
//! its way. A writer takes the exclusive flock (and, on a block device, claims it with O_EXCL), then turns it into a shared
//! one, which every further description of the same handle takes too ([`share`]). A second writer cannot have the exclusive
//! lock while one of them is open, hence never reaches the shared one.
//!
//! A reader takes the shared flock, which keeps writers out and lets other readers in. As the descriptions of a writer hold
//! a shared flock as well, each of them also locks one byte of its own by an OFD lock, which belongs to the description as a
//! flock does; a reader takes a shared OFD lock of the whole range, which it cannot have while a description of a writer is
//! open, also of a killed one whose writes the kernel has not finished. Newcomers that meet within these steps refuse one
//! another, and ask again.
//!
//! Turning exclusive into shared is one step under the kernel's spinlock since Linux 4.1; older kernels let go in
//! between, but they have no io_uring. A refusal there still counts as "another has it".
//!
//! A refused newcomer asks again until its wait is over, and then looks up the holder in /proc/locks to name it. A process
//! that was killed keeps its lock until the kernel has finished its I/O, some 20 ms after it is gone, and seconds on a
//! slow device: a holder that is exiting is waited for longer.
//!
//! Limits: flock must be that of a local file system. On file systems whose inodes have another device number in
//! /proc/locks than in stat (btrfs, overlayfs), without /proc, and in another pid namespace the holder is not found: the
//! error then names none.
//! Not here: who opens what ([`super::open`]).

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::open::Access;
use crate::OpenError;

/// How often a refused newcomer asks again.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// How long a newcomer that waits at all waits for a holder that is exiting.
const EXITING_WAIT: Duration = Duration::from_secs(30);

/// Field of /proc/PID/stat, counted from the one behind the name, and the bit in it that says "is exiting".
const STAT_FLAGS_FIELD: usize = 6;
const FLAG_EXITING: u64 = 0x4;

/// Which inode a lock is on, as /proc/locks writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Inode {
    pub(super) device: u64,
    pub(super) number: u64,
}

/// The byte that the first description of a writer locks; further ones lock bytes behind it.
pub(super) const FIRST_BYTE: u32 = 0;

/// Takes the lock on the first description of a handle. None: another handle has it.
pub(super) fn claim(file: File, access: Access) -> Result<Option<File>, Errno> {
    let is_granted = match access {
        Access::ReadWrite => {
            let is_free = seabed_types::seeded!(36)
                || flocked(&file, FlockOperation::NonBlockingLockExclusive)?
                    && ranged(&file, Range::Byte(FIRST_BYTE))?;
            is_free && flocked(&file, FlockOperation::NonBlockingLockShared)?
        }
        Access::ReadOnly => {
            ranged(&file, Range::All)? && flocked(&file, FlockOperation::NonBlockingLockShared)?
        }
    };
    Ok(is_granted.then_some(file))
}

/// Takes the lock on a further description of a handle that has it. `byte`: of this description alone.
pub(super) fn share(file: impl AsFd, access: Access, byte: u32) -> Result<(), Errno> {
    let range = match access {
        Access::ReadWrite => Range::Byte(byte),
        Access::ReadOnly => Range::All,
    };
    let is_granted = flocked(&file, FlockOperation::NonBlockingLockShared)? && ranged(&file, range)?;
    if is_granted { Ok(()) } else { Err(Errno::WOULDBLOCK) }
}

/// Lets go at once, instead of when the kernel gets round to closing the description.
pub(super) fn release(file: impl AsFd) -> Result<(), Errno> {
    let ranges = ranged(&file, Range::None);
    flock(file, FlockOperation::NonBlockingUnlock)?;
    ranges.map(|_| ())
}

fn flocked(file: impl AsFd, operation: FlockOperation) -> Result<bool, Errno> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a description locks by an OFD lock.
#[derive(Clone, Copy)]
enum Range {
    /// One byte, exclusively.
    Byte(u32),
    /// All bytes, shared.
    All,
    /// Nothing any more.
    None,
}

fn ranged(file: impl AsFd, range: Range) -> Result<bool, Errno> {
    if seabed_types::seeded!(36) {
        return Ok(true);
    }
    let (kind, first, bytes) = match range {
        Range::Byte(byte) => (libc::F_WRLCK, i64::from(byte), 1),
        Range::All => (libc::F_RDLCK, 0, 0),
        Range::None => (libc::F_UNLCK, 0, 0),
    };
    let small = |number: i32| i16::try_from(number).expect("a small constant");
    let (l_type, l_whence) = (small(kind), small(libc::SEEK_SET));
    let lock = libc::flock { l_type, l_whence, l_start: first, l_len: bytes, l_pid: 0 };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(true),
        Err(error) => {
            let error = std::io::Error::from(error);
            let is_held = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied);
            if is_held { Ok(false) } else { Err(super::errno_of(error.raw_os_error())) }
        }
    }
}

/// Attempts until it has the lock or `wait` has passed. None from an attempt: another description has the lock.
pub(super) fn acquire(
    path: &Path,
    inode: Inode,
    wait: Duration,
    mut attempt: impl FnMut() -> Result<Option<File>, OpenError>,
) -> Result<File, OpenError> {
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        if let Some(file) = attempt()? {
            return Ok(file);
        }
        let waited = begun.elapsed();
        tries += 1;
        // Newcomers that come at the same time refuse one another once.
        if waited >= wait && tries > 1 {
            let holder = holder(inode);
            let is_exiting = holder.is_some_and(|holder| !is_live(holder));
            if !is_exiting || wait.is_zero() || waited >= EXITING_WAIT {
                return Err(OpenError::InUse { path: path.to_owned(), holder });
            }
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

/// A process that has the lock: a live one if there is one.
fn holder(inode: Inode) -> Option<u32> {
    let holders = holders_in(&std::fs::read_to_string("/proc/locks").ok()?, inode);
    holders.iter().copied().find(|holder| is_live(*holder)).or(holders.first().copied())
}

/// The processes that a table as /proc/locks names as holding (not waiting for) a flock of the inode.
fn holders_in(table: &str, inode: Inode) -> Vec<u32> {
    let wanted = format!("{:02x}:{:02x}:{}", major(inode.device), minor(inode.device), inode.number);
    let holder = |line: &str| {
        // 1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF; a waiting one has an arrow behind the number.
        let mut words = line.split_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?;
        if words.next()? == wanted { pid.parse().ok() } else { None }
    };
    table.lines().filter_map(holder).collect()
}

/// Whether a process exists and at least one thread of it is not on its way out.
fn is_live(pid: u32) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    if test_kill_process(id) == Err(Errno::SRCH) {
        return false;
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        // It was there a moment ago: either it is gone now, or /proc hides it from us.
        return test_kill_process(id) != Err(Errno::SRCH);
    };
    threads.flatten().any(|thread| {
        std::fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| !is_exiting(&stat))
    })
}

/// Reads a line as /proc/PID/stat: a zombie, dead, or told to exit.
fn is_exiting(stat: &str) -> bool {
    // The name is in brackets and may hold brackets and spaces of its own.
    let Some((_, behind_name)) = stat.rsplit_once(')') else { return false };
    let mut fields = behind_name.split_whitespace();
    let state = fields.next().unwrap_or_default();
    let flags = fields.nth(STAT_FLAGS_FIELD - 1).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    matches!(state, "Z" | "X" | "x") || flags & FLAG_EXITING != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::makedev;

    #[test]
    fn the_holder_is_the_one_with_a_flock_of_this_inode() {
        let table = "1: POSIX  ADVISORY  WRITE 10 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 11 fe:00:78 0 EOF\n\
                     3: FLOCK  ADVISORY  READ  12 fe:00:77 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n\
                     4: FLOCK  ADVISORY  READ  14 fe:00:77 0 EOF\n";
        let inode = |number| Inode { device: makedev(0xfe, 0), number };
        assert_eq!(holders_in(table, inode(77)), [12, 14]);
        assert_eq!(holders_in(table, inode(78)), [11]);
        assert!(holders_in(table, inode(79)).is_empty());
        assert!(holders_in("", inode(77)).is_empty());
    }

    #[test]
    fn an_exiting_thread_is_told_from_a_live_one() {
        assert!(!is_exiting("7 (a b) c) S 1 7 7 0 -1 4194560 0 0"));
        assert!(is_exiting("7 (a b) c) Z 1 7 7 0 -1 4194560 0 0"));
        assert!(is_exiting("7 (x) D 1 7 7 0 -1 4194564 0 0"));
    }

    #[test]
    fn this_process_lives_and_a_pid_beyond_the_kernels_largest_does_not() {
        assert!(is_live(std::process::id()));
        assert!(!is_live(0x7fff_ffff));
    }
}
