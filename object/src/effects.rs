//! Effects: all that a transaction changes, as values, before and after its new pieces have their places.
//!
//! [`crate::execute`] gives the row changes with the new pieces as numbers, since where a piece goes is known only when
//! the transaction joins a record. The caller places the pieces, in order, and sums their bytes while it copies them;
//! [`Effects::encode`] then puts addresses and checksums into the rows.
//!
//! Invariants: 1. `freed` and the pieces that encoded rows name are exactly the difference of what the rows point to
//! before and after. 2. The usage that `encode` gives is exactly the difference of [`crate::usage_of_row`] over the rows.
//! Cost: an overwrite of one chunk is one row change of about 21 bytes of value.

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, Crc, Paddr, TreeKind};
use smallvec::SmallVec;

use crate::change::Change;
use crate::edit::ExtentsEdit;
use crate::key::{self, KeyBuf, Kind, Member};
use crate::onode::EXTENTS_BYTES_MAX;
use crate::usage::Usage;
use crate::value::{RowValue, STORED_BYTES_MAX};
use crate::view::PieceRef;

/// Assumed bytes of a delta besides key and value.
pub(crate) const DELTA_OVERHEAD: usize = 16;

/// What a transaction changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// Row changes; each row once.
    pub rows: Vec<RowChange>,
    /// Bytes to be stored, in the order in which [`Placed`]s are given.
    pub pieces: SmallVec<[NewPiece; 1]>,
    /// What no row points to any more: from where, how many bytes.
    pub freed: Runs,
    /// The collection's id counter afterwards.
    pub next_id: u64,
    /// Indexes, in the transaction, of the objects of which a row changes.
    pub objects: SmallVec<[usize; 2]>,
    /// The change of usage, but for new extents, whose length depends on the addresses.
    pub(crate) usage: Usage,
}

/// Places, and how many bytes there are at each.
pub type Runs = SmallVec<[(Paddr, u32); 2]>;

/// A change of one row whose pieces are not placed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowChange {
    /// The tree.
    pub tree: TreeKind,
    /// The row.
    pub key: KeyBuf,
    /// Whether its leaf was looked at, and so is in memory; else only the row is known to be written.
    pub seen: bool,
    pub(crate) edit: Edit,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Edit {
    Set(Vec<u8>),
    Gone,
    Extents(Box<ExtentsEdit>),
    /// An onode with extents.
    Onode(OnodeEdit),
    /// The value is a new piece.
    Piece {
        piece: usize,
        bytes: u32,
    },
    /// The value is a piece that was stored before.
    Stored(PieceRef),
}

/// An onode whose extents change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OnodeEdit {
    /// All of it but for the extents.
    pub(crate) head: Vec<u8>,
    /// Bytes of the object.
    pub(crate) size: u64,
    /// By what its rows are found.
    pub(crate) member: Member,
    pub(crate) extents: Box<ExtentsEdit>,
}

/// Bytes to be stored in one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPiece {
    /// The bytes.
    pub data: Bytes,
    /// Index in [`Effects::rows`] of the row that will point to it.
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
    /// Of an onode with extents: whose extents row its pieces are listed as ([`crate::onode::identity_of`]).
    pub listed_as: Option<Member>,
}

impl EncodedChange {
    /// The key by which its pieces are listed.
    pub fn identity(&self) -> KeyBuf {
        match self.listed_as {
            None if self.pieces.is_empty() => KeyBuf::new(),
            None => self.key.clone(),
            Some(member) => key::extents(member, 0),
        }
    }
}

impl RowChange {
    /// Bytes of the key by which its pieces are listed.
    pub fn identity_bytes(&self) -> usize {
        match &self.edit {
            Edit::Onode(edit) => key::extents(edit.member, 0).len(),
            Edit::Set(_) | Edit::Gone | Edit::Extents(_) | Edit::Piece { .. } | Edit::Stored(_) => {
                self.key.len()
            }
        }
    }
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

    /// Gives the row changes with the pieces placed, one `Placed` for each of [`Effects::pieces`], removals last, until `each`
    /// fails. Takes the rows out. Returns by how much usage changes.
    pub fn encode<E>(
        &mut self,
        placed: &[Placed],
        mut each: impl FnMut(EncodedChange) -> Result<(), E>,
    ) -> Result<Usage, E> {
        assert_eq!(placed.len(), self.pieces.len(), "every piece has a place");
        let mut usage = self.usage;
        self.rows.sort_by_key(|row| matches!(row.edit, Edit::Gone));
        for row in self.rows.drain(..) {
            let RowChange { tree, key, edit, .. } = row;
            let mut listed_as = None;
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
                    let (change, pieces, value_bytes) = edit.encode(placed);
                    if value_bytes > 0 {
                        usage = usage.plus(Usage::of_body(Kind::Extents, key.len() + value_bytes, 0));
                    }
                    (change, pieces)
                }
                Edit::Onode(edit) => {
                    let OnodeEdit { head: mut value, size, member, extents } = edit;
                    let (state, pieces) = extents.placed(placed);
                    state.put(&mut value);
                    let allocated = state.stored_bytes();
                    usage = usage.plus(Usage::of_onode(key.len() + value.len(), size, allocated));
                    listed_as = Some(member).filter(|_| !seabed_types::seeded!(68));
                    (Change::Set(value), pieces)
                }
            };
            each(EncodedChange { tree, key, change, pieces, listed_as })?;
        }
        Ok(usage)
    }
}

impl Edit {
    fn bytes_max(&self) -> usize {
        match self {
            Self::Set(value) => value.len(),
            Self::Gone => 0,
            Self::Extents(edit) => edit.bytes_max(),
            Self::Onode(edit) => edit.head.len() + EXTENTS_BYTES_MAX,
            Self::Piece { .. } | Self::Stored(_) => STORED_BYTES_MAX,
        }
    }
}
