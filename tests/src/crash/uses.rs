//! Uses: no two uses of a segment have records under one incarnation, whatever a crash took of them (rule S1).
//!
//! All records of a use of a segment of the bulk or node stream carry its epoch and the checksum of its header; those of a
//! journal segment are of the journal. So two records of one incarnation that differ in these are of two uses.
//!
//! Cost: every block of the disk is looked at.

use std::collections::BTreeMap;

use seabed_segment::{RecordHeader, SEGMENT_HEADER_BYTES, StreamKind, Superblock};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Paddr};

use super::{Broken, Rule, broken};
use crate::machine::DiskImage;

/// Looks at all records that a disk holds.
pub(super) fn each_has_its_incarnation(image: &DiskImage, superblock: &Superblock) -> Result<(), Broken> {
    let layout = &superblock.layout;
    for segment in layout.segments() {
        let mut uses = BTreeMap::new();
        for offset in (SEGMENT_HEADER_BYTES..layout.segment_bytes).step_by(BLOCK_BYTES) {
            let at = Paddr::new(segment, offset);
            let block = image.read(layout.device_offset(at), BLOCK_BYTES);
            let Ok(header) = RecordHeader::decode(&block, &superblock.identity, layout, at) else { continue };
            let place = header.place;
            let found = match place.stream {
                StreamKind::Journal => (StreamKind::Journal, Epoch(0), Crc(0)),
                stream @ (StreamKind::Bulk | StreamKind::Nodes) => (stream, place.epoch, place.previous),
            };
            let first = *uses.entry(place.incarnation).or_insert(found);
            if first != found {
                let what = format!(
                    "segment {segment} has records of two uses under incarnation {}: {first:?} and, at \
                     {offset}, {found:?}",
                    place.incarnation
                );
                return Err(broken(Rule::Check, what));
            }
        }
    }
    Ok(())
}
