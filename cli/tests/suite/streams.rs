//! Stdout and stderr that cannot be written: the work is done anyway, and the exit code says how it ended.
//!
//! `eprintln!` panics where stderr cannot be written, and the program is built to abort on a panic: every message to a full
//! disk or a closed pipe ended it with 134, an import in the middle, a benchmark with its temporary store left behind.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::world::{Ended, World, noise};

/// A stream that takes nothing: a full disk, or a pipe whose reader has gone.
fn unwritable() -> [Stdio; 2] {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    [full.into(), writer.into()]
}

fn ended(command: &mut Command) -> Ended {
    Ended::of(command.output().expect("it starts"))
}

#[test]
fn codes_do_not_depend_on_stderr() {
    let world = World::new();
    fs::create_dir(world.path("files")).expect("a directory");
    for name in ["a", "b", "c"] {
        fs::write(world.path("files").join(name), name).expect("a file");
    }
    for stderr in unwritable() {
        ended(world.command(["info", "nowhere"]).stderr(stderr)).is(3);
    }
    for stderr in unwritable() {
        ended(world.command(["no-such-command"]).stderr(stderr)).is(2);
    }
    for (pool, stderr) in ["full", "closed"].into_iter().zip(unwritable()) {
        ended(world.command(["import", "store", pool, "files"]).stderr(stderr)).is(0);
        assert_eq!(world.seabed(["ls", "store", pool]).is(0).text().lines().count(), 3);
    }
    mknodat(CWD, world.path("files/pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    for (pool, stderr) in ["full-pipe", "closed-pipe"].into_iter().zip(unwritable()) {
        ended(world.command(["import", "store", pool, "files"]).stderr(stderr)).is(1);
        assert_eq!(world.seabed(["ls", "store", pool]).is(0).text().lines().count(), 3);
    }
}

#[test]
fn a_bench_without_stderr_leaves_nothing_behind() {
    let world = World::empty();
    fs::create_dir(world.path("tmp")).expect("a directory");
    for stderr in unwritable() {
        let mut bench = world.command(["bench", "--size=1m", "--rw=read"]);
        ended(bench.env("TMPDIR", world.path("tmp")).stderr(stderr)).is(0);
        assert_eq!(fs::read_dir(world.path("tmp")).expect("readable").count(), 0, "it cleans up");
    }
}

/// A full disk has a code of its own, a reader that has gone is no failure; but it takes no verdict away.
#[test]
fn codes_of_an_unwritable_stdout() {
    let world = World::new();
    let data = noise(1, 1 << 20);
    world.seabed_with(["put", "store", "pool", "a"], &data).is(0);
    let run = |arguments: &[&str], codes: [i32; 2]| {
        for (stdout, code) in unwritable().into_iter().zip(codes) {
            let output = world.command(arguments).stdout(stdout).output().expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        }
    };
    run(&["ls", "store", "pool"], [9, 0]);
    run(&["--help"], [9, 0]);
    run(&["--version"], [9, 0]);
    run(&["check", "store"], [9, 0]);
    let image = fs::read(world.path("store")).expect("readable");
    let needle = &data[500 * 1024..][..64];
    let at = image.chunks_exact(64).position(|window| window == needle).expect("stored as it is") * 64;
    let file = OpenOptions::new().write(true).open(world.path("store")).expect("writable");
    file.write_all_at(&[!image[at]], at as u64).expect("room");
    drop(file);
    run(&["check", "store"], [9, 5]);
    run(&["scrub", "store"], [9, 5]);
}

/// Waits until a command has made its temporary store in `tmp`.
fn wait_for_store(world: &World) {
    let has_store = || {
        let mut found = fs::read_dir(world.path("tmp")).expect("readable").flatten();
        found.any(|entry| entry.path().join("store").exists())
    };
    while !has_store() {
        std::thread::yield_now();
    }
}

/// A second signal ends the process at once, where nothing is dropped any more.
#[test]
fn signals_leave_no_temporary_store() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signals, code) in [
        (&[Signal::HUP][..], 129),
        (&[Signal::TERM], 143),
        (&[Signal::QUIT], 131),
        (&[Signal::INT, Signal::TERM], 130),
    ] {
        let world = World::empty();
        fs::create_dir(world.path("tmp")).expect("a directory");
        let mut bench =
            world.command(["bench", "--size=16m", "--rw=randread", "--runtime=600", "--time_based"]);
        let mut child = bench
            .env("TMPDIR", world.path("tmp"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        wait_for_store(&world);
        for signal in signals {
            // It may have ended after the first.
            let _ = kill_process(Pid::from_child(&child), *signal);
        }
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        let status = child.wait().expect("it ends");
        // Which of two signals is seen first is not known.
        let codes = if signals.len() == 1 { vec![Some(code)] } else { vec![Some(130), Some(143)] };
        assert!(codes.contains(&status.code()), "{signals:?}: {status}: {said}");
        assert_eq!(fs::read_dir(world.path("tmp")).expect("readable").count(), 0, "{signals:?}");
    }
}

/// Of two commands on one store the second waits for the first.
#[test]
fn a_store_in_use_is_waited_for() {
    use rustix::fs::{FlockOperation, flock};
    let world = World::new();
    let holder = File::open(world.path("store")).expect("a store");
    flock(&holder, FlockOperation::LockExclusive).expect("nobody has it");
    let pid = std::process::id().to_string();
    for arguments in [&["ls", "store"][..], &["check", "store"], &["rm", "store", "pool", "a"]] {
        world.seabed([&["--wait", "0"], arguments].concat()).is(6).says(&pid).says("--wait");
    }
    world.seabed(["--wait", "1", "format", "store", "--size", "64M", "--force"]).is(6).says(&pid);
    let second = world.start(["--wait", "600", "ls", "store"]);
    // Most likely it has found the store in use by then; it must not matter.
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(holder);
    Ended::of(second.wait_with_output().expect("it ends")).is(0);
}
