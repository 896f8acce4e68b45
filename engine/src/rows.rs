//! World: the state of a shard that operations look at and change, always in one moment, never across an await.
//!
//! Nodes, collections with their trees, and pending changes. A transaction's changes are applied here by
//! [`Rows::apply_row`], one row at a time: into the leaf and into the pending changes of its tree.
//!
//! Invariant: a leaf in memory has all pending changes of its interval applied. A tree without a root has none that are not
//! (it has no rows).

pub(crate) mod node_cache;
pub(crate) mod pending;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::rc::Rc;

use seabed_btree::{LookupHint, Page, Stop as TreeStop, Tree};
use seabed_journal::{CollectionId, CollectionState, Tally};
use seabed_object::{Change, Usage, apply, patch_in_place};
use seabed_types::{Lsn, NodePtr, PoolId, Term, TreeKind};

use crate::rows::node_cache::{Cache, Pin};
use crate::rows::pending::{Ages, Key, Pending};
use crate::shard::queue::OrderQueue;

/// A collection and its trees.
pub(crate) struct Collection {
    pub(crate) id: CollectionId,
    pub(crate) term: Term,
    /// All records below this must be durable before anyone may be told that it is there.
    pub(crate) shown_at: Lsn,
    /// The record that removed its pool: nothing is read from it or written to it any more, and it is drained.
    pub(crate) removed_in: Option<Lsn>,
    /// Family ids below this were used.
    pub(crate) next_id: u64,
    pub(crate) tally: Tally,
    pub(crate) trees: [Tree; 3],
    pub(crate) pending: [Pending; 3],
    pub(crate) queue: Rc<OrderQueue>,
}

/// The position of a tree in a collection's arrays.
pub(crate) const fn slot(tree: TreeKind) -> usize {
    tree as usize - 1
}

impl Collection {
    pub(crate) fn new(state: &CollectionState, node_bytes: usize) -> Self {
        Self {
            id: state.id,
            term: state.term,
            shown_at: Lsn(0),
            removed_in: None,
            next_id: state.next_id,
            tally: state.tally,
            trees: state.roots.map(|root| Tree::new(root, node_bytes)),
            pending: Default::default(),
            queue: Rc::default(),
        }
    }

    pub(crate) fn state(&self) -> CollectionState {
        CollectionState {
            id: self.id,
            term: self.term,
            next_id: self.next_id,
            tally: self.tally,
            roots: std::array::from_fn(|index| self.trees[index].root()),
        }
    }
}

/// What rows take, as the journal counts it.
pub(crate) fn tally_of(usage: &Usage) -> Tally {
    Tally {
        objects: usage.objects,
        stored: usage.stored,
        allocated: usage.allocated,
        compressed: usage.compressed,
        omap: usage.omap,
        metadata: usage.metadata,
    }
}

/// What the journal counted, for callers.
pub(crate) fn usage_of(tally: &Tally) -> Usage {
    let mut usage = Usage::default();
    usage.objects = tally.objects;
    usage.stored = tally.stored;
    usage.allocated = tally.allocated;
    usage.compressed = tally.compressed;
    usage.omap = tally.omap;
    usage.metadata = tally.metadata;
    usage
}

/// The shard does not have this collection any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gone(pub(crate) CollectionId);

impl From<Gone> for crate::Error {
    fn from(Gone(id): Gone) -> Self {
        Self::NoSuchPoolId { id: id.pool }
    }
}

impl From<Gone> for Damage {
    /// The damage of a change of rows that a collection does not have any more; callers look the collection up first.
    fn from(_: Gone) -> Self {
        "a change of a collection that is gone"
    }
}

/// Damage that was found while rows were changed; the leaf's image or a pending change does not decode.
pub(crate) type Damage = &'static str;

/// The state of a shard.
pub(crate) struct Rows {
    pub(crate) cache: Cache,
    pub(crate) collections: BTreeMap<CollectionId, Collection>,
    pub(crate) ages: Ages,
    pub(crate) node_bytes: usize,
}

impl Rows {
    pub(crate) fn new(node_bytes: usize, states: &[CollectionState]) -> Self {
        let collection = |state: &CollectionState| (state.id, Collection::new(state, node_bytes));
        Self {
            cache: Cache::new(),
            collections: states.iter().map(collection).collect(),
            ages: Ages::default(),
            node_bytes,
        }
    }

    /// The collection of a pool that an object with this hash belongs to.
    pub(crate) fn collection_of(&self, pool: PoolId, hash: u32) -> Option<&Collection> {
        let reversed = hash.reverse_bits();
        let from = CollectionId { pool, prefix: 0, bits: 0 };
        let mut of_pool = self.collections.range(from..).take_while(|(id, _)| id.pool == pool);
        of_pool.find(|(id, _)| id.covers(reversed)).map(|(_, collection)| collection)
    }

