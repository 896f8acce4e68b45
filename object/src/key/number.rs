//! Number in a key: a u64 in as few bytes as its order allows.
//!
//! A first byte up to 246 is the value. 247 + k, for k in 0..=7, is followed by the value in k + 1 big-endian bytes, the
//! fewest that hold it. 255 is `u64::MAX`, which the eight-byte form therefore refuses: the snap and the generation of a
//! head object take a byte each. 5 is `05`; 300 is `f8 01 2c`.
//!
//! Invariants: encodings order as the values do; one value has one encoding; none is the beginning of another.

use seabed_types::{Cursor, Malformed};

use super::KeyBuf;

const ONE_BYTE_MAX: u8 = 246;
const FIRST_LONG: u8 = 247;
const MAX: u8 = 255;

/// Appends `value`.
pub fn put(to: &mut KeyBuf, value: u64) {
    match u8::try_from(value) {
        Ok(byte) if byte <= ONE_BYTE_MAX => to.push(byte),
        _ if value == u64::MAX => to.push(MAX),
        _ => {
            let skip = (value.leading_zeros() / 8) as usize;
            let [.., last] = (7 - skip).to_be_bytes();
            // The byte before the value's own is one that it does not need, or the one in front.
            let mut bytes = [0; 9];
            bytes[1..].copy_from_slice(&value.to_be_bytes());
            bytes[skip] = FIRST_LONG + last;
            to.extend_from_slice(&bytes[skip..]);
        }
    }
}

/// Reads a value; refuses every encoding but the one that [`put`] makes.
pub fn take(from: &mut Cursor<'_>, what: &'static str) -> Result<u64, Malformed> {
    let bad = from.malformed(what);
    match from.u8(what)? {
        byte @ 0..=ONE_BYTE_MAX => Ok(u64::from(byte)),
        MAX => Ok(u64::MAX),
        byte => {
            let count = usize::from(byte - FIRST_LONG) + 1;
            let value =
                from.take(count, what)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            let least = if count == 1 { u64::from(FIRST_LONG) } else { 1 << (8 * (count - 1)) };
            if value < least || value == u64::MAX { Err(bad) } else { Ok(value) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut key = KeyBuf::new();
        put(&mut key, value);
        key.to_vec()
    }

    #[test]
    fn order_and_round_trip() {
        let mut values: Vec<u64> = (0..70_000).collect();
        for bit in 0..64 {
            for near in 0..3 {
                values.extend([(1u64 << bit).wrapping_add(near), (1u64 << bit).wrapping_sub(near)]);
            }
        }
        values.extend([u64::MAX, u64::MAX - 1]);
        values.sort_unstable();
        values.dedup();
        for pair in values.windows(2) {
            assert!(encoded(pair[0]) < encoded(pair[1]), "{pair:?}");
        }
        for value in values {
            let bytes = encoded(value);
            assert!(bytes.len() <= 9);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(take(&mut cursor, "n"), Ok(value));
            assert_eq!(cursor.left(), 0);
        }
        assert_eq!(encoded(300), [0xf8, 1, 0x2c]);
        assert_eq!(encoded(u64::MAX), [255]);
    }

    #[test]
    fn one_encoding_each() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..200_000 {
            let bytes: Vec<u8> = (0..rng.usize(..11))
                .map(|_| [0, 1, 247, 250, 254, 255, rng.u8(..)][rng.usize(..7)])
                .collect();
            let mut cursor = Cursor::new(&bytes);
            if let Ok(value) = take(&mut cursor, "n") {
                assert_eq!(encoded(value), bytes[..cursor.offset()]);
            }
        }
    }
}
