//! Stamped: a writer on the real stack whose every block says which write it is of, and what must be found afterwards.
//!
//! Four clients overwrite ranges of blocks of their own objects, each waiting for its last write. What a client does follows
//! from the seed, so what a store must hold follows from how many writes of each client were acknowledged: those, and one
//! more or not. The store is small (16 MiB in segments of 64 KiB), so that segments roll, checkpoints are written and
//! segments are used again all the time; but the 128 blocks that can be live never fill it, even if each is the last of its
//! segment. Three ways to break off:
//!
//! - [`kill`]: a process that runs the writer is killed, on a real file; the next one goes on;
//! - [`errors`]: the device fails once, at some sector or flush, beneath a FUSE export of QEMU's storage daemon;
//! - [`record`]: each write and flush that reaches the device is written down, and the image at every flush and at many
//!   durable writes is what a power cut might have left.
//!
//! Each image is mounted in memory, compared and checked. Not here: choosing what a cut leaves, sector by sector: the
//! simulated machine does that ([`crate::crash`]); here the order of writes is that of the kernel.

pub mod errors;
pub mod kill;
pub mod record;

use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use seabed::{Access, Error, FormatOptions, LocalPool, LocalStore, Shard, ShardOptions, Transaction};
use seabed_device::glommio_host::{GlommioHost, HostOptions};
use seabed_device::memory::MemoryDevice;
use seabed_device::{Device, Host, Machine, OpenError};
use seabed_object::ObjectId;
use seabed_segment::Superblock;
use seabed_types::{BLOCK_BYTES, ShardId};

use crate::machine::{SimOptions, Simulation};

/// Size of the store.
pub const STORE_BYTES: u64 = 16 << 20;
const CLIENTS: usize = 4;
const OBJECTS: u32 = 2;
const BLOCKS: u64 = 16;
const POOL: &str = "stamped";

/// How many writes of each client.
pub type Counts = [u32; CLIENTS];

/// What the suites tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StampedError {
    /// The machine, not the store.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The store's own answer where no fault explains it.
    #[error(transparent)]
    Store(#[from] Error),
    /// What was left is not what was acknowledged.
    #[error("{after}: {what}")]
    Wrong {
        /// After what.
        after: String,
        /// What is wrong.
        what: String,
    },
    /// A tool is missing.
    #[error("{why}")]
    Missing {
        /// Which, or what it said.
        why: String,
    },
}

/// Called with the client and how many of its writes are acknowledged.
pub type Tell = Arc<dyn Fn(usize, u32) + Send + Sync>;
/// Puts something between the engine and the device.
pub type Wrap = Arc<dyn Fn(Machine) -> Machine + Send + Sync>;

struct Write {
    object: u32,
    block: u64,
    blocks: u64,
}

/// What write `number` of a client is.
fn write_of(seed: u64, client: usize, number: u32) -> Write {
    let mut rng = fastrand::Rng::with_seed(seed ^ (client as u64) << 32 ^ u64::from(number) << 36);
    let block = rng.u64(..BLOCKS);
    let blocks = if rng.u8(..8) == 0 { BLOCKS - block } else { rng.u64(1..=4).min(BLOCKS - block) };
    Write { object: rng.u32(..OBJECTS), block, blocks }
}

fn object_of(client: usize, object: u32) -> ObjectId {
    ObjectId::new(format!("client {client} object {object}"))
}

/// A block that says of which write, and which of its blocks it is.
fn stamped(client: usize, number: u32, block: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    for place in 0..BLOCK_BYTES as u64 / 16 {
        bytes.extend_from_slice(&((client as u64) << 32 | u64::from(number)).to_le_bytes());
        bytes.extend_from_slice(&(block << 32 | place).to_le_bytes());
    }
    bytes
}

/// What the objects of a client hold after so many of its writes; none: there is no such object.
fn contents(seed: u64, client: usize, writes: u32) -> Vec<Option<Vec<u8>>> {
    let mut objects: Vec<Option<Vec<u8>>> = vec![None; OBJECTS as usize];
    for number in 0..writes {
        let Write { object, block, blocks } = write_of(seed, client, number);
        let bytes = objects[object as usize].get_or_insert_default();
        let start = usize::try_from(block).expect("few") * BLOCK_BYTES;
        let end = start + usize::try_from(blocks).expect("few") * BLOCK_BYTES;
        bytes.resize(bytes.len().max(end), 0);
        for (index, chunk) in (block..).zip(bytes[start..end].chunks_exact_mut(BLOCK_BYTES)) {
            chunk.copy_from_slice(&stamped(client, number, index));
        }
    }
    objects
}

/// Makes an empty store in a file.
pub fn format(path: &Path) -> Result<(), StampedError> {
    let segment_bytes = Some(64 << 10);
    let options = FormatOptions {
        size: Some(STORE_BYTES),
        segment_bytes,
        node_bytes: 4096,
        force: true,
        ..Default::default()
    };
    Ok(seabed::Store::format(path, options)?)
}

fn superblock(host: &GlommioHost) -> Result<Superblock, StampedError> {
    let blocks = Superblock::places(STORE_BYTES).map(|at| {
        let mut block = vec![0; BLOCK_BYTES];
        host.read_at(at, &mut block).is_ok().then_some(block)
    });
    Ok(Superblock::choose(blocks.each_ref().map(Option::as_deref)).map_err(Error::from)?)
}

