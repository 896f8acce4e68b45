//! What a power cut may leave: durable and cached writes, flushes, torn sectors, kills, failed writes; and that the walk
//! through a trace makes the same states as going to each boundary by itself.

use std::collections::BTreeSet;
use std::rc::Rc;

use seabed_device::{Class, Device, Durability, WriteOpts};

use super::*;
use crate::machine::{Effect, Fault, Faults, Landed, Mark, SimOptions, Simulation, Trace};
use seabed_device::IoKind;

const BLOCK: u64 = BLOCK_BYTES as u64;

fn opts(durability: Durability) -> WriteOpts {
    WriteOpts { durability, class: Class::Foreground, stream: 0 }
}

async fn write(device: &Rc<dyn Device>, block: u64, byte: u8, durability: Durability) {
    let mut buf = device.alloc(BLOCK_BYTES);
    buf.fill(byte);
    // A planned failure is part of some tests.
    let _ = device.write(block * BLOCK, Rc::new(buf), opts(durability)).await;
}

/// The first byte of block `block`.
fn first(image: &DiskImage, block: u64) -> u8 {
    image.read(block * BLOCK, BLOCK_BYTES)[0]
}

/// How many bytes of block 1 are `byte`.
fn count(image: &DiskImage, byte: u8) -> usize {
    image.read(BLOCK, BLOCK_BYTES).into_iter().filter(|other| *other == byte).count()
}

fn record<F: Future<Output = ()>>(faults: Faults, run: impl FnOnce(Rc<dyn Device>) -> F) -> Trace {
    let sim = Simulation::new(1, SimOptions { disk_bytes: 1 << 20, faults, ..SimOptions::default() });
    sim.run(run(sim.machine().device)).expect("ends");
    sim.finish()
}

fn first_bytes_at_end(trace: &Trace, block: u64) -> BTreeSet<u8> {
    let frontier = trace.frontier_at(trace.events());
    (0..1 << frontier.uncovered_count()).map(|writes| first(&frontier.subset_image(writes), block)).collect()
}

#[test]
fn a_durable_write_covers_itself_alone_and_a_flush_all_before_it() {
    let trace = record(Faults::none(), |device| async move {
        write(&device, 1, 1, Durability::Cached).await;
        write(&device, 2, 2, Durability::Durable).await;
    });
    let frontier = trace.frontier_at(trace.events());
    assert_eq!(frontier.uncovered_count(), 1);
    assert!(frontier.is_durable(2 * BLOCK, BLOCK));
    assert!(!frontier.is_durable(BLOCK, 1));
    assert_eq!(first_bytes_at_end(&trace, 1), BTreeSet::from([0, 1]));
    assert_eq!(first_bytes_at_end(&trace, 2), BTreeSet::from([2]));

    let trace = record(Faults::none(), |device| async move {
        write(&device, 1, 1, Durability::Cached).await;
        let flush = device.flush();
        write(&device, 2, 2, Durability::Cached).await;
        flush.await.expect("no fault");
    });
    assert_eq!(first_bytes_at_end(&trace, 1), BTreeSet::from([1]));
    assert_eq!(first_bytes_at_end(&trace, 2), BTreeSet::from([0, 2]), "completed after the flush began");
}

