//! Import, and the way back: everything the same, nothing twice, what cannot be is named.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, setxattr, utimensat};

use crate::world::{World, noise};

/// A tree with everything that is hard to carry.
fn plant(world: &World) {
    let root = world.path("tree");
    let odd = OsStr::from_bytes(b"\xff\xfe not \n UTF-8\x1b[31m");
    for directory in ["", "empty", "deep/er/and/deeper", "read-only", "sticky", ".hidden"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    fs::create_dir(root.join(odd)).expect("a directory");
    fs::write(root.join(odd).join(odd), "odd").expect("a file");
    for (number, bytes) in [0, 1, 511, 512, 513, 4095, 4096, 65_536, 65_537, 131_072, 1 << 20, (1 << 20) + 1]
        .into_iter()
        .enumerate()
    {
        fs::write(root.join(format!("deep/er/{bytes}")), noise(number as u64, bytes)).expect("a file");
    }
    fs::write(root.join("large"), noise(99, 5_000_003)).expect("a file");
    fs::write(root.join("deep/back\\slash\nnewline"), "x").expect("a file");
    fs::write(root.join("x".repeat(255)), "long").expect("a file");
    fs::hard_link(root.join("large"), root.join("deep/second-name")).expect("a link");
    for (target, link) in [
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("deep", "to-directory"),
        ("/etc/passwd", "absolute"),
        ("../..", "deep/up"),
    ] {
        symlink(target, root.join(link)).expect("a link");
    }
    symlink(odd, root.join("to-odd")).expect("a link");
    let link_time = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: -5, tv_nsec: 123_456_789 },
    };
    utimensat(CWD, root.join("dangling"), &link_time, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
    for (path, mode) in [
        ("deep/er/0", 0o4755),
        ("deep/er/1", 0o2711),
        ("deep/er/511", 0o400),
        ("sticky", 0o1777),
        ("read-only", 0o555),
    ] {
        if path == "read-only" {
            fs::write(root.join("read-only/inside"), "x").expect("a file");
        }
        fs::set_permissions(root.join(path), Permissions::from_mode(mode)).expect("ours");
    }
    for (path, seconds, nanoseconds) in
        [("deep/er/512", 1, 1), ("empty", 1_000_000_000, 999_999_999), ("deep", 86_400, 0)]
    {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        File::open(root.join(path)).expect("there").set_modified(time).expect("ours");
    }
}

#[test]
fn a_hostile_tree_comes_back_the_same() {
    let world = World::new();
    plant(&world);
    world.seabed(["import", "store", "pool", "tree"]).is(0);
    world.is_clean();
    world.seabed(["export", "store", "pool", "copy"]).is(0);
    world.is_same("tree", "copy");
    // With one job and another store, through the copy: nothing depends on the order.
    world.seabed(["format", "second", "--size", "64M", "--sparse"]).is(0);
    world.seabed(["import", "second", "pool", "copy", "--jobs", "1"]).is(0);
    world.seabed(["export", "second", "pool", "third", "--jobs", "1"]).is(0);
    world.is_same("tree", "third");
}

#[test]
fn what_is_there_is_skipped() {
    let world = World::new();
    plant(&world);
    world.seabed(["import", "store", "pool", "tree"]).is(0);
    world.seabed(["import", "store", "pool", "tree"]).is(0).says("imported 0 items");
    // Only a mode, only a time, only a size, only a target.
    let root = world.path("tree");
    fs::set_permissions(root.join("deep/er/4095"), Permissions::from_mode(0o640)).expect("ours");
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
    File::open(root.join("deep/er/4096")).expect("there").set_modified(time).expect("ours");
    let before = fs::metadata(root.join("deep/er/513")).expect("there").modified().expect("known");
    fs::write(root.join("deep/er/513"), "shorter").expect("ours");
    File::open(root.join("deep/er/513")).expect("there").set_modified(before).expect("ours");
    world.seabed(["import", "store", "pool", "tree"]).is(0).says("imported 3 items");
    world.seabed(["export", "store", "pool", "copy"]).is(0);
    world.is_same("tree", "copy");
    world.seabed(["export", "store", "pool", "copy"]).is(0).says("exported 0 items");
    fs::write(world.path("copy/deep/er/4096"), "changed").expect("ours");
    fs::remove_file(world.path("copy/large")).expect("ours");
    world.seabed(["export", "store", "pool", "copy"]).is(0);
    world.is_same("tree", "copy");
}

#[test]
fn what_cannot_be_carried_over_is_named() {
    let world = World::new();
    fs::create_dir(world.path("tree")).expect("a directory");
    fs::write(world.path("tree/good"), "x").expect("a file");
    rustix::fs::mkfifoat(CWD, world.path("tree/fifo"), rustix::fs::Mode::RUSR).expect("a fifo");
    let socket = std::os::unix::net::UnixListener::bind(world.path("tree/socket"));
    assert!(socket.is_ok());
    world
        .seabed(["import", "store", "pool", "tree"])
        .is(1)
        .says("\"fifo\": is a fifo")
        .says("\"socket\": is a socket")
        .says("2 failed");
    assert_eq!(world.seabed(["ls", "store", "pool"]).is(0).text(), "good\n");
    // Names longer than an object's can be.
    let deep = world.path("tree").join(vec!["d".repeat(200); 11].join("/"));
    fs::create_dir_all(deep).expect("directories");
    world.seabed(["import", "store", "pool", "tree"]).is(1).says("3 failed");
}

