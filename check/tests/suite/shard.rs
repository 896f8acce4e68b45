//! Shard: writes what an engine would write, record by record, and keeps the counts that go with it.
//!
//! Rows are changed through [`Shard::record`], which logs deltas and the changes of live bytes and tally that follow from
//! them; [`Shard::checkpoint`] writes all rows as trees, a body twice, and both slots. What a test plants it puts into a
//! record as an entry of its own, or changes in an image, a body or a slot while it is written ([`Edits`]).

use std::collections::BTreeMap;

use seabed_btree::{Nodes, NodesMut, Page, Stop, Tree};
use seabed_journal::entry::put_delta;
use seabed_journal::{
    Body, BodyPart, ChangeRef, CollectionId, CollectionState, Cut, EntryRef, JournalSegment, Roots,
    SegmentState, Slot, Tally,
};
use seabed_object::{Change, Usage, apply, pieces_of_row, usage_of_row};
use seabed_segment::{
    Listed, ListedWhat, OpenSegment, RecordBuilder, RecordPlace, SlotCopy, StreamKind, Summing,
};
use seabed_types::{
    Crc, Epoch, Incarnation, Lsn, NodePtr, Paddr, PoolId, SegmentId, ShardId, Term, TreeKind,
};

use super::disk::{Disk, IDENTITY};

pub const POOL: PoolId = PoolId(7);
pub const COLLECTION: CollectionId = CollectionId::whole(POOL);

type RowMap = BTreeMap<(TreeKind, Vec<u8>), Vec<u8>>;

type EditImage = dyn FnMut(TreeKind, u8, &mut Vec<u8>);
type EditBytes = dyn FnMut(&mut Vec<u8>);
type EditSlot = dyn FnMut(SlotCopy, &mut Slot);

/// What a checkpoint writes otherwise than usual.
pub struct Edits {
    /// Where the window begins; none: at the checkpoint.
    pub start: Option<Lsn>,
    /// An image, before its checksum is computed: tree, level, bytes.
    pub image: Box<EditImage>,
    pub body: Box<dyn FnMut(&mut Body)>,
    /// The second copy of the body, before it is placed.
    pub second_copy: Box<EditBytes>,
    /// Which stream takes the second copy.
    pub second_stream: StreamKind,
    pub slot: Box<EditSlot>,
    /// Which slots are written.
    pub slots: Vec<SlotCopy>,
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            start: None,
            image: Box::new(|_, _, _| {}),
            body: Box::new(|_| {}),
            second_copy: Box::new(|_| {}),
            second_stream: StreamKind::Bulk,
            slot: Box::new(|_, _| {}),
            slots: vec![SlotCopy::A, SlotCopy::B],
        }
    }
}

/// A record that is being filled.
pub struct Record {
    builder: RecordBuilder,
    shard: ShardId,
    deltas: Vec<(TreeKind, Vec<u8>, Change)>,
    extra: Vec<u8>,
    listed: Vec<Listed>,
    collections: Vec<CollectionId>,
}

impl Record {
    pub fn place(&mut self, data: &[u8]) -> Paddr {
        self.builder.place(&[data], Summing::Whole).at
    }

    pub fn set(&mut self, tree: TreeKind, key: Vec<u8>, value: Vec<u8>, pieces: &[(Paddr, usize)]) {
        self.delta(tree, key, Change::Set(value), pieces);
    }

    pub fn patch(&mut self, key: Vec<u8>, patch: Vec<u8>, pieces: &[(Paddr, usize)]) {
        self.delta(TreeKind::Bodies, key, Change::Patch(patch), pieces);
    }

    pub fn gone(&mut self, tree: TreeKind, key: Vec<u8>) {
        self.delta(tree, key, Change::Gone, &[]);
    }

