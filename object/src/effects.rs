//! Effects: all that a transaction changes, as values, before and after its new pieces have their places.
//!
//! [`crate::execute`] gives the row changes with the new pieces as numbers, since where a piece goes is known only when
//! the transaction joins a record. The caller places the pieces, in order, and sums their bytes while it copies them;
//! [`Effects::encode`] then puts addresses and checksums into the rows.
//!
//! Invariants: 1. `freed` and the pieces that encoded rows name are exactly the difference of what the rows point to
//! before and after. 2. `Encoded::usage` is exactly the difference of [`crate::usage_of_row`] over the rows.
//! Cost: an overwrite of one chunk is one row change of about 21 bytes of value.

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, Crc, Paddr, TreeKind};
use smallvec::SmallVec;

use crate::ROW_CHUNKS;
use crate::change::Change;
use crate::extents::{Chunk, Extents, FULL, Patch};
use crate::key::{KeyBuf, Kind};
use crate::usage::Usage;
use crate::value::{RowValue, STORED_BYTES_MAX};
use crate::view::PieceRef;

/// Assumed bytes of a delta besides key and value.
const DELTA_OVERHEAD: usize = 16;

/// What a transaction changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// Row changes; each row once.
    pub rows: Vec<RowChange>,
    /// Bytes to be stored, in the order in which [`Placed`]s are given.
    pub pieces: Vec<NewPiece>,
    /// What no row points to any more: from where, how many bytes.
    pub freed: Vec<(Paddr, u32)>,
    /// The collection's id counter afterwards.
    pub next_id: u64,
    /// Indexes, in the transaction, of the objects of which a row changes.
    pub objects: SmallVec<[usize; 2]>,
    /// The change of usage, but for the new extents rows, whose length depends on the addresses.
    pub(crate) usage: Usage,
}

/// A change of one row whose pieces are not placed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowChange {
    /// The tree.
    pub tree: TreeKind,
    /// The row.
    pub key: KeyBuf,
    pub(crate) edit: Edit,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Edit {
    Set(Vec<u8>),
    Gone,
    Extents(Box<ExtentsEdit>),
    /// The value is a new piece.
    Piece {
        piece: usize,
        bytes: u32,
    },
    /// The value is a piece that was stored before.
    Stored(PieceRef),
}

/// An extents row before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExtentsEdit {
    /// Empty if there was no row.
    pub(crate) old: Extents,
    pub(crate) slots: [Slot; ROW_CHUNKS],
}

/// A chunk that may not have its place yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    Hole,
    At(Chunk),
    /// While a transaction is carried out: `bytes` bytes at `offset` of source number `of`. In [`Effects`]: chunk number
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

/// Bytes to be stored in one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPiece {
    /// The bytes.
    pub data: Bytes,
    /// Index in [`Effects::rows`] of the row that will point to it, whose key identifies it.
    pub row: usize,
    /// How it is to be summed.
    pub checksums: Checksums,
}

/// What the checksums of a piece cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksums {
    /// One for each chunk of 4 KiB, the last of which may be shorter.
    Chunks,
    /// One for all of it.
    Whole,
}

impl NewPiece {
    /// Whether it begins at a block: pieces of a block or more do, smaller ones are packed.
    pub fn is_aligned(&self) -> bool {
        self.data.len() >= seabed_types::BLOCK_BYTES
    }

    /// Its checksums, for callers that do not sum while they copy.
    pub fn sum(&self) -> SmallVec<[Crc; 16]> {
        match self.checksums {
            Checksums::Chunks => self.data.chunks(CHUNK_BYTES).map(Crc::of).collect(),
            Checksums::Whole => [Crc::of(&self.data)].into_iter().collect(),
        }
    }
}

/// Where a new piece was put, and its checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Its first byte.
    pub at: Paddr,
    /// As [`NewPiece::checksums`] says.
    pub crcs: SmallVec<[Crc; 16]>,
}

/// The family that stored data was written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// The object had it when the data was written.
    Existing(u64),
    /// It was taken from the collection's counter for an object that the transaction makes.
    Allotted(u64),
}

impl Family {
    /// The id.
    pub const fn id(self) -> u64 {
        match self {
            Self::Existing(id) | Self::Allotted(id) => id,
        }
    }
}

/// A part of an operation's data that was stored before the transaction ([`crate::bulk_parts`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The operation.
    pub op: usize,
    /// For a write the offset in its data; for attributes and omap pairs the index of the pair.
    pub from: usize,
    /// The family it was written for.
    pub family: Family,
    /// Its first byte.
    pub at: Paddr,
    /// Per chunk; of a value one for all of it.
    pub crcs: SmallVec<[Crc; 16]>,
    /// How many bytes it has.
    pub bytes: u32,
}

/// Row changes with addresses in them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Encoded {
    /// Each row once.
    pub rows: Vec<EncodedChange>,
    /// By how much usage changes.
    pub usage: Usage,
}

/// A change of one row, as it is logged and applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedChange {
    /// The tree.
    pub tree: TreeKind,
    /// The row.
    pub key: KeyBuf,
    /// What happens to it.
    pub change: Change,
    /// The pieces that it points to and did not before.
    pub pieces: SmallVec<[(Paddr, u32); 1]>,
}

