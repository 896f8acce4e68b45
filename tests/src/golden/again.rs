//! Again: every structure of an image is decoded and encoded again, and is the same bytes.
//!
//! That an old image still opens shows that decoders did not change. This shows that encoders did not: a store that the
//! present program writes would else be another format under the same version. Rows are read too: those of deltas and
//! those in leaves.
//!
//! Not here: the onode's encoder, which is no public function and has frozen bytes of its own in `object/`.

use seabed_btree::Page;
use seabed_device::memory::MemoryDevice;
use seabed_journal::{Body, BodyPart, ChangeRef, EntryRef, Slot};
use seabed_object::extents::{Extents, Patch};
use seabed_object::key::{self, Position};
use seabed_object::onode::OnodeRef;
use seabed_object::value::RowValue;
use seabed_segment::{
    Layout, Listed, ListedWhat, RecordBuilder, RecordHeader, SealBlock, SegmentHeader, SlotCopy, StreamKind,
    Summing, Superblock, entries_of,
};
use seabed_types::{BLOCK_BYTES, Malformed, Paddr, SegmentId, ShardId, TreeKind};

/// How many of each were found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Structures {
    /// Superblock copies.
    pub superblocks: u32,
    /// Checkpoint slots.
    pub slots: u32,
    /// Copies of checkpoint bodies.
    pub bodies: u32,
    /// Segment headers.
    pub headers: u32,
    /// Seals, each with an inventory.
    pub seals: u32,
    /// Records of the journal.
    pub journal_records: u32,
    /// Other records.
    pub records: u32,
    /// Nodes without children.
    pub leaves: u32,
    /// Nodes with children.
    pub inner_nodes: u32,
    /// Onodes.
    pub onodes: u32,
    /// Rows of extents, and patches of them.
    pub extents: u32,
    /// Attributes, omap headers, omap pairs.
    pub values: u32,
    /// Graves.
    pub graves: u32,
}

struct Walk<'a> {
    image: &'a [u8],
    superblock: Superblock,
    layout: Layout,
    found: Structures,
}

fn same(what: &str, at: u64, one: &[u8], two: &[u8]) {
    assert!(one == two, "{what} at byte {at} of the device is encoded in another way");
}

/// Decodes and encodes all that is valid in an image; panics where the bytes differ.
pub fn encode_again(image: &[u8]) -> Structures {
    let places = Superblock::places(image.len() as u64);
    let block = |at: u64| {
        let at = usize::try_from(at).expect("in memory");
        &image[at..at + BLOCK_BYTES]
    };
    let superblock = Superblock::choose(places.map(|at| Some(block(at)))).expect("a store");
    let mut walk = Walk { image, superblock, layout: superblock.layout, found: Structures::default() };
    for (copy, at) in (0..).zip(places) {
        same("superblock", at, &superblock.encode(copy), block(at));
        walk.found.superblocks += 1;
    }
    for copy in [SlotCopy::A, SlotCopy::B] {
        let at = walk.layout.slot(ShardId(0), copy);
        let slot = Slot::decode(block(at), &superblock.identity, ShardId(0)).expect("a valid slot");
        same("slot", at, &slot.encode(&superblock.identity), block(at));
        walk.found.slots += 1;
        for parts in &slot.body {
            walk.body(parts);
        }
    }
    for segment in walk.layout.segments() {
        walk.segment(segment);
    }
    walk.found
}

