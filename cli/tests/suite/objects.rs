//! Single objects: put, get, rm, ls, stat, attr, omap.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use crate::world::{World, noise};

#[test]
fn bytes_come_back() {
    let world = World::new();
    for (name, bytes) in [
        ("empty", 0),
        ("one", 1),
        ("block", 4096),
        ("odd", 70_001),
        ("buffer", 1 << 20),
        ("large", 3_500_001),
    ] {
        let data = noise(bytes as u64, bytes);
        std::fs::write(world.path("source"), &data).expect("a file");
        world.seabed(["put", "store", "pool", name, "source"]).is(0);
        assert_eq!(world.seabed(["get", "store", "pool", name]).is(0).stdout, data, "{name}");
        world.seabed_with(["put", "store", "pool", name, "-", "--empty"], &data).is(0);
        world.seabed(["get", "store", "pool", name, "copy"]).is(0);
        assert_eq!(std::fs::read(world.path("copy")).expect("written"), data, "{name}");
    }
    world.is_clean();
}

#[test]
fn a_put_replaces_all_of_an_object() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], &noise(1, 300_000)).is(0);
    world.seabed(["attr", "set", "store", "pool", "a", "colour", "red"]).is(0);
    world.seabed(["omap", "set", "store", "pool", "a", "key", "value"]).is(0);
    world.seabed_with(["put", "store", "pool", "a"], b"new").is(0);
    assert_eq!(world.seabed(["get", "store", "pool", "a"]).is(0).stdout, b"new");
    assert_eq!(world.seabed(["attr", "ls", "store", "pool", "a"]).is(0).text(), "");
    assert_eq!(world.seabed(["omap", "ls", "store", "pool", "a"]).is(0).text(), "");
    world.is_clean();
}

#[test]
fn removing() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.seabed_with(["put", "store", "pool", name], name.as_bytes()).is(0);
    }
    world.seabed(["rm", "store", "pool", "a"]).is(0);
    world.seabed(["rm", "store", "pool", "a"]).is(3).says("\"a\"");
    world.seabed(["rm", "store", "pool", "a", "b"]).is(1).says("\"a\"");
    assert_eq!(world.seabed(["ls", "store", "pool"]).is(0).text(), "c\n");
    world.is_clean();
}

#[test]
fn listing() {
    let world = World::new();
    let odd = OsStr::from_bytes(b"b\xff\n\\");
    assert_eq!(world.seabed(["ls", "store"]).is(0).text(), "");
    assert_eq!(world.seabed(["ls", "store", "--json"]).is(0).text(), "[]\n");
    for name in [OsStr::new("c"), OsStr::new("a"), odd, OsStr::new("b")] {
        let put = [OsStr::new("put"), OsStr::new("store"), OsStr::new("pool"), name];
        world.seabed_with(put, b"12345").is(0);
    }
    assert_eq!(world.seabed(["ls", "store"]).is(0).text(), "pool\n");
    assert_eq!(world.seabed(["ls", "store", "pool"]).is(0).stdout, b"a\nb\nb\xff\n\\\nc\n");
    assert_eq!(world.seabed(["ls", "store", "pool", "-0"]).is(0).stdout, b"a\0b\0b\xff\n\\\0c\0");
    assert_eq!(world.seabed(["ls", "store", "pool", "--prefix", "b", "-0"]).is(0).stdout, b"b\0b\xff\n\\\0");
    let mut unsorted: Vec<_> = world
        .seabed(["ls", "store", "pool", "--unsorted", "-0"])
        .is(0)
        .stdout
        .split(|b| *b == 0)
        .map(<[u8]>::to_vec)
        .collect();
    unsorted.sort();
    assert_eq!(unsorted, [&b""[..], b"a", b"b", b"b\xff\n\\", b"c"]);

    let json = world.seabed(["ls", "store", "pool", "--json", "-l"]).is(0);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json[0], serde_json::json!({ "name": "a", "size": 5, "attributes": 0, "omap_keys": 0 }));
    assert_eq!(json[2]["name_hex"], "62ff0a5c");
    assert_eq!(json.as_array().map(Vec::len), Some(4));
    let long = world.seabed(["ls", "store", "pool", "-l", "--prefix", "a"]).is(0);
    assert_eq!(long.text().split_whitespace().collect::<Vec<_>>(), ["5", "0", "0", "a"]);
    let get = [OsStr::new("get"), OsStr::new("store"), OsStr::new("pool"), odd];
    assert_eq!(world.seabed(get).is(0).stdout, b"12345");
}

