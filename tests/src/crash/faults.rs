//! Faults: each read, write and flush of a run fails in turn, in each way, once and for ever.
//!
//! A fault that strikes once is survived without opening the store again, and nobody is told: reads are tried again, bytes
//! outside the journal go elsewhere, and for a record or a flush the shard mounts itself in place.
//!
//! When the faults have stopped a store that is not fenced answers new operations within a bounded number of steps.
//!
//! A run without faults counts the operations of each kind. What is answered from memory meets no fault, so every other seed
//! keeps no data there. Then it runs again for each of them with the fault planned at
//! that one. Whatever comes of it is told by typed errors: no panic, no deadlock; nothing is acknowledged that is not
//! durable; and the power cut that follows, with the fault gone, leaves a store that opens, with all that was acknowledged,
//! in a state that is a prefix of what was submitted. What failed for sure (its read did) is not in the prefix; of what
//! failed with the journal nobody knows before the mount.
//!
//! Waits for memory cannot fail, they only wait. So each permit that is asked for in a run (of memory for requests and reads, of
//! turns to write) finds none in turn, for a moment and for half a minute; nobody is told, everything is answered.

use std::cell::RefCell;
use std::time::Duration;

use seabed_device::IoKind;

use super::history::PoolHistory;
use super::program::Plan;
use super::run::{Bounds, Run, formatted, record};
use super::suite::{EXCUSED_AFTER_FAULTS, verify};
use super::{Broken, Rule, broken};
use crate::machine::{Cache, CrashMode, EIO, ENODATA, ENOSPC, Effect, Fault, Faults, Landed};

/// How long there are no permits where there are some again soon.
const SHORT_FAMINE: Duration = Duration::from_millis(1);
/// Longer than anything in a run waits by itself.
const LONG_FAMINE: Duration = Duration::from_secs(30);

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What this thread is at, for whoever tells of a panic.
pub fn fault_now() -> String {
    PLACE.with_borrow(String::clone)
}

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FaultCounts {
    /// Reads that were made to fail.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Permits of memory, and of turns to write.
    pub permits: u64,
    /// Runs with a fault.
    pub runs: u64,
    /// Of these, those whose mount said that it failed.
    pub unmounted: u64,
    /// Those in which something failed.
    pub failed: u64,
    /// Those in which nobody noticed: what failed was tried again, or done elsewhere.
    pub unnoticed: u64,
    /// Those in which bytes beside the journal went elsewhere and a segment was quarantined.
    pub elsewhere: u64,
    /// Those in which the shard mounted itself in place.
    pub mounted_in_place: u64,
    /// Those in which it was fenced in the end; only by a fault that did not end.
    pub fenced: u64,
    /// Disks that were mounted, compared, checked and mounted again.
    pub states: u64,
}

impl FaultCounts {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.fields().into_iter().zip(other.clone().fields()) {
            *mine += *theirs;
        }
    }

    fn fields(&mut self) -> [&mut u64; 12] {
        let Self { reads, writes, flushes, permits, runs, unmounted, failed, unnoticed, .. } = self;
        let Self { elsewhere, mounted_in_place, fenced, states, .. } = self;
        [
            reads,
            writes,
            flushes,
            permits,
            runs,
            unmounted,
            failed,
            unnoticed,
            elsewhere,
            mounted_in_place,
            fenced,
            states,
        ]
    }

    /// The closing line.
    pub fn line(&self) -> String {
        let Self { reads, writes, flushes, permits, runs, unmounted, failed, unnoticed, .. } = self;
        let Self { elsewhere, mounted_in_place, fenced, states, .. } = self;
        format!(
            "reads={reads} writes={writes} flushes={flushes} permits={permits} runs={runs} unmounted={unmounted} failed={failed} \
             unnoticed={unnoticed} elsewhere={elsewhere} mounted_in_place={mounted_in_place} fenced={fenced} \
             states={states}"
        )
    }
}

/// The ways in which operations of a kind fail.
fn effects(kind: IoKind) -> Vec<Effect> {
    match kind {
        IoKind::Write => {
            let landed = [Landed::Nothing, Landed::Everything, Landed::Torn];
            let mut all: Vec<Effect> = landed.map(|landed| Effect::FailWrite { errno: EIO, landed }).to_vec();
            all.push(Effect::FailWrite { errno: ENOSPC, landed: Landed::Nothing });
            all
        }
        IoKind::Flush => {
            let caches = [Cache::Kept, Cache::Lost, Cache::Reverted];
            caches.map(|cache| Effect::FailFlush { errno: EIO, cache }).to_vec()
        }
        IoKind::Read | IoKind::Discard => [EIO, ENODATA].map(|errno| Effect::Fail { errno }).to_vec(),
    }
}