impl Effects {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all new pieces.
    pub fn piece_bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.data.len()).sum()
    }

    /// An upper bound of the bytes of the encoded row changes, keys and a small overhead for each included.
    pub fn delta_bytes_max(&self) -> usize {
        self.rows.iter().map(|row| DELTA_OVERHEAD + row.key.len() + row.edit.bytes_max()).sum()
    }

    /// The row changes with the pieces placed, one `Placed` for each of [`Effects::pieces`]. Takes the rows out.
    pub fn encode(&mut self, placed: &[Placed]) -> Encoded {
        assert_eq!(placed.len(), self.pieces.len(), "every piece has a place");
        let mut usage = self.usage;
        let rows = std::mem::take(&mut self.rows);
        let encode = |row: RowChange| {
            let RowChange { tree, key, edit } = row;
            let (change, pieces) = match edit {
                Edit::Set(value) => (Change::Set(value), SmallVec::new()),
                Edit::Gone => (Change::Gone, SmallVec::new()),
                Edit::Piece { piece, bytes } => {
                    let Placed { at, crcs } = &placed[piece];
                    assert_eq!(crcs.len(), 1, "a value has one checksum");
                    let piece = PieceRef { at: *at, bytes, crc: crcs[0] };
                    (Change::Set(RowValue::Stored(piece).encode()), [(piece.at, bytes)].into_iter().collect())
                }
                Edit::Stored(piece) => {
                    let pieces = [(piece.at, piece.bytes)].into_iter().collect();
                    (Change::Set(RowValue::Stored(piece).encode()), pieces)
                }
                Edit::Extents(edit) => {
                    let state = edit.place(placed);
                    if !state.is_empty() {
                        let row_bytes = key.len() + state.encoded_bytes();
                        usage = usage.plus(Usage::of_body(Kind::Extents, row_bytes, 0));
                    }
                    edit.encode(&state)
                }
            };
            EncodedChange { tree, key, change, pieces }
        };
        Encoded { rows: rows.into_iter().map(encode).collect(), usage }
    }
}

impl Edit {
    fn bytes_max(&self) -> usize {
        match self {
            Self::Set(value) => value.len(),
            Self::Gone => 0,
            Self::Extents(edit) => edit.bytes_max(),
            Self::Piece { .. } | Self::Stored(_) => STORED_BYTES_MAX,
        }
    }
}

impl ExtentsEdit {
    pub(crate) fn new(old: &Extents) -> Self {
        let slots = std::array::from_fn(|index| old.chunk(index).map_or(Slot::Hole, Slot::At));
        Self { old: *old, slots }
    }

    /// Bit i says that chunk i is not what it was.
    pub(crate) fn changed(&self) -> u16 {
        let changed = |index: &usize| match (&self.slots[*index], self.old.chunk(*index)) {
            (Slot::Hole, old) => old.is_some(),
            (Slot::At(chunk), old) => old != Some(*chunk),
            (Slot::New { .. }, _) => true,
        };
        (0..ROW_CHUNKS).filter(changed).fold(0, |named, index| named | 1 << index)
    }

    /// Whether no chunk will be stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| *slot == Slot::Hole)
    }

    fn bytes_max(&self) -> usize {
        let named = self.changed();
        let is_patch = self.old.present() & !named != 0;
        let counted = |index: &usize| !is_patch || named >> index & 1 == 1;
        let of = |index| if self.slots[index] == Slot::Hole { 0 } else { 14 };
        9 + (0..ROW_CHUNKS).filter(counted).map(of).sum::<usize>()
    }

    /// The row's new state.
    fn place(&self, placed: &[Placed]) -> Extents {
        let mut state = Extents::EMPTY;
        for (index, slot) in self.slots.iter().enumerate() {
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

    /// The change that makes the row `state`, and the pieces that are new in it.
    fn encode(&self, state: &Extents) -> (Change, SmallVec<[(Paddr, u32); 1]>) {
        let named = self.changed();
        let mut pieces = SmallVec::new();
        for (_, chunk) in state.iter().filter(|(index, _)| named >> index & 1 == 1) {
            push_run(&mut pieces, chunk);
        }
        let change = if self.old.present() & !named != 0 {
            // Some chunk stays as it is: name the others only.
            Change::Patch(Patch::new(named, state).encode())
        } else {
            state.encode().map_or(Change::Gone, Change::Set)
        };
        (change, pieces)
    }
}

/// Adds a chunk to a list of runs of neighbouring bytes.
pub(crate) fn push_run<A: smallvec::Array<Item = (Paddr, u32)>>(runs: &mut SmallVec<A>, chunk: Chunk) {
    match runs.last_mut() {
        Some((at, bytes))
            if at.segment == chunk.at.segment && at.offset.checked_add(*bytes) == Some(chunk.at.offset) =>
        {
            *bytes += u32::from(chunk.bytes);
        }
        _ => runs.push((chunk.at, u32::from(chunk.bytes))),
    }
}
