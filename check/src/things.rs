//! Things: what is live in each segment: pieces, images of nodes, parts of checkpoint bodies.
//!
//! What is live where is known only when all rows of all shards were seen, and the list may be longer than the memory. So
//! a list covers the segments of a range, as many as fit the budget: when it gets too long the last segments are left
//! out, and the rows are walked again for the range from there on.
//!
//! Example: a budget of 256 MiB takes 11 million things: 40 GiB of randomly written 4 KiB pieces, or 680 GiB of pieces of
//! 64 KiB, in one walk.
//!
//! Invariant: of the segments in the range all things are listed.
//! Limits: the things of one segment are always taken, whatever the budget.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use seabed_types::{Lsn, PoolId, SegmentId, TreeKind};

/// Bytes in memory that a thing is counted as.
const THING_BYTES: usize = size_of::<Thing>();

/// Something live in a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Thing {
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    pub(crate) what: What,
}

/// What a live thing is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// Bytes that a row points to, by the hash of its key.
    Piece(u64),
    /// A tree node.
    Image(Box<Image>),
    /// A part of a body: of the checkpoint at this lsn, with this index.
    Body(Lsn, u32),
}

/// A tree node and the keys that are its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Image {
    pub(crate) pool: PoolId,
    pub(crate) tree: TreeKind,
    pub(crate) level: u8,
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
}

impl Thing {
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }

    fn memory(&self) -> usize {
        match &self.what {
            What::Piece(_) | What::Body(..) => THING_BYTES,
            What::Image(image) => {
                let upper = image.upper.as_ref().map_or(0, Vec::len);
                THING_BYTES + size_of::<Image>() + image.lower.len() + upper
            }
        }
    }
}

/// The hash by which a piece's row is known.
pub(crate) fn row_hash(pool: PoolId, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (pool, key).hash(&mut hasher);
    hasher.finish()
}

/// The live things of a range of segments.
#[derive(Debug)]
pub(crate) struct Things {
    from: SegmentId,
    /// The range ends before this.
    to: Option<SegmentId>,
    segments: BTreeMap<SegmentId, (usize, Vec<Thing>)>,
    memory: usize,
    budget: usize,
}

impl Things {
    /// An empty list of the segments from `from` on.
    pub(crate) fn new(from: SegmentId, budget: usize) -> Self {
        Self { from, to: None, segments: BTreeMap::new(), memory: 0, budget }
    }

    /// Takes a thing, if it is in the range.
    pub(crate) fn put(&mut self, segment: SegmentId, thing: Thing) {
        if !self.covers(segment) {
            return;
        }
        let memory = thing.memory();
        let (known, things) = self.segments.entry(segment).or_default();
        *known += memory;
        things.push(thing);
        self.memory += memory;
        while self.memory > self.budget && self.segments.len() > 1 {
            let Some((last, (memory, _))) = self.segments.pop_last() else { break };
            self.memory -= memory;
            self.to = Some(last);
        }
    }

    /// Whether a segment is in the range.
    pub(crate) fn covers(&self, segment: SegmentId) -> bool {
        segment >= self.from && self.to.is_none_or(|to| segment < to)
    }

    /// The segments that have things.
    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.segments.keys().copied()
    }

    /// The things of a segment, by address.
    pub(crate) fn take(&mut self, segment: SegmentId) -> Vec<Thing> {
        let (_, mut things) = self.segments.remove(&segment).unwrap_or_default();
        things.sort_by_key(|thing| (thing.offset, thing.bytes));
        things
    }

    /// An empty list of the segments behind this range; none if there are no more.
    pub(crate) fn next(&self) -> Option<Self> {
        Some(Self::new(self.to?, self.budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_within_the_budget() {
        let all: Vec<(SegmentId, u32)> = (0..100u32).flat_map(|i| [(SegmentId(1 + i * 7 % 10), i)]).collect();
        let budget = 25 * THING_BYTES;
        let mut found = Vec::new();
        let mut range = Some(Things::new(SegmentId(1), budget));
        let mut ranges = 0;
        while let Some(mut things) = range {
            for (segment, offset) in &all {
                things.put(*segment, Thing { offset: *offset, bytes: 1, what: What::Piece(0) });
            }
            assert!(things.memory <= budget);
            range = things.next();
            for segment in (1..=10).map(SegmentId) {
                if !things.covers(segment) {
                    continue;
                }
                found.extend(things.take(segment).iter().map(|thing| (segment, thing.offset)));
            }
            ranges += 1;
        }
        found.sort_unstable();
        let mut all = all;
        all.sort_unstable();
        assert_eq!(found, all);
        assert_eq!(ranges, 5, "two segments of ten things each fit at a time");
    }
}
