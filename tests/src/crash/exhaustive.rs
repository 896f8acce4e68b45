//! Exhaustive: every sequence of a few operations on a fresh store, crashed at every I/O boundary in every way while these
//! are few.
//!
//! The operations are drawn from templates on two objects, one after the other is awaited, and a store that took at most
//! two is closed. Runs are the same up to where their programs differ, so a sequence is crashed only from the moment at
//! which its last operation was submitted: what lies before is another sequence's. At each boundary every subset of the
//! uncovered writes is made while there are at most six of them, else nothing, everything, what completed, and two random
//! states.
//!
//! Cost: with 14 templates and sequences of up to three, 2,954 runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::history::PoolHistory;
use super::program::{Plan, Step, stamped};
use super::run::{Bounds, formatted, record};
use super::suite::{excused, verify};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, CrashPlan, Faults, Mark};
use crate::model::{Bytes, ObjectId, Op};

/// How many templates there are.
pub const TEMPLATES: usize = 14;
const CRASHES: CrashPlan = CrashPlan { subsets_of_writes_max: 6, random: 2 };
const SEED: u64 = 7;

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ExhaustiveCounts {
    /// Sequences.
    pub sequences: u64,
    /// Boundaries at which the power was cut.
    pub boundaries: u64,
    /// Distinct disks of a sequence that were mounted, compared, checked and mounted again.
    pub states: u64,
    /// Boundaries with more uncovered writes than all subsets were made of.
    pub wide: u64,
}

impl ExhaustiveCounts {
    fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.boundaries += other.boundaries;
        self.states += other.states;
        self.wide += other.wide;
    }

    /// The closing line.
    pub fn line(&self) -> String {
        let Self { sequences, boundaries, states, wide } = self;
        format!("sequences={sequences} boundaries={boundaries} states={states} wide={wide} broken=0")
    }
}

fn shared(bytes: impl AsRef<[u8]>) -> Bytes {
    bytes.as_ref().into()
}

/// Operation `template`, as number `place` of its sequence.
fn template(template: usize, place: u64) -> Step {
    let (a, b) = (ObjectId::new("a"), ObjectId::new("ab"));
    let data = |bytes| shared(stamped(place << 8 | template as u64, bytes));
    let rows = || (0..20).map(|row| (shared(format!("row {row:02}")), data(30))).collect();
    let submit =
        |id: &ObjectId, ops: Vec<Op>| Step::Submit(ops.into_iter().map(|op| (id.clone(), op)).collect());
    match template {
        0 => submit(&a, vec![Op::Touch]),
        1 => submit(&a, vec![Op::Write(0, data(50))]),
        2 => submit(&b, vec![Op::Write(0, data(9000))]),
        3 => submit(&a, vec![Op::Write(5000, data(3000))]),
        4 => submit(&a, vec![Op::Append(data(4096))]),
        5 => submit(&a, vec![Op::Zero(1000, 6000)]),
        6 => submit(&a, vec![Op::Truncate(2500)]),
        7 => submit(&a, vec![Op::Remove]),
        8 => submit(&b, vec![Op::Remove]),
        9 => submit(&a, vec![Op::SetAttributes(vec![(shared("x"), data(200)), (shared("y"), data(0))])]),
        10 => submit(&b, vec![Op::Touch, Op::OmapInsert(rows())]),
        11 => submit(&b, vec![Op::OmapRemoveRange(shared("row 03"), shared("row 15"))]),
        12 => Step::Stream {
            id: a,
            parts: vec![stamped(place << 8 | 0xc, 12_000), stamped(place << 8 | 0xd, 500)],
            attributes: vec![(shared("z"), data(10))],
            finishes: true,
        },
        _ => submit(&a, vec![Op::Remove, Op::Write(0, data(700)), Op::OmapInsert(rows())]),
    }
}

fn plan(sequence: &[usize]) -> Plan {
    let steps = (0..).zip(sequence).map(|(place, number)| (0, template(*number, place)));
    Plan { closes: sequence.len() < 3, program: Some(Arc::new(vec![steps.collect()])), ..Plan::small() }
}

/// All sequences of one to `operations` templates, in order of length.
pub fn sequences(operations: u32) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    let mut longest = vec![Vec::new()];
    for _ in 0..operations {
        let longer = |sequence: &Vec<usize>| {
            let sequence = sequence.clone();
            (0..TEMPLATES).map(move |next| sequence.iter().copied().chain([next]).collect())
        };
        longest = longest.iter().flat_map(longer).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// Runs and crashes one sequence.
pub fn run_sequence(sequence: &[usize]) -> Result<ExhaustiveCounts, String> {
    crash_sequence(sequence).map_err(|broken| format!("sequence {sequence:?}: {broken}"))
}

fn crash_sequence(sequence: &[usize]) -> Result<ExhaustiveCounts, Broken> {
    let plan = plan(sequence);
    let base = formatted(SEED, &plan)?;
    let (history, least) = (vec![PoolHistory::new()], Bounds::new(vec![0]));
    let run = record((SEED, SEED), &base, (&history, &least), &plan, Faults::none())?;
    let mut counts = ExhaustiveCounts { sequences: 1, ..ExhaustiveCounts::default() };
    let mut rng = fastrand::Rng::with_seed(SEED);
    let (mut seen, mut bounds, mut passed) = (BTreeSet::new(), least.clone(), 0);
    let mut walk = run.trace.walk();
    // The answer before the last one: the pool is made first, which is a promise of its own.
    let before_last = sequence.len().saturating_sub(1);
    let is_answer = |mark: &Mark| matches!(mark, Mark::Note { what: "answered" | "refused" | "no room", .. });
    while let Some(boundary) = walk.advance() {
        for mark in &walk.marks()[passed..] {
            run.raise(&mut bounds, *mark);
        }
        passed = walk.marks().len();
        if walk.marks().iter().filter(|mark| is_answer(mark)).count() < before_last {
            continue;
        }
        counts.boundaries += 1;
        counts.wide += u64::from(walk.frontier().uncovered_count() > CRASHES.subsets_of_writes_max);
        for image in walk.frontier().crash_images(CRASHES, &mut rng) {
            if !seen.insert(image.hash()) {
                continue;
            }
            counts.states += 1;
            verify((rng.u64(..), SEED), (&image, excused(CrashMode::Garbage)), &run.history, &bounds, &plan)
                .map_err(|broken| Broken {
                    what: format!("boundary {boundary}: {}", broken.what),
                    ..broken
                })?;
        }
    }
    if counts.boundaries == 0 {
        return Err(broken(Rule::Wrong, "the sequence was never crashed"));
    }
    Ok(counts)
}

/// Runs these sequences on so many threads; `fail` is told of each that breaks a rule.
pub fn run_sequences(
    sequences: &[Vec<usize>],
    threads: usize,
    fail: impl Fn(&str) + Sync,
) -> ExhaustiveCounts {
    let total = Mutex::new(ExhaustiveCounts::default());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (total, fail) = (&total, &fail);
            scope.spawn(move || {
                for sequence in sequences.iter().skip(thread).step_by(threads) {
                    match run_sequence(sequence) {
                        Ok(counts) => total.lock().expect("no panic while it is held").add(&counts),
                        Err(what) => fail(&what),
                    }
                }
            });
        }
    });
    total.into_inner().expect("all threads have ended")
}
