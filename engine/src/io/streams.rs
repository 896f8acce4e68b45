//! Streams: the open segments beside the journal, and appending to them: node images, bulk data, checkpoint bodies.
//!
//! A record of these streams is written without waiting for the journal, and what refers to it waits for it (rule L2). Node
//! images are gathered into records of up to 16, so that the header block is shared: their addresses are final when they are
//! placed, the record is written when it is full or when a checkpoint needs it. Bulk data and bodies are one record each,
//! written at once.
//!
//! A write that fails says nothing about what is on the medium, so what it held is written again elsewhere, up to three
//! times, and its segment is quarantined (`table`). An image has another address then: nodes above it that were written are
//! written again too, and a checkpoint whose images moved while it waited for them is begun anew.
//!
//! A checkpoint places the images of all nodes that have none in one moment, which may be thousands. Of their records, and of
//! the headers and inventories of the segments that they fill, so many are written at a time ([`BACKGROUND_WRITES_MAX`]), or a
//! slow device would have hundreds in its queue before what users wait for.
//!
//! Claims and seals are logged as they happen; they only tell the table (rule L5).
//!
//! Crash: what no durable record or checkpoint points to is dead bytes.
//! Cost: one 4 KiB header per record: 2 % of 16 images of 16 KiB, 0.4 % of 1 MiB of bulk data.

use std::rc::Rc;

use rustc_hash::FxHashSet;
use seabed_btree::{Stop, Tree};
use seabed_device::{Class, Durability, WriteBuf, WriteOpts};
use seabed_journal::entry::SMALL_ENTRY_BYTES;
use seabed_journal::{Journal, Need};
use seabed_segment::{
    Listed, ListedWhat, OpenSegment, Placed, RecordBuilder, RecordPlace, StreamKind, Summing, packed_bytes,
    record_bytes_of,
};
use seabed_types::{NodePtr, SegmentId, TreeKind};

use crate::io::mount_device::RELOCATED_DATA;
use crate::maintain::clean::age_for;
use crate::rows::node_cache::Cache;
use crate::rows::slot;
use crate::rows::view::Wanted;
use crate::shard::mounted::{Mounted, OpGuard};
use crate::space::segments::{Claim, Claimer, SegmentTable};
use crate::{Error, Result};
use seabed_journal::CollectionId;

/// Images of one record.
pub(crate) const IMAGES_PER_RECORD: usize = 16;
/// Writes of images, and of what segments begin and end with, that the device has at a time.
pub(crate) const BACKGROUND_WRITES_MAX: usize = 16;
/// How often bytes are written, each time elsewhere, before whoever wrote them fails.
pub(crate) const WRITE_TRIES: u32 = 3;

/// Most age classes of relocated data; each in use has an open segment.
const AGE_CLASSES_MAX: usize = seabed_cleaner::classes::GROUPS_MAX as usize;

/// An open segment beside the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    /// Images of nodes, and checkpoint bodies.
    Nodes,
    /// Data of large writes, and checkpoint bodies.
    Bulk,
    /// Data that the cleaner has moved, by age class. On the device these are segments of the bulk stream.
    Relocated {
        /// Which of the classes.
        class: usize,
    },
}

impl Stream {
    const fn kind(self) -> StreamKind {
        match self {
            Self::Nodes => StreamKind::Nodes,
            Self::Bulk | Self::Relocated { .. } => StreamKind::Bulk,
        }
    }
}

/// The streams of a shard beside its journal.
#[derive(Default)]
pub(crate) struct Streams {
    nodes: Option<OpenSegment>,
    bulk: Option<OpenSegment>,
    /// By age class.
    relocated: [Option<OpenSegment>; AGE_CLASSES_MAX],
    images: Option<ImageRecord>,
    /// Records of images that are on their way.
    in_flight: usize,
    /// How often a write of images failed, or images were placed again because of that.
    pub(crate) moved: u64,
    /// Images that no checkpoint has published; each holds its segment.
    pub(crate) unpublished: FxHashSet<NodePtr>,
    /// Published images that are no node's image any more.
    pub(crate) dead: Vec<NodePtr>,
    /// Dead images that a checkpoint took off the live bytes before it failed for lack of space.
    pub(crate) dead_uncounted: Vec<(SegmentId, u32)>,
}

/// A record of images that is being filled.
struct ImageRecord {
    record: RecordBuilder,
    images: Vec<PlacedImage>,
    /// How often writes of what is in it failed.
    failures: u32,
    /// The claimer for its images if its write fails.
    claimer_again: Claimer,
}

