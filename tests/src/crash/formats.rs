//! Formats: a format is cut off at every boundary, over nothing and over old stores, and so is the first mount behind it.
//!
//! The story: a format that was cut off between the four copies of the superblock left a store with some of them, for which the checker
//! reported violations for ever; and on a device larger than the new store, or beside slots that were cleared together with
//! superblocks, a cut left an old store that opened, or half of one.
//!
//! What a cut of a format leaves is one of three, by what opens it and by the checker, which looks before any mount:
//! - *no store*: no copy of a superblock is valid, and both say so;
//! - *the old store*, whole, with all that was in it: only until it is gone from the medium for the first time;
//! - *the new store*: sound, empty, and it takes writes. The first mount completes its superblock, after which all four copies are
//!   there and equal. That mount is cut off at every boundary too.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use seabed::{Access, Error, LocalStore, Shard, ShardOptions};
use seabed_device::Machine;
use seabed_segment::{Identity, Layout, Superblock, SuperblockError};
use seabed_types::{BLOCK_BYTES, ShardId, Uuid};

use super::suite::{check_before, excused, findings};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, SimOptions, Simulation, TaskOrder, Trace};

const DEVICE_BYTES: u64 = 6 << 20;
const SEGMENT_BYTES: u32 = 64 << 10;
const OBJECTS: u8 = 12;
const OBJECTS_FILLED: u8 = 40;
/// Random cuts of each boundary.
const CUTS: usize = 5;
/// So many states with an incomplete superblock are mounted with cuts in the mount.
const MOUNTS_CUT: u64 = 3;

/// What is on the device before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// Zeros.
    Nothing,
    /// A store of the same sizes.
    Same,
    /// A store with other segments and nodes.
    OtherSegments,
    /// A store that is as large as the device; the new one is smaller.
    Larger,
    /// A store that ends before the device does; the new one does not.
    Smaller,
    /// A store that is as large as the device and has data in what is the last block of the new one.
    Filled,
    /// A store of format version 2.
    OlderVersion,
}

impl Over {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Same,
        Self::OtherSegments,
        Self::Larger,
        Self::Smaller,
        Self::Filled,
        Self::OlderVersion,
    ];

    /// Objects of the old store.
    fn objects(self) -> u8 {
        if self == Self::Filled { OBJECTS_FILLED } else { OBJECTS }
    }
}

fn superblock_of(which: u8, device_bytes: u64, segment_bytes: u32) -> Superblock {
    let layout = Layout { device_bytes, segment_bytes, node_bytes: 4096, shards: 1 };
    let identity = Identity { uuid: Uuid([which; 16]), secret: [which ^ 0x55; 16] };
    Superblock::new(identity, layout, 4 * u64::from(segment_bytes))
}

/// The old store's superblock and the new one's.
fn superblocks(over: Over) -> (Superblock, Superblock) {
    let shorter = DEVICE_BYTES - 9 * u64::from(SEGMENT_BYTES);
    let (old_bytes, new_bytes) = match over {
        Over::Larger => (DEVICE_BYTES, shorter),
        Over::Smaller => (shorter, DEVICE_BYTES),
        Over::Nothing | Over::Same | Over::OtherSegments | Over::Filled | Over::OlderVersion => {
            (DEVICE_BYTES, DEVICE_BYTES)
        }
    };
    let old_segment_bytes = if over == Over::OtherSegments { 2 * SEGMENT_BYTES } else { SEGMENT_BYTES };
    let old = superblock_of(1, old_bytes, old_segment_bytes);
    let version = if over == Over::OlderVersion { 2 } else { old.version };
    (Superblock { version, ..old }, superblock_of(2, new_bytes, SEGMENT_BYTES))
}

fn options() -> SimOptions {
    SimOptions {
        disk_bytes: DEVICE_BYTES,
        order: TaskOrder::Perturbed { per_mille: 100 },
        steps_max: 400_000,
        ..SimOptions::default()
    }
}

fn shard_options(access: Access) -> ShardOptions {
    ShardOptions { access, memory_bytes: 4 << 20, bulk_bytes: 16 << 10, ..ShardOptions::default() }
}

fn wrong(error: impl std::fmt::Display) -> Broken {
    broken(Rule::Wrong, error)
}

/// Runs something on a machine with this disk: what it gave, and the trace.
fn on<T>(
    seed: u64,
    image: &DiskImage,
    work: impl AsyncFnOnce(Machine) -> Result<T, Error>,
) -> Result<(T, Trace), Broken> {
    let sim = Simulation::from_image(seed, image, options());
    let machine = sim.machine();
    let result = sim.run(work(machine)).map_err(|stuck| broken(Rule::Stuck, stuck))?;
    Ok((result.map_err(|error| broken(Rule::FailedOpen, error))?, sim.finish()))
}

