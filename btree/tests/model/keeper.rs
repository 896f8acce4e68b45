//! Keeper: the pages and images of a tree, as an engine would keep them, and the contract between the two.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use seabed_btree::{Nodes, NodesMut, Page, Stop, Tree};
use seabed_types::{Crc, NodePtr, Paddr, SegmentId};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A node with an image.
struct Stored {
    /// The image.
    image: Box<[u8]>,
    /// The page, with what was changed since; none while it is evicted and has no changes.
    page: Option<Page>,
    /// Whether the tree may see the page.
    present: bool,
    /// The keys whose rows were changed since the image was taken.
    changed: BTreeSet<Vec<u8>>,
}

/// An image on its way to the device.
pub(crate) struct InFlight {
    pub(crate) level: u8,
    pub(crate) lower: Vec<u8>,
    pub(crate) ptr: NodePtr,
    image: Box<[u8]>,
    changed: BTreeSet<Vec<u8>>,
    /// Whether structure changed since the image was taken.
    pub(crate) stale: bool,
}

pub(crate) struct Keeper {
    rng: Rng,
    memory: Vec<Option<Page>>,
    stored: Vec<Option<Stored>>,
    pub(crate) in_flight: Option<InFlight>,
    /// Counts calls that change something.
    pub(crate) changes: u64,
    pub(crate) splits: u64,
    pub(crate) merges: u64,
    pub(crate) unlinks: u64,
}

impl Nodes for Keeper {
    fn node(&self, ptr: NodePtr) -> Result<&Page, Stop> {
        if !ptr.is_image() {
            return self.memory[index(ptr)].as_ref().ok_or(Stop::Absent(ptr));
        }
        let stored = self.stored[index(ptr)].as_ref().filter(|stored| stored.present);
        stored.map(|stored| stored.page.as_ref().expect("present")).ok_or(Stop::Absent(ptr))
    }
}

impl NodesMut for Keeper {
    fn node_mut(&mut self, ptr: NodePtr) -> &mut Page {
        self.changes += 1;
        if !ptr.is_image() {
            return self.memory[index(ptr)].as_mut().expect("the node was dropped");
        }
        let stored = self.stored[index(ptr)].as_mut().expect("the image is dead");
        assert!(stored.present, "the node was asked for before");
        let page = stored.page.as_mut().expect("present");
        assert_eq!(page.level(), 0, "only rows are changed under an image");
        page
    }

    fn add(&mut self, page: Page, from: Option<NodePtr>) -> NodePtr {
        self.changes += 1;
        if let Some(from) = from {
            assert!(!from.is_image(), "a node is detached before it is divided");
            self.splits += 1;
        } else {
            let rows = if page.level() > 0 { 2 } else { 1 };
            assert_eq!(page.len(), rows, "a root over two halves, or a first leaf");
        }
        self.new_memory(page)
    }

    fn detach(&mut self, ptr: NodePtr) -> NodePtr {
        self.changes += 1;
        self.make_stale(ptr);
        if ptr.is_image() {
            let stored = self.stored[index(ptr)].take().expect("the image is dead");
            assert!(stored.present, "only what is in memory is changed");
            self.new_memory(stored.page.expect("present"))
        } else if self.rng.bool() {
            let page = self.memory[index(ptr)].take().expect("the node was dropped");
            self.new_memory(page)
        } else {
            ptr
        }
    }

    fn drop_node(&mut self, ptr: NodePtr, into: Option<NodePtr>) {
        self.changes += 1;
        self.make_stale(ptr);
        let page = if ptr.is_image() {
            self.stored[index(ptr)].take().expect("dropped twice").page
        } else {
            self.memory[index(ptr)].take()
        };
        let page = page.expect("only what is in memory is dropped");
        if !page.is_empty() && into.is_some() {
            self.merges += 1;
        } else {
            self.unlinks += 1;
        }
        if let Some(into) = into {
            // It must be a node of the tree.
            let _ = self.node(into);
        }
    }
}

