//! How threads end: what main leaves behind, panics, and an executor that must not fall asleep over its work.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use seabed_device::glommio_host::{GlommioHost, HostOptions};
use seabed_device::{Class, Durability, Host, Local, Machine, OpenError, WriteOpts};

use crate::child::{Part, Process};
use crate::limit::limit;
use crate::suite::{MIB, on_one_thread, sparse};

const CACHED: WriteOpts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };

/// Counts how many of it were dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tasks that never end on their own: one with I/O in flight at all times, one that waits for a value that only it
/// keeps alive, one in a long sleep. They must neither keep the thread nor be leaked.
#[test]
fn what_main_leaves_is_dropped_and_its_io_waited_for() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 1..=3 {
        let host = GlommioHost::open(&path, HostOptions::default()).expect("open");
        let counter = Arc::clone(&dropped);
        let main = move |machine: Machine| {
            let counted = [0; 3].map(|_| Counted(Arc::clone(&counter)));
            async move {
                let [busy, waiting, sleeping] = counted;
                let (machine, inside) = (machine.clone(), machine);
                let writer: Local<()> = Box::pin(async move {
                    let _busy = busy;
                    loop {
                        let buffer = Rc::new(inside.device.alloc(4096));
                        inside.device.write(0, buffer, CACHED).await.expect("open as long as tasks run");
                    }
                });
                machine.runtime.spawn(Class::Background, writer);
                let itself: Rc<RefCell<Option<std::task::Waker>>> = Rc::default();
                let waiter: Local<()> = Box::pin(async move {
                    let _waiting = waiting;
                    std::future::poll_fn(|context| {
                        *itself.borrow_mut() = Some(context.waker().clone());
                        std::task::Poll::<()>::Pending
                    })
                    .await;
                });
                machine.runtime.spawn(Class::Foreground, waiter);
                let sleep = machine.runtime.sleep(Duration::from_hours(1));
                let sleeper: Local<()> = Box::pin(async move {
                    let _sleeping = sleeping;
                    sleep.await;
                });
                machine.runtime.spawn(Class::Commit, sleeper);
                machine.device.read(0, 4096, Class::Foreground).await.expect("a read");
            }
        };
        on_one_thread(&host, main).expect("no panic");
        assert_eq!(dropped.load(Ordering::Relaxed), 3 * round, "tasks were leaked");
    }
}

/// A device that outlives its thread's main refuses, and does not touch what is closed.
#[test]
fn a_thread_writes_what_it_began_before_it_ends() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let host = GlommioHost::open(&path, HostOptions::default()).expect("open");
    let main = async |machine: Machine| {
        for block in 0..256 {
            let mut buffer = machine.device.alloc(4096);
            buffer.fill(9);
            drop(machine.device.write(block * 4096, Rc::new(buffer), CACHED));
        }
    };
    on_one_thread(&host, main).expect("no panic");
    let mut found = vec![0; 1 << 20];
    host.read_at(0, &mut found).expect("a read");
    assert!(found.iter().all(|byte| *byte == 9), "the executor went with writes in flight");
}

/// glommio lets a panic unwind the executor while the kernel still has its buffers. It must end in an error, with
/// the writes that were begun landed, the lock free, and the other thread undisturbed.
#[test]
fn a_panic_ends_its_thread_in_order() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    for where_to in ["main", "a task", "before the first await"] {
        let host = GlommioHost::open(&path, HostOptions::default()).expect("free");
        let main = move |machine: Machine| {
            for block in 0..256 {
                let mut buffer = machine.device.alloc(4096);
                buffer.fill(5);
                drop(machine.device.write(block * 4096, Rc::new(buffer), CACHED));
                // The kernel fills these buffers while their owners unwind.
                drop(machine.device.read(block * 4096, 4096, Class::Foreground));
            }
            assert!(where_to != "before the first await", "a panic on purpose");
            async move {
                if where_to == "a task" {
                    let task = Box::pin(async { panic!("a panic on purpose") });
                    machine.runtime.spawn(Class::Background, task);
                    std::future::pending::<()>().await;
                }
                panic!("a panic on purpose");
            }
        };
        let outcome = on_one_thread(&host, main);
        assert_eq!(outcome, Err(OpenError::Panicked), "in {where_to}");
        let mut found = vec![0; 1 << 20];
        host.read_at(0, &mut found).expect("a read");
        assert!(found.iter().all(|byte| *byte == 5), "in {where_to}: writes were lost");
    }
    GlommioHost::open(&path, HostOptions::default()).expect("free again");
}

#[test]
fn threads_share_a_device_and_a_clock() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let host = GlommioHost::open(&path, HostOptions::default()).expect("open");
    let turn = Arc::new(AtomicUsize::new(0));
    let main = move |machine: Machine| -> Local<()> {
        let me = turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let begin = me as u64 * 64 * 4096;
            for block in 0..64 {
                let mut buffer = machine.device.alloc(4096);
                buffer.fill(u8::try_from(me + 1).expect("small"));
                machine.device.write(begin + block * 4096, Rc::new(buffer), CACHED).await.expect("a write");
            }
            assert!(machine.runtime.now() > Duration::ZERO);
        })
    };
    host.start(3, Arc::new(main)).expect("start")().expect("no panic");
    let mut found = vec![0; 3 * 64 * 4096];
    host.read_at(0, &mut found).expect("a read");
    for (me, bytes) in found.chunks(64 * 4096).enumerate() {
        assert!(bytes.iter().all(|byte| usize::from(*byte) == me + 1), "thread {me}");
    }
}

/// glommio parks although a task is runnable if its preempt timer (25 ms here) fires between being set and being
/// looked at, which a process that is stopped at the wrong moment sees. A chain of reads, each of which goes past that
/// moment, then hangs: nothing is in flight that would wake it. Stops hit that moment now and then; the test that
/// always does is in `glommio_host`.
#[test]
fn a_process_that_was_stopped_goes_on() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let mut reader = Process::start(Part::Read, &path);
    let pid = Pid::from_raw(i32::try_from(reader.id()).expect("a pid")).expect("a pid");
    for _ in 0..30 {
        assert_eq!(reader.says(), "read");
        kill_process(pid, Signal::STOP).expect("ours");
        // Past the preempt timer: being stopped for that long is the point.
        std::thread::sleep(Duration::from_millis(30));
        kill_process(pid, Signal::CONT).expect("ours");
    }
    assert!(reader.end().success());
}
