//! `check --repair`: damage that can be put back, and damage that cannot.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::world::{World, noise};

/// Turns a bit over.
fn flip(world: &World, at: u64) {
    let file = File::options().read(true).write(true).open(world.path("store")).expect("writable");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("within it");
    file.write_all_at(&[byte[0] ^ 8], at).expect("room");
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// A store with objects, and a copy of its bytes.
fn filled() -> (World, Vec<u8>) {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "large"], &noise(1, 3 << 20)).is(0);
    world.seabed_with(["put", "store", "pool", "small"], b"some bytes").is(0);
    let bytes = fs::read(world.path("store")).expect("readable");
    (world, bytes)
}

#[test]
fn lost_superblocks_and_slots_are_put_back() {
    let (world, before) = filled();
    // Three superblocks, a slot, and both the same in turn.
    for places in [&[0u64, 16 << 10, (64 << 20) - 4096][..], &[48 << 10], &[(64 << 20) - 8192]] {
        for at in places {
            flip(&world, at + 20);
        }
        world.seabed(["check", "store"]).is(5);
        let mended = world.seabed(["check", "store", "--repair"]).is(0);
        assert_eq!(mended.text().matches("mended: ").count(), places.len(), "{}", mended.text());
        world.is_clean();
        let again = json(&world.seabed(["check", "store", "--repair", "--json"]).is(0).stdout);
        assert_eq!((&again["mended"], &again["clean"]), (&Value::from(Vec::<u8>::new()), &Value::from(true)));
    }
    assert!(
        before == fs::read(world.path("store")).expect("readable"),
        "what was put back is what was there"
    );
}

#[test]
fn a_lost_copy_of_a_checkpoint_is_written_again() {
    let (world, _) = filled();
    let slots = json(&world.seabed(["dump", "store", "slots", "--json"]).is(0).stdout);
    let text = slots.to_string();
    // "body copy 0: 1234 bytes at 5:0x2000#.."
    let (_, at) = text.split_once("body copy 0: ").expect("a body");
    let (_, at) = at.split_once(" bytes at ").expect("its place");
    let (segment, rest) = at.split_once(":0x").expect("an address");
    let (offset, _) = rest.split_once('#').expect("its checksum");
    let offset = u64::from_str_radix(offset, 16).expect("hexadecimal");
    let segment_bytes =
        json(&world.seabed(["info", "store", "--json"]).is(0).stdout)["segment_bytes"].clone();
    let segment_bytes = segment_bytes.as_u64().expect("a number");
    flip(&world, segment.parse::<u64>().expect("a number") * segment_bytes + offset);
    world.seabed(["check", "store"]).is(5);
    let mended = json(&world.seabed(["check", "store", "--repair", "--json"]).is(0).stdout);
    assert!(mended["mended"].to_string().contains("checkpoint"), "{mended}");
    world.is_clean();
    // The engine opens what was written, reads it and goes on with it.
    assert_eq!(world.seabed(["get", "store", "pool", "large"]).is(0).stdout, noise(1, 3 << 20));
    world.seabed_with(["put", "store", "pool", "more"], &noise(2, 1 << 20)).is(0);
    world.is_clean();
}

#[test]
fn what_is_beyond_repair_is_not_touched() {
    let (world, _) = filled();
    for at in [48 << 10, (64 << 20) - 8192] {
        flip(&world, at + 20);
    }
    let before = fs::read(world.path("store")).expect("readable");
    let refused = world.seabed(["check", "store", "--repair"]).is(5).says("beyond repair").says("salvage");
    assert!(refused.text().contains("beyond repair: shard 0 has no checkpoint"), "{}", refused.text());
    let refused = json(&world.seabed(["check", "store", "--repair", "--json"]).is(5).stdout);
    assert_eq!(refused["clean"], false);
    assert_eq!(refused["beyond_repair"].as_array().expect("reasons").len(), 3);
    assert!(before == fs::read(world.path("store")).expect("readable"));
    world.seabed(["check", "nowhere", "--repair"]).is(3);
}

#[test]
fn rotten_bytes_do_not_stand_in_the_way() {
    let (world, mut image) = filled();
    let data = noise(1, 3 << 20);
    let needle = &data[500 * 1024..][..64];
    let at = image.chunks_exact(64).position(|window| window == needle).expect("stored as it is") * 64;
    flip(&world, at as u64);
    flip(&world, 20);
    let mended = world.seabed(["check", "store", "--repair"]).is(5);
    assert!(mended.text().contains("mended: superblock copy 0"), "{}", mended.text());
    image[at] ^= 8;
    assert!(image == fs::read(world.path("store")).expect("readable"), "the superblock, and nothing else");
}

#[test]
fn a_store_in_use_is_not_repaired() {
    let world = World::new();
    world.seabed(["format", "store", "--size", "256M", "--sparse", "--force"]).is(0);
    // A put opens the store when it has read 32 MiB.
    let mut holder = world.start(["put", "store", "pool", "a"]);
    let mut stdin = holder.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, &noise(1, 34 << 20)).expect("it reads");
    world.seabed(["--wait", "0", "check", "store", "--repair"]).is(6);
    drop(stdin);
    assert!(holder.wait().expect("it ends").success());
}
