//! Kills: the command line's process is killed for good in the middle of an import, again and again.
//!
//! A directory tree is imported into a store on a real file, or on a loop device over it. After a seeded number of
//! acknowledgements more the process gets SIGKILL; the store is checked; every name that was acknowledged is listed; the
//! next round goes on where it was. After the last round the import is finished, exported, and the trees are compared.
//!
//! Not here: power cuts, which a kill is not: what the kernel has it writes. They are simulated ([`crate::crash`]).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::tree::{TreeOptions, plant};

/// What to do.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// The binary `seabed`.
    pub seabed: PathBuf,
    /// An empty directory to work in.
    pub directory: PathBuf,
    /// How often to kill.
    pub times: u32,
    /// What all choices follow from.
    pub seed: u64,
    /// The tree.
    pub tree: TreeOptions,
    /// Size of the store, as the command line takes it.
    pub size: String,
    /// Whether the store is on a loop device (needs root).
    pub loop_device: bool,
}

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KillCounts {
    /// Processes that were killed.
    pub kills: u32,
    /// Imports that ended before their time had come.
    pub ended: u32,
    /// Names that were acknowledged by killed processes.
    pub acknowledged: u64,
}

/// How the suite failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// The machine, not the store.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A command failed.
    #[error("round {round}: {what}: {output}")]
    Command {
        /// After so many rounds.
        round: u32,
        /// Which.
        what: &'static str,
        /// What it said.
        output: String,
    },
    /// Acknowledged and not there.
    #[error("round {round}: lost {count} acknowledged names, the first is {first:?}")]
    Lost {
        /// After so many rounds.
        round: u32,
        /// How many.
        count: usize,
        /// Which.
        first: String,
    },
}

/// A loop device that goes away when dropped.
struct Loop(String);

impl Loop {
    fn attach(file: &Path) -> io::Result<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output()?;
        if output.status.success() {
            Ok(Self(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nobody is left to tell if it stays.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

fn succeeded(round: u32, what: &'static str, output: Output) -> Result<Vec<u8>, KillError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stdout, output.stderr].concat();
    Err(KillError::Command { round, what, output: String::from_utf8_lossy(&said).into_owned() })
}

/// A name as the log writes it.
fn unescaped(line: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(line.len());
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            name.push(*byte);
            continue;
        }
        name.push(match bytes.next() {
            Some(b'n') => b'\n',
            other => *other.unwrap_or(byte),
        });
    }
    name
}

fn lines(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => {
            // A line that the kill cut off was not acknowledged.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let split = bytes[..whole].split(|byte| *byte == b'\n');
            Ok(split.filter(|line| !line.is_empty()).map(unescaped).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// How many names were acknowledged; an import that goes on acknowledges again what is there.
fn distinct(log: &Path) -> io::Result<usize> {
    Ok(lines(log)?.into_iter().collect::<BTreeSet<_>>().len())
}

/// Runs the suite.
pub fn kill(options: &KillOptions) -> Result<KillCounts, KillError> {
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let path = |name: &str| options.directory.join(name);
    let (tree, copy, log) = (path("tree"), path("copy"), path("acknowledged"));
    let files = plant(&tree, options.tree)?.files;
    let image = path("store");
    let mut format = Command::new(&options.seabed);
    format.args(["--quiet", "format", "--size", &options.size]).arg(&image);
    succeeded(0, "format", format.output()?)?;
    let device = if options.loop_device { Some(Loop::attach(&image)?) } else { None };
    let store = device.as_ref().map_or_else(|| image.clone(), |device| PathBuf::from(&device.0));
    let mut counts = KillCounts::default();
    for round in 1..=options.times {
        let before = distinct(&log)?;
        let share = files / u64::from(options.times);
        let more = rng.usize(1..=usize::try_from(share).unwrap_or(usize::MAX).max(2));
        let mut import = Command::new(&options.seabed);
        import.args(["--quiet", "import", "--ack-log"]).arg(&log).arg(&store).arg("pool").arg(&tree);
        let mut child = import.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let ended = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if distinct(&log)? >= before + more {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        match ended {
            None => counts.kills += 1,
            Some(status) if status.success() => counts.ended += 1,
            Some(_) => {
                succeeded(round, "import", child.wait_with_output()?)?;
            }
        }
        let acknowledged: BTreeSet<Vec<u8>> = lines(&log)?.into_iter().collect();
        counts.acknowledged = acknowledged.len() as u64;
        let check = Command::new(&options.seabed).args(["--quiet", "check"]).arg(&store).output()?;
        succeeded(round, "check", check)?;
        let listed =
            Command::new(&options.seabed).args(["--quiet", "ls", "-0"]).arg(&store).arg("pool").output()?;
        let listed = succeeded(round, "ls", listed)?;
        let listed: BTreeSet<&[u8]> = listed.split(|byte| *byte == 0).collect();
        let lost: Vec<&Vec<u8>> =
            acknowledged.iter().filter(|name| !listed.contains(name.as_slice())).collect();
        if let Some(first) = lost.first() {
            let first = String::from_utf8_lossy(first).into_owned();
            return Err(KillError::Lost { round, count: lost.len(), first });
        }
        if counts.ended > 0 {
            break; // all of it is there
        }
    }
    let round = options.times;
    let run = |arguments: &[&str], last: &Path| {
        Command::new(&options.seabed).args(arguments).arg(&store).arg("pool").arg(last).output()
    };
    succeeded(round, "last import", run(&["--quiet", "import"], &tree)?)?;
    succeeded(round, "export", run(&["--quiet", "export"], &copy)?)?;
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).arg(&tree).arg(&copy).output()?;
    succeeded(round, "diff", diff)?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_the_log() {
        assert_eq!(unescaped(b"a\\nb\\\\n"), b"a\nb\\n");
        assert_eq!(unescaped(b"plain"), b"plain");
    }
}
