//! World: a temporary directory with a store in it, and the binary.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// After this time without any progress a command hangs, however busy the machine is.
const WITHOUT_PROGRESS_MAX: Duration = Duration::from_mins(2);

/// See the module.
pub(crate) struct World {
    directory: TempDir,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("not killed"),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    /// Asserts the exit code; gives itself for more.
    #[track_caller]
    pub(crate) fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stderr: {}", self.stderr);
        self
    }

    /// Asserts that a message names something.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.stderr.contains(what), "{what:?} is not in stderr: {}", self.stderr);
        self
    }
}

impl World {
    /// With a store of 64 MiB called `store`.
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        world.seabed(["format", "store", "--size", "64M", "--sparse"]).is(0);
        world
    }

    /// Without a store.
    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seabed"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn seabed<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        Ended::of(self.command(arguments).output().expect("it starts"))
    }

    /// With something on stdin.
    pub(crate) fn seabed_with<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        stdin: &[u8],
    ) -> Ended {
        let mut child = self.start(arguments);
        // It may have failed, and ended, before it has read all.
        let written = child.stdin.take().expect("piped").write_all(stdin);
        assert!(written.is_ok() || child.wait().is_ok_and(|status| !status.success()));
        Ended::of(child.wait_with_output().expect("it ends"))
    }

    /// Waits for its end as long as a file grows; a command that makes no progress is killed, and fails.
    pub(crate) fn seabed_with_progress<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        growing: &str,
    ) -> Ended {
        let mut child = self.start(arguments);
        let bytes = || std::fs::metadata(self.path(growing)).map_or(0, |metadata| metadata.len());
        let (mut seen, mut at) = (bytes(), Instant::now());
        while child.try_wait().expect("it can be waited for").is_none() {
            std::thread::sleep(Duration::from_millis(2));
            let now = bytes();
            if now != seen {
                (seen, at) = (now, Instant::now());
            }
            if at.elapsed() > WITHOUT_PROGRESS_MAX {
                child.kill().expect("it was started");
                child.wait().expect("it ends");
                panic!("no progress for {WITHOUT_PROGRESS_MAX:?}: {growing} has {seen} bytes");
            }
        }
        Ended::of(child.wait_with_output().expect("it ended"))
    }

    /// Starts it with pipes.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Child {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    }

    /// Asserts that the checker finds nothing wrong.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        self.seabed(["check", "store"]).is(0);
    }

    /// Asserts that two directories are the same for `diff`, and for us what it does not look at.
    #[track_caller]
    pub(crate) fn is_same(&self, a: &str, b: &str) {
        let diff = Command::new("diff")
            .args(["-r", "--no-dereference", a, b])
            .current_dir(self.directory.path())
            .output()
            .expect("diff starts");
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
        assert_eq!(self.facts(a), self.facts(b));
    }

    /// Path, type, mode, time and link target of everything in a directory.
    fn facts(&self, directory: &str) -> Vec<(PathBuf, u32, i64, i64, Option<PathBuf>)> {
        use std::os::unix::fs::MetadataExt;
        let root = self.path(directory);
        let mut facts = Vec::new();
        let mut waiting = vec![root.clone()];
        while let Some(at) = waiting.pop() {
            for entry in std::fs::read_dir(at).expect("readable") {
                let path = entry.expect("readable").path();
                let metadata = std::fs::symlink_metadata(&path).expect("there");
                let target = metadata.is_symlink().then(|| std::fs::read_link(&path).expect("a link"));
                let relative = path.strip_prefix(&root).expect("below").to_owned();
                facts.push((relative, metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), target));
                if metadata.is_dir() {
                    waiting.push(path);
                }
            }
        }
        facts.sort();
        facts
    }
}

/// Says that a test, or a part of one, cannot run here; past the harness, which captures what macros print.
pub(crate) fn skipped(why: &str) {
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).expect("stderr");
}

/// Bytes that do not compress and follow from a seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    data
}
