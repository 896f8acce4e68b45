//! Mount of the toy store: slots, body, window, head; the order of steps that the rules ask for, and no more.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use seabed_device::{Class, DeviceError, Machine};
use seabed_journal::{
    Begin, ChangeRef, Cut, EntryRef, Journal, JournalStart, Place, ScanEnd, ScanError, Slot, cuts_of_window,
    scan,
};
use seabed_segment::{RecordHeader, SlotCopy};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, Malformed, SegmentId, round_up_to_block};

use super::user::{
    FreeList, IDENTITY, LAYOUT, SEGMENTS, SHARD, Shape, User, Value, body_of, framed, stamped, unframed,
    write_body, write_slots,
};
use seabed_journal::Body;

/// So many cuts and a mount takes a checkpoint first; less than what a slot holds, so that it happens (rule C4).
const CUTS_BEFORE_TRIM: usize = 4;

/// The store does not open.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum MountError {
    /// Neither slot is valid.
    #[error("no slot is valid")]
    NoSlot,
    /// Neither copy of the body is.
    #[error("no copy of the body is valid")]
    NoBody,
    /// The window.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A piece that the window's records brought is not what was written.
    #[error("the data of record {0} is not what was written")]
    Data(Lsn),
}

/// A record of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its number.
    pub(super) lsn: Lsn,
    /// Device offset.
    pub(super) at: u64,
    /// Bytes of the header and of those entries that are in its first block.
    pub(super) head_bytes: u64,
    /// Bytes of all of it.
    pub(super) bytes: u64,
}

/// What a replay found.
pub(super) struct Replayed {
    pub(super) shape: Shape,
    pub(super) slots: [Option<Slot>; 2],
    pub(super) body: Body,
    pub(super) end: ScanEnd,
    pub(super) window: Vec<Seen>,
    /// Every record below it was known to be durable.
    pub(super) proven: Lsn,
    places: VecDeque<Place>,
    incarnations: BTreeMap<SegmentId, Incarnation>,
}

impl Replayed {
    pub(super) fn newest(&self) -> &Slot {
        let newest = self.slots.iter().flatten().max_by_key(|slot| slot.sequence);
        newest.expect("a replay has one")
    }
}

async fn read(machine: &Machine, at: u64, bytes: usize) -> Result<Vec<u8>, DeviceError> {
    let mut result = machine.device.read(at, bytes, Class::Foreground).await;
    for _ in 0..2 {
        if result.is_err() {
            result = machine.device.read(at, bytes, Class::Foreground).await;
        }
    }
    result.map(|read| read.to_vec())
}

/// Slots, body, window; writes nothing.
pub(super) async fn replay(machine: &Machine) -> Result<Replayed, MountError> {
    let mut slots = [None, None];
    for (slot, which) in slots.iter_mut().zip([SlotCopy::A, SlotCopy::B]) {
        // A slot that cannot be read is as good as lost: the other one is enough.
        let block = read(machine, LAYOUT.slot(SHARD, which), BLOCK_BYTES).await;
        *slot = block.ok().and_then(|block| Slot::decode(&block, &IDENTITY, SHARD).ok());
    }
    let newest = slots.iter().flatten().max_by_key(|slot| slot.sequence).ok_or(MountError::NoSlot)?.clone();
    let mut found = None;
    for parts in &newest.body {
        let [part] = parts.as_slice() else { continue };
        let length = part.bytes as usize;
        let Ok(mut bytes) = read(machine, LAYOUT.device_offset(part.at), round_up_to_block(length)).await
        else {
            continue;
        };
        bytes.truncate(length);
        if found.is_none() && Crc::of(&bytes) == part.crc {
            found = unframed(&bytes);
        }
    }
    let (body, mut shape) = found.ok_or(MountError::NoBody)?;
    let proven = slots.iter().flatten().map(Slot::proven).max().expect("a slot is valid");
    let begin = Begin {
        lsn: body.start,
        at: body.start_at,
        previous: body.start_previous,
        segments: body.journal.clone(),
        next: body.next,
        cuts: newest.cuts.clone(),
        proven,
        limit: None,
    };
    let mut incarnations: BTreeMap<SegmentId, Incarnation> =
        body.segments.iter().map(|segment| (segment.segment, segment.incarnation)).collect();
    let mut window = Vec::new();
    let mut places = VecDeque::new();
    let mut pieces = Vec::new();
    let mut visit = |header: &RecordHeader, entries: &[u8]| {
        let lsn = Lsn(header.place.number);
        let first_block = u64::from(header.entries_bytes).min(BLOCK_BYTES as u64 - 96);
        window.push(Seen {
            lsn,
            at: LAYOUT.device_offset(header.at),
            head_bytes: 96 + first_block,
            bytes: u64::from(header.record_bytes),
        });
        places.push_back(Place { at: header.at, crc: header.crc });
        take(lsn >= body.end, entries, &mut shape, &mut incarnations, |key, value| {
            pieces.push((lsn, key, value));
        })
    };
    let source = (Rc::clone(&machine.device), &LAYOUT, &IDENTITY, SHARD);
    let end = scan(source, begin, &mut visit).await?;
    shape.live.retain(|_, live| *live != 0);
    for (lsn, key, value) in pieces {
        verify(machine, lsn, key, value).await?;
    }
    Ok(Replayed { shape, slots, body, end, window, proven, places, incarnations })
}

