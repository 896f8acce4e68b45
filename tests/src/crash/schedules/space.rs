//! Space: full devices, and segments that must not be reused yet.

use std::rc::Rc;
use std::time::Duration;

use seabed::{Error, LocalPool, LocalStore, Shard, Transaction};
use seabed_device::{IoKind, Machine};
use seabed_object::ObjectId;
use seabed_types::ShardId;

use super::{bounds_at, look, place, recorded_on, written_over};
use crate::crash::program::{Kind, Plan, stamped};
use crate::crash::run::{Bounds, formatted, record, shard_options, sim_options, superblock};
use crate::crash::suite::findings;
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, EIO, Effect, Fault, Faults, Latency, SimOptions, Simulation};

pub(super) fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

/// What a program has to work with.
pub(super) struct Site {
    pub(super) shard: Rc<Shard>,
    pub(super) pool: LocalPool,
    pub(super) machine: Machine,
}

/// Formats, mounts, runs a program, closes; the checker then finds nothing.
pub(super) fn program<T>(
    seed: u64,
    plan: &Plan,
    work: impl AsyncFnOnce(&Site) -> Result<T, Broken>,
) -> Result<T, Broken> {
    program_on(seed, plan, sim_options(plan, Faults::none()), work)
}

/// As [`program`], on a machine of its own kind.
fn program_on<T>(
    seed: u64,
    plan: &Plan,
    options: SimOptions,
    work: impl AsyncFnOnce(&Site) -> Result<T, Broken>,
) -> Result<T, Broken> {
    let base = formatted(seed, plan)?;
    let options = SimOptions { steps_max: 100_000_000, ..options };
    let sim = Simulation::from_image(seed, &base, options);
    let (machine, superblock) = (sim.machine(), superblock(seed, plan));
    let result = sim.run(async {
        let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(plan)).await;
        let shard = shard.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await.map_err(wrong)?;
        let site = Site { shard, pool, machine };
        let done = work(&site).await?;
        site.shard.close().await.map_err(wrong)?;
        Ok(done)
    });
    let result = result.map_err(|stuck| broken(Rule::Stuck, stuck))??;
    let trace = sim.finish();
    let image = trace.crash_image(trace.events(), CrashMode::Everything, &mut fastrand::Rng::with_seed(seed));
    findings(&image).map_err(|what| broken(Rule::Check, what))?;
    Ok(result)
}

impl Site {
    /// Whether there was space for it.
    pub(super) async fn submit(&self, transaction: Transaction) -> Result<bool, Broken> {
        match self.pool.submit(transaction).await {
            Ok(()) => Ok(true),
            Err(Error::NoSpace { .. }) => Ok(false),
            Err(error) => Err(wrong(error)),
        }
    }

    pub(super) async fn put(&self, name: &str, stamp: u64, bytes: usize) -> Result<bool, Broken> {
        match self.pool.put(ObjectId::new(name), stamped(stamp, bytes)).await {
            Ok(()) => Ok(true),
            Err(Error::NoSpace { .. }) => Ok(false),
            Err(error) => Err(wrong(error)),
        }
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), Broken> {
        self.pool.remove(ObjectId::new(name)).await.map_err(wrong)
    }

    async fn fill(&self, stamp: u64, bytes: usize) -> Result<u64, Broken> {
        let mut count = 0;
        while self.put(&format!("object {count}"), stamp << 32 | count, bytes).await? {
            count += 1;
        }
        Ok(count)
    }
}

/// Fills the device until there is no space, removes everything, and fills it again, `cycles` times: objects per cycle.
/// Removing always works, and no cycle holds much less than the first.
pub fn full_device(seed: u64, cycles: u64, object_bytes: usize) -> Result<Vec<u64>, Broken> {
    let plan = Plan { memory_bytes: 8 << 20, ..Plan::of(seed) };
    program(seed, &plan, async |site| {
        let mut held = Vec::new();
        for cycle in 0..cycles {
            let count = site.fill(cycle, object_bytes).await?;
            for number in 0..count {
                site.remove(&format!("object {number}")).await?;
            }
            held.push(count);
            site.machine.runtime.sleep(Duration::from_millis(50)).await;
        }
        Ok(held)
    })
}

