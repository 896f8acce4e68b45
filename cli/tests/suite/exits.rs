//! Every exit code, and what the messages say.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};

use std::process::{Command, Stdio};

use crate::world::{Ended, World, noise, skipped};

#[test]
fn formats_that_are_refused() {
    let world = World::empty();
    world.seabed(["format", "new"]).is(2).says("--size");
    world.seabed(["format", "new", "--size", "63M"]).is(2).says("64.0 MiB");
    world.seabed(["format", "new", "--size", "ten"]).is(2).says("10G");
    assert!(!world.path("new").exists());
    fs::write(world.path("full"), "precious").expect("a file");
    world.seabed(["format", "full", "--size", "64M"]).is(2).says("--force");
    assert_eq!(fs::read(world.path("full")).expect("there"), b"precious");
    world.seabed(["format", "full", "--size", "64M", "--force"]).is(0);
    world.seabed(["info", "full"]).is(0);
    fs::create_dir(world.path("directory")).expect("a directory");
    // A directory has a size too: it was taken for that of a device.
    for arguments in [&["format", "directory"][..], &["format", "directory", "--size", "64M"]] {
        world.seabed(arguments).is(7).says("directory is neither a regular file").says("store.img");
    }
    world
        .seabed(["format", "/dev/null"])
        .is(7)
        .says("/dev/null is neither a regular file nor a block device");
    world.seabed(["format", "new", "--size", "5"]).is(2).says("new: a store of 5 B");
    world.seabed(["format", "store", "--size", "64M", "--segment-size", "3M"]).is(2);
    world.seabed(["format", "store", "--size", "64M", "--window", "3M"]).is(2).says("under 4 segments");
    world.seabed(["format", "store", "--size", "64M", "--window", "32M"]).is(2).says("over a quarter");
    assert!(!world.path("store").exists());
}

#[test]
fn an_existing_empty_file_is_taken() {
    let world = World::empty();
    fs::File::create(world.path("store")).expect("a file");
    world.seabed(["format", "store", "--size", "64MiB"]).is(0);
    let info = world.seabed(["info", "store", "--json"]).is(0);
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).expect("JSON");
    assert_eq!(info["device_bytes"], 64 << 20);
    world.seabed(["check", "store", "--json"]).is(0);
}

#[test]
fn usage_and_version() {
    let world = World::empty();
    world.seabed(["no-such-command"]).is(2);
    world.seabed(["get", "store"]).is(2);
    assert!(world.seabed(["--version"]).is(0).text().starts_with("seabed "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.seabed(["completions", shell]).is(0).text().contains("seabed"));
    }
}

#[test]
fn what_is_not_found() {
    let world = World::new();
    world.seabed(["info", "nowhere"]).is(3).says("nowhere");
    world.seabed(["get", "store", "pool", "a"]).is(3).says("pool");
    world.seabed(["put", "store", "pool", "a", "no-file"]).is(3).says("no-file");
    assert_eq!(world.seabed(["ls", "store"]).is(0).text(), "", "a mistyped path makes no pool");
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    world.seabed(["get", "store", "pool", "b"]).is(3).says("\"b\"");
    world.seabed(["get", "store", "pool", "b", "file"]).is(3);
    assert!(!world.path("file").exists());
    world.seabed(["stat", "store", "pool", "b"]).is(3);
    world.seabed(["import", "store", "pool", "no-directory"]).is(3);
    world.seabed(["export", "store", "no-pool", "out"]).is(3);
    assert!(!world.path("out").exists());
}

/// An operation was named by its number in a transaction of which nobody but the command knows, and the advice for what an
/// object lacks was to list objects.
#[test]
fn messages_are_in_the_terms_of_the_command() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    fs::write(world.path("file"), "x").expect("written");
    for (arguments, code, message) in [
        (&["attr", "set", "store", "pool", "none", "n", "v"][..], 3, "\"none\": the object does not exist"),
        (&["omap", "set", "store", "pool", "none", "k", "v"], 3, "\"none\": the object does not exist"),
        (
            &["attr", "set", "store", "pool", "a", "", "v"],
            2,
            "\"a\": invalid: an attribute's name has 1 to 256",
        ),
        (
            &["omap", "set", "store", "pool", "a", "", "v"],
            2,
            "\"a\": invalid: an omap key has 1 to 2048 bytes",
        ),
        (&["put", "store", "pool", "", "file"], 2, "\"\": invalid: a name has 1 to 2048 bytes"),
        (&["attr", "get", "store", "pool", "a", "n"], 3, "`seabed attr ls STORE POOL NAME` lists"),
        (&["omap", "get", "store", "pool", "a", "k"], 3, "`seabed omap ls STORE POOL NAME` lists"),
        (&["info", "nowhere"], 3, "nowhere: looking at it: No such file or directory\n"),
    ] {
        let ended = world.seabed(arguments).is(code).says(message);
        assert!(!ended.stderr.contains("operation 0"), "{}", ended.stderr);
    }
}