    fn delta(&mut self, tree: TreeKind, key: Vec<u8>, change: Change, pieces: &[(Paddr, usize)]) {
        let word = |bytes: &usize| u32::try_from(*bytes).expect("a piece is small");
        let pieces: Vec<(u32, u32)> = pieces.iter().map(|(at, bytes)| (at.offset, word(bytes))).collect();
        let logged = match &change {
            Change::Set(value) => ChangeRef::Set(value),
            Change::Patch(patch) => ChangeRef::Patch(patch),
            Change::Gone => ChangeRef::Gone,
        };
        put_delta(self.builder.entries(), (POOL, tree), &key, logged, &pieces);
        for (offset, bytes) in pieces {
            let identity = match &change {
                Change::Set(value) => seabed_object::onode::identity_of(tree, &key, value)
                    .map_or_else(|_| key.clone(), |key| key.to_vec()),
                Change::Patch(_) | Change::Gone => key.clone(),
            };
            let what = ListedWhat::Piece { pool: POOL, key: identity };
            self.listed.push(Listed { offset, bytes, what });
        }
        self.deltas.push((tree, key, change));
    }

    /// An entry that no count follows.
    pub fn entry(&mut self, entry: &EntryRef<'_>) {
        entry.encode(&mut self.extra);
    }

    pub fn collection(&mut self, collection: CollectionId) {
        self.entry(&EntryRef::NewCollection { collection, term: Term(1) });
        self.collections.push(collection);
    }

    pub fn claim(&mut self, open: &OpenSegment) {
        let (segment, incarnation, stream) = (open.segment, open.incarnation, open.stream);
        self.entry(&EntryRef::Claim { segment, incarnation, stream, age: 0 });
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }
}

#[derive(Clone)]
pub struct Shard {
    pub disk: Disk,
    pub id: ShardId,
    pub epoch: Epoch,
    pub sequence: u64,
    pub lsn: Lsn,
    pub previous: Crc,
    pub journal: OpenSegment,
    pub next: Option<(SegmentId, Incarnation)>,
    pub nodes: OpenSegment,
    pub bulk: OpenSegment,
    pub cuts: Vec<Cut>,
    pub rows: RowMap,
    /// Where each record is, and the chain checksum that it carries.
    pub places: BTreeMap<Lsn, (Paddr, Crc)>,
    pub images: Vec<(TreeKind, u8, NodePtr)>,
    pub parts: [BodyPart; 2],
    journal_segments: Vec<JournalSegment>,
    segments: BTreeMap<SegmentId, (Incarnation, StreamKind)>,
    live: BTreeMap<SegmentId, i64>,
    collections: BTreeMap<CollectionId, (u64, Tally)>,
    free: u32,
}

impl Shard {
    /// A formatted shard of a store that it has for itself.
    pub fn new() -> Self {
        Self::on(Disk::new(1), ShardId(0), 1)
    }

    /// A formatted shard that takes segments from `first` on.
    pub fn on(mut disk: Disk, shard: ShardId, first: u32) -> Self {
        let mut open = |segment, stream| disk.open(shard, SegmentId(segment), Incarnation(1), stream);
        let journal = open(first, StreamKind::Journal);
        let nodes = open(first + 1, StreamKind::Nodes);
        let bulk = open(first + 2, StreamKind::Bulk);
        let segments = [&journal, &nodes, &bulk].map(|open| (open.segment, (open.incarnation, open.stream)));
        let part = BodyPart { at: Paddr::default(), bytes: 0, crc: Crc(0) };
        let mut shard = Self {
            epoch: Epoch(1),
            sequence: 0,
            lsn: Lsn(1),
            previous: Crc(0),
            next: None,
            cuts: vec![Cut {
                lsn: Lsn(1),
                epoch: Epoch(1),
                at: journal.at(),
                incarnation: journal.incarnation,
            }],
            rows: RowMap::new(),
            places: BTreeMap::new(),
            images: Vec::new(),
            parts: [part; 2],
            journal_segments: vec![JournalSegment {
                segment: journal.segment,
                incarnation: journal.incarnation,
                first: Lsn(1),
            }],
            segments: segments.into(),
            live: BTreeMap::new(),
            collections: BTreeMap::new(),
            free: first + 3,
            disk,
            id: shard,
            journal,
            nodes,
            bulk,
        };
        shard.checkpoint();
        shard
    }

