//! An embeddable object storage engine for NVMe: transactions over objects (bytes, attributes, ordered key/value) at the
//! speed of the raw device, and never an acknowledged byte lost.
//!
//! A *store* is one file or block device. It holds *pools* of *objects*; an object has bytes, attributes, and an omap
//! (ordered keys and values). Operations form [`Transaction`]s, which apply all or nothing, in the order of their
//! submission, and are acknowledged when they are durable.
//!
//! ```
//! use seabed::blocking::Store;
//! use seabed::{Condition, FormatOptions, ObjectId, OpenOptions, Transaction};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let format = FormatOptions { size: Some(64 << 20), first_write: false, ..FormatOptions::default() };
//! let store = Store::open_or_create(dir.path().join("photos.img"), format, OpenOptions::default())?;
//! let pool = store.pool_or_create("photos")?;
//!
//! // The whole object in one call, durable when it returns.
//! pool.put("cat.jpg", vec![7; 100_000])?;
//! assert_eq!(pool.read_range("cat.jpg", 99_998..)?, vec![7; 2]);
//!
//! // Several operations and a condition: all of them or none.
//! let cat = ObjectId::new("cat.jpg");
//! let mut txn = Transaction::new();
//! txn.expect(&cat, Condition::Size(100_000)).write(&cat, 8192, [1; 4096]).set_attr(&cat, "type", "image/jpeg");
//! pool.submit(txn)?;
//! assert_eq!(pool.attr("cat.jpg", "type")?, "image/jpeg");
//!
//! for object in pool.list() {
//!     println!("{}", object?);
//! }
//! store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # The life of a store
//!
//! [`Store::format`] makes an empty store, [`Store::open`] replays its journal and takes the lock (a second process waits
//! [`OpenOptions::lock_wait`] and is then refused), [`Store::open_or_create`] does what is needed of both. A store that was
//! killed or lost its power opens like any other, without a tool. [`Store::close`] finishes what was submitted and returns
//! the device; dropping the last handle does the same in the background.
//!
//! # Which face
//!
//! | face | for | calls |
//! |---|---|---|
//! | [`Store`], [`Pool`] | async programs, on any executor | futures, `Send`; handles are `Clone` |
//! | [`blocking::Store`], [`blocking::Pool`] | programs without an executor | block their thread |
//! | [`LocalStore`], [`LocalPool`] | servers that live on the engine's own thread | futures that are not `Send`, without a hop |
//!
//! The async face:
//!
//! ```
//! use futures::{StreamExt, TryStreamExt};
//! use seabed::{FormatOptions, OpenOptions, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("store");
//! # futures::executor::block_on(async move {
//! let format = FormatOptions { size: Some(64 << 20), first_write: false, ..FormatOptions::default() };
//! let store = Store::open_or_create(path, format, OpenOptions::default()).await?;
//! let pool = store.create_pool("logs").await?;
//! pool.put(b"one", "first").await?;
//! let names: Vec<_> = pool.list().try_collect().await?;
//! assert_eq!(names, [b"one".into()]);
//! assert!(pool.list().next().await.is_some());
//! store.close().await
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Code on the engine's thread, by [`Store::run_on_shard`]:
//!
//! ```
//! use seabed::{FormatOptions, LocalStore, OpenOptions, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("store");
//! # futures::executor::block_on(async move {
//! # let format = FormatOptions { size: Some(64 << 20), first_write: false, ..FormatOptions::default() };
//! # let store = Store::open_or_create(path, format, OpenOptions::default()).await?;
//! let bytes = store
//!     .run_on_shard(|local: LocalStore| {
//!         Box::pin(async move {
//!             let pool = local.create_pool("counters").await?;
//!             pool.put("visits", "41").await?;
//!             pool.put("visits", "42").await?;
//!             pool.get("visits").await
//!         })
//!     })
//!     .await??;
//! assert_eq!(bytes, "42");
//! store.close().await
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Errors
//!
//! Every call returns [`Error`], which names what happened; [`Error::kind`] groups errors by what a program does about them,
//! [`Error::is_retryable`] reports whether a repetition may succeed, and `std::io::Error::from` converts. Nothing of a
//! call that failed was applied, except after [`Error::Fenced`], when opening the store again shows what is there.
//!
//! # Pools
//!
//! [`Store::create_pool`], [`Store::rename_pool`] and [`Store::remove_pool`] are one record each, whatever the pool holds; the
//! space of a removed pool comes back in the background. [`StoreInfo::pools_max`] bounds their number.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod error;
mod face;
mod io;
mod maintain;
mod mount;
mod operate;
mod options;
mod rows;
mod shard;
mod space;
mod stats;

pub use error::{Error, ErrorKind, Result};
pub use face::guest::LocalTask;
pub use face::handle::LocalRead;
pub use face::inbox::Answer;
pub use face::limits::{ROW_CHANGE_BYTES_GUARANTEED, StoreLimits};
pub use face::list::List;
pub use face::local::{LocalPool, LocalStore, PoolEntry};
pub use face::store::{Pool, PutStream, ReadHandle, Store, StoreInfo};
pub use face::{blocking, embed};
pub use maintain::capacity::{Reserves, Space, SpaceGroup, SpaceUse};
pub use maintain::clean_now::{CleanEnd, CleanOptions, CleanProgress, CleanWatch, Cleaned};
pub use mount::format::format_device;
pub use operate::listing::{DamagedInterval, ListPage};
pub use operate::put::LocalPut;
pub use operate::read::OmapPage;
pub use options::{Access, FormatOptions, OpenOptions, Progress, ShardOptions};
pub use shard::Shard;
pub use shard::mounted::MountReport;
pub use stats::{Stats, WriteAmplification};

pub use seabed_device as device;
pub use seabed_device::glommio_host::Discard;
pub use seabed_journal::FenceCause;
pub use seabed_object::read::{Range, Stat};
pub use seabed_object::{
    Condition, Direction, Hint, HintFlags, IntoData, Limits, ObjectId, Op, Refused, Transaction, Usage,
};
pub use seabed_segment::{FORMAT_VERSION, Identity, Layout, LayoutError, Superblock, SuperblockError};
pub use seabed_types as types;

/// The glommio that the engine runs on, so that an embedder's types are the same.
#[cfg(feature = "glommio")]
pub use seabed_device::glommio;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
