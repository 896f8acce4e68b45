//! In place: a write or flush fails once while clients work, and the shard mounts itself in place: each course of events by
//! itself, at every operation.
//!
//! What could go wrong: an append is carried out twice, or out of its order; one that nobody waits for is lost though later
//! ones are there; a streaming put that spans the mount lacks a part; closing forgets what was submitted before; what was
//! acknowledged before or after the mount is not there after a crash, because the record that failed came back, or a segment
//! that a slot needs was used.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join, join_all};
use seabed::{Error, LocalPool, LocalStore, Shard, Transaction};
use seabed_device::IoKind;
use seabed_object::ObjectId;
use seabed_segment::Superblock;
use seabed_types::ShardId;

use super::program::{Plan, stamped};
use super::run::{formatted, shard_options, sim_options, superblock};
use super::schedules::medium::journal_records;
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, EIO, Effect, Fault, Faults, Landed, Simulation};

const APPENDS: u64 = 24;
const APPEND_BYTES: usize = 700;
const STREAM_BYTES: usize = 300_000;

/// When the store is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// When all was answered.
    Afterwards,
    /// While all that was submitted is on its way, the put excepted.
    Meanwhile,
}

fn append(pool: &LocalPool, seed: u64, number: u64) -> impl Future<Output = Result<(), Error>> + use<> {
    let mut transaction = Transaction::new();
    transaction.append(&ObjectId::new("log"), Bytes::from(stamped(seed + number, APPEND_BYTES)));
    pool.submit(transaction)
}

