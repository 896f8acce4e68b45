//! Alive: a store goes on, when faults have stopped and when what a crash left was mounted.
//!
//! After a crash it takes more new data than its device has space for, in objects that are overwritten, or in new ones until
//! there is no space, and then objects are removed until there is: segments have to come free again. A store from which
//! all was removed takes data, and each operation ends within a bounded number of steps. In the end the store holds what was
//! written and, of what the crash left, all that was not removed; the checker finds nothing.
//!
//! A removal always finds space (rule S6), however fragmented the store is.
//!
//! Cost: some hundred operations.

use std::collections::BTreeMap;
use std::rc::Rc;

use seabed::{Error, LocalPool, LocalStore, Shard};
use seabed_object as object;
use seabed_types::ShardId;

use super::engine::{dump, id_of};
use super::program::{Plan, stamped};
use super::run::{formatted, names, record, shard_options, sim_options, superblock};
use super::schedules::nothing;
use super::suite::{findings, open};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, SimOptions, Simulation};
use crate::model::{Object, ObjectId};

/// Polls of tasks in which a few operations are answered after all faults have stopped, others' work among them.
const STEPS_AFTERWARDS: u64 = 20_000;
/// Polls in which one operation of a store that goes on is answered, with all the trimming that it has to wait for.
const STEPS_OF_ONE: u64 = 20_000;
/// Operations in which it takes more than its device has space for.
const OPERATIONS_MAX: u64 = 2000;

/// The objects of a pool; none: there is no such pool.
type Dumped = Option<Vec<(ObjectId, Object)>>;

/// Stops the faults and works on a pool of its own: everything is answered within a bounded number of steps. What the first
/// error was.
pub(super) async fn afterwards(sim: &Simulation, store: &LocalStore) -> Result<Result<(), Error>, Broken> {
    sim.with_faults(Faults::stop);
    let began = sim.steps();
    let work = async {
        let pool = store.create_pool("afterwards").await?;
        pool.put("object", vec![7; 9000]).await?;
        pool.put("other", vec![8; 90]).await?;
        let is_whole = pool.get("object").await? == vec![7; 9000];
        pool.remove("other").await?;
        let listed = pool.list_page(None, 9).await?.objects.len();
        Ok(is_whole && listed == 1)
    };
    let told = work.await;
    let steps = sim.steps() - began;
    if steps > STEPS_AFTERWARDS {
        return Err(broken(Rule::Stuck, format!("{steps} steps for a few operations after all faults")));
    }
    match told {
        Ok(false) => Err(broken(Rule::Wrong, "what was put after all faults")),
        told => Ok(told.map(|_| ())),
    }
}

/// A store that goes on after a crash.
struct Site<'a> {
    sim: &'a Simulation,
    rng: fastrand::Rng,
    store: LocalStore,
    /// The pools that the crash left, with what is left of them.
    left: Vec<(LocalPool, Vec<(ObjectId, Object)>)>,
    /// Objects of the pool of its own: which data, and how much.
    own: BTreeMap<u64, (u64, usize)>,
    removals: u64,
}

/// Mounts what a crash left, in which these objects were found, and lets it go on: how often something was removed because
/// there was no space.
pub(super) fn goes_on(
    (seed, store_seed): (u64, u64),
    image: &DiskImage,
    plan: &Plan,
    dumped: &[Dumped],
) -> Result<u64, Broken> {
    let options =
        SimOptions { steps_max: STEPS_OF_ONE * OPERATIONS_MAX, ..sim_options(plan, Faults::none()) };
    let sim = Simulation::from_image(seed, image, options);
    let (machine, superblock) = (sim.machine(), superblock(store_seed, plan));
    let removals = sim.run(async {
        let shard = Shard::mount(machine, superblock, ShardId(0), shard_options(plan)).await;
        let shard = shard.map_err(|error| broken(Rule::FailedOpen, error))?;
        let store = LocalStore::new(Rc::clone(&shard));
        let mut left = Vec::new();
        for (name, dumped) in names(plan).iter().zip(dumped) {
            if let Some(objects) = dumped {
                left.push((store.pool(name).await.map_err(wrong)?, objects.clone()));
            }
        }
        let rng = fastrand::Rng::with_seed(seed);
        let mut site = Site { sim: &sim, rng, store, left, own: BTreeMap::new(), removals: 0 };
        let pool = site.pool_of_its_own().await?;
        site.overwrites(&pool, plan.disk_bytes * 5 / 4).await?;
        site.compare(plan, dumped).await?;
        shard.close().await.map_err(wrong)?;
        Ok(site.removals)
    });
    let removals =
        removals.map_err(|stuck| broken(Rule::Stuck, format!("a store that goes on: {stuck}")))??;
    let image = sim.frontier().crash_image(CrashMode::Everything, &mut fastrand::Rng::with_seed(seed));
    findings(&image).map_err(|what| broken(Rule::Check, what))?;
    Ok(removals)
}

