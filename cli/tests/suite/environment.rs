//! What a machine may lack: each lack is one line that names it, or makes no difference.
//!
//! Refused system calls used to end with "Input/output error", a panic of a library, or advice to format a store that was
//! there. They are refused here by a seccomp filter, as container runtimes and sandboxes do: this binary starts itself with
//! a part to play, installs the filter, and becomes the program.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use seccompiler::{SeccompAction, SeccompFilter};

use crate::world::{Ended, World, noise, skipped};

const CALL: &str = "SEABED_TEST_CALL";
const ERRNO: &str = "SEABED_TEST_ERRNO";
const ARGUMENTS: &str = "SEABED_TEST_ARGUMENTS";

/// Does nothing but in a child.
#[test]
fn plays_its_part() {
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<i64>().expect("a number"));
    let (Some(call), Some(errno)) = (number(CALL), number(ERRNO)) else { return };
    let refuse = SeccompAction::Errno(u32::try_from(errno).expect("small"));
    let arch = std::env::consts::ARCH.try_into().expect("a machine that filters are made for");
    let filter = SeccompFilter::new([(call, Vec::new())].into(), SeccompAction::Allow, refuse, arch);
    let program = filter.and_then(TryInto::<seccompiler::BpfProgram>::try_into).expect("a filter");
    seccompiler::apply_filter(&program).expect("filters are allowed");
    let arguments = std::env::var(ARGUMENTS).expect("given");
    let error = Command::new(env!("CARGO_BIN_EXE_seabed")).args(arguments.lines()).exec();
    panic!("{error}");
}

/// Runs the program without a system call.
fn without(world: &World, call: i64, errno: i32, arguments: &[&str]) -> Ended {
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "environment::plays_its_part", "--nocapture", "--test-threads=1"])
        .env(CALL, call.to_string())
        .env(ERRNO, errno.to_string())
        .env(ARGUMENTS, arguments.join("\n"))
        .current_dir(world.path(""))
        .stdin(Stdio::null())
        .output();
    Ended::of(output.expect("it starts"))
}

/// Runs the program through a shell that sets a limit first.
fn with_limit(world: &World, limit: &str, arguments: &[&str]) -> Ended {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_seabed")]);
    let output = shell.args(arguments).current_dir(world.path("")).stdin(Stdio::null()).output();
    Ended::of(output.expect("it starts"))
}

#[track_caller]
fn is_one_line(ended: &Ended) {
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("Input/output error"), "{}", ended.stderr);
}

#[test]
fn io_uring_that_is_refused_is_named() {
    let world = World::new();
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        for (errno, words) in
            [(libc::EPERM, "io_uring is"), (libc::ENOSYS, "there is no io_uring"), (libc::ENOMEM, "memory")]
        {
            let ended = without(&world, call, errno, &["ls", "store"]).is(8).says(words);
            is_one_line(&ended);
            let ended =
                without(&world, call, errno, &["-q", "format", "new", "--size", "64M"]).is(8).says(words);
            is_one_line(&ended);
            assert!(!world.path("new").exists(), "a format that fails leaves no file");
        }
    }
}

