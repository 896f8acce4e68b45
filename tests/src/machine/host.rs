//! The host: "threads" that are tasks of one simulation, for code that starts its shards through [`Host`].
//!
//! A host may be sent anywhere, as the trait asks, but works only on its simulation's own thread, where a thread-local
//! table leads from its key to the simulation. Each started thread is one task with a handle of the disk of its own,
//! quiesced at its end. [`Join`] runs the simulation until all have ended when it is called from outside of a run;
//! within a run it cannot wait, so the threads must have been told to end and been given time before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use futures::channel::oneshot;
use futures::future::join_all;
use seabed_device::{Geometry, Host, Join, Main, OpenError};

use super::disk::Disk;
use super::executor::Executor;
use super::{Simulation, new_machine};

#[derive(Clone)]
struct Parts {
    executor: Rc<Executor>,
    disk: Rc<Disk>,
    handles: Rc<Cell<u32>>,
}

thread_local! {
    static SIMULATIONS: RefCell<(u64, BTreeMap<u64, Parts>)> = const { RefCell::new((0, BTreeMap::new())) };
}

/// Makes a simulation known to hosts on this thread, until it is dropped.
pub(super) fn register(simulation: &Simulation) -> u64 {
    let (executor, disk) = (Rc::clone(&simulation.executor), Rc::clone(&simulation.disk));
    let parts = Parts { executor, disk, handles: Rc::clone(&simulation.handles) };
    SIMULATIONS.with_borrow_mut(|(last, simulations)| {
        *last += 1;
        simulations.insert(*last, parts);
        *last
    })
}

pub(super) fn unregister(key: u64) {
    let parts = SIMULATIONS.with_borrow_mut(|(_, simulations)| simulations.remove(&key));
    drop(parts);
}

fn parts_of(key: u64) -> Parts {
    let parts = SIMULATIONS.with_borrow(|(_, simulations)| simulations.get(&key).cloned());
    parts.expect("a simulated host works on the thread of its simulation, while that lives")
}

/// See the module.
#[derive(Clone)]
pub struct SimHost {
    key: u64,
    geometry: Geometry,
}

impl SimHost {
    pub(super) fn new(key: u64, geometry: Geometry) -> Self {
        Self { key, geometry }
    }
}

impl Host for SimHost {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn start(&self, threads: usize, main: Main) -> Result<Join, OpenError> {
        let key = self.key;
        let Parts { executor, disk, handles } = parts_of(key);
        let mut ends = Vec::new();
        for _ in 0..threads {
            let machine = new_machine(&executor, &disk, &handles);
            let main = Arc::clone(&main);
            let (sender, receiver) = oneshot::channel();
            ends.push(receiver);
            executor.spawn(Box::pin(async move {
                main(machine.clone()).await;
                machine.device.quiesce().await;
                // Nobody has to join.
                let _ = sender.send(());
            }));
        }
        Ok(Box::new(move || {
            ends.retain_mut(|end| end.try_recv() == Ok(None));
            if !ends.is_empty() {
                let executor = parts_of(key).executor;
                assert!(!executor.is_running(), "joined within a run before the threads had ended");
                executor.run(join_all(ends)).expect("the threads were told to end");
            }
            Ok(())
        }))
    }
}
