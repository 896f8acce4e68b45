//! Reached: counts of situations that a suite exists to meet, so that it can say that it met them.
//!
//! A place says `seabed_types::reached!(TornEnd)`. In programs with debug assertions, which is what tests are built as, and
//! with `--cfg seeded_bugs`, that counts; in every other program it is nothing. The counts are of the process, of all its
//! shards and threads together.

use std::sync::atomic::AtomicU64;

/// Whether situations are counted in this program.
pub const ARE_COUNTED: bool = cfg!(any(debug_assertions, seeded_bugs));

macro_rules! situations {
    ($($(#[doc = $what:literal])+ $name:ident = $suite:ident,)+) => {
        /// What can be reached.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Situation {
            $($(#[doc = $what])+ $name,)+
        }

        /// Each with the suite that must reach it.
        pub const ALL: &[(Situation, Suite)] = &[$((Situation::$name, Suite::$suite),)+];
    };
}

/// Who must reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// `seabed-tests crash`.
    Crash,
    /// `seabed-tests faults`.
    Faults,
    /// A test of `tests/tests/schedules.rs`.
    Schedules,
    /// The suites of the faces, among the tests of `tests/tests/schedules.rs`.
    Faces,
    /// The tests of reads among those.
    Reads,
}

situations! {
    /// The cleaner emptied a segment.
    SegmentCleaned = Crash,
    /// A free segment was discarded.
    SegmentDiscarded = Crash,
    /// The cleaner let rows point to copies of their data.
    PieceMoved = Crash,
    /// The cleaner read the records of a segment that has no inventory.
    RecordsListed = Crash,
    /// A replay cut off a record whose entries are torn.
    TornEnd = Crash,
    /// A replay cut off a last record whose data is torn.
    TornData = Crash,
    /// The log went on in its next segment.
    LogRolled = Crash,
    /// A replay went on in the log's next segment.
    ReplayRolled = Crash,
    /// A replay did not read the data of a record.
    DataLeapt = Crash,
    /// A checkpoint moved a cut to where the record went.
    CutMoved = Crash,
    /// A mount found one valid slot.
    OneSlot = Crash,
    /// A mount read the second copy of a checkpoint's body.
    SecondBody = Crash,
    /// A mount cleared a torn header or seal.
    TornHeader = Crash,
    /// A mount learnt from the header of a use whose claim a crash took.
    LostUse = Crash,
    /// A leaf was read again with pending changes.
    LoadedPending = Crash,
    /// Eviction passed over a node only because its changes were not durable.
    KeptUndurable = Schedules,
    /// A mount trimmed before it served.
    MountTrimmed = Crash,
    /// Objects of a removed pool were removed after a mount that found the pool in the list of removed pools.
    PoolDrained = Schedules,
    /// A slice of a grave left more of it.
    GraveLeft = Crash,
    /// A call was dropped before it was finished.
    AbandonedCall = Faces,
    /// A node that had an image was changed in its structure.
    ImageLost = Crash,
    /// Trimming logged changes again.
    LoggedAgain = Crash,
    /// Trimming wrote a leaf.
    LeafWritten = Crash,
    /// A segment of node images was emptied because space was short.
    NodesCleaned = Crash,
    /// A segment was used again.
    SegmentReused = Crash,
    /// An answer waited until what it saw was durable.
    AnswerWaited = Crash,
    /// Data was stored ahead of its record.
    DataAhead = Crash,
    /// The rows of a transaction's data were logged ahead of its record.
    DataLaid = Crash,
    /// A transaction waited for space or memory.
    AdmissionWaited = Crash,
    /// A write waited for the cleaner.
    DebtWaited = Crash,
    /// A mount wrote a copy of the superblock that was missing.
    SuperblockCompleted = Schedules,
    /// A close or an idle shard stated in its slots where the log ends.
    EndStated = Crash,
    /// An idle shard logged an empty record.
    IdleRecord = Crash,
    /// Data was answered from memory.
    DataHit = Crash,
    /// Data in memory gave way to other data.
    DataEvicted = Crash,
    /// A request let others run between its slices.
    ReadPaced = Reads,
    /// A row of a watched object changed.
    PastNoted = Reads,
    /// A read handle, or a request that watched an object, expired.
    HandleExpired = Reads,
    /// A listing went on behind damage.
    ListedPastDamage = Reads,
    /// A failed read was tried again.
    ReadAgain = Faults,
    /// A segment took a write that failed, and was quarantined.
    Quarantined = Faults,
    /// Images went elsewhere.
    ImagesMoved = Faults,
    /// A slot was written again.
    SlotAgain = Faults,
    /// A shard mounted itself in place, with its head in a fresh segment.
    FreshHead = Faults,
    /// A replay went on elsewhere at a cut.
    CutFollowed = Faults,
    /// A request was carried out again after a mount in place.
    RequestAgain = Faults,
    /// A shard was fenced.
    Fenced = Faults,
}

static COUNTS: [AtomicU64; ALL.len()] = [const { AtomicU64::new(0) }; ALL.len()];

/// Counts it.
#[cfg(any(debug_assertions, seeded_bugs))]
#[inline]
pub fn note(situation: Situation) {
    COUNTS[situation as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

/// Counts it: not in this program.
#[cfg(not(any(debug_assertions, seeded_bugs)))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "it must cost nothing")]
pub const fn note(_situation: Situation) {}

/// The situations that a suite must reach, and how often it did.
pub fn counts(suite: Suite) -> impl Iterator<Item = (Situation, u64)> {
    let of_suite = ALL.iter().filter(move |(_, of)| *of == suite);
    of_suite.map(|(situation, _)| {
        (*situation, COUNTS[*situation as usize].load(std::sync::atomic::Ordering::Relaxed))
    })
}

/// Counts a situation in programs of tests; nothing in others.
#[macro_export]
macro_rules! reached {
    ($situation:ident) => {
        $crate::reached::note($crate::reached::Situation::$situation)
    };
}
