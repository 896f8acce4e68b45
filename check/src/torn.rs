//! Torn: whether an invalid slot is one that a power cut left while it was written.
//!
//! A disk writes sectors of 512 bytes whole. So each sector of a slot whose write was cut off is of that write or of one before, and
//! the other slot is the pair's: the one before it, or, if it was written first, the new one. A sector that is neither is damage.
//!
//! A slot is torn if and only if, compared with the valid other one,
//! 1. its first sector is the same, or says what a neighbouring slot of the same shard may say: sequence at most two apart, and
//!    epoch, E and what it states no newer in the slot of the lower sequence, and another checksum;
//! 2. if all that the first sector announces stands in that sector, it has the right checksum for a block with zeros behind it:
//!    what stands behind it is of another write;
//! 3. a sector behind the first that differs does so in more than a byte or two, and is zero behind what the longest slot has.
//!
//! Example: a slot with 20 cuts and two parts takes 672 bytes. The next one has 21 cuts, and only the first sector of its write
//! arrives: it announces 700 bytes, and its checksum is wrong, as the 160 bytes behind the sector are those of 20 cuts.
//!
//! Not told apart: damage to a sector behind the first of a long slot, if more than a few bytes of it changed.

use seabed_journal::{CUTS_MAX, PARTS_MAX, Slot};
use seabed_segment::Identity;
use seabed_types::{BLOCK_BYTES, Cursor, Malformed, ShardId};

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;
const FIXED_BYTES: usize = 80;
const CUT_BYTES: usize = 28;
const PART_BYTES: usize = 16;
const CONTENT_BYTES_MAX: usize = FIXED_BYTES + CUTS_MAX * CUT_BYTES + 2 * PARTS_MAX * PART_BYTES;
/// Sequences of the two slots are at most so far apart after a crash (by programs before format version 3 two).
pub(crate) const SEQUENCES_APART_MAX: u64 = 2;
/// A sector of another write differs in at least so many bytes: an address or a checksum.
const DIFFERING_MIN: usize = 4;

/// The first sector of a slot, not verified.
struct Front {
    magic: [u8; 8],
    crc: u32,
    /// Zero, uuid and shard.
    whose: [u8; 24],
    content_bytes: usize,
    sequence: u64,
    /// Epoch, E and what is stated: none of them ever shrinks.
    grows: [u64; 3],
}

impl Front {
    fn read(block: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(block);
        let magic = cursor.array("magic")?;
        let crc = cursor.u32("checksum")?;
        let whose = cursor.array("whose")?;
        let mut counts = [0; 3];
        for (count, limit) in counts.iter_mut().zip([CUTS_MAX, PARTS_MAX, PARTS_MAX]) {
            *count = cursor.u32("counts")? as usize;
            if *count > limit {
                return Err(cursor.malformed("counts"));
            }
        }
        let [cuts, parts_a, parts_b] = counts;
        let content_bytes = FIXED_BYTES + cuts * CUT_BYTES + (parts_a + parts_b) * PART_BYTES;
        let sequence = cursor.u64("sequence")?;
        let grows = [cursor.u64("epoch")?, cursor.u64("end")?, cursor.u64("durable")?];
        Ok(Self { magic, crc, whose, content_bytes, sequence, grows })
    }

    /// Whether the write of the one may have come right before or behind that of the other.
    fn is_neighbour(&self, other: &Self) -> bool {
        let (older, newer) = if self.sequence <= other.sequence { (self, other) } else { (other, self) };
        let never_shrinks = older.grows.iter().zip(&newer.grows).all(|(older, newer)| older <= newer);
        self.magic == other.magic
            && self.whose == other.whose
            && self.crc != other.crc
            && newer.sequence - older.sequence <= SEQUENCES_APART_MAX
            && (older.sequence < newer.sequence || self.grows != other.grows)
            && never_shrinks
    }
}

