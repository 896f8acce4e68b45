//! Handle: an object as it was when it was opened, read in bounded memory for as long as it takes.
//!
//! A handle watches its object (`past`): it shows one version, whatever is written, removed or put in its place meanwhile. It
//! keeps no memory but that of rows that changed, and no segment but those with bytes that the object does not have any
//! more. So it costs a store that nobody writes to nothing, and one with an overwriter the space of what was overwritten.
//!
//! That has a bound: a handle *expires* when it is older than an option says, when the rows noted for all handles pass
//! their share of memory, or when a transaction finds no space that handles keep; the oldest goes first. Its reads fail with
//! [`Error::Expired`] then, and never show another version. It expires also when the shard mounts itself in place after a
//! failure of the device.
//!
//! Cost: a read as [`crate::LocalPool::read`], but that it always takes permits. Limits:
//! [`crate::ShardOptions::read_handles_max`], [`crate::ShardOptions::read_handle_age_max`].

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use futures::Stream;
use seabed_journal::CollectionId;
use seabed_object::ObjectId;
use seabed_object::read::{self, Opened, Stat};
use seabed_types::PoolId;

use crate::operate::past::{For, Watching};
use crate::operate::read::{SLICE_BYTES, memory_of, refused};
use crate::shard::Shard;
use crate::shard::mounted::Mounted;
use crate::{Error, Result};

/// A read handle on the shard's own thread: an object pinned to one version.
pub struct LocalRead {
    shard: Rc<Shard>,
    id: CollectionId,
    watching: Watching,
    opened: Opened,
    /// Where [`LocalRead::next_chunk`] goes on.
    position: u64,
}

impl fmt::Debug for LocalRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRead")
            .field("size", &self.size())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl LocalRead {
    pub(crate) async fn open(shard: &Rc<Shard>, pool: PoolId, object: &ObjectId) -> Result<Self> {
        let open = async |on: Rc<Mounted>| {
            let id = on.collection_of(pool, object.hash)?;
            let watching = on.watch(id, object, For::Handle)?;
            let opened = on.ask_as_of(id, &watching, |rows| read::open(rows, object)).await?;
            watching.keep_family(opened.stat.family);
            Ok((id, watching, opened))
        };
        let (id, watching, opened) = shard.again(open).await?;
        Ok(Self { shard: Rc::clone(shard), id, watching, opened, position: 0 })
    }

    /// Bytes of the object.
    pub fn size(&self) -> u64 {
        self.opened.stat.size
    }

    /// What the object was when it was opened.
    pub fn stat(&self) -> Stat {
        self.opened.stat
    }

    /// Which state of the store it shows: two handles of one version show the same bytes. It grows with each transaction of the
    /// store, and counts from 0 when the store is opened.
    pub fn version(&self) -> u64 {
        self.watching.watch.version
    }

    /// The bytes from `offset` on, at most `bytes` and at most up to the object's end; holes are zeros.
    ///
    /// Errors: [`Error::Expired`], [`Error::ReadTooLarge`]. Cancel safety: dropping the future loses nothing.
    pub async fn read_at(&self, offset: u64, bytes: u64) -> Result<Bytes> {
        let mounted = self.shard.mounted().await?;
        if self.watching.mounted().is_none_or(|own| !Rc::ptr_eq(&own, &mounted)) {
            return Err(Error::Expired);
        }
        let range = self.opened.clip(offset, bytes).map_err(refused)?;
        mounted.check_read(range.bytes)?;
        let _permit = mounted.reads.acquire(memory_of(range.bytes)).await;
        mounted.expire_if_old(&self.watching)?;
        let running = mounted.table.enter();
        let read = mounted.read_range(self.id, &self.watching, &self.opened, range).await;
        drop(running);
        match read {
            Err(_) if mounted.failure().is_some() => Err(Error::Expired),
            read => read,
        }
    }

    /// The next bytes, at most 1 MiB; none at the end. After an error the same bytes can be asked for again.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if self.position >= self.size() {
            return Ok(None);
        }
        let chunk = self.read_at(self.position, self.chunk_bytes()).await?;
        self.position += chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// Bytes of a chunk of its stream.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        SLICE_BYTES.min(self.shard.options().read_bytes()) as u64
    }

    /// All bytes that [`LocalRead::next_chunk`] has not given, as a stream; an error ends it.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> {
        futures::stream::try_unfold(self, |mut read| async move {
            Ok(read.next_chunk().await?.map(|chunk| (chunk, read)))
        })
    }
}
