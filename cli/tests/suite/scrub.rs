//! `scrub`: finds rot and names it, keeps to its pace, goes on where it was interrupted.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use serde_json::Value;

use crate::world::{World, noise};

/// Turns a bit over in the store where these bytes stand; they are found by their first 64.
fn rot(world: &World, data: &[u8]) {
    let image = fs::read(world.path("store")).expect("readable");
    let needle = &data[..64];
    let at = image.chunks_exact(64).position(|window| window == needle).expect("stored as it is") * 64;
    let file = File::options().write(true).open(world.path("store")).expect("writable");
    file.write_all_at(&[needle[0] ^ 1], at as u64).expect("room");
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn rot_is_found_and_named() {
    let world = World::new();
    let data = noise(1, 3 << 20);
    world.seabed_with(["put", "store", "pool", "large\n"], &data).is(0);
    world.seabed_with(["put", "store", "pool", "other"], &noise(2, 100_000)).is(0);
    let before = fs::read(world.path("store")).expect("readable");
    let sound = world.seabed(["scrub", "store"]).is(0);
    assert!(sound.text().ends_with("verified, 0 bad\n"), "{}", sound.text());
    let sound = json(&world.seabed(["scrub", "store", "--json"]).is(0).stdout);
    assert!(sound["bytes_verified"].as_u64() > Some((3 << 20) + 100_000), "{sound}");
    assert!(before == fs::read(world.path("store")).expect("readable"), "it writes nothing");
    rot(&world, &data[1 << 20..]);
    rot(&world, &data[2_000_896..]);
    let rotten = world.seabed(["scrub", "store"]).is(5);
    let offsets = [1 << 20, 2_000_896 / 4096 * 4096];
    for offset in offsets {
        let line = format!("bad: pool \"pool\", object \"large\\n\", 4096 bytes at offset {offset} ");
        assert!(rotten.text().contains(&line), "{}", rotten.text());
    }
    let rotten = json(&world.seabed(["scrub", "store", "--json"]).is(5).stdout);
    assert_eq!(rotten["bad_count"], 2);
    for (bad, offset) in rotten["bad"].as_array().expect("a list").iter().zip(offsets) {
        assert_eq!((&bad["pool"], &bad["object"]), (&"pool".into(), &"large\n".into()));
        assert_eq!((&bad["offset"], &bad["bytes"]), (&offset.into(), &4096.into()));
    }
}

#[test]
fn an_interrupted_scrub_is_taken_up_again() {
    let world = World::new();
    let data = noise(1, 8 << 20);
    world.seabed_with(["put", "store", "pool", "large"], &data).is(0);
    rot(&world, &data);
    let scrub = ["scrub", "store", "--state", "state", "--rate", "64K", "--json"];
    let child = world.start(scrub);
    // It saves after five seconds at the latest; a signal before that makes it save too.
    let pid = child.id().to_string();
    while !takes_signals(&pid) {
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("it runs").success());
    let first = child.wait_with_output().expect("it ends");
    assert_eq!(first.status.code(), Some(130));
    let first = json(&first.stdout);
    let state = json(&fs::read(world.path("state")).expect("it was written"));
    assert_eq!((&first["complete"], &first["bad_count"]), (&false.into(), &state["bad_count"]));
    // The store may be used meanwhile.
    world.seabed_with(["put", "store", "pool", "more"], &noise(2, 100_000)).is(0);
    let second = json(&world.seabed(["scrub", "store", "--state", "state", "--json"]).is(5).stdout);
    assert_eq!((&second["complete"], &second["bad_count"]), (&true.into(), &1.into()));
    let verified = |json: &Value| json["bytes_verified"].as_u64().expect("a number");
    assert!(verified(&second) > 8 << 20 && verified(&first) < 8 << 20, "{first} {second}");
    // The next run begins anew.
    let third = json(&world.seabed(["scrub", "store", "--state", "state", "--json"]).is(5).stdout);
    assert_eq!((&third["complete"], &third["bad_count"]), (&true.into(), &1.into()));
    assert_eq!(third["bad"].as_array().map(Vec::len), Some(1));
}

/// Whether a process has its handlers for the signals that ask for its end, of which SIGTERM comes last.
fn takes_signals(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask").trim();
    u64::from_str_radix(caught, 16).expect("a mask") & 1 << 14 != 0
}

#[test]
fn states_that_are_not_ours() {
    let world = World::new();
    fs::write(world.path("state"), "precious").expect("a file");
    world.seabed(["scrub", "store", "--state", "state"]).is(2).says("left alone");
    assert_eq!(fs::read(world.path("state")).expect("there"), b"precious");
    world.seabed(["scrub", "store", "--state", "mine"]).is(0);
    world.seabed(["format", "second", "--size", "64M", "--sparse"]).is(0);
    world.seabed(["scrub", "second", "--state", "mine"]).is(2).says("another store");
    world.seabed(["scrub", "store", "--state", "no/such/state"]).is(3);
    world.seabed(["scrub", "store", "--rate", "0"]).is(2);
    world.seabed(["scrub", "nowhere"]).is(3);
}
