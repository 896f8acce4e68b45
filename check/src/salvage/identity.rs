//! Identity: which store this is, from a superblock copy or from what the headers prove.
//!
//! The checksum of a record's header is that of the store's secret followed by the header. Checksums are linear: with the
//! header and its checksum at hand, the checksum of the secret follows (its 16 bytes do not, and are not needed: any bytes
//! with that checksum verify the same headers). Where a header says that it is, and where it is, gives the bytes of a
//! segment. So each header casts a vote for {uuid, checksum of the secret, segment bytes}, and two that agree are a proof:
//! any other bytes vote for something else each, with a chance of one in 2^32 to agree. An image of another store that is
//! kept in this one has its headers at other places than they say.
//!
//! Cost: one look at each block of the device.

use std::collections::BTreeMap;

use seabed_segment::{Identity, Layout, ListedWhat, RECORD_HEADER_BYTES, Superblock};
use seabed_types::{BLOCK_BYTES, Crc, Uuid};

use crate::Image;
use crate::front::superblock_copies;
use crate::image::{Source, read_at};
use crate::records::{self, Wanted};

const RECORD_MAGIC: &[u8] = b"SBRC";
/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// Votes that a candidate needs.
const VOTES_MIN: u64 = 2;

/// The smallest node: good enough to scan records with.
const NODE_BYTES_MIN: u32 = 4096;

/// What a header votes for.
type Vote = ([u8; 16], u32, u32);

/// The superblock, and whether a copy of it was valid.
pub(super) fn find(image: &dyn Image) -> Option<(Superblock, bool)> {
    let copies = superblock_copies(image);
    let valid: Vec<_> =
        copies.iter().filter_map(|(_, copy)| copy.as_ref().ok()?.as_ref().ok().copied()).collect();
    let agree = valid.windows(2).all(|pair| pair.first() == pair.last());
    match valid.first() {
        // Of copies that differ the headers know which is right.
        Some(first) if agree => Some((*first, true)),
        _ => {
            let guessed = guess(image);
            let known = guessed.as_ref().and_then(|guessed| {
                valid.iter().find(|known| known.identity.uuid == guessed.identity.uuid).copied()
            });
            known.map(|known| (known, true)).or(guessed.map(|guessed| (guessed, false)))
        }
    }
}

/// What the headers prove.
fn guess(image: &dyn Image) -> Option<Superblock> {
    let inverse = inverse_of(|state| Crc(state).then(Crc(0), RECORD_HEADER_BYTES).0)?;
    let mut votes: BTreeMap<Vote, (u64, u16)> = BTreeMap::new();
    let mut at = 0;
    while at < image.bytes() {
        let bytes = usize::try_from(image.bytes() - at).unwrap_or(READ_BYTES).min(READ_BYTES);
        for (index, block) in (0..).zip(read_at(image, at, bytes).unwrap_or_default().chunks(BLOCK_BYTES)) {
            if let Some((vote, shard)) = vote(block, at + index * BLOCK_BYTES as u64, &inverse) {
                let (count, shards) = votes.entry(vote).or_default();
                *count += 1;
                *shards = (*shards).max(shard.saturating_add(1));
            }
        }
        at += bytes as u64;
    }
    let elected = votes.into_iter().filter(|(_, (count, _))| *count >= VOTES_MIN);
    let ((uuid, state, segment_bytes), (_, shards)) = elected.max_by_key(|(_, (count, _))| *count)?;
    let identity = Identity { uuid: Uuid(uuid), secret: secret_of(Crc(state))? };
    let device_bytes = image.bytes() / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let layout = Layout { device_bytes, segment_bytes, node_bytes: NODE_BYTES_MIN, shards };
    layout.check().ok()?;
    let layout = Layout { node_bytes: node_bytes(image, identity, layout), ..layout };
    layout.check().ok()?;
    Some(Superblock::new(identity, layout, 0))
}

