//! Open segment: the end of a stream, as arithmetic: where the next record goes and what the inventory will say.
//!
//! It keeps the inventory of what was appended in memory and always leaves room for it and for the seal block, so a
//! segment can be sealed at any moment without asking for space.
//!
//! Invariants: 1. offset + inventory + seal block <= segment. 2. Offsets only grow.
//! Limits: the inventory of a segment of 4 KiB pieces takes about 0.6 % of it, in memory too while it is open.

use seabed_types::{BLOCK_BYTES, Crc, Incarnation, Paddr, PoolId, SegmentId, round_up_to_block};

use crate::inventory::put_piece;
use crate::{Identity, Layout, Listed, SEGMENT_HEADER_BYTES, SealBlock, StreamKind};

/// A segment that takes records.
#[derive(Clone, Debug)]
pub struct OpenSegment {
    /// Which.
    pub segment: SegmentId,
    /// Which use of it.
    pub incarnation: Incarnation,
    /// For what.
    pub stream: StreamKind,
    /// The checksum of its header block.
    pub header_crc: Crc,
    segment_bytes: usize,
    offset: usize,
    records: u64,
    inventory: Vec<u8>,
    listed: u32,
    /// False if a mount goes on in it: what was appended before is not in `inventory`, and a scan will rebuild it.
    inventory_is_whole: bool,
}

impl OpenSegment {
    /// A fresh segment.
    pub fn new(
        layout: &Layout,
        segment: SegmentId,
        incarnation: Incarnation,
        stream: StreamKind,
        header: Crc,
    ) -> Self {
        Self {
            segment,
            incarnation,
            stream,
            header_crc: header,
            segment_bytes: layout.segment_bytes as usize,
            offset: SEGMENT_HEADER_BYTES as usize,
            records: 0,
            inventory: Vec::new(),
            listed: 0,
            inventory_is_whole: true,
        }
    }

    /// A journal segment in which a mount goes on at `offset`. Its first part is not in the inventory that a seal would
    /// write, so it is sealed without one.
    pub fn resume(layout: &Layout, segment: SegmentId, incarnation: Incarnation, offset: u32) -> Self {
        let mut open = Self::new(layout, segment, incarnation, StreamKind::Journal, Crc::default());
        open.offset = offset as usize;
        open.inventory_is_whole = false;
        open
    }

    /// Where the next record goes.
    pub fn at(&self) -> Paddr {
        Paddr::new(self.segment, u32::try_from(self.offset).expect("within a segment"))
    }

    /// How many records it has.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes that a record may have here, if it adds `listed_bytes` to the inventory. 0 if none fits.
    pub fn room(&self, listed_bytes: usize) -> usize {
        let end = round_up_to_block(self.inventory.len() + listed_bytes) + BLOCK_BYTES;
        (self.segment_bytes.saturating_sub(self.offset + end)) / BLOCK_BYTES * BLOCK_BYTES
    }

    /// Counts a record of `bytes` as appended.
    pub fn appended(&mut self, bytes: usize) {
        self.offset += bytes;
        self.records += 1;
        assert!(self.offset + BLOCK_BYTES <= self.segment_bytes, "invariant 1: room was asked for");
    }

    /// As [`Self::list`], for a piece.
    pub fn list_piece(&mut self, offset: u32, bytes: u32, pool: PoolId, key: &[u8]) {
        put_piece(&mut self.inventory, (offset, bytes), pool, key);
        self.listed += 1;
    }

    /// Adds to the inventory; not in address order necessarily, entries carry their offset.
    pub fn list(&mut self, listed: &Listed) {
        listed.encode(&mut self.inventory);
        self.listed += 1;
    }

    /// The inventory and the seal block to be written: (offset, bytes) each, block aligned. None if the segment has
    /// entries that memory does not know; a scan rebuilds those.
    pub fn seal(&self, identity: &Identity) -> Option<[(u32, Vec<u8>); 2]> {
        let room = self.segment_bytes - BLOCK_BYTES - self.offset;
        if !self.inventory_is_whole || self.inventory.len() > room {
            return None;
        }
        let word = |bytes: usize| u32::try_from(bytes).expect("within a segment");
        let mut inventory = self.inventory.clone();
        inventory.resize(round_up_to_block(inventory.len()), 0);
        let seal = SealBlock {
            segment: self.segment,
            incarnation: self.incarnation,
            inventory_offset: word(self.offset),
            inventory_bytes: word(self.inventory.len()),
            inventory_crc: Crc::of(&self.inventory),
            inventory_count: self.listed,
        };
        Some([
            (word(self.offset), inventory),
            (word(self.segment_bytes - BLOCK_BYTES), seal.encode(identity).to_vec()),
        ])
    }
}
