//! Payload: the bytes that are written: they do not compress, and with `verify=crc32c` each unit says what it is.
//!
//! Without verification a write is a slice of a table of noise, from a place that moves on: no byte is made or copied,
//! so the generator costs next to nothing. With it each unit (the greatest common divisor of the job's block sizes)
//! begins with a stamp:
//! ```text
//! [magic u32][crc32c of all that follows u32][file u64][offset in it u64][run u64][number u32][0 u32][noise]
//! ```
//! File, offset and crc find misplaced and damaged bytes; run and number find lost writes.

use bytes::Bytes;

/// Bytes of a stamp.
const STAMP_BYTES: usize = 40;
const MAGIC: u32 = 0x5eab_ed01;
/// Larger than a first-level cache, so that the bytes come from where a client's bytes would.
const NOISE_BYTES: usize = 1 << 20;
/// Places follow each other at this distance, which no cache line is shared by.
const STEP: usize = 64 * 1021;

/// Which unit, written by which write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) file: u64,
    pub(crate) offset: u64,
    pub(crate) run: u64,
    pub(crate) number: u32,
}

/// See the module.
pub(crate) struct Payload {
    noise: Bytes,
}

impl Payload {
    /// For writes of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let mut noise = vec![0; NOISE_BYTES + bytes_max];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        Self { noise: noise.into() }
    }

    /// The bytes of write `number`.
    pub(crate) fn bytes(&self, number: u64, bytes: usize) -> Bytes {
        let place = Self::place(number);
        self.noise.slice(place..place + bytes)
    }

    fn place(number: u64) -> usize {
        let number = usize::try_from(number % NOISE_BYTES as u64).expect("less than the table");
        number * STEP % NOISE_BYTES
    }

    /// Fills a unit.
    pub(crate) fn fill(&self, stamp: Stamp, unit: &mut [u8]) {
        let place = Self::place(u64::from(stamp.number) ^ stamp.offset >> 9);
        let bytes = unit.len();
        unit.copy_from_slice(&self.noise[place..place + bytes]);
        unit[..4].copy_from_slice(&MAGIC.to_le_bytes());
        unit[8..16].copy_from_slice(&stamp.file.to_le_bytes());
        unit[16..24].copy_from_slice(&stamp.offset.to_le_bytes());
        unit[24..32].copy_from_slice(&stamp.run.to_le_bytes());
        unit[32..36].copy_from_slice(&stamp.number.to_le_bytes());
        unit[36..STAMP_BYTES].fill(0);
        let crc = crc32c::crc32c(&unit[8..]);
        unit[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// What a unit says it is; none if that is not to be believed.
    pub(crate) fn stamp_of(unit: &[u8]) -> Option<Stamp> {
        let (head, _) = unit.split_at_checked(STAMP_BYTES)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let is_whole = u32_at(0)? == MAGIC && u32_at(4)? == crc32c::crc32c(&unit[8..]);
        let stamp = Stamp { file: u64_at(8)?, offset: u64_at(16)?, run: u64_at(24)?, number: u32_at(32)? };
        is_whole.then_some(stamp)
    }
}

/// A number for a name: FNV-1a.
pub(crate) fn hash_of(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let payload = Payload::new(4096);
        let stamp = Stamp { file: hash_of("a"), offset: 8192, run: 3, number: 7 };
        let mut unit = vec![0; 512];
        payload.fill(stamp, &mut unit);
        assert_eq!(Payload::stamp_of(&unit), Some(stamp));
        for at in 0..unit.len() {
            unit[at] ^= 0x10;
            assert_eq!(Payload::stamp_of(&unit), None, "byte {at}");
            unit[at] ^= 0x10;
        }
        assert_eq!(Payload::stamp_of(&unit[..STAMP_BYTES - 1]), None);
        assert_eq!(Payload::stamp_of(&[0; 512]), None);
    }

    #[test]
    fn neighbouring_writes_differ() {
        let payload = Payload::new(4096);
        assert_ne!(payload.bytes(1, 4096), payload.bytes(2, 4096));
        assert_eq!(payload.bytes(u64::MAX, 4096).len(), 4096);
    }
}
