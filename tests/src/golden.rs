//! Golden images: a store of each format version as it once was written, kept for ever and opened by every later program.
//!
//! Two stores of 3 MiB in segments of 64 KiB and nodes of 4 KiB hold something of every kind: one was closed, the other
//! had its power cut in the middle of a record. They lie in `tests/golden` as [`runs`], beside the text of what they hold
//! ([`contents`]). [`make`] writes them again (`seabed-tests golden DIR`): only for a new version of the format; the files
//! of a version that was released never change.
//!
//! The program here is spelt out and depends on no generator, so that it can be read beside the images. Data repeat one
//! byte for 1000 bytes, so that an image is small and each chunk is unlike its neighbours.

pub mod again;
pub mod contents;
pub mod runs;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures::future::join_all;
use seabed::{Access, Error, LocalPool, LocalStore, Shard, ShardOptions};
use seabed_object::{Hint, HintFlags, ObjectId, Transaction};
use seabed_segment::{FORMAT_VERSION, Identity, Layout, Superblock};
use seabed_types::{BLOCK_BYTES, ShardId, Uuid};

use crate::machine::{CrashMode, DiskImage, SimOptions, Simulation};

/// Size of the stores.
pub const DEVICE_BYTES: usize = 3 << 20;

/// One of the stores of a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Golden {
    /// Closed: its last record is empty, everything is proven.
    Closed,
    /// Cut in the middle of a record, which is torn.
    Killed,
}

impl Golden {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Closed, Self::Killed];

    /// The stem of its files.
    pub fn stem(self, version: u32) -> String {
        let name = match self {
            Self::Closed => "closed",
            Self::Killed => "killed",
        };
        format!("v{version}-{name}")
    }
}

/// A store with its image and the text of what it holds.
pub struct Stored {
    /// The bytes of the device.
    pub image: Vec<u8>,
    /// See [`contents`].
    pub contents: String,
}

/// Reads a store of a version.
pub fn load(directory: &Path, golden: Golden, version: u32) -> std::io::Result<Stored> {
    let stem = directory.join(golden.stem(version));
    let encoded = std::fs::read(stem.with_extension("runs"))?;
    let image = runs::decode(&encoded, DEVICE_BYTES).map_err(std::io::Error::other)?;
    Ok(Stored { image, contents: std::fs::read_to_string(stem.with_extension("txt"))? })
}

/// Makes the stores of the present version and writes them to a directory.
pub fn make(directory: &Path) -> std::io::Result<()> {
    for golden in Golden::ALL {
        let stored = stored(golden).map_err(std::io::Error::other)?;
        let stem = directory.join(golden.stem(FORMAT_VERSION));
        std::fs::write(stem.with_extension("runs"), runs::encode(&stored.image))?;
        std::fs::write(stem.with_extension("txt"), &stored.contents)?;
    }
    Ok(())
}

/// A store as the present program writes it.
pub fn stored(golden: Golden) -> Result<Stored, Error> {
    let sim = Simulation::new(1, sim_options());
    let machine = sim.machine();
    sim.run(async {
        seabed::format_device(&machine, &superblock()).await?;
        let shard = Shard::mount(machine.clone(), superblock(), ShardId(0), shard_options(Access::ReadWrite));
        let shard = shard.await?;
        let store = LocalStore::new(Rc::clone(&shard));
        write_all(&store).await?;
        match golden {
            Golden::Closed => shard.close().await,
            Golden::Killed => write_more(&store).await,
        }
    })
    .expect("nothing waits in vain")?;
    let trace = sim.finish();
    let mut rng = fastrand::Rng::with_seed(1);
    let image = match golden {
        Golden::Closed => trace.crash_image(trace.events(), CrashMode::Everything, &mut rng),
        // The last moment at which a cut tears a record: other records stand before it that no checkpoint holds.
        Golden::Killed => trace
            .boundaries()
            .into_iter()
            .rev()
            .map(|boundary| trace.crash_image(boundary, CrashMode::Sectors, &mut rng))
            .find(is_torn)
            .expect("some record is torn by some cut"),
    };
    let contents = on_store(&image, Access::ReadOnly, async |store, _| contents::contents(&store).await)?.0;
    Ok(Stored { image: bytes_of(&image), contents })
}

