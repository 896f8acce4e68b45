//! Watchdog: wakes executors that sleep although they have tasks to run.
//!
//! An executor parks although tasks are runnable when its preempt timer fires between being set and being looked at
//! first: on a paused machine, or when the processor is given to others for that long. Then only an event revives it.
//! The executor cannot provide for that event itself: a timer of its own is of no use if the executor parks a second
//! time before the task that the timer woke has run and set it again, nor before any task has run. So the preempt
//! timer is long, and another thread knocks at every executor ten times a second, whatever it is doing.
//!
//! A knock is a wake of a task that does nothing, from another thread: it goes through the executor's eventfd whether
//! or not the task is already due to run. It costs an idle executor some 20 us.

use std::future::poll_fn;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::LocalExecutor;

/// The two times that decide how often an executor parks with work to do, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Rhythm {
    /// How long tasks run before I/O is looked at, if they never call `yield_io`.
    pub(super) preempt: Duration,
    /// From one knock to the next.
    pub(super) knock: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { preempt: Duration::from_millis(25), knock: Duration::from_millis(100) }
    }
}

/// Where to knock at one executor.
#[derive(Clone, Default)]
pub(super) struct Door(Arc<Mutex<Option<Waker>>>);

impl Door {
    /// Opens it. The task is polled when it is spawned, before the executor runs.
    pub(super) fn open(&self, executor: &LocalExecutor) {
        executor.spawn(self.listen()).detach();
    }

    /// Opens it on the executor that runs the caller.
    pub(super) fn open_here(&self) {
        glommio::spawn_local(self.listen()).detach();
    }

    fn listen(&self) -> impl Future<Output = ()> + 'static + use<> {
        let door = self.clone();
        poll_fn(move |context| {
            let mut waker = door.waker();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::<()>::Pending
        })
    }

    /// Closes it, on the executor's own thread, where the task goes with its last waker.
    pub(super) fn close(&self) {
        let waker = self.waker().take();
        drop(waker);
    }

    fn knock(&self) {
        if let Some(waker) = self.waker().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

/// The watchdog's thread: knocks until all that could send on `alive` are gone. Nothing is ever sent.
pub(super) fn watch(doors: &[Door], every: Duration, alive: &Receiver<()>) {
    while alive.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        doors.iter().for_each(Door::knock);
    }
}
