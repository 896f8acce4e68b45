//! Reads: answers that are gathered in slices, and read handles, show one version of an object; their memory and time are
//! bounded; a listing goes on behind what is damaged.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use seabed::{Error, LocalPool, LocalRead, LocalStore, Shard, ShardOptions, Transaction};
use seabed_device::Runtime;
use seabed_object::{Direction, ObjectId, key};
use seabed_segment::{Listed, ListedWhat, RecordHeader, StreamKind, entries_of};
use seabed_types::{BLOCK_BYTES, Cursor, Paddr, PoolId, SegmentId, ShardId, TreeKind};

use crate::crash::program::{Plan, stamped};
use crate::crash::run::{formatted, shard_options, sim_options, superblock};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults, SimOptions, Simulation};

const NAME: &str = "object";

fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

fn plan_of(seed: u64) -> Plan {
    Plan {
        pools: 1,
        disk_bytes: 18 << 20,
        segment_bytes: 256 << 10,
        window_segments: 8,
        memory_bytes: 32 << 20,
        data_cache_bytes: Some(0),
        bulk_bytes: 128 << 10,
        inline_bytes: 512,
        node_bytes: 4096,
        ..Plan::of(seed)
    }
}

/// A store on a fresh disk; `work` gets its pool.
fn on_a_store<T>(
    seed: u64,
    options: ShardOptions,
    work: impl AsyncFn(Rc<Shard>, LocalPool, Rc<dyn Runtime>) -> Result<T, Broken>,
) -> Result<T, Broken> {
    let plan = plan_of(seed);
    let base = formatted(seed, &plan)?;
    let sim_options = SimOptions { steps_max: 50_000_000, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, sim_options);
    let machine = sim.machine();
    let run = async {
        let runtime = Rc::clone(&machine.runtime);
        let shard = Shard::mount(machine.clone(), superblock(seed, &plan), ShardId(0), options).await;
        let shard = shard.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).pool_or_create("pool").await.map_err(wrong)?;
        let done = work(Rc::clone(&shard), pool, runtime).await?;
        shard.close().await.map_err(wrong)?;
        Ok(done)
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// All contents that an object had, in their order: a transaction is noted when it is submitted.
struct Versions {
    all: RefCell<Vec<Vec<u8>>>,
    acknowledged: RefCell<usize>,
}

impl Versions {
    /// Whether `read` is a version between the last acknowledged before `since` and the newest submitted.
    fn has(&self, since: usize, read: &[u8]) -> Result<(), Broken> {
        let all = self.all.borrow();
        if all[since..].iter().any(|version| version == read) {
            return Ok(());
        }
        let torn = all.iter().position(|version| version.len() == read.len());
        Err(broken(
            Rule::Wrong,
            format!("{} bytes that no version had; of that length: {torn:?}", read.len()),
        ))
    }

    fn now(&self) -> usize {
        *self.acknowledged.borrow()
    }
}

/// Changes an object again and again, in all ways that keep or give up its rows.
async fn overwrite(
    pool: &LocalPool,
    versions: &Versions,
    rng: &mut fastrand::Rng,
    round: u64,
) -> Result<(), Broken> {
    const BYTES: usize = 3 << 20;
    let name = ObjectId::new(NAME);
    let mut now = versions.all.borrow().last().cloned().unwrap_or_default();
    let mut transaction = Transaction::new();
    match rng.u32(..8) {
        0 | 1 => {
            now = stamped(round, BYTES - rng.usize(..200_000));
            let data = Bytes::from(now.clone());
            transaction.put(&name, data, Vec::<(Bytes, Bytes)>::new());
        }
        2 => {
            now.truncate(now.len() / 2);
            transaction.truncate(&name, now.len() as u64);
        }
        3 => {
            let (from, bytes) = (rng.usize(..now.len().max(1)), rng.usize(..300_000));
            let to = (from + bytes).min(now.len());
            now[from..to].fill(0);
            transaction.zero(&name, from as u64, (to - from) as u64);
        }
        kind => {
            let bytes = if kind == 4 { rng.usize(1..200_000) } else { rng.usize(1..9000) };
            let from = rng.usize(..BYTES - bytes);
            now.resize(now.len().max(from + bytes), 0);
            now[from..from + bytes].copy_from_slice(&stamped(round, bytes));
            transaction.write(&name, from as u64, stamped(round, bytes));
        }
    }
    versions.all.borrow_mut().push(now);
    let number = versions.all.borrow().len() - 1;
    pool.submit(transaction).await.map_err(wrong)?;
    *versions.acknowledged.borrow_mut() = number;
    Ok(())
}

/// All bytes that a handle shows, with pauses; none if it expired on the way.
async fn streamed(
    mut read: LocalRead,
    runtime: &Rc<dyn Runtime>,
    pause: Duration,
) -> Result<Option<Vec<u8>>, Broken> {
    let mut all = Vec::new();
    loop {
        match read.next_chunk().await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(Error::Expired) => return Ok(None),
            Err(error) => return Err(wrong(error)),
        }
        runtime.sleep(pause).await;
    }
    let size = usize::try_from(read.size()).expect("a few MiB");
    if all.len() != size {
        return Err(broken(Rule::Wrong, format!("{} bytes of {size}", all.len())));
    }
    Ok(Some(all))
}

