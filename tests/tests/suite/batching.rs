//! Clients that wait for their transactions share records: few of them one, many of them two that take turns, however many
//! wakes away from it they are.

use std::cell::Cell;
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::join_all;
use seabed::{LocalPool, ObjectId, Transaction};
use seabed_device::{Class, Runtime};
use seabed_tests::machine::{SimOptions, Simulation, TaskOrder};
use seabed_tests::site::new_store;

const ROUNDS: u64 = 40;
const DISK_BYTES: u64 = 64 << 20;

/// How a client reaches the shard.
#[derive(Clone, Copy, Debug)]
enum Reach {
    /// All clients are parts of one task.
    Direct,
    /// Each is a task.
    Task,
    /// Each starts a task for every request and is told by it.
    TaskPerRequest,
}

async fn write(pool: LocalPool, block: u64) {
    let mut txn = Transaction::new();
    txn.write(&ObjectId::new("object"), block % 256 * 4096, vec![1; 4096]);
    pool.submit(txn).await.expect("there is space");
}

async fn client(pool: LocalPool, runtime: Rc<dyn Runtime>, reach: Reach, number: u64) {
    for round in 0..ROUNDS {
        let write = write(pool.clone(), number * 7 + round * 31);
        if !matches!(reach, Reach::TaskPerRequest) {
            write.await;
            continue;
        }
        let (sender, told) = oneshot::channel();
        let task = async move {
            write.await;
            let _ = sender.send(());
        };
        runtime.spawn(Class::Foreground, Box::pin(task));
        told.await.expect("the task ends");
    }
}

/// How many writes the device got while all clients wrote all rounds.
fn writes_of(reach: Reach, clients: u64) -> u64 {
    let options = SimOptions { disk_bytes: DISK_BYTES, order: TaskOrder::Fifo, ..SimOptions::default() };
    let sim = Simulation::new(5, options);
    let machine = sim.machine();
    let work = async {
        let store = new_store(&machine, DISK_BYTES).await;
        let pool = store.create_pool("pool").await.expect("a new pool");
        pool.put("object", vec![0; 1 << 20]).await.expect("there is space");
        let before = store.stats().device_writes;
        let runtime = &machine.runtime;
        let left = Rc::new(Cell::new(clients));
        let clients = (0..clients).map(|number| {
            let client = client(pool.clone(), Rc::clone(runtime), reach, number);
            let (left, (sender, ended)) = (Rc::clone(&left), oneshot::channel());
            let client = async move {
                client.await;
                left.set(left.get() - 1);
                let _ = sender.send(());
            };
            async move {
                if matches!(reach, Reach::Direct) {
                    client.await;
                } else {
                    runtime.spawn(Class::Foreground, Box::pin(client));
                    ended.await.expect("the client ends");
                }
            }
        });
        join_all(clients).await;
        assert_eq!(left.get(), 0);
        let writes = store.stats().device_writes - before;
        store.shard().close().await.expect("nothing failed");
        writes
    };
    sim.run(work).expect("it comes to an end")
}

/// The commit loop gave its clients two turns before it closed a batch, and they were three wakes away: 32 clients fell into
/// three groups that took turns, with three times the records. Two groups are meant, if there are many: one is carried out
/// while the other is written.
#[test]
fn clients_share_records() {
    for reach in [Reach::Direct, Reach::Task, Reach::TaskPerRequest] {
        for (clients, groups) in [(8, 1), (32, 2)] {
            let writes = writes_of(reach, clients);
            let (least, most) = (groups * ROUNDS, groups * ROUNDS + ROUNDS / 2);
            assert!((least..most).contains(&writes), "{reach:?}, {clients} clients: {writes} writes");
        }
    }
}
