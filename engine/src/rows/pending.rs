//! Pending: for each row that changed since its leaf's image was written, its newest change and the record that has it.
//!
//! One ordered map per tree ([`buckets`]), whether the leaf is in memory or not. So a leaf can be given up at any time, a replay needs no
//! leaf, logging a change again needs none either, and a leaf that is loaded applies what lies in its interval. The
//! changes of a row are merged as they come: a patch into a value is a value, of two patches the newer wins chunk by chunk.
//!
//! [`Ages`] counts the pending changes of all trees by record, and their bytes, so that the oldest (a checkpoint's P) and
//! the sum are known without a walk. It also knows what a replay from the last checkpoint would make pending: that is more,
//! as a replay meets changes whose images no checkpoint has published.
//!
//! Cost: one look-up per change; memory about 150 bytes each. Limits: trimming keeps the sum under a quarter
//! of the window and an eighth of the memory budget, and that of a replay under a quarter of the window more (rule T4).

mod buckets;

use std::collections::VecDeque;
use std::ops::Bound;

use seabed_object::{Change, merge_into};
use seabed_types::{Lsn, Malformed};
use smallvec::SmallVec;

use buckets::Buckets;

/// A row's key.
pub(crate) type Key = SmallVec<[u8; 24]>;

/// What a map entry takes besides key and value.
const OVERHEAD_BYTES: usize = 112;

/// A change that the leaf's image lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PendingChange {
    /// The oldest record that a replay needs to make it: the one with the whole row or, of patches, the first.
    pub(crate) oldest: Lsn,
    /// The newest record that has a part of it.
    pub(crate) newest: Lsn,
    /// The row's change against the image.
    pub(crate) change: Change,
}

/// The pending changes of one tree.
#[derive(Default)]
pub(crate) struct Pending {
    rows: Buckets<PendingChange>,
}

/// What a pending change takes in memory.
fn row_bytes(key: &[u8], change: &Change) -> usize {
    let value = match change {
        Change::Set(bytes) | Change::Patch(bytes) => bytes.len(),
        Change::Gone => 0,
    };
    key.len() + value + OVERHEAD_BYTES
}

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Merges a change that record `lsn` has.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        change: Change,
        lsn: Lsn,
        ages: &mut Ages,
    ) -> Result<(), Malformed> {
        let merge = |old: &mut PendingChange, (change, ages): (Change, &mut Ages)| {
            let (is_patch, bytes) = (matches!(change, Change::Patch(_)), row_bytes(key, &old.change));
            merge_into(&mut old.change, change)?;
            let now = row_bytes(key, &old.change);
            ages.bytes = ages.bytes + now - bytes;
            ages.replays_later(old.newest, bytes);
            ages.replays(lsn, now);
            old.newest = lsn;
            // A patch does not replace the records before it: what it does not name is still only there.
            if !is_patch || seabed_types::seeded!(13) {
                ages.count(lsn);
                ages.uncount(old.oldest);
                old.oldest = lsn;
            }
            Ok(())
        };
        let new = |(change, ages): (Change, &mut Ages)| {
            ages.count(lsn);
            let bytes = row_bytes(key, &change);
            ages.bytes += bytes;
            ages.replays(lsn, bytes);
            PendingChange { oldest: lsn, newest: lsn, change }
        };
        self.rows.upsert(key, (change, ages), merge, new)
    }

    /// The changes from `lower` (inclusive) to `upper` (exclusive; none: the end).
    pub(crate) fn within<'a>(
        &'a self,
        lower: &'a [u8],
        upper: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a PendingChange)> {
        self.rows.range(lower, upper)
    }

    /// As [`Pending::within`], in no order.
    pub(crate) fn any_order<'a>(
        &'a self,
        lower: &'a [u8],
        upper: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a PendingChange> {
        self.rows.any_order(lower, upper).map(|(_, pending)| pending)
    }

    /// The first change at or behind `from` for which a replay needs a record before `before`.
    pub(crate) fn first_older(&self, from: Bound<&[u8]>, before: Lsn) -> Option<&Key> {
        self.rows.first(from, |pending| pending.oldest < before)
    }

    /// Record `lsn` has the whole change now: it was logged again.
    pub(crate) fn logged_again(&mut self, key: &[u8], lsn: Lsn, ages: &mut Ages) {
        if let Some(pending) = self.rows.find_mut(key) {
            ages.uncount(pending.oldest);
            ages.count(lsn);
            let bytes = row_bytes(key, &pending.change);
            ages.replays_later(pending.newest, bytes);
            ages.replays(lsn, bytes);
            pending.oldest = lsn;
            pending.newest = lsn;
        }
    }

    /// Forgets the changes of an interval: a new image has them. A replay still meets them, until a checkpoint has the image.
    pub(crate) fn imaged(&mut self, lower: &[u8], upper: Option<&[u8]>, ages: &mut Ages) {
        self.rows.remove_range(lower, upper, |key, pending| {
            ages.bytes -= row_bytes(key, &pending.change);
            ages.uncount(pending.oldest);
        });
    }
}

/// A number for each record of the window.
#[derive(Default, Debug)]
struct ByRecord<T> {
    first: Lsn,
    numbers: VecDeque<T>,
}

impl<T: Copy + Default> ByRecord<T> {
    fn of(&mut self, lsn: Lsn) -> &mut T {
        if self.numbers.is_empty() {
            self.first = lsn;
        }
        while lsn < self.first {
            self.numbers.push_front(T::default());
            self.first = Lsn(self.first.0 - 1);
        }
        let index = usize::try_from(lsn.0 - self.first.0).expect("a window's records fit memory");
        if index >= self.numbers.len() {
            self.numbers.resize(index + 1, T::default());
        }
        &mut self.numbers[index]
    }