/// Opens the store in a file and lets each client write, from `from` on to `to`, on a thread of its own. A client whose
/// write fails stops; what failed first is told. The inner error is the store's, met by a fault or not.
pub fn write(
    path: &Path,
    seed: u64,
    (from, to): (Counts, u32),
    wrap: Wrap,
    tell: Tell,
) -> Result<Result<(), Error>, StampedError> {
    let open = |error: OpenError| StampedError::Store(Error::Open(error));
    let host = GlommioHost::open(path, HostOptions::default()).map_err(open)?;
    let superblock = superblock(&host)?;
    let outcome = Arc::new(Mutex::new(Ok(())));
    let ended = Arc::clone(&outcome);
    let main = move |machine: Machine| -> seabed_device::Local<()> {
        let (machine, tell, ended) = (wrap(machine), Arc::clone(&tell), Arc::clone(&ended));
        Box::pin(async move {
            let result = serve(machine, superblock, seed, (from, to), &tell).await;
            if let Ok(mut ended) = ended.lock() {
                *ended = result;
            }
        })
    };
    let join = host.start(1, Arc::new(main)).map_err(open)?;
    join().map_err(open)?;
    let mut outcome = outcome.lock().map_err(|_| std::io::Error::other("a panic on the engine's thread"))?;
    Ok(std::mem::replace(&mut *outcome, Ok(())))
}

async fn serve(
    machine: Machine,
    superblock: Superblock,
    seed: u64,
    (from, to): (Counts, u32),
    tell: &Tell,
) -> Result<(), Error> {
    let shard = Shard::mount(machine, superblock, ShardId(0), options(Access::ReadWrite)).await?;
    let pool = LocalStore::new(Rc::clone(&shard)).pool_or_create(POOL).await;
    let wrote: Result<(), Error> = match pool {
        Ok(pool) => {
            let clients = (0..CLIENTS).map(|client| write_all(&pool, seed, client, from[client]..to, tell));
            join_all(clients).await.into_iter().collect()
        }
        Err(error) => Err(error),
    };
    let closed = shard.close().await;
    wrote.and(closed)
}

async fn write_all(
    pool: &LocalPool,
    seed: u64,
    client: usize,
    numbers: std::ops::Range<u32>,
    tell: &Tell,
) -> Result<(), Error> {
    for number in numbers {
        let Write { object, block, blocks } = write_of(seed, client, number);
        let data: Vec<u8> =
            (block..block + blocks).flat_map(|block| stamped(client, number, block)).collect();
        let mut transaction = Transaction::new();
        transaction.write(&object_of(client, object), block * BLOCK_BYTES as u64, data);
        pool.submit(transaction).await?;
        tell(client, number + 1);
    }
    Ok(())
}

fn options(access: Access) -> ShardOptions {
    ShardOptions {
        access,
        memory_bytes: 8 << 20,
        bulk_bytes: 16 << 10,
        inline_bytes: 64,
        ..ShardOptions::default()
    }
}

/// Mounts what was left in memory, for reading; it must hold what was acknowledged, or one write more of each client, and
/// the checker must find nothing. How many writes of each client are there.
pub fn verify(image: &[u8], seed: u64, acknowledged: &Counts) -> Result<Counts, String> {
    let options_of_check = seabed_check::Options { findings_max: 3, ..seabed_check::Options::default() };
    let report = seabed_check::check(&image, &options_of_check).map_err(|error| error.to_string())?;
    if !report.is_clean() {
        return Err(format!("the checker finds {:?}", report.violations));
    }
    let blocks = Superblock::places(image.len() as u64).map(|at| {
        let at = usize::try_from(at).expect("in memory");
        Some(&image[at..at + BLOCK_BYTES])
    });
    let superblock = Superblock::choose(blocks).map_err(|error| error.to_string())?;
    let sim = Simulation::new(0, SimOptions { disk_bytes: BLOCK_BYTES as u64, ..SimOptions::default() });
    let device = MemoryDevice::new(image.to_vec()) as Rc<dyn Device>;
    let machine = Machine { device, runtime: sim.machine().runtime };
    let found = sim.run(async {
        let shard = Shard::mount(machine, superblock, ShardId(0), options(Access::ReadOnly)).await?;
        match LocalStore::new(shard).pool(POOL).await {
            Ok(pool) => read_all(&pool).await,
            Err(Error::NoSuchPool { .. }) => Ok(vec![vec![None; OBJECTS as usize]; CLIENTS]),
            Err(error) => Err(error),
        }
    });
    let found = found.map_err(|stuck| stuck.to_string())?.map_err(|error| error.to_string())?;
    let mut counts = *acknowledged;
    for (client, found) in found.iter().enumerate() {
        let least = acknowledged[client];
        let is_there = |count: &u32| contents(seed, client, *count) == *found;
        // One more may have become durable without being told.
        let count = (least..=least + 1).rev().find(is_there);
        counts[client] =
            count.ok_or_else(|| format!("client {client}: not what {least} writes make, nor one more"))?;
    }
    Ok(counts)
}

async fn read_all(pool: &LocalPool) -> Result<Vec<Vec<Option<Vec<u8>>>>, Error> {
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let mut objects = Vec::new();
        for object in 0..OBJECTS {
            objects.push(match pool.get(object_of(client, object)).await {
                Ok(bytes) => Some(bytes.to_vec()),
                Err(Error::NotFound) => None,
                Err(error) => return Err(error),
            });
        }
        clients.push(objects);
    }
    Ok(clients)
}

fn wrong(after: impl Into<String>) -> impl FnOnce(String) -> StampedError {
    let after = after.into();
    move |what| StampedError::Wrong { after, what }
}
