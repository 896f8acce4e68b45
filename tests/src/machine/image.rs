//! Disk image: the state of a whole disk while no machine uses it.
//!
//! After a power cut that is only what is durable. After a mere kill of the process the disk still has its cache: an
//! image then also carries the completed writes that no flush has covered, and a simulation that starts from it shows
//! them to reads although a later power cut may still take them.
//!
//! Cost: a clone is one reference per 256 KiB ever written; the hash is kept, not computed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use seabed_types::BLOCK_BYTES;

use super::blocks::{Blocks, block_index, blocks_of, mix};
use super::crash::Uncovered;

/// See the module.
#[derive(Clone)]
pub struct DiskImage {
    pub(super) bytes: u64,
    pub(super) durable: Blocks,
    pub(super) cached: Vec<Uncovered>,
}

impl DiskImage {
    /// A disk of zeros.
    pub fn blank(bytes: u64) -> Self {
        assert!(bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES as u64), "a disk has whole blocks");
        Self { bytes, durable: Blocks::default(), cached: Vec::new() }
    }

    /// Size of the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether completed writes are still in the disk's cache.
    pub fn has_cache(&self) -> bool {
        !self.cached.is_empty()
    }

    /// Equal for equal images, and in practice for no others: what crash states are counted by.
    pub fn hash(&self) -> u128 {
        let mut hash = self.durable.hash();
        for cached in &self.cached {
            cached.each(|index, block, mask| {
                let word = mix(block.hash() ^ mix(index) ^ u64::from(mask));
                hash = hash.rotate_left(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0cc0_6053_45d5)
                    ^ u128::from(word);
            });
        }
        hash
    }

    /// What reads would see.
    pub(super) fn visible(&self) -> Blocks {
        let mut visible = self.durable.clone();
        for cached in &self.cached {
            cached.each(|index, block, mask| visible.set_sectors(index, block, mask));
        }
        visible
    }

    /// The bytes that a read would see; offset and length are multiples of 4096.
    pub fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        assert!(at.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES));
        let visible = self.visible();
        let mut out = vec![0; bytes];
        for (index, to) in (block_index(at)..).zip(out.chunks_exact_mut(BLOCK_BYTES)) {
            visible.copy_to(index, to);
        }
        out
    }

    /// Fills `into` with the durable bytes at `at`, at any offset. Only for an image without a cache.
    pub fn read_durable(&self, at: u64, into: &mut [u8]) {
        assert!(!self.has_cache(), "the cache would hide it");
        let mut at = at;
        let mut left = into;
        while !left.is_empty() {
            let start = offset_in_block(at);
            let count = (BLOCK_BYTES - start).min(left.len());
            let (now, later) = left.split_at_mut(count);
            match self.durable.get(block_index(at)) {
                Some(block) => now.copy_from_slice(&block.bytes()[start..start + count]),
                None => now.fill(0),
            }
            at += count as u64;
            left = later;
        }
    }

    /// Overwrites durable bytes; offset and length are multiples of 4096. Only for an image without a cache.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        assert!(!self.has_cache(), "the cache would hide it");
        assert!(at.is_multiple_of(BLOCK_BYTES as u64) && at + bytes.len() as u64 <= self.bytes);
        for (index, block) in (block_index(at)..).zip(blocks_of(bytes).iter()) {
            self.durable.set(index, block);
        }
    }

    /// Turns one bit over. Only for an image without a cache.
    pub fn flip(&mut self, at: u64, bit: u8) {
        let block_at = at - at % BLOCK_BYTES as u64;
        let mut block = self.read(block_at, BLOCK_BYTES);
        block[offset_in_block(at)] ^= 1 << bit;
        self.write(block_at, &block);
    }

    /// Device offsets of the blocks that reads see differently in the two, in order.
    pub fn difference(&self, other: &Self) -> Vec<u64> {
        let blocks = self.visible().difference(&other.visible());
        blocks.into_iter().map(|index| index * BLOCK_BYTES as u64).collect()
    }

    /// Device offsets and bytes of the blocks that are not zeros, as reads see them, in order.
    pub fn blocks(&self) -> BTreeMap<u64, Vec<u8>> {
        let visible = self.visible();
        visible.iter().map(|(index, block)| (index * BLOCK_BYTES as u64, block.bytes().to_vec())).collect()
    }

    /// Writes what reads see to a sparse file, for other tools.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(path)?;
        file.set_len(self.bytes)?;
        self.visible()
            .iter()
            .try_for_each(|(index, block)| file.write_all_at(block.bytes(), index * BLOCK_BYTES as u64))
    }

    /// Reads an image from a file of whole blocks.
    pub fn load(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a whole number of 4096-byte blocks"));
        }
        let mut image = Self::blank(bytes);
        let mut block = vec![0; BLOCK_BYTES];
        for at in (0..bytes).step_by(BLOCK_BYTES) {
            file.read_exact_at(&mut block, at)?;
            image.write(at, &block);
        }
        Ok(image)
    }
}

/// The place of device offset `at` in its block.
pub(super) fn offset_in_block(at: u64) -> usize {
    usize::try_from(at % BLOCK_BYTES as u64).expect("less than 4096")
}
