//! Schedules: courses of events that broke drafts of the design, each by itself.
//!
//! Here: slots, superblocks and kills. Space: [`space`]. Old content where a write was lost, and reads that fail: [`medium`].
//! Images on their way, and replays with less memory than the writer had: [`memory`]. Rows in several records, and records
//! that rot: [`records`]. Data in memory: [`cached`]. Buffers of the caller: [`owned`].
//! Pools that are removed and renamed: [`pools`].
//! Calls of other threads: [`faces`]. The largest requests: [`large`].
//! Answers in slices and read handles: [`reads`].

pub mod cached;
pub mod capacity;
pub mod faces;
pub mod large;
pub mod medium;
pub mod memory;
pub mod owned;
pub mod pools;
pub mod reads;
pub mod records;
pub mod space;

use std::time::Duration;

use seabed_device::IoKind;
use seabed_segment::{SlotCopy, Superblock};
use seabed_types::{BLOCK_BYTES, ShardId};

use super::history::PoolHistory;
use super::program::{Kind, Plan};
use super::run::{Bounds, Run, formatted, record, record_on, shard_options, superblock};
use super::suite::{check_before, compare, excused, findings, open};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Effect, Fault, Faults, SimOptions};

pub(super) fn nothing(plan: &Plan) -> (Vec<PoolHistory>, Bounds) {
    (vec![PoolHistory::new(); plan.pools], Bounds::new(vec![0; plan.pools]))
}

/// The run of a plan on a fresh store and a machine with these options, and what no crash may take back from before it.
fn recorded_on(seed: u64, plan: &Plan, options: SimOptions) -> Result<(Run, Bounds), Broken> {
    let (history, least) = nothing(plan);
    let base = formatted(seed, plan)?;
    let run = record_on((seed, seed), &base, (&history, &least), plan, options)?;
    Ok((run, least))
}

/// A device so small that clients, one transaction of one operation at a time, write it over several times.
fn written_over(seed: u64) -> Plan {
    Plan {
        pools: 1,
        ops_max: 1,
        closes: false,
        rests: false,
        disk_bytes: 3 << 20,
        window_segments: 4,
        memory_bytes: 8 << 20,
        bulk_bytes: 4096,
        inline_bytes: 64,
        pause_us: 0,
        ..Plan::of(seed)
    }
}

/// Mounts a state, compares it, and lets the checker look at what the mount left: the number of each pool.
pub(super) fn look(
    seed: u64,
    image: &DiskImage,
    run: &Run,
    plan: &Plan,
    bounds: &Bounds,
) -> Result<Vec<u64>, Broken> {
    let opened = open((seed, seed), image, plan, shard_options(plan))?;
    let recovered = compare(&opened, &run.history, bounds)?;
    findings(&opened.image).map_err(|what| broken(Rule::Check, what))?;
    Ok(recovered)
}

pub(super) fn bounds_at(run: &Run, boundary: usize, least: &Bounds) -> Bounds {
    let mut bounds = least.clone();
    run.trace.marks_before(boundary).for_each(|mark| run.raise(&mut bounds, mark));
    bounds
}

/// `mounts` power cuts in a row, each somewhere in a mount and the few steps behind it. The store opens each time.
pub fn crash_loop(seed: u64, mounts: u64) -> Result<(), Broken> {
    let plan = Plan { steps: 4, closes: false, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut history, mut least) = nothing(&plan);
    let (mut image, mut has_garbage) = (formatted(seed, &plan)?, false);
    for round in 0..mounts {
        let run = record((seed + (round << 20), seed), &image, (&history, &least), &plan, Faults::none())?;
        let boundaries = run.trace.boundaries();
        let boundary = boundaries[rng.usize(..boundaries.len())];
        let bounds = bounds_at(&run, boundary, &least);
        let mode = CrashMode::ALL[rng.usize(..6)];
        image = run.trace.crash_image(boundary, mode, &mut rng);
        // A slot that is garbage stays so until a mount has written it again.
        has_garbage |= mode == CrashMode::Garbage;
        let worst = if has_garbage { CrashMode::Garbage } else { mode };
        check_before(&image, excused(worst)).map_err(|found| place(found, "a crash loop", boundary))?;
        let recovered = look(seed, &image, &run, &plan, &bounds)?;
        history = run.history.iter().zip(&recovered).map(|(pool, number)| pool.until(*number)).collect();
        least = Bounds::new(recovered);
    }
    Ok(())
}