/// An object is overwritten again and again, on a device that has room for a few of its versions. Readers that get it whole, and
/// handles that take their time, show exactly one version, or say that they expired; no write is refused for their sake.
/// How many handles were read to the end, and how many expired.
pub fn pinned(seed: u64) -> Result<[u64; 2], Broken> {
    const ROUNDS: u64 = 250;
    let options = shard_options(&plan_of(seed));
    on_a_store(seed, options, async |_, pool, runtime| {
        let versions = Rc::new(Versions {
            all: RefCell::new(vec![stamped(0, 3 << 20)]),
            acknowledged: RefCell::default(),
        });
        let first = Bytes::from(versions.all.borrow()[0].clone());
        pool.put(NAME, first).await.map_err(wrong)?;
        let is_over = Rc::new(std::cell::Cell::new(false));
        let readers = (0..8u64).map(|reader| {
            let (pool, versions, runtime) = (pool.clone(), Rc::clone(&versions), Rc::clone(&runtime));
            let is_over = Rc::clone(&is_over);
            async move {
                let mut counts = [0, 0];
                while !is_over.get() {
                    let since = versions.now();
                    if reader < 2 {
                        let read = pool.get(NAME).await.map_err(wrong)?;
                        versions.has(since, &read)?;
                        runtime.sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    let read = pool.open_read(NAME).await.map_err(wrong)?;
                    let upto = versions.all.borrow().len();
                    let pause = Duration::from_millis(if reader < 5 { 1 } else { 40 * reader });
                    match streamed(read, &runtime, pause).await? {
                        Some(all) => {
                            counts[0] += 1;
                            if !versions.all.borrow()[since..upto].contains(&all) {
                                return Err(broken(
                                    Rule::Wrong,
                                    "a handle showed what was not there when it was opened",
                                ));
                            }
                        }
                        None => counts[1] += 1,
                    }
                }
                Ok::<_, Broken>(counts)
            }
        });
        let mut rng = fastrand::Rng::with_seed(seed);
        let writer = async {
            let mut result = Ok(());
            for round in 1..ROUNDS {
                result = overwrite(&pool, &versions, &mut rng, round).await;
                if result.is_err() {
                    break;
                }
            }
            is_over.set(true);
            result
        };
        let (written, read) = futures::future::join(writer, join_all(readers)).await;
        written?;
        let mut counts = [0; 2];
        for read in read {
            let read = read?;
            counts = [counts[0] + read[0], counts[1] + read[1]];
        }
        Ok(counts)
    })
}

/// Answers of many rows, which are gathered in slices, while all rows are changed together: each is of one moment.
pub fn one_moment(seed: u64) -> Result<u64, Broken> {
    const ROWS: u64 = 480;
    let options = shard_options(&plan_of(seed));
    let change = |round: u64| {
        let name = ObjectId::new(NAME);
        let value = Bytes::from(format!("{round:04}"));
        let mut transaction = Transaction::new();
        transaction.touch(&name);
        transaction.omap_insert(&name, (0..ROWS).map(|row| (format!("{row:05}"), value.clone())));
        if round.is_multiple_of(3) {
            transaction.omap_insert(&name, [(format!("x{round}"), value.clone())]);
        }
        transaction.set_attrs(&name, (0..280).map(|row| (format!("{row:04}"), value.clone())));
        transaction
    };
    on_a_store(seed, options, async |_, pool, runtime| {
        pool.submit(change(0)).await.map_err(wrong)?;
        let is_over = std::cell::Cell::new(false);
        let reader = async {
            let mut asked = 0;
            let keys: Vec<Vec<u8>> = (0..ROWS).map(|row| format!("{row:05}").into_bytes()).collect();
            while !is_over.get() {
                let range = |direction| pool.omap_range(NAME, (b"", Some(b"x")), usize::MAX, direction);
                let answers = [
                    (ROWS, range(Direction::Forward).await.map_err(wrong)?.pairs),
                    (ROWS, range(Direction::Backward).await.map_err(wrong)?.pairs),
                    (ROWS, pool.omap_get(NAME, &keys).await.map_err(wrong)?),
                    (280, pool.attrs(NAME).await.map_err(wrong)?),
                ];
                for (number, (count, pairs)) in answers.iter().enumerate() {
                    let values: BTreeSet<&Bytes> = pairs.iter().map(|(_, value)| value).collect();
                    if pairs.len() as u64 != *count || values.len() != 1 {
                        let what =
                            format!("answer {number}: {} pairs of {} moments", pairs.len(), values.len());
                        return Err(broken(Rule::Wrong, what));
                    }
                    asked += 1;
                }
            }
            Ok(asked)
        };
        let writer = async {
            let mut result = Ok(());
            for round in 1..60 {
                result = pool.submit(change(round)).await.map_err(wrong);
                runtime.sleep(Duration::from_micros(200)).await;
            }
            is_over.set(true);
            result
        };
        let (written, asked) = futures::future::join(writer, reader).await;
        written?;
        asked
    })
}

/// Reads that would take more memory than there is are refused by their size; what is read in parts or by a handle is read.
/// Memory stays within the budget.
pub fn bounds(seed: u64) -> Result<(), Broken> {
    let options = ShardOptions {
        read_handles_max: 3,
        read_handle_age_max: Duration::from_secs(10),
        ..shard_options(&plan_of(seed))
    };
    let (budget, max) = (options.memory_bytes as u64, options.memory_bytes / 8);
    on_a_store(seed, options, async |shard, pool, runtime| {
        let last = (1u64 << 50) - 1;
        let mut transaction = Transaction::new();
        transaction.write(&ObjectId::new("sparse"), last, b"x");
        pool.submit(transaction).await.map_err(wrong)?;
        let same = |what: &str, is_so: bool| {
            if is_so { Ok(()) } else { Err(broken(Rule::Wrong, what.to_owned())) }
        };
        let whole = pool.get("sparse").await;
        same("a get of 2^50 bytes", whole == Err(Error::ReadTooLarge { bytes: 1 << 50, max }))?;
        let holes = pool.read("sparse", 5, 4 << 30).await;
        same("4 GiB of holes", holes == Err(Error::ReadTooLarge { bytes: 4 << 30, max }))?;
        let ranges = vec![(0, max as u64), (7, 1)];
        let several = pool.read_vec("sparse", ranges).await;
        same("several ranges", several == Err(Error::ReadTooLarge { bytes: max as u64 + 1, max }))?;
        same("its last byte", pool.read("sparse", last, 100).await == Ok(Bytes::from_static(b"x")))?;
        let extents = pool.extents("sparse", 0, u64::MAX >> 1).await.map_err(wrong)?;
        same("its extents", extents.len() == 1 && extents[0].offset + extents[0].bytes == 1 << 50)?;
        let is_over = std::cell::Cell::new(false);
        let reads = async {
            let reads = (0..64u64).map(|read| pool.read("sparse", read * 4096, max as u64));
            for read in join_all(reads).await {
                let read = read.map_err(wrong)?;
                same("zeros", read.len() == max && read.iter().all(|byte| *byte == 0))?;
            }
            is_over.set(true);
            Ok::<_, Broken>(())
        };
        let watch = async {
            let mut most = 0;
            while !is_over.get() {
                most = most.max(shard.stats().memory_bytes);
                runtime.sleep(Duration::from_micros(50)).await;
            }
            most
        };
        let (read, most) = futures::future::join(reads, watch).await;
        read?;
        same("memory within the budget", most <= budget && most >= max as u64)?;
        let mut read = pool.open_read("sparse").await.map_err(wrong)?;
        for _ in 0..3 {
            let chunk = read.next_chunk().await.map_err(wrong)?.unwrap_or_default();
            same("a chunk of zeros", chunk.len() == 1 << 20 && chunk.iter().all(|byte| *byte == 0))?;
        }
        same("the last byte", read.read_at(last, 5).await == Ok(Bytes::from_static(b"x")))?;
        let version = read.version();
        let others =
            [pool.open_read("sparse").await.map_err(wrong)?, pool.open_read("sparse").await.map_err(wrong)?];
        same("one version", others.iter().all(|other| other.version() == version))?;
        let refused = pool.open_read("sparse").await;
        same("too many handles", matches!(refused, Err(Error::TooManyHandles { max: 3 })))?;
        drop(others);
        pool.put("sparse", vec![1; 10]).await.map_err(wrong)?;
        same("the old version", read.read_at(0, 3).await == Ok(Bytes::from_static(&[0; 3])))?;
        same("a later version", pool.open_read("sparse").await.map_err(wrong)?.version() > version)?;
        runtime.sleep(Duration::from_secs(11)).await;
        same("expired", read.read_at(0, 3).await == Err(Error::Expired))?;
        same("still expired", read.next_chunk().await == Err(Error::Expired))
    })
}

/// Names of a page's objects, and what was damaged.
type Names = (BTreeSet<ObjectId>, Vec<(Bytes, Option<Bytes>)>);

/// All objects that a listing of an image gives, in pages of odd sizes.
fn listed(seed: u64, image: &DiskImage, page: usize) -> Result<Names, Broken> {
    let plan = plan_of(seed);
    let sim_options = SimOptions { steps_max: 50_000_000, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, image, sim_options);
    let machine = sim.machine();
    let run = async {
        let options = ShardOptions { access: seabed::Access::ReadOnly, ..shard_options(&plan) };
        let shard = Shard::mount(machine.clone(), superblock(seed, &plan), ShardId(0), options).await;
        let store = LocalStore::new(shard.map_err(wrong)?);
        let pool = store.pool("pool").await.map_err(wrong)?;
        let (mut names, mut damaged, mut from) = (BTreeSet::new(), Vec::new(), None);
        loop {
            let listed = pool.list_page(from, page).await.map_err(wrong)?;
            if listed.objects.len() > page {
                return Err(broken(Rule::Wrong, "a page that is too long"));
            }
            for id in listed.objects {
                if !names.insert(id) {
                    return Err(broken(Rule::Wrong, "an object was listed twice"));
                }
            }
            damaged.extend(listed.damaged.into_iter().map(|damaged| (damaged.from, damaged.to)));
            from = listed.next;
            if from.is_none() {
                return Ok((names, damaged));
            }
        }
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// Where images of nodes of names lie, as the records of a store that was closed list them.
fn images_of_names(seed: u64, image: &DiskImage) -> Vec<Paddr> {
    let superblock = superblock(seed, &plan_of(seed));
    let (identity, layout) = (superblock.identity, superblock.layout);
    let segment_bytes = u64::from(layout.segment_bytes);
    let mut found = Vec::new();
    for at in image.blocks().into_keys() {
        let segment = SegmentId(u32::try_from(at / segment_bytes).expect("few segments"));
        let place = Paddr::new(segment, u32::try_from(at % segment_bytes).expect("within a segment"));
        let Ok(header) = RecordHeader::decode(&image.read(at, BLOCK_BYTES), &identity, &layout, place) else {
            continue;
        };
        if header.place.stream != StreamKind::Nodes {
            continue;
        }
        let record = image.read(at, header.record_bytes as usize);
        let entries = entries_of(&header, &record).unwrap_or_default();
        let mut cursor = Cursor::new(&entries);
        while cursor.left() > 0 {
            let Ok(listed) = Listed::decode(&mut cursor) else { break };
            // The store's own pool says which pools there are.
            if matches!(listed.what, ListedWhat::Image { pool, tree: TreeKind::Names, .. } if pool != PoolId(0))
            {
                found.push(Paddr::new(segment, listed.offset));
            }
        }
    }
    found
}

/// Nodes of the names tree rot, one by one and several at once. A listing gives every object but those in the intervals that it
/// reports, each once. How many images were live, and how many objects were missing.
pub fn past_damage(seed: u64) -> Result<[usize; 2], Broken> {
    const OBJECTS: u32 = 1300;
    let plan = plan_of(seed);
    let base = formatted(seed, &plan)?;
    let sim_options = SimOptions { steps_max: 50_000_000, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, sim_options);
    let machine = sim.machine();
    let run = async {
        let options = ShardOptions { memory_bytes: 256 << 10, ..shard_options(&plan) };
        let shard = Shard::mount(machine.clone(), superblock(seed, &plan), ShardId(0), options).await;
        let shard = shard.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).pool_or_create("pool").await.map_err(wrong)?;
        for number in 0..OBJECTS {
            let value = stamped(u64::from(number), 300);
            pool.put(format!("object {number}"), value).await.map_err(wrong)?;
        }
        shard.close().await.map_err(wrong)
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))??;
    let trace = sim.finish();
    let mut rng = fastrand::Rng::with_seed(seed);
    let image = trace.crash_image(trace.events(), CrashMode::Durable, &mut rng);
    let (all, damaged) = listed(seed, &image, 100)?;
    if all.len() != OBJECTS as usize || !damaged.is_empty() {
        return Err(broken(Rule::Wrong, format!("{} objects, {damaged:?}", all.len())));
    }
    let layout = superblock(seed, &plan).layout;
    let places = images_of_names(seed, &image);
    let mut counts = [0; 2];
    for round in 0..30 {
        let mut rotten = image.clone();
        for _ in 0..=round % 4 {
            let place = places[rng.usize(..places.len())];
            rotten.flip(layout.device_offset(place) + rng.u64(..4096), rng.u8(..8));
        }
        let (names, damaged) = listed(seed, &rotten, rng.usize(1..300))?;
        counts[0] += damaged.len();
        for missing in all.difference(&names) {
            let missing_key = key::names(missing);
            let is_in = |(from, to): &(Bytes, Option<Bytes>)| {
                from[..] <= missing_key[..] && to.as_ref().is_none_or(|to| missing_key[..] < to[..])
            };
            if !damaged.iter().any(is_in) {
                return Err(broken(Rule::Wrong, format!("{missing:?} is missing without a word")));
            }
            counts[1] += 1;
        }
        if names.difference(&all).next().is_some() {
            return Err(broken(Rule::Wrong, "an object that never was"));
        }
    }
    Ok(counts)
}
