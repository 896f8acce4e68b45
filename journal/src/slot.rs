//! Checkpoint slot: the one block, in two places, that names the newest checkpoint body and the cuts of the window.
//!
//! ```text
//! 0     magic, checksum (seeded, over the block), uuid, shard, counts of what follows, sequence, epoch, lsn E, durable
//! 80    cuts: {lsn u64, epoch u64, segment u32, offset u32, incarnation u32}, at most 32
//! ...   parts of the body's first copy, then of the second: {segment u32, offset u32, bytes u32, crc u32}
//! ...   zero
//! ```
//!
//! Of two valid slots the one with the higher sequence counts; equal sequences have equal contents, unless a
//! program before format version 3 wrote the one with a newer epoch. The parts of a body joined are its bytes; either copy is enough.
//!
//! From format version 3 on a slot states `durable`: every record below it was durable when the slot was written (rule C10).
//! A close and an idle store write it, so that the loss of the log's last records is corruption and not a torn end.
//!
//! Crash: slot A is written and flushed before slot B, so at any moment one of them is whole.

use seabed_segment::Identity;
use seabed_types::{BLOCK_BYTES, Crc, Cursor, Epoch, Incarnation, Lsn, Malformed, Paddr, SegmentId, ShardId};

const MAGIC: [u8; 8] = *b"SEABEDCP";
/// The most cuts that a slot keeps (rule C6).
pub const CUTS_MAX: usize = 32;
/// The most parts that one copy of a body has.
pub const PARTS_MAX: usize = 80;
const CUT_BYTES: usize = 28;
const PART_BYTES: usize = 16;
const FIXED_BYTES: usize = 80;
/// The format version from which on slots state `durable`.
pub const FIRST_VERSION_DURABLE: u32 = 3;
const _: () = assert!(FIXED_BYTES + CUTS_MAX * CUT_BYTES + 2 * PARTS_MAX * PART_BYTES <= BLOCK_BYTES);

/// Where a mount went on with the log: at `lsn`, at this address, believing no older epoch from there on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The first record of the epoch.
    pub lsn: Lsn,
    /// The epoch.
    pub epoch: Epoch,
    /// Where that record goes, if it fits; in the first cut of a window, if that is its first record, where it is.
    pub at: Paddr,
    /// The incarnation of that segment.
    pub incarnation: Incarnation,
}

/// The cuts that a replay from record `start` on needs: those behind it, and the newest at or before it, which says what
/// epoch to believe.
pub fn cuts_from(cuts: &[Cut], start: Lsn) -> Vec<Cut> {
    let passed = cuts.iter().filter(|cut| cut.lsn <= start).count();
    cuts[passed.saturating_sub(1)..].to_vec()
}

/// The cuts for a new checkpoint whose window begins with record `start`, at `place`.
///
/// A cut says where its record goes if it fits there. Once it is the first of a window, whose older segments are given
/// up, that is not good enough: the cut is moved to where the checkpoint says that the record is.
pub fn cuts_of_window(cuts: &[Cut], start: Lsn, place: (Paddr, Incarnation)) -> Vec<Cut> {
    let mut kept = cuts_from(cuts, start);
    if let Some(first) = kept.first_mut().filter(|first| first.lsn == start && !seabed_types::seeded!(28)) {
        if first.at != place.0 {
            seabed_types::reached!(CutMoved);
        }
        (first.at, first.incarnation) = place;
    }
    kept
}

/// A part of a checkpoint body on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyPart {
    /// Its first byte.
    pub at: Paddr,
    /// Its bytes.
    pub bytes: u32,
    /// Their checksum.
    pub crc: Crc,
}

/// A verified slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Whose.
    pub shard: ShardId,
    /// Grows with every pair of slot writes.
    pub sequence: u64,
    /// The newest epoch.
    pub epoch: Epoch,
    /// E: the checkpoint holds what all records below it did.
    pub end: Lsn,
    /// All records below this were durable when the slot was written; 0 in stores of format versions 1 and 2.
    pub durable: Lsn,
    /// Cuts of the window, oldest first; the last is the head.
    pub cuts: Vec<Cut>,
    /// The two copies of the body.
    pub body: [Vec<BodyPart>; 2],
}

impl Slot {
    /// Whether a store of this format version has such a slot: versions 1 and 2 state nothing about the log's end.
    pub fn is_of_version(&self, version: u32) -> bool {
        version >= FIRST_VERSION_DURABLE || self.durable == Lsn(0)
    }