/// All faults of a seed, at every `step`-th read and write, and at every flush: there are few of those.
pub fn run_faults(seed: u64, step: usize) -> Result<FaultCounts, String> {
    let faults = || {
        let steps = [12, 25, 40][usize::try_from(seed % 3).expect("less than three")];
        let drawn = Plan::of(seed);
        // A read that is answered from memory meets no fault: in half of the stores none is.
        let data_cache_bytes = if seed.is_multiple_of(2) { Some(0) } else { drawn.data_cache_bytes };
        let plan = Plan { steps, is_faulty: true, data_cache_bytes, ..drawn };
        let base = formatted(seed, &plan)?;
        let (history, least) = (vec![PoolHistory::new(); plan.pools], Bounds::new(vec![0; plan.pools]));
        let sound = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
        if sound.failed > 0 {
            return Err(broken(Rule::Wrong, "an error without a fault"));
        }
        let (operations, permits) = (sound.trace.counts(), sound.permits);
        let mut counts = FaultCounts::default();
        for (kind, count) in [
            (IoKind::Read, operations.reads),
            (IoKind::Write, operations.writes),
            (IoKind::Flush, operations.flushes),
        ] {
            for site in (0..count).step_by(if kind == IoKind::Flush { 1 } else { step }) {
                match kind {
                    IoKind::Read => counts.reads += 1,
                    IoKind::Write => counts.writes += 1,
                    IoKind::Flush | IoKind::Discard => counts.flushes += 1,
                }
                for (effect, times) in effects(kind).into_iter().flat_map(|one| [(one, 1), (one, u64::MAX)]) {
                    let place = format!("seed {seed}, {kind} {site}, {effect:?}, {times} times");
                    PLACE.set(place.clone());
                    let fault = Fault::on(kind, effect).after(site).times(times);
                    let run =
                        record((seed, seed), &base, (&history, &least), &plan, Faults::none().with(fault));
                    run.and_then(|run| {
                        survived(&run, times, &mut counts)?;
                        look(seed, &run, &plan, &least, &mut counts)
                    })
                    .map_err(|broken| Broken { what: format!("{place}: {}", broken.what), ..broken })?;
                }
            }
        }
        for nth in (0..permits).step_by(step) {
            counts.permits += 1;
            for time in [SHORT_FAMINE, LONG_FAMINE] {
                let place = format!("seed {seed}, permit {nth}, none for {time:?}");
                PLACE.set(place.clone());
                let plan = Plan { famine: Some((nth, time)), ..plan.clone() };
                let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none());
                run.and_then(|run| {
                    if run.failed > 0 || run.program.is_empty() {
                        return Err(broken(Rule::Wrong, "somebody was told that memory was used up"));
                    }
                    if run.permits <= nth {
                        return Err(broken(Rule::Wrong, "nobody asked for that permit"));
                    }
                    survived(&run, 1, &mut counts)?;
                    look(seed, &run, &plan, &least, &mut counts)
                })
                .map_err(|broken| Broken { what: format!("{place}: {}", broken.what), ..broken })?;
            }
        }
        Ok(counts)
    };
    faults().map_err(|broken| broken.to_string())
}

/// A fault that strikes once is survived: nobody is told of it, unless the mount at the beginning met it. After one that
/// strikes for ever everything is answered at least.
fn survived(run: &Run, times: u64, counts: &mut FaultCounts) -> Result<(), Broken> {
    counts.mounted_in_place += u64::from(run.stats.mounted_in_place > 0);
    match &run.afterwards {
        Some(Err(seabed::Error::Fenced(_))) if times > 1 => {
            counts.fenced += 1;
            Ok(())
        }
        Some(Ok(())) if times == 1 && run.failed > 0 => {
            Err(broken(Rule::Wrong, "somebody was told of a fault that struck once"))
        }
        // No space may be left without faults too: the stores are tiny.
        None | Some(Ok(()) | Err(seabed::Error::NoSpace { .. })) => Ok(()),
        Some(Err(error)) => Err(broken(Rule::Wrong, format!("after all faults: {error}"))),
    }
}

/// Cuts the power at the end, and at some boundary before, in several ways.
fn look(seed: u64, run: &Run, plan: &Plan, least: &Bounds, counts: &mut FaultCounts) -> Result<(), Broken> {
    counts.runs += 1;
    counts.unmounted += u64::from(run.program.is_empty());
    counts.failed += u64::from(run.failed > 0);
    counts.unnoticed += u64::from(run.failed == 0);
    counts.elsewhere += u64::from(run.stats.quarantined_segments > 0);
    let mut rng = fastrand::Rng::with_seed(seed);
    let end = run.trace.events();
    let sound = Plan { is_faulty: false, famine: None, ..plan.clone() };
    let some = rng.usize(..=end);
    for (boundary, mode) in [
        (end, CrashMode::Durable),
        (end, CrashMode::Completed),
        (end, CrashMode::random(&mut rng)),
        (some, CrashMode::random(&mut rng)),
    ] {
        let mut bounds = least.clone();
        run.trace.marks_before(boundary).for_each(|mark| run.raise(&mut bounds, mark));
        let image = run.trace.crash_image(boundary, mode, &mut rng);
        counts.states += 1;
        verify((seed, seed), (&image, EXCUSED_AFTER_FAULTS), &run.history, &bounds, &sound).map_err(
            |broken| Broken { what: format!("{mode:?} at {boundary}: {}", broken.what), ..broken },
        )?;
    }
    Ok(())
}
