//! Error: what a call can fail with: the caller's mistakes, the medium's failures, and a store that cannot go on.

mod kind;

use seabed_device::{DeviceError, OpenError};
use seabed_journal::{FenceCause, ScanError};
use seabed_object::{Refusal, Refused};
use seabed_segment::{LayoutError, SuperblockError};
use seabed_types::{Lsn, Paddr, PoolId, ShardId};

pub use self::kind::ErrorKind;

/// Why a call failed. Cheap to clone and to send.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be opened: in use, missing, not a device.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is there is no store, or none that this program can use.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// A store cannot have this geometry.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The device is smaller than the store on it.
    #[error(
        "the store has {store_bytes} bytes, the device {device_bytes}: it was truncated or copied in part"
    )]
    WrongSize {
        /// What the superblock says.
        store_bytes: u64,
        /// What the device has.
        device_bytes: u64,
    },
    /// An operation of a transaction cannot be carried out; nothing of it was applied.
    #[error("operation {op}: {why}")]
    Refused {
        /// Its index.
        op: usize,
        /// The reason.
        why: Refused,
    },
    /// The object does not exist.
    #[error("the object does not exist")]
    NotFound,
    /// The object has no such attribute.
    #[error("the object has no such attribute")]
    NoSuchAttr,
    /// There is no such pool.
    #[error("there is no pool {name:?}")]
    NoSuchPool {
        /// Its name.
        name: String,
    },
    /// There is no pool of this id: it was removed, or never created.
    #[error("there is no pool with id {}: it was removed, or never created", id.0)]
    NoSuchPoolId {
        /// The id.
        id: PoolId,
    },
    /// Pool 0 describes the store; it is neither read nor changed through its pools.
    #[error("pool 0 is the store's own and cannot be used")]
    SystemPool,
    /// There is such a pool already.
    #[error("there is a pool {name:?} already")]
    PoolExists {
        /// Its name.
        name: String,
    },
    /// A checkpoint of this store has no room for another pool.
    #[error(
        "there are {max} pools, removed ones included: a checkpoint in segments of this size names no more"
    )]
    TooManyPools {
        /// How many there may be.
        max: usize,
    },
    /// An argument breaks a rule.
    #[error("invalid: {what}")]
    Invalid {
        /// Which.
        what: &'static str,
    },
    /// A transaction exceeds a limit ([`crate::StoreLimits`]); nothing of it was applied.
    #[error("too large: {what}: {size}, at most {max}")]
    TooLarge {
        /// Which limit, with its unit.
        what: &'static str,
        /// What the transaction has, at least.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// As many streaming puts are open as there is memory for.
    #[error("{max} streaming puts are open, as many as the memory budget has room for")]
    TooManyStreams {
        /// How many there may be.
        max: usize,
    },
    /// The answer has more bytes than may be read at once.
    #[error(
        "{bytes} bytes are more than the {max} that may be read at once: read it in parts or with a read handle, or raise read_bytes_max"
    )]
    ReadTooLarge {
        /// What was asked for, clipped at the object's size; of attributes and keys what was found before the reading ended.
        bytes: u64,
        /// What may be: an option.
        max: usize,
    },
    /// The read handle is too old, or the space of what it shows was needed: open another.
    #[error("the read handle has expired")]
    Expired,
    /// Too many read handles are open.
    #[error("{max} read handles are open, as many as may be")]
    TooManyHandles {
        /// How many there may be: an option.
        max: usize,
    },
    /// There is no space left for it; nothing was applied.
    #[error(
        "no space: {live} bytes are live of {usable} usable, {reserved} are reserved for the store's own work, \
         {free_segments} segments are free, reserves included; removing objects makes space"
    )]
    NoSpace {
        /// Live bytes.
        live: u64,
        /// What may be live at most.
        usable: u64,
        /// What may not be live: room for the journal, checkpoints, removals and cleaning.
        reserved: u64,
        /// Segments that are free, reserves included.
        free_segments: usize,
    },
    /// The store was opened for reading.
    #[error("the store is open read-only")]
    ReadOnly,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Code that an embedder runs on the engine's thread panicked; the store goes on.
    #[error("code on the engine's thread panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The blocking face was called where it would block an executor, which may be the one that has to answer.
    #[error("a blocking call on an engine's thread or inside an executor would wait for itself")]
    WouldBlock,
    /// Nothing was sent: calls whose futures were dropped are still being carried out and take all the memory they may. A
    /// later call may succeed.
    #[error("dropped calls of {bytes} bytes are not finished, the limit is {max}: try again later")]
    Backlog {
        /// What unfinished dropped calls take.
        bytes: usize,
        /// What they may take before further calls fail.
        max: usize,
    },
    /// The store has stopped: nothing more is acknowledged until it is opened again.
    #[error("the store stopped after a failure: {0}")]
    Fenced(#[from] FenceCause),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Stored bytes are damaged; other ranges are not affected.
    #[error("{}: {what}", match at { Some(at) => format!("corrupt at {at}"), None => "corrupt".into() })]
    Corrupt {
        /// The location, where it is known.
        at: Option<Paddr>,
        /// What is wrong.
        what: &'static str,
    },
    /// The journal holds damage to what was acknowledged.
    #[error(
        "shard {shard}: the journal is damaged at {at}: record {lsn} was durable and is not valid: {what}"
    )]
    Damaged {
        /// Of which shard.
        shard: ShardId,
        /// Where.
        at: Paddr,
        /// Which record.
        lsn: Lsn,
        /// What is wrong.
        what: &'static str,
    },
    /// The memory budget is too small to open this store.
    #[error("opening takes {needed} bytes of memory, the budget is {given}")]
    MemoryBudget {
        /// The least that does.
        needed: usize,
        /// What was given.
        given: usize,
    },
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        if let Refused::TooLarge { what, size, max } = refusal.why {
            return Self::TooLarge { what, size, max };
        }
        Self::Refused { op: refusal.op, why: refusal.why }
    }
}

