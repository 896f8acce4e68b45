//! Tree: a root pointer, and how a key's row is found from there.
//!
//! The child pointers and separators of inner pages lead to the one leaf whose interval has the key; the interval of a
//! node is from its separator in the parent up to the next one, and at the edges of the parent that of the parent. There
//! are no pointers between neighbours and no counts: a tree can be cut and joined along one path.
//!
//! Invariants: those of the crate (lib.rs); `verify` checks them. A tree without rows has no root.
//! Cost: one page per level; `find`, `insert` of a row that fits and `remove` of one that leaves enough touch no other and
//! allocate nothing.
//! Not here: ranges (`cursor.rs`); changes of structure (`tree/insert.rs`, `tree/remove.rs`, `tree/image.rs`).

use seabed_types::NodePtr;
use smallvec::SmallVec;

use crate::page::KeyBuf;
use crate::page::format::{is_node_bytes, key_bytes_max, value_bytes_max};
use crate::{Nodes, Page, Stop};

pub(crate) mod image;
mod insert;
mod remove;
pub(crate) mod verify;

/// The root of a tree, or none: then it has no rows.
///
/// ```
/// use seabed_btree::{Nodes, NodesMut, Page, Stop, Tree};
/// use seabed_types::NodePtr;
///
/// /// Keeps all nodes in memory and writes none.
/// struct Memory(Vec<Option<Page>>);
///
/// impl Nodes for Memory {
///     fn node(&self, ptr: NodePtr) -> Result<&Page, Stop> {
///         self.0[ptr.at.offset as usize].as_ref().ok_or(Stop::Absent(ptr))
///     }
/// }
///
/// impl NodesMut for Memory {
///     fn node_mut(&mut self, ptr: NodePtr) -> &mut Page {
///         self.0[ptr.at.offset as usize].as_mut().expect("the tree asked for it before")
///     }
///     fn add(&mut self, page: Page, _from: Option<NodePtr>) -> NodePtr {
///         self.0.push(Some(page));
///         NodePtr::memory(self.0.len() as u32 - 1)
///     }
///     fn detach(&mut self, ptr: NodePtr) -> NodePtr {
///         ptr
///     }
///     fn drop_node(&mut self, ptr: NodePtr, _into: Option<NodePtr>) {
///         self.0[ptr.at.offset as usize] = None;
///     }
/// }
///
/// let (mut nodes, mut tree) = (Memory(Vec::new()), Tree::new(None, 4096));
/// tree.insert(&mut nodes, b"key", b"value")?;
/// assert_eq!(tree.get(&nodes, b"key")?, Some(&b"value"[..]));
/// assert!(tree.remove(&mut nodes, b"key")?.found);
/// assert_eq!(tree.root(), None);
/// # Ok::<(), Stop>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tree {
    root: Option<NodePtr>,
    node_bytes: usize,
}

/// What a look-up found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The leaf that has the key or would have it.
    pub leaf: NodePtr,
    /// The key's value, if there is such a row.
    pub value: Option<&'a [u8]>,
    /// Where in the leaf that is.
    pub hint: LookupHint,
}

/// Where a look-up ended, for a change of the same row soon after: that finds the row there without going down the tree
/// again. What happened in between does not matter: a spot where the row does not belong is passed over.
///
/// It counts for the tree that gave it, and is to be used with no other: a key of another tree may well lie between two rows
/// of its leaf. For the same reason the pointers of nodes that were dropped must not be given to nodes of other trees as long as
/// spots are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LookupHint {
    leaf: NodePtr,
    found: Result<u16, u16>,
}

impl LookupHint {
    fn new(leaf: NodePtr, found: Result<usize, usize>) -> Self {
        let short = |index| u16::try_from(index).expect("a page has fewer rows than bytes");
        Self { leaf, found: found.map(short).map_err(short) }
    }
}

/// A leaf by its place in the tree; the leaf itself need not be in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The pointer to it.
    pub ptr: NodePtr,
    /// Its keys are at least this; empty for the first leaf.
    pub lower: Vec<u8>,
    /// Its keys are less than this; none for the last leaf.
    pub upper: Option<Vec<u8>>,
}

/// How far the way to a key is in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// The leaf of the key, or the first node on the way to it that is not in memory.
    pub ptr: NodePtr,
    /// In the eyes of the nodes above it its keys are at least this; empty for the first node of its level.
    pub lower: Vec<u8>,
    /// They are less than this; none for the last one.
    pub upper: Option<Vec<u8>>,
    /// Whether it is not in memory.
    pub is_absent: bool,
}

/// What an insert did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inserted {
    /// The leaf that has the row now.
    pub leaf: NodePtr,
    /// Whether the key had a value before.
    pub replaced: bool,
}

/// What a remove did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    /// Whether there was such a row.
    pub found: bool,
    /// The leaf in whose interval the key is now, as far as it is known: none if the row's leaf was left without rows
    /// and given up (`NodesMut::drop_node` told where its interval went), or if the tree has no leaf.
    pub leaf: Option<NodePtr>,
}