    /// The collection of a pool that a row of an object belongs to; its key begins with the hash, reversed.
    pub(crate) fn collection_of_key(&self, pool: PoolId, key: &[u8]) -> Option<&Collection> {
        let hash = key.first_chunk().map(|hash| u32::from_be_bytes(*hash).reverse_bits())?;
        self.collection_of(pool, hash)
    }

    /// A collection, if the shard still has it. Ids that were kept across an await have to be looked up again.
    pub(crate) fn collection(&self, id: CollectionId) -> Result<&Collection, Gone> {
        self.collections.get(&id).ok_or(Gone(id))
    }

    pub(crate) fn collection_mut(&mut self, id: CollectionId) -> Result<&mut Collection, Gone> {
        self.collections.get_mut(&id).ok_or(Gone(id))
    }

    /// A tree of a collection, if the shard still has it.
    pub(crate) fn tree(&self, id: CollectionId, tree: TreeKind) -> Result<&Tree, Gone> {
        self.collection(id).map(|collection| &collection.trees[slot(tree)])
    }

    /// The pending changes of a tree, if the shard still has it.
    pub(crate) fn pending(&self, id: CollectionId, tree: TreeKind) -> Result<&Pending, Gone> {
        self.collection(id).map(|collection| &collection.pending[slot(tree)])
    }

    /// Marks a pool's collections as removed in record `lsn`.
    pub(crate) fn mark_removed(&mut self, pool: PoolId, lsn: Lsn) {
        for collection in self.collections.values_mut().filter(|collection| collection.id.pool == pool) {
            collection.removed_in = Some(lsn);
        }
    }

    /// Bytes of all pending changes.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.ages.bytes()
    }

    /// What a replay from the last checkpoint would make pending, at most.
    pub(crate) fn replay_bytes(&self) -> usize {
        self.ages.replay_bytes()
    }

    /// A row's value; its leaf is in memory.
    pub(crate) fn value_of(&self, (id, tree): (CollectionId, TreeKind), key: &[u8]) -> Option<&[u8]> {
        let of = &self.collections.get(&id)?.trees[slot(tree)];
        of.get(&self.cache, key).ok().flatten()
    }

    /// Changes a row whose leaf is in memory, and keeps the change as pending from record `lsn`. `spot`: where it was seen.
    /// Of the rows of one transaction the removals come last: a leaf that loses its last row is given up.
    pub(crate) fn apply_row(
        &mut self,
        (id, tree): (CollectionId, TreeKind),
        key: &[u8],
        change: Change,
        lsn: Lsn,
        hint: Option<LookupHint>,
    ) -> Result<(), Damage> {
        seabed_types::work::rows(1);
        self.cache.stamp(lsn.next());
        let applied = self.change_leaf(id, tree, key, &change, hint);
        self.cache.stamp(Lsn(0));
        applied?;
        let collection = self.collections.get_mut(&id).ok_or(Gone(id))?;
        let pending = &mut collection.pending[slot(tree)];
        pending.add(key, change, lsn, &mut self.ages).map_err(|malformed| malformed.what)
    }

    fn change_leaf(
        &mut self,
        id: CollectionId,
        kind: TreeKind,
        key: &[u8],
        change: &Change,
        hint: Option<LookupHint>,
    ) -> Result<(), Damage> {
        let collection = self.collections.get_mut(&id).ok_or(Gone(id))?;
        let tree = &mut collection.trees[slot(kind)];
        let cache = &mut self.cache;
        if let Change::Patch(patch) = change
            && tree.edit_value(cache, key, hint, |row| patch_in_place(row, patch)).map_err(damage)?
                == Some(true)
        {
            return Ok(());
        }
        let value = match change {
            Change::Set(value) => Some(std::borrow::Cow::Borrowed(value.as_slice())),
            Change::Gone => None,
            Change::Patch(_) => {
                let old = tree.get(cache, key).map_err(damage)?;
                apply(old, change).map_err(|malformed| malformed.what)?.map(std::borrow::Cow::Owned)
            }
        };
        let Some(value) = value else {
            return match tree.remove_at(cache, key, hint) {
                // The leaf that had the interval was given up with its last row, so there is no such row.
                Ok(_) | Err(TreeStop::Absent(_)) => Ok(()),
                Err(stop) => Err(damage(stop)),
            };
        };
        tree.insert_at(cache, key, &value, hint).map(|_| ()).map_err(damage)
    }

    /// Takes a node that was read. A leaf gets the pending changes of its interval. None if it belongs nowhere any more.
    pub(crate) fn take_loaded(
        &mut self,
        id: CollectionId,
        tree: TreeKind,
        ptr: NodePtr,
        page: Page,
    ) -> Result<Option<Pin>, Damage> {
        if self.cache.has(ptr) {
            return Ok(self.cache.pin(ptr));
        }
        let is_leaf = page.level() == 0;
        if is_leaf && page.is_empty() {
            return Err("a leaf without rows has an image");
        }
        let first = page.key(0);
        let pin = self.cache.loaded(ptr, page);
        if !is_leaf {
            return Ok(Some(pin));
        }
        let collection = self.collections.get(&id);
        let leaf = collection.and_then(|collection| {
            let leaf = collection.trees[slot(tree)].leaf_of(&self.cache, &first).ok()??;
            (leaf.ptr == ptr).then_some((collection, leaf))
        });
        let Some((collection, leaf)) = leaf else {
            // The collection is gone, or its tree changed, or the nodes above were given up, while it was read. Read again
            // when it is met again.
            self.cache.unpin(pin);
            self.cache.forget(ptr);
            return Ok(None);
        };
        let pending = collection.pending[slot(tree)].within(&leaf.lower, leaf.upper.as_deref());
        let mut changes: Vec<(Key, Change, Lsn)> =
            pending.map(|(key, pending)| (key.clone(), pending.change.clone(), pending.newest)).collect();
        if !changes.is_empty() {
            seabed_types::reached!(LoadedPending);
        }
        // A leaf that loses its last row is given up, and its neighbour may not be in memory: removals come last.
        changes.sort_by_key(|(_, change, _)| *change == Change::Gone);
        for (key, change, lsn) in changes.into_iter().filter(|_| !seabed_types::seeded!(16)) {
            self.cache.stamp(if seabed_types::seeded!(17) { Lsn(0) } else { lsn.next() });
            let changed = self.change_leaf(id, tree, &key, &change, None);
            self.cache.stamp(Lsn(0));
            if let Err(what) = changed {
                self.cache.unpin(pin);
                return Err(what);
            }
        }
        Ok(Some(pin))
    }

    /// Makes the trees that have no image at all from their pending changes; after a replay.
    pub(crate) fn grow_rootless(&mut self) -> Result<(), Damage> {
        for id in self.collections.keys().copied().collect::<Vec<_>>() {
            for tree in TreeKind::ALL {
                let Ok(collection) = self.collection(id) else { continue };
                if collection.trees[slot(tree)].root().is_some() {
                    continue;
                }
                let changes: Vec<(Key, Change)> = collection.pending[slot(tree)]
                    .within(&[], None)
                    .map(|(key, pending)| (key.clone(), pending.change.clone()))
                    .collect();
                for (key, change) in changes {
                    self.change_leaf(id, tree, &key, &change, None)?;
                }
            }
        }
        Ok(())
    }
}

