//! Metamorphic: the same program on stores of other sizes gives the same answers and ends with the same objects.
//!
//! One client's program is drawn once, and carried out on stores with other segments, nodes, windows, memory budgets and caches, and
//! with other bounds of what is stored beside a record or within a row. In between the power is cut twice and the store
//! mounted again: as one client waits for each answer, nothing is open then. Answers on the way, objects, bytes, attributes,
//! omaps and usage must be the same in all of them. Each run is held against the model too.
//!
//! Sizes are within the smallest of their limits, so that none refuses what another takes; a store in which something found
//! no room all the same says nothing, and is counted apart.
//!
//! Cost: some ten milliseconds for each store.

use std::sync::Arc;

use seabed_object::onode::EXTENTS_BYTES_MAX;

use super::engine::{Answer, Outcome};
use super::program::{Generator, Kind, Plan, Program, SEGMENT_BYTES, Step};
use super::run::{Bounds, formatted, record, shard_options};
use super::schedules::{bounds_at, nothing};
use super::suite::{excused, open, verify};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, Faults};
use crate::model::{Object, ObjectId};

/// Into so many parts a program is cut; between them the power is cut.
const PARTS: usize = 3;

/// What a client was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Submitted(Outcome),
    Asked(Answer),
}

/// What a store showed of a program.
#[derive(PartialEq, Eq)]
struct Shown {
    said: Vec<Said>,
    objects: Vec<Option<Vec<(ObjectId, Object)>>>,
    usage: Vec<(i64, i64)>,
}

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct MetamorphicCounts {
    /// Programs.
    pub programs: u64,
    /// Stores of other sizes than the first one of their program.
    pub stores: u64,
    /// Of these, those that showed the same as the first.
    pub same: u64,
    /// Those in which something found no room, there or in the first.
    pub no_room: u64,
    /// Those that showed something else.
    pub different: u64,
}

impl MetamorphicCounts {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.programs += other.programs;
        self.stores += other.stores;
        self.same += other.same;
        self.no_room += other.no_room;
        self.different += other.different;
    }

    /// The closing line.
    pub fn line(&self) -> String {
        let Self { programs, stores, same, no_room, different } = self;
        format!("programs={programs} stores={stores} same={same} no_room={no_room} different={different}")
    }
}

/// One client on the first store of a program: the middle of all sizes.
fn plan_of(seed: u64) -> Plan {
    let drawn = Plan::of(seed);
    let mut kinds = drawn.kinds.clone();
    // Whether what nobody waits for is seen by the next read, only the time tells.
    kinds.retain(|kind| *kind != Kind::Abandoned);
    Plan {
        clients: 1,
        kinds,
        bytes_max: drawn.bytes_max.min(30_000),
        closes: false,
        disk_bytes: 6 << 20,
        segment_bytes: SEGMENT_BYTES,
        memory_bytes: 8 << 20,
        ..drawn
    }
}

/// The same store with one size or several changed.
fn others(plan: &Plan) -> Vec<(&'static str, Plan)> {
    let node_bytes = if plan.node_bytes == 4096 { 8192 } else { 4096 };
    let window_segments = plan.window_segments + 3;
    let plan = || plan.clone();
    let segments = |times: u32| Plan {
        segment_bytes: times * SEGMENT_BYTES,
        disk_bytes: u64::from(times) * (6 << 20),
        ..plan()
    };
    vec![
        ("segments of 128 KiB", segments(2)),
        ("segments of 256 KiB", segments(4)),
        ("other nodes", Plan { node_bytes, ..plan() }),
        ("nodes of 16 KiB", Plan { node_bytes: 16 << 10, ..segments(4) }),
        ("a longer window", Plan { window_segments, ..plan() }),
        ("256 KiB of memory", Plan { memory_bytes: 256 << 10, ..plan() }),
        ("64 MiB of memory", Plan { memory_bytes: 64 << 20, ..plan() }),
        ("no data kept in memory", Plan { data_cache_bytes: Some(0), ..plan() }),
        ("three chunks kept in memory", Plan { data_cache_bytes: Some(13 << 10), ..plan() }),
        ("much data kept in memory", Plan { data_cache_bytes: Some(4 << 20), ..plan() }),
        ("all data stored ahead", Plan { bulk_bytes: 4096, inline_bytes: 0, ..plan() }),
        ("no data stored ahead", Plan { bulk_bytes: 128 << 10, inline_bytes: 512, ..plan() }),
        ("extents in rows only", Plan { inline_extents_bytes: 0, ..plan() }),
        (
            "extents in onodes as long as they may be",
            Plan { inline_extents_bytes: EXTENTS_BYTES_MAX, ..plan() },
        ),
    ]
}

