//! System: what the engine needs of the machine, looked at before glommio does.
//!
//! glommio reports most of what is missing as an error without a number, and panics of the rest. Here each need has its own
//! error that names it and says how to provide it.
//!
//! Not here: direct I/O (`open`), the processors of a thread (`thread`).

use std::sync::{Mutex, PoisonError};

use io_uring::{IoUring, Probe};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::Missing;

/// Lockable memory that glommio asks for.
const LOCKABLE_BYTES_MIN: u64 = 512 << 10;

/// Descriptors that one thread opens, and some more.
const DESCRIPTORS: usize = 10;

/// Checks what a thread of the host is going to need: lockable memory, descriptors, and io_uring.
pub(super) fn check() -> Result<(), Missing> {
    let allowed = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    if allowed < LOCKABLE_BYTES_MIN {
        return Err(Missing::LockableMemory { allowed, needed: LOCKABLE_BYTES_MIN });
    }
    uring().map_err(of_uring)?;
    let pipes: Result<Vec<_>, _> = (0..DESCRIPTORS / 2).map(|_| std::io::pipe()).collect();
    pipes.map(drop).map_err(|_| Missing::Descriptors)
}

/// Makes each of the three system calls once.
fn uring() -> Result<(), Errno> {
    let errno = |error: std::io::Error| super::errno_of(error.raw_os_error());
    let ring = IoUring::new(1).map_err(errno)?;
    ring.submitter().register_probe(&mut Probe::new()).map_err(errno)?;
    ring.submitter().submit().map_err(errno).map(|_| ())
}

/// What is missing where io_uring fails with this number.
pub(super) fn of_uring(errno: Errno) -> Missing {
    match errno {
        Errno::PERM | Errno::ACCESS => match disabled() {
            setting @ 1.. => Missing::UringDisabled { setting },
            0 => Missing::UringForbidden,
        },
        Errno::NOSYS => Missing::Uring,
        Errno::MFILE | Errno::NFILE => Missing::Descriptors,
        Errno::NOMEM | Errno::AGAIN => Missing::UringMemory,
        errno => Missing::UringFailed { errno: errno.raw_os_error() },
    }
}

/// The sysctl kernel.io_uring_disabled; 0 where there is none.
fn disabled() -> u8 {
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    setting.and_then(|setting| setting.trim().parse().ok()).unwrap_or(0)
}

/// Runs something that starts one thread and panics where none can be started, after a look whether one can.
pub(super) fn with_thread<T>(start: impl FnOnce() -> T) -> Result<T, Missing> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let probe = std::thread::Builder::new().spawn(|| {}).map_err(|_| Missing::Threads)?;
    // It does nothing.
    let _ = probe.join();
    Ok(start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_io_uring_say_what_is_missing() {
        assert_eq!(of_uring(Errno::NOSYS), Missing::Uring);
        assert_eq!(of_uring(Errno::MFILE), Missing::Descriptors);
        assert_eq!(of_uring(Errno::NOMEM), Missing::UringMemory);
        let forbidden = of_uring(Errno::PERM);
        assert!(matches!(forbidden, Missing::UringForbidden | Missing::UringDisabled { .. }), "{forbidden}");
    }
}
