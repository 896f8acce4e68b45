//! Crowd: twenty clients who write as fast as they can, and the most that was seen of something meanwhile.

use std::rc::Rc;

use futures::future::join_all;
use seabed::{Error, LocalStore, Shard, Stats, Transaction};
use seabed_object::ObjectId;
use seabed_types::ShardId;

use super::program::Plan;
use super::run::{shard_options, superblock};
use super::{Broken, Rule, broken};
use crate::machine::Simulation;

const CLIENTS: u32 = 20;

/// Mounts the shard and lets each client submit `rounds` transactions to an object of its own, each of which `fill` makes of
/// its number. The most that `seen` made of the shard's counters.
pub(super) fn crowd(
    (seed, plan, sim): (u64, &Plan, &Simulation),
    rounds: u32,
    fill: impl Fn(&mut Transaction, &ObjectId, u32),
    seen: impl Fn(&Stats) -> u64,
) -> Result<u64, Broken> {
    let (machine, superblock, fill, seen) = (sim.machine(), superblock(seed, plan), &fill, &seen);
    let run = async {
        let shard = Shard::mount(machine, superblock, ShardId(0), shard_options(plan)).await?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("pool").await?;
        let clients = (0..CLIENTS).map(|client| {
            let (pool, shard) = (pool.clone(), &shard);
            async move {
                let object = ObjectId::new(format!("object {client}"));
                let mut most = 0;
                for round in 0..rounds {
                    let mut transaction = Transaction::new();
                    transaction.touch(&object);
                    fill(&mut transaction, &object, round);
                    pool.submit(transaction).await?;
                    most = most.max(seen(&shard.stats()));
                }
                Ok(most)
            }
        });
        let most: Vec<u64> = join_all(clients).await.into_iter().collect::<Result<_, Error>>()?;
        Ok::<_, Error>(most.into_iter().max().unwrap_or(0))
    };
    let most = sim.run(run).map_err(|stuck| broken(Rule::Stuck, stuck))?;
    most.map_err(|error| broken(Rule::Wrong, error))
}
