//! Stamp: the bytes of a block, which say which block they are of and which write of it, and do not compress.
//!
//! ```text
//! [block u64][write u32][0 u32][4080 bytes out of a table of noise, from a place that follows from block and write]
//! ```
//! Cutting out of a table is several times cheaper than making noise for each write, and what the engine does with the
//! bytes (a checksum, a copy) does not depend on it. All of a block is compared at the end, not only its first bytes.
//!
//! Limits: 2^32 writes of a block.

use super::BLOCK_BYTES;

const HEAD_BYTES: usize = 16;
const BODY_BYTES: usize = 4096 - HEAD_BYTES;
const _: () = assert!((HEAD_BYTES + BODY_BYTES) as u64 == BLOCK_BYTES);
/// Larger than a first-level cache, so that the bytes come from where a client's bytes would.
const PLACES: u64 = 256 << 10;

/// Which write of which block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) block: u64,
    /// From 1.
    pub(super) write: u32,
}

/// The table.
pub(super) struct Noise {
    table: Vec<u8>,
}

impl Noise {
    pub(super) fn new() -> Self {
        let mut table = vec![0; usize::try_from(PLACES).expect("256 Ki") + BODY_BYTES];
        fastrand::Rng::with_seed(1).fill(&mut table);
        Self { table }
    }

    /// The bytes behind the head.
    fn body(&self, stamp: Stamp) -> &[u8] {
        // The golden ratio spreads neighbours.
        let mixed = (stamp.block << 20 ^ u64::from(stamp.write)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = usize::try_from((mixed >> 40) % PLACES).expect("256 Ki");
        &self.table[place..place + BODY_BYTES]
    }

    /// Appends the bytes of a write.
    pub(super) fn append(&self, stamp: Stamp, to: &mut Vec<u8>) {
        to.extend_from_slice(&stamp.block.to_le_bytes());
        to.extend_from_slice(&stamp.write.to_le_bytes());
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(self.body(stamp));
    }

    /// Which write of `block` these bytes are; none if they are not all of one.
    pub(super) fn write_of(&self, block: u64, bytes: &[u8]) -> Option<u32> {
        let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
        let (stamped, write, rest) = (u64_of(&head[..8])?, u32_of(&head[8..12])?, u32_of(&head[12..])?);
        let is_whole = stamped == block && rest == 0 && body == self.body(Stamp { block, write });
        is_whole.then_some(write)
    }
}

fn u64_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let noise = Noise::new();
        let mut bytes = Vec::new();
        noise.append(Stamp { block: 77, write: 3 }, &mut bytes);
        assert_eq!(noise.write_of(77, &bytes), Some(3));
        assert_eq!(noise.write_of(78, &bytes), None);
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(noise.write_of(77, &bytes), None, "byte {at}");
            bytes[at] ^= 1;
        }
        assert_eq!(noise.write_of(77, &bytes[..100]), None);
        assert_eq!(noise.write_of(77, &[]), None);
    }

    #[test]
    fn writes_of_a_block_differ() {
        let noise = Noise::new();
        let body = |block, write| noise.body(Stamp { block, write }).to_vec();
        assert_ne!(body(1, 1), body(1, 2));
        assert_ne!(body(1, 1), body(2, 1));
    }
}