    /// Takes the oldest away, if it `is_over`.
    fn pop_if(&mut self, is_over: impl Fn(Lsn, T) -> bool) -> Option<T> {
        let number = *self.numbers.front().filter(|number| is_over(self.first, **number))?;
        self.numbers.pop_front();
        self.first = self.first.next();
        Some(number)
    }
}

/// How many pending changes each record of the window has, and what a replay of it would make pending.
#[derive(Default, Debug)]
pub(crate) struct Ages {
    /// Bytes of all pending changes.
    bytes: usize,
    counts: ByRecord<u32>,
    /// What a replay from the last checkpoint would make pending, by the newest record that has the row. A row that got an
    /// image and changed again is counted twice.
    replayed: ByRecord<usize>,
    /// Their sum.
    replay_bytes: usize,
}

impl Ages {
    fn count(&mut self, lsn: Lsn) {
        *self.counts.of(lsn) += 1;
    }

    fn uncount(&mut self, lsn: Lsn) {
        *self.counts.of(lsn) -= 1;
        while self.counts.pop_if(|_, count| count == 0).is_some() {}
    }

    /// Record `lsn` has a row of so many bytes.
    fn replays(&mut self, lsn: Lsn, bytes: usize) {
        *self.replayed.of(lsn) += bytes;
        self.replay_bytes += bytes;
    }

    /// A later record than `lsn` has it now.
    fn replays_later(&mut self, lsn: Lsn, bytes: usize) {
        *self.replayed.of(lsn) -= bytes;
        self.replay_bytes -= bytes;
    }

    /// Bytes of memory of all pending changes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that the pending changes of a replay from the last checkpoint would take at most.
    pub(crate) fn replay_bytes(&self) -> usize {
        self.replay_bytes
    }

    /// A checkpoint is published whose replay begins with record `start`.
    pub(crate) fn published(&mut self, start: Lsn) {
        while let Some(bytes) = self.replayed.pop_if(|lsn, _| lsn < start) {
            self.replay_bytes -= bytes;
        }
    }

    /// The oldest record with a pending change.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        let index = self.counts.numbers.iter().position(|count| *count > 0)?;
        Some(Lsn(self.counts.first.0 + index as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A streaming put set a row in one record and its last transaction patched it in a later one. The patched row counted
    /// as that of the later record, the window's start passed the earlier, and a replay found only the patch: five chunks
    /// of an acknowledged object were holes.
    #[test]
    fn a_patch_keeps_the_records_before_it() {
        let (mut pending, mut ages) = (Pending::default(), Ages::default());
        let mut add = |change, lsn| {
            pending.add(b"row", change, Lsn(lsn), &mut ages).expect("sound");
            (ages.oldest(), pending.rows.find_mut(b"row").expect("added").newest)
        };
        let mut chunk = vec![1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9];
        chunk[11] = 16;
        let mut patch = vec![2, 0];
        patch.extend_from_slice(&chunk);
        patch[3] = 2;
        assert_eq!(add(Change::Set(chunk.clone()), 3), (Some(Lsn(3)), Lsn(3)));
        assert_eq!(add(Change::Patch(patch), 7), (Some(Lsn(3)), Lsn(7)));
        assert_eq!(add(Change::Set(chunk), 9), (Some(Lsn(9)), Lsn(9)));
        assert_eq!(add(Change::Gone, 11), (Some(Lsn(11)), Lsn(11)));
    }

    #[test]
    fn the_oldest_is_known_without_a_walk() {
        let mut rng = fastrand::Rng::with_seed(4);
        let (mut pending, mut ages) = (Pending::default(), Ages::default());
        let mut lsn = Lsn(10);
        let mut log: Vec<(Lsn, [u8; 2], Change)> = Vec::new();
        for _ in 0..20_000 {
            let key = [rng.u8(..), rng.u8(..3)];
            match rng.u32(..10) {
                0 => {
                    let (low, high) = (rng.u8(..), rng.u8(..));
                    pending.imaged(&[low], Some(&[high.max(low)]), &mut ages);
                }
                1 => {
                    pending.logged_again(&key, lsn, &mut ages);
                    log.extend(pending.rows.find_mut(&key).map(|row| (lsn, key, row.change.clone())));
                }
                2 => lsn = lsn.next(),
                change => {
                    let mut set = || Change::Set(vec![0; rng.usize(..9)]);
                    let change = if change == 3 { Change::Gone } else { set() };
                    log.push((lsn, key, change.clone()));
                    pending.add(&key, change, lsn, &mut ages).expect("sound");
                }
            }
            let oldest = pending.within(&[], None).map(|(_, pending)| pending.oldest).min();
            assert_eq!(ages.oldest(), oldest);
            let bytes: usize =
                pending.within(&[], None).map(|(key, pending)| row_bytes(key, &pending.change)).sum();
            assert_eq!(ages.bytes(), bytes);
            if rng.u32(..20) != 0 {
                continue;
            }
            ages.published(oldest.unwrap_or(lsn));
            log.retain(|(at, ..)| *at >= oldest.unwrap_or(lsn));
            let (mut replayed, mut of_replay) = (Pending::default(), Ages::default());
            for (lsn, key, change) in &log {
                replayed.add(key, change.clone(), *lsn, &mut of_replay).expect("sound");
            }
            assert!(ages.replay_bytes() >= of_replay.bytes() && of_replay.bytes() >= bytes);
            assert_eq!(of_replay.replay_bytes(), of_replay.bytes());
        }
    }
}
