//! Value: what the row of an attribute, an omap pair or an omap header holds.
//!
//! ```text
//! tag 1   inline: the bytes follow, to the end of the row
//! tag 2   stored: segment u32, offset u32, bytes varint, crc u32: the value is a piece of its own
//! ```
//! A value is stored apart when its row would exceed an eighth of a node.
//!
//! Limits: a stored value has at least one byte and at most 1 MiB, and is not in segment 0.

use bytes::Bytes;
use seabed_types::{Crc, Cursor, Malformed, Paddr, SegmentId, put_varint};

use crate::limits::OMAP_VALUE_BYTES_MAX;
use crate::view::PieceRef;

const INLINE: u8 = 1;
const STORED: u8 = 2;

/// Bytes of an inline row besides the value.
pub const INLINE_OVERHEAD: usize = 1;
/// Most bytes of a stored row.
pub const STORED_BYTES_MAX: usize = 1 + 8 + 3 + 4;

/// A value as its row has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowValue<'a> {
    /// The bytes.
    Inline(&'a [u8]),
    /// Where they are.
    Stored(PieceRef),
}

/// A value as a read gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// The bytes.
    Inline(Bytes),
    /// Where they are; the caller loads them.
    Stored(PieceRef),
}

impl Value {
    /// How many bytes the value has.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Stored(piece) => piece.bytes as usize,
        }
    }
}

impl<'a> RowValue<'a> {
    /// Reads a row.
    pub fn decode(row: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(row);
        let bad = cursor.malformed("the tag of a value");
        match cursor.u8(bad.what)? {
            INLINE => Ok(Self::Inline(cursor.take(cursor.left(), bad.what)?)),
            STORED => {
                let bad = cursor.malformed("a stored value");
                let at = Paddr::new(SegmentId(cursor.u32(bad.what)?), cursor.u32(bad.what)?);
                let bytes = cursor.varint_u32(bad.what)?;
                let crc = Crc(cursor.u32(bad.what)?);
                cursor.end("more after a stored value")?;
                if at.segment.0 == 0 || !(1..=OMAP_VALUE_BYTES_MAX).contains(&(bytes as usize)) {
                    return Err(bad);
                }
                Ok(Self::Stored(PieceRef { at, bytes, crc }))
            }
            _ => Err(bad),
        }
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(self.encoded_bytes());
        match self {
            Self::Inline(bytes) => {
                row.push(INLINE);
                row.extend_from_slice(bytes);
            }
            Self::Stored(piece) => {
                row.push(STORED);
                row.extend_from_slice(&piece.at.segment.0.to_le_bytes());
                row.extend_from_slice(&piece.at.offset.to_le_bytes());
                put_varint(&mut row, u64::from(piece.bytes));
                row.extend_from_slice(&piece.crc.0.to_le_bytes());
            }
        }
        row
    }

    /// How many bytes [`RowValue::encode`] gives.
    pub fn encoded_bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => INLINE_OVERHEAD + bytes.len(),
            Self::Stored(piece) => 1 + 8 + varint_bytes(u64::from(piece.bytes)) + 4,
        }
    }

    /// The piece, if there is one.
    pub fn piece(&self) -> Option<PieceRef> {
        match self {
            Self::Inline(_) => None,
            Self::Stored(piece) => Some(*piece),
        }
    }

    /// The same, owning its bytes.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Inline(bytes) => Value::Inline(Bytes::copy_from_slice(bytes)),
            Self::Stored(piece) => Value::Stored(*piece),
        }
    }
}

/// Bytes that a varint takes.
pub(crate) const fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_bytes() {
        assert_eq!(RowValue::Inline(b"abc").encode(), b"\x01abc");
        let piece = PieceRef { at: Paddr::new(SegmentId(7), 0x2000), bytes: 5000, crc: Crc(0x0403_0201) };
        let row = RowValue::Stored(piece).encode();
        assert_eq!(row, [2, 7, 0, 0, 0, 0, 0x20, 0, 0, 0x88, 0x27, 1, 2, 3, 4]);
        assert_eq!(RowValue::decode(&row), Ok(RowValue::Stored(piece)));
    }

    #[test]
    fn no_bytes_make_it_panic_and_one_encoding_each() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut decoded = 0;
        for _ in 0..200_000 {
            let mut bytes: Vec<u8> =
                (0..rng.usize(..18)).map(|_| rng.u8(..) & [255, 127, 1][rng.usize(..3)]).collect();
            if let Some(tag) = bytes.first_mut() {
                *tag = rng.u8(..4);
            }
            if let Ok(value) = RowValue::decode(&bytes) {
                assert_eq!(value.encode(), bytes);
                assert_eq!(value.encoded_bytes(), bytes.len());
                decoded += 1;
            }
        }
        assert!(decoded > 10_000, "most would prove nothing");
    }

    #[test]
    fn varint_lengths() {
        for bit in 0..64 {
            for value in [1u64 << bit, (1 << bit) - 1, u64::MAX >> bit] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(varint_bytes(value), bytes.len());
            }
        }
    }
}
