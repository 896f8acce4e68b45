//! Checksum: crc32c of bytes, and of bytes joined from parts whose checksums are known.
//!
//! Every data byte is summed once, chunk by chunk as it is copied; the checksum of a record is combined from those of
//! its chunks ([`Crc::then`]), so no byte is read twice. Cost: about 0.1 ns per byte where the CPU has the instruction.

use std::fmt;

/// A crc32c (Castagnoli).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Crc(pub u32);

impl Crc {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc32c::crc32c(bytes))
    }

    /// The checksum of what `self` sums followed by `bytes`.
    #[must_use]
    pub fn append(self, bytes: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, bytes))
    }

    /// The checksum of what `self` sums followed by `bytes` bytes whose checksum is `next`.
    #[must_use]
    pub fn then(self, next: Self, bytes: usize) -> Self {
        Self(crc32c::crc32c_combine(self.0, next.0, bytes))
    }
}

impl fmt::Display for Crc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_from_parts() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7 % 251) as u8).collect();
        for cut in [0, 1, 4096, 9_999, 10_000] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(Crc::of(a).then(Crc::of(b), b.len()), Crc::of(&bytes));
            assert_eq!(Crc::of(a).append(b), Crc::of(&bytes));
        }
        assert_eq!(Crc::of(b"123456789").0, 0xe306_9283, "the check value of crc32c");
    }
}
