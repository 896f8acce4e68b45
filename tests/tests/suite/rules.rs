//! The design's own check: with all rules on nothing is lost; with any rule off something is, within so many seeds.

use seabed_tests::rules::families::{self, rolling_depth};
use seabed_tests::rules::log::{self, Met};
use seabed_tests::rules::space::{Leave, Space};
use seabed_tests::rules::{Explored, explore};

const GIB: u64 = 1 << 30;

fn assert_found(what: &str, explored: &Explored) {
    assert!(explored.first.is_some(), "{what} is off and nothing is lost in {} seeds", explored.seeds);
}

#[test]
fn the_log_loses_nothing_with_all_rules_on() {
    let mut met = Met::default();
    for seed in 0..3000 {
        let run = log::run(seed, None).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        met.mounts += run.mounts;
        met.mounts_in_place += run.mounts_in_place;
        met.reported += run.reported;
        met.torn += run.torn;
        met.checkpoints += run.checkpoints;
        met.in_mount += run.in_mount;
        met.lost_ends += run.lost_ends;
    }
    assert!(met.mounts > 10_000 && met.mounts_in_place > 3000 && met.checkpoints > 10_000, "{met:?}");
    assert!(met.reported > 300 && met.torn > 100 && met.in_mount > 300, "{met:?}");
    assert!(met.lost_ends > 300, "{met:?}");
}

#[test]
fn the_log_loses_something_without_any_one_rule() {
    for rule in log::Off::ALL {
        let explored = explore(10_000, |seed| log::run(seed, Some(rule)).map(|_| ()));
        assert_found(&format!("{rule:?}"), &explored);
    }
}

#[test]
fn clones_are_copies_with_all_rules_on() {
    let explored = explore(4000, |seed| families::run(seed, None));
    assert_eq!(explored.first, None);
    assert!(rolling_depth(120, None) <= 6, "chains do not grow with the history");
}

#[test]
fn clones_are_no_copies_without_any_one_rule() {
    for rule in families::Off::ALL {
        if rule == families::Off::Folding {
            // Nothing is read wrong: chains grow.
            assert!(rolling_depth(120, Some(rule)) > 60, "{}", rolling_depth(120, Some(rule)));
            continue;
        }
        assert_found(&format!("{rule:?}"), &explore(4000, |seed| families::run(seed, Some(rule))));
    }
}

#[test]
fn space_is_as_the_rule_says() {
    let table = [(GIB / 16, 1, 64), (GIB, 1, 89), (GIB, 16, 71), (10 * GIB, 1, 91), (10 * GIB, 16, 89)];
    for (device, shards, percent) in table {
        let space = Space::of(device, shards, Leave::Nothing);
        assert!(space.fits(), "{device} bytes, {shards} shards: {space:?}");
        let said = space.percent(device);
        assert!(said.abs_diff(percent) <= 1, "{device} bytes, {shards} shards: {said} % and not {percent}");
    }
    for shards in [1, 16] {
        let percent = Space::of(1024 * GIB, shards, Leave::Nothing).percent(1024 * GIB);
        assert!((90..=92).contains(&percent), "{percent}");
    }
    for leave in [Leave::Reserves, Leave::Window, Leave::OpenStreams] {
        let fits = |(device, shards, _): &(u64, u64, u64)| Space::of(*device, *shards, leave).fits();
        assert!(!table.iter().all(fits), "{leave:?} left out and it fits all the same");
    }
}
