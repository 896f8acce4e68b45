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
        ("permits", all.permits),
        ("a mount that failed", all.unmounted),
        ("a failure", all.failed),
        ("a failure that nobody noticed", all.unnoticed),
    ] {
        assert!(count > 0, "never: {what}: {}", all.line());
    }
}

/// A write failed while a record that was begun before it was still on its way. Who waited for that record was told that
/// the journal had failed, and waited for the next mount to carry it out again. Then the record became durable; so the next
/// mount did not take it, nor was it told of the fence, and who had submitted it waited for ever. Writes 0, 79 and 158 of
/// this run fail, and the last of them is one of that kind.
#[test]
fn a_record_that_is_durable_although_the_journal_failed_is_answered() {
    let counts = run_faults(26, 79).unwrap_or_else(|what| panic!("{what}"));
    assert!(counts.writes > 2 && counts.fenced > 0, "{}", counts.line());
}
