//! Local store: the face of a store on an engine's own thread, without a hop and not `Send`.
//!
//! Not here: what a store does about pools as a whole, in `pools`.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use bytes::Bytes;
use futures::future::join_all;
use seabed_device::Runtime;
use seabed_object::read::{Range, Stat};
use seabed_object::{Condition, Direction, IntoData, ObjectId, Refused, Transaction, Usage};
use seabed_types::PoolId;

use crate::face::handle::LocalRead;
use crate::face::limits::StoreLimits;
use crate::maintain::capacity::Space;
use crate::maintain::clean_now::{CleanOptions, Cleaned};
use crate::operate::listing::ListPage;
use crate::operate::put::LocalPut;
use crate::operate::read::OmapPage;
use crate::shard::Shard;
use crate::shard::mounted::Mounted;
use crate::stats::Stats;
use crate::{Error, Result};

/// Ranges of one call that are read at a time.
const RANGES_AT_ONCE: usize = 64;

/// A pool as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PoolEntry {
    /// Its id; never used again after its removal.
    pub id: PoolId,
    /// Its name.
    pub name: String,
}

/// A store on the thread that runs its shard.
#[derive(Clone)]
pub struct LocalStore {
    pub(crate) shard: Rc<Shard>,
}

/// A pool on the thread that runs its shard.
#[derive(Clone)]
pub struct LocalPool {
    pub(crate) shard: Rc<Shard>,
    pub(crate) id: PoolId,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").field("shard", &self.shard).finish()
    }
}

impl fmt::Debug for LocalPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPool").field("id", &self.id).finish_non_exhaustive()
    }
}

impl LocalStore {
    /// The face of a mounted shard.
    pub fn new(shard: Rc<Shard>) -> Self {
        Self { shard }
    }

    /// The shard behind it.
    pub fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    /// Time and tasks of this thread.
    pub fn runtime(&self) -> Rc<dyn Runtime> {
        Rc::clone(&self.shard.machine().runtime)
    }

    /// What a name, a value and a transaction may have in this store.
    pub fn limits(&self) -> StoreLimits {
        self.shard.store_limits()
    }

    /// What all pools hold.
    pub fn usage(&self) -> Usage {
        self.shard.current().usage_of_all()
    }

    /// Counters and levels.
    pub fn stats(&self) -> Stats {
        self.shard.stats()
    }

    /// See [`crate::Store::space`].
    pub async fn space(&self) -> Result<Space> {
        Ok(self.shard.mounted().await?.space().await)
    }

    /// See [`crate::Store::clean`]. Cancel safety: dropping the future ends it, as [`CleanOptions::cancel`] does.
    pub async fn clean(&self, options: CleanOptions) -> Result<Cleaned> {
        self.shard.clean(options).await
    }
}

/// The bytes of keys that a caller named.
pub(crate) fn keys_of(keys: impl IntoIterator<Item = impl IntoData>) -> Vec<Vec<u8>> {
    keys.into_iter().map(|key| key.into_data().into()).collect()
}

/// Where a range of an object's bytes begins, and how many bytes it has; without an end it goes to the object's.
pub(crate) fn bytes_of_range(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => seabed_object::limits::OBJECT_BYTES_MAX.max(from),
    };
    (from, to.saturating_sub(from))
}

impl LocalPool {
    /// Time and tasks of this thread.
    pub fn runtime(&self) -> Rc<dyn Runtime> {
        Rc::clone(&self.shard.machine().runtime)
    }

