//! The user of the journal: a toy store of 16 keys, hand-written, as small as the rules of the journal allow.
//!
//! It keeps its whole state in memory, in the order of the log, and in each checkpoint body. What an engine gets wrong
//! it could get wrong too, so it does the least: a checkpoint now and then, a mount that reads slots, body and window.
//! Data pieces are only looked at while their record is in the window.
//!
//! Not here: who drives it and what is expected ([`super`]); reading it again ([`super::mount`]).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use seabed_device::local::Notify;
use seabed_device::{Class, DeviceError, Durability, Machine, WriteOpts};
use seabed_journal::entry::delta_bytes_max;
use seabed_journal::{
    Body, BodyPart, ChangeRef, CollectionId, CollectionState, Journal, JournalError, LogCut, Need,
    SegmentState, Settled, Slot, Space, Tally, cuts_of_window,
};
use seabed_segment::{Identity, Layout, OpenSegment, SlotCopy, StreamKind, Summing};
use seabed_types::{
    BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, Paddr, PoolId, SegmentId, ShardId, Term, TreeKind, Uuid,
    round_up_to_block,
};

/// The store that all runs use.
pub(super) const IDENTITY: Identity = Identity { uuid: Uuid([7; 16]), secret: [9; 16] };
/// The one shard.
pub(super) const SHARD: ShardId = ShardId(0);
/// Its sizes: room for 40 segments, of which the user takes [`SEGMENTS`].
pub(super) const LAYOUT: Layout =
    Layout { device_bytes: 44 * (64 << 10), segment_bytes: 64 << 10, node_bytes: 4096, shards: 1 };
/// Few segments are used, so that each is reused soon.
pub(super) const SEGMENTS: std::ops::Range<u32> = 1..15;
const POOL: PoolId = PoolId(1);
const VALUE_BYTES: usize = 28;

/// What a key holds: who set it, and the piece of data that was logged with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Value {
    /// The transaction's place in the log, from 1.
    pub(super) number: u64,
    /// Unlike that of every other transaction that was ever tried.
    pub(super) stamp: u64,
    /// Its piece: address, bytes, checksum. 0 bytes: none.
    pub(super) piece: (Paddr, u32, Crc),
}

impl Value {
    fn encode(&self) -> [u8; VALUE_BYTES + 4] {
        let mut bytes = [0; VALUE_BYTES + 4];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.stamp.to_le_bytes());
        for (place, word) in [self.piece.0.segment.0, self.piece.0.offset, self.piece.1, self.piece.2.0]
            .into_iter()
            .enumerate()
        {
            bytes[16 + 4 * place..20 + 4 * place].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads a value back.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..at + 4)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..at + 8)?.first_chunk()?));
        let at = Paddr::new(SegmentId(word(16)?), word(20)?);
        Some(Self { number: long(0)?, stamp: long(8)?, piece: (at, word(24)?, Crc(word(28)?)) })
    }
}

/// The state that the log makes: what a recovery is compared by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Shape {
    /// The keys.
    pub(super) map: BTreeMap<u8, Value>,
    /// Transactions so far, counted by tallies (rule C1).
    pub(super) tally: i64,
    /// Live bytes by segment, made up (rule C1); never 0.
    pub(super) live: BTreeMap<SegmentId, i64>,
}

impl Shape {
    /// The newest transaction in it.
    pub(super) fn number(&self) -> u64 {
        self.map.values().map(|value| value.number).max().unwrap_or(0)
    }
}

/// One transaction.
#[derive(Clone, Debug)]
pub(super) struct Toy {
    /// Keys, and how many bytes of data go with each.
    pub(super) sets: Vec<(u8, usize)>,
    /// Made-up changes of live bytes.
    pub(super) live: Vec<(SegmentId, i64)>,
}

/// Bytes of a piece: a stamp in every 8 bytes, so that those of another are told.
pub(super) fn stamped(stamp: u64, key: u8, bytes: usize) -> Vec<u8> {
    let word = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(key);
    (0..bytes.div_ceil(8) as u64).flat_map(|i| (word ^ i).to_le_bytes()).take(bytes).collect()
}

