//! Cached: data that is answered from memory: without the device, never older than what was acknowledged, never rotten.

use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use seabed::{Error, LocalPool, LocalStore, Shard, ShardOptions};
use seabed_object::ObjectId;
use seabed_types::{BLOCK_BYTES, ShardId};

use crate::crash::program::{Plan, stamped};
use crate::crash::run::{formatted, shard_options, sim_options, superblock};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, Simulation};

/// How often data is read until it is answered from memory: it is kept when it is missed for the second time, or later if the
/// fingerprint of another chunk is where its own would be.
const READS: u64 = 5;
/// Bytes of an object: a chunk and a part of one.
const BYTES: usize = 6000;

fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

fn plan_of(seed: u64) -> Plan {
    Plan {
        pools: 1,
        disk_bytes: 3 << 20,
        window_segments: 4,
        memory_bytes: 8 << 20,
        data_cache_bytes: None,
        bulk_bytes: 128 << 10,
        inline_bytes: 64,
        ..Plan::of(seed)
    }
}

async fn pool_of(shard: &Rc<Shard>) -> Result<LocalPool, Broken> {
    LocalStore::new(Rc::clone(shard)).pool_or_create("pool").await.map_err(wrong)
}

/// Reads until the next read would be answered from memory.
async fn read_again(pool: &LocalPool, name: &ObjectId, expected: &[u8]) -> Result<(), Broken> {
    for read in 0..READS {
        if pool.get(name.clone()).await.map_err(wrong)? != expected {
            return Err(broken(Rule::Wrong, format!("read {read} of {name:?} gave other bytes")));
        }
    }
    Ok(())
}

