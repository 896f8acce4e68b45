//! `stats`, `info` and `--report`: where the space is, what can still be written, and who has a store that is in use.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{World, noise};

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn world() -> World {
    let world = World::new();
    for number in 0..12 {
        world.seabed_with(["put", "store", "p", &number.to_string()], &noise(number, 1 << 20)).is(0);
    }
    world.seabed(["rm", "store", "p", "1", "3", "5", "7"]).is(0);
    world
}

#[test]
fn the_space_is_told_by_stream() {
    let world = world();
    let stats = json(&world.seabed(["stats", "store", "--json"]).is(0).stdout);
    let groups = stats["groups"].as_array().expect("a list");
    let sum = |key: &str| groups.iter().map(|group| group[key].as_u64().expect("a number")).sum::<u64>();
    assert_eq!(Some(sum("live_bytes")), stats["live_bytes"].as_u64());
    assert_eq!(Some(sum("segments") * (1 << 20)), stats["segments_bytes"].as_u64());
    assert!(stats["dead_bytes"].as_u64() >= Some(4 << 20), "four objects of 1 MiB were removed: {stats}");
    assert!(groups.iter().any(|group| group["stream"] == "bulk"), "{stats}");
    let text = world.seabed(["stats", "store"]).is(0);
    for part in ["bulk", "free", "reserved, window", "can be written"] {
        assert!(text.text().contains(part), "{part} is not in {}", text.text());
    }
    let info = json(&world.seabed(["info", "store", "--json"]).is(0).stdout);
    assert_eq!(info["space"], stats);
    let text = world.seabed(["info", "store"]).is(0);
    for part in ["capacity", "live", "writable", "reserved"] {
        assert!(text.text().lines().any(|line| line.starts_with(part)), "{part} is not in {}", text.text());
    }
    world.seabed(["stats", "none"]).is(3);
}

/// What `info` says can be written now, can be written, by a program that opens the store once: each begins a segment.
#[test]
fn what_can_be_written_is_written() {
    let world = world();
    let info = json(&world.seabed(["info", "store", "--json"]).is(0).stdout);
    let said = info["space"]["writable_now_bytes"].as_u64().expect("a number");
    assert!(said > 12 << 20, "{info}");
    std::fs::create_dir(world.path("tree")).expect("a directory");
    for number in 0..said >> 20 {
        std::fs::write(world.path(format!("tree/{number}")), noise(number, 1 << 20)).expect("a file");
    }
    world.seabed(["import", "store", "q", "tree"]).is(0);
    world.is_clean();
}

/// Who looks is told which process has the store, and sees it again afterwards.
#[test]
fn a_store_in_use_is_told_of() {
    let world = world();
    let holder = File::open(world.path("store")).expect("a store");
    flock(&holder, FlockOperation::LockExclusive).expect("nobody has it");
    let pid = std::process::id().to_string();
    world.seabed(["--wait", "0", "stats", "store"]).is(6).says(&pid);
    let mut watch = world.start(["stats", "store", "--watch"]);
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("it goes on").expect("text");
    let line = next();
    assert!(line.contains(&pid), "{line}");
    drop(holder);
    while !next().contains("can be written") {}
    kill_process(Pid::from_child(&watch), Signal::INT).expect("it runs");
    assert_eq!(watch.wait().expect("ours").code(), Some(130));
}

/// A put opens the store when it has read 32 MiB, and then waits for the rest.
#[test]
fn a_command_reports_what_its_store_does() {
    let world = World::new();
    world.seabed(["format", "store", "--size", "256M", "--sparse", "--force"]).is(0);
    let mut put = world.start(["--report", "1", "put", "store", "p", "late"]);
    let mut stdin = put.stdin.take().expect("piped");
    stdin.write_all(&noise(1, 34 << 20)).expect("it reads");
    let mut lines = BufReader::new(put.stderr.take().expect("piped")).lines();
    let line = lines.next().expect("it reports").expect("text");
    assert!(line.contains(" live, ") && line.contains("since open"), "{line}");
    drop(stdin);
    assert!(put.wait().expect("ours").success());
}
