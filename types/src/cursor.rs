//! Cursor: reads numbers and byte strings from bytes that may be anything, and never panics on them.
//!
//! Fixed fields are little-endian. A varint is LEB128: seven bits per byte, low ones first, at most ten bytes, and no
//! longer than it must be (so that equal values have equal bytes). A signed varint maps 0, -1, 1, -2 to 0, 1, 2, 3. A
//! byte string is its length as a varint and the bytes.

/// What is wrong with bytes that were decoded, and where in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct Malformed {
    /// Which field or rule.
    pub what: &'static str,
    /// Bytes from the start of what was decoded.
    pub offset: usize,
}

/// A position in bytes that are being decoded.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Begins at the first of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error about what stands here.
    pub const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, offset: self.at }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(self.malformed(what))?;
        let bytes = self.bytes.get(self.at..end).ok_or(self.malformed(what))?;
        self.at = end;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N, what)?;
        Ok(bytes.try_into().expect("take gave N bytes"))
    }

    /// The next byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    /// The next two bytes.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// The next four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// The next eight bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// The next varint.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let bad = self.malformed(what);
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(bad);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(bad) } else { Ok(value) };
            }
        }
        Err(bad)
    }

    /// The next varint, which must fit 32 bits.
    pub fn varint_u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        let bad = self.malformed(what);
        u32::try_from(self.varint(what)?).map_err(|_| bad)
    }

    /// The next varint as a count or length of things in memory: at most `limit`.
    pub fn count(&mut self, limit: usize, what: &'static str) -> Result<usize, Malformed> {
        let bad = self.malformed(what);
        let count = usize::try_from(self.varint(what)?).map_err(|_| bad)?;
        if count > limit { Err(bad) } else { Ok(count) }
    }

    /// The next signed varint.
    pub fn signed(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let bits = self.varint(what)?;
        Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }

    /// The next byte string.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let count = self.count(self.left(), what)?;
        self.take(count, what)
    }

    /// Checks that nothing is left.
    pub const fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { Err(self.malformed(what)) }
    }

    /// Checks that all that is left is zero.
    pub fn zeros(&self, what: &'static str) -> Result<(), Malformed> {
        match self.bytes[self.at..].iter().position(|byte| *byte != 0) {
            None => Ok(()),
            Some(index) => Err(Malformed { what, offset: self.at + index }),
        }
    }
}

/// Appends a varint.
#[expect(clippy::cast_possible_truncation, reason = "takes seven bits at a time")]
pub fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Appends a signed varint.
pub fn put_signed(to: &mut Vec<u8>, value: i64) {
    put_varint(to, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a byte string: its length and the bytes.
pub fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut values: Vec<u64> =
            (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1, u64::MAX >> bit]).collect();
        values.push(0);
        for value in values {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_signed(&mut bytes, value.cast_signed());
            put_bytes(&mut bytes, &value.to_le_bytes());
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.varint("v"), Ok(value));
            assert_eq!(cursor.signed("s"), Ok(value.cast_signed()));
            assert_eq!(cursor.bytes("b"), Ok(&value.to_le_bytes()[..]));
            assert_eq!(cursor.end("end"), Ok(()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let bytes: Vec<u8> =
                (0..rng.usize(..14)).map(|_| rng.u8(..) | if rng.bool() { 0x80 } else { 0 }).collect();
            let mut cursor = Cursor::new(&bytes);
            let value = cursor.varint("v");
            if let Ok(value) = value {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                assert_eq!(again, bytes[..cursor.offset()], "one value, one encoding");
            }
            let _ = cursor.bytes("b");
            let _ = cursor.u64("u");
        }
        assert_eq!(Cursor::new(&[0x80, 0]).varint("v"), Err(Malformed { what: "v", offset: 0 }));
        assert_eq!(Cursor::new(&[0xff; 11]).varint("v"), Err(Malformed { what: "v", offset: 0 }));
    }
}
