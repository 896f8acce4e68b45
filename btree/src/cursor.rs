//! Cursor: goes over the rows of a key range, in either direction, and can stop and go on anywhere.
//!
//! Its position is a key, not a place in a page, so it stays good whatever happens to the tree between two calls. Each
//! leaf is found from the root; inside it rows are handed out without a search. When a node is absent, `run` returns
//! that error with the position behind the last row that was handed out: the caller loads the node and calls `run` again.
//! The leaf that the position came from is not needed any more, so one page at a time is enough to get ahead.
//!
//! ```text
//! let mut cursor = Cursor::new(from, to, Direction::Ascending);
//! loop {
//!     match cursor.run(&tree, &nodes, |step| ...) {
//!         Ok(Ended::Complete | Ended::Stopped) => break,
//!         Err(Stop::Absent(ptr)) => load(ptr),
//!         Err(stop) => return Err(stop),
//!     }
//! }
//! ```
//!
//! Cost: one descent for each leaf; no allocation but for keys of more than 64 bytes.

use std::ops::{Bound, ControlFlow};

use seabed_types::NodePtr;

use crate::page::KeyBuf;
use crate::{Nodes, Page, Stop, Tree};

/// The order in which rows are handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Smaller keys first.
    Ascending,
    /// Greater keys first.
    Descending,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// There are no more rows in the range.
    Complete,
    /// The callback broke off; another run goes on behind the row that it got last.
    Stopped,
}

/// What a run hands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// The next rows, or the lack of them, are this leaf's. It may be handed out again after a break.
    Leaf(NodePtr),
    /// A row.
    Row {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
}

/// A position in a range of keys.
#[derive(Clone, Debug)]
pub struct Cursor {
    direction: Direction,
    /// The rows that are left begin here, in the order of the direction.
    from: Edge,
    /// And end here.
    to: Edge,
    complete: bool,
}

/// An end of a range that owns its key.
#[derive(Clone, Debug)]
struct Edge {
    kind: Bound<()>,
    key: KeyBuf,
}

impl Edge {
    fn new(bound: Bound<&[u8]>) -> Self {
        let key = match bound {
            Bound::Included(key) | Bound::Excluded(key) => KeyBuf::from_slice(key),
            Bound::Unbounded => KeyBuf::new(),
        };
        Self { kind: bound.map(|_| ()), key }
    }

    /// Takes key `index` of `page` instead of its own.
    fn set(&mut self, kind: Bound<()>, page: &Page, index: usize) {
        self.kind = kind;
        page.key_into(index, &mut self.key);
    }

    /// The index of the first row of a leaf that is not below a range that begins here.
    fn begin_in(&self, leaf: &Page) -> usize {
        match (self.kind, leaf.search(&self.key)) {
            (Bound::Unbounded, _) => 0,
            (Bound::Excluded(()), Ok(index)) => index + 1,
            (_, Ok(index) | Err(index)) => index,
        }
    }

    /// The index after the last row of a leaf that is not above a range that ends here.
    fn end_in(&self, leaf: &Page) -> usize {
        match (self.kind, leaf.search(&self.key)) {
            (Bound::Unbounded, _) => leaf.len(),
            (Bound::Included(()), Ok(index)) => index + 1,
            (_, Ok(index) | Err(index)) => index,
        }
    }

    /// Whether a range that ends here has no key from `key` up.
    fn ends_before(&self, key: &[u8]) -> bool {
        match self.kind {
            Bound::Unbounded => false,
            Bound::Included(()) => self.key.as_slice() < key,
            Bound::Excluded(()) => self.key.as_slice() <= key,
        }
    }

    /// Whether a range that begins here has no key below `key`.
    fn begins_from(&self, key: &[u8]) -> bool {
        self.kind != Bound::Unbounded && self.key.as_slice() >= key
    }
}

impl Cursor {
    /// A cursor at the first row, in the order of `direction`, of those between `low` and `high`. A range whose ends are
    /// the wrong way round is empty.
    pub fn new(low: Bound<&[u8]>, high: Bound<&[u8]>, direction: Direction) -> Self {
        let (from, to) = match direction {
            Direction::Ascending => (low, high),
            Direction::Descending => (high, low),
        };
        Self { direction, from: Edge::new(from), to: Edge::new(to), complete: false }
    }

