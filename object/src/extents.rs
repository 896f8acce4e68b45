//! Extents: the value of a row that says where 64 KiB of an object's bytes are.
//!
//! ```text
//! offset  size  field
//!      0     1  tag, 1
//!      1     2  present: bit i says that chunk i (4 KiB) is stored; at least one is
//!      3     2  contiguous: chunk i begins 4096 bytes behind chunk i-1, which is present and full
//!      5     2  short: chunk i has fewer than 4096 bytes
//!      7        per present chunk: [segment u32, offset u32 unless contiguous] [bytes u16 if short] crc u32
//! ```
//! What is not present, and a chunk's bytes behind its length, read as zeros. A patch is `named u16` and the same
//! encoding: it holds the whole new state of each chunk that it names, a named one that is not present being a hole.
//!
//! Worked example: a row of 16 chunks in one piece is 7 + 8 + 16 * 4 = 79 bytes; one of 16 scattered chunks 199.
//!
//! Invariants: 1. One state has one encoding: `contiguous` is set wherever it holds, `short` exactly for 1..=4095
//! bytes. 2. A patch names at least one chunk and holds none that it does not name. 3. No chunk is in segment 0.
//! Not here: chunks that are compressed or in several pieces, which another tag will mark.

pub(crate) mod packed;

use seabed_types::{CHUNK_BYTES, Crc, Cursor, Malformed, Paddr, SegmentId};

use crate::ROW_CHUNKS;
use crate::view::PieceRef;

const TAG: u8 = 1;
/// Bytes of a row without chunks.
pub(crate) const HEAD_BYTES: usize = 7;
/// [`CHUNK_BYTES`] as the type of a chunk's length.
pub(crate) const FULL: u16 = 4096;
const _: () = assert!(FULL as usize == CHUNK_BYTES);

/// Where one chunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chunk {
    /// Its first byte.
    pub at: Paddr,
    /// Bytes stored, 1 to 4096; the rest reads as zeros.
    pub bytes: u16,
    /// The checksum of the bytes stored.
    pub crc: Crc,
}

impl Chunk {
    /// The bytes to read.
    pub fn piece(&self) -> PieceRef {
        PieceRef { at: self.at, bytes: u32::from(self.bytes), crc: self.crc }
    }

    /// Whether a chunk at `at` stands right behind this one, which is full.
    pub fn is_followed_by(&self, at: Paddr) -> bool {
        self.end() == Some(at)
    }

    /// Where a chunk would be that stands right behind this one, if this is full.
    fn end(&self) -> Option<Paddr> {
        let end = self.at.offset.checked_add(u32::from(FULL)).filter(|_| self.bytes == FULL);
        end.map(|offset| Paddr::new(self.at.segment, offset))
    }
}

/// The state of the 16 chunks of a row; may be empty, which no row is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extents {
    present: u16,
    /// Chunks that are not present are all zero.
    chunks: [Chunk; ROW_CHUNKS],
}

impl Extents {
    /// No chunk.
    pub const EMPTY: Self = Self {
        present: 0,
        chunks: [Chunk { at: Paddr::new(SegmentId(0), 0), bytes: 0, crc: Crc(0) }; ROW_CHUNKS],
    };

    /// The chunk at `index` (0..16), if it is stored.
    pub fn chunk(&self, index: usize) -> Option<Chunk> {
        (self.present >> index & 1 == 1).then(|| self.chunks[index])
    }

