//! Packed: replaces or adds one chunk in the bytes of an extents row or of a patch, without taking them apart.
//!
//! Most changes of a row are one chunk that was written anew elsewhere. Its place in the bytes follows from the bitmaps by
//! counting bits. Where a neighbour would change its form with it (it becomes contiguous, or ceases to be), or a length is
//! involved, the answer is no, and the caller takes the row apart.
//!
//! Cost: a few bit counts and a copy of 12 bytes; adding moves what is behind. Bytes that are no row are left alone.

use seabed_types::{Crc, Paddr};

use super::{Chunk, FULL, HEAD_BYTES, TAG, address};
use crate::ROW_CHUNKS;

/// Bytes of a chunk with an address and without a length.
const ENTRY_BYTES: usize = 12;

/// The bitmaps of an encoded row.
#[derive(Clone, Copy)]
struct Form {
    present: u16,
    contiguous: u16,
    short: u16,
}

impl Form {
    /// The bitmaps, if the bytes are as long as they say.
    fn of(row: &[u8]) -> Option<Self> {
        let (head, _) = row.split_first_chunk::<HEAD_BYTES>()?;
        let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let form = Self { present: word(1), contiguous: word(3), short: word(5) };
        (head[0] == TAG && form.offset(ROW_CHUNKS) == row.len()).then_some(form)
    }

    /// Where chunk `index` stands or would stand.
    fn offset(self, index: usize) -> usize {
        let below = if index < ROW_CHUNKS { (1u16 << index) - 1 } else { u16::MAX };
        let count = |bits: u16| (bits & below).count_ones() as usize;
        HEAD_BYTES
            + 4 * count(self.present)
            + 8 * count(self.present & !self.contiguous)
            + 2 * count(self.short)
    }

    /// The address of chunk `index`, if it is stored.
    fn address(self, row: &[u8], index: usize) -> Option<Paddr> {
        if !has(self.present, index) {
            return None;
        }
        let mut first = index;
        while has(self.contiguous, first) {
            first = first.checked_sub(1)?;
        }
        let at = address(*row.get(self.offset(first)..)?.first_chunk()?);
        let behind = u32::try_from(index - first).ok()? * u32::from(FULL);
        Some(Paddr::new(at.segment, at.offset.checked_add(behind)?))
    }

    /// Whether `chunk` at `index` leaves the form of its neighbours as it is and needs an address and no length itself.
    fn takes(self, row: &[u8], index: usize, chunk: &Chunk) -> bool {
        let is_plain = chunk.bytes == FULL
            && chunk.at.segment.0 != 0
            && !has(self.contiguous | self.short, index)
            && !has(self.contiguous, index + 1);
        let before = index.checked_sub(1).filter(|before| has(self.present & !self.short, *before));
        let follows = before
            .and_then(|before| self.address(row, before))
            .is_some_and(|at| Chunk { at, bytes: FULL, crc: Crc::default() }.is_followed_by(chunk.at));
        is_plain && !follows && self.address(row, index + 1).is_none_or(|at| !chunk.is_followed_by(at))
    }
}

fn has(bits: u16, index: usize) -> bool {
    index < ROW_CHUNKS && bits >> index & 1 == 1
}

fn entry(chunk: &Chunk) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..4].copy_from_slice(&chunk.at.segment.0.to_le_bytes());
    entry[4..8].copy_from_slice(&chunk.at.offset.to_le_bytes());
    entry[8..].copy_from_slice(&chunk.crc.0.to_le_bytes());
    entry
}

/// Replaces a chunk that is there. False: nothing was done.
pub(crate) fn replace(row: &mut [u8], index: usize, chunk: &Chunk) -> bool {
    let Some(form) = Form::of(row).filter(|form| has(form.present, index)) else { return false };
    if !form.takes(row, index, chunk) {
        return false;
    }
    let at = form.offset(index);
    row[at..at + ENTRY_BYTES].copy_from_slice(&entry(chunk));
    true
}

/// Replaces or adds a chunk of the row that begins at `start`. False: nothing was done.
pub(crate) fn put(bytes: &mut Vec<u8>, start: usize, index: usize, chunk: &Chunk) -> bool {
    let Some(row) = bytes.get_mut(start..) else { return false };
    if replace(row, index, chunk) {
        return true;
    }
    let Some(form) = Form::of(row).filter(|form| !has(form.present, index)) else { return false };
    if !form.takes(row, index, chunk) {
        return false;
    }
    let present = form.present | 1 << index;
    row[1..3].copy_from_slice(&present.to_le_bytes());
    let at = start + form.offset(index);
    bytes.splice(at..at, entry(chunk));
    true
}

