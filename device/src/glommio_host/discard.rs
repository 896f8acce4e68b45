//! Discard: which devices are told of ranges that nobody needs, and the thread that tells a block device.
//!
//! A file's hole is punched through the ring. A block device takes an ioctl (BLKDISCARD) that blocks for as long as the device
//! takes, seconds for large ranges of some: a thread of its own makes it, started with the first discard of a handle. The
//! kernel's fallocate of block devices is not used: it promises zeros, which devices without a cheap way to that write.
//!
//! Invariants: 1. The thread uses a description of the caller's lock; the device waits until it is idle
//! before the lock is let go. 2. Its range is the caller's alone until it ends, also if the future is dropped.
//! Cost: a thread per handle on a block device, asleep but for discards. Limits: one after another.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use futures::channel::oneshot;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use super::open::{Kind, Target};

/// _IO(0x12, 119) of linux/fs.h.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
/// How often it is looked at whether all has ended.
pub(super) const LOOK_EACH: Duration = Duration::from_millis(1);

/// Whether a [`crate::Device::discard`] does anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Discard {
    /// On a block device that says that it supports it (`discard_max_bytes` of its queue in /sys is above 0), which then can
    /// level wear and stay fast. Not on a file: a hole is a range that was never written, and the next write of it makes
    /// its flush commit the file system's journal, 5 to 10 times slower.
    #[default]
    Auto,
    /// Also on a file: its space goes back to the file system.
    On,
    /// Never.
    Off,
}

impl Discard {
    /// Whether discards of this device do anything.
    pub(super) fn applies_to(self, target: &Target) -> bool {
        match (self, target.kind()) {
            (Self::Off, _) | (Self::Auto, Kind::File) => false,
            (Self::On, Kind::File) => true,
            (Self::Auto | Self::On, Kind::BlockDevice) => target.supports_discard(),
        }
    }
}

struct Job {
    at: u64,
    bytes: u64,
    done: oneshot::Sender<Result<(), Errno>>,
}

/// The thread that discards ranges of one block device.
pub(super) struct Discarder {
    jobs: Sender<Job>,
    in_flight: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Discarder {
    /// Starts the thread.
    pub(super) fn start(device: &File) -> Result<Self, Errno> {
        let errno = |error: std::io::Error| super::errno_of(error.raw_os_error());
        let device = device.try_clone().map_err(errno)?;
        let (jobs, coming) = channel::<Job>();
        let in_flight = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&in_flight);
        let work = move || {
            for job in coming {
                let result = discard(&device, job.at, job.bytes);
                counted.fetch_sub(1, Ordering::AcqRel);
                // Nobody has to wait for it.
                let _ = job.done.send(result);
            }
        };
        let thread = Builder::new().name("seabed-discard".to_owned()).spawn(work).map_err(errno)?;
        Ok(Self { jobs, in_flight, thread })
    }

    /// Begins to discard a range.
    pub(super) fn begin(
        &self,
        at: u64,
        bytes: u64,
    ) -> impl Future<Output = Result<(), Errno>> + 'static + use<> {
        let (done, ended) = oneshot::channel();
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let sent = self.jobs.send(Job { at, bytes, done }).is_ok();
        async move {
            // The thread ends with its handle only.
            if sent { ended.await.unwrap_or(Err(Errno::SHUTDOWN)) } else { Err(Errno::SHUTDOWN) }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Ends the thread, which has nothing to do.
    pub(super) fn end(self) {
        drop(self.jobs);
        // It calls nothing that panics.
        let _ = self.thread.join();
    }
}

fn discard(device: &File, at: u64, bytes: u64) -> Result<(), Errno> {
    // SAFETY: BLKDISCARD reads two numbers of 64 bits, where the range begins and its length, and writes nothing.
    #[expect(unsafe_code, reason = "what an ioctl reads is known to its caller only")]
    unsafe {
        ioctl(device.as_fd(), Setter::<BLKDISCARD, [u64; 2]>::new([at, bytes]))
    }
}
