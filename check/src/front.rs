//! Front: superblock copies, checkpoint slots and checkpoint bodies: where a walk of a shard begins.
//!
//! Four superblock copies must be valid and equal; the walk goes on with any valid one. The two slots of a shard must be
//! valid, and equal or neighbours, as between the two writes of a pair; the newer one opens the store. A body is there
//! twice, in different segments; one sound copy is enough. What is missing of all this is a violation each.
//!
//! What a power cut alone can leave is a note: one slot that it tore ([`crate::torn`]), slots of neighbouring sequences, and of
//! a store that was formatted and never mounted since, copies of the superblock that were not written yet: a mount that writes
//! completes all of this.
//!
//! Limits: a body has at most [`PARTS_MAX`] parts of a record each.

use std::io::ErrorKind;

use seabed_journal::{Body, BodyPart, PARTS_MAX, Slot};
use seabed_segment::{SlotCopy, Superblock, SuperblockError};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Lsn, ShardId};

use crate::image::{Source, read_at};
use crate::report::{Counts, Findings};
use crate::torn::{SEQUENCES_APART_MAX, is_torn};
use crate::violation::{BodyFault, PartFault};
use crate::{CheckError, Image, Note, Violation};

/// A state that a replay can start from: a slot and its body.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) shard: ShardId,
    pub(crate) which: SlotCopy,
    pub(crate) slot: Slot,
    pub(crate) body: Body,
    /// Every record below this was durable.
    pub(crate) proven: Lsn,
    /// No record has a newer epoch.
    pub(crate) epoch: Epoch,
}

/// What the slots of a shard give.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    /// The newest state, as a mount sees it; none if there is no slot with a body.
    pub(crate) base: Option<Base>,
    /// The state from the older slot alone, if that is another.
    pub(crate) older: Option<Base>,
    /// Parts of bodies that are needed, each with E and its index.
    pub(crate) parts: Vec<(BodyPart, Lsn, usize)>,
}

/// One superblock copy.
pub(crate) type Copy = Result<Result<Superblock, SuperblockError>, ErrorKind>;

/// Reads the four superblock copies: where each is, and what it says.
pub(crate) fn superblock_copies(image: &dyn Image) -> Vec<(u64, Copy)> {
    let decode = |copy: u16, at: u64| {
        (at, read_at(image, at, BLOCK_BYTES).map(|block| Superblock::decode(&block, copy)))
    };
    let places = Superblock::places(image.bytes());
    let mut copies: Vec<_> = (0..).zip(places).map(|(copy, at)| decode(copy, at)).collect();
    // The last copy is in the last block of the store, which may be smaller than what it lies on.
    let known = copies.iter().find_map(|(_, copy)| copy.as_ref().ok()?.as_ref().ok().copied());
    if let (Some(superblock), Some(last)) = (known, copies.last_mut()) {
        *last = decode(3, superblock.layout.superblock_last());
    }
    copies
}

/// The superblock to go on with; what is wrong with the others is a violation.
pub(crate) fn superblock(image: &dyn Image, findings: &mut Findings) -> Result<Superblock, CheckError> {
    let copies = superblock_copies(image);
    let sound = copies.iter().find_map(|(_, copy)| copy.as_ref().ok()?.as_ref().ok().copied());
    let Some(sound) = sound else { return Err(why_none(&copies)) };
    let is_new = was_never_mounted(image, &sound);
    for (copy, (at, found)) in (0..).zip(copies) {
        // What lies behind the end of a short image is reported as that.
        let is_there = at.saturating_add(BLOCK_BYTES as u64) <= image.bytes();
        match found {
            Ok(Ok(superblock)) if superblock == sound => {}
            Ok(Ok(_)) => findings.violation(Violation::SuperblockDiffers { copy }),
            Ok(Err(SuperblockError::NotAStore)) if is_new && is_blank(image, at) => {
                findings.note(Note::SuperblockMissing { copy });
            }
            Ok(Err(error)) => findings.violation(Violation::Superblock { copy, error }),
            Err(error) if is_there => findings.violation(Violation::SuperblockUnreadable { copy, error }),
            Err(_) => {}
        }
    }
    if image.bytes() < sound.layout.device_bytes {
        let (device_bytes, image_bytes) = (sound.layout.device_bytes, image.bytes());
        findings.violation(Violation::Short { device_bytes, image_bytes });
    }
    Ok(sound)
}

/// Whether both slots of every shard are as a format leaves them: no mount has written a head.
fn was_never_mounted(image: &dyn Image, superblock: &Superblock) -> bool {
    let source = Source::of(image, superblock);
    (0..superblock.layout.shards).map(ShardId).all(|shard| {
        let slots = [SlotCopy::A, SlotCopy::B].map(|which| slot(&source, shard, which));
        slots.iter().all(|slot| slot.as_ref().is_ok_and(|slot| slot.epoch == Epoch(0)))
    })
}