fn at_end(seed: u64, trace: &Trace) -> DiskImage {
    trace.crash_image(trace.events(), CrashMode::Everything, &mut fastrand::Rng::with_seed(seed))
}

fn bytes_of(number: u8) -> Vec<u8> {
    vec![number; 3000 + 900 * usize::from(number)]
}

/// The device before the format.
fn before(seed: u64, over: Over, old: &Superblock) -> Result<DiskImage, Broken> {
    let blank = DiskImage::blank(DEVICE_BYTES);
    if over == Over::Nothing {
        return Ok(blank);
    }
    let ((), trace) = on(seed, &blank, async |machine| {
        seabed::format_device(&machine, old).await?;
        let shard = Shard::mount(machine, *old, ShardId(0), shard_options(Access::ReadWrite)).await?;
        let pool = LocalStore::new(Rc::clone(&shard)).create_pool("old").await?;
        for number in 0..over.objects() {
            pool.put([number], Bytes::from(bytes_of(number))).await?;
        }
        shard.close().await
    })?;
    Ok(at_end(seed, &trace))
}

/// Where the last block ends that holds nothing but data of an object.
fn end_of_data(image: &DiskImage) -> Option<u64> {
    let is_data = |at: &u64| {
        let mut block = vec![0; BLOCK_BYTES];
        image.read_durable(*at, &mut block);
        block[0] > 0 && block.iter().all(|byte| *byte == block[0])
    };
    let blocks = (0..image.bytes()).step_by(BLOCK_BYTES);
    blocks.filter(is_data).last().map(|at| at + BLOCK_BYTES as u64)
}

/// As an open looks for it: the three places at the front, and the last block of the device.
fn found(image: &DiskImage) -> Result<Superblock, SuperblockError> {
    let blocks = Superblock::places(image.bytes()).map(|at| {
        let mut block = vec![0; BLOCK_BYTES];
        image.read_durable(at, &mut block);
        block
    });
    Superblock::choose(blocks.each_ref().map(|block| Some(&block[..])))
}

/// How many copies of the superblock are as they should be.
fn copies(image: &DiskImage, superblock: &Superblock) -> usize {
    let places = Superblock::places(superblock.layout.device_bytes);
    let is_whole = |(copy, at): &(u16, u64)| {
        let mut block = vec![0; BLOCK_BYTES];
        image.read_durable(*at, &mut block);
        Superblock::decode(&block, *copy) == Ok(*superblock)
    };
    (0..).zip(places).filter(is_whole).count()
}

struct Suite {
    seed: u64,
    over: Over,
    old: Superblock,
    new: Superblock,
    rng: fastrand::Rng,
    seen: BTreeSet<u128>,
    /// The old store was gone from the medium.
    is_old_gone: bool,
    /// States without a store, with the old one, with the new one, and with the new one and an incomplete superblock.
    counts: [u64; 4],
}

/// Cuts off a format everywhere: how many states were no store, the old one, the new one, and the new one with an incomplete
/// superblock.
pub fn formats(seed: u64, over: Over) -> Result<[u64; 4], Broken> {
    let (old, mut new) = superblocks(over);
    let base = before(seed, over, &old)?;
    if over == Over::Filled {
        let end = end_of_data(&base).ok_or_else(|| wrong("the old store has no block of data"))?;
        new = superblock_of(2, end, SEGMENT_BYTES);
    }
    let mut suite = Suite {
        seed,
        over,
        old,
        new,
        rng: fastrand::Rng::with_seed(seed),
        seen: BTreeSet::new(),
        is_old_gone: over == Over::Nothing,
        counts: [0; 4],
    };
    let ((), trace) = on(seed, &base, async |machine| seabed::format_device(&machine, &new).await)?;
    for boundary in trace.boundaries() {
        let fixed = [CrashMode::Durable, CrashMode::Everything, CrashMode::Completed];
        let random = (0..CUTS).map(|cut| [CrashMode::Writes, CrashMode::Sectors][cut % 2]);
        for mode in fixed.into_iter().chain(random) {
            let image = trace.crash_image(boundary, mode, &mut suite.rng);
            suite.state(&image, mode).map_err(|found| {
                broken(found.rule, format!("the format cut off at {boundary}, {mode:?}: {}", found.what))
            })?;
        }
    }
    let end = at_end(seed, &trace);
    if copies(&end, &new) != 4 || found(&end) != Ok(new) {
        return Err(broken(Rule::Wrong, "after the format not all copies of the superblock are there"));
    }
    Ok(suite.counts)
}