/// The chunk of a patch that names one, which is stored, whole.
pub(crate) fn single(patch: &[u8]) -> Option<(usize, Chunk)> {
    let (named, row) = patch.split_first_chunk::<2>()?;
    let named = u16::from_le_bytes(*named);
    let form = Form::of(row)?;
    if !named.is_power_of_two() || form.present != named || form.contiguous | form.short != 0 {
        return None;
    }
    let index = named.trailing_zeros() as usize;
    let crc = Crc(u32::from_le_bytes(*row.last_chunk::<4>()?));
    let at = form.address(row, index).filter(|at| at.segment.0 != 0)?;
    Some((index, Chunk { at, bytes: FULL, crc }))
}

/// The patch that puts one whole chunk.
pub(crate) fn patch_of(index: usize, chunk: &Chunk) -> Vec<u8> {
    let named = (1u16 << index).to_le_bytes();
    let mut patch = Vec::with_capacity(2 + HEAD_BYTES + ENTRY_BYTES);
    patch.extend_from_slice(&named);
    patch.push(TAG);
    patch.extend_from_slice(&named);
    patch.extend_from_slice(&[0; 4]);
    patch.extend_from_slice(&entry(chunk));
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extents::{Extents, Patch};
    use seabed_types::SegmentId;

    fn any_chunk(rng: &mut fastrand::Rng, before: Option<Chunk>) -> Chunk {
        let next = before.map(|before| before.at.plus(u32::from(FULL)));
        let at = match (rng.u32(..3), next) {
            (0, Some(next)) => next,
            // Now and then right before the address that most have.
            (1, _) => Paddr::new(SegmentId(1), 4096 * rng.u32(1..4)),
            _ => Paddr::new(SegmentId(rng.u32(1..3)), 4096 * rng.u32(1..90)),
        };
        let bytes = if rng.u32(..6) == 0 { rng.u16(1..FULL) } else { FULL };
        Chunk { at, bytes, crc: Crc(rng.u32(..)) }
    }

    fn any_extents(rng: &mut fastrand::Rng) -> Extents {
        let mut extents = Extents::EMPTY;
        let mut before = None;
        for index in 0..ROW_CHUNKS {
            let chunk = (rng.u32(..4) > 0).then(|| any_chunk(rng, before));
            extents.set(index, chunk);
            before = chunk;
        }
        extents
    }

    /// What is done in place is what taking apart, setting and encoding does; and most of it is done.
    #[test]
    fn in_place_is_as_taken_apart() {
        let mut rng = fastrand::Rng::with_seed(11);
        let (mut done, mut rounds) = (0, 0);
        for _ in 0..20_000 {
            let old = any_extents(&mut rng);
            let index = rng.usize(..ROW_CHUNKS);
            let chunk = any_chunk(&mut rng, index.checked_sub(1).and_then(|before| old.chunk(before)));
            let mut new = old;
            new.set(index, Some(chunk));
            let Some(encoded) = old.encode() else { continue };
            rounds += 1;
            let mut row = encoded.clone();
            if put(&mut row, 0, index, &chunk) {
                assert_eq!(Some(row), new.encode());
                done += 1;
            } else {
                assert_eq!(row, encoded, "nothing was done");
            }
            let mut row = encoded.clone();
            if replace(&mut row, index, &chunk) {
                assert_eq!(Some(row), new.encode());
            } else {
                assert_eq!(row, encoded, "nothing was done");
            }
        }
        assert!(done * 4 > rounds, "{done} of {rounds}");
    }

    #[test]
    fn single_patches_are_as_encoded() {
        let mut rng = fastrand::Rng::with_seed(12);
        for _ in 0..2_000 {
            let (index, chunk) = (rng.usize(..ROW_CHUNKS), any_chunk(&mut rng, None));
            let mut state = Extents::EMPTY;
            state.set(index, Some(chunk));
            let patch = Patch::new(1 << index, &state).encode();
            if chunk.bytes == FULL {
                assert_eq!(patch_of(index, &chunk), patch);
                assert_eq!(single(&patch), Some((index, chunk)));
            } else {
                assert_eq!(single(&patch), None);
            }
            state.set((index + 1) % ROW_CHUNKS, Some(any_chunk(&mut rng, None)));
            assert_eq!(single(&Patch::new(u16::MAX, &state).encode()), None, "it names more than one");
        }
    }

    /// Bytes that are no row, of every length, do no harm.
    #[test]
    fn any_bytes_are_left_alone_or_changed_within() {
        let mut rng = fastrand::Rng::with_seed(13);
        for round in 0..100_000 {
            let mut bytes: Vec<u8> = (0..rng.usize(..220)).map(|_| rng.u8(..)).collect();
            if let Some(tag) = bytes.first_mut()
                && round % 2 == 0
            {
                *tag = TAG;
            }
            let chunk = any_chunk(&mut rng, None);
            let _ = single(&bytes);
            replace(&mut bytes, rng.usize(..ROW_CHUNKS), &chunk);
            put(&mut bytes, rng.usize(..4), rng.usize(..ROW_CHUNKS), &chunk);
        }
    }
}
