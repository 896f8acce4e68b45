//! Export: nothing outside the directory, whatever objects are called and whatever stands in the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use std::process::Command;

use crate::world::{World, skipped};

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

fn rights(world: &World, path: &str) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(world.path(path)).expect("there");
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

/// A set-user-id file of another user came back as a set-user-id file of root.
#[test]
fn owners_are_restored_and_set_id_bits_only_with_them() {
    let world = World::new();
    fs::create_dir_all(world.path("tree/d")).expect("a directory");
    symlink("tool", world.path("tree/link")).expect("a link");
    for name in ["tool", "own", "group", "d/file"] {
        fs::write(world.path("tree").join(name), "x").expect("a file");
    }
    let is_root = std::os::unix::fs::lchown(world.path("tree/link"), Some(12345), Some(12346)).is_ok();
    if is_root {
        for name in ["tool", "group", "d", "d/file"] {
            chown(world.path("tree").join(name), Some(12345), Some(12346)).expect("root may");
        }
    }
    for (name, mode) in
        [("tool", 0o4755), ("own", 0o6755), ("group", 0o2711), ("d", 0o2775), ("d/file", 0o600)]
    {
        fs::set_permissions(world.path("tree").join(name), fs::Permissions::from_mode(mode)).expect("ours");
    }
    let names = ["tool", "own", "group", "d", "d/file", "link"];
    let of = |directory: &str| names.map(|name| rights(&world, &format!("{directory}/{name}")));
    world.seabed(["import", "store", "pool", "tree"]).is(0);
    world.seabed(["export", "store", "pool", "copy"]).is(0);
    assert_eq!(of("tree"), of("copy"));
    world.seabed(["export", "store", "pool", "copy"]).is(0).says("exported 0 items");
    if !is_root {
        return;
    }
    // Only a change of owner; the export changes the time of the directory, which it sets again.
    chown(world.path("tree/d/file"), Some(4), Some(5)).expect("root may");
    world.seabed(["import", "store", "pool", "tree"]).is(0).says("imported 1 items");
    world.seabed(["export", "store", "pool", "copy"]).is(0).says("exported 2 items");
    assert_eq!(of("tree"), of("copy"));
    let own = rights(&world, "tree/own");
    world.seabed(["export", "store", "pool", "mine", "--no-owner"]).is(0).says("2 files: set-id bits");
    assert_eq!(rights(&world, "mine/tool"), (own.0, own.1, 0o755));
    assert_eq!(rights(&world, "mine/group"), (own.0, own.1, 0o711));
    assert_eq!(rights(&world, "mine/own"), own);
    world.seabed(["export", "store", "pool", "mine", "--no-owner"]).is(0).says("exported 0 items");
}

/// A store that another user made must not give that user the rights of root.
#[test]
fn a_store_of_another_user_sets_no_ids() {
    let world = World::new();
    for (name, user) in [("evil", "0"), ("wrap", "4294967295"), ("none", "x")] {
        world.seabed_with(["put", "store", "pool", name], b"#!/bin/sh").is(0);
        for (attribute, value) in [("posix.mode", "6755"), ("posix.uid", user), ("posix.gid", user)] {
            world.seabed(["attr", "set", "store", "pool", name, attribute, value]).is(0);
        }
    }
    for kind in ["fifo", "block-device", "character-device"] {
        world.seabed_with(["put", "store", "pool", kind], b"x").is(0);
        world.seabed(["attr", "set", "store", "pool", kind, "posix.type", kind]).is(0);
    }
    // Anyone may write it; or it belongs to another user.
    fs::set_permissions(world.path("store"), fs::Permissions::from_mode(0o666)).expect("ours");
    let refused = |out: &str| {
        world.seabed(["export", "store", "pool", out]).is(0).says("3 files: set-id bits");
        for name in ["evil", "wrap", "none"] {
            assert_eq!(rights(&world, &format!("{out}/{name}")).2, 0o755, "{name}");
        }
        for kind in ["fifo", "block-device", "character-device"] {
            assert!(fs::symlink_metadata(world.path(out).join(kind)).expect("there").is_file(), "{kind}");
        }
    };
    refused("one");
    fs::set_permissions(world.path("store"), fs::Permissions::from_mode(0o600)).expect("ours");
    let me = rustix::process::geteuid().as_raw();
    if chown(world.path("store"), Some(12345), None).is_ok() {
        refused("two");
        world.seabed(["export", "store", "pool", "three", "--set-id"]).is(0).says("2 files: set-id bits");
        assert_eq!(rights(&world, "three/evil").2, if me == 0 { 0o6755 } else { 0o755 });
    }
    // What is salvaged never has them.
    world.seabed(["salvage", "store", "saved"]).is(0);
    assert_eq!(rights(&world, "saved/objects/pool/evil").2, 0o755);
}

