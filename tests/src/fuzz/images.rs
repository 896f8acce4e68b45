//! Images: a golden store whose structures are changed, whose checksums are then made right, and which is opened.
//!
//! Random damage ends at the first checksum. So an input is a list of edits, eight bytes each: which structure, where in
//! it, what; and a [`Map`] of the image makes every checksum right again, from the leaves of the trees up to the
//! superblocks, with the chain of the journal. What is behind the checksums is reached: lengths, addresses, counts, orders.
//!
//! What must hold: no panic, no hang (the machine counts its steps), no memory beyond what the bytes and the budget ask
//! for. The mount only reads, everything that it shows is read, and the checker looks at it.

mod map;

use std::rc::Rc;

use seabed::{Access, LocalStore, Shard, ShardOptions};
use seabed_device::memory::MemoryDevice;
use seabed_device::{Device, Machine};
use seabed_segment::Superblock;
use seabed_types::{BLOCK_BYTES, ShardId};

use crate::golden::contents::contents;
use crate::machine::{SimOptions, Simulation};
use map::Map;

const EDIT_BYTES: usize = 8;
const EDITS_MAX: usize = 32;

thread_local! {
    /// A device for each store, which stays: it is restored before each input, as most of an image never changes.
    static STORES: [(Map, Rc<MemoryDevice>); 2] = super::golden().map(|image| {
        let device = MemoryDevice::new(image.clone());
        (Map::new(image), device)
    });
}

/// The first byte picks the store.
pub(super) fn run(input: &[u8]) {
    let Some((first, edits)) = input.split_first() else { return };
    STORES.with(|stores| {
        let (map, device) = &stores[usize::from(first % 2)];
        let superblock = device.with_bytes(|image| {
            map.restore(image);
            for edit in edits.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
                map.edit(image, edit.try_into().expect("eight bytes"));
            }
            map.make_right(image);
            checked(image)
        });
        if let Some(superblock) = superblock {
            open(Rc::clone(device), superblock);
        }
    });
}

/// What the checker says is of no concern, only that it comes to an end; the superblock, if it can be mounted.
fn checked(image: &[u8]) -> Option<Superblock> {
    let options =
        seabed_check::Options { memory_bytes: 4 << 20, findings_max: 20, ..seabed_check::Options::default() };
    // An error says that there is no store: nothing to look at.
    let is_store = seabed_check::check(&image, &options).is_ok();
    let blocks = Superblock::places(image.len() as u64).map(|at| {
        let at = usize::try_from(at).expect("in memory");
        Some(&image[at..at + BLOCK_BYTES])
    });
    let Ok(superblock) = Superblock::choose(blocks) else {
        assert!(!is_store, "the checker sees a store, the engine none");
        return None;
    };
    // What an open of a file asks before it mounts.
    let is_whole = superblock.layout.shards == 1 && superblock.layout.device_bytes <= image.len() as u64;
    is_whole.then_some(superblock)
}

/// What a mount for reading shows is read; errors end it.
fn open(device: Rc<MemoryDevice>, superblock: Superblock) {
    let steps_max = 400_000;
    let options = SimOptions { disk_bytes: BLOCK_BYTES as u64, steps_max, ..SimOptions::default() };
    let sim = Simulation::new(0, options);
    let machine = Machine { device: device as Rc<dyn Device>, runtime: sim.machine().runtime };
    let options = ShardOptions {
        access: Access::ReadOnly,
        memory_bytes: 2 << 20,
        bulk_bytes: 16 << 10,
        inline_bytes: 64,
        ..ShardOptions::default()
    };
    let ran = sim.run(async {
        let Ok(shard) = Shard::mount(machine, superblock, ShardId(0), options).await else { return };
        let _ = contents(&LocalStore::new(shard)).await;
    });
    assert!(ran.is_ok(), "no end: {ran:?}");
}

/// Nothing changed, and one edit in each structure.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], vec![1]];
    for store in 0..2_u8 {
        for structure in (0..240_u8).step_by(12) {
            seeds.push(vec![store, structure, 1, 20, 0, 1, 7, 0, 0, structure, 2, 44, 0, 2, 255, 255, 255]);
        }
    }
    seeds
}
