//! `clean`: frees what is dead, changes nothing that is stored, and says what it did.

use serde_json::Value;

use crate::world::{World, noise};

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn free_segments(world: &World) -> u64 {
    let info = json(&world.seabed(["info", "store", "--json"]).is(0).stdout);
    info["free_segments"].as_u64().expect("a number")
}

/// Imports files of 100 kB; every `keep`th stays.
fn store_with_dead_bytes(files: u64, keep: u64) -> World {
    let world = World::new();
    std::fs::create_dir(world.path("tree")).expect("a directory");
    for number in 0..files {
        let name = world.path(format!("tree/{number:04}"));
        std::fs::write(name, noise(number, 100_000)).expect("a file");
    }
    world.seabed(["import", "store", "p", "tree"]).is(0);
    let dead = (0..files).filter(|number| number % keep != 0).map(|number| format!("{number:04}"));
    let remove = ["rm", "store", "p"].map(String::from).into_iter().chain(dead.clone());
    world.seabed(remove).is(0);
    for name in dead {
        std::fs::remove_file(world.path("tree").join(name)).expect("it was written");
    }
    world
}

#[test]
fn dead_space_is_freed_and_told_of() {
    let world = store_with_dead_bytes(300, 4);
    let before = free_segments(&world);
    let cleaned = world.seabed(["clean", "store", "--json", "--memory", "64M"]).is(0);
    let cleaned = json(&cleaned.stdout);
    assert_eq!(cleaned["end"], "done", "{cleaned}");
    // 225 of 300 files of 100 kB were removed: 21 of 29 MiB.
    let freed = cleaned["bytes_freed"].as_u64().expect("a number");
    assert!(freed >= 10 << 20, "{cleaned}");
    assert!(cleaned["segments_cleaned"].as_u64() >= Some(10), "{cleaned}");
    assert_eq!(cleaned["free_bytes_after"].as_u64(), Some(free_segments(&world) << 20), "{cleaned}");
    assert!(free_segments(&world) >= before + 10, "{before} before, {cleaned}");
    world.is_clean();
    world.seabed(["export", "store", "p", "out"]).is(0);
    world.is_same("tree", "out");
    let again = world.seabed(["clean", "store"]).is(0);
    let text = again.text();
    assert!(text.starts_with("cleaned ") && text.contains("no segment is left"), "{text}");
    assert_eq!(world.seabed(["clean", "store", "--quiet"]).is(0).text(), "");
}

#[test]
fn an_empty_store_and_none_at_all() {
    let world = World::new();
    let cleaned = json(&world.seabed(["clean", "store", "--json"]).is(0).stdout);
    assert_eq!((&cleaned["end"], &cleaned["bytes_freed"]), (&"done".into(), &0.into()));
    world.is_clean();
    world.seabed(["clean", "none"]).is(3);
    std::fs::write(world.path("text"), vec![7; 1 << 20]).expect("a file");
    world.seabed(["clean", "text"]).is(7);
}

/// A store without space for another file, nearly all of it live: it says so and harms nothing.
#[test]
fn a_full_store_stays_as_it_is() {
    let world = World::new();
    let mut number = 0;
    while world.seabed_with(["put", "store", "p", &number.to_string()], &noise(number, 3 << 20)).code == 0 {
        number += 1;
    }
    let cleaned = world.seabed(["clean", "store", "--json"]);
    assert!(cleaned.code == 0 || cleaned.code == 4, "{}", cleaned.stderr);
    world.is_clean();
    for number in 0..number {
        let data = world.seabed(["get", "store", "p", &number.to_string()]).is(0).stdout;
        assert!(data == noise(number, 3 << 20), "object {number}");
    }
}
