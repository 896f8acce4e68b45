//! Pool: the face of one pool for any thread and any executor.
//!
//! Each call is one request to the engine thread ([`Store`]); reads of any size go through a [`ReadHandle`], puts of any
//! size through a [`PutStream`].

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use seabed_device::Class;
use seabed_object::read::{Range, Stat};
use seabed_object::{Direction, IntoData, ObjectId, Transaction, Usage};
use seabed_types::PoolId;

use super::Store;
use super::put_stream::{PutStream, stream};
use super::read_handle::{READS_QUEUED, ReadHandle, serve_reads};
use crate::Result;
use crate::face::inbox::Answer;
use crate::face::list::List;
use crate::face::local::{LocalPool, bytes_of_range, keys_of};
use crate::operate::listing::ListPage;
use crate::operate::read::OmapPage;
use crate::options::ShardOptions;
use crate::shard::mounted::limits_of;
#[cfg(doc)]
use crate::{Error, ErrorKind};

/// A pool of an open store.
///
/// In every call: an object that does not exist is [`Error::NotFound`] (from a transaction [`Error::Refused`] with
/// [`Refused::NotFound`](crate::Refused::NotFound); both are [`ErrorKind::NotFound`]), a pool that does not exist or was removed is
/// [`Error::NoSuchPoolId`], and a page of 0 items is [`Error::Invalid`].
#[derive(Clone)]
pub struct Pool {
    store: Store,
    id: PoolId,
    name: Arc<str>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(store: Store, id: PoolId, name: &str) -> Self {
        Self { store, id, name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// The store that it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn call<T, F, R>(&self, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(LocalPool) -> R + Send + 'static,
        R: Future<Output = Result<T>> + 'static,
    {
        self.call_with(0, work)
    }

    fn call_with<T, F, R>(&self, bytes: usize, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(LocalPool) -> R + Send + 'static,
        R: Future<Output = Result<T>> + 'static,
    {
        let id = self.id;
        self.store.call_with(bytes, move |local| work(local.pool_of(id)))
    }

    /// Submits a transaction; its place in the order is taken in the moment of the call. Durable when the future is ready.
    ///
    /// Errors: [`Error::Refused`] names the operation; [`Error::NoSpace`], [`Error::TooLarge`]: nothing was applied;
    /// [`Error::Backlog`]: nothing was sent.
    /// Cancel safety: dropping the future, polled or not, does not undo the transaction: it was sent, it is carried out, and
    /// what is submitted afterwards takes effect after it.
    pub fn submit(&self, txn: Transaction) -> Answer<()> {
        // Here and not on the engine's thread, which would also have to drop it.
        let limits = limits_of(&self.store.handle.info.superblock, &ShardOptions::default());
        if let Err(refusal) = limits.check_items(&txn) {
            return Answer::failed(refusal.into());
        }
        self.call_with(txn.payload_bytes(), move |pool| pool.submit(txn))
    }

    /// Replaces the whole object. Order and cancel safety as [`Pool::submit`].
    pub fn put(&self, object: impl Into<ObjectId>, data: impl IntoData) -> Answer<()> {
        self.put_with(object, data, Vec::new())
    }

    /// Replaces the whole object, with attributes. Order and cancel safety as [`Pool::submit`].
    pub fn put_with(
        &self,
        object: impl Into<ObjectId>,
        data: impl IntoData,
        attributes: Vec<(Vec<u8>, Bytes)>,
    ) -> Answer<()> {
        let mut txn = Transaction::new();
        txn.put(&object.into(), data, attributes);
        self.submit(txn)
    }

    /// Begins a put of any size in bounded memory. [`Error::TooManyStreams`]: so many are open already.
    pub async fn put_stream(&self, object: impl Into<ObjectId>) -> Result<PutStream> {
        let object = object.into();
        let (parts, received) = async_channel::bounded(1);
        let (sender, done) = oneshot::channel();
        self.call(move |pool| {
            let put = pool.put_stream(object);
            async move {
                let put = put?;
                let runtime = pool.runtime();
                runtime.spawn(
                    Class::Foreground,
                    Box::pin(async move {
                        let _ = sender.send(stream(put, received).await);
                    }),
                );
                Ok(())
            }
        })
        .await?;
        Ok(PutStream::new(parts, done))
    }

    /// Opens an object to be read as it is now, in bounded memory, for as long as it takes; [`Error::NotFound`],
    /// [`Error::TooManyHandles`].
    pub async fn open_read(&self, object: impl Into<ObjectId>) -> Result<ReadHandle> {
        let object = object.into();
        let (sender, jobs) = async_channel::bounded(READS_QUEUED);
        let opened = self.call(move |pool| async move {
            let read = pool.open_read(object).await?;
            let (stat, version) = (read.stat(), read.version());
            let runtime = pool.runtime();
            runtime.spawn(Class::Foreground, Box::pin(serve_reads(read, jobs, pool.runtime())));
            Ok((stat, version))
        });
        let (stat, version) = opened.await?;
        Ok(ReadHandle::new(sender, stat, version))
    }

    /// All bytes of an object. [`Error::ReadTooLarge`]: of a larger one, use [`Pool::open_read`].
    pub async fn get(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        let object = object.into();
        self.call(|pool| async move { pool.get(object).await }).await
    }

    /// Removes an object; [`Error::NotFound`]. Order and cancel safety as [`Pool::submit`].
    pub fn remove(&self, object: impl Into<ObjectId>) -> Answer<()> {
        let object = object.into();
        self.call(move |pool| pool.remove_now(&object))
    }

    /// Whether an object exists.
    pub async fn exists(&self, object: impl Into<ObjectId>) -> Result<bool> {
        let object = object.into();
        self.call(|pool| async move { pool.exists(object).await }).await
    }

    /// What an object is.
    pub async fn stat(&self, object: impl Into<ObjectId>) -> Result<Stat> {
        let object = object.into();
        self.call(|pool| async move { pool.stat(object).await }).await
    }

    /// Bytes that an object's data and large values take; visits all its rows.
    pub async fn allocated(&self, object: impl Into<ObjectId>) -> Result<u64> {
        let object = object.into();
        self.call(|pool| async move { pool.allocated(object).await }).await
    }

    /// The bytes from `offset` on, at most `bytes` and at most up to the object's end; holes are zeros.
    pub async fn read(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Bytes> {
        let object = object.into();
        self.call(move |pool| async move { pool.read(object, offset, bytes).await }).await
    }

    /// The bytes of a range, as [`Pool::read`]: `100..200`, `4096..`, `..`.
    pub async fn read_range(
        &self,
        object: impl Into<ObjectId>,
        range: impl RangeBounds<u64>,
    ) -> Result<Bytes> {
        let (offset, bytes) = bytes_of_range(&range);
        self.read(object, offset, bytes).await
    }

    /// Several ranges, {offset, bytes}, at once, each answered for itself.
    pub async fn read_vec(
        &self,
        object: impl Into<ObjectId>,
        ranges: Vec<(u64, u64)>,
    ) -> Result<Vec<Result<Bytes>>> {
        let object = object.into();
        self.call(move |pool| async move { pool.read_vec(object, ranges).await }).await
    }

    /// The stored ranges within a range; all between them are zeros.
    pub async fn extents(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Vec<Range>> {
        let object = object.into();
        self.call(move |pool| async move { pool.extents(object, offset, bytes).await }).await
    }

    /// An attribute's value; [`Error::NoSuchAttr`].
    pub async fn attr(&self, object: impl Into<ObjectId>, name: impl AsRef<[u8]>) -> Result<Bytes> {
        let (object, name) = (object.into(), name.as_ref().to_vec());
        self.call(|pool| async move { pool.attr(object, &name).await }).await
    }

    /// All attributes, by name. Their number has no limit but space: [`Error::ReadTooLarge`] if names and values together have
    /// more bytes than `read_bytes_max` of the options; a single one is always read.
    pub async fn attrs(&self, object: impl Into<ObjectId>) -> Result<Vec<(Bytes, Bytes)>> {
        let object = object.into();
        self.call(|pool| async move { pool.attrs(object).await }).await
    }

    /// The omap header; empty if there is none.
    pub async fn omap_header(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        let object = object.into();
        self.call(|pool| async move { pool.omap_header(object).await }).await
    }

    /// The pairs of these keys; absent keys are left out. [`Error::ReadTooLarge`] if together they have more bytes than
    /// `read_bytes_max` of the options; a single one is always read.
    pub async fn omap_get(
        &self,
        object: impl Into<ObjectId>,
        keys: impl IntoIterator<Item = impl IntoData>,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let (object, keys) = (object.into(), keys_of(keys));
        self.call(|pool| async move { pool.omap_get(object, keys).await }).await
    }

    /// At most `limit` pairs with keys from `from` (inclusive; none: the first) to `to` (exclusive; none: the last).
    pub async fn omap_range(
        &self,
        object: impl Into<ObjectId>,
        (from, to): (Option<Vec<u8>>, Option<Vec<u8>>),
        limit: usize,
        direction: Direction,
    ) -> Result<OmapPage> {
        let object = object.into();
        let work = move |pool: LocalPool| async move {
            let from = from.unwrap_or_default();
            pool.omap_range(object, (&from, to.as_deref()), limit, direction).await
        };
        self.call(work).await
    }

    /// At most `limit` objects (1 or more) from `from` (inclusive) on, in the order of objects, and what each of them is.
    pub async fn list_page(&self, from: Option<ObjectId>, limit: usize) -> Result<ListPage> {
        self.call(move |pool| async move { pool.list_page(from, limit).await }).await
    }

    /// All objects in the order of objects; complete for those that exist throughout. An interval of names that is damaged is
    /// an error, after which the stream goes on behind it.
    pub fn list(&self) -> List {
        List::new(self.clone())
    }

    /// What the pool holds.
    pub async fn usage(&self) -> Result<Usage> {
        self.call(|pool| async move { pool.usage() }).await
    }
}
