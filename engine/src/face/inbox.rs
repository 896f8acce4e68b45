//! Inbox: the queue of calls from other threads to an engine thread, and the caller's half of each call.
//!
//! A call takes its place in the queue in the moment it is made ([`Inbox::send`]), however many wait before it, and from
//! then on it is *sent*: the engine thread takes calls in the order of the queue and carries out each of them, whether its
//! caller still waits or not. So calls of one thread take effect in the order in which they were made, and a dropped call
//! never overtakes a later one. The engine thread takes a call only while it has memory for requests (`store.rs`).
//!
//! Invariants: 1. Calls leave the queue in the order of [`Inbox::send`]. 2. Every call ends: it is answered, or its [`Reply`]
//! is dropped with the engine, and its caller is woken either way.
//! Limits: a waiting call belongs to its caller, which holds an [`Answer`] for it: so the queue has no bound of its own. A call
//! whose `Answer` was dropped has no owner; while such *abandoned* calls take more than a share of the memory budget, further
//! calls fail with [`Error::Backlog`] instead of being sent.
//! Cost: one lock for each call, one for all calls that the engine takes together; one wake while the engine sleeps.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::{Error, Result};

/// Bytes that a call takes besides what it carries.
const CALL_BYTES: usize = 1024;

/// The end of an engine thread: ready when the thread is gone and the device is released, as often as it is asked.
pub(crate) type End = Shared<BoxFuture<'static, Result<()>>>;

/// The callers' end of the queue.
pub(crate) struct Inbox<J> {
    queue: Arc<Mutex<Queue<J>>>,
    abandoned: Arc<Abandoned>,
}

/// The engine's end of the queue. Dropping it drops all calls in it.
pub(crate) struct Jobs<J> {
    queue: Arc<Mutex<Queue<J>>>,
    /// Taken from the queue, not yet handed out.
    taken: VecDeque<J>,
}

