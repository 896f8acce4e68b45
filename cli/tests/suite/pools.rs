//! `pool`: list, create, remove, rename.

use crate::world::{World, noise};

#[test]
fn pools_are_created_renamed_and_removed() {
    let world = World::new();
    world.seabed(["pool", "create", "store", "one"]).is(0);
    world.seabed(["pool", "create", "store", "one"]).is(2);
    world.seabed_with(["put", "store", "one", "a"], &noise(1, 300_000)).is(0);
    world.seabed(["pool", "create", "store", "two"]).is(0);
    assert_eq!(world.seabed(["pool", "ls", "store"]).is(0).text(), "one\ntwo\n");
    let info = world.seabed(["info", "store", "--json"]).is(0);
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).expect("JSON");
    let pools_max = info["pools_max"].as_u64().expect("a number");
    assert!(pools_max > 2);
    let text = world.seabed(["info", "store"]).is(0).text().replace(',', "");
    assert!(text.contains(&format!("pools      2 of {pools_max} at most\n")), "{text}");
    world.seabed(["pool", "rename", "store", "one", "two"]).is(2);
    world.seabed(["pool", "rename", "store", "none", "three"]).is(3);
    world.seabed(["pool", "rename", "store", "one", "three"]).is(0);
    assert_eq!(world.seabed(["get", "store", "three", "a"]).is(0).stdout, noise(1, 300_000));
    world.seabed(["get", "store", "one", "a"]).is(3);
    world.seabed(["pool", "rm", "store", "three"]).is(0);
    world.seabed(["pool", "rm", "store", "three"]).is(3);
    assert_eq!(world.seabed(["pool", "ls", "store"]).is(0).text(), "two\n");
    let info = world.seabed(["info", "store"]).is(0).text().to_owned();
    assert!(info.contains("objects    0\n"), "space of a removed pool is left: {info}");
    world.is_clean();
}

/// The objects of a pool that was removed in haste are freed by the commands that follow.
#[test]
fn a_removal_goes_on_in_the_next_command() {
    let world = World::new();
    for number in 0..20 {
        let name = number.to_string();
        world.seabed_with(["put", "store", "one", &name], &noise(number, 20_000)).is(0);
    }
    world.seabed(["pool", "rm", "--no-wait", "store", "one"]).is(0);
    world.seabed(["pool", "create", "store", "one"]).is(0);
    world.seabed(["pool", "create", "store", "two"]).is(0);
    world.seabed(["pool", "rm", "store", "two"]).is(0);
    assert_eq!(world.seabed(["ls", "store", "one"]).is(0).text(), "");
    let info = world.seabed(["info", "store"]).is(0).text().to_owned();
    assert!(info.contains("objects    0\n"), "space of a removed pool is left: {info}");
    world.is_clean();
}

/// A put or import that fails used to leave an empty pool, in a store that was full already.
#[test]
fn a_failure_leaves_no_new_pool() {
    let world = World::new();
    world.seabed_with(["put", "store", "new", "streamed"], &noise(1, 90 << 20)).is(4);
    assert_eq!(world.seabed(["pool", "ls", "store"]).is(0).text(), "");
    world.seabed_with(["put", "store", "new", &"n".repeat(5000)], b"small").is(2);
    assert_eq!(world.seabed(["pool", "ls", "store"]).is(0).text(), "");
    // The name is free, and the space too.
    world.seabed_with(["put", "store", "new", "a"], &noise(2, 30 << 20)).is(0);
    world.seabed(["rm", "store", "new", "a"]).is(0);
    // Pools that were there stay, whether they hold objects or not.
    world.seabed(["pool", "create", "store", "empty"]).is(0);
    world.seabed_with(["put", "store", "full", "a"], b"x").is(0);
    for pool in ["empty", "full", "new"] {
        world.seabed_with(["put", "store", pool, "too-large"], &noise(1, 90 << 20)).is(4);
    }
    assert_eq!(world.seabed(["pool", "ls", "store"]).is(0).text(), "empty\nfull\nnew\n");
    assert_eq!(world.seabed(["get", "store", "full", "a"]).is(0).stdout, b"x");
    world.is_clean();
}

#[test]
fn an_import_that_stores_nothing_leaves_no_new_pool() {
    let world = World::new();
    std::fs::create_dir(world.path("tree")).expect("a directory");
    std::fs::write(world.path("tree/large"), noise(1, 90 << 20)).expect("a file");
    world.seabed(["import", "store", "new", "tree"]).is(4);
    assert_eq!(world.seabed(["pool", "ls", "store"]).is(0).text(), "");
    world.seabed(["pool", "create", "store", "empty"]).is(0);
    world.seabed(["import", "store", "empty", "tree"]).is(4);
    assert_eq!(world.seabed(["pool", "ls", "store"]).is(0).text(), "empty\n");
    // What was imported before the failure keeps its pool: a directory comes before what is in it.
    std::fs::create_dir(world.path("tree/directory")).expect("a directory");
    std::fs::rename(world.path("tree/large"), world.path("tree/directory/large")).expect("ours");
    world.seabed(["import", "store", "some", "tree", "--jobs", "1"]).is(4);
    assert_eq!(world.seabed(["ls", "store", "some"]).is(0).text(), "directory\n");
    world.is_clean();
}
