//! Transaction: what the engine itself costs, from submission to acknowledgement, on a device that is memory.
//!
//! A round is 64 transactions at once, as of 64 clients; all of plan, check, apply, pending changes, record, commit and
//! acknowledgement, and nothing of a real device. The store is made anew for each benchmark and large enough for its
//! rounds.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures::executor::{LocalPool as Executor, LocalSpawner};
use futures::future::join_all;
use futures::task::LocalSpawnExt;
use seabed::device::memory::MemoryDevice;
use seabed::device::{Class, Local, Machine, Runtime};
use seabed::types::{ShardId, Uuid};
use seabed::{
    Identity, Layout, LocalPool, LocalStore, ObjectId, Shard, ShardOptions, Superblock, Transaction,
    format_device,
};

const STORE_BYTES: u64 = 512 << 20;
const CLIENTS: u64 = 64;
/// Objects of 1 MiB.
const OBJECTS: u64 = 16;
const OBJECT_BYTES: u64 = 1 << 20;
const SMALL_OBJECTS: u64 = 16_384;
/// Rounds are few, so that the store is not filled: 100 * 64 transactions.
const ROUNDS: u32 = 100;

fn main() {
    divan::main();
}

/// Lets the other tasks run.
async fn turn() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if has_yielded {
            return std::task::Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

fn place(at: u64) -> usize {
    usize::try_from(at).expect("the device is memory")
}

/// Zeros that stand in memory: a page that is there only when it is first written would be counted as work of the engine.
fn touched(bytes: usize) -> Vec<u8> {
    let mut bytes = std::hint::black_box(vec![1; bytes]);
    bytes.fill(0);
    bytes
}

struct Thread {
    start: Instant,
    spawner: LocalSpawner,
}

impl Runtime for Thread {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) -> Local<()> {
        let until = Instant::now() + time;
        Box::pin(async move {
            while Instant::now() < until {
                turn().await;
            }
        })
    }

    fn yield_io(&self) -> Local<()> {
        Box::pin(turn())
    }

    fn yield_now(&self) -> Local<()> {
        Box::pin(turn())
    }

    fn spawn(&self, _: Class, task: Local<()>) {
        self.spawner.spawn_local(task).expect("the executor runs");
    }
}

/// A store in memory with objects in it.
struct World {
    executor: Executor,
    pool: LocalPool,
}

impl World {
    fn new() -> Self {
        let mut executor = Executor::new();
        let machine = Machine {
            device: MemoryDevice::new(touched(place(STORE_BYTES))),
            runtime: Rc::new(Thread { start: Instant::now(), spawner: executor.spawner() }),
        };
        let layout =
            Layout { device_bytes: STORE_BYTES, segment_bytes: 1 << 20, node_bytes: 16 << 10, shards: 1 };
        let identity = Identity { uuid: Uuid([1; 16]), secret: [2; 16] };
        let superblock = Superblock::new(identity, layout, 64 << 20);
        let pool = executor.run_until(async {
            format_device(&machine, &superblock).await.expect("formatted");
            let shard = Shard::mount(machine, superblock, ShardId(0), ShardOptions::default()).await;
            let pool = LocalStore::new(shard.expect("mounted")).create_pool("bench").await.expect("made");
            for number in 0..OBJECTS {
                pool.put(object(number), vec![7; place(OBJECT_BYTES)]).await.expect("put");
            }
            pool
        });
        Self { executor, pool }
    }

    /// Submits a round of transactions and waits for all of them.
    fn round(&mut self, transactions: Vec<Transaction>) {
        let submitted = transactions.into_iter().map(|transaction| self.pool.submit(transaction));
        let submitted: Vec<_> = submitted.collect();
        for outcome in self.executor.run_until(join_all(submitted)) {
            outcome.expect("there is room");
        }
    }
}

fn object(number: u64) -> ObjectId {
    ObjectId::new(format!("object-{number}"))
}

/// A round of transactions, one made by `fill` for each client.
fn rounds(fill: impl Fn(&mut Transaction, &mut fastrand::Rng)) -> impl FnMut() -> Vec<Transaction> {
    let mut rng = fastrand::Rng::with_seed(1);
    move || {
        let transaction = |_| {
            let mut transaction = Transaction::new();
            fill(&mut transaction, &mut rng);
            transaction
        };
        (0..CLIENTS).map(transaction).collect()
    }
}

