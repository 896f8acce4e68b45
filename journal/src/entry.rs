//! Entry: one thing that a journal record says besides its data.
//!
//! | kind | entry | fields |
//! |---|---|---|
//! | 1 | delta: set | tree u8, pool, key, pieces, value |
//! | 2 | delta: patch | tree u8, pool, key, pieces, patch |
//! | 3 | delta: gone | tree u8, pool, key |
//! | 4 | live | count, then segment and signed change of live bytes, for each |
//! | 5 | tally | collection, next id, six signed changes |
//! | 6 | claim | segment, incarnation, stream u8, age |
//! | 7 | seal | segment |
//! | 8 | new collection | collection, term |
//!
//! Numbers are varints unless a width is given; keys, values and patches are byte strings; `pieces` is a count and for
//! each the offset in the record's segment and the bytes: what of this record's data the row points to, so that the
//! record lists its pieces with an identity that follows from the delta (rule L4). Deltas are absolute: a patch carries
//! the whole new state of what it names, so applying one twice is applying it once (rule T1).
//!
//! Cost: a 4 KiB overwrite is about 11 bytes of key, 15 of patch, 12 of the rest: 38 bytes, and its share of live, tally.

use seabed_types::{Cursor, Incarnation, Malformed, PoolId, SegmentId, Term, TreeKind};
use seabed_types::{put_bytes, put_signed, put_varint};

use crate::{CollectionId, Tally};
use seabed_segment::StreamKind;

/// The new state of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeRef<'a> {
    /// The whole value.
    Set(&'a [u8]),
    /// The new state of what the patch names within the value.
    Patch(&'a [u8]),
    /// No row.
    Gone,
}

/// A delta: the change of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeltaRef<'a> {
    /// Of which pool; the collection follows from the hash in the key.
    pub pool: PoolId,
    /// Of which tree.
    pub tree: TreeKind,
    /// Of which row.
    pub key: &'a [u8],
    /// What it became.
    pub change: ChangeRef<'a>,
    /// Which of the record's data it points to: offset in the segment, bytes.
    pub pieces: Vec<(u32, u32)>,
}

/// An entry, borrowed from the bytes that were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryRef<'a> {
    /// A row changed.
    Delta(DeltaRef<'a>),
    /// Live bytes of segments changed.
    Live(Vec<(SegmentId, i64)>),
    /// A collection's counts changed; ids under `next_id` were used.
    Tally {
        /// Which collection.
        collection: CollectionId,
        /// Its id counter.
        next_id: u64,
        /// The changes.
        change: Tally,
    },
    /// A segment will be written to.
    Claim {
        /// Which.
        segment: SegmentId,
        /// Which use of it this is.
        incarnation: Incarnation,
        /// For what.
        stream: StreamKind,
        /// Age of its data.
        age: u64,
    },
    /// A segment will not be written to any more.
    Seal {
        /// Which.
        segment: SegmentId,
    },
    /// An empty collection exists from here on.
    NewCollection {
        /// Which.
        collection: CollectionId,
        /// Its first term.
        term: Term,
    },
}

/// Appends a delta without building one.
pub fn put_delta(
    to: &mut Vec<u8>,
    (pool, tree): (PoolId, TreeKind),
    key: &[u8],
    change: ChangeRef<'_>,
    pieces: &[(u32, u32)],
) {
    to.push(match change {
        ChangeRef::Set(_) => 1,
        ChangeRef::Patch(_) => 2,
        ChangeRef::Gone => 3,
    });
    to.push(tree as u8);
    put_varint(to, pool.0);
    put_bytes(to, key);
    if let ChangeRef::Set(value) | ChangeRef::Patch(value) = change {
        put_varint(to, pieces.len() as u64);
        for (offset, bytes) in pieces {
            put_varint(to, u64::from(*offset));
            put_varint(to, u64::from(*bytes));
        }
        put_bytes(to, value);
    }
}

/// An upper bound of the bytes that [`put_delta`] appends.
pub fn delta_bytes_max(key: usize, value: usize, pieces: usize) -> usize {
    2 + 10 + 3 * 5 + key + value + pieces * 10
}

/// The most bytes that a [`EntryRef::Claim`], a [`EntryRef::Seal`] or one change of [`EntryRef::Live`] takes.
pub const SMALL_ENTRY_BYTES: usize = 32;
/// The most bytes that an [`EntryRef::Tally`] takes.
pub const TALLY_BYTES: usize = 1 + 16 + 10 + 6 * 10;