/// Applies what a record says.
fn take(
    counts: bool,
    entries: &[u8],
    shape: &mut Shape,
    incarnations: &mut BTreeMap<SegmentId, Incarnation>,
    mut piece: impl FnMut(u8, Value),
) -> Result<(), Malformed> {
    let mut odd = false;
    EntryRef::decode_all(entries, |entry| match entry {
        EntryRef::Delta(delta) => match (delta.key, delta.change) {
            ([key], ChangeRef::Set(value)) => match Value::decode(value) {
                Some(value) => {
                    shape.map.insert(*key, value);
                    piece(*key, value);
                }
                None => odd = true,
            },
            _ => odd = true,
        },
        EntryRef::Tally { change, .. } if counts => shape.tally += change.objects,
        EntryRef::Live(changes) if counts => {
            for (segment, change) in changes {
                *shape.live.entry(segment).or_default() += change;
            }
        }
        EntryRef::Claim { segment, incarnation, .. } => {
            let newest = incarnations.entry(segment).or_default();
            *newest = (*newest).max(incarnation);
        }
        EntryRef::Tally { .. } | EntryRef::Live(_) | EntryRef::Seal { .. } => {}
        EntryRef::NewCollection { .. } => odd = true,
    })?;
    if odd { Err(Malformed { what: "the user never wrote this", offset: 0 }) } else { Ok(()) }
}

async fn verify(machine: &Machine, lsn: Lsn, key: u8, value: Value) -> Result<(), MountError> {
    let (at, bytes, crc) = value.piece;
    if bytes == 0 {
        return Ok(());
    }
    let in_block = at.offset as usize % BLOCK_BYTES;
    let from = LAYOUT.device_offset(at) - in_block as u64;
    let blocks = read(machine, from, round_up_to_block(in_block + bytes as usize)).await?;
    let data = &blocks[in_block..in_block + bytes as usize];
    if Crc::of(data) != crc || data != stamped(value.stamp, key, bytes as usize) {
        return Err(MountError::Data(lsn));
    }
    Ok(())
}

