//! Memory: leaves that change while their image is on its way to the device, and replays with less than the writer had.

use std::rc::Rc;

use bytes::Bytes;
use futures::future::join_all;
use seabed::{Error, LocalStore, Shard, ShardOptions, Transaction};
use seabed_object::ObjectId;
use seabed_types::ShardId;

use super::{bounds_at, look, nothing, place};
use crate::crash::program::{Kind, Plan};
use crate::crash::run::{formatted, record, record_on, shard_options, sim_options, superblock};
use crate::crash::suite::{compare, open};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, Faults, Latency, SimOptions, Simulation};

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
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let latency = Latency { write_us: 4000..=9000, ..Latency::default() };
    let options = SimOptions { latency, ..sim_options(&plan, Faults::none()) };
    let run = record_on((seed, seed), &base, (&history, &least), &plan, options)?;
    for boundary in run.trace.boundaries().into_iter().step_by(7) {
        let mode = CrashMode::ALL[rng.usize(..6)];
        let image = run.trace.crash_image(boundary, mode, &mut rng);
        look(seed, &image, &run, &plan, &bounds_at(&run, boundary, &least))
            .map_err(|broken| place(broken, "images on their way", boundary))?;
    }
    Ok(run.trace.marks_during_cached_writes())
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
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let run = async {
        let shard =
            Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await.map_err(wrong)?;
        let clients = (0..20).map(|client| {
            let (pool, shard) = (pool.clone(), &shard);
            async move {
                let object = ObjectId::new(format!("object {client}"));
                let mut most = 0;
                for round in 0..40 {
                    let mut transaction = Transaction::new();
                    let value = Bytes::from_static(&[7; 100]);
                    let pairs = (0..20)
                        .map(|row| (format!("key {:05}", (row * 7919 + round) % 50_000), value.clone()));
                    transaction.touch(&object).omap_insert(&object, pairs);
                    pool.submit(transaction).await?;
                    most = most.max(shard.stats().memory_bytes);
                }
                Ok(most)
            }
        });
        let most: Result<Vec<u64>, Error> = join_all(clients).await.into_iter().collect();
        most.map_err(wrong)
    };
    let most = sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))??;
    let memory = most.into_iter().max().unwrap_or(0);
    let in_flight = sim.finish().writes_in_flight_max() as u64;
    // Images on their way cannot be evicted, so on a slow device it is over its budget for a while.
    if memory > plan.memory_bytes as u64 * 2 {
        return Err(broken(Rule::Wrong, format!("{memory} bytes in memory of {}", plan.memory_bytes)));
    }
    Ok([in_flight, memory])
}
