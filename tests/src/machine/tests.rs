//! The machine as a whole: the conformance suite, traces that repeat, faults of each kind, stalls, several shards.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use seabed_device::{Class, Device, DeviceError, Durability, Host, IoKind, Main, WriteOpts};
use seabed_types::BLOCK_BYTES;

use super::*;

const BLOCK: u64 = BLOCK_BYTES as u64;
const CACHED: WriteOpts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };
const DURABLE: WriteOpts = WriteOpts { durability: Durability::Durable, class: Class::Commit, stream: 1 };

fn options() -> SimOptions {
    SimOptions { disk_bytes: 1 << 20, ..SimOptions::default() }
}

fn with_fault(fault: Fault) -> Simulation {
    Simulation::new(5, SimOptions { faults: Faults::none().with(fault), ..options() })
}

async fn write(device: &Rc<dyn Device>, block: u64, byte: u8, opts: WriteOpts) -> Result<(), DeviceError> {
    let mut buf = device.alloc(BLOCK_BYTES);
    buf.fill(byte);
    device.write(block * BLOCK, Rc::new(buf), opts).await
}

async fn first(device: &Rc<dyn Device>, block: u64) -> Result<u8, DeviceError> {
    Ok(device.read(block * BLOCK, BLOCK_BYTES, Class::Foreground).await?[0])
}

/// A rejected put of 200 MiB held the engine's thread for 0.58 s, and no suite noticed: all runs took no virtual time.
#[test]
fn a_poll_that_does_too_much_ends_the_run() {
    let sim = Simulation::new(3, options());
    let machine = sim.machine();
    let sums = |bytes: usize| {
        let runtime = Rc::clone(&machine.runtime);
        async move {
            for slice in vec![7; bytes].chunks(1 << 20) {
                seabed_types::work::name("a put");
                seabed_types::Crc::of(slice);
                runtime.yield_io().await;
            }
            seabed_types::Crc::of(&vec![7; bytes % (1 << 20)]);
        }
    };
    machine.runtime.spawn(Class::Foreground, Box::pin(sums(64 << 20)));
    sim.run(sums((64 << 20) + 5)).expect("1 MiB in a poll");
    assert_eq!(sim.most_work().bytes, 1 << 20);
    let runtime = Rc::clone(&machine.runtime);
    machine.runtime.spawn(
        Class::Foreground,
        Box::pin(async move {
            runtime.yield_io().await;
            seabed_types::work::name("a put");
            seabed_types::Crc::of(&vec![7; 5 << 20]);
        }),
    );
    let stuck = sim.run(machine.runtime.sleep(Duration::from_secs(1))).expect_err("it holds the thread");
    let Stuck::Held { task, done, .. } = stuck else { panic!("{stuck}") };
    assert!(task != 0 && done.of == "a put" && done.bytes == 5 << 20, "{stuck}");
}

