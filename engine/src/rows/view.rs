//! View: the rows of one collection as an operation sees them at one moment, with notes of what it could not see.
//!
//! What is not in memory is noted in `wanted`, to be loaded before the operation is run again. Of what was seen, `settled`
//! says which records must be durable before anyone may be told (rule L6).

use std::cell::{Cell, RefCell};
use std::hash::Hasher;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHasher};
use seabed_btree::{Direction as TreeDirection, LookupHint, Step, Stop as TreeStop};
use seabed_object::{Direction, PieceRef, Stop};
use seabed_types::{Lsn, NodePtr, TreeKind};
use smallvec::SmallVec;

use crate::rows::{Collection, Rows, slot};

/// Of so many look-ups it is kept where they ended.
const LOOKUP_HINTS_MAX: usize = 8;

/// Something to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// A node of a tree.
    Node(TreeKind, NodePtr),
    /// The bytes of a piece.
    Piece(PieceRef),
}

/// Pieces that an operation has loaded.
pub(crate) type Pieces = FxHashMap<PieceRef, Bytes>;

/// The rows of a collection at one moment.
pub(crate) struct View<'a> {
    rows: &'a Rows,
    collection: &'a Collection,
    pieces: &'a Pieces,
    wanted: RefCell<Vec<Wanted>>,
    settled: Cell<Lsn>,
    /// None: nobody will change what is looked up.
    hints: Option<RefCell<LookupHints>>,
}

/// Where the rows are that were looked up one by one, by the hashes of their keys.
#[derive(Default)]
pub(crate) struct LookupHints(SmallVec<[(TreeKind, u64, LookupHint); LOOKUP_HINTS_MAX]>);

impl LookupHints {
    fn hash_of(key: &[u8]) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write(key);
        hasher.finish()
    }

    fn add(&mut self, tree: TreeKind, key: &[u8], hint: LookupHint) {
        if self.0.len() < LOOKUP_HINTS_MAX {
            self.0.push((tree, Self::hash_of(key), hint));
        }
    }

    /// Where a row was looked up, or another row of the same tree: whoever uses it looks.
    pub(crate) fn of(&self, tree: TreeKind, key: &[u8]) -> Option<LookupHint> {
        let hash = Self::hash_of(key);
        self.0.iter().find(|(of, known, _)| (*of, *known) == (tree, hash)).map(|(_, _, hint)| *hint)
    }
}

impl<'a> View<'a> {
    /// The collection that it shows.
    pub(crate) const fn collection(&self) -> &'a Collection {
        self.collection
    }

    pub(crate) fn new(rows: &'a Rows, collection: &'a Collection, pieces: &'a Pieces) -> Self {
        Self {
            rows,
            collection,
            pieces,
            wanted: RefCell::default(),
            settled: Cell::new(collection.shown_at),
            hints: None,
        }
    }

    /// What was not in memory, and the bound of records that must be durable before what was seen may be told.
    pub(crate) fn end(self) -> (Vec<Wanted>, Lsn) {
        (self.wanted.into_inner(), self.settled.get())
    }

    /// Keeps where look-ups end, for [`View::into_spots`].
    pub(crate) fn keeping_hints(self) -> Self {
        Self { hints: Some(RefCell::default()), ..self }
    }

    /// Where the rows are that were looked up.
    pub(crate) fn into_hints(self) -> LookupHints {
        self.hints.map(RefCell::into_inner).unwrap_or_default()
    }

    fn saw(&self, leaf: NodePtr) {
        self.settled.set(self.settled.get().max(self.rows.cache.settled_at(leaf)));
    }

    fn want(&self, wanted: Wanted) -> Stop {
        let mut list = self.wanted.borrow_mut();
        if !list.contains(&wanted) {
            list.push(wanted);
        }
        Stop::Absent
    }

    fn stop(&self, tree: TreeKind, stop: TreeStop) -> Stop {
        match stop {
            TreeStop::Absent(ptr) => self.want(Wanted::Node(tree, ptr)),
            TreeStop::Corrupt { node, what } => Stop::Corrupt { at: Some(node.at), what },
        }
    }
}

impl seabed_object::Rows for View<'_> {
    fn row(&self, tree: TreeKind, key: &[u8]) -> Result<Option<&[u8]>, Stop> {
        seabed_types::work::rows(1);
        match self.collection.trees[slot(tree)].find(&self.rows.cache, key) {
            Ok(Some(found)) => {
                self.saw(found.leaf);
                if let Some(hints) = &self.hints {
                    hints.borrow_mut().add(tree, key, found.hint);
                }
                Ok(found.value)
            }
            Ok(None) => {
                self.saw_no_tree(tree);
                Ok(None)
            }
            Err(stop) => Err(self.stop(tree, stop)),
        }
    }

    fn rows(
        &self,
        tree: TreeKind,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
        visit: &mut seabed_object::Visit<'_>,
    ) -> Result<(), Stop> {
        let direction = match direction {
            Direction::Forward => TreeDirection::Ascending,
            Direction::Backward => TreeDirection::Descending,
        };
        let of = &self.collection.trees[slot(tree)];
        if of.root().is_none() {
            self.saw_no_tree(tree);
        }
        let high = to.map_or(Bound::Unbounded, Bound::Excluded);
        let walked = of.range(&self.rows.cache, Bound::Included(from), high, direction, |step| match step {
            Step::Leaf(ptr) => {
                self.saw(ptr);
                ControlFlow::Continue(())
            }
            Step::Row { key, value } => {
                seabed_types::work::rows(1);
                visit(key, value)
            }
        });
        walked.map(|_| ()).map_err(|stop| self.stop(tree, stop))
    }

    fn piece(&self, piece: &PieceRef) -> Result<Bytes, Stop> {
        self.pieces.get(piece).cloned().ok_or_else(|| self.want(Wanted::Piece(*piece)))
    }
}

impl View<'_> {
    /// A tree without a leaf has nobody to say when it became so: its newest pending change does.
    fn saw_no_tree(&self, tree: TreeKind) {
        let pending = self.collection.pending[slot(tree)].any_order(&[], None);
        let newest = pending.map(|pending| pending.newest.next()).max().unwrap_or(Lsn(0));
        self.settled.set(self.settled.get().max(newest));
    }
}

#[cfg(test)]
mod tests {
    use seabed_btree::Tree;

    use super::*;
    use crate::rows::node_cache::Cache;

    /// Keys of all trees begin with the hash of an object, so that a key of one lies between rows of another as well as in
    /// its own. Of two keys whose hashes are the same, which can be computed, one was changed where the other had been seen: an
    /// extents row went into a leaf of names.
    #[test]
    fn a_spot_is_of_its_tree() {
        let (mut cache, mut tree) = (Cache::new(), Tree::new(None, 4096));
        tree.insert(&mut cache, b"key", b"value").expect("in memory");
        let hint = tree.find(&cache, b"key").expect("in memory").expect("a leaf").hint;
        let mut hints = LookupHints::default();
        hints.add(TreeKind::Names, b"key", hint);
        assert_eq!(hints.of(TreeKind::Names, b"key"), Some(hint));
        assert_eq!(hints.of(TreeKind::Bodies, b"key"), None);
        assert_eq!(hints.of(TreeKind::Names, b"other"), None);
    }
}
