//! Large: the largest requests, and many streaming puts, beside a small budget of memory.
//!
//! The simulator ends a run in which a request holds the thread ([`crate::machine::WORK_MAX`]), so these are also its tests.

use std::rc::Rc;

use bytes::Bytes;
use futures::future::join_all;
use seabed::{Condition, Error, LocalPool, LocalStore, Refused, Shard, ShardOptions, Transaction};
use seabed_object::ObjectId;
use seabed_types::ShardId;

use crate::crash::program::{Plan, stamped};
use crate::crash::run::{formatted, shard_options, sim_options, superblock};
use crate::crash::suite::findings;
use crate::crash::{Broken, Rule, broken};
use crate::machine::{CrashMode, Faults, SimOptions, Simulation};

const MIB: usize = 1 << 20;
/// The budget of all of them.
const MEMORY_BYTES: usize = 16 * MIB;

fn plan(seed: u64) -> Plan {
    Plan {
        disk_bytes: 256 << 20,
        segment_bytes: 4 << 20,
        node_bytes: 16 << 10,
        window_segments: 8,
        memory_bytes: MEMORY_BYTES,
        bulk_bytes: 128 << 10,
        lay_bytes: 4 * MIB,
        ..Plan::of(seed)
    }
}

fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

/// Whether an object has these bytes; read in slices, which are no large requests.
async fn has(pool: &LocalPool, object: &ObjectId, expected: &[u8]) -> Result<(), Broken> {
    let size = pool.stat(object.clone()).await.map_err(wrong)?.size;
    if size != expected.len() as u64 {
        return Err(broken(Rule::Wrong, format!("{object:?}: {size} bytes, not {}", expected.len())));
    }
    for (slice, at) in expected.chunks(MIB).zip((0..).step_by(MIB)) {
        let read = pool.read(object.clone(), at, MIB as u64).await.map_err(wrong)?;
        if read != slice {
            return Err(broken(Rule::Wrong, format!("{object:?}: other bytes from {at} on")));
        }
    }
    Ok(())
}

/// Does something on a fresh store, closes it, and lets the checker look at what is left.
fn on_a_store<F: Future<Output = Result<u64, Broken>>>(
    seed: u64,
    work: impl FnOnce(LocalStore, LocalPool) -> F,
) -> Result<u64, Broken> {
    let plan = plan(seed);
    let base = formatted(seed, &plan)?;
    let options = SimOptions { steps_max: 20_000_000, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, options);
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let options: ShardOptions = shard_options(&plan);
    let run = async {
        let shard = Shard::mount(machine, superblock, ShardId(0), options).await.map_err(wrong)?;
        let store = LocalStore::new(Rc::clone(&shard));
        let pool = store.create_pool("pool").await.map_err(wrong)?;
        let done = work(store, pool).await?;
        shard.close().await.map_err(wrong)?;
        Ok(done)
    };
    let done = sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))??;
    let trace = sim.finish();
    let image = trace.crash_image(trace.events(), CrashMode::Durable, &mut fastrand::Rng::with_seed(seed));
    findings(&image).map_err(|what| broken(Rule::Check, what))?;
    Ok(done)
}

fn is_too_large(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::TooLarge { .. }))
}

/// Puts larger than the memory and than a record's rows, a transaction of many large writes, and what is rejected: each does
/// what it says, without holding the thread, and what is rejected stores nothing. Live bytes at the end.
pub fn requests(seed: u64) -> Result<u64, Broken> {
    on_a_store(seed, |store, pool| async move {
        let data = stamped(seed, 40 * MIB + 4321);
        let (large, pieces, old) = (ObjectId::new("large"), ObjectId::new("pieces"), ObjectId::new("old"));
        pool.put(old.clone(), Bytes::copy_from_slice(&data[..12 * MIB])).await.map_err(wrong)?;
        pool.put(large.clone(), Bytes::copy_from_slice(&data)).await.map_err(wrong)?;
        has(&pool, &large, &data).await?;
        // In place of an object, with attributes, beside another object, in pieces that end within chunks.
        let mut txn = Transaction::new();
        txn.expect(&pieces, Condition::Absent).remove(&large).write(&large, 0, data[..7].to_vec());
        for (piece, number) in data[..24 * MIB].chunks(MIB + 1000).zip(0_u64..) {
            txn.write(&pieces, number * (MIB as u64 + 1000), Bytes::copy_from_slice(piece));
        }
        txn.set_attr(&pieces, b"name", b"value").omap_insert(&pieces, [(b"k", vec![3; 200_000])]);
        pool.submit(txn).await.map_err(wrong)?;
        has(&pool, &pieces, &data[..24 * MIB]).await?;
        has(&pool, &large, &data[..7]).await?;
        // Into an object that exists: of the size that the limits allow.
        let overwrite = usize::try_from(store.limits().overwrite_bytes).unwrap_or(usize::MAX).min(12 * MIB);
        let mut txn = Transaction::new();
        txn.write(&old, 0, Bytes::copy_from_slice(&data[5 * MIB..5 * MIB + overwrite]));
        pool.submit(txn).await.map_err(wrong)?;
        let mut expected = data[..12 * MIB].to_vec();
        expected[..overwrite].copy_from_slice(&data[5 * MIB..5 * MIB + overwrite]);
        has(&pool, &old, &expected).await?;

        let before = store.stats().user_bytes_written + store.stats().live_bytes;
        let hole = Bytes::from(vec![1; 400 * MIB]);
        let mut txn = Transaction::new();
        txn.write(&old, 5, hole.clone());
        let rejected = pool.submit(txn).await;
        if !is_too_large(&rejected) {
            return Err(broken(Rule::Wrong, format!("400 MiB into an object that exists: {rejected:?}")));
        }
        let rejected = pool.put("too large", hole).await;
        if !matches!(rejected, Err(Error::NoSpace { .. })) {
            return Err(broken(Rule::Wrong, format!("400 MiB on a disk of 256: {rejected:?}")));
        }
        let keys = (0..200_000_u32).map(|key| (key.to_be_bytes().to_vec(), b"value"));
        let mut txn = Transaction::new();
        txn.omap_insert(&old, keys);
        let rejected = pool.submit(txn).await;
        if !is_too_large(&rejected) {
            return Err(broken(Rule::Wrong, format!("200,000 keys: {rejected:?}")));
        }
        let after = store.stats().user_bytes_written + store.stats().live_bytes;
        if after != before {
            return Err(broken(Rule::Wrong, format!("what was rejected stored {} bytes", after - before)));
        }
        Ok(store.stats().live_bytes)
    })
}