/// An object gets rows of an omap until the device is full, other objects take what is left, and it is removed: on a device
/// that has no space left its rows must be freed slice by slice, each slice with a record of its own. How many rows it had,
/// and how many when the same is done again in the space that became free.
pub fn removal_of_many_rows(seed: u64) -> Result<[u64; 2], Broken> {
    let plan = Plan { memory_bytes: 8 << 20, disk_bytes: 6 << 20, ..Plan::of(seed) };
    program(seed, &plan, async |site| {
        let many = ObjectId::new("many rows");
        let mut held = [0; 2];
        for (round, rows) in held.iter_mut().enumerate() {
            site.put("small", round as u64, 10).await?;
            loop {
                let mut transaction = Transaction::new();
                transaction.touch(&many);
                let pairs = (*rows..*rows + 100).map(|row| {
                    let key = bytes::Bytes::from(format!("row {row:010}"));
                    (key, bytes::Bytes::from(stamped(row + round as u64, 40)))
                });
                transaction.push(&many, seabed::Op::OmapInsert { pairs: pairs.collect() });
                if !site.submit(transaction).await? {
                    break;
                }
                *rows += 100;
            }
            let others = site.fill(1 + round as u64, 1000).await?;
            site.remove("many rows").await?;
            let gone = site.pool.exists(many.clone()).await.map_err(wrong)?;
            if gone {
                return Err(broken(Rule::Wrong, "a removed object is there"));
            }
            for number in 0..others {
                site.remove(&format!("object {number}")).await?;
            }
            site.machine.runtime.sleep(Duration::from_millis(200)).await;
            // Slices that found no space are tried again with the next removal.
            site.remove("small").await?;
            site.machine.runtime.sleep(Duration::from_millis(200)).await;
        }
        Ok(held)
    })
}

/// An object has rows whose keys are so long that a slice of its grave does not fit a record. It is freed in smaller ones.
pub fn grave_of_long_keys(seed: u64) -> Result<(), Broken> {
    let plan = Plan { memory_bytes: 8 << 20, disk_bytes: 4 << 20, ..Plan::of(seed) };
    program(seed, &plan, async |site| {
        let object = ObjectId::new("long keys");
        for batch in 0..20 {
            let mut transaction = Transaction::new();
            let key = |row: u32| format!("{batch:04} {row:04} {}", "k".repeat(500));
            let pairs = (0..10).map(|row| (key(row).into(), bytes::Bytes::from_static(b"value"))).collect();
            transaction.touch(&object).push(&object, seabed::Op::OmapInsert { pairs });
            if !site.submit(transaction).await? {
                return Err(broken(Rule::Wrong, "no space for 200 rows"));
            }
        }
        site.remove("long keys").await?;
        site.machine.runtime.sleep(Duration::from_millis(200)).await;
        match site.pool.usage().map_err(wrong)? {
            usage if usage.objects == 0 && usage.omap == 0 => Ok(()),
            usage => Err(broken(Rule::Wrong, format!("its rows are left: {usage:?}"))),
        }
    })
}

/// In which order rows are removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Every so many-th, from one end to the other and again from the beginning.
    Strides,
    /// At random.
    Random,
}

