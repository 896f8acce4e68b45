//! The executor: the tasks, the clock and the alarms of one simulated thread, the same for the same seed.
//!
//! Each poll of a task moves the clock by a fixed cost. Runnable tasks are polled in the order in which they became
//! runnable, but for a seeded share of picks that takes any of them. Alarms (sleeps, completions of I/O) are looked at
//! when nothing is runnable or after 64 polls, as a reactor would; then the tasks in `yield_io` go on. When nothing is
//! runnable at all the clock jumps to the next alarm; when there is none, everything waits for ever: a deadlock.
//!
//! A crash is [`Executor::abandon`]: all tasks are dropped where they stand and what their destructors start is ignored.
//!
//! Invariants: 1. The clock never goes back. 2. A task is polled only after somebody woke it, once for each waking.
//! Limits: the polls of a run by `steps_max`, which ends loops that never end; the work that one poll does between two
//! awaits ([`seabed_types::work`]) by `work_max`, which finds requests that hold the thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use seabed_device::{Class, Local, Runtime};
use seabed_types::work::{self, Work};

use super::{Stuck, TaskOrder};

const POLLS_BEFORE_ALARMS: u32 = 64;
const POLL_COST: Duration = Duration::from_nanos(300);
const MAIN: u64 = 0;

/// Runnable tasks; behind a lock only because a waker must be `Send`.
#[derive(Default)]
struct Ready {
    line: Mutex<VecDeque<u64>>,
}

struct TaskWaker {
    task: u64,
    in_line: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.in_line.swap(true, Ordering::Relaxed) {
            self.ready.line.lock().expect("no panic while it is held").push_back(self.task);
        }
    }
}

struct Task {
    /// `None` while it is polled.
    future: Option<Local<()>>,
    waker: Arc<TaskWaker>,
}

enum Alarm {
    Wake(Waker),
    Call(Box<dyn FnOnce()>),
}

/// When, and a number that keeps alarms of one instant apart and in order.
type AlarmKey = (Duration, u64);

/// See the module.
pub(super) struct Executor {
    ready: Arc<Ready>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    alarms: RefCell<BTreeMap<AlarmKey, Alarm>>,
    after_io: RefCell<Vec<Waker>>,
    rng: RefCell<fastrand::Rng>,
    now: Cell<Duration>,
    next_number: Cell<u64>,
    steps: Cell<u64>,
    running: Cell<bool>,
    abandoned: Cell<bool>,
    order: TaskOrder,
    steps_max: u64,
    work_max: u64,
    /// The largest count of work of all polls so far.
    most: Cell<Work>,
}

