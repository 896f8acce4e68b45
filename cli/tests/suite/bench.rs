//! The measuring commands: that they run, verify and clean up, not how fast they are.

use std::fs;
use std::io::{BufRead, BufReader};

use crate::world::World;

#[test]
fn overwrite_measures_and_verifies() {
    let world = World::new();
    let arguments = [
        "bench",
        "overwrite",
        "--store",
        "store",
        "--data",
        "8M",
        "--depth",
        "4",
        "--seconds",
        "1",
        "--json",
    ];
    let ended = world.seabed(arguments);
    // A store this small may be full before the second is over: then it says so.
    assert!(matches!(ended.code, 0 | 4), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!((&report["verified_blocks"], &report["wrong_blocks"]), (&2048.into(), &0.into()));
    assert!(report["operations"].as_u64().is_some_and(|operations| operations > 0));
    assert_eq!(report["ended"], if ended.code == 0 { "time" } else { "no space" });
    assert_eq!(world.seabed(["ls", "store", "seabed-bench"]).is(0).text(), "", "it cleans up");
    world.is_clean();
}

#[test]
fn overwrite_takes_a_store_of_its_own() {
    let world = World::empty();
    fs::create_dir(world.path("tmp")).expect("a directory");
    let arguments = ["bench", "overwrite", "--data", "4M", "--scattered", "--depth", "1", "--seconds", "1"];
    let output = world.command(arguments).env("TMPDIR", world.path("tmp")).output().expect("it starts");
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("latency p99.9") && stdout.contains("1,024 blocks, 0 wrong"), "{stdout}");
    assert_eq!(fs::read_dir(world.path("tmp")).expect("readable").count(), 0, "it cleans up");
    world.seabed(["bench", "overwrite", "--data", "1K"]).is(2);
}

#[test]
fn cleaner_sim_prints_a_table_and_needs_no_store() {
    let world = World::empty();
    let small = ["bench", "cleaner-sim", "--data", "8M", "--segment-size", "64K", "--load", "uniform,90/10"];
    let ended = world.seabed([&small[..], &["--fill", "0.8"]].concat()).is(0);
    let text = ended.text();
    assert_eq!(text.lines().count(), 4, "a head, two loads, what the figures are: {text}");
    assert!(text.contains("90/10") && text.contains("64.0 KiB"), "{text}");
    let ended = world.seabed([&small[..], &["--fill", "0.7,0.8", "--json"]].concat()).is(0);
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(4));
    for wrong in
        [["--fill", "1"], ["--fill", "x"], ["--load", "zipf"], ["--segment-size", "6K"], ["--data", "1M"]]
    {
        world.seabed([&small[..2], &wrong].concat()).is(2);
    }
}

#[test]
fn a_polite_signal_ends_the_first_writes() {
    let world = World::empty();
    world.seabed(["format", "store", "--size", "4G", "--sparse"]).is(0);
    let mut child = world.start([
        "bench",
        "overwrite",
        "--store",
        "store",
        "--data",
        "1G",
        "--scattered",
        "--seconds",
        "60",
    ]);
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("writing the objects") {
        line.clear();
        assert!(said.read_line(&mut line).expect("text") > 0, "it has ended");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{stdout}");
    assert!(stdout.contains("ended early: interrupted") && stdout.contains("0 blocks, 0 wrong"), "{stdout}");
    assert_eq!(world.seabed(["ls", "store", "seabed-bench"]).is(0).text(), "", "it cleans up");
    world.is_clean();
}

#[test]
fn the_demo_compares_and_cleans_up() {
    let world = World::empty();
    fs::create_dir(world.path("tmp")).expect("a directory");
    fs::create_dir_all(world.path("mine/folder")).expect("a directory");
    fs::write(world.path("mine/folder/file"), "x").expect("a file");
    let output =
        world.command(["demo", "mine"]).env("TMPDIR", world.path("tmp")).output().expect("it starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("all the same"), "{stdout}");
    assert_eq!(fs::read_dir(world.path("tmp")).expect("readable").count(), 0, "it cleans up");
}

/// The demo used to import its own store, and to find that it differed.
#[test]
fn the_demo_leaves_its_own_directory_out() {
    let world = World::empty();
    fs::create_dir_all(world.path("mine/tmp")).expect("a directory");
    fs::write(world.path("mine/file"), "x").expect("a file");
    let mut demo = world.command(["demo", "mine"]);
    let output = demo.env("TMPDIR", world.path("mine/tmp")).output().expect("it starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("compared  2 items"), "{stdout}");
    assert_eq!(fs::read_dir(world.path("mine/tmp")).expect("readable").count(), 0, "it cleans up");
}
