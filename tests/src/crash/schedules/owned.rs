//! Owned: data that the caller lends to the engine comes back with the answer.
//!
//! An embedder may submit buffers of a pool of its own and wait for one to come back before it submits the next. The
//! engine therefore drops what it was given before it wakes the client, without waiting for another write.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use seabed::{Error, LocalPool, LocalStore, Shard, Transaction};
use seabed_object::{Condition, ObjectId};
use seabed_types::ShardId;

use crate::crash::program::Plan;
use crate::crash::run::{formatted, shard_options, sim_options, superblock};
use crate::crash::{Broken, Rule, broken};
use crate::machine::{Faults, Simulation};

/// Less than the pause after which an idle shard logs an empty record, and more than a write takes.
const A_WHILE: Duration = Duration::from_millis(10);

fn wrong(error: Error) -> Broken {
    broken(Rule::Wrong, error)
}

/// Counts the buffers that somebody still has.
#[derive(Clone, Default)]
struct Lender(Arc<AtomicUsize>);

/// A buffer that was lent.
struct Lent(Vec<u8>, Lender);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lender {
    fn lend(&self, bytes: usize) -> Bytes {
        self.0.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Lent(vec![7; bytes], self.clone()))
    }

    /// Nobody has a buffer any more.
    fn has_all(&self, after: &str) -> Result<(), Broken> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            lent => Err(broken(Rule::Wrong, format!("after {after} {lent} buffers are still held"))),
        }
    }
}

/// The ways to hand over bytes.
const WAYS: [&str; 7] =
    ["a put", "an overwrite", "an append", "an attribute", "omap rows", "an omap header", "a refusal"];

/// A transaction that hands over `bytes` bytes.
fn transaction(lender: &Lender, way: &str, object: &ObjectId, bytes: usize) -> Transaction {
    let lend = |bytes| lender.lend(bytes);
    let value = bytes.min(2000);
    let mut txn = Transaction::new();
    match way {
        "a put" => txn.put(object, lend(bytes), [(lend(5), lend(9))]),
        "an overwrite" => txn.write(object, 100, lend(bytes)),
        "an append" => txn.append(object, lend(bytes)),
        "an attribute" => txn.set_attr(object, b"a", lend(value)),
        "omap rows" => txn.omap_insert(object, [(lend(20), lend(value)), (lend(21), lend(1))]),
        "an omap header" => txn.omap_set_header(object, lend(value)),
        _ => txn.expect(object, Condition::Absent).write(object, 0, lend(bytes)),
    };
    txn
}

/// A buffer of each size around the thresholds, by each way into the engine: when it is acknowledged nobody has it, and no
/// other write follows. The same where the client has gone, and where many are submitted at once. How many buffers were lent.
pub fn owned_data(seed: u64) -> Result<u64, Broken> {
    let plan = Plan {
        pools: 1,
        // No put waits for space, nor for the cleaner, which may take longer than a while.
        disk_bytes: 64 << 20,
        memory_bytes: 8 << 20,
        bulk_bytes: 128 << 10,
        // Data that is laid ahead takes several records, longer than a while.
        lay_bytes: 16 << 20,
        inline_bytes: 512,
        ..Plan::of(seed)
    };
    let base = formatted(seed, &plan)?;
    let sim = Simulation::from_image(seed, &base, sim_options(&plan, Faults::none()));
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let runtime = Rc::clone(&machine.runtime);
    let lender = Lender::default();
    let run = async {
        let shard =
            Shard::mount(machine, superblock, ShardId(0), shard_options(&plan)).await.map_err(wrong)?;
        let pool = LocalStore::new(Rc::clone(&shard)).pool_or_create("pool").await.map_err(wrong)?;
        let mut count = 0;
        for bytes in [1, 512, 513, 4096, 8191, 15_000, 65_537, 100_000, 126_976, 127_000, 131_072, 200_000] {
            let object = ObjectId::new(format!("object {bytes}"));
            for what in WAYS {
                match pool.submit(transaction(&lender, what, &object, bytes)).await {
                    Ok(()) | Err(Error::Refused { .. }) => {}
                    Err(error) => return Err(wrong(error)),
                }
                lender.has_all(&format!("{what} of {bytes} bytes"))?;
                count += 1;
            }
            streamed(&pool, &lender, bytes).await?;
            for what in WAYS {
                // Its future was never polled: what was submitted is carried out.
                drop(pool.submit(transaction(&lender, what, &object, bytes)));
                runtime.sleep(A_WHILE).await;
                lender.has_all(&format!("{what} of {bytes} bytes whose client has gone"))?;
            }
            let crowd = (0..20).map(|number| pool.put(format!("{number}"), lender.lend(bytes)));
            for done in join_all(crowd).await {
                done.map_err(wrong)?;
            }
            lender.has_all(&format!("20 puts of {bytes} bytes at once"))?;
        }
        shard.close().await.map_err(wrong)?;
        Ok(count)
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}

/// A streaming put of several parts.
async fn streamed(pool: &LocalPool, lender: &Lender, bytes: usize) -> Result<(), Broken> {
    let mut put = pool.put_stream("streamed").map_err(wrong)?;
    for _ in 0..5 {
        put.write(lender.lend(bytes)).await.map_err(wrong)?;
    }
    let attributes = vec![(b"name".to_vec(), lender.lend(bytes.min(2000)))];
    put.finish(attributes).await.map_err(wrong)?;
    lender.has_all(&format!("a streaming put of five times {bytes} bytes"))
}