    /// The chunks that are stored, with their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Chunk)> {
        indexes(self.present).map(|index| (index, self.chunks[index]))
    }

    /// Whether no chunk is stored.
    pub fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Bit i says that chunk i is stored.
    pub fn present(&self) -> u16 {
        self.present
    }

    /// Where the last chunk that is stored ends.
    pub fn end_bytes(&self) -> u64 {
        let last = self.iter().last();
        last.map_or(0, |(index, chunk)| (index * CHUNK_BYTES) as u64 + u64::from(chunk.bytes))
    }

    /// Bytes that are stored.
    pub fn stored_bytes(&self) -> u64 {
        self.iter().map(|(_, chunk)| u64::from(chunk.bytes)).sum()
    }

    /// Replaces the state of one chunk.
    pub fn set(&mut self, index: usize, chunk: Option<Chunk>) {
        match chunk {
            None => {
                self.present &= !(1 << index);
                self.chunks[index] = Chunk::default();
            }
            Some(chunk) => {
                assert!((1..=FULL).contains(&chunk.bytes), "a chunk has 1 to 4096 bytes");
                assert!(chunk.at.segment.0 != 0, "invariant 3: segment 0 holds no data");
                self.present |= 1 << index;
                self.chunks[index] = chunk;
            }
        }
    }

    /// Replaces what `patch` names.
    pub fn apply(&mut self, patch: &Patch) {
        for index in indexes(patch.named) {
            self.set(index, patch.state.chunk(index));
        }
    }

    /// Whether chunk `index` needs no address of its own.
    fn is_contiguous(&self, index: usize) -> bool {
        let before = index.checked_sub(1).and_then(|before| self.chunk(before));
        before.is_some_and(|before| before.is_followed_by(self.chunks[index].at))
    }

    /// Whether the encoded row stays as long if a whole chunk at `index` becomes `chunk`, a whole one elsewhere.
    pub(crate) fn keeps_length(&self, index: usize, chunk: &Chunk) -> bool {
        let is_next = |index: usize| index < ROW_CHUNKS && self.is_contiguous(index);
        let before = index.checked_sub(1).and_then(|before| self.chunk(before));
        let after = if index + 1 < ROW_CHUNKS { self.chunk(index + 1) } else { None };
        self.chunk(index).is_some_and(|old| old.bytes == FULL)
            && chunk.bytes == FULL
            && !self.is_contiguous(index)
            && !is_next(index + 1)
            && before.is_none_or(|before| !before.is_followed_by(chunk.at))
            && after.is_none_or(|after| !chunk.is_followed_by(after.at))
    }

    /// Bytes of the encoded row; 0 if it is empty, as there is no such row.
    pub fn encoded_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { self.form_bytes() }
    }

    fn form_bytes(&self) -> usize {
        let of = |(index, chunk): (usize, Chunk)| {
            4 + if self.is_contiguous(index) { 0 } else { 8 } + if chunk.bytes == FULL { 0 } else { 2 }
        };
        HEAD_BYTES + self.iter().map(of).sum::<usize>()
    }

    /// The row's value; `None`: it is empty and there is no such row.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let mut value = Vec::with_capacity(self.form_bytes());
        self.put(&mut value);
        Some(value)
    }

    /// Appends the row's value; the row must not be empty.
    pub(crate) fn put(&self, to: &mut Vec<u8>) {
        let (mut contiguous, mut short) = (0u16, 0u16);
        for (index, chunk) in self.iter() {
            contiguous |= u16::from(self.is_contiguous(index)) << index;
            short |= u16::from(chunk.bytes != FULL) << index;
        }
        to.push(TAG);
        for word in [self.present, contiguous, short] {
            to.extend_from_slice(&word.to_le_bytes());
        }
        for (index, chunk) in self.iter() {
            if contiguous >> index & 1 == 0 {
                to.extend_from_slice(&chunk.at.segment.0.to_le_bytes());
                to.extend_from_slice(&chunk.at.offset.to_le_bytes());
            }
            if chunk.bytes != FULL {
                to.extend_from_slice(&chunk.bytes.to_le_bytes());
            }
            to.extend_from_slice(&chunk.crc.0.to_le_bytes());
        }
    }

    /// Reads a row's value.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let bad = cursor.malformed("an extents row without chunks");
        let extents = Self::take(&mut cursor)?;
        if extents.is_empty() { Err(bad) } else { Ok(extents) }
    }

    fn take(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let bad = cursor.malformed("the tag of extents");
        if cursor.u8(bad.what)? != TAG {
            return Err(bad);
        }
        let bad = cursor.malformed("the bitmaps of extents");
        let (present, contiguous, short) =
            (cursor.u16(bad.what)?, cursor.u16(bad.what)?, cursor.u16(bad.what)?);
        if contiguous & !(present & present << 1) != 0
            || short & !present != 0
            || contiguous & short << 1 != 0
        {
            return Err(bad);
        }
        let mut extents = Self { present, ..Self::EMPTY };
        let bad = cursor.malformed("a chunk of extents");
        let mut rest = cursor.take(cursor.left(), bad.what)?;
        // Where a chunk would be that stands right behind the one before, if that is full.
        let (mut behind, mut next) = (None, 0);
        for index in indexes(present) {
            let is_next = index == next;
            let at = if contiguous >> index & 1 == 1 {
                behind.ok_or(bad)?
            } else {
                let at = address(take_array(&mut rest).ok_or(bad)?);
                // One state has one encoding: no address where none is needed, no length where it is full.
                if at.segment.0 == 0 || is_next && behind == Some(at) {
                    return Err(bad);
                }
                at
            };
            let mut bytes = FULL;
            if short >> index & 1 == 1 {
                bytes = u16::from_le_bytes(take_array(&mut rest).ok_or(bad)?);
                if bytes == 0 || bytes >= FULL {
                    return Err(bad);
                }
            }
            let crc = Crc(u32::from_le_bytes(take_array(&mut rest).ok_or(bad)?));
            let chunk = Chunk { at, bytes, crc };
            extents.chunks[index] = chunk;
            behind = chunk.end();
            next = index + 1;
        }
        if rest.is_empty() { Ok(extents) } else { Err(cursor.malformed("more after extents")) }
    }
}