#[test]
fn no_space() {
    let world = World::new();
    let data = noise(1, 90 << 20);
    world.seabed_with(["put", "store", "pool", "too-large"], &data).is(4);
    world.seabed(["get", "store", "pool", "too-large"]).is(3);
    world.seabed_with(["put", "store", "pool", "small"], b"x").is(0);
    assert_eq!(world.seabed(["get", "store", "pool", "small"]).is(0).stdout, b"x");
    world.is_clean();
}

/// A file system in memory; unmounted when dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(world: &World, name: &str, bytes: u64) -> Option<Self> {
        let at = world.path(name);
        fs::create_dir(&at).expect("a directory");
        let options = format!("size={bytes}");
        match Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at).output() {
            Ok(output) if output.status.success() => Some(Self(at)),
            other => {
                skipped(&format!("no tmpfs can be mounted here ({other:?})"));
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Nothing to do about one that stays.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// It used to have the exit code of a full store.
#[test]
fn a_full_target_is_not_a_full_store() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], &noise(1, 4 << 20)).is(0);
    let Some(small) = Small::mount(&world, "small", 1 << 20) else { return };
    let names = |directory: &str| -> Vec<_> {
        let entries = fs::read_dir(world.path(directory)).expect("readable");
        entries.map(|entry| entry.expect("readable").file_name()).collect()
    };
    fs::create_dir(world.path("small/out")).expect("room");
    for file in ["small/old", "small/out/a"] {
        fs::write(world.path(file), "mine").expect("room");
    }
    world.seabed(["get", "store", "pool", "a", "small/old"]).is(9).says("small/old").says("No space left");
    world.seabed(["get", "store", "pool", "a", "small/new"]).is(9).says("small/new");
    assert!(!world.path("small/new").exists());
    world
        .seabed(["export", "store", "pool", "small/out"])
        .is(9)
        .says("No space left")
        .says("0 items were done");
    for (directory, file) in [("small", "small/old"), ("small/out", "small/out/a")] {
        assert_eq!(fs::read(world.path(file)).expect("it stays"), b"mine");
        assert!(!names(directory).iter().any(|name| name.to_string_lossy().contains("part")), "{directory}");
    }
    let stdout = fs::File::create(world.path("small/stdout")).expect("room");
    let mut to_stdout = world.command(["get", "store", "pool", "a"]);
    to_stdout.stdout(stdout).stderr(Stdio::piped());
    Ended::of(to_stdout.output().expect("it starts")).is(9).says("No space left");
    drop(to_stdout);
    drop(small);
    world.seabed_with(["put", "store", "pool", "too-large"], &noise(1, 90 << 20)).is(4);
    world.is_clean();
}

#[test]
fn corrupt() {
    let world = World::new();
    let data = noise(1, 1 << 20);
    world.seabed_with(["put", "store", "pool", "a"], &data).is(0);
    // The bytes are found on the device and one of them is turned.
    let mut image = fs::read(world.path("store")).expect("readable");
    let needle = &data[500 * 1024..][..64];
    let at =
        image.chunks_exact(64).position(|window| window == needle).expect("data is stored as it is") * 64;
    image[at] ^= 1;
    let file = OpenOptions::new().write(true).open(world.path("store")).expect("writable");
    file.write_all_at(&image[at..=at], at as u64).expect("room");
    drop(file);
    world.seabed(["get", "store", "pool", "a", "copy"]).is(5).says("corrupt");
    assert!(!world.path("copy").exists(), "half of an object is not left behind");
    let check = world.seabed(["check", "store", "--json"]).is(5);
    let check: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
    assert_eq!(check["clean"], false);
    assert_ne!(check["violations"], serde_json::json!([]));
    world.seabed(["export", "store", "pool", "out"]).is(1).says("\"a\"");
}

