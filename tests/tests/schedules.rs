//! Courses of events that broke drafts of the design.

use seabed_tests::crash::{flip, schedules, stories};

#[test]
fn a_crash_loop_always_opens() {
    for seed in [1, 2] {
        schedules::crash_loop(seed, 100).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn either_slot_and_any_superblock_may_be_lost() {
    for seed in 1..4 {
        let looked = schedules::lost_fronts(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(looked > 20);
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

#[test]
fn a_full_device_is_emptied_and_filled_again() {
    for (seed, bytes) in [(1, 20_000), (2, 3000), (3, 100)] {
        let held =
            schedules::full_device(seed, 6, bytes).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(held[0] > 10, "{held:?}");
        assert!(held.iter().all(|count| *count * 10 >= held[0] * 7), "{held:?}");
    }
}

#[test]
fn a_flipped_bit_is_reported_or_counts_for_nothing() {
    let counts = flip(1, Some(400)).unwrap_or_else(|what| panic!("{what}"));
    assert!(counts.reads > 0 && counts.checker > 0, "{}", counts.line());
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