/// Whether the block of an invalid slot is what a cut of its write leaves, if `other` is the block of the valid other slot.
pub(crate) fn is_torn(block: &[u8], other: &[u8], identity: &Identity, shard: ShardId) -> bool {
    let (Ok(front), Ok(other_front)) = (Front::read(block), Front::read(other)) else { return false };
    let sectors = || (0..).zip(block.chunks(SECTOR_BYTES).zip(other.chunks(SECTOR_BYTES)));
    let is_first_the_same = sectors().next().is_some_and(|(_, (ours, theirs))| ours == theirs);
    if !is_first_the_same && !front.is_neighbour(&other_front) {
        return false;
    }
    if front.content_bytes <= SECTOR_BYTES {
        let mut alone = block.get(..SECTOR_BYTES).unwrap_or_default().to_vec();
        alone.resize(BLOCK_BYTES, 0);
        if Slot::decode(&alone, identity, shard).is_err() {
            return false;
        }
    }
    sectors().skip(1).filter(|(_, (ours, theirs))| ours != theirs).all(|(index, (ours, theirs))| {
        let is_zero = |place: usize| index * SECTOR_BYTES + place >= CONTENT_BYTES_MAX;
        let has_rest = ours.iter().enumerate().any(|(place, byte)| is_zero(place) && *byte != 0);
        let differing = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs).count();
        !has_rest && differing >= DIFFERING_MIN
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use seabed_journal::{BodyPart, Cut};
    use seabed_types::{Crc, Epoch, Incarnation, Lsn, Paddr, SegmentId, Uuid};

    const IDENTITY: Identity = Identity { uuid: Uuid([4; 16]), secret: [5; 16] };
    const SHARD: ShardId = ShardId(2);

    /// The slot of a checkpoint, with as many cuts as its number behind `few`.
    fn slot(sequence: u64, few: u64) -> Slot {
        let number = |less: u64| u32::try_from(sequence - less).expect("small");
        let cut = |lsn: u64| Cut {
            lsn: Lsn(lsn),
            epoch: Epoch(lsn),
            at: Paddr::new(SegmentId(3), u32::try_from(lsn).expect("small") * 4096),
            incarnation: Incarnation(1),
        };
        let part = |copy: u32| BodyPart {
            at: Paddr::new(SegmentId(9 + copy), number(0) * 8192 + 4096),
            bytes: 900 + number(0),
            crc: Crc(number(0).wrapping_mul(0x9e37_79b9)),
        };
        Slot {
            shard: SHARD,
            sequence,
            epoch: Epoch(sequence),
            end: Lsn(sequence * 10),
            durable: Lsn(sequence * 10 + 3),
            cuts: (1..=sequence - few).map(cut).collect(),
            body: [vec![part(0)], vec![part(1)]],
        }
    }

    fn torn(block: &[u8], other: &[u8]) -> bool {
        is_torn(block, other, &IDENTITY, SHARD)
    }

    /// Every mix of the sectors of one slot and the next is either valid or torn, whichever was written first.
    #[test]
    fn every_mix_of_sectors_is_valid_or_torn() {
        let mut found = 0;
        for (few, sequence) in [(0, 20), (0, 24), (10, 30), (19, 20)] {
            let (old, new) =
                (slot(sequence, few).encode(&IDENTITY), slot(sequence + 1, few).encode(&IDENTITY));
            for mask in 0..1_u32 << (BLOCK_BYTES / SECTOR_BYTES) {
                let mut mixed = old;
                for (index, sector) in
                    new.chunks(SECTOR_BYTES).enumerate().filter(|(index, _)| mask >> index & 1 == 1)
                {
                    mixed[index * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(sector);
                }
                if Slot::decode(&mixed, &IDENTITY, SHARD).is_err() {
                    found += 1;
                    assert!(torn(&mixed, &old) && torn(&mixed, &new), "{sequence} of {few}, {mask:#b}");
                }
            }
        }
        assert!(found > 100, "{found}");
    }

    /// The first program took every invalid slot for damage, and the first draft of this would have taken a flipped bit for a
    /// torn write.
    #[test]
    fn a_flipped_bit_is_never_torn() {
        for (few, sequence) in [(0, 20), (10, 30), (19, 20)] {
            let same = slot(sequence, few).encode(&IDENTITY);
            let older = slot(sequence - 1, few.min(sequence - 1)).encode(&IDENTITY);
            for at in 0..BLOCK_BYTES {
                for bit in 0..8 {
                    let mut bad = same;
                    bad[at] ^= 1 << bit;
                    assert!(!torn(&bad, &same), "bit {bit} of byte {at}, {sequence} of {few}");
                    let is_behind_the_first = at >= SECTOR_BYTES && slot(sequence, few).cuts.len() > 14;
                    assert!(is_behind_the_first || at < SECTOR_BYTES || !torn(&bad, &older), "{at}");
                }
            }
        }
    }

    #[test]
    fn what_no_write_of_a_slot_leaves_is_not_torn() {
        let good = slot(20, 0).encode(&IDENTITY);
        for other in [slot(20, 0), slot(21, 0), slot(5, 0)] {
            assert!(!torn(&[0; BLOCK_BYTES], &other.encode(&IDENTITY)));
            let garbage: Vec<u8> =
                (0..BLOCK_BYTES).map(|at| u8::try_from(at * 7 % 251).expect("small")).collect();
            assert!(!torn(&garbage, &other.encode(&IDENTITY)));
        }
        let mut of_another = good;
        of_another[20] ^= 1;
        assert!(!torn(&of_another, &slot(21, 0).encode(&IDENTITY)), "of another store");
        let mut far = slot(24, 0).encode(&IDENTITY);
        far[600] ^= 0xff;
        assert!(!torn(&far, &good), "too many sequences away");
    }
}
