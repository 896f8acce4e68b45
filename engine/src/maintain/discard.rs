//! Discard: tells the device of segments that became free, where it has a use for that ([`seabed_device::Geometry::discards`]).
//!
//! Only what may be claimed is discarded: rule S4 has let go of it, so that no row, no slot and no running operation has a use for
//! a byte of it, whatever a crash takes. While its discard runs it is not among the free segments, so nobody claims it and
//! writes into the range; one at a time, in the background, and only while users have a segment more than they need, so that
//! nobody waits for one or is rejected for lack of it. A store that is nearly full discards nothing.
//!
//! What a discarded range reads as is unspecified: all that is read of a free segment is its header and seal, by a mount, which
//! takes anything there that is not valid for the remains of a torn write. Its incarnation is in the log and in checkpoints
//! since before it could become free.
//!
//! A discard that fails is counted and ends discarding for the life of the shard; the segment is free all the same.
//!
//! Crash: between discard and reuse there is nothing to be lost. Cost: one operation per reuse of a segment, none before.
//! Not here: what the device does with it; segments that were free when the store was opened, which may be discarded already.

use std::rc::Rc;

use seabed_types::Paddr;

use crate::shard::mounted::Mounted;

impl Mounted {
    /// Whether free segments are discarded.
    pub(crate) fn discards(&self) -> bool {
        let has_failed = self.counters.stats.borrow().discards_failed > 0;
        self.machine.device.geometry().discards && !has_failed
    }

    /// The task that discards while the shard serves.
    pub(crate) async fn discard_loop(self: Rc<Self>) {
        self.table.note_for_discard(true);
        let segment_bytes = u64::from(self.layout.segment_bytes);
        loop {
            let may = || self.table.may_discard(|| self.user_reserve());
            self.table.changed.until(|| self.trim_must_end() || may()).await;
            if self.trim_must_end() {
                return;
            }
            let Some(segment) = self.table.take_to_discard(self.user_reserve()) else { continue };
            let at = self.layout.device_offset(Paddr::new(segment, 0));
            let result = self.machine.device.discard(at, segment_bytes).await;
            self.table.discarded(segment);
            seabed_types::reached!(SegmentDiscarded);
            if let Err(error) = result {
                // After its end a mount's device refuses, which is no failure of the device.
                if self.failure().is_none() {
                    tracing::warn!(%error, "a discard failed: nothing more is discarded");
                    self.counters.count(|stats| stats.discards_failed += 1);
                }
                self.table.note_for_discard(false);
                return;
            }
        }
    }
}
