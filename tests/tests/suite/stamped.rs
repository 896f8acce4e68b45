//! The stamped writer on real files, shortly: killed, recorded, on a device that fails; and that a write too few is seen.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use seabed_tests::stamped::kill::Medium;
use seabed_tests::stamped::{Counts, StampedError, errors, format, kill, record, verify, write};

const SEED: u64 = 3;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn what_killed_processes_acknowledged_is_there() {
    let directory = directory();
    let child = |path: &Path, seed: u64, from: &Counts| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seabed-tests"));
        command.arg("stamped-child").arg(path).arg(seed.to_string()).args(from.iter().map(u32::to_string));
        command
    };
    for medium in [Medium::File, Medium::LoopDevice] {
        match kill::kill((directory.path(), medium), SEED, 4, child) {
            Ok(counts) => {
                assert_eq!(counts.kills, 4, "{medium:?}");
                assert!(counts.acknowledged >= 4, "{medium:?}: {counts:?}");
            }
            Err(StampedError::Missing { why }) if medium == Medium::LoopDevice => eprintln!("skipped: {why}"),
            Err(error) => panic!("{medium:?}: {error}"),
        }
    }
}

#[test]
fn every_flush_leaves_a_disk_that_holds_what_was_acknowledged() {
    let directory = directory();
    let counts = record::record(directory.path(), SEED, 60).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(counts.acknowledged, 240);
    assert!(counts.flushes > 5 && counts.images > 2 * counts.flushes, "{counts:?}");
}

#[test]
fn an_error_of_the_device_loses_nothing() {
    let directory = directory();
    match errors::errors(directory.path(), SEED, 4, 40) {
        Ok(counts) => assert_eq!(counts.runs, 4),
        Err(StampedError::Missing { why }) => eprintln!("skipped: {why}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_write_that_is_missing_is_seen() {
    let directory = directory();
    let path = directory.path().join("store");
    format(&path).expect("formatted");
    let wrote = write(&path, SEED, ([0; 4], 20), Arc::new(|machine| machine), Arc::new(|_, _| {}));
    wrote.expect("opened").expect("written");
    let image = std::fs::read(&path).expect("read");
    assert_eq!(verify(&image, SEED, &[20; 4]), Ok([20; 4]));
    assert_eq!(verify(&image, SEED, &[19; 4]), Ok([20; 4]), "one more may be there");
    verify(&image, SEED, &[20, 20, 21, 20]).expect_err("the third client has no write 21");
    verify(&image, SEED, &[20, 18, 20, 20]).expect_err("nor has the second one two more");
}
