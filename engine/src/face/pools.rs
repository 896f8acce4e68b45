//! Pools: the list of pools, and what is done to pools as a whole.
//!
//! The list is the omap of the object "pools" of the system pool: a row per pool, its name to {version, id}. A new pool's row
//! and its first, empty collection are in the same record. Pool ids come from the system collection's counter and are never
//! used again.
//!
//! A removal is one record: the pool's row goes, and the object "removed" gets one, its id to {version, name}. In the moment
//! in which it is applied the pool's collections are marked in memory, and nothing is read from or written to them any more
//! ([`Error::NoSuchPoolId`], once the removal is durable). `graves` drains them, object by object. The row stays, as the
//! collection does, empty: what marks it after the next mount is the row.
//!
//! Crash: before the record the pool is whole, after it the pool is gone; a mount reads the rows of "removed" before it serves
//! and the drain goes on with the objects that are left.
//! Cost: a mount reads the one or two nodes in which the list of removed pools lies.
//! Limits: [`pools_max`], removed pools included.

use std::rc::Rc;

use bytes::Bytes;
use seabed_object::{Condition, Direction, ObjectId, Refused, Transaction};
use seabed_segment::Layout;
use seabed_types::{Cursor, PoolId, put_varint};

use crate::face::local::{LocalPool, LocalStore, PoolEntry};
use crate::maintain::checkpoint::collections_max;
use crate::mount::SYSTEM_POOL;
use crate::operate::submit::SystemEffect;
use crate::shard::mounted::Mounted;
use crate::{Error, Result};

const POOLS_OBJECT: &str = "pools";
const REMOVED_OBJECT: &str = "removed";
/// The first byte of a row of each of them.
const POOL_VERSION: u8 = 1;
const REMOVED_VERSION: u8 = 2;
/// Rows of a page when all pools are read.
const PAGE_ROWS: usize = 1000;

/// How many pools a store of this layout may have, removed ones included: each checkpoint names every collection, in a body
/// that fits one segment together with what it says of the segments. Larger segments allow more.
pub(crate) fn pools_max(layout: &Layout) -> usize {
    // One is the store's own.
    collections_max(layout) - 1
}

/// Fails for the pool whose objects describe the store.
pub(crate) fn of_user(id: PoolId) -> Result<PoolId> {
    if id == SYSTEM_POOL { Err(Error::SystemPool) } else { Ok(id) }
}

fn check_pool_name(name: &str) -> Result<()> {
    if !(1..=255).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(Error::Invalid {
            what: "a pool's name has 1 to 255 bytes of UTF-8 without control characters",
        });
    }
    Ok(())
}

fn encode_pool(id: PoolId) -> Vec<u8> {
    let mut value = vec![POOL_VERSION];
    put_varint(&mut value, id.0);
    value
}

fn decode_pool(value: &[u8]) -> Result<PoolId> {
    let corrupt = || Error::Corrupt { at: None, what: "a pool's row" };
    let mut cursor = Cursor::new(value);
    if cursor.u8("pool: version").map_err(|_| corrupt())? != POOL_VERSION {
        return Err(corrupt());
    }
    Ok(PoolId(cursor.varint("pool: id").map_err(|_| corrupt())?))
}

/// The row that marks a pool as removed.
struct Mark {
    key: Bytes,
    value: Bytes,
}

fn mark_removed(id: PoolId, name: &str) -> Mark {
    let value = [&[REMOVED_VERSION], name.as_bytes()].concat();
    Mark { key: Bytes::copy_from_slice(&id.0.to_be_bytes()), value: value.into() }
}

impl Mark {
    fn append_to(self, txn: &mut Transaction) {
        let removed = ObjectId::new(REMOVED_OBJECT);
        txn.touch(&removed).omap_insert(&removed, [(self.key, self.value)]);
    }
}

impl Mounted {
    /// Marks the collections of removed pools, before the mount serves. What cannot be read marks nothing: the store opens, and
    /// what cannot be found cannot be drained until a later mount.
    pub(crate) async fn mark_removed_pools(self: &Rc<Self>) {
        let mut from = Some(Bytes::new());
        while let Some(start) = from {
            let removed = ObjectId::new(REMOVED_OBJECT);
            let page =
                self.omap_range(SYSTEM_POOL, &removed, (&start[..], None), PAGE_ROWS, Direction::Forward);
            let page = match page.await {
                Ok(page) => page,
                Err(Error::NotFound) => return,
                Err(error) => {
                    tracing::warn!(%error, "the list of removed pools could not be read");
                    return;
                }
            };
            for (key, _) in page.pairs {
                let Ok(id) = <[u8; 8]>::try_from(&key[..]) else { continue };
                // The record is durable: a replay brought it, or a checkpoint.
                self.rows.borrow_mut().mark_removed(PoolId(u64::from_be_bytes(id)), seabed_types::Lsn(0));
            }
            from = page.next;
        }
    }
}

