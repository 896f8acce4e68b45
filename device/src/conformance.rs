//! Conformance: what every [`Device`](crate::Device) and [`Runtime`](crate::Runtime) must do, as one suite.
//!
//! It runs on a machine whose device has at least 4 MiB and holds nothing of value: the suite overwrites the first
//! 4 MiB. It assumes nothing beyond the traits: no real time, no order of completions, no content before the first
//! write. It panics with a message at the first violation, and ends in well under a second.
//!
//! ```no_run
//! # async fn of_mine() -> seabed_device::Machine { unimplemented!() }
//! # async fn example() {
//! let machine = of_mine().await;
//! seabed_device::conformance::run(machine).await;
//! # }
//! ```
//!
//! Not here: faults, crashes, what a flush survives (a simulated device's own tests); errors that only a real
//! kernel makes.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use futures::FutureExt;
use futures::future::join_all;
use seabed_types::BLOCK_BYTES;

use crate::local::{Notify, Semaphore};
use crate::{Class, DeviceError, Durability, IoKind, Machine, WriteBuf, WriteOpts};

/// The part of the device that the suite uses.
const EXTENT_BYTES: usize = 4 << 20;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Runs the suite. Needs a device of 4 MiB or more that may be written.
pub async fn run(machine: Machine) {
    let bytes = machine.device.geometry().bytes;
    assert!(bytes >= EXTENT_BYTES as u64, "the suite needs a device of 4 MiB, this has {bytes} bytes");
    assert!(bytes.is_multiple_of(BLOCK), "a device of {bytes} bytes, which is no multiple of 4096");
    buffers_are_zeroed_and_aligned(&machine);
    what_was_written_is_read(&machine).await;
    a_buffer_can_be_written_twice(&machine).await;
    ranges_past_the_end_are_refused(&machine).await;
    many_operations_are_in_flight(&machine).await;
    an_operation_begins_when_called_and_outlives_its_future(&machine).await;
    flushes_and_discards_succeed(&machine).await;
    spawn_schedules_and_does_not_poll(&machine).await;
    time_goes_on(&machine).await;
    tasks_wake_each_other(&machine).await;
}

fn opts(durability: Durability) -> WriteOpts {
    WriteOpts { durability, class: Class::Foreground, stream: 0 }
}

/// A buffer of bytes that depend on the seed.
fn pattern(machine: &Machine, bytes: usize, seed: u64) -> WriteBuf {
    let mut buffer = machine.device.alloc(bytes);
    Rng::with_seed(seed).fill(&mut buffer);
    buffer
}

async fn write(machine: &Machine, at: u64, buffer: &Rc<WriteBuf>, durability: Durability) {
    let outcome = machine.device.write(at, Rc::clone(buffer), opts(durability)).await;
    outcome
        .unwrap_or_else(|error| panic!("a {durability:?} write of {} bytes at {at}: {error}", buffer.len()));
}

async fn assert_reads(machine: &Machine, at: u64, expected: &[u8], what: &str) {
    let found = machine.device.read(at, expected.len(), Class::Foreground).await;
    let found =
        found.unwrap_or_else(|error| panic!("{what}: a read of {} bytes at {at}: {error}", expected.len()));
    assert_eq!(found.len(), expected.len(), "{what}: a read at {at} gave another length");
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert_eq!(differs, None, "{what}: a read of {} bytes at {at} differs from byte", expected.len());
}

fn buffers_are_zeroed_and_aligned(machine: &Machine) {
    // Twice, so that memory which was used before comes back.
    for round in 0..2 {
        for blocks in [1, 2, 3, 33, 256] {
            let bytes = blocks * BLOCK_BYTES;
            let mut buffer = machine.device.alloc(bytes);
            assert_eq!(buffer.len(), bytes, "alloc gave another length");
            assert!(
                buffer.iter().all(|byte| *byte == 0),
                "alloc of {bytes} bytes, round {round}: not zeroed"
            );
            assert_eq!(buffer.as_ptr().align_offset(512), 0, "alloc of {bytes} bytes: not aligned");
            buffer.fill(0xa5);
            let kept = bytes - (blocks / 2) * BLOCK_BYTES;
            buffer.truncate(kept);
            assert_eq!(buffer.len(), kept, "truncate");
            assert!(buffer.iter().all(|byte| *byte == 0xa5), "truncate changed what it keeps");
        }
    }
}