    /// Takes a fresh segment for a stream.
    pub fn fresh(&mut self, stream: StreamKind) -> OpenSegment {
        let segment = SegmentId(self.free);
        self.free += 1;
        self.segments.insert(segment, (Incarnation(1), stream));
        self.disk.open(self.id, segment, Incarnation(1), stream)
    }

    /// Logs one record.
    pub fn record(&mut self, fill: impl FnOnce(&mut Record)) {
        let builder = self.disk.record(self.journal.at());
        let mut record = Record {
            builder,
            shard: self.id,
            deltas: Vec::new(),
            extra: Vec::new(),
            listed: Vec::new(),
            collections: Vec::new(),
        };
        if self.next.is_none() {
            let next = self.fresh(StreamKind::Journal);
            self.next = Some((next.segment, next.incarnation));
            record.claim(&next);
        }
        fill(&mut record);
        for collection in &record.collections {
            self.collections.insert(*collection, (1, Tally::default()));
        }
        let (live, usage) = self.apply(&record.deltas);
        let Record { mut builder, extra, listed, .. } = record;
        builder.entries().extend(extra);
        if !live.is_empty() {
            EntryRef::Live(live.into_iter().collect()).encode(builder.entries());
        }
        if let Some((next_id, tally)) = self.collections.get_mut(&COLLECTION) {
            let change = tally_of(usage);
            *next_id = (*next_id).max(64);
            tally.add(&change);
            EntryRef::Tally { collection: COLLECTION, next_id: *next_id, change }.encode(builder.entries());
        }
        let place = RecordPlace {
            shard: self.id,
            stream: StreamKind::Journal,
            epoch: self.epoch,
            incarnation: self.journal.incarnation,
            number: self.lsn.0,
            previous: self.previous,
        };
        let header = self.disk.close(builder, place);
        for listed in &listed {
            self.journal.list(listed);
        }
        self.places.insert(self.lsn, (header.at, self.previous));
        self.journal.appended(header.record_bytes as usize);
        self.previous = header.crc;
        self.lsn = self.lsn.next();
    }

    /// Changes the rows; what that does to live bytes and usage.
    fn apply(&mut self, deltas: &[(TreeKind, Vec<u8>, Change)]) -> (BTreeMap<SegmentId, i64>, Usage) {
        let mut live: BTreeMap<SegmentId, i64> = BTreeMap::new();
        let mut usage = Usage::default();
        for (tree, key, change) in deltas {
            let row = (*tree, key.clone());
            let old = self.rows.remove(&row);
            // What is planted need not make sense; then it counts for nothing.
            let Ok(new) = apply(old.as_deref(), change) else { continue };
            for (value, sign) in [(&old, -1), (&new, 1)] {
                let Some(value) = value else { continue };
                for piece in pieces_of_row(*tree, key, value).into_iter().flatten() {
                    *live.entry(piece.at.segment).or_default() += sign * i64::from(piece.bytes);
                }
                let of_row = usage_of_row(*tree, key, value).unwrap_or_default();
                usage = if sign > 0 { usage.plus(of_row) } else { usage.minus(of_row) };
            }
            self.rows.extend(new.map(|new| (row, new)));
        }
        for (segment, change) in &live {
            *self.live.entry(*segment).or_default() += change;
        }
        (live, usage)
    }