/// ACLs, capabilities and hard links went without a word.
#[test]
fn what_objects_do_not_keep_is_counted() {
    let world = World::new();
    fs::create_dir_all(world.path("tree/d")).expect("a directory");
    fs::write(world.path("tree/one"), "x").expect("a file");
    let plain = world.seabed(["import", "store", "plain", "tree"]).is(0);
    assert!(!plain.stderr.contains("files with"), "{}", plain.stderr);
    fs::hard_link(world.path("tree/one"), world.path("tree/d/two")).expect("a link");
    let has_attributes = ["tree/one", "tree/d"]
        .iter()
        .all(|path| setxattr(world.path(path), "user.colour", b"red", XattrFlags::empty()).is_ok());
    let imported = world.seabed(["import", "store", "pool", "tree"]).is(0);
    let imported = imported.says("2 files with several hard links");
    if has_attributes {
        // The file by both of its names, and the directory.
        imported.says("3 files with extended attributes");
    }
}

#[test]
fn an_unreadable_file_is_named() {
    let world = World::new();
    fs::create_dir_all(world.path("tree/closed")).expect("a directory");
    fs::write(world.path("tree/secret"), "x").expect("a file");
    fs::write(world.path("tree/open"), "x").expect("a file");
    for path in ["tree/secret", "tree/closed"] {
        fs::set_permissions(world.path(path), Permissions::from_mode(0o000)).expect("ours");
    }
    if File::open(world.path("tree/secret")).is_ok() {
        // Root reads everything: there is nothing that could not be carried over.
        world.seabed(["import", "store", "pool", "tree"]).is(0);
    } else {
        world
            .seabed(["import", "store", "pool", "tree"])
            .is(1)
            .says("\"secret\"")
            .says("\"closed\"")
            .says("2 failed");
        assert_eq!(world.seabed(["ls", "store", "pool"]).is(0).text(), "closed\nopen\n");
        fs::set_permissions(world.path("tree/closed"), Permissions::from_mode(0o700)).expect("ours");
    }
}

#[test]
fn the_log_names_what_is_durable() {
    let world = World::new();
    plant(&world);
    world.seabed(["import", "store", "pool", "tree", "--ack-log", "log"]).is(0);
    let mut logged: Vec<Vec<u8>> = fs::read(world.path("log"))
        .expect("written")
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| unescape(line.strip_suffix(b"\n").expect("whole lines")))
        .collect();
    logged.sort();
    let listed = world.seabed(["ls", "store", "pool", "-0"]).is(0).stdout;
    let mut listed: Vec<&[u8]> = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    listed.sort_unstable();
    assert_eq!(logged, listed);
    assert!(logged.contains(&b"deep/back\\slash\nnewline".to_vec()));
    // It is appended to, not replaced.
    let before = fs::metadata(world.path("log")).expect("there").len();
    world.seabed(["import", "store", "pool", "tree", "--ack-log", "log"]).is(0);
    assert_eq!(fs::metadata(world.path("log")).expect("there").len(), before * 2);
}

fn unescape(line: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        let escaped = if *byte == b'\\' { bytes.next() } else { None };
        name.push(match escaped {
            Some(b'n') => b'\n',
            Some(other) => *other,
            None => *byte,
        });
    }
    name
}

#[test]
fn after_a_kill_all_that_was_logged_is_there_and_the_rest_follows() {
    let world = World::new();
    fs::create_dir(world.path("tree")).expect("a directory");
    for number in 0..3000u64 {
        fs::write(world.path(format!("tree/{number}")), noise(number, 3000)).expect("a file");
    }
    let mut child = world.start(["import", "store", "pool", "tree", "--ack-log", "log"]);
    // Killed when some, but hardly all, are done; however that falls out, the rule holds.
    while fs::metadata(world.path("log")).map_or(0, |log| log.len()) < 2000 {
        std::thread::yield_now();
    }
    child.kill().expect("it was started");
    child.wait().expect("it ends");
    let logged = fs::read_to_string(world.path("log")).expect("names are numbers");
    let listed = world.seabed(["ls", "store", "pool"]).is(0);
    let listed: std::collections::BTreeSet<&str> = listed.text().lines().collect();
    for name in logged.lines() {
        assert!(listed.contains(name), "{name} was acknowledged and is gone");
    }
    world.seabed(["import", "store", "pool", "tree", "--ack-log", "log"]).is(0);
    world.seabed(["export", "store", "pool", "copy"]).is(0);
    world.is_same("tree", "copy");
    world.is_clean();
}

#[test]
fn a_polite_signal_ends_an_import_cleanly() {
    let world = World::new();
    fs::create_dir(world.path("tree")).expect("a directory");
    for number in 0..3000u64 {
        fs::write(world.path(format!("tree/{number}")), noise(number, 3000)).expect("a file");
    }
    let child = world.start(["import", "store", "pool", "tree", "--ack-log", "log", "--jobs", "2"]);
    while fs::metadata(world.path("log")).map_or(0, |log| log.len()) < 1000 {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // On a machine that was busy elsewhere it may have been done before.
    assert!(matches!(output.status.code(), Some(130 | 0)), "{stderr}");
    if output.status.code() == Some(130) {
        assert!(stderr.contains("the same command again"), "{stderr}");
    }
    world.is_clean();
    world.seabed(["import", "store", "pool", "tree"]).is(0);
    world.seabed(["export", "store", "pool", "copy"]).is(0);
    world.is_same("tree", "copy");
}

#[test]
fn a_full_store_ends_an_import() {
    let world = World::new();
    fs::create_dir(world.path("tree")).expect("a directory");
    for number in 0..100u64 {
        fs::write(world.path(format!("tree/{number}")), noise(number, 1_000_000)).expect("a file");
    }
    world.seabed(["import", "store", "pool", "tree"]).is(4).says("no space").says("items were done before");
    world.is_clean();
}
