//! Again: every structure of an image is decoded and encoded again, and is the same bytes.
//!
//! That an old image still opens shows that decoders did not change. This shows that encoders did not: a store that the
//! present program writes would else be another format under the same version. Rows are read too: those of deltas and
//! those in leaves. What was found is given to whoever wants it: the fuzz targets begin with it.
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

/// What a structure is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A superblock copy.
    Superblock,
    /// A checkpoint slot.
    Slot,
    /// One copy of a checkpoint body.
    Body,
    /// The first block of a segment.
    SegmentHeader,
    /// The last block of a full segment.
    Seal,
    /// An inventory, or what a record of a stream other than the journal lists.
    List,
    /// A whole record.
    Record,
    /// The entries of a record of the journal.
    Entries,
    /// A node without children.
    Leaf,
    /// A node with children.
    InnerNode,
    /// A key of the names tree.
    NamesKey,
    /// A key of the bodies tree.
    BodiesKey,
    /// A key of the graves tree.
    GravesKey,
    /// An onode.
    Onode,
    /// A row of extents.
    Extents,
    /// A patch of one.
    Patch,
    /// An attribute, an omap header or an omap pair.
    Value,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Superblock,
        Self::Slot,
        Self::Body,
        Self::SegmentHeader,
        Self::Seal,
        Self::List,
        Self::Record,
        Self::Entries,
        Self::Leaf,
        Self::InnerNode,
        Self::NamesKey,
        Self::BodiesKey,
        Self::GravesKey,
        Self::Onode,
        Self::Extents,
        Self::Patch,
        Self::Value,
    ];
}

struct Walk<'a> {
    image: &'a [u8],
    superblock: Superblock,
    layout: Layout,
    found: Vec<(Kind, Vec<u8>)>,
}

/// All that is valid in an image; panics where it is encoded in another way than it was written.
pub fn structures(image: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let places = Superblock::places(image.len() as u64);
    let block = |at: u64| {
        let at = usize::try_from(at).expect("in memory");
        &image[at..at + BLOCK_BYTES]
    };
    let superblock = Superblock::choose(places.map(|at| Some(block(at)))).expect("a store");
    let mut walk = Walk { image, superblock, layout: superblock.layout, found: Vec::new() };
    for (copy, at) in (0..).zip(places) {
        walk.found(Kind::Superblock, block(at), &superblock.encode(copy));
    }
    for copy in [SlotCopy::A, SlotCopy::B] {
        let block = block(walk.layout.slot(ShardId(0), copy));
        let slot = Slot::decode(block, &superblock.identity, ShardId(0)).expect("a valid slot");
        walk.found(Kind::Slot, block, &slot.encode(&superblock.identity));
        for parts in &slot.body {
            walk.body(parts);
        }
    }
    for segment in walk.layout.segments() {
        walk.segment(segment);
    }
    walk.found
}

impl<'a> Walk<'a> {
    fn found(&mut self, kind: Kind, bytes: &[u8], again: &[u8]) {
        assert!(bytes == again, "{kind:?} is encoded in another way: {bytes:x?}, now {again:x?}");
        self.found.push((kind, bytes.to_vec()));
    }

