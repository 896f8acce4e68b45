//! Overwrite: durable random writes of 4 KiB in a closed loop: each client has one, and starts the next when it is
//! acknowledged.
//!
//! Objects of 4 MiB are written first, in order, or block by block in random order: then hardly two of them lie side by side,
//! as after long use, and the rows that find them are as long as they get. Then each client picks a block of all objects,
//! uniformly, and overwrites it with bytes that do not compress and that say which block they are of and which write of it
//! they are (`stamp`). At the end every block is read: it must hold the last write that was acknowledged, or a later one that was begun.
//!
//! Example: 4 GiB are 1,024 objects and 2^20 blocks; at 100,000 writes a second and 20 seconds each is overwritten about
//! twice.
//!
//! Cost: 8 bytes of memory per block, 16 while they are written in random order. A write costs the client about 0.5 us of CPU
//! time, for its bytes.

mod report;
mod stamp;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::{join_all, try_join_all};
use seabed::{Error, LocalPool, LocalStore, ObjectId, Result, Store, Transaction};

use crate::machine;
use report::Recorder;
pub use report::{Ending, Latency, Report, Verified};
use stamp::{Noise, Stamp};

/// Bytes of a write.
pub const BLOCK_BYTES: u64 = 4096;
/// Bytes of an object.
pub const OBJECT_BYTES: u64 = 4 << 20;
/// The pool that is used.
pub const POOL: &str = "seabed-bench";

const BLOCKS_PER_OBJECT: u64 = OBJECT_BYTES / BLOCK_BYTES;
/// Objects that are written, read or removed at the same time: 16 MiB.
const OBJECTS_AT_ONCE: usize = 4;
/// Clients that write the blocks first, where that is in random order.
const SCATTERERS: u64 = 64;
/// A wish to end is looked at each so many writes of a client.
const LOOK_EVERY: u64 = 64;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes of all objects, rounded down to whole objects.
    pub data_bytes: u64,
    /// Clients.
    pub depth: u32,
    /// How long to measure.
    pub time: Duration,
    /// Whether the blocks are first written one by one in random order.
    pub is_scattered: bool,
    /// Whether the objects stay.
    pub keeps: bool,
}

