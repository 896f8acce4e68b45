//! Cache: the tree nodes that are in memory, by the pointer that the tree knows them by.
//!
//! A node known by an image pointer can be given up at any time: its image and the pending deltas of its interval make it
//! again. A node known by a memory pointer has no image and stays until trimming writes it. Pointers carry the checksum of
//! the image, so a reused address cannot hit.
//!
//! A frame knows up to which record its rows must be durable before anyone may be told of them (`settled_at`): what a read,
//! a listing or a refusal saw is answered when the journal has come that far (rule L6).
//!
//! Eviction is a clock: a frame looked at since the hand passed gets another round.
//!
//! Invariants: 1. A pinned frame, one whose image is being written, one without an image and one with changes that are not
//! durable are not evicted (rule T3). 2. `released` lists every image that stopped being a node's image, once.
//! Cost: one hash look-up per level of a descent. Memory: a node and about 100 bytes per frame.

use std::cell::Cell;

use rustc_hash::FxHashMap;
use seabed_btree::{Nodes, NodesMut, Page, Stop};
use seabed_types::{Lsn, NodePtr};
use slab::Slab;

struct Frame {
    ptr: NodePtr,
    page: Page,
    /// All records below this must be durable before the rows may be shown.
    settled_at: Lsn,
    looked_at: Cell<bool>,
    pins: u32,
    writing: bool,
    /// Not in the tree any more; stays for its pins.
    dropped: bool,
}

/// A frame that will not be evicted until it is unpinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pin(usize);

/// The nodes in memory.
pub(crate) struct Cache {
    frames: Slab<Frame>,
    index: FxHashMap<NodePtr, usize>,
    /// What changes now belongs to this record (exclusive bound); 0 when nothing that must be durable changes.
    stamp: Lsn,
    next_memory: u32,
    hand: usize,
    memory_nodes: usize,
    released: Vec<NodePtr>,
    /// What was removed with a leaf that no other in memory took over may be told as absent once this is durable.
    floor: Lsn,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            frames: Slab::new(),
            index: FxHashMap::default(),
            stamp: Lsn(0),
            next_memory: 1,
            hand: 0,
            memory_nodes: 0,
            released: Vec::new(),
            floor: Lsn(0),
        }
    }

    /// From now on changes become visible once all records below `lsn` are durable.
    pub(crate) fn stamp(&mut self, lsn: Lsn) {
        self.stamp = lsn;
    }

    pub(crate) fn has(&self, ptr: NodePtr) -> bool {
        self.index.contains_key(&ptr)
    }

    /// Nodes in memory.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Nodes that have no image.
    pub(crate) fn memory_nodes(&self) -> usize {
        self.memory_nodes
    }

    /// All records below this must be durable before the rows of a node may be told, or that it has no such row.
    pub(crate) fn settled_at(&self, ptr: NodePtr) -> Lsn {
        self.index.get(&ptr).map_or(Lsn(0), |at| self.frames[*at].settled_at).max(self.floor)
    }

    /// Raises the bound of a frame whose rows were changed.
    pub(crate) fn touch(&mut self, ptr: NodePtr, lsn: Lsn) {
        if let Some(at) = self.index.get(&ptr) {
            let frame = &mut self.frames[*at];
            frame.settled_at = frame.settled_at.max(lsn);
        }
    }

    /// Takes a page that was read; pinned once. One that another brought in meanwhile is kept instead.
    pub(crate) fn loaded(&mut self, ptr: NodePtr, page: Page) -> Pin {
        assert!(ptr.is_image(), "only images are loaded");
        let at = match self.index.get(&ptr) {
            Some(at) => *at,
            None => self.insert(ptr, page, Lsn(0)),
        };
        self.frames[at].pins += 1;
        Pin(at)
    }

    pub(crate) fn pin(&mut self, ptr: NodePtr) -> Option<Pin> {
        let at = *self.index.get(&ptr)?;
        self.frames[at].pins += 1;
        Some(Pin(at))
    }

    pub(crate) fn unpin(&mut self, pin: Pin) {
        let frame = &mut self.frames[pin.0];
        frame.pins -= 1;
        if frame.pins == 0 && frame.dropped {
            self.frames.remove(pin.0);
        }
    }

    /// Takes a page back out that turned out not to be wanted.
    pub(crate) fn forget(&mut self, ptr: NodePtr) {
        if let Some(at) = self.index.get(&ptr).copied()
            && self.frames[at].pins == 0
        {
            self.index.remove(&ptr);
            self.frames.remove(at);
        }
    }

    /// The node known as `old` has the image `new` now, which is on its way to the device until [`Cache::written`].
    pub(crate) fn imaged(&mut self, old: NodePtr, new: NodePtr) {
        let at = self.index.remove(&old).expect("an image is made of a node in memory");
        if old.is_image() {
            self.released.push(old);
        } else {
            self.memory_nodes -= 1;
        }
        let frame = &mut self.frames[at];
        frame.ptr = new;
        frame.writing = true;
        self.index.insert(new, at);
    }

    /// The image at `ptr` is on the device.
    pub(crate) fn written(&mut self, ptr: NodePtr) {
        if let Some(at) = self.index.get(&ptr) {
            self.frames[*at].writing = false;
        }
    }

    /// The node's page, to make its image.
    pub(crate) fn page_mut(&mut self, ptr: NodePtr) -> Option<&mut Page> {
        let at = *self.index.get(&ptr)?;
        Some(&mut self.frames[at].page)
    }

    /// The images that stopped being a node's image since the last call.
    pub(crate) fn take_released(&mut self) -> Vec<NodePtr> {
        std::mem::take(&mut self.released)
    }

    /// Gives up nodes until at most `count` are left, as far as that can be. `durable` is the bound of durable records.
    pub(crate) fn shrink(&mut self, count: usize, durable: Lsn) -> usize {
        let mut steps = self.frames.capacity() * 2;
        let mut evicted = 0;
        while self.frames.len() > count && steps > 0 {
            steps -= 1;
            self.hand = if self.hand + 1 < self.frames.capacity() { self.hand + 1 } else { 0 };
            let Some(frame) = self.frames.get(self.hand) else { continue };
            let undurable = frame.settled_at > durable && !seabed_types::seeded!(17);
            let keep = frame.pins > 0 || frame.writing || !frame.ptr.is_image();
            if keep || frame.looked_at.replace(false) {
                continue;
            }
            if undurable {
                seabed_types::reached!(KeptUndurable);
                continue;
            }
            let frame = self.frames.remove(self.hand);
            self.index.remove(&frame.ptr);
            evicted += 1;
        }
        evicted
    }

    fn insert(&mut self, ptr: NodePtr, page: Page, settled_at: Lsn) -> usize {
        let at = self.frames.insert(Frame {
            ptr,
            page,
            settled_at,
            looked_at: Cell::new(true),
            pins: 0,
            writing: false,
            dropped: false,
        });
        self.index.insert(ptr, at);
        at
    }

    fn fresh_pointer(&mut self) -> NodePtr {
        let ptr = NodePtr::memory(self.next_memory);
        self.next_memory = self.next_memory.checked_add(1).unwrap_or(1);
        assert!(!self.index.contains_key(&ptr), "2^32 nodes without an image at a time are not reached");
        self.memory_nodes += 1;
        ptr
    }
}