#[test]
fn processors_that_cannot_be_chosen_make_no_difference() {
    let world = World::new();
    for call in [libc::SYS_sched_setaffinity, libc::SYS_sched_getaffinity] {
        let ended = without(&world, call, libc::EPERM, &["ls", "store"]).is(0);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn limits_that_are_too_low_are_named() {
    let world = World::new();
    let ended = with_limit(&world, "-l 64", &["ls", "store"]).is(8).says("64 KiB").says("ulimit -l");
    is_one_line(&ended);
    for files in 5..=11 {
        let ended = with_limit(&world, &format!("-n {files}"), &["ls", "store"]).is(8).says("ulimit -n");
        is_one_line(&ended);
    }
    // The shell counts blocks of 512 bytes or KiB.
    let arguments = ["-q", "format", "new", "--size", "512M"];
    let ended = with_limit(&world, "-f 100000", &arguments).is(8).says("new");
    is_one_line(&ended);
    assert!(!world.path("new").exists());
    File::create(world.path("new")).expect("a file");
    with_limit(&world, "-f 100000", &arguments).is(8);
    assert_eq!(fs::metadata(world.path("new")).expect("it was there").len(), 0, "what it took is given back");
}

/// A limit on threads does not bind the superuser: the program runs as a user that nothing else runs as.
#[test]
fn no_more_threads_is_an_error() {
    let world = World::new();
    fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).expect("ours");
    fs::set_permissions(world.path("store"), Permissions::from_mode(0o666)).expect("ours");
    fs::create_dir(world.path("files")).expect("a directory");
    let run = |threads: u32, arguments: &[&str]| {
        let user = ["--reuid", "54321", "--regid", "54321", "--clear-groups", "--inh-caps=-all"];
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nproc={threads}")).arg("setpriv").args(user);
        limited.arg(env!("CARGO_BIN_EXE_seabed")).args(arguments);
        let output = limited.current_dir(world.path("")).stdin(Stdio::null()).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(100, &["ls", "store"]);
    if code != Some(0) {
        return skipped(&format!("no other user to run as: {said}"));
    }
    for threads in 1..=4 {
        let (code, said) = run(threads, &["ls", "store"]);
        assert_eq!(code, Some(8), "{threads}: {said}");
        assert!(said.contains("ulimit -u") && said.lines().count() == 1, "{threads}: {said}");
    }
    for threads in 1..=20 {
        let (code, said) = run(threads, &["import", "store", "pool", "files", "--jobs", "20"]);
        assert_eq!(code, Some(8), "{threads}: {said}");
        assert!(said.contains("ulimit -u") && !said.contains("panicked"), "{threads}: {said}");
    }
}

#[test]
fn a_store_is_there_without_proc_and_sys() {
    let world = World::new();
    world.seabed_with(["put", "store", "pool", "a"], b"x").is(0);
    for mount in ["/proc", "/sys"] {
        let script = format!("mount --make-rprivate / && umount -R -l {mount} && exec \"$@\"");
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", &script, "sh"]);
        unshare.arg(env!("CARGO_BIN_EXE_seabed")).args(["ls", "store", "pool"]);
        let output = unshare.current_dir(world.path("")).stdin(Stdio::null()).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains("seabed: ") && !output.status.success() {
            skipped(&format!("no namespace without {mount}: {said}"));
            continue;
        }
        assert!(output.status.success(), "without {mount}: {said}");
        assert_eq!(output.stdout, b"a\n");
    }
}

/// More memory than any machine has is a bound that is not reached.
#[test]
fn memory_beyond_the_machine_is_a_bound() {
    let world = World::new();
    for memory in ["1T", "100T", "1P", "15E"] {
        world.seabed_with(["--memory", memory, "put", "store", "pool", memory], memory.as_bytes()).is(0);
        let got = world.seabed(["--memory", memory, "--data-cache", memory, "get", "store", "pool", memory]);
        assert_eq!(got.is(0).text(), memory);
        world.seabed(["--memory", memory, "check", "store"]).is(0);
        world.seabed(["--memory", memory, "scrub", "store"]).is(0);
    }
    world.seabed(["--memory", "15E", "bench", "--store=store", "--size=1m", "--rw=randrw"]).is(0);
}

/// A loop device; taken down when dropped.
struct Loop(PathBuf);

impl Loop {
    fn new(world: &World, bytes: u64) -> Option<Self> {
        let image = world.path("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("a file");
        match Command::new("losetup").args(["--find", "--show"]).arg(&image).output() {
            Ok(output) if output.status.success() => {
                Some(Self(String::from_utf8(output.stdout).expect("a path").trim().into()))
            }
            other => {
                skipped(&format!("no loop device here ({other:?})"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nothing to do about one that stays.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// A device whose size is no multiple of 4096 used to be refused, with --size too.
#[test]
fn a_device_of_an_odd_size_is_taken() {
    let world = World::empty();
    let Some(device) = Loop::new(&world, (64 << 20) + 512) else { return };
    let node = device.0.to_str().expect("a path");
    for size in [&[][..], &["--size", "64M"]] {
        world.seabed([&["-q", "format", node, "--force"], size].concat()).is(0);
        world.seabed_with(["put", node, "pool", "a"], &noise(1, 1 << 20)).is(0);
        assert!(world.seabed(["get", node, "pool", "a"]).is(0).stdout == noise(1, 1 << 20));
        for command in ["info", "check", "scrub"] {
            world.seabed([command, node]).is(0);
        }
    }
    world.seabed(["format", node, "--force", "--size", "70M"]).is(2).says("used whole");
    world.seabed(["check", node]).is(0);
}
