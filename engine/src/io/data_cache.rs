//! Data cache: chunks of objects that were read and verified, in memory, so that they are answered without the device.
//!
//! A chunk is known by its address, the incarnation of the segment there, and its checksum. Within one incarnation an address
//! is written once, and the incarnation a reader saw stays while it runs (rule S4). So what was replaced or removed is never
//! asked for again, and what comes to its address later has another incarnation: a checksum that happens to be equal cannot
//! make it hit. Nobody has to tell the cache of a change; the dead are evicted like all that is not looked at. A crash may take
//! a use of a segment and its incarnation with it: so each mount has a cache of its own, also one in place.
//!
//! A chunk is taken when it is missed for the second time within a while ([`Doorkeeper`]): a scan, or uniform reads of much
//! more than fits, neither wash out what is used nor pay for copies. Example: a cache of 1000 chunks, uniform reads of 16,000:
//! one miss in 17 finds its fingerprint still there, and copies 4 KiB; of a store that fits 98 of 100 reads are hits after ten
//! rounds. Eviction is a clock: a chunk answered from since the hand passed gets another round, a new one has none yet.
//!
//! A hit shares the cached bytes with whoever asked, without a copy, which would be of cold memory; only parts that are
//! smaller than half of their chunk, and runs of several chunks, are copied. So who keeps an answer keeps at most twice its
//! bytes, and what is evicted goes with its last reader, as memory of that reader.
//!
//! A run is answered whole or read whole: that is one read of the device however many of its chunks are here. Runs of more
//! than [`RUN_CHUNKS_MAX`] chunks go past the cache: what they cost is their bytes, and one of them would push out many.
//!
//! Invariants: 1. A frame holds bytes that had the checksum of its key. 2. Each key has one frame, each frame one key.
//! Cost: a hit is one look-up for each chunk. Memory: [`FRAME_BYTES`] a chunk, given back when the budget needs it
//! ([`DataCache::limit`]).
//! Not here: freshly written chunks (a copy of each write, most never read), values of attributes and omaps.

use std::hash::BuildHasher;

use bytes::Bytes;
use rustc_hash::{FxBuildHasher, FxHashMap};
use seabed_object::read::Run;
use seabed_types::{CHUNK_BYTES, Crc, Incarnation, Paddr};
use smallvec::SmallVec;

/// A chunk as the allocator has it, what counts its readers, its frame, its place in an index that may be half empty, and a
/// fingerprint.
const FRAME_BYTES: usize = CHUNK_BYTES + 16 + 32 + 48 + 48 + 2;
/// The fewest fingerprints: what is missed in turns by a few clients must not overwrite one another's.
const FINGERPRINTS_MIN: usize = 64;
/// The most frames, so that a place has 4 bytes: 16 TiB of data.
const FRAMES_MAX: usize = u32::MAX as usize;
/// Fingerprints that are allocated together.
const FINGERPRINTS_PER_PAGE: usize = 32 << 10;
/// The most chunks of a run that is looked for.
const RUN_CHUNKS_MAX: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    at: Paddr,
    incarnation: Incarnation,
    crc: Crc,
}

#[derive(Clone, Copy)]
struct Place {
    frame: u32,
    looked_at: bool,
}

struct Frame {
    key: Key,
    bytes: Bytes,
}

/// The chunks in memory.
pub(crate) struct DataCache {
    index: FxHashMap<Key, Place>,
    frames: Vec<Frame>,
    /// How many frames may be in use now.
    limit: usize,
    frames_max: usize,
    hand: usize,
    door: Doorkeeper,
}

