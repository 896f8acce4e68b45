//! Glommio host: a file or block device and threads over it, on glommio's executors and io_uring.
//!
//! [`create`] makes a file or clears a device. [`GlommioHost::open`] opens and locks one, on the caller's thread;
//! [`GlommioHost::read_at`] reads from it there. [`Host::start`] starts threads, each with an executor, two
//! descriptions of its own (plain and O_DSYNC, both O_DIRECT) and the shared lock on each. The device is free for the
//! next handle when the host is dropped and all threads have ended.
//!
//! ```no_run
//! use std::sync::Arc;
//! use seabed_device::glommio_host::{GlommioHost, HostOptions};
//! use seabed_device::{Class, Host, Machine};
//!
//! let host = GlommioHost::open("data.img", HostOptions::default())?;
//! let join = host.start(
//!     2,
//!     Arc::new(|machine: Machine| {
//!         Box::pin(async move {
//!             let block = machine.device.read(0, 4096, Class::Foreground).await;
//!             assert!(block.is_ok());
//!         })
//!     }),
//! )?;
//! join()?;
//! # Ok::<(), seabed_device::OpenError>(())
//! ```
//!
//! Needs Linux 6.1 or so with io_uring allowed, and 512 KiB or more of lockable memory; what is missing is an error that
//! names it ([`crate::Missing`]). Without /proc a handle that is refused does not learn by which process, and a device must
//! keep its path while it is being opened; without /sys, or where sched_setaffinity is refused, threads do not spin. glommio
//! registers `io_memory` with its three rings for each thread; where the process may not lock three times that, it warns and
//! goes on without.
//!
//! What glommio has in store, and where it is met:
//! - cancelled I/O may be in the kernel when its buffer or the executor goes: nobody cancels what is on our own ring, and a
//!   thread waits for it before it ends (`ring`, `thread`);
//! - a pass of the executor takes 15 to 20 us, and a record took three: our own ring is looked at between tasks (`turns`);
//! - a panic unwinds through the executor: caught at the edge of each task (`runtime`);
//! - an executor parks with tasks to run if its preempt timer fires too early: a long timer, and a thread that
//!   knocks (`watchdog`);
//! - it looks for a device in /sys and panics if it may not: files are opened by std, flags read back (`open`);
//! - it panics where no thread can be started, or put on processors: looked at before (`system`, `thread`);
//! - buffers of whatever memory was there (`device`);
//! - `spawn_local` polls on the spot: tasks of others go through `spawn_local_into` (`runtime`);
//! - `spawn_blocking`, the unsound queues, and more than 32,767 wakers of one task: not used.

mod create;
mod device;
mod discard;
mod embedded;
mod lock;
mod open;
mod ring;
mod runtime;
mod system;
mod thread;
mod turns;
mod watchdog;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use create::{CreateOptions, Created, FirstWrite, create};
pub use discard::Discard;
pub use embedded::Embedded;
pub use open::Access;

use rustix::io::Errno;

use crate::{Geometry, Host, Join, Main, Missing, OpenError};
use open::Target;
use runtime::Panicked;
use watchdog::{Door, Rhythm};

/// How long a handle waits for another to let go, if not chosen: as long as one short command after the other takes.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How to open a device and run threads over it.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// What the handle may do.
    pub access: Access,
    /// How long to wait until another process, or another handle of this one, lets go of the device; zero: not at all. For a
    /// process that was killed, and whose I/O the kernel finishes, up to 30 s are waited unless this is zero.
    pub lock_wait: Duration,
    /// How long an idle thread looks for work before it sleeps. 5 us are enough for a `yield_io` not to sleep; with 100 us
    /// other threads are answered in 7 us instead of 50, and a processor is burnt meanwhile. A thread with operations in
    /// flight looks on for longer: as its tasks ran before, 100 us at most, or twice what a device that usually answers
    /// within 200 us takes. None: it sleeps at once.
    pub spin_before_park: Option<Duration>,
    /// Bytes of the arena of I/O buffers of each thread; buffers beyond it are allocated one by one.
    pub io_memory: usize,
    /// Whether a discard does anything.
    pub discard: Discard,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            access: Access::ReadWrite,
            lock_wait: LOCK_WAIT,
            spin_before_park: Some(Duration::from_micros(5)),
            io_memory: 8 << 20,
            discard: Discard::default(),
        }
    }
}

/// An open, locked device, and the means to run threads over it.
pub struct GlommioHost {
    target: Arc<Target>,
    options: HostOptions,
    rhythm: Rhythm,
}

impl fmt::Debug for GlommioHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &mut f.debug_struct("GlommioHost");
        host.field("path", &self.target.path()).field("options", &self.options).finish_non_exhaustive()
    }
}

impl GlommioHost {
    /// Opens a file or block device and takes the lock.
    ///
    /// Blocks the thread, for up to `options.lock_wait` while another handle has the device; then the error names its
    /// process.
    pub fn open(path: impl AsRef<Path>, options: HostOptions) -> Result<Self, OpenError> {
        let target = Target::open(path.as_ref(), options.access, options.lock_wait)?;
        Ok(Self::of(Arc::new(target), options))
    }

