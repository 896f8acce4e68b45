//! Memory: leaves that change while their image is on its way to the device, and replays with less than the writer had.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join, join_all};
use seabed::{Error, LocalStore, Shard, ShardOptions, Transaction};
use seabed_device::{Class, IoKind};
use seabed_object::ObjectId;
use seabed_types::ShardId;

use super::{bounds_at, look, nothing, place, recorded_on};
use crate::crash::crowd::crowd;
use crate::crash::program::{Kind, Plan, stamped};
use crate::crash::run::{formatted, record, shard_options, sim_options, superblock};
use crate::crash::suite::{compare, open};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{Cache, CrashMode, EIO, Effect, Fault, Faults, Landed, Latency, SimOptions, Simulation};

/// Images take a hundred times as long as records, so that leaves change, are evicted and split while their image is on its
/// way; then the power is cut at many boundaries. How much was answered while a cached write was in flight.
pub fn slow_images(seed: u64) -> Result<u64, Broken> {
    let plan = Plan {
        clients: 4,
        pools: 1,
        steps: 160,
        kinds: vec![Kind::OmapInsert, Kind::SetAttributes, Kind::Write, Kind::OmapRemove, Kind::Put],
        objects: 6,
        bytes_max: 3000,
        ops_max: 3,
        closes: seed.is_multiple_of(2),
        window_segments: 4,
        memory_bytes: 1 << 20,
        inline_bytes: 512,
        pause_us: 50,
        ..Plan::of(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let latency = Latency { write_us: 4000..=9000, ..Latency::default() };
    let options = SimOptions { latency, ..sim_options(&plan, Faults::none()) };
    let (run, least) = recorded_on(seed, &plan, options)?;
    for boundary in run.trace.boundaries().into_iter().step_by(7) {
        let mode = CrashMode::ALL[rng.usize(..6)];
        let image = run.trace.crash_image(boundary, mode, &mut rng);
        look(seed, &image, &run, &plan, &bounds_at(&run, boundary, &least))
            .map_err(|broken| place(broken, "images on their way", boundary))?;
    }
    Ok(run.trace.marks_during_cached_writes())
}

/// How long a record takes in [`slow_records`]: as long as thousands of reads.
const STALL: Duration = Duration::from_millis(300);

/// An object is changed, and while its record is on its way, so many others are read that its leaf would be evicted and read
/// again several times over. Whoever asks for it then is answered when the record is durable, and not before (rule T3): a
/// leaf that forgot whose changes it shows would show what a power cut takes back. How many nodes were read meanwhile.
pub fn slow_records(seed: u64) -> Result<u64, Broken> {
    const OBJECTS: usize = 500;
    const ROUNDS: u64 = 8;
    let plan = Plan {
        disk_bytes: 6 << 20,
        window_segments: 6,
        memory_bytes: 192 << 10,
        inline_bytes: 512,
        node_bytes: 4096,
        ..Plan::of(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let base = formatted(seed, &plan)?;
    let stall = u64::try_from(STALL.as_micros()).expect("less than a second");
    let latency = Latency { durable_write_us: stall..=stall, ..Latency::default() };
    let options = SimOptions { latency, steps_max: 50_000_000, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, options);
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let object = |number: usize| ObjectId::new(format!("object {number}"));
    let changed = |number: usize, round: u64| {
        let mut transaction = Transaction::new();
        let value = stamped((number as u64) << 8 | round, 300);
        transaction.touch(&object(number)).set_attr(&object(number), b"name", value);
        transaction
    };
    let runtime = &machine.runtime;
    let run = async {
        let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await;
        let shard = shard.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await.map_err(wrong)?;
        for made in join_all((0..OBJECTS).map(|number| pool.submit(changed(number, 0)))).await {
            made.map_err(wrong)?;
        }
        let mut loads = 0;
        for round in 1..=ROUNDS {
            // Nothing is on its way, and nothing waits to be written.
            runtime.sleep(STALL * 4).await;
            let before = shard.stats().node_loads;
            let which = rng.usize(..OBJECTS);
            let submitted = pool.submit(changed(which, round));
            let asked = runtime.now();
            let others = async {
                for _ in 0..4 {
                    for number in (0..OBJECTS).step_by(3) {
                        let (pool, object) = (pool.clone(), object(number));
                        // What lies beside it waits with it; nobody waits for that.
                        let read = async move { drop(pool.stat(object).await) };
                        runtime.spawn(Class::Foreground, Box::pin(read));
                    }
                    runtime.sleep(STALL / 10).await;
                }
                let read = pool.attr(object(which), b"name").await;
                (read, runtime.now().saturating_sub(asked))
            };
            let (submitted, (read, after)) = join(submitted, others).await;
            submitted.map_err(wrong)?;
            if read.map_err(wrong)? != stamped((which as u64) << 8 | round, 300) {
                return Err(broken(Rule::Wrong, format!("object {which} in round {round}")));
            }
            if after < STALL {
                let what =
                    format!("object {which} was shown {after:?} after it was changed, in round {round}");
                return Err(broken(Rule::Retracted, what));
            }
            loads += shard.stats().node_loads - before;
        }
        shard.close().await.map_err(wrong)?;
        Ok(loads)
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// Writes of images, or of a checkpoint's body, fail, each by itself, or flushes; then the power is cut. Nobody is told,
/// and all is there. How many failed. `cleaning`: whether the cleaner changes rows meanwhile.
pub fn failed_checkpoints(seed: u64, kind: IoKind, cleaning: bool) -> Result<u64, Broken> {
    let plan = Plan {
        clients: 4,
        pools: 1,
        steps: 120,
        kinds: vec![Kind::OmapInsert, Kind::OmapInsert, Kind::SetAttributes, Kind::OmapRemove, Kind::Put],
        objects: 12,
        keys: 400,
        bytes_max: 300,
        ops_max: 3,
        closes: false,
        rests: false,
        window_segments: 4,
        memory_bytes: 512 << 10,
        inline_bytes: 512,
        is_faulty: true,
        cleaning,
        ..Plan::of(seed)
    };
    let sound = Plan { is_faulty: false, ..plan.clone() };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let (sites, effect) = if kind == IoKind::Flush {
        let flushes = run.trace.counts().flushes;
        ((0..flushes).collect(), Effect::FailFlush { errno: EIO, cache: Cache::Lost })
    } else {
        (run.trace.cached_records(), Effect::FailWrite { errno: EIO, landed: Landed::Nothing })
    };
    let mut failed = 0;
    for site in sites.iter().step_by(sites.len() / 12 + 1) {
        let faults = Faults::none().with(Fault::on(kind, effect).after(*site));
        let run = record((seed, seed), &base, (&history, &least), &plan, faults)?;
        // A flush of the mount that opens the store is told.
        if run.failed > 0 && !run.program.is_empty() {
            return Err(broken(Rule::Wrong, "somebody was told of a failed checkpoint"));
        }
        let end = run.trace.events();
        let image = run.trace.crash_image(end, CrashMode::Durable, &mut rng);
        look(seed, &image, &run, &sound, &bounds_at(&run, end, &least))
            .map_err(|broken| place(broken, &format!("{kind} {site} failed"), end))?;
        failed += 1;
    }
    Ok(failed)
}

/// What a store with plenty of memory left is opened with less and less. It opens and shows the same, or says how much it
/// takes, and then opens with that. How often it opened, and how often it asked for more.
pub fn smaller_budgets(seed: u64) -> Result<[u64; 2], Broken> {
    let plan = Plan {
        clients: 4,
        steps: 400,
        kinds: vec![Kind::OmapInsert, Kind::SetAttributes, Kind::Hint, Kind::Put, Kind::OmapRemoveRange],
        bytes_max: 9000,
        memory_bytes: 256 << 20,
        window_segments: 6,
        disk_bytes: 6 << 20,
        inline_bytes: 512,
        closes: false,
        pause_us: 0,
        ..Plan::of(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let mut counts = [0; 2];
    for boundary in run.trace.boundaries().into_iter().rev().step_by(60).take(12) {
        let bounds = bounds_at(&run, boundary, &least);
        let image = run.trace.crash_image(boundary, CrashMode::Durable, &mut rng);
        for shift in 0..8 {
            let memory_bytes = (64 << 20) >> (2 * shift);
            let options = ShardOptions { memory_bytes, ..shard_options(&plan) };
            let opened = match open((seed, seed), &image, &plan, options) {
                Ok(opened) => opened,
                Err(Broken { rule: Rule::FailedOpen, what }) => {
                    counts[1] += 1;
                    let needed = what.strip_prefix("opening takes ").and_then(|rest| rest.split(' ').next());
                    let needed: usize = needed
                        .and_then(|needed| needed.parse().ok())
                        .ok_or_else(|| broken(Rule::FailedOpen, format!("{memory_bytes} bytes: {what}")))?;
                    let options = ShardOptions { memory_bytes: needed, ..shard_options(&plan) };
                    open((seed, seed), &image, &plan, options)?
                }
                Err(broken) => return Err(place(broken, "a smaller budget", boundary)),
            };
            counts[0] += 1;
            compare(&opened, &run.history, &bounds)
                .map_err(|broken| place(broken, "a smaller budget", boundary))?;
        }
    }
    Ok(counts)
}

/// Twenty clients write rows into trees that are several times as large as the memory budget, on a device that is a hundred
/// times slower with images than with records: what is in memory stays bounded. The most writes in flight and the most bytes
/// in memory.
pub fn slow_device(seed: u64) -> Result<[u64; 2], Broken> {
    let plan = Plan { memory_bytes: 1 << 20, disk_bytes: 24 << 20, window_segments: 32, ..Plan::of(seed) };
    let base = formatted(seed, &plan)?;
    let latency = Latency { write_us: 2000..=5000, ..Latency::default() };
    let options = SimOptions { latency, steps_max: 50_000_000, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, options);
    let fill = |transaction: &mut Transaction, object: &ObjectId, round: u32| {
        let value = Bytes::from_static(&[7; 100]);
        let key = |row: u32| format!("key {:05}", (row * 7919 + round) % 50_000);
        transaction.omap_insert(object, (0..20).map(|row| (key(row), value.clone())));
    };
    let memory = crowd((seed, &plan, &sim), 40, fill, |stats| stats.memory_bytes)?;
    let in_flight = sim.finish().writes_in_flight_max() as u64;
    // Sixteen in the background, a record of the journal, bytes of a checkpoint's body.
    if in_flight > 20 {
        return Err(broken(Rule::Wrong, format!("{in_flight} writes in flight")));
    }
    // Images on their way cannot be evicted, so on a slow device it is over its budget for a while.
    if memory > plan.memory_bytes as u64 * 2 {
        return Err(broken(Rule::Wrong, format!("{memory} bytes in memory of {}", plan.memory_bytes)));
    }
    Ok([in_flight, memory])
}