/// One step of the way from the root to a node.
#[derive(Clone, Copy, Debug)]
struct PathStep {
    ptr: NodePtr,
    /// Which child of this node the way goes on to; 0 in the last step.
    index: usize,
}

/// A leaf, its page, and what a search of it said.
type Located<'n> = (NodePtr, &'n Page, Result<usize, usize>);

/// The way from the root to a node, the root first.
type Path = SmallVec<[PathStep; 8]>;

/// The keys that a node has in the eyes of the nodes above it.
#[derive(Clone, Default)]
struct Interval {
    lower: KeyBuf,
    upper: Option<KeyBuf>,
}

impl Interval {
    /// That of child `index` of `page`, if this is that of `page`.
    fn narrow(&mut self, page: &Page, index: usize) {
        if index > 0 {
            page.key_into(index, &mut self.lower);
        }
        if index + 1 < page.len() {
            page.key_into(index + 1, self.upper.get_or_insert_default());
        }
    }

    /// Whether all keys of `page` are in it.
    fn holds(&self, page: &Page) -> bool {
        let first = usize::from(page.level() > 0);
        if page.len() <= first {
            return true;
        }
        let low = page.compare_key(first, &self.lower).is_ge();
        let high = self.upper.as_ref().is_none_or(|upper| page.compare_key(page.len() - 1, upper).is_lt());
        low && high
    }
}

impl Tree {
    /// The tree below `root`, of nodes of `node_bytes`.
    ///
    /// Panics if a node cannot have that size: 4096 to 65536, a power of two.
    pub fn new(root: Option<NodePtr>, node_bytes: usize) -> Self {
        assert!(is_node_bytes(node_bytes), "a node has 4096 to 65536 bytes, a power of two");
        Self { root, node_bytes }
    }

    /// The pointer to the root; none if there are no rows.
    pub const fn root(&self) -> Option<NodePtr> {
        self.root
    }

    /// Bytes of a node.
    pub const fn node_bytes(&self) -> usize {
        self.node_bytes
    }

    /// The longest key, in bytes.
    pub const fn key_bytes_max(&self) -> usize {
        key_bytes_max(self.node_bytes)
    }

    /// The longest value, in bytes.
    pub const fn value_bytes_max(&self) -> usize {
        value_bytes_max(self.node_bytes)
    }