async fn what_was_written_is_read(machine: &Machine) {
    let mut rng = Rng::with_seed(1);
    let mut model = pattern(machine, EXTENT_BYTES, 2).to_vec();
    let whole = Rc::new(pattern(machine, EXTENT_BYTES, 2));
    write(machine, 0, &whole, Durability::Cached).await;
    for (round, blocks) in [1, 2, 3, 5, 8, 33, 64, 255, 256, 300].into_iter().cycle().take(40).enumerate() {
        let bytes = blocks * BLOCK_BYTES;
        let begin = rng.usize(0..=(EXTENT_BYTES - bytes) / BLOCK_BYTES) * BLOCK_BYTES;
        let mut buffer = pattern(machine, bytes, 100 + round as u64);
        if round % 3 == 0 && blocks > 1 {
            buffer.truncate(bytes - BLOCK_BYTES);
        }
        let durability = if round % 2 == 0 { Durability::Durable } else { Durability::Cached };
        model[begin..][..buffer.len()].copy_from_slice(&buffer);
        let buffer = Rc::new(buffer);
        write(machine, begin as u64, &buffer, durability).await;
        assert_reads(machine, begin as u64, &buffer, "what was just written").await;
    }
    assert_reads(machine, 0, &model, "all that was written").await;
    for _ in 0..20 {
        let begin = rng.usize(0..EXTENT_BYTES / BLOCK_BYTES);
        let end = rng.usize(begin + 1..=EXTENT_BYTES / BLOCK_BYTES);
        let (begin, end) = (begin * BLOCK_BYTES, end * BLOCK_BYTES);
        assert_reads(machine, begin as u64, &model[begin..end], "a part of what was written").await;
    }
    // The last block of the device is one too.
    let last = machine.device.geometry().bytes - BLOCK;
    let buffer = Rc::new(pattern(machine, BLOCK_BYTES, 3));
    write(machine, last, &buffer, Durability::Durable).await;
    assert_reads(machine, last, &buffer, "the last block").await;
}

async fn a_buffer_can_be_written_twice(machine: &Machine) {
    let buffer = Rc::new(pattern(machine, 2 * BLOCK_BYTES, 4));
    let both =
        [0, 8 * BLOCK].map(|at| machine.device.write(at, Rc::clone(&buffer), opts(Durability::Cached)));
    for outcome in join_all(both).await {
        outcome.expect("a write of a shared buffer");
    }
    assert_reads(machine, 0, &buffer, "the first copy").await;
    assert_reads(machine, 8 * BLOCK, &buffer, "the second copy").await;
    // Alone again, it can be changed and written again.
    let mut buffer = buffer;
    let changed = Rc::get_mut(&mut buffer).expect("a completed write lets go of its buffer");
    changed[0] ^= 0xff;
    write(machine, 0, &buffer, Durability::Durable).await;
    assert_reads(machine, 0, &buffer, "a changed buffer").await;
}

async fn ranges_past_the_end_are_refused(machine: &Machine) {
    let device = &machine.device;
    let end = device.geometry().bytes;
    let cases =
        [(end, 1), (end - BLOCK, 2), (end + 64 * BLOCK, 1), (u64::MAX - (BLOCK - 1), 1), (1 << 62, 3)];
    for (at, blocks) in cases {
        let bytes = blocks * BLOCK_BYTES;
        let refused = |kind| Some(DeviceError::OutOfRange { kind, at, bytes: bytes as u64 });
        let read = device.read(at, bytes, Class::Foreground).await.err();
        assert_eq!(read, refused(IoKind::Read), "a read past the end");
        for durability in [Durability::Cached, Durability::Durable] {
            let buffer = Rc::new(device.alloc(bytes));
            let write = device.write(at, buffer, opts(durability)).await.err();
            assert_eq!(write, refused(IoKind::Write), "a write past the end");
        }
        let discard = device.discard(at, bytes as u64).await.err();
        assert_eq!(discard, refused(IoKind::Discard), "a discard past the end");
    }
}