    fn bytes(&self, at: Paddr, bytes: u32) -> &'a [u8] {
        let start = usize::try_from(self.layout.device_offset(at)).expect("in memory");
        &self.image[start..start + bytes as usize]
    }

    fn body(&mut self, parts: &[BodyPart]) {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| self.bytes(part.at, part.bytes)).copied().collect();
        let body = Body::decode(&bytes).expect("a valid body");
        self.found(Kind::Body, &bytes, &body.encode());
    }

    fn segment(&mut self, segment: SegmentId) {
        let (identity, start) = (self.superblock.identity, Paddr::new(segment, 0));
        let block_bytes = u32::try_from(BLOCK_BYTES).expect("small");
        let first = self.bytes(start, block_bytes);
        let Ok((header, _)) = SegmentHeader::decode(first, &identity, segment) else { return };
        self.found(Kind::SegmentHeader, first, &header.encode(&identity).0);
        let mut offset = block_bytes;
        while offset < self.layout.segment_bytes {
            offset += self.record(Paddr::new(segment, offset)).unwrap_or(block_bytes);
        }
        let last = self.bytes(start.plus(self.layout.segment_bytes - block_bytes), block_bytes);
        if let Ok(seal) = SealBlock::decode(last, &identity, segment, self.layout.segment_bytes) {
            self.found(Kind::Seal, last, &seal.encode(&identity));
            let place = start.plus(seal.inventory_offset);
            self.list(place, self.bytes(place, seal.inventory_bytes));
        }
    }

    /// The record at an address, if there is a valid one: its bytes.
    fn record(&mut self, at: Paddr) -> Option<u32> {
        let (identity, layout) = (self.superblock.identity, self.layout);
        let first = self.bytes(at, u32::try_from(BLOCK_BYTES).expect("small"));
        let header = RecordHeader::decode(first, &identity, &layout, at).ok()?;
        let record = self.bytes(at, header.record_bytes);
        let entries = entries_of(&header, record).ok().filter(|_| header.data_is_sound(record))?;
        let device = MemoryDevice::new(vec![0; BLOCK_BYTES]);
        let mut builder = RecordBuilder::new(device, at, layout.record_bytes_max(), record.len());
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
            self.found(Kind::Entries, &entries, builder.entries());
        } else {
            builder.entries().extend_from_slice(&entries);
            self.list(at, &entries);
        }
        let (closed, _) = builder.close(&identity, header.place);
        self.found(Kind::Record, record, &closed);
        Some(header.record_bytes)
    }

    fn list(&mut self, at: Paddr, bytes: &[u8]) {
        let listed = Listed::decode_all(bytes).expect("a valid list");
        let mut again = Vec::new();
        for listed in &listed {
            listed.encode(&mut again);
            if let ListedWhat::Image { tree, .. } = listed.what {
                self.node(Paddr::new(at.segment, listed.offset), listed.bytes, tree);
            }
        }
        self.found(Kind::List, bytes, &again);
    }

    fn node(&mut self, at: Paddr, bytes: u32, tree: TreeKind) {
        let bytes = self.bytes(at, bytes);
        let mut page = Page::decode(bytes.into()).expect("a valid page");
        if page.level() > 0 {
            self.found(Kind::InnerNode, bytes, page.image());
            return;
        }
        for index in 0..page.len() {
            self.row(tree, &page.key(index), &ChangeRef::Set(page.value(index))).expect("a valid row");
        }
        self.found(Kind::Leaf, bytes, page.image());
    }

    fn row(&mut self, tree: TreeKind, row: &[u8], change: &ChangeRef<'_>) -> Result<(), Malformed> {
        match tree {
            TreeKind::Names => {
                self.found(Kind::NamesKey, row, &key::names(&key::decode_names(row)?));
                if let ChangeRef::Set(value) = change {
                    OnodeRef::decode(value)?;
                    self.found(Kind::Onode, value, value);
                }
            }
            TreeKind::Graves => self.found(Kind::GravesKey, row, &key::graves(key::decode_graves(row)?)),
            TreeKind::Bodies => {
                let (member, position) = key::decode_bodies(row)?;
                self.found(Kind::BodiesKey, row, &key::bodies(member, &position));
                match change {
                    ChangeRef::Set(value) if matches!(position, Position::Extents(_)) => {
                        let extents = Extents::decode(value)?;
                        self.found(Kind::Extents, value, &extents.encode().expect("not empty"));
                    }
                    ChangeRef::Set(value) => {
                        self.found(Kind::Value, value, &RowValue::decode(value)?.encode());
                    }
                    ChangeRef::Patch(patch) => {
                        self.found(Kind::Patch, patch, &Patch::decode(patch)?.encode());
                    }
                    ChangeRef::Gone => {}
                }
            }
        }
        Ok(())
    }
}
