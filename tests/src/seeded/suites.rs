//! The suites that hunt for seeded bugs: each takes a seed and says what is wrong with it, if anything.

use std::fmt;

use seabed_device::IoKind;

use crate::crash::exhaustive::{run_sequence, sequences};
use crate::crash::faults::run_faults;
use crate::crash::formats::{Over, formats};
use crate::crash::in_place::{self, Closing};
use crate::crash::lost_end::{Resting, lost_end};
use crate::crash::schedules::faces::{Callers, calls};
use crate::crash::schedules::space::{Order, Slow};
use crate::crash::schedules::{self, cached, large, medium, memory, owned, pools, reads, records, space};
use crate::crash::shown::{Change, waits_until_durable};
use crate::crash::{FlipPlaces, Structure, flip, run_seed, stories, trimming_mounts};
use crate::journal_suite;
use crate::machine::{Cache, EIO, Effect, Fault, Landed};

/// A suite, run by seeds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Suite {
    /// `crash`, 120 states of a seed.
    Crash,
    /// `exhaustive`, one sequence of up to three operations.
    Exhaustive,
    /// `faults`, every 7th operation of each kind.
    Faults,
    /// `flip`, 1,300 bytes.
    Flip,
    /// `flip`, every byte of checkpoint bodies.
    FlipBodies,
    /// The suite of the journal alone.
    Journal,
    /// What a completed answer showed is durable.
    Shown,
    /// Power cuts in a row.
    CrashLoop,
    /// A slot or superblock copy is gone.
    LostFronts,
    /// A process is killed, the next one mounts, the power is cut.
    Killed,
    /// Superblock copies of an older store.
    OlderStore,
    /// Lost writes of segment headers.
    LostHeaders,
    /// Each read of a mount fails.
    FailingReads,
    /// A leaf changes while its image is on its way.
    SlowImages,
    /// A replay with less memory than the writer had.
    SmallerBudgets,
    /// A full device is emptied and filled again.
    FullDevice,
    /// Bulk data waits in a segment in which all else dies.
    WaitingBulkData,
    /// An object of very many rows is removed from a full device.
    ManyRows,
    /// Rows of which several records have a part.
    PatchedRows,
    /// The last record rots.
    RottenRecords,
    /// Every so many-th row on a full device is removed, again and again.
    StridedRemovals,
    /// The bounds of pending changes.
    Pending,
    /// The newer slot is lost while a mount trims.
    OlderSlot,
    /// The first slot of a mount that trims is torn.
    TornEpoch,
    /// A mount that trims finds no space for its checkpoint.
    LateClaims,
    /// The torn header of a use that a crash took.
    TornHeader,
    /// Writes of bulk data fail.
    BulkWrites,
    /// A device that is slow, with a store much larger than its memory.
    SlowDevice,
    /// Slots and bodies with odd contents and right checksums.
    Hostile,
    /// Superblocks of a later version.
    NewerFormat,
    /// Records that went to another place.
    Misdirected,
    /// Bulk data that went to another place.
    MisdirectedData,
    /// Two handles on a file.
    Lock,
    /// Objects whose record takes long, in trees that are larger than the memory.
    SlowRecords,
    /// Writes of images fail.
    FailedImages,
    /// Flushes of checkpoints fail.
    FailedFlushes,
    /// Slots take long while the device is written over.
    SlowSlots,
    /// Reads take long while the device is written over.
    SlowReads,
    /// Data comes to addresses whose earlier bytes are in memory.
    ReusedAddresses,
    /// A format is cut off.
    Formats,
    /// The last records of a store at rest are lost.
    LostEnd,
    /// Buffers of the caller come back with the answer.
    OwnedData,
    /// Handles and long reads beside an overwriter.
    Pinned,
    /// A write or a flush fails once while clients work.
    InPlace,
    /// Pools are removed, created again and renamed, and the power is cut.
    Pools,
    /// Calls of one task on the `Send` face, all waited for.
    Calls,
    /// Calls of one task on the `Send` face, of which some are dropped.
    DroppedCalls,
    /// The largest requests.
    LargeRequests,
    /// Many streaming puts.
    Streams,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crash => "crash",
            Self::Exhaustive => "exhaustive",
            Self::Faults => "faults",
            Self::Flip => "flip",
            Self::FlipBodies => "flip, bodies",
            Self::Journal => "journal",
            Self::Shown => "shown",
            Self::CrashLoop => "schedule crash_loop",
            Self::LostFronts => "schedule lost_fronts",
            Self::Killed => "schedule killed_mounted_cut",
            Self::OlderStore => "schedule superblock_of_an_older_store",
            Self::LostHeaders => "schedule lost_headers",
            Self::FailingReads => "schedule failing_reads",
            Self::SlowImages => "schedule slow_images",
            Self::SmallerBudgets => "schedule smaller_budgets",
            Self::FullDevice => "schedule full_device",
            Self::WaitingBulkData => "schedule waiting_bulk_data",
            Self::ManyRows => "schedule removal_of_many_rows",
            Self::PatchedRows => "schedule patched_rows",
            Self::RottenRecords => "schedule rotten_last_records",
            Self::StridedRemovals => "schedule removals_of_rows_when_full, in strides",
            Self::Pending => "schedule pending_is_bounded",
            Self::OlderSlot => "schedule older_slot_while_a_mount_trims",
            Self::TornEpoch => "schedule epoch_of_a_torn_slot",
            Self::LateClaims => "schedule claims_of_a_mount_without_a_checkpoint",
            Self::TornHeader => "schedule torn_header_of_a_lost_use",
            Self::BulkWrites => "schedule failed_bulk_writes",
            Self::SlowDevice => "schedule slow_device",
            Self::Hostile => "schedule hostile",
            Self::NewerFormat => "schedule newer_format",
            Self::Misdirected => "schedule misdirected_records",
            Self::MisdirectedData => "schedule misdirected_data",
            Self::Lock => "schedule two_handles",
            Self::SlowRecords => "schedule slow_records",
            Self::FailedImages => "schedule failed_checkpoints, writes",
            Self::FailedFlushes => "schedule failed_checkpoints, flushes",
            Self::SlowSlots => "schedule slow_and_overwritten, flushes",
            Self::SlowReads => "schedule slow_and_overwritten, reads",
            Self::ReusedAddresses => "schedule reused_addresses",
            Self::Formats => "schedule formats",
            Self::LostEnd => "schedule lost_end",
            Self::OwnedData => "schedule owned_data",
            Self::Pinned => "schedule pinned",
            Self::InPlace => "in_place",
            Self::Pools => "schedule removed_and_renamed",
            Self::Calls => "schedule calls",
            Self::DroppedCalls => "schedule calls, some dropped",
            Self::LargeRequests => "schedule large, requests",
            Self::Streams => "schedule large, streams",
        })
    }
}