    /// Seals the journal's segment and goes on in the next.
    pub fn roll(&mut self) {
        self.disk.seal(&self.journal);
        let (segment, incarnation) = self.next.take().expect("the first record claimed it");
        self.journal =
            OpenSegment::new(&self.disk.layout, segment, incarnation, StreamKind::Journal, Crc::default());
        self.journal_segments.push(JournalSegment { segment, incarnation, first: self.lsn });
    }

    /// Seals the segment of a stream and goes on in another if there is no room for a record with that much data. The
    /// checkpoint that follows claims it.
    fn make_room(&mut self, stream: StreamKind, bytes: usize) {
        let open = if stream == StreamKind::Nodes { &self.nodes } else { &self.bulk };
        if open.room(256) < bytes + 2 * 4096 {
            self.disk.seal(open);
            let fresh = self.fresh(stream);
            *(if stream == StreamKind::Nodes { &mut self.nodes } else { &mut self.bulk }) = fresh;
        }
    }

    /// Writes data to the bulk stream, for the row `key`.
    pub fn bulk(&mut self, key: &[u8], data: &[u8]) -> Paddr {
        let mut record = self.disk.record(self.bulk.at());
        let at = record.place(&[data], Summing::Whole).at;
        let bytes = u32::try_from(data.len()).expect("a piece is small");
        let what = ListedWhat::Piece { pool: POOL, key: key.to_vec() };
        self.disk.append(self.id, &mut self.bulk, record, &[Listed { offset: at.offset, bytes, what }]);
        at
    }

    pub fn checkpoint(&mut self) {
        self.checkpoint_with(Edits::default());
    }

    /// Makes the present rows the published ones.
    pub fn checkpoint_with(&mut self, mut edits: Edits) {
        self.images.clear();
        let roots: Roots = TreeKind::ALL.map(|tree| self.write_tree(tree, &mut edits.image));
        for stream in [StreamKind::Nodes, StreamKind::Bulk] {
            self.make_room(stream, 2 * 4096);
        }
        let mut live = self.live.clone();
        for (_, _, node) in &self.images {
            *live.entry(node.at.segment).or_default() += i64::from(self.disk.layout.node_bytes);
        }
        let state = |(id, (next_id, tally)): (&CollectionId, &(u64, Tally))| CollectionState {
            id: *id,
            term: Term(1),
            next_id: *next_id,
            tally: *tally,
            roots: if *id == COLLECTION { roots } else { Roots::default() },
        };
        let segment =
            |(segment, (incarnation, stream)): (&SegmentId, &(Incarnation, StreamKind))| SegmentState {
                segment: *segment,
                incarnation: *incarnation,
                stream: Some(*stream),
                age: 0,
                live: live.get(segment).copied().unwrap_or_default(),
            };
        let start = edits.start.unwrap_or(self.lsn);
        let (start_at, start_previous) =
            self.places.get(&start).copied().unwrap_or((self.journal.at(), self.previous));
        let first = self
            .journal_segments
            .iter()
            .rposition(|journal| journal.segment == start_at.segment && journal.first <= start);
        let mut body = Body {
            end: self.lsn,
            epoch: self.epoch,
            start,
            start_at,
            start_previous,
            clock: 0,
            journal: self.journal_segments[first.expect("the window begins in a journal segment")..].to_vec(),
            next: self.next,
            collections: self.collections.iter().map(state).collect(),
            segments: self.segments.iter().map(segment).collect(),
        };
        (edits.body)(&mut body);
        let bytes = body.encode();
        let mut second = bytes.clone();
        (edits.second_copy)(&mut second);
        self.parts =
            [self.write_part(StreamKind::Nodes, &bytes), self.write_part(edits.second_stream, &second)];
        self.sequence += 1;
        let head = *self.cuts.last().expect("every mount cuts");
        self.cuts.retain(|cut| cut.lsn >= start || *cut == head);
        for which in &edits.slots {
            let mut slot = Slot {
                shard: self.id,
                sequence: self.sequence,
                epoch: self.epoch,
                end: self.lsn,
                durable: self.lsn,
                cuts: self.cuts.clone(),
                body: self.parts.map(|part| vec![part]),
            };
            (edits.slot)(*which, &mut slot);
            self.disk.write_at(self.disk.layout.slot(self.id, *which), &slot.encode(&IDENTITY));
        }
    }

