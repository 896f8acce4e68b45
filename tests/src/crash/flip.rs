//! Flips: a bit of a closed store's image turns over, and nobody is told wrong bytes.
//!
//! The store has three MiB in segments of 64 KiB and nodes of 4 KiB, a few objects of every kind, and was closed. For each
//! flip it is opened for reading and everything is read: each answer is what it was, or an error. Then the checker looks.
//! Who was the first to report the flip is counted by what the byte belonged to; what the engine reports the checker must
//! report too.
//!
//! Each part of that (the mount, each object, the checker) is asked only if it reads the block of the flip: its answer
//! follows from what it reads, and what it reads is taken down beforehand.
//!
//! Cost: a few hundred microseconds for each flip of a block that is read, most of them the checker's.

mod map;
mod probe;

use std::sync::Mutex;

pub use map::Structure;

use super::program::{Kind, Plan};
use super::run::{Bounds, formatted, record, superblock};
use super::{Broken, history::PoolHistory};
use crate::machine::{CrashMode, Faults};
use probe::{Answer, BlockSet, Findings, Probe, Question, Refused};

/// Who was the first to report flips of one structure.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FlipOutcomes {
    /// The store did not open.
    pub open: u64,
    /// It opened, and a read said so.
    pub get: u64,
    /// It opened without the last record, which it told: nobody can say whether that was ever whole (rule C8).
    pub torn: u64,
    /// Everything could be read, and the checker found a violation.
    pub check: u64,
    /// The checker found nothing wrong and something to note.
    pub noted: u64,
    /// The block was read, and nobody said anything: the byte counts for nothing.
    pub unaffected: u64,
    /// Nobody reads the block.
    pub unread: u64,
}

impl FlipOutcomes {
    fn fields(&mut self) -> [&mut u64; 7] {
        let Self { open, get, torn, check, noted, unaffected, unread } = self;
        [open, get, torn, check, noted, unaffected, unread]
    }

    /// How many flips.
    pub fn flips(&self) -> u64 {
        self.clone().fields().into_iter().map(|count| *count).sum()
    }
}

/// What became of the flips, by what the byte belonged to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FlipCounts {
    by: [FlipOutcomes; Structure::ALL.len()],
}

impl FlipCounts {
    /// Of one structure.
    pub fn of(&self, structure: Structure) -> &FlipOutcomes {
        &self.by[structure as usize]
    }

    fn of_mut(&mut self, structure: Structure) -> &mut FlipOutcomes {
        &mut self.by[structure as usize]
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.by.iter_mut().zip(&other.by) {
            for (mine, theirs) in mine.fields().into_iter().zip(theirs.clone().fields()) {
                *mine += *theirs;
            }
        }
    }

    /// Of all.
    pub fn total(&self) -> FlipOutcomes {
        let mut total = FlipOutcomes::default();
        for outcomes in &self.by {
            for (mine, theirs) in total.fields().into_iter().zip(outcomes.clone().fields()) {
                *mine += *theirs;
            }
        }
        total
    }

    /// A table, and a closing line.
    pub fn table(&self) -> String {
        let row = |name: &str, columns: [&dyn std::fmt::Display; 8]| {
            let columns: Vec<String> = columns.iter().map(|column| format!("{column:>10}")).collect();
            format!("{name:<14}{}\n", columns.concat())
        };
        let counted = |name: &str, outcomes: &FlipOutcomes| {
            let FlipOutcomes { open, get, torn, check, noted, unaffected, unread } = outcomes;
            row(name, [&outcomes.flips(), open, get, torn, check, noted, unaffected, unread])
        };
        let names = ["flips", "open", "get", "torn", "check", "noted", "unaffected", "unread"];
        let mut table = row("structure", names.each_ref().map(|name| name as &dyn std::fmt::Display));
        for structure in Structure::ALL {
            table.push_str(&counted(&format!("{structure:?}"), self.of(structure)));
        }
        let total = self.total();
        table.push_str(&counted("all", &total));
        format!("{table}flips={} wrong=0 panics=0 unchecked=0", total.flips())
    }
}

