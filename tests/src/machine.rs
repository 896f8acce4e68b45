//! The simulated machine: one thread with a seeded executor, a virtual clock and a disk that can be cut off anywhere.
//!
//! ```
//! use seabed_tests::machine::{CrashMode, Mark, SimOptions, Simulation};
//! use seabed_device::{Class, Durability, WriteOpts};
//! use std::rc::Rc;
//!
//! let sim = Simulation::new(7, SimOptions::default());
//! let device = sim.machine().device;
//! let opts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };
//! sim.run(async {
//!     device.write(0, Rc::new(device.alloc(4096)), opts).await.expect("no faults were planned");
//!     device.flush().await.expect("no faults were planned");
//!     sim.mark(Mark::Acknowledged { log: 0, number: 1 });
//! })
//! .expect("nothing to wait for in vain");
//!
//! let trace = sim.finish();
//! let mut rng = fastrand::Rng::with_seed(7);
//! let mut walk = trace.walk();
//! while let Some(boundary) = walk.advance() {
//!     let image = walk.frontier().crash_image(CrashMode::Sectors, &mut rng);
//!     let again = Simulation::from_image(7 + boundary as u64, &image, SimOptions::default());
//!     // ... mount what is there and hold it against `walk.marks()`
//! }
//! ```
//!
//! Everything that happens follows from the seed, the options, the image and the code that runs: the same again gives
//! the same [`Trace::hash`]. A [`Simulation`] belongs to one thread; several may run side by side on different threads.
//!
//! Crash: nothing is crashed while it runs. The run is recorded once, and every moment of it can be crashed afterwards
//! in every way ([`Walk`], [`Frontier`]). A crash during a recovery is a crash of the recovery's own run.
//! Not here: what runs on the machine, and the oracle.

mod blocks;
mod crash;
mod disk;
mod executor;
mod fault;
mod host;
mod image;
mod trace;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use seabed_device::{Geometry, Local, Machine};
use seabed_types::work::Work;

pub use blocks::SECTOR_BYTES;
pub use crash::{CrashMode, CrashPlan, Frontier};
pub use disk::Latency;
pub use fault::{Cache, EIO, ENODATA, ENOSPC, Effect, Fault, Faults, Landed};
pub use host::SimHost;
pub use image::DiskImage;
pub use trace::{Mark, OperationCounts, Trace, Walk};

use disk::{Disk, SimDevice};
use executor::{Executor, SimRuntime};

/// What one poll may do by default: as much as takes about 500 us, 4 MiB that are copied or summed or 2,048 rows.
pub const WORK_MAX: u64 = 4 << 20;

/// In which order runnable tasks go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskOrder {
    /// In the order in which they became runnable.
    Fifo,
    /// As `Fifo`, but so many of 1000 picks take any of them.
    Perturbed {
        /// Of 1000.
        per_mille: u32,
    },
}

/// How a machine is built.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Size of a new disk; a machine with a disk from an image has that image's size.
    pub disk_bytes: u64,
    /// What the disk says in its geometry.
    pub wants_first_write: bool,
    /// Whether it says that a discard does anything.
    pub discards: bool,
    /// In which order tasks go on.
    pub order: TaskOrder,
    /// How long I/O takes.
    pub latency: Latency,
    /// What goes wrong.
    pub faults: Faults,
    /// How many polls one run may take before it is called stuck.
    pub steps_max: u64,
    /// How much one poll of a task may do, in bytes copied or summed, a row as 2 KiB ([`seabed_types::work::Work::rank`]),
    /// before it is said to hold the thread.
    pub work_max: u64,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            disk_bytes: 64 << 20,
            wants_first_write: false,
            discards: false,
            order: TaskOrder::Perturbed { per_mille: 50 },
            latency: Latency::default(),
            faults: Faults::none(),
            steps_max: 5_000_000,
            work_max: WORK_MAX,
        }
    }
}

/// A run came to no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stuck {
    /// Nothing is runnable, no time is waited for, no I/O is in flight.
    #[error("deadlock at {now:?}: {tasks} tasks wait for each other or for nothing")]
    Deadlock {
        /// The virtual time.
        now: Duration,
        /// Tasks that are left, the main one not counted.
        tasks: usize,
    },
    /// One poll of a task did more than it may without an await that lets others run.
    #[error(
        "task {task} ({}) held the thread at {now:?}: {} bytes and {} rows in one poll, {work_max} bytes allowed (a row counts as 2 KiB)",
        .done.of, .done.bytes, .done.rows
    )]
    Held {
        /// The virtual time.
        now: Duration,
        /// Number of the task; 0 is the main one.
        task: u64,
        /// What it did.
        done: Work,
        /// The limit.
        work_max: u64,
    },
    /// It took more polls than allowed.
    #[error("no end after {steps_max} polls, at {now:?}")]
    Steps {
        /// The virtual time.
        now: Duration,
        /// The limit.
        steps_max: u64,
    },
}