/// An image on its way, and the node that it is of.
struct PlacedImage {
    ptr: NodePtr,
    id: CollectionId,
    tree: TreeKind,
    level: u8,
    lower: Vec<u8>,
}

/// The outcome of placing a node's image.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ImagePlaced {
    Yes,
    NoSpace,
    /// The shard does not have the node's collection any more.
    Gone,
}

/// Makes sure that the nodes above a node are in memory; the end of its interval if it is a leaf.
fn way_above(
    of: &Tree,
    cache: &Cache,
    level: u8,
    lower: &[u8],
) -> std::result::Result<Option<Vec<u8>>, Stop> {
    of.node_at(cache, level, lower)?;
    if level > 0 {
        return Ok(None);
    }
    Ok(of.leaf_of(cache, lower)?.and_then(|leaf| leaf.upper))
}

/// A hold on a segment; ends when dropped.
pub(crate) struct Hold {
    table: Rc<SegmentTable>,
    segment: SegmentId,
}

impl Hold {
    pub(crate) fn new(table: &Rc<SegmentTable>, segment: SegmentId) -> Self {
        table.hold(segment);
        Self { table: Rc::clone(table), segment }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.table.unhold(self.segment);
    }
}

/// A piece to append, and what the record's list says of it (its offset and bytes are filled in).
pub(crate) struct Append<'a> {
    pub(crate) what: ListedWhat,
    pub(crate) parts: &'a [&'a [u8]],
    pub(crate) summing: Summing,
}

impl Append<'_> {
    /// Bytes of the piece.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

/// A record that was appended: where its pieces are, a hold on its segment, and its write, already under way when polled.
pub(crate) struct Appended {
    pub(crate) placed: Vec<Placed>,
    pub(crate) hold: Hold,
    pub(crate) written: seabed_device::Local<std::result::Result<(), seabed_device::DeviceError>>,
}

fn listed_bytes(what: &ListedWhat) -> usize {
    SMALL_ENTRY_BYTES
        + match what {
            ListedWhat::Piece { key, .. } => key.len(),
            ListedWhat::Image { first_key, .. } => first_key.len(),
            ListedWhat::Body { .. } => 0,
        }
}

impl Streams {
    /// Bytes of records that the open segment of the node stream still takes.
    pub(crate) fn nodes_room(&self) -> usize {
        self.nodes.as_ref().map_or(0, |open| open.room(0))
    }

    fn open(&mut self, stream: Stream) -> &mut Option<OpenSegment> {
        match stream {
            Stream::Nodes => &mut self.nodes,
            Stream::Bulk => &mut self.bulk,
            Stream::Relocated { class } => &mut self.relocated[class],
        }
    }

    /// Bytes that are left for records in the open segment of a stream.
    pub(crate) fn room(&mut self, of: Stream) -> usize {
        self.open(of).as_ref().map_or(0, |open| open.room(0))
    }

    /// The segments of data that take records, and what takes them.
    fn open_data(&mut self) -> impl Iterator<Item = &mut Option<OpenSegment>> {
        std::iter::once(&mut self.bulk).chain(&mut self.relocated)
    }
}

impl Mounted {
    /// Leaves the open segments as they are: claims that were not logged are no more than what the checkpoint says of them.
    pub(crate) fn leave_streams(&self) {
        let streams = &mut *self.streams.borrow_mut();
        assert!(streams.images.is_none() && streams.in_flight == 0, "a checkpoint has written all images");
        let nodes = streams.nodes.take();
        let data: Vec<_> = streams.open_data().filter_map(Option::take).collect();
        for open in nodes.into_iter().chain(data) {
            self.table.seal(open.segment);
        }
    }

    /// Logs the claims that were not, and that no checkpoint says of: until they are durable their segments are held.
    pub(crate) fn log_claims(&self) {
        for Claim { segment, incarnation, stream, age } in self.table.take_unlogged() {
            let need = Need { entries: SMALL_ENTRY_BYTES, ..Need::default() };
            let join = |journal: &Rc<Journal>| {
                journal.join(&need, |joined| joined.claim(segment, incarnation, stream, age)).ok()
            };
            let joined = self.journal.as_ref().and_then(join);
            self.table.logged_in(segment, joined.map(|(lsn, ())| lsn));
        }
    }

