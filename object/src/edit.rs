//! Edit: an extents row before and after, while its new chunks have no places yet.
//!
//! Only the chunks that were touched are kept besides the row as it was: most edits touch one of sixteen.

use seabed_types::{Malformed, Paddr};
use smallvec::SmallVec;

use crate::ROW_CHUNKS;
use crate::change::Change;
use crate::effects::{Placed, Runs};
use crate::extents::{Chunk, Extents, FULL, HEAD_BYTES, Patch, indexes, packed};

/// Bytes of a change of an extents row besides its chunks, at most.
const CHANGE_HEAD_BYTES: usize = 2 + HEAD_BYTES;
/// Bytes of a chunk in a change, at most.
pub(crate) const CHUNK_CHANGE_BYTES: usize = 14;

/// Bytes of the change of a row with a key of `key_bytes`, besides its chunks, at most.
pub(crate) fn row_change_bytes(key_bytes: usize) -> usize {
    crate::effects::DELTA_OVERHEAD + key_bytes + CHANGE_HEAD_BYTES
}

/// A chunk that may not have its place yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    Hole,
    At(Chunk),
    /// While a transaction is carried out: `bytes` bytes at `offset` of source number `of`. In its effects: chunk number
    /// `offset` of piece number `of`.
    New {
        of: u32,
        offset: usize,
        bytes: u16,
    },
}

impl Slot {
    /// Bytes stored.
    pub(crate) fn bytes(&self) -> u16 {
        match self {
            Self::Hole => 0,
            Self::At(chunk) => chunk.bytes,
            Self::New { bytes, .. } => *bytes,
        }
    }
}

/// An extents row before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExtentsEdit {
    /// Empty if there was no row.
    old: Extents,
    old_value_bytes: usize,
    /// The old extents stood in the onode and become a row.
    is_moved: bool,
    /// Bit i says that chunk i was touched.
    touched: u16,
    /// The touched chunks, in order.
    slots: SmallVec<[Slot; 1]>,
}

/// What an edit does to usage, but for the length of the new row.
pub(crate) struct Sums {
    /// Bytes of the old row's value; 0: there was none.
    pub(crate) old_value_bytes: usize,
    /// Bytes of the chunks that the row does not point to any more.
    pub(crate) freed: u64,
    /// Bytes of the chunks that it points to only now, of a row that moved out of an onode all that it had there too.
    pub(crate) placed: u64,
}

/// A change, the pieces that only the new row points to, and the length of the new row's value.
pub(crate) type EncodedExtents = (Change, SmallVec<[(Paddr, u32); 1]>, usize);

impl ExtentsEdit {
    /// A row that is not changed yet; `None`: there is none.
    pub(crate) fn new(value: Option<&[u8]>) -> Result<Box<Self>, Malformed> {
        match value {
            None => Ok(Self::none()),
            Some(value) => Ok(Self::of(&Extents::decode(value)?, value.len())),
        }
    }

    /// A row that there is none of yet.
    pub(crate) fn none() -> Box<Self> {
        Self::of(&Extents::EMPTY, 0)
    }

    /// As [`Self::new`], of a row that was decoded; it has `old_value_bytes` bytes.
    pub(crate) fn of(old: &Extents, old_value_bytes: usize) -> Box<Self> {
        Box::new(Self { old: *old, old_value_bytes, is_moved: false, touched: 0, slots: SmallVec::new() })
    }

    /// The state of a chunk.
    pub(crate) fn slot(&self, index: usize) -> Slot {
        if self.is_touched(index) {
            return self.slots[self.rank(index)];
        }
        self.old.chunk(index).map_or(Slot::Hole, Slot::At)
    }

    /// Replaces the state of a chunk.
    pub(crate) fn set(&mut self, index: usize, slot: Slot) {
        let rank = self.rank(index);
        if self.is_touched(index) {
            self.slots[rank] = slot;
            return;
        }
        if self.slots.len() == 1 {
            // More than one is usually all of them.
            self.slots.reserve(ROW_CHUNKS - 1);
        }
        self.touched |= 1 << index;
        self.slots.insert(rank, slot);
    }

