//! Pools: removed, created again under the same name and renamed, with power cuts at every boundary and clients that use them.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use seabed::{Error, LocalPool, LocalStore, Shard, Transaction};
use seabed_object::ObjectId;
use seabed_types::{PoolId, ShardId};

use super::place;
use crate::crash::program::{Plan, stamped};
use crate::crash::run::{formatted, shard_options, sim_options, superblock};
use crate::crash::suite::findings;
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, Mark, SimOptions, Simulation, Trace};

/// Objects of the pool that is removed.
const OBJECTS: u64 = 40;
/// Longer than any drain takes.
const DRAINED: Duration = Duration::from_secs(2);

fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

fn acknowledged(number: u64) -> Mark {
    Mark::Acknowledged { log: 0, number }
}

fn plan(seed: u64) -> Plan {
    Plan { memory_bytes: 8 << 20, disk_bytes: 96 << 20, ..Plan::of(seed) }
}

/// Mounts, works, and leaves whatever is on its way; the trace has what reached the device.
fn on<T>(
    seed: u64,
    image: &DiskImage,
    work: impl AsyncFnOnce(&Simulation, LocalStore) -> Result<T, Broken>,
) -> Result<(T, Trace), Broken> {
    let plan = plan(seed);
    let options = SimOptions { steps_max: 100_000_000, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, image, options);
    let machine = sim.machine();
    let worked = sim.run(async {
        let shard = Shard::mount(machine, superblock(seed, &plan), ShardId(0), shard_options(&plan)).await;
        let shard = shard.map_err(wrong)?;
        let done = work(&sim, LocalStore::new(Rc::clone(&shard))).await?;
        shard.close().await.map_err(wrong)?;
        Ok(done)
    });
    let worked = worked.map_err(|stuck| broken(Rule::Stuck, stuck))??;
    Ok((worked, sim.finish()))
}

/// Fills a pool with objects of all shapes: inline, in one row, in several rows, with an omap.
async fn fill(pool: &LocalPool, stamp: u64) -> Result<(), Broken> {
    for number in 0..OBJECTS {
        let object = ObjectId::new(format!("object {number}"));
        let bytes = [10, 5000, 100_000][usize::try_from(number % 3).expect("small")];
        let mut txn = Transaction::new();
        txn.write(&object, 0, stamped(stamp << 32 | number, bytes));
        if number % 2 == 0 {
            let pairs = (0..30).map(|key| (format!("key {key}"), Bytes::from(stamped(number, 60))));
            txn.omap_insert(&object, pairs);
        }
        pool.submit(txn).await.map_err(wrong)?;
    }
    Ok(())
}

/// The names of the pools, each with its id.
async fn listed(store: &LocalStore) -> Result<Vec<(String, PoolId)>, Broken> {
    let pools = store.pools().await.map_err(wrong)?;
    Ok(pools.into_iter().map(|entry| (entry.name, entry.id)).collect())
}

/// Every call on a pool that is not there says so.
async fn is_gone(pool: &LocalPool) -> Result<(), Broken> {
    let object = ObjectId::new("object 1");
    let answers = [
        ("get", pool.get(&object).await.err()),
        ("stat", pool.stat(&object).await.err()),
        ("exists", pool.exists(&object).await.err()),
        ("attrs", pool.attrs(&object).await.err()),
        ("extents", pool.extents(&object, 0, 1).await.err()),
        ("list", pool.list_page(None, 10).await.err()),
        ("usage", pool.usage().err()),
        ("put", pool.put(&object, "x").await.err()),
        ("a large put", pool.put(&object, vec![7; 300_000]).await.err()),
        ("remove", pool.remove(&object).await.err()),
        ("put_stream", pool.put_stream(&object).err()),
    ];
    for (what, error) in answers {
        if error != Some(Error::NoSuchPoolId { id: pool.id() }) {
            let what = format!("{what} of a pool that was removed: {error:?}");
            return Err(broken(Rule::Wrong, what));
        }
    }
    Ok(())
}

/// A pool is removed, created again under its name and given another name, while the removed one is drained: at each boundary
/// the power is cut. The next mount shows one of the states in between, no older one than was acknowledged, and drains what was
/// removed: afterwards only the pools that are there count. How many power cuts.
pub fn removed_and_renamed(seed: u64) -> Result<u64, Broken> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let base = formatted(seed, &plan(seed))?;
    let (old, trace) = on(seed, &base, async |_, store| {
        let old = store.create_pool("old").await.map_err(wrong)?;
        fill(&old, 1).await?;
        let other = store.create_pool("other").await.map_err(wrong)?;
        other.put("one", "data").await.map_err(wrong)?;
        Ok([old.id(), other.id()])
    })?;
    let [old, other] = old;
    let image = trace.crash_image(trace.events(), CrashMode::Durable, &mut rng);
    let (new, trace) = on(seed, &image, async |sim, store| {
        sim.mark(acknowledged(0));
        let handle = store.pool("old").await.map_err(wrong)?;
        store.remove_pool("old").await.map_err(wrong)?;
        sim.mark(acknowledged(1));
        is_gone(&handle).await?;
        let new = store.create_pool("old").await.map_err(wrong)?;
        sim.mark(acknowledged(2));
        store.rename_pool("old", "new").await.map_err(wrong)?;
        sim.mark(acknowledged(3));
        new.put("two", "data").await.map_err(wrong)?;
        if store.rename_pool("new", "other").await != Err(Error::PoolExists { name: "other".into() }) {
            return Err(broken(Rule::Wrong, "a pool took the name of another"));
        }
        store.runtime().sleep(DRAINED).await;
        Ok(new.id())
    })?;
    if new <= other {
        return Err(broken(Rule::Wrong, "the id of a pool was used again"));
    }
    let pair = |name: &str, id| (name.to_owned(), id);
    let states = [
        vec![pair("old", old), pair("other", other)],
        vec![pair("other", other)],
        vec![pair("old", new), pair("other", other)],
        vec![pair("new", new), pair("other", other)],
    ];
    let mut cuts = 0;
    for boundary in trace.boundaries() {
        let marks = trace.marks_before(boundary);
        let numbers = marks.filter_map(|mark| match mark {
            Mark::Acknowledged { number, .. } => Some(number),
            Mark::Shown { .. } | Mark::Note { .. } => None,
        });
        let Some(acknowledged) = numbers.max() else { continue };
        let mode = CrashMode::ALL[rng.usize(..CrashMode::ALL.len())];
        let image = trace.crash_image(boundary, mode, &mut rng);
        let found = found_after(seed, &image, &states, old).map_err(|why| place(why, "cut", boundary))?;
        if (found as u64) < acknowledged {
            let what = format!("state {found} after {acknowledged} was acknowledged");
            return Err(place(broken(Rule::Lost, what), "cut", boundary));
        }
        cuts += 1;
    }
    Ok(cuts)
}

