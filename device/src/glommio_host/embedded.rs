//! Embedded: a machine on an executor that an embedder runs, instead of on a thread of the host.
//!
//! What [`super::thread`] does for a thread of its own: the descriptions with their locks, the ring and its turns, the queues,
//! and the knocks of a watchdog. The executor, its processors and its timers are the embedder's.
//!
//! Crash of a task: caught at its edge as everywhere; [`Embedded::panicked`] reports it.
//! Limits: the executor must outlive [`Embedded::close`]. Without a close, what is in flight keeps descriptions, buffers and the
//! lock until the process ends.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use super::GlommioHost;
use super::device::GlommioDevice;
use super::open::Target;
use super::runtime::GlommioRuntime;
use super::system;
use super::watchdog::{self, Door};
use crate::{Device, Machine, Missing, OpenError, Runtime};

/// A machine on the executor that made it. Close it.
pub struct Embedded {
    device: Rc<GlommioDevice>,
    runtime: Rc<GlommioRuntime>,
    door: Door,
    /// Ends the watchdog.
    _alive: Sender<()>,
    /// Released last.
    _target: Arc<Target>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl GlommioHost {
    /// Makes a machine over the device on the glommio executor that runs the caller. `spin_before_park` of the host's options
    /// says how long the executor looks for completions while operations are in flight; `io_memory` is the executor's own.
    ///
    /// The executor's preempt timer should be 25 ms, as that of the host's threads: with the 100 ms of glommio's default I/O of
    /// other rings than the machine's is seen later.
    ///
    /// # Panics
    ///
    /// Outside of a glommio executor.
    pub fn embed(&self) -> Result<Embedded, OpenError> {
        system::check()?;
        let runtime = Rc::new(GlommioRuntime::new(Instant::now()));
        let device = GlommioDevice::open(&self.target, self.options.discard, self.options.spin_before_park)?;
        let door = Door::default();
        door.open_here();
        let (alive, ending) = channel();
        let (doors, every) = ([door.clone()], self.rhythm.knock);
        let watched = self.spawn("seabed-watchdog".to_owned(), move || {
            watchdog::watch(&doors, every, &ending);
            Ok(())
        });
        let target = Arc::clone(&self.target);
        let made = Embedded { device: Rc::new(device), runtime, door, _alive: alive, _target: target };
        // The machine releases what it has when it is dropped.
        watched.map_err(|_| OpenError::from(Missing::Threads)).map(|_| made)
    }
}

impl Embedded {
    /// The device and the runtime, for [`Machine`]'s users on this executor.
    pub fn machine(&self) -> Machine {
        Machine {
            device: Rc::clone(&self.device) as Rc<dyn Device>,
            runtime: Rc::clone(&self.runtime) as Rc<dyn Runtime>,
        }
    }

    /// Ready when a task of the runtime has panicked.
    pub fn panicked(&self) -> impl Future<Output = ()> + 'static + use<> {
        let runtime = Rc::clone(&self.runtime);
        async move { runtime.panicked().await }
    }

    /// Drops all tasks of the runtime, refuses further operations, waits for those in the kernel, and releases the device.
    pub async fn close(self) {
        self.runtime.stop();
        self.device.close().await;
        self.door.close();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.runtime.stop();
        self.device.abandon();
        self.door.close();
    }
}