#[test]
fn every_version_since_the_durable_one_may_be_left() {
    let trace = record(Faults::none(), |device| async move {
        write(&device, 1, 1, Durability::Cached).await;
        device.flush().await.expect("no fault");
        for byte in [2, 3, 4] {
            write(&device, 1, byte, Durability::Cached).await;
        }
    });
    assert_eq!(first_bytes_at_end(&trace, 1), BTreeSet::from([1, 2, 3, 4]));
    let mut rng = fastrand::Rng::with_seed(1);
    let mut versions = BTreeSet::new();
    let mut mixed = false;
    for _ in 0..200 {
        let image = trace.crash_image(trace.events(), CrashMode::Sectors, &mut rng).read(BLOCK, BLOCK_BYTES);
        versions.extend(image.iter().copied());
        mixed |= image.iter().any(|byte| *byte != image[0]);
        assert!(image.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }
    assert_eq!(versions, BTreeSet::from([1, 2, 3, 4]));
    assert!(mixed, "some images are torn");
    let garbage = (0..200).any(|_| {
        let image = trace.crash_image(trace.events(), CrashMode::Garbage, &mut rng).read(BLOCK, BLOCK_BYTES);
        image.iter().any(|byte| *byte > 4)
    });
    assert!(garbage);
}

#[test]
fn what_is_durable_hides_older_writes_for_good() {
    let trace = record(Faults::none(), |device| async move {
        let mut two = device.alloc(2 * BLOCK_BYTES);
        two.fill(1);
        device.write(BLOCK, Rc::new(two), opts(Durability::Cached)).await.expect("no fault");
        write(&device, 1, 9, Durability::Durable).await;
    });
    assert_eq!(first_bytes_at_end(&trace, 1), BTreeSet::from([9]));
    assert_eq!(first_bytes_at_end(&trace, 2), BTreeSet::from([0, 1]));
}

#[test]
fn modes_leave_what_they_say() {
    let trace = record(Faults::none(), |device| async move {
        write(&device, 1, 1, Durability::Cached).await;
        let in_flight = device.write(2 * BLOCK, Rc::new(device.alloc(BLOCK_BYTES)), opts(Durability::Cached));
        let mut buf = device.alloc(BLOCK_BYTES);
        buf.fill(3);
        drop(device.write(3 * BLOCK, Rc::new(buf), opts(Durability::Durable)));
        drop(in_flight);
    });
    let mut rng = fastrand::Rng::with_seed(1);
    let mut left = |mode| {
        let image = trace.crash_image(trace.events(), mode, &mut rng);
        [first(&image, 1), first(&image, 3)]
    };
    assert_eq!(left(CrashMode::Durable), [0, 0]);
    assert_eq!(left(CrashMode::Completed), [1, 0]);
    assert_eq!(left(CrashMode::Everything), [1, 3]);
    let whole: BTreeSet<[u8; 2]> = (0..100).map(|_| left(CrashMode::Writes)).collect();
    assert_eq!(whole, BTreeSet::from([[0, 0], [0, 3], [1, 0], [1, 3]]));
}

#[test]
fn images_of_a_plan_are_distinct_and_exhaustive_while_few() {
    let trace = record(Faults::none(), |device| async move {
        for block in 1..=3 {
            write(&device, block, 7, Durability::Cached).await;
        }
    });
    let mut rng = fastrand::Rng::with_seed(1);
    let plan = CrashPlan { subsets_of_writes_max: 3, random: 0 };
    let images = trace.frontier_at(trace.events()).crash_images(plan, &mut rng);
    let states: BTreeSet<[u8; 3]> =
        images.iter().map(|image| [1, 2, 3].map(|block| first(image, block))).collect();
    assert_eq!((images.len(), states.len()), (8, 8));
    let plan = CrashPlan { random: 20, ..plan };
    assert!(trace.frontier_at(trace.events()).crash_images(plan, &mut rng).len() > 8);
    let start = trace.frontier_at(0).crash_images(plan, &mut rng);
    assert_eq!(start.len(), 1, "nothing was written yet");
    assert_eq!(start[0].hash(), trace.base().hash());
}

#[test]
fn a_killed_machine_leaves_its_cache_and_a_power_cut_may_still_take_it() {
    let trace = record(Faults::none(), |device| async move {
        write(&device, 1, 1, Durability::Cached).await;
    });
    let mut rng = fastrand::Rng::with_seed(1);
    let killed = trace.frontier_at(trace.events()).killed_image(&mut rng);
    assert!(killed.has_cache());
    assert_eq!(first(&killed, 1), 1);

    let options = || SimOptions { disk_bytes: 1 << 20, ..SimOptions::default() };
    let sim = Simulation::from_image(2, &killed, options());
    let device = sim.machine().device;
    let seen = sim.run(device.read(BLOCK, BLOCK_BYTES, Class::Foreground)).expect("ends").expect("no fault");
    assert_eq!(seen[0], 1, "the mount reads the cache");
    let cut_before_flush = sim.trace();
    assert_eq!(first_bytes_at_end(&cut_before_flush, 1), BTreeSet::from([0, 1]));
    sim.run(device.flush()).expect("ends").expect("no fault");
    assert_eq!(first_bytes_at_end(&sim.finish(), 1), BTreeSet::from([1]));
}

#[test]
fn a_kill_leaves_writes_in_flight_whole_torn_or_not_at_all() {
    let trace = record(Faults::none(), |device| async move {
        let mut buf = device.alloc(BLOCK_BYTES);
        buf.fill(5);
        drop(device.write(BLOCK, Rc::new(buf), opts(Durability::Durable)));
    });
    let mut rng = fastrand::Rng::with_seed(1);
    let mut counts = BTreeSet::new();
    for _ in 0..100 {
        let image = trace.frontier_at(trace.events()).killed_image(&mut rng);
        counts.insert(count(&image, 5));
    }
    assert!(counts.contains(&0) && counts.contains(&BLOCK_BYTES) && counts.len() > 2);
}

#[test]
fn a_failed_write_leaves_what_landed_until_a_flush_decides() {
    let fail = |landed| Faults::none().with(Fault::on(IoKind::Write, Effect::FailWrite { errno: 5, landed }));
    let run =
        |faults| record(faults, |device| async move { write(&device, 1, 1, Durability::Durable).await });
    assert_eq!(first_bytes_at_end(&run(fail(Landed::Nothing)), 1), BTreeSet::from([0]));
    assert_eq!(first_bytes_at_end(&run(fail(Landed::Everything)), 1), BTreeSet::from([0, 1]), "not durable");
    let torn = run(fail(Landed::Torn));
    let all = torn.crash_image(torn.events(), CrashMode::Everything, &mut fastrand::Rng::with_seed(1));
    let new = count(&all, 1);
    assert!(new > 0 && new < BLOCK_BYTES && new.is_multiple_of(SECTOR_BYTES));
}

#[test]
fn the_walk_agrees_with_each_frontier_and_stops_as_late_as_it_can() {
    let sim = Simulation::new(3, SimOptions { disk_bytes: 1 << 20, ..SimOptions::default() });
    let device = sim.machine().device;
    sim.run(async {
        for number in 0..5_u8 {
            write(&device, 1 + u64::from(number % 3), 1 + number, Durability::Cached).await;
            device.flush().await.expect("no fault");
            sim.mark(Mark::Acknowledged { log: 0, number: number.into() });
            drop(device.read(BLOCK, BLOCK_BYTES, Class::Foreground).await);
        }
    })
    .expect("ends");
    let trace = sim.finish();
    let mut walk = trace.walk();
    let mut boundaries = Vec::new();
    let mut rng = fastrand::Rng::with_seed(1);
    while let Some(boundary) = walk.advance() {
        boundaries.push(boundary);
        assert!(trace.marks_before(boundary).eq(walk.marks().iter().copied()));
        for mode in [CrashMode::Durable, CrashMode::Completed, CrashMode::Everything] {
            let slow = trace.crash_image(boundary, mode, &mut rng);
            assert_eq!(slow.hash(), walk.frontier().crash_image(mode, &mut rng).hash());
        }
        // Whatever was acknowledged by now is durable: here every write before it.
        let left = walk.frontier().crash_image(CrashMode::Durable, &mut rng);
        for mark in walk.marks() {
            let Mark::Acknowledged { number, .. } = *mark else { panic!("no other mark was put") };
            assert!(u64::from(first(&left, 1 + number % 3)) > number);
        }
    }
    assert_eq!(boundaries, trace.boundaries());
    assert_eq!(boundaries.first(), Some(&0));
    assert_eq!(boundaries.last(), Some(&trace.events()));
    assert_eq!(boundaries.len(), 1 + 3 * 5, "write, its end and the end of the flush, five times");
}
