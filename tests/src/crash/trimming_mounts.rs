//! Trimming mounts: what a mount that trims before it serves leaves behind (rules S1, L5).
//!
//! Each function is one story; it says how often it got to what it is about.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use seabed::{Error, LocalStore, Shard, Transaction};
use seabed_device::IoKind;
use seabed_journal::{EntryRef, Slot};
use seabed_object::ObjectId;
use seabed_segment::{RecordHeader, SEGMENT_HEADER_BYTES, SlotCopy, StreamKind, Superblock, entries_of};
use seabed_types::{BLOCK_BYTES, Epoch, Incarnation, Paddr, SegmentId, ShardId};

use super::program::Plan;
use super::run::{formatted, record, shard_options, sim_options, superblock};
use super::schedules::{bounds_at, nothing};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, EIO, Effect, Fault, Faults, Landed, SimOptions, Simulation};

/// A use of a segment.
type SegmentUse = (SegmentId, Incarnation);

fn slot_at(image: &DiskImage, superblock: &Superblock, copy: SlotCopy) -> Option<Slot> {
    let block = image.read(superblock.layout.slot(ShardId(0), copy), BLOCK_BYTES);
    Slot::decode(&block, &superblock.identity, ShardId(0)).ok()
}

fn newest_epoch(image: &DiskImage, superblock: &Superblock) -> Option<Epoch> {
    let slots = [SlotCopy::A, SlotCopy::B].map(|copy| slot_at(image, superblock, copy));
    slots.into_iter().flatten().map(|slot| slot.epoch).max()
}

/// The headers of all records of an epoch.
fn records_of(image: &DiskImage, superblock: &Superblock, epoch: Epoch) -> Vec<RecordHeader> {
    let layout = &superblock.layout;
    let blocks = |segment: SegmentId| {
        (SEGMENT_HEADER_BYTES..layout.segment_bytes)
            .step_by(BLOCK_BYTES)
            .map(move |offset| Paddr::new(segment, offset))
    };
    let header = |at: Paddr| {
        let block = image.read(layout.device_offset(at), BLOCK_BYTES);
        RecordHeader::decode(&block, &superblock.identity, layout, at).ok()
    };
    let headers = layout.segments().flat_map(blocks).filter_map(header);
    headers.filter(|header| header.place.epoch == epoch).collect()
}

/// The uses of segments beside the journal in which records of an epoch stand.
fn uses_of(image: &DiskImage, superblock: &Superblock, epoch: Epoch) -> BTreeSet<SegmentUse> {
    let records = records_of(image, superblock, epoch);
    let beside = records.into_iter().filter(|header| header.place.stream != StreamKind::Journal);
    beside.map(|header| (header.at.segment, header.place.incarnation)).collect()
}

/// A mount that trimmed wrote its epoch into the older slot only, and its checkpoint wrote that one first. A power cut tore it
/// there, so that the newer slot alone opened the store, and it knew nothing of the mount: the next one had the same epoch and
/// gave out the same incarnations, for what is told apart by nothing else (rule S1). How often a slot was torn.
pub fn epoch_of_a_torn_slot(seed: u64) -> Result<u64, Broken> {
    let plan = Plan::of(seed);
    let sizes = Plan { disk_bytes: 6 << 20, window_segments: 16, memory_bytes: 8 << 20, ..plan };
    let plan = Plan { steps: 400, bytes_max: 9000, closes: false, ..sizes };
    // For the mounts the window is as short as can be, so that they trim.
    let again = Plan { steps: 0, rests: false, window_segments: 4, ..plan.clone() };
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let superblock = superblock(seed, &plan);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut torn_slots = 0;
    let boundaries = run.trace.boundaries();
    for boundary in boundaries.iter().step_by(boundaries.len().div_ceil(6)) {
        let image = run.trace.crash_image(*boundary, CrashMode::Durable, &mut rng);
        let Some(before) = newest_epoch(&image, &superblock) else { continue };
        let bounds = bounds_at(&run, *boundary, &least);
        let so_far = (&run.history[..], &bounds);
        let mounted = record((seed + 1, seed), &image, so_far, &again, Faults::none())?;
        for cut in mounted.trace.boundaries() {
            let durable = mounted.trace.crash_image(cut, CrashMode::Durable, &mut rng);
            let mut all = mounted.trace.crash_image(cut, CrashMode::Everything, &mut rng);
            let is_on_its_way = |copy: &SlotCopy| {
                let [was, is] = [&durable, &all].map(|image| slot_at(image, &superblock, *copy));
                is.is_some_and(|is| was.is_none_or(|was| is.end > was.end))
            };
            let Some(copy) = [SlotCopy::A, SlotCopy::B].into_iter().find(is_on_its_way) else { continue };
            let uses = uses_of(&all, &superblock, before.next());
            if uses.is_empty() {
                continue;
            }
            all.write(superblock.layout.slot(ShardId(0), copy), &[7; BLOCK_BYTES]);
            let next = record((seed + 2, seed), &all, so_far, &again, Faults::none())?;
            let left = next.trace.crash_image(next.trace.events(), CrashMode::Everything, &mut rng);
            let epoch = newest_epoch(&left, &superblock)
                .ok_or_else(|| broken(Rule::Wrong, "a mount left no slot"))?;
            if epoch <= before.next() {
                return Err(broken(Rule::Check, format!("two mounts have epoch {epoch}")));
            }
            if let Some((segment, incarnation)) =
                uses_of(&left, &superblock, epoch).intersection(&uses).next()
            {
                let what =
                    format!("incarnation {incarnation} of segment {segment} is given out by two mounts");
                return Err(broken(Rule::Check, what));
            }
            torn_slots += 1;
        }
    }
    Ok(torn_slots)
}

