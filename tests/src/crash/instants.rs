//! Instants: in the very moment in which a client is told something, all that it promises is durable (rule L6).
//!
//! Between the mark that a client puts into the trace when it is told and the next boundary nothing of the disk changes. So
//! the boundary behind it, with nothing but what is durable, is that moment, and it is held against all promises up to it.
//! A disk that was met before is not mounted again: the state that was found on it must keep the new promises too.
//!
//! Cost: a mount, a comparison, a check and a second mount for each disk that was not met before.

use std::collections::BTreeMap;

use seabed_device::IoKind;

use super::history::PoolHistory;
use super::program::{Kind, Plan};
use super::run::{Bounds, formatted, record};
use super::suite::verify;
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, Effect, Fault, Faults, Mark};

/// Whether a mark is of something that a client was told, so that no crash may take it back.
pub(super) fn is_promise(mark: Mark) -> bool {
    match mark {
        Mark::Acknowledged { .. } | Mark::Shown { .. } => true,
        Mark::Note { what, .. } => what != "mounted" && what != "no room",
    }
}

/// Every promise of a seed's first run, held against what was durable in its very moment: how many.
pub fn instants(seed: u64) -> Result<u64, String> {
    instants_of(seed, &Plan::of(seed), Faults::none()).map_err(|broken| broken.to_string())
}

/// The same with faults.
fn instants_of(seed: u64, plan: &Plan, faults: Faults) -> Result<u64, Broken> {
    let base = formatted(seed, plan)?;
    let history = vec![PoolHistory::new(); plan.pools];
    let mut bounds = Bounds::new(vec![0; plan.pools]);
    let run = record((seed, seed), &base, (&history, &bounds), plan, faults)?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut seen: BTreeMap<u128, Vec<u64>> = BTreeMap::new();
    let (mut passed, mut promises) = (0, 0);
    let mut walk = run.trace.walk();
    while let Some(boundary) = walk.advance() {
        let marks = &walk.marks()[passed..];
        passed = walk.marks().len();
        for mark in marks {
            run.raise(&mut bounds, *mark);
        }
        let of_clients = marks.iter().filter(|mark| is_promise(**mark)).count() as u64;
        if of_clients == 0 {
            continue;
        }
        promises += of_clients;
        let image = walk.frontier().crash_image(CrashMode::Durable, &mut rng);
        let held = if let Some(recovered) = seen.get_mut(&image.hash()) {
            still_holds(recovered, &run.history, &bounds)
        } else {
            verify((seed, seed), (&image, &[]), &run.history, &bounds, plan)
                .map(|recovered| drop(seen.insert(image.hash(), recovered)))
        };
        held.map_err(|broken| Broken { what: format!("instant {boundary}: {}", broken.what), ..broken })?;
    }
    Ok(promises)
}

/// Whether it is noticed that a disk loses its write number `nth`, though it says that it is done: without a crash at all, as
/// what a client is told next is not durable.
pub fn notices_a_lost_write(seed: u64, nth: u64) -> bool {
    let plan =
        Plan { kinds: vec![Kind::Put, Kind::Append], steps: 20, memory_bytes: 8 << 20, ..Plan::of(seed) };
    let lost = Fault::on(IoKind::Write, Effect::LoseWrite).after(nth);
    instants_of(seed, &plan, Faults::none().with(lost)).is_err()
}

/// A disk that was found to be in these states, met again when more was promised.
pub(super) fn still_holds(
    recovered: &mut [u64],
    history: &[PoolHistory],
    bounds: &Bounds,
) -> Result<(), Broken> {
    for (index, (number, history)) in recovered.iter_mut().zip(history).enumerate() {
        let (acknowledged, shown) = (bounds.acknowledged[index], bounds.shown[index]);
        let Some(same) = history.find_same(acknowledged.max(shown), *number) else {
            let rule = if *number < acknowledged { Rule::Lost } else { Rule::Retracted };
            let what = format!(
                "pool {index}: acknowledged {acknowledged}, shown {shown}, submitted {}: found {number} before",
                history.last()
            );
            return Err(broken(rule, what));
        };
        *number = same;
    }
    Ok(())
}