/// A damaged node of the names tree: what is listed and exported is right, and exit code 5 says that it is not all.
#[test]
fn a_damaged_listing_is_not_the_whole() {
    const OBJECTS: usize = 1500;
    let world = World::empty();
    // A small window, so that checkpoints write the trees.
    world.seabed(["format", "store", "--size", "64M", "--sparse", "--window", "4M"]).is(0);
    fs::create_dir(world.path("tree")).expect("a directory");
    for number in 0..OBJECTS {
        let name = format!("{number:04}-{}", "n".repeat(200));
        fs::write(world.path("tree").join(name), noise(number as u64, 6000)).expect("a file");
    }
    world.seabed(["import", "store", "pool", "tree"]).is(0);
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&world.seabed(arguments).is(0).stdout).expect("JSON")
    };
    let (info, segments) =
        (json(&["info", "store", "--json"]), json(&["dump", "store", "segments", "--json"]));
    let bytes = |field: &str| usize::try_from(info[field].as_u64().expect("a number")).expect("small");
    let (segment_bytes, node_bytes) = (bytes("segment_bytes"), bytes("node_bytes"));
    let image = fs::read(world.path("store")).expect("readable");
    let store = OpenOptions::new().write(true).open(world.path("store")).expect("writable");
    // Nodes are damaged one after the other, each alone, until it is one that the listing needs.
    let starts = segments
        .as_array()
        .expect("all segments")
        .iter()
        .filter(|segment| segment["claim"]["stream"] == "nodes")
        .map(|segment| usize::try_from(segment["segment"].as_u64().expect("a number")).expect("small"));
    let mut nodes = starts
        .flat_map(|segment| (segment * segment_bytes..(segment + 1) * segment_bytes).step_by(node_bytes));
    let listed = nodes.find_map(|node| {
        let at = node + node_bytes / 2;
        store.write_all_at(&[image[at] ^ 1], at as u64).expect("room");
        let ended = world.seabed(["ls", "store", "pool"]);
        if ended.stderr.contains("cannot be listed") {
            return Some(ended);
        }
        store.write_all_at(&[image[at]], at as u64).expect("room");
        None
    });
    let listed = listed.expect("a node of the names tree").is(5).says("parts of the listing are damaged");
    let mut names: Vec<_> = listed.text().lines().collect();
    assert!((1..OBJECTS).contains(&names.len()), "{} are listed", names.len());
    world.seabed(["export", "store", "pool", "out"]).is(5).says("cannot be listed");
    let entries = fs::read_dir(world.path("out")).expect("readable");
    let mut exported: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("text")).collect();
    names.sort_unstable();
    exported.sort_unstable();
    assert_eq!(exported, names);
    for name in names {
        let read = |directory| fs::read(world.path(directory).join(name)).expect("readable");
        assert!(read("tree") == read("out"), "{name}");
    }
}

#[test]
fn in_use_names_the_process() {
    let world = World::new();
    world.seabed(["format", "store", "--size", "256M", "--sparse", "--force"]).is(0);
    // A put opens the store when it has read 32 MiB, and then waits for the rest.
    let mut holder = world.start(["put", "store", "pool", "a"]);
    let mut stdin = holder.stdin.take().expect("piped");
    stdin.write_all(&noise(1, 34 << 20)).expect("it reads");
    let pid = holder.id().to_string();
    // It was given more than a pipe holds beyond that, so it has opened the store.
    world.seabed(["--wait", "0", "ls", "store"]).is(6).says(&pid);
    world.seabed(["--wait", "0", "check", "store"]).is(6).says(&pid);
    world.seabed(["--wait", "0", "format", "store", "--size", "64M", "--force"]).is(6).says(&pid);
    drop(stdin);
    assert!(holder.wait().expect("it ends").success());
    world.seabed(["ls", "store"]).is(0);
}

#[test]
fn not_a_store() {
    let world = World::empty();
    fs::write(world.path("zeros"), vec![0; 64 << 20]).expect("a file");
    for command in [["info", "zeros"], ["check", "zeros"], ["ls", "zeros"]] {
        world.seabed(command).is(7).says("not a Seabed store");
    }
    fs::write(world.path("odd"), vec![0; 5000]).expect("a file");
    world.seabed(["info", "odd"]).is(7);
    fs::create_dir(world.path("directory")).expect("a directory");
    world.seabed(["info", "directory"]).is(7);
}

#[test]
fn a_file_without_write_permission_is_read() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    let before = fs::read(world.path("store")).expect("readable");
    fs::set_permissions(world.path("store"), Permissions::from_mode(0o444)).expect("ours");
    for command in [
        &["get", "store", "pool", "a"][..],
        &["ls", "store", "pool"],
        &["stat", "store", "pool", "a"],
        &["info", "store"],
        &["check", "store"],
        &["dump", "store", "segments"],
        &["attr", "ls", "store", "pool", "a"],
        &["omap", "ls", "store", "pool", "a"],
        &["export", "store", "pool", "out"],
    ] {
        world.seabed(command).is(0);
    }
    assert!(before == fs::read(world.path("store")).expect("readable"), "reading wrote to the store");
}

#[test]
fn dumps() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], &noise(1, 100_000)).is(0);
    let json = |arguments: &[&str]| -> serde_json::Value {
        let ended = world.seabed([&["dump", "store", "--json"], arguments].concat()).is(0);
        serde_json::from_slice(&ended.stdout).expect("JSON")
    };
    assert_eq!(json(&["superblock"])[3]["device_bytes"], 64 << 20);
    assert_eq!(json(&["slots"])[1]["slot"], "B");
    let segments = json(&["segments"]);
    let journal = segments
        .as_array()
        .expect("all segments")
        .iter()
        .find(|segment| segment["claim"]["stream"] == "journal");
    let number = journal.expect("there is a journal")["segment"].to_string();
    let records = json(&["records", &number]);
    assert!(records.to_string().contains("pool"), "{records}");
    world.seabed(["dump", "store", "records", "9999"]).is(3);
    world.seabed(["dump", "store", "node", "1:0x1000"]).is(3);
    world.seabed(["dump", "store", "node", "nonsense"]).is(2);
    assert_eq!(world.seabed(["dump", "store", "superblock"]).is(0).text().lines().count(), 4);
}
