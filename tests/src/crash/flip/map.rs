//! Map: what each byte of a store's image belongs to.
//!
//! Superblocks and slots have their places; a segment that was claimed has a header; records follow one another, and where
//! none begins the next block is looked at, as a scan of another stream than the journal does. Records of an older use of
//! their segment count for nothing and are unused, as everything is that no structure covers. Of a journal record that a
//! mount would not replay any more only the data may still count.

use seabed_journal::{Body, Slot};
use seabed_segment::{
    Identity, Layout, Listed, ListedWhat, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SealBlock,
    SegmentHeader, SlotCopy, StreamKind, Superblock, entries_of,
};
use seabed_types::{BLOCK_BYTES, Incarnation, Paddr, SegmentId, ShardId};

/// What a byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Structure {
    /// One of four copies.
    Superblock,
    /// One of two.
    Slot,
    /// The first block of a segment.
    SegmentHeader,
    /// The first 96 bytes of a record of the journal's window.
    RecordHeader,
    /// Entries of a record of the journal's window.
    Deltas,
    /// The journal's last record. In a closed store it is empty: rot in it cannot be told from a torn write (rule C8).
    LastRecord,
    /// Header and entries of a record that the window has left behind.
    PastRecord,
    /// The first 96 bytes of a record of another stream.
    ListHeader,
    /// Entries of a record of another stream: what it holds.
    List,
    /// Pieces of records of the journal and the bulk stream.
    Data,
    /// A tree node.
    Image,
    /// A checkpoint's body.
    Body,
    /// What a full segment holds.
    Inventory,
    /// The last block of a full segment.
    Seal,
    /// Of a record, to the end of a block.
    Padding,
    /// Nothing.
    Unused,
}

impl Structure {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Superblock,
        Self::Slot,
        Self::SegmentHeader,
        Self::RecordHeader,
        Self::Deltas,
        Self::LastRecord,
        Self::PastRecord,
        Self::ListHeader,
        Self::List,
        Self::Data,
        Self::Image,
        Self::Body,
        Self::Inventory,
        Self::Seal,
        Self::Padding,
        Self::Unused,
    ];
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("an image fits the memory")
}

/// The structure of each byte.
pub(super) fn map(image: &[u8], superblock: &Superblock) -> Vec<Structure> {
    let start = window_start(image, superblock);
    let all = vec![Structure::Unused; image.len()];
    let mut map = Map { image, superblock, start, last: None, all };
    let layout = superblock.layout;
    for at in Superblock::places(layout.device_bytes) {
        map.set(index(at), BLOCK_BYTES, Structure::Superblock);
    }
    for copy in [SlotCopy::A, SlotCopy::B] {
        map.set(index(layout.slot(ShardId(0), copy)), BLOCK_BYTES, Structure::Slot);
    }
    layout.segments().for_each(|segment| map.segment(segment));
    if let Some((_, start, bytes)) = map.last {
        map.set(start, bytes, Structure::LastRecord);
    }
    map.all
}

/// P, as the newer slot's checkpoint has it.
fn window_start(image: &[u8], superblock: &Superblock) -> u64 {
    let layout = superblock.layout;
    let slots = [SlotCopy::A, SlotCopy::B].into_iter().filter_map(|copy| {
        let at = index(layout.slot(ShardId(0), copy));
        Slot::decode(&image[at..at + BLOCK_BYTES], &superblock.identity, ShardId(0)).ok()
    });
    let newest = slots.max_by_key(|slot| slot.sequence).expect("a closed store has slots");
    let mut body = Vec::new();
    for part in &newest.body[0] {
        let at = index(layout.device_offset(part.at));
        body.extend_from_slice(&image[at..at + part.bytes as usize]);
    }
    Body::decode(&body).expect("a closed store has a checkpoint").start.0
}

struct Map<'a> {
    image: &'a [u8],
    superblock: &'a Superblock,
    /// The first record that a mount replays.
    start: u64,
    /// The record with the highest number so far: that, where it begins, its header and entries in the first block.
    last: Option<(u64, usize, usize)>,
    all: Vec<Structure>,
}