fn program_of(seed: u64, plan: &Plan) -> Vec<(usize, Step)> {
    let mut generator = Generator::new(seed, plan);
    (0..u64::from(plan.steps))
        .map(|step| (generator.rng.usize(..plan.pools), generator.step(seed << 20 | step)))
        .collect()
}

/// Carries a program out; none if something found no room.
fn shown(seed: u64, plan: &Plan, program: &[(usize, Step)]) -> Result<Option<Shown>, Broken> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut image = formatted(seed, plan)?;
    let (mut history, mut least) = nothing(plan);
    let mut said = Vec::new();
    for part in program.chunks(program.len().div_ceil(PARTS).max(1)) {
        let steps: Program = vec![part.to_vec()];
        let plan = Plan { program: Some(Arc::new(steps)), ..plan.clone() };
        let run = record((rng.u64(..1 << 40), seed), &image, (&history, &least), &plan, Faults::none())?;
        if run.refused_for_space() > 0 {
            return Ok(None);
        }
        said.extend(run.said.iter().cloned());
        let end = run.trace.events();
        let mode = CrashMode::random(&mut rng);
        image = run.trace.crash_image(end, mode, &mut rng);
        let recovered = verify(
            (seed, seed),
            (&image, excused(mode)),
            &run.history,
            &bounds_at(&run, end, &least),
            &plan,
        )?;
        history = run.history.iter().zip(&recovered).map(|(pool, number)| pool.until(*number)).collect();
        least = Bounds::new(recovered);
    }
    let opened = open((seed, seed), &image, plan, shard_options(plan))?;
    Ok(Some(Shown { said, objects: opened.dumped, usage: opened.usage }))
}

/// A seed's program on all its stores; `fail` is told of each that shows something else or breaks another rule.
pub fn metamorphic(seed: u64, mut fail: impl FnMut(&str)) -> MetamorphicCounts {
    let plan = plan_of(seed);
    let program = program_of(seed, &plan);
    let mut counts = MetamorphicCounts { programs: 1, ..MetamorphicCounts::default() };
    let first = shown(seed, &plan, &program).unwrap_or_else(|broken| {
        fail(&format!("seed {seed}, the first store: {broken}"));
        None
    });
    for (what, other) in others(&plan) {
        counts.stores += 1;
        let compared = match (shown(seed, &other, &program), &first) {
            (Err(broken), _) => Err(broken),
            (Ok(None), _) | (_, None) => {
                counts.no_room += 1;
                continue;
            }
            (Ok(Some(other)), Some(first)) => difference(first, &other).map_or(Ok(()), Err),
        };
        match compared {
            Ok(()) => counts.same += 1,
            Err(broken) => {
                counts.different += 1;
                fail(&format!("seed {seed}, {what}: {broken}"));
            }
        }
    }
    counts
}

fn difference(first: &Shown, other: &Shown) -> Option<Broken> {
    let answer = first.said.iter().zip(&other.said).position(|(one, two)| one != two);
    let what = if let Some(at) = answer {
        let (one, two) = (format!("{:?}", first.said[at]), format!("{:?}", other.said[at]));
        let brief = |text: &str| text.chars().take(200).collect::<String>();
        format!("answer {at} is {}, and was {}", brief(&two), brief(&one))
    } else if first.said.len() != other.said.len() {
        "there are more answers or fewer".to_owned()
    } else if first.objects != other.objects {
        "it ends with other objects".to_owned()
    } else if first.usage != other.usage {
        format!("usage is {:?}, and was {:?}", other.usage, first.usage)
    } else {
        return None;
    };
    Some(broken(Rule::Wrong, what))
}

/// Whether a program without one of its steps is told from the whole one.
pub fn tells_a_step_less(seed: u64) -> Result<bool, Broken> {
    let plan = plan_of(seed);
    let mut program = program_of(seed, &plan);
    let whole = shown(seed, &plan, &program)?;
    let is_change =
        |(_, step): &(usize, Step)| matches!(step, Step::Submit(operations) if !operations.is_empty());
    let Some(last) = program.iter().rposition(is_change) else { return Ok(false) };
    program.remove(last);
    let less = shown(seed, &plan, &program)?;
    Ok(
        matches!((whole, less), (Some(whole), Some(less)) if whole.objects != less.objects || whole.said != less.said),
    )
}
