//! Records: rows of which several records have a part, and what others did because of a record that rots.

use super::{place, recorded_on, written_over};
use crate::crash::program::{Kind, Plan};
use crate::crash::rot::rotten_record;
use crate::crash::run::sim_options;
use crate::crash::suite::{findings, run_plan};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, Faults, SimOptions};

/// Two objects are written over in part again and again, so that most changes are patches of rows that have been patched, by
/// several records of the window, in memory, in the leaf's image, or nowhere but in the log; and then the crash suite's states.
pub fn patched_rows(seed: u64) -> Result<(), Broken> {
    let plan = Plan {
        clients: 3,
        pools: 1,
        steps: 160,
        objects: 2,
        kinds: vec![Kind::Write, Kind::Write, Kind::Write, Kind::Zero, Kind::SetAttributes, Kind::Whole],
        bytes_max: 60_000,
        ops_max: 2,
        closes: false,
        rests: false,
        node_bytes: 4096,
        disk_bytes: 4 << 20,
        window_segments: 4,
        memory_bytes: 192 << 10,
        bulk_bytes: 128 << 10,
        inline_bytes: 64,
        pause_us: 0,
        ..Plan::of(seed)
    };
    run_plan(seed, 0, &plan, 60)
}

/// A small device is written over while at many boundaries the last record that is there rots, and is cut off. What it gave
/// up must be there still: nobody may have used it because of that record alone (rule L7). At how many boundaries.
///
/// It found, in seed 3, that the segment in which the slots said that the window begins was given up and overwritten (rule C3):
/// the window was empty, its first record did not fit there any more, and went to the next segment before the slots were
/// written. A replay found it there, behind what was written over; the checker said what was wrong.
pub fn rotten_last_records(seed: u64) -> Result<u64, Broken> {
    let plan = Plan {
        clients: 20,
        steps: 300,
        objects: 9,
        kinds: vec![Kind::Put, Kind::Put, Kind::Put, Kind::Remove],
        bytes_max: 90_000,
        discards: true,
        ..written_over(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let options = SimOptions { steps_max: 4_000_000, ..sim_options(&plan, Faults::none()) };
    let (run, _) = recorded_on(seed, &plan, options)?;
    let (mut walk, mut looked) = (run.trace.walk(), 0);
    let boundaries = run.trace.boundaries().len() as u64;
    while let Some(boundary) = walk.advance() {
        // Not those of the mount, nor more of the others than can be looked at in a second.
        if walk.marks().is_empty() || rng.u64(..boundaries) >= 300 {
            continue;
        }
        let image = walk.frontier().crash_image(CrashMode::Completed, &mut rng);
        findings(&image).map_err(|what| place(broken(Rule::Check, what), "as it is", boundary))?;
        rotten_record((seed, seed), &image, &run, &plan)
            .map_err(|broken| place(broken, "its last record is rotten", boundary))?;
        looked += 1;
    }
    if looked == 0 {
        return Err(broken(Rule::Wrong, "no boundary was looked at"));
    }
    Ok(looked)
}
