//! Tree: the rows of a published tree, in the order of keys, read from the device one path at a time.
//!
//! A node is taken if its bytes have the checksum that the pointer names, they are a page, its level is one below its
//! parent's, its keys lie in the interval that the parent gives, and no other pointer led to it before. What is not taken
//! is a violation, is passed over with all below it, and the tree is not whole.
//!
//! A walk may begin at a key: nodes that have only lesser ones are not read.
//!
//! Cost: each node is read once.   Memory: one page per level.

use seabed_btree::Page;
use seabed_journal::CollectionId;
use seabed_segment::ListedWhat;
use seabed_types::{BLOCK_BYTES, Crc, NodePtr, TreeKind};

use crate::things::{Image, Thing, What};
use crate::violation::{NodeFault, Violation};
use crate::walk::Pass;

/// The keys of a node that could not be taken: from, and to before.
pub(crate) type Lost = (Vec<u8>, Option<Vec<u8>>);

/// A walk along the leaves of a tree.
pub(crate) struct TreeRows {
    collection: CollectionId,
    tree: TreeKind,
    /// The root, until the walk has begun.
    root: Option<NodePtr>,
    /// The walk begins with this key.
    from: Vec<u8>,
    path: Vec<Step>,
    /// Whether every node so far was taken.
    pub(crate) is_whole: bool,
    /// The intervals of nodes that were not, if they are wanted.
    pub(crate) lost: Option<Vec<Lost>>,
}

/// A node on the way to the current leaf.
struct Step {
    page: Page,
    /// The next child or row.
    next: usize,
    interval: Interval,
}

/// The keys that a node may have.
#[derive(Clone, Default)]
struct Interval {
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
}

impl Interval {
    /// Whether all keys of `page` are in it.
    fn holds(&self, page: &Page) -> bool {
        let first = usize::from(page.level() > 0);
        (first..page.len()).all(|index| {
            let below = self.upper.as_ref().is_none_or(|upper| page.compare_key(index, upper).is_lt());
            below && page.compare_key(index, &self.lower).is_ge()
        })
    }

    /// That of child `index` of `page`, if this is that of `page`.
    fn of_child(&self, page: &Page, index: usize) -> Self {
        let lower = if index > 0 { page.key(index) } else { self.lower.clone() };
        let upper = if index + 1 < page.len() { Some(page.key(index + 1)) } else { self.upper.clone() };
        Self { lower, upper }
    }
}

impl TreeRows {
    /// The rows below `root` from the key `from` on.
    pub(crate) fn new(collection: CollectionId, tree: TreeKind, root: Option<NodePtr>, from: &[u8]) -> Self {
        Self { collection, tree, root, from: from.to_vec(), path: Vec::new(), is_whole: true, lost: None }
    }

    /// The next row.
    pub(crate) fn next(&mut self, pass: &mut Pass<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
        if let Some(root) = self.root.take() {
            self.enter(pass, root, Interval::default(), None);
        }
        loop {
            let step = self.path.last_mut()?;
            let index = step.next;
            if index >= step.page.len() {
                self.path.pop();
                continue;
            }
            step.next += 1;
            let Some(below) = step.page.level().checked_sub(1) else {
                if step.page.compare_key(index, &self.from).is_lt() {
                    continue;
                }
                return Some((step.page.key(index), step.page.value(index).to_vec()));
            };
            let (child, interval) = (step.page.child(index), step.interval.of_child(&step.page, index));
            if interval.upper.as_ref().is_some_and(|upper| *upper <= self.from) {
                continue;
            }
            self.enter(pass, child, interval, Some(below));
        }
    }

    /// Goes into a node, if it is one. `level` is none for the root.
    fn enter(&mut self, pass: &mut Pass<'_>, node: NodePtr, interval: Interval, level: Option<u8>) {
        match self.page(pass, node, &interval, level) {
            Ok(page) => self.path.push(Step { page, next: 0, interval }),
            Err(fault) => {
                self.is_whole = false;
                if let Some(lost) = &mut self.lost {
                    lost.push((interval.lower, interval.upper));
                }
                let (collection, tree) = (self.collection, self.tree);
                pass.findings.violation(Violation::Node { collection, tree, node, fault });
            }
        }
    }

    fn page(
        &mut self,
        pass: &mut Pass<'_>,
        node: NodePtr,
        interval: &Interval,
        level: Option<u8>,
    ) -> Result<Page, NodeFault> {
        let layout = pass.source.layout;
        let bytes = layout.node_bytes;
        if !layout.contains(node.at, u64::from(bytes))
            || !(node.at.offset as usize).is_multiple_of(BLOCK_BYTES)
        {
            return Err(NodeFault::Pointer);
        }
        if !pass.nodes.insert(node.at) {
            return Err(NodeFault::Twice);
        }
        let read = pass.source.read(node.at, bytes as usize).map_err(NodeFault::Unreadable)?;
        let crc = Crc::of(&read);
        if crc != node.crc {
            return Err(NodeFault::Checksum(crc));
        }
        pass.counts.nodes += 1;
        pass.counts.bytes_verified += u64::from(bytes);
        let page = Page::decode(read.into()).map_err(|malformed| NodeFault::Malformed(malformed.what))?;
        if let Some(level) = level.filter(|level| *level != page.level()) {
            return Err(NodeFault::Level(level, page.level()));
        }
        if !interval.holds(&page) {
            return Err(NodeFault::Interval);
        }
        let (collection, tree) = (self.collection, self.tree);
        if page.is_empty() {
            pass.findings.violation(Violation::Node { collection, tree, node, fault: NodeFault::Empty });
        }
        let Interval { lower, upper } = interval.clone();
        pass.list(node.at, bytes, || {
            let (pool, level, first_key) = (collection.pool, page.level(), lower.clone());
            ListedWhat::Image { pool, tree, level, first_key }
        });
        let image = Image { pool: collection.pool, tree, level: page.level(), lower, upper };
        let what = What::Image(Box::new(image));
        pass.things.put(node.at.segment, Thing { offset: node.at.offset, bytes, what });
        *pass.live.entry(node.at.segment).or_default() += i64::from(bytes);
        Ok(page)
    }
}
