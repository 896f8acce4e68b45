//! Blocks: the bytes of a whole disk as a sparse, copy-on-write map that knows its own hash.
//!
//! A block of 4096 bytes is immutable once made and is shared by reference between the trace, the durable state, the
//! visible state and every crash image. 64 neighbours form a chunk, shared too, so that cloning a disk copies one
//! reference per 256 KiB that were ever written, and a write after that copies one chunk of references.
//!
//! Invariants: 1. A block of zeros is not stored: never written and zeroed are the same. 2. `hash` is the sum over the
//! stored blocks of a mix of index and content, kept up to date by each change, so equal disks have equal hashes
//! whatever the order in which they were made.
//! Cost: clone 1 reference per chunk; change of a block O(log chunks), and 4 KiB copied if it is changed in part.

use std::collections::BTreeMap;
use std::rc::Rc;

use seabed_types::BLOCK_BYTES;

/// The unit in which a write tears, in bytes.
pub const SECTOR_BYTES: usize = 512;
/// All sectors of a block, one bit each.
pub(super) const ALL_SECTORS: u8 = 0xff;
const CHUNK_BLOCKS: u64 = 64;
const CHUNK_SLOTS: usize = 64;
const _: () = assert!(CHUNK_BLOCKS == CHUNK_SLOTS as u64);

/// One immutable block and the hash of its content; the hash of zeros is 0.
pub(super) struct Block {
    hash: u64,
    bytes: [u8; BLOCK_BYTES],
}

impl Block {
    pub(super) fn new(bytes: &[u8; BLOCK_BYTES]) -> Rc<Self> {
        Rc::new(Self { hash: content_hash(bytes), bytes: *bytes })
    }

    pub(super) fn zeros() -> Rc<Self> {
        Rc::new(Self { hash: 0, bytes: [0; BLOCK_BYTES] })
    }

    pub(super) fn bytes(&self) -> &[u8; BLOCK_BYTES] {
        &self.bytes
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// This block with the bit `bit` of byte `offset` inverted.
    pub(super) fn flipped(&self, offset: usize, bit: u8) -> Rc<Self> {
        let mut bytes = self.bytes;
        bytes[offset] ^= 1 << bit;
        Self::new(&bytes)
    }

    /// The sectors of `new` that `mask` names over those of `old`.
    pub(super) fn merged(old: &[u8; BLOCK_BYTES], new: &Self, mask: u8) -> Rc<Self> {
        let mut bytes = *old;
        for sector in 0..BLOCK_BYTES / SECTOR_BYTES {
            if mask & (1 << sector) != 0 {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                bytes[range.clone()].copy_from_slice(&new.bytes[range]);
            }
        }
        Self::new(&bytes)
    }
}

/// Cuts whole blocks out of `bytes`.
pub(super) fn blocks_of(bytes: &[u8]) -> Rc<[Rc<Block>]> {
    let (whole, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    assert!(rest.is_empty(), "whole blocks");
    whole.iter().map(Block::new).collect()
}

/// The number of the block that byte `at` opens.
pub(super) fn block_index(at: u64) -> u64 {
    at / BLOCK_BYTES as u64
}

#[derive(Clone)]
struct Chunk {
    slots: [Option<Rc<Block>>; CHUNK_SLOTS],
}

/// A sparse disk.
#[derive(Clone, Default)]
pub(super) struct Blocks {
    chunks: BTreeMap<u64, Rc<Chunk>>,
    hash: u128,
}

impl Blocks {
    pub(super) fn get(&self, index: u64) -> Option<&Rc<Block>> {
        self.chunks.get(&(index / CHUNK_BLOCKS))?.slots[slot(index)].as_ref()
    }

    pub(super) fn set(&mut self, index: u64, block: &Rc<Block>) {
        let stored = (block.hash != 0).then(|| Rc::clone(block));
        if stored.is_none() && self.get(index).is_none() {
            return;
        }
        let chunk = self
            .chunks
            .entry(index / CHUNK_BLOCKS)
            .or_insert_with(|| Rc::new(Chunk { slots: [const { None }; CHUNK_SLOTS] }));
        let place = &mut Rc::make_mut(chunk).slots[slot(index)];
        let old = std::mem::replace(place, stored);
        self.hash = self
            .hash
            .wrapping_sub(old.map_or(0, |block| placed_hash(index, block.hash)))
            .wrapping_add(placed_hash(index, block.hash));
    }

    /// Sets the sectors that `mask` names.
    pub(super) fn set_sectors(&mut self, index: u64, block: &Rc<Block>, mask: u8) {
        match mask {
            0 => {}
            ALL_SECTORS => self.set(index, block),
            _ => {
                let merged = match self.get(index) {
                    Some(old) => Block::merged(&old.bytes, block, mask),
                    None => Block::merged(&[0; BLOCK_BYTES], block, mask),
                };
                self.set(index, &merged);
            }
        }
    }

    pub(super) fn hash(&self) -> u128 {
        self.hash
    }

    pub(super) fn copy_to(&self, index: u64, to: &mut [u8]) {
        match self.get(index) {
            Some(block) => to.copy_from_slice(&block.bytes),
            None => to.fill(0),
        }
    }

    /// All blocks that are not zeros, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Rc<Block>)> {
        self.chunks.iter().flat_map(|(number, chunk)| {
            (number * CHUNK_BLOCKS..)
                .zip(&chunk.slots)
                .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
        })
    }

    /// The indices of blocks that differ, in order.
    pub(super) fn difference(&self, other: &Self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.chunks.keys().chain(other.chunks.keys()).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| match (self.chunks.get(number), other.chunks.get(number)) {
            (Some(one), Some(two)) => !Rc::ptr_eq(one, two),
            _ => true,
        });
        let indices =
            numbers.into_iter().flat_map(|number| number * CHUNK_BLOCKS..(number + 1) * CHUNK_BLOCKS);
        let bytes = |block: Option<&Rc<Block>>| block.map_or([0; BLOCK_BYTES], |block| block.bytes);
        indices.filter(|index| bytes(self.get(*index)) != bytes(other.get(*index))).collect()
    }
}

