//! Options: what can be chosen when a store is made and when it is opened.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use seabed_device::glommio_host::Discard;
use seabed_object::limits::INLINE_EXTENTS_BYTES;

/// Read handles that may be open at a time, if nothing else is said.
const READ_HANDLES_MAX: usize = 1024;
/// How long one may be used, if nothing else is said.
const READ_HANDLE_AGE_MAX: Duration = Duration::from_hours(1);
/// The least that the most bytes of an answer are, if nothing else is said.
const READ_BYTES_MIN: usize = 1 << 20;

/// Whether a store may be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// It may.
    #[default]
    ReadWrite,
    /// Nothing is written, not even by the mount: the journal is replayed in memory.
    ReadOnly,
}

/// How a store is opened. Fields may be added: build it with `..OpenOptions::default()`.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether it may be changed.
    pub access: Access,
    /// Bytes of memory for nodes, pending changes, batches, queued requests, reads, and data that is read again.
    pub memory_bytes: usize,
    /// Of these, bytes for data that is read again; 0 for none. An eighth if None, half at most; over a quarter nodes have less.
    pub data_cache_bytes: Option<usize>,
    /// Most bytes of one answer (data, all attributes of an object, the pairs of several keys): a longer one is
    /// [`crate::Error::ReadTooLarge`]. Data can be read in parts or with a read handle, keys in fewer at a time; attributes one
    /// by one. An eighth of the memory if None, and at least 1 MiB.
    pub read_bytes_max: Option<usize>,
    /// Most read handles that are open at a time.
    pub read_handles_max: usize,
    /// How long a read handle may be used.
    pub read_handle_age_max: Duration,
    /// Whether live data is moved out of segments that are mostly dead, a little with every write, so that their space can be
    /// used again. Without it a segment is free only when all of its data is dead.
    pub cleaning: bool,
    /// Whether segments that became free are discarded: on a block device that supports it by default, on a file only if asked.
    pub discard: Discard,
    /// How long an engine thread looks for work before it sleeps: lower latency for CPU time. By default 5 us; while the device
    /// has something to do longer, as [`seabed_device::glommio_host::HostOptions::spin_before_park`] says. None: it sleeps at once.
    pub spin_before_park: Option<Duration>,
    /// How long to wait until another process, or another handle of this one, lets go of the device; zero: not at all. As
    /// [`seabed_device::glommio_host::HostOptions::lock_wait`].
    pub lock_wait: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            access: Access::ReadWrite,
            memory_bytes: 512 << 20,
            data_cache_bytes: None,
            read_bytes_max: None,
            read_handles_max: READ_HANDLES_MAX,
            read_handle_age_max: READ_HANDLE_AGE_MAX,
            cleaning: true,
            discard: Discard::Auto,
            spin_before_park: Some(Duration::from_micros(5)),
            lock_wait: Duration::from_secs(5),
        }
    }
}

/// Called with the bytes done and the bytes in all.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// How a store is made. Fields may be added: build it with `..FormatOptions::default()`.
#[derive(Clone)]
pub struct FormatOptions {
    /// Bytes of the device; for a block device or an existing file its own size if None.
    pub size: Option<u64>,
    /// Bytes of a segment; chosen by the size if None.
    pub segment_bytes: Option<u32>,
    /// Bytes of a tree node.
    pub node_bytes: u32,
    /// Bytes of journal to replay at most: 4 segments to a quarter of the store; chosen by the size if None.
    pub window_bytes: Option<u64>,
    /// Whether to overwrite what is there.
    pub force: bool,
    /// As [`OpenOptions::lock_wait`].
    pub lock_wait: Duration,
    /// Set by another thread: the format stops soon, undoes what it did, and fails with
    /// [`seabed_device::OpenError::Interrupted`].
    pub cancel: Option<Arc<AtomicBool>>,
    /// Whether to write a file once from end to end, so that later flushes do not have to commit the file system's journal.
    pub first_write: bool,
    /// Called while the first write runs.
    pub progress: Option<Progress>,
}

impl Default for FormatOptions {
    fn default() -> Self {
        Self {
            size: None,
            segment_bytes: None,
            node_bytes: 16 << 10,
            window_bytes: None,
            force: false,
            lock_wait: Duration::from_secs(5),
            cancel: None,
            first_write: true,
            progress: None,
        }
    }
}

impl fmt::Debug for FormatOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormatOptions")
            .field("size", &self.size)
            .field("segment_bytes", &self.segment_bytes)
            .field("node_bytes", &self.node_bytes)
            .field("window_bytes", &self.window_bytes)
            .field("force", &self.force)
            .field("lock_wait", &self.lock_wait)
            .field("first_write", &self.first_write)
            .finish_non_exhaustive()
    }
}

/// How a shard is mounted: the part of the options that does not concern the device. Fields may be added: build it with
/// `..ShardOptions::default()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardOptions {
    /// Whether it may be changed.
    pub access: Access,
    /// Its memory budget in bytes.
    pub memory_bytes: usize,
    /// Of it, bytes for data that is read again; 0 for none. An eighth if None, half at most; over a quarter nodes have less.
    pub data_cache_bytes: Option<usize>,
    /// Most bytes of one answer. An eighth of the budget if None, and at least 1 MiB.
    pub read_bytes_max: Option<usize>,
    /// Most read handles that are open at a time.
    pub read_handles_max: usize,
    /// How long a read handle may be used.
    pub read_handle_age_max: Duration,
    /// As [`OpenOptions::cleaning`].
    pub cleaning: bool,
    /// Data of this many bytes and more goes to the bulk stream first.
    pub bulk_bytes: usize,
    /// Data of an object that a transaction makes, of this many bytes and more, has its rows logged ahead; less if they would
    /// fill more than half a record.
    pub lay_bytes: usize,
    /// Inline limit of onodes, in bytes per part.
    pub inline_bytes: usize,
    /// Most bytes of extents in an onode; none in stores of format version 1.
    pub inline_extents_bytes: usize,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            access: Access::ReadWrite,
            memory_bytes: 512 << 20,
            data_cache_bytes: None,
            read_bytes_max: None,
            read_handles_max: READ_HANDLES_MAX,
            read_handle_age_max: READ_HANDLE_AGE_MAX,
            cleaning: true,
            bulk_bytes: 128 << 10,
            lay_bytes: 16 << 20,
            inline_bytes: 512,
            inline_extents_bytes: INLINE_EXTENTS_BYTES,
        }
    }
}

impl ShardOptions {
    /// Most bytes of one answer.
    pub(crate) fn read_bytes(&self) -> usize {
        self.read_bytes_max.unwrap_or((self.memory_bytes / 8).max(READ_BYTES_MIN))
    }

    /// Bytes of the budget for data that is read again.
    pub(crate) fn data_bytes(&self) -> usize {
        self.data_cache_bytes.unwrap_or(self.memory_bytes / 8).min(self.memory_bytes / 2)
    }
}
