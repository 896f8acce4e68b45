//! Medium: writes that were lost so that old valid content stands where they went, and reads that fail for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use seabed::{Access, Error, LocalStore, Shard, ShardOptions, Transaction};
use seabed_device::IoKind;
use seabed_object::ObjectId;
use seabed_segment::{
    FORMAT_VERSION, RecordHeader, SEGMENT_HEADER_BYTES, SlotCopy, StreamKind, Superblock, SuperblockError,
};
use seabed_types::{BLOCK_BYTES, Crc, Paddr, SegmentId, ShardId};

use super::{bounds_at, look, nothing, place};
use crate::crash::program::{Plan, stamped};
use crate::crash::run::{formatted, record, shard_options, sim_options, superblock};
use crate::crash::suite::{compare, open_with};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{Cache, CrashMode, DiskImage, EIO, Effect, Fault, Faults, Simulation};

/// A store is made where another one was, and the write of each superblock copy is lost in turn: a copy of the old store
/// stands there, valid in every way. The new store is chosen. How many were looked at.
///
/// A format first clears the copies, and that is lost too: with one lost write zeros were looked at, and no older store.
pub fn superblock_of_an_older_store(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 30, ..Plan::of(seed) };
    let older = formatted(seed + 1, &plan)?;
    let new = superblock(seed, &plan);
    let mut looked = 0;
    for at in Superblock::places(plan.disk_bytes) {
        let lose = Fault::on(IoKind::Write, Effect::LoseWrite).within(at..at + 1).for_ever();
        let sim = Simulation::from_image(seed, &older, sim_options(&plan, Faults::none().with(lose)));
        let machine = sim.machine();
        let made = sim.run(async { seabed::format_device(&machine, &new).await });
        made.map_err(|stuck| broken(Rule::Stuck, stuck))?.map_err(|error| broken(Rule::Wrong, error))?;
        let trace = sim.finish();
        let mut rng = fastrand::Rng::with_seed(seed);
        let image = trace.crash_image(trace.events(), CrashMode::Everything, &mut rng);
        let copies = Superblock::places(plan.disk_bytes).map(|at| image.read(at, BLOCK_BYTES));
        let chosen = Superblock::choose(copies.each_ref().map(|copy| Some(&copy[..])));
        if chosen != Ok(new) {
            return Err(broken(Rule::FailedOpen, format!("the copy at {at} is the old store's: {chosen:?}")));
        }
        let (history, least) = nothing(&plan);
        let run = record((seed, seed), &image, (&history, &least), &plan, Faults::none())?;
        let end = run.trace.events();
        let image = run.trace.crash_image(end, CrashMode::Completed, &mut rng);
        open_with((seed, seed), &image, &plan, shard_options(&plan), Faults::none())
            .and_then(|opened| compare(&opened, &run.history, &bounds_at(&run, end, &least)))
            .map_err(|broken| place(broken, "a superblock's write is lost", end))?;
        looked += 1;
    }
    Ok(looked)
}

/// Writes of segment headers are lost though the device said that they were done: all of them, or those of a segment from
/// the second use on, so that the header of an older use stands there. Then the power is cut, and the store goes on. How
/// many writes were lost.
pub fn lost_headers(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 80, closes: false, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let base = formatted(seed, &plan)?;
    let layout = superblock(seed, &plan).layout;
    let mut lost = 0;
    for skip in [0, 1] {
        let mut faults = Faults::none();
        for segment in layout.segments() {
            let at = layout.device_offset(Paddr::new(segment, 0));
            let header = at..at + u64::from(SEGMENT_HEADER_BYTES);
            faults.plan(Fault::on(IoKind::Write, Effect::LoseWrite).within(header).after(skip).for_ever());
        }
        let (mut history, mut least) = nothing(&plan);
        let mut image = base.clone();
        for round in 0..4 {
            let run =
                record((seed + (round << 20), seed), &image, (&history, &least), &plan, faults.clone())?;
            lost += run.trace.lost_writes();
            let end = run.trace.events();
            let bounds = bounds_at(&run, end, &least);
            image = run.trace.crash_image(end, CrashMode::random(&mut rng), &mut rng);
            let recovered = look(seed, &image, &run, &plan, &bounds)
                .map_err(|broken| place(broken, "headers of segments are lost", end))?;
            history = run.history.iter().zip(&recovered).map(|(pool, number)| pool.until(*number)).collect();
            least = crate::crash::run::Bounds::new(recovered);
        }
    }
    Ok(lost)
}

