//! Program: random operations on a tree and on an ordered map at once.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use fastrand::Rng;
use seabed_btree::{Census, Cursor, Direction, Ended, LookupHint, Nodes, Step, Stop, Tree};
use seabed_types::NodePtr;

use crate::keeper::Keeper;
use crate::shapes::{KeyShape, ValueShape};

/// How often all nodes are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    EveryStep,
    Seldom,
}

pub(crate) struct Program {
    rng: Rng,
    keeper: Keeper,
    tree: Tree,
    model: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where keys were once looked up.
    hints: BTreeMap<Vec<u8>, LookupHint>,
    keys: KeyShape,
    values: ValueShape,
    check: Check,
    /// How many keys were drawn.
    drawn: u64,
    /// Removes in 100 changes.
    removes: u8,
}

impl Program {
    pub(crate) fn new(
        node_bytes: usize,
        keys: KeyShape,
        values: ValueShape,
        seed: u64,
        check: Check,
    ) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            keeper: Keeper::new(seed + 1),
            tree: Tree::new(None, node_bytes),
            model: BTreeMap::new(),
            hints: BTreeMap::new(),
            keys,
            values,
            check,
            drawn: 0,
            removes: 20,
        }
    }

    pub(crate) fn run(&mut self, steps: usize) {
        for step in 0..steps {
            if step % (steps / 5) == 0 {
                self.removes = [20, 70, 5, 50, 85][step / (steps / 5) % 5];
            }
            self.step();
            let all = self.check == Check::EveryStep || step % 5_000 == 4_999;
            if all {
                self.keeper.check(&self.tree);
            }
        }
    }

    /// Runs on with images that were exchanged: whatever becomes of the rows, no operation panics or runs for ever, and one
    /// that returns an error changed nothing. Returns how many were refused.
    pub(crate) fn run_damaged(&mut self, steps: usize) -> usize {
        self.write_all();
        self.keeper.evict(1);
        for _ in 0..4 {
            self.keeper.swap_images();
        }
        let mut refused = 0;
        for _ in 0..steps {
            let key = if self.rng.bool() { self.known_key() } else { self.new_key() };
            let value = self.values.value(&mut self.rng, self.tree.value_bytes_max());
            let kind = self.rng.u8(..8);
            let hint = self.hint(&key);
            let outcome = self.try_with_loads(|tree, keeper| match kind {
                0..3 => tree.insert_at(keeper, &key, &value, hint).map(|_| ()),
                3..5 => tree.remove_at(keeper, &key, hint).map(|_| ()),
                5 => tree.get(keeper, &key).map(|_| ()),
                6 => tree.leaf_of(keeper, &key).map(|_| ()),
                _ => {
                    let mut rows = 0;
                    let low = Bound::Included(&key[..]);
                    let ended = tree.range(keeper, low, Bound::Unbounded, Direction::Ascending, |_| {
                        rows += 1;
                        ControlFlow::Continue(())
                    });
                    assert!(rows < 1_000_000, "a scan comes to an end");
                    ended.map(|_| ())
                }
            });
            refused += usize::from(outcome.is_err());
        }
        refused
    }

    /// Inserts new keys, with all nodes in memory.
    pub(crate) fn grow(&mut self, steps: usize) {
        for _ in 0..steps {
            let key = self.new_key();
            self.insert(&key);
        }
    }

    /// Removes rows in any order until `rows` are left.
    pub(crate) fn shrink(&mut self, rows: usize) {
        let mut keys: Vec<Vec<u8>> = self.model.keys().cloned().collect();
        self.rng.shuffle(&mut keys);
        for key in keys.drain(rows..) {
            self.remove(&key);
        }
    }

    pub(crate) fn census(&self) -> Census {
        self.keeper.check(&self.tree);
        self.tree.verify(&self.keeper).expect("the tree is good")
    }

    /// Removes everything.
    pub(crate) fn finish(&mut self) {
        self.scan_all();
        self.keeper.load_all();
        self.keeper.check_reachable(&self.tree);
        let mut keys: Vec<Vec<u8>> = self.model.keys().cloned().collect();
        self.rng.shuffle(&mut keys);
        for key in keys {
            self.remove(&key);
            if self.model.len() == 1 {
                let census = self.tree.verify(&self.keeper).expect("the tree is good");
                assert_eq!((census.leaves, census.inner), (1, 0), "a root with one child gives way to it");
            }
        }
        assert_eq!(self.tree.root(), None, "a tree without rows has no root");
        self.keeper.check_reachable(&self.tree);
        assert!(
            self.keeper.splits > 0 || self.drawn < 300 || self.keys == KeyShape::FewBytes,
            "the program splits"
        );
        assert!(self.keeper.merges + self.keeper.unlinks > 0);
    }

    fn step(&mut self) {
        // Few checks mean many changes.
        let rare = if self.check == Check::EveryStep { 10 } else { 400 };
        match self.rng.u32(..8 * rare) {
            0 => self.keeper.evict(4),
            1 => self.range(),
            2 => self.write_one(),
            3 => self.write_all(),
            4 => self.rewrite_one(),
            5 => self.look_around(),
            6 => self.end_write(),
            choice if choice % 4 == 0 => self.get(),
            _ if self.rng.u8(..100) < self.removes => {
                let key = self.known_key();
                self.remove(&key);
            }
            _ => {
                let key = if self.rng.u8(..4) == 0 { self.known_key() } else { self.new_key() };
                self.insert(&key);
            }
        }
    }

    fn new_key(&mut self) -> Vec<u8> {
        self.drawn += 1;
        self.keys.key(&mut self.rng, self.drawn, self.tree.key_bytes_max())
    }

    /// A key that likely is in the tree.
    fn known_key(&mut self) -> Vec<u8> {
        let (number, max) = (self.rng.u64(0..=self.drawn), self.tree.key_bytes_max());
        let near = self.keys.key(&mut self.rng, number, max);
        match self.model.range(near.clone()..).next() {
            Some((key, _)) if self.rng.u8(..10) > 0 => key.clone(),
            _ => near,
        }
    }

    /// Runs an operation until it does not ask for a node; checks that it changed nothing while it did.
    fn with_loads<T>(&mut self, operation: impl Fn(&mut Tree, &mut Keeper) -> Result<T, Stop>) -> T {
        self.try_with_loads(operation).unwrap_or_else(|stop| panic!("{stop}"))
    }

    /// The same for an operation that may find the tree corrupt.
    fn try_with_loads<T>(
        &mut self,
        operation: impl Fn(&mut Tree, &mut Keeper) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        loop {
            let before = (self.tree, self.keeper.changes);
            let outcome = operation(&mut self.tree, &mut self.keeper);
            if outcome.is_err() {
                assert_eq!(before, (self.tree, self.keeper.changes), "an error changes nothing");
            }
            match outcome {
                Err(Stop::Absent(ptr)) => self.keeper.load(ptr),
                outcome => return outcome,
            }
        }
    }

    /// Where the key is, or was when it was last looked up, or where another key was, or nothing.
    fn hint(&mut self, key: &[u8]) -> Option<LookupHint> {
        let fresh = self.tree.find(&self.keeper, key).ok().flatten().map(|found| found.hint);
        let others = self.hints.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
        let hint = match self.rng.u8(..4) {
            0 => fresh,
            1 => self.hints.get(key).copied(),
            2 => others.map(|(_, hint)| *hint).next(),
            _ => None,
        };
        if let Some(fresh) = fresh.filter(|_| self.rng.bool()) {
            self.hints.insert(key.to_vec(), fresh);
        }
        hint
    }

    fn insert(&mut self, key: &[u8]) {
        let value = self.values.value(&mut self.rng, self.tree.value_bytes_max());
        let hint = self.hint(key);
        let inserted = self.with_loads(|tree, keeper| tree.insert_at(keeper, key, &value, hint));
        self.keeper.row_changed(inserted.leaf, key);
        let found = self.tree.find(&self.keeper, key).expect("in memory").expect("a leaf");
        assert_eq!((found.leaf, found.value), (inserted.leaf, Some(value.as_slice())));
        assert_eq!(self.model.insert(key.to_vec(), value).is_some(), inserted.replaced);
    }

    fn remove(&mut self, key: &[u8]) {
        let hint = self.hint(key);
        let removed = self.with_loads(|tree, keeper| tree.remove_at(keeper, key, hint));
        if let (true, Some(leaf)) = (removed.found, removed.leaf) {
            self.keeper.row_changed(leaf, key);
            assert_eq!(self.tree.find(&self.keeper, key).expect("in memory").expect("a leaf").leaf, leaf);
        }
        assert_eq!(self.model.remove(key).is_some(), removed.found);
    }

    fn get(&mut self) {
        let key = self.known_key();
        let value = self.with_loads(|tree, keeper| Ok(tree.get(keeper, &key)?.map(<[u8]>::to_vec)));
        assert_eq!(value.as_ref(), self.model.get(&key));
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.rng.u8(..5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(self.known_key()),
            _ => Bound::Excluded(self.known_key()),
        }
    }

    fn range(&mut self) {
        let (low, high) = (self.bound(), self.bound());
        let direction = if self.rng.bool() { Direction::Ascending } else { Direction::Descending };
        self.check_range(&low, &high, direction);
    }

    fn scan_all(&mut self) {
        for direction in [Direction::Ascending, Direction::Descending] {
            self.check_range(&Bound::Unbounded, &Bound::Unbounded, direction);
        }
    }

    /// Goes over a range with breaks, loads and evictions in between.
    fn check_range(&mut self, low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>, direction: Direction) {
        let above = |key: &[u8]| match low {
            Bound::Included(low) => key >= low.as_slice(),
            Bound::Excluded(low) => key > low.as_slice(),
            Bound::Unbounded => true,
        };
        let below = |key: &[u8]| match high {
            Bound::Included(high) => key <= high.as_slice(),
            Bound::Excluded(high) => key < high.as_slice(),
            Bound::Unbounded => true,
        };
        let expected = self.model.iter().filter(|(key, _)| above(key) && below(key));
        let mut expected: Vec<(&[u8], &[u8])> = expected.map(|(key, value)| (&key[..], &value[..])).collect();
        if direction == Direction::Descending {
            expected.reverse();
        }
        let mut expected = expected.into_iter();
        let mut cursor = Cursor::new(as_slice(low), as_slice(high), direction);
        let (mut leaf, mut leaves) = (None, 0);
        loop {
            let rng = &mut self.rng;
            let ended = cursor.run(&self.tree, &self.keeper, |step| {
                match step {
                    Step::Leaf(ptr) => {
                        leaves += 1;
                        leaf = Some(ptr);
                    }
                    Step::Row { key, value } => {
                        assert_eq!(expected.next(), Some((key, value)));
                        let ptr = leaf.expect("a leaf comes before its rows");
                        assert!(self.keeper.node(ptr).expect("present").search(key).is_ok());
                    }
                }
                if rng.u16(..200) == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match ended {
                Ok(Ended::Complete) => break,
                Ok(Ended::Stopped) => {}
                Err(Stop::Absent(ptr)) => {
                    if rng.bool() {
                        self.keeper.evict(3);
                    }
                    self.keeper.load(ptr);
                }
                Err(stop) => panic!("{stop}"),
            }
        }
        assert_eq!(expected.next(), None);
        assert!(leaves > 0 || self.tree.root().is_none());
        assert!(cursor.is_complete());
    }

    /// Writes a node that is only in memory and whose children have images; it is on its way for a while.
    fn write_one(&mut self) {
        self.end_write();
        let nodes = self.tree.memory_nodes(&self.keeper).expect("what has no image is in memory");
        let ready: Vec<_> = nodes
            .into_iter()
            .filter(|node| self.keeper.node(node.ptr).expect("in memory").children().all(NodePtr::is_image))
            .collect();
        if !ready.is_empty() {
            let node = ready[self.rng.usize(..ready.len())].clone();
            self.keeper.begin_write(node.level, node.lower, node.ptr);
        }
    }

    /// Writes a node again: a leaf with changed rows, or one that is moved.
    fn rewrite_one(&mut self) {
        self.end_write();
        if let Some((level, lower, ptr)) = self.keeper.some_stored(&self.tree) {
            self.keeper.begin_write(level, lower, ptr);
        }
    }

    fn end_write(&mut self) {
        self.with_loads(|tree, keeper| keeper.end_write(tree));
    }

    /// Writes all that is only in memory, as before a checkpoint.
    fn write_all(&mut self) {
        self.end_write();
        let nodes = self.tree.memory_nodes(&self.keeper).expect("what has no image is in memory");
        for node in nodes {
            // Renamed since, if its children were written.
            let at = self.tree.node_at(&self.keeper, node.level, &node.lower).expect("in memory");
            self.keeper.begin_write(node.level, node.lower, at.expect("it is there"));
            self.end_write();
        }
        assert!(self.tree.root().is_none_or(NodePtr::is_image), "the root is written last");
        assert_eq!(self.tree.memory_nodes(&self.keeper), Ok(Vec::new()));
    }

    /// Compares `leaf_of` and `node_at` with one another and with the rows.
    fn look_around(&mut self) {
        let key = self.known_key();
        let leaf = self.with_loads(|tree, keeper| tree.leaf_of(keeper, &key));
        let at = self.with_loads(|tree, keeper| tree.node_at(keeper, 0, &key));
        assert_eq!(leaf.as_ref().map(|leaf| leaf.ptr), at);
        let Some(leaf) = leaf else { return assert!(self.model.is_empty()) };
        assert!(leaf.lower <= key);
        assert!(leaf.upper.as_ref().is_none_or(|upper| key < *upper));
        let rows = self.with_loads(|_, keeper| {
            let page = keeper.node(leaf.ptr)?;
            Ok((0..page.len()).map(|index| page.key(index)).collect::<Vec<_>>())
        });
        let in_interval = self.model.range(leaf.lower.clone()..).map(|(key, _)| key);
        let expected: Vec<_> = in_interval
            .take_while(|key| leaf.upper.as_ref().is_none_or(|upper| *key < upper))
            .cloned()
            .collect();
        assert_eq!(rows, expected, "a leaf has all rows of its interval");
        // A range of the leaf's very interval touches no other leaf.
        let upper = leaf.upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        for direction in [Direction::Ascending, Direction::Descending] {
            let visited = self.with_loads(|tree, keeper| {
                let mut visited = Vec::new();
                tree.range(keeper, Bound::Included(&leaf.lower), upper, direction, |step| {
                    visited.extend(if let Step::Leaf(ptr) = step { Some(ptr) } else { None });
                    ControlFlow::Continue(())
                })?;
                Ok(visited)
            });
            assert_eq!(visited, [leaf.ptr]);
        }
        let root = self.tree.root().expect("there is a leaf");
        let level = self.with_loads(|_, keeper| Ok(keeper.node(root)?.level()));
        assert_eq!(self.tree.node_at(&self.keeper, level, &key), Ok(Some(root)));
        assert_eq!(self.tree.node_at(&self.keeper, level + 1, &key), Ok(None));
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}
