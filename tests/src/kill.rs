//! Kills: the command line's process is killed for good in the middle of an import, again and again.
//!
//! A directory tree is imported into a store on a real file, or on a loop device over it. The process writes the name of
//! each object that is durable into a pipe; after a seeded number of names it gets SIGKILL, and what is still in the pipe
//! was acknowledged too. Then the store is checked, every acknowledged name must be listed, everything is exported, and
//! each exported file must be one of the tree's with all its bytes. The next round goes on where this one was. When an
//! import reaches its end before its time has come, the trees are compared as a whole and a fresh store is begun, until
//! there were as many kills as asked for; the last store is imported to its end too.
//!
//! A part of the kills counts all acknowledgements, those of what an earlier round did among them: they come early, soon
//! after the mount. The others count new names only.
//!
//! Not here: power cuts, which a kill is not: what the kernel has it writes. They are simulated ([`crate::crash`]).

mod compare;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::loop_device::LoopDevice;
use crate::tree::{TreeOptions, plant};

/// What is imported.
#[derive(Clone, Debug)]
pub enum KillTree {
    /// One that is made for it.
    Planted(TreeOptions),
    /// One that is there, and that nobody changes.
    Existing(PathBuf),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// The binary `seabed`.
    pub seabed: PathBuf,
    /// An empty directory to work in.
    pub directory: PathBuf,
    /// How often to kill.
    pub kills: u32,
    /// What all choices follow from.
    pub seed: u64,
    /// The tree.
    pub tree: KillTree,
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
    /// Stores that were filled, each compared with the tree as a whole.
    pub stores: u32,
    /// Names that killed processes acknowledged for the first time.
    pub acknowledged: u64,
    /// Names that the next process found durable and acknowledged again.
    pub resumed: u64,
    /// Files that a killed process left, compared byte for byte.
    pub compared: u64,
}

impl KillCounts {
    /// The closing line.
    pub fn line(&self) -> String {
        let Self { kills, stores, acknowledged, resumed, compared } = self;
        format!(
            "kills={kills} stores={stores} acknowledged={acknowledged} resumed={resumed} compared={compared} \
             lost=0 half=0 check=0"
        )
    }
}

/// How the suite failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// The machine, not the store.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no loop device to be had.
    #[error("no loop device: {why}")]
    NoLoopDevice {
        /// What the system said.
        why: String,
    },
    /// A command failed.
    #[error("kill {kill}: {what}: {output}")]
    Command {
        /// After so many kills.
        kill: u32,
        /// Which.
        what: &'static str,
        /// What it said.
        output: String,
    },
    /// Acknowledged and not there.
    #[error("kill {kill}: lost {count} acknowledged names, the first is {first:?}")]
    Lost {
        /// After so many kills.
        kill: u32,
        /// How many.
        count: usize,
        /// Which.
        first: String,
    },
    /// There, but not as it is in the tree.
    #[error("kill {kill}: {name:?} {how}")]
    Half {
        /// After so many kills.
        kill: u32,
        /// Which.
        name: PathBuf,
        /// What is wrong with it.
        how: &'static str,
    },
    /// The imports end before they can be killed.
    #[error("{stores} stores were filled with {kills} kills: the tree is too small")]
    TooSmall {
        /// So many kills.
        kills: u32,
        /// So many stores.
        stores: u32,
    },
}

/// A name as the acknowledgement log writes it, without its newline.
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

/// When to kill.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// After so many acknowledgements of any kind.
    Any(usize),
    /// After so many names that were not acknowledged before.
    New(usize),
}

/// How an import ended.
enum Ended {
    Killed,
    ByItself,
}

struct Suite<'a> {
    options: &'a KillOptions,
    rng: fastrand::Rng,
    tree: PathBuf,
    store: PathBuf,
    copy: PathBuf,
    counts: KillCounts,
    /// What the store at hand has acknowledged.
    acknowledged: BTreeSet<Vec<u8>>,
}

/// Runs the suite.
pub fn kill(options: &KillOptions) -> Result<KillCounts, KillError> {
    let (tree, names) = match &options.tree {
        KillTree::Planted(planted) => {
            let tree = options.directory.join("tree");
            let files = plant(&tree, *planted)?.files;
            (tree, files)
        }
        KillTree::Existing(tree) => (tree.clone(), compare::names_in(tree)?),
    };
    let image = options.directory.join("store");
    let mut suite = Suite {
        options,
        rng: fastrand::Rng::with_seed(options.seed),
        tree,
        store: image.clone(),
        copy: options.directory.join("copy"),
        counts: KillCounts::default(),
        acknowledged: BTreeSet::new(),
    };
    suite.format(&image)?;
    let device = options.loop_device.then(|| LoopDevice::attach(&image)).transpose();
    let device = device.map_err(|why| KillError::NoLoopDevice { why })?;
    if let Some(device) = &device {
        device.path().clone_into(&mut suite.store);
    }
    // On average the kills are spread over one import.
    let share = usize::try_from(names / u64::from(options.kills.max(1))).unwrap_or(usize::MAX).max(2);
    while suite.counts.kills < options.kills {
        if suite.counts.stores > options.kills {
            return Err(KillError::TooSmall { kills: suite.counts.kills, stores: suite.counts.stores });
        }
        let until = if suite.rng.u8(..4) == 0 {
            Until::Any(suite.rng.usize(1..=suite.acknowledged.len() + share))
        } else {
            Until::New(suite.rng.usize(1..=share * 2))
        };
        match suite.import(until)? {
            Ended::Killed => {
                suite.counts.kills += 1;
                suite.look()?;
            }
            Ended::ByItself => {
                suite.compare()?;
                suite.format(&suite.store)?;
                suite.acknowledged.clear();
            }
        }
    }
    suite.import(Until::New(usize::MAX))?;
    suite.compare()?;
    Ok(suite.counts)
}