impl DataCache {
    /// A cache of so many bytes; one of 0 takes nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        let frames_max = (bytes / FRAME_BYTES).min(FRAMES_MAX);
        Self {
            index: FxHashMap::default(),
            frames: Vec::new(),
            limit: frames_max,
            frames_max,
            hand: 0,
            door: Doorkeeper::new(frames_max.max(FINGERPRINTS_MIN)),
        }
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.len() * FRAME_BYTES
    }

    /// Whether runs of this length are looked for at all.
    pub(crate) fn serves(&self, run: &Run) -> bool {
        self.limit > 0 && run.crcs.len() <= RUN_CHUNKS_MAX
    }

    /// From now on takes at most so many bytes, and never more than it was made for.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.limit = (bytes / FRAME_BYTES).min(self.frames_max);
        if self.frames.len() > self.limit {
            for frame in self.frames.drain(self.limit..) {
                self.index.remove(&frame.key);
            }
            if self.frames.capacity() / 4 > self.limit {
                self.frames.shrink_to_fit();
                self.index.shrink_to_fit();
            }
        }
    }

    /// What was asked for of a run, if all its chunks are here.
    pub(crate) fn find(&mut self, run: &Run, incarnation: Incarnation) -> Option<Bytes> {
        let mut found = SmallVec::<[&Bytes; RUN_CHUNKS_MAX]>::new();
        for (key, bytes) in chunks(run, incarnation) {
            let place = self.index.get_mut(&key)?;
            place.looked_at = true;
            // A row may be damaged so that it has the right checksum and another length.
            found.push(
                &self.frames.get(place.frame as usize).filter(|frame| frame.bytes.len() == bytes)?.bytes,
            );
        }
        seabed_types::reached!(DataHit);
        let asked = run.skip as usize..(run.skip + run.take) as usize;
        if let [chunk] = found.as_slice()
            && asked.len() * 2 >= chunk.len()
        {
            return Some(chunk.slice(asked));
        }
        let mut joined = Vec::with_capacity(asked.len());
        for (index, chunk) in found.into_iter().enumerate() {
            let clip = |at: usize| at.saturating_sub(index * CHUNK_BYTES).min(chunk.len());
            joined.extend_from_slice(&chunk[clip(asked.start)..clip(asked.end)]);
        }
        Some(joined.into())
    }

    /// Is told of the verified bytes of a run that was read because it was not found. How many chunks it took.
    pub(crate) fn offer(&mut self, run: &Run, incarnation: Incarnation, bytes: &[u8]) -> u64 {
        let mut taken = 0;
        for ((key, _), chunk) in chunks(run, incarnation).zip(bytes.chunks(CHUNK_BYTES)) {
            if self.limit > 0 && !self.index.contains_key(&key) && self.door.lets_in(&key) {
                self.insert(key, chunk);
                taken += 1;
            }
        }
        taken
    }

    fn insert(&mut self, key: Key, chunk: &[u8]) {
        debug_assert_eq!(Crc::of(chunk), key.crc, "invariant 1");
        let frame = Frame { key, bytes: Bytes::copy_from_slice(chunk) };
        let at = if self.frames.len() < self.limit {
            self.frames.push(frame);
            self.frames.len() - 1
        } else {
            let at = self.evict();
            self.frames[at] = frame;
            at
        };
        let at = u32::try_from(at).expect("2^32 frames are 16 TiB");
        let before = self.index.insert(key, Place { frame: at, looked_at: false });
        assert!(before.is_none(), "invariant 2");
    }

    /// A frame whose key is not in the index any more.
    fn evict(&mut self) -> usize {
        loop {
            self.hand = if self.hand + 1 < self.frames.len() { self.hand + 1 } else { 0 };
            let key = self.frames[self.hand].key;
            let place = self.index.get_mut(&key).expect("invariant 2");
            if !std::mem::take(&mut place.looked_at) {
                seabed_types::reached!(DataEvicted);
                self.index.remove(&key);
                return self.hand;
            }
        }
    }
}

/// The chunks of a run, each with its bytes.
fn chunks(run: &Run, incarnation: Incarnation) -> impl Iterator<Item = (Key, usize)> {
    run.crcs.iter().zip((0..run.bytes).step_by(CHUNK_BYTES)).map(move |(crc, offset)| {
        let mut key = Key { at: run.at.plus(offset), incarnation, crc: *crc };
        if seabed_types::seeded!(66) {
            (key.incarnation, key.crc) = (Incarnation(0), Crc(0));
        }
        (key, ((run.bytes - offset) as usize).min(CHUNK_BYTES))
    })
}

/// Fingerprints of chunks that were missed lately, one in each place. A later one overwrites by the toss of a coin: if it always
/// did, two chunks of one place that are read in turns would keep each other out for ever.
///
/// The budget may be more than the machine has: a page of fingerprints takes memory when something in it was missed, and of
/// the largest budget the list of pages takes 2 MiB.
struct Doorkeeper {
    pages: Vec<Box<[u16]>>,
    places: usize,
    coin: u32,
}

impl Doorkeeper {
    fn new(places: usize) -> Self {
        let pages = places.div_ceil(FINGERPRINTS_PER_PAGE);
        Self { pages: std::iter::repeat_with(Box::default).take(pages).collect(), places, coin: 0 }
    }

    fn fingerprint(&mut self, place: usize) -> &mut u16 {
        let page = &mut self.pages[place / FINGERPRINTS_PER_PAGE];
        if page.is_empty() {
            *page = vec![0; FINGERPRINTS_PER_PAGE.min(self.places)].into();
        }
        &mut page[place % FINGERPRINTS_PER_PAGE]
    }

