//! Usage: what rows take and hold, as a pure function of the rows, so that an independent walk can add it up again.
//!
//! | field | of |
//! |---|---|
//! | objects | names rows |
//! | stored | the sizes in onodes |
//! | allocated | the bytes of the pieces that rows point to (onodes too), of removed objects too until they are freed |
//! | compressed | bytes saved; 0, there is no compression yet |
//! | omap | key and value bytes of omap and omap header rows |
//! | metadata | key and value bytes of all other rows of the three trees |
//!
//! Sums wrap: a store of many objects of 2^50 bytes, nearly all holes, may pass 2^63, and differences stay right.

use seabed_types::{Malformed, TreeKind};
use smallvec::SmallVec;

use crate::extents::Extents;
use crate::key::{self, Kind, Position};
use crate::onode::OnodeRef;
use crate::value::RowValue;
use crate::view::PieceRef;

/// What rows take and hold, or by how much that changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Objects.
    pub objects: i64,
    /// Bytes that clients see as sizes.
    pub stored: i64,
    /// Bytes of pieces.
    pub allocated: i64,
    /// Bytes that compression saved.
    pub compressed: i64,
    /// Bytes of omap rows.
    pub omap: i64,
    /// Bytes of other rows.
    pub metadata: i64,
}

impl Usage {
    /// This and that.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            objects: self.objects.wrapping_add(other.objects),
            stored: self.stored.wrapping_add(other.stored),
            allocated: self.allocated.wrapping_add(other.allocated),
            compressed: self.compressed.wrapping_add(other.compressed),
            omap: self.omap.wrapping_add(other.omap),
            metadata: self.metadata.wrapping_add(other.metadata),
        }
    }

    /// This without that.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            objects: self.objects.wrapping_sub(other.objects),
            stored: self.stored.wrapping_sub(other.stored),
            allocated: self.allocated.wrapping_sub(other.allocated),
            compressed: self.compressed.wrapping_sub(other.compressed),
            omap: self.omap.wrapping_sub(other.omap),
            metadata: self.metadata.wrapping_sub(other.metadata),
        }
    }

    /// Of a names row of `row_bytes` bytes, key and value, whose onode says `size` and points to `allocated` bytes.
    pub(crate) fn of_onode(row_bytes: usize, size: u64, allocated: u64) -> Self {
        Self {
            objects: 1,
            stored: size.cast_signed(),
            allocated: allocated.cast_signed(),
            metadata: signed(row_bytes),
            ..Self::default()
        }
    }

    /// Of a bodies row of `row_bytes` bytes, key and value, that points to `allocated` bytes.
    pub(crate) fn of_body(kind: Kind, row_bytes: usize, allocated: u64) -> Self {
        let allocated = allocated.cast_signed();
        match kind {
            Kind::Header | Kind::Omap => Self { omap: signed(row_bytes), allocated, ..Self::default() },
            Kind::Extents | Kind::Attribute => {
                Self { metadata: signed(row_bytes), allocated, ..Self::default() }
            }
        }
    }

    /// Of a graves row of `row_bytes` bytes, key and value.
    pub(crate) fn of_grave(row_bytes: usize) -> Self {
        Self { metadata: signed(row_bytes), ..Self::default() }
    }
}

fn signed(bytes: usize) -> i64 {
    (bytes as u64).cast_signed()
}

/// What one row takes and holds.
pub fn usage_of_row(tree: TreeKind, key: &[u8], value: &[u8]) -> Result<Usage, Malformed> {
    let row_bytes = key.len() + value.len();
    match tree {
        TreeKind::Names => {
            let onode = OnodeRef::decode(value)?;
            let allocated = onode.extents()?.map_or(0, |extents| extents.stored_bytes());
            Ok(Usage::of_onode(row_bytes, onode.size, allocated))
        }
        TreeKind::Graves => Ok(Usage::of_grave(row_bytes)),
        TreeKind::Bodies => {
            let (kind, pieces) = body(key, value)?;
            let allocated = pieces.iter().map(|piece| u64::from(piece.bytes)).sum();
            Ok(Usage::of_body(kind, row_bytes, allocated))
        }
    }
}

/// The pieces that one row points to, chunk by chunk.
pub fn pieces_of_row(
    tree: TreeKind,
    key: &[u8],
    value: &[u8],
) -> Result<SmallVec<[PieceRef; 16]>, Malformed> {
    match tree {
        TreeKind::Graves => Ok(SmallVec::new()),
        TreeKind::Names => {
            let extents = OnodeRef::decode(value)?.extents()?;
            Ok(extents.iter().flat_map(Extents::iter).map(|(_, chunk)| chunk.piece()).collect())
        }
        TreeKind::Bodies => Ok(body(key, value)?.1),
    }
}

fn body(key: &[u8], value: &[u8]) -> Result<(Kind, SmallVec<[PieceRef; 16]>), Malformed> {
    let (_, position) = key::decode_bodies(key)?;
    let kind = match position {
        Position::Extents(_) => {
            let extents = Extents::decode(value)?;
            return Ok((Kind::Extents, extents.iter().map(|(_, chunk)| chunk.piece()).collect()));
        }
        Position::Attribute(_) => Kind::Attribute,
        Position::Header => Kind::Header,
        Position::Omap(_) => Kind::Omap,
    };
    Ok((kind, RowValue::decode(value)?.piece().into_iter().collect()))
}
