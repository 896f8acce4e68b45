//! Stories: bugs that the crash suite found, or that reading found before it, each as a course of events by itself.
//!
//! Each function is one story; it says what it reached, so that a test can tell that it got there.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use seabed::{Error, LocalStore, Shard, ShardOptions, Transaction};
use seabed_device::IoKind;
use seabed_object::ObjectId;
use seabed_segment::{SegmentHeader, SlotCopy, StreamKind};
use seabed_types::{BLOCK_BYTES, Epoch, Incarnation, Lsn, SegmentId, ShardId};

use super::crowd::crowd;
use super::program::{Plan, stamped};
use super::run::{formatted, record, shard_options, sim_options, superblock};
use super::schedules::{bounds_at, look, nothing, place};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, EIO, Effect, Fault, Faults, Landed, SimOptions, Simulation};

/// A segment was claimed, its header torn by the power cut that took the claim: one sector of it is garbage. The next
/// mount could not read it, used the same incarnation again, and a second power cut tore that header so that it mended
/// the garbage only: the header of the use that never was counted again, under the incarnation of the one that is. So a
/// mount leaves no torn header or seal in a free segment.
pub fn torn_header_of_a_lost_use(seed: u64) -> Result<(), Broken> {
    let plan = Plan { steps: 0, ..Plan::of(seed) };
    let (history, least) = nothing(&plan);
    let mut image = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let segment = SegmentId(20);
    let header = SegmentHeader {
        segment,
        incarnation: Incarnation(1),
        shard: ShardId(0),
        stream: StreamKind::Bulk,
        epoch: Epoch(0),
        age: 0,
        first_lsn: Lsn(0),
    };
    let (mut torn, _) = header.encode(&superblock.identity);
    torn[2700] = 7;
    let start = u64::from(segment.0) * u64::from(superblock.layout.segment_bytes);
    let ends = [start, start + u64::from(superblock.layout.segment_bytes) - BLOCK_BYTES as u64];
    for at in ends {
        image.write(at, &torn);
    }
    let run = record((seed, seed), &image, (&history, &least), &plan, Faults::none())?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let left = run.trace.crash_image(run.trace.events(), CrashMode::Durable, &mut rng);
    for at in ends {
        if left.read(at, BLOCK_BYTES).iter().any(|byte| *byte != 0) {
            return Err(broken(Rule::Wrong, "a torn header or seal of a free segment is left"));
        }
    }
    Ok(())
}

/// A power cut comes between the two slots of a checkpoint, and the mount finds a long window and trims. The newer slot is
/// lost at any moment of that: the older one alone must open the store (rule C3), so nothing that it needs may be claimed
/// before it is rewritten. How often it opened it.
pub fn older_slot_while_a_mount_trims(seed: u64) -> Result<u64, Broken> {
    let plan = Plan::of(seed);
    let sizes = Plan { disk_bytes: 6 << 20, window_segments: 16, memory_bytes: 8 << 20, ..plan };
    let plan = Plan { steps: 400, bytes_max: 9000, closes: false, ..sizes };
    // For the mount the window is as short as can be, so that it trims.
    let again = Plan { steps: 0, rests: false, window_segments: 4, ..plan.clone() };
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let superblock = superblock(seed, &plan);
    let mut rng = fastrand::Rng::with_seed(seed);
    let places = [SlotCopy::A, SlotCopy::B].map(|copy| superblock.layout.slot(ShardId(0), copy));
    let slot = |image: &DiskImage, at: u64| {
        seabed_journal::Slot::decode(&image.read(at, BLOCK_BYTES), &superblock.identity, ShardId(0)).ok()
    };
    let (mut looked, mut last) = (0, 0);
    for boundary in run.trace.boundaries() {
        let image = run.trace.crash_image(boundary, CrashMode::Durable, &mut rng);
        let (Some(newer), Some(older)) = (slot(&image, places[0]), slot(&image, places[1])) else { continue };
        if newer.sequence <= older.sequence || newer.body == older.body || newer.sequence == last {
            continue;
        }
        last = newer.sequence;
        let bounds = bounds_at(&run, boundary, &least);
        let mounted = record((seed + 1, seed), &image, (&run.history, &bounds), &again, Faults::none())?;
        for cut in mounted.trace.boundaries() {
            let mut image = mounted.trace.crash_image(cut, CrashMode::Durable, &mut rng);
            let is_trimmed = slot(&image, places[1]).is_some_and(|slot| slot.end > newer.end);
            image.write(places[0], &[0; BLOCK_BYTES]);
            look(seed, &image, &run, &plan, &bounds)
                .map_err(|broken| place(broken, "the newer slot is lost in a mount", cut))?;
            looked += u64::from(is_trimmed);
        }
    }
    Ok(looked)
}

