//! An embeddable object storage engine for NVMe: transactions over objects (bytes, attributes, ordered key/value) at the
//! speed of the raw device, and never an acknowledged byte lost.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod admit;
pub mod blocking;
mod bulk;
mod cache;
mod checkpoint;
mod clean;
mod data_cache;
mod error;
mod format;
mod graves;
mod inbox;
mod limits;
mod local;
mod mount;
mod mounted;
mod options;
mod packing;
mod pending;
mod pools;
mod put;
mod read;
mod request;
mod sequence;
mod shard;
mod stats;
mod store;
mod streams;
mod submit;
mod superblocks;
mod table;
mod trim;
mod view;
mod world;

pub use error::{Error, ErrorKind, Result};
pub use format::format_device;
pub use inbox::Answer;
pub use limits::{ROW_CHANGE_BYTES_GUARANTEED, StoreLimits};
pub use local::{LocalPool, LocalStore, PoolEntry};
pub use mounted::MountReport;
pub use options::{Access, FormatOptions, OpenOptions, Progress, ShardOptions};
pub use put::LocalPut;
pub use read::{ListPage, OmapPage};
pub use shard::Shard;
pub use stats::Stats;
pub use store::{Pool, PutStream, Store, StoreInfo};

pub use seabed_device as device;
pub use seabed_object::read::{Range, Stat};
pub use seabed_object::{
    Condition, Direction, Hint, HintFlags, IntoData, Limits, ObjectId, Op, Refused, Transaction, Usage,
};
pub use seabed_segment::{FORMAT_VERSION, Identity, Layout, LayoutError, Superblock, SuperblockError};
pub use seabed_types as types;

/// The glommio that the engine runs on, so that an embedder's types are the same.
#[cfg(feature = "glommio")]
pub use seabed_device::glommio;