/// The free segments; the [`Space`] of the journal.
pub(super) struct FreeList {
    pub(super) free: RefCell<BTreeSet<SegmentId>>,
    pub(super) incarnations: RefCell<BTreeMap<SegmentId, Incarnation>>,
    /// Bytes of each record, as told when it became durable.
    pub(super) settled: RefCell<BTreeMap<Lsn, usize>>,
    pub(super) changed: Notify,
    turn: Cell<u32>,
}

impl FreeList {
    pub(super) fn new(
        free: BTreeSet<SegmentId>,
        incarnations: BTreeMap<SegmentId, Incarnation>,
        turn: u32,
    ) -> Self {
        Self {
            free: RefCell::new(free),
            incarnations: RefCell::new(incarnations),
            settled: RefCell::default(),
            changed: Notify::default(),
            turn: Cell::new(turn),
        }
    }

    fn claim(&self) -> (SegmentId, Incarnation) {
        let mut free = self.free.borrow_mut();
        // The lowest, the highest, in turns: so that some are reused at once and others late.
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let segment = if turn.is_multiple_of(2) { free.pop_first() } else { free.pop_last() };
        let segment = segment.expect("callers wait until there are enough");
        let mut incarnations = self.incarnations.borrow_mut();
        let incarnation = incarnations.entry(segment).or_default();
        *incarnation = incarnation.next();
        (segment, *incarnation)
    }
}

impl Space for FreeList {
    fn clock(&self) -> u64 {
        0
    }

    fn claim_journal(&self) -> Option<(SegmentId, Incarnation)> {
        Some(self.claim())
    }

    fn sealed(&self, _: OpenSegment) {}

    fn settled(&self, settled: Settled) {
        self.settled.borrow_mut().insert(settled.lsn, settled.bytes);
        self.changed.notify_all();
    }
}

/// The user while it serves.
pub(super) struct User {
    pub(super) machine: Machine,
    pub(super) journal: Rc<Journal>,
    pub(super) list: Rc<FreeList>,
    pub(super) shape: RefCell<Shape>,
    /// What the slots say.
    pub(super) slot: RefCell<Slot>,
    /// P.
    pub(super) start: Cell<Lsn>,
    /// Every state that the log has, by number, from the recovered one on.
    pub(super) history: Rc<RefCell<Vec<Shape>>>,
    pub(super) first_number: u64,
    pub(super) stamp: Cell<u64>,
}

/// What a transaction got: its lsn, its number and its pieces.
type Joined = (Lsn, u64, Vec<(Paddr, u32)>);

impl User {
    /// Puts a transaction into the log; all at this moment.
    pub(super) fn join(&self, toy: &Toy) -> Result<Joined, JournalError> {
        let need = Need {
            pieces: seabed_segment::packed_bytes(
                toy.sets.iter().map(|(_, bytes)| *bytes).filter(|bytes| *bytes > 0),
            ),
            piece_count: toy.sets.iter().filter(|(_, bytes)| *bytes > 0).count(),
            entries: toy.sets.len() * delta_bytes_max(1, VALUE_BYTES + 4, 1),
            segments: toy.live.len(),
            piece_keys: toy.sets.len(),
        };
        self.journal.check(&need)?;
        let mut shape = self.shape.borrow_mut();
        let number = self.first_number + self.history.borrow().len() as u64;
        let stamp = self.stamp.replace(self.stamp.get() + 1);
        let mut pieces = Vec::new();
        let (lsn, ()) = self.journal.join(&need, |joined| {
            for (key, bytes) in &toy.sets {
                let mut piece = (Paddr::default(), 0, Crc::default());
                let mut of_delta = Vec::new();
                if *bytes > 0 {
                    let placed = joined.place(&[&stamped(stamp, *key, *bytes)], Summing::Whole);
                    let count = u32::try_from(*bytes).expect("small");
                    piece = (placed.at, count, placed.crcs[0]);
                    of_delta.push((placed.at, count));
                }
                let value = Value { number, stamp, piece };
                joined.delta(
                    (POOL, TreeKind::Bodies),
                    &[*key],
                    ChangeRef::Set(&value.encode()),
                    (&of_delta, &[*key]),
                );
                shape.map.insert(*key, value);
                pieces.extend(of_delta);
            }
            for (segment, change) in &toy.live {
                joined.live(*segment, *change);
                *shape.live.entry(*segment).or_default() += change;
            }
            joined.tally(CollectionId::whole(POOL), 1, &Tally { objects: 1, ..Tally::default() });
            shape.tally += 1;
            shape.live.retain(|_, live| *live != 0);
        })?;
        self.history.borrow_mut().push(shape.clone());
        Ok((lsn, number, pieces))
    }