/// Which bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlipPlaces {
    /// Each of them.
    All,
    /// So many drawn from the seed, of each structure about as many.
    Sample(u64),
    /// Each of one structure.
    Of(Structure),
}

/// Flips one bit of each byte asked for, in turn, on so many threads.
pub fn flip(seed: u64, places: FlipPlaces, threads: usize) -> Result<FlipCounts, String> {
    let (image, plan) = closed(seed).map_err(|broken| format!("seed {seed}: {broken}"))?;
    let structures = map::map(&image, &superblock(seed, &plan));
    let known = Known::new(&image, &plan).map_err(|what| format!("seed {seed}: without a flip: {what}"))?;
    let places: Vec<usize> = match places {
        FlipPlaces::All => (0..image.len()).collect(),
        FlipPlaces::Sample(count) => sample(seed, &image, &structures, count),
        FlipPlaces::Of(structure) => (0..image.len()).filter(|at| structures[*at] == structure).collect(),
    };
    let total = Mutex::new(Ok(FlipCounts::default()));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (image, plan, structures, known, places, total) =
                (&image, &plan, &structures, &known, &places, &total);
            scope.spawn(move || {
                let probe = Probe::new(image.clone(), plan);
                let mut counts = FlipCounts::default();
                let mut failed = None;
                for at in places.iter().skip(thread).step_by(threads) {
                    // Which bit follows from the byte, whatever else is flipped.
                    let bit = fastrand::Rng::with_seed(seed ^ (*at as u64) << 20).u8(..8);
                    let outcomes = counts.of_mut(structures[*at]);
                    if let Err(what) = known.flip(&probe, *at, bit, outcomes) {
                        let structure = structures[*at];
                        failed = Some(format!("seed {seed}, bit {bit} of byte {at} ({structure:?}): {what}"));
                        break;
                    }
                }
                let mut total = total.lock().expect("no panic while it is held");
                match (&mut *total, failed) {
                    (Ok(total), None) => total.add(&counts),
                    (total, Some(what)) => *total = Err(what),
                    (Err(_), None) => {}
                }
            });
        }
    });
    total.into_inner().expect("all threads have ended")
}

/// Of each structure about as many. Half of them are of bytes that are not zero: most of a slot or a superblock is zero, and
/// a flip there is noticed whether or not somebody compares checksums.
fn sample(seed: u64, image: &[u8], structures: &[Structure], count: u64) -> Vec<usize> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 1);
    let of = |structure| (0..structures.len()).filter(move |at| structures[*at] == structure);
    let all: Vec<Vec<usize>> = Structure::ALL.map(|structure| of(structure).collect()).into();
    let says = |places: &Vec<usize>| places.iter().copied().filter(|at| image[*at] != 0).collect();
    let all: Vec<[Vec<usize>; 2]> =
        all.into_iter().filter(|places| !places.is_empty()).map(|places| [says(&places), places]).collect();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut draw = |number: usize| {
        let [said, all] = &all[number % all.len()];
        let places = if rng.bool() && !said.is_empty() { said } else { all };
        places[rng.usize(..places.len())]
    };
    (0..count).map(&mut draw).collect()
}

/// What the image without a flip answers, and what each answer was read from.
struct Known {
    questions: Vec<Question>,
    answers: Vec<Answer>,
    opened: BlockSet,
    /// By question, the blocks that it reads besides.
    read: Vec<BlockSet>,
    findings: Findings,
    checked: BlockSet,
}

impl Known {
    fn new(image: &[u8], plan: &Plan) -> Result<Self, String> {
        let probe = Probe::new(image.to_vec(), plan);
        let refused = |refused: Refused| format!("{refused:?}");
        let of_pools = |pool| [Question::List(pool), Question::Usage(pool)];
        let mut questions: Vec<Question> = (0..plan.pools).flat_map(of_pools).collect();
        let (listed, opened, _) = probe.ask(&questions);
        for answer in listed.map_err(refused)?.answers {
            if let Answer::Names(pool, names) = answer {
                questions.extend(names.into_iter().map(|id| Question::Object(pool, id)));
            }
        }
        let (mut answers, mut read) = (Vec::new(), Vec::new());
        for question in &questions {
            let (answered, opened, all) = probe.ask(std::slice::from_ref(question));
            answers.extend(answered.map_err(refused)?.answers);
            read.push(all.difference(&opened).copied().collect());
        }
        let (findings, checked) = probe.check();
        if findings.violations > 0 {
            return Err("the checker finds violations".to_owned());
        }
        Ok(Self { questions, answers, opened, read, findings, checked })
    }

