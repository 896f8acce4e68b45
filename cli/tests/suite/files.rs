//! Files outside the store: what is replaced, what is refused, what stays as it was.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::{Command, Stdio};

use crate::world::{World, noise};

fn names_in(world: &World, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(world.path(directory)).expect("readable");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs a line of a shell with the program as `$S`.
fn shell(world: &World, line: &str) -> i32 {
    let status = Command::new("sh")
        .args(["-c", line])
        .env("S", env!("CARGO_BIN_EXE_seabed"))
        .current_dir(world.path(""))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("a shell").code().expect("not killed")
}

/// `get` of an object that could not be read to its end truncated the good copy that was there.
#[test]
fn a_file_is_replaced_by_a_whole_one_only() {
    let world = World::new();
    let data = noise(1, 3 << 20);
    world.seabed_with(["put", "store", "pool", "a"], &data).is(0);
    fs::write(world.path("file"), "precious").expect("a file");
    symlink("file", world.path("link")).expect("a link");
    let image = fs::read(world.path("store")).expect("readable");
    let needle = &data[2 << 20..][..64];
    let at = image.chunks_exact(64).position(|window| window == needle).expect("stored as it is") * 64;
    let store = OpenOptions::new().write(true).open(world.path("store")).expect("writable");
    store.write_all_at(&[needle[0] ^ 1], at as u64).expect("room");
    for name in ["file", "link", "new"] {
        world.seabed(["get", "store", "pool", "a", name]).is(5);
    }
    assert_eq!(fs::read(world.path("file")).expect("there"), b"precious");
    assert_eq!(names_in(&world, ""), ["file", "link", "store"]);
    store.write_all_at(&needle[..1], at as u64).expect("room");
    world.seabed(["get", "store", "pool", "a", "link"]).is(0);
    assert!(fs::read(world.path("file")).expect("there") == data);
    assert_eq!(names_in(&world, ""), ["file", "link", "store"]);
    // What is no regular file is written to as it is.
    world.seabed(["get", "store", "pool", "a", "/dev/null"]).is(0);
    world.seabed(["get", "store", "pool", "a", "."]).is(8);
}

/// `get STORE POOL OBJECT STORE` and its like destroyed the store with exit code 0.
#[test]
fn an_output_that_is_the_store_is_refused() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    world.seabed_with(["put", "store", "pool", "store"], b"x").is(0);
    fs::create_dir(world.path("tree")).expect("a directory");
    fs::write(world.path("tree/file"), "x").expect("a file");
    symlink("store", world.path("link")).expect("a link");
    fs::hard_link(world.path("store"), world.path("tree/store")).expect("a link");
    let before = fs::read(world.path("store")).expect("readable");
    for name in ["store", "link", "tree/store"] {
        world.seabed(["get", "store", "pool", "a", name]).is(2).says("is the store itself");
        world.seabed(["import", "--ack-log", name, "store", "new", "tree"]).is(2).says("is the store itself");
        world.seabed(["scrub", "store", "--state", name]).is(2).says("is the store itself");
        let bench = ["bench", "--store", "store", "--rw=randread", "--size=1m", "--html", name];
        world.seabed(bench).is(2).says("is the store itself");
        for command in ["get store pool a", "ls store", "check store", "export store pool out"] {
            assert_eq!(shell(&world, &format!("\"$S\" {command} >> {name}")), 2, "{command}");
            assert_eq!(shell(&world, &format!("\"$S\" {command} 2>> {name}")), 2, "{command}");
        }
    }
    world.seabed(["export", "store", "pool", "."]).is(1).says("\"store\"").says("is the store itself");
    world.seabed(["export", "store", "pool", "tree"]).is(1).says("is the store itself");
    world.seabed(["salvage", "store", "."]).is(2);
    assert!(before == fs::read(world.path("store")).expect("readable"), "the store is as it was");
    assert!(fs::read(world.path("a")).is_ok_and(|bytes| bytes == b"x"), "the rest was exported");
}