#[divan::bench(sample_count = ROUNDS, sample_size = 1)]
fn overwrite_4k(bencher: Bencher<'_, '_>) {
    let data = Bytes::from(vec![0x5e; 4096]);
    let mut world = World::new();
    let inputs = rounds(|transaction, rng| {
        let offset = rng.u64(..OBJECT_BYTES / 4096) * 4096;
        transaction.write(&object(rng.u64(..OBJECTS)), offset, data.clone());
    });
    bencher
        .counter(ItemsCount::new(CLIENTS))
        .with_inputs(inputs)
        .bench_local_values(|transactions| world.round(transactions));
}

#[divan::bench(sample_count = ROUNDS, sample_size = 1)]
fn put_1k(bencher: Bencher<'_, '_>) {
    let data = Bytes::from(vec![0x5e; 1024]);
    let mut world = World::new();
    let small = |number: u64| ObjectId::new(format!("small-{number}"));
    let put = |number: u64, data: &Bytes| {
        let mut transaction = Transaction::new();
        transaction.put::<&[u8], &[u8]>(&small(number), data.clone(), []);
        transaction
    };
    for first in (0..SMALL_OBJECTS).step_by(64) {
        world.round((first..first + 64).map(|number| put(number, &data)).collect());
    }
    let inputs = rounds(|transaction, rng| *transaction = put(rng.u64(..SMALL_OBJECTS), &data));
    bencher
        .counter(ItemsCount::new(CLIENTS))
        .with_inputs(inputs)
        .bench_local_values(|transactions| world.round(transactions));
}

/// As `seabed bench --workload=replicated` has it: data, two attributes, three omap inserts and the removal of a range.
#[divan::bench(sample_count = ROUNDS, sample_size = 1)]
fn replicated(bencher: Bencher<'_, '_>) {
    let bytes = |length: usize| Bytes::from(vec![0x5e; length]);
    let (data, description, snapshots) = (bytes(4096), bytes(250), bytes(35));
    let (entry, summary, applied) = (bytes(180), bytes(186), bytes(16));
    let mut world = World::new();
    let log = ObjectId::new("log");
    let mut version = 1000;
    let key = |version: u64| Bytes::from(format!("{version:020}"));
    for version in 0..1000 {
        let mut transaction = Transaction::new();
        world.round(vec![{
            transaction.touch(&log).omap_insert(&log, [(key(version), entry.clone())]);
            transaction
        }]);
    }
    let mut rng = fastrand::Rng::with_seed(1);
    let inputs = move || {
        let transaction = |_| {
            let object = object(rng.u64(..OBJECTS));
            version += 1;
            let mut transaction = Transaction::new();
            transaction
                .write(&object, rng.u64(..OBJECT_BYTES / 4096) * 4096, data.clone())
                .set_attr(&object, "_", description.clone())
                .set_attr(&object, "snapset", snapshots.clone())
                .omap_insert(
                    &log,
                    [
                        (key(version), entry.clone()),
                        (Bytes::from_static(b"_info"), summary.clone()),
                        (Bytes::from_static(b"_fastinfo"), applied.clone()),
                    ],
                )
                .omap_remove_range(&log, key(version - 1001), key(version - 1000));
            transaction
        };
        (0..CLIENTS).map(transaction).collect()
    };
    bencher
        .counter(ItemsCount::new(CLIENTS))
        .with_inputs(inputs)
        .bench_local_values(|transactions: Vec<Transaction>| world.round(transactions));
}

#[divan::bench(sample_count = ROUNDS, sample_size = 1)]
fn omap_insert(bencher: Bencher<'_, '_>) {
    let value = Bytes::from(vec![0x5e; 100]);
    let mut world = World::new();
    let inputs = rounds(|transaction, rng| {
        let key = rng.u64(..).to_be_bytes().to_vec();
        transaction.omap_insert(&object(rng.u64(..OBJECTS)), [(Bytes::from(key), value.clone())]);
    });
    bencher
        .counter(ItemsCount::new(CLIENTS))
        .with_inputs(inputs)
        .bench_local_values(|transactions| world.round(transactions));
}

#[divan::bench(sample_count = ROUNDS)]
fn read_4k(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let mut rng = fastrand::Rng::with_seed(1);
    bencher
        .with_inputs(|| (object(rng.u64(..OBJECTS)), rng.u64(..OBJECT_BYTES / 4096) * 4096))
        .bench_local_values(|(object, offset)| {
            let read = world.pool.read(object, offset, 4096);
            world.executor.run_until(read).expect("there")
        });
}