    /// Makes sure that the stream's open segment has room for a record of `bytes` that lists `listed` bytes. False: no
    /// segment could be claimed for it.
    fn make_room(
        self: &Rc<Self>,
        streams: &mut Streams,
        of: Stream,
        (bytes, listed): (usize, usize),
        claimer: Claimer,
        reserve: usize,
    ) -> bool {
        let stream = of.kind();
        let open = streams.open(of);
        if open.as_ref().is_some_and(|open| open.room(listed) >= bytes) {
            return true;
        }
        let age = match of {
            Stream::Relocated { class } => age_for(class, self.table.clock()),
            Stream::Nodes | Stream::Bulk => self.table.clock(),
        };
        let Some((segment, incarnation)) = self.table.claim(stream, reserve, age) else { return false };
        if claimer == Claimer::Clean {
            self.clean.claimed.set(self.clean.claimed.get() + 1);
        }
        let mut logged_in = None;
        if claimer.is_logged()
            && let Some(journal) = &self.journal
        {
            let need = Need { entries: 2 * SMALL_ENTRY_BYTES, ..Need::default() };
            let joined = journal.join(&need, |joined| {
                joined.claim(segment, incarnation, stream, age);
                if let Some(full) = &open {
                    joined.seal(full.segment);
                }
            });
            // Nothing may be written into a segment whose claim is not in the log (rule L5).
            let Ok((lsn, ())) = joined else {
                self.table.give_back(segment);
                return false;
            };
            logged_in = Some(lsn);
        }
        self.table.claimed_in(segment, logged_in);
        let (_, header_crc) = self.header_of(segment, incarnation, stream);
        let fresh = OpenSegment::new(&self.layout, segment, incarnation, stream, header_crc);
        assert!(fresh.room(listed) >= bytes, "records are at most a quarter of a segment");
        let full = open.replace(fresh);
        if let Some(full) = full {
            if let Some(ends) = full.seal(&self.identity) {
                self.write_aside(full.segment, ends.into(), stream);
            }
            self.table.seal(full.segment);
        }
        self.write_segment_ends();
        true
    }

    /// Appends one record of these pieces to a stream and begins to write it. None: no segment could be claimed.
    pub(crate) fn append(
        self: &Rc<Self>,
        stream: Stream,
        pieces: &[Append<'_>],
        durability: Durability,
        claimer: Claimer,
    ) -> Option<Appended> {
        let reserve = self.reserve_against(claimer);
        let streams = &mut *self.streams.borrow_mut();
        if stream == Stream::Nodes {
            self.write_images(streams);
        }
        let listed: usize = pieces.iter().map(|piece| listed_bytes(&piece.what)).sum();
        let packed = packed_bytes(pieces.iter().map(Append::bytes));
        let bytes_max = record_bytes_of(packed, listed);
        if !self.make_room(streams, stream, (bytes_max, listed), claimer, reserve) {
            return None;
        }
        let open = streams.open(stream).as_mut().expect("there is room in it");
        let device = Rc::clone(&self.machine.device);
        let mut record = RecordBuilder::new(device, open.at(), bytes_max, bytes_max);
        let mut placed = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let place = record.place(piece.parts, piece.summing);
            let bytes = u32::try_from(piece.bytes()).expect("within a record");
            let listed = Listed { offset: place.at.offset, bytes, what: piece.what.clone() };
            if !seabed_types::seeded!(7) {
                listed.encode(record.entries());
            }
            open.list(&listed);
            placed.push(place);
        }
        let hold = Hold::new(&self.table, open.segment);
        let class = if claimer == Claimer::User { Class::Foreground } else { Class::Background };
        let (at, buf, mut opts) = self.close_record(open, record, durability, class);
        if matches!(stream, Stream::Relocated { .. }) {
            opts.stream = RELOCATED_DATA;
        }
        if claimer == Claimer::User {
            self.table.advance_clock(buf.len());
            self.clean.wrote(buf.len());
        }
        let written = self.machine.device.write(at, buf, opts);
        Some(Appended { placed, hold, written })
    }

    /// Nothing more goes into a segment in which a write failed.
    pub(crate) fn give_up_segment(self: &Rc<Self>, hold: &Hold, error: seabed_device::DeviceError) {
        let segment = hold.segment;
        tracing::warn!(%error, %segment, "a write failed: its bytes go elsewhere");
        self.table.quarantine(segment);
        let streams = &mut *self.streams.borrow_mut();
        let data = (0..AGE_CLASSES_MAX).map(|class| Stream::Relocated { class });
        for stream in [Stream::Nodes, Stream::Bulk].into_iter().chain(data) {
            if streams.open(stream).as_ref().is_some_and(|open| open.segment == segment) {
                if stream == Stream::Nodes {
                    // Images that were placed here have to be tried here.
                    self.write_images(streams);
                }
                *streams.open(stream) = None;
                self.table.seal(segment);
            }
        }
    }