    /// The records below the returned lsn were durable, by what the slot says: its checkpoint, its cuts, its statement.
    pub fn proven(&self) -> Lsn {
        let stated = if seabed_types::seeded!(76) { Lsn(0) } else { self.durable };
        self.cuts.iter().map(|cut| cut.lsn).fold(self.end.max(stated), Lsn::max)
    }

    /// The block.
    pub fn encode(&self, identity: &Identity) -> [u8; BLOCK_BYTES] {
        assert!(self.cuts.len() <= CUTS_MAX, "a trim comes before another cut");
        assert!(self.body.iter().all(|parts| parts.len() <= PARTS_MAX), "bodies are bounded by the layout");
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&identity.uuid.0);
        bytes.extend_from_slice(&u32::from(self.shard.0).to_le_bytes());
        for count in [self.cuts.len(), self.body[0].len(), self.body[1].len()] {
            bytes.extend_from_slice(&u32::try_from(count).expect("bounded above").to_le_bytes());
        }
        for word in [self.sequence, self.epoch.0, self.end.0, self.durable.0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(bytes.len(), FIXED_BYTES);
        for cut in &self.cuts {
            bytes.extend_from_slice(&cut.lsn.0.to_le_bytes());
            bytes.extend_from_slice(&cut.epoch.0.to_le_bytes());
            for word in [cut.at.segment.0, cut.at.offset, cut.incarnation.0] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        for part in self.body.iter().flatten() {
            for word in [part.at.segment.0, part.at.offset, part.bytes, part.crc.0] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes.resize(BLOCK_BYTES, 0);
        let crc = identity.header_crc(&bytes);
        bytes[8..12].copy_from_slice(&crc.0.to_le_bytes());
        bytes.try_into().expect("resized to a block")
    }

    /// Verifies the slot of `shard`.
    pub fn decode(block: &[u8], identity: &Identity, shard: ShardId) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(block);
        if block.len() != BLOCK_BYTES || cursor.array("slot: magic")? != MAGIC {
            return Err(Malformed { what: "slot: magic", offset: 0 });
        }
        let crc = cursor.u32("slot: checksum")?;
        let mut summed = block.to_vec();
        summed[8..12].fill(0);
        if identity.header_crc(&summed).0 != crc && !seabed_types::seeded!(49) {
            return Err(Malformed { what: "slot: checksum", offset: 8 });
        }
        let zero = cursor.u32("slot: reserved")?;
        let uuid: [u8; 16] = cursor.array("slot: uuid")?;
        if uuid != identity.uuid.0 || zero != 0 || cursor.u32("slot: shard")? != u32::from(shard.0) {
            return Err(cursor.malformed("slot: of another store or shard"));
        }
        let mut counts = [0; 3];
        for (count, limit) in counts.iter_mut().zip([CUTS_MAX, PARTS_MAX, PARTS_MAX]) {
            *count = cursor.u32("slot: counts")? as usize;
            if *count > limit && !seabed_types::seeded!(61) {
                return Err(cursor.malformed("slot: counts"));
            }
        }
        let (sequence, epoch) = (cursor.u64("slot: sequence")?, Epoch(cursor.u64("slot: epoch")?));
        let end = Lsn(cursor.u64("slot: end")?);
        let durable = Lsn(cursor.u64("slot: durable")?);
        let mut cuts = Vec::with_capacity(counts[0]);
        for _ in 0..counts[0] {
            cuts.push(Cut {
                lsn: Lsn(cursor.u64("slot: cut")?),
                epoch: Epoch(cursor.u64("slot: cut")?),
                at: Paddr::new(SegmentId(cursor.u32("slot: cut")?), cursor.u32("slot: cut")?),
                incarnation: Incarnation(cursor.u32("slot: cut")?),
            });
        }
        if !cuts.is_sorted_by_key(|cut| (cut.lsn, cut.epoch)) {
            return Err(cursor.malformed("slot: order of cuts"));
        }
        if cuts.iter().any(|cut| !(cut.at.offset as usize).is_multiple_of(BLOCK_BYTES)) {
            return Err(cursor.malformed("slot: a cut within a block"));
        }
        let mut body = [Vec::new(), Vec::new()];
        for (parts, count) in body.iter_mut().zip(&counts[1..]) {
            for _ in 0..*count {
                parts.push(BodyPart {
                    at: Paddr::new(SegmentId(cursor.u32("slot: part")?), cursor.u32("slot: part")?),
                    bytes: cursor.u32("slot: part")?,
                    crc: Crc(cursor.u32("slot: part")?),
                });
            }
        }
        cursor.zeros("slot: rest")?;
        Ok(Self { shard, sequence, epoch, end, durable, cuts, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seabed_types::Uuid;

    /// A mount in segment 1 named its next record's place as the head; the record did not fit there and went to segment
    /// 13. A checkpoint then began its window at that record and gave segment 1 up. The replay followed the cut into
    /// segment 1 and called the log damaged. Found by the crash suite of the journal.
    #[test]
    fn a_cut_that_opens_the_window_is_where_its_record_is() {
        let cut = |lsn, epoch, segment| Cut {
            lsn: Lsn(lsn),
            epoch: Epoch(epoch),
            at: Paddr::new(SegmentId(segment), 45056),
            incarnation: Incarnation(1),
        };
        let cuts = [cut(20, 1, 1), cut(36, 2, 1), cut(40, 3, 13)];
        let place = (Paddr::new(SegmentId(13), 4096), Incarnation(2));
        let moved = Cut { at: place.0, incarnation: place.1, ..cuts[1] };
        assert_eq!(cuts_of_window(&cuts, Lsn(36), place), [moved, cuts[2]]);
        assert_eq!(cuts_of_window(&cuts, Lsn(37), place), [cuts[1], cuts[2]], "it only says the epoch");
        assert_eq!(cuts_of_window(&cuts, Lsn(10), place), cuts);
        assert_eq!(cuts_of_window(&[], Lsn(10), place), []);
    }

    /// A slot with a right checksum said that the log goes on at a byte within a block: the mount asked the device for bytes
    /// that are not whole blocks, which is a panic. Found by odd slots.
    #[test]
    fn a_cut_is_at_a_block() {
        let identity = Identity { uuid: Uuid([4; 16]), secret: [5; 16] };
        let cut = |offset| Cut {
            lsn: Lsn(1),
            epoch: Epoch(1),
            at: Paddr::new(SegmentId(3), offset),
            incarnation: Incarnation(1),
        };
        for (offset, is_good) in [(8192, true), (8193, false), (4096 + 512, false)] {
            let slot = Slot {
                shard: ShardId(0),
                sequence: 1,
                epoch: Epoch(1),
                end: Lsn(0),
                durable: Lsn(0),
                cuts: vec![cut(offset)],
                body: [Vec::new(), Vec::new()],
            };
            let decoded = Slot::decode(&slot.encode(&identity), &identity, ShardId(0));
            assert_eq!(decoded.is_ok(), is_good, "{offset}");
        }
    }

    #[test]
    fn what_a_slot_proves_is_the_largest_of_end_cuts_and_statement() {
        let cut = |lsn| Cut {
            lsn: Lsn(lsn),
            epoch: Epoch(1),
            at: Paddr::new(SegmentId(3), 4096),
            incarnation: Incarnation(1),
        };
        for (end, cuts, durable, proven) in [
            (7, vec![], 0, 7),
            (7, vec![cut(5)], 6, 7),
            (7, vec![cut(5), cut(9)], 8, 9),
            (7, vec![cut(5), cut(9)], 12, 12),
        ] {
            let (shard, body) = (ShardId(0), [Vec::new(), Vec::new()]);
            let (end, durable) = (Lsn(end), Lsn(durable));
            let slot = Slot { shard, sequence: 1, epoch: Epoch(1), end, durable, cuts, body };
            assert_eq!(slot.proven(), Lsn(proven));
            assert_eq!(slot.is_of_version(2), durable == Lsn(0));
            assert!(slot.is_of_version(3));
        }
    }

    #[test]
    fn a_full_slot_comes_back_and_every_flip_is_noticed() {
        let identity = Identity { uuid: Uuid([4; 16]), secret: [5; 16] };
        let part = |i: u32| BodyPart { at: Paddr::new(SegmentId(i), 4096), bytes: 100 + i, crc: Crc(i) };
        let cut = |i: u32| Cut {
            lsn: Lsn(u64::from(i)),
            epoch: Epoch(u64::from(i)),
            at: Paddr::new(SegmentId(3), i * 4096),
            incarnation: Incarnation(i),
        };
        let slot = Slot {
            shard: ShardId(2),
            sequence: 11,
            epoch: Epoch(31),
            end: Lsn(1000),
            durable: Lsn(1017),
            cuts: (0..32).map(cut).collect(),
            body: [(0..80).map(part).collect(), (7..87).map(part).collect()],
        };
        let block = slot.encode(&identity);
        assert_eq!(Slot::decode(&block, &identity, ShardId(2)), Ok(slot));
        assert!(Slot::decode(&block, &identity, ShardId(1)).is_err());
        for at in 0..block.len() {
            let mut bad = block;
            bad[at] ^= 2;
            assert!(Slot::decode(&bad, &identity, ShardId(2)).is_err(), "byte {at}");
        }
        assert!(Slot::decode(&[], &identity, ShardId(2)).is_err());
    }
}