fn damage(stop: TreeStop) -> Damage {
    let TreeStop::Corrupt { what, .. } = stop else {
        unreachable!("the way to the row was looked up in the same moment")
    };
    what
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard that had a collection with one row, and its id.
    fn rows_and_id() -> (Rows, CollectionId) {
        let id = CollectionId::whole(PoolId(7));
        let mut rows = Rows::new(4096, &[]);
        rows.add_collection(id, Term(1));
        let set = Change::Set(b"value".to_vec());
        rows.apply_row((id, TreeKind::Names), b"key", set, Lsn(1), None).expect("its collection is there");
        (rows, id)
    }

    #[test]
    fn a_collection_that_left_is_a_value_for_every_look_up() {
        let (mut rows, id) = rows_and_id();
        assert_eq!(rows.value_of((id, TreeKind::Names), b"key"), Some(b"value".as_slice()));
        rows.collections.remove(&id);
        assert_eq!(rows.collection(id).err(), Some(Gone(id)));
        assert_eq!(rows.collection_mut(id).err(), Some(Gone(id)));
        assert_eq!(rows.tree(id, TreeKind::Names).err(), Some(Gone(id)));
        assert_eq!(rows.pending(id, TreeKind::Names).err(), Some(Gone(id)));
        assert_eq!(rows.value_of((id, TreeKind::Names), b"key"), None);
        let change = rows.apply_row((id, TreeKind::Names), b"key", Change::Gone, Lsn(2), None);
        assert!(change.is_err(), "nothing is left to change");
        assert_eq!(crate::Error::from(Gone(id)), crate::Error::NoSuchPoolId { id: id.pool });
    }

    #[test]
    fn a_node_that_was_loaded_for_a_collection_that_left_is_not_kept() {
        let (mut rows, id) = rows_and_id();
        let leaf = {
            let tree = rows.tree(id, TreeKind::Names).expect("its collection is there");
            tree.leaf_of(&rows.cache, b"key").expect("all is in memory").expect("it has a row").ptr
        };
        let page = rows.cache.page_mut(leaf).expect("it is in memory").image().into();
        let page = Page::decode(page).expect("the image of a page");
        rows.collections.remove(&id);
        let image = NodePtr::image(seabed_types::Paddr::new(seabed_types::SegmentId(3), 4096), leaf.crc);
        let taken = rows.take_loaded(id, TreeKind::Names, image, page).expect("nothing is damaged");
        assert!(taken.is_none());
        assert!(!rows.cache.has(image));
    }
}
