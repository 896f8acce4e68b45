//! Inventory: what a segment of data holds, read from the device a slice at a time.
//!
//! A sealed segment ends with a list of its pieces. A segment that a crash or a failed write ended has none; its records are
//! read instead, which name the same pieces. What a list says is a hint: a look-up of the row that it names decides whether
//! a piece is live, so a damaged list loses no data. It only leaves the segment with live bytes, and then the records are
//! read too.
//!
//! Cost: one read of the last block and one per [`SLICE_BYTES`] of the list; without a list one read per 64 KiB of the
//! segment and one for each record's list. Memory: a slice.

use std::collections::VecDeque;
use std::rc::Rc;

use seabed_journal::{ChangeRef, EntryRef};
use seabed_object::onode::identity_of;
use seabed_segment::{
    Listed, ListedWhat, RecordHeader, SEGMENT_HEADER_BYTES, SealBlock, StreamKind, entries_of_parts,
};
use seabed_types::{BLOCK_BYTES, Cursor, Incarnation, Malformed, Paddr, PoolId, SegmentId, TreeKind};

use crate::Result;
use crate::shard::mounted::Mounted;

/// Bytes of a list, or of a segment, that are read at a time.
const SLICE_BYTES: usize = 64 << 10;
/// More than the longest entry of a list takes.
const ENTRY_BYTES_MAX: usize = 20 << 10;

/// A key that names the row which decides whether a piece is live.
pub(crate) type Identity = (PoolId, Vec<u8>);

/// Reads what a segment holds.
pub(crate) struct Inventory {
    shard: Rc<Mounted>,
    segment: SegmentId,
    incarnation: Incarnation,
    source: Source,
    /// Read and not given out yet.
    read: VecDeque<Identity>,
}

enum Source {
    /// The list at the end: what is left of it, and bytes of an entry that continues there.
    List { at: u32, left: usize, rest: Vec<u8> },
    /// The records, from this offset.
    Records { at: u32 },
}

impl Inventory {
    /// Begins with the list at the segment's end, or with its records if it has none.
    pub(crate) async fn open(
        shard: &Rc<Mounted>,
        segment: SegmentId,
        incarnation: Incarnation,
    ) -> Result<Self> {
        let (shard, bytes) = (Rc::clone(shard), shard.layout.segment_bytes);
        let last = Paddr::new(segment, bytes - SEGMENT_HEADER_BYTES);
        let block = shard.read_covering(last, SEGMENT_HEADER_BYTES).await.map(|(block, _)| block);
        let seal = block
            .ok()
            .and_then(|block| SealBlock::decode(&block[..BLOCK_BYTES], &shard.identity, segment, bytes).ok());
        let source = if let Some(seal) = seal.filter(|seal| seal.incarnation == incarnation) {
            let left = seal.inventory_bytes as usize;
            Source::List { at: seal.inventory_offset, left, rest: Vec::new() }
        } else {
            seabed_types::reached!(RecordsListed);
            Source::Records { at: SEGMENT_HEADER_BYTES }
        };
        Ok(Self { shard, segment, incarnation, source, read: VecDeque::new() })
    }

    /// Whether the records are read.
    pub(crate) fn is_of_records(&self) -> bool {
        matches!(self.source, Source::Records { .. })
    }

    /// Begins anew with the records.
    pub(crate) fn read_records(&mut self) {
        self.source = Source::Records { at: SEGMENT_HEADER_BYTES };
        self.read.clear();
    }

    /// At most `count` more identities; none at the end. Neighbours that are the same are given once.
    pub(crate) async fn next(&mut self, count: usize) -> Result<Vec<Identity>> {
        while self.read.len() < count && self.read_more().await? {}
        let count = count.min(self.read.len());
        let mut taken: Vec<_> = self.read.drain(..count).collect();
        taken.sort_unstable();
        taken.dedup();
        Ok(taken)
    }

    /// Gives these again before all others.
    pub(crate) fn put_back(&mut self, identities: Vec<Identity>) {
        for identity in identities.into_iter().rev() {
            self.read.push_front(identity);
        }
    }

    /// Reads a slice. False: there is none.
    async fn read_more(&mut self) -> Result<bool> {
        match &mut self.source {
            Source::List { left: 0, .. } => Ok(false),
            Source::List { at, left, rest } => {
                let bytes = SLICE_BYTES.min(*left);
                let count = u32::try_from(bytes).expect("a slice");
                let (buf, skip) = self.shard.read_covering(Paddr::new(self.segment, *at), count).await?;
                rest.extend_from_slice(&buf[skip..skip + bytes]);
                *at += count;
                *left -= bytes;
                if !take_entries(rest, *left == 0, &mut self.read) {
                    tracing::warn!(segment = %self.segment, "the inventory of a segment is damaged; its records are read");
                    self.read_records();
                }
                Ok(true)
            }
            Source::Records { at } => {
                let from = *at;
                match self.read_records_at(from).await? {
                    Some(next) => {
                        self.source = Source::Records { at: next };
                        Ok(true)
                    }
                    None => Ok(false),
                }
            }
        }
    }