/// Takes the first bytes off.
fn take_array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*array)
}

/// An address as rows have it.
fn address(bytes: [u8; 8]) -> Paddr {
    let [segment, offset] = *bytes.as_chunks::<4>().0 else { unreachable!("twice four bytes") };
    Paddr::new(SegmentId(u32::from_le_bytes(segment)), u32::from_le_bytes(offset))
}

/// The numbers of the bits that are set, ascending.
pub(crate) fn indexes(mut bits: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (index < ROW_CHUNKS).then_some(index)
    })
}

/// The new state of some chunks of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patch {
    named: u16,
    state: Extents,
}

impl Patch {
    /// Chunk i gets the state it has in `state` wherever bit i of `named` is set; at least one is.
    pub fn new(named: u16, state: &Extents) -> Self {
        assert!(named != 0, "invariant 2: a patch names a chunk");
        let mut only = Extents::EMPTY;
        for (index, chunk) in state.iter().filter(|(index, _)| named >> index & 1 == 1) {
            only.set(index, Some(chunk));
        }
        Self { named, state: only }
    }

    /// Bit i says that chunk i is named.
    pub fn named(&self) -> u16 {
        self.named
    }

    /// The new state of the chunks that are named.
    pub fn state(&self) -> &Extents {
        &self.state
    }

    /// Adds what a later patch does.
    pub fn then(&mut self, newer: &Self) {
        self.named |= newer.named;
        self.state.apply(newer);
    }

    /// The patch as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut patch = Vec::with_capacity(2 + self.state.form_bytes());
        patch.extend_from_slice(&self.named.to_le_bytes());
        self.state.put(&mut patch);
        patch
    }

    /// Reads a patch.
    pub fn decode(patch: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(patch);
        let bad = cursor.malformed("the chunks that a patch names");
        let named = cursor.u16(bad.what)?;
        let state = Extents::take(&mut cursor)?;
        if named == 0 || state.present & !named != 0 {
            return Err(bad);
        }
        Ok(Self { named, state })
    }
}