/// An import of the directory in which the store lies imported the store into itself until it was full.
#[test]
fn an_input_that_is_the_store_is_left_out() {
    let world = World::new();
    for number in 0..20 {
        fs::write(world.path(format!("f{number:02}")), noise(number, 1000)).expect("a file");
    }
    fs::create_dir(world.path("d")).expect("a directory");
    fs::hard_link(world.path("store"), world.path("d/second-name")).expect("a link");
    let import = ["import", "store", "pool", ".", "--ack-log", "log"];
    let ended = world.seabed(import).is(0).says("\"store\": is the store itself; left out");
    ended.says("\"d/second-name\": is the store itself").says("\"log\": is the log of this import");
    let listed = world.seabed(["ls", "store", "pool"]).is(0);
    assert_eq!(listed.text().lines().count(), 21, "{}", listed.text());
    world.seabed(["put", "store", "pool", "a", "store"]).is(2).says("is the store itself");
    assert_eq!(shell(&world, "\"$S\" put store pool a < store"), 2);
    world.is_clean();
}

#[test]
fn a_put_without_input_makes_nothing() {
    let world = World::new();
    fs::create_dir(world.path("directory")).expect("a directory");
    for source in ["directory", "no-file"] {
        assert_ne!(world.seabed(["put", "store", "new", "a", source]).code, 0);
    }
    // An object was replaced by an empty one when the command that wrote to the pipe had failed.
    world.seabed_with(["put", "store", "pool", "a"], b"precious").is(0);
    world.seabed_with(["put", "store", "pool", "a"], b"").is(8).says("--empty");
    world.seabed_with(["put", "store", "new", "a"], b"").is(8);
    assert_eq!(world.seabed(["get", "store", "pool", "a"]).is(0).stdout, b"precious");
    assert_eq!(world.seabed(["ls", "store"]).is(0).text(), "pool\n");
    world.seabed_with(["put", "store", "pool", "a", "--empty"], b"").is(0);
    assert_eq!(world.seabed(["get", "store", "pool", "a"]).is(0).stdout, b"");
    // An empty file is meant.
    world.seabed(["put", "store", "pool", "b", "/dev/null"]).is(0);
    assert_eq!(world.seabed(["get", "store", "pool", "b"]).is(0).stdout, b"");
    world.seabed(["put", "store", "pool", "c", "/proc/self/status"]).is(0);
    assert!(world.seabed(["get", "store", "pool", "c"]).is(0).text().contains("seabed"));
}

/// `get | filter | put` of one object left it empty: the put opened the store first, and the get failed.
#[test]
fn an_object_is_filtered_in_place() {
    let world = World::new();
    for bytes in [9, 100_000, 5_000_000] {
        let data: Vec<u8> = noise(1, bytes).iter().map(|byte| b'a' + byte % 26).collect();
        world.seabed_with(["put", "store", "pool", "a"], &data).is(0);
        let line = "\"$S\" get store pool a | tr a-z A-Z | \"$S\" -q put store pool a";
        assert_eq!(shell(&world, line), 0);
        assert!(world.seabed(["get", "store", "pool", "a"]).is(0).stdout == data.to_ascii_uppercase());
    }
}

#[test]
fn a_closed_stdout_is_an_error() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    assert_eq!(shell(&world, "\"$S\" get store pool a >&-"), 8);
    assert_eq!(shell(&world, "\"$S\" get store pool a > /dev/null"), 0);
    assert_eq!(shell(&world, "\"$S\" get store pool a file >&-"), 0);
    assert_eq!(fs::read(world.path("file")).expect("written"), b"x");
}

/// Bytes on the disk.
fn allocated(world: &World, name: &str) -> u64 {
    fs::metadata(world.path(name)).expect("there").blocks() * 512
}

