//! Embed: a store on a glommio executor that the embedder runs, for servers that have one.
//!
//! ```no_run
//! # async fn serve() -> seabed::Result<()> {
//! let store = seabed::embed::open("store.img", seabed::OpenOptions::default()).await?;
//! let pool = store.pool_or_create("sessions").await?;
//! pool.put("session 1", b"data").await?;
//! store.close().await
//! # }
//! ```
//!
//! It is the engine of [`crate::Store`] without the thread: the lock, the ring and the tasks live on the executor, and a call
//! costs no hop. The embedder's tasks share the executor with the engine: what holds it for long holds the store. Run the
//! executor with `preempt_timer(Duration::from_millis(25))`, and with the glommio that the feature `glommio` re-exports.
//!
//! A panic of an embedder's own task is between that task and glommio. A panic of an engine task stops the store: calls that
//! wait and later ones fail, [`EmbeddedStore::close`] reports [`OpenError::Panicked`]; what was acknowledged is there when the
//! store is opened again.
//!
//! Not here: several shards on several executors.

use std::ops::Deref;
use std::path::Path;
use std::rc::Rc;

use seabed_device::glommio_host::Embedded;
use seabed_device::{Class, OpenError};
use seabed_types::ShardId;

use crate::face::local::LocalStore;
use crate::face::store::{StoreInfo, on_thread, open_host, shard_options};
use crate::options::OpenOptions;
use crate::shard::Shard;
use crate::{Error, Result};

/// An open store on the executor that opened it: a [`LocalStore`] with the device. Close it before the executor ends: dropped
/// instead it may keep the device locked until the process ends. Nothing that was acknowledged is lost either way.
#[derive(Debug)]
pub struct EmbeddedStore {
    local: LocalStore,
    info: StoreInfo,
    embedded: Embedded,
}

/// Opens a store on the executor that runs the caller, and replays its journal.
///
/// Errors: those of [`crate::Store::open`]. Cancel safety: an open that is dropped lets go of the device.
///
/// # Panics
///
/// Outside of a glommio executor.
pub async fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<EmbeddedStore> {
    let path = path.as_ref().to_path_buf();
    let shard_options = shard_options(&options);
    // Waits for the lock, which blocks.
    let opened = on_thread("seabed-open", move || open_host(&path, &options));
    let (host, superblock) = opened.await??;
    let embedded = host.embed()?;
    drop(host);
    let mounted = Shard::mount(embedded.machine(), superblock, ShardId(0), shard_options).await;
    let shard = match mounted {
        Ok(shard) => shard,
        Err(error) => {
            embedded.close().await;
            return Err(error);
        }
    };
    let (panicked, watched) = (embedded.panicked(), Rc::downgrade(&shard));
    embedded.machine().runtime.spawn(
        Class::Foreground,
        Box::pin(async move {
            panicked.await;
            if let Some(shard) = watched.upgrade() {
                shard.stop();
            }
        }),
    );
    let info = StoreInfo::new(superblock, shard.report());
    Ok(EmbeddedStore { local: LocalStore::new(shard), info, embedded })
}

impl EmbeddedStore {
    /// What the store is and what the mount found.
    pub fn info(&self) -> StoreInfo {
        self.info
    }

    /// Carries out what was submitted, ends the log, and releases the device. What other handles ask for from then on is
    /// [`Error::Closed`]. Cancel safety: dropped, it ends as if the store had been dropped.
    pub async fn close(self) -> Result<()> {
        let shard = Rc::clone(self.local.shard());
        let result =
            if shard.is_stopped() { Err(Error::Open(OpenError::Panicked)) } else { shard.close().await };
        self.embedded.close().await;
        result
    }
}

impl Deref for EmbeddedStore {
    type Target = LocalStore;

    fn deref(&self) -> &LocalStore {
        &self.local
    }
}
