//! A short version of `seabed-tests crash`.

use seabed_tests::crash::{Counts, run_seed, trace_hash};

#[test]
fn what_a_crash_leaves_is_a_prefix_of_what_was_done() {
    let mut all = Counts::default();
    let mut wrong = Vec::new();
    for seed in 1000..1016 {
        let (counts, failure) = run_seed(seed, 40);
        all.add(&counts);
        wrong.extend(failure.map(|what| format!("seed {seed}, {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{}", all.line());
    assert!(all.states >= 300, "{}", all.line());
    for (what, count) in
        [("nested", all.nested), ("torn", all.torn), ("in a mount", all.in_mount), ("more", all.more)]
    {
        assert!(count > 0, "never: {what}: {}", all.line());
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_of_the_engine() {
    let hash = |seed| trace_hash(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    let hashes: std::collections::BTreeSet<u64> = (2000..2010)
        .map(|seed| {
            assert_eq!(hash(seed), hash(seed), "seed {seed}");
            hash(seed)
        })
        .collect();
    assert_eq!(hashes.len(), 10, "another seed, another trace");
}