    /// Ends a record of an open segment: what is to be written, and where.
    fn close_record(
        &self,
        open: &mut OpenSegment,
        record: RecordBuilder,
        durability: Durability,
        class: Class,
    ) -> (u64, Rc<WriteBuf>, WriteOpts) {
        let place = RecordPlace {
            shard: self.id,
            stream: open.stream,
            epoch: self.epoch,
            incarnation: open.incarnation,
            number: open.records(),
            previous: open.header_crc,
        };
        let (buf, header) = record.close(&self.identity, place);
        open.appended(buf.len());
        let opts = WriteOpts { durability, class, stream: open.stream as u8 };
        (self.layout.device_offset(header.at), buf, opts)
    }

    /// Makes an image of a node that is in memory, with the nodes above it, and gives it its new pointer. A leaf's pending changes are in the image and are forgotten.
    pub(crate) fn place_image(
        self: &Rc<Self>,
        id: CollectionId,
        tree: TreeKind,
        (level, lower, upper): (u8, &[u8], Option<&[u8]>),
        old: NodePtr,
        claimer: Claimer,
    ) -> ImagePlaced {
        let reserve = self.reserve_against(claimer);
        let streams = &mut *self.streams.borrow_mut();
        let rows = &mut *self.rows.borrow_mut();
        let Some(collection) = rows.collections.get_mut(&id) else { return ImagePlaced::Gone };
        let node_bytes = rows.node_bytes;
        let what = ListedWhat::Image { pool: id.pool, tree, level, first_key: lower.to_vec() };
        let listed = listed_bytes(&what);
        let open = streams.images.as_ref();
        let fits = open.is_some_and(|open| {
            open.images.len() < IMAGES_PER_RECORD
                && open.record.fits(node_bytes, listed)
                && streams
                    .nodes
                    .as_ref()
                    .is_some_and(|segment| segment.room(listed) >= open.record.bytes_with(node_bytes, listed))
        });
        if !fits {
            self.write_images(streams);
            let first = record_bytes_of(node_bytes, listed);
            if !self.make_room(streams, Stream::Nodes, (first, listed), claimer, reserve) {
                return ImagePlaced::NoSpace;
            }
            let at = streams.nodes.as_ref().expect("there is room in it").at();
            let device = Rc::clone(&self.machine.device);
            let record = RecordBuilder::new(device, at, self.layout.record_bytes_max(), 8 * node_bytes);
            streams.images = Some(ImageRecord {
                record,
                images: Vec::new(),
                failures: 0,
                claimer_again: claimer.for_another_try(),
            });
        }
        let open = streams.images.as_mut().expect("opened above");
        let page = rows.cache.page_mut(old).expect("an image is made of a node in memory");
        let placed = open.record.place(&[page.image()], Summing::Whole);
        let new = NodePtr::image(placed.at, placed.crcs[0]);
        let bytes = u32::try_from(node_bytes).expect("at most 64 KiB");
        let listed = Listed { offset: placed.at.offset, bytes, what };
        listed.encode(open.record.entries());
        streams.nodes.as_mut().expect("there is room in it").list(&listed);
        open.images.push(PlacedImage { ptr: new, id, tree, level, lower: lower.to_vec() });
        let set = collection.trees[slot(tree)].set_image(&mut rows.cache, level, lower, old, new);
        assert_eq!(set, Ok(true), "the nodes above a node that is written are in memory");
        rows.cache.imaged(old, new);
        if level == 0 {
            collection.pending[slot(tree)].imaged(lower, upper, &mut rows.ages);
        }
        self.table.hold(new.at.segment);
        streams.unpublished.insert(new);
        self.trim.logged_again.borrow_mut().remove(&old);
        self.counters.count(|stats| stats.images_written += 1);
        for released in rows.cache.take_released() {
            self.release_image(streams, released);
        }
        ImagePlaced::Yes
    }

    /// An image is no node's image any more: dead at once if no checkpoint names it, else with the next one.
    fn release_image(&self, streams: &mut Streams, image: NodePtr) {
        if streams.unpublished.remove(&image) {
            self.table.unhold(image.at.segment);
        } else {
            streams.dead.push(image);
        }
    }