impl<'a> EntryRef<'a> {
    /// Appends the entry.
    pub fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Delta(delta) => {
                put_delta(to, (delta.pool, delta.tree), delta.key, delta.change, &delta.pieces);
            }
            Self::Live(changes) => {
                to.push(4);
                put_varint(to, changes.len() as u64);
                for (segment, change) in changes {
                    put_varint(to, u64::from(segment.0));
                    put_signed(to, *change);
                }
            }
            Self::Tally { collection, next_id, change } => {
                to.push(5);
                collection.encode(to);
                put_varint(to, *next_id);
                change.encode(to);
            }
            Self::Claim { segment, incarnation, stream, age } => {
                to.push(6);
                put_varint(to, u64::from(segment.0));
                put_varint(to, u64::from(incarnation.0));
                to.push(*stream as u8);
                put_varint(to, *age);
            }
            Self::Seal { segment } => {
                to.push(7);
                put_varint(to, u64::from(segment.0));
            }
            Self::NewCollection { collection, term } => {
                to.push(8);
                collection.encode(to);
                put_varint(to, u64::from(term.0));
            }
        }
    }

    /// Reads one entry.
    pub fn decode(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let bad = cursor.malformed("entry: kind");
        Ok(match cursor.u8("entry: kind")? {
            kind @ 1..=3 => Self::Delta(decode_delta(cursor, kind)?),
            4 => {
                let count = cursor.count(cursor.left(), "live: count")?;
                let mut changes = Vec::with_capacity(count.min(1024));
                for _ in 0..count {
                    let segment = SegmentId(cursor.varint_u32("live: segment")?);
                    changes.push((segment, cursor.signed("live: change")?));
                }
                Self::Live(changes)
            }
            5 => Self::Tally {
                collection: CollectionId::decode(cursor)?,
                next_id: cursor.varint("tally: next id")?,
                change: Tally::decode(cursor)?,
            },
            6 => {
                let segment = SegmentId(cursor.varint_u32("claim: segment")?);
                let incarnation = Incarnation(cursor.varint_u32("claim: incarnation")?);
                let stream = cursor.u8("claim: stream")?;
                let stream = StreamKind::try_from(stream).map_err(|()| cursor.malformed("claim: stream"))?;
                Self::Claim { segment, incarnation, stream, age: cursor.varint("claim: age")? }
            }
            7 => Self::Seal { segment: SegmentId(cursor.varint_u32("seal: segment")?) },
            8 => Self::NewCollection {
                collection: CollectionId::decode(cursor)?,
                term: Term(cursor.varint_u32("new collection: term")?),
            },
            _ => return Err(bad),
        })
    }

    /// Reads all entries of a record, in order.
    pub fn decode_all(entries: &'a [u8], mut visit: impl FnMut(Self)) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(entries);
        while cursor.left() > 0 {
            visit(Self::decode(&mut cursor)?);
        }
        Ok(())
    }
}

fn decode_delta<'a>(cursor: &mut Cursor<'a>, kind: u8) -> Result<DeltaRef<'a>, Malformed> {
    let tree = cursor.u8("delta: tree")?;
    let tree = TreeKind::try_from(tree).map_err(|()| cursor.malformed("delta: tree"))?;
    let pool = PoolId(cursor.varint("delta: pool")?);
    let key = cursor.bytes("delta: key")?;
    let mut pieces = Vec::new();
    let mut change = ChangeRef::Gone;
    if kind != 3 {
        let count = cursor.count(cursor.left(), "delta: pieces")?;
        for _ in 0..count {
            let offset = cursor.varint_u32("delta: piece")?;
            pieces.push((offset, cursor.varint_u32("delta: piece")?));
        }
        let value = cursor.bytes("delta: value")?;
        change = if kind == 1 { ChangeRef::Set(value) } else { ChangeRef::Patch(value) };
    }
    Ok(DeltaRef { pool, tree, key, change, pieces })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_bad_bytes_are_refused() {
        let collection = CollectionId::whole(PoolId(9));
        let delta = |change, pieces| {
            EntryRef::Delta(DeltaRef {
                pool: PoolId(300),
                tree: TreeKind::Bodies,
                key: b"some key",
                change,
                pieces,
            })
        };
        let all = [
            delta(ChangeRef::Set(b"value"), vec![(4096, 8192), (1 << 30, 1)]),
            delta(ChangeRef::Patch(b"patch"), vec![]),
            delta(ChangeRef::Gone, vec![]),
            EntryRef::Live(vec![(SegmentId(1), -4096), (SegmentId(u32::MAX), i64::MAX)]),
            EntryRef::Tally {
                collection,
                next_id: 17,
                change: Tally { objects: -1, omap: 5, ..Tally::default() },
            },
            EntryRef::Claim {
                segment: SegmentId(4),
                incarnation: Incarnation(2),
                stream: StreamKind::Nodes,
                age: 1 << 50,
            },
            EntryRef::Seal { segment: SegmentId(3) },
            EntryRef::NewCollection { collection, term: Term(1) },
        ];
        let mut bytes = Vec::new();
        for entry in &all {
            let before = bytes.len();
            entry.encode(&mut bytes);
            let bound = match entry {
                EntryRef::Delta(_) => delta_bytes_max(8, 5, 2),
                EntryRef::Tally { .. } => TALLY_BYTES,
                EntryRef::Live(_) => 2 * SMALL_ENTRY_BYTES,
                EntryRef::Claim { .. } | EntryRef::Seal { .. } | EntryRef::NewCollection { .. } => {
                    SMALL_ENTRY_BYTES
                }
            };
            assert!(bytes.len() - before <= bound);
        }
        let mut back = Vec::new();
        EntryRef::decode_all(&bytes, |entry| back.push(entry)).expect("what was encoded");
        assert_eq!(back, all);
        let mut rng = fastrand::Rng::with_seed(8);
        for _ in 0..200_000 {
            let mut bad = bytes.clone();
            for _ in 0..rng.usize(1..3) {
                bad[rng.usize(..bytes.len())] = rng.u8(..);
            }
            bad.truncate(rng.usize(..=bytes.len()));
            let _ = EntryRef::decode_all(&bad, |_| {});
        }
    }
}
