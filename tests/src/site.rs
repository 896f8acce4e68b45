//! Site: a new store on a simulated machine, for tests that bring their own clients.

use seabed::{LocalStore, Shard, ShardOptions};
use seabed_device::Machine;
use seabed_segment::{Identity, Layout, Superblock};
use seabed_types::{ShardId, Uuid};

/// Formats the machine's disk, which is empty and has `disk_bytes`, in segments of 1 MiB, and mounts it.
pub async fn new_store(machine: &Machine, disk_bytes: u64) -> LocalStore {
    let layout = Layout { device_bytes: disk_bytes, segment_bytes: 1 << 20, node_bytes: 4096, shards: 1 };
    let identity = Identity { uuid: Uuid([9; 16]), secret: [3; 16] };
    let superblock = Superblock::new(identity, layout, 16 << 20);
    seabed::format_device(machine, &superblock).await.expect("an empty disk");
    let shard = Shard::mount(machine.clone(), superblock, ShardId(0), ShardOptions::default()).await;
    LocalStore::new(shard.expect("a new store"))
}
