//! Listing: pages of a pool's objects, past what is damaged.
//!
//! Objects are rows of the names tree, one tree for each collection. A node that cannot be read, or is not what its parent
//! says, takes the names of an interval of keys with it and no others: the listing reports the interval and goes on behind
//! it. The objects in it can still be had by their names if only an inner node of another way is damaged, and not at all if it
//! is their leaf.
//!
//! A page is gathered in slices, between which others run. What exists throughout is met once, what comes or goes meanwhile
//! may be met or not.
//!
//! Limits: a page has at most [`PAGE_BYTES_MAX`] bytes of names, and ends early then.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use seabed_btree::Stop as TreeStop;
use seabed_journal::CollectionId;
use seabed_object::read::{self, Listed, PageLimit, ReadError, Stat};
use seabed_object::{ObjectId, Stop, key};
use seabed_types::{NodePtr, PoolId, TreeKind};

use crate::operate::read::{PAGE_BYTES_MAX, SLICE_ROWS, refused};
use crate::rows::view::{View, Wanted};
use crate::shard::mounted::{Mounted, OpGuard};
use crate::{Error, Result};

/// A page of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ListPage {
    /// Objects in the order of their bit-reversed hash, namespace, name, snap, generation.
    pub objects: Vec<ObjectId>,
    /// What each of them is, in the same order.
    pub stats: Vec<Stat>,
    /// What the next page begins with; none at the end.
    pub next: Option<ObjectId>,
    /// Intervals whose objects cannot be listed, in order; the page goes on behind each.
    pub damaged: Vec<DamagedInterval>,
}

/// An interval of a listing whose objects cannot be listed, because what names them is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DamagedInterval {
    /// Where it begins: a key of the names tree; empty at the very beginning.
    pub from: Bytes,
    /// Where it ends (exclusive); none at the very end.
    pub to: Option<Bytes>,
    /// What was found.
    pub error: Error,
}

impl fmt::Display for DamagedInterval {
    /// Keys begin with the bit-reversed hash of their object, which is what is shown of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = |key: &[u8]| {
            let mut bytes = [0; 4];
            let known = key.len().min(4);
            bytes[..known].copy_from_slice(&key[..known]);
            u32::from_be_bytes(bytes)
        };
        write!(f, "objects from position {:08x}", position(&self.from))?;
        match &self.to {
            Some(to) => write!(f, " to {:08x}", position(to))?,
            None => write!(f, " to the end")?,
        }
        write!(f, " cannot be listed: {}", self.error)
    }
}

/// The rows of a slice, and the damage behind them, if that is where they end.
struct Slice {
    page: read::Page,
    damage: Option<DamagedInterval>,
}

impl Mounted {
    /// A page of at most `limit` objects from `from` on, over all collections of the pool.
    pub(crate) async fn list(
        self: &Rc<Self>,
        pool: PoolId,
        from: Option<&ObjectId>,
        limit: usize,
    ) -> Result<ListPage> {
        if limit == 0 {
            return Err(Error::Invalid { what: "a page has at least one object" });
        }
        let start = from.map(key::names).unwrap_or_default();
        let ids: Vec<CollectionId> = {
            let rows = self.rows.borrow();
            rows.collections.keys().filter(|id| id.pool == pool).copied().collect()
        };
        if ids.is_empty() {
            return Err(Error::NoSuchPoolId { id: pool });
        }
        let mut list = Gathered { page: ListPage::default(), left: limit, bytes_left: PAGE_BYTES_MAX };
        for id in ids {
            let (begin, end) = key::collection(id.prefix, id.bits);
            if end.as_ref().is_some_and(|end| end <= &start) {
                continue;
            }
            let begin = begin.max(start.clone()).to_vec();
            if self.list_collection(id, begin, end.as_deref(), &mut list).await? {
                break;
            }
        }
        Ok(list.page)
    }