fn is_blank(image: &dyn Image, at: u64) -> bool {
    read_at(image, at, BLOCK_BYTES).is_ok_and(|block| block.iter().all(|byte| *byte == 0))
}

/// The error of the copy that says most: another version or unknown features rather than "not a store".
fn why_none(copies: &[(u64, Copy)]) -> CheckError {
    let says = |error: &SuperblockError| {
        let is_other = matches!(error, SuperblockError::Version(_) | SuperblockError::UnknownFeatures(_));
        (is_other, *error != SuperblockError::NotAStore)
    };
    let decoded = copies.iter().filter_map(|(_, copy)| copy.as_ref().ok()?.as_ref().err());
    if let Some(error) = decoded.max_by_key(|error| says(error)) {
        return CheckError::Superblock(*error);
    }
    let unreadable = copies.iter().find_map(|(_, copy)| copy.as_ref().err().copied());
    unreadable.map_or(CheckError::Superblock(SuperblockError::NotAStore), CheckError::Unreadable)
}

/// Reads one slot.
pub(crate) fn slot(source: &Source<'_>, shard: ShardId, which: SlotCopy) -> Result<Slot, &'static str> {
    let block = source.block(source.layout.slot(shard, which)).map_err(|_| "cannot be read")?;
    let slot = Slot::decode(&block, &source.identity, shard).map_err(|malformed| malformed.what)?;
    if slot.is_of_version(source.version) { Ok(slot) } else { Err("slot: reserved") }
}

/// Reads the slots of a shard and the bodies that they name.
pub(crate) fn front(
    source: &Source<'_>,
    shard: ShardId,
    findings: &mut Findings,
    counts: &mut Counts,
) -> Front {
    let (mut slots, mut invalid) = (Vec::new(), Vec::new());
    for which in [SlotCopy::A, SlotCopy::B] {
        match slot(source, shard, which) {
            Ok(slot) => slots.push((which, slot)),
            Err(what) => invalid.push((which, what)),
        }
    }
    for (which, what) in invalid {
        match slots.first() {
            Some((other, _)) if was_torn(source, shard, which, *other) => {
                findings.note(Note::TornSlot { shard, which });
            }
            _ => findings.violation(Violation::Slot { shard, which, what }),
        }
    }
    if let [(_, a), (_, b)] = slots.as_slice() {
        compare(shard, a, b, findings);
    }
    let proven = |slot: &Slot| slot.cuts.iter().map(|cut| cut.lsn).fold(slot.end.max(slot.durable), Lsn::max);
    let (all_proven, epoch) = slots
        .iter()
        .fold((Lsn(0), Epoch(0)), |(lsn, epoch), (_, slot)| (lsn.max(proven(slot)), epoch.max(slot.epoch)));
    // Of equal sequences slot A comes first: the sort is stable.
    slots.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.sequence));
    let mut front = Front { base: None, older: None, parts: Vec::new() };
    for (which, slot) in slots {
        let same_body = front.base.as_ref().filter(|base| base.slot.body == slot.body);
        let body = match same_body {
            Some(base) if base.slot == (Slot { sequence: base.slot.sequence, ..slot.clone() }) => continue,
            Some(base) => base.body.clone(),
            None => {
                // What is nowhere takes no bytes.
                let parts = slot.body.iter().flat_map(|copy| copy.iter().enumerate());
                for (index, part) in parts.filter(|(_, part)| place_of_part(source, part).is_ok()) {
                    front.parts.push((*part, slot.end, index));
                }
                let Some(body) = body(source, which, &slot, findings, counts) else { continue };
                body
            }
        };
        if front.base.is_none() {
            front.base = Some(Base { shard, which, slot, body, proven: all_proven, epoch });
        } else {
            let proven = proven(&slot);
            front.older = Some(Base { shard, which, slot, body, proven, epoch });
        }
    }
    if front.base.is_none() {
        findings.violation(Violation::NoCheckpoint { shard });
    }
    front
}

/// Whether the invalid slot `which` is what a cut of its write leaves beside the valid slot `other`.
fn was_torn(source: &Source<'_>, shard: ShardId, which: SlotCopy, other: SlotCopy) -> bool {
    let block = |which| source.block(source.layout.slot(shard, which));
    match (block(which), block(other)) {
        (Ok(block), Ok(other)) => is_torn(&block, &other, &source.identity, shard),
        _ => false,
    }
}

