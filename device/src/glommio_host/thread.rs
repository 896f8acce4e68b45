//! Thread: one executor from its start to its end.
//!
//! make the executor -> open the device's descriptions -> say so, wait for the others -> run main -> drop the tasks
//! it left -> refuse further I/O, wait for what is in the kernel -> let go of the lock and close.
//!
//! The order at the end is what makes it safe to drop the executor: nothing is in the kernel any more. It holds after
//! a panic too.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use glommio::{CpuSet, GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, ReactorErrorKind};
use rustix::thread::sched_getaffinity;

use super::HostOptions;
use super::device::{GlommioDevice, errno_of};
use super::open::Target;
use super::runtime::{GlommioRuntime, Panicked};
use crate::{Device, Machine, Main, OpenError, Runtime};

/// How often an executor looks at I/O and for work it overlooked.
///
/// An executor parks although tasks are runnable when its preempt timer fires between being set and being looked at
/// first: on a paused machine, or when the processor is given to others for that long. Only an event revives it. So
/// the timer is long, and there is an event from time to time: a timer of ours once the executor runs, and until then
/// a [`Knock`] from the thread that started it.
#[derive(Clone, Copy)]
pub(super) struct Rhythm {
    /// How long tasks run before I/O is looked at, if they never call `yield_io`.
    pub(super) preempt: Duration,
    /// From one event to the next.
    pub(super) look_around: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { preempt: Duration::from_millis(25), look_around: Duration::from_millis(100) }
    }
}

/// An event from another thread, for an executor whose first task has not run yet.
#[derive(Clone, Default)]
pub(super) struct Knock(Arc<Mutex<Option<Waker>>>);

impl Knock {
    /// Wakes the executor, if it has one to wake and has not said that it runs.
    pub(super) fn knock(&self) {
        if let Some(waker) = self.waker().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// A task of which nothing is needed but its waker. Polled when it is spawned, before the executor runs.
    fn listen(&self, executor: &LocalExecutor) {
        let knock = self.clone();
        let listen = poll_fn(move |context| {
            *knock.waker() = Some(context.waker().clone());
            Poll::<()>::Pending
        });
        executor.spawn(listen).detach();
    }

    /// The executor runs. On its own thread, where the task can go with its last waker.
    fn answer(&self) {
        let waker = self.waker().take();
        drop(waker);
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

/// What a thread needs to know.
pub(super) struct Plan {
    pub(super) target: Arc<Target>,
    pub(super) options: HostOptions,
    pub(super) rhythm: Rhythm,
    pub(super) knock: Knock,
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
            plan.knock.listen(&executor);
            executor.run(inside(plan))
        }
        Err(error) => {
            // Nobody listens any more if another thread failed first.
            let _ = plan.opened.send(Err(error));
            Ok(())
        }
    }
}

async fn inside(plan: Plan) -> Result<(), Panicked> {
    let Plan { target, options, rhythm, knock, epoch, main, opened, go } = plan;
    // To the very end: dropped with this future.
    let _look_around = glommio::spawn_local(async move {
        loop {
            glommio::timer::sleep(rhythm.look_around).await;
        }
    });
    knock.answer();
    let device = match GlommioDevice::open(&target, options.discard).await {
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
    let failed = |error: GlommioError<()>| {
        if let GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(..)) = error {
            return plan.target.unsupported("the process may lock less than 512 KiB of memory (ulimit -l)");
        }
        plan.target.io("starting io_uring", errno_of(&error))
    };
    let placement = match plan.options.spin_before_park {
        None => Placement::Unbound,
        // Spinning is ignored without a set of processors: give it all that we may run on.
        Some(_) => Placement::Fenced(processors().map_err(failed)?),
    };
    let mut builder = LocalExecutorBuilder::new(placement)
        .io_memory(plan.options.io_memory)
        .preempt_timer(plan.rhythm.preempt);
    if let Some(spin) = plan.options.spin_before_park {
        builder = builder.spin_before_park(spin);
    }
    builder.make().map_err(failed)
}

fn processors() -> Result<CpuSet, GlommioError<()>> {
    let allowed = sched_getaffinity(None).map_err(std::io::Error::from)?;
    Ok(CpuSet::online()?.filter(|location| allowed.is_set(location.cpu)))
}
