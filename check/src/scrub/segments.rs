//! Segments: the inventories of the segments that are claimed, as far as their seals say that there is one.

use seabed_segment::Listed;
use seabed_types::{Crc, Paddr, SegmentId};

use super::{Bad, Go, Position, Scrub, Shard, claims};
use crate::segments::ends;
use crate::violation::InventoryFault;
use crate::{Note, Violation};

impl Scrub<'_> {
    /// The segments that are to be done.
    pub(super) fn segments(&mut self, shards: &[Shard]) -> Go {
        let Position::Segments { segment: first } = self.from else { return Go::On };
        for (segment, claim) in claims(shards).range(first..) {
            let seal = ends(self.source, *segment).1.filter(|seal| seal.incarnation == claim.incarnation);
            if let Some(seal) = seal {
                let at = Paddr::new(*segment, seal.inventory_offset);
                let read = self.source.read(at, seal.inventory_bytes as usize).ok();
                match read.filter(|bytes| Crc::of(bytes) == seal.inventory_crc) {
                    None => self.watch.note(Note::InventoryLost { segment: *segment }),
                    Some(bytes) => {
                        self.counts.bytes_verified += bytes.len() as u64;
                        if let Err(malformed) = Listed::decode_all(&bytes) {
                            let fault = InventoryFault::Malformed(malformed.what);
                            self.watch.bad(Bad::Other(Violation::Inventory { segment: *segment, fault }));
                        }
                    }
                }
            }
            self.from = Position::Segments { segment: SegmentId(segment.0.saturating_add(1)) };
            if self.step() == Go::Stop {
                return Go::Stop;
            }
        }
        Go::On
    }
}