/// What a block votes for, if it begins like a record.
fn vote(block: &[u8], at: u64, inverse: &[u32; 32]) -> Option<(Vote, u16)> {
    let mut header: [u8; RECORD_HEADER_BYTES] = block.get(..RECORD_HEADER_BYTES)?.try_into().ok()?;
    if !header.starts_with(RECORD_MAGIC) {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
    let (crc, segment, offset) = (word(4)?, word(24)?, word(28)?);
    let uuid = block.get(8..24)?.try_into().ok()?;
    let shard = u16::from_le_bytes(block.get(32..34)?.try_into().ok()?);
    header.iter_mut().skip(4).take(4).for_each(|byte| *byte = 0);
    let state = product(inverse, crc ^ Crc::of(&header).0);
    let start = at.checked_sub(u64::from(offset))?;
    let segment_bytes = start.checked_div(u64::from(segment))?;
    if segment_bytes * u64::from(segment) != start || u64::from(offset) >= segment_bytes {
        return None;
    }
    let segment_bytes = u32::try_from(segment_bytes).ok().filter(|bytes| bytes.is_power_of_two())?;
    Some(((uuid, state, segment_bytes), shard))
}

/// The bytes of a node, by the first one that a record lists.
fn node_bytes(image: &dyn Image, identity: Identity, layout: Layout) -> u32 {
    let source = Source::of(image, &Superblock::new(identity, layout, 0));
    let mut found = None;
    for segment in layout.segments() {
        let wanted = Wanted { segment, incarnation: None, header_crc: None };
        let _ = records::scan(&source, wanted, |taken| {
            for listed in records::contents(&taken.header, &taken.entries).unwrap_or_default() {
                if matches!(listed.what, ListedWhat::Image { .. }) {
                    found.get_or_insert(listed.bytes);
                }
            }
        });
        if let Some(bytes) = found {
            return bytes;
        }
    }
    layout.node_bytes
}

/// Sixteen bytes that have this checksum.
fn secret_of(state: Crc) -> Option<[u8; 16]> {
    let of = |last: u32| {
        let mut bytes = [0; 16];
        bytes.iter_mut().skip(12).zip(last.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        (bytes, Crc::of(&bytes).0)
    };
    let base = of(0).1;
    let inverse = inverse_of(|last| of(last).1 ^ base)?;
    let (bytes, found) = of(product(&inverse, state.0 ^ base));
    (found == state.0).then_some(bytes)
}

/// The inverse of a linear function of 32 bits, as its values for each bit.
fn inverse_of(function: impl Fn(u32) -> u32) -> Option<[u32; 32]> {
    // Pairs of a value and what leads to it, brought to one bit per value.
    let mut pairs: Vec<(u32, u32)> = (0..32).map(|bit| (function(1 << bit), 1 << bit)).collect();
    for bit in 0..32 {
        let index = pairs.iter().skip(bit).position(|(value, _)| value >> bit & 1 == 1)? + bit;
        pairs.swap(bit, index);
        let (value, from) = *pairs.get(bit)?;
        for (index, pair) in pairs.iter_mut().enumerate() {
            if index != bit && pair.0 >> bit & 1 == 1 {
                pair.0 ^= value;
                pair.1 ^= from;
            }
        }
    }
    let inverse: Vec<u32> = pairs.into_iter().map(|(_, from)| from).collect();
    inverse.try_into().ok()
}

/// The value of a linear function that is given by its values for each bit.
fn product(columns: &[u32; 32], of: u32) -> u32 {
    let columns = columns.iter().enumerate().filter(|(bit, _)| of >> bit & 1 == 1);
    columns.fold(0, |sum, (_, column)| sum ^ column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_header_is_found() {
        let inverse = inverse_of(|state| Crc(state).then(Crc(0), 96).0).expect("it has one");
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let mut secret = [0; 16];
            rng.fill(&mut secret);
            let identity = Identity { uuid: Uuid([1; 16]), secret };
            let header: Vec<u8> = (0..96).map(|_| rng.u8(..)).collect();
            let crc = identity.header_crc(&header);
            let state = product(&inverse, crc.0 ^ Crc::of(&header).0);
            assert_eq!(state, Crc::of(&secret).0);
            let other = Identity { secret: secret_of(Crc(state)).expect("there are some"), ..identity };
            assert_eq!(other.header_crc(&header), crc);
            assert_eq!(other.header_crc(b"another"), identity.header_crc(b"another"));
        }
    }
}