    /// Flips a bit, asks whoever reads its block, and flips it back.
    fn flip(&self, probe: &Probe, at: usize, bit: u8, outcomes: &mut FlipOutcomes) -> Result<(), String> {
        let block = (at / seabed_types::BLOCK_BYTES) as u64;
        let is_opened = self.opened.contains(&block);
        let asked: Vec<usize> = (0..self.questions.len())
            .filter(|index| is_opened || self.read[*index].contains(&block))
            .collect();
        let is_checked = self.checked.contains(&block);
        if asked.is_empty() && !is_checked {
            outcomes.unread += 1;
            return Ok(());
        }
        probe.device.with_bytes(|bytes| bytes[at] ^= 1 << bit);
        let engine = if asked.is_empty() { Ok(Engine::Silent) } else { self.ask(probe, &asked) };
        let findings = if is_checked { probe.check().0 } else { self.findings };
        probe.device.with_bytes(|bytes| bytes[at] ^= 1 << bit);
        let count = match engine? {
            Engine::Refused(refused) if findings.violations == 0 => {
                return Err(format!("the engine reports it, the checker does not: {refused:?}"));
            }
            Engine::Refused(Refused::Open) => &mut outcomes.open,
            Engine::Refused(Refused::Get) => &mut outcomes.get,
            Engine::Torn => &mut outcomes.torn,
            Engine::Silent if findings.violations > 0 => &mut outcomes.check,
            Engine::Silent if findings != self.findings => &mut outcomes.noted,
            Engine::Silent => &mut outcomes.unaffected,
        };
        *count += 1;
        Ok(())
    }

    fn ask(&self, probe: &Probe, asked: &[usize]) -> Result<Engine, String> {
        let questions: Vec<Question> = asked.iter().map(|index| self.questions[*index].clone()).collect();
        let said = match probe.ask(&questions).0 {
            Err(refused) => return Ok(Engine::Refused(refused)),
            Ok(said) => said,
        };
        match asked.iter().zip(said.answers).find(|(index, answer)| self.answers[**index] != *answer) {
            None if said.torn => Ok(Engine::Torn),
            None => Ok(Engine::Silent),
            Some((index, _)) => Err(format!("another answer, and no error: {:?}", self.questions[*index])),
        }
    }
}

/// What the engine says of a flip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Engine {
    Refused(Refused),
    Torn,
    Silent,
}

fn plan() -> Plan {
    let kinds =
        vec![Kind::Write, Kind::Put, Kind::Append, Kind::SetAttributes, Kind::OmapInsert, Kind::Stream];
    Plan {
        clients: 2,
        pools: 2,
        steps: 60,
        objects: 9,
        keys: 60,
        kinds: kinds.into_iter().chain([Kind::OmapHeader, Kind::Remove, Kind::Hint]).collect(),
        ops_max: 2,
        rests: true,
        ..Plan::small()
    }
}

/// The bytes of a store with something of everything, closed.
fn closed(seed: u64) -> Result<(Vec<u8>, Plan), Broken> {
    let plan = plan();
    let base = formatted(seed, &plan)?;
    let history = vec![PoolHistory::new(); plan.pools];
    let least = Bounds::new(vec![0; plan.pools]);
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let end = run.trace.events();
    let mut rng = fastrand::Rng::with_seed(seed);
    let image = run.trace.crash_image(end, CrashMode::Everything, &mut rng);
    let mut bytes = vec![0; usize::try_from(plan.disk_bytes).expect("three MiB")];
    image.read_durable(0, &mut bytes);
    Ok((bytes, plan))
}
