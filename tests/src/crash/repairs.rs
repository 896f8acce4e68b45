//! Repairs: what the engine left at some moment is damaged, repaired with a crash at every step of that, repaired again,
//! and mounted: the checker finds nothing, and no object is other than it was.
//!
//! The repair itself writes to an image in memory; its writes and flushes are then carried out on a simulated disk, whose
//! trace says what a power cut may leave at each step.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use seabed_check::repair::{RepairError, Repaired, repair};
use seabed_check::{Image, Medium, Options};
use seabed_device::{Class, Durability, WriteOpts};
use seabed_journal::Slot;
use seabed_segment::{SlotCopy, Superblock};
use seabed_types::{BLOCK_BYTES, Paddr, ShardId};

use super::history::PoolHistory;
use super::program::Plan;
use super::run::{Bounds, formatted, record, sim_options, superblock};
use super::schedules::{bounds_at, look, place};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, Simulation, Trace};

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RepairCounts {
    /// Damaged images.
    pub damaged: u64,
    /// That were repaired.
    pub repaired: u64,
    /// That were beyond it, and not written to: what the other copy would have said a crash had taken.
    pub beyond: u64,
    /// That had no four free segments for a checkpoint, and were not written to.
    pub full: u64,
    /// Distinct states that a crash in the middle of a repair left, each repaired again and mounted.
    pub states: u64,
}

/// A disk image that a repair writes to.
struct Target {
    image: RefCell<DiskImage>,
    steps: RefCell<Vec<Step>>,
}

enum Step {
    Write(u64, Vec<u8>),
    Flush,
}

impl Image for Target {
    fn bytes(&self) -> u64 {
        self.image.borrow().bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.bytes()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.image.borrow().read_durable(at, into);
        Ok(())
    }
}

impl Medium for Target {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.image.borrow_mut().write(at, bytes);
        self.steps.borrow_mut().push(Step::Write(at, bytes.to_vec()));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.steps.borrow_mut().push(Step::Flush);
        Ok(())
    }
}

fn repaired(image: &DiskImage) -> (Target, Result<Repaired, RepairError>) {
    let target = Target { image: RefCell::new(image.clone()), steps: RefCell::default() };
    let outcome = repair(&target, &Options::default(), &mut |_| {});
    (target, outcome)
}

/// Flips a bit in parts of a store that another part says too: what is damaged, and where.
fn places(image: &DiskImage, superblock: &Superblock) -> Vec<(&'static str, Vec<u64>)> {
    let layout = superblock.layout;
    let [a, b] = [SlotCopy::A, SlotCopy::B].map(|which| layout.slot(ShardId(0), which));
    let [first, second, third, last] = Superblock::places(layout.device_bytes);
    let mut places = vec![
        ("slot A", vec![a + 9]),
        ("slot B", vec![b + 9]),
        ("three superblocks", vec![first + 1, second + 81, last + 100]),
        ("a superblock and a slot", vec![third, b]),
    ];
    let slot = Slot::decode(&image.read(a, BLOCK_BYTES), &superblock.identity, ShardId(0));
    for (what, copy) in
        ["the first body", "the second body"].into_iter().zip(slot.iter().flat_map(|slot| &slot.body))
    {
        places.push((what, copy.iter().map(|part| layout.device_offset(part.at) + 1).collect()));
    }
    let headers = layout.segments().map(|segment| layout.device_offset(Paddr::new(segment, 0)) + 20);
    places.push(("all headers", headers.collect()));
    let seals = layout
        .segments()
        .map(|segment| layout.device_offset(Paddr::new(segment, layout.segment_bytes - 4096)) + 41);
    places.push(("all seals", seals.collect()));
    places
}

/// Carries out the steps of a repair on a simulated disk.
fn simulated(seed: u64, plan: &Plan, image: &DiskImage, steps: &[Step]) -> Result<Trace, Broken> {
    let sim = Simulation::from_image(seed, image, sim_options(plan, Faults::none()));
    let device = sim.machine().device;
    let opts = WriteOpts { durability: Durability::Cached, class: Class::Background, stream: 0 };
    let done = sim.run(async {
        for step in steps {
            match step {
                Step::Write(at, bytes) => {
                    let mut buf = device.alloc(bytes.len());
                    buf.copy_from_slice(bytes);
                    device.write(*at, Rc::new(buf), opts).await?;
                }
                Step::Flush => device.flush().await?,
            }
        }
        Ok::<(), seabed_device::DeviceError>(())
    });
    done.map_err(|stuck| broken(Rule::Stuck, stuck))?.map_err(|error| broken(Rule::Wrong, error))?;
    Ok(sim.finish())
}

/// Damages what a run left at `moments` of its boundaries in each way, repairs it, crashes the repair, repairs it again.
pub fn repairs(seed: u64, moments: usize) -> Result<RepairCounts, Broken> {
    let plan = Plan { steps: 40, ..Plan::of(seed) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let history = vec![PoolHistory::new(); plan.pools];
    let least = Bounds::new(vec![0; plan.pools]);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let superblock = superblock(seed, &plan);
    let boundaries = run.trace.boundaries();
    let mut counts = RepairCounts::default();
    let mut states = BTreeSet::new();
    for boundary in boundaries.iter().copied().step_by((boundaries.len() / moments).max(1)) {
        let bounds = bounds_at(&run, boundary, &least);
        let whole = run.trace.crash_image(boundary, CrashMode::Completed, &mut rng);
        for (what, flips) in places(&whole, &superblock) {
            let fail = |broken| place(broken, what, boundary);
            let mut image = whole.clone();
            for at in flips {
                image.flip(at, rng.u8(..8));
            }
            counts.damaged += 1;
            let refused = counts.beyond + counts.full;
            let (target, outcome) = repaired(&image);
            match outcome {
                Ok(_) => counts.repaired += 1,
                Err(RepairError::Beyond { .. }) => counts.beyond += 1,
                Err(RepairError::NoSpace { .. }) => counts.full += 1,
                Err(error) => return Err(fail(broken(Rule::Wrong, error))),
            }
            let steps = target.steps.into_inner();
            if counts.beyond + counts.full > refused {
                if !steps.is_empty() {
                    return Err(fail(broken(Rule::Wrong, "what was refused was written to")));
                }
                continue;
            }
            let trace = simulated(seed, &plan, &image, &steps).map_err(fail)?;
            for step in trace.boundaries() {
                for mode in [CrashMode::Durable, CrashMode::Completed, CrashMode::random(&mut rng)] {
                    let crashed = trace.crash_image(step, mode, &mut rng);
                    if !states.insert(crashed.hash()) {
                        continue;
                    }
                    let (target, again) = repaired(&crashed);
                    let again = again.map_err(|error| fail(broken(Rule::Wrong, error)))?;
                    if !again.report.is_clean() {
                        return Err(fail(broken(Rule::Check, again.report)));
                    }
                    look(seed, &target.image.into_inner(), &run, &plan, &bounds).map_err(fail)?;
                }
            }
        }
    }
    counts.states = states.len() as u64;
    Ok(counts)
}