async fn work(shard: &Rc<Shard>, pool: &LocalPool, seed: u64, closing: Closing) -> Result<(), Error> {
    let first: Vec<_> = (0..APPENDS / 2).map(|number| append(pool, seed, number)).collect();
    // Nobody waits for this one, and it is carried out in its place all the same.
    drop(append(pool, seed, APPENDS / 2));
    let rest: Vec<_> = (APPENDS / 2 + 1..APPENDS).map(|number| append(pool, seed, number)).collect();
    let appends = async move {
        for answer in join_all(first.into_iter().chain(rest)).await {
            answer?;
        }
        Ok::<(), Error>(())
    };
    if closing == Closing::Meanwhile {
        let (appended, closed) = join(appends, shard.close()).await;
        return appended.and(closed);
    }
    let put = async {
        let mut put = pool.put_stream(ObjectId::new("stream"))?;
        for part in stamped(seed, STREAM_BYTES).chunks(7000) {
            put.write(part.to_vec()).await?;
        }
        put.finish(Vec::new()).await
    };
    let reads = async {
        for _ in 0..30 {
            match pool.get(ObjectId::new("log")).await {
                Ok(_) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let (appended, (stored, read)) = join(appends, join(put, reads)).await;
    appended.and(stored).and(read)?;
    shard.close().await
}

async fn found(pool: &LocalPool, seed: u64, closing: Closing) -> Result<bool, Error> {
    let log: Vec<u8> = (0..APPENDS).flat_map(|number| stamped(seed + number, APPEND_BYTES)).collect();
    let is_logged = pool.get(ObjectId::new("log")).await? == log;
    if closing == Closing::Meanwhile {
        return Ok(is_logged);
    }
    Ok(is_logged && pool.get(ObjectId::new("stream")).await? == stamped(seed, STREAM_BYTES))
}

/// One course of events: how often the shard mounted itself in place.
pub fn failing_once(seed: u64, fault: Fault, closing: Closing) -> Result<u64, Broken> {
    failing(seed, &[fault], &Faults::none(), closing).map(|(mounted, _)| mounted)
}

/// The block in which a record begins cannot be written, nor read afterwards, each in turn: how often the shard mounted itself
/// in place. The log goes on elsewhere, so nobody needs that block.
///
/// A scan that leapt over the data of the record before read what stands behind together with the next header, and asked for
/// both: no mount got past it, in place or later.
pub fn on_a_bad_block(seed: u64) -> Result<u64, Broken> {
    let closing = Closing::Afterwards;
    let (_, records) = failing(seed, &[], &Faults::none(), closing)?;
    let mut mounted = 0;
    for at in records {
        let unreadable = Fault::on(IoKind::Read, Effect::Fail { errno: EIO }).within(at..at + 1).for_ever();
        let unwritten = Effect::FailWrite { errno: EIO, landed: Landed::Nothing };
        let unwritten = Fault::on(IoKind::Write, unwritten).within(at..at + 1).for_ever();
        let lasting = Faults::none().with(unreadable.clone());
        mounted += failing(seed, &[unwritten, unreadable], &lasting, closing)?.0;
    }
    Ok(mounted)
}

/// How often the shard mounted itself in place when these faults come while it works, and where the records are that it wrote
/// meanwhile. Those of `lasting` are there when it is opened again.
fn failing(
    seed: u64,
    faults: &[Fault],
    lasting: &Faults,
    closing: Closing,
) -> Result<(u64, Vec<u64>), Broken> {
    let plan = Plan { memory_bytes: 1 << 20, bulk_bytes: 16 << 10, disk_bytes: 6 << 20, ..Plan::of(seed) };
    let plan = Plan { window_segments: 4, node_bytes: 4096, inline_bytes: 512, ..plan };
    let base = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let machine = sim.machine();
    let run = async {
        let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await?;
        machine.runtime.sleep(Duration::from_millis(100)).await;
        let before = records_of(&sim, &superblock);
        sim.with_faults(|planned| faults.iter().for_each(|fault| planned.plan(fault.clone())));
        work(&shard, &pool, seed, closing).await?;
        let mut records = records_of(&sim, &superblock);
        records.retain(|at| !before.contains(at));
        Ok((shard.stats().mounted_in_place, records))
    };
    let done = sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?.map_err(wrong)?;
    let mut rng = fastrand::Rng::with_seed(seed);
    for mode in [CrashMode::Durable, CrashMode::Completed, CrashMode::random(&mut rng)] {
        let image = sim.frontier().crash_image(mode, &mut rng);
        if mode == CrashMode::Durable {
            super::suite::findings(&image).map_err(|what| broken(Rule::Check, what))?;
        }
        is_there(seed, (&image, lasting), &plan, closing)?;
    }
    Ok(done)
}

/// Where the records of the journal begin on the device.
fn records_of(sim: &Simulation, superblock: &Superblock) -> Vec<u64> {
    let image = sim.frontier().crash_image(CrashMode::Everything, &mut fastrand::Rng::with_seed(0));
    let records = journal_records(&image, superblock).into_values();
    records.map(|at| superblock.layout.device_offset(at)).collect()
}

fn is_there(
    seed: u64,
    (image, faults): (&DiskImage, &Faults),
    plan: &Plan,
    closing: Closing,
) -> Result<(), Broken> {
    let sim = Simulation::from_image(seed, image, sim_options(plan, faults.clone()));
    let (machine, superblock) = (sim.machine(), superblock(seed, plan));
    let read = sim.run(async {
        let shard = Shard::mount(machine, superblock, ShardId(0), shard_options(plan)).await?;
        let pool = LocalStore::new(shard).pool("pool").await?;
        found(&pool, seed, closing).await
    });
    match read.map_err(|stuck| broken(Rule::Stuck, stuck))? {
        Ok(true) => Ok(()),
        Ok(false) => Err(broken(Rule::Lost, "what was acknowledged, or its order")),
        Err(error) => Err(broken(Rule::FailedOpen, error)),
    }
}

/// A small write, in another pool a large one that makes an object and a removal of that object, submitted at once; an
/// operation fails. The object must be gone in the end, since its removal was answered: how often the shard mounted itself in
/// place.
pub fn removed_behind_a_large_write(seed: u64, fault: Fault) -> Result<u64, Broken> {
    let plan = Plan { memory_bytes: 1 << 20, bulk_bytes: 16 << 10, disk_bytes: 6 << 20, ..Plan::of(seed) };
    let plan = Plan { window_segments: 4, node_bytes: 4096, inline_bytes: 512, ..plan };
    let base = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let machine = sim.machine();
    let run = async {
        let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await?;
        let store = LocalStore::new(Rc::clone(&shard));
        // What the removal looks at must not wait for the record that fails, or it would not be answered anyway.
        let (pool, other) = (store.create_pool("pool").await?, store.create_pool("other").await?);
        machine.runtime.sleep(Duration::from_millis(100)).await;
        sim.with_faults(|faults| faults.plan(fault));
        let large = ObjectId::new("large");
        let (mut made, mut removed) = (Transaction::new(), Transaction::new());
        made.append(&large, Bytes::from(stamped(seed, STREAM_BYTES / 3)));
        // Where there is no such object this changes nothing.
        removed.touch(&large).remove(&large);
        let appended = append(&other, seed, 0);
        let (made, removed) = (pool.submit(made), pool.submit(removed));
        let (appended, (made, removed)) = join(appended, join(made, removed)).await;
        appended?;
        made?;
        removed?;
        let is_there = pool.exists(large).await?;
        Ok::<_, Error>((is_there, shard.stats().mounted_in_place))
    };
    match sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))? {
        Ok((false, mounted)) => Ok(mounted),
        Ok((true, _)) => Err(broken(Rule::Wrong, "its removal was answered, and the object is there")),
        Err(error) => Err(broken(Rule::Wrong, error)),
    }
}

/// A handle is open while an operation fails and its object is written over: how often the shard mounted itself in place. Then
/// the handle has expired, though all that it kept is still on the device, and stays expired; one that is opened afterwards
/// shows the new version. Without such a mount it shows the old version.
pub fn handle_across_a_mount(seed: u64, fault: Fault) -> Result<u64, Broken> {
    let plan = Plan { memory_bytes: 1 << 20, bulk_bytes: 16 << 10, disk_bytes: 6 << 20, ..Plan::of(seed) };
    let plan = Plan { window_segments: 4, node_bytes: 4096, inline_bytes: 512, ..plan };
    let base = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let machine = sim.machine();
    let [old, new] = [stamped(seed, STREAM_BYTES / 3), stamped(seed + 1, STREAM_BYTES / 3)];
    let run = async {
        let shard = Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await?;
        pool.put("object", Bytes::from(old.clone())).await?;
        let handle = pool.open_read("object").await?;
        sim.with_faults(|faults| faults.plan(fault));
        pool.put("object", Bytes::from(new.clone())).await?;
        let mounted = shard.stats().mounted_in_place;
        let mut is_right = true;
        for _ in 0..2 {
            is_right &= match handle.read_at(0, handle.size()).await {
                Ok(read) => mounted == 0 && read == old,
                Err(Error::Expired) => mounted > 0,
                Err(error) => return Err(error),
            };
        }
        let later = pool.open_read("object").await?;
        is_right &= later.read_at(0, later.size()).await? == new;
        Ok::<_, Error>((is_right, mounted))
    };
    match sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))? {
        Ok((true, mounted)) => Ok(mounted),
        Ok((false, mounted)) => {
            Err(broken(Rule::Wrong, format!("a handle showed what it must not, after {mounted} mounts")))
        }
        Err(error) => Err(broken(Rule::Wrong, error)),
    }
}
