//! Checksum: crc32c of bytes, and of bytes joined from parts whose checksums are known.
//!
//! Every data byte is summed once, chunk by chunk as it is copied; the checksum of a record is combined from those of
//! its chunks ([`Crc::then`]), so no byte is read twice.
//!
//! Joining uses that "the checksum after n more zero bytes" is linear over GF(2): a table of 4 x 256 words per power of
//! two of n, made at first use. (The general routine of the crc32c crate builds its matrices at every call: 8.8 us where
//! this takes about 5 ns per set bit of n.)
//!
//! Cost: 0.05 ns per byte summed; 100 KiB of tables per process, under a million instructions to make.

use std::fmt;
use std::sync::LazyLock;

/// Powers of two that have a table: lengths under 2^25 bytes, far over any record.
const POWERS: usize = 25;

type Shift = [[u32; 256]; 4];

static SHIFTS: LazyLock<Vec<Shift>> = LazyLock::new(|| {
    let apply = |shift: &Shift, crc: u32| {
        let [a, b, c, d] = crc.to_le_bytes();
        shift[0][a as usize] ^ shift[1][b as usize] ^ shift[2][c as usize] ^ shift[3][d as usize]
    };
    // What becomes of each bit says what becomes of each byte.
    let table = |after: &dyn Fn(u32) -> u32| {
        let bits: [u32; 32] = std::array::from_fn(|bit| after(1 << bit));
        let mut shift = [[0; 256]; 4];
        for (row, bits) in shift.iter_mut().zip(bits.as_chunks::<8>().0) {
            for value in 1..row.len() {
                row[value] = row[value & (value - 1)] ^ bits[value.trailing_zeros() as usize];
            }
        }
        shift
    };
    let mut shifts = vec![table(&|bit| crc32c::crc32c_combine(bit, 0, 1))];
    while shifts.len() < POWERS {
        let last = &shifts[shifts.len() - 1];
        let next = table(&|bit| apply(last, apply(last, bit)));
        shifts.push(next);
    }
    shifts
});

fn after_zeros(mut crc: u32, bytes: usize) -> u32 {
    let shifts = &*SHIFTS;
    let mut left = bytes;
    while left != 0 {
        let [a, b, c, d] = crc.to_le_bytes();
        let shift = &shifts[left.trailing_zeros() as usize];
        crc = shift[0][a as usize] ^ shift[1][b as usize] ^ shift[2][c as usize] ^ shift[3][d as usize];
        left &= left - 1;
    }
    crc
}

/// A crc32c (Castagnoli).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Crc(pub u32);

impl Crc {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        crate::work::bytes(bytes.len());
        Self(crc32c::crc32c(bytes))
    }

    /// The checksum of what `self` sums followed by `bytes`.
    #[must_use]
    pub fn append(self, bytes: &[u8]) -> Self {
        crate::work::bytes(bytes.len());
        Self(crc32c::crc32c_append(self.0, bytes))
    }

    /// The checksum of what `self` sums followed by `bytes` bytes whose checksum is `next`; fewer than 32 MiB.
    #[must_use]
    pub fn then(self, next: Self, bytes: usize) -> Self {
        assert!(bytes < 1 << POWERS, "no record is that long");
        Self(after_zeros(self.0, bytes) ^ next.0)
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
