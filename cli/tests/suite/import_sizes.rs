//! Import of trees in which all files have one size, around every threshold, with few and many jobs.
//!
//! An import of 100 files of 100,000 bytes hung about every second time: all jobs waited for buffers of which the engine
//! kept the last ones. The suites had skewed sizes, and every one of them ended a record that freed the others' buffers.

use std::fs;

use crate::world::{World, noise};

/// Sizes around: nothing, inline data, a chunk, memory of its own, bulk data, a buffer (and a part of a streaming put).
const SIZES: [usize; 18] = [
    0,
    1,
    511,
    512,
    513,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    100_000,
    131_071,
    131_072,
    131_073,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
];
/// Bytes of a tree: what fits the store once for each number of jobs.
const TREE_BYTES: usize = 8 << 20;
const FILES_MAX: usize = 100;

fn import_uniform(bytes: usize) {
    let world = World::new();
    let count = (TREE_BYTES / bytes.max(1)).min(FILES_MAX);
    fs::create_dir(world.path("tree")).expect("a directory");
    for number in 0..count {
        fs::write(world.path(format!("tree/{number}")), noise(number as u64, bytes)).expect("a file");
    }
    for jobs in ["1", "16", "17", "32", "64"] {
        let log = format!("log-{jobs}");
        let arguments = ["-q", "import", "store", "pool", "tree", "--jobs", jobs, "--ack-log", &log];
        world.seabed_with_progress(arguments, &log).is(0);
        assert_eq!(world.seabed(["ls", "store", "pool"]).is(0).text().lines().count(), count);
        world.seabed(["-q", "export", "store", "pool", "copy"]).is(0);
        world.is_same("tree", "copy");
        fs::remove_dir_all(world.path("copy")).expect("ours");
        world.seabed(["format", "store", "--size", "64M", "--sparse", "--force"]).is(0);
    }
}

#[test]
fn inline_sizes() {
    SIZES.iter().filter(|bytes| **bytes < 4095).for_each(|bytes| import_uniform(*bytes));
}

#[test]
fn chunk_sizes() {
    SIZES.iter().filter(|bytes| (4095..65_535).contains(*bytes)).for_each(|bytes| import_uniform(*bytes));
}

#[test]
fn buffer_sizes() {
    SIZES.iter().filter(|bytes| (65_535..131_071).contains(*bytes)).for_each(|bytes| import_uniform(*bytes));
}

#[test]
fn bulk_sizes() {
    SIZES.iter().filter(|bytes| (131_071..1 << 19).contains(*bytes)).for_each(|bytes| import_uniform(*bytes));
}

#[test]
fn part_sizes() {
    SIZES.iter().filter(|bytes| **bytes > 1 << 19).for_each(|bytes| import_uniform(*bytes));
}
