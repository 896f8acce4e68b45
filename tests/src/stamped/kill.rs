//! Kill: a process that runs the writer on a real file or a loop device gets SIGKILL after a seeded number of
//! acknowledgements.
//!
//! The child writes a line for each acknowledged write; what is still in the pipe when it dies was acknowledged too. What it
//! left is read once nobody else holds the lock, since the kernel may still be finishing its writes. The next child goes on
//! from what was found.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use seabed_device::OpenError;
use seabed_device::glommio_host::{GlommioHost, HostOptions};

use super::{Counts, STORE_BYTES, StampedError, format, verify, write, wrong};
use crate::loop_device::LoopDevice;

/// What the store is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// A file.
    File,
    /// A loop device over a file; needs root.
    LoopDevice,
}

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
    (directory, medium): (&Path, Medium),
    seed: u64,
    kills: u32,
    child: impl Fn(&Path, u64, &Counts) -> Command,
) -> Result<KillCounts, StampedError> {
    let file = directory.join("killed");
    format(&file)?;
    let device = (medium == Medium::LoopDevice).then(|| LoopDevice::attach(&file)).transpose();
    let device = device.map_err(|why| StampedError::Missing { why: format!("no loop device: {why}") })?;
    let path = device.as_ref().map_or(file.as_path(), LoopDevice::path);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut at, mut counts) = (Counts::default(), KillCounts::default());
    for kill in 0..kills {
        let mut process = child(path, seed, &at).stdout(Stdio::piped()).spawn()?;
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
        let image = left_in(path)?;
        at = verify(&image, seed, &acknowledged)
            .map_err(wrong(format!("kill {kill}, after {after} lines")))?;
        let extra = at.iter().zip(&acknowledged).map(|(found, told)| u64::from(found - told));
        counts.more += extra.sum::<u64>();
        counts.kills += 1;
    }
    drop(device);
    std::fs::remove_file(&file)?;
    Ok(counts)
}

/// The bytes of the store, as they are when nobody else has it any more.
fn left_in(path: &Path) -> Result<Vec<u8>, StampedError> {
    let open = |error: OpenError| StampedError::Store(seabed::Error::Open(error));
    let host = GlommioHost::open(path, HostOptions::default()).map_err(open)?;
    let mut image = vec![0; usize::try_from(STORE_BYTES).expect("16 MiB")];
    host.read_at(0, &mut image).map_err(open)?;
    Ok(image)
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