/// A run with four tasks that write, flush and read in their own quarters, some of it left in flight.
fn busy(seed: u64) -> Simulation {
    let sim = Simulation::new(seed, options());
    let tasks = (0..4_u64).map(|task| {
        let sim = &sim;
        let machine = sim.machine();
        async move {
            let mut rng = fastrand::Rng::with_seed(task);
            for number in 0..30 {
                let block = task * 64 + rng.u64(..63);
                match rng.u8(..6) {
                    0 => machine.device.flush().await.expect("no fault"),
                    1 => machine.device.discard(block * BLOCK, BLOCK).await.expect("no fault"),
                    2 => write(&machine.device, block, rng.u8(..), DURABLE).await.expect("no fault"),
                    3 => drop(first(&machine.device, rng.u64(..256)).await.expect("no fault")),
                    _ => write(&machine.device, block, rng.u8(..), CACHED).await.expect("no fault"),
                }
                sim.mark(Mark::Acknowledged { log: 0, number });
            }
            drop(write(&machine.device, task * 64 + 63, 1, CACHED));
        }
    });
    sim.run(join_all(tasks)).expect("ends");
    sim
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| busy(seed).finish().hash();
    assert_eq!(hash(1), hash(1));
    assert_eq!(hash(2), hash(2));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn reads_see_what_the_frontier_says() {
    for seed in 0..20 {
        let sim = busy(seed);
        sim.run_until_idle().expect("no loop");
        assert_eq!(sim.in_flight(), 0);
        let all = sim.frontier().crash_image(CrashMode::Completed, &mut fastrand::Rng::with_seed(1));
        let device = sim.machine().device;
        let bytes = sim.run(device.read(0, 1 << 20, Class::Foreground)).expect("ends").expect("no fault");
        assert!(all.read(0, 1 << 20) == *bytes, "seed {seed}");
    }
}

#[test]
fn an_operation_whose_future_is_dropped_is_done_all_the_same() {
    let sim = Simulation::new(1, options());
    let device = sim.machine().device;
    let mut buf = device.alloc(BLOCK_BYTES);
    buf.fill(3);
    drop(device.write(BLOCK, Rc::new(buf), CACHED));
    let other = sim.machine().device;
    sim.run(other.quiesce()).expect("ends");
    assert_eq!(sim.in_flight(), 1, "another handle does not wait for it");
    sim.run(device.quiesce()).expect("ends");
    assert_eq!(sim.in_flight(), 0);
    assert_eq!(sim.run(first(&device, 1)).expect("ends"), Ok(3));
}

#[test]
#[should_panic(expected = "invariant 1")]
fn writes_in_flight_must_not_overlap() {
    let sim = Simulation::new(1, options());
    let device = sim.machine().device;
    drop(device.write(0, Rc::new(device.alloc(2 * BLOCK_BYTES)), CACHED));
    drop(device.write(BLOCK, Rc::new(device.alloc(BLOCK_BYTES)), CACHED));
}

#[test]
fn a_read_beside_a_write_sees_either_in_each_sector() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let sim = Simulation::new(seed, options());
        let device = sim.machine().device;
        let mut buf = device.alloc(BLOCK_BYTES);
        buf.fill(9);
        drop(device.write(BLOCK, Rc::new(buf), CACHED));
        let read = sim.run(device.read(BLOCK, BLOCK_BYTES, Class::Foreground)).expect("ends");
        let bytes = read.expect("no fault");
        seen.insert(bytes.chunks(SECTOR_BYTES).filter(|sector| sector[0] == 9).count());
    }
    assert!(seen.contains(&8) && seen.len() > 2, "{seen:?}");
}

#[test]
fn completions_come_out_of_order() {
    let sim = Simulation::new(1, options());
    let device = sim.machine().device;
    let order = std::cell::RefCell::new(Vec::new());
    let writes = (0..20).map(|block| {
        let (device, order) = (&device, &order);
        async move {
            write(device, block, 1, CACHED).await.expect("no fault");
            order.borrow_mut().push(block);
        }
    });
    sim.run(join_all(writes)).expect("ends");
    assert!(!order.borrow().is_sorted());
    assert!(sim.now() >= Duration::from_micros(20));
}

#[test]
fn a_range_past_the_end_is_an_error() {
    let sim = Simulation::new(1, options());
    let device = sim.machine().device;
    let end = 1 << 20;
    let read = sim.run(first(&device, end / BLOCK)).expect("ends");
    assert_eq!(read, Err(DeviceError::OutOfRange { kind: IoKind::Read, at: end, bytes: BLOCK }));
    assert!(sim.run(write(&device, end / BLOCK, 1, CACHED)).expect("ends").is_err());
    assert!(sim.run(device.discard(end - BLOCK, 2 * BLOCK)).expect("ends").is_err());
    assert_eq!(sim.trace().events(), 0);
}

#[test]
fn a_dead_machine_does_nothing_more() {
    let sim = Simulation::new(1, options());
    let machine = sim.machine();
    drop(machine.device.write(0, Rc::new(machine.device.alloc(BLOCK_BYTES)), CACHED));
    sim.crash();
    let events = sim.trace().events();
    assert!(sim.run(machine.device.flush()).is_err());
    assert!(sim.run(machine.runtime.sleep(Duration::from_secs(1))).is_err());
    sim.mark(Mark::Note { what: "never", number: 0 });
    assert_eq!(sim.trace().events(), events);
}

#[test]
fn a_host_runs_its_threads_as_tasks() {
    let sim = Simulation::new(1, options());
    let host = sim.host();
    let count = Arc::new(AtomicU64::new(0));
    let main: Main = {
        let count = Arc::clone(&count);
        Arc::new(move |machine| {
            let count = Arc::clone(&count);
            Box::pin(async move {
                let block = count.fetch_add(1, Ordering::Relaxed);
                drop(write(&machine.device, block, 1, CACHED));
                machine.runtime.sleep(Duration::from_millis(1)).await;
            })
        })
    };
    let join = host.start(3, main).expect("a simulation always starts");
    assert_eq!(count.load(Ordering::Relaxed), 0, "not before the simulation runs");
    join().expect("no panic");
    assert_eq!(count.load(Ordering::Relaxed), 3);
    assert_eq!(host.geometry().bytes, 1 << 20);
}

