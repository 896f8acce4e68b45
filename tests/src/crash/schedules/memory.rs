//! Memory: leaves that change while their image is on its way to the device, and replays with less than the writer had.

use seabed::ShardOptions;

use super::{bounds_at, look, nothing, place};
use crate::crash::program::{Kind, Plan};
use crate::crash::run::{formatted, record, record_on, shard_options, sim_options};
use crate::crash::suite::{compare, open};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, Faults, Latency, SimOptions};

/// Images take a hundred times as long as records, so that leaves change, are evicted and split while their image is on its
/// way; then the power is cut at many boundaries. How much was answered while a cached write was in flight.
pub fn slow_images(seed: u64) -> Result<u64, Broken> {
    let plan = Plan {
        clients: 4,
        pools: 1,
        steps: 160,
        kinds: vec![Kind::OmapInsert, Kind::SetAttributes, Kind::Write, Kind::OmapRemove, Kind::Put],
        objects: 6,
        bytes_max: 3000,
        ops_max: 3,
        closes: seed.is_multiple_of(2),
        window_segments: 4,
        memory_bytes: 1 << 20,
        inline_bytes: 512,
        pause_us: 50,
        ..Plan::of(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let latency = Latency { write_us: 4000..=9000, ..Latency::default() };
    let options = SimOptions { latency, ..sim_options(&plan, Faults::none()) };
    let run = record_on((seed, seed), &base, (&history, &least), &plan, options)?;
    for boundary in run.trace.boundaries().into_iter().step_by(7) {
        let mode = CrashMode::ALL[rng.usize(..6)];
        let image = run.trace.crash_image(boundary, mode, &mut rng);
        look(seed, &image, &run, &plan, &bounds_at(&run, boundary, &least))
            .map_err(|broken| place(broken, "images on their way", boundary))?;
    }
    Ok(run.trace.marks_during_cached_writes())
}

/// What a store with plenty of memory left is opened with less and less. It opens and shows the same, or says how much it
/// takes, and then opens with that. How often it opened, and how often it asked for more.
pub fn smaller_budgets(seed: u64) -> Result<[u64; 2], Broken> {
    let plan = Plan {
        clients: 4,
        steps: 400,
        kinds: vec![Kind::OmapInsert, Kind::SetAttributes, Kind::Hint, Kind::Put, Kind::OmapRemoveRange],
        bytes_max: 9000,
        memory_bytes: 256 << 20,
        window_segments: 6,
        disk_bytes: 6 << 20,
        inline_bytes: 512,
        closes: false,
        pause_us: 0,
        ..Plan::of(seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let mut counts = [0; 2];
    for boundary in run.trace.boundaries().into_iter().rev().step_by(60).take(12) {
        let bounds = bounds_at(&run, boundary, &least);
        let image = run.trace.crash_image(boundary, CrashMode::Durable, &mut rng);
        for shift in 0..8 {
            let memory_bytes = (64 << 20) >> (2 * shift);
            let options = ShardOptions { memory_bytes, ..shard_options(&plan) };
            let opened = match open((seed, seed), &image, &plan, options) {
                Ok(opened) => opened,
                Err(Broken { rule: Rule::FailedOpen, what }) => {
                    counts[1] += 1;
                    let needed = what.strip_prefix("opening takes ").and_then(|rest| rest.split(' ').next());
                    let needed: usize = needed
                        .and_then(|needed| needed.parse().ok())
                        .ok_or_else(|| broken(Rule::FailedOpen, format!("{memory_bytes} bytes: {what}")))?;
                    let options = ShardOptions { memory_bytes: needed, ..shard_options(&plan) };
                    open((seed, seed), &image, &plan, options)?
                }
                Err(broken) => return Err(place(broken, "a smaller budget", boundary)),
            };
            counts[0] += 1;
            compare(&opened, &run.history, &bounds)
                .map_err(|broken| place(broken, "a smaller budget", boundary))?;
        }
    }
    Ok(counts)
}