/// A store with a long window and many changed leaves, nearly full.
fn full_of_rows(seed: u64, plan: &Plan) -> Result<DiskImage, Broken> {
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let base = formatted(seed, plan)?;
    let options = SimOptions { steps_max: 100_000_000, ..sim_options(plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, options);
    let (machine, superblock) = (sim.machine(), superblock(seed, plan));
    let mut rng = fastrand::Rng::with_seed(seed);
    let object = ObjectId::new("rows");
    let key = |row: u64| Bytes::from(format!("row {row:010}"));
    let made = sim.run(async {
        let shard =
            Shard::mount(machine, superblock, ShardId(0), shard_options(plan)).await.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await.map_err(wrong)?;
        let mut rows = 0;
        loop {
            let mut transaction = Transaction::new();
            let pairs = (rows..rows + 100).map(|row| (key(row), Bytes::from_static(&[9; 40])));
            transaction.touch(&object).omap_insert(&object, pairs);
            match pool.submit(transaction).await {
                Ok(()) => rows += 100,
                Err(Error::NoSpace { .. }) => break,
                Err(error) => return Err(wrong(error)),
            }
        }
        for _ in 0..100 {
            let mut transaction = Transaction::new();
            transaction.omap_remove(&object, (0..10).map(|_| key(rng.u64(..rows))));
            pool.submit(transaction).await.map_err(wrong)?;
        }
        Ok(())
    });
    made.map_err(|stuck| broken(Rule::Stuck, stuck))??;
    Ok(sim.frontier().crash_image(CrashMode::Durable, &mut fastrand::Rng::with_seed(seed)))
}

/// A mount that trims claims segments for images without logging it, as its checkpoint is to say so. Writes of that checkpoint
/// fail until there is no space left for it: the mount serves without it, and the claims are to be in the log then (rule L5), or
/// what stands in those segments would be held until a checkpoint finds space. In how many mounts that was so.
pub fn claims_of_a_mount_without_a_checkpoint(seed: u64) -> Result<u64, Broken> {
    let sizes = Plan { disk_bytes: 12 << 20, node_bytes: 4096, segment_bytes: 64 << 10, ..Plan::of(seed) };
    let plan = Plan { memory_bytes: 8 << 20, window_segments: 16, inline_bytes: 64, ..sizes };
    let image = full_of_rows(seed, &plan)?;
    let plan = Plan { window_segments: 4, ..plan };
    let superblock = superblock(seed, &plan);
    let mounted = Simulation::from_image(seed, &image, sim_options(&plan, Faults::none()));
    let machine = mounted.machine();
    let writes = mounted.run(async {
        let shard = Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await;
        shard.map(|shard| shard.stats().device_writes)
    });
    let writes = writes.map_err(|stuck| broken(Rule::Stuck, stuck))?;
    let writes = writes.map_err(|error| broken(Rule::FailedOpen, error))?;
    let mut found = 0;
    // The last writes of the mount are those of its checkpoint: some of the one copy of its body fail, and some of the other's.
    let last = writes.saturating_sub(8)..writes;
    let failing = last.flat_map(|after| {
        [(2, 5, 3), (3, 6, 3), (2, 6, 4), (3, 7, 4)]
            .map(|(times, gap, again)| [(after, times), (after + gap, again)])
    });
    for failing in failing {
        let fail = Effect::FailWrite { errno: EIO, landed: Landed::Nothing };
        let mut faults = Faults::none();
        for (after, times) in failing {
            faults.plan(Fault::on(IoKind::Write, fail).after(after).times(times));
        }
        let sim = Simulation::from_image(seed, &image, sim_options(&plan, faults));
        let machine = sim.machine();
        let opened = sim.run(async {
            let mounted = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await;
            let Ok(shard) = mounted else { return None };
            let stats = shard.stats();
            machine.runtime.sleep(Duration::from_millis(100)).await;
            Some(stats)
        });
        let opened = opened.map_err(|stuck| broken(Rule::Stuck, stuck))?;
        if opened.is_none_or(|stats| stats.checkpoints > 0 || stats.images_written == 0) {
            continue;
        }
        let left = sim.frontier().crash_image(CrashMode::Durable, &mut fastrand::Rng::with_seed(seed));
        let epoch = newest_epoch(&left, &superblock).ok_or_else(|| broken(Rule::Wrong, "no slot"))?;
        let mut claimed = BTreeSet::new();
        for header in records_of(&left, &superblock, epoch) {
            if header.place.stream != StreamKind::Journal {
                continue;
            }
            let at = superblock.layout.device_offset(header.at);
            let record = left.read(at, header.record_bytes as usize);
            let entries = entries_of(&header, &record).map_err(|error| broken(Rule::Wrong, error))?;
            let noted = EntryRef::decode_all(&entries, |entry| {
                if let EntryRef::Claim { segment, incarnation, .. } = entry {
                    claimed.insert((segment, incarnation));
                }
            });
            noted.map_err(|error| broken(Rule::Wrong, error))?;
        }
        let unclaimed = uses_of(&left, &superblock, epoch).difference(&claimed).next().copied();
        if let Some((segment, incarnation)) = unclaimed {
            let what = format!(
                "segment {segment}, incarnation {incarnation}, was written without a claim in the log"
            );
            return Err(broken(Rule::Check, format!("{what}, where (write, times) failed: {failing:?}")));
        }
        found += 1;
    }
    Ok(found)
}