fn is_torn(image: &DiskImage) -> bool {
    let torn = on_store(image, Access::ReadOnly, async |_, shard| Ok(shard.report().torn.is_some()));
    torn.is_ok_and(|(torn, _)| torn)
}

/// The bytes of a disk.
pub fn bytes_of(image: &DiskImage) -> Vec<u8> {
    let mut bytes = vec![0; DEVICE_BYTES];
    image.read_durable(0, &mut bytes);
    bytes
}

/// A disk with these bytes.
pub fn disk_of(bytes: &[u8]) -> DiskImage {
    let mut disk = DiskImage::blank(bytes.len() as u64);
    disk.write(0, bytes);
    disk
}

/// Opens what is on a disk, works on it, and gives the disk as it then is.
pub fn on_store<T>(
    image: &DiskImage,
    access: Access,
    work: impl AsyncFnOnce(LocalStore, Rc<Shard>) -> Result<T, Error>,
) -> Result<(T, DiskImage), Error> {
    let sim = Simulation::from_image(2, image, sim_options());
    let machine = sim.machine();
    let result = sim.run(async {
        let shard = Shard::mount(machine, chosen(image)?, ShardId(0), shard_options(access)).await?;
        work(LocalStore::new(Rc::clone(&shard)), shard).await
    });
    let result = result.expect("nothing waits in vain")?;
    let trace = sim.finish();
    let rng = &mut fastrand::Rng::with_seed(2);
    Ok((result, trace.crash_image(trace.events(), CrashMode::Everything, rng)))
}

fn chosen(image: &DiskImage) -> Result<Superblock, Error> {
    let blocks = Superblock::places(image.bytes()).map(|at| {
        let mut block = vec![0; BLOCK_BYTES];
        image.read_durable(at, &mut block);
        block
    });
    Ok(Superblock::choose(blocks.each_ref().map(|block| Some(&block[..])))?)
}

fn sim_options() -> SimOptions {
    SimOptions { disk_bytes: DEVICE_BYTES as u64, ..SimOptions::default() }
}

fn shard_options(access: Access) -> ShardOptions {
    ShardOptions {
        access,
        memory_bytes: 4 << 20,
        bulk_bytes: 16 << 10,
        inline_bytes: 64,
        ..ShardOptions::default()
    }
}

/// The superblock of the stores of the present version.
pub(crate) fn superblock() -> Superblock {
    let layout =
        Layout { device_bytes: DEVICE_BYTES as u64, segment_bytes: 64 << 10, node_bytes: 4096, shards: 1 };
    Superblock::new(Identity { uuid: Uuid([0x60; 16]), secret: *b"golden secret 01" }, layout, 4 * (64 << 10))
}

/// Letters from `first` on, each 1000 times.
fn letters(first: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| b'a' + u8::try_from((usize::from(first) + at / 1000) % 26).expect("a letter"))
        .collect()
}

fn pairs(prefix: &str, count: u8, bytes: usize) -> Vec<(String, Vec<u8>)> {
    (0..count).map(|number| (format!("{prefix}{number:03}"), letters(number, bytes))).collect()
}