async fn many_operations_are_in_flight(machine: &Machine) {
    const OPERATIONS: usize = 300;
    let seed = |index: usize| 1000 + index as u64;
    let at = |index: usize| index as u64 * 2 * BLOCK;
    let writes = (0..OPERATIONS).map(|index| {
        let buffer = Rc::new(pattern(machine, BLOCK_BYTES, seed(index)));
        let durability = if index % 4 == 0 { Durability::Durable } else { Durability::Cached };
        machine.device.write(at(index), buffer, opts(durability))
    });
    for outcome in join_all(writes).await {
        outcome.expect("one write of many");
    }
    let reads = (0..OPERATIONS).map(|index| machine.device.read(at(index), BLOCK_BYTES, Class::Background));
    for (index, outcome) in join_all(reads).await.into_iter().enumerate() {
        let found = outcome.expect("one read of many");
        assert_eq!(
            *found,
            *pattern(machine, BLOCK_BYTES, seed(index)),
            "read {index} of many got other bytes"
        );
    }
}

async fn an_operation_begins_when_called_and_outlives_its_future(machine: &Machine) {
    let device = &machine.device;
    let buffers: Vec<_> =
        (0..32).map(|index| Rc::new(pattern(machine, 4 * BLOCK_BYTES, 2000 + index))).collect();
    let at = |index: usize| index as u64 * 4 * BLOCK;
    for (index, buffer) in buffers.iter().enumerate() {
        let durability = if index % 2 == 0 { Durability::Durable } else { Durability::Cached };
        let mut write = device.write(at(index), Rc::clone(buffer), opts(durability));
        // Some are dropped after a poll, some without ever having been polled.
        if index % 3 == 0 {
            let _ = (&mut write).now_or_never();
        }
        drop(write);
    }
    device.quiesce().await;
    for (index, buffer) in buffers.iter().enumerate() {
        assert_reads(machine, at(index), buffer, "a write whose future was dropped").await;
    }
    let alone = buffers.iter().all(|buffer| Rc::strong_count(buffer) == 1);
    assert!(alone, "after quiesce an operation still holds its buffer");
    // Dropped reads, whose memory the kernel may still fill, do no harm to what is read and allocated after them.
    for index in 0..32 {
        drop(device.read(at(index), 4 * BLOCK_BYTES, Class::Foreground));
    }
    let zeroed: Vec<_> = (0..32).map(|_| device.alloc(4 * BLOCK_BYTES)).collect();
    device.quiesce().await;
    let is_untouched = zeroed.iter().all(|buffer| buffer.iter().all(|byte| *byte == 0));
    assert!(is_untouched, "a read whose future was dropped wrote into a later buffer");
    assert_reads(machine, 0, &buffers[0], "after dropped reads").await;
    // Nothing is in flight: at once.
    device.quiesce().await;
}

async fn flushes_and_discards_succeed(machine: &Machine) {
    let device = &machine.device;
    device.flush().await.expect("a flush with nothing written");
    let buffer = Rc::new(pattern(machine, 16 * BLOCK_BYTES, 5));
    write(machine, 0, &buffer, Durability::Cached).await;
    device.flush().await.expect("a flush");
    for outcome in join_all([device.flush(), device.flush(), device.flush()]).await {
        outcome.expect("one flush of three");
    }
    device.discard(4 * BLOCK, 4 * BLOCK).await.expect("a discard");
    device.discard(0, 0).await.expect("a discard of nothing");
    // What the discarded range reads as is open, but not that it can be read and written, nor what is around it.
    device.read(4 * BLOCK, 4 * BLOCK_BYTES, Class::Foreground).await.expect("a read of a discarded range");
    assert_reads(machine, 0, &buffer[..4 * BLOCK_BYTES], "before a discarded range").await;
    assert_reads(machine, 8 * BLOCK, &buffer[8 * BLOCK_BYTES..], "behind a discarded range").await;
    write(machine, 0, &buffer, Durability::Durable).await;
    assert_reads(machine, 0, &buffer, "a discarded range written again").await;
}

