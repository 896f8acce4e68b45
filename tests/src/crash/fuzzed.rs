//! Fuzzed: a program and a plan of faults from bytes that a fuzzer changes, run, cut off, and held against the model.
//!
//! What must hold is what `faults` asks for: typed errors and no panic, nothing acknowledged that is not durable, and a store
//! that opens after the cut, with the faults gone, in a state that is a prefix of what was submitted.

use std::sync::Arc;

use seabed_device::IoKind;

use super::history::PoolHistory;
use super::program::{Generator, Plan, Program};
use super::run::{Bounds, formatted, record};
use super::suite::{EXCUSED_AFTER_FAULTS, verify};
use super::{Broken, broken};
use crate::machine::{Cache, CrashMode, EIO, ENODATA, ENOSPC, Effect, Fault, Faults, Landed};

/// Items from this first byte on are faults, those below steps.
const FIRST_FAULT: u8 = 128;

/// Runs what `head` and `items` say; the error is a rule that was broken.
pub fn run(head: u64, items: &[[u8; 4]]) -> Result<(), String> {
    run_items(head, items).map_err(|broken| broken.to_string())
}

fn run_items(head: u64, items: &[[u8; 4]]) -> Result<(), Broken> {
    // The upper half of the head says when and how the power is cut, the lower what the store is.
    let seed = head & u64::from(u32::MAX);
    let mut rng = fastrand::Rng::with_seed(head >> 32);
    let drawn = Plan::of(seed);
    let faults: Vec<Fault> = items.iter().copied().filter(|item| item[0] >= FIRST_FAULT).map(fault).collect();
    let plan =
        Plan { program: Some(Arc::new(program(&drawn, items))), is_faulty: !faults.is_empty(), ..drawn };
    let base = formatted(seed, &plan)?;
    let (history, least) = (vec![PoolHistory::new(); plan.pools], Bounds::new(vec![0; plan.pools]));
    let planned = faults.into_iter().fold(Faults::none(), Faults::with);
    let run = record((seed, seed), &base, (&history, &least), &plan, planned)?;
    let end = run.trace.events();
    let sound = Plan { is_faulty: false, ..plan };
    let some = rng.usize(..=end);
    for (boundary, mode) in [(end, CrashMode::Durable), (some, CrashMode::random(&mut rng))] {
        let mut bounds = least.clone();
        run.trace.marks_before(boundary).for_each(|mark| run.raise(&mut bounds, mark));
        let image = run.trace.crash_image(boundary, mode, &mut rng);
        verify((seed, seed), (&image, EXCUSED_AFTER_FAULTS), &run.history, &bounds, &sound)
            .map_err(|found| broken(found.rule, format!("{mode:?} at {boundary}: {}", found.what)))?;
    }
    Ok(())
}

fn program(plan: &Plan, items: &[[u8; 4]]) -> Program {
    let mut program: Program = vec![Vec::new(); plan.clients as usize];
    let steps = items.iter().filter(|item| item[0] < FIRST_FAULT);
    for (number, [client, pool, low, high]) in (0..).zip(steps) {
        let drawn = u64::from(u16::from_le_bytes([*low, *high]));
        let step = Generator::new(drawn, plan).step(1 << 20 | number);
        let client = usize::from(*client) % program.len();
        program[client].push((usize::from(*pool) % plan.pools, step));
    }
    program
}

fn fault([kind, site, effect, times]: [u8; 4]) -> Fault {
    let pick = usize::from(effect);
    let (kind, effect) = match kind % 3 {
        0 => (IoKind::Read, Effect::Fail { errno: [EIO, ENODATA][pick % 2] }),
        1 => {
            let landed = [Landed::Nothing, Landed::Everything, Landed::Torn][pick % 3];
            let errno = if pick % 4 == 3 { ENOSPC } else { EIO };
            let landed = if errno == ENOSPC { Landed::Nothing } else { landed };
            (IoKind::Write, Effect::FailWrite { errno, landed })
        }
        _ => {
            let cache = [Cache::Kept, Cache::Lost, Cache::Reverted][pick % 3];
            (IoKind::Flush, Effect::FailFlush { errno: EIO, cache })
        }
    };
    let times = if times == u8::MAX { u64::MAX } else { u64::from(times % 4) + 1 };
    Fault::on(kind, effect).after(u64::from(site)).times(times)
}