    /// Adds the objects of a collection; whether the page has found what the next one begins with.
    async fn list_collection(
        self: &Rc<Self>,
        id: CollectionId,
        begin: Vec<u8>,
        end: Option<&[u8]>,
        list: &mut Gathered,
    ) -> Result<bool> {
        let (mut start, pace) = (begin, self.pace());
        loop {
            let limit = PageLimit { items: list.left.min(SLICE_ROWS), bytes: list.bytes_left };
            let Slice { page, damage } = self.list_slice(id, &start, end, limit).await?;
            let is_full = page.objects.len() + page.damaged.len() < limit.items;
            list.add(page.objects);
            for (key, what) in page.damaged {
                let error = Error::Corrupt { at: None, what };
                let to = Some(behind(&key).into());
                list.page.damaged.push(DamagedInterval { from: key.to_vec().into(), to, error });
            }
            if let Some(next) = page.next {
                if is_full {
                    list.left = 0;
                }
                start = next.to_vec();
                if list.left == 0 {
                    match key::decode_names(&next) {
                        Ok(next) => {
                            list.page.next = Some(next);
                            return Ok(true);
                        }
                        // It names no object, so the next page cannot begin with it.
                        Err(malformed) => {
                            let error = Error::Corrupt { at: None, what: malformed.what };
                            start = behind(&next);
                            let to = Some(start.clone().into());
                            list.page.damaged.push(DamagedInterval { from: next.to_vec().into(), to, error });
                        }
                    }
                }
            } else if let Some(damage) = damage {
                seabed_types::reached!(ListedPastDamage);
                let behind = damage.to.clone();
                list.page.damaged.push(damage);
                match behind {
                    Some(behind) => start = behind.to_vec(),
                    None => return Ok(false),
                }
            } else {
                return Ok(false);
            }
            pace.slice().await;
        }
    }

    /// Objects from `start` on, up to the first node that cannot be had.
    async fn list_slice(
        self: &Rc<Self>,
        id: CollectionId,
        start: &[u8],
        end: Option<&[u8]>,
        limit: PageLimit,
    ) -> Result<Slice> {
        let mut guard = OpGuard::new(self);
        let mut damage: Option<DamagedInterval> = None;
        loop {
            self.not_removed(id).await?;
            let to = damage.as_ref().map(|damage| damage.from.clone());
            let to = to.as_deref().or(end);
            let (page, wanted, settled) = {
                let rows = self.rows.borrow();
                let view = View::new(&rows, rows.collection(id)?, &guard.pieces);
                let page = read::list_page(&view, start, to, limit);
                let (wanted, settled) = view.end();
                (page, wanted, settled)
            };
            let error = match page {
                Ok(page) => {
                    self.settled(settled).await?;
                    let damage = damage.filter(|_| page.next.is_none());
                    return Ok(Slice { page, damage });
                }
                Err(ReadError::Stop(Stop::Absent)) => {
                    let failed = wanted.first().copied();
                    match self.load(id, wanted, &mut guard).await {
                        Ok(()) => continue,
                        Err(error @ (Error::Corrupt { .. } | Error::Device(_)))
                            if self.failure().is_none() =>
                        {
                            (failed, error)
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(refused(error)),
            };
            let (Some(Wanted::Node(TreeKind::Names, ptr)), error) = error else { return Err(error.1) };
            match self.interval_of(id, start, ptr) {
                Some((lower, upper)) => {
                    let from = lower.as_slice().max(start).to_vec().into();
                    // A node may be said to end beyond its collection.
                    let to = upper.filter(|upper| end.is_none_or(|end| upper.as_slice() < end));
                    let to = to.or_else(|| end.map(<[u8]>::to_vec)).map(Bytes::from);
                    let found = DamagedInterval { from, to, error };
                    // An empty range is looked for in the damaged node, too.
                    if found.from[..] == *start {
                        return Ok(Slice { page: read::Page::default(), damage: Some(found) });
                    }
                    damage = Some(found);
                }
                // The tree has changed meanwhile: the next look meets it again, or does not.
                None if guard.has_met(ptr) => return Err(error),
                None => {}
            }
        }
    }

    /// The keys of a node that is not in memory, the first such node from `start` on. None: another is, or none.
    fn interval_of(
        &self,
        id: CollectionId,
        start: &[u8],
        ptr: NodePtr,
    ) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let rows = self.rows.borrow();
        let tree = rows.tree(id, TreeKind::Names).ok()?;
        let mut key = start.to_vec();
        loop {
            let way = match tree.way_to(&rows.cache, &key) {
                Ok(way) => way?,
                Err(TreeStop::Absent(_) | TreeStop::Corrupt { .. }) => return None,
            };
            if way.is_absent {
                return (way.ptr == ptr).then_some((way.lower, way.upper));
            }
            let upper = way.upper?;
            if upper <= key {
                return None;
            }
            key = upper;
        }
    }
}

/// A page that is being gathered.
struct Gathered {
    page: ListPage,
    /// Objects that it may still take.
    left: usize,
    bytes_left: usize,
}

impl Gathered {
    fn add(&mut self, objects: Vec<Listed>) {
        self.left -= objects.len();
        for listed in objects {
            self.bytes_left = self.bytes_left.saturating_sub(key::names(&listed.id).len());
            self.page.objects.push(listed.id);
            self.page.stats.push(listed.stat);
        }
    }
}

/// The least key behind one.
fn behind(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}