/// As many streaming puts as there may be, in turn a little of each, all within the budget; one more is rejected by name. And
/// what else happens when one is finished happens with it, or not at all. How many there were.
pub fn streams(seed: u64) -> Result<u64, Broken> {
    on_a_store(seed, |store, pool| async move {
        let max = store.limits().streams;
        let data = stamped(seed, 100_000);
        let mut streams = Vec::new();
        for number in 0..max {
            streams.push(pool.put_stream(format!("stream {number}")).map_err(wrong)?);
        }
        if !matches!(pool.put_stream("one more"), Err(Error::TooManyStreams { max: said }) if said == max) {
            return Err(broken(Rule::Wrong, "one more than the limit says"));
        }
        let streamed = |slice: &'static str, bytes: u64| {
            let most = MEMORY_BYTES as u64;
            if bytes <= most {
                Ok(())
            } else {
                Err(broken(Rule::Wrong, format!("{slice}: {bytes} of {most}")))
            }
        };
        for slice in data.chunks(10_000) {
            // In turn: whoever waits for the memory of another waits for a client that waits for it.
            for stream in &mut streams {
                stream.write(slice.to_vec()).await.map_err(wrong)?;
            }
            streamed("in turn", store.stats().memory_bytes)?;
        }
        let finished = streams.into_iter().map(|stream| stream.finish(Vec::new()));
        for finished in join_all(finished).await {
            finished.map_err(wrong)?;
        }
        for number in [0, max / 2, max - 1] {
            has(&pool, &ObjectId::new(format!("stream {number}")), &data).await?;
        }
        finished_with(&pool, &stamped(seed + 1, 300_000)).await?;
        Ok(max as u64)
    })
}

/// A streaming put that is finished with conditions and further operations.
async fn finished_with(pool: &LocalPool, data: &[u8]) -> Result<(), Broken> {
    let (object, index) = (ObjectId::new("object"), ObjectId::new("index"));
    for bytes in [data, &data[..3000]] {
        pool.put(object.clone(), vec![8; 77]).await.map_err(wrong)?;
        let mut other = Transaction::new();
        other.expect(&object, Condition::Size(77)).expect(&index, Condition::Absent);
        other.set_attr(&object, b"of", b"it").touch(&index).omap_insert(&index, [(b"object", b"here")]);
        let refused = Err(Error::Refused { op: 1, why: Refused::PreconditionFailed });
        for expected in [Ok(()), refused] {
            let mut stream = pool.put_stream(object.clone()).map_err(wrong)?;
            stream.write(bytes.to_vec()).await.map_err(wrong)?;
            let finished = stream.finish_with(vec![(b"a".to_vec(), Bytes::new())], other.clone()).await;
            if finished != expected {
                return Err(broken(Rule::Wrong, format!("{finished:?} and not {expected:?}")));
            }
            if finished.is_err() {
                continue;
            }
            has(pool, &object, bytes).await?;
            let names = pool.attrs(object.clone()).await.map_err(wrong)?.len();
            let found = pool.omap_get(index.clone(), &[b"object".to_vec()]).await.map_err(wrong)?.len();
            if (names, found) != (2, 1) {
                return Err(broken(Rule::Half, format!("{names} attributes, {found} keys")));
            }
            pool.put(object.clone(), vec![8; 77]).await.map_err(wrong)?;
        }
        // The object of before stays where a condition did not hold.
        has(pool, &object, &[8; 77]).await?;
        pool.remove(index.clone()).await.map_err(wrong)?;
    }
    Ok(())
}
