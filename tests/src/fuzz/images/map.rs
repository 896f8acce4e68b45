//! Map: where the structures of an image are, how an edit changes one, and how all checksums are made right again.
//!
//! The map is of the image before any edit; places do not move, so an edit of a length or an address leaves a structure
//! that says something else than where it is, with a checksum that says that this is meant.

use std::collections::BTreeSet;
use std::ops::Range;

use seabed_journal::Slot;
use seabed_segment::{
    Identity, Layout, Listed, ListedWhat, RecordHeader, SealBlock, SegmentHeader, SlotCopy, StreamKind,
    Superblock, entries_of,
};
use seabed_types::{BLOCK_BYTES, Crc, Paddr, ShardId};

/// Where the crc of a slot's first body part is, behind that many cuts: see `docs/FORMAT.md`.
const SLOT_FIXED_BYTES: usize = 80;
const CUT_BYTES: usize = 28;
const PART_BYTES: usize = 16;
const HEADER_BYTES: usize = 96;

struct Record {
    at: usize,
    header: RecordHeader,
}

impl Record {
    fn is_journal(&self) -> bool {
        self.header.place.stream == StreamKind::Journal
    }
}

struct Node {
    at: usize,
    bytes: usize,
    level: u8,
    /// Its address, as pointers have it.
    pointer: [u8; 8],
}

struct Part {
    /// Where the slot names its checksum.
    crc_at: usize,
    range: Range<usize>,
}

struct Seal {
    at: usize,
    inventory: Range<usize>,
}

/// See the module.
pub(super) struct Map {
    image: Vec<u8>,
    superblock: Superblock,
    slots: Vec<usize>,
    parts: Vec<Part>,
    headers: Vec<(u32, usize)>,
    seals: Vec<Seal>,
    /// The journal's by number, then the others by place.
    records: Vec<Record>,
    /// Leaves first.
    nodes: Vec<Node>,
    /// What edits choose from, by kind of structure.
    places: Vec<Vec<Range<usize>>>,
    /// The blocks that edits and right checksums change, by offset.
    changed: BTreeSet<usize>,
}

fn block(image: &[u8], at: usize) -> &[u8] {
    &image[at..at + BLOCK_BYTES]
}

fn put(image: &mut [u8], at: usize, crc: Crc) {
    image[at..at + 4].copy_from_slice(&crc.0.to_le_bytes());
}

