//! Import: the time that importing a directory tree takes, durable, beside that of copying it with `cp -r` and `sync`.
//!
//! Both read the same tree, which is in the page cache, since it was just made or has been read once; both end when
//! everything is on the device. They take turns, so that what else the machine does meets both. The median of each counts.
//!
//! Not here: the times are real ones and assert nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::tree::{TreeOptions, plant};

/// What to compare.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The binary `seabed`.
    pub seabed: PathBuf,
    /// An empty directory to work in; what is made there stays.
    pub directory: PathBuf,
    /// The tree.
    pub tree: TreeOptions,
    /// Size of the store, as the command line takes it.
    pub size: String,
    /// How often each.
    pub rounds: u32,
}

/// The times of all rounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportTimes {
    /// Of `seabed import`, from start to end of the process.
    pub import: Vec<Duration>,
    /// Of `cp -r` and `sync`.
    pub copy: Vec<Duration>,
}

impl ImportTimes {
    /// The closing line.
    pub fn line(&self) -> String {
        let (import, copy) = (median(&self.import), median(&self.copy));
        let ratio = import.as_secs_f64() / copy.as_secs_f64();
        let all = |times: &[Duration]| {
            let times: Vec<String> = times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect();
            times.join(",")
        };
        format!(
            "import_s={:.2} cp_sync_s={:.2} ratio={ratio:.2} imports={} copies={}",
            import.as_secs_f64(),
            copy.as_secs_f64(),
            all(&self.import),
            all(&self.copy)
        )
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}

fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    run(&mut Command::new("sync"))?;
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// Makes the tree and takes the times.
pub fn compare(options: &ImportOptions) -> io::Result<ImportTimes> {
    let path = |name: &str| options.directory.join(name);
    let (tree, copy, store) = (path("tree"), path("copy"), path("store"));
    plant(&tree, options.tree)?;
    let seabed = || {
        let mut command = Command::new(&options.seabed);
        command.arg("--quiet");
        command
    };
    let import = |store: &Path| run(seabed().arg("import").arg(store).arg("pool").arg(&tree));
    let mut times = ImportTimes { import: Vec::new(), copy: Vec::new() };
    for _ in 0..options.rounds.max(1) {
        run(seabed().args(["format", "--force", "--size", &options.size]).arg(&store))?;
        times.import.push(timed(|| import(&store))?);
        times.copy.push(timed(|| {
            run(Command::new("cp").arg("-r").arg(&tree).arg(&copy))?;
            run(&mut Command::new("sync"))
        })?);
        fs::remove_dir_all(&copy)?;
    }
    Ok(times)
}
