//! Short versions of `seabed-tests exhaustive` and `seabed-tests faults`.

use seabed_tests::crash::exhaustive::{run_sequences, sequences};
use seabed_tests::crash::faults::{FaultCounts, run_faults};

#[test]
fn every_pair_of_operations_survives_every_crash() {
    let counts = run_sequences(&sequences(2), 2, |what| panic!("{what}"));
    eprintln!("{}", counts.line());
    assert_eq!(counts.sequences, 14 + 14 * 14);
    assert!(counts.boundaries > 1000 && counts.states > 2000, "{}", counts.line());
}

#[test]
fn whatever_fails_is_told_and_nothing_acknowledged_is_lost() {
    let mut all = FaultCounts::default();
    for seed in 1..5 {
        all.add(&run_faults(seed, 5).unwrap_or_else(|what| panic!("{what}")));
    }
    eprintln!("{}", all.line());
    for (what, count) in [
        ("reads", all.reads),
        ("writes", all.writes),
        ("flushes", all.flushes),
        ("a mount that failed", all.unmounted),
        ("a failure", all.failed),
        ("a failure that nobody noticed", all.unnoticed),
    ] {
        assert!(count > 0, "never: {what}: {}", all.line());
    }
}