fn slot(index: u64) -> usize {
    usize::try_from(index % CHUNK_BLOCKS).expect("less than 64")
}

/// A hash of 64 bits in four independent lanes; not for adversaries. Zeros give 0, nothing else does in practice.
fn content_hash(bytes: &[u8; BLOCK_BYTES]) -> u64 {
    let mut lanes = [0_u64; 4];
    let mut any = 0;
    for group in bytes.as_chunks::<32>().0 {
        for (lane, word) in lanes.iter_mut().zip(group.as_chunks::<8>().0) {
            let word = u64::from_le_bytes(*word);
            any |= word;
            *lane = (*lane ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(27);
        }
    }
    if any == 0 {
        return 0;
    }
    lanes.iter().fold(1, |sum, lane| mix(sum ^ *lane).wrapping_add(*lane)).max(1)
}

fn placed_hash(index: u64, hash: u64) -> u128 {
    if hash == 0 {
        return 0;
    }
    let low = mix(hash ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let high = mix(hash.rotate_left(32).wrapping_add(index.wrapping_mul(0xa076_1d64_78bd_642f)));
    u128::from(high) << 64 | u128::from(low)
}

/// Stirs 64 bits: a bijection in which each input bit reaches each output bit.
pub(super) fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 32).wrapping_mul(0xe703_7ed1_a0b4_28db);
    value = (value ^ value >> 29).wrapping_mul(0x8ebc_6af0_9c88_c6e3);
    value ^ value >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(byte: u8) -> Rc<Block> {
        Block::new(&[byte; BLOCK_BYTES])
    }

    #[test]
    fn equal_disks_have_equal_hashes_by_any_way() {
        let mut one = Blocks::default();
        one.set(3, &block(1));
        one.set(70, &block(2));
        let mut two = Blocks::default();
        two.set(70, &block(9));
        two.set(3, &block(1));
        assert_ne!(one.hash(), two.hash());
        two.set_sectors(70, &block(2), 0x0f);
        two.set_sectors(70, &block(2), 0xf0);
        assert_eq!(one.hash(), two.hash());
        assert!(one.difference(&two).is_empty());
        two.set(71, &block(0));
        assert_eq!(one.hash(), two.hash(), "zeros are as never written");
        two.set(3, &block(0));
        assert_eq!(one.difference(&two), [3]);
        let mut moved = Blocks::default();
        moved.set(3, &block(2));
        moved.set(70, &block(1));
        assert_ne!(one.hash(), moved.hash());
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut one = Blocks::default();
        one.set(5, &block(1));
        let two = one.clone();
        one.set(5, &block(2));
        one.set(6, &block(3));
        assert_eq!(two.get(5).expect("set before").bytes()[0], 1);
        assert!(two.get(6).is_none());
        assert_eq!(two.iter().count(), 1);
        assert_eq!(one.difference(&two), [5, 6]);
    }

    #[test]
    fn sectors_merge() {
        let mut blocks = Blocks::default();
        blocks.set_sectors(0, &block(7), 0b10);
        let bytes = blocks.get(0).expect("a sector was set").bytes();
        assert!(bytes[..512].iter().all(|byte| *byte == 0));
        assert!(bytes[512..1024].iter().all(|byte| *byte == 7));
        assert!(bytes[1024..].iter().all(|byte| *byte == 0));
    }
}
