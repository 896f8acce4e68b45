//! Local store: the face of a store on an engine's own thread, without a hop and not `Send`.
//!
//! Pools are rows of the omap of one object of the system pool: name to {version, id}. A new pool's row and its first, empty
//! collection are in the same record. Pool ids come from the system collection's counter and are never used again.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use seabed_device::Runtime;
use seabed_object::read::{Range, Stat};
use seabed_object::{Condition, Direction, IntoData, ObjectId, Refused, Transaction, Usage};
use seabed_types::{Cursor, PoolId, put_varint};

use crate::mount::SYSTEM_POOL;
use crate::mounted::Mounted;
use crate::put::LocalPut;
use crate::read::{ListPage, OmapPage};
use crate::shard::Shard;
use crate::stats::Stats;
use crate::submit::Also;
use crate::{Error, Result};

const POOLS_OBJECT: &str = "pools";
const POOL_VERSION: u8 = 1;
/// Rows of a page when all pools are read.
const PAGE_ROWS: usize = 1000;

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
    shard: Rc<Shard>,
}

/// A pool on the thread that runs its shard.
#[derive(Clone)]
pub struct LocalPool {
    shard: Rc<Shard>,
    id: PoolId,
}

fn check_pool_name(name: &str) -> Result<()> {
    if !(1..=255).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(Error::Invalid {
            what: "a pool's name has 1 to 255 bytes of UTF-8 without control characters",
        });
    }
    Ok(())
}

