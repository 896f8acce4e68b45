//! The seam to the machine: what an engine thread needs of a device, of time and of tasks, as three small traits.
//!
//! [`Device`] and [`Runtime`] are object-safe and local to one thread (`Rc<dyn ..>`, boxed futures, about 30 ns per
//! I/O), so that nothing above this crate is generic and the same code runs on glommio ([`glommio_host`]) and on a
//! seeded single-thread simulator. No glommio type appears above this crate.
//!
//! The contract of every implementation, and what the conformance suite checks:
//! 1. Dropping a future never cancels the operation; the operation owns its buffer.
//! 2. Completions come in any order. Overlapping writes in flight are the caller's bug.
//! 3. An `Err` from a write or a flush says that the state of those bytes is unknown.
//! 4. A flush covers the writes that completed before it was called, a durable write covers itself alone.
//! 5. Bytes tear at multiples of 512.
//! 6. `spawn` schedules and never polls inline.
//! 7. A device operation begins when its method is called, not when its future is first polled. A write of [`Class::Commit`]
//!    is on its way when the call returns; others may go a little later, together.
#![warn(missing_debug_implementations)]

mod buffer;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
#[cfg(feature = "famine")]
pub mod famine;
pub mod glommio_host;
#[cfg(test)]
mod limit;
pub mod local;
#[cfg(feature = "memory")]
pub mod memory;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The same glommio as this crate's, so that an embedder's types are the same.
pub use glommio;

pub use buffer::{ReadBuf, Storage, WriteBuf};
pub use error::{DeviceError, IoKind, Missing, OpenError};

/// A future of one thread: owns what it uses, not `Send`.
pub type Local<T> = Pin<Box<dyn Future<Output = T>>>;

/// Size and unit of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes, a multiple of 4096.
    pub bytes: u64,
    /// Whether a write of a range never written before makes later flushes slower (a file with unwritten extents).
    pub wants_first_write: bool,
    /// Whether a discard does anything. If not there is no need to ask for one.
    pub discards: bool,
}

/// Whom an operation or a task is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// A client waits for it.
    Foreground,
    /// The commit path: records of the journal. Same task queue as `Foreground`.
    Commit,
    /// Trimming, cleaning, checks.
    Background,
}

/// What a completed write promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Nothing before the next flush.
    Cached,
    /// The bytes of this write (and of no other) survive a power cut.
    Durable,
}

/// How to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteOpts {
    /// What completion promises.
    pub durability: Durability,
    /// Whom it is for.
    pub class: Class,
    /// Which stream of the store the bytes belong to: a hint for placement on the device.
    pub stream: u8,
}

/// A block device or file, used by one thread. Offsets and lengths are multiples of 4096.
pub trait Device {
    /// Size and unit.
    fn geometry(&self) -> Geometry;
    /// A zeroed, aligned buffer of `bytes`, a multiple of 4096.
    fn alloc(&self, bytes: usize) -> WriteBuf;
    /// As `alloc`, but with any bytes in it: the caller overwrites all that it writes. Spares a pass over large buffers.
    fn alloc_dirty(&self, bytes: usize) -> WriteBuf {
        self.alloc(bytes)
    }
    /// Reads all `bytes` at `at`, or fails.
    fn read(&self, at: u64, bytes: usize, class: Class) -> Local<Result<ReadBuf, DeviceError>>;
    /// Writes all of `buf` at `at`, or fails.
    fn write(&self, at: u64, buf: Rc<WriteBuf>, opts: WriteOpts) -> Local<Result<(), DeviceError>>;
    /// Makes durable every write that completed before this call.
    fn flush(&self) -> Local<Result<(), DeviceError>>;
    /// Tells the device that nobody needs these bytes; what a read gives afterwards is unspecified.
    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>>;
    /// Waits until nothing of this handle is left in the kernel.
    fn quiesce(&self) -> Local<()>;
}

/// Time and tasks of one thread.
pub trait Runtime {
    /// Monotonic time; virtual in the simulator.
    fn now(&self) -> Duration;
    /// Waits at least `time`.
    fn sleep(&self, time: Duration) -> Local<()>;
    /// Lets I/O be submitted and completions be seen. Every loop calls it at least each 100 us of work.
    fn yield_io(&self) -> Local<()>;
    /// To the end of this task queue, without looking at I/O. For the commit path only.
    fn yield_now(&self) -> Local<()>;
    /// Schedules a task; never polls it inline.
    fn spawn(&self, class: Class, task: Local<()>);
}

/// What a shard runs on.
#[derive(Clone)]
pub struct Machine {
    /// Its device.
    pub device: Rc<dyn Device>,
    /// Its thread.
    pub runtime: Rc<dyn Runtime>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("geometry", &self.device.geometry()).finish_non_exhaustive()
    }
}

/// What one thread of a [`Host`] runs: made on that thread, from what may cross threads.
pub type Main = Arc<dyn Fn(Machine) -> Local<()> + Send + Sync>;

/// Waits for a host's threads to end; an error says that one panicked.
pub type Join = Box<dyn FnOnce() -> Result<(), OpenError> + Send>;

/// Starts threads, each with a machine of its own over the same device.
pub trait Host: Send + Sync {
    /// Size and unit.
    fn geometry(&self) -> Geometry;
    /// Starts `threads` threads, each of which runs `main` once to its end and then quiesces its device. Returns once
    /// all have opened the device.
    fn start(&self, threads: usize, main: Main) -> Result<Join, OpenError>;
}
