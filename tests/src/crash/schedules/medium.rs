//! Medium: writes that were lost so that old valid content stands where they went, and reads that fail for a while.

use seabed_device::IoKind;
use seabed_segment::{SEGMENT_HEADER_BYTES, Superblock};
use seabed_types::{BLOCK_BYTES, Paddr};

use super::{bounds_at, look, nothing, place};
use crate::crash::program::Plan;
use crate::crash::run::{formatted, record, shard_options, sim_options, superblock};
use crate::crash::suite::{compare, open_with};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, EIO, Effect, Fault, Faults, Simulation};

/// A store is made where another one was, and the write of each superblock copy is lost in turn: a copy of the old store
/// stands there, valid in every way. The new store is chosen. How many were looked at.
pub fn superblock_of_an_older_store(seed: u64) -> Result<u64, Broken> {
    let plan = Plan { steps: 30, ..Plan::of(seed) };
    let older = formatted(seed + 1, &plan)?;
    let new = superblock(seed, &plan);
    let mut looked = 0;
    for at in Superblock::places(plan.disk_bytes) {
        let lose = Fault::on(IoKind::Write, Effect::LoseWrite).within(at..at + 1);
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