    /// The value of `key`.
    pub fn get<'n, N: Nodes + ?Sized>(&self, nodes: &'n N, key: &[u8]) -> Result<Option<&'n [u8]>, Stop> {
        Ok(self.find(nodes, key)?.and_then(|found| found.value))
    }

    /// The value of `key` and the leaf that says so; none if the tree has no leaf.
    pub fn find<'n, N: Nodes + ?Sized>(&self, nodes: &'n N, key: &[u8]) -> Result<Option<Found<'n>>, Stop> {
        let Some((leaf, page)) = self.descend(nodes, |page| page.child_index(key))? else { return Ok(None) };
        let found = page.search(key);
        let value = found.ok().map(|index| page.value(index));
        Ok(Some(Found { leaf, value, hint: LookupHint::new(leaf, found) }))
    }

    /// The way to a leaf that [`Tree::locate`] gave, before structure is changed along it.
    fn path_to<N: Nodes + ?Sized>(&self, nodes: &N, key: &[u8], leaf: NodePtr) -> Result<Path, Stop> {
        let path = self.path(nodes, key, 0, Reach::Page)?;
        if path.last().is_some_and(|step| step.ptr == leaf) {
            return Ok(path);
        }
        Err(Stop::Corrupt { node: leaf, what: "a leaf with keys of another" })
    }

    /// The leaf of `key` and what a search of it says; none if the tree has no leaf.
    #[inline]
    fn locate<'n, N: Nodes + ?Sized>(
        &self,
        nodes: &'n N,
        key: &[u8],
        hint: Option<LookupHint>,
    ) -> Result<Option<Located<'n>>, Stop> {
        if let Some(LookupHint { leaf, found }) = hint
            && let Ok(page) = nodes.node(leaf)
        {
            let found = found.map(usize::from).map_err(usize::from);
            if page.level() == 0 && page.is_spot(found, key) {
                return Ok(Some((leaf, page, found)));
            }
        }
        let descended = self.descend(nodes, |page| page.child_index(key))?;
        Ok(descended.map(|(leaf, page)| (leaf, page, page.search(key))))
    }

    /// The leaf that has `key` in its interval. Needs the inner nodes above it in memory, not the leaf (but for a leaf
    /// that is the root: a pointer does not say what it points to).
    pub fn leaf_of<N: Nodes + ?Sized>(&self, nodes: &N, key: &[u8]) -> Result<Option<Leaf>, Stop> {
        let Some(mut ptr) = self.root else { return Ok(None) };
        let mut interval = Interval::default();
        let mut page = nodes.node(ptr)?;
        while page.level() > 0 {
            let index = page.child_index(key);
            interval.narrow(page, index);
            ptr = page.child(index);
            if page.level() == 1 {
                break;
            }
            page = child_page(nodes, page, ptr)?;
        }
        Ok(Some(Leaf { ptr, lower: interval.lower.into_vec(), upper: interval.upper.map(KeyBuf::into_vec) }))
    }

    /// How far the way to `key` is in memory; none if the tree has no leaf.
    pub fn way_to<N: Nodes + ?Sized>(&self, nodes: &N, key: &[u8]) -> Result<Option<Way>, Stop> {
        let Some(mut ptr) = self.root else { return Ok(None) };
        let mut interval = Interval::default();
        let mut above: Option<&Page> = None;
        loop {
            let page = match above.map_or_else(|| nodes.node(ptr), |above| child_page(nodes, above, ptr)) {
                Ok(page) => Some(page),
                Err(Stop::Absent(_)) => None,
                Err(stop) => return Err(stop),
            };
            let Some(inner) = page.filter(|page| page.level() > 0) else {
                return Ok(Some(Way {
                    ptr,
                    lower: interval.lower.into_vec(),
                    upper: interval.upper.map(KeyBuf::into_vec),
                    is_absent: page.is_none(),
                }));
            };
            let index = inner.child_index(key);
            interval.narrow(inner, index);
            ptr = inner.child(index);
            above = Some(inner);
        }
    }

    /// Whether [`Tree::set_image`] would find the node `old` at `level` on the way to `key`. Where the nodes above do not agree,
    /// each having its keys within what the one above it gives, it is [`Stop::Corrupt`], and nothing can be said. Needs them in
    /// memory.
    pub fn finds<N: Nodes + ?Sized>(
        &self,
        nodes: &N,
        level: u8,
        key: &[u8],
        old: NodePtr,
    ) -> Result<bool, Stop> {
        if self.root == Some(old) {
            return Ok(true);
        }
        let path = self.path(nodes, key, level, Reach::Pointer)?;
        Ok(path.len() > 1 && path.last().is_some_and(|step| step.ptr == old))
    }

    /// The node at `level` on the way to `key`; none if the tree is not that high. Needs the nodes above it in memory (and
    /// the root).
    pub fn node_at<N: Nodes + ?Sized>(
        &self,
        nodes: &N,
        level: u8,
        key: &[u8],
    ) -> Result<Option<NodePtr>, Stop> {
        let Some(mut ptr) = self.root else { return Ok(None) };
        let mut page = nodes.node(ptr)?;
        if page.level() < level {
            return Ok(None);
        }
        while page.level() > level {
            ptr = page.child(page.child_index(key));
            if page.level() - 1 == level {
                break;
            }
            page = child_page(nodes, page, ptr)?;
        }
        Ok(Some(ptr))
    }

    /// Goes down to a leaf by the children that `choose` says.
    #[inline]
    pub(crate) fn descend<'n, N: Nodes + ?Sized>(
        &self,
        nodes: &'n N,
        mut choose: impl FnMut(&'n Page) -> usize,
    ) -> Result<Option<(NodePtr, &'n Page)>, Stop> {
        let Some(mut ptr) = self.root else { return Ok(None) };
        let mut page = nodes.node(ptr)?;
        while page.level() > 0 {
            ptr = page.child(choose(page));
            page = child_page(nodes, page, ptr)?;
        }
        Ok(Some((ptr, page)))
    }

    /// The way to the node at `level` on the path to `key`, before structure is changed along it: checks also that what
    /// is on the way agrees. The last step's node need not be in memory if `Reach::Pointer`.
    fn path<N: Nodes + ?Sized>(&self, nodes: &N, key: &[u8], level: u8, reach: Reach) -> Result<Path, Stop> {
        let mut path = Path::new();
        let Some(mut ptr) = self.root else { return Ok(path) };
        let mut interval = Interval::default();
        let mut page = nodes.node(ptr)?;
        if page.level() < level {
            return Ok(path);
        }
        loop {
            if !interval.holds(page) {
                return Err(Stop::Corrupt {
                    node: ptr,
                    what: "keys outside of the interval that the parent gives",
                });
            }
            if page.level() == level {
                path.push(PathStep { ptr, index: 0 });
                return Ok(path);
            }
            let index = page.child_index(key);
            path.push(PathStep { ptr, index });
            interval.narrow(page, index);
            ptr = page.child(index);
            if page.level() == level + 1 && reach == Reach::Pointer {
                path.push(PathStep { ptr, index: 0 });
                return Ok(path);
            }
            page = child_page(nodes, page, ptr)?;
        }
    }
}

/// How far a path must be in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All of its nodes.
    Page,
    /// All but the last.
    Pointer,
}

/// The page of a child; its level must be one less than its parent's.
#[inline]
fn child_page<'n, N: Nodes + ?Sized>(nodes: &'n N, parent: &Page, ptr: NodePtr) -> Result<&'n Page, Stop> {
    let page = nodes.node(ptr)?;
    if page.level() + 1 == parent.level() {
        return Ok(page);
    }
    Err(Stop::Corrupt { node: ptr, what: "level is not one below the parent's" })
}
