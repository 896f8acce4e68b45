//! Runtime: time and tasks of one thread, on glommio's task queues.
//!
//! Two queues. Clients, the commit path and the thread's main future share the executor's default one: the commit path
//! relies on a `yield_now` that lets the clients it woke run before it goes on. Background work has a queue with a
//! tenth of the shares. Neither asks glommio for a latency: the executor's own I/O (the device has a ring of its own,
//! `turns`) is looked at when a queue runs dry, at the preempt timer, or when somebody calls `yield_io`, a sleep of one
//! microsecond, which takes it through the reactor. A `sleep(0)` would not.
//!
//! A spawned task is a slot that this runtime and the glommio task share. When the main future has ended the runtime
//! empties all slots, so that every task's memory goes, in one place, while the executor still runs: glommio drops
//! what is queued, but a task that waits for something which it itself keeps alive would stay for ever.
//!
//! A panic in a task is caught at its edge and ends the thread's main future. Left to unwind, it would take the
//! executor with it while the kernel still writes into its buffers.
//!
//! Limits: bounds on the number of tasks are the spawner's.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{Either, select};
use glommio::{Latency, Shares, TaskQueueHandle};
use slab::Slab;

use crate::local::Notify;
use crate::{Class, Local, Runtime};

/// Shares of the background queue; the default queue has 1000.
const BACKGROUND_SHARES: usize = 100;

/// A task panicked; the panic hook has said where.
#[derive(Debug)]
pub(super) struct Panicked;

/// Time and tasks of one thread.
pub(super) struct GlommioRuntime {
    epoch: Instant,
    background: TaskQueueHandle,
    tasks: Rc<Tasks>,
}

#[derive(Default)]
struct Tasks {
    slots: RefCell<Slab<Slot>>,
    stopped: Cell<bool>,
    panicked: Cell<bool>,
    changed: Notify,
}

/// A task's future; empty while it is polled and when it has ended or was stopped.
type Slot = Rc<Cell<Option<Local<()>>>>;

impl GlommioRuntime {
    /// Inside an executor. Times are counted from `epoch`, which all threads of a host share.
    pub(super) fn new(epoch: Instant) -> Self {
        let background = glommio::executor().create_task_queue(
            Shares::Static(BACKGROUND_SHARES),
            Latency::NotImportant,
            "background",
        );
        Self { epoch, background, tasks: Rc::default() }
    }

    /// Runs `main` to its end, or until it or a task panics, then drops all tasks. Device operations go on.
    pub(super) async fn run(&self, main: impl FnOnce() -> Local<()>) -> Result<(), Panicked> {
        let main = pin!(AssertUnwindSafe(async { main().await }).catch_unwind());
        let panicked = pin!(self.tasks.changed.until(|| self.tasks.panicked.get()));
        let outcome = match select(main, panicked).await {
            Either::Left((Ok(()), _)) => Ok(()),
            Either::Left((Err(_), _)) | Either::Right(_) => Err(Panicked),
        };
        self.tasks.stop();
        outcome
    }
}

impl GlommioRuntime {
    /// Drops all tasks, and those that are spawned from now on.
    pub(super) fn stop(&self) {
        self.tasks.stop();
    }

    /// Ready when a task has panicked.
    pub(super) async fn panicked(&self) {
        self.tasks.changed.until(|| self.tasks.panicked.get()).await;
    }
}

impl Tasks {
    fn stop(&self) {
        self.stopped.set(true);
        loop {
            let Some(key) = self.slots.borrow().iter().next().map(|(key, _)| key) else { return };
            let slot = self.slots.borrow_mut().remove(key);
            // Runs the drops of somebody's future, hence with nothing borrowed.
            drop(slot.take());
        }
    }
}

impl Runtime for GlommioRuntime {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep(&self, time: Duration) -> Local<()> {
        Box::pin(glommio::timer::sleep(time))
    }

    fn yield_io(&self) -> Local<()> {
        Box::pin(glommio::timer::sleep(Duration::from_micros(1)))
    }

    fn yield_now(&self) -> Local<()> {
        Box::pin(async { glommio::executor().yield_now().await })
    }

    fn spawn(&self, class: Class, task: Local<()>) {
        if self.tasks.stopped.get() {
            return;
        }
        let queue = match class {
            Class::Foreground | Class::Commit => TaskQueueHandle::default(),
            Class::Background => self.background,
        };
        let slot = Rc::new(Cell::new(Some(task)));
        let key = self.tasks.slots.borrow_mut().insert(Rc::clone(&slot));
        let tasks = Rc::clone(&self.tasks);
        let task = poll_fn(move |context| {
            let Some(mut task) = slot.take() else { return Poll::Ready(()) };
            match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
                Ok(Poll::Pending) => {
                    slot.set(Some(task));
                    return Poll::Pending;
                }
                Ok(Poll::Ready(())) => {}
                Err(_) => {
                    tasks.panicked.set(true);
                    tasks.changed.notify_all();
                }
            }
            tasks.slots.borrow_mut().try_remove(key);
            Poll::Ready(())
        });
        glommio::spawn_local_into(task, queue).expect("the queue lives as long as the executor").detach();
    }
}