fn crc_at(image: &[u8], at: usize) -> Crc {
    Crc(u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes")))
}

/// The checksum of a header whose own is at `place` in it.
fn put_header_crc(image: &mut [u8], header: Range<usize>, place: usize, identity: Option<&Identity>) {
    let at = header.start + place;
    put(image, at, Crc(0));
    let header = &image[header];
    let crc = identity.map_or(Crc::of(header), |identity| identity.header_crc(header));
    put(image, at, crc);
}

impl Map {
    pub(super) fn new(image: Vec<u8>) -> Self {
        let copies = Superblock::places(image.len() as u64).map(|at| usize::try_from(at).expect("in memory"));
        let superblock = Superblock::choose(copies.map(|at| Some(block(&image, at)))).expect("a store");
        let mut map = Self {
            superblock,
            slots: Vec::new(),
            parts: Vec::new(),
            headers: Vec::new(),
            seals: Vec::new(),
            records: Vec::new(),
            nodes: Vec::new(),
            places: Vec::new(),
            changed: BTreeSet::new(),
            image,
        };
        for copy in [SlotCopy::A, SlotCopy::B] {
            map.slot(usize::try_from(superblock.layout.slot(ShardId(0), copy)).expect("in memory"));
        }
        for segment in superblock.layout.segments() {
            map.segment(Paddr::new(segment, 0));
        }
        map.records.sort_by_key(|record| (!record.is_journal(), record.header.place.number, record.at));
        map.nodes.sort_by_key(|node| node.level);
        map.places = map.kinds(&copies);
        for range in map.places.iter().flatten() {
            // An edit of the last byte of a structure writes a word, of which the rest lies behind it.
            let end = (range.end + 3).min(map.image.len());
            map.changed.extend((range.start..end).map(|at| at / BLOCK_BYTES * BLOCK_BYTES));
        }
        map
    }

    fn layout(&self) -> Layout {
        self.superblock.layout
    }

    fn offset(&self, at: Paddr) -> usize {
        usize::try_from(self.layout().device_offset(at)).expect("in memory")
    }

    fn slot(&mut self, at: usize) {
        let slot = Slot::decode(block(&self.image, at), &self.superblock.identity, ShardId(0));
        let slot = slot.expect("valid in a golden image");
        let first = at + SLOT_FIXED_BYTES + slot.cuts.len() * CUT_BYTES;
        for (index, part) in slot.body.iter().flatten().enumerate() {
            let start = self.offset(part.at);
            let crc_at = first + index * PART_BYTES + 12;
            self.parts.push(Part { crc_at, range: start..start + part.bytes as usize });
        }
        self.slots.push(at);
    }

    fn segment(&mut self, start: Paddr) {
        let (identity, layout) = (self.superblock.identity, self.layout());
        let at = self.offset(start);
        if SegmentHeader::decode(block(&self.image, at), &identity, start.segment).is_err() {
            return;
        }
        self.headers.push((start.segment.0, at));
        let mut offset = BLOCK_BYTES;
        while offset < layout.segment_bytes as usize {
            let place = Paddr::new(start.segment, u32::try_from(offset).expect("in a segment"));
            offset += self.record(place).unwrap_or(BLOCK_BYTES);
        }
        let last = at + layout.segment_bytes as usize - BLOCK_BYTES;
        let seal =
            SealBlock::decode(block(&self.image, last), &identity, start.segment, layout.segment_bytes);
        if let Ok(seal) = seal {
            let from = at + seal.inventory_offset as usize;
            self.seals.push(Seal { at: last, inventory: from..from + seal.inventory_bytes as usize });
        }
    }

    /// Takes down the record at a place, if there is a valid one: its bytes.
    fn record(&mut self, place: Paddr) -> Option<usize> {
        let (identity, layout, at) = (self.superblock.identity, self.layout(), self.offset(place));
        let header = RecordHeader::decode(block(&self.image, at), &identity, &layout, place).ok()?;
        let record = &self.image[at..at + header.record_bytes as usize];
        let entries = entries_of(&header, record).ok().filter(|_| header.data_is_sound(record))?;
        if header.place.stream != StreamKind::Journal {
            for listed in Listed::decode_all(&entries).ok()? {
                let ListedWhat::Image { level, .. } = listed.what else { continue };
                let image = Paddr::new(place.segment, listed.offset);
                let mut pointer = [0; 8];
                pointer[..4].copy_from_slice(&image.segment.0.to_le_bytes());
                pointer[4..].copy_from_slice(&image.offset.to_le_bytes());
                let (at, bytes) = (self.offset(image), listed.bytes as usize);
                self.nodes.push(Node { at, bytes, level, pointer });
            }
        }
        self.records.push(Record { at, header });
        Some(header.record_bytes as usize)
    }

    fn kinds(&self, copies: &[usize]) -> Vec<Vec<Range<usize>>> {
        let blocks = |starts: Vec<usize>, bytes: usize| -> Vec<Range<usize>> {
            starts.into_iter().map(|at| at..at + bytes).collect()
        };
        let entries = |journal: bool| -> Vec<Range<usize>> {
            let of = self.records.iter().filter(|record| record.is_journal() == journal);
            of.map(|record| {
                let start = record.at + HEADER_BYTES;
                start..start + (record.header.entries_bytes as usize).clamp(1, BLOCK_BYTES - HEADER_BYTES)
            })
            .collect()
        };
        let kinds = vec![
            blocks(copies.to_vec(), 112),
            blocks(self.slots.clone(), 220),
            self.parts.iter().map(|part| part.range.clone()).collect(),
            blocks(self.headers.iter().map(|(_, at)| *at).collect(), 64),
            blocks(self.records.iter().map(|record| record.at).collect(), HEADER_BYTES),
            entries(true),
            entries(false),
            self.nodes.iter().map(|node| node.at..node.at + node.bytes).collect(),
            // The front of a node, where its header and its slots are.
            self.nodes.iter().map(|node| node.at..node.at + 200).collect(),
            blocks(self.seals.iter().map(|seal| seal.at).collect(), 56),
            self.seals.iter().map(|seal| seal.inventory.clone()).collect(),
        ];
        kinds.into_iter().map(|kind| kind.into_iter().filter(|range| !range.is_empty()).collect()).collect()
    }

    /// Takes back what edits and right checksums changed: only the blocks where that can be, since an image is large and
    /// has few of them.
    pub(super) fn restore(&self, image: &mut [u8]) {
        for at in &self.changed {
            let range = *at..*at + BLOCK_BYTES;
            image[range.clone()].copy_from_slice(&self.image[range]);
        }
    }

    /// Does one edit: which structure (a kind, and one of them), an offset in it, what to do, and an operand.
    pub(super) fn edit(&self, image: &mut [u8], [kind, which, low, high, what, value @ ..]: [u8; 8]) {
        let kind = &self.places[usize::from(kind) % self.places.len()];
        let place = kind[usize::from(which) % kind.len()].clone();
        let offset = usize::from(u16::from_le_bytes([low, high])) % place.len();
        let at = place.start + offset;
        let word = (at..at + 4).end <= image.len();
        match what % 6 {
            0 => image[at] ^= value[0],
            1 => image[at] = value[0],
            2 if word => image[at..at + 3].copy_from_slice(&value),
            3 if word => {
                let by = u32::from_le_bytes([value[0], value[1], value[2], 0]);
                let now = crc_at(image, at).0;
                image[at..at + 4].copy_from_slice(&now.wrapping_add(by).wrapping_sub(256).to_le_bytes());
            }
            4 => image[at..place.end].rotate_right(usize::from(value[0]) % (place.end - at)),
            _ => {
                let from = place.start + usize::from(value[0]) % place.len();
                let bytes = usize::from(value[1] % 16).min(place.end - at.max(from));
                image.copy_within(from..from + bytes, at);
            }
        }
    }

    /// Makes every checksum that the edits spoiled right, from the leaves up.
    pub(super) fn make_right(&self, image: &mut [u8]) {
        self.make_nodes_right(image);
        for part in &self.parts {
            let crc = Crc::of(&image[part.range.clone()]);
            put(image, part.crc_at, crc);
        }
        let identity = self.superblock.identity;
        for (_, at) in &self.headers {
            put_header_crc(image, *at..*at + BLOCK_BYTES, 8, Some(&identity));
        }
        self.make_records_right(image, &identity);
        for seal in &self.seals {
            let crc = Crc::of(&image[seal.inventory.clone()]);
            put(image, seal.at + 44, crc);
            put_header_crc(image, seal.at..seal.at + BLOCK_BYTES, 8, Some(&identity));
        }
        for at in &self.slots {
            put_header_crc(image, *at..*at + BLOCK_BYTES, 8, Some(&identity));
        }
        for copy in &self.places[0] {
            put_header_crc(image, copy.start..copy.start + BLOCK_BYTES, 12, None);
        }
    }

    /// A node's pointer is in its parent or, if it is a root, in checkpoint bodies.
    fn make_nodes_right(&self, image: &mut [u8]) {
        for node in &self.nodes {
            let range = node.at..node.at + node.bytes;
            let (old, new) = (Crc::of(&self.image[range.clone()]), Crc::of(&image[range]));
            if old == new {
                continue;
            }
            let mut pointer = node.pointer.to_vec();
            pointer.extend_from_slice(&old.0.to_le_bytes());
            let parents = self.nodes.iter().filter(|parent| parent.level > node.level);
            let parents = parents.map(|parent| parent.at..parent.at + parent.bytes);
            for range in parents.chain(self.parts.iter().map(|part| part.range.clone())) {
                let found = image[range.clone()].windows(12).position(|bytes| bytes == pointer);
                if let Some(found) = found {
                    put(image, range.start + found + 8, new);
                }
            }
        }
    }

    /// In their order, so that each knows the checksum of the header that it is chained to.
    fn make_records_right(&self, image: &mut [u8], identity: &Identity) {
        for (index, record) in self.records.iter().enumerate() {
            let Record { at, header } = record;
            let pieces = at + BLOCK_BYTES..at + BLOCK_BYTES + header.pieces_bytes as usize;
            let first = (header.entries_bytes as usize).min(BLOCK_BYTES - HEADER_BYTES);
            let start = at + HEADER_BYTES;
            let rest = pieces.end..pieces.end + header.entries_bytes as usize - first;
            let entries = Crc::of(&image[start..start + first]).append(&image[rest]);
            put(image, at + 72, entries);
            let data = Crc::of(&image[pieces]);
            put(image, at + 76, data);
            if let Some(before) = self.chained_to(index) {
                let crc = crc_at(image, before);
                put(image, at + 56, crc);
            }
            put_header_crc(image, *at..start, 4, Some(identity));
        }
    }

    /// Where the checksum stands that a record repeats as `previous`: the header before it, or its segment's.
    fn chained_to(&self, index: usize) -> Option<usize> {
        let record = &self.records[index];
        if record.is_journal() {
            let before = &self.records[index.checked_sub(1)?];
            return (before.header.crc == record.header.place.previous).then_some(before.at + 4);
        }
        let header = self.headers.iter().find(|(segment, _)| *segment == record.header.at.segment.0);
        header.map(|(_, at)| at + 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_right_stays_as_it_is() {
        for image in crate::fuzz::golden() {
            let map = Map::new(image.clone());
            assert!(map.places.iter().all(|kind| !kind.is_empty()), "something of every kind");
            let mut again = image.clone();
            map.make_right(&mut again);
            assert!(again == image);
        }
    }

    #[test]
    fn what_was_changed_is_taken_back() {
        let mut rng = fastrand::Rng::with_seed(3);
        for golden in crate::fuzz::golden() {
            let map = Map::new(golden.clone());
            let mut image = golden.clone();
            for _ in 0..400 {
                for _ in 0..8 {
                    map.edit(&mut image, std::array::from_fn(|_| rng.u8(..)));
                }
                map.make_right(&mut image);
                assert!(image != golden, "something was changed");
                map.restore(&mut image);
                assert!(image == golden);
            }
        }
    }
}