/// An object is read until it is answered from memory, at once and without the device; then it is overwritten, truncated,
/// removed and made again, and each time read as it is then.
pub fn answered_from_memory(seed: u64) -> Result<(), Broken> {
    let plan = plan_of(seed);
    let base = formatted(seed, &plan)?;
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let run = async {
        let shard =
            Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await.map_err(wrong)?;
        let (pool, name) = (pool_of(&shard).await?, ObjectId::new("object"));
        for (number, bytes) in (0..).zip([BYTES, BYTES, 3 * BYTES, 100, BYTES]) {
            let data = stamped(seed << 8 | number, bytes);
            pool.put(name.clone(), data.clone()).await.map_err(wrong)?;
            read_again(&pool, &name, &data).await?;
            let before = shard.stats();
            let read = pool.get(name.clone()).now_or_never();
            let after = shard.stats();
            match read {
                Some(Ok(read)) if read == data => {}
                other => return Err(broken(Rule::Wrong, format!("read from memory: {other:?}"))),
            }
            let chunks = bytes.div_ceil(BLOCK_BYTES) as u64;
            if (after.device_reads, after.data_hits) != (before.device_reads, before.data_hits + chunks) {
                return Err(broken(Rule::Wrong, format!("a hit was read: {before:?}, {after:?}")));
            }
            if after.data_bytes == 0 || after.data_bytes > plan.memory_bytes as u64 / 8 {
                return Err(broken(Rule::Wrong, format!("{} bytes in memory", after.data_bytes)));
            }
            let part = pool.read(name.clone(), 50, 40).now_or_never();
            if part != Some(Ok(data[50..90].to_vec().into())) {
                return Err(broken(Rule::Wrong, format!("a part from memory: {part:?}")));
            }
            if number == 1 {
                pool.remove(name.clone()).await.map_err(wrong)?;
                if pool.get(name.clone()).await != Err(Error::NotFound) {
                    return Err(broken(Rule::Wrong, "a removed object was read"));
                }
            }
        }
        shard.close().await.map_err(wrong)
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// Objects are made, read until they are in memory, and removed, for so long that the device is written over several times
/// and what is made stands at addresses whose earlier bytes are still in memory. What is read is what was made last. How
/// often the device was written over, and how many chunks were answered from memory.
pub fn reused_addresses(seed: u64) -> Result<[u64; 2], Broken> {
    const OBJECTS: u64 = 20;
    let plan = plan_of(seed);
    let base = formatted(seed, &plan)?;
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let run = async {
        let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await;
        let shard = shard.map_err(wrong)?;
        let pool = pool_of(&shard).await?;
        for round in 0..1000 {
            let (name, data) = (ObjectId::new(format!("object {}", round % OBJECTS)), stamped(round, BYTES));
            if round >= OBJECTS {
                pool.remove(name.clone()).await.map_err(wrong)?;
            }
            pool.put(name.clone(), data.clone()).await.map_err(wrong)?;
            read_again(&pool, &name, &data).await?;
            if round % 50 == 0 {
                machine.runtime.sleep(Duration::from_millis(50)).await;
            }
        }
        let stats = shard.stats();
        shard.close().await.map_err(wrong)?;
        Ok([stats.device_bytes_written / plan.disk_bytes, stats.data_hits])
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// A byte of an object's second chunk rots on the device: each read that needs it says so, and none of its bytes is kept;
/// the chunk before it is read, and in the end from memory.
pub fn rotten_data(seed: u64) -> Result<(), Broken> {
    let plan = plan_of(seed);
    let base = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let (name, data) = (ObjectId::new("object"), stamped(seed, 2 * BLOCK_BYTES));
    let options = ShardOptions { data_cache_bytes: Some(1 << 20), ..shard_options(&plan) };
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let machine = sim.machine();
    let made = sim.run(async {
        let shard = Shard::mount(machine, superblock, ShardId(0), options).await.map_err(wrong)?;
        pool_of(&shard).await?.put(name.clone(), data.clone()).await.map_err(wrong)?;
        shard.close().await.map_err(wrong)
    });
    made.map_err(|stuck| broken(Rule::Stuck, stuck))??;
    let mut image = sim.frontier().crash_image(CrashMode::Everything, &mut fastrand::Rng::with_seed(seed));
    let at = place_of(&image, &data[BLOCK_BYTES..]).ok_or_else(|| broken(Rule::Wrong, "no such block"))?;
    image.flip(at + seed % BLOCK_BYTES as u64, 3);
    let sim = Simulation::from_image(seed, &image, sim_options(&plan, Faults::none()));
    let machine = sim.machine();
    let read = sim.run(async {
        let shard = Shard::mount(machine, superblock, ShardId(0), options).await.map_err(wrong)?;
        let pool = pool_of(&shard).await?;
        for read in 0..2 * READS {
            let before = shard.stats().device_reads;
            let (whole, rotten) =
                (pool.get(name.clone()).await, pool.read(name.clone(), BLOCK_BYTES as u64, 10).await);
            if !matches!((&whole, &rotten), (Err(Error::Corrupt { .. }), Err(Error::Corrupt { .. }))) {
                return Err(broken(
                    Rule::Half,
                    format!("read {read} of a rotten chunk: {whole:?}, {rotten:?}"),
                ));
            }
            if shard.stats().device_reads < before + 2 {
                return Err(broken(Rule::Wrong, "rotten bytes were not read from the device"));
            }
            let sound = pool.read(name.clone(), 0, BLOCK_BYTES as u64).await.map_err(wrong)?;
            if sound != data[..BLOCK_BYTES] {
                return Err(broken(Rule::Half, "the chunk before a rotten one"));
            }
        }
        if shard.stats().data_hits < 2 * READS - 2 || shard.stats().data_admitted != 1 {
            return Err(broken(Rule::Wrong, format!("{:?}", shard.stats())));
        }
        shard.close().await.map_err(wrong)
    });
    read.map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// Where a block with these bytes stands on the disk.
fn place_of(image: &DiskImage, bytes: &[u8]) -> Option<u64> {
    image.blocks().into_keys().find(|at| image.read(*at, BLOCK_BYTES) == bytes)
}