    /// Whether it was missed before; then it has to be missed twice again. By chance one in 65,536 is let in the first time.
    fn lets_in(&mut self, key: &Key) -> bool {
        let hash = FxBuildHasher.hash_one(key);
        let fingerprint = u16::try_from(hash & 0xffff).expect("16 bits");
        let place = ((hash >> 32) * self.places as u64) >> 32;
        let place = usize::try_from(place).expect("less than their number");
        let known = *self.fingerprint(place);
        if known == fingerprint {
            *self.fingerprint(place) = 0;
            return true;
        }
        self.coin = self.coin.wrapping_mul(0x915f_77f5).wrapping_add(1);
        if known == 0 || self.coin >> 31 == 0 {
            *self.fingerprint(place) = fingerprint;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use seabed_types::SegmentId;

    use super::*;

    const FIRST: Incarnation = Incarnation(1);

    fn chunk(number: u32) -> Vec<u8> {
        number.to_le_bytes().repeat(CHUNK_BYTES / 4)
    }

    /// A run of whole chunks, whose bytes are their numbers.
    fn run(numbers: std::ops::Range<u32>) -> (Run, Vec<u8>) {
        let bytes: Vec<u8> = numbers.clone().flat_map(chunk).collect();
        let at = Paddr::new(SegmentId(1 + numbers.start / 100), numbers.start % 100 * 4096);
        let size = u32::try_from(bytes.len()).expect("few");
        let crcs = bytes.chunks(CHUNK_BYTES).map(Crc::of).collect();
        (Run { at, bytes: size, crcs, skip: 0, take: size }, bytes)
    }

    /// Reads a chunk as the engine does; whether it was there.
    fn read(cache: &mut DataCache, number: u32) -> bool {
        let (run, bytes) = run(number..number + 1);
        let found = cache.find(&run, FIRST);
        assert!(found.as_ref().is_none_or(|found| *found == bytes));
        if found.is_none() {
            cache.offer(&run, FIRST, &bytes);
        }
        found.is_some()
    }

    fn read_all(cache: &mut DataCache, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            read(cache, number);
        }
    }

    /// A budget of more than the machine has is a bound, not memory: `memory_bytes: usize::MAX` aborted the process when a
    /// store was opened.
    #[test]
    fn a_budget_takes_no_memory_before_it_is_used() {
        let mut cache = DataCache::new(usize::MAX);
        assert_eq!((cache.frames_max, cache.bytes()), (FRAMES_MAX, 0));
        assert!(!read(&mut cache, 1) && !read(&mut cache, 1) && read(&mut cache, 1));
        let allocated = cache.door.pages.iter().filter(|page| !page.is_empty()).count();
        assert_eq!(allocated, 1);
        assert!(cache.door.pages.len() * size_of::<Box<[u16]>>() <= 2 << 20);
    }

    #[test]
    fn a_chunk_is_taken_when_it_is_missed_again() {
        let mut cache = DataCache::new(10 * FRAME_BYTES);
        assert!(!read(&mut cache, 7));
        assert_eq!(cache.bytes(), 0);
        assert!(!read(&mut cache, 7));
        assert_eq!(cache.bytes(), FRAME_BYTES);
        assert!(read(&mut cache, 7));
    }

    #[test]
    fn a_scan_takes_nothing_and_pushes_nothing_out() {
        let mut cache = DataCache::new(100 * FRAME_BYTES);
        read_all(&mut cache, (0..200).map(|step| step % 10));
        let before = cache.bytes();
        let found = (1000..50_000).filter(|number| read(&mut cache, *number)).count();
        assert_eq!(found, 0);
        // One fingerprint in 65,536 is another's by chance.
        assert!(cache.bytes() <= before + 5 * FRAME_BYTES);
        assert!((0..10).all(|number| read(&mut cache, number)));
    }

    #[test]
    fn what_is_looked_at_stays_and_what_is_not_goes() {
        let mut cache = DataCache::new(8 * FRAME_BYTES);
        let mut found = [0; 2];
        for round in 0..400 {
            found[0] += u32::from(read(&mut cache, round % 4));
            // Each of these twice in a row: taken, and never looked at again.
            found[1] += u32::from(read(&mut cache, 100 + round / 2));
        }
        assert!(found[0] > 380, "{found:?}");
        assert_eq!(found[1], 0);
        assert_eq!(cache.bytes(), 8 * FRAME_BYTES);
        assert_eq!(cache.index.len(), 8);
    }

    #[test]
    fn data_that_fits_is_all_there_after_some_rounds() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (random, in_turns) = ((0..10_000).map(|_| rng.u32(..900)), (0..10_000).map(|step| step % 900));
        let reads: [Vec<u32>; 2] = [random.collect(), in_turns.collect()];
        for reads in reads {
            let mut cache = DataCache::new(1000 * FRAME_BYTES);
            read_all(&mut cache, reads);
            let found = (0..900).filter(|number| read(&mut cache, *number)).count();
            assert!(found > 850, "{found}");
        }
    }