/// A seed's first run, crashed somewhere and gone on from: how often something was removed because there was no space.
pub fn went_on_after_a_crash(seed: u64) -> Result<u64, Broken> {
    let plan = Plan::of(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let boundaries = run.trace.boundaries();
    let boundary = boundaries[rng.usize(..boundaries.len())];
    let image = run.trace.crash_image(boundary, CrashMode::random(&mut rng), &mut rng);
    let opened = open((seed, seed), &image, &plan, shard_options(&plan))?;
    goes_on((seed, seed), &image, &plan, &opened.dumped)
}

fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

fn name_of(number: u64) -> object::ObjectId {
    object::ObjectId::new(format!("own {number}"))
}

impl Site<'_> {
    /// Does one thing: none if there was no space. It ends within a bounded number of steps.
    async fn one<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Broken> {
        let began = self.sim.steps();
        let told = work.await;
        let steps = self.sim.steps() - began;
        if steps > STEPS_OF_ONE {
            return Err(broken(Rule::Stuck, format!("{what} took {steps} steps")));
        }
        match told {
            Ok(done) => Ok(Some(done)),
            Err(Error::NoSpace { .. }) => Ok(None),
            Err(error) => Err(wrong(error)),
        }
    }

    async fn pool_of_its_own(&mut self) -> Result<LocalPool, Broken> {
        loop {
            if let Some(pool) = self.one("making a pool", self.store.create_pool("afterwards")).await? {
                return Ok(pool);
            }
            self.makes_room(None).await?;
        }
    }

    /// Removes the first object of a pool because there is no space.
    async fn makes_room(&mut self, own: Option<&LocalPool>) -> Result<(), Broken> {
        self.removals += 1;
        let other = self.left.iter().position(|(_, objects)| !objects.is_empty());
        let (pool, id, from) = match (own.filter(|_| !self.own.is_empty()), other) {
            (Some(own), _) => {
                let listed = own.list_page(None, 1).await.map_err(wrong)?.objects;
                let first = listed.into_iter().next();
                (own.clone(), first.ok_or_else(|| broken(Rule::Wrong, "objects are not listed"))?, None)
            }
            (None, Some(index)) => {
                let (pool, objects) = &self.left[index];
                (pool.clone(), id_of(&objects[0].0), Some(index))
            }
            (None, None) => {
                return Err(broken(Rule::Stuck, "all objects were removed, and there is no space"));
            }
        };
        if self.one("a removal", pool.remove(id.clone())).await?.is_none() {
            return Err(self.without_room());
        }
        match from {
            Some(index) => drop(self.left[index].1.remove(0)),
            None => self.own.retain(|number, _| name_of(*number) != id),
        }
        Ok(())
    }

    fn without_room(&self) -> Broken {
        let left: usize = self.left.iter().map(|(_, objects)| objects.len()).sum();
        let (own, stats) = (self.own.len(), self.store.stats());
        let removal = self.removals;
        broken(
            Rule::Stuck,
            format!("removal {removal} found no space beside {own} and {left} objects: {stats:?}"),
        )
    }

    /// Writes so many bytes in all, in objects that are overwritten or removed.
    async fn overwrites(&mut self, pool: &LocalPool, bytes: u64) -> Result<(), Broken> {
        // A few objects again and again, or more and more until there is no space.
        let objects = [3, 12, u64::MAX][self.rng.usize(..3)];
        let most = [90, 3000, 9000, 40_000, 120_000][self.rng.usize(..5)];
        let (mut written, mut stamp) = (0, 1 << 50);
        for number in 0..OPERATIONS_MAX {
            let name = if objects == u64::MAX { number } else { self.rng.u64(..objects) };
            let size = self.rng.usize(most / 2..=most);
            stamp += 1;
            let put = pool.put(name_of(name), stamped(stamp, size));
            if self.one("a put", put).await?.is_none() {
                self.makes_room(Some(pool)).await?;
                continue;
            }
            self.own.insert(name, (stamp, size));
            // A record has a block for its header.
            written += 4096 + size.next_multiple_of(4096) as u64;
            if written > bytes {
                return Ok(());
            }
        }
        Err(broken(Rule::Stuck, format!("{OPERATIONS_MAX} operations stored {written} of {bytes} bytes")))
    }

    /// The store holds what it should.
    async fn compare(&self, plan: &Plan, before: &[Dumped]) -> Result<(), Broken> {
        let own = self.store.pool("afterwards").await;
        for (number, (stamp, size)) in &self.own {
            let own = own.as_ref().map_err(|error| wrong(error.clone()))?;
            if own.get(name_of(*number)).await.map_err(wrong)? != stamped(*stamp, *size) {
                return Err(broken(Rule::Wrong, format!("own object {number} holds other bytes")));
            }
        }
        let mut left = self.left.iter().map(|(_, objects)| objects);
        for (name, before) in names(plan).iter().zip(before) {
            let dumped = dump(&self.store, name).await.map_err(wrong)?;
            let expected = if before.is_some() { left.next() } else { None };
            if dumped.as_ref() != expected {
                return Err(broken(Rule::Wrong, format!("pool {name} lost or got something")));
            }
        }
        Ok(())
    }
}