/// A store is mounted again and again and the power cut each time, so that its slots, which keep a cut of each mount, grow longer
/// than a sector. Then the power is cut while they are written: for the checker, which looks before the mount, a slot that this
/// tore is a note. How many it tore.
///
/// The story: one cut in some hundred left a torn slot, and `check` said of a store that opened and had lost nothing that it was
/// damaged.
pub fn torn_slots(seed: u64) -> Result<u64, Broken> {
    const MOUNTS: u64 = 40;
    let plan = Plan {
        steps: 3,
        clients: 1,
        pools: 1,
        kinds: vec![Kind::Write],
        bytes_max: 300,
        closes: false,
        rests: false,
        disk_bytes: 6 << 20,
        window_segments: 16,
        memory_bytes: 8 << 20,
        ..Plan::of(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut history, mut least) = nothing(&plan);
    let mut image = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let is_torn = |image: &DiskImage| {
        [SlotCopy::A, SlotCopy::B].into_iter().any(|which| {
            let block = image.read(superblock.layout.slot(ShardId(0), which), BLOCK_BYTES);
            seabed_journal::Slot::decode(&block, &superblock.identity, ShardId(0)).is_err()
        })
    };
    let mut torn = 0;
    for round in 0..MOUNTS {
        let run = record((seed + (round << 20), seed), &image, (&history, &least), &plan, Faults::none())?;
        for boundary in run.trace.boundaries() {
            let cut = run.trace.crash_image(boundary, CrashMode::Sectors, &mut rng);
            if is_torn(&cut) {
                let bounds = bounds_at(&run, boundary, &least);
                check_before(&cut, excused(CrashMode::Sectors))
                    .and_then(|()| look(seed, &cut, &run, &plan, &bounds))
                    .map_err(|found| place(found, "a torn slot", boundary))?;
                torn += 1;
            }
        }
        let end = run.trace.events();
        image = run.trace.crash_image(end, CrashMode::Durable, &mut rng);
        let recovered = look(seed, &image, &run, &plan, &bounds_at(&run, end, &least))?;
        history = run.history.iter().zip(&recovered).map(|(pool, number)| pool.until(*number)).collect();
        least = Bounds::new(recovered);
    }
    Ok(torn)
}

/// Each slot and each superblock copy is lost at some boundaries of a run: zeros, or what stood there before. How many.
pub fn lost_fronts(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 60, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let superblock = superblock(seed, &plan);
    let slots = [SlotCopy::A, SlotCopy::B].map(|which| superblock.layout.slot(ShardId(0), which));
    let mut looked = 0;
    for boundary in run.trace.boundaries().into_iter().step_by(9) {
        let bounds = bounds_at(&run, boundary, &least);
        let image = run.trace.crash_image(boundary, CrashMode::Completed, &mut rng);
        let is_valid = |at: u64| {
            let block = image.read(at, BLOCK_BYTES);
            seabed_journal::Slot::decode(&block, &superblock.identity, ShardId(0)).is_ok()
        };
        for (lost, other) in [(slots[0], slots[1]), (slots[1], slots[0])] {
            if is_valid(other) {
                let mut without = image.clone();
                without.write(lost, &[0; BLOCK_BYTES]);
                look(seed, &without, &run, &plan, &bounds)
                    .map_err(|broken| place(broken, "a slot is lost", boundary))?;
                looked += 1;
            }
        }
        for at in Superblock::places(plan.disk_bytes) {
            let mut without = image.clone();
            without.write(at, &[0; BLOCK_BYTES]);
            // The mount writes it again.
            open((seed, seed), &without, &plan, shard_options(&plan))
                .and_then(|opened| findings(&opened.image).map_err(|what| broken(Rule::Check, what)))
                .map_err(|broken| place(broken, "a superblock is lost", boundary))?;
            looked += 1;
        }
    }
    Ok(looked)
}

pub(super) fn place(broken: Broken, what: &str, boundary: usize) -> Broken {
    let Broken { rule, what: how } = broken;
    Broken { rule, what: format!("boundary {boundary}, {what}: {how}") }
}

/// The write of a slot is lost, each one of a run in turn, though the device said it was done; then the power is cut.
pub fn lost_slot_writes(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 60, closes: false, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let layout = superblock(seed, &plan).layout;
    let mut lost = 0;
    for which in [SlotCopy::A, SlotCopy::B] {
        let at = layout.slot(ShardId(0), which);
        for skip in 0..6 {
            let fault = Fault::on(IoKind::Write, Effect::LoseWrite).within(at..at + 1).after(skip);
            let faults = Faults::none().with(fault);
            let run = record((seed, seed), &base, (&history, &least), &plan, faults)?;
            let end = run.trace.events();
            let image = run.trace.crash_image(end, CrashMode::Completed, &mut rng);
            look(seed, &image, &run, &plan, &bounds_at(&run, end, &least))
                .map_err(|broken| place(broken, "a slot's write is lost", end))?;
            lost += 1;
        }
    }
    Ok(lost)
}

/// A process is killed, the next one mounts what is only cached, and the power is cut at each boundary of that mount.
pub fn killed_mounted_cut(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 20, ..Plan::of(seed) };
    let again = Plan { steps: 0, closes: false, rests: false, ..plan.clone() };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let mut looked = 0;
    for boundary in run.trace.boundaries().into_iter().step_by(23) {
        let bounds = bounds_at(&run, boundary, &least);
        let killed = run.trace.frontier_at(boundary).killed_image(&mut rng);
        let mounted = record((seed + 1, seed), &killed, (&run.history, &bounds), &again, Faults::none())?;
        for cut in mounted.trace.boundaries() {
            let image = mounted.trace.crash_image(cut, CrashMode::Durable, &mut rng);
            let bounds = bounds_at(&mounted, cut, &bounds);
            look(seed, &image, &mounted, &plan, &bounds)
                .map_err(|broken| place(broken, "killed, mounted, cut", cut))?;
            looked += 1;
        }
    }
    Ok(looked)
}

/// A store in a file is opened twice: the second handle is refused.
pub fn two_handles(seed: u64) -> Result<(), Broken> {
    let name = format!("seabed-two-handles-{}-{seed}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let wrong = |error: seabed::Error| broken(Rule::Wrong, error);
    let twice = || {
        let options = seabed::FormatOptions { size: Some(64 << 20), ..seabed::FormatOptions::default() };
        seabed::blocking::Store::format(&path, options).map_err(wrong)?;
        let no_wait = || seabed::OpenOptions { lock_wait: Duration::ZERO, ..seabed::OpenOptions::default() };
        let open = || seabed::blocking::Store::open(&path, no_wait());
        let first = open().map_err(wrong)?;
        let second = open();
        first.close().map_err(wrong)?;
        match second {
            Err(seabed::Error::Open(_)) => Ok(()),
            Err(error) => Err(wrong(error)),
            Ok(_) => Err(broken(Rule::Wrong, "a store was opened twice")),
        }
    };
    let result = twice();
    // What cannot be removed is a small sparse file among temporary ones.
    let _ = std::fs::remove_file(&path);
    result
}
