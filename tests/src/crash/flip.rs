//! Flips: a bit of a closed store's image turns over, and nobody is told wrong bytes.
//!
//! The store has three MiB in segments of 64 KiB and nodes of 4 KiB, a few objects of every kind, and was closed. For each
//! flip it is opened for reading and everything is read: each answer is either what it was or an error. Then the checker
//! looks: it reports the flip, or nothing that was read is affected.
//!
//! Cost: about a millisecond for each flip; an exhaustive run is an hour.

use std::rc::Rc;

use seabed::{Access, Error, LocalStore, Shard, ShardOptions};
use seabed_types::ShardId;

use super::engine::dump;
use super::program::{Kind, Plan};
use super::run::{Bounds, formatted, names, record, shard_options, sim_options, superblock};
use super::suite::findings;
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, Simulation};

/// What became of the flips, by what the byte belonged to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FlipCounts {
    /// Flips.
    pub flips: u64,
    /// In superblocks and slots.
    pub front: u64,
    /// The store did not open.
    pub refused: u64,
    /// It opened, and a read said so.
    pub reads: u64,
    /// Everything could be read, and the checker said so.
    pub checker: u64,
    /// Nobody said anything: the byte counts for nothing.
    pub unused: u64,
}

impl FlipCounts {
    /// The closing line.
    pub fn line(&self) -> String {
        let Self { flips, front, refused, reads, checker, unused } = self;
        format!(
            "flips={flips} front={front} refused={refused} reads={reads} checker={checker} unused={unused} wrong=0"
        )
    }
}

fn plan() -> Plan {
    let kinds =
        vec![Kind::Write, Kind::Put, Kind::Append, Kind::SetAttributes, Kind::OmapInsert, Kind::Stream];
    Plan {
        clients: 2,
        pools: 2,
        steps: 60,
        objects: 9,
        kinds: kinds.into_iter().chain([Kind::OmapHeader, Kind::Remove, Kind::Hint]).collect(),
        bytes_max: 9000,
        ops_max: 2,
        closes: true,
        rests: true,
        node_bytes: 4096,
        disk_bytes: 3 << 20,
        window_segments: 4,
        memory_bytes: 4 << 20,
        bulk_bytes: 8192,
        inline_bytes: 64,
        pause_us: 0,
    }
}

type Dumped = Vec<Option<Vec<(crate::model::ObjectId, crate::model::Object)>>>;

/// All that is in a store, or the error that says why not.
fn read_all(seed: u64, image: &DiskImage, plan: &Plan) -> Result<Result<Dumped, (bool, Error)>, Broken> {
    let sim = Simulation::from_image(seed, image, sim_options(plan, Faults::none()));
    let (machine, superblock) = (sim.machine(), superblock(seed, plan));
    let options = ShardOptions { access: Access::ReadOnly, ..shard_options(plan) };
    let read = async {
        let shard = Shard::mount(machine, superblock, ShardId(0), options).await;
        let store = LocalStore::new(Rc::clone(&shard.map_err(|error| (true, error))?));
        let mut all = Vec::new();
        for name in names(plan) {
            all.push(dump(&store, name).await.map_err(|error| (false, error))?);
        }
        Ok(all)
    };
    sim.run(read).map_err(|stuck| broken(Rule::Stuck, stuck))
}

/// Flips one bit of each byte that `places` gives, in turn; of every `step`-th byte if it gives none.
pub fn flip(seed: u64, sample: Option<u64>) -> Result<FlipCounts, String> {
    let (image, plan) = closed(seed).map_err(|broken| format!("seed {seed}: {broken}"))?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut counts = FlipCounts::default();
    let whole = read_all(seed, &image, &plan).map_err(|broken| broken.to_string())?;
    let whole = whole.map_err(|(_, error)| format!("seed {seed}: without a flip: {error}"))?;
    let used: Vec<u64> = image.blocks().into_keys().collect();
    let places: Box<dyn Iterator<Item = u64>> = match sample {
        None => Box::new(used.iter().flat_map(|block| *block..*block + 4096)),
        Some(count) => {
            // Half of them in what was ever written, half in the front blocks and headers.
            let mut draw = fastrand::Rng::with_seed(seed ^ 1);
            let used = used.clone();
            Box::new((0..count).map(move |_| used[draw.usize(..used.len())] + draw.u64(..4096)))
        }
    };
    for at in places {
        let mut flipped = image.clone();
        flipped.flip(at, rng.u8(..8));
        counts.flips += 1;
        counts.front += u64::from(at < 64 << 10 || at >= plan.disk_bytes - 8192);
        let fail = |what: &str| format!("seed {seed}, byte {at}: {what}");
        match read_all(seed, &flipped, &plan).map_err(|broken| fail(&broken.to_string()))? {
            Err((true, _)) => counts.refused += 1,
            Err((false, _)) => counts.reads += 1,
            Ok(dumped) if dumped != whole => return Err(fail("other bytes, and no error")),
            Ok(_) if findings(&flipped).is_err() => counts.checker += 1,
            Ok(_) => counts.unused += 1,
        }
        if counts.refused + counts.reads > 0 && sample.is_some() && findings(&flipped).is_ok() {
            let unused = read_all(seed, &flipped, &plan).map_err(|broken| fail(&broken.to_string()))?;
            if unused.is_err() {
                return Err(fail("the engine reports it, the checker does not"));
            }
        }
    }
    Ok(counts)
}

/// A store with something of everything, closed.
fn closed(seed: u64) -> Result<(DiskImage, Plan), Broken> {
    let plan = plan();
    let base = formatted(seed, &plan)?;
    let history = vec![super::history::PoolHistory::new(); plan.pools];
    let least = Bounds::new(vec![0; plan.pools]);
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let end = run.trace.events();
    Ok((run.trace.crash_image(end, CrashMode::Everything, &mut rng), plan))
}
