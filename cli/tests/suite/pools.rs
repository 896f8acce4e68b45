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