    #[test]
    fn of_uniform_reads_of_much_more_than_fits_few_are_copied() {
        let mut cache = DataCache::new(500 * FRAME_BYTES);
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut misses, mut taken) = (0, 0);
        for _ in 0..40_000 {
            let number = rng.u32(..8000);
            let (run, bytes) = run(number..number + 1);
            if cache.find(&run, FIRST).is_none() {
                misses += 1;
                taken += cache.offer(&run, FIRST, &bytes);
            }
        }
        assert!(taken > misses / 30 && taken < misses / 12, "{taken} of {misses}");
    }

    /// With the address and the checksum alone a reused address hits where checksums happen to be equal: one in 2^32 is silent
    /// damage.
    #[test]
    fn another_use_of_a_segment_does_not_hit() {
        let mut cache = DataCache::new(10 * FRAME_BYTES);
        let (run, bytes) = run(5..6);
        assert_eq!([(); 2].map(|()| cache.offer(&run, FIRST, &bytes)), [0, 1]);
        assert_eq!(cache.find(&run, FIRST), Some(bytes.into()));
        assert_eq!(cache.find(&run, FIRST.next()), None);
        let other = Run { crcs: [Crc(1)].into_iter().collect(), ..run.clone() };
        assert_eq!(cache.find(&other, FIRST), None);
        let shorter = Run { bytes: 100, take: 100, ..run };
        assert_eq!(cache.find(&shorter, FIRST), None, "the same checksum of fewer bytes");
    }

    #[test]
    fn a_run_is_answered_if_all_of_it_is_there() {
        let mut cache = DataCache::new(100 * FRAME_BYTES);
        let (whole, bytes) = run(20..24);
        assert_eq!(cache.offer(&whole, FIRST, &bytes), 0);
        read_all(&mut cache, [21; 3]);
        assert_eq!(cache.find(&whole, FIRST), None);
        cache.offer(&whole, FIRST, &bytes);
        let part = Run { skip: 4000, take: 8200, ..whole.clone() };
        assert_eq!(cache.find(&part, FIRST), Some(Bytes::copy_from_slice(&bytes[4000..12_200])));
        assert_eq!(cache.find(&whole, FIRST), Some(bytes.into()));
        let long = run(0..17).0;
        assert!(cache.serves(&whole));
        assert!(!cache.serves(&long));
    }

    #[test]
    fn a_chunk_may_be_short() {
        let mut cache = DataCache::new(10 * FRAME_BYTES);
        let bytes = vec![9; 5000];
        let crcs = bytes.chunks(CHUNK_BYTES).map(Crc::of).collect();
        let run = Run { at: Paddr::new(SegmentId(3), 100), bytes: 5000, crcs, skip: 0, take: 5000 };
        assert_eq!([(); 2].map(|()| cache.offer(&run, FIRST, &bytes)), [0, 2]);
        assert_eq!(cache.find(&run, FIRST), Some(bytes.into()));
    }

    #[test]
    fn a_hit_is_shared_unless_it_is_a_small_part() {
        let mut cache = DataCache::new(FRAME_BYTES);
        read_all(&mut cache, [7; 2]);
        let (whole, bytes) = run(7..8);
        let [one, two] = [(); 2].map(|()| cache.find(&whole, FIRST).expect("kept"));
        assert_eq!(one.as_ptr(), two.as_ptr());
        let part = cache.find(&Run { skip: 10, take: 100, ..whole }, FIRST).expect("kept");
        assert_eq!(part, bytes[10..110]);
        assert_ne!(part.as_ptr(), one[10..].as_ptr());
        // Another chunk takes its frame; who has the old one keeps it.
        read_all(&mut cache, [8; 3]);
        assert_eq!((one, cache.bytes()), (bytes.into(), FRAME_BYTES));
    }

    #[test]
    fn memory_is_given_back_and_taken_again() {
        let mut cache = DataCache::new(200 * FRAME_BYTES);
        let fill = |cache: &mut DataCache| read_all(cache, (0..900).map(|step| step % 150));
        fill(&mut cache);
        assert!(cache.bytes() > 140 * FRAME_BYTES);
        cache.limit(10 * FRAME_BYTES);
        assert_eq!((cache.bytes(), cache.index.len(), cache.frames.len()), (10 * FRAME_BYTES, 10, 10));
        fill(&mut cache);
        assert_eq!(cache.bytes(), 10 * FRAME_BYTES);
        cache.limit(0);
        assert!(!cache.serves(&run(0..1).0));
        fill(&mut cache);
        assert_eq!((cache.bytes(), cache.index.len()), (0, 0));
        cache.limit(usize::MAX);
        fill(&mut cache);
        assert!(cache.bytes() > 140 * FRAME_BYTES);
    }
}