/// One simulated computer, from its start to its crash.
pub struct Simulation {
    executor: Rc<Executor>,
    disk: Rc<Disk>,
    handles: Rc<Cell<u32>>,
    host_key: Cell<Option<u64>>,
}

impl Simulation {
    /// A machine with a disk of zeros.
    pub fn new(seed: u64, options: SimOptions) -> Self {
        let blank = DiskImage::blank(options.disk_bytes);
        Self::from_image(seed, &blank, options)
    }

    /// A machine with a disk as `image` has it, cache included.
    pub fn from_image(seed: u64, image: &DiskImage, options: SimOptions) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let executor = Executor::new(seeds.u64(..), options.order, (options.steps_max, options.work_max));
        let SimOptions { faults, latency, wants_first_write, discards, .. } = options;
        let geometry = Geometry { bytes: image.bytes, wants_first_write, discards };
        let disk = Disk::new(Rc::clone(&executor), image, seeds.u64(..), latency, faults, geometry);
        Self { executor, disk, handles: Rc::default(), host_key: Cell::new(None) }
    }

    /// A handle of the machine for one shard: same disk and thread as all others, but a `quiesce` of its own.
    pub fn machine(&self) -> Machine {
        new_machine(&self.executor, &self.disk, &self.handles)
    }

    /// For code that starts its threads itself: all of them run in this simulation.
    pub fn host(&self) -> SimHost {
        let key = self.host_key.get().unwrap_or_else(|| host::register(self));
        self.host_key.set(Some(key));
        SimHost::new(key, self.disk.geometry())
    }

    /// Runs `main`, and all tasks beside it, until `main` is done. Other tasks stay where they are for the next run.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> Result<T, Stuck> {
        self.executor.run(main)
    }

    /// Runs all tasks until nothing is runnable, waits for time or for I/O. Says how many tasks wait for nothing.
    /// Endless background loops meet the step limit here.
    pub fn run_until_idle(&self) -> Result<usize, Stuck> {
        match self.executor.run(std::future::pending::<()>()) {
            Err(Stuck::Deadlock { tasks, .. }) => Ok(tasks),
            Err(stuck) => Err(stuck),
            Ok(()) => unreachable!("a pending future is never done"),
        }
    }

    /// Adds a task without running it.
    pub fn spawn(&self, task: Local<()>) {
        self.executor.spawn(task);
    }

    /// The virtual time.
    pub fn now(&self) -> Duration {
        self.executor.now()
    }

    /// Polls of tasks so far.
    pub fn steps(&self) -> u64 {
        self.executor.steps()
    }

    /// The largest amount of work that one poll did.
    pub fn most_work(&self) -> Work {
        self.executor.most_work()
    }

    /// Puts a promise into the trace.
    pub fn mark(&self, mark: Mark) {
        self.disk.mark(mark);
    }

    /// For tasks that must own what they mark with.
    pub fn marker(&self) -> impl Fn(Mark) + Clone + 'static {
        let disk = Rc::clone(&self.disk);
        move |mark| disk.mark(mark)
    }

    /// Whether a power cut at this moment would leave these bytes of the disk as they are.
    pub fn is_durable(&self, at: u64, bytes: u64) -> bool {
        self.disk.is_durable(at, bytes)
    }

    /// For tasks that must own what they ask with: [`Self::is_durable`].
    pub fn durability(&self) -> impl Fn(u64, u64) -> bool + Clone + 'static {
        let disk = Rc::clone(&self.disk);
        move |at, bytes| disk.is_durable(at, bytes)
    }

    /// What a crash at this moment may leave.
    pub fn frontier(&self) -> Frontier {
        self.disk.frontier()
    }

    /// Operations in flight.
    pub fn in_flight(&self) -> usize {
        self.disk.in_flight()
    }

    /// Looks at or changes the faults that are planned.
    pub fn with_faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        self.disk.with_faults(change)
    }

    /// Turns over a bit at rest, on the medium and in the cache.
    pub fn flip(&self, at: u64, bit: u8) {
        self.disk.flip(at, bit);
    }

    /// The trace so far.
    pub fn trace(&self) -> Trace {
        self.disk.trace()
    }

    /// Stops everything where it is: all tasks are dropped, and what their destructors start never happens.
    pub fn crash(&self) {
        self.executor.abandon();
    }

    /// Stops everything where it is and gives the trace.
    pub fn finish(self) -> Trace {
        self.crash();
        self.disk.take_trace()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // Tasks own machines, machines own the executor, the executor owns the tasks: cut here.
        self.executor.abandon();
        self.host_key.take().into_iter().for_each(host::unregister);
    }
}

fn new_machine(executor: &Rc<Executor>, disk: &Rc<Disk>, handles: &Rc<Cell<u32>>) -> Machine {
    let handle = handles.get();
    handles.set(handle + 1);
    let device = Rc::new(SimDevice { disk: Rc::clone(disk), handle });
    Machine { device, runtime: Rc::new(SimRuntime(Rc::clone(executor))) }
}

#[cfg(test)]
mod tests;