    fn is_touched(&self, index: usize) -> bool {
        self.touched >> index & 1 == 1
    }

    /// How many chunks before `index` are touched.
    fn rank(&self, index: usize) -> usize {
        (self.touched & ((1 << index) - 1)).count_ones() as usize
    }

    /// Makes the edit one of a row that did not exist: what there was stood in the onode.
    pub(crate) fn move_out(&mut self) {
        self.is_moved = true;
        self.old_value_bytes = 0;
    }

    /// Whether the row is not what it was.
    pub(crate) fn is_change(&self) -> bool {
        self.is_moved || self.changed() != 0
    }

    /// An upper bound of the bytes of the row's new value, exact but for chunks that happen to be placed as neighbours.
    pub(crate) fn value_bytes_max(&self) -> usize {
        let mut bytes = HEAD_BYTES;
        // The chunk before, and where the next one would be.
        let (mut before, mut next) = (Slot::Hole, 0);
        for index in indexes(self.old.present() | self.touched) {
            let slot = self.slot(index);
            let neighbour = if index == next { before } else { Slot::Hole };
            let is_next = match (neighbour, slot) {
                (Slot::At(before), Slot::At(chunk)) => before.is_followed_by(chunk.at),
                (
                    Slot::New { of: before_of, offset: before, bytes: FULL },
                    Slot::New { of, offset, bytes: FULL },
                ) => (before_of, before + usize::from(FULL)) == (of, offset),
                _ => false,
            };
            if slot != Slot::Hole {
                bytes += 4 + if is_next { 0 } else { 8 } + if slot.bytes() == FULL { 0 } else { 2 };
            }
            (before, next) = (slot, index + 1);
        }
        bytes
    }

    /// The touched chunks, with their indexes.
    fn touched(&self) -> impl Iterator<Item = (usize, &Slot)> {
        indexes(self.touched).zip(&self.slots)
    }

    /// The indexes of the touched chunks that have no place yet.
    pub(crate) fn unplaced(&self) -> SmallVec<[usize; 1]> {
        let is_new = |(index, slot): (usize, &Slot)| matches!(slot, Slot::New { .. }).then_some(index);
        self.touched().filter_map(is_new).collect()
    }

    /// Bit i says that chunk i is not what it was.
    pub(crate) fn changed(&self) -> u16 {
        let changed = |(index, slot): &(usize, &Slot)| match (slot, self.old.chunk(*index)) {
            (Slot::Hole, old) => old.is_some(),
            (Slot::At(chunk), old) => old != Some(*chunk),
            (Slot::New { .. }, _) => true,
        };
        self.touched().filter(changed).fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Whether no chunk will be stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.old.present() & !self.touched == 0 && self.slots.iter().all(|slot| *slot == Slot::Hole)
    }

    /// Bit i says that chunk i was there before.
    pub(crate) fn had(&self) -> u16 {
        self.old.present()
    }

    /// The places that the row does not point to any more, neighbours joined.
    pub(crate) fn push_freed(&self, changed: u16, freed: &mut Runs) {
        for chunk in self.old_chunks(changed) {
            push_run(freed, chunk.at, u32::from(chunk.bytes));
        }
    }

    /// What the chunks of `changed` do to usage.
    pub(crate) fn sums(&self, changed: u16) -> Sums {
        let is_changed = |index: usize| changed >> index & 1 == 1;
        let new = self.touched().filter(|(index, _)| is_changed(*index));
        let placed: u64 = new.map(|(_, slot)| u64::from(slot.bytes())).sum();
        Sums {
            old_value_bytes: self.old_value_bytes,
            freed: self.old_chunks(changed).map(|chunk| u64::from(chunk.bytes)).sum(),
            placed: placed + if self.is_moved { self.old.stored_bytes() } else { 0 },
        }
    }

    /// What is stored of the chunks of `of`.
    fn old_chunks(&self, of: u16) -> impl Iterator<Item = Chunk> {
        indexes(of).filter_map(|index| self.old.chunk(index))
    }