/// Many clients write small rows as fast as they can under a budget of `memory_bytes`, then the power is cut: the most bytes
/// of pending changes that were seen, and the image.
fn many_rows(seed: u64, plan: &Plan, rows: u32) -> Result<(u64, DiskImage), Broken> {
    let base = formatted(seed, plan)?;
    let options = SimOptions { steps_max: 20_000_000, ..sim_options(plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, options);
    let fill = |transaction: &mut Transaction, object: &ObjectId, round: u32| {
        let pairs = (0..40).map(|row| (format!("key {round:05} {row:02}"), Bytes::from_static(b"value")));
        transaction.omap_insert(object, pairs);
    };
    let most = crowd((seed, plan, &sim), rows / 800, fill, |stats| stats.pending_bytes)?;
    let image = sim.frontier().crash_image(CrashMode::Durable, &mut fastrand::Rng::with_seed(seed));
    Ok((most, image))
}

/// Pending changes stay within a quarter of the window and an eighth of the budget, but for the transactions that are on
/// their way (rule T4): the most that was seen.
pub fn pending_is_bounded(seed: u64, memory_bytes: usize) -> Result<u64, Broken> {
    let plan = Plan { memory_bytes, disk_bytes: 24 << 20, window_segments: 32, ..Plan::of(seed) };
    Ok(many_rows(seed, &plan, 24_000)?.0)
}

/// A store that was written with a large budget is opened with ever smaller ones: each opens it, or says how much it takes
/// and changes nothing; with what it says it opens. How often it said so.
pub fn smaller_budgets(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { memory_bytes: 64 << 20, disk_bytes: 48 << 20, window_segments: 160, ..Plan::of(seed) };
    let (_, image) = many_rows(seed, &plan, 24_000)?;
    let mut refused = 0;
    for shift in 0..10 {
        let sim = Simulation::from_image(seed, &image, sim_options(&plan, Faults::none()));
        let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
        let mount = |memory_bytes| {
            let options = ShardOptions { memory_bytes, ..shard_options(&plan) };
            Shard::mount(machine.clone(), superblock, ShardId(0), options)
        };
        let opened = sim.run(async {
            let needed = match mount((64 << 20) >> shift).await {
                Err(Error::MemoryBudget { needed, .. }) => needed,
                Err(error) => return Err(broken(Rule::FailedOpen, error)),
                Ok(_) => return Ok(0),
            };
            if sim.trace().counts().writes > 0 {
                return Err(broken(Rule::Wrong, "a mount that was refused for its budget has written"));
            }
            let shard = mount(needed).await.map_err(|error| broken(Rule::FailedOpen, error))?;
            let pool = LocalStore::new(shard).pool("pool").await;
            let pool = pool.map_err(|error| broken(Rule::Half, error))?;
            machine.runtime.sleep(Duration::from_millis(100)).await;
            let usage = pool.usage().map_err(|error| broken(Rule::Half, error))?;
            if usage.objects == 20 { Ok(1) } else { Err(broken(Rule::Lost, "objects")) }
        });
        refused += opened.map_err(|stuck| broken(Rule::Stuck, stuck))??;
    }
    Ok(refused)
}

/// Transactions that wait for trimming while the shard closes are finished, as all that was submitted: they were told that
/// the store is closed, and trimming ended at once. How many waited.
pub fn closing_finishes_what_waits(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { memory_bytes: 256 << 10, disk_bytes: 24 << 20, window_segments: 16, ..Plan::of(seed) };
    let base = formatted(seed, &plan)?;
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let run = async {
        let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await;
        let shard = shard.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await.map_err(wrong)?;
        let submitted: Vec<_> = (0..60)
            .map(|number| {
                let object = ObjectId::new(format!("object {number}"));
                let mut transaction = Transaction::new();
                let pairs = (0..40).map(|row| (format!("key {row:02}"), Bytes::from_static(b"value")));
                transaction.touch(&object).omap_insert(&object, pairs);
                pool.submit(transaction)
            })
            .collect();
        let before = shard.stats().transactions;
        shard.close().await.map_err(wrong)?;
        for answer in join_all(submitted).await {
            answer.map_err(wrong)?;
        }
        Ok(shard.stats().transactions - before)
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// The write of one record of bulk data fails, each one in turn: the data goes elsewhere, the transaction is done, what is
/// read is right, and what the write left behind counts for nothing. How many failed.
pub fn failed_bulk_writes(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { memory_bytes: 8 << 20, bulk_bytes: 4096, ..Plan::of(seed) };
    let base = formatted(seed, &plan)?;
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let mut failed = 0;
    for landed in [Landed::Nothing, Landed::Everything, Landed::Torn] {
        for skip in 0..8 {
            let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
            let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
            let (data, object) = (stamped(seed, 70_000), ObjectId::new("object"));
            let run = async {
                let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await;
                let shard = shard.map_err(wrong)?;
                let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await.map_err(wrong)?;
                machine.runtime.sleep(Duration::from_millis(100)).await;
                let fault = Fault::on(IoKind::Write, Effect::FailWrite { errno: EIO, landed }).after(skip);
                sim.with_faults(|faults| faults.plan(fault));
                let put = pool.put(object.clone(), data.clone()).await;
                // None if it was the record of the transaction, or a header that nobody waits for.
                let given_up = shard.stats().quarantined_segments;
                put.map_err(wrong)?;
                if pool.get(object.clone()).await.map_err(wrong)? != data {
                    return Err(broken(Rule::Half, "what was written elsewhere"));
                }
                shard.close().await.map_err(wrong)?;
                Ok(given_up)
            };
            let given_up = sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))??;
            let mut rng = fastrand::Rng::with_seed(seed);
            let image = sim.frontier().crash_image(CrashMode::Durable, &mut rng);
            super::suite::findings(&image).map_err(|what| broken(Rule::Check, what))?;
            let sim = Simulation::from_image(seed, &image, sim_options(&plan, Faults::none()));
            let machine = sim.machine();
            let read = sim.run(async {
                let shard = Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await?;
                LocalStore::new(shard).pool("pool").await?.get(object.clone()).await
            });
            if read.map_err(|stuck| broken(Rule::Stuck, stuck))?.map_err(wrong)? != data {
                return Err(broken(Rule::Lost, "what was written elsewhere"));
            }
            failed += given_up;
        }
    }
    Ok(failed)
}

/// One block of a closed store cannot be read any more, each in turn, and the store is worked on: what needs that block says
/// so, all else is read and written, trimming and checkpoints go on, and nothing is fenced. With the block back, all that
/// was acknowledged is there. How many blocks kept something from being read, and how many reads they did.
pub fn one_bad_block(seed: u64, step: usize) -> Result<[u64; 2], Broken> {
    const OBJECTS: usize = 60;
    let plan = Plan { memory_bytes: 256 << 10, disk_bytes: 4 << 20, inline_bytes: 512, ..Plan::of(seed) };
    let plan = Plan { window_segments: 4, node_bytes: 4096, bulk_bytes: 128 << 10, ..plan };
    let base = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let object = |number: usize| ObjectId::new(format!("object {number:02}"));
    let data = |number: usize, round: u64| stamped(seed + round * 1000 + number as u64, 400 + number * 90);
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let machine = sim.machine();
    let made = sim.run(async {
        let shard = Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await?;
        for number in 0..OBJECTS {
            pool.put(object(number), data(number, 0)).await?;
        }
        // Most of it leaves the window.
        for round in 0..6000 {
            pool.put("other", stamped(round, 300)).await?;
        }
        shard.close().await
    });
    made.map_err(|stuck| broken(Rule::Stuck, stuck))?.map_err(wrong)?;
    let image = sim.frontier().crash_image(CrashMode::Everything, &mut fastrand::Rng::with_seed(seed));
    let mut counts = [0; 2];
    for block in image.blocks().into_keys().step_by(step) {
        let fail = Fault::on(IoKind::Read, Effect::Fail { errno: EIO }).within(block..block + 1).for_ever();
        let sim = Simulation::from_image(seed, &image, sim_options(&plan, Faults::none().with(fail)));
        let machine = sim.machine();
        let told = |error: Error| broken(Rule::Wrong, format!("block {block}: {error}"));
        let run = async {
            let mounted = Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await;
            // What the mount itself needs: the body, or the window.
            let Ok(shard) = mounted else { return Ok(None) };
            let store = LocalStore::new(Rc::clone(&shard));
            let Ok(pool) = store.pool("pool").await else { return Ok(None) };
            let (mut failed, mut newest) = (0, vec![0; OBJECTS]);
            for round in 1..4 {
                for (number, newest) in newest.iter_mut().enumerate() {
                    match pool.get(object(number)).await {
                        Ok(read) if read == data(number, *newest) => {}
                        Ok(_) => return Err(broken(Rule::Half, "an object beside a bad block")),
                        Err(Error::Device(_)) => failed += 1,
                        Err(error) => return Err(told(error)),
                    }
                    match pool.put(object(number), data(number, round)).await {
                        Ok(()) => *newest = round,
                        Err(Error::Device(_)) => failed += 1,
                        Err(error) => return Err(told(error)),
                    }
                }
            }
            // Others go on for longer than a window, if the bad block is not in their way.
            for round in 0..3000 {
                match pool.put("other", stamped(round, 300)).await {
                    Ok(()) => {}
                    Err(Error::Device(_)) => break,
                    Err(error) => return Err(told(error)),
                }
            }
            sim.with_faults(Faults::stop);
            for (number, newest) in newest.into_iter().enumerate() {
                if pool.get(object(number)).await.map_err(told)? != data(number, newest) {
                    return Err(broken(Rule::Lost, "an object, with the block back"));
                }
            }
            shard.close().await.map_err(told)?;
            Ok(Some(failed))
        };
        let failed =
            sim.run(run).map_err(|stuck| broken(Rule::Stuck, format!("block {block}: {stuck}")))??;
        counts[0] += u64::from(failed.is_some_and(|failed| failed > 0));
        counts[1] += failed.unwrap_or(0);
        let left = sim.frontier().crash_image(CrashMode::Durable, &mut fastrand::Rng::with_seed(seed));
        super::suite::findings(&left)
            .map_err(|what| broken(Rule::Check, format!("block {block}: {what}")))?;
    }
    Ok(counts)
}