/// Something of everything, with a checkpoint on the way.
async fn write_all(store: &LocalStore) -> Result<(), Error> {
    let (one, two) = (store.create_pool("one").await?, store.create_pool("two").await?);
    submit(&one, |txn| {
        txn.write(&ObjectId::new("inline"), 0, letters(0, 40));
        txn.write(&ObjectId::new("one chunk"), 0, letters(1, 4096));
        txn.touch(&ObjectId::new("empty"));
    })
    .await?;
    let holes = ObjectId::new("holes");
    submit(&one, |txn| {
        txn.write(&holes, 100_000, letters(2, 5000)).zero(&holes, 101_000, 300).write(
            &holes,
            300,
            letters(3, 90),
        );
    })
    .await?;
    let shrunk = ObjectId::new("shrunk").in_namespace("a namespace").with_snap(7).with_generation(9);
    submit(&one, |txn| {
        txn.write(&shrunk, 0, letters(4, 20_000)).truncate(&shrunk, 9_500);
    })
    .await?;
    let mut put = one.put_stream("streamed")?;
    put.write(letters(5, 40_000)).await?;
    put.write(letters(6, 5_000)).await?;
    put.finish(vec![(b"small".to_vec(), bytes::Bytes::from(letters(7, 12)))]).await?;
    let described = ObjectId::new([0, 255, 0, 1]);
    submit(&two, |txn| {
        txn.touch(&described).set_attr(&described, "large", letters(8, 7000));
        txn.set_attr(&described, "small", letters(9, 3)).set_attr(&described, "empty", Vec::new());
        let hint = Hint { object_bytes: 1 << 40, write_bytes: 4096, flags: HintFlags(5) };
        txn.omap_set_header(&described, letters(10, 500)).set_hint(&described, hint);
    })
    .await?;
    let table = ObjectId::new("table");
    for (prefix, count, bytes) in [("row 0", 60, 70), ("row 1", 60, 70), ("wide ", 3, 6000)] {
        submit(&two, |txn| {
            txn.touch(&table).omap_insert(&table, pairs(prefix, count, bytes));
        })
        .await?;
    }
    submit(&two, |txn| {
        txn.omap_remove_range(&table, "row 0010", "row 0030").omap_remove(&table, ["row 0001"]);
    })
    .await?;
    // The same hash, names that are prefixes of each other, and one that is gone.
    let twins = [ObjectId::new("twin"), ObjectId::new("twins").with_hash(ObjectId::new("twin").hash)];
    for (twin, first) in twins.iter().zip(11..) {
        submit(&two, |txn| {
            txn.touch(twin).append(twin, letters(first, 3000)).append(twin, letters(first, 3000));
        })
        .await?;
    }
    two.put("gone", letters(13, 70_000)).await?;
    two.remove("gone").await?;
    // Until half a window is logged, and some more; time for the checkpoint.
    for round in 0..18 {
        submit(&one, |txn| {
            txn.write(&ObjectId::new("rewritten"), u64::from(round) * 2500, letters(round, 8000));
        })
        .await?;
    }
    one.runtime().sleep(Duration::from_secs(1)).await;
    submit(&one, |txn| {
        txn.write(&ObjectId::new("rewritten"), 6000, letters(14, 9000));
        txn.remove_attr(&ObjectId::new("streamed"), "small").write(
            &ObjectId::new("late"),
            0,
            letters(15, 900),
        );
    })
    .await
}

/// Several at once, so that records have more than one transaction.
async fn write_more(store: &LocalStore) -> Result<(), Error> {
    let (one, two) = (store.pool("one").await?, store.pool("two").await?);
    for round in 0..3_u8 {
        let submitted = (0..6_u8).map(|number| {
            let pool = if number % 2 == 0 { &one } else { &two };
            submit(pool, move |txn| {
                let object = ObjectId::new(format!("more {number}"));
                txn.write(&object, u64::from(round) * 3000, letters(16 + number, 3500));
                txn.omap_insert(&object, pairs(&format!("round {round} "), 3, 20));
            })
        });
        join_all(submitted).await.into_iter().collect::<Result<(), Error>>()?;
    }
    Ok(())
}

async fn submit(pool: &LocalPool, fill: impl FnOnce(&mut Transaction)) -> Result<(), Error> {
    let mut transaction = Transaction::new();
    fill(&mut transaction);
    pool.submit(transaction).await
}