impl Executor {
    pub(super) fn new(seed: u64, order: TaskOrder, (steps_max, work_max): (u64, u64)) -> Rc<Self> {
        Rc::new(Self {
            ready: Arc::default(),
            tasks: RefCell::default(),
            alarms: RefCell::default(),
            after_io: RefCell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            now: Cell::new(Duration::ZERO),
            next_number: Cell::new(MAIN + 1),
            steps: Cell::new(0),
            running: Cell::new(false),
            abandoned: Cell::new(false),
            order,
            steps_max,
            work_max,
            most: Cell::default(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.now.get()
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.get()
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// Polls of tasks so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The largest count of work of all polls so far.
    pub(super) fn most_work(&self) -> Work {
        self.most.get()
    }

    /// Whether the poll of `task` that has just ended did more than a poll may.
    fn check_work(&self, task: u64) -> Result<(), Stuck> {
        let done = work::take_most();
        if done.rank() > self.most.get().rank() {
            self.most.set(done);
        }
        if done.rank() > self.work_max && !std::thread::panicking() {
            return Err(Stuck::Held { now: self.now(), task, done, work_max: self.work_max });
        }
        Ok(())
    }

    /// Schedules a task.
    pub(super) fn spawn(&self, future: Local<()>) {
        if self.abandoned.get() {
            return;
        }
        let task = self.number();
        let waker = self.waker_of(task);
        waker.wake_by_ref();
        self.tasks.borrow_mut().insert(task, Task { future: Some(future), waker });
    }

    /// Calls `call` when the clock reaches `at`.
    pub(super) fn call_at(&self, at: Duration, call: Box<dyn FnOnce()>) {
        if !self.abandoned.get() {
            self.alarms.borrow_mut().insert((at, self.number()), Alarm::Call(call));
        }
    }

    /// Runs all tasks until `main` is done.
    pub(super) fn run<T>(&self, main: impl Future<Output = T>) -> Result<T, Stuck> {
        assert!(!self.running.replace(true), "a run within a run");
        let _guard = Running(&self.running);
        let mut main = pin!(main);
        let main_waker = self.waker_of(MAIN);
        main_waker.wake_by_ref();
        let steps_end = self.steps.get().saturating_add(self.steps_max);
        let mut polls = 0;
        loop {
            if polls == POLLS_BEFORE_ALARMS {
                polls = 0;
                self.ring_due();
            }
            let Some(task) = self.pick() else {
                polls = 0;
                self.wait_for_alarm()?;
                continue;
            };
            polls += 1;
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() > steps_end {
                return Err(Stuck::Steps { now: self.now(), steps_max: self.steps_max });
            }
            self.now.set(self.now() + POLL_COST);
            work::take_most();
            if task == MAIN {
                main_waker.in_line.store(false, Ordering::Relaxed);
                let waker = Waker::from(Arc::clone(&main_waker));
                if let Poll::Ready(value) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    // A waking that is still in line would be taken for one of the next run's main.
                    self.ready.line.lock().expect("no panic while it is held").retain(|task| *task != MAIN);
                    self.check_work(task)?;
                    return Ok(value);
                }
            } else {
                self.poll_task(task);
            }
            self.check_work(task)?;
        }
    }

    /// Drops all tasks and alarms; from now on nothing can be started.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
        // Each is taken out before it is dropped: a destructor may look at the executor.
        drop(self.alarms.take());
        drop(self.after_io.take());
        drop(self.tasks.take());
        self.ready.line.lock().expect("no panic while it is held").clear();
    }

    fn number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    fn waker_of(&self, task: u64) -> Arc<TaskWaker> {
        Arc::new(TaskWaker { task, in_line: AtomicBool::new(false), ready: Arc::clone(&self.ready) })
    }

    fn pick(&self) -> Option<u64> {
        let mut line = self.ready.line.lock().expect("no panic while it is held");
        if line.len() > 1
            && let TaskOrder::Perturbed { per_mille } = self.order
        {
            let mut rng = self.rng.borrow_mut();
            if rng.u32(..1000) < per_mille {
                let place = rng.usize(..line.len());
                return line.remove(place);
            }
        }
        line.pop_front()
    }

    fn poll_task(&self, number: u64) {
        let taken = self.tasks.borrow_mut().get_mut(&number).and_then(|task| {
            task.waker.in_line.store(false, Ordering::Relaxed);
            Some((task.future.take()?, Waker::from(Arc::clone(&task.waker))))
        });
        let Some((mut future, waker)) = taken else {
            return; // woken after its end
        };
        let ended = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if !ended && let Some(task) = self.tasks.borrow_mut().get_mut(&number) {
            task.future = Some(future);
            return;
        }
        let task = self.tasks.borrow_mut().remove(&number);
        drop(task);
        drop(future);
    }

    /// Nothing is runnable: looks at the alarms and, if that helps nobody, lets time pass until the next.
    fn wait_for_alarm(&self) -> Result<(), Stuck> {
        self.ring_due();
        if !self.ready.line.lock().expect("no panic while it is held").is_empty() {
            return Ok(());
        }
        let Some((at, _)) = self.alarms.borrow().keys().next().copied() else {
            return Err(Stuck::Deadlock { now: self.now(), tasks: self.tasks.borrow().len() });
        };
        self.now.set(self.now().max(at));
        self.ring_due();
        Ok(())
    }

    fn ring_due(&self) {
        loop {
            let due = {
                let mut alarms = self.alarms.borrow_mut();
                match alarms.first_entry() {
                    Some(first) if first.key().0 <= self.now() => first.remove(),
                    _ => break,
                }
            };
            match due {
                Alarm::Wake(waker) => waker.wake(),
                Alarm::Call(call) => call(),
            }
        }
        for waker in self.after_io.take() {
            waker.wake();
        }
    }
}

struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

struct Sleep {
    executor: Rc<Executor>,
    until: Duration,
    alarm: Option<AlarmKey>,
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some(key) = self.alarm.take() {
            let alarm = self.executor.alarms.borrow_mut().remove(&key);
            drop(alarm);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        if self.executor.now() >= self.until {
            return Poll::Ready(());
        }
        if !self.executor.abandoned.get() {
            let key = (self.until, self.executor.number());
            self.executor.alarms.borrow_mut().insert(key, Alarm::Wake(context.waker().clone()));
            self.alarm = Some(key);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The executor as the engine sees it.
pub(super) struct SimRuntime(pub(super) Rc<Executor>);

impl Runtime for SimRuntime {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn sleep(&self, time: Duration) -> Local<()> {
        Box::pin(Sleep { executor: Rc::clone(&self.0), until: self.0.now() + time, alarm: None })
    }

    fn yield_io(&self) -> Local<()> {
        let executor = Rc::clone(&self.0);
        Box::pin(yield_once(move |waker| executor.after_io.borrow_mut().push(waker.clone())))
    }

    fn yield_now(&self) -> Local<()> {
        Box::pin(yield_once(Waker::wake_by_ref))
    }

    fn spawn(&self, _: Class, task: Local<()>) {
        self.0.spawn(task);
    }
}

async fn yield_once(mut arrange: impl FnMut(&Waker)) {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        arrange(context.waker());
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(seed: u64, order: TaskOrder) -> (Rc<Executor>, Rc<SimRuntime>) {
        let executor = Executor::new(seed, order, (10_000, u64::MAX));
        (Rc::clone(&executor), Rc::new(SimRuntime(executor)))
    }

    #[test]
    fn sleeps_end_in_order_and_take_no_real_time() {
        let (executor, runtime) = machine(1, TaskOrder::Fifo);
        let log = Rc::new(RefCell::new(Vec::new()));
        for hours in [3, 1, 2] {
            let (log, runtime2) = (Rc::clone(&log), Rc::clone(&runtime));
            let task = async move {
                runtime2.sleep(Duration::from_hours(hours)).await;
                log.borrow_mut().push(hours);
            };
            runtime.spawn(Class::Background, Box::pin(task));
        }
        assert!(log.borrow().is_empty(), "spawn does not poll");
        executor.run(runtime.sleep(Duration::from_hours(4))).expect("ends");
        assert_eq!(*log.borrow(), [1, 2, 3]);
        assert!(runtime.now() >= Duration::from_hours(4));
    }

    #[test]
    fn waiting_for_nothing_is_a_deadlock() {
        let (executor, runtime) = machine(1, TaskOrder::Fifo);
        runtime.spawn(Class::Background, Box::pin(std::future::pending()));
        let stuck = executor.run(std::future::pending::<()>()).expect_err("nobody wakes it");
        assert!(matches!(stuck, Stuck::Deadlock { tasks: 1, .. }), "{stuck}");
    }

    #[test]
    fn a_loop_without_end_meets_the_step_limit() {
        let (executor, runtime) = machine(1, TaskOrder::Fifo);
        let endless = async {
            loop {
                runtime.yield_now().await;
            }
        };
        let stuck = executor.run::<()>(endless).expect_err("never ends");
        assert!(matches!(stuck, Stuck::Steps { .. }), "{stuck}");
    }

    #[test]
    fn a_dropped_sleep_is_forgotten() {
        let (executor, runtime) = machine(1, TaskOrder::Fifo);
        let main = async {
            let mut sleep = runtime.sleep(Duration::from_hours(1));
            assert!(futures::poll!(&mut sleep).is_pending());
            drop(sleep);
            std::future::pending::<()>().await;
        };
        let stuck = executor.run(main).expect_err("nothing left to wait for");
        assert!(matches!(stuck, Stuck::Deadlock { now, .. } if now < Duration::from_secs(1)), "{stuck}");
    }

    #[test]
    fn yields_let_others_go_first() {
        let (executor, runtime) = machine(1, TaskOrder::Fifo);
        let count = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let count = Rc::clone(&count);
            runtime.spawn(Class::Foreground, Box::pin(async move { count.set(count.get() + 1) }));
        }
        executor.run(runtime.yield_now()).expect("ends");
        assert_eq!(count.get(), 3);
        let before = runtime.now();
        executor.run(runtime.yield_io()).expect("ends");
        assert!(runtime.now() < before + Duration::from_micros(10), "time does not jump");
    }

    #[test]
    fn order_depends_on_the_seed_only() {
        let order_of = |seed, order| {
            let (executor, runtime) = machine(seed, order);
            let log = Rc::new(RefCell::new(Vec::new()));
            for number in 0..20 {
                let log = Rc::clone(&log);
                runtime.spawn(Class::Foreground, Box::pin(async move { log.borrow_mut().push(number) }));
            }
            executor.run(runtime.sleep(Duration::from_millis(1))).expect("ends");
            log.take()
        };
        let perturbed = TaskOrder::Perturbed { per_mille: 500 };
        assert_eq!(order_of(1, TaskOrder::Fifo), (0..20).collect::<Vec<_>>());
        assert_eq!(order_of(7, perturbed), order_of(7, perturbed));
        assert_ne!(order_of(7, perturbed), order_of(8, perturbed));
        assert_ne!(order_of(7, perturbed), order_of(7, TaskOrder::Fifo));
    }

    #[test]
    fn abandoning_drops_tasks_and_ignores_what_they_start() {
        struct Restless(Rc<SimRuntime>, Rc<Cell<bool>>);
        impl Drop for Restless {
            fn drop(&mut self) {
                self.1.set(true);
                self.0.spawn(Class::Background, Box::pin(async { unreachable!("never polled") }));
            }
        }
        let (executor, runtime) = machine(1, TaskOrder::Fifo);
        let dropped = Rc::new(Cell::new(false));
        let restless = Restless(Rc::clone(&runtime), Rc::clone(&dropped));
        let task = async move {
            let _restless = restless;
            std::future::pending::<()>().await;
        };
        runtime.spawn(Class::Background, Box::pin(task));
        executor.run(runtime.yield_io()).expect("ends");
        executor.abandon();
        assert!(dropped.get());
        assert!(executor.tasks.borrow().is_empty());
        executor.run(std::future::pending::<()>()).expect_err("nothing is left");
    }
}