impl Walk<'_> {
    fn bytes(&self, at: Paddr, bytes: u32) -> &[u8] {
        let start = usize::try_from(self.layout.device_offset(at)).expect("in memory");
        &self.image[start..start + bytes as usize]
    }

    fn body(&mut self, parts: &[BodyPart]) {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| self.bytes(part.at, part.bytes)).copied().collect();
        let body = Body::decode(&bytes).expect("a valid body");
        same("body", self.layout.device_offset(parts[0].at), &body.encode(), &bytes);
        self.found.bodies += 1;
    }

    fn segment(&mut self, segment: SegmentId) {
        let (identity, start) = (self.superblock.identity, Paddr::new(segment, 0));
        let block_bytes = u32::try_from(BLOCK_BYTES).expect("small");
        let Ok((header, _)) = SegmentHeader::decode(self.bytes(start, block_bytes), &identity, segment)
        else {
            return;
        };
        let at = self.layout.device_offset(start);
        same("segment header", at, &header.encode(&identity).0, self.bytes(start, block_bytes));
        self.found.headers += 1;
        let mut offset = block_bytes;
        while offset < self.layout.segment_bytes {
            offset += self.record(Paddr::new(segment, offset)).unwrap_or(block_bytes);
        }
        let last = Paddr::new(segment, self.layout.segment_bytes - block_bytes);
        let block = self.bytes(last, block_bytes);
        if let Ok(seal) = SealBlock::decode(block, &identity, segment, self.layout.segment_bytes) {
            same("seal", self.layout.device_offset(last), &seal.encode(&identity), block);
            let place = Paddr::new(segment, seal.inventory_offset);
            let inventory = self.bytes(place, seal.inventory_bytes).to_vec();
            self.list(place, &inventory);
            self.found.seals += 1;
        }
    }

    /// The record at an address, if there is a valid one: its bytes.
    fn record(&mut self, at: Paddr) -> Option<u32> {
        let (identity, layout) = (self.superblock.identity, self.layout);
        let header = self.bytes(at, 4096);
        let header = RecordHeader::decode(header, &identity, &layout, at).ok()?;
        let record = self.bytes(at, header.record_bytes);
        let entries = entries_of(&header, record).ok().filter(|_| header.data_is_sound(record))?;
        let record = record.to_vec();
        let mut builder = RecordBuilder::new(
            MemoryDevice::new(vec![0; BLOCK_BYTES]),
            at,
            layout.record_bytes_max(),
            record.len(),
        );
        if header.pieces_bytes > 0 {
            let pieces = &record[BLOCK_BYTES..BLOCK_BYTES + header.pieces_bytes as usize];
            builder.place(&[pieces], Summing::Whole);
        }
        if header.place.stream == StreamKind::Journal {
            EntryRef::decode_all(&entries, |entry| {
                entry.encode(builder.entries());
                if let EntryRef::Delta(delta) = entry {
                    self.row(delta.tree, delta.key, &delta.change).expect("a valid row");
                }
            })
            .expect("valid entries");
            self.found.journal_records += 1;
        } else {
            builder.entries().extend_from_slice(&entries);
            self.list(at, &entries);
            self.found.records += 1;
        }
        let (closed, _) = builder.close(&identity, header.place);
        same("record", layout.device_offset(at), &closed, &record);
        Some(header.record_bytes)
    }

    fn list(&mut self, at: Paddr, bytes: &[u8]) {
        let listed = Listed::decode_all(bytes).expect("a valid list");
        let mut again = Vec::new();
        for listed in &listed {
            listed.encode(&mut again);
        }
        same("list", self.layout.device_offset(at), &again, bytes);
        for listed in listed {
            if let ListedWhat::Image { tree, .. } = listed.what {
                self.node(Paddr::new(at.segment, listed.offset), listed.bytes, tree);
            }
        }
    }

    fn node(&mut self, at: Paddr, bytes: u32, tree: TreeKind) {
        // An inventory may name nodes that a later use of the bytes overwrote; records were looked at whole.
        let bytes = self.bytes(at, bytes).to_vec();
        let Ok(mut page) = Page::decode(bytes.clone().into()) else { return };
        same("node", self.layout.device_offset(at), page.image(), &bytes);
        if page.level() > 0 {
            self.found.inner_nodes += 1;
            return;
        }
        for index in 0..page.len() {
            self.row(tree, &page.key(index), &ChangeRef::Set(page.value(index))).expect("a valid row");
        }
        self.found.leaves += 1;
    }

    fn row(&mut self, tree: TreeKind, row: &[u8], change: &ChangeRef<'_>) -> Result<(), Malformed> {
        match tree {
            TreeKind::Names => {
                same("key", 0, &key::names(&key::decode_names(row)?), row);
                if let ChangeRef::Set(value) = change {
                    OnodeRef::decode(value)?;
                    self.found.onodes += 1;
                }
            }
            TreeKind::Graves => {
                same("key", 0, &key::graves(key::decode_graves(row)?), row);
                self.found.graves += 1;
            }
            TreeKind::Bodies => {
                let (member, position) = key::decode_bodies(row)?;
                same("key", 0, &key::bodies(member, &position), row);
                let is_extents = matches!(position, Position::Extents(_));
                match change {
                    ChangeRef::Set(value) if is_extents => {
                        let again = Extents::decode(value)?.encode().expect("not empty");
                        same("extents", 0, &again, value);
                        self.found.extents += 1;
                    }
                    ChangeRef::Set(value) => {
                        same("value", 0, &RowValue::decode(value)?.encode(), value);
                        self.found.values += 1;
                    }
                    ChangeRef::Patch(patch) => {
                        same("patch", 0, &Patch::decode(patch)?.encode(), patch);
                        self.found.extents += 1;
                    }
                    ChangeRef::Gone => {}
                }
            }
        }
        Ok(())
    }
}