impl Keeper {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            memory: Vec::new(),
            stored: Vec::new(),
            in_flight: None,
            changes: 0,
            splits: 0,
            merges: 0,
            unlinks: 0,
        }
    }

    fn new_memory(&mut self, page: Page) -> NodePtr {
        self.memory.push(Some(page));
        NodePtr::memory(u32::try_from(self.memory.len() - 1).expect("a test is not that long"))
    }

    fn make_stale(&mut self, ptr: NodePtr) {
        if let Some(in_flight) = self.in_flight.as_mut().filter(|in_flight| in_flight.ptr == ptr) {
            in_flight.stale = true;
        }
    }

    /// Notes that a row of a leaf was changed.
    pub(crate) fn row_changed(&mut self, leaf: NodePtr, key: &[u8]) {
        if let Some(in_flight) = self.in_flight.as_mut().filter(|in_flight| in_flight.ptr == leaf) {
            in_flight.changed.insert(key.to_vec());
        }
        if leaf.is_image() {
            self.stored[index(leaf)].as_mut().expect("the image is dead").changed.insert(key.to_vec());
        }
    }

    /// Brings an evicted node back.
    pub(crate) fn load(&mut self, ptr: NodePtr) {
        assert!(ptr.is_image(), "the node was dropped");
        let stored = self.stored[index(ptr)].as_mut().expect("the image is dead");
        assert!(!stored.present, "the tree asks only for what is absent");
        if stored.page.is_none() {
            stored.page = Some(Page::decode(stored.image.clone()).expect("the image is good"));
        }
        stored.present = true;
    }

    /// Evicts each node that has an image with a chance of one in `chance`.
    pub(crate) fn evict(&mut self, chance: u32) {
        for stored in self.stored.iter_mut().flatten().filter(|stored| stored.present) {
            if self.rng.u32(..chance) == 0 {
                stored.present = false;
                if stored.changed.is_empty() {
                    stored.page = None;
                }
            }
        }
    }

    pub(crate) fn load_all(&mut self) {
        let absent = |(number, stored): (usize, &Option<Stored>)| {
            stored.as_ref().filter(|stored| !stored.present).map(|_| image_ptr(number))
        };
        let absent: Vec<NodePtr> = self.stored.iter().enumerate().filter_map(absent).collect();
        for ptr in absent {
            self.load(ptr);
        }
    }

    /// Begins to write a node.
    pub(crate) fn begin_write(&mut self, level: u8, lower: Vec<u8>, ptr: NodePtr) {
        let page = if ptr.is_image() {
            self.stored[index(ptr)].as_mut().and_then(|stored| stored.page.as_mut())
        } else {
            self.memory[index(ptr)].as_mut()
        };
        let image: Box<[u8]> = page.expect("what is written is in memory").image().into();
        let again = Page::decode(image.clone()).expect("an image can be decoded");
        assert_eq!(again.level(), level);
        self.in_flight = Some(InFlight { level, lower, ptr, image, changed: BTreeSet::new(), stale: false });
    }

    /// Takes what was written as the node's image, if its structure is still that.
    pub(crate) fn end_write(&mut self, tree: &mut Tree) -> Result<(), Stop> {
        let Some(InFlight { level, lower, ptr, image, changed, stale }) = self.in_flight.take() else {
            return Ok(());
        };
        let new = image_ptr(self.stored.len());
        let changes = self.changes;
        if stale {
            if ptr.is_image() {
                let outcome = tree.set_image(self, level, &lower, ptr, new);
                assert!(
                    matches!(outcome, Ok(false) | Err(Stop::Absent(_))),
                    "the node is known by another pointer"
                );
                assert_eq!(changes, self.changes, "nothing was changed");
            }
            return Ok(());
        }
        match tree.set_image(self, level, &lower, ptr, new) {
            Ok(known) => assert!(known, "the node is where it was"),
            Err(stop) => {
                assert_eq!(changes, self.changes, "nothing was changed");
                self.in_flight = Some(InFlight { level, lower, ptr, image, changed, stale });
                return Err(stop);
            }
        }
        let (page, present) = if ptr.is_image() {
            let stored = self.stored[index(ptr)].take().expect("it was not stale");
            (stored.page, stored.present)
        } else {
            (self.memory[index(ptr)].take(), true)
        };
        let page = page.filter(|_| present || !changed.is_empty());
        self.stored.push(Some(Stored { image, page, present, changed }));
        Ok(())
    }

    /// An image leaf in memory whose rows were changed, or any node with an image that is in memory.
    pub(crate) fn some_stored(&mut self, tree: &Tree) -> Option<(u8, Vec<u8>, NodePtr)> {
        let mut candidates = Vec::new();
        tree.visit(self, |ptr, page, lower, _| {
            if ptr.is_image() {
                candidates.push((page.level(), lower.to_vec(), ptr));
            }
            Ok(())
        })
        .expect("the tree is good");
        let pick = self.rng.usize(..candidates.len().max(1));
        candidates.get(pick).cloned()
    }

    /// Exchanges the images of two nodes that are not in memory: a device that gives other bytes than were written, and a
    /// checksum that does not see it.
    pub(crate) fn swap_images(&mut self) {
        let evicted = |stored: &Option<Stored>| stored.as_ref().is_some_and(|stored| stored.page.is_none());
        let evicted: Vec<usize> =
            (0..self.stored.len()).filter(|number| evicted(&self.stored[*number])).collect();
        if evicted.len() > 1 {
            let (first, second) =
                (evicted[self.rng.usize(..evicted.len())], evicted[self.rng.usize(..evicted.len())]);
            let image_of = |stored: &Option<Stored>| stored.as_ref().expect("evicted").image.clone();
            let images = (image_of(&self.stored[first]), image_of(&self.stored[second]));
            self.stored[first].as_mut().expect("evicted").image = images.1;
            self.stored[second].as_mut().expect("evicted").image = images.0;
        }
    }

    /// Checks the contract for all nodes in memory.
    pub(crate) fn check(&self, tree: &Tree) {
        let census = tree.verify(self).expect("the tree is good");
        let mut seen = 0;
        tree.visit(self, |ptr, page, lower, upper| {
            seen += 1;
            if !ptr.is_image() {
                return Ok(());
            }
            let stored = self.stored[index(ptr)].as_ref().expect("the image is dead");
            if page.level() > 0 {
                assert_eq!(page.bytes(), &*stored.image, "an inner node is its image");
                return Ok(());
            }
            let mut image = rows_of(&Page::decode(stored.image.clone()).expect("the image is good"));
            assert!(image.keys().all(|key| key.as_slice() >= lower), "the image covers the leaf's interval");
            assert!(image.keys().all(|key| upper.is_none_or(|upper| key.as_slice() < upper)));
            let mut now = rows_of(page);
            for key in &stored.changed {
                image.remove(key);
                now.remove(key);
            }
            assert_eq!(image, now, "only the rows that were changed differ from the image");
            Ok(())
        })
        .expect("the tree is good");
        assert_eq!(seen, census.leaves + census.inner);
    }

    /// Checks that the tree knows every node that is kept; all must be in memory.
    pub(crate) fn check_reachable(&self, tree: &Tree) {
        let census = tree.verify(self).expect("the tree is good");
        let kept = self.memory.iter().flatten().count() + self.stored.iter().flatten().count();
        assert_eq!(census.absent, 0);
        assert_eq!(census.leaves + census.inner, kept, "what is not in the tree was dropped");
        assert_eq!(census.without_image, self.memory.iter().flatten().count());
    }
}

fn rows_of(page: &Page) -> Rows {
    (0..page.len()).map(|index| (page.key(index), page.value(index).to_vec())).collect()
}

fn index(ptr: NodePtr) -> usize {
    ptr.at.offset as usize
}

fn image_ptr(number: usize) -> NodePtr {
    let offset = u32::try_from(number).expect("a test is not that long");
    NodePtr::image(Paddr::new(SegmentId(1), offset), Crc(offset ^ 0x5a5a))
}
