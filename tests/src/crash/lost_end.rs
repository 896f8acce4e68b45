//! Lost end: the last records of a store that was closed, or that had been idle for a moment, are lost.
//!
//! The story: the last two records of a cleanly closed store were lost, 12 KiB. Nothing stated where the log had ended, so the mount
//! took what was left for all there had been, the checker found nothing, and acknowledged objects were gone. Since then a close
//! and an idle store state in both slots up to where the log is durable (rule C10).
//!
//! Every number of records up to all that the window has behind the checkpoint is lost, in two ways, with both slots there and
//! with either one gone too. The mount must fail with [`Error::Damaged`] at the first record that is lost, write nothing, and
//! the checker must report it.

use seabed::{Access, Error, Shard, ShardOptions};
use seabed_device::Machine;
use seabed_journal::Slot;
use seabed_segment::{SlotCopy, Superblock};
use seabed_types::{BLOCK_BYTES, ShardId};

use super::history::PoolHistory;
use super::program::Plan;
use super::run::{Bounds, formatted, record, shard_options, sim_options, superblock};
use super::schedules::medium::journal_records;
use super::suite::findings;
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, Simulation};

/// How the store came to rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resting {
    /// It was closed.
    Closed,
    /// Nothing was asked of it for a while, and then the power was cut.
    Idle,
}

/// What a lost record leaves.
#[derive(Clone, Copy)]
enum Left {
    /// Zeros, as where nothing was ever written.
    Zeros,
    /// Other bytes, as of an earlier use.
    Others,
}

/// Loses the end of one store in every way: how often the loss was reported, each time.
pub fn lost_end(seed: u64, resting: Resting) -> Result<u64, Broken> {
    let (closes, rests) = (resting == Resting::Closed, resting == Resting::Idle);
    let plan = Plan { closes, rests, memory_bytes: 8 << 20, ..Plan::of(seed) };
    let base = formatted(seed, &plan)?;
    let (history, least) = (vec![PoolHistory::new(); plan.pools], Bounds::new(vec![0; plan.pools]));
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let image = run.trace.crash_image(run.trace.events(), CrashMode::Durable, &mut rng);
    let superblock = superblock(seed, &plan);
    let records = journal_records(&image, &superblock);
    let slots = [SlotCopy::A, SlotCopy::B].map(|copy| slot(&image, &superblock, copy));
    let [Some(a), Some(b)] = slots else { return Err(broken(Rule::Wrong, "a slot is not valid")) };
    let end = records.keys().next_back().map_or(0, |last| last + 1);
    if a != b || a.durable.0 != end {
        let what = format!("the slots state {} and {}, the log ends at {end}", a.durable, b.durable);
        return Err(broken(Rule::Wrong, what));
    }
    let mut reported = 0;
    for lost in (a.end.0..end).rev() {
        for left in [Left::Zeros, Left::Others] {
            for gone in [None, Some(SlotCopy::A), Some(SlotCopy::B)] {
                let mut image = image.clone();
                for at in records.range(lost..).map(|(_, at)| superblock.layout.device_offset(*at)) {
                    let block: Vec<u8> = match left {
                        Left::Zeros => vec![0; BLOCK_BYTES],
                        Left::Others => (0..BLOCK_BYTES).map(|_| rng.u8(..)).collect(),
                    };
                    image.write(at, &block);
                }
                if let Some(copy) = gone {
                    image.write(superblock.layout.slot(ShardId(0), copy), &[0; BLOCK_BYTES]);
                }
                is_reported(seed, &image, &plan, lost)
                    .map_err(|what| broken(Rule::Lost, format!("records from {lost} to {end}: {what}")))?;
                reported += 1;
            }
        }
    }
    Ok(reported)
}

fn slot(image: &DiskImage, superblock: &Superblock, copy: SlotCopy) -> Option<Slot> {
    let block = image.read(superblock.layout.slot(ShardId(0), copy), BLOCK_BYTES);
    Slot::decode(&block, &superblock.identity, ShardId(0)).ok()
}

/// Mount and checker, each of which must report that record `lost` is not there.
fn is_reported(seed: u64, image: &DiskImage, plan: &Plan, lost: u64) -> Result<(), String> {
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let sim = Simulation::from_image(seed, image, sim_options(plan, Faults::none()));
        let machine: Machine = sim.machine();
        let options = ShardOptions { access, ..shard_options(plan) };
        let mounted = Shard::mount(machine, superblock(seed, plan), ShardId(0), options);
        let mounted = sim.run(mounted).map_err(|stuck| stuck.to_string())?;
        match mounted {
            Err(Error::Damaged { lsn, .. }) if lsn.0 == lost => {}
            Err(error) => return Err(format!("another error: {error}")),
            Ok(_) => return Err("the store opens, and nothing is said".to_owned()),
        }
        if sim.trace().counts().writes > 0 {
            return Err("the mount failed and has written".to_owned());
        }
    }
    match findings(image) {
        Ok(()) => Err("the checker finds nothing".to_owned()),
        Err(found) if found.contains(&format!("record {lost} was durable")) => Ok(()),
        Err(found) => Err(format!("the checker finds only: {found}")),
    }
}
