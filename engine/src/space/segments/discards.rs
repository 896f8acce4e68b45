//! Discards: the free segments that the device may be told of, and the one that it is being told of.
//!
//! Invariants: 1. A segment that is being discarded is not among those that may be claimed. 2. What waits for a discard may be
//! claimed; a claim takes it off the list. 3. One is discarded at a time.
//! A mount in place does not take a segment that is being discarded for free (`inherit`), and begins when nothing of the mount
//! before is in the kernel any more.

use seabed_types::SegmentId;

use super::{Inner, SegmentTable, Use};

impl SegmentTable {
    /// From now on segments that become free are noted for a discard, or none any more.
    pub(crate) fn note_for_discard(&self, wanted: bool) {
        let mut inner = self.inner.borrow_mut();
        inner.discards = wanted;
        inner.undiscarded.clear();
    }

    /// Takes a segment that may be claimed out of the free ones, so that it can be discarded, if more than `reserve` stay. It is
    /// free again with [`SegmentTable::discarded`]. One at a time.
    pub(crate) fn take_to_discard(&self, reserve: usize) -> Option<SegmentId> {
        let mut inner = self.inner.borrow_mut();
        if inner.discarding.is_some() {
            return None;
        }
        if seabed_types::seeded!(89)
            && let Some(id) = inner.ids().into_iter().find(|id| inner.discards && inner.is_only_unproven(*id))
        {
            inner.discarding = Some(id);
            return Some(id);
        }
        if inner.free.len() <= reserve + 1 {
            return None;
        }
        let id = inner.undiscarded.pop_first()?;
        let was_free = inner.free.remove(&id);
        assert!(was_free, "what is to be discarded is free");
        inner.discarding = Some(id);
        Some(id)
    }

    /// The discard of a segment has ended, however.
    pub(crate) fn discarded(&self, id: SegmentId) {
        let mut inner = self.inner.borrow_mut();
        assert_eq!(inner.discarding.take(), Some(id), "one at a time");
        let is_free = inner.get_mut(id).is_some_and(|segment| segment.free && !segment.quarantined);
        if is_free {
            inner.free.insert(id);
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Whether [`SegmentTable::take_to_discard`] has anything to give.
    pub(crate) fn may_discard(&self, reserve: impl FnOnce() -> usize) -> bool {
        let mut inner = self.inner.borrow_mut();
        let is_seeded = seabed_types::seeded!(89)
            && inner.ids().into_iter().any(|id| inner.discards && inner.is_only_unproven(id));
        let (has_any, free) = (!inner.undiscarded.is_empty(), inner.free.len());
        drop(inner);
        is_seeded || has_any && free > reserve() + 1
    }
}

impl Inner {
    /// Of seeded bug 89: no live byte is left in it, which its record's successor has yet to prove.
    fn is_only_unproven(&mut self, id: SegmentId) -> bool {
        self.get_mut(id).is_some_and(|segment| {
            segment.usage == Use::Sealed
                && segment.live == 0
                && segment.provable > 0
                && segment.holds == 0
                && !(segment.in_window || segment.free || segment.quarantined || segment.kept)
        })
    }
}