/// Replays, then takes up the log where it ended (rules C4, C6, C7) and serves.
pub(super) async fn mount(machine: Machine, stamp: u64) -> Result<(Rc<User>, Replayed), MountError> {
    let mut replayed = replay(&machine).await?;
    machine.device.flush().await?;
    let mut slot = replayed.newest().clone();
    let mut start = (replayed.body.start, replayed.body.start_previous);
    let mut segments = replayed.end.segments.clone();
    let older_first = order(&replayed.slots);
    let epoch = replayed.slots.iter().flatten().map(|slot| slot.epoch).max().unwrap_or_default();
    let epoch = epoch.max(replayed.end.epoch).next();
    if slot.cuts.len() >= CUTS_BEFORE_TRIM {
        // A checkpoint of what was replayed, before the head: nothing is logged for it. What it takes may be in the
        // window of the older slot, which therefore is brought up to date first (rule S4).
        write_slots(&machine, &slot, older_first).await?;
        let mut free = free_segments(&replayed, &slot);
        let end = &replayed.end;
        segments.drain(..segments.len() - 1);
        let body = Body {
            end: end.lsn,
            epoch: slot.epoch,
            start: end.lsn,
            start_at: end.at,
            start_previous: end.previous,
            journal: segments.clone(),
            next: end.next,
            ..body_of(&replayed.shape, &replayed.incarnations)
        };
        let copies = [free.pop_first(), free.pop_last()].map(|free| free.expect("some are always free"));
        let parts = write_body(&machine, &framed(&body, &replayed.shape), copies).await?;
        let cuts = cuts_of_window(&slot.cuts, end.lsn, (end.at, end.incarnation));
        slot = Slot { sequence: slot.sequence + 1, end: end.lsn, cuts, body: parts, ..slot };
        write_slots(&machine, &slot, older_first).await?;
        start = (end.lsn, end.previous);
        replayed.places.clear();
        replayed.end.segments.clone_from(&segments);
    }
    let head =
        Cut { lsn: replayed.end.lsn, epoch, at: replayed.end.at, incarnation: replayed.end.incarnation };
    slot.cuts.retain(|cut| cut.lsn != head.lsn);
    slot.cuts.push(head);
    slot = Slot { sequence: slot.sequence + 1, epoch, ..slot };
    write_slots(&machine, &slot, older_first).await?;
    let turn = u32::try_from(stamp % 2).expect("0 or 1");
    let free = free_segments(&replayed, &slot);
    let list = Rc::new(FreeList::new(free, replayed.incarnations.clone(), turn));
    let begin = JournalStart {
        end: replayed.end.clone(),
        epoch,
        logged: replayed.body.clock,
        places: replayed.places.clone(),
        first_place: start.0,
        previous_of_first: start.1,
    };
    let space: Rc<dyn seabed_journal::Space> = Rc::<FreeList>::clone(&list);
    let journal = Journal::new(machine.clone(), (LAYOUT, IDENTITY, SHARD), begin, space);
    machine.runtime.spawn(Class::Commit, Box::pin(Rc::clone(&journal).run()));
    let shape = replayed.shape.clone();
    let user = User {
        machine,
        journal,
        list,
        first_number: shape.number() + 1,
        shape: RefCell::new(shape),
        slot: RefCell::new(slot),
        start: Cell::new(start.0),
        history: Rc::default(),
        stamp: Cell::new(stamp),
    };
    Ok((Rc::new(user), replayed))
}

/// The older slot first; an invalid one is older than any.
fn order(slots: &[Option<Slot>; 2]) -> [SlotCopy; 2] {
    let sequence = |slot: &Option<Slot>| slot.as_ref().map_or(0, |slot| slot.sequence);
    if sequence(&slots[1]) < sequence(&slots[0]) {
        [SlotCopy::B, SlotCopy::A]
    } else {
        [SlotCopy::A, SlotCopy::B]
    }
}

/// All but the window, the next segment and the body that both slots name (rule S1).
fn free_segments(replayed: &Replayed, slot: &Slot) -> BTreeSet<SegmentId> {
    let mut free: BTreeSet<SegmentId> = SEGMENTS.map(SegmentId).collect();
    let taken = slot.body.iter().flatten().map(|part| part.at.segment);
    let journal = replayed.end.segments.iter().map(|segment| segment.segment);
    for segment in taken.chain(journal).chain(replayed.end.next.map(|(segment, _)| segment)) {
        free.remove(&segment);
    }
    free
}

/// Whether the epochs and addresses of a replay are in order; for a test's own eyes.
pub(super) fn is_in_order(replayed: &Replayed) -> bool {
    let lsns = replayed.window.iter().map(|seen| seen.lsn.0);
    lsns.eq(replayed.body.start.0..replayed.end.lsn.0) && replayed.newest().epoch >= Epoch(0)
}