    /// Where record `lsn`, which is durable, stands: device offset and bytes. None once it left the window.
    pub(super) fn place_of(&self, lsn: Lsn) -> Option<(u64, u64)> {
        if lsn < self.start.get() {
            return None;
        }
        let cut =
            LogCut { lsn: lsn.next(), at: Paddr::default(), segments: Vec::new(), next: None, logged: 0 };
        let bytes = *self.list.settled.borrow().get(&lsn)?;
        Some((LAYOUT.device_offset(self.journal.start_of(lsn, &cut).0), bytes as u64))
    }

    /// Takes a checkpoint as rule C3 says; the window then begins at `start_from(E)`.
    pub(super) async fn checkpoint(
        &self,
        start_from: impl FnOnce(Lsn, Lsn) -> Lsn,
    ) -> Result<(), DeviceError> {
        let cut = self.journal.cut();
        let shape = self.shape.borrow().clone();
        if cut.lsn > Lsn(0) && self.journal.durable(Lsn(cut.lsn.0 - 1)).await.is_err() {
            return Ok(()); // fenced: nothing more is written
        }
        let start = start_from(self.start.get(), cut.lsn);
        let (start_at, start_previous) = self.journal.start_of(start, &cut);
        let mut segments = cut.segments.clone();
        while segments.len() > 1 && segments[1].first <= start {
            segments.remove(0);
        }
        let segments_first = segments.first().expect("the journal has a segment").incarnation;
        let incarnations = self.list.incarnations.borrow().clone();
        let body = Body {
            end: cut.lsn,
            epoch: self.journal.epoch(),
            start,
            start_at,
            start_previous,
            clock: cut.logged,
            journal: segments,
            next: cut.next,
            ..body_of(&shape, &incarnations)
        };
        let copies = [self.list.claim().0, self.list.claim().0];
        let parts = write_body(&self.machine, &framed(&body, &shape), copies).await?;
        let old = self.slot.borrow().clone();
        let slot = Slot {
            shard: SHARD,
            sequence: old.sequence + 1,
            epoch: self.journal.epoch(),
            end: cut.lsn,
            durable: self.journal.durable_below(),
            cuts: cuts_of_window(&old.cuts, start, (start_at, segments_first)),
            body: parts,
        };
        write_slots(&self.machine, &slot, [SlotCopy::A, SlotCopy::B]).await?;
        let mut freed = self.journal.release_before(start, start_at);
        freed.extend(old.body.iter().flatten().map(|part| part.at.segment));
        self.list.free.borrow_mut().extend(freed);
        self.start.set(start);
        *self.slot.borrow_mut() = slot;
        self.list.changed.notify_all();
        Ok(())
    }

    /// States in both slots where the log ends (rule C10).
    pub(super) async fn state_end(&self) -> Result<(), DeviceError> {
        let old = self.slot.borrow().clone();
        let slot = Slot { sequence: old.sequence + 1, durable: self.journal.durable_below(), ..old };
        write_slots(&self.machine, &slot, [SlotCopy::A, SlotCopy::B]).await?;
        *self.slot.borrow_mut() = slot;
        Ok(())
    }

    /// Waits until enough segments are free for the largest transaction and a checkpoint.
    pub(super) async fn space(&self) {
        self.list.changed.until(|| self.list.free.borrow().len() >= 5).await;
    }
}