impl Map<'_> {
    fn set(&mut self, at: usize, bytes: usize, structure: Structure) {
        self.all[at..at + bytes].fill(structure);
    }

    fn identity(&self) -> &Identity {
        &self.superblock.identity
    }

    fn layout(&self) -> &Layout {
        &self.superblock.layout
    }

    fn segment(&mut self, segment: SegmentId) {
        let start = index(self.layout().device_offset(Paddr::new(segment, 0)));
        let segment_bytes = self.layout().segment_bytes as usize;
        let bytes = &self.image[start..start + segment_bytes];
        let header = SegmentHeader::decode(&bytes[..BLOCK_BYTES], self.identity(), segment).ok();
        let records = self.records(segment, bytes);
        let newest = records.iter().map(|record| record.place.incarnation);
        let newest = newest.chain(header.map(|(header, _)| header.incarnation)).max();
        if header.is_some_and(|(header, _)| Some(header.incarnation) == newest) {
            self.set(start, BLOCK_BYTES, Structure::SegmentHeader);
        }
        for record in records.iter().filter(|record| Some(record.place.incarnation) == newest) {
            self.record(start, record);
        }
        self.seal(segment, start, newest);
    }

    fn records(&self, segment: SegmentId, bytes: &[u8]) -> Vec<RecordHeader> {
        let mut records = Vec::new();
        let mut offset = SEGMENT_HEADER_BYTES;
        while (offset as usize) < bytes.len() {
            let at = Paddr::new(segment, offset);
            let decoded = RecordHeader::decode(&bytes[offset as usize..], self.identity(), self.layout(), at);
            offset = decoded.as_ref().map_or(offset + SEGMENT_HEADER_BYTES, RecordHeader::end);
            records.extend(decoded);
        }
        records
    }

    fn record(&mut self, segment_start: usize, record: &RecordHeader) {
        let start = segment_start + record.at.offset as usize;
        let bytes = record.record_bytes as usize;
        let (entries, pieces) = (record.entries_bytes as usize, record.pieces_bytes as usize);
        let is_journal = record.place.stream == StreamKind::Journal;
        let (header, listing) = match is_journal {
            false => (Structure::ListHeader, Structure::List),
            true if record.place.number < self.start => (Structure::PastRecord, Structure::PastRecord),
            true => (Structure::RecordHeader, Structure::Deltas),
        };
        let first = entries.min(BLOCK_BYTES - RECORD_HEADER_BYTES);
        self.set(start, bytes, Structure::Padding);
        self.set(start, RECORD_HEADER_BYTES, header);
        self.set(start + RECORD_HEADER_BYTES, first, listing);
        self.set(start + BLOCK_BYTES + pieces, entries - first, listing);
        if is_journal {
            self.last = self.last.max(Some((record.place.number, start, RECORD_HEADER_BYTES + first)));
            self.set(start + BLOCK_BYTES, pieces, Structure::Data);
            return;
        }
        let listed = entries_of(record, &self.image[start..start + bytes]);
        for listed in listed.and_then(|entries| Listed::decode_all(&entries)).unwrap_or_default() {
            let structure = match listed.what {
                ListedWhat::Piece { .. } => Structure::Data,
                ListedWhat::Image { .. } => Structure::Image,
                ListedWhat::Body { .. } => Structure::Body,
            };
            self.set(segment_start + listed.offset as usize, listed.bytes as usize, structure);
        }
    }

    fn seal(&mut self, segment: SegmentId, start: usize, newest: Option<Incarnation>) {
        let segment_bytes = self.layout().segment_bytes;
        let last = start + segment_bytes as usize - BLOCK_BYTES;
        let block = &self.image[last..last + BLOCK_BYTES];
        let Ok(seal) = SealBlock::decode(block, self.identity(), segment, segment_bytes) else { return };
        if Some(seal.incarnation) == newest {
            self.set(last, BLOCK_BYTES, Structure::Seal);
            let at = start + seal.inventory_offset as usize;
            self.set(at, seal.inventory_bytes as usize, Structure::Inventory);
        }
    }
}