/// Each read of a mount, and of the reads behind it, fails in turn: once, twice, and as often as it is tried. What fails
/// once or twice is read again and nothing is missing; where it fails for ever the mount or the read says so, and it is
/// never taken for the end of the log. Faults that were tried, and those that ended in an error.
pub fn failing_reads(seed: u64) -> Result<[u64; 2], Broken> {
    let plan = Plan { steps: 60, closes: false, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let end = run.trace.events();
    let bounds = bounds_at(&run, end, &least);
    let image = run.trace.crash_image(end, CrashMode::Durable, &mut rng);
    let whole = open_with((seed, seed), &image, &plan, shard_options(&plan), Faults::none())?;
    let recovered = compare(&whole, &run.history, &bounds)?;
    let mut tried = [0; 2];
    for read in 0..whole.reads {
        for times in [1, 2, u64::MAX] {
            let fail = Fault::on(IoKind::Read, Effect::Fail { errno: EIO }).after(read).times(times);
            let opened =
                open_with((seed, seed), &image, &plan, shard_options(&plan), Faults::none().with(fail));
            tried[0] += 1;
            let what = format!("read {read} fails {times} times");
            match opened {
                Ok(opened) => {
                    let again = compare(&opened, &run.history, &bounds)
                        .map_err(|broken| place(broken, &what, end))?;
                    if again != recovered {
                        return Err(broken(Rule::Lost, format!("{what}: {again:?}, not {recovered:?}")));
                    }
                }
                Err(error) if times > 2 && matches!(error.rule, Rule::FailedOpen | Rule::Half) => {
                    tried[1] += 1;
                }
                Err(error) => return Err(place(error, &what, end)),
            }
        }
    }
    Ok(tried)
}

/// A store was killed, and what it wrote last may be in the device's cache only. A mount that only reads shows that to its
/// callers, so it flushes first; if the flush fails, so does the mount.
pub fn read_only_mount_without_flush(seed: u64) -> Result<(), Broken> {
    let plan = Plan { steps: 20, closes: false, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let image = run.trace.crash_image(run.trace.events(), CrashMode::Durable, &mut rng);
    let options = ShardOptions { access: Access::ReadOnly, ..shard_options(&plan) };
    open_with((seed, seed), &image, &plan, options, Faults::none())?;
    let fail = Fault::on(IoKind::Flush, Effect::FailFlush { errno: EIO, cache: Cache::Kept }).for_ever();
    match open_with((seed, seed), &image, &plan, options, Faults::none().with(fail)) {
        Err(error) if error.rule == Rule::FailedOpen => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(broken(Rule::Retracted, "a read-only mount shows what no flush has covered")),
    }
}

/// One block of the journal's window cannot be read any more, each in turn: the mount says so. How many blocks of those
/// made it fail.
pub fn unreadable_window(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 60, closes: true, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let end = run.trace.events();
    let bounds = bounds_at(&run, end, &least);
    let image = run.trace.crash_image(end, CrashMode::Durable, &mut rng);
    let mut failed = 0;
    for block in image.blocks().into_keys() {
        let fail = Fault::on(IoKind::Read, Effect::Fail { errno: EIO }).within(block..block + 1).for_ever();
        match open_with((seed, seed), &image, &plan, shard_options(&plan), Faults::none().with(fail)) {
            Ok(opened) => drop(
                compare(&opened, &run.history, &bounds)
                    .map_err(|broken| place(broken, "an unreadable block", end))?,
            ),
            Err(error) if matches!(error.rule, Rule::FailedOpen | Rule::Half) => failed += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

/// All copies of the superblock are of a later version, and sound: the store is refused and the version named.
pub fn newer_format(seed: u64) -> Result<(), Broken> {
    let plan = Plan::of(seed);
    let image = formatted(seed, &plan)?;
    let newer = Superblock::places(plan.disk_bytes).map(|at| {
        let mut block = image.read(at, BLOCK_BYTES);
        block[12..16].fill(0);
        block[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let crc = Crc::of(&block);
        block[12..16].copy_from_slice(&crc.0.to_le_bytes());
        block
    });
    match Superblock::choose(newer.each_ref().map(|block| Some(&block[..]))) {
        Err(SuperblockError::Version(version)) if version == FORMAT_VERSION + 1 => Ok(()),
        chosen => Err(broken(Rule::FailedOpen, format!("a store of a later version: {chosen:?}"))),
    }
}

/// Both slots have odd contents under a right checksum, as only somebody who means harm makes them: the mount ends, with an
/// error or without. How many were tried.
pub fn hostile(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 20, closes: true, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let sound = run.trace.crash_image(run.trace.events(), CrashMode::Durable, &mut rng);
    let superblock = superblock(seed, &plan);
    let options = ShardOptions { access: Access::ReadOnly, ..shard_options(&plan) };
    let mut tried = 0;
    for _ in 0..60 {
        let mut image = sound.clone();
        let mut block = image.read(superblock.layout.slot(ShardId(0), SlotCopy::A), BLOCK_BYTES);
        // Most of a slot is zero; what means something is at its beginning. A whole word is changed as well as a byte: a count
        // may be believed up to some size.
        for _ in 0..rng.usize(1..4) {
            let at = [rng.usize(32..80), rng.usize(80..300)][rng.usize(..2)];
            block[at] = [rng.u8(..), 0xff, 0, 1][rng.usize(..4)];
            let word = if rng.bool() { rng.usize(8..20) } else { continue };
            let odd = [u32::MAX, 1 << 31, 1 << 16, rng.u32(..)][rng.usize(..4)];
            block[word * 4..][..4].copy_from_slice(&odd.to_le_bytes());
        }
        block[8..12].fill(0);
        let crc = superblock.identity.header_crc(&block);
        block[8..12].copy_from_slice(&crc.0.to_le_bytes());
        for copy in [SlotCopy::A, SlotCopy::B] {
            image.write(superblock.layout.slot(ShardId(0), copy), &block);
        }
        match open_with((seed, seed), &image, &plan, options, Faults::none()) {
            Err(Broken { rule: Rule::Stuck, what }) => return Err(broken(Rule::Stuck, what)),
            Ok(_) | Err(_) => tried += 1,
        }
    }
    Ok(tried)
}

/// The records of a journal by number.
pub(crate) fn journal_records(image: &DiskImage, superblock: &Superblock) -> BTreeMap<u64, Paddr> {
    let layout = superblock.layout;
    let segment_bytes = u64::from(layout.segment_bytes);
    let place = |device_offset: u64| {
        let segment = SegmentId(u32::try_from(device_offset / segment_bytes).ok()?);
        Some(Paddr::new(segment, u32::try_from(device_offset % segment_bytes).ok()?))
    };
    let header = |device_offset: u64| {
        let block = image.read(device_offset, BLOCK_BYTES);
        RecordHeader::decode(&block, &superblock.identity, &layout, place(device_offset)?).ok()
    };
    let journal = image.blocks().into_keys().filter_map(header);
    let journal = journal.filter(|header| header.place.stream == StreamKind::Journal);
    journal.map(|header| (header.place.number, header.at)).collect()
}

/// The write of a record of bulk data goes to another place, each in turn, and the device says that it was done. Then parts
/// of chunks are overwritten, which reads what is merged with them: no byte of the old use of the place is taken for data.
/// How often something was called corrupt.
pub fn misdirected_data(seed: u64) -> Result<u64, Broken> {
    const BYTES: usize = 40_000;
    let plan = Plan { memory_bytes: 8 << 20, bulk_bytes: 4096, disk_bytes: 4 << 20, ..Plan::of(seed) };
    let base = formatted(seed, &plan)?;
    let (superblock, object) = (superblock(seed, &plan), ObjectId::new("object"));
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let mut corrupt = 0;
    for skip in 0..6 {
        let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
        let machine = sim.machine();
        let run = async {
            let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await;
            let pool = LocalStore::new(shard.map_err(wrong)?).create_pool("pool").await.map_err(wrong)?;
            machine.runtime.sleep(Duration::from_millis(100)).await;
            // The last segment is not used in this short a time.
            let to = plan.disk_bytes - 2 * u64::from(superblock.layout.segment_bytes);
            let astray = Fault::on(IoKind::Write, Effect::Misdirect { to }).after(skip);
            sim.with_faults(|faults| faults.plan(astray));
            let mut expected = stamped(seed, BYTES);
            pool.put(object.clone(), expected.clone()).await.map_err(wrong)?;
            let mut corrupt = 0;
            for (number, at) in (0..).zip((100..BYTES).step_by(4096)) {
                let data = stamped(seed + 1 + number, 50);
                let mut transaction = Transaction::new();
                transaction.write(&object, at as u64, data.clone());
                match pool.submit(transaction).await {
                    Ok(()) => expected[at..at + 50].copy_from_slice(&data),
                    Err(Error::Corrupt { .. }) => corrupt += 1,
                    Err(error) => return Err(wrong(error)),
                }
            }
            match pool.get(object.clone()).await {
                Ok(read) if read == expected => {}
                Ok(_) => return Err(broken(Rule::Half, format!("write {skip} went astray: other bytes"))),
                Err(Error::Corrupt { .. }) => corrupt += 1,
                Err(error) => return Err(wrong(error)),
            }
            Ok(corrupt)
        };
        corrupt += sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))??;
    }
    Ok(corrupt)
}

/// The write of a record goes to the place at which the next segment of the journal begins, each in turn, and the device
/// says that it was done; the log goes on behind the place where it should be. What was acknowledged after it is there, or
/// the mount says that the log is damaged. How many states were opened with a record missing.
pub fn misdirected_records(seed: u64) -> Result<u64, Broken> {
    let plan =
        Plan { steps: 60, bytes_max: 300, inline_bytes: 512, closes: false, rests: false, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let sound = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let superblock = superblock(seed, &plan);
    let layout = superblock.layout;
    let image = sound.trace.crash_image(sound.trace.events(), CrashMode::Durable, &mut rng);
    let records = journal_records(&image, &superblock);
    let faulty = Plan { is_faulty: true, ..plan.clone() };
    let mut looked = 0;
    for (number, at) in &records {
        let is_followed = records.get(&(number + 1)).is_some_and(|next| next.segment == at.segment);
        let rolled = records.range(number..).find(|(_, next)| next.segment != at.segment);
        let Some((_, to)) = rolled.filter(|(_, to)| is_followed && to.offset == SEGMENT_HEADER_BYTES) else {
            continue;
        };
        let at = layout.device_offset(*at);
        let astray = Effect::Misdirect { to: layout.device_offset(*to) };
        let faults = Faults::none().with(Fault::on(IoKind::Write, astray).within(at..at + 1));
        let run = record((seed, seed), &base, (&history, &least), &faulty, faults)?;
        for boundary in run.trace.boundaries().into_iter().step_by(5) {
            let image = run.trace.crash_image(boundary, CrashMode::Durable, &mut rng);
            let there = journal_records(&image, &superblock);
            if there.contains_key(number) || !there.contains_key(&(number + 1)) {
                continue;
            }
            looked += 1;
            match look(seed, &image, &run, &plan, &bounds_at(&run, boundary, &least)) {
                Err(Broken { rule: Rule::FailedOpen, what }) if what.contains("damaged") => {}
                other => drop(other.map_err(|broken| place(broken, "a record went astray", boundary))?),
            }
        }
    }
    Ok(looked)
}