/// Runs the workload. `is_over` may ask it to end early, `say` is told what it does.
///
/// Errors: any of the store's but that space runs out while it measures, which ends the measurement and is in the report.
pub fn run(
    store: &Store,
    options: Options,
    is_over: impl Fn() -> bool + Send + 'static,
    say: impl Fn(&'static str) + Send + 'static,
) -> Result<Report> {
    assert!(options.data_bytes >= OBJECT_BYTES, "there is an object");
    block_on(store.pool_or_create(POOL))?;
    block_on(store.run_on_shard(move |local| Box::pin(on_shard(local, options, is_over, say))))?
}

async fn on_shard(
    store: LocalStore,
    options: Options,
    is_over: impl Fn() -> bool,
    say: impl Fn(&'static str),
) -> Result<Report> {
    let objects = options.data_bytes / OBJECT_BYTES;
    let workload = Workload {
        pool: store.pool(POOL).await?,
        noise: Noise::new(),
        names: (0..objects).map(|object| ObjectId::new(format!("overwrite-{object:08}"))).collect(),
        blocks: RefCell::new(vec![Writes::default(); blocks_of(objects)]),
    };
    say("writing the objects");
    let fill_start = Instant::now();
    let is_written = if options.is_scattered {
        workload.scatter(&is_over).await?
    } else {
        workload.fill(objects, &is_over).await?
    };
    workload.blocks.borrow_mut().fill(Writes { begun: 1, acknowledged: 1 });
    let fill_time = fill_start.elapsed();

    say("measuring");
    let (stats, kernel, cpu) = (store.stats(), machine::written_bytes(), machine::cpu_time());
    let recorder = Rc::new(RefCell::new(Recorder::new()));
    let wanted = machine::Wanted::now();
    let start = Instant::now();
    let until = start + options.time;
    let clients = (0..if is_written { options.depth } else { 0 })
        .map(|number| workload.client(number, until, &is_over, Rc::clone(&recorder)));
    let outcomes = join_all(clients).await;
    let time = start.elapsed();
    let cpu_time = machine::cpu_time().saturating_sub(cpu);
    let stolen = wanted.stolen_since();
    let kernel_bytes =
        kernel.zip(machine::written_bytes()).map(|(before, after)| after.saturating_sub(before));
    let stats_after = store.stats();
    let mut ending = if is_written { Ending::Time } else { Ending::Interrupted };
    for outcome in outcomes {
        match outcome? {
            // Of two reasons to end early the more urgent one is told.
            Ending::NoSpace => ending = Ending::NoSpace,
            Ending::Interrupted if ending == Ending::Time => ending = Ending::Interrupted,
            Ending::Interrupted | Ending::Time => {}
        }
    }

    let mut verified = Verified::default();
    if is_written {
        say("verifying");
        verified = workload.verify(objects).await?;
    }
    if !options.keeps {
        workload.remove(objects).await?;
    }
    let recorder = recorder.borrow();
    Ok(Report {
        data_bytes: objects * OBJECT_BYTES,
        fill_time,
        time,
        operations: recorder.operations(),
        latency: recorder.latency(),
        cpu_time,
        stolen,
        device_bytes: stats_after.device_bytes_written - stats.device_bytes_written,
        journal_bytes: stats_after.journal_bytes_written - stats.journal_bytes_written,
        node_bytes: stats_after.node_bytes_written - stats.node_bytes_written,
        kernel_bytes,
        ending,
        verified,
    })
}

/// How often a block was written: begun, and acknowledged.
#[derive(Clone, Copy, Default)]
struct Writes {
    begun: u32,
    acknowledged: u32,
}

struct Workload {
    pool: LocalPool,
    noise: Noise,
    names: Vec<ObjectId>,
    blocks: RefCell<Vec<Writes>>,
}

impl Workload {
    /// Writes all objects once, in order. False: it was asked to end before.
    async fn fill(&self, objects: u64, is_over: &impl Fn() -> bool) -> Result<bool> {
        for group in groups(objects) {
            if is_over() {
                return Ok(false);
            }
            try_join_all(group.map(|object| async move {
                let mut data = Vec::with_capacity(usize::try_from(OBJECT_BYTES).expect("4 MiB"));
                for block in object * BLOCKS_PER_OBJECT..(object + 1) * BLOCKS_PER_OBJECT {
                    self.noise.append(Stamp { block, write: 1 }, &mut data);
                }
                self.pool.put(self.name(object), data).await
            }))
            .await?;
        }
        Ok(true)
    }

    /// Writes all blocks once, in random order. False: it was asked to end before.
    async fn scatter(&self, is_over: &impl Fn() -> bool) -> Result<bool> {
        let mut blocks: Vec<u64> = (0..).take(self.blocks.borrow().len()).collect();
        fastrand::Rng::with_seed(0).shuffle(&mut blocks);
        let left = RefCell::new(blocks);
        let scatterers = (0..SCATTERERS).map(|_| async {
            for rounds in 1.. {
                let Some(block) = left.borrow_mut().pop() else { break };
                self.pool.submit(self.write_of(Stamp { block, write: 1 })).await?;
                if rounds % LOOK_EVERY == 0 && is_over() {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        try_join_all(scatterers).await.map(|ends| ends.into_iter().all(|is_written| is_written))
    }

    /// The transaction that writes a block.
    fn write_of(&self, stamp: Stamp) -> Transaction {
        let mut data = Vec::with_capacity(usize::try_from(BLOCK_BYTES).expect("4 KiB"));
        self.noise.append(stamp, &mut data);
        let mut txn = Transaction::new();
        let offset = stamp.block % BLOCKS_PER_OBJECT * BLOCK_BYTES;
        txn.write(self.name(stamp.block / BLOCKS_PER_OBJECT), offset, data);
        txn
    }

    async fn client(
        &self,
        number: u32,
        until: Instant,
        is_over: &impl Fn() -> bool,
        recorder: Rc<RefCell<Recorder>>,
    ) -> Result<Ending> {
        let mut rng = fastrand::Rng::with_seed(u64::from(number));
        let blocks = self.blocks.borrow().len();
        let mut rounds = 0;
        loop {
            let start = Instant::now();
            if start >= until {
                return Ok(Ending::Time);
            }
            rounds += 1;
            if rounds % LOOK_EVERY == 0 && is_over() {
                return Ok(Ending::Interrupted);
            }
            let block = rng.usize(..blocks);
            let write = self.begin(block);
            let txn = self.write_of(Stamp { block: block as u64, write });
            match self.pool.submit(txn).await {
                Ok(()) => {}
                Err(Error::NoSpace { .. }) => return Ok(Ending::NoSpace),
                Err(error) => return Err(error),
            }
            self.acknowledge(block, write);
            recorder.borrow_mut().record(start.elapsed());
        }
    }

    fn name(&self, object: u64) -> &ObjectId {
        &self.names[index(object)]
    }

    fn begin(&self, block: usize) -> u32 {
        let writes = &mut self.blocks.borrow_mut()[block];
        writes.begun += 1;
        writes.begun
    }

    /// Two clients may have writes of one block in flight; the engine keeps the order in which they were begun.
    fn acknowledge(&self, block: usize, write: u32) {
        let writes = &mut self.blocks.borrow_mut()[block];
        writes.acknowledged = writes.acknowledged.max(write);
    }

    async fn verify(&self, objects: u64) -> Result<Verified> {
        let mut verified = Verified::default();
        for group in groups(objects) {
            let reads = group.clone().map(|object| self.pool.read(self.name(object), 0, OBJECT_BYTES));
            for (object, data) in group.zip(try_join_all(reads).await?) {
                verified.blocks += BLOCKS_PER_OBJECT;
                verified.wrong += self.wrong_blocks(object, &data);
            }
        }
        Ok(verified)
    }

    fn wrong_blocks(&self, object: u64, data: &[u8]) -> u64 {
        let blocks = self.blocks.borrow();
        let block_bytes = usize::try_from(BLOCK_BYTES).expect("4 KiB");
        let first = object * BLOCKS_PER_OBJECT;
        let of_object = &blocks[index(first)..index(first + BLOCKS_PER_OBJECT)];
        let mut right = 0;
        for ((block, writes), bytes) in (first..).zip(of_object).zip(data.chunks_exact(block_bytes)) {
            let is_right = self
                .noise
                .write_of(block, bytes)
                .is_some_and(|write| (writes.acknowledged..=writes.begun).contains(&write));
            right += u64::from(is_right);
        }
        BLOCKS_PER_OBJECT - right
    }

    async fn remove(&self, objects: u64) -> Result<()> {
        for group in groups(objects) {
            try_join_all(group.map(|object| async move {
                match self.pool.remove(self.name(object)).await {
                    // Nobody had got round to writing it.
                    Err(Error::NotFound) => Ok(()),
                    removed => removed,
                }
            }))
            .await?;
        }
        Ok(())
    }
}

fn blocks_of(objects: u64) -> usize {
    index(objects * BLOCKS_PER_OBJECT)
}

fn index(block: u64) -> usize {
    usize::try_from(block).expect("an index of blocks fits the memory that counts them")
}

/// The objects, a few at a time.
fn groups(objects: u64) -> impl Iterator<Item = Range<u64>> {
    (0..objects).step_by(OBJECTS_AT_ONCE).map(move |first| first..objects.min(first + OBJECTS_AT_ONCE as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_all_objects_once() {
        for objects in [0, 1, 3, 4, 5, 9] {
            assert!(groups(objects).flatten().eq(0..objects), "{objects}");
        }
    }
}
