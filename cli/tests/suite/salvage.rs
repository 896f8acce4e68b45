//! `salvage`: what it writes for stores that are damaged in all ways, and that it writes nowhere else.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};

use serde_json::Value;

use crate::world::{World, noise};

const STORE_BYTES: u64 = 64 << 20;

fn overwrite(world: &World, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(world.path("store")).expect("writable");
    file.write_all_at(bytes, at).expect("room");
}

/// Zeros in the place of superblocks and slots.
fn lose_the_front(world: &World) {
    overwrite(world, 0, &vec![0; 64 << 10]);
    overwrite(world, STORE_BYTES - 8192, &[0; 8192]);
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn manifest(world: &World, directory: &str) -> Vec<Value> {
    let text = fs::read_to_string(world.path(directory).join("manifest.jsonl")).expect("a manifest");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A store with a directory tree in it, and objects that are no files.
fn filled() -> World {
    let world = World::new();
    let directory = world.path("in/deep");
    fs::create_dir_all(&directory).expect("made");
    fs::write(directory.join("large"), noise(1, 3 << 20)).expect("written");
    fs::write(directory.join("small"), "some bytes").expect("written");
    fs::set_permissions(directory.join("small"), fs::Permissions::from_mode(0o640)).expect("ours");
    std::os::unix::fs::symlink("deep/small", world.path("in/link")).expect("made");
    world.seabed(["import", "store", "files", "in"]).is(0);
    world.seabed_with(["put", "store", "pool", "object"], b"bytes").is(0);
    world.seabed(["attr", "set", "store", "pool", "object", "color", "red"]).is(0);
    world.seabed(["omap", "set", "store", "pool", "object", "key", "value"]).is(0);
    world
}

/// Asserts that all of [`filled`] was saved.
fn expect_all(world: &World, out: &str) {
    world.is_same("in/deep", &format!("{out}/objects/files/deep"));
    let link = fs::read_link(world.path(out).join("objects/files/link")).expect("a link");
    assert_eq!(link.to_str(), Some("deep/small"));
    assert_eq!(fs::read(world.path(out).join("objects/pool/object")).expect("saved"), b"bytes");
    let lines = manifest(world, out);
    let object = lines.iter().find(|line| line["object"] == "object").expect("a line for each");
    assert_eq!(object["attributes"][0]["name"], "color");
    assert_eq!(object["attributes"][0]["value_hex"], "726564");
    assert_eq!(object["omap"][0]["value_hex"], "76616c7565");
    assert!(lines.iter().all(|line| line["complete"] == true));
}

#[test]
fn a_store_without_superblocks_and_slots() {
    let world = filled();
    let sound = json(&world.seabed(["salvage", "store", "sound", "--json"]).is(0).stdout);
    assert_eq!((&sound["incomplete"], &sound["losses"]), (&0.into(), &Value::Array(Vec::new())));
    expect_all(&world, "sound");
    lose_the_front(&world);
    let before = fs::read(world.path("store")).expect("readable");
    world.seabed(["ls", "store"]).is(7);
    let saved = json(&world.seabed(["salvage", "store", "out", "--json"]).is(5).stdout);
    assert_eq!((&saved["incomplete"], &saved["nameless"]), (&0.into(), &0.into()));
    assert_eq!(saved["uuid"], sound["uuid"]);
    assert_eq!(saved["losses"].as_array().expect("a list").len(), 2, "{saved}");
    expect_all(&world, "out");
    assert!(before == fs::read(world.path("store")).expect("readable"), "it writes nothing to the store");
}

#[test]
fn a_store_without_its_trees() {
    let world = filled();
    // All node segments: every image, and one copy of every checkpoint body.
    let segments = json(&world.seabed(["dump", "store", "segments", "--json"]).is(0).stdout);
    let info = json(&world.seabed(["info", "store", "--json"]).is(0).stdout);
    let segment_bytes = info["segment_bytes"].as_u64().expect("a number");
    for segment in segments.as_array().expect("all") {
        if segment["claim"]["stream"] == "nodes" {
            let at = segment["segment"].as_u64().expect("a number") * segment_bytes;
            overwrite(&world, at, &vec![0; usize::try_from(segment_bytes).expect("small")]);
        }
    }
    world.seabed(["check", "store"]).is(5);
    let saved = world.seabed(["salvage", "store", "out"]);
    assert!([0, 5].contains(&saved.code), "{}", saved.stderr);
    // What was written lately is in the journal too.
    assert_eq!(fs::read(world.path("out/objects/pool/object")).expect("saved"), b"bytes");
}

#[test]
fn rotten_bytes_leave_a_hole() {
    let world = World::new();
    let data = noise(1, 3 << 20);
    world.seabed_with(["put", "store", "pool", "a"], &data).is(0);
    let image = fs::read(world.path("store")).expect("readable");
    let needle = &data[1 << 20..][..64];
    let at = image.chunks_exact(64).position(|window| window == needle).expect("stored as it is") * 64;
    overwrite(&world, at as u64, &[needle[0] ^ 1]);
    let saved = world.seabed(["salvage", "store", "out"]).is(5);
    assert!(saved.text().contains("1 incomplete"), "{}", saved.text());
    assert!(!world.path("out/objects/pool/a").exists());
    let mut expected = data;
    expected[1 << 20..][..4096].fill(0);
    assert!(fs::read(world.path("out/objects/pool/a.incomplete")).expect("saved") == expected);
    let line = &manifest(&world, "out")[0];
    assert_eq!((&line["file"], &line["complete"]), (&"objects/pool/a.incomplete".into(), &false.into()));
    assert_eq!(line["holes"], serde_json::json!([{ "offset": 1 << 20, "bytes": 4096 }]));
}

#[test]
fn nothing_is_written_elsewhere() {
    let world = World::new();
    let names = ["../escape", "/absolute", "a/../../escape", "a", "a/b", ".seabed-part-x", "a.incomplete"];
    for name in names {
        world.seabed_with(["put", "store", "pool", name], name.as_bytes()).is(0);
    }
    world.seabed_with(["put", "store", "..", "object"], b"in a pool that is no path").is(0);
    world.seabed_with(["put", "store", "x/y", "object"], b"in another").is(0);
    // A link that leads out, and an object below it.
    world.seabed_with(["put", "store", "pool", "link"], b"../../../outside").is(0);
    world.seabed(["attr", "set", "store", "pool", "link", "posix.type", "symlink"]).is(0);
    world.seabed_with(["put", "store", "pool", "link/below"], b"below").is(0);
    fs::create_dir(world.path("outside")).expect("made");
    // Names that cannot be paths are in the manifest: nothing is lost.
    let saved = json(&world.seabed(["salvage", "store", "out", "--json"]).is(0).stdout);
    assert!(saved["nameless"].as_u64().is_some_and(|count| count > 0), "{saved}");
    let lines = manifest(&world, "out");
    assert_eq!(lines.len(), names.len() + 4, "{saved}");
    for line in &lines {
        let object = line["object"].as_str().expect("a name");
        let file = line["file"].as_str().expect("a file");
        assert!(file.starts_with("objects/") || file.starts_with("nameless/"), "{file}");
        if line["pool"] == "pool" && !object.starts_with("link") {
            assert_eq!(fs::read(world.path("out").join(file)).expect("saved"), object.as_bytes(), "{object}");
        }
    }
    assert_eq!(fs::read_dir(world.path("outside")).expect("readable").count(), 0);
    let beside: Vec<_> = fs::read_dir(world.path("")).expect("readable").collect();
    assert_eq!(beside.len(), 3, "the store, the directory, and what the link leads to");
}

#[test]
fn directories_that_are_refused() {
    let world = World::new();
    fs::create_dir(world.path("full")).expect("made");
    fs::write(world.path("full/file"), "precious").expect("written");
    world.seabed(["salvage", "store", "full"]).is(2).says("not empty");
    world.seabed(["salvage", "nowhere", "out"]).is(3);
    fs::write(world.path("zeros"), vec![0; 1 << 20]).expect("written");
    world.seabed(["salvage", "zeros", "out"]).is(7).says("neither a superblock nor headers");
}