/// Mounts what a power cut left, twice: the state that the list of pools is in.
fn found_after(
    seed: u64,
    image: &DiskImage,
    states: &[Vec<(String, PoolId)>],
    old: PoolId,
) -> Result<usize, Broken> {
    let mounted = async |_: &Simulation, store: LocalStore| {
        let pools = listed(&store).await?;
        let state = states.iter().position(|state| *state == pools);
        let state = state.ok_or_else(|| broken(Rule::Half, format!("the pools {pools:?}")))?;
        let handle = store.pool_of(old);
        if state > 0 {
            is_gone(&handle).await?;
        } else if handle.usage().map_err(wrong)?.objects != OBJECTS.cast_signed() {
            return Err(broken(Rule::Half, "the pool is there and lacks objects"));
        }
        store.runtime().sleep(DRAINED).await;
        let mut sum = seabed::Usage::default();
        for (name, _) in pools {
            let pool = store.pool(&name).await.map_err(wrong)?;
            sum = sum.plus(pool.usage().map_err(wrong)?);
        }
        if sum != store.usage() {
            let what = format!("of a removed pool is left: {:?}", store.usage().minus(sum));
            return Err(broken(Rule::Wrong, what));
        }
        Ok(state)
    };
    let (first, trace) = on(seed, image, mounted)?;
    let image = trace.crash_image(trace.events(), CrashMode::Everything, &mut fastrand::Rng::with_seed(seed));
    findings(&image).map_err(|what| broken(Rule::Check, what))?;
    let (second, _) = on(seed, &image, mounted)?;
    if first == second { Ok(first) } else { Err(broken(Rule::Wrong, "a second mount shows other pools")) }
}

/// A pool is removed while clients put, read, list and stream: each call ends, with its result or with the error that the
/// pool is not there, nothing of the pool is left afterwards, and the store goes on.
pub fn removed_in_use(seed: u64) -> Result<(), Broken> {
    let base = formatted(seed, &plan(seed))?;
    let ((), trace) = on(seed, &base, async |_, store| {
        let pool = store.create_pool("pool").await.map_err(wrong)?;
        fill(&pool, 1).await?;
        let id = pool.id();
        let expected = |result: Result<(), Error>| match result {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            Err(Error::NoSuchPoolId { id: of }) if of == id => Ok(()),
            Err(error) => Err(wrong(error)),
        };
        let clients = join_all((0..OBJECTS).map(|number| {
            let (pool, expected) = (pool.clone(), &expected);
            async move {
                let object = ObjectId::new(format!("object {number}"));
                for round in 0..6 {
                    expected(match (number + round) % 5 {
                        0 => pool.put(&object, vec![1; 3000]).await,
                        1 => pool.put(&object, vec![2; 100_000]).await,
                        2 => pool.get(&object).await.map(drop),
                        3 => pool.list_page(None, 7).await.map(drop),
                        _ => match pool.put_stream(&object) {
                            Ok(mut put) => match put.write(vec![3; 200_000]).await {
                                Ok(()) => put.finish(Vec::new()).await,
                                Err(error) => Err(error),
                            },
                            Err(error) => Err(error),
                        },
                    })?;
                }
                Ok(())
            }
        }));
        let runtime = store.runtime();
        let pause = Duration::from_micros(fastrand::Rng::with_seed(seed).u64(..20_000));
        let removal = async {
            runtime.sleep(pause).await;
            store.remove_pool("pool").await.map_err(wrong)
        };
        let (clients, removed) = futures::join!(clients, removal);
        clients.into_iter().collect::<Result<(), Broken>>()?;
        removed?;
        is_gone(&pool).await?;
        if store.remove_pool("pool").await != Err(Error::NoSuchPool { name: "pool".into() }) {
            return Err(broken(Rule::Wrong, "a pool was removed twice"));
        }
        runtime.sleep(DRAINED).await;
        let left = store.usage();
        if left != seabed::Usage::default() {
            return Err(broken(Rule::Wrong, format!("of a removed pool is left: {left:?}")));
        }
        Ok(())
    })?;
    let image = trace.crash_image(trace.events(), CrashMode::Everything, &mut fastrand::Rng::with_seed(seed));
    findings(&image).map_err(|what| broken(Rule::Check, what))
}
