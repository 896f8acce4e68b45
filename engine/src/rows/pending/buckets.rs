//! Buckets: an ordered map for keys that come in any order, whose look-ups read few cache lines.
//!
//! The keys are cut into intervals, each a *bucket* of at most [`ROWS_MAX`] rows in no order, with a small hash table of
//! their places. A look-up is a search among the first keys of the buckets, which are few and stay in the processor's cache,
//! one slot of one table, and the row. An ordered map of small nodes compares keys on four or five levels instead, most of them
//! in memory that is cold. Order is made when it is asked for: the rows of a bucket are sorted when an interval is walked.
//!
//! Example: 50,000 rows are some 1,100 buckets of 45; what is searched of their first keys is 18 KiB.
//!
//! Rows are only ever removed by intervals, so a table is built anew then and knows no deleted places.
//!
//! Invariants: 1. `heads` and `all` belong together by index; the lows of the buckets ascend strictly and the first is empty. 2.
//! A bucket has at least one row, unless it is the only one, and only keys from its low up to the next. 3. At most half of the
//! slots of a table are taken.
//! Cost: a look-up is one search, one slot, one comparison of keys. A full bucket is split: 64 rows moved for every 32 that
//! come, none if keys ascend. When buckets come or go, 24 bytes are moved for each behind them: some 5 us of 7,000. Memory: 256
//! bytes and a few for each bucket besides its rows.

use std::hash::Hasher;
use std::ops::{Bound, Range};

use rustc_hash::FxHasher;
use smallvec::SmallVec;

use super::Key;

/// Rows of a full bucket.
const ROWS_MAX: usize = 64;
/// Slots of a bucket's table.
const SLOTS: usize = 2 * ROWS_MAX;
/// Neighbours with no more rows than this together become one bucket when rows are removed.
const JOINED_MAX: usize = ROWS_MAX * 3 / 4;

/// An ordered map by keys.
pub(super) struct Buckets<V> {
    /// The first bytes of each bucket's low, as a number.
    heads: Vec<u128>,
    #[expect(clippy::vec_box, reason = "all behind it move when a bucket comes or goes")]
    all: Vec<Box<Bucket<V>>>,
    count: usize,
}

struct Bucket<V> {
    /// Its keys are at least this.
    low: Key,
    /// 0: nothing; else the place of a row and one, and some bits of its key's hash above.
    slots: [u16; SLOTS],
    rows: Vec<(Key, V)>,
}

/// What is found by the hash of a key: its first slot, and what the slot says besides the row's place.
#[derive(Clone, Copy)]
struct Print {
    slot: usize,
    bits: u16,
}

impl Print {
    fn of(key: &[u8]) -> Self {
        let mut hasher = FxHasher::default();
        hasher.write(key);
        let [low, high, ..] = hasher.finish().to_le_bytes();
        Self { slot: usize::from(low) % SLOTS, bits: u16::from(high) << 8 }
    }
}

