//! Guest: code of an embedder that runs on an engine's thread ([`crate::Store::run_on_shard`], [`LocalStore::spawn`]).
//!
//! What such code may do:
//! - It shares the thread with the engine: it awaits often, and gives way with `runtime().yield_io()` in loops that work for
//!   longer than 100 us without waiting for anything. What blocks the thread blocks the store.
//! - It starts further tasks with [`LocalStore::spawn`]. A task of `runtime().spawn` counts as a part of the engine: a panic in
//!   it ends the engine.
//! - It calls the local face. Futures of the `Send` face work too, at the price of a hop. The blocking face, and
//!   `futures::executor::block_on`, would wait for the thread that they block: the one is [`Error::WouldBlock`], the other
//!   panics.
//! - Closing does not wait for it. From the moment of a close what it asks of the store is [`Error::Closed`]; when the store
//!   has closed, its futures are dropped where they wait.
//!
//! A panic in it is caught at the edge of the poll and becomes [`Error::Panicked`] for its caller, with its message; the store
//! goes on, and nobody else notices. A panic of the engine itself, in a call that such code makes, may have left rows half
//! changed: then the caller has its error and the engine ends, and what was acknowledged is there when the store is opened
//! again. In programs that are built with `panic = "abort"` every panic ends the process.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::channel::oneshot;
use futures::executor::enter;
use seabed_device::Class;

use crate::face::local::LocalStore;
use crate::shard::Shard;
use crate::{Error, Result};

thread_local! {
    static IS_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as an engine's, which must not be blocked.
pub(crate) fn is_engine_thread() {
    IS_ENGINE.set(true);
}

/// Whether to block this thread would keep an executor, which may be the one that is waited for, from running.
pub(crate) fn may_block() -> Result<()> {
    if IS_ENGINE.get() || enter().is_err() { Err(Error::WouldBlock) } else { Ok(()) }
}

/// Runs a piece of an embedder's code.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T> {
    // Makes a `block_on` of `futures` in it a panic. There is an executor already in simulations.
    let _entered = enter();
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| Error::Panicked { message: message(&*panic) })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Runs a future of an embedder's, each poll for itself.
pub(crate) async fn guarded<T>(task: impl Future<Output = T>) -> Result<T> {
    let mut task = Some(Box::pin(task));
    poll_fn(move |context| {
        let polled = caught(|| task.as_mut().expect("it has not ended").as_mut().poll(context));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(error) => Err(error),
        };
        // What it owns is an embedder's too.
        let dropped = caught(|| drop(task.take()));
        Poll::Ready(dropped.and(result))
    })
    .await
}

/// Notes a panic while engine code runs in an embedder's future.
pub(crate) struct InEngine<'a> {
    panicked: &'a Cell<bool>,
    /// A destructor that runs because of a panic elsewhere may call the engine too.
    was_panicking: bool,
}

impl<'a> InEngine<'a> {
    pub(crate) fn new(panicked: &'a Cell<bool>) -> Self {
        Self { panicked, was_panicking: std::thread::panicking() }
    }
}

impl Drop for InEngine<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            self.panicked.set(true);
        }
    }
}

/// Ends the engine after an embedder's code had its answer, if the engine's own code panicked in it.
pub(crate) fn end_if_broken(shard: &Shard) {
    assert!(!shard.has_panicked(), "the engine panicked in a call of an embedder's code");
}

/// A task that [`LocalStore::spawn`] started: a future of its result. Dropping it detaches the task.
#[derive(Debug)]
#[must_use = "only the result reports whether the task panicked"]
pub struct LocalTask<T>(oneshot::Receiver<Result<T>>);

impl<T> Future for LocalTask<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}

impl LocalStore {
    /// Starts a task on this thread; it is first polled after the caller has awaited. A panic in it is [`Error::Panicked`] of
    /// what is returned, and a log message if that was dropped. It ends at the latest when the store has closed, dropped where
    /// it waits: the result is [`Error::Closed`] then. The number of tasks is the caller's to bound.
    pub fn spawn<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> LocalTask<T> {
        let (sender, receiver) = oneshot::channel();
        let shard = Rc::clone(self.shard());
        let run = async move {
            let result = guarded(task).await;
            if let Err(Err(error)) = sender.send(result) {
                tracing::error!(%error, "a task on the engine's thread");
            }
            end_if_broken(&shard);
        };
        self.runtime().spawn(Class::Foreground, Box::pin(run));
        LocalTask(receiver)
    }
}
