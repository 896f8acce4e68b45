//! Stores of the engine that are damaged, repaired, and crash in the middle of that.

use seabed_tests::crash::repairs;

#[test]
fn a_repair_that_crashes_is_repaired() {
    let mut states = 0;
    for seed in 1..4 {
        let counts = repairs(seed, 12).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert_eq!(counts.repaired, counts.damaged, "{counts:?}");
        states += counts.states;
    }
    assert!(states > 500, "{states} states");
}