    fn write_part(&mut self, stream: StreamKind, body: &[u8]) -> BodyPart {
        let open = if stream == StreamKind::Nodes { &mut self.nodes } else { &mut self.bulk };
        let mut record = self.disk.record(open.at());
        let at = record.place(&[body], Summing::Whole).at;
        let bytes = u32::try_from(body.len()).expect("a body is small");
        let what = ListedWhat::Body { lsn: self.lsn, index: 0 };
        self.disk.append(self.id, open, record, &[Listed { offset: at.offset, bytes, what }]);
        BodyPart { at, bytes, crc: Crc::of(body) }
    }

    fn write_tree(
        &mut self,
        tree: TreeKind,
        edit: &mut dyn FnMut(TreeKind, u8, &mut Vec<u8>),
    ) -> Option<NodePtr> {
        let mut nodes = Memory::default();
        let mut built = Tree::new(None, self.disk.layout.node_bytes as usize);
        for ((_, key), value) in self.rows.iter().filter(|((of, _), _)| *of == tree) {
            built.insert(&mut nodes, key, value).expect("all nodes are in memory");
        }
        for node in built.memory_nodes(&nodes).expect("all nodes are in memory") {
            let mut image = nodes.node_mut(node.ptr).image().to_vec();
            edit(tree, node.level, &mut image);
            self.make_room(StreamKind::Nodes, image.len());
            let mut record = self.disk.record(self.nodes.at());
            let at = record.place(&[&image], Summing::Whole).at;
            // The level as the image has it, which may be edited.
            let what = ListedWhat::Image { pool: POOL, tree, level: image[5], first_key: node.lower.clone() };
            let listed = Listed { offset: at.offset, bytes: self.disk.layout.node_bytes, what };
            self.disk.append(self.id, &mut self.nodes, record, &[listed]);
            let ptr = NodePtr::image(at, Crc::of(&image));
            built
                .set_image(&mut nodes, node.level, &node.lower, node.ptr, ptr)
                .expect("all nodes are in memory");
            nodes.images.insert(ptr.at, nodes.memory[node.ptr.at.offset as usize].clone());
            self.images.push((tree, node.level, ptr));
        }
        built.root()
    }
}

fn tally_of(usage: Usage) -> Tally {
    let Usage { objects, stored, allocated, compressed, omap, metadata, .. } = usage;
    Tally { objects, stored, allocated, compressed, omap, metadata }
}

/// Keeps the pages of a tree that is being built.
#[derive(Default)]
struct Memory {
    memory: Vec<Page>,
    images: BTreeMap<Paddr, Page>,
}

impl Nodes for Memory {
    fn node(&self, ptr: NodePtr) -> Result<&Page, Stop> {
        let page =
            if ptr.is_image() { self.images.get(&ptr.at) } else { self.memory.get(ptr.at.offset as usize) };
        page.ok_or(Stop::Absent(ptr))
    }
}

impl NodesMut for Memory {
    fn node_mut(&mut self, ptr: NodePtr) -> &mut Page {
        &mut self.memory[ptr.at.offset as usize]
    }

    fn add(&mut self, page: Page, _: Option<NodePtr>) -> NodePtr {
        self.memory.push(page);
        NodePtr::memory(u32::try_from(self.memory.len() - 1).expect("few nodes"))
    }

    fn detach(&mut self, ptr: NodePtr) -> NodePtr {
        assert!(!ptr.is_image(), "nodes are written when the tree is complete");
        ptr
    }

    fn drop_node(&mut self, _: NodePtr, _: Option<NodePtr>) {
        unreachable!("rows are only inserted")
    }
}