impl LocalStore {
    /// The pool of this name; [`Error::NoSuchPool`].
    pub async fn pool(&self, name: &str) -> Result<LocalPool> {
        let id = self.pool_id(name).await?.ok_or_else(|| Error::NoSuchPool { name: name.to_owned() })?;
        Ok(self.pool_of(id))
    }

    /// A pool by its id, as [`LocalStore::pools`] gives it. Calls on one that does not exist, or was removed, are
    /// [`Error::NoSuchPoolId`]. Pool 0 is the store's own: each call on it is [`Error::SystemPool`].
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
            let mut rows = mounted.rows.borrow_mut();
            let max = pools_max(&mounted.layout);
            if rows.collections.len() > max {
                return Err(Error::TooManyPools { max });
            }
            let system = seabed_journal::CollectionId::whole(SYSTEM_POOL);
            let collection = rows.collections.get_mut(&system);
            let collection =
                collection.ok_or(Error::Invalid { what: "the system pool is not on this shard" })?;
            collection.next_id += 1;
            PoolId(collection.next_id - 1)
        };
        let (pools, key) = (ObjectId::new(POOLS_OBJECT), Bytes::copy_from_slice(name.as_bytes()));
        let mut txn = Transaction::new();
        txn.touch(&pools)
            .expect(&pools, Condition::Omap { key: key.clone(), value: None })
            .omap_insert(&pools, [(key, encode_pool(id))]);
        let submitted = self.shard.submit_with(SYSTEM_POOL, txn, SystemEffect::NewPool(id))?;
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

    /// Removes a pool with all that is in it; [`Error::NoSuchPool`].
    ///
    /// One record removes the pool from the list of pools, whatever it holds: from then on each call on it, by handles
    /// that exist too, is [`Error::NoSuchPoolId`], and its name is free. Its space comes back in the background, object by
    /// object, also after a crash; until then it counts in [`LocalStore::usage`]. Its id is not used again.
    ///
    /// Cancel safety: dropping the future does not undo the removal.
    pub async fn remove_pool(&self, name: &str) -> Result<()> {
        loop {
            self.shard.writable()?;
            let id = self.pool_id(name).await?.ok_or_else(|| Error::NoSuchPool { name: name.to_owned() })?;
            let (pools, key) = (ObjectId::new(POOLS_OBJECT), Bytes::copy_from_slice(name.as_bytes()));
            let mut txn = Transaction::new();
            txn.expect(&pools, Condition::Omap { key: key.clone(), value: Some(encode_pool(id).into()) })
                .omap_remove(&pools, [key]);
            let mark = mark_removed(id, name);
            if !seabed_types::seeded!(73) {
                mark.append_to(&mut txn);
                if self.changed_pools(txn, SystemEffect::RemovePool(id)).await? {
                    return Ok(());
                }
            } else if self.changed_pools(txn, SystemEffect::None).await? {
                let mut later = Transaction::new();
                mark.append_to(&mut later);
                self.shard.submit_with(SYSTEM_POOL, later, SystemEffect::RemovePool(id))?.answer().await?;
                return Ok(());
            }
        }
    }

    /// Gives a pool another name, in one record; [`Error::NoSuchPool`], and [`Error::PoolExists`] if the new name is that of
    /// another pool. Handles stay valid.
    ///
    /// Cancel safety: dropping the future does not undo it.
    pub async fn rename_pool(&self, from: &str, to: &str) -> Result<()> {
        check_pool_name(to)?;
        loop {
            self.shard.writable()?;
            let id = self.pool_id(from).await?.ok_or_else(|| Error::NoSuchPool { name: from.to_owned() })?;
            if from == to {
                return Ok(());
            }
            if self.pool_id(to).await?.is_some() {
                return Err(Error::PoolExists { name: to.to_owned() });
            }
            let pools = ObjectId::new(POOLS_OBJECT);
            let [from, to] = [from, to].map(|name| Bytes::copy_from_slice(name.as_bytes()));
            let row = Bytes::from(encode_pool(id));
            let mut txn = Transaction::new();
            txn.expect(&pools, Condition::Omap { key: from.clone(), value: Some(row.clone()) })
                .expect(&pools, Condition::Omap { key: to.clone(), value: None })
                .omap_remove(&pools, [from])
                .omap_insert(&pools, [(to, row)]);
            if self.changed_pools(txn, SystemEffect::None).await? {
                return Ok(());
            }
        }
    }

    /// Whether a change of the list of pools was made; if not, the list was changed meanwhile: look again.
    async fn changed_pools(&self, txn: Transaction, system: SystemEffect) -> Result<bool> {
        match self.shard.submit_with(SYSTEM_POOL, txn, system)?.answer().await {
            Ok(()) => Ok(true),
            Err(Error::Refused { why: Refused::PreconditionFailed, .. }) => Ok(false),
            Err(error) => Err(error),
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
}