#[test]
fn a_failed_read_fails_once_or_for_ever() {
    let fault = Fault::on(IoKind::Read, Effect::Fail { errno: ENODATA }).after(1);
    let once = with_fault(fault.clone());
    let device = once.machine().device;
    let results: Vec<bool> = (0..4).map(|_| once.run(first(&device, 0)).expect("ends").is_ok()).collect();
    assert_eq!(results, [true, false, true, true]);

    let ever = with_fault(fault.for_ever());
    let device = ever.machine().device;
    assert!(ever.run(first(&device, 0)).expect("ends").is_ok());
    for _ in 0..3 {
        let error = ever.run(first(&device, 0)).expect("ends").expect_err("for ever");
        assert_eq!(error, DeviceError::Io { kind: IoKind::Read, at: 0, bytes: BLOCK, errno: ENODATA });
    }
    ever.with_faults(Faults::stop);
    assert!(ever.run(first(&device, 0)).expect("ends").is_ok());
}

#[test]
fn a_failed_write_leaves_old_or_new() {
    for (landed, expected) in [(Landed::Nothing, 1), (Landed::Everything, 2)] {
        let sim = with_fault(Fault::on(IoKind::Write, Effect::FailWrite { errno: ENOSPC, landed }).after(1));
        let device = sim.machine().device;
        assert_eq!(sim.run(write(&device, 0, 1, CACHED)).expect("ends"), Ok(()));
        let error = sim.run(write(&device, 0, 2, DURABLE)).expect("ends").expect_err("planned");
        assert_eq!(error, DeviceError::Io { kind: IoKind::Write, at: 0, bytes: BLOCK, errno: ENOSPC });
        assert_eq!(sim.run(first(&device, 0)).expect("ends"), Ok(expected));
        assert!(!sim.is_durable(0, BLOCK), "a failed durable write promises nothing");
    }
}

#[test]
fn a_failed_flush_keeps_loses_or_reverts_the_cache() {
    for (cache, seen, durable_after_next) in
        [(Cache::Kept, Some(1), true), (Cache::Lost, Some(1), false), (Cache::Reverted, None, true)]
    {
        let sim = with_fault(Fault::on(IoKind::Flush, Effect::FailFlush { errno: EIO, cache }));
        let device = sim.machine().device;
        sim.run(write(&device, 0, 1, CACHED)).expect("ends").expect("no fault");
        sim.run(device.flush()).expect("ends").expect_err("planned");
        if let Some(seen) = seen {
            assert_eq!(sim.run(first(&device, 0)).expect("ends"), Ok(seen));
        } else {
            let bytes =
                sim.run(device.read(0, BLOCK_BYTES, Class::Foreground)).expect("ends").expect("no fault");
            assert!(bytes.contains(&0), "something is gone at once");
        }
        sim.run(device.flush()).expect("ends").expect("only the first fails");
        assert_eq!(sim.is_durable(0, BLOCK), durable_after_next, "{cache:?}");
        // A rewrite is what helps in every case.
        sim.run(write(&device, 0, 2, CACHED)).expect("ends").expect("no fault");
        sim.run(device.flush()).expect("ends").expect("only the first fails");
        assert!(sim.is_durable(0, BLOCK), "{cache:?}");
    }
}

#[test]
fn a_flush_may_lie() {
    let sim = with_fault(Fault::on(IoKind::Flush, Effect::LieFlush));
    let device = sim.machine().device;
    sim.run(write(&device, 0, 1, CACHED)).expect("ends").expect("no fault");
    sim.run(device.flush()).expect("ends").expect("it says so");
    assert!(!sim.is_durable(0, BLOCK));
    sim.run(device.flush()).expect("ends").expect("no fault");
    assert!(sim.is_durable(0, BLOCK));
}

#[test]
fn a_lost_write_leaves_the_old_bytes() {
    let sim = with_fault(Fault::on(IoKind::Write, Effect::LoseWrite).after(1));
    let device = sim.machine().device;
    for byte in [1, 2] {
        sim.run(write(&device, 0, byte, DURABLE)).expect("ends").expect("it says so");
    }
    assert_eq!(sim.run(first(&device, 0)).expect("ends"), Ok(1));
    let trace = sim.finish();
    let image = trace.crash_image(trace.events(), CrashMode::Everything, &mut fastrand::Rng::with_seed(1));
    assert_eq!(image.read(0, BLOCK_BYTES)[0], 1);
}