fn error<T, E: fmt::Display>(result: Result<T, E>) -> Option<String> {
    result.err().map(|error| error.to_string())
}

/// What is wrong with a result that is an error, or not right.
fn unless<T: fmt::Debug, E: fmt::Display>(
    result: Result<T, E>,
    what: &str,
    is_right: impl FnOnce(&T) -> bool,
) -> Option<String> {
    match result {
        Ok(found) => (!is_right(&found)).then(|| format!("{what} {found:?}")),
        Err(error) => Some(error.to_string()),
    }
}

impl Suite {
    /// What is wrong with a seed.
    pub fn failure(self, seed: u64) -> Option<String> {
        match self {
            Self::Crash => run_seed(seed, 120).1,
            Self::Exhaustive => {
                let all = sequences(3);
                let which = fastrand::Rng::with_seed(seed).usize(..all.len());
                error(run_sequence(&all[which]))
            }
            Self::Faults => error(run_faults(seed, 7)),
            Self::Flip => flipped(seed),
            Self::FlipBodies => error(flip(seed, FlipPlaces::Of(Structure::Body), 1)),
            Self::Journal => error(journal_suite::run(seed)),
            Self::Shown => {
                let changes = [Change::Make, Change::Overwrite, Change::Remove];
                changes.into_iter().find_map(|change| error(waits_until_durable(seed, change)))
            }
            Self::CrashLoop => error(schedules::crash_loop(seed, 100)),
            Self::LostFronts => error(schedules::lost_fronts(seed)),
            Self::Killed => error(schedules::killed_mounted_cut(seed)),
            Self::OlderStore => error(medium::superblock_of_an_older_store(seed)),
            Self::LostHeaders => error(medium::lost_headers(seed)),
            Self::FailingReads => error(medium::failing_reads(seed)),
            Self::SlowImages => error(memory::slow_images(seed)),
            Self::SmallerBudgets => error(memory::smaller_budgets(seed)),
            Self::FullDevice => unless(space::full_device(seed, 6, 3000), "it held", |held| {
                held.iter().all(|count| *count * 10 >= held[0] * 7) && held[0] > 10
            }),
            Self::WaitingBulkData => error(space::waiting_bulk_data(seed)),
            Self::PatchedRows => error(records::patched_rows(seed)),
            Self::RottenRecords => error(records::rotten_last_records(seed)),
            Self::StridedRemovals => error(space::removals_of_rows_when_full(seed, Order::Strides)),
            Self::ManyRows => unless(space::removal_of_many_rows(seed), "it held", |[first, second]| {
                *first >= 5000 && second * 10 >= first * 7
            }),
            Self::Pending => {
                unless(stories::pending_is_bounded(seed, 1 << 20), "bytes of pending changes:", |seen| {
                    *seen < (128 << 10) + 20 * 7000
                })
            }
            Self::OlderSlot => error(stories::older_slot_while_a_mount_trims(seed)),
            Self::TornEpoch => error(trimming_mounts::epoch_of_a_torn_slot(seed)),
            Self::LateClaims => error(trimming_mounts::claims_of_a_mount_without_a_checkpoint(seed)),
            Self::TornHeader => error(stories::torn_header_of_a_lost_use(seed)),
            Self::BulkWrites => error(stories::failed_bulk_writes(seed)),
            Self::SlowDevice => error(memory::slow_device(seed)),
            Self::Hostile => error(medium::hostile(seed)),
            Self::NewerFormat => error(medium::newer_format(seed)),
            Self::Misdirected => error(medium::misdirected_records(seed)),
            Self::MisdirectedData => error(medium::misdirected_data(seed)),
            Self::Lock => error(schedules::two_handles(seed)),
            Self::SlowRecords => error(memory::slow_records(seed)),
            Self::FailedImages => error(memory::failed_checkpoints(seed, IoKind::Write, seed % 2 == 1)),
            Self::FailedFlushes => error(memory::failed_checkpoints(seed, IoKind::Flush, false)),
            Self::SlowSlots => error(space::slow_and_overwritten(seed, Slow::Flush)),
            Self::SlowReads => error(space::slow_and_overwritten(seed, Slow::Read)),
            Self::ReusedAddresses => error(cached::reused_addresses(seed)),
            Self::Formats => Over::ALL.into_iter().find_map(|over| error(formats(seed, over))),
            Self::LostEnd => error(lost_end(seed, Resting::Closed)),
            Self::OwnedData => error(owned::owned_data(seed)),
            Self::Pinned => error(reads::pinned(seed)),
            Self::InPlace => failing_in_place(seed),
            Self::Pools => error(pools::removed_and_renamed(seed)),
            Self::Calls => error(calls(seed, Callers::Wait)),
            Self::DroppedCalls => error(calls(seed, Callers::Drop)),
            Self::LargeRequests => error(large::requests(seed)),
            Self::Streams => error(large::streams(seed)),
        }
    }
}