/// The parts of a body that say what the state is.
pub(super) fn body_of(shape: &Shape, incarnations: &BTreeMap<SegmentId, Incarnation>) -> Body {
    let used: BTreeSet<SegmentId> = incarnations.keys().chain(shape.live.keys()).copied().collect();
    let state = |segment: SegmentId| SegmentState {
        segment,
        incarnation: incarnations.get(&segment).copied().unwrap_or_default(),
        stream: Some(StreamKind::Journal),
        age: 0,
        live: shape.live.get(&segment).copied().unwrap_or(0),
    };
    Body {
        collections: vec![CollectionState {
            id: CollectionId::whole(POOL),
            term: Term(1),
            next_id: 1,
            tally: Tally { objects: shape.tally, ..Tally::default() },
            roots: [None; 3],
        }],
        segments: used.into_iter().map(state).collect(),
        ..Body::default()
    }
}

/// The body's bytes: the journal's body, and behind it the keys.
pub(super) fn framed(body: &Body, shape: &Shape) -> Vec<u8> {
    let encoded = body.encode();
    let mut bytes = u32::try_from(encoded.len()).expect("small").to_le_bytes().to_vec();
    bytes.extend_from_slice(&encoded);
    for (key, value) in &shape.map {
        bytes.push(*key);
        bytes.extend_from_slice(&value.encode());
    }
    bytes
}

/// The opposite of [`framed`].
pub(super) fn unframed(bytes: &[u8]) -> Option<(Body, Shape)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (encoded, keys) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let body = Body::decode(encoded).ok()?;
    let mut shape = Shape { tally: body.collections.first()?.tally.objects, ..Shape::default() };
    let live = body.segments.iter().map(|segment| (segment.segment, segment.live));
    shape.live = live.collect();
    for pair in keys.chunks_exact(1 + VALUE_BYTES + 4) {
        shape.map.insert(pair[0], Value::decode(&pair[1..])?);
    }
    Some((body, shape))
}

/// Writes both copies of a body and waits until they are durable (rule C3).
pub(super) async fn write_body(
    machine: &Machine,
    bytes: &[u8],
    copies: [SegmentId; 2],
) -> Result<[Vec<BodyPart>; 2], DeviceError> {
    let mut parts = [Vec::new(), Vec::new()];
    for (parts, segment) in parts.iter_mut().zip(copies) {
        let at = Paddr::new(segment, 4096);
        write(machine, LAYOUT.device_offset(at), bytes).await?;
        parts.push(BodyPart { at, bytes: u32::try_from(bytes.len()).expect("small"), crc: Crc::of(bytes) });
    }
    machine.device.flush().await?;
    Ok(parts)
}

/// Writes both slots, in this order, with a flush after each.
pub(super) async fn write_slots(
    machine: &Machine,
    slot: &Slot,
    order: [SlotCopy; 2],
) -> Result<(), DeviceError> {
    let block = slot.encode(&IDENTITY);
    for which in order {
        write(machine, LAYOUT.slot(SHARD, which), &block).await?;
        machine.device.flush().await?;
    }
    Ok(())
}

async fn write(machine: &Machine, at: u64, bytes: &[u8]) -> Result<(), DeviceError> {
    let mut buf = machine.device.alloc(round_up_to_block(bytes.len()));
    buf[..bytes.len()].copy_from_slice(bytes);
    let opts = WriteOpts { durability: Durability::Cached, class: Class::Background, stream: 3 };
    machine.device.write(at, Rc::new(buf), opts).await
}

/// Makes a new store: both slots, a body in two segments, an empty log.
pub(super) async fn format(machine: &Machine) -> Result<(), DeviceError> {
    let (copies, first) = ([SegmentId(1), SegmentId(2)], SegmentId(3));
    let incarnations = BTreeMap::from([(first, Incarnation(1))]);
    let shape = Shape::default();
    let body = Body {
        start_at: Paddr::new(first, u32::try_from(BLOCK_BYTES).expect("small")),
        journal: vec![seabed_journal::JournalSegment {
            segment: first,
            incarnation: Incarnation(1),
            first: Lsn(0),
        }],
        ..body_of(&shape, &incarnations)
    };
    let parts = write_body(machine, &framed(&body, &shape), copies).await?;
    let slot = Slot {
        shard: SHARD,
        sequence: 1,
        epoch: Epoch(0),
        end: Lsn(0),
        durable: Lsn(0),
        cuts: Vec::new(),
        body: parts,
    };
    write_slots(machine, &slot, [SlotCopy::A, SlotCopy::B]).await
}