    /// Reads the first record at or after `from`, within a slice. Returns where the next one may begin; none at the end.
    async fn read_records_at(&mut self, from: u32) -> Result<Option<u32>> {
        let shard = Rc::clone(&self.shard);
        let end = shard.layout.segment_bytes;
        if from >= end {
            return Ok(None);
        }
        let bytes = u32::try_from(SLICE_BYTES).expect("64 KiB").min(end - from);
        let slice = shard.read_covering(Paddr::new(self.segment, from), bytes).await;
        let Ok((slice, _)) = slice else {
            // A block that cannot be read hides its record; the next ones may be good.
            return Ok(Some(from + SEGMENT_HEADER_BYTES));
        };
        for (index, block) in (0..).zip(slice[..bytes as usize].chunks_exact(BLOCK_BYTES)) {
            let at = Paddr::new(self.segment, from + index * SEGMENT_HEADER_BYTES);
            let Ok(header) = RecordHeader::decode(block, &shard.identity, &shard.layout, at) else {
                continue;
            };
            if header.place.incarnation != self.incarnation {
                continue;
            }
            let behind = at.plus(SEGMENT_HEADER_BYTES + header.pieces_bytes);
            let rest = header.record_bytes.saturating_sub(SEGMENT_HEADER_BYTES + header.pieces_bytes);
            let listed = if rest == 0 {
                listed_in(&header, block, &[])
            } else {
                match shard.read_covering(behind, rest).await {
                    Ok((buf, skip)) => listed_in(&header, block, &buf[skip..skip + rest as usize]),
                    Err(_) => Ok(Vec::new()),
                }
            };
            self.read.extend(listed.unwrap_or_default());
            return Ok(Some(at.offset + header.record_bytes.max(SEGMENT_HEADER_BYTES)));
        }
        Ok(Some(from + bytes))
    }
}

/// Takes the whole entries off `bytes`. False: they are damaged.
fn take_entries(bytes: &mut Vec<u8>, is_last: bool, to: &mut VecDeque<Identity>) -> bool {
    let mut taken = 0;
    let mut cursor = Cursor::new(bytes);
    while cursor.left() > 0 && (is_last || cursor.left() > ENTRY_BYTES_MAX) {
        let Ok(listed) = Listed::decode(&mut cursor) else { return false };
        taken = cursor.offset();
        to.extend(identity_in(listed));
    }
    bytes.drain(..taken);
    true
}

fn identity_in(listed: Listed) -> Option<Identity> {
    match listed.what {
        ListedWhat::Piece { pool, key } => Some((pool, key)),
        ListedWhat::Image { .. } | ListedWhat::Body { .. } => None,
    }
}

/// The pieces of a record: of the bulk stream as it lists them, of the journal as its deltas do.
fn listed_in(
    header: &RecordHeader,
    block: &[u8],
    rest: &[u8],
) -> std::result::Result<Vec<Identity>, Malformed> {
    let entries = entries_of_parts(header, block, rest)?;
    if header.place.stream != StreamKind::Journal {
        return Ok(Listed::decode_all(&entries)?.into_iter().filter_map(identity_in).collect());
    }
    let mut listed = Vec::new();
    EntryRef::decode_all(&entries, |entry| {
        let EntryRef::Delta(delta) = entry else { return };
        if delta.pieces.is_empty() {
            return;
        }
        let identity = match delta.change {
            ChangeRef::Set(value) => identity_of(delta.tree, delta.key, value),
            ChangeRef::Patch(_) | ChangeRef::Gone => identity_of(TreeKind::Bodies, delta.key, &[]),
        };
        listed.extend(identity.ok().map(|key| (delta.pool, key.to_vec())));
    })?;
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries that a slice cuts apart are read with the next slice, and in the same order.
    #[test]
    fn entries_continue_over_slices() {
        let mut bytes = Vec::new();
        let key = |number: u32| vec![u8::try_from(number % 251).expect("small"); number as usize % 700];
        for number in 0..200 {
            let what = ListedWhat::Piece { pool: PoolId(7), key: key(number) };
            Listed { offset: number, bytes: 1, what }.encode(&mut bytes);
        }
        let (mut rest, mut read) = (Vec::new(), VecDeque::new());
        let slices: Vec<_> = bytes.chunks(1000).collect();
        for (index, slice) in slices.iter().enumerate() {
            rest.extend_from_slice(slice);
            assert!(take_entries(&mut rest, index + 1 == slices.len(), &mut read));
        }
        let expected: Vec<Identity> = (0..200).map(|number| (PoolId(7), key(number))).collect();
        assert_eq!(Vec::from(read), expected);
        assert!(rest.is_empty());
        let mut bad = vec![9; 100];
        assert!(!take_entries(&mut bad, true, &mut VecDeque::new()), "kind 9 is none");
    }
}
