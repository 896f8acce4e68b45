//! Errors: the writer on a device that fails, once, beneath a real kernel.
//!
//! QEMU's storage daemon exports a file over FUSE, with its driver `blkdebug` between: a read, a write of one sector, or a
//! flush fails with EIO. What the writer is told is typed errors, whatever the moment; then the daemon ends, and the file
//! holds all that was acknowledged.
//!
//! One operation at a time is given to the export: versions of the daemon up to 10.0 at least read the next request over a
//! write that is still being carried out, and write its bytes elsewhere. (With concurrent writes segment headers were found
//! at blocks that nobody had written to.)

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use futures::channel::oneshot;
use seabed_device::local::Semaphore;
use seabed_device::{
    Class, Device, DeviceError, Geometry, Local, Machine, ReadBuf, Runtime, WriteBuf, WriteOpts,
};

use super::{Counts, STORE_BYTES, StampedError, format, verify, write, wrong};

const DAEMON: &str = "qemu-storage-daemon";
const SECTOR_BYTES: u64 = 512;

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ErrorCounts {
    /// Runs, each with one planned error.
    pub runs: u32,
    /// Of them, those in which the store or a client was told.
    pub failed: u32,
    /// Acknowledged writes.
    pub acknowledged: u64,
}

/// An export that ends with it.
struct Export {
    pid: PathBuf,
    mount: PathBuf,
}

impl Export {
    fn new(directory: &Path, file: &Path, error: &str) -> Result<Self, StampedError> {
        let (pid, mount) = (directory.join("pid"), directory.join("export"));
        std::fs::write(&mount, b"")?;
        let below = format!(r#"{{"driver":"file","node-name":"below","filename":"{}"}}"#, file.display());
        let bad =
            format!(r#"{{"driver":"blkdebug","node-name":"bad","image":"below","inject-error":[{error}]}}"#);
        let export = format!(
            r#"{{"type":"fuse","id":"export","node-name":"bad","mountpoint":"{}","writable":true}}"#,
            mount.display()
        );
        // It returns when the export is there.
        let mut command = Command::new(DAEMON);
        command.arg("--daemonize").arg("--pidfile").arg(&pid);
        command.args(["--blockdev", &below, "--blockdev", &bad, "--export", &export]);
        let output = command.output().map_err(|error| missing(&error))?;
        if !output.status.success() {
            return Err(missing(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Self { pid, mount })
    }
}

fn missing(why: &impl ToString) -> StampedError {
    StampedError::Missing { why: format!("{DAEMON}: {}", why.to_string().trim()) }
}

impl Export {
    /// Ends the daemon and waits until it has let go of the file.
    fn end(self) -> Result<(), StampedError> {
        let pid = std::fs::read_to_string(&self.pid)?;
        let pid = pid.trim().to_owned();
        Command::new("kill").arg(&pid).stderr(Stdio::null()).status()?;
        // Nothing else says that it has ended: it is nobody's child.
        while Path::new("/proc").join(&pid).join("exe").exists() {
            std::thread::yield_now();
        }
        let _ = std::fs::remove_file(&self.pid);
        Ok(())
    }
}

/// A device that is given one operation at a time. Each goes on by itself, whether somebody polls what waits for it or not:
/// the next one may be what that somebody waits for.
struct OneByOne {
    device: Rc<dyn Device>,
    runtime: Rc<dyn Runtime>,
    turn: Rc<Semaphore>,
}

impl OneByOne {
    fn before(machine: Machine) -> Machine {
        let Machine { device, runtime } = machine;
        let device = Rc::new(Self { device, runtime: Rc::clone(&runtime), turn: Semaphore::new(1) });
        Machine { device, runtime }
    }

    fn in_turn<T: 'static>(&self, operation: impl FnOnce(&dyn Device) -> Local<T> + 'static) -> Local<T> {
        let (device, turn) = (Rc::clone(&self.device), self.turn.acquire(1));
        let (tell, told) = oneshot::channel();
        let task = async move {
            let _turn = turn.await;
            // Whoever asked may have gone away.
            let _ = tell.send(operation(&*device).await);
        };
        self.runtime.spawn(Class::Foreground, Box::pin(task));
        Box::pin(async move { told.await.expect("the task ends") })
    }
}

impl Device for OneByOne {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }
    fn alloc(&self, bytes: usize) -> WriteBuf {
        self.device.alloc(bytes)
    }
    fn read(&self, at: u64, bytes: usize, class: Class) -> Local<Result<ReadBuf, DeviceError>> {
        self.in_turn(move |device| device.read(at, bytes, class))
    }
    fn write(&self, at: u64, buf: Rc<WriteBuf>, opts: WriteOpts) -> Local<Result<(), DeviceError>> {
        self.in_turn(move |device| device.write(at, buf, opts))
    }
    fn flush(&self) -> Local<Result<(), DeviceError>> {
        self.in_turn(|device| device.flush())
    }
    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        self.in_turn(move |device| device.discard(at, bytes))
    }
    fn quiesce(&self) -> Local<()> {
        self.in_turn(|device| device.quiesce())
    }
}

/// The errors of a run: reads and writes at a sector, flushes.
fn plan(rng: &mut fastrand::Rng, run: u32) -> String {
    let sector = rng.u64(..STORE_BYTES / 4 / SECTOR_BYTES);
    match run % 4 {
        0 => r#"{"event":"none","iotype":"flush","errno":5,"once":true}"#.to_owned(),
        1 => format!(r#"{{"event":"none","iotype":"read","errno":5,"once":true,"sector":{sector}}}"#),
        _ => format!(r#"{{"event":"none","iotype":"write","errno":5,"once":true,"sector":{sector}}}"#),
    }
}

/// Runs in a directory, so many, each with so many writes of each client.
pub fn errors(directory: &Path, seed: u64, runs: u32, writes: u32) -> Result<ErrorCounts, StampedError> {
    // The daemon leaves the working directory, and ends its mount by this path.
    let directory = &std::fs::canonicalize(directory)?;
    let file = directory.join("failing");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut counts = ErrorCounts::default();
    for run in 0..runs {
        format(&file)?;
        let planned = plan(&mut rng, run);
        let export = Export::new(directory, &file, &planned)?;
        let acknowledged: Arc<Mutex<Counts>> = Arc::default();
        let told = Arc::clone(&acknowledged);
        let tell = move |client: usize, count| {
            told.lock().expect("nobody panics while it is held")[client] = count;
        };
        let from = (Counts::default(), writes);
        let wrote = write(&export.mount, seed, from, Arc::new(OneByOne::before), Arc::new(tell));
        export.end()?;
        counts.runs += 1;
        counts.failed += u32::from(!matches!(wrote, Ok(Ok(()))));
        let acknowledged = *acknowledged.lock().expect("the writer has ended");
        let image = std::fs::read(&file)?;
        verify(&image, seed, &acknowledged).map_err(wrong(format!("run {run}, {planned}, {wrote:?}")))?;
        counts.acknowledged += acknowledged.iter().map(|count| u64::from(*count)).sum::<u64>();
        std::fs::remove_file(&file)?;
    }
    Ok(counts)
}
