//! Lock: one handle on a device at a time, across processes and within one.
//!
//! The lock is a flock on the descriptions that the I/O goes through, so that it lasts exactly as long as a write can
//! still be on its way. A newcomer asks for the exclusive lock (and, on a block device, claims it with O_EXCL), then
//! turns it into a shared one, which every further description of the same handle takes too ([`share`]). A second
//! newcomer cannot have the exclusive lock while one of them is open, hence never reaches the shared one.
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
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

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

/// Takes the exclusive lock on a fresh description and turns it into a shared one.
pub(super) fn claim(file: File) -> Result<Option<File>, Errno> {
    let steps = [FlockOperation::NonBlockingLockExclusive, FlockOperation::NonBlockingLockShared];
    for step in steps.into_iter().skip(usize::from(seabed_types::seeded!(36))) {
        match flock(&file, step) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(file))
}

/// Takes the shared lock on a further description of a handle that has claimed the device.
pub(super) fn share(file: impl AsFd) -> Result<(), Errno> {
    flock(file, FlockOperation::NonBlockingLockShared)
}

/// Lets go at once, instead of when the kernel gets round to closing the description.
pub(super) fn release(file: impl AsFd) -> Result<(), Errno> {
    flock(file, FlockOperation::NonBlockingUnlock)
}

/// Attempts until it has the lock or `wait` has passed. None from an attempt: another description has the lock.
pub(super) fn acquire(
    path: &Path,
    inode: Inode,
    wait: Duration,
    mut attempt: impl FnMut() -> Result<Option<File>, OpenError>,
) -> Result<File, OpenError> {
    let begun = Instant::now();
    loop {
        if let Some(file) = attempt()? {
            return Ok(file);
        }
        let waited = begun.elapsed();
        if waited >= wait {
            let holder = holder(inode);
            let is_exiting = holder.is_some_and(|holder| !is_live(holder));
            if !is_exiting || wait.is_zero() || waited >= EXITING_WAIT {
                return Err(OpenError::InUse { path: path.to_owned(), holder });
            }
        }
        std::thread::sleep(ASK_AGAIN.min(wait));
    }
}

fn holder(inode: Inode) -> Option<u32> {
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, inode)
}

/// The first process that a table as /proc/locks names as holding (not waiting for) a flock of the inode.
fn holder_in(table: &str, inode: Inode) -> Option<u32> {
    let wanted = format!("{:02x}:{:02x}:{}", major(inode.device), minor(inode.device), inode.number);
    table.lines().find_map(|line| {
        // 1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF; a waiting one has an arrow behind the number.
        let mut words = line.split_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?;
        if words.next()? == wanted { pid.parse().ok() } else { None }
    })
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
                     3: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n";
        let inode = |number| Inode { device: makedev(0xfe, 0), number };
        assert_eq!(holder_in(table, inode(77)), Some(12));
        assert_eq!(holder_in(table, inode(78)), Some(11));
        assert_eq!(holder_in(table, inode(79)), None);
        assert_eq!(holder_in("", inode(77)), None);
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