impl Suite {
    fn state(&mut self, image: &DiskImage, mode: CrashMode) -> Result<(), Broken> {
        let superblock = found(image);
        if mode == CrashMode::Durable {
            self.is_old_gone |= superblock != Ok(self.old);
        }
        if !self.seen.insert(image.hash()) && superblock != Ok(self.old) {
            return Ok(());
        }
        match superblock {
            Err(error) => {
                self.counts[0] += 1;
                match findings(image) {
                    Err(what) if what == error.to_string() => Ok(()),
                    other => {
                        Err(broken(Rule::Check, format!("no store ({error}), for the checker {other:?}")))
                    }
                }
            }
            Ok(superblock) if superblock == self.old => {
                self.counts[1] += 1;
                if self.is_old_gone {
                    return Err(broken(Rule::Wrong, "the old store is back"));
                }
                self.is_old(image)
            }
            Ok(superblock) if superblock == self.new => {
                self.counts[2] += 1;
                check_before(image, excused(mode))?;
                let is_incomplete = copies(image, &self.new) < 4;
                self.counts[3] += u64::from(is_incomplete);
                let trace = self.is_new(image)?;
                if is_incomplete && self.counts[3] <= MOUNTS_CUT {
                    self.mount_is_cut(&trace)?;
                }
                Ok(())
            }
            Ok(other) => Err(broken(Rule::Wrong, format!("a third store: {other:?}"))),
        }
    }

    /// The old store is there, with all that was in it.
    fn is_old(&self, image: &DiskImage) -> Result<(), Broken> {
        let (is_whole, _) = on(self.seed, image, async |machine| {
            let shard = Shard::mount(machine, self.old, ShardId(0), shard_options(Access::ReadOnly)).await?;
            let pool = LocalStore::new(shard).pool("old").await?;
            for number in 0..self.over.objects() {
                if pool.get([number]).await? != bytes_of(number) {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        if is_whole { Ok(()) } else { Err(broken(Rule::Half, "the old store with other contents")) }
    }

    /// The new store opens, is empty and takes writes; then its superblock is complete, and the checker finds nothing.
    fn is_new(&self, image: &DiskImage) -> Result<Trace, Broken> {
        let (pools, trace) = on(self.seed, image, async |machine| {
            let shard = Shard::mount(machine, self.new, ShardId(0), shard_options(Access::ReadWrite)).await?;
            let store = LocalStore::new(Rc::clone(&shard));
            let pools = store.pools().await?.len();
            let pool = store.pool_or_create("new").await?;
            pool.put("object", bytes_of(3)).await?;
            if pool.get("object").await? != bytes_of(3) {
                return Err(Error::NotFound);
            }
            shard.close().await?;
            Ok(pools)
        })?;
        if pools > 0 {
            return Err(broken(Rule::Wrong, format!("the new store has {pools} pools")));
        }
        let after =
            trace.crash_image(trace.events(), CrashMode::Durable, &mut fastrand::Rng::with_seed(self.seed));
        findings(&after).map_err(|what| broken(Rule::Check, format!("after the first mount: {what}")))?;
        match copies(&after, &self.new) {
            4 => Ok(trace),
            copies => {
                Err(wrong(format!("after the first mount {copies} copies of the superblock are there")))
            }
        }
    }

    /// The first mount and what it served is cut off everywhere. The checker finds nothing before the next mount, which opens the
    /// store, and then the superblock is complete.
    fn mount_is_cut(&mut self, trace: &Trace) -> Result<(), Broken> {
        for boundary in trace.boundaries() {
            for mode in [CrashMode::Durable, CrashMode::Completed, CrashMode::Sectors] {
                let image = trace.crash_image(boundary, mode, &mut self.rng);
                if !self.seen.insert(image.hash()) {
                    continue;
                }
                let place = |found: Broken| {
                    broken(
                        found.rule,
                        format!("its first mount cut off at {boundary}, {mode:?}: {}", found.what),
                    )
                };
                check_before(&image, excused(mode)).map_err(place)?;
                let ((), trace) = on(self.seed, &image, async |machine| {
                    let access = shard_options(Access::ReadWrite);
                    Shard::mount(machine, self.new, ShardId(0), access).await?.close().await
                })
                .map_err(place)?;
                let after = trace.crash_image(trace.events(), CrashMode::Durable, &mut self.rng);
                findings(&after).map_err(|what| place(broken(Rule::Check, what)))?;
                if copies(&after, &self.new) != 4 {
                    return Err(place(wrong("the superblock is incomplete after a mount")));
                }
            }
        }
        Ok(())
    }
}