    /// Notes the images that changes of structure released.
    pub(crate) fn note_released(&self) {
        let released = self.rows.borrow_mut().cache.take_released();
        if !released.is_empty() {
            let streams = &mut *self.streams.borrow_mut();
            for image in released {
                self.release_image(streams, image);
            }
        }
    }

    /// Begins to write the images that were gathered: at once, or when few enough others are on their way.
    fn write_images(self: &Rc<Self>, streams: &mut Streams) {
        let Some(ImageRecord { record, images, failures, claimer_again }) = streams.images.take() else {
            return;
        };
        let open = streams.nodes.as_mut().expect("images are gathered in an open segment");
        let hold = Hold::new(&self.table, open.segment);
        let (at, buf, opts) = self.close_record(open, record, Durability::Cached, Class::Background);
        streams.in_flight += 1;
        let shard = Rc::clone(self);
        self.spawn(Class::Background, async move {
            let turn =
                if seabed_types::seeded!(14) { None } else { Some(shard.background_writes.acquire(1).await) };
            let written = shard.machine.device.write(at, buf, opts).await;
            drop(turn);
            match written.or_else(|error| if seabed_types::seeded!(34) { Ok(()) } else { Err(error) }) {
                Ok(()) => {
                    let mut rows = shard.rows.borrow_mut();
                    for image in images {
                        rows.cache.written(image.ptr);
                    }
                }
                Err(error) => {
                    shard.give_up_segment(&hold, error);
                    // A checkpoint may wait for this image whose node has changed since: it is not placed again, and the
                    // checkpoint must not name it.
                    if !seabed_types::seeded!(88) {
                        shard.streams.borrow_mut().moved += 1;
                    }
                    if failures + 1 >= WRITE_TRIES
                        || shard.place_again(images, failures + 1, claimer_again).await.is_err()
                    {
                        shard.fence(error);
                    }
                }
            }
            shard.streams.borrow_mut().in_flight -= 1;
            drop(hold);
            shard.trim.images.notify_all();
        });
    }

    /// Places images elsewhere whose write failed, as far as they are still their nodes' images, and begins to write them.
    async fn place_again(
        self: &Rc<Self>,
        images: Vec<PlacedImage>,
        failures: u32,
        claimer: Claimer,
    ) -> Result<()> {
        self.write_images(&mut self.streams.borrow_mut());
        for PlacedImage { ptr, id, tree, level, lower } in images {
            let mut guard = OpGuard::new(self);
            loop {
                // An image whose write has not ended is given up by a change of its node only, never evicted.
                if !self.rows.borrow().cache.has(ptr) {
                    break;
                }
                let above = {
                    let rows = self.rows.borrow();
                    let Ok(of) = rows.tree(id, tree) else { break };
                    way_above(of, &rows.cache, level, &lower)
                };
                match above {
                    Ok(upper) => {
                        let bounds = (level, lower.as_slice(), upper.as_deref());
                        match self.place_image(id, tree, bounds, ptr, claimer) {
                            ImagePlaced::Yes => {}
                            ImagePlaced::NoSpace => return Err(self.no_space()),
                            ImagePlaced::Gone => break,
                        }
                        let streams = &mut *self.streams.borrow_mut();
                        seabed_types::reached!(ImagesMoved);
                        streams.moved += 1;
                        if let Some(record) = &mut streams.images {
                            record.failures = record.failures.max(failures);
                        }
                        break;
                    }
                    Err(Stop::Absent(node)) => {
                        self.load(id, vec![Wanted::Node(tree, node)], &mut guard).await?;
                    }
                    Err(_) => {
                        return Err(Error::corrupt(ptr.at, "the way to a node"));
                    }
                }
            }
        }
        self.write_images(&mut self.streams.borrow_mut());
        Ok(())
    }

    /// Waits until all images that were placed are on the device (not yet flushed).
    pub(crate) async fn images_written(self: &Rc<Self>) -> Result<()> {
        self.write_images(&mut self.streams.borrow_mut());
        self.trim.images.until(|| self.streams.borrow().in_flight == 0).await;
        self.journal()?.healthy().map_err(Error::from)
    }

    /// Waits while more than a few records of images are on their way.
    pub(crate) async fn images_in_bounds(&self) {
        self.trim.images.until(|| self.streams.borrow().in_flight < 8).await;
    }
}