impl Suite<'_> {
    fn seabed(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.seabed);
        command.arg("--quiet").args(arguments);
        command
    }

    fn succeeded(&self, what: &'static str, output: Output) -> Result<Vec<u8>, KillError> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = [output.stdout, output.stderr].concat();
        let output = format!("{}: {}", output.status, String::from_utf8_lossy(&said));
        Err(KillError::Command { kill: self.counts.kills, what, output })
    }

    fn format(&self, store: &Path) -> Result<(), KillError> {
        let mut format = self.seabed(&["format", "--force"]);
        if store.is_file() || !store.exists() {
            format.args(["--size", &self.options.size]);
        }
        self.succeeded("format", format.arg(store).output()?).map(drop)
    }

    /// Imports until enough was acknowledged, and kills; what was acknowledged is noted.
    fn import(&mut self, until: Until) -> Result<Ended, KillError> {
        // One job at a time waits for each object; many share the writes of the journal.
        let jobs = ["1", "4", "32"][self.rng.usize(..3)];
        let mut import = self.seabed(&["import", "--jobs", jobs, "--ack-log", "/dev/stdout"]);
        import.arg(&self.store).arg("pool").arg(&self.tree);
        let mut child = import.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let killed = self.follow(&mut child, until)?;
        let output = child.wait_with_output()?;
        if killed && !output.status.success() && output.status.code().is_none() {
            return Ok(Ended::Killed);
        }
        // It may have come to its end between its last name and the kill.
        self.succeeded("import", output).map(|_| Ended::ByItself)
    }

    /// Reads names until it is time to kill, kills, and reads what is left: whether it came to that.
    fn follow(&mut self, child: &mut Child, until: Until) -> Result<bool, KillError> {
        let mut log = BufReader::new(child.stdout.take().expect("its output is piped"));
        let (mut any, mut new, mut killed) = (0, 0, false);
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line)? > 0 {
            // A name that the kill cut off was not acknowledged.
            if line.pop_if(|byte| *byte == b'\n').is_some() {
                any += 1;
                if self.acknowledged.insert(unescaped(&line)) {
                    new += 1;
                } else {
                    self.counts.resumed += 1;
                }
            }
            line.clear();
            let enough = match until {
                Until::Any(count) => any >= count,
                Until::New(count) => new >= count,
            };
            if enough && !killed {
                child.kill()?;
                killed = true;
            }
        }
        self.counts.acknowledged += new as u64;
        Ok(killed)
    }

    /// What a killed process left: sound, with all that was acknowledged, and nothing in it is half.
    fn look(&mut self) -> Result<(), KillError> {
        let kill = self.counts.kills;
        let check = self.seabed(&["check"]).arg(&self.store).output()?;
        self.succeeded("check", check)?;
        let listed = self.seabed(&["ls", "-0"]).arg(&self.store).arg("pool").output()?;
        let listed = self.succeeded("ls", listed)?;
        let listed: BTreeSet<&[u8]> = listed.split(|byte| *byte == 0).collect();
        let mut lost = self.acknowledged.iter().filter(|name| !listed.contains(name.as_slice()));
        if let Some(first) = lost.next() {
            let first = String::from_utf8_lossy(first).into_owned();
            return Err(KillError::Lost { kill, count: 1 + lost.count(), first });
        }
        self.export()?;
        self.counts.compared += compare::is_part_of(&self.copy, &self.tree)?
            .map_err(|(name, how)| KillError::Half { kill, name, how })?;
        fs::remove_dir_all(&self.copy)?;
        Ok(())
    }

    fn export(&self) -> Result<(), KillError> {
        let export = self.seabed(&["export"]).arg(&self.store).arg("pool").arg(&self.copy).output()?;
        self.succeeded("export", export).map(drop)
    }

    /// A filled store has everything that the tree has.
    fn compare(&mut self) -> Result<(), KillError> {
        let check = self.seabed(&["check"]).arg(&self.store).output()?;
        self.succeeded("check", check)?;
        self.export()?;
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference"]).arg(&self.tree).arg(&self.copy);
        self.succeeded("diff", diff.output()?)?;
        fs::remove_dir_all(&self.copy)?;
        self.counts.stores += 1;
        Ok(())
    }
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