    /// Whether there are no more rows in the range.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Hands out the rows that are left, each leaf before its rows, until the callback breaks off, a node is absent or
    /// the range is at its end. A row is handed out once, a break included.
    pub fn run<N, F>(&mut self, tree: &Tree, nodes: &N, mut each: F) -> Result<Ended, Stop>
    where
        N: Nodes + ?Sized,
        F: FnMut(Step<'_>) -> ControlFlow<()>,
    {
        while !self.complete {
            // The lowest separator on the way that bounds the leaf on the side to which the cursor moves.
            let mut next: Option<(&Page, usize)> = None;
            let descent = tree.descend(nodes, |page| {
                let index = self.choose(page);
                match self.direction {
                    Direction::Ascending if index + 1 < page.len() => next = Some((page, index + 1)),
                    Direction::Descending if index > 0 => next = Some((page, index)),
                    Direction::Ascending | Direction::Descending => {}
                }
                index
            })?;
            let Some((ptr, leaf)) = descent else {
                self.complete = true;
                break;
            };
            if each(Step::Leaf(ptr)).is_break() || self.rows(leaf, &mut each).is_break() {
                return Ok(Ended::Stopped);
            }
            match next {
                Some((page, index)) if !self.complete => self.move_on(ptr, page, index)?,
                _ => self.complete = true,
            }
        }
        Ok(Ended::Complete)
    }

    /// Which child of an inner page has the position.
    fn choose(&self, page: &Page) -> usize {
        match (self.direction, self.from.kind) {
            (Direction::Ascending, Bound::Unbounded) => 0,
            (Direction::Descending, Bound::Unbounded) => page.len() - 1,
            (Direction::Descending, Bound::Excluded(())) => page.child_index_below(&self.from.key),
            (Direction::Ascending | Direction::Descending, _) => page.child_index(&self.from.key),
        }
    }

    /// Hands out the rows of a leaf.
    fn rows<F: FnMut(Step<'_>) -> ControlFlow<()>>(&mut self, leaf: &Page, each: &mut F) -> ControlFlow<()> {
        let (low, high) = match self.direction {
            Direction::Ascending => (&self.from, &self.to),
            Direction::Descending => (&self.to, &self.from),
        };
        let (begin, end) = (low.begin_in(leaf), high.end_in(leaf));
        let complete = match self.direction {
            Direction::Ascending => end < leaf.len(),
            Direction::Descending => begin > 0,
        };
        for step in 0..end.saturating_sub(begin) {
            let index = match self.direction {
                Direction::Ascending => begin + step,
                Direction::Descending => end - 1 - step,
            };
            self.from.set(Bound::Excluded(()), leaf, index);
            each(Step::Row { key: &self.from.key, value: leaf.value(index) })?;
        }
        self.complete = complete;
        ControlFlow::Continue(())
    }

    /// Moves to the neighbour of `leaf` behind the separator `index` of `page`, or to the end of the range if that is
    /// before.
    fn move_on(&mut self, leaf: NodePtr, page: &Page, index: usize) -> Result<(), Stop> {
        let bounded = self.from.kind != Bound::Unbounded;
        let order = page.compare_key(index, &self.from.key);
        let ahead = match self.direction {
            Direction::Ascending => order.is_gt(),
            Direction::Descending => order.is_le(),
        };
        if bounded && !ahead {
            return Err(Stop::Corrupt {
                node: leaf,
                what: "keys outside of the interval that the parent gives",
            });
        }
        match self.direction {
            Direction::Ascending => {
                self.from.set(Bound::Included(()), page, index);
                self.complete = self.to.ends_before(&self.from.key);
            }
            Direction::Descending => {
                self.from.set(Bound::Excluded(()), page, index);
                self.complete = self.to.begins_from(&self.from.key);
            }
        }
        Ok(())
    }
}

impl Tree {
    /// Hands out the rows between two bounds in one go: [`Cursor::run`] for those who have all nodes in memory, or who
    /// begin anew.
    pub fn range<N, F>(
        &self,
        nodes: &N,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
        direction: Direction,
        each: F,
    ) -> Result<Ended, Stop>
    where
        N: Nodes + ?Sized,
        F: FnMut(Step<'_>) -> ControlFlow<()>,
    {
        Cursor::new(low, high, direction).run(self, nodes, each)
    }
}
