//! Thread: one executor from its start to its end.
//!
//! make the executor -> open the device's descriptions -> say so, wait for the others -> run main -> drop the tasks
//! it left -> refuse further I/O, wait for what is in the kernel -> let go of the lock and close.
//!
//! The order at the end is what makes it safe to drop the executor: nothing is in the kernel any more. It holds after
//! a panic too.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use glommio::{CpuSet, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::io::Errno;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use super::HostOptions;
use super::device::GlommioDevice;
use super::open::Target;
use super::runtime::{GlommioRuntime, Panicked};
use super::system;
use super::watchdog::Door;
use crate::{Device, Machine, Main, Missing, OpenError, Runtime};

/// What a thread needs to know.
pub(super) struct Plan {
    pub(super) target: Arc<Target>,
    pub(super) options: HostOptions,
    /// As [`super::watchdog::Rhythm`].
    pub(super) preempt: Duration,
    pub(super) door: Door,
    /// Held to the thread's end.
    pub(super) alive: Sender<()>,
    pub(super) epoch: Instant,
    pub(super) main: Main,
    /// Takes one word: open, or why not.
    pub(super) opened: SyncSender<Result<(), OpenError>>,
    /// Gives one word: go. Closed without it if another thread failed.
    pub(super) go: Receiver<()>,
}

/// The thread's function. An error is a panic: other failures have been told through `opened`.
pub(super) fn run(plan: Plan) -> Result<(), Panicked> {
    match executor(&plan) {
        Ok(executor) => {
            let (door, _alive) = (plan.door.clone(), plan.alive.clone());
            door.open(&executor);
            executor.run(async move {
                let outcome = inside(plan).await;
                door.close();
                outcome
            })
        }
        Err(error) => {
            // Nobody listens any more if another thread failed first.
            let _ = plan.opened.send(Err(error));
            Ok(())
        }
    }
}

async fn inside(plan: Plan) -> Result<(), Panicked> {
    let Plan { target, options, epoch, main, opened, go, .. } = plan;
    let device = match GlommioDevice::open(&target, options.discard, options.spin_before_park) {
        Ok(device) => Rc::new(device),
        Err(error) => {
            let _ = opened.send(Err(error));
            return Ok(());
        }
    };
    let is_heard = opened.send(Ok(())).is_ok();
    drop(opened);
    let mut outcome = Ok(());
    // Blocks the thread, on which nothing else runs yet.
    if is_heard && go.recv().is_ok() {
        let runtime = Rc::new(GlommioRuntime::new(epoch));
        let machine = Machine {
            device: Rc::clone(&device) as Rc<dyn Device>,
            runtime: Rc::clone(&runtime) as Rc<dyn Runtime>,
        };
        outcome = runtime.run(|| main(machine)).await;
    }
    device.close().await;
    outcome
}

fn executor(plan: &Plan) -> Result<LocalExecutor, OpenError> {
    system::check()?;
    // glommio ignores spinning without a set of processors: it gets all that the thread may run on.
    let spin = plan.options.spin_before_park;
    let placement = spin.and_then(|_| processors()).map_or(Placement::Unbound, Placement::Fenced);
    let mut builder = LocalExecutorBuilder::new(placement)
        .io_memory(plan.options.io_memory)
        .preempt_timer(plan.preempt)
        // It would be put on the same processors, and panic where that is refused.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1));
    if let Some(spin) = spin {
        builder = builder.spin_before_park(spin);
    }
    let made = system::with_thread(|| builder.make())?;
    made.map_err(|error| {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        OpenError::Missing(errno.map_or(Missing::UringTooOld, system::of_uring))
    })
}

/// The processors that the thread may run on, if they are known and it may choose among them: sandboxes refuse that, or have
/// no /sys. Without them it runs wherever the kernel puts it.
fn processors() -> Option<CpuSet> {
    let allowed = sched_getaffinity(None).ok()?;
    sched_setaffinity(None, &allowed).ok()?;
    let online = CpuSet::online().ok()?.filter(|location| allowed.is_set(location.cpu));
    (!online.is_empty()).then_some(online)
}