    /// Whether some chunk stays as it is, so that the change is a patch.
    fn is_patch(&self, changed: u16) -> bool {
        !self.is_moved && self.old.present() & !changed != 0
    }

    /// An upper bound of the bytes of the change.
    pub(crate) fn bytes_max(&self) -> usize {
        // Without a chunk that stays all that the row has is touched.
        let stored = self.slots.iter().filter(|slot| **slot != Slot::Hole).count();
        let moved = if self.is_moved { self.old.iter().count() } else { 0 };
        CHANGE_HEAD_BYTES + CHUNK_CHANGE_BYTES * (stored + moved)
    }

    /// The change that the edit makes, the pieces that only the new row points to, and the length of its value.
    pub(crate) fn encode(&self, placed: &[Placed]) -> EncodedExtents {
        let changed = self.changed();
        if let Some(single) = self.encode_single(changed, placed) {
            return single;
        }
        let (state, pieces) = self.placed(placed);
        if self.is_patch(changed) {
            return (Change::Patch(Patch::new(changed, &state).encode()), pieces, state.encoded_bytes());
        }
        let value = state.encode();
        let value_bytes = value.as_ref().map_or(0, Vec::len);
        (value.map_or(Change::Gone, Change::Set), pieces, value_bytes)
    }

    /// The row's new state, and the pieces that only that points to.
    pub(crate) fn placed(&self, placed: &[Placed]) -> (Extents, SmallVec<[(Paddr, u32); 1]>) {
        let (changed, state) = (self.changed(), self.place(placed));
        let mut pieces: SmallVec<[(Paddr, u32); 1]> = SmallVec::new();
        for (_, chunk) in state.iter().filter(|(index, _)| changed >> index & 1 == 1) {
            match pieces.last_mut() {
                Some(run) if is_behind(*run, chunk.at) => run.1 += u32::from(chunk.bytes),
                _ => pieces.push((chunk.at, u32::from(chunk.bytes))),
            }
        }
        (state, pieces)
    }

    /// As [`Self::encode`], for the most frequent edit: one new whole chunk where a whole one was, among others.
    fn encode_single(&self, changed: u16, placed: &[Placed]) -> Option<EncodedExtents> {
        let [Slot::New { of, offset: 0, bytes: FULL }] = *self.slots.as_slice() else { return None };
        let index = self.touched.trailing_zeros() as usize;
        let Placed { at, crcs } = &placed[of as usize];
        let chunk = Chunk { at: *at, bytes: FULL, crc: crcs[0] };
        let keeps_length = self.is_patch(changed) && self.old.keeps_length(index, &chunk);
        let encoded = || (Change::Patch(packed::patch_of(index, &chunk)), [(*at, u32::from(FULL))].into());
        keeps_length.then(encoded).map(|(change, pieces)| (change, pieces, self.old_value_bytes))
    }

    /// The row's new state.
    fn place(&self, placed: &[Placed]) -> Extents {
        let mut state = self.old;
        for (index, slot) in self.touched() {
            let chunk = match *slot {
                Slot::Hole => None,
                Slot::At(chunk) => Some(chunk),
                Slot::New { of, offset, bytes } => {
                    let Placed { at, crcs } = &placed[of as usize];
                    let skip = u32::try_from(offset).expect("a piece lies in one row") * u32::from(FULL);
                    Some(Chunk { at: at.plus(skip), bytes, crc: crcs[offset] })
                }
            };
            state.set(index, chunk);
        }
        state
    }
}

/// Adds a place to runs, to the last of them if it is right behind that.
pub(crate) fn push_run(runs: &mut Runs, at: Paddr, bytes: u32) {
    match runs.last_mut() {
        Some(run) if is_behind(*run, at) => run.1 += bytes,
        _ => runs.push((at, bytes)),
    }
}

/// Whether `at` is right behind `run`.
fn is_behind((first, bytes): (Paddr, u32), at: Paddr) -> bool {
    first.segment == at.segment && first.offset.checked_add(bytes) == Some(at.offset)
}