/// A runtime that polls inside `spawn` runs the new task inside a `RefCell` borrow or a half-done change of its
/// spawner: glommio's own `spawn_local` does.
async fn spawn_schedules_and_does_not_poll(machine: &Machine) {
    for class in [Class::Foreground, Class::Commit, Class::Background] {
        let (ran, notify) = (Rc::new(Cell::new(false)), Rc::new(Notify::default()));
        let (ran_inside, notify_inside) = (Rc::clone(&ran), Rc::clone(&notify));
        machine.runtime.spawn(
            class,
            Box::pin(async move {
                ran_inside.set(true);
                notify_inside.notify_all();
            }),
        );
        assert!(!ran.get(), "spawn({class:?}) polled the task before it returned");
        notify.until(|| ran.get()).await;
    }
    // A task may spawn, and a task that was dropped by nobody runs to its end.
    let (count, notify) = (Rc::new(Cell::new(0)), Rc::new(Notify::default()));
    for _ in 0..10 {
        let (machine_inside, count, notify) = (machine.clone(), Rc::clone(&count), Rc::clone(&notify));
        machine.runtime.spawn(
            Class::Foreground,
            Box::pin(async move {
                machine_inside.runtime.yield_now().await;
                machine_inside.clone().runtime.spawn(
                    Class::Background,
                    Box::pin(async move {
                        machine_inside.runtime.yield_io().await;
                        count.set(count.get() + 1);
                        notify.notify_all();
                    }),
                );
            }),
        );
    }
    notify.until(|| count.get() == 10).await;
}

async fn time_goes_on(machine: &Machine) {
    let runtime = &machine.runtime;
    let mut last = runtime.now();
    for micros in [0, 1, 50, 1000] {
        let time = Duration::from_micros(micros);
        let before = runtime.now();
        assert!(before >= last, "time went back");
        runtime.sleep(time).await;
        last = runtime.now();
        assert!(last >= before + time, "a sleep of {time:?} took {:?}", last.saturating_sub(before));
    }
    // Many at once; each takes its time. In which order those end that are over at once is open.
    let sleeps = [8, 2, 6, 4].map(|millis| async move {
        let (time, began) = (Duration::from_millis(millis), runtime.now());
        runtime.sleep(time).await;
        assert!(runtime.now() >= began + time, "one sleep of many, of {time:?}, ended early");
    });
    join_all(sleeps).await;
    // Neither way to yield is a way to get stuck, and both let a task run that waits for its turn.
    let ran = Rc::new(Cell::new(false));
    let ran_inside = Rc::clone(&ran);
    runtime.spawn(Class::Foreground, Box::pin(async move { ran_inside.set(true) }));
    while !ran.get() {
        runtime.yield_io().await;
        runtime.yield_now().await;
    }
}

async fn tasks_wake_each_other(machine: &Machine) {
    let semaphore = Semaphore::new(3);
    let (inside, most, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let notify = Rc::new(Notify::default());
    for index in 0..20 {
        let (machine_inside, semaphore) = (machine.clone(), Rc::clone(&semaphore));
        let (inside, most, done) = (Rc::clone(&inside), Rc::clone(&most), Rc::clone(&done));
        let notify = Rc::clone(&notify);
        let class = [Class::Foreground, Class::Commit, Class::Background][index % 3];
        machine.runtime.spawn(
            class,
            Box::pin(async move {
                let permit = semaphore.acquire(1).await;
                inside.set(inside.get() + 1);
                most.set(most.get().max(inside.get()));
                let read = machine_inside.device.read(index as u64 * BLOCK, BLOCK_BYTES, class).await;
                read.expect("a read in a task");
                machine_inside.runtime.yield_io().await;
                inside.set(inside.get() - 1);
                drop(permit);
                done.set(done.get() + 1);
                notify.notify_all();
            }),
        );
    }
    notify.until(|| done.get() == 20).await;
    assert_eq!((most.get(), semaphore.free()), (3, 3), "permits: at most 3 inside, 3 free at the end");
    // A task that wakes itself is polled again, and one that is woken before it waits does not miss it.
    let mut polls = 0;
    poll_fn(|context| {
        polls += 1;
        if polls == 5 {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