struct Queue<J> {
    jobs: VecDeque<J>,
    /// Of the engine's task, while it waits for calls.
    waker: Option<Waker>,
    state: QueueState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum QueueState {
    Open,
    /// No more calls; those in the queue are carried out.
    Closed,
    /// The engine has ended by itself.
    Gone,
}

/// Bytes of calls that were dropped by their callers and are not finished.
struct Abandoned {
    bytes: AtomicUsize,
    max: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that panics runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A queue, in which abandoned calls may take `abandoned_max` bytes.
pub(crate) fn inbox<J>(abandoned_max: usize) -> (Inbox<J>, Jobs<J>) {
    let queue = Queue { jobs: VecDeque::new(), waker: None, state: QueueState::Open };
    let queue = Arc::new(Mutex::new(queue));
    let abandoned = Arc::new(Abandoned { bytes: AtomicUsize::new(0), max: abandoned_max });
    (Inbox { queue: Arc::clone(&queue), abandoned }, Jobs { queue, taken: VecDeque::new() })
}

impl<J> Inbox<J> {
    /// Sends a call that carries `bytes` bytes. `job` makes the engine's part of it, which must answer the [`Reply`].
    pub(crate) fn send<T>(&self, bytes: usize, end: &End, job: impl FnOnce(Reply<T>) -> J) -> Answer<T> {
        let abandoned = self.abandoned.bytes.load(Ordering::Relaxed);
        if abandoned > self.abandoned.max {
            return Answer::failed(Error::Backlog { bytes: abandoned, max: self.abandoned.max });
        }
        let call = Arc::new(Call {
            state: Mutex::new(State::Waiting(None)),
            bytes: bytes + CALL_BYTES,
            abandoned: Arc::clone(&self.abandoned),
        });
        let answer = Answer { step: Step::Sent(Arc::clone(&call), end.clone()) };
        let job = job(Reply { call });
        let mut queue = lock(&self.queue);
        match queue.state {
            QueueState::Open => {}
            QueueState::Closed => return Answer::failed(Error::Closed),
            QueueState::Gone => return Answer { step: Step::Ended(end.clone()) },
        }
        // Once a call was granted a place only when fewer than 64 waited, so that later ones could be faster.
        if seabed_types::seeded!(71) && queue.jobs.len() >= 64 {
            queue.jobs.push_front(job);
        } else {
            queue.jobs.push_back(job);
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        answer
    }

    /// Ends the queue: what is in it is carried out, further calls are [`Error::Closed`].
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.queue);
        if queue.state == QueueState::Open {
            queue.state = QueueState::Closed;
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<J> Jobs<J> {
    /// The next call, in the order in which they were made; none when the queue is closed and empty. Cancel safety: a future
    /// that is dropped takes nothing.
    pub(crate) async fn next(&mut self) -> Option<J> {
        poll_fn(|context| {
            if let Some(job) = self.taken.pop_front() {
                return Poll::Ready(Some(job));
            }
            let mut queue = lock(&self.queue);
            std::mem::swap(&mut queue.jobs, &mut self.taken);
            let first = self.taken.pop_front();
            if first.is_none() && queue.state == QueueState::Open {
                queue.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(first)
        })
        .await
    }
}

impl<J> Drop for Jobs<J> {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        if queue.state == QueueState::Open {
            queue.state = QueueState::Gone;
        }
        let left = std::mem::take(&mut queue.jobs);
        drop(queue);
        // Runs the drops of what callers sent, hence not under the lock.
        drop(left);
    }
}

/// What caller and engine share of one call.
struct Call<T> {
    state: Mutex<State<T>>,
    bytes: usize,
    abandoned: Arc<Abandoned>,
}

enum State<T> {
    /// It is not finished; its caller's waker, if that waits.
    Waiting(Option<Waker>),
    /// It is not finished, and its caller is gone.
    Abandoned,
    /// It is finished; none if the engine ended without an answer.
    Finished(Option<Result<T>>),
}

impl<T> Call<T> {
    fn finish(&self, answer: Option<Result<T>>) {
        let before = std::mem::replace(&mut *lock(&self.state), State::Finished(answer));
        match before {
            State::Waiting(Some(waker)) => waker.wake(),
            State::Abandoned => {
                self.abandoned.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            }
            State::Waiting(None) => {}
            State::Finished(_) => unreachable!("a reply is used once"),
        }
    }
}

/// The engine's half of a call: takes the answer.
pub(crate) struct Reply<T> {
    call: Arc<Call<T>>,
}

impl<T> Reply<T> {
    /// Answers the call.
    pub(crate) fn answer(self, answer: Result<T>) {
        self.call.finish(Some(answer));
    }

    /// Whether the caller has dropped its half.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(&*lock(&self.call.state), State::Abandoned)
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let is_open = !matches!(&*lock(&self.call.state), State::Finished(_));
        if is_open {
            self.call.finish(None);
        }
    }
}

/// The answer to a call that was made: a future on any executor.
///
/// The call was sent when the function that returned this was called. Cancel safety: dropping it changes nothing: the call is
/// carried out, at its place in the order.
#[must_use = "only the answer reports whether the call succeeded"]
pub struct Answer<T> {
    step: Step<T>,
}

enum Step<T> {
    Sent(Arc<Call<T>>, End),
    /// The engine ended without an answer; its end says why.
    Ended(End),
    Failed(Error),
    Done,
}

impl<T> Unpin for Answer<T> {}

impl<T> std::fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let step = match &self.step {
            Step::Sent(..) | Step::Ended(_) => "sent",
            Step::Failed(_) => "failed",
            Step::Done => "done",
        };
        f.debug_tuple("Answer").field(&step).finish()
    }
}

impl<T> Answer<T> {
    /// Of a call that was not sent.
    pub(crate) fn failed(error: Error) -> Self {
        Self { step: Step::Failed(error) }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        loop {
            let next = match &mut self.step {
                Step::Sent(call, end) => {
                    let mut state = lock(&call.state);
                    match &mut *state {
                        State::Waiting(waker) => {
                            let is_known = waker.as_ref().is_some_and(|old| old.will_wake(context.waker()));
                            if !is_known {
                                *waker = Some(context.waker().clone());
                            }
                            return Poll::Pending;
                        }
                        State::Finished(answer) => match answer.take() {
                            Some(answer) => {
                                drop(state);
                                self.step = Step::Done;
                                return Poll::Ready(answer);
                            }
                            None => Step::Ended(end.clone()),
                        },
                        State::Abandoned => unreachable!("only a dropped answer abandons its call"),
                    }
                }
                Step::Ended(end) => {
                    let Poll::Ready(ended) = end.poll_unpin(context) else { return Poll::Pending };
                    self.step = Step::Done;
                    return Poll::Ready(Err(ended.err().unwrap_or(Error::Closed)));
                }
                Step::Failed(_) => {
                    let Step::Failed(error) = std::mem::replace(&mut self.step, Step::Done) else {
                        unreachable!("looked at above")
                    };
                    return Poll::Ready(Err(error));
                }
                Step::Done => panic!("an answer was polled after it was ready"),
            };
            self.step = next;
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let Step::Sent(call, _) = &self.step else { return };
        let mut state = lock(&call.state);
        if let State::Waiting(_) = &*state {
            seabed_types::reached!(AbandonedCall);
            let before = std::mem::replace(&mut *state, State::Abandoned);
            // Under the lock: the engine subtracts what it finds abandoned.
            call.abandoned.bytes.fetch_add(call.bytes, Ordering::Relaxed);
            drop(state);
            drop(before);
        }
    }
}