/// An object's omap fills the device in the order of its keys, other objects take what is left, and then its rows are removed
/// in another order, a few at a time: each removal changes many leaves, whose images together are much more than the device has
/// left. Every one of them is carried out (rule S6): what trimming takes for images must leave a checkpoint its space, or
/// nothing would ever become free, and images that died here and there must be made into free segments. How many rows there
/// were, and how many when the same is done again in the space that became free.
pub fn removals_of_rows_when_full(seed: u64, order: Order) -> Result<[u64; 2], Broken> {
    let plan = Plan {
        memory_bytes: 8 << 20,
        disk_bytes: 4 << 20,
        window_segments: 4,
        node_bytes: 4096,
        inline_bytes: 64,
        ..Plan::of(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    program(seed, &plan, async |site| {
        let object = ObjectId::new("many rows");
        let key = |row: u64| bytes::Bytes::from(format!("row {row:010}"));
        let mut held = [0; 2];
        for (round, rows) in held.iter_mut().enumerate() {
            loop {
                let mut transaction = Transaction::new();
                let stamp = |row: u64| bytes::Bytes::from(stamped(row + round as u64, 40));
                let pairs = (*rows..*rows + 100).map(|row| (key(row), stamp(row))).collect();
                transaction.touch(&object).push(&object, seabed::Op::OmapInsert { pairs });
                if !site.submit(transaction).await? {
                    break;
                }
                *rows += 100;
            }
            let others = site.fill(1 + round as u64, 1000).await?;
            let mut numbers: Vec<u64> = (0..*rows).collect();
            match order {
                Order::Strides => {
                    let stride = rng.u64(16..40);
                    numbers.sort_by_key(|row| (row % stride, *row));
                }
                Order::Random => rng.shuffle(&mut numbers),
            }
            let mut rest = numbers.as_slice();
            while !rest.is_empty() {
                let (some, others) = rest.split_at(rng.usize(1..60).min(rest.len()));
                let mut transaction = Transaction::new();
                transaction.omap_remove(&object, some.iter().map(|row| key(*row)));
                if !site.submit(transaction).await? {
                    let what = format!("no space for a removal, with {} rows of {rows} left", rest.len());
                    return Err(broken(Rule::Wrong, what));
                }
                rest = others;
            }
            for number in 0..others {
                site.remove(&format!("object {number}")).await?;
            }
            site.remove("many rows").await?;
            site.machine.runtime.sleep(Duration::from_millis(200)).await;
        }
        Ok(held)
    })
}

/// Data of a streaming put lies in a segment in which everything else dies before the put is finished: the segment is not
/// reused, although no live byte is in it. Then what is read is what was written. How often the device was written over.
pub fn waiting_bulk_data(seed: u64) -> Result<u64, Broken> {
    let plan = Plan {
        memory_bytes: 8 << 20,
        disk_bytes: 4 << 20,
        bulk_bytes: 4096,
        window_segments: 4,
        ..Plan::of(seed)
    };
    program(seed, &plan, async |site| {
        let mut expected = Vec::new();
        let mut put = site.pool.put_stream(ObjectId::new("late")).map_err(wrong)?;
        for part in 0..6 {
            // Parts of the waiting object and of others lie side by side.
            let data = stamped(part, 9000);
            expected.extend_from_slice(&data);
            put.write(data).await.map_err(wrong)?;
            for neighbour in 0..3 {
                site.put(&format!("neighbour {neighbour}"), 100 + part, 9000).await?;
            }
        }
        for neighbour in 0..3 {
            site.remove(&format!("neighbour {neighbour}")).await?;
        }
        // The whole device is written several times over.
        for round in 0..800 {
            site.put(&format!("churn {}", round % 7), 1000 + round, 20_000).await?;
        }
        put.finish(Vec::new()).await.map_err(wrong)?;
        let read = site.pool.get(ObjectId::new("late")).await.map_err(wrong)?;
        if read[..] != expected[..] {
            return Err(broken(Rule::Wrong, "bulk data that waited was overwritten"));
        }
        Ok(site.shard.stats().device_bytes_written / plan.disk_bytes)
    })
}

/// What takes long while the device is written over several times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slow {
    /// Flushes: slots take long.
    Flush,
    /// Reads.
    Read,
}

/// A small device is written over several times while slots, or reads, take as long as hundreds of writes: what was given
/// up before the slots that no longer name it, or while somebody reads it, would be overwritten meanwhile. Then the power
/// is cut at many boundaries. How often the device was written over.
pub fn slow_and_overwritten(seed: u64, slow: Slow) -> Result<u64, Broken> {
    let plan = Plan {
        clients: 6,
        steps: 500,
        objects: 4,
        kinds: vec![Kind::Put, Kind::Put, Kind::Put, Kind::Whole, Kind::Touch],
        bytes_max: 60_000,
        ..written_over(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let latency = match slow {
        Slow::Flush => Latency { flush_us: 20_000..=60_000, ..Latency::default() },
        Slow::Read => Latency { read_us: 20_000..=60_000, ..Latency::default() },
    };
    let options = SimOptions { latency, steps_max: 4_000_000, ..sim_options(&plan, Faults::none()) };
    let (run, least) = recorded_on(seed, &plan, options)?;
    let boundaries = run.trace.boundaries();
    for boundary in boundaries.iter().copied().step_by(boundaries.len() / 60 + 1) {
        let image = run.trace.crash_image(boundary, CrashMode::Durable, &mut rng);
        findings(&image)
            .map_err(|what| broken(Rule::Check, what))
            .and_then(|()| look(seed, &image, &run, &plan, &bounds_at(&run, boundary, &least)))
            .map_err(|broken| place(broken, "slow, and overwritten", boundary))?;
    }
    Ok(run.trace.counts().blocks_written * 4096 / plan.disk_bytes)
}

/// A device is filled, and then the power is cut `mounts` times in a row, each time somewhere in a mount on the full device
/// or in the few steps behind it. It opens every time. How many objects were there at the end.
pub fn crash_loop_when_full(seed: u64, mounts: u64) -> Result<usize, Broken> {
    let filling = Plan {
        pools: 1,
        steps: 4000,
        objects: 3000,
        kinds: vec![Kind::Put, Kind::Put, Kind::Append],
        bytes_max: 5000,
        ops_max: 1,
        closes: false,
        pause_us: 0,
        ..Plan::of(seed)
    };
    let options = SimOptions { steps_max: 100_000_000, ..sim_options(&filling, Faults::none()) };
    let (run, least) = recorded_on(seed, &filling, options)?;
    if run.refused_for_space() == 0 {
        return Err(broken(Rule::Wrong, "the device was not filled"));
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let end = run.trace.events();
    let mut image = run.trace.crash_image(end, CrashMode::Durable, &mut rng);
    let recovered = look(seed, &image, &run, &filling, &bounds_at(&run, end, &least))?;
    let until = |history: &[crate::crash::history::PoolHistory], recovered: &[u64]| {
        history.iter().zip(recovered).map(|(pool, number)| pool.until(*number).newest()).collect::<Vec<_>>()
    };
    let mut history = until(&run.history, &recovered);
    let mut least = Bounds::new(recovered);
    let plan = Plan { steps: 2, ..filling.clone() };
    for round in 0..mounts {
        let run = record((seed + (round << 20), seed), &image, (&history, &least), &plan, Faults::none())?;
        let boundaries = run.trace.boundaries();
        let boundary = boundaries[rng.usize(..boundaries.len())];
        image = run.trace.crash_image(boundary, CrashMode::ALL[rng.usize(..6)], &mut rng);
        let recovered = look(seed, &image, &run, &plan, &bounds_at(&run, boundary, &least))
            .map_err(|broken| Broken { what: format!("mount {round}: {}", broken.what), ..broken })?;
        history = until(&run.history, &recovered);
        least = Bounds::new(recovered);
    }
    Ok(history[0].objects())
}

/// How discards end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discards {
    /// Well.
    Well,
    /// The third fails.
    Fail,
    /// Each takes as long as thousands of writes.
    Slowly,
}

/// A small device is written over several times while segments are discarded as they become free. What is stored stays, whatever
/// becomes of discards, and no put waits for one so long that it is rejected. The bytes that were discarded, and how many
/// discards failed.
pub fn discards(seed: u64, end: Discards) -> Result<(u64, u64), Broken> {
    let plan = Plan {
        memory_bytes: 8 << 20,
        disk_bytes: 4 << 20,
        window_segments: 4,
        bulk_bytes: 8192,
        discards: true,
        cleaning: seed % 2 == 1,
        ..Plan::of(seed)
    };
    let mut options = sim_options(&plan, Faults::none());
    match end {
        Discards::Well => {}
        Discards::Fail => {
            let fault = Fault::on(IoKind::Discard, Effect::Fail { errno: EIO }).after(2);
            options.faults = Faults::none().with(fault.times(u64::MAX));
        }
        Discards::Slowly => options.latency.discard_us = 200_000..=400_000,
    }
    program_on(seed, &plan, options, async |site| {
        let stamp = |round: u64, number: u64| round << 8 | number;
        let (rounds, objects) = (60, 24);
        for round in 0..rounds {
            for number in 0..objects {
                if !site.put(&format!("object {number}"), stamp(round, number), 20_000).await? {
                    return Err(broken(Rule::Wrong, format!("no space for an overwrite in round {round}")));
                }
            }
        }
        for number in 0..objects {
            let read = site.pool.get(ObjectId::new(format!("object {number}"))).await.map_err(wrong)?;
            if read[..] != stamped(stamp(rounds - 1, number), 20_000)[..] {
                return Err(broken(Rule::Wrong, format!("object {number} is not what was written last")));
            }
        }
        let stats = site.shard.stats();
        Ok((stats.bytes_discarded, stats.discards_failed))
    })
}