#[test]
fn a_listing_of_several_pages() {
    let world = World::new();
    std::fs::create_dir(world.path("files")).expect("a directory");
    let names: Vec<_> = (0..2500).map(|number| format!("{number:05}")).collect();
    for name in &names {
        std::fs::write(world.path("files").join(name), name).expect("a file");
    }
    world.seabed(["import", "store", "pool", "files"]).is(0);
    let listed = world.seabed(["ls", "store", "pool"]).is(0);
    assert!(listed.text().lines().eq(names.iter().map(String::as_str)));
    let listed = world.seabed(["ls", "store", "pool", "-l"]).is(0);
    assert_eq!(listed.text().lines().count(), names.len());
}

#[test]
fn attributes() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    world.seabed(["attr", "set", "store", "pool", "a", "one", "-1"]).is(0);
    world.seabed_with(["attr", "set", "store", "pool", "a", "two"], b"\x00\xff").is(0);
    assert_eq!(world.seabed(["attr", "get", "store", "pool", "a", "one"]).is(0).stdout, b"-1");
    assert_eq!(world.seabed(["attr", "get", "store", "pool", "a", "two"]).is(0).stdout, b"\x00\xff");
    assert_eq!(world.seabed(["attr", "ls", "store", "pool", "a"]).is(0).text(), "one\ntwo\n");
    let stat = world.seabed(["stat", "store", "pool", "a", "--json"]).is(0);
    let stat: serde_json::Value = serde_json::from_slice(&stat.stdout).expect("JSON");
    assert_eq!((&stat["size"], &stat["attributes"][0]["name"]), (&1.into(), &"one".into()));
    assert_eq!(stat["attributes"][1]["value_hex"], "00ff");
    world.seabed(["attr", "get", "store", "pool", "a", "three"]).is(3);
    world.seabed(["attr", "rm", "store", "pool", "a", "three"]).is(3).says("\"three\"");
    world.seabed(["attr", "rm", "store", "pool", "a", "one", "three"]).is(1);
    assert_eq!(world.seabed(["attr", "ls", "store", "pool", "a"]).is(0).text(), "two\n");
    world.seabed(["attr", "set", "store", "pool", "none", "one", "1"]).is(3);
    world.seabed(["attr", "set", "store", "pool", "a", "", "1"]).is(2);
    world.is_clean();
}

#[test]
fn keys_and_values() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    for key in ["b", "a", "c", "bb"] {
        world.seabed(["omap", "set", "store", "pool", "a", key, &format!("<{key}>")]).is(0);
    }
    assert_eq!(world.seabed(["omap", "ls", "store", "pool", "a"]).is(0).text(), "a\nb\nbb\nc\n");
    assert_eq!(
        world.seabed(["omap", "ls", "store", "pool", "a", "--prefix", "b", "-0"]).is(0).text(),
        "b\0bb\0"
    );
    assert_eq!(world.seabed(["omap", "get", "store", "pool", "a", "bb"]).is(0).text(), "<bb>");
    let json = world.seabed(["omap", "ls", "store", "pool", "a", "--json"]).is(0);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json[3], serde_json::json!({ "name": "c", "value": "<c>" }));
    world.seabed(["omap", "get", "store", "pool", "a", "z"]).is(3).says("\"z\"");
    world.seabed(["omap", "rm", "store", "pool", "a", "z"]).is(3);
    world.seabed(["omap", "rm", "store", "pool", "a", "a", "b", "c"]).is(0);
    assert_eq!(world.seabed(["omap", "ls", "store", "pool", "a"]).is(0).text(), "bb\n");
    world.seabed(["omap", "ls", "store", "pool", "none"]).is(3);
    world.is_clean();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], &noise(1, 4 << 20)).is(0);
    let mut child = world.start(["get", "store", "pool", "a"]);
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut [0; 10]).expect("some bytes");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