/// One write or flush fails once, which of them and how follows from the seed. The first few writes are drawn more often than
/// those behind them, which are mostly of bulk data: among them are the records in which most that was submitted stands.
fn failing_in_place(seed: u64) -> Option<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let landed = [Landed::Nothing, Landed::Everything, Landed::Everything, Landed::Torn];
    let cache = [Cache::Kept, Cache::Lost, Cache::Reverted];
    let fault = if rng.u8(..4) > 0 {
        let effect = Effect::FailWrite { errno: EIO, landed: landed[rng.usize(..4)] };
        let sites = [4, 40][rng.usize(..2)];
        Fault::on(IoKind::Write, effect).after(rng.u64(..sites))
    } else {
        Fault::on(IoKind::Flush, Effect::FailFlush { errno: EIO, cache: cache[rng.usize(..3)] })
            .after(rng.u64(..3))
    };
    let closing = if rng.bool() { Closing::Afterwards } else { Closing::Meanwhile };
    error(in_place::failing_once(seed, fault, closing))
}

/// Flips, and that what must be noticed by the checker or by the mount always was.
fn flipped(seed: u64) -> Option<String> {
    let counts = match flip(seed, FlipPlaces::Sample(1300), 1) {
        Ok(counts) => counts,
        Err(what) => return Some(what),
    };
    let copies = [Structure::Superblock, Structure::Slot];
    let window = [Structure::RecordHeader, Structure::Deltas];
    let checked = copies.into_iter().find(|of| counts.of(*of).check != counts.of(*of).flips());
    let opened = window.into_iter().find(|of| counts.of(*of).open != counts.of(*of).flips());
    checked.or(opened).map(|of| format!("flips of {of:?} that nobody reports"))
}