/// The first bytes of a key as a number: keys order as these do, as far as these differ.
fn head_of(key: &[u8]) -> u128 {
    if let Some((head, _)) = key.split_first_chunk() {
        return u128::from_be_bytes(*head);
    }
    let mut head = [0; 16];
    head[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(head)
}

fn is_in(key: &Key, lower: &[u8], upper: Option<&[u8]>) -> bool {
    key.as_slice() >= lower && upper.is_none_or(|upper| key.as_slice() < upper)
}

impl<V> Default for Buckets<V> {
    fn default() -> Self {
        Self { heads: vec![0], all: vec![Bucket::of(Key::new(), Vec::new())], count: 0 }
    }
}

impl<V> Bucket<V> {
    fn of(low: Key, rows: Vec<(Key, V)>) -> Box<Self> {
        let mut bucket = Box::new(Self { low, slots: [0; SLOTS], rows: Vec::new() });
        bucket.refill(rows);
        bucket
    }

    /// Takes these rows instead of those it has.
    fn refill(&mut self, mut rows: Vec<(Key, V)>) {
        rows.shrink_to_fit();
        self.slots = [0; SLOTS];
        for (place, (key, _)) in rows.iter().enumerate() {
            self.note(Print::of(key), place);
        }
        self.rows = rows;
    }

    /// Says in a free slot where a row is.
    fn note(&mut self, print: Print, place: usize) {
        let mut slot = print.slot;
        while self.slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        self.slots[slot] = print.bits | u16::try_from(place + 1).expect("a bucket has few rows");
    }

    fn find(&self, print: Print, key: &[u8]) -> Option<usize> {
        let slots = (0..SLOTS).map(|step| self.slots[(print.slot + step) % SLOTS]);
        let alike = slots.take_while(|slot| *slot != 0).filter(|slot| slot & 0xff00 == print.bits);
        let mut places = alike.map(|slot| usize::from(slot & 0xff) - 1);
        places.find(|place| self.rows[*place].0.as_slice() == key)
    }

    fn push(&mut self, print: Print, key: &[u8], value: V) {
        assert!(self.rows.len() < ROWS_MAX, "invariant 3: a full bucket is split first");
        let count = self.rows.len();
        self.note(print, count);
        if count == self.rows.capacity() {
            self.rows.reserve_exact(count.max(4).min(ROWS_MAX - count));
        }
        self.rows.push((Key::from_slice(key), value));
    }

    /// Makes room for `key` in a full bucket: gives up the greater half of the rows, or nothing if it `is_last` and `key` is behind
    /// them all. (Keys that descend towards a bucket that stays full would otherwise get one each.)
    fn split(&mut self, key: &[u8], is_last: bool) -> Box<Self> {
        if is_last && self.rows.iter().all(|(known, _)| known.as_slice() < key) {
            return Self::of(Key::from_slice(key), Vec::new());
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let upper = rows.split_off(rows.len() / 2);
        self.refill(rows);
        Self::of(upper[0].0.clone(), upper)
    }
}

impl<V> Buckets<V> {
    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The bucket whose interval has `key`.
    fn bucket_of(&self, key: &[u8]) -> usize {
        let head = head_of(key);
        let below = self.heads.partition_point(|low| *low < head);
        let equal = self.heads[below..].partition_point(|low| *low == head);
        let alike = &self.all[below..below + equal];
        let at_most = match alike {
            // Keys that ascend belong into the last.
            [.., last] if last.low.as_slice() <= key => equal,
            _ => alike.partition_point(|bucket| bucket.low.as_slice() <= key),
        };
        // The first low is empty, so there is one.
        (below + at_most).max(1) - 1
    }

    /// The value of `key`.
    pub(super) fn find_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let at = self.bucket_of(key);
        let bucket = &mut self.all[at];
        let place = bucket.find(Print::of(key), key)?;
        Some(&mut bucket.rows[place].1)
    }

    /// Changes the value of `key`, or puts in what `new` makes. `with` goes to the one of them that is called.
    pub(super) fn upsert<W, E>(
        &mut self,
        key: &[u8],
        with: W,
        change: impl FnOnce(&mut V, W) -> Result<(), E>,
        new: impl FnOnce(W) -> V,
    ) -> Result<(), E> {
        let (print, at) = (Print::of(key), self.bucket_of(key));
        let is_last = at + 1 == self.all.len();
        let bucket = &mut self.all[at];
        if let Some(place) = bucket.find(print, key) {
            return change(&mut bucket.rows[place].1, with);
        }
        self.count += 1;
        if bucket.rows.len() < ROWS_MAX {
            bucket.push(print, key, new(with));
            return Ok(());
        }
        let mut upper = bucket.split(key, is_last);
        let into = if key < upper.low.as_slice() { bucket } else { &mut upper };
        into.push(print, key, new(with));
        self.heads.insert(at + 1, head_of(&upper.low));
        self.all.insert(at + 1, upper);
        Ok(())
    }

    /// The buckets whose intervals meet that from `lower` (inclusive) to `upper` (exclusive; none: the end).
    fn meeting(&self, lower: &[u8], upper: Option<&[u8]>) -> Range<usize> {
        let first = self.bucket_of(lower);
        let end = upper.map_or(self.all.len(), |upper| {
            let last = self.bucket_of(upper);
            // One that begins with `upper` has nothing below it.
            if self.all[last].low.as_slice() < upper { last + 1 } else { last }
        });
        first..end.max(first)
    }

    /// The rows from `lower` (inclusive) to `upper` (exclusive; none: the end), in no order.
    pub(super) fn any_order<'a>(
        &'a self,
        lower: &'a [u8],
        upper: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a (Key, V)> {
        let rows = self.all[self.meeting(lower, upper)].iter().flat_map(|bucket| &bucket.rows);
        rows.filter(move |(key, _)| is_in(key, lower, upper))
    }

    /// The rows from `lower` (inclusive) to `upper` (exclusive; none: the end), in order.
    pub(super) fn range<'a>(
        &'a self,
        lower: &'a [u8],
        upper: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a V)> {
        self.all[self.meeting(lower, upper)].iter().flat_map(move |bucket| {
            let mut rows: SmallVec<[&(Key, V); ROWS_MAX]> =
                bucket.rows.iter().filter(|(key, _)| is_in(key, lower, upper)).collect();
            rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            rows.into_iter().map(|(key, value)| (key, value))
        })
    }

    /// The first key at or behind `from` whose value `is_it`.
    pub(super) fn first(&self, from: Bound<&[u8]>, is_it: impl Fn(&V) -> bool) -> Option<&Key> {
        let (Bound::Included(lower) | Bound::Excluded(lower)) = from else {
            return self.first(Bound::Included(&[]), is_it);
        };
        let is_excluded = matches!(from, Bound::Excluded(_));
        self.all[self.bucket_of(lower)..].iter().find_map(|bucket| {
            let rows = bucket.rows.iter().filter(|(key, value)| {
                key.as_slice() >= lower && !(is_excluded && key.as_slice() == lower) && is_it(value)
            });
            rows.map(|(key, _)| key).min()
        })
    }

    /// Takes the rows from `lower` (inclusive) to `upper` (exclusive; none: the end) out, in no order.
    pub(super) fn remove_range(
        &mut self,
        lower: &[u8],
        upper: Option<&[u8]>,
        mut removed: impl FnMut(&Key, V),
    ) {
        let meeting = self.meeting(lower, upper);
        let before = self.count;
        for bucket in &mut self.all[meeting.clone()] {
            let all = bucket.rows.len();
            let out = bucket.rows.extract_if(.., |(key, _)| is_in(key, lower, upper));
            out.for_each(|(key, value)| removed(&key, value));
            self.count -= all - bucket.rows.len();
            if bucket.rows.len() < all {
                let rows = std::mem::take(&mut bucket.rows);
                bucket.refill(rows);
            }
        }
        if self.count < before {
            self.join(meeting.start.saturating_sub(1)..(meeting.end + 1).min(self.all.len()));
        }
    }

    /// Makes of neighbours with few rows one bucket, and of those without any a part of the one below.
    fn join(&mut self, range: Range<usize>) {
        let mut joined: Vec<Box<Bucket<V>>> = Vec::with_capacity(range.len());
        for mut bucket in self.all.drain(range.clone()) {
            match joined.last_mut() {
                Some(last) if last.rows.is_empty() => {
                    bucket.low = std::mem::take(&mut last.low);
                    *last = bucket;
                }
                Some(last) if last.rows.len() + bucket.rows.len() <= JOINED_MAX => {
                    if !bucket.rows.is_empty() {
                        let mut rows = std::mem::take(&mut last.rows);
                        rows.append(&mut bucket.rows);
                        last.refill(rows);
                    }
                }
                Some(_) if bucket.rows.is_empty() => {}
                _ => joined.push(bucket),
            }
        }
        self.heads.splice(range.clone(), joined.iter().map(|bucket| head_of(&bucket.low)));
        self.all.splice(range.start..range.start, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn any_key(rng: &mut fastrand::Rng) -> Vec<u8> {
        // Short alphabets and long common beginnings, so that heads are equal and keys begin with one another.
        let mut key = if rng.bool() { b"a long beginning".to_vec() } else { Vec::new() };
        key.extend((0..rng.usize(..4)).map(|_| [0, 1, 7, 255][rng.usize(..4)]));
        if rng.bool() {
            key.extend(rng.u16(..2_000).to_be_bytes());
        }
        key
    }

    /// Whatever comes and goes, it is what an ordered map has.
    #[test]
    fn as_an_ordered_map() {
        let mut rng = fastrand::Rng::with_seed(21);
        let (mut buckets, mut map) = (Buckets::<u32>::default(), BTreeMap::<Vec<u8>, u32>::new());
        let mut most = 0;
        for round in 0..60_000 {
            let (key, value) = (any_key(&mut rng), rng.u32(..));
            match rng.u32(..400) {
                0 => {
                    let (lower, upper) = (any_key(&mut rng), any_key(&mut rng));
                    let upper = Some(upper).filter(|_| rng.u32(..8) > 0);
                    if upper.as_ref().is_some_and(|upper| *upper < lower) {
                        continue;
                    }
                    let mut removed = BTreeMap::new();
                    buckets.remove_range(&lower, upper.as_deref(), |key, value| {
                        assert_eq!(removed.insert(key.to_vec(), value), None);
                    });
                    let of_map = |(key, _): (&Vec<u8>, &mut u32)| {
                        *key >= lower && upper.as_ref().is_none_or(|upper| key < upper)
                    };
                    let taken: BTreeMap<_, _> =
                        map.extract_if(.., |key, value| of_map((key, value))).collect();
                    assert_eq!(removed, taken);
                }
                1..=200 => {
                    let changed = buckets.upsert(
                        &key,
                        value,
                        |old, new| {
                            *old ^= new;
                            Ok::<_, ()>(())
                        },
                        |new| new,
                    );
                    assert_eq!(changed, Ok(()));
                    map.entry(key).and_modify(|old| *old ^= value).or_insert(value);
                }
                201..=300 => assert_eq!(buckets.find_mut(&key), map.get_mut(&key)),
                _ => {
                    let bound = [Bound::Included(&key[..]), Bound::Excluded(&key[..]), Bound::Unbounded];
                    let bound = bound[rng.usize(..3)];
                    let first = buckets.first(bound, |value| value % 5 == 0);
                    let mut rows = map.range::<[u8], _>((bound, Bound::Unbounded));
                    let of_map = rows.find(|(_, value)| **value % 5 == 0);
                    assert_eq!(first.map(|key| &key[..]), of_map.map(|(key, _)| &key[..]));
                }
            }
            assert_eq!(buckets.len(), map.len());
            most = most.max(buckets.all.len());
            if round % 100 == 0 {
                let (lower, upper) = (any_key(&mut rng), any_key(&mut rng));
                let rows = buckets.range(&lower, Some(&upper)).map(|(key, value)| (key.to_vec(), *value));
                let of_map = map.iter().filter(|(key, _)| **key >= lower && **key < upper);
                assert!(rows.eq(of_map.map(|(key, value)| (key.clone(), *value))));
                check(&buckets);
            }
        }
        assert!(most > 20, "{most} buckets would prove little");
    }

    /// Whichever way keys come, buckets are at least half full in the end, and have no memory for rows that they cannot have.
    #[test]
    fn no_order_of_keys_makes_many_small_buckets() {
        let mut rng = fastrand::Rng::with_seed(22);
        let mut random: Vec<u32> = (0..20_000).collect();
        rng.shuffle(&mut random);
        let ascending: Vec<u32> = (0..20_000).collect();
        let descending: Vec<u32> = (0..20_000).rev().collect();
        // Descending towards a bucket that is full: the least key comes first.
        let towards: Vec<u32> = (0..64).chain((64..20_000).rev()).collect();
        for keys in [random, ascending, descending, towards] {
            let mut buckets = Buckets::<u32>::default();
            for key in keys {
                let changed = buckets.upsert(&key.to_be_bytes(), key, |_, _| Err(()), |new| new);
                assert_eq!(changed, Ok(()), "each key comes once");
            }
            check(&buckets);
            assert!(buckets.all.len() <= 20_000 / (ROWS_MAX / 2) + 1, "{} buckets", buckets.all.len());
            assert!(buckets.all.iter().all(|bucket| bucket.rows.capacity() <= ROWS_MAX));
            for lower in (0..20_000u32).step_by(50) {
                buckets.remove_range(&lower.to_be_bytes(), Some(&(lower + 40).to_be_bytes()), |_, _| ());
            }
            check(&buckets);
            assert!(buckets.all.len() <= 4_000 * 2 / JOINED_MAX + 1, "{} buckets", buckets.all.len());
        }
    }

    fn check(buckets: &Buckets<u32>) {
        let lows: Vec<&Key> = buckets.all.iter().map(|bucket| &bucket.low).collect();
        assert!(lows[0].is_empty() && lows.is_sorted_by(|a, b| a < b));
        assert!(buckets.heads.iter().copied().eq(lows.iter().map(|low| head_of(low))));
        for (at, bucket) in buckets.all.iter().enumerate() {
            assert!((1..=ROWS_MAX).contains(&bucket.rows.len()) || buckets.all.len() == 1);
            assert!(bucket.rows.iter().all(|(key, _)| buckets.bucket_of(key) == at));
        }
    }
}
