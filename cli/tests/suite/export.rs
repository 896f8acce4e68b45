//! Export: nothing outside the directory, whatever objects are called and whatever stands in the way.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::world::World;

#[test]
fn names_that_lead_out_are_refused_and_the_rest_goes_on() {
    let world = World::new();
    let bad = ["/absolute", "../up", "a/../../up", "a/./b", "a//b", "trailing/", ".", "..", ".seabed-part-0"];
    for name in bad.iter().chain(&["good", "a/good"]) {
        world.seabed_with(["put", "store", "pool", name], b"x").is(0);
    }
    fs::create_dir(world.path("jail")).expect("a directory");
    let mut ended = world.seabed(["export", "store", "pool", "jail/out"]).is(1).says("9 failed");
    for name in bad {
        ended = ended.says(&format!("\"{name}\""));
    }
    assert_eq!(names_in(&world, "jail"), ["out"]);
    assert_eq!(names_in(&world, "jail/out"), ["a", "good"]);
    assert_eq!(names_in(&world, "jail/out/a"), ["good"]);
    assert!(!std::path::Path::new("/absolute").exists());
}

#[test]
fn links_in_the_directory_redirect_nothing() {
    let world = World::new();
    for name in ["link/file", "file-link", "deep/link/file", "good"] {
        world.seabed_with(["put", "store", "pool", name], b"from the store").is(0);
    }
    fs::create_dir_all(world.path("out/deep")).expect("a directory");
    fs::create_dir(world.path("outside")).expect("a directory");
    fs::write(world.path("victim"), "precious").expect("a file");
    symlink("../outside", world.path("out/link")).expect("a link");
    symlink("../../outside", world.path("out/deep/link")).expect("a link");
    symlink("../victim", world.path("out/file-link")).expect("a link");
    world.seabed(["export", "store", "pool", "out"]).is(1).says("symbolic link").says("2 failed");
    assert!(names_in(&world, "outside").is_empty());
    assert_eq!(fs::read(world.path("victim")).expect("there"), b"precious");
    // The link itself was in the place of a file, and was replaced.
    assert!(fs::symlink_metadata(world.path("out/file-link")).expect("there").is_file());
    assert_eq!(fs::read(world.path("out/good")).expect("there"), b"from the store");
}

#[test]
fn a_link_that_was_imported_is_no_way_out_either() {
    let world = World::new();
    fs::create_dir_all(world.path("tree")).expect("a directory");
    fs::create_dir(world.path("outside")).expect("a directory");
    symlink("../outside", world.path("tree/way")).expect("a link");
    world.seabed(["import", "store", "pool", "tree"]).is(0);
    world.seabed_with(["put", "store", "pool", "way/out"], b"x").is(0);
    // Whichever comes first, the other is refused.
    world.seabed(["export", "store", "pool", "copy"]).is(1).says("1 failed");
    assert!(names_in(&world, "outside").is_empty());
}

#[test]
fn what_is_in_the_way_is_named_and_stays() {
    let world = World::new();
    for name in ["directory", "file/below"] {
        world.seabed_with(["put", "store", "pool", name], b"x").is(0);
    }
    fs::create_dir_all(world.path("out/directory/full")).expect("a directory");
    fs::write(world.path("out/file"), "mine").expect("a file");
    world
        .seabed(["export", "store", "pool", "out"])
        .is(1)
        .says("\"directory\"")
        .says("in the way")
        .says("2 failed");
    assert_eq!(names_in(&world, "out"), ["directory", "file"]);
    assert_eq!(fs::read(world.path("out/file")).expect("there"), b"mine");
}

#[test]
fn objects_that_were_put_become_usual_files() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "new/folder/file"], b"x").is(0);
    world.seabed(["export", "store", "pool", "out"]).is(0);
    let metadata = fs::metadata(world.path("out/new/folder/file")).expect("there");
    fs::write(world.path("usual"), "x").expect("a file");
    let usual = fs::metadata(world.path("usual")).expect("there");
    assert_eq!(metadata.permissions().mode(), usual.permissions().mode());
    // Attributes of other programs are read with care.
    world.seabed(["attr", "set", "store", "pool", "new/folder/file", "posix.mode", "999"]).is(0);
    world.seabed(["attr", "set", "store", "pool", "new/folder/file", "posix.mtime", "yesterday"]).is(0);
    world.seabed(["export", "store", "pool", "out"]).is(0);
    assert_eq!(fs::read(world.path("out/new/folder/file")).expect("there"), b"x");
}

fn names_in(world: &World, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(world.path(directory)).expect("readable");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