    fn of(target: Arc<Target>, options: HostOptions) -> Self {
        Self { target, options, rhythm: Rhythm::default() }
    }

    /// Reads all of `bytes` at `at` on the calling thread; neither need be aligned. Direct, so that it shows what is
    /// on the device. For the few blocks that are looked at before threads start.
    pub fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), OpenError> {
        self.target.read_at(at, bytes)
    }

    fn spawn(
        &self,
        name: String,
        run: impl FnOnce() -> Result<(), Panicked> + Send + 'static,
    ) -> Result<JoinHandle<Result<(), Panicked>>, OpenError> {
        let spawned = std::thread::Builder::new().name(name).spawn(run);
        spawned.map_err(|error| match errno_of(error.raw_os_error()) {
            Errno::AGAIN | Errno::NOMEM => Missing::Threads.into(),
            _ => open::failed(self.path(), "starting a thread", &error),
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.target.path()
    }

    /// What the handle may do.
    pub fn access(&self) -> Access {
        self.target.access()
    }
}

impl Host for GlommioHost {
    fn geometry(&self) -> Geometry {
        let discards = self.options.discard.applies_to(&self.target);
        Geometry { discards, ..self.target.geometry() }
    }

    fn start(&self, threads: usize, main: Main) -> Result<Join, OpenError> {
        assert!(threads > 0, "a host of no threads");
        let epoch = Instant::now();
        let (opened, opening) = sync_channel(threads);
        let (alive, ending) = channel();
        let doors: Vec<_> = (0..threads).map(|_| Door::default()).collect();
        let mut gos = Vec::with_capacity(threads);
        let mut handles = Vec::with_capacity(threads + 1);
        let mut failure = None;
        // First, so that the threads are the last to start others, and know whether they can.
        let (every, watched) = (self.rhythm.knock, doors.clone());
        let watch = move || {
            watchdog::watch(&watched, every, &ending);
            Ok(())
        };
        let watchdog = self.spawn("seabed-watchdog".to_owned(), watch);
        for (index, door) in doors.iter().enumerate() {
            let (go, going) = channel();
            let plan = thread::Plan {
                target: Arc::clone(&self.target),
                options: self.options.clone(),
                preempt: self.rhythm.preempt,
                door: door.clone(),
                alive: alive.clone(),
                epoch,
                main: Arc::clone(&main),
                opened: opened.clone(),
                go: going,
            };
            gos.push(go);
            match self.spawn(format!("seabed-{index}"), move || thread::run(plan)) {
                Ok(handle) => handles.push(handle),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        drop((opened, alive));
        let shards = handles.len();
        match watchdog {
            Ok(handle) => handles.push(handle),
            Err(error) => failure = failure.or(Some(error)),
        }
        // Ends when each thread has spoken or gone.
        let words: Vec<_> = opening.iter().collect();
        let is_one_gone = words.len() < shards;
        failure = failure.or_else(|| words.into_iter().find_map(Result::err));
        failure = failure.or(is_one_gone.then_some(OpenError::Panicked));
        if failure.is_none() {
            for go in &gos {
                // A thread that has gone since is found by joining it.
                let _ = go.send(());
            }
        }
        drop(gos);
        let join = move || {
            let outcomes: Vec<_> = handles.into_iter().map(JoinHandle::join).collect();
            let is_clean = outcomes.iter().all(|outcome| matches!(outcome, Ok(Ok(()))));
            if is_clean { Ok(()) } else { Err(OpenError::Panicked) }
        };
        match failure {
            None => Ok(Box::new(join)),
            Some(error) => {
                // What the threads had to say is in `error`.
                let _ = join();
                Err(error)
            }
        }
    }
}

/// The error number that an error of std or glommio carries; EIO where there is none.
fn errno_of(number: Option<i32>) -> Errno {
    number.map_or(Errno::IO, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Machine;
    use crate::limit::limit;

    /// An executor parks with a task to run if its preempt timer fires between being set and being looked at. With a
    /// timer this short that happens in some of these starts, before the first task has run, and hundreds of times
    /// later on; the first time is the last without a knock from another thread. A timer on the executor itself
    /// revived it too, until it parked twice in a row: on a busy machine one run in four hung.
    #[test]
    fn an_executor_that_parked_with_work_to_do_goes_on() {
        let _limit = limit();
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 20).expect("ours");
        let mut host = GlommioHost::open(file.path(), HostOptions::default()).expect("open");
        host.rhythm = Rhythm { preempt: Duration::from_micros(30), knock: Duration::from_millis(1) };
        let main = |machine: Machine| {
            Box::pin(async move {
                for _ in 0..50_000 {
                    machine.runtime.yield_now().await;
                }
            }) as _
        };
        for _ in 0..20 {
            host.start(2, Arc::new(main)).expect("start")().expect("no panic");
        }
    }
}