/// Files with holes were stored with all their zeros, and came back without holes.
#[test]
fn holes_stay_holes() {
    let world = World::new();
    fs::create_dir(world.path("tree")).expect("a directory");
    let plant = |name: &str, size: u64, data: &[(u64, usize)]| {
        let file = File::create(world.path("tree").join(name)).expect("a file");
        file.set_len(size).expect("room");
        for (at, bytes) in data {
            file.write_all_at(&noise(*at, *bytes), *at).expect("room");
        }
    };
    plant("vm.img", 8 << 30, &[(4 << 30, 6)]);
    plant("nothing", 100 << 20, &[]);
    plant("start", 100 << 20, &[(0, 70_000)]);
    plant("end", 100 << 20, &[((100 << 20) - 5, 5)]);
    plant("between", (10 << 20) + 77, &[(0, 5000), (40_000, 3), (1 << 20, 2 << 20), (9 << 20, 100)]);
    plant("small", 50_000, &[(20_000, 6)]);
    if allocated(&world, "tree/nothing") > 1 << 20 {
        return; // The file system has no holes.
    }
    world.seabed(["import", "store", "pool", "tree"]).is(0);
    world.seabed(["import", "store", "pool", "tree"]).is(0).says("imported 0 items");
    world.seabed(["export", "store", "pool", "copy"]).is(0);
    for name in ["vm.img", "nothing", "start", "end", "between", "small"] {
        let (was, is) = (format!("tree/{name}"), format!("copy/{name}"));
        assert!(allocated(&world, &is) <= allocated(&world, &was) + (256 << 10), "{name}");
        let sizes = [&was, &is].map(|name| fs::metadata(world.path(name)).expect("there").len());
        assert_eq!(sizes[0], sizes[1], "{name}");
        if name != "vm.img" {
            assert!(fs::read(world.path(&was)).expect("there") == fs::read(world.path(&is)).expect("there"));
        }
        // By put and get too, from a file and from stdin.
        world.seabed(["put", "store", "other", "a", &was]).is(0);
        world.seabed(["get", "store", "other", "a", "got"]).is(0);
        assert!(allocated(&world, "got") <= allocated(&world, &was) + (256 << 10), "{name}");
        assert_eq!(
            shell(&world, &format!("\"$S\" put store other b < {was} && \"$S\" get store other b got")),
            0
        );
        assert!(allocated(&world, "got") <= allocated(&world, &was) + (256 << 10), "{name}");
        if name != "vm.img" {
            assert!(
                fs::read(world.path("got")).expect("there") == fs::read(world.path(&was)).expect("there")
            );
            let stdout = world.seabed(["get", "store", "other", "b"]).is(0).stdout;
            assert!(stdout == fs::read(world.path(&was)).expect("there"), "{name}");
        }
    }
    let mut bytes = [0; 16];
    let image = File::open(world.path("copy/vm.img")).expect("there");
    image.read_exact_at(&mut bytes, (4 << 30) - 5).expect("within it");
    assert_eq!(
        (&bytes[..5], &bytes[5..11], &bytes[11..]),
        (&[0; 5][..], &noise(4 << 30, 6)[..], &[0; 5][..])
    );
    world.is_clean();
}

/// A signal leaves the old file and nothing else.
#[test]
fn an_interrupted_get_leaves_the_old_file() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], &noise(1, 8 << 20)).is(0);
    fs::write(world.path("file"), "precious").expect("a file");
    // A pipe that is not read holds the get up in the middle.
    let mut child = world.start(["get", "store", "pool", "a"]);
    let pid = rustix::process::Pid::from_child(&child);
    let mut stdout = child.stdout.take().expect("piped");
    std::io::Read::read_exact(&mut stdout, &mut [0; 10]).expect("some bytes");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    std::io::copy(&mut stdout, &mut std::io::sink()).expect("readable");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130));
    assert_eq!(names_in(&world, ""), ["file", "store"]);
    let mut file = OpenOptions::new().append(true).open(world.path("file")).expect("there");
    file.write_all(b"!").expect("room");
    world.seabed(["get", "store", "pool", "a", "file"]).is(0);
    assert_eq!(fs::metadata(world.path("file")).expect("there").len(), 8 << 20);
}