impl Error {
    /// The error of a transaction that fits no record.
    pub(crate) fn too_large_for_a_record(bytes: usize, max: usize) -> Self {
        Self::TooLarge {
            what: "bytes of a record, with data that is not stored ahead",
            size: bytes as u64,
            max: max as u64,
        }
    }

    /// Why a mount ends in which this error stopped a task that the mount cannot do without. `what` failed, if neither the
    /// device, nor stored bytes, nor a lack of space did.
    pub(crate) fn fence_cause(&self, what: &'static str) -> FenceCause {
        match self {
            Self::Device(error) => FenceCause::Device(*error),
            Self::Fenced(cause) => *cause,
            Self::Corrupt { at, what } => FenceCause::Corrupt { at: *at, what },
            Self::Damaged { at, what, .. } => FenceCause::Corrupt { at: Some(*at), what },
            Self::NoSpace { .. } => FenceCause::NoSpace,
            Self::Open(_)
            | Self::Superblock(_)
            | Self::Layout(_)
            | Self::WrongSize { .. }
            | Self::Refused { .. }
            | Self::NotFound
            | Self::NoSuchAttr
            | Self::NoSuchPool { .. }
            | Self::NoSuchPoolId { .. }
            | Self::SystemPool
            | Self::PoolExists { .. }
            | Self::TooManyPools { .. }
            | Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::TooManyStreams { .. }
            | Self::ReadTooLarge { .. }
            | Self::Expired
            | Self::TooManyHandles { .. }
            | Self::ReadOnly
            | Self::Closed
            | Self::Panicked { .. }
            | Self::WouldBlock
            | Self::Backlog { .. }
            | Self::MemoryBudget { .. } => FenceCause::Internal { what },
        }
    }

    /// Corrupt stored bytes at a known location.
    pub(crate) fn corrupt(at: Paddr, what: &'static str) -> Self {
        Self::Corrupt { at: Some(at), what }
    }

    pub(crate) fn of_scan(error: &ScanError, shard: ShardId) -> Self {
        match error {
            ScanError::Device(error) => Self::Device(*error),
            ScanError::Damaged { at, lsn, what } => Self::Damaged { shard, at: *at, lsn: *lsn, what },
        }
    }
}