#[test]
fn a_misdirected_write_or_read_goes_elsewhere() {
    let sim = with_fault(Fault::on(IoKind::Write, Effect::Misdirect { to: 5 * BLOCK }).after(1));
    let device = sim.machine().device;
    for byte in [1, 2] {
        sim.run(write(&device, 0, byte, DURABLE)).expect("ends").expect("it says so");
    }
    assert_eq!(sim.run(first(&device, 0)).expect("ends"), Ok(1));
    assert_eq!(sim.run(first(&device, 5)).expect("ends"), Ok(2));
    sim.with_faults(|faults| faults.plan(Fault::on(IoKind::Read, Effect::Misdirect { to: 5 * BLOCK })));
    assert_eq!(sim.run(first(&device, 0)).expect("ends"), Ok(2));
    assert_eq!(sim.run(first(&device, 0)).expect("ends"), Ok(1));
}

#[test]
fn a_bit_turns_over_at_rest_for_good() {
    let sim = with_fault(Fault::on(IoKind::Read, Effect::Flip { at: BLOCK, bit: 7 }));
    let device = sim.machine().device;
    sim.run(write(&device, 1, 1, DURABLE)).expect("ends").expect("no fault");
    assert_eq!(sim.run(first(&device, 1)).expect("ends"), Ok(0x81));
    sim.run(write(&device, 2, 1, CACHED)).expect("ends").expect("no fault");
    sim.flip(2 * BLOCK, 1);
    assert_eq!(sim.run(first(&device, 2)).expect("ends"), Ok(3));
    let trace = sim.finish();
    let image = trace.crash_image(trace.events(), CrashMode::Durable, &mut fastrand::Rng::with_seed(1));
    assert_eq!(image.read(BLOCK, BLOCK_BYTES)[0], 0x81);
    assert_eq!(image.read(2 * BLOCK, BLOCK_BYTES)[0], 2, "the medium too");
}

#[test]
fn a_stall_delays_one_operation_or_all() {
    let half_minute = Duration::from_secs(30);
    for (effect, other_waits) in
        [(Effect::Stall { time: half_minute }, false), (Effect::StallDevice { time: half_minute }, true)]
    {
        let sim = with_fault(Fault::on(IoKind::Write, effect));
        let device = sim.machine().device;
        let stalled = device.write(0, Rc::new(device.alloc(BLOCK_BYTES)), CACHED);
        sim.run(first(&device, 1)).expect("ends").expect("no fault");
        assert_eq!(sim.now() > half_minute, other_waits);
        sim.run(stalled).expect("ends").expect("no fault");
        assert!(sim.now() > half_minute);
    }
}

#[test]
fn a_dropped_simulation_frees_its_tasks() {
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Rc::new(Cell::new(false));
    let sim = Simulation::new(1, options());
    let (machine, flag) = (sim.machine(), Flag(Rc::clone(&dropped)));
    sim.spawn(Box::pin(async move {
        let _flag = flag;
        drop(write(&machine.device, 0, 1, CACHED));
        pending::<()>().await;
    }));
    sim.run_until_idle().expect("no loop");
    assert_eq!(sim.run_until_idle(), Ok(1), "one task waits for ever");
    drop(sim);
    assert!(dropped.get());
}

#[test]
fn an_image_survives_a_file() {
    let trace = busy(3).finish();
    let image = trace.crash_image(trace.events(), CrashMode::Sectors, &mut fastrand::Rng::with_seed(1));
    let path = std::env::temp_dir().join(format!("seabed-image-{}", std::process::id()));
    image.save(&path).expect("temporary directory");
    let again = DiskImage::load(&path).expect("just written");
    std::fs::remove_file(&path).expect("just written");
    assert_eq!(again.hash(), image.hash());
    assert!(again.difference(&image).is_empty());
    let mut flipped = again.clone();
    flipped.flip(70 * BLOCK + 5, 0);
    assert_eq!(flipped.difference(&image), [70 * BLOCK]);
    assert_ne!(flipped.hash(), image.hash());
}

#[test]
fn it_passes_the_conformance_suite() {
    for seed in 0..5 {
        let sim = Simulation::new(seed, SimOptions { work_max: u64::MAX, ..SimOptions::default() });
        sim.run(seabed_device::conformance::run(sim.machine())).expect("ends");
    }
}