    /// The pool's id.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// Submits a transaction; its place in the order is taken in the moment of the call. Durable when the future is ready.
    ///
    /// Errors: [`Error::Refused`] names the operation; [`Error::NoSpace`], [`Error::TooLarge`]: nothing was applied.
    /// Cancel safety: dropping the future does not undo the transaction.
    pub fn submit(&self, txn: Transaction) -> impl Future<Output = Result<()>> + 'static + use<> {
        self.shard.submit(self.id, txn)
    }

    /// Replaces the whole object; its place in the order is taken in the moment of the call, as by [`LocalPool::submit`].
    pub fn put(&self, object: impl Into<ObjectId>, data: impl IntoData) -> impl Future<Output = Result<()>> {
        self.put_with(object, data, Vec::new())
    }

    /// Replaces the whole object, with attributes; its place in the order is taken in the moment of the call.
    pub fn put_with(
        &self,
        object: impl Into<ObjectId>,
        data: impl IntoData,
        attributes: Vec<(Vec<u8>, Bytes)>,
    ) -> impl Future<Output = Result<()>> {
        let mut txn = Transaction::new();
        txn.put(&object.into(), data, attributes);
        self.submit(txn)
    }

    /// Begins a put of any size in bounded memory. [`Error::TooManyStreams`]: so many are open already.
    pub fn put_stream(&self, object: impl Into<ObjectId>) -> Result<LocalPut> {
        LocalPut::new(&self.shard, self.of_user()?, object.into())
    }

    /// Opens an object to be read as it is now, in bounded memory, for as long as it takes; [`Error::NotFound`],
    /// [`Error::TooManyHandles`].
    pub async fn open_read(&self, object: impl Into<ObjectId>) -> Result<LocalRead> {
        LocalRead::open(&self.shard, self.of_user()?, &object.into()).await
    }

    /// All bytes of an object. [`Error::ReadTooLarge`]: of a larger one, use [`LocalPool::open_read`].
    pub async fn get(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        self.read(object, 0, seabed_object::limits::OBJECT_BYTES_MAX).await
    }

    /// Removes an object; [`Error::NotFound`]. Its place in the order is taken in the moment of the call.
    pub fn remove(&self, object: impl Into<ObjectId>) -> impl Future<Output = Result<()>> {
        self.remove_now(&object.into())
    }

    /// As [`LocalPool::remove`], with a future that borrows nothing.
    pub(crate) fn remove_now(&self, object: &ObjectId) -> impl Future<Output = Result<()>> + 'static + use<> {
        let mut txn = Transaction::new();
        txn.expect(object, Condition::Exists).remove(object);
        let submitted = self.submit(txn);
        async move {
            match submitted.await {
                Err(Error::Refused { why: Refused::PreconditionFailed, .. }) => Err(Error::NotFound),
                result => result,
            }
        }
    }

    /// Whether an object exists.
    pub async fn exists(&self, object: impl Into<ObjectId>) -> Result<bool> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.exists(self.of_user()?, &object).await).await
    }

    /// What an object is.
    pub async fn stat(&self, object: impl Into<ObjectId>) -> Result<Stat> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.stat(self.of_user()?, &object).await).await
    }

    /// Bytes that an object's data and large values take; visits all its rows.
    pub async fn allocated(&self, object: impl Into<ObjectId>) -> Result<u64> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.allocated(self.of_user()?, &object).await).await
    }

    /// The bytes from `offset` on, at most `bytes` and at most up to the object's end; holes are zeros. All of them are as they
    /// were in one moment. [`Error::ReadTooLarge`]: they are more than may be read at once.
    pub async fn read(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Bytes> {
        let object = object.into();
        let bytes = bytes.min(seabed_object::limits::OBJECT_BYTES_MAX);
        self.shard
            .again(async |on: Rc<Mounted>| on.read_object(self.of_user()?, &object, offset, bytes).await)
            .await
    }

    /// The bytes of a range, as [`LocalPool::read`]: `100..200`, `4096..`, `..`.
    pub async fn read_range(
        &self,
        object: impl Into<ObjectId>,
        range: impl RangeBounds<u64>,
    ) -> Result<Bytes> {
        let (offset, bytes) = bytes_of_range(&range);
        self.read(object, offset, bytes).await
    }

    /// Several ranges at once, each answered for itself; [`Error::ReadTooLarge`] if together they are more than may be read at
    /// once.
    pub async fn read_vec(
        &self,
        object: impl Into<ObjectId>,
        ranges: Vec<(u64, u64)>,
    ) -> Result<Vec<Result<Bytes>>> {
        let object = object.into();
        let asked = ranges.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if asked > self.shard.options().read_bytes() as u64 {
            // What was asked for may pass the object's end.
            let size = self.stat(object.clone()).await?.size;
            let clipped = |(offset, bytes): &(u64, u64)| (*bytes).min(size.saturating_sub(*offset));
            let bytes = ranges.iter().map(clipped).fold(0u64, u64::saturating_add);
            self.shard.current().check_read(bytes)?;
        }
        let reads = ranges.iter().map(|(offset, bytes)| self.read(object.clone(), *offset, *bytes));
        let (mut reads, mut answers) = (reads.peekable(), Vec::new());
        while reads.peek().is_some() {
            answers.extend(join_all(reads.by_ref().take(RANGES_AT_ONCE)).await);
            if reads.peek().is_some() {
                self.runtime().yield_io().await;
            }
        }
        Ok(answers)
    }

    /// The stored ranges within a range; all between them are zeros.
    pub async fn extents(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Vec<Range>> {
        let object = object.into();
        self.shard
            .again(async |on: Rc<Mounted>| on.extents(self.of_user()?, &object, offset, bytes).await)
            .await
    }

    /// An attribute's value; [`Error::NoSuchAttr`].
    pub async fn attr(&self, object: impl Into<ObjectId>, name: impl AsRef<[u8]>) -> Result<Bytes> {
        let (object, name) = (object.into(), name.as_ref());
        self.shard.again(async |on: Rc<Mounted>| on.attr(self.of_user()?, &object, name).await).await
    }

    /// All attributes, by name. Their number has no limit but space: [`Error::ReadTooLarge`] if names and values together have
    /// more bytes than `read_bytes_max` of the options; a single one is always read.
    pub async fn attrs(&self, object: impl Into<ObjectId>) -> Result<Vec<(Bytes, Bytes)>> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.attrs(self.of_user()?, &object).await).await
    }

    /// The omap header; empty if there is none.
    pub async fn omap_header(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.omap_header(self.of_user()?, &object).await).await
    }

    /// The pairs of these keys; absent keys are left out. [`Error::ReadTooLarge`] if together they have more bytes than
    /// `read_bytes_max` of the options; a single one is always read.
    pub async fn omap_get(
        &self,
        object: impl Into<ObjectId>,
        keys: impl IntoIterator<Item = impl IntoData>,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let (object, keys) = (object.into(), keys_of(keys));
        self.shard.again(async |on: Rc<Mounted>| on.omap_get(self.of_user()?, &object, &keys).await).await
    }

    /// At most `limit` pairs with keys from `from` (inclusive) to `to` (exclusive). A page ends early, with a cursor, when it has
    /// about 1 MiB.
    pub async fn omap_range(
        &self,
        object: impl Into<ObjectId>,
        range: (&[u8], Option<&[u8]>),
        limit: usize,
        direction: Direction,
    ) -> Result<OmapPage> {
        let object = object.into();
        let page =
            async |on: Rc<Mounted>| on.omap_range(self.of_user()?, &object, range, limit, direction).await;
        self.shard.again(page).await
    }

    /// At most `limit` objects (1 or more) from `from` (inclusive) on, in the order of objects, and what each of them is. A page
    /// ends early, with a cursor, when it has 1 MiB of names; it goes on behind what is damaged, and reports that.
    pub async fn list_page(&self, from: Option<ObjectId>, limit: usize) -> Result<ListPage> {
        self.shard.again(async |on: Rc<Mounted>| on.list(self.of_user()?, from.as_ref(), limit).await).await
    }

    /// What the pool holds, of what is durable; [`Error::NoSuchPoolId`].
    pub fn usage(&self) -> Result<Usage> {
        self.shard.current().usage_of_pool(self.of_user()?)
    }

    /// The pool's id, unless it is the store's own pool.
    fn of_user(&self) -> Result<PoolId> {
        crate::face::pools::of_user(self.id)
    }
}
