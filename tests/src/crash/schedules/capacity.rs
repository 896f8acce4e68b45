//! Capacity: what a store says that can still be written, can be written, whatever its history.
//!
//! A history puts, overwrites in part and removes objects of several sizes, on devices of 16 to 80 MiB. Now and then the store is
//! asked what it can still take ([`seabed::Space::writable_bytes`]), and new objects of one size are put until there is no
//! space; then a part of all objects is removed at random, and the history goes on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use seabed::{LocalStore, Transaction};
use seabed_object::ObjectId;

use super::space::{Site, program, wrong};
use crate::crash::Broken;
use crate::crash::program::{Plan, stamped};

/// What was promised and what was written, in bytes, metadata included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// The most that may be live.
    pub usable: u64,
    /// What the store said that can be written.
    pub promised: u64,
    /// By how much the live bytes then grew before there was no space.
    pub written: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

const SIZES: [usize; 6] = [700, 4096, 9000, 20_000, 70_000, 150_000];

/// See the module.
pub fn promises(seed: u64, cleaning: bool) -> Result<Vec<Promise>, Broken> {
    let rng = &mut fastrand::Rng::with_seed(seed ^ 0xca_bac1);
    let segment_bytes = [256 << 10, 512 << 10][rng.usize(..2)];
    let plan = Plan {
        memory_bytes: 8 << 20,
        disk_bytes: u64::from(segment_bytes) * rng.u64(64..160),
        segment_bytes,
        window_segments: 4,
        node_bytes: 4096,
        bulk_bytes: 128 << 10,
        cleaning,
        ..Plan::of(seed)
    };
    program(seed, &plan, async |site| {
        let store = LocalStore::new(Rc::clone(&site.shard));
        let mut objects = BTreeMap::new();
        let mut found = Vec::new();
        for round in 0..4 {
            history(site, rng, &mut objects, round).await?;
            let space = store.space().await.map_err(wrong)?;
            let object_bytes = [140_000, 250_000][rng.usize(..2)];
            for number in 0.. {
                let name = format!("new {round} {number}");
                if !site.put(&name, number, object_bytes).await? {
                    break;
                }
                objects.insert(name, object_bytes);
            }
            let now = store.space().await.map_err(wrong)?;
            found.push(Promise {
                usable: space.usable_bytes,
                promised: space.writable_bytes,
                written: now.live_bytes.saturating_sub(space.live_bytes),
                segment_bytes: space.segment_bytes,
            });
            // What is left is spread over all segments.
            let removed = rng.u8(1..=3);
            for name in objects.keys().cloned().collect::<Vec<_>>() {
                if rng.u8(..4) < removed {
                    site.remove(&name).await?;
                    objects.remove(&name);
                }
            }
            site.machine.runtime.sleep(Duration::from_millis(100)).await;
        }
        Ok(found)
    })
}

async fn history(
    site: &Site,
    rng: &mut fastrand::Rng,
    objects: &mut BTreeMap<String, usize>,
    round: u64,
) -> Result<(), Broken> {
    for step in 0..rng.u64(0..400) {
        let name = format!("old {}", rng.u8(..60));
        let stamp = round << 32 | step;
        let known = objects.get(&name).copied();
        match (known, rng.u8(..8)) {
            (Some(_), 0) => {
                site.remove(&name).await?;
                objects.remove(&name);
            }
            (Some(bytes), 1..=5) if bytes > 0 => {
                let at = rng.usize(..bytes);
                let count = rng.usize(1..=(bytes - at).min(9000));
                let mut transaction = Transaction::new();
                transaction.write(&ObjectId::new(name), at as u64, stamped(stamp, count));
                site.submit(transaction).await?;
            }
            _ => {
                let bytes = SIZES[rng.usize(..SIZES.len())];
                if site.put(&name, stamp, bytes).await? {
                    objects.insert(name, bytes);
                }
            }
        }
    }
    Ok(())
}