/// A file system on a loop device; unmounted when dropped.
struct Mounted {
    at: std::path::PathBuf,
    device: String,
}

impl Mounted {
    /// One that takes names that differ in case for the same: ext4 with casefold, or exFAT.
    fn without_case(world: &World) -> Option<Self> {
        fs::File::create(world.path("image")).and_then(|file| file.set_len(64 << 20)).expect("a file");
        fs::create_dir(world.path("mounted")).expect("a directory");
        let script = "
            device=$(losetup --find --show image) || exit
            echo $device
            mkfs.ext4 -q -O casefold $device && mount $device mounted && mkdir mounted/out \\
                && chattr +F mounted/out && exit
            umount mounted
            mkfs.exfat $device >&2 && { mount -t exfat $device mounted || mount.exfat-fuse $device mounted >&2; } \\
                && mkdir mounted/out && exit
            losetup --detach $device
            false";
        let output = Command::new("sh").args(["-c", script]).current_dir(world.path("")).output();
        let output = output.expect("a shell");
        if !output.status.success() {
            skipped(&format!("no file system without case: {}", String::from_utf8_lossy(&output.stderr)));
            return None;
        }
        let device = String::from_utf8(output.stdout).expect("a path").trim().to_owned();
        Some(Self { at: world.path("mounted"), device })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing to do about what stays.
        let _ = Command::new("umount").arg(&self.at).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

fn with_similar_names() -> World {
    let world = World::new();
    for name in ["README", "readme", "Folder/a", "folder/A", "folder/b"] {
        world.seabed_with(["put", "store", "pool", name], name.as_bytes()).is(0);
    }
    world
}

/// Both of two such objects used to be reported as exported, into one file.
#[test]
fn names_that_are_one_on_the_target_are_reported() {
    let world = with_similar_names();
    let Some(mounted) = Mounted::without_case(&world) else { return };
    for again in [false, true] {
        let ended = world.seabed(["export", "store", "pool", "mounted/out"]).is(1);
        let ended = ended.says("takes for the same").says("2 failed");
        let files: Vec<_> = ["README", "Folder/a"]
            .map(|name| fs::read_to_string(world.path("mounted/out").join(name)).expect("there"))
            .into();
        // The first of two stays what it was, and the second is named, in the next run too.
        for (first, second) in files.iter().zip([["README", "readme"], ["Folder/a", "folder/A"]]) {
            let other = second.iter().find(|name| *name != first).expect("two names");
            assert!(ended.stderr.contains(&format!("{other:?}")), "{again}: {first}: {}", ended.stderr);
        }
        assert_eq!(fs::read(world.path("mounted/out/folder/b")).expect("there"), b"folder/b");
    }
    drop(mounted);
}

#[test]
fn names_that_differ_in_case_are_two_where_case_counts() {
    let world = with_similar_names();
    for _ in 0..2 {
        world.seabed(["export", "store", "pool", "out"]).is(0);
        for name in ["README", "readme", "Folder/a", "folder/A", "folder/b"] {
            assert_eq!(fs::read(world.path("out").join(name)).expect("there"), name.as_bytes());
        }
    }
}

fn names_in(world: &World, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(world.path(directory)).expect("readable");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