fn decode_pool(value: &[u8]) -> Result<PoolId> {
    let corrupt = || Error::Corrupt { at: seabed_types::Paddr::default(), what: "a pool's row" };
    let mut cursor = Cursor::new(value);
    if cursor.u8("pool: version").map_err(|_| corrupt())? != POOL_VERSION {
        return Err(corrupt());
    }
    Ok(PoolId(cursor.varint("pool: id").map_err(|_| corrupt())?))
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

    /// The pool of this name; [`Error::NoSuchPool`].
    pub async fn pool(&self, name: &str) -> Result<LocalPool> {
        let id = self.pool_id(name).await?.ok_or_else(|| Error::NoSuchPool { name: name.to_owned() })?;
        Ok(self.pool_of(id))
    }

    /// A pool by its id, as [`LocalStore::pools`] gives it. Calls on one that does not exist are [`Error::Invalid`].
    pub fn pool_of(&self, id: PoolId) -> LocalPool {
        LocalPool { shard: Rc::clone(&self.shard), id }
    }

    async fn pool_id(&self, name: &str) -> Result<Option<PoolId>> {
        check_pool_name(name)?;
        let pools = ObjectId::new(POOLS_OBJECT);
        let keys = [name.as_bytes().to_vec()];
        let found = self.shard.again(async |on: Rc<Mounted>| on.omap_get(SYSTEM_POOL, &pools, &keys).await);
        let found = match found.await {
            Ok(found) => found,
            Err(Error::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        found.first().map(|(_, value)| decode_pool(value)).transpose()
    }

    /// Makes a pool; [`Error::PoolExists`]. [`Error::TooManyPools`]: a checkpoint must have room for all.
    pub async fn create_pool(&self, name: &str) -> Result<LocalPool> {
        check_pool_name(name)?;
        self.shard.writable()?;
        let mounted = self.shard.mounted().await?;
        let id = {
            let mut world = mounted.world.borrow_mut();
            // One is the store's own.
            let max = mounted.collections_max() - 1;
            if world.collections.len() > max {
                return Err(Error::TooManyPools { max });
            }
            let system = seabed_journal::CollectionId::whole(SYSTEM_POOL);
            let collection = world.collections.get_mut(&system);
            let collection =
                collection.ok_or(Error::Invalid { what: "the system pool is not on this shard" })?;
            collection.next_id += 1;
            PoolId(collection.next_id - 1)
        };
        let mut value = vec![POOL_VERSION];
        put_varint(&mut value, id.0);
        let (pools, key) = (ObjectId::new(POOLS_OBJECT), Bytes::copy_from_slice(name.as_bytes()));
        let mut txn = Transaction::new();
        txn.touch(&pools)
            .expect(&pools, Condition::Omap { key: key.clone(), value: None })
            .omap_insert(&pools, [(key, value)]);
        let submitted = self.shard.submit_with(SYSTEM_POOL, txn, Also::NewPool(id))?;
        match submitted.answer().await {
            Ok(()) => Ok(self.pool_of(id)),
            Err(Error::Refused { why: Refused::PreconditionFailed, .. }) => {
                Err(Error::PoolExists { name: name.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    /// The pool of this name, made if there is none.
    pub async fn pool_or_create(&self, name: &str) -> Result<LocalPool> {
        match self.pool(name).await {
            Err(Error::NoSuchPool { .. }) => {}
            found => return found,
        }
        match self.create_pool(name).await {
            Err(Error::PoolExists { .. }) => self.pool(name).await,
            made => made,
        }
    }

    /// All pools, by name.
    pub async fn pools(&self) -> Result<Vec<PoolEntry>> {
        let pools = ObjectId::new(POOLS_OBJECT);
        let mut entries = Vec::new();
        let mut from = Some(Bytes::new());
        while let Some(start) = from {
            let range = (&start[..], None);
            let page = async |on: Rc<Mounted>| {
                on.omap_range(SYSTEM_POOL, &pools, range, PAGE_ROWS, Direction::Forward).await
            };
            let page = match self.shard.again(page).await {
                Err(Error::NotFound) => return Ok(entries),
                page => page?,
            };
            for (name, value) in page.pairs {
                let id = decode_pool(&value)?;
                entries.push(PoolEntry { id, name: String::from_utf8_lossy(&name).into_owned() });
            }
            from = page.next;
        }
        Ok(entries)
    }

    /// What all pools hold.
    pub fn usage(&self) -> Usage {
        self.shard.usage(None)
    }

    /// Counters and levels.
    pub fn stats(&self) -> Stats {
        self.shard.stats()
    }
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

    /// Replaces the whole object.
    pub async fn put(&self, object: impl Into<ObjectId>, data: impl IntoData) -> Result<()> {
        self.put_with(object, data, Vec::new()).await
    }

    /// Replaces the whole object, with attributes.
    pub async fn put_with(
        &self,
        object: impl Into<ObjectId>,
        data: impl IntoData,
        attributes: Vec<(Vec<u8>, Bytes)>,
    ) -> Result<()> {
        let mut txn = Transaction::new();
        txn.put(&object.into(), data, attributes);
        self.submit(txn).await
    }

    /// Begins a put of any size in bounded memory.
    pub fn put_stream(&self, object: impl Into<ObjectId>) -> Result<LocalPut> {
        LocalPut::new(&self.shard, self.id, object.into())
    }

    /// All bytes of an object.
    pub async fn get(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        self.read(object, 0, seabed_object::limits::OBJECT_BYTES_MAX).await
    }

    /// Removes an object; [`Error::NotFound`].
    pub async fn remove(&self, object: impl Into<ObjectId>) -> Result<()> {
        let object = object.into();
        let mut txn = Transaction::new();
        txn.expect(&object, Condition::Exists).remove(&object);
        match self.submit(txn).await {
            Err(Error::Refused { why: Refused::PreconditionFailed, .. }) => Err(Error::NotFound),
            result => result,
        }
    }

    /// Whether an object exists.
    pub async fn exists(&self, object: impl Into<ObjectId>) -> Result<bool> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.exists(self.id, &object).await).await
    }

    /// What an object is.
    pub async fn stat(&self, object: impl Into<ObjectId>) -> Result<Stat> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.stat(self.id, &object).await).await
    }

    /// Bytes that an object's data and large values take; visits all its rows.
    pub async fn allocated(&self, object: impl Into<ObjectId>) -> Result<u64> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.allocated(self.id, &object).await).await
    }

    /// The bytes from `offset` on, at most `bytes` and at most up to the object's end; holes are zeros.
    pub async fn read(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Bytes> {
        let object = object.into();
        let bytes = bytes.min(seabed_object::limits::OBJECT_BYTES_MAX);
        self.shard.again(async |on: Rc<Mounted>| on.read_object(self.id, &object, offset, bytes).await).await
    }

    /// Several ranges at once, each answered for itself.
    pub async fn read_vec(
        &self,
        object: impl Into<ObjectId>,
        ranges: Vec<(u64, u64)>,
    ) -> Result<Vec<Result<Bytes>>> {
        let object = object.into();
        let reads = ranges.iter().map(|(offset, bytes)| self.read(object.clone(), *offset, *bytes));
        Ok(futures::future::join_all(reads).await)
    }

    /// The stored ranges within a range; all between them are zeros.
    pub async fn extents(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Vec<Range>> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.extents(self.id, &object, offset, bytes).await).await
    }

    /// An attribute's value; [`Error::NoSuchAttr`].
    pub async fn attr(&self, object: impl Into<ObjectId>, name: &[u8]) -> Result<Bytes> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.attr(self.id, &object, name).await).await
    }

    /// All attributes, by name.
    pub async fn attrs(&self, object: impl Into<ObjectId>) -> Result<Vec<(Bytes, Bytes)>> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.attrs(self.id, &object).await).await
    }

    /// The omap header; empty if there is none.
    pub async fn omap_header(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.omap_header(self.id, &object).await).await
    }

    /// The pairs of these keys; absent keys are left out.
    pub async fn omap_get(
        &self,
        object: impl Into<ObjectId>,
        keys: &[Vec<u8>],
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let object = object.into();
        self.shard.again(async |on: Rc<Mounted>| on.omap_get(self.id, &object, keys).await).await
    }

    /// At most `limit` pairs with keys from `from` (inclusive) to `to` (exclusive).
    pub async fn omap_range(
        &self,
        object: impl Into<ObjectId>,
        range: (&[u8], Option<&[u8]>),
        limit: usize,
        direction: Direction,
    ) -> Result<OmapPage> {
        let object = object.into();
        let page = async |on: Rc<Mounted>| on.omap_range(self.id, &object, range, limit, direction).await;
        self.shard.again(page).await
    }

    /// At most `limit` objects from `from` (inclusive) on, in the order of objects.
    pub async fn list_page(&self, from: Option<ObjectId>, limit: usize) -> Result<ListPage> {
        self.shard.again(async |on: Rc<Mounted>| on.list(self.id, from.as_ref(), limit).await).await
    }

    /// What the pool holds.
    pub fn usage(&self) -> Usage {
        self.shard.usage(Some(self.id))
    }
}
