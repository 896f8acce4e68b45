//! Courses of events that broke drafts of the design.

use seabed_device::IoKind;
use seabed_tests::crash::formats::{Over, formats};
use seabed_tests::crash::in_place::{self, Closing};
use seabed_tests::crash::lost_end::{Resting, lost_end};
use seabed_tests::crash::schedules::faces::{Callers, calls};
use seabed_tests::crash::schedules::space::{Discards, Order, Slow};
use seabed_tests::crash::schedules::{
    self, cached, capacity, large, medium, memory, owned, pools, reads, records, space,
};
use seabed_tests::crash::shown::{Change, waits_until_durable};
use seabed_tests::crash::{FlipPlaces, Structure, flip, stories, trimming_mounts};
use seabed_tests::machine::{Cache, EIO, Effect, Fault, Landed};
use seabed_types::reached;

fn was_reached(situation: reached::Situation) {
    let mut counts = reached::counts(reached::Suite::Schedules);
    let is_met = counts.any(|(of, count)| of == situation && count > 0);
    assert!(is_met || !reached::ARE_COUNTED, "{situation:?} was never reached");
}

#[test]
fn a_crash_loop_always_opens() {
    for seed in [1, 2] {
        schedules::crash_loop(seed, 100).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn a_torn_slot_is_a_note() {
    let mut torn = 0;
    for seed in 1..4 {
        torn += schedules::torn_slots(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    assert!(torn > 10, "{torn} slots were torn");
}

#[test]
fn either_slot_and_any_superblock_may_be_lost() {
    for seed in 1..4 {
        let looked = schedules::lost_fronts(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(looked > 20);
    }
}

#[test]
fn a_format_that_is_cut_off_leaves_no_store_or_the_new_one() {
    for over in Over::ALL {
        let mut found = [0; 4];
        for seed in 1..3 {
            let counts =
                formats(seed, over).unwrap_or_else(|broken| panic!("{over:?}, seed {seed}: {broken}"));
            found = [0, 1, 2, 3].map(|index| found[index] + counts[index]);
        }
        let [none, old, new, incomplete] = found;
        assert!(none > 3 && new > 3 && incomplete > 3, "{over:?}: {found:?}");
        assert_eq!(old > 0, over != Over::Nothing, "{over:?}: {found:?}");
    }
}

#[test]
fn the_loss_of_the_last_records_of_a_store_at_rest_is_reported() {
    for resting in [Resting::Closed, Resting::Idle] {
        let mut reported = 0;
        for seed in 1..5 {
            let count = lost_end(seed, resting);
            reported += count.unwrap_or_else(|broken| panic!("{resting:?}, seed {seed}: {broken}"));
        }
        assert!(reported > 100, "{resting:?}: {reported}");
    }
}

#[test]
fn a_lost_write_of_a_slot_is_survived() {
    for seed in 1..4 {
        let lost = schedules::lost_slot_writes(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert_eq!(lost, 12);
    }
}

#[test]
fn killed_then_mounted_then_cut() {
    for seed in 1..5 {
        let looked =
            schedules::killed_mounted_cut(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(looked > 10);
    }
}

/// A read-only mount used to end before the flush, so that a power cut took back what it had shown.
#[test]
fn a_read_only_mount_flushes() {
    for seed in 1..4 {
        medium::read_only_mount_without_flush(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn a_full_device_is_emptied_and_filled_again() {
    for (seed, bytes) in [(1, 20_000), (2, 3000), (3, 100)] {
        let held =
            space::full_device(seed, 6, bytes).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(held[0] > 10, "{held:?}");
        assert!(held.iter().all(|count| *count * 10 >= held[0] * 7), "{held:?}");
    }
}

#[test]
fn a_removed_pool_is_gone_and_drained_whatever_happens() {
    for seed in 1..4 {
        let looked =
            pools::removed_and_renamed(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(looked > 20, "{looked} power cuts");
    }
    was_reached(reached::Situation::PoolDrained);
}

#[test]
fn a_pool_is_removed_while_clients_use_it() {
    for seed in 1..6 {
        pools::removed_in_use(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn bulk_data_waits_in_a_segment_in_which_everything_else_dies() {
    for seed in 1..4 {
        let written = space::waiting_bulk_data(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(written >= 3, "the device was written {written} times over");
    }
}

#[test]
fn a_full_device_opens_after_a_thousand_crashes() {
    let held = space::crash_loop_when_full(1, 1000).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(held > 100, "{held} objects");
}

#[test]
fn a_superblock_of_an_older_store_is_not_chosen() {
    for seed in 1..4 {
        let looked = medium::superblock_of_an_older_store(seed);
        assert_eq!(looked.unwrap_or_else(|broken| panic!("seed {seed}: {broken}")), 4);
    }
}

#[test]
fn lost_writes_of_segment_headers_are_survived() {
    let mut lost = 0;
    for seed in 1..6 {
        lost += medium::lost_headers(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_read_that_fails_for_a_while_is_never_the_end_of_the_log() {
    let mut tried = [0; 2];
    for seed in 1..4 {
        let counts = medium::failing_reads(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        tried = [tried[0] + counts[0], tried[1] + counts[1]];
    }
    assert!(tried[0] > 100 && tried[1] > 20, "{tried:?}");
}

#[test]
fn a_block_that_cannot_be_read_is_never_the_end_of_the_log() {
    let failed = medium::unreadable_window(1).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_leaf_changes_while_its_image_is_on_its_way() {
    for seed in 1..7 {
        let answered = memory::slow_images(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(answered > 20, "{answered}");
    }
}

#[test]
fn a_replay_with_less_memory_than_the_writer_had() {
    let mut counts = [0; 2];
    for seed in 1..4 {
        let seen = memory::smaller_budgets(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        counts = [counts[0] + seen[0], counts[1] + seen[1]];
    }
    assert!(counts[0] > 100, "{counts:?}");
}

#[test]
fn data_is_answered_from_memory_at_once_and_as_it_is() {
    for seed in 1..6 {
        cached::answered_from_memory(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn what_stood_at_an_address_before_is_not_answered() {
    for seed in 1..4 {
        let counts = cached::reused_addresses(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(counts[0] >= 3 && counts[1] >= 1500, "{counts:?}");
    }
}

#[test]
fn rotten_data_is_an_error_each_time_and_is_not_kept() {
    for seed in 1..6 {
        cached::rotten_data(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn a_flipped_bit_is_reported_or_counts_for_nothing() {
    let counts = flip(1, FlipPlaces::Sample(1300), 2).unwrap_or_else(|what| panic!("{what}"));
    eprintln!("{}", counts.table());
    let total = counts.total();
    assert!(total.open > 0 && total.get > 0 && total.check > 0, "{}", counts.table());
    for structure in Structure::ALL {
        assert!(counts.of(structure).flips() > 0, "never: {structure:?}");
    }
    // The store was closed, and its slots state where the log ends: nothing of it passes for torn.
    assert_eq!(total.torn, 0, "{}", counts.table());
    // What a store has two or four copies of is used although one of them is damaged, and never without a word.
    for structure in [Structure::Superblock, Structure::Slot] {
        let outcomes = counts.of(structure);
        assert_eq!(outcomes.check, outcomes.flips(), "{structure:?}: {}", counts.table());
    }
    // A mount never passes over a record that it must replay.
    for structure in [Structure::RecordHeader, Structure::Deltas] {
        let outcomes = counts.of(structure);
        assert_eq!(outcomes.open, outcomes.flips(), "{structure:?}: {}", counts.table());
    }
}

#[test]
fn a_torn_header_tells_nothing_later() {
    stories::torn_header_of_a_lost_use(1).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn the_older_slot_opens_the_store_while_a_mount_trims() {
    let mut looked = 0;
    for seed in 1..13 {
        let story = stories::older_slot_while_a_mount_trims(seed);
        looked += story.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    assert!(looked > 5, "{looked}");
}

#[test]
fn a_mount_after_one_that_trimmed_has_an_epoch_of_its_own() {
    let mut torn = 0;
    for seed in 1..4 {
        let story = trimming_mounts::epoch_of_a_torn_slot(seed);
        torn += story.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    assert!(torn > 5, "{torn}");
}

#[test]
fn what_a_mount_claimed_without_a_checkpoint_is_logged() {
    let mut found = 0;
    for seed in 1..4 {
        let story = trimming_mounts::claims_of_a_mount_without_a_checkpoint(seed);
        found += story.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    assert!(found > 2, "{found}");
}

#[test]
fn nothing_is_shown_before_it_is_durable() {
    for change in [Change::Make, Change::Overwrite, Change::Remove] {
        for seed in 1..4 {
            let asked =
                waits_until_durable(seed, change).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            assert_eq!(asked, 14);
        }
    }
}

#[test]
fn pending_changes_stay_within_their_bound() {
    for (memory, most) in [(256 << 10, 32 << 10), (1 << 20, 128 << 10), (64 << 20, 512 << 10)] {
        let seen = stories::pending_is_bounded(1, memory).unwrap_or_else(|broken| panic!("{broken}"));
        // What 20 clients may have on their way: 40 rows of 150 bytes each and their onodes.
        assert!((most / 2..most + 20 * 7000).contains(&seen), "{memory}: {seen} of {most}");
    }
}

#[test]
fn a_budget_that_is_too_small_says_what_it_takes() {
    let refused = stories::smaller_budgets(1).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(refused > 0);
}

#[test]
fn closing_finishes_what_waits_for_trimming() {
    for seed in 1..5 {
        let waited = stories::closing_finishes_what_waits(seed)
            .unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!((1..60).contains(&waited), "{waited}");
    }
}

#[test]
fn data_whose_write_fails_goes_elsewhere() {
    for seed in 1..4 {
        let failed =
            stories::failed_bulk_writes(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(failed >= 9, "{failed}");
    }
}

/// Calls beyond the 64 that the inbox once had room for took their places as room became free: 300 appends that one task polled
/// in their order landed in another, and of 1,000 puts the last did not win. A remove that was followed by a put was even
/// overtaken by it. A call that was dropped while it waited for room was not carried out.
#[test]
fn calls_take_effect_in_their_order_whether_they_are_waited_for_or_not() {
    for callers in [Callers::Wait, Callers::Drop] {
        for seed in 1..4 {
            let made =
                calls(seed, callers).unwrap_or_else(|broken| panic!("seed {seed}, {callers:?}: {broken}"));
            assert!(made >= 200);
        }
    }
    for (situation, count) in reached::counts(reached::Suite::Faces) {
        assert!(count > 0 || !reached::ARE_COUNTED, "{situation:?} was never reached");
    }
}

#[test]
fn odd_slots_are_errors() {
    for seed in 1..4 {
        let tried = medium::hostile(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert_eq!(tried, 60);
    }
}

#[test]
fn a_later_version_is_refused() {
    medium::newer_format(1).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn memory_is_bounded_on_a_slow_device() {
    let [in_flight, memory] = memory::slow_device(1).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(in_flight > 8 && memory > 512 << 10, "{in_flight} in flight, {memory} bytes");
}

#[test]
fn nothing_is_shown_of_rows_whose_record_takes_long() {
    // In 7, 9 and 10 a node was given up and loaded again before those ran that had waited for its first load: they waited for
    // ever.
    for seed in [1, 2, 7, 9, 10] {
        let loads = memory::slow_records(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(loads > 1000, "{loads}");
    }
    was_reached(reached::Situation::KeptUndurable);
}

#[test]
fn a_checkpoint_survives_a_write_or_flush_that_fails() {
    for kind in [IoKind::Write, IoKind::Flush] {
        let mut failed = 0;
        // In 4 a record is on its way when a flush fails, and durable all the same: nobody was told.
        for seed in 1..6 {
            for cleaning in [false, true] {
                failed += memory::failed_checkpoints(seed, kind, cleaning)
                    .unwrap_or_else(|broken| panic!("{kind}, seed {seed}, cleaning {cleaning}: {broken}"));
            }
        }
        assert!(failed > 4, "{kind}: {failed}");
    }
}

#[test]
fn nothing_is_overwritten_while_slots_or_reads_take_long() {
    for slow in [Slow::Flush, Slow::Read] {
        for seed in 1..3 {
            let times = space::slow_and_overwritten(seed, slow)
                .unwrap_or_else(|broken| panic!("{slow:?}, seed {seed}: {broken}"));
            assert!(times > 1, "{times}");
        }
    }
}

#[test]
fn data_that_went_astray_is_not_merged_with() {
    for seed in 1..4 {
        let corrupt = medium::misdirected_data(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(corrupt > 3, "{corrupt}");
    }
}

#[test]
fn an_object_with_very_many_rows_is_removed_from_a_full_device() {
    for seed in [1, 2] {
        let [first, second] =
            space::removal_of_many_rows(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(first >= 5000, "{first} rows fill the device");
        assert!(second * 10 >= first * 7, "{first} rows at first, {second} when they had been removed");
    }
}

#[test]
fn rows_in_several_records_are_whole() {
    for seed in 1..4 {
        records::patched_rows(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn what_a_rotten_last_record_gave_up_is_still_there() {
    for seed in 1..4 {
        let looked =
            records::rotten_last_records(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(looked > 100, "{looked}");
    }
}

#[test]
fn a_slice_of_a_grave_that_does_not_fit_a_record_is_made_smaller() {
    space::grave_of_long_keys(1).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn rows_of_a_full_device_are_removed_in_any_order() {
    for (seed, order) in [(1, Order::Strides), (2, Order::Strides), (3, Order::Random), (4, Order::Random)] {
        let [first, second] = space::removals_of_rows_when_full(seed, order)
            .unwrap_or_else(|broken| panic!("seed {seed}, {order:?}: {broken}"));
        assert!(first >= 5000, "{first} rows fill the device");
        assert!(second * 10 >= first * 7, "{first} rows at first, {second} when they had been removed");
    }
}

#[test]
fn one_bad_block_is_an_error_for_what_needs_it() {
    let counts = stories::one_bad_block(1, 3).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(counts[0] > 5 && counts[1] > 50, "{counts:?}");
}

#[test]
fn a_write_or_flush_that_fails_once_is_survived_in_place() {
    let mut faults = Vec::new();
    for landed in [Landed::Nothing, Landed::Everything, Landed::Torn] {
        let fail = Effect::FailWrite { errno: EIO, landed };
        faults.extend((0..40).map(|after| Fault::on(IoKind::Write, fail).after(after)));
    }
    for cache in [Cache::Kept, Cache::Lost, Cache::Reverted] {
        let fail = Effect::FailFlush { errno: EIO, cache };
        faults.extend((0..3).map(|after| Fault::on(IoKind::Flush, fail).after(after)));
    }
    for closing in [Closing::Afterwards, Closing::Meanwhile] {
        let mut mounted = 0;
        for (seed, fault) in (1..).zip(&faults) {
            let story = in_place::failing_once(seed, fault.clone(), closing);
            mounted += story.unwrap_or_else(|broken| panic!("{closing:?}, seed {seed}, {fault:?}: {broken}"));
        }
        assert!(mounted > 3, "{closing:?}: {mounted}");
    }
}

/// A removal waited behind the write that made its object, and the journal failed. The write gave up its place in the line,
/// to be carried out again by the next mount. The removal had its turn with the mount that had failed, saw no object, and
/// was answered: there was nothing to do. Then the write was carried out, and the object was there, behind its removal.
/// Found by `faults`, seeds 31 and 39. It shows where the removal looks at nothing that waits for the record that failed.
#[test]
fn what_waits_behind_a_write_is_not_answered_without_it() {
    let mut mounted = 0;
    for landed in [Landed::Nothing, Landed::Everything, Landed::Torn] {
        let fail = Effect::FailWrite { errno: EIO, landed };
        for seed in 1..9 {
            let fault = Fault::on(IoKind::Write, fail).after(seed % 3);
            let story = in_place::removed_behind_a_large_write(seed, fault.clone());
            mounted += story.unwrap_or_else(|broken| panic!("seed {seed}, {fault:?}: {broken}"));
        }
    }
    assert!(mounted > 3, "{mounted}");
}

#[test]
fn a_read_handle_expires_when_the_shard_mounts_itself_in_place() {
    let (mut runs, mut mounted) = (0, 0);
    for landed in [Landed::Everything, Landed::Nothing] {
        let fail = Effect::FailWrite { errno: EIO, landed };
        for seed in 1..9 {
            let fault = Fault::on(IoKind::Write, fail).after(seed % 4);
            let story = in_place::handle_across_a_mount(seed, fault.clone());
            let mounts = story.unwrap_or_else(|broken| panic!("seed {seed}, {fault:?}: {broken}"));
            (runs, mounted) = (runs + 1, mounted + mounts.min(1));
        }
    }
    assert!(mounted > 3 && mounted < runs, "{mounted} of {runs}");
}

#[test]
fn nobody_needs_the_block_where_a_record_could_not_be_written() {
    let mut mounted = 0;
    for seed in 1..4 {
        mounted += in_place::on_a_bad_block(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    assert!(mounted > 10, "{mounted}");
}

/// The engine kept the `Bytes` of the last record until another write came, however long the store was idle. A program that
/// took its buffers from a pool and waited for one to come back waited for ever: `import` did, with ordinary files.
#[test]
fn what_was_lent_comes_back_with_the_answer() {
    for seed in 1..4 {
        let lent = owned::owned_data(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert_eq!(lent, 84);
    }
}

/// A rejected put of 200 MiB held the thread for 0.58 s, a put had to fit a record with all its rows, and what did not fit was
/// rejected after it had been stored.
#[test]
fn the_largest_requests_hold_nobody_up() {
    let live = large::requests(1).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(live > 30 << 20, "{live}");
}

/// 500 open streaming puts had 1,815 MiB with a budget of 64 MiB.
#[test]
fn many_streaming_puts_stay_within_the_budget() {
    let streams = large::streams(1).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(streams >= 100, "{streams}");
}

/// A streamed get beside an overwriter was of several versions when it was built of reads, in a third of the cases.
#[test]
fn reads_in_slices_and_handles_show_one_version() {
    let mut counts = [0; 2];
    for seed in 1..4 {
        let read = reads::pinned(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        counts = [counts[0] + read[0], counts[1] + read[1]];
        let asked = reads::one_moment(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(asked > 20, "{asked}");
    }
    assert!(counts[0] > 50 && counts[1] > 2, "{counts:?}");
}

/// One byte written at 2^50 - 1 made the next get of the object abort the process; 4 GiB of holes took 4 GiB of memory.
#[test]
fn reads_are_bounded() {
    for seed in 1..4 {
        reads::bounds(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

/// A damaged node ended a listing: of 1,327 objects 798 could only be had by name.
#[test]
fn a_listing_goes_on_behind_damage() {
    let mut counts = [0; 2];
    for seed in 1..4 {
        let found = reads::past_damage(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        counts = [counts[0] + found[0], counts[1] + found[1]];
    }
    assert!(counts[0] > 20 && counts[1] > 100, "{counts:?}");
    for (situation, count) in reached::counts(reached::Suite::Reads) {
        let is_of_listing = format!("{situation:?}") == "ListedPastDamage";
        assert!(count > 0 || !reached::ARE_COUNTED || !is_of_listing, "{situation:?} was never reached");
    }
}

/// A store that was nearly full of small overwritten pieces said that half of it was free, and took next to nothing.
#[test]
fn what_is_said_to_be_writable_can_be_written() {
    for cleaning in [true, false] {
        let (mut promised, mut written) = (0, 0);
        for seed in 0..12 {
            let promises = capacity::promises(seed, cleaning);
            let promises = promises.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            for promise in &promises {
                assert!(promise.written >= promise.promised, "seed {seed}, cleaning {cleaning}: {promise:?}");
                assert_eq!(promise.usable, promises[0].usable, "the capacity is stable");
                (promised, written) = (promised + promise.promised, written + promise.written);
            }
        }
        // It is of use: on stores of at most 160 segments the margins are half of it.
        assert!(promised * 2 >= written, "{written} bytes were written where {promised} were promised");
    }
}

#[test]
fn free_segments_are_discarded_and_nothing_else() {
    for seed in 0..6 {
        let discards =
            |end| space::discards(seed, end).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        let (bytes, failed) = discards(Discards::Well);
        assert!(bytes > 16 << 20 && failed == 0, "seed {seed}: {bytes} of a device of 4 MiB");
        let segment = 64 << 10;
        assert_eq!(discards(Discards::Fail), (3 * segment, 1), "seed {seed}: the first failure ends it");
        let (bytes, failed) = discards(Discards::Slowly);
        assert!(bytes >= segment && failed == 0, "seed {seed}: {bytes}");
    }
}
