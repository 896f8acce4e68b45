//! Shown: nothing is told before it is durable (rule L6), asked in every way there is.
//!
//! The record of one transaction is held up by the disk while every question about what it did is asked: none may be
//! answered before the record is durable, whether the answer is that something is there or that nothing is.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use seabed::{Condition, Direction, Error, LocalPool, LocalStore, Shard, Transaction};
use seabed_device::IoKind;
use seabed_object::ObjectId;
use seabed_types::ShardId;

use super::program::Plan;
use super::run::{formatted, shard_options, sim_options, superblock};
use super::{Broken, Rule, broken};
use crate::machine::{Effect, Fault, Faults, SimOptions, Simulation, TaskOrder};

const STALL: Duration = Duration::from_millis(300);
const QUESTIONS: usize = 14;

/// What the transaction whose record is held up does with the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Makes it; the first object of the pool.
    Make,
    /// Changes all of it.
    Overwrite,
    /// Removes it; the last object of the pool.
    Remove,
}

/// One question about an object, with its answer as text.
async fn ask(which: usize, pool: &LocalPool, object: &ObjectId) -> (&'static str, String) {
    let object = object.clone();
    match which {
        0 => ("exists", format!("{:?}", pool.exists(object).await)),
        1 => ("stat", format!("{:?}", pool.stat(object).await)),
        2 => ("get", format!("{:?}", pool.get(object).await)),
        3 => ("read", format!("{:?}", pool.read(object, 3, 9).await)),
        4 => ("attribute", format!("{:?}", pool.attr(object, b"name").await)),
        5 => ("attributes", format!("{:?}", pool.attrs(object).await)),
        6 => ("omap header", format!("{:?}", pool.omap_header(object).await)),
        7 => ("omap keys", format!("{:?}", pool.omap_get(object, &[b"key".to_vec()]).await)),
        8 => {
            let page = pool.omap_range(object, (b"", None), 9, Direction::Forward).await;
            ("omap range", format!("{page:?}"))
        }
        9 => ("listing", format!("{:?}", pool.list_page(None, 9).await)),
        10 => ("extents", format!("{:?}", pool.extents(object, 0, 1 << 20).await)),
        11 => ("allocated", format!("{:?}", pool.allocated(object).await)),
        12 => {
            let mut both = Transaction::new();
            both.expect(&object, Condition::Exists).expect(&object, Condition::Absent);
            ("a refusal", format!("{:?}", pool.submit(both).await))
        }
        _ => {
            let mut nothing = Transaction::new();
            nothing.omap_remove(&object, [Bytes::from_static(b"no such key")]);
            ("a transaction that changes nothing", format!("{:?}", pool.submit(nothing).await))
        }
    }
}

fn of_all(object: &ObjectId, byte: u8) -> Transaction {
    let mut transaction = Transaction::new();
    transaction
        .write(object, 0, vec![byte; 1200 * usize::from(byte)])
        .set_attr(object, b"name", [byte; 300])
        .omap_set_header(object, [byte; 10])
        .omap_insert(object, [(&b"key"[..], &[byte; 300][..])]);
    transaction
}

/// How many questions waited until what they saw was durable.
pub fn waits_until_durable(seed: u64, change: Change) -> Result<usize, Broken> {
    let plan = Plan { memory_bytes: 8 << 20, bulk_bytes: 128 << 10, ..Plan::of(seed) };
    let base = formatted(seed, &plan)?;
    let options = SimOptions { order: TaskOrder::Fifo, ..sim_options(&plan, Faults::none()) };
    let sim = Simulation::from_image(seed, &base, options);
    let (machine, superblock) = (sim.machine(), superblock(seed, &plan));
    let wrong = |error: Error| broken(Rule::Wrong, error);
    let run = async {
        let shard = Shard::mount(machine.clone(), superblock, ShardId(0), shard_options(&plan)).await;
        let store = LocalStore::new(Rc::clone(&shard.map_err(wrong)?));
        let pool = store.create_pool("pool").await.map_err(wrong)?;
        let object = ObjectId::new("object");
        if change != Change::Make {
            pool.submit(of_all(&object, 1)).await.map_err(wrong)?;
        }
        machine.runtime.sleep(Duration::from_millis(100)).await;
        let before = (pool.usage(), store.usage());
        sim.with_faults(|faults| faults.plan(Fault::on(IoKind::Write, Effect::Stall { time: STALL })));
        let mut transaction = of_all(&object, 2);
        if change == Change::Remove {
            transaction = Transaction::new();
            transaction.remove(&object);
        }
        let done = Rc::new(Cell::new(false));
        let (submitted, is_done) = (pool.submit(transaction), Rc::clone(&done));
        machine.runtime.spawn(
            seabed_device::Class::Foreground,
            Box::pin(async move { is_done.set(submitted.await.is_ok()) }),
        );
        machine.runtime.sleep(Duration::from_millis(1)).await;
        let asked = machine.runtime.now();
        let answers = join_all((0..QUESTIONS).map(|which| {
            let (pool, object, runtime) = (&pool, &object, &machine.runtime);
            async move { (ask(which, pool, object).await, runtime.now()) }
        }));
        let usage = async {
            machine.runtime.sleep(Duration::from_millis(1)).await;
            (pool.usage(), store.usage())
        };
        let (answers, usage) = futures::join!(answers, usage);
        if usage != before {
            return Err(broken(Rule::Retracted, "usage counts what is not durable"));
        }
        for ((what, answer), when) in &answers {
            if when.saturating_sub(asked) < STALL.saturating_sub(Duration::from_millis(20)) {
                let what = format!("{change:?}: {what} was answered before it was durable: {answer}");
                return Err(broken(Rule::Retracted, what));
            }
        }
        if !done.get() || pool.usage() == before.0 {
            return Err(broken(Rule::Wrong, "the transaction did not end"));
        }
        Ok(answers.len())
    };
    sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?
}