impl Nodes for Cache {
    fn node(&self, ptr: NodePtr) -> Result<&Page, Stop> {
        let at = *self.index.get(&ptr).ok_or(Stop::Absent(ptr))?;
        let frame = &self.frames[at];
        frame.looked_at.set(true);
        Ok(&frame.page)
    }
}

impl NodesMut for Cache {
    fn node_mut(&mut self, ptr: NodePtr) -> &mut Page {
        let at = *self.index.get(&ptr).expect("the tree looked it up in the same operation");
        let frame = &mut self.frames[at];
        frame.settled_at = frame.settled_at.max(self.stamp);
        &mut frame.page
    }

    fn add(&mut self, page: Page, from: Option<NodePtr>) -> NodePtr {
        let ptr = self.fresh_pointer();
        let settled_at = from.map_or(Lsn(0), |from| self.settled_at(from)).max(self.stamp);
        self.insert(ptr, page, settled_at);
        ptr
    }

    fn detach(&mut self, ptr: NodePtr) -> NodePtr {
        if !ptr.is_image() || seabed_types::seeded!(15) {
            return ptr;
        }
        seabed_types::reached!(ImageLost);
        let at = self.index.remove(&ptr).expect("the tree looked it up in the same operation");
        let new = self.fresh_pointer();
        self.released.push(ptr);
        self.frames[at].ptr = new;
        self.frames[at].writing = false;
        self.index.insert(new, at);
        new
    }

    fn drop_node(&mut self, ptr: NodePtr, into: Option<NodePtr>) {
        if let Some(at) = self.index.remove(&ptr) {
            let bound = self.frames[at].settled_at.max(self.stamp);
            match into {
                Some(into) if self.index.contains_key(&into) => self.touch(into, bound),
                _ => self.floor = self.floor.max(bound),
            }
            if self.frames[at].pins == 0 {
                self.frames.remove(at);
            } else {
                self.frames[at].dropped = true;
            }
        }
        if ptr.is_image() {
            self.released.push(ptr);
        } else {
            self.memory_nodes -= 1;
        }
    }
}
