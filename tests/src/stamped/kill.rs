//! Kill: a process that runs the writer on a real file gets SIGKILL after a seeded number of acknowledgements.
//!
//! The child writes a line for each acknowledged write; what is still in the pipe when it dies was acknowledged too. The
//! next child goes on from what was found.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{Counts, StampedError, format, verify, write, wrong};

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KillCounts {
    /// Processes that were killed.
    pub kills: u32,
    /// Writes that they acknowledged.
    pub acknowledged: u64,
    /// Writes that were there and not acknowledged.
    pub more: u64,
}

/// Kills children of this program in a directory; `child` makes the command of one, for a path, a seed and where to go on.
pub fn kill(
    directory: &Path,
    seed: u64,
    kills: u32,
    child: impl Fn(&Path, u64, &Counts) -> Command,
) -> Result<KillCounts, StampedError> {
    let path = directory.join("killed");
    format(&path)?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut at, mut counts) = (Counts::default(), KillCounts::default());
    for kill in 0..kills {
        let mut process = child(&path, seed, &at).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(process.stdout.take().expect("it is a pipe")).lines();
        let after = rng.usize(1..400);
        let mut acknowledged = at;
        for (number, line) in (1..).zip(lines) {
            let line = line?;
            let (client, count) = line.split_once(' ').unwrap_or_default();
            if let (Ok(client), Ok(count)) = (client.parse::<usize>(), count.parse()) {
                acknowledged[client] = count;
                counts.acknowledged += 1;
            }
            if number == after {
                process.kill()?;
            }
        }
        process.wait()?;
        let image = std::fs::read(&path)?;
        at = verify(&image, seed, &acknowledged)
            .map_err(wrong(format!("kill {kill}, after {after} lines")))?;
        let extra = at.iter().zip(&acknowledged).map(|(found, told)| u64::from(found - told));
        counts.more += extra.sum::<u64>();
        counts.kills += 1;
    }
    std::fs::remove_file(&path)?;
    Ok(counts)
}

/// What the child does: writes on, line by line, until it is killed.
pub fn child(path: &Path, seed: u64, from: Counts) -> Result<(), StampedError> {
    let tell = |client: usize, count: u32| {
        // One write a line, so that a kill leaves whole lines.
        let line = format!("{client} {count}\n");
        std::io::stdout().write_all(line.as_bytes()).expect("somebody reads it");
    };
    Ok(write(path, seed, (from, u32::MAX), Arc::new(|machine| machine), Arc::new(tell))??)
}