fn compare(shard: ShardId, a: &Slot, b: &Slot, findings: &mut Findings) {
    // A mount that trimmed, by a program before format version 3, gave the slots a new epoch and no new sequence, and the
    // checkpoint behind it the one after the next.
    let differ_in_epoch = || Slot { epoch: a.epoch, ..b.clone() } == *a;
    match a.sequence.abs_diff(b.sequence) {
        0 if a == b => {}
        0 if differ_in_epoch() => findings.note(Note::SlotsDiffer { shard }),
        0 => findings.violation(Violation::SlotsContradict { shard, sequence: a.sequence }),
        1..=SEQUENCES_APART_MAX => findings.note(Note::SlotsDiffer { shard }),
        _ => findings.violation(Violation::SlotsApart { shard, a: a.sequence, b: b.sequence }),
    }
}

/// The body of a slot, from the first sound copy.
fn body(
    source: &Source<'_>,
    which: SlotCopy,
    slot: &Slot,
    findings: &mut Findings,
    counts: &mut Counts,
) -> Option<Body> {
    let shard = slot.shard;
    let mut copies = Vec::new();
    for (copy, parts) in slot.body.iter().enumerate() {
        let mut joined = Vec::new();
        let mut is_sound = !parts.is_empty() && parts.len() <= PARTS_MAX;
        if !is_sound {
            findings.violation(Violation::Body { shard, which, fault: BodyFault::Empty });
        }
        for (index, part) in parts.iter().enumerate() {
            match read_part(source, part) {
                Ok(bytes) => {
                    counts.bytes_verified += bytes.len() as u64;
                    joined.extend(bytes);
                }
                Err(fault) => {
                    is_sound = false;
                    findings.violation(Violation::BodyPart { shard, which, copy, index, at: part.at, fault });
                }
            }
        }
        if is_sound {
            copies.push(joined);
        }
    }
    let [first, second] = &slot.body;
    if let Some(part) =
        first.iter().find(|part| second.iter().any(|other| other.at.segment == part.at.segment))
    {
        findings.violation(Violation::BodyCopiesShare { shard, which, segment: part.at.segment });
    }
    if copies.windows(2).any(|pair| pair.first() != pair.last()) {
        findings.violation(Violation::BodyCopiesDiffer { shard, which });
    }
    for copy in copies {
        match Body::decode(&copy) {
            Ok(body) => {
                for fault in contradictions(source, slot, &body) {
                    findings.violation(Violation::Body { shard, which, fault });
                }
                return Some(body);
            }
            Err(malformed) => {
                let fault = BodyFault::Malformed(malformed.what);
                findings.violation(Violation::Body { shard, which, fault });
            }
        }
    }
    None
}

/// Reads and verifies a part of a body.
pub(crate) fn read_part(source: &Source<'_>, part: &BodyPart) -> Result<Vec<u8>, PartFault> {
    place_of_part(source, part)?;
    let read = source.read(part.at, part.bytes as usize).map_err(PartFault::Unreadable)?;
    let crc = Crc::of(&read);
    if crc == part.crc { Ok(read) } else { Err(PartFault::Checksum(crc)) }
}

/// Whether a part of a body is where one can be.
fn place_of_part(source: &Source<'_>, part: &BodyPart) -> Result<(), PartFault> {
    if part.bytes == 0 || part.bytes as usize > source.layout.record_bytes_max() {
        return Err(PartFault::Length);
    }
    if source.layout.contains(part.at, u64::from(part.bytes)) { Ok(()) } else { Err(PartFault::Outside) }
}

/// What a body says that its slot, the layout or itself contradicts.
fn contradictions<'b>(
    source: &'b Source<'_>,
    slot: &'b Slot,
    body: &'b Body,
) -> impl Iterator<Item = BodyFault> + use<'b> {
    let layout = &source.layout;
    let journal = body.journal.iter().map(|segment| segment.segment);
    let next = body.next.iter().map(|(segment, _)| *segment);
    let segments = body.segments.iter().map(|segment| segment.segment);
    let ordered = body.segments.windows(2).all(|pair| match pair {
        [first, second] => first.segment < second.segment,
        _ => true,
    });
    let distinct = body.collections.windows(2).all(|pair| match pair {
        [first, second] => first.id < second.id,
        _ => true,
    });
    let known = journal.chain(next).chain(segments).all(|segment| layout.has_segment(segment));
    let first = body.journal.first().map(|segment| segment.segment);
    let rules = [
        (body.end == slot.end, BodyFault::End),
        (body.epoch <= slot.epoch, BodyFault::Epoch),
        (known, BodyFault::Segment),
        (ordered, BodyFault::SegmentOrder),
        (distinct, BodyFault::CollectionOrder),
        (first == Some(body.start_at.segment), BodyFault::Start),
        (!slot.cuts.is_empty(), BodyFault::NoCut),
        (slot.cuts.iter().all(|cut| cut.epoch <= slot.epoch), BodyFault::CutEpoch),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault)
}
