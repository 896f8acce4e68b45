//! The journal alone under crashes, rot and read errors.

use seabed_tests::journal_suite::{Counts, crash_loop, run, trace_hash};

#[test]
fn the_log_keeps_what_it_acknowledged() {
    let mut all = Counts::default();
    for seed in 0..12 {
        all.add(&run(seed).unwrap_or_else(|failure| panic!("{failure}")));
    }
    assert!(all.states >= 5000, "{all:?}");
    for (what, count) in [
        ("nested", all.nested),
        ("in recovery", all.in_recovery),
        ("torn", all.torn),
        ("unacknowledged", all.unacknowledged),
        ("lost slots", all.lost_slots),
        ("flips", all.flips),
        ("read errors", all.read_errors),
        ("killed", all.killed),
        ("rolls", all.rolls),
        ("checkpoints", all.checkpoints),
        ("refused", all.refused),
    ] {
        assert!(count > 0, "never: {what}: {all:?}");
    }
}

#[test]
fn a_crash_loop_always_opens() {
    for seed in 0..3 {
        crash_loop(seed * 1000, 150).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        assert_eq!(trace_hash(seed), trace_hash(seed));
    }
    assert_ne!(trace_hash(1), trace_hash(2));
}
